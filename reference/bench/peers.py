#!/usr/bin/env python3
"""Times bitflash's CPU attention beside other libraries: one command, one run, paired.

Every round times each contestant once on each case, one after the other, so that a change of clock or load meets all
of them; the table shows medians over the rounds and, in brackets, the best. GFLOP/s count 4 heads seqlen^2 head_dim,
half of it under a causal mask, for everybody; decode counts each byte of K and V once. The share is of the fp32
multiply-add peak (prefill) or of a loop that only reads (decode), measured in the same rounds.

    cmake --preset bench && cmake --build --preset bench --target reference_bench
    reference/bench/peers.py build/bench/reference/reference_bench --threads 1 --json peers.json

Eigen is compiled into the benchmark. PyTorch takes part when this Python can import it. oneDNN takes part when
--onednn names its benchdnn; ggml when --ggml names its test-backend-ops: each is asked for its own timing of the same
shape (ggml: flash attention; benchdnn: the two products without the softmax, so an upper bound of its attention).
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

HEADS = 8


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", help="the executable reference_bench")
    parser.add_argument("--threads", type=int, default=1, choices=(1, 2))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--filter", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--cpu-time", action="store_true",
                        help="divide by the process's CPU time: for one thread on a machine that others use too")
    parser.add_argument("--onednn", metavar="BENCHDNN", help="oneDNN's benchdnn")
    parser.add_argument("--ggml", metavar="TEST_BACKEND_OPS", help="ggml's test-backend-ops")
    parser.add_argument("--json", metavar="FILE", help="write every sample here")
    arguments = parser.parse_args()
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time counts one thread: expected --threads 1")
    return arguments


def own_benchmark(arguments, names):
    """One sample of each of reference_bench's benchmarks: {name: rate}."""
    pattern = "^(" + "|".join(re.escape(name).replace(r"\ ", " ") for name in names) + ")/"
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads))
    done = subprocess.run([arguments.bench, f"--benchmark_filter={pattern}", "--benchmark_min_time=0.1",
                           "--benchmark_format=json"], env=environment, check=True, capture_output=True, text=True)
    rates = {}
    for entry in json.loads(done.stdout)["benchmarks"]:
        name = entry["name"].removesuffix("/real_time")
        rate = entry.get("GFLOP/s", entry.get("GB/s"))
        rates[name] = rate * entry["real_time"] / entry["cpu_time"] if arguments.cpu_time else rate
    return rates


def flops(case):
    return 4 * HEADS * case["s"] ** 2 * case["d"] * (0.5 if case["causal"] else 1)


class Torch:
    def __init__(self, torch, arguments):
        self.torch, self.clock = torch, time.process_time if arguments.cpu_time else time.perf_counter
        torch.set_num_threads(arguments.threads)
        self.name = f"PyTorch {torch.__version__}"

    def gflops(self, case):
        torch = self.torch
        q, k, v = (torch.randn(1, HEADS, case["s"], case["d"]) for _ in range(3))
        attention = torch.nn.functional.scaled_dot_product_attention
        with torch.no_grad():
            attention(q, k, v, is_causal=case["causal"])
            start = self.clock()
            attention(q, k, v, is_causal=case["causal"])
            return flops(case) / (self.clock() - start) * 1e-9


class OneDnn:
    name = "oneDNN products only"

    def __init__(self, arguments):
        self.benchdnn = arguments.onednn
        self.environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads))

    def gflops(self, case):
        if case["causal"]:
            return None  # computes the whole product
        s, d = case["s"], case["d"]
        milliseconds = 0
        for shape in (f"{HEADS}x{s}x{d}:{HEADS}x{d}x{s}", f"{HEADS}x{s}x{s}:{HEADS}x{s}x{d}"):
            done = subprocess.run([self.benchdnn, "--matmul", "--mode=P", "--dt=f32", "--perf-template=%-time%", shape],
                                  env=self.environment, check=True, capture_output=True, text=True)
            milliseconds += float(re.search(r"^\s*([0-9.eE+-]+)\s*$", done.stdout, re.M).group(1))
        return flops(case) / milliseconds * 1e-6


