#!/usr/bin/env python3
"""Times bitflash's CPU attention beside other libraries: one command, one run, paired.

Contestants take turns: every round times each of them once on a case, so that a change of clock or load meets all of
them. A cell shows the median over the rounds, in brackets the best, and the largest absolute error of sampled rows
against fp64. GFLOP/s count 4 heads seqlen_q seqlen_k head_dim, half of it under a causal mask, for everybody, also for
those that compute the hidden half; decode shows GB/s, each byte of K and V counted once. "of peak" is bitflash's median
share of the fp32 multiply-add peak (prefill) or of the fastest of some loops that only read the same bytes (decode),
measured in the same rounds, of each of our kernels in the table's order; bf16 on the tile unit can exceed 1. With
several threads, "cpu-simd alone" is what as many processes of one thread reach together at the same time, each on its
own problem of that shape: what the machine gives to threads that share nothing.

    reference/bench/peers.py --json peers.json

Contestants of the program: cpu-simd and cpu-amx-bf16, ours (packing K and V is timed); Eigen 3.4, not fused; oneDNN 2
where the build finds it (Debian 12: libdnnl-dev), not fused, no causal mask; ggml where the build is told of an
installed one (--ggml PREFIX), K and V in fp32, precision F32. PyTorch takes part when this Python can import
it: scaled_dot_product_attention on the CPU. What is missing is named and left out.
"""
import argparse
import glob
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time

OURS = ("cpu-simd", "cpu-amx-bf16")
ALONE = "cpu-simd alone"
BYTES = {"fp32": 4, "bf16": 2}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", help="the executable attention_peers (default: this checkout's, which is "
                        "built first, with packages installed as ./run.sh does)")
    parser.add_argument("--ggml", metavar="PREFIX", help="where a static ggml is installed, to be built in")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--parts", nargs="+", default=["fp32", "bf16", "decode"], choices=("fp32", "bf16", "decode"))
    parser.add_argument("--filter", default="", help="only cases whose printed name matches this regular expression")
    parser.add_argument("--cpus", help="processors to stay on, such as 2,4, or 'auto': those whose multiply-adds are "
                        "the least disturbed, which counts in a virtual machine (default: of different cores)")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--json", metavar="FILE", help="write every sample here")
    return checked(parser, parser.parse_args())


def checked(parser, arguments):
    """The arguments, or an error before anything is built or measured."""
    if arguments.ggml and not os.path.isdir(arguments.ggml):
        parser.error(f"--ggml: '{arguments.ggml}' is no folder")
    if arguments.ggml and arguments.program:
        parser.error("--ggml contradicts a program that is built: expected one of them")
    if arguments.program and not (os.path.isfile(arguments.program) and os.access(arguments.program, os.X_OK)):
        parser.error(f"'{arguments.program}' is no executable: expected attention_peers, or nothing, to have it built")
    allowed = os.sched_getaffinity(0)
    arguments.threads = arguments.threads or [n for n in (1, 2) if n <= len(allowed)]
    if arguments.rounds < 1 or min(arguments.threads) < 1:
        parser.error("--rounds and --threads: expected numbers from 1")
    if max(arguments.threads) > len(allowed):
        parser.error(f"--threads {max(arguments.threads)}: expected at most {len(allowed)}, the processors there are")
    if arguments.cpus and arguments.cpus != "auto":
        words = arguments.cpus.split(",")
        if not all(word.isdecimal() and int(word) in allowed for word in words):
            parser.error(f"--cpus {arguments.cpus}: expected numbers such as 0,1 among {sorted(allowed)}")
    try:
        re.compile(arguments.filter)
    except re.error as error:
        parser.error(f"--filter '{arguments.filter}' is no regular expression: {error}")
    if arguments.json:
        folder = os.path.dirname(os.path.abspath(arguments.json))
        if os.path.isdir(arguments.json) or not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            parser.error(f"--json: '{arguments.json}' cannot be written")
    if not make_cases(arguments):
        parser.error(f"--filter '{arguments.filter}' leaves no case of {', '.join(arguments.parts)}")
    arguments.program = arguments.program or built(arguments.ggml)
    return arguments


