"""Times single launches over few query rows with Nsight Compute: python3 data/golden/record_rows.py

What time_cases.txt lacks: standard attention whose tiles are mostly padding, and FlashAttention-2's combine kernel. The
list is time_rows_cases.txt. Needs PyTorch with CUDA, ncu and build/gpu/gpu/libbitflash_gpu_bench.so, ten seconds. Clocks
are as the GPU chooses them, and L2 is empty before every launch. Writes time/GPU_rows.csv.
"""

import argparse
import os
import sys

import record_l2

record_l2.CASES = os.path.join(record_l2.HERE, "time_rows_cases.txt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(record_l2.HERE, "time"), help="folder to write to")
    parser.add_argument("--library", default=os.path.join(record_l2.ROOT, "build/gpu/gpu/libbitflash_gpu_bench.so"))
    parser.add_argument("--launch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.launch:
        record_l2.launch("cold", arguments.library, "")
        return
    import torch
    gpu = torch.cuda.get_device_name().removeprefix("NVIDIA ").lower().replace(" ", "-")
    command = [sys.executable, os.path.abspath(__file__), "--library", arguments.library, "--launch"]
    printed, rows, _ = record_l2.profile(record_l2.ONE_PASS, ["--profile-from-start", "off", "--cache-control", "all"],
                                         command, 100)
    record_l2.write_calls(os.path.join(arguments.out, f"{gpu}_rows.csv"), record_l2.ONE_PASS, printed, rows)


if __name__ == "__main__":
    sys.exit(main())
