#!/usr/bin/env python3
"""Which L2 capacity explains a curve of miss rates over working sets that all SMs read in lock step.

MISS_RATE tabulates what share of its lines a pass over W bytes must fetch from DRAM again, for an L2 of capacity C in
one or two partitions. Two partitions: every line has a home, and SMs of the other one keep a copy in theirs, so a set
that all read takes twice its size. 16 ways; replaced is any line that was not used recently. The policy is a
hypothesis: of those tried it follows the public curves of A100 and H100 best, within 0.035 (RRZE-HPC/gpu-benches,
gpu-l2-cache; there one SM reads a line in a pass). A fit with a larger mean error than LARGEST_ERROR says that it does
not hold here. One partition: least recently used within interleaved sets, as the curve of an L40 shows.

  python3 gpu/probes/l2_fit.py     simulates the two partitions again and prints their row (a minute)
"""

import random

LARGEST_ERROR = 0.05
PASSES = 5  # as memory_probe --working-sets
WAYS = 16

MISS_RATE = {
    2: [
        (0.20, 0.000), (0.25, 0.003), (0.30, 0.012), (0.35, 0.037), (0.40, 0.096), (0.45, 0.166),
        (0.50, 0.276), (0.55, 0.395), (0.60, 0.520), (0.65, 0.625), (0.70, 0.722), (0.75, 0.793),
        (0.80, 0.855), (0.85, 0.904), (0.90, 0.936), (0.95, 0.959), (1.00, 0.975), (1.10, 0.992),
        (1.20, 0.997), (1.30, 0.999), (1.40, 1.000),
    ],
    1: [(0.93, 0.0), (1.02, 0.15), (1.12, 0.63), (1.23, 0.89), (1.35, 0.99), (1.5, 1.0)],
}  # fmt: skip


def mixed(x):
    """64 bits that look random, from an integer (SplitMix64)."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


class Partition:
    def __init__(self, sets, rng):
        self.sets = [{} for _ in range(sets)]  # line -> was it used recently
        self.rng = rng

    def hit(self, line):
        """Whether `line` was there; now it is."""
        ways = self.sets[mixed(line) % len(self.sets)]
        found = line in ways
        if not found and len(ways) == WAYS:
            del ways[self.rng.choice([other for other, used in ways.items() if not used])]
        ways[line] = True
        if len(ways) == WAYS and all(ways.values()):
            for other in ways:
                ways[other] = other == line
        return found


def simulate(ratio, seed, sets=512):
    """The miss rate of W / C = ratio with two partitions."""
    rng = random.Random(seed)
    partitions = [Partition(sets // 2, rng) for _ in range(2)]
    lines = round(ratio * sets * WAYS)
    home = [rng.randrange(2) for _ in range(lines)]
    misses = 0
    for number in range(PASSES):
        if number == 1:
            misses = 0
        for line in range(lines):
            for side in rng.sample(range(2), 2):
                name = 2 * (line + seed * lines)
                if side != home[line] and partitions[side].hit(name + 1):  # a copy
                    continue
                misses += not partitions[home[line]].hit(name)
    return misses / lines / (PASSES - 1)


def miss_rate(ratio, partitions):
    """m(W / C), interpolated."""
    table = MISS_RATE[partitions]
    if ratio <= table[0][0]:
        return table[0][1]
    for (x0, y0), (x1, y1) in zip(table, table[1:]):
        if ratio <= x1:
            return y0 + (y1 - y0) * (ratio - x0) / (x1 - x0)
    return 1.0


def fit_capacity(points, l2_bytes, partitions):
    """(capacity, mean absolute error) over (set_bytes, observed miss rate) points; None without points in the knee."""
    knee = [(size, observed) for size, observed in points if 0.02 < observed < 0.98]
    if len(knee) < 2:
        return None
    best = None
    for step in range(100, 257):
        capacity = l2_bytes * step // 256
        error = sum(abs(miss_rate(size / capacity, partitions) - observed) for size, observed in knee) / len(knee)
        if best is None or error < best[1]:
            best = (capacity, error)
    return best


def largest_that_stays(points, share=0.05):
    """Size of the largest set up to which fewer than `share` of the lines are fetched again in every pass, or None."""
    largest = None
    for size, observed in sorted(points):
        if observed >= share:
            break
        largest = size
    return largest


def main():
    for ratio in [0.2 + 0.05 * i for i in range(17)] + [1.1, 1.2, 1.3, 1.4]:
        print(f"({ratio:.2f}, {sum(simulate(ratio, seed) for seed in range(3)) / 3:.3f}), ", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
