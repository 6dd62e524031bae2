"""Records what attention kernels move between DRAM, L2 and the SMs: python3 data/golden/record_l2.py --out FOLDER

Needs PyTorch with CUDA, Nsight Compute (ncu) with permission to read counters, build/gpu/gpu/libbitflash_gpu_bench.so
and build/gpu/gpu/l2_patterns; about five minutes on an H100. l2_cases.txt is the list of problems and the rule that
says which rows are held out. Three files per GPU, FOLDER/GPU_*.csv, and manifest.json:

  GPU_cold.csv      every launch alone, caches flushed before it (ncu's default)
  GPU_warm.csv      launches of one call after one another, caches left alone. `state` says what was in L2 before the
                    first: "flushed" (1 GiB of other data was read), "again" (the same call ran just before)
  GPU_patterns.csv  gpu/probes/l2_patterns.cu: streams of known order
"""

import argparse
import csv
import ctypes
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
CASES = os.path.join(HERE, "l2_cases.txt")

# One replay pass: with caches left alone a second pass would find what the first one left.
ONE_PASS = {
    "time_ns": "gpu__time_duration.sum",
    "dram_read_bytes": "dram__bytes_read.sum",
    "dram_write_bytes": "dram__bytes_write.sum",
    "xbar_read_bytes": "l1tex__m_xbar2l1tex_read_bytes.sum",
}
COUNTERS = ONE_PASS | {
    "xbar_write_bytes": "l1tex__m_l1tex2xbar_write_bytes.sum",
    "l2_read_sectors": "lts__t_sectors_op_read.sum",
    "l2_write_sectors": "lts__t_sectors_op_write.sum",
    "l2_read_miss_sectors": "lts__t_sectors_op_read_lookup_miss.sum",
    "l2_tex_read_sectors": "lts__t_sectors_srcunit_tex_op_read.sum",
    "l2_tex_miss_sectors": "lts__t_sectors_srcunit_tex_lookup_miss.sum",
    "l2_fabric_sectors": "lts__t_sectors_srcunit_ltcfabric.sum",
    "local_load_sectors": "l1tex__t_sectors_pipe_lsu_mem_local_op_ld.sum",
    "local_store_sectors": "l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum",
    "registers": "launch__registers_per_thread",
    "smem_static": "launch__shared_mem_per_block_static",
    "smem_dynamic": "launch__shared_mem_per_block_dynamic",
}


class Case:
    def __init__(self, kernel, words):
        batch, heads, lengths, head_dim, self.format, self.mask, *options = words
        self.kernel, self.batch, self.head_dim, self.fp32 = kernel, int(batch), int(head_dim), "fp32" in options
        self.heads_q, self.heads_kv = map(int, heads.split("/"))
        self.seqlen_q, self.seqlen_k = map(int, lengths.split("x"))
        self.name = (f"b{batch}_h{self.heads_q}-{self.heads_kv}_s{lengths}_d{head_dim}_{self.format}_{self.mask}" +
                     ("_fp32" if self.fp32 else ""))
        self.id = f"{kernel}/{self.name}"

    def held_out(self):
        """Bit 32 of the 64-bit FNV-1a hash."""
        h = 0xCBF29CE484222325
        for byte in self.id.encode():
            h = (h ^ byte) * 0x100000001B3 % 2**64
        return h >> 32 & 1 == 1

    def columns(self):
        return {"kernel": self.kernel, "case": self.name, "held_out": int(self.held_out()), "batch": self.batch,
                "heads_q": self.heads_q, "heads_kv": self.heads_kv, "seqlen_q": self.seqlen_q,
                "seqlen_k": self.seqlen_k, "head_dim": self.head_dim, "dtype": self.format, "mask": self.mask,
                "fp32_scores": int(self.fp32)}


def read_cases():
    with open(CASES) as file:
        lines = [line.split("#")[0].split() for line in file]
    return [Case(kernel, words[1:]) for words in lines if words for kernel in words[0].split(",")]


# --- Under the profiler ----------------------------------------------------------------------------------------------
class Problem(ctypes.Structure):  # that of gpu/bench/launch_c.cc
    _fields_ = ([(n, ctypes.c_int64) for n in (
        "batch", "heads_q", "heads_kv", "seqlen_q", "seqlen_k", "head_dim", "causal", "bf16", "fp32_scores", "chunk",
        "page_size", "pages_per_sequence")] + [("strides", ctypes.c_int64 * 12)] +
        [(n, ctypes.c_void_p) for n in ("q", "k", "v", "o", "lse", "workspace", "seqlens_k", "block_table", "cu_seqlens_q",
                                       "cu_seqlens_k")])


