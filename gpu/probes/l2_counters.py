#!/usr/bin/env python3
"""How much of a working set that all SMs read stays in L2, counted by Nsight Compute instead of inferred from time.

Runs memory_probe --working-sets under ncu: in each launch all SMs read the whole set, pass after pass in lock step. In
the first pass every line comes from DRAM once; of the others the share of the lines that comes from DRAM again is the
miss rate m = (DRAM bytes - set) / ((passes - 1) * set), from 0 for sets that stay to 1 for sets that never do.
l2_bytes_effective is what explains m over all sizes (l2_fit.py). Bytes over the fabric between the halves of the L2
tell the number of partitions: with two, a small set crosses once (each half fetches the lines that belong to the
other); with one there is no such traffic.

  python3 gpu/probes/l2_counters.py build/gpu/gpu/memory_probe [--l2-bytes N]     prints JSON

Counters need permission (NVreg_RestrictProfilingToAdminUsers=0 or root); without it the JSON has "skipped".
"""

import argparse
import csv
import glob
import json
import os
import shutil
import subprocess
import tempfile

DRAM_READ = "dram__bytes_read.sum"
DRAM_WRITE = "dram__bytes_write.sum"
L2_READ_SECTORS = "lts__t_sectors_op_read.sum"
FABRIC_SECTORS = "lts__t_sectors_srcunit_ltcfabric.sum"
SM_READ = "l1tex__m_xbar2l1tex_read_bytes.sum"
# The first set that ncu knows on this GPU is taken: fabric counters exist where the L2 has partitions, and the DRAM
# counters of compute capability 10 have other names.
METRIC_SETS = [
    [DRAM_READ, DRAM_WRITE, L2_READ_SECTORS, FABRIC_SECTORS, SM_READ],
    [DRAM_READ, DRAM_WRITE, L2_READ_SECTORS, SM_READ],
    ["dram__bytes_op_read.sum", "dram__bytes_op_write.sum", L2_READ_SECTORS, SM_READ],
]
SECTOR_BYTES = 32
MIB = 1 << 20


def find_ncu():
    """Path of ncu, or None."""
    found = shutil.which("ncu")
    if found:
        return found
    for pattern in ("/usr/local/cuda/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu"):
        for path in sorted(glob.glob(pattern), reverse=True):
            if os.access(path, os.X_OK):
                return path
    return None


def sizes_mib(l2_bytes):
    """Fourteen sets from a sixth of the L2 to twice it, most of them around the knees of one and two partitions."""
    twelfths = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24)
    return [max(1, round(l2_bytes * share / 12 / MIB)) for share in twelfths]


def parse_raw_csv(text):
    """One dict of metric name -> number per profiled launch, from `ncu --csv --page raw --print-units base`."""
    lines = text.splitlines()
    header = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if header is None:
        return []
    rows = list(csv.reader(lines[header:]))
    launches = []
    for row in rows[1:]:
        if len(row) != len(rows[0]) or not row[0].isdigit():  # the row of units, messages
            continue
        launch = {}
        for name, value in zip(rows[0], row):
            try:
                launch[name] = float(value.replace(",", ""))
            except ValueError:
                pass
        launches.append(launch)
    return launches


def summarize(launches, counters):
    """The curve: what the launches asked for beside what was counted."""
    curve = []
    for asked, counted in zip(launches, counters):
        dram_read = counted.get(DRAM_READ, counted.get("dram__bytes_op_read.sum"))
        if dram_read is None:
            continue
        point = {
            "set_bytes": asked["set_bytes"],
            "passes": asked["passes"],
            "requested_bytes": asked["requested_bytes"],
            "dram_read_bytes": dram_read,
            "dram_write_bytes": counted.get(DRAM_WRITE, counted.get("dram__bytes_op_write.sum")),
            "miss_rate": max(0.0, dram_read / asked["set_bytes"] - 1) / (asked["passes"] - 1),
        }
        if L2_READ_SECTORS in counted:
            point["l2_read_bytes"] = counted[L2_READ_SECTORS] * SECTOR_BYTES
        if FABRIC_SECTORS in counted:
            point["fabric_bytes"] = counted[FABRIC_SECTORS] * SECTOR_BYTES
        if SM_READ in counted:
            point["sm_read_bytes"] = counted[SM_READ]
        curve.append(point)
    return curve


def measure(memory_probe, l2_bytes, timeout_s=60):
    """The JSON of this step: {"curve": [...]} or {"skipped": why}."""
    ncu = find_ncu()
    if ncu is None:
        return {"skipped": "ncu (Nsight Compute) was not found"}
    sizes = ",".join(str(size) for size in sizes_mib(l2_bytes))
    why = ""
    for metrics in METRIC_SETS:
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "ncu.csv")
            command = [
                ncu,
                "--clock-control",
                "none",
                "--csv",
                "--page",
                "raw",
                "--print-units",
                "base",
                "--log-file",
                log,
            ]
            command += ["--kernel-name", "regex:ReadSharedSet", "--metrics", ",".join(metrics)]
            try:
                done = subprocess.run(
                    command + [memory_probe, "--working-sets", sizes],
                    capture_output=True,
                    text=True,
                    timeout=timeout_s,
                )
            except subprocess.TimeoutExpired:
                return {"skipped": f"ncu took longer than {timeout_s} s"}
            text = ""
            if os.path.exists(log):
                with open(log, encoding="utf-8", errors="replace") as file:
                    text = file.read()
        launches = []
        if "{" in done.stdout:
            launches = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])["launches"]
        curve = summarize(launches, parse_raw_csv(text))
        if curve and len(curve) == len(launches):
            return {"ncu": ncu, "metrics": metrics, "curve": curve}
        messages = [
            line for line in (text + done.stderr).splitlines() if "ERR" in line or "rror" in line or "ailed" in line
        ]
        why = (
            "; ".join(messages[:3])
            or f"ncu gave {len(curve)} of {len(launches)} launches (exit code {done.returncode})"
        )
        if "ERR_NVGPUCTRPERM" in text + done.stderr:
            return {
                "skipped": "no permission to read counters (ERR_NVGPUCTRPERM): run as root, or allow it in the driver"
            }
    return {"skipped": why}


def main():
    parser = argparse.ArgumentParser(description="L2 capacity from Nsight Compute counters")
    parser.add_argument("memory_probe", help="path of the built memory_probe")
    parser.add_argument("--l2-bytes", type=int, default=60 * MIB, help="L2 size that the device reports")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.memory_probe, arguments.l2_bytes), indent=2))


if __name__ == "__main__":
    main()