def built(ggml):
    """The program of this checkout."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    script = """set -euo pipefail
        . cmake/setup.sh
        prepare
        require libbenchmark-dev libdnnl-dev
        mkdir -p build
        [[ -z $1 ]] || logged build/ggml.log cmake --preset bench -DBITFLASH_GGML="$1"
        build bench attention_peers"""
    done = subprocess.run(["bash", "-c", script, "build", os.path.abspath(ggml) if ggml else ""], cwd=root, check=False)
    if done.returncode != 0:
        sys.exit("peers.py: attention_peers could not be built")
    return os.path.join(root, "build/bench/reference/attention_peers")


def separate_cores(count):
    """Processors that share no core: from the end, because interrupts tend to be served by the first, and three apart,
    because a virtual machine may hide that neighbours, or those half the machine apart, are threads of one core."""
    allowed, seen, chosen = sorted(os.sched_getaffinity(0), reverse=True), set(), []
    for cpu in allowed[::3] + allowed:
        paths = glob.glob(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = open(paths[0], encoding="utf-8").read().strip() if paths else str(cpu)
        if core not in seen and cpu not in chosen:
            seen.add(core)
            chosen.append(cpu)
    return chosen[:count]


def quietest_cores(path, count):
    """The processors with the highest peak of multiply-adds, medians of some turns, that keep it while those already
    chosen compute too: threads of one core, which a virtual machine may hide, do not."""
    programs = [Program(path) for _ in range(count)]

    def peaks(cpus, turns=5):
        samples = []
        for program, cpu in zip(programs, cpus):
            os.sched_setaffinity(program.process.pid, {cpu})
        for _ in range(turns):
            for program in programs[:len(cpus)]:
                program.tell("peak 1")
            samples.append([float(program.answer("rate")[0]) for program in programs[:len(cpus)]])
        return [statistics.median(column) for column in zip(*samples)]

    alone = {cpu: peaks([cpu])[0] for cpu in sorted(os.sched_getaffinity(0))}
    ranking = sorted(alone, key=lambda cpu: -alone[cpu])
    print("fp32 multiply-adds, GFLOP/s on processor: " + ", ".join(f"{cpu}: {alone[cpu]:.0f}" for cpu in ranking))
    chosen = ranking[:1]
    for cpu in ranking[1:]:
        if len(chosen) < count and min(peaks([*chosen, cpu])) > 0.8 * alone[cpu]:
            chosen.append(cpu)
    for program in programs:
        program.stop()
    return chosen + [cpu for cpu in ranking if cpu not in chosen][:count - len(chosen)]


def processor():
    text = open("/proc/cpuinfo", encoding="utf-8").read()
    name = re.search(r"model name\s*: (.*)", text)
    features = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{f}\b", text)]
    return (name.group(1) if name else "unknown processor") + " with " + ", ".join(features or ["no AVX2"])


def make_cases(arguments):
    cases = []

    def add(part, dtype, heads_q, heads_kv, seqlen_q, seqlen_k, head_dim, mask, threads):
        shown = f"{part} {dtype}" if part == "decode" else part
        name = f"{shown} {heads_q}/{heads_kv} d={head_dim} {seqlen_k} {mask} {threads}T"
        if part in arguments.parts and re.search(arguments.filter, name):
            cases.append({"name": name, "part": part, "type": dtype, "heads_q": heads_q, "heads_kv": heads_kv,
                          "seqlen_q": seqlen_q, "seqlen_k": seqlen_k, "head_dim": head_dim, "mask": mask,
                          "threads": threads})

    for threads in arguments.threads:
        for dtype in ("fp32", "bf16"):
            for head_dim in (64, 128):
                for seqlen in (1024, 4096):
                    for mask in ("full", "causal"):
                        add(dtype, dtype, 8, 8, seqlen, seqlen, head_dim, mask, threads)
        for dtype in ("fp32", "bf16"):
            for heads_q in (8, 32):
                for head_dim in (64, 128):
                    for mebibytes in (64, 512):  # of K and V
                        seqlen = mebibytes * 2**20 // (2 * 8 * head_dim * BYTES[dtype])
                        add("decode", dtype, heads_q, 8, 1, seqlen, head_dim, "full", threads)
    return cases


class Program:
    """The executable, asked line by line."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line):
        self.line = line
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self, answer):
        words = self.process.stdout.readline().split()
        if not words or words[0] != answer:
            sys.exit(f"attention_peers answered '{' '.join(words)}' to '{self.line}'")
        return words[1:]

    def ask(self, line, answer):
        self.tell(line)
        return self.answer(answer)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class Torch:
    def __init__(self, torch):
        self.torch = torch
        self.name = f"PyTorch-{torch.__version__.split('+')[0]}"

    def prepare(self, case):
        torch = self.torch
        torch.set_num_threads(case["threads"])
        torch.manual_seed(1)
        dtype = torch.bfloat16 if case["type"] == "bf16" else torch.float32
        d, shape_kv = case["head_dim"], (1, case["heads_kv"], case["seqlen_k"], case["head_dim"])
        self.q = torch.randn(1, case["heads_q"], case["seqlen_q"], d).to(dtype)
        self.k, self.v = torch.randn(shape_kv).to(dtype), torch.randn(shape_kv).to(dtype)
        self.options = {"is_causal": case["mask"] == "causal"}
        if case["heads_q"] != case["heads_kv"]:
            self.options["enable_gqa"] = True
        self.case = case
        self.run()

    def run(self):
        with self.torch.no_grad():
            self.o = self.torch.nn.functional.scaled_dot_product_attention(self.q, self.k, self.v, **self.options)

    def milliseconds(self):
        start, runs = time.perf_counter(), 0
        while runs == 0 or time.perf_counter() - start < 0.03:
            self.run()
            runs += 1
        return 1e3 * (time.perf_counter() - start) / runs

    def error(self):
        torch, case, worst = self.torch, self.case, 0.0
        group = case["heads_q"] // case["heads_kv"]
        for h in (0, case["heads_q"] - 1):
            k, v = self.k[0, h // group].double(), self.v[0, h // group].double()
            for i in {0, case["seqlen_q"] // 2, case["seqlen_q"] - 1}:
                s = k @ self.q[0, h, i].double() / math.sqrt(case["head_dim"])
                if case["mask"] == "causal":
                    s[i + 1:] = -math.inf
                worst = max(worst, (torch.softmax(s, 0) @ v - self.o[0, h, i].double()).abs().max().item())
        return worst


def bytes_read(case):
    """Of K and V, each once."""
    return 2 * BYTES[case["type"]] * case["heads_kv"] * case["seqlen_k"] * case["head_dim"]


def rate(case, milliseconds):
    elements = case["heads_q"] * case["seqlen_q"] * case["seqlen_k"] * case["head_dim"]
    if case["part"] == "decode":
        return bytes_read(case) / milliseconds * 1e-6
    return 4.0 * elements * (0.5 if case["mask"] == "causal" else 1) / milliseconds * 1e-6


def measure(case, program, loners, torch, rounds):
    """The case with the rates and errors of every contestant, and the limit's rates. `loners`: programs that each stay
    on a processor of their own."""
    line = "case {type} {heads_q} {heads_kv} {seqlen_q} {seqlen_k} {head_dim} {mask} "
    ready = program.ask((line + "{threads}").format(**case), "ready")
    loners = loners[:case["threads"]] if case["threads"] > 1 and case["part"] == "fp32" else []
    for loner in loners:
        loner.ask((line + "1").format(**case), "ready")
    if torch:
        torch.prepare(case)
    limit = f"read {bytes_read(case)} {case['threads']}" if case["part"] == "decode" else f"peak {case['threads']}"
    rates, limits = {}, []

    def settle():
        # OpenMP's idle threads spin for some 10 ms, of one process on the processors of the other.
        time.sleep(0.04 if (torch or loners) and case["threads"] > 1 else 0)

    for _ in range(rounds):
        settle()
        limits.append(float(program.ask(limit, "rate")[0]))
        for name in ready:
            rates.setdefault(name, []).append(rate(case, float(program.ask(f"run {name}", "ms")[0])))
        if loners:
            settle()
            for loner in loners:
                loner.tell(f"run {OURS[0]}")
            rates.setdefault(ALONE, []).append(sum(rate(case, float(loner.answer("ms")[0])) for loner in loners))
        if torch:
            settle()
            rates.setdefault(torch.name, []).append(rate(case, torch.milliseconds()))
    errors = {name: float(program.ask(f"error {name}", "error")[0]) for name in ready}
    if torch:
        errors[torch.name] = torch.error()
    return {**case, "limit": limits, "rates": rates, "errors": errors}


def table(part, results, contestants):
    unit = "decode, GB/s of K and V" if part == "decode" else f"prefill {part}, GFLOP/s"
    shown = [name for name in contestants if any(name in r["rates"] for r in results)]
    rows = [[unit, *shown, "limit", "of peak" if part != "decode" else "of reading"]]
    for r in results:
        cells = [r["name"]]
        for name in shown:
            rates = r["rates"].get(name)
            error = f" {r['errors'][name]:.0e}" if name in r["errors"] else ""
            cells.append(f"{statistics.median(rates):.0f} ({max(rates):.0f}){error}" if rates else "-")
        shares = [f"{statistics.median(a / b for a, b in zip(r['rates'][name], r['limit'])):.2f}"
                  for name in OURS if name in r["rates"]]
        rows.append([*cells, f"{statistics.median(r['limit']):.0f}", " ".join(shares)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]).rstrip())
    print(flush=True)


def main():
    arguments = parse_arguments()
    if arguments.cpus == "auto":
        cpus = quietest_cores(arguments.program, max(arguments.threads))
    else:
        cpus = ([int(cpu) for cpu in arguments.cpus.split(",")] if arguments.cpus
                else separate_cores(max(arguments.threads)))
    os.sched_setaffinity(0, cpus)
    torch = None
    if not arguments.no_torch:
        try:
            import torch as module
            torch = Torch(module)
        except (ImportError, AttributeError):
            print("PyTorch is left out: this Python cannot import it", file=sys.stderr)
    program = Program(arguments.program)
    loners = [Program(arguments.program) for _ in cpus if max(arguments.threads) > 1]
    for loner, cpu in zip(loners, cpus):
        os.sched_setaffinity(loner.process.pid, {cpu})
    contestants = program.ask("peers", "peers") + ([torch.name] if torch else []) + ([ALONE] if loners else [])
    print(f"{processor()}; on processors {','.join(map(str, cpus))}; {arguments.rounds} rounds; load "
          f"{os.getloadavg()[0]:.1f}")
    peaks = {n: max(float(program.ask(f"peak {n}", "rate")[0]) for _ in range(3)) for n in arguments.threads}
    print("fp32 multiply-adds: " + ", ".join(f"{peak:.0f} GFLOP/s on {n} thread(s)" for n, peak in peaks.items()))
    print("median (best) error", flush=True)
    everything = []
    for part in arguments.parts:
        results = []
        for case in make_cases(arguments):
            if case["part"] == part:
                results.append(measure(case, program, loners, torch, arguments.rounds))
        if results:
            table(part, results, contestants)
        everything += results
        if arguments.json:  # after every part: a run that is cut off has written what it measured
            with open(arguments.json, "w", encoding="utf-8") as file:
                json.dump({"processor": processor(), "cpus": cpus, "load": os.getloadavg(), "peaks": peaks,
                           "contestants": contestants, "cases": everything}, file, indent=1)


if __name__ == "__main__":
    main()
