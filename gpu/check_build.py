#!/usr/bin/env python3
"""The build gate: compiles the kernels and fails when ptxas says that one is slow.

    python3 gpu/check_build.py [--nvcc PATH] [--record] [--json FILE]

Needs nvcc and Python's standard library, no GPU. Every .cu of this folder that includes wgmma.cuh, however indirectly,
is compiled for sm_90a with -Xptxas -v,-warn-spills,-warn-lmem-usage. It fails on: bytes of stack or spills in any kernel of these
files, local memory, and the warnings that wgmma is serialized or setmaxnreg ignored (C7508, C7510, C7511, C7512, C7515
and their like): such a kernel still computes the right bits, at a fraction of the speed. Prints registers, shared memory
and blocks an SM of each instance, as a table; build_facts.cu knows what the host asks for.

All other .cu files are compiled for sm_80 and sm_90a. Their kernels may spill only as spills.csv says: one that spills more,
or that is not in it, fails.

--record writes the table to hopper_builds.csv, which sim/own_builds_test.cc compares with the twins, and what spills to
spills.csv. Without it both must be as recorded when the compiler is: a change of registers or shared memory should not go
unseen.
"""
import argparse
import concurrent.futures
import csv
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
RECORD = os.path.join(HERE, "hopper_builds.csv")
SPILLS = os.path.join(HERE, "spills.csv")
FLAGS = ["-std=c++20", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", "-Xcompiler=-ffp-contract=off", f"-I{ROOT}",
         "-gencode=arch=compute_90a,code=sm_90a"]
AMPERE = "-gencode=arch=compute_80,code=sm_80"  # for what has no wgmma
COLUMNS = ["kernel", "launch", "format", "head_dim", "fp32_scores", "br", "bc", "threads", "consumer_registers",
           "registers", "barriers", "static_shared", "dynamic_shared", "blocks_per_sm", "nvcc"]
SPILL_COLUMNS = ["source", "arch", "kernel", "stack", "spill_stores", "spill_loads", "nvcc"]  # bytes a thread

# NVIDIA H100 and H200, of an SM: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
REGISTERS, SHARED, THREADS = 65536, 228 * 1024, 2048
RESERVED = 1024  # of every block's shared memory

INCLUDE = re.compile(r'^\s*#include "(gpu/[^"]+)"', re.MULTILINE)
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
BARRIERS = re.compile(r"used (\d+) barriers")
STATIC = re.compile(r"(\d+) bytes smem")
# "(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...": the whole family is about
# wgmma and setmaxnreg. Spills and local memory have their own words.
COMPLAINT = re.compile(r"\bC75\d\d\b|registers are spilled|local memory (used|usage)", re.IGNORECASE)
SERIALIZED = re.compile(r"\bC75\d\d\b")


def includes(path, seen):
    """`path`, and what it includes of gpu/."""
    if path in seen or not os.path.exists(path):
        return seen
    seen.add(path)
    with open(path) as file:
        for name in INCLUDE.findall(file.read()):
            includes(os.path.join(ROOT, name), seen)
    return seen


def all_sources():
    return [path for path in sorted(glob.glob(os.path.join(HERE, "*.cu"))) if os.path.basename(path) != "build_facts.cu"]


def sources():
    """Those with wgmma."""
    header = os.path.join(HERE, "wgmma.cuh")
    return [path for path in all_sources() if header in includes(path, set())]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise SystemExit(f"failed: {' '.join(command)}")
    return done.stdout


def demangle(names):
    tool = shutil.which("c++filt") or shutil.which("cu++filt")
    if not tool:
        raise SystemExit("c++filt is not there (Debian: apt-get install binutils)")
    return subprocess.run([tool], input="\n".join(names), stdout=subprocess.PIPE, text=True,
                          check=True).stdout.splitlines()


