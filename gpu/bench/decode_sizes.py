#!/usr/bin/env python3
"""Times decoding over the sizes that people have, beside cuDNN, PyTorch's FlashAttention-2 and what a plain copy moves.

    python3 gpu/bench/decode_sizes.py [--markdown FILE] [--library FILE]

A few query rows against long caches: batch, lengths, heads a KV head, queries (1: decoding; more: speculative or multi-token
decoding, no mask) and pages. One process, runs in shuffled turns (timing.py) on several inputs, as launches of different
layers are. Outputs are checked against PyTorch's.
"""
import argparse
import math
import sys
import time

import torch
from torch.nn.attention import SDPBackend

from bench import check, copy_bandwidth, inputs, paginated, torch_run, works
from library import Library
from timing import burst, rotate

# batch, query heads, KV heads, queries, keys, head_dim
SIZES = (
    [(batch, 32, 8, 1, 1024, 128) for batch in (1, 16, 64, 256)] +
    [(batch, 32, 8, 1, 4096, 128) for batch in (1, 4, 16, 64, 256)] +
    [(batch, 32, 8, 1, 16384, 128) for batch in (1, 2, 8, 32)] +
    [(batch, 32, 8, 1, 131072, 128) for batch in (1, 4)] +
    [(32, 32, 8, 1, 1000, 128), (32, 32, 8, 1, 5000, 128), (16, 32, 32, 1, 4096, 128)] +
    [(16, 32, 8, queries, 8192, 128) for queries in (2, 4, 8, 16)] +
    [(16, 64, 8, queries, 8192, 128) for queries in (1, 4, 8, 16)] +
    [(16, 32, 1, queries, 16384, 128) for queries in (1, 2, 4)] +
    [(32, 64, 8, queries, 8192, 64) for queries in (1, 4, 16)] +
    [(16, 16, 8, queries, 8192, 256) for queries in (1, 4, 16)])
PAGES = (16, 64, 128)
APART = 200e6  # bytes of inputs in turn, so that no launch finds its own in L2


def measure(library, size, rounds, copy_tbs):
    batch, heads, heads_kv, queries, keys, d = size
    moved = 2 * batch * d * (2 * heads_kv * keys + 2 * heads * queries)
    count = max(2, min(32, math.ceil(APART / moved)))
    sets = [inputs(batch, heads, heads_kv, queries, keys, d, torch.bfloat16) for _ in range(count)]
    ours = {"ours": [library.prepare("split-kv", *s) for s in sets]}
    ours |= {f"pages of {page}": [paginated(library, *s, page) for s in sets] for page in PAGES}
    ours = {name: prepared for name, prepared in ours.items() if all(prepared)}
    runs = {name: rotate(prepared) for name, prepared in ours.items()}
    for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("pytorch fa2", SDPBackend.FLASH_ATTENTION)):
        run = rotate([torch_run(backend, *s, False) for s in sets])
        if works(run):
            runs[name] = run
    microseconds = {name: 1000 * t for name, t in burst(runs, rounds, budget_ms=4, pause=0.02).items()}
    expected = [torch_run(SDPBackend.FLASH_ATTENTION, *s, False)() for s in sets[:2]]
    ok = all([check(f"{name} of {size}", run.fresh(), e) for name, prepared in ours.items()
              for run, e in zip(prepared, expected)])
    return microseconds, moved / copy_tbs / 1e6, ok


def cells(size, microseconds, floor):
    batch, heads, heads_kv, queries, keys, d = size
    of = lambda name: f"{microseconds[name]:.1f}" if name in microseconds else "-"
    ratio = lambda name: f"{microseconds[name] / microseconds['ours']:.2f}" if name in microseconds else "-"
    return [f"{batch} x {heads}/{heads_kv} x {queries} x {keys}, {d}", of("ours"), *(of(f"pages of {p}") for p in PAGES),
            of("cudnn"), of("pytorch fa2"), ratio("cudnn"), ratio("pytorch fa2"), f"{100 * floor / microseconds['ours']:.0f} %"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/gpu/gpu/libbitflash_gpu_bench.so")
    parser.add_argument("--markdown", help="write the table here too")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    library = Library(arguments.library)
    copy, _ = copy_bandwidth()
    line = lambda cells: "| " + " | ".join(cells) + " |"
    header = ["sequences x heads x queries x keys, head_dim", "ours, us", *(f"pages of {p}" for p in PAGES), "cudnn", "pytorch fa2",
              "cudnn / ours", "pytorch / ours", "share of the copy"]
    text = [f"{torch.cuda.get_device_name()}, {time.strftime('%Y-%m-%d')}, PyTorch {torch.__version__}, cuDNN "
            f"{torch.backends.cudnn.version()}; bf16; copy {copy:.2f} TB/s", "", line(header), line(["---"] * len(header))]
    print("\n".join(text), flush=True)
    all_ok = True
    with torch.cuda.stream(library.stream), torch.inference_mode():
        for size in SIZES:
            microseconds, floor, ok = measure(library, size, arguments.rounds, copy)
            all_ok &= ok
            text.append(line(cells(size, microseconds, floor)))
            print(text[-1] + ("" if ok else " WRONG"), flush=True)
            torch.cuda.empty_cache()
    if arguments.markdown:
        with open(arguments.markdown, "w") as file:
            file.write("\n".join(text) + "\n")
    sys.exit(not all_ok)


if __name__ == "__main__":
    main()
