"""Records the CUDA kernels of gpu/ on this machine's GPU: python3 data/golden/record_own.py

Needs build/gpu/gpu/gpu_record (`. cmake/setup.sh; build gpu gpu_record`) and Python's standard library; under a minute.
With Nsight Compute it also records what the launches of some cases moved. README.md describes the files that it writes.
Nothing is hidden when something is wrong: the files are written, the problems are printed, and the exit code is 1.
"""

import argparse
import csv
import datetime
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CASES = os.path.join(HERE, "own_cases.txt")

# Column -> counters that mean it, the first that this GPU has. Names differ between architectures and Nsight versions.
COUNTERS = {
    "time_ns": ["gpu__time_duration.sum"],
    "dram_read_bytes": ["dram__bytes_read.sum"],
    "dram_write_bytes": ["dram__bytes_write.sum"],
    "xbar_read_bytes": ["l1tex__m_xbar2l1tex_read_bytes.sum"],
    "xbar_write_bytes": ["l1tex__m_l1tex2xbar_write_bytes.sum"],
    "l2_read_sectors": ["lts__t_sectors_op_read.sum"],
    "l2_write_sectors": ["lts__t_sectors_op_write.sum"],
    "shared_wavefronts": ["l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"],
    "shared_load_conflicts": ["l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum"],
    "shared_store_conflicts": ["l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum"],
    "special_instructions": ["smsp__inst_executed_pipe_xu.sum", "sm__inst_executed_pipe_xu.sum"],
    "tensor_instructions": ["smsp__inst_executed_pipe_tensor.sum", "sm__inst_executed_pipe_tensor.sum",
                            "sm__inst_executed_pipe_tensor_op_hmma.sum"],
    "registers": ["launch__registers_per_thread"],
    "smem_static": ["launch__shared_mem_per_block_static"],
    "smem_dynamic": ["launch__shared_mem_per_block_dynamic"],
}


def output(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def find_program(name, *places):
    found = shutil.which(name)
    for pattern in places if not found else ():
        found = next(iter(sorted(glob.glob(pattern), reverse=True)), None)
        if found:
            break
    return found


def available_counters(ncu):
    """Column -> the counter's name, for those that `ncu` knows on this GPU."""
    known = set(re.findall(r"^\s*([a-z][a-z0-9_]*__[a-z0-9_]+)", output([ncu, "--query-metrics"]), re.MULTILINE))
    # What a launch asks for is no counter of the hardware and not in that list.
    has = lambda name: name.startswith("launch__") or name.split(".")[0] in known
    return {column: next((name for name in names if has(name)), None) for column, names in COUNTERS.items()}


def profile(gpu_record, ncu, path):
    """Writes the CSV of counters, one row for every launch; returns what the manifest says about it."""
    counters = {column: name for column, name in available_counters(ncu).items() if name}
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "ncu.csv")
        command = [ncu, "--clock-control", "none", "--metrics", ",".join(counters.values()), "--csv", "--page", "raw",
                   "--print-units", "base", "--log-file", log, gpu_record, CASES, "--profile"]
        try:
            printed = output(command)
        except subprocess.CalledProcessError:
            with open(log) as file:
                sys.stderr.write(file.read())
            raise
        with open(log) as file:
            lines = file.read().splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith('"ID"'))
    header, units, *rows = csv.reader(lines[begin:])  # the second row names the units
    rows = [dict(zip(header, row)) for row in rows]
    calls = [json.loads(line[len("profiled "):]) for line in printed.splitlines() if line.startswith("profiled ")]
    launches = [(call, step, name) for call in calls for step, name in enumerate(call["launches"])]
    if len(launches) != len(rows):
        raise SystemExit(f"{ncu} saw {len(rows)} launches, gpu_record made {len(launches)}")
    problem = [key for key in calls[0] if key not in ("kernel", "case", "launches", "mask")]
    extent = lambda text: "x".join(re.findall(r"\d+", text))  # "(128, 1, 1)"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kernel", "case", "step", "launch", *problem, "mask", "grid", "block", *counters])
        for (call, step, name), row in zip(launches, rows):
            if name not in row["Kernel Name"]:
                raise SystemExit(f"{ncu} saw {row['Kernel Name']} where {call['case']} launches {name}")
            number = lambda text: text.replace(",", "").removesuffix(".000000").removesuffix(".00")
            # No cell has a comma: "window(127;0)".
            writer.writerow([call["kernel"], call["case"], step, name,
                             *(int(call[key]) if isinstance(call[key], bool) else call[key] for key in problem),
                             call["mask"].replace(",", ";"), extent(row["Grid Size"]), extent(row["Block Size"]),
                             *(number(row[counter]) for counter in counters.values())])
    missing = sorted(set(COUNTERS) - set(counters))
    version = re.search(r"Version (\S+)", output([ncu, "--version"]))
    print(f"{os.path.basename(path)}: {len(rows)} launches of {len(calls)} cases, {len(counters)} counters; "
          f"not on this GPU: {', '.join(missing) or 'none'}")
    return {"nsight_compute": version.group(1) if version else "",
            "command": "ncu --clock-control none --metrics <counters> gpu_record own_cases.txt --profile",
            "counters": counters, "launches": len(rows)}


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def compiler():
    nvcc = find_program("nvcc", "/usr/local/cuda/bin/nvcc")
    found = nvcc and re.search(r"release \S+, V(\S+)", output([nvcc, "--version"]))
    return found.group(1) if found else ""


