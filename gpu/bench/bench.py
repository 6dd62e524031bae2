#!/usr/bin/env python3
"""Times the CUDA kernels beside PyTorch's FlashAttention-2 and cuDNN, and a plain copy, in one process.

    cmake --preset gpu && cmake --build --preset gpu
    python3 gpu/bench/bench.py [--library build/gpu/gpu/libbitflash_gpu_bench.so] [--json FILE] [--only prefill,...]

Needs PyTorch with CUDA. Two thermal states: `burst` = 0.2 s of idling before each batch of launches; `sustained` = one
kernel for about half a second, median of the second half. Kernels of one shape take turns, so that drift meets all of
them. Inputs are normal random numbers in several sets, larger together than L2. Outputs are checked after the timing.
"""
import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention


class Problem(ctypes.Structure):
    _fields_ = ([(n, ctypes.c_int64) for n in (
        "batch", "heads_q", "heads_kv", "seqlen_q", "seqlen_k", "head_dim", "causal", "bf16", "fp32_scores", "chunk",
        "page_size", "pages_per_sequence")] + [("strides", ctypes.c_int64 * 12)] +
        [(n, ctypes.c_void_p) for n in ("q", "k", "v", "o", "lse", "workspace", "seqlens_k", "block_table")])


class Library:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.bitflash_bench_stream.restype = ctypes.c_void_p
        self.lib.bitflash_bench_workspace_bytes.restype = ctypes.c_int64
        self.stream = torch.cuda.ExternalStream(self.lib.bitflash_bench_stream())

    def prepare(self, name, q, k, v, causal=False, fp32_scores=False, chunk=1024, table=None, seqlens=None):
        """A function that launches the kernel, and the O that it fills. K and V of a paged cache have pages first."""
        batch, heads, rows, d = q.shape
        o = torch.full_like(q, float("nan"))
        lse = torch.full((batch, heads, rows), float("nan"), device="cuda")
        keys = k.shape[2] if table is None else k.shape[2] * table.shape[1]
        problem = Problem(batch, heads, k.shape[1], rows, keys, d, causal, q.dtype == torch.bfloat16, fp32_scores, chunk,
                          0 if table is None else k.shape[2], 0 if table is None else table.shape[1])
        problem.strides[:] = [s for x in (q, k, v, o) for s in x.stride()[:3]]
        size = self.lib.bitflash_bench_workspace_bytes(name.encode(), ctypes.byref(problem))
        workspace = torch.full((size,), 255, dtype=torch.uint8, device="cuda")
        problem.q, problem.k, problem.v, problem.o = (x.data_ptr() for x in (q, k, v, o))
        problem.lse, problem.workspace = lse.data_ptr(), workspace.data_ptr()
        problem.block_table = None if table is None else table.data_ptr()
        problem.seqlens_k = None if seqlens is None else seqlens.data_ptr()
        torch.cuda.synchronize()

        def launch(keep=(q, k, v, o, lse, workspace, table, seqlens)):
            if self.lib.bitflash_bench_launch(name.encode(), ctypes.byref(problem)):
                raise RuntimeError(name)
        return launch, o


def timed(run, launches):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(launches):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / launches


def burst(runs, rounds, budget_ms=12):
    """Milliseconds of each run: the median over rounds, all runs once a round."""
    times = {name: [] for name in runs}
    counts = {}
    for name, run in runs.items():
        run()
        counts[name] = max(2, min(20, round(budget_ms / max(1e-3, timed(run, 2)))))
    for _ in range(rounds):
        for name, run in runs.items():
            torch.cuda.synchronize()
            time.sleep(0.2)
            run()
            times[name].append(timed(run, counts[name]))
    return {name: statistics.median(t) for name, t in times.items()}