def parse(output):
    """What ptxas says of each kernel, by (name, architecture), and the lines that are complaints."""
    entries, complaints, current = {}, [], None
    for line in output.splitlines():
        if COMPLAINT.search(line):
            complaints.append(line.strip())
        if match := ENTRY.search(line):
            current = entries.setdefault((match[1], match[2]), {"stack": 0, "stores": 0, "loads": 0, "spills": 0,
                                                                "registers": 0, "barriers": 0, "static": 0})
        elif current is None:
            continue
        elif match := STACK.search(line):
            # A function that is called has properties of its own, printed under the kernel that calls it.
            for key, bytes_ in zip(("stack", "stores", "loads"), match.groups()):
                current[key] = max(current[key], int(bytes_))
            current["spills"] = current["stores"] + current["loads"]
        elif match := USED.search(line):
            current["registers"] = int(match[1])
            for key, pattern in (("barriers", BARRIERS), ("static", STATIC)):
                found = pattern.search(line)
                current[key] = int(found[1]) if found else 0
    return entries, complaints


def blocks_per_sm(registers, threads, shared):
    warps = (threads + 31) // 32
    per_warp = (registers * 32 + 255) // 256 * 256
    of_registers = REGISTERS // 4 // per_warp * 4 // warps
    of_shared = SHARED // ((shared + 127) // 128 * 128 + RESERVED)
    return min(of_registers, of_shared, THREADS // (32 * warps))


def compile_all(nvcc, ccache, folder):
    """nvcc's output for each source, with wgmma and without, and what build_facts.cu prints."""
    with_wgmma = sources()

    def compile_one(path):
        name = os.path.basename(path)
        flags = FLAGS if path in with_wgmma else [*FLAGS, AMPERE]
        command = [*ccache, nvcc, *flags, "-Xptxas=-v,-warn-spills,-warn-lmem-usage", "-c", path, "-o",
                   os.path.join(folder, name + ".o")]
        return name, run(command)

    def facts():
        program = os.path.join(folder, "build_facts")
        run([nvcc, *FLAGS, os.path.join(HERE, "build_facts.cu"), "-o", program])
        return run([program])

    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("BITFLASH_JOBS") or os.cpu_count() or 1)) as pool:
        asked = pool.submit(facts)
        outputs = dict(pool.map(compile_one, all_sources()))
    names = {os.path.basename(path) for path in with_wgmma}
    part = lambda wanted: {name: output for name, output in outputs.items() if (name in names) == wanted}
    return part(True), part(False), [line.split("\t") for line in asked.result().splitlines()]


def judge(outputs, facts, version):
    """The rows of the table, and what is wrong."""
    rows, problems, known = [], [], set()
    for name, output in outputs.items():
        entries, complaints = parse(output)
        problems += [f"{name}: {line}" for line in complaints]
        if not entries:
            problems.append(f"{name}: ptxas named no kernel")
        for text, entry in zip(demangle([name for name, _ in entries]), entries.values()):
            if entry["stack"] or entry["spills"]:
                problems.append(f"{name}: {text}: {entry['stack']} bytes of stack, {entry['spills']} bytes of spills")
            asked = [fact for fact in facts if f"&({text})" in fact[-1]]
            known.update(fact[-1] for fact in asked)
            if not asked:  # a kernel without wgmma beside them
                print(f"{name}: {text.split('(')[0]}: {entry['registers']} registers, not in build_facts.cu")
            for fact in asked:
                threads, dynamic = int(fact[7]), int(fact[9])
                rows.append(dict(zip(COLUMNS, [
                    *fact[:9], entry["registers"], entry["barriers"], entry["static"], dynamic,
                    blocks_per_sm(entry["registers"], threads, entry["static"] + dynamic), version])))
    problems += [f"build_facts.cu: {fact[-1]} was not compiled" for fact in facts if fact[-1] not in known]
    rows = [{key: str(value) for key, value in row.items()} for row in rows]
    return sorted(rows, key=lambda r: (r["kernel"], r["launch"], int(r["head_dim"]), r["format"], r["fp32_scores"])), problems


def judge_spills(outputs, version):
    """The rows of spills.csv for kernels without wgmma, and what is wrong whatever is recorded."""
    rows, problems = [], []
    for name, output in outputs.items():
        entries, complaints = parse(output)
        problems += [f"{name}: {line}" for line in complaints if SERIALIZED.search(line)]
        for text, (key, entry) in zip(demangle([name for name, _ in entries]), entries.items()):
            if entry["stack"] or entry["spills"]:
                # Without what is the same in all, and without the parameters.
                kernel = re.sub(r"^void |bitflash::gpu::|\([^()]*\)$", "", text)
                rows.append(dict(zip(SPILL_COLUMNS, map(str, [name, key[1], kernel, entry["stack"], entry["stores"],
                                                              entry["loads"], version]))))
    return sorted(rows, key=lambda r: [r[key] for key in SPILL_COLUMNS[:3]]), problems