def manifest(device, files, nsight):
    driver, runtime = device.pop("driver"), device.pop("runtime_cuda")
    device.pop("driver_cuda")
    sources = sorted(path for pattern in ("*.cu", "*.cuh", "*.h", "*.cc", "record/*.h", "record/*.cc")
                     for path in glob.glob(os.path.join(ROOT, "gpu", pattern)))
    return {"schema": 1,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "command": "python3 data/golden/record_own.py",
            "gpu": device,
            "driver": driver,
            "software": {"cuda": runtime, "nvcc": compiler(), "python": platform.python_version()},
            "nsight": nsight,
            # Not compared with the tree: a comment is no reason to record again. To look up what was recorded.
            "sources": {os.path.relpath(path, ROOT): sha256(path) for path in sources},
            "scripts": {name: sha256(os.path.join(HERE, name)) for name in ("record_own.py", "own_cases.txt")},
            "files": {os.path.basename(path): {"sha256": sha256(path), "bytes": os.path.getsize(path)}
                      for path in sorted(files)}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(HERE, "own"), help="folder to write to (default: own/ beside this)")
    parser.add_argument("--gpu-record", default=os.path.join(ROOT, "build", "gpu", "gpu", "gpu_record"),
                        help="the program (default: that of the preset gpu)")
    parser.add_argument("--no-nsight", action="store_true", help="do not look for Nsight Compute")
    arguments = parser.parse_args()
    if not os.access(arguments.gpu_record, os.X_OK):
        raise SystemExit(f"{arguments.gpu_record}: not there; build it with `. cmake/setup.sh; build gpu gpu_record`")
    device = json.loads(output([arguments.gpu_record, "--device"]))
    os.makedirs(arguments.out, exist_ok=True)
    for old in glob.glob(os.path.join(arguments.out, "*.json")) + glob.glob(os.path.join(arguments.out, "*.csv")):
        os.remove(old)
    recorded = subprocess.run([arguments.gpu_record, CASES, "--out", arguments.out], check=False).returncode
    if recorded not in (0, 1):
        raise SystemExit(recorded)

    nsight = None
    ncu = None if arguments.no_nsight else find_program("ncu", "/usr/local/cuda*/bin/ncu",
                                                        "/opt/nvidia/nsight-compute/*/ncu")
    if ncu:
        gpu = device["name"].removeprefix("NVIDIA ").lower().replace(" ", "-")
        try:
            nsight = profile(arguments.gpu_record, ncu, os.path.join(arguments.out, f"{gpu}_nsight.csv"))
        except (subprocess.CalledProcessError, StopIteration) as error:
            print(f"no counters: {error}", file=sys.stderr)
            recorded = 1
    elif not arguments.no_nsight:
        print("no counters: Nsight Compute (ncu) is not installed", file=sys.stderr)

    files = glob.glob(os.path.join(arguments.out, "*.json")) + glob.glob(os.path.join(arguments.out, "*.csv"))
    with open(os.path.join(arguments.out, "manifest.json"), "w") as file:
        json.dump(manifest(device, files, nsight), file, indent=2)
        file.write("\n")
    return recorded


if __name__ == "__main__":
    sys.exit(main())
