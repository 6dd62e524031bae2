"""Times single launches of the CUDA kernels of gpu/ with Nsight Compute: python3 data/golden/record_time.py

Needs build/gpu/gpu/gpu_record, as record_own.py does, and ncu. Clocks are as the GPU chooses them, and L2 is empty before
every launch. Writes time/GPU.csv, one row a launch, and time/manifest.json.
"""

import argparse
import datetime
import json
import os
import sys

import record_own

CASES = os.path.join(record_own.HERE, "time_cases.txt")
COUNTERS = {
    "time_ns": ["gpu__time_duration.sum"],
    "cycles": ["sm__cycles_elapsed.max"],
    "dram_read_bytes": ["dram__bytes_read.sum"],
    "dram_write_bytes": ["dram__bytes_write.sum"],
    "xbar_read_bytes": ["l1tex__m_xbar2l1tex_read_bytes.sum"],
    "registers": ["launch__registers_per_thread"],
    "smem_dynamic": ["launch__shared_mem_per_block_dynamic"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(record_own.HERE, "time"), help="folder to write to")
    parser.add_argument("--gpu-record", default=os.path.join(record_own.ROOT, "build", "gpu", "gpu", "gpu_record"))
    arguments = parser.parse_args()
    ncu = record_own.find_program("ncu", "/usr/local/cuda*/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu")
    if not ncu:
        raise SystemExit("Nsight Compute (ncu) is not installed")
    device = json.loads(record_own.output([arguments.gpu_record, "--device"]))
    gpu = device["name"].removeprefix("NVIDIA ").lower().replace(" ", "-")
    os.makedirs(arguments.out, exist_ok=True)
    path = os.path.join(arguments.out, f"{gpu}.csv")
    record_own.CASES, record_own.COUNTERS = CASES, COUNTERS
    nsight = record_own.profile(arguments.gpu_record, ncu, path)
    nsight["command"] = "ncu --clock-control none --metrics <counters> gpu_record time_cases.txt --profile"
    manifest = {"schema": 1,
                "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
                "command": "python3 data/golden/record_time.py",
                "gpu": {key: device[key] for key in ("name", "compute_capability", "multiprocessors")},
                "driver": device["driver"],
                "nsight": nsight,
                "scripts": {name: record_own.sha256(os.path.join(record_own.HERE, name))
                            for name in ("record_time.py", "time_cases.txt")},
                "files": {os.path.basename(path): {"sha256": record_own.sha256(path), "bytes": os.path.getsize(path)}}}
    with open(os.path.join(arguments.out, "manifest.json"), "w") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