def read(path):
    if not os.path.exists(path):
        raise SystemExit(f"{path} is not there: --record writes it")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path, columns, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def spill_differences(rows, recorded, version):
    """Between what spills and what may."""
    if any(row["nvcc"] != version for row in recorded):
        print(f"nvcc {version}; spills.csv is of {recorded[0]['nvcc']}: not compared")
        return []
    key = lambda row: tuple(row[name] for name in SPILL_COLUMNS[:3])
    allowed = {key(row): row for row in recorded}
    problems = []
    for row in rows:
        old = allowed.pop(key(row), {})
        if row != old:
            says = lambda r: ", ".join(f"{name} {r[name]}" for name in SPILL_COLUMNS[3:6]) if r else "nothing"
            problems.append(f"{row['source']}: {row['kernel']} ({row['arch']}): {says(row)}; spills.csv has {says(old)}")
    return problems + [f"in spills.csv only, record again: {row['kernel']} ({row['arch']})" for row in allowed.values()]


def show(rows):
    shown = COLUMNS[:-1]
    widths = [max(len(name), *(len(row[name]) for row in rows)) for name in shown]
    for cells in ([dict(zip(shown, shown))] + rows):
        print("  ".join(cells[name].ljust(width) if not cells[name].isdigit() else cells[name].rjust(width)
                        for name, width in zip(shown, widths)).rstrip())


def differences(rows):
    """Between the table and the recorded one, when the same compiler made both."""
    if not os.path.exists(RECORD):
        return [f"{RECORD} is not there: --record writes it"]
    recorded = read(RECORD)
    if any(row["nvcc"] != rows[0]["nvcc"] for row in recorded):
        print(f"nvcc {rows[0]['nvcc']}; hopper_builds.csv is of {recorded[0]['nvcc']}: not compared")
        return []
    return [f"not as in hopper_builds.csv, record again: {row['launch']} {row['format']} head_dim {row['head_dim']}"
            for row in rows if row not in recorded] + \
           [f"in hopper_builds.csv only: {row['launch']} {row['format']} head_dim {row['head_dim']}, "
            f"{row['registers']} registers, {row['dynamic_shared']} bytes" for row in recorded if row not in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", help="the compiler (default: that of PATH, CUDA_PATH or /usr/local/cuda)")
    parser.add_argument("--record", action="store_true", help="write hopper_builds.csv")
    parser.add_argument("--json", help="write the table here too")
    arguments = parser.parse_args()
    toolkit = os.path.join(os.environ.get("CUDA_PATH", "/usr/local/cuda"), "bin", "nvcc")
    nvcc = arguments.nvcc or shutil.which("nvcc") or (os.access(toolkit, os.X_OK) and toolkit)
    if not nvcc:
        raise SystemExit("nvcc is not there: nothing was checked")
    version = re.search(r"release \S+, V(\S+)", run([nvcc, "--version"]))[1]
    ccache = [path] if (path := shutil.which("ccache")) else []
    with tempfile.TemporaryDirectory() as folder:
        outputs, others, facts = compile_all(nvcc, ccache, folder)
    rows, problems = judge(outputs, facts, version)
    spills, serialized = judge_spills(others, version)
    problems += serialized
    if rows:
        show(rows)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    if arguments.record and not problems:
        write(RECORD, COLUMNS, rows)
        write(SPILLS, SPILL_COLUMNS, spills)
    elif rows and not problems:
        problems = differences(rows) + spill_differences(spills, read(SPILLS), version)
    for problem in problems:
        print(f"FAILED {problem}", file=sys.stderr)
    print(f"{len(rows)} instances of {len(outputs)} files with wgmma, nvcc {version}: "
          f"{f'{len(problems)} problems' if problems else 'no spills, no stack, no serialized wgmma'}; "
          f"of {len(others)} other files {len(spills)} instances spill or have a stack")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
