"""Which L2 capacity explains a curve of miss rates over working sets that all SMs read.

MISS_RATE tabulates the miss rate of a cyclic scan of W bytes through an L2 of capacity C, read by the SMs of all
partitions. Two partitions: lines that both read are kept twice, replacement takes what was not recently used, 16 ways;
the values come from a simulation of that cache (mean of three seeds, spread 0.02). One partition: least recently used
within interleaved sets. The policy is a hypothesis, chosen because it follows the public curves of A100 and H100
(RRZE-HPC/gpu-benches, gpu-l2-cache) within 0.035; a fit with a larger mean error says that it does not hold here.
"""

MISS_RATE = {
    2: [
        (0.35, 0.0), (0.40, 0.015), (0.45, 0.037), (0.50, 0.060), (0.55, 0.101), (0.60, 0.151), (0.65, 0.193),
        (0.70, 0.270), (0.75, 0.340), (0.80, 0.426), (0.85, 0.505), (0.90, 0.597), (0.95, 0.651), (1.00, 0.731),
        (1.05, 0.780), (1.10, 0.832), (1.20, 0.905), (1.30, 0.951), (1.40, 0.969), (1.60, 0.994), (2.00, 1.0),
    ],
    1: [(0.93, 0.0), (1.02, 0.15), (1.12, 0.63), (1.23, 0.89), (1.35, 0.99), (1.5, 1.0)],
}  # fmt: skip


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


def misses_from_bandwidth(curve, plateau, asymptote):
    """(set_bytes, miss rate) from times: below the plateau DRAM is the limit, so the rate is asymptote / bandwidth."""
    return [
        (point["set_bytes"], min(1.0, asymptote / point["bytes_per_second"]))
        for point in curve
        if point["bytes_per_second"] < 0.9 * plateau
    ]
