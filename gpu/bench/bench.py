#!/usr/bin/env python3
"""Times the CUDA kernels beside PyTorch's FlashAttention-2 and cuDNN, and a plain copy, in one process.

    cmake --preset gpu && cmake --build --preset gpu
    python3 gpu/bench/bench.py --sustained [--json FILE] [--markdown FILE] [--only prefill,decode,...]

Needs PyTorch with CUDA. Two thermal states: `burst` = 0.2 s of idling before each batch of launches; `sustained` = one
kernel for half a second on a warm card, median of the second half, with the SM clock and the power that NVML shows then.
Kernels of one shape take turns, in another order each time, so that drift and what they leave in L2 meet all of them.
Inputs are normal random numbers in several sets, larger together than L2. Outputs are checked after the timing, from a launch that found NaN in O, LSE and the workspace. A kernel
that is not built, or that refuses a shape, has a dash.
"""
import argparse
import json
import subprocess
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from library import Library
from timing import Sensors, burst, rotate, sustained


def torch_run(backend, q, k, v, causal):
    def run():
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
    return run


def inputs(batch, heads, heads_kv, rows, keys, d, dtype):
    normal = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
    return normal(batch, heads, rows, d), normal(batch, heads_kv, keys, d), normal(batch, heads_kv, keys, d)