def own_call(torch, library, case, q, k, v):
    o = torch.zeros_like(q)
    lse = torch.zeros(q.shape[:3], device="cuda")
    problem = Problem(case.batch, case.heads_q, case.heads_kv, case.seqlen_q, case.seqlen_k, case.head_dim,
                      case.mask == "causal", case.format == "bf16", case.fp32, 1024, 0, 0)
    problem.strides[:] = [s for x in (q, k, v, o) for s in x.stride()[:3]]
    size = library.bitflash_bench_workspace_bytes(case.kernel.encode(), ctypes.byref(problem))
    workspace = torch.zeros(size, dtype=torch.uint8, device="cuda")
    problem.q, problem.k, problem.v, problem.o = (x.data_ptr() for x in (q, k, v, o))
    problem.lse, problem.workspace = lse.data_ptr(), workspace.data_ptr()

    def call(keep=(q, k, v, o, lse, workspace)):
        if library.bitflash_bench_launch(case.kernel.encode(), ctypes.byref(problem)):
            raise RuntimeError(case.id)
    return call


def torch_call(torch, case, q, k, v):
    causal = case.mask == "causal"
    if case.kernel == "pytorch-fa2":
        operator = torch.ops.aten._scaled_dot_product_flash_attention
        return lambda: operator(q, k, v, 0.0, causal, False)
    operator = torch.ops.aten._scaled_dot_product_cudnn_attention
    return lambda: operator(q, k, v, None, True, 0.0, causal, False)


def launch(mode, library_path, only):
    """Launches every case between cudaProfilerStart and cudaProfilerStop and prints a line for each."""
    import torch
    library = ctypes.CDLL(library_path)
    library.bitflash_bench_workspace_bytes.restype = ctypes.c_int64
    flush = torch.zeros(1 << 28, dtype=torch.int32, device="cuda")
    for case in read_cases():
        if only and not re.search(only, case.id):
            continue
        if mode == "warm" and case.seqlen_q * case.seqlen_k * case.heads_q > 16 << 28:
            continue
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[case.format]
        torch.manual_seed(1)
        shape = lambda heads, rows: (case.batch, heads, rows, case.head_dim)
        try:
            q, k, v = (torch.randn(shape(heads, rows), device="cuda", dtype=dtype) for heads, rows in (
                (case.heads_q, case.seqlen_q), (case.heads_kv, case.seqlen_k), (case.heads_kv, case.seqlen_k)))
            call = torch_call(torch, case, q, k, v)
            if case.kernel not in ("pytorch-fa2", "cudnn"):
                call = own_call(torch, library, case, q, k, v)
            call()  # plans, allocations
            torch.cuda.synchronize()
        except Exception as error:  # a backend that refuses the problem
            print("refused " + json.dumps({"case": case.id, "why": str(error).splitlines()[0]}), flush=True)
            continue
        for state in ["cold"] if mode == "cold" else ["flushed", "again"]:
            if state != "cold":
                int(flush.sum())
            if state == "again":
                call()
            torch.cuda.synchronize()
            torch.cuda.profiler.start()
            torch.cuda._sleep(1)  # a kernel that touches no memory: where the launches of a call begin
            call()
            torch.cuda.synchronize()
            torch.cuda.profiler.stop()
            print("launched " + json.dumps(case.columns() | {"state": state}), flush=True)
        del q, k, v, call
        torch.cuda.empty_cache()


# --- Around it -------------------------------------------------------------------------------------------------------
def find_ncu():
    found = shutil.which("ncu")
    for pattern in ("/usr/local/cuda*/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu"):
        found = found or next(iter(sorted(glob.glob(pattern), reverse=True)), None)
    if not found:
        raise SystemExit("Nsight Compute (ncu) is not installed")
    return found


