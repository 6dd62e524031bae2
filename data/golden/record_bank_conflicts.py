"""Records what shared memory does with the addresses of a warp: python3 data/golden/record_bank_conflicts.py

Runs gpu/probes/bank_conflict_probe under Nsight Compute: each of its patterns is a launch whose wavefronts and bank
conflicts are counted. Needs build/gpu/gpu/bank_conflict_probe (`. cmake/setup.sh; build gpu bank_conflict_probe`), ncu,
and Python's standard library; about two minutes. Writes bank_conflicts/GPU.csv and bank_conflicts/manifest.json, which
README.md describes. --from LOG assembles them again from what ncu has written, without a GPU.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import record_own  # noqa: E402  (beside this file)

HERE = record_own.HERE
ROOT = record_own.ROOT

# Column -> counter. What a GPU lacks is left out and named in the manifest. The counters of the hardware put ldmatrix
# under loads; those of the instrumented code (smsp__sass_) name instructions.
COUNTERS = {
    "wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
    "load_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "store_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum",
    "conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "load_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "store_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
    "async_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ldgsts.sum",
    "sass_ldsm_wavefronts": "smsp__sass_l1tex_data_pipe_lsu_wavefronts_mem_shared_op_ldsm.sum",
    "sass_stsm_wavefronts": "smsp__sass_l1tex_data_pipe_lsu_wavefronts_mem_shared_op_stsm.sum",
    "sass_ldgsts_wavefronts": "smsp__sass_l1tex_data_pipe_lsu_wavefronts_mem_shared_op_ldgsts.sum",
    "sass_ldsm_conflicts": "smsp__sass_l1tex_data_bank_conflicts_pipe_lsu_mem_shared_op_ldsm.sum",
    "sass_stsm_conflicts": "smsp__sass_l1tex_data_bank_conflicts_pipe_lsu_mem_shared_op_stsm.sum",
    "sass_ldgsts_conflicts": "smsp__sass_l1tex_data_bank_conflicts_pipe_lsu_mem_shared_op_ldgsts.sum",
}
PATTERN = ["instruction", "layout", "access", "rows", "columns", "element_bytes", "row", "column", "executions", "piece_bytes"]


def available(ncu):
    """Those of COUNTERS that ncu knows on this GPU."""
    known = set(re.findall(r"^\s*([a-z][a-z0-9_]*__[a-z0-9_]+)", record_own.output([ncu, "--query-metrics"]),
                           re.MULTILINE))
    return {column: name for column, name in COUNTERS.items() if name.split(".")[0] in known}


def run(ncu, probe, log):
    """Has ncu write its CSV to `log`."""
    subprocess.run([ncu, "--clock-control", "none", "--cache-control", "none", "--metrics",
                    ",".join(available(ncu).values()), "--csv", "--page", "raw", "--print-units", "base", "--log-file",
                    log, probe], check=True)


def assemble(patterns, log, path):
    """Writes the CSV beside `path`'s folder; returns the counters that it has."""
    with open(log) as file:
        lines = file.read().splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith('"ID"'))
    header, _, *rows = csv.reader(lines[begin:])  # the second row names the units
    if len(rows) != len(patterns):
        raise SystemExit(f"ncu saw {len(rows)} launches, the probe has {len(patterns)} patterns")
    counters = {column: name for column, name in COUNTERS.items() if name in header}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PATTERN, "pieces", *counters])
        for pattern, row in zip(patterns, rows):
            counted = dict(zip(header, row))
            piece = pattern["piece_bytes"]  # offsets are multiples of it
            pieces = " ".join("." if offset < 0 else str(offset // piece) for offset in pattern["offsets"])
            writer.writerow([*(pattern[key] for key in PATTERN), pieces,
                             *(counted[name].replace(",", "").split(".")[0] for name in counters.values())])
    return counters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(HERE, "bank_conflicts"), help="folder to write to")
    parser.add_argument("--probe", default=os.path.join(ROOT, "build", "gpu", "gpu", "bank_conflict_probe"),
                        help="the program (default: that of the preset gpu)")
    parser.add_argument("--from", dest="log", help="what ncu has written; with --device, needs no GPU")
    parser.add_argument("--device", help="JSON: what `device_facts` prints; default: it is run")
    parser.add_argument("--keep-log", help="where ncu is to write its CSV (default: beside the result, then removed)")
    arguments = parser.parse_args()
    if not os.access(arguments.probe, os.X_OK):
        raise SystemExit(f"{arguments.probe}: not there; build it with `. cmake/setup.sh; build gpu bank_conflict_probe`")
    os.makedirs(arguments.out, exist_ok=True)
    facts = os.path.join(os.path.dirname(arguments.probe), "device_facts")
    device = json.loads(open(arguments.device).read() if arguments.device else record_own.output([facts]))
    patterns = [json.loads(line) for line in record_own.output([arguments.probe, "--list"]).splitlines()]
    log = arguments.log or arguments.keep_log or os.path.join(arguments.out, "ncu.log")
    if not arguments.log:
        ncu = record_own.find_program("ncu", "/usr/local/cuda*/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu")
        if not ncu:
            raise SystemExit("Nsight Compute (ncu) is not installed")
        run(ncu, arguments.probe, log)
    name = device["gpu"].removeprefix("NVIDIA ").lower().replace(" ", "-") + ".csv"
    path = os.path.join(arguments.out, name)
    counters = assemble(patterns, log, path)
    if not arguments.log and not arguments.keep_log:
        os.remove(log)

    manifest_path = os.path.join(arguments.out, "manifest.json")
    files = {}
    if os.path.exists(manifest_path):
        with open(manifest_path) as file:
            files = json.load(file)["files"]
    files[name] = {"gpu": device["gpu"], "compute_capability": device["compute_capability"],
                   "driver": device["driver"], "cuda": device["cuda_runtime"], "date": device["date"],
                   "sha256": record_own.sha256(path), "bytes": os.path.getsize(path), "launches": len(patterns),
                   "counters": counters, "not_on_this_gpu": sorted(set(COUNTERS) - set(counters))}
    sources = [os.path.join(ROOT, "gpu", "probes", f"bank_conflict_{end}") for end in ("patterns.h", "probe.cu")]
    with open(manifest_path, "w") as file:
        json.dump({"schema": 1, "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
                   "command": "python3 data/golden/record_bank_conflicts.py",
                   "python": platform.python_version(),
                   # To be looked up; not compared with the tree: a comment is no reason to record again.
                   "sources": {os.path.relpath(source, ROOT): record_own.sha256(source) for source in sources},
                   "files": dict(sorted(files.items()))}, file, indent=2)
        file.write("\n")
    print(f"{path}: {len(patterns)} launches, {len(counters)} counters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