def sustained(runs, seconds=0.5):
    result = {}
    for name, run in runs.items():
        batch = max(1, round(10 / max(1e-3, timed(run, 2))))
        times, begin = [], time.perf_counter()
        while time.perf_counter() - begin < seconds:
            times.append(timed(run, batch))
        result[name] = statistics.median(times[len(times) // 2:])
    return result


def rotate(functions):
    """Calls one function after another: each works on inputs of its own."""
    state = [0]

    def run():
        state[0] += 1
        functions[state[0] % len(functions)]()
    return run


def torch_run(backend, q, k, v, causal):
    def run():
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
    return run


def inputs(batch, heads, heads_kv, rows, keys, d, dtype):
    normal = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
    return normal(batch, heads, rows, d), normal(batch, heads_kv, keys, d), normal(batch, heads_kv, keys, d)


def check(name, o, reference):
    error = ((o.float() - reference.float()).norm() / reference.float().norm()).item()
    if not error < 1e-2:
        print(f"WRONG {name}: relative error {error}", file=sys.stderr)
        return False
    return True


BF16, FP16 = torch.bfloat16, torch.float16
# batch, query heads, KV heads, length, head_dim, type, causal
PREFILL = [(1, 16, 16, 4096, 128, BF16, False), (2, 16, 16, 16384, 128, BF16, False), (4, 32, 32, 2048, 128, BF16, True),
           (2, 16, 16, 8192, 64, FP16, False), (2, 16, 16, 8192, 64, FP16, True), (1, 32, 8, 8192, 128, BF16, True),
           (2, 16, 16, 8192, 128, FP16, False), (2, 16, 16, 4096, 96, BF16, False), (2, 16, 16, 4096, 192, BF16, False),
           (2, 16, 16, 4096, 256, BF16, False)]
DECODE = [(8, 32, 32, 32768, 128), (64, 32, 8, 8192, 128), (1, 32, 8, 131072, 128), (16, 64, 8, 16384, 64)]
STANDARD = [(1, 4, 16384, 128, False), (1, 4, 16384, 128, True), (1, 4, 16384, 64, False), (1, 4, 16384, 64, True)]


def copy_bandwidth():
    a = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    t = burst({"copy": lambda: b.copy_(a)}, 3)["copy"]
    read = a.view(torch.float32)
    r = burst({"read": lambda: read.sum()}, 3)["read"]
    return 2 * a.numel() / t / 1e9, a.numel() / r / 1e9  # TB/s


def bench_prefill(library, rounds, sustain):
    rows = []
    for batch, heads, heads_kv, seqlen, d, dtype, causal in PREFILL:
        sets = [inputs(batch, heads, heads_kv, seqlen, seqlen, d, dtype) for _ in range(2 if seqlen <= 4096 else 1)]
        ours = [library.prepare("fa2", *s, causal=causal) for s in sets]
        runs = {"bitflash fa2": rotate([launch for launch, _ in ours])}
        for name, backend in (("pytorch fa2", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            runs[name] = rotate([torch_run(backend, *s, causal) for s in sets])
            try:
                runs[name]()
            except RuntimeError:  # the backend does not take the shape
                del runs[name]
        milliseconds = burst(runs, rounds)
        flops = 4 * batch * heads * seqlen * seqlen * d * (0.5 if causal else 1)
        grouped = f"{heads}/{heads_kv}" if heads != heads_kv else heads
        row = {"shape": f"{batch} x {grouped} x {seqlen}, head_dim {d}, {str(dtype)[6:]}{', causal' if causal else ''}",
               "burst_ms": milliseconds, "burst_tflops": {n: flops / t / 1e9 for n, t in milliseconds.items()},
               "ok": all(check("fa2", o, torch_run(SDPBackend.FLASH_ATTENTION, *s, causal)())
                         for (_, o), s in zip(ours, sets))}
        if sustain:
            milliseconds = sustained(runs)
            row |= {"sustained_tflops": {n: flops / t / 1e9 for n, t in milliseconds.items()}}
        rows.append(row)
        text = "  ".join(f"{n} {x:6.1f}" for n, x in row["burst_tflops"].items())
        text += f"  ratio {row['burst_tflops']['bitflash fa2'] / row['burst_tflops']['pytorch fa2']:.3f}"
        if sustain:
            text += "  sustained " + " ".join(f"{x:6.1f}" for x in row["sustained_tflops"].values())
        print(f"{row['shape']:46} TFLOP/s: {text} {'' if row['ok'] else 'WRONG'}", flush=True)
    return rows


def bench_decode(library, rounds, copy_tbs):
    rows = []
    for batch, heads, heads_kv, keys, d in DECODE:
        sets = [inputs(batch, heads, heads_kv, 1, keys, d, BF16) for _ in range(1 if batch > 1 else 2)]
        ours = {chunk: [library.prepare("split-kv", *s, chunk=chunk) for s in sets] for chunk in (1024, 2048, 4096)}
        runs = {f"split-kv {chunk}": rotate([launch for launch, _ in o]) for chunk, o in ours.items()}
        page = 64
        table = torch.randperm(batch * keys // page, device="cuda", dtype=torch.int32).view(batch, -1)
        paged = []
        for q, k, v in sets:
            pages = lambda x: x.view(batch, heads_kv, keys // page, page, d).permute(0, 2, 1, 3, 4).reshape(
                -1, heads_kv, page, d)[table.flatten().argsort()].contiguous()
            paged.append(library.prepare("split-kv", q, pages(k), pages(v), table=table))
        runs["paged 64"] = rotate([launch for launch, _ in paged])
        runs["cudnn"] = rotate([torch_run(SDPBackend.CUDNN_ATTENTION, *s, False) for s in sets])
        runs["pytorch fa2"] = rotate([torch_run(SDPBackend.FLASH_ATTENTION, *s, False) for s in sets])
        milliseconds = burst(runs, rounds)
        kv_bytes = 2 * batch * heads_kv * keys * d * 2
        expected = [torch_run(SDPBackend.FLASH_ATTENTION, *s, False)() for s in sets]
        ok = all([check(f"decode {c}", o, e) for c, l in ours.items() for (_, o), e in zip(l, expected)] +
                 [check("paged", o, e) for (_, o), e in zip(paged, expected)] +
                 [torch.equal(o, p) for (_, o), (_, p) in zip(ours[1024], paged)])
        row = {"shape": f"{batch} x {heads}/{heads_kv} x {keys}, head_dim {d}, bf16", "burst_ms": milliseconds,
               "tb_per_second": {n: kv_bytes / t / 1e9 for n, t in milliseconds.items()},
               "share_of_copy": {n: kv_bytes / t / 1e9 / copy_tbs for n, t in milliseconds.items()}, "ok": ok}
        rows.append(row)
        text = "  ".join(f"{n} {t:.4f} ({row['tb_per_second'][n]:.2f})" for n, t in milliseconds.items())
        print(f"{row['shape']:40} ms (TB/s of K and V): {text}; ours at {100 * row['share_of_copy']['split-kv 1024']:.1f} % of the copy "
              f"{'' if ok else 'WRONG'}", flush=True)
        del sets, ours, paged, runs, expected
        torch.cuda.empty_cache()
    return rows


def bench_standard(library, rounds, copy_tbs):
    rows = []
    for batch, heads, seqlen, d, fp32_scores in STANDARD:
        q, k, v = inputs(batch, heads, heads, seqlen, seqlen, d, BF16)
        launch, o = library.prepare("standard", q, k, v, fp32_scores=fp32_scores)
        milliseconds = burst({"standard": launch}, rounds)["standard"]
        moved = batch * heads * (seqlen * seqlen * (12 if fp32_scores else 8) + 4 * seqlen * d * 2)
        floor = moved / copy_tbs / 1e9
        ok = check("standard", o, torch_run(SDPBackend.FLASH_ATTENTION, q, k, v, False)())
        rows.append({"shape": f"{batch} x {heads} x {seqlen}, head_dim {d}, {'fp32' if fp32_scores else 'bf16'} scores",
                     "ms": milliseconds, "floor_ms": floor, "ratio": milliseconds / floor, "ok": ok})
        print(f"{rows[-1]['shape']:46} {milliseconds:.3f} ms, floor {floor:.3f} ms: {milliseconds / floor:.3f} "
              f"{'' if ok else 'WRONG'}", flush=True)
        del launch, o
        torch.cuda.empty_cache()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/gpu/gpu/libbitflash_gpu_bench.so")
    parser.add_argument("--json", help="write everything here too")
    parser.add_argument("--only", default="prefill,decode,standard")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sustained", action="store_true", help="also one kernel for half a second (prefill)")
    arguments = parser.parse_args()
    library = Library(arguments.library)
    only = arguments.only.split(",")
    copy, read = copy_bandwidth()
    gpu = torch.cuda.get_device_properties(0)
    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader",
                             "--id=0"], capture_output=True, text=True).stdout.strip()
    options = [f"--only {arguments.only}"] if arguments.only != parser.get_default("only") else []
    options += ["--sustained"] if arguments.sustained else []
    report = {"command": " ".join(["python3 gpu/bench/bench.py", *options]), "driver, power limit, highest SM clock": driver,
              "cuda": torch.version.cuda, "gpu": gpu.name, "pytorch": torch.__version__, "cudnn": torch.backends.cudnn.version(),
              "date": time.strftime("%Y-%m-%d"), "copy_tb_per_second": copy, "read_tb_per_second": read}
    print(f"{gpu.name}, PyTorch {torch.__version__}; copy {copy:.2f} TB/s read and written, sum {read:.2f} TB/s read")
    with torch.cuda.stream(library.stream), torch.inference_mode():
        if "prefill" in only:
            report["prefill"] = bench_prefill(library, arguments.rounds, arguments.sustained)
        if "decode" in only:
            report["decode"] = bench_decode(library, arguments.rounds, copy)
        if "standard" in only:
            report["standard"] = bench_standard(library, arguments.rounds, copy)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file, indent=1)
    sys.exit(not all(row["ok"] for key in ("prefill", "decode", "standard") for row in report.get(key, [])))


if __name__ == "__main__":
    main()
