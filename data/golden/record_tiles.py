"""Records when every query tile of a launch ends: python3 data/golden/record_tiles.py --out FOLDER

Needs PyTorch with CUDA and build/gpu/gpu/libtile_watch.so (gpu/probes/tile_watch.cc says how it sees them); a quarter of
a minute on an H100. Writes FOLDER/GPU_tiles.csv, one row for each head of a launch: `tile_rows` rows of queries end at
each of `ends_us`, microseconds after the stream came to the launch. `launch_us` is when the stream had passed it.
Sizes as in l2_cases.txt; data/golden/l2 holds the recording, sim/l2/tiles_test.cc plays it.

With build/gpu/gpu/libbitflash_gpu_bench.so also GPU_scores.csv: how long the tiles of S take that each persistent block
of our scores kernel writes, of one query over 131072 keys. S, 8 MiB, is the host's for that.
"""

import argparse
import csv
import ctypes
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# kernel, batch, heads_q, heads_kv, seqlen_q, seqlen_k, head_dim, mask
CASES = [
    ("cudnn", 1, 8, 4, 57344, 57344, 64, "full"),
    ("cudnn", 1, 8, 8, 32768, 32768, 128, "full"),
    ("cudnn", 1, 16, 16, 10000, 10000, 128, "full"),
    ("cudnn", 1, 4, 4, 65536, 65536, 128, "causal"),
    ("cudnn", 1, 32, 8, 8192, 8192, 128, "causal"),
    ("pytorch-fa2", 1, 16, 16, 10000, 10000, 128, "full"),
    ("pytorch-fa2", 1, 4, 4, 40960, 40960, 128, "causal"),
    ("pytorch-fa2", 4, 32, 32, 2048, 2048, 128, "causal"),
]
TILE_ROWS = 128
THREADS = 6  # that look; more than the CPU has would look seldom
FLUSH_BYTES = 1 << 28


class Watch:
    def __init__(self, torch, path):
        self.library = ctypes.CDLL(path)
        allocator = torch.cuda.memory.CUDAPluggableAllocator(path, "tile_watch_allocate", "tile_watch_free")
        torch.cuda.memory.change_current_allocator(allocator)

    def size(self, size):
        if self.library.tile_watch_size(ctypes.c_int64(size)):
            raise SystemExit("tile_watch_size failed")

    def launch(self, torch, call, words):
        """Nanoseconds since the stream came to the launch: of every word, and of the launch's end."""
        array = ctypes.c_int64 * len(words)
        if not self.library.tile_watch_begin(array(*words), ctypes.c_int64(len(words)), THREADS):
            raise SystemExit("no log-sum-exps of the expected size were allocated")
        time.sleep(0.002)  # for the threads to start
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self.library.tile_watch_mark(ctypes.c_int64(0), stream)
        kept = call()
        self.library.tile_watch_mark(ctypes.c_int64(1), stream)
        torch.cuda.synchronize()
        time.sleep(0.002)
        seen = (ctypes.c_int64 * (len(words) + 2))()
        self.library.tile_watch_end(seen)
        del kept
        if 0 in seen:
            raise SystemExit(f"{list(seen).count(0)} tiles of {len(words)} were not seen")
        return [t - seen[-2] for t in seen[:-2]], seen[-1] - seen[-2]


