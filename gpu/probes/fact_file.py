"""From the JSON of the probes to a GPU fact file (data/gpus/README.md) and to verdicts on what the project claims."""

import math
import re

import l2_fit

# Compute capability -> L2 partitions, where published: NVIDIA staff on the developer forum, threads 361731 (GH100,
# GB100) and 228015 (GA100); one elsewhere, as the curve of an L40 shows (RRZE-HPC/gpu-benches, gpu-l2-cache/l40.txt).
PUBLISHED_PARTITIONS = {"8.0": 2, "8.6": 1, "8.9": 1, "9.0": 2, "10.0": 2, "10.3": 2, "12.0": 1}
SMALL_SET = 0.2  # of the L2: fits into each half


# What sim/l2 takes beside the capacity; fitted by hand, see sim/l2/README.md.
L2_MODEL = ("l2_lru_bytes", "l2_ways", "l2_dirty_bytes", "l2_dirty_at_start_bytes", "launch_dram_bytes")

def rounded(value, digits=5):
    """`value` with so many significant digits, or None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def name_of(gpu):
    """A name that a fact file may have: "NVIDIA H200" -> "nvidia-h200"."""
    return re.sub(r"[^a-z0-9.]+", "-", gpu.lower()).strip("-") or "gpu"


def partitions_of(outputs):
    """(partitions or None, source)."""
    curve = outputs.get("l2_counters", {}).get("curve", [])
    device = outputs["device_facts"]
    small = [p for p in curve if p["set_bytes"] <= 0.4 * device["l2_bytes"] and "fabric_bytes" in p]
    if small:
        share = sum(p["fabric_bytes"] / p["set_bytes"] for p in small) / len(small)
        return (
            2 if share > 0.5 else 1
        ), f"counted: a shared set crosses the fabric {share:.2f} times (1: two partitions)"
    capability = device["compute_capability"]
    if capability in PUBLISHED_PARTITIONS:
        return (
            PUBLISHED_PARTITIONS[capability],
            f"published for compute capability {capability}; not counted here (no ncu)",
        )
    return None, f"nothing is published for compute capability {capability}, and nothing was counted (no ncu)"


def capacity_of(outputs):
    """{"bytes" or None, "mean_error", "text"} of the L2, or None: nothing was counted, or no set is in the knee."""
    l2_bytes, partitions = outputs["device_facts"]["l2_bytes"], partitions_of(outputs)[0]
    points = [(p["set_bytes"], p["miss_rate"]) for p in outputs.get("l2_counters", {}).get("curve", [])]
    fit = l2_fit.fit_capacity(points, l2_bytes, min(partitions, 2)) if partitions is not None else None
    if fit is None:
        return None
    text = f"DRAM bytes counted by Nsight Compute, mean error {fit[1]:.3f} in the miss rate (gpu/probes/l2_fit.py)"
    stays = l2_fit.largest_that_stays(points)
    if stays is not None:
        text += f"; sets that all SMs read stay up to {stays / 2**20:.1f} MiB (less than 5 % of the lines come again)"
    if fit[1] > l2_fit.LARGEST_ERROR:
        return {"bytes": None, "mean_error": fit[1], "text": f"no capacity explains the {text}"}
    return {"bytes": fit[0], "mean_error": fit[1], "text": text}


class Facts:
    """Collects {"value", "source"} in the order of the file."""

    def __init__(self, outputs):
        self.outputs = outputs
        self.device = outputs["device_facts"]
        self.file = {"name": name_of(self.device["gpu"]), "title": self.device["gpu"]}

    def by(self, probe):
        found = self.outputs.get(probe, self.device)
        return f"gpu/probes/{probe}, {found.get('gpu', self.device['gpu'])}, {found.get('date', self.device['date'])}"

    def add(self, field, value, source):
        self.file[field] = {"value": value, "source": source, "checked_by": ""}

    def from_device(self, field, key=None):
        driver = self.device.get("driver", "")
        self.add(field, self.device[key or field], self.by("device_facts") + (f", driver {driver}" if driver else ""))

    def memory(self, *path):
        """A number of memory_probe's JSON, or None."""
        found = self.outputs.get("memory_probe", {})
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def measured(self, field, value, what):
        known = rounded(value) if value is not None else None
        self.add(field, known, f"{self.by('memory_probe')}: {what}" if known is not None else f"not measured: {what}")