def profile(counters, options, command, timeout):
    """What `command` printed, and one dict of counters per launch that was profiled."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "ncu.csv")
        try:
            done = subprocess.run([find_ncu(), "--clock-control", "none", "--metrics", ",".join(counters.values()),
                                   "--csv", "--page", "raw", "--print-units", "base", "--log-file", log, *options,
                                   *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=timeout)
            printed = done.stdout
        except subprocess.TimeoutExpired as expired:
            printed = (expired.stdout or b"").decode()
            print(f"stopped after {timeout} s", file=sys.stderr)
        with open(log, errors="replace") as file:
            lines = file.read().splitlines()
    begin = next((n for n, line in enumerate(lines) if line.startswith('"ID"')), None)
    passes = sorted({int(n) for line in lines + printed.splitlines() for n in re.findall(r"(\d+) pass(?:es)?\b", line)})
    if begin is None:
        sys.stderr.write("\n".join(lines[-20:]) + printed[-3000:])
        return printed, [], passes
    header, *rows = csv.reader(lines[begin:])
    return printed, [dict(zip(header, row)) for row in rows if row and row[0].isdigit()], passes


def number(text):
    return text.replace(",", "").removesuffix(".000000").removesuffix(".00")


def extent(text):
    return "x".join(re.findall(r"\d+", text))


def short_name(name):
    """The kernel without its template arguments."""
    found = re.search(r"(flash_fwd\w*_kernel|cudnn\w+|fa2_forward|standard_\w+|split_kv_\w+|RunPhases|\w+(?=[<(]))", name)
    return found.group(1) if found else name[:60].replace(",", ";")


def write_calls(path, counters, printed, rows):
    """One row per launch; a call's launches follow the marker kernel."""
    calls = [json.loads(line.split(" ", 1)[1]) for line in printed.splitlines() if line.startswith("launched ")]
    refused = [json.loads(line.split(" ", 1)[1]) for line in printed.splitlines() if line.startswith("refused ")]
    launches = []
    for row in rows:
        if "spin_kernel" in row["Kernel Name"]:
            launches.append([])
        else:
            launches[-1].append(row)
    if len(calls) != len(launches):
        print(f"{len(calls)} calls, {len(launches)} markers", file=sys.stderr)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        first = list(calls[0]) if calls else []
        writer.writerow([*first, "step", "launch", "grid", "block", *counters])
        for call, steps in zip(calls, launches):
            for step, row in enumerate(steps):
                writer.writerow([*call.values(), step, short_name(row["Kernel Name"]), extent(row["Grid Size"]),
                                 extent(row["Block Size"]), *(number(row.get(c, "")) for c in counters.values())])
    print(f"{os.path.basename(path)}: {len(calls)} calls, {len(rows) - len(launches)} launches; refused: "
          f"{'; '.join(r['case'] + ': ' + r['why'][:60] for r in refused) or 'none'}", flush=True)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(HERE, "l2"))
    parser.add_argument("--library", default=os.path.join(ROOT, "build/gpu/gpu/libbitflash_gpu_bench.so"))
    parser.add_argument("--patterns", default=os.path.join(ROOT, "build/gpu/gpu/l2_patterns"))
    parser.add_argument("--parts", default="cold,warm,patterns")
    parser.add_argument("--only", default="", help="a regular expression for KERNEL/CASE")
    parser.add_argument("--timeout", type=float, default=500, help="seconds for each part")
    parser.add_argument("--launch", choices=["cold", "warm"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.launch:
        launch(arguments.launch, arguments.library, arguments.only)
        return

    import torch
    gpu = torch.cuda.get_device_name().removeprefix("NVIDIA ").lower().replace(" ", "-")
    os.makedirs(arguments.out, exist_ok=True)
    again = [sys.executable, os.path.abspath(__file__), "--library", arguments.library, "--only", arguments.only,
             "--launch"]
    passes = {}
    for part in arguments.parts.split(","):
        path = os.path.join(arguments.out, f"{gpu}_{part}.csv")
        if part == "patterns":
            counters = {c: n for c, n in COUNTERS.items() if c not in ("registers", "smem_static", "smem_dynamic")}
            printed, rows, passes[part] = profile(counters, [], [arguments.patterns], arguments.timeout)
            names = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
            with open(path, "w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["pattern", "read_bytes", "written_bytes", *counters])
                for name, row in zip(names, rows):
                    writer.writerow([*name.values(), *(number(row.get(c, "")) for c in counters.values())])
            print(f"{os.path.basename(path)}: {len(names)} launches, {len(rows)} rows", flush=True)
            continue
        counters = COUNTERS if part == "cold" else ONE_PASS
        options = ["--profile-from-start", "off", "--cache-control", "all" if part == "cold" else "none"]
        printed, rows, passes[part] = profile(counters, options, again + [part], arguments.timeout)
        write_calls(path, counters, printed, rows)
    files = sorted(glob.glob(os.path.join(arguments.out, "*.csv")))
    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()[0]
    version = re.search(r"Version (\S+)", subprocess.run([find_ncu(), "--version"], stdout=subprocess.PIPE,
                                                         text=True).stdout)
    with open(os.path.join(arguments.out, "manifest.json"), "w") as file:
        json.dump({"schema": 1,
                   "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
                   "command": "python3 data/golden/record_l2.py --out data/golden/l2",
                   "gpu": {"name": torch.cuda.get_device_name(),
                           "multiprocessors": torch.cuda.get_device_properties(0).multi_processor_count,
                           "l2_bytes": torch.cuda.get_device_properties(0).L2_cache_size},
                   "driver": driver,
                   "software": {"torch": torch.__version__, "cuda": torch.version.cuda,
                                "cudnn": torch.backends.cudnn.version(), "python": platform.python_version(),
                                "nsight_compute": version.group(1) if version else ""},
                   "counters": COUNTERS,
                   "passes": passes,
                   "scripts": {name: sha256(os.path.join(HERE, name)) for name in ("record_l2.py", "l2_cases.txt")},
                   "files": {os.path.basename(p): {"sha256": sha256(p), "bytes": os.path.getsize(p)} for p in files}},
                  file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