def paginated(library, q, k, v, page):
    """Our kernel on the same keys in pages, shuffled; None where they do not fill the last page."""
    batch, heads, keys, d = k.shape
    if keys % page:
        return None
    table = torch.randperm(batch * keys // page, device="cuda", dtype=torch.int32).view(batch, -1)
    order = table.flatten().argsort()
    pages = lambda x: x.view(batch, heads, keys // page, page, d).permute(0, 2, 1, 3, 4).reshape(-1, heads, page, d)[order]
    return library.prepare("split-kv", q, pages(k), pages(v), table=table)


def check(name, o, reference):
    error = ((o.float() - reference.float()).norm() / reference.float().norm()).item()
    if not error < 1e-2:
        print(f"WRONG {name}: relative error {error}", file=sys.stderr)
        return False
    return True


BF16, FP16 = torch.bfloat16, torch.float16
# batch, query heads, KV heads, length, head_dim, type, causal
PREFILL = [(1, 16, 16, 4096, 128, BF16, False), (2, 16, 16, 16384, 128, BF16, False), (4, 32, 32, 2048, 128, BF16, True),
           (2, 16, 16, 16384, 128, BF16, True), (8, 16, 16, 1024, 128, BF16, True), (2, 16, 16, 8192, 64, FP16, False),
           (2, 16, 16, 8192, 64, FP16, True), (1, 32, 8, 8192, 128, BF16, True), (2, 16, 16, 8192, 128, FP16, False),
           (2, 16, 16, 4096, 96, BF16, False), (2, 16, 16, 4096, 192, BF16, False), (2, 16, 16, 4096, 256, BF16, False)]
# heads, KV heads, head_dim, type, causal, lengths of queries and keys
PACKED = [(16, 16, 128, BF16, True, (4096, 1024, 2048, 512, 3000, 777, 1500, 3427)),
          (32, 8, 128, BF16, False, (4096, 1024, 2048, 512, 3000, 777, 1500, 3427))]
DECODE = [(8, 32, 32, 32768, 128), (64, 32, 8, 8192, 128), (1, 32, 8, 131072, 128), (16, 64, 8, 16384, 64)]
STANDARD = [(1, 4, 16384, 128, False), (1, 4, 16384, 128, True), (1, 4, 16384, 64, False), (1, 4, 16384, 64, True)]
PREFILL_KERNELS = ["fa3", "fa2", "cudnn", "pytorch fa2"]  # the first two are ours


def copy_bandwidth():
    a = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    t = burst({"copy": lambda: b.copy_(a)}, 3)["copy"]
    read = a.view(torch.float32)
    r = burst({"read": lambda: read.sum()}, 3)["read"]
    return 2 * a.numel() / t / 1e9, a.numel() / r / 1e9  # TB/s


def works(run):
    """False when the backend does not take the shape."""
    try:
        run()
        torch.cuda.synchronize()
        return True
    except Exception:  # RuntimeError, and what a wrong number of arguments of an operator gives
        return False


def measure(shape, flops, runs, rounds, sensors):
    """A row of the prefill table: TFLOP/s of all runs, burst and, with sensors, sustained."""
    milliseconds = burst(runs, rounds)
    row = {"shape": shape, "burst_ms": milliseconds, "burst_tflops": {n: flops / t / 1e9 for n, t in milliseconds.items()}}
    if sensors:
        states = sustained(runs, sensors)
        tflops = {n: flops / s["ms"] / 1e9 for n, s in states.items()}
        row |= {"sustained_tflops": tflops, "sustained_mhz": {n: s["mhz"] for n, s in states.items()},
                "sustained_watts": {n: s["watts"] for n, s in states.items()},
                "sustained_tflops_per_ghz": {n: 1000 * tflops[n] / s["mhz"] if s["mhz"] else None
                                             for n, s in states.items()}}
    return row


def ratio(row, key, ours, theirs):
    values = row.get(key, {})
    return values[ours] / values[theirs] if ours in values and theirs in values else None


def digits(value, places=0):
    return "-" if value is None else f"{value:.{places}f}"


def prefill_cells(row):
    """The row as text: TFLOP/s burst (sustained) of each kernel, then ratios, then clock, power and TFLOP/s per GHz."""
    cells = [row["shape"]]
    of = lambda key, name: row.get(key, {}).get(name)
    for name in PREFILL_KERNELS:
        cells.append(digits(of("burst_tflops", name)) + (f" ({digits(of('sustained_tflops', name))})"
                                                         if "sustained_tflops" in row else ""))
    ours = next((name for name in PREFILL_KERNELS[:2] if name in row["burst_tflops"]), "fa2")
    for theirs in PREFILL_KERNELS[2:]:
        cells.append(digits(ratio(row, "burst_tflops", ours, theirs), 2) +
                     (f" ({digits(ratio(row, 'sustained_tflops', ours, theirs), 2)})" if "sustained_tflops" in row else ""))
    if "sustained_mhz" in row:
        cells += [" / ".join(digits(of(key, name), 0) for name in PREFILL_KERNELS)
                  for key in ("sustained_mhz", "sustained_watts", "sustained_tflops_per_ghz")]
    return cells


def prefill_header(sustain):
    state = "TFLOP/s, burst" + (" (sustained)" if sustain else "")
    header = [state, *PREFILL_KERNELS, "ours / cudnn", "ours / pytorch"]
    return header + ([f"{what} of {', '.join(PREFILL_KERNELS)}" for what in ("MHz", "W", "TFLOP/s per GHz")]
                     if sustain else [])


def bench_prefill(library, rounds, sensors):
    rows = []
    for batch, heads, heads_kv, seqlen, d, dtype, causal in PREFILL:
        sets = [inputs(batch, heads, heads_kv, seqlen, seqlen, d, dtype) for _ in range(2 if seqlen <= 4096 else 1)]
        ours = {name: [library.prepare(name, *s, causal=causal) for s in sets] for name in PREFILL_KERNELS[:2]}
        ours = {name: prepared for name, prepared in ours.items() if all(prepared)}
        runs = {name: rotate(prepared) for name, prepared in ours.items()}
        for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("pytorch fa2", SDPBackend.FLASH_ATTENTION)):
            run = rotate([torch_run(backend, *s, causal) for s in sets])
            if works(run):
                runs[name] = run
        flops = 4 * batch * heads * seqlen * seqlen * d * (0.5 if causal else 1)
        grouped = f"{heads}/{heads_kv}" if heads != heads_kv else heads
        shape = f"{batch} x {grouped} x {seqlen}, head_dim {d}, {str(dtype)[6:]}{', causal' if causal else ''}"
        row = measure(shape, flops, runs, rounds, sensors)
        expected = [torch_run(SDPBackend.FLASH_ATTENTION, *s, causal)() for s in sets]
        row["ok"] = all([check(f"{name}: {shape}", p.fresh(), e) for name, prepared in ours.items()
                         for p, e in zip(prepared, expected)])
        rows.append(row)
        print(" | ".join(prefill_cells(row)) + ("" if row["ok"] else " WRONG"), flush=True)
        del sets, ours, runs, expected
        torch.cuda.empty_cache()
    return rows


def bench_packed(library, rounds, sensors):
    """Sequences of several lengths in one tensor, beside PyTorch's operator for them."""
    rows = []
    for heads, heads_kv, d, dtype, causal, lengths in PACKED:
        starts = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
        normal = lambda heads: torch.randn(starts[-1], heads, d, device="cuda", dtype=dtype)
        q, k, v = normal(heads), normal(heads_kv), normal(heads_kv)
        cu = torch.tensor(starts, dtype=torch.int32, device="cuda")
        flash = lambda: torch.ops.aten._flash_attention_forward(q, k, v, cu, cu, max(lengths), max(lengths), 0.0, causal,
                                                                False)[0]
        runs = {"pytorch fa2": flash} if works(flash) else {}
        ours = library.prepare("fa3", q, k, v, causal=causal, starts=(starts, starts))
        if ours:
            runs = {"fa3": ours} | runs
        if not runs:
            continue
        flops = sum(4 * heads * n * n * d * (0.5 if causal else 1) for n in lengths)
        grouped = f"{heads}/{heads_kv}" if heads != heads_kv else heads
        shape = (f"{len(lengths)} packed x {grouped} x {min(lengths)} to {max(lengths)}, head_dim {d}, {str(dtype)[6:]}"
                 f"{', causal' if causal else ''}")
        row = measure(shape, flops, runs, rounds, sensors)
        row["lengths"] = lengths
        row["ok"] = True
        if ours:
            o = ours.fresh()
            for begin, end in zip(starts, starts[1:]):  # each alone
                alone = [x[begin:end].transpose(0, 1).unsqueeze(0) for x in (q, k, v)]
                expected = torch_run(SDPBackend.FLASH_ATTENTION, *alone, causal)()[0].transpose(0, 1)
                row["ok"] &= check(f"{shape}: rows {begin} to {end}", o[begin:end], expected)
        rows.append(row)
        print(" | ".join(prefill_cells(row)) + ("" if row["ok"] else " WRONG"), flush=True)
    return rows


def bench_decode(library, rounds, copy_tbs):
    rows = []
    for batch, heads, heads_kv, keys, d in DECODE:
        # As in a model with layers: a launch that finds in L2 what the one before left of the same keys is 2 % faster.
        sets = [inputs(batch, heads, heads_kv, 1, keys, d, BF16) for _ in range(3)]
        ours = {chunk: [library.prepare("split-kv", *s, chunk=chunk) for s in sets] for chunk in (1024, 2048, 4096)}
        runs = {f"split-kv {chunk}": rotate(prepared) for chunk, prepared in ours.items()}
        paged = [paginated(library, *s, 64) for s in sets]
        runs["paged 64"] = rotate(paged)
        runs["cudnn"] = rotate([torch_run(SDPBackend.CUDNN_ATTENTION, *s, False) for s in sets])
        runs["pytorch fa2"] = rotate([torch_run(SDPBackend.FLASH_ATTENTION, *s, False) for s in sets])
        milliseconds = burst(runs, rounds)
        kv_bytes = 2 * batch * heads_kv * keys * d * 2
        expected = [torch_run(SDPBackend.FLASH_ATTENTION, *s, False)() for s in sets]
        ok = all([check(f"decode {c}", p.fresh(), e) for c, l in ours.items() for p, e in zip(l, expected)] +
                 [check("paged", p.fresh(), e) for p, e in zip(paged, expected)] +
                 [torch.equal(o.o, p.o) for o, p in zip(ours[1024], paged)])
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
        launch = library.prepare("standard", q, k, v, fp32_scores=fp32_scores)
        milliseconds = burst({"standard": launch}, rounds)["standard"]
        moved = batch * heads * (seqlen * seqlen * (12 if fp32_scores else 8) + 4 * seqlen * d * 2)
        floor = moved / copy_tbs / 1e9
        ok = check("standard", launch.fresh(), torch_run(SDPBackend.FLASH_ATTENTION, q, k, v, False)())
        rows.append({"shape": f"{batch} x {heads} x {seqlen}, head_dim {d}, {'fp32' if fp32_scores else 'bf16'} scores",
                     "ms": milliseconds, "floor_ms": floor, "ratio": milliseconds / floor, "ok": ok})
        print(f"{rows[-1]['shape']:46} {milliseconds:.3f} ms, floor {floor:.3f} ms: {milliseconds / floor:.3f} "
              f"{'' if ok else 'WRONG'}", flush=True)
        del launch
        torch.cuda.empty_cache()
    return rows


def markdown(report, sustain):
    """The tables as README.md has them."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    table = lambda header, rows: [line(header), line(["---"] * len(header)), *map(line, rows), ""]
    text = [f"{report['gpu']}, {report['date']}, driver, power limit and highest clock {report['driver, power limit, highest SM clock']}; "
            f"CUDA {report['cuda']}, PyTorch {report['pytorch']}, cuDNN {report['cudnn']}; copy {report['copy_tb_per_second']:.2f} TB/s", ""]
    for key in ("prefill", "packed"):
        if report.get(key):
            text += table(prefill_header(sustain), [prefill_cells(row) for row in report[key]])
    if report.get("decode"):
        names = list(report["decode"][0]["burst_ms"])
        text += table(["decode, ms (TB/s of K and V)", *names, "cudnn / ours", "share of the copy"],
                      [[row["shape"], *(f"{row['burst_ms'][n]:.4f} ({row['tb_per_second'][n]:.2f})" for n in names),
                        f"{row['burst_ms']['cudnn'] / row['burst_ms']['split-kv 1024']:.3f}",
                        f"{100 * row['share_of_copy']['split-kv 1024']:.0f} %"] for row in report["decode"]])
    if report.get("standard"):
        text += table(["standard", "ms", "floor, ms", "ratio"],
                      [[row["shape"], f"{row['ms']:.3f}", f"{row['floor_ms']:.3f}", f"{row['ratio']:.3f}"]
                       for row in report["standard"]])
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/gpu/gpu/libbitflash_gpu_bench.so")
    parser.add_argument("--json", help="write everything here too")
    parser.add_argument("--markdown", help="write tables here too")
    parser.add_argument("--only", default="prefill,packed,decode,standard")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sustained", action="store_true", help="also one kernel for half a second (prefill)")
    arguments = parser.parse_args()
    library = Library(arguments.library)
    sensors = Sensors() if arguments.sustained else None
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
    # A kernel that faults takes the process with it: what was measured before is kept.
    def save():
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump(report, file, indent=1)
        if arguments.markdown:
            with open(arguments.markdown, "w") as file:
                file.write(markdown(report, arguments.sustained))

    sections = {"prefill": lambda: bench_prefill(library, arguments.rounds, sensors),
                "packed": lambda: bench_packed(library, arguments.rounds, sensors),
                "decode": lambda: bench_decode(library, arguments.rounds, copy),
                "standard": lambda: bench_standard(library, arguments.rounds, copy)}
    with torch.cuda.stream(library.stream), torch.inference_mode():
        if "prefill" in only or "packed" in only:
            print(" | ".join(prefill_header(arguments.sustained)))
        # What may fault last: packed sequences have more ways to.
        for name in sorted(set(only) & set(sections), key=["prefill", "decode", "standard", "packed"].index):
            report[name] = sections[name]()
            save()
    sys.exit(not all(row["ok"] for key in ("prefill", "packed", "decode", "standard") for row in report.get(key, [])))


if __name__ == "__main__":
    main()