def data_sheet_bandwidth(facts):
    device = facts.device
    formula = device["memory_bus_bits"] / 8 * device["memory_clock_khz"] * 1e3 * 2
    rates = [facts.memory(f"dram_{kind}_bytes_per_second") for kind in ("read", "write", "copy", "memcpy")]
    best = max((rate for rate in rates if rate is not None), default=None)
    if formula > 0 and (best is None or best <= formula <= 3 * best):
        text = f"bus of {device['memory_bus_bits']} bit x {device['memory_clock_khz'] / 1e3:g} MHz x 2, no data sheet"
        return rounded(formula), f"{facts.by('device_facts')}: {text}"
    return rounded(best), f"{facts.by('memory_probe')}: the best of read, write and copies, no data sheet"


def flops(facts, key):
    """FLOP/s = SMs x FLOP per clock and SM x SM clock meanwhile, or None."""
    per_clock, clock = facts.memory(key, "per_clock_sm"), facts.memory(key, "clock_hz")
    if per_clock is None or clock is None:
        return None
    return facts.device["sms"] * per_clock * clock


def assemble(outputs):
    """(the fact file as a dict, required fields that have no value)."""
    facts = Facts(outputs)
    facts.from_device("arch")
    facts.from_device("sms")
    key = max(("wgmma_bf16", "mma_sync_bf16"), key=lambda k: flops(facts, k) or 0)
    clock = facts.memory(key, "clock_hz")
    facts.measured("clock_mhz", clock / 1e6 if clock else None, f"SM clock during {key} (burst of milliseconds)")
    facts.add("hbm_bytes_per_second", *data_sheet_bandwidth(facts))
    facts.measured(
        "hbm_read_bytes_per_second",
        facts.memory("dram_read_bytes_per_second"),
        "read-only kernel, buffer far larger than L2",
    )
    facts.from_device("hbm_bytes", "memory_bytes")
    facts.from_device("l2_bytes")
    capacity, (partitions, partitions_source) = capacity_of(outputs), partitions_of(outputs)
    if capacity:
        facts.add("l2_bytes_effective", capacity["bytes"], f"{facts.by('memory_probe')}: {capacity['text']}")
    else:
        facts.add("l2_bytes_effective", None, "not measured: it takes Nsight Compute's counters (l2_counters.py)")
    facts.add("l2_partitions", partitions, f"{facts.by('device_facts')}: {partitions_source}")
    for field in L2_MODEL:
        facts.add(field, None, "not measured: it takes a fit to Nsight Compute's counters (data/golden/record_l2.py)")
    facts.measured(
        "l2_read_bytes_per_second",
        facts.memory("l2_own", "plateau_bytes_per_second"),
        "plateau of working sets that each SM has to itself (reads in lock step are merged before L2)",
    )
    for field in ("shared_bytes_per_sm", "shared_bytes_per_block", "shared_bytes_reserved", "registers_per_sm"):
        facts.from_device(field)
    facts.add("registers_per_thread", 255, "CUDA Programming Guide: 255 for every compute capability from 5.0 on")
    for field in ("threads_per_sm", "threads_per_block", "blocks_per_sm"):
        facts.from_device(field)
    product = "SMs x FLOP per clock and SM x SM clock, all measured"
    facts.measured("tensor_16bit_flops", flops(facts, key), f"{key}: {product}")
    facts.measured(
        "tensor_8bit_flops", flops(facts, "wgmma_e4m3"), f"wgmma_e4m3 (code for sm_90a alone has it): {product}"
    )
    facts.measured("fp32_flops", flops(facts, "fp32"), f"fused multiply-adds: {product}")
    facts.measured(
        "mufu_per_clock_sm", facts.memory("special_functions", "per_clock_sm"), "ex2.approx, clocks of the SM"
    )
    facts.measured(
        "shared_bytes_per_clock_sm", facts.memory("shared_memory", "per_clock_sm"), "ld.shared.v4, clocks of the SM"
    )
    optional = {
        "hbm_read_bytes_per_second",
        "l2_bytes_effective",
        "l2_partitions",
        *L2_MODEL,
        "l2_read_bytes_per_second",
        "tensor_8bit_flops",
    }
    missing = [k for k, v in facts.file.items() if isinstance(v, dict) and v["value"] is None and k not in optional]
    return facts.file, missing