def record(torch, watch, case):
    """Columns and rows of one case."""
    kernel, batch, heads_q, heads_kv, seqlen_q, seqlen_k, head_dim, mask = case
    torch.manual_seed(1)
    q, k, v = (torch.randn((batch, heads, rows, head_dim), device="cuda", dtype=torch.bfloat16)
               for heads, rows in ((heads_q, seqlen_q), (heads_kv, seqlen_k), (heads_kv, seqlen_k)))
    flush = torch.zeros(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")
    causal = mask == "causal"
    if kernel == "cudnn":
        call = lambda: torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, False)
    else:
        call = lambda: torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False)
    watch.size(4 * batch * heads_q * seqlen_q)
    call()  # plans, allocations
    words = [head * seqlen_q + row for head in range(batch * heads_q) for row in range(0, seqlen_q, TILE_ROWS)]
    rows = []
    for run in range(2):  # the first one warms up
        int(flush.sum())
        torch.cuda.synchronize()
        ends, launch = watch.launch(torch, call, words)
    tiles = len(words) // (batch * heads_q)
    name = f"b{batch}_h{heads_q}-{heads_kv}_s{seqlen_q}x{seqlen_k}_d{head_dim}_bf16_{mask}"
    for head in range(batch * heads_q):
        of_head = ends[head * tiles:(head + 1) * tiles]
        rows.append([kernel, name, batch, heads_q, heads_kv, seqlen_q, seqlen_k, head_dim, "bf16", mask, TILE_ROWS,
                     f"{launch / 1e3:.1f}", head, " ".join(f"{t / 1e3:.1f}" for t in of_head)])
    return rows


def record_scores(torch, watch, library):
    """Microseconds for each of a block's tiles, by block."""
    import record_l2
    case = record_l2.Case("standard", "1 32/8 1x131072 128 bf16 full".split())
    q, k, v = (torch.randn((1, heads, rows, case.head_dim), device="cuda", dtype=torch.bfloat16)
               for heads, rows in ((case.heads_q, 1), (case.heads_kv, case.seqlen_k), (case.heads_kv, case.seqlen_k)))
    # own_call makes its workspace, in which S comes first, in the same way; its size is not known before.
    watch.size(-1)
    sizes = []
    allocate, torch.zeros = torch.zeros, lambda *a, **b: sizes.append(a[0]) or allocate(*a, **b)
    record_l2.own_call(torch, library, case, q, k, v)
    watch.size(next(size for size in sizes if isinstance(size, int)))
    call = record_l2.own_call(torch, library, case, q, k, v)
    torch.zeros = allocate
    tiles = case.seqlen_k // TILE_ROWS
    words = [(head * case.seqlen_k + tile * TILE_ROWS) // 2 for head in range(case.heads_q) for tile in range(tiles)]
    for run in range(2):  # the first one warms up
        ends, _ = watch.launch(torch, call, words)
    blocks = torch.cuda.get_device_properties(0).multi_processor_count
    rounds = len(words) // blocks
    return [(ends[(rounds - 1) * blocks + n] - ends[5 * blocks + n]) / (rounds - 6) / 1e3 for n in range(blocks)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(HERE, "l2"), help="folder to write to")
    parser.add_argument("--library", default=os.path.join(ROOT, "build/gpu/gpu/libtile_watch.so"))
    parser.add_argument("--bench", default=os.path.join(ROOT, "build/gpu/gpu/libbitflash_gpu_bench.so"))
    arguments = parser.parse_args()
    import torch
    watch = Watch(torch, arguments.library)
    rows = []
    for case in CASES:
        rows += record(torch, watch, case)
    gpu = torch.cuda.get_device_name().removeprefix("NVIDIA ").lower().replace(" ", "-")
    with open(os.path.join(arguments.out, f"{gpu}_tiles.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kernel", "case", "batch", "heads_q", "heads_kv", "seqlen_q", "seqlen_k", "head_dim", "dtype",
                         "mask", "tile_rows", "launch_us", "head", "ends_us"])
        writer.writerows(rows)
    if os.path.exists(arguments.bench):
        bench = ctypes.CDLL(arguments.bench)
        bench.bitflash_bench_workspace_bytes.restype = ctypes.c_int64
        with open(os.path.join(arguments.out, f"{gpu}_scores.csv"), "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["block", "us_per_tile"])
            writer.writerows([n, f"{us:.3f}"] for n, us in enumerate(record_scores(torch, watch, bench)))
    print(f"{len(CASES)} launches, {sum(len(row[-1].split()) for row in rows)} tiles", flush=True)


if __name__ == "__main__":
    main()