class Ggml:
    name = "ggml"

    def __init__(self, arguments):
        self.program, self.threads = arguments.ggml, arguments.threads
        self.samples = None

    def gflops(self, case):
        if case["causal"]:
            return None  # its performance cases have no causal mask
        environment = dict(os.environ, GGML_N_THREADS=str(self.threads))
        done = subprocess.run([self.program, "perf", "-o", "FLASH_ATTN_EXT", "-b", "CPU"], env=environment, check=True,
                              capture_output=True, text=True)
        for line in done.stdout.splitlines():
            sizes = dict(re.findall(r"(\w+)=(\w+)", line))
            same = (sizes.get("hsk", sizes.get("hs")) == str(case["d"]) and sizes.get("kv") == str(case["s"]) and
                    sizes.get("nb") == str(case["s"]) and sizes.get("nh") == str(HEADS))
            rate = re.search(r"([0-9.]+) ([GT])FLOPS", line)
            if same and rate:
                return float(rate.group(1)) * (1000 if rate.group(2) == "T" else 1)
        return None


def main():
    arguments = parse_arguments()
    suffix = f"/threads={arguments.threads}"
    listed = subprocess.run([arguments.bench, "--benchmark_list_tests=true"], check=True, capture_output=True,
                            text=True).stdout.splitlines()
    names = [name.removesuffix("/real_time") for name in listed]
    cases = {}
    for name in names:
        match = re.fullmatch(r"prefill fp32(/d=(\d+)/s=(\d+)/(full|causal))" + suffix, name)
        if match and re.search(arguments.filter, name):
            cases[match.group(1)] = {"d": int(match.group(2)), "s": int(match.group(3)),
                                     "causal": match.group(4) == "causal"}
    decodes = [n for n in names if n.startswith("decode ") and n.endswith(suffix) and re.search(arguments.filter, n)]

    peers = []
    try:
        import torch
        peers.append(Torch(torch, arguments))
    except (ImportError, AttributeError):
        print("PyTorch cannot be imported: left out", file=sys.stderr)
    if arguments.onednn:
        peers.append(OneDnn(arguments))
    if arguments.ggml:
        peers.append(Ggml(arguments))

    samples = {}  # (case, contestant) -> rates

    def add(case, contestant, rate):
        if rate is not None:
            samples.setdefault((case, contestant), []).append(rate)

    load_before = os.getloadavg()
    for _ in range(arguments.rounds):
        for shape, case in cases.items():
            ours, eigen, peak = f"prefill fp32{shape}{suffix}", f"Eigen fp32{shape}{suffix}", f"peak fp32 FMA{suffix}"
            rates = own_benchmark(arguments, [peak, ours, eigen])
            add(shape, "limit", rates[peak])
            add(shape, "bitflash", rates[ours])
            add(shape, "Eigen", rates[eigen])
            for peer in peers:
                add(shape, peer.name, peer.gflops(case))
        for name in decodes:
            read = "read/" + re.search(r"MiB=\d+", name).group(0) + suffix
            rates = own_benchmark(arguments, [read, name])
            add(name, "limit", rates[read])
            add(name, "bitflash", rates[name])

    contestants = ["limit", "bitflash", "Eigen"] + [peer.name for peer in peers]
    print(f"{arguments.threads} thread(s), {arguments.rounds} rounds, load {load_before[0]:.1f} before and "
          f"{os.getloadavg()[0]:.1f} after" + (", rates by CPU time" if arguments.cpu_time else ""))
    print("median (best): prefill GFLOP/s, decode GB/s; share: bitflash / limit, median of the rounds' ratios")
    width = max(len(name) for name in [*cases, *decodes, "case"])
    print(f"{'case':{width}}" + "".join(f"{name:>22}" for name in contestants) + f"{'share':>8}")
    for name in [*cases, *decodes]:
        line = f"{name:{width}}"
        for contestant in contestants:
            rates = samples.get((name, contestant))
            line += f"{f'{statistics.median(rates):.1f} ({max(rates):.1f})' if rates else '-':>22}"
        ratios = [a / b for a, b in zip(samples[name, "bitflash"], samples[name, "limit"])]
        print(line + f"{statistics.median(ratios):8.2f}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"threads": arguments.threads, "cpu_time": arguments.cpu_time, "load_before": load_before,
                       "load_after": os.getloadavg(),
                       "samples": [{"case": case, "contestant": contestant, "rates": rates}
                                   for (case, contestant), rates in samples.items()]}, file, indent=1)


if __name__ == "__main__":
    main()