def claims(outputs, facts):
    """[{"claim", "verdict", "found"}]: what numerics and traffic model say, and whether this GPU agrees."""
    found = []

    def add(claim, holds, text):
        verdict = {True: "holds", False: "DIFFERS", None: "open"}[holds]
        found.append({"claim": claim, "verdict": verdict, "found": text})

    for row in outputs.get("tensor_core_probe", {}).get("instructions", []):
        compared = sum(s["outputs"] for s in row["settings"])
        wrong = {s["setting"]: s["mismatches"] for s in row["settings"] if s["mismatches"]}
        text = f"{sum(wrong.values())} of {compared} outputs differ from {row['known']}"
        if wrong:
            text += f" ({', '.join(f'{k}: {v}' for k, v in wrong.items())}); fits: {row['fits']}"
            if row["fits"] == "none":
                text += f", the best candidate leaves {row['best_mismatches']}: {row['best']}"
        add(row["instruction"], not wrong, text)
        expected = row["expected"]
        other = [f"{k} {row['measured'][k]}, not {v}" for k, v in expected.items() if row["measured"][k] != v]
        text = "; ".join(other) or ", ".join(f"{k} {v}" for k, v in expected.items())
        add(f"{row['instruction']}, experiment by experiment", not other, text)
        wrong = [f"{c['case']}: {c['hardware']}, not {c['rule']}" for c in row["corners"] if c["hardware"] != c["rule"]]
        add(f"{row['instruction']}, {len(row['corners'])} corners", not wrong, "; ".join(wrong) or "as the rule says")
    for name, reason in outputs.get("tensor_core_probe", {}).get("skipped", {}).items():
        add(name, None, f"not asked: {reason}")
    for name, verdict in outputs.get("sfu_probe", {}).get("verdicts", {}).items():
        add(f"{name}, all 2^32 inputs", verdict == "equal", f"{verdict} (data/golden/sfu_hashes.json)")
    curve = outputs.get("l2_counters", {}).get("curve", [])
    for point in curve:
        size = point["set_bytes"]
        if size > SMALL_SET * outputs["device_facts"]["l2_bytes"]:
            break
        mib = size / 2**20
        if "fabric_bytes" in point:
            share = point["fabric_bytes"] / size
            add(f"a shared set of {mib:.0f} MiB crosses the L2 fabric once", 0.9 < share < 1.15, f"{share:.3f} times")
        read = point["dram_read_bytes"] / size
        claim = f"a shared set of {mib:.0f} MiB is read from DRAM once in {point['passes']} passes"
        add(claim, 0.98 < read < 1.05, f"{read:.3f} times")
        if "sm_read_bytes" in point:
            share = point["sm_read_bytes"] / point["requested_bytes"]
            add(
                "l1tex__m_xbar2l1tex_read_bytes counts what the SMs ask for",
                abs(share - 1) < 1e-3,
                f"{share:.5f} of it",
            )
    capacity = capacity_of(outputs)
    if capacity:
        best = capacity["bytes"]
        size = f"{best / 2**20:.1f} of {outputs['device_facts']['l2_bytes'] / 2**20:.1f} MiB: " if best else ""
        add(
            f"the cache model of l2_fit.py follows the curve (mean error at most {l2_fit.LARGEST_ERROR})",
            best is not None,
            size + capacity["text"],
        )
    return found


def counters_text(counters):
    """The counters for people."""
    if "skipped" in counters:
        return f"   skipped: {counters['skipped']}"
    lines = [
        "   set MiB   DRAM read MiB   misses in a later pass   fabric/set   L2 reads/requested   SM reads/requested"
    ]
    for p in counters["curve"]:
        cells = [p.get("fabric_bytes"), p.get("l2_read_bytes"), p.get("sm_read_bytes")]
        shares = [
            c / d if c is not None else math.nan
            for c, d in zip(cells, (p["set_bytes"], p["requested_bytes"], p["requested_bytes"]))
        ]
        lines.append(
            f"   {p['set_bytes'] / 2**20:7.1f} {p['dram_read_bytes'] / 2**20:15.1f} {p['miss_rate']:24.4f} "
            f"{shares[0]:12.3f} {shares[1]:20.4f} {shares[2]:20.5f}"
        )
    return "\n".join(lines)
