"""Records further problems with record_pytorch.py's own code, chosen after the simulator was finished: a check that the
recipes hold on what they have never seen. Writes into after/ beside this script, with a manifest of its own.

    python3 data/golden/record_after.py [--out FOLDER]
"""

import argparse
import json
import os

import torch

import cases
import hash_normal
import record_pytorch

# Columns as in cases.py.
AFTER = """
1 20/4  704x704   128 bf16 full
1 36/12 450x450   128 fp16 causal
1 44/4  390x390   64  bf16 causal
2 18/6  512x900   64  fp16 full     0.07
1 26/2  650x650   96  bf16 causal
1 30/10 555x555   112 fp16 full
1 22/11 666x444   128 bf16 full
1 32/4  515x515   192 bf16 causal   0.09
1 28/7  590x590   256 fp16 full
1 34/2  470x470   40  bf16 full
1 9/3   1024x1024 128 bf16 causal
1 3/1   801x1602  64  bf16 full
1 7/7   129x1999  128 fp16 full
1 4/4   257x257   224 bf16 causal
1 56/8  1x6001    128 bf16 full
2 20/5  1x3333    64  fp16 full
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(record_pytorch.HERE, "after"), help="folder to write to")
    arguments = parser.parse_args()
    hash_normal.self_check()
    torch.backends.cuda.matmul.allow_tf32 = False
    os.makedirs(arguments.out, exist_ok=True)
    files = []
    with torch.inference_mode():
        for name in list(record_pytorch.backends())[:2]:  # pytorch-fa2 and cuDNN
            files += record_pytorch.record_list(name, "held-out", list(cases._parse(AFTER, 70000, False)), arguments.out)
    manifest = record_pytorch.manifest(files)
    manifest["command"] = "python3 data/golden/record_after.py"
    manifest["scripts"]["record_after.py"] = record_pytorch.sha256(os.path.abspath(__file__))
    with open(os.path.join(arguments.out, "manifest.json"), "w") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
