"""Records the output bits of PyTorch's attention kernels on this machine's GPU: python3 data/golden/record_pytorch.py

Needs torch and numpy, an NVIDIA GPU, some minutes. README.md describes the files that it writes. Nothing is written
for a case unless its output is attention: sampled rows are compared with fp64.
"""

import argparse
import collections
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

import cases
import hash_normal

HERE = os.path.dirname(os.path.abspath(__file__))
ATEN = torch.ops.aten
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def flash(q, k, v, causal, scale, lse):
    return ATEN._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)[:2]


def cudnn(q, k, v, causal, scale, lse):
    return ATEN._scaled_dot_product_cudnn_attention(q, k, v, None, lse, 0.0, causal, False, scale=scale)[:2]


def efficient(q, k, v, causal, scale, lse):
    return ATEN._scaled_dot_product_efficient_attention(q, k, v, None, lse, 0.0, causal, scale=scale)[:2]


def cudnn_version():
    v = torch.backends.cudnn.version()  # 9.19.0 is 91900
    return f"{v // 10000}.{v // 100 % 100}.{v % 100}"


def backends():
    """Name -> (operator, SDPA backend, how K and V reach it when query heads share them: the first that works)."""
    major, minor = torch.cuda.get_device_capability()
    cudnn_name = f"cudnn-{'.'.join(cudnn_version().split('.')[:2])}-sm{major}{minor}"
    return {"pytorch-fa2": (flash, SDPBackend.FLASH_ATTENTION, ["native", "expanded"]),
            cudnn_name: (cudnn, SDPBackend.CUDNN_ATTENTION, ["native", "expanded"]),
            "pytorch-memeff": (efficient, SDPBackend.EFFICIENT_ATTENTION, ["expanded"])}


def inputs(case):
    shapes = [(case.batch, heads, seqlen, case.head_dim) for heads, seqlen in
              ((case.heads_q, case.seqlen_q), (case.heads_kv, case.seqlen_k), (case.heads_kv, case.seqlen_k))]
    return [torch.from_numpy(hash_normal.hash_normal(case.seed + t, shape)).cuda().to(DTYPES[case.format])
            for t, shape in enumerate(shapes)]


def bits(tensor):
    """A contiguous copy of the bits, as unsigned integers of the element's size."""
    signed, unsigned = {2: (torch.int16, np.uint16), 4: (torch.int32, np.uint32)}[tensor.element_size()]
    return tensor.contiguous().view(signed).cpu().numpy().view(unsigned)


def run(function, case):
    """Bits of O [batch * heads_q, seqlen_q, head_dim] and LSE [batch * heads_q, seqlen_q], None if there is no LSE."""
    o, lse = function()
    heads = (case.batch, case.heads_q)
    assert o.shape == (*heads, case.seqlen_q, case.head_dim), o.shape
    o = bits(o).reshape(-1, case.seqlen_q, case.head_dim)
    if lse is None or lse.numel() == 0:
        return o, None
    # Some operators add a dimension at the end or round the rows up to their tile.
    lse = lse.squeeze(-1) if lse.dim() == 4 else lse
    assert lse.dtype == torch.float32 and lse.shape[:2] == heads and lse.shape[2] >= case.seqlen_q, lse.shape
    return o, bits(lse[:, :, : case.seqlen_q]).reshape(-1, case.seqlen_q)


def launches(function):
    """The kernels that one call launches, in order: [[name, grid, block], ...]."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        function()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        profiler.export_chrome_trace(path)
        with open(path) as file:
            events = json.load(file)["traceEvents"]
    kernels = sorted((e for e in events if e.get("cat") == "kernel"), key=lambda e: e["ts"])
    return [[e["name"], e["args"]["grid"], e["args"]["block"]] for e in kernels]


def visible(mask, case, rows):
    i = torch.tensor(rows, device="cuda")[:, None]
    j = torch.arange(case.seqlen_k, device="cuda")[None, :]
    return {"full": j >= 0, "causal": j <= i + case.seqlen_k - case.seqlen_q, "causal-top-left": j <= i}[mask]


def is_attention(case, mask, tensors, o, lse, rows):
    """True when rows of the first and the last head agree with fp64 within what the formats allow."""
    scale = case.softmax_scale or 1 / case.head_dim**0.5
    unit_roundoff = {"bf16": 2.0**-8, "fp16": 2.0**-11}[case.format]
    for b, h in ((0, 0), (case.batch - 1, case.heads_q - 1)):
        q, k, v = (t[b, h if t is tensors[0] else h // (case.heads_q // case.heads_kv)].double() for t in tensors)
        s = (q[rows] @ k.T * scale).masked_fill(~visible(mask, case, rows), -torch.inf)
        p = torch.softmax(s, -1)
        head = b * case.heads_q + h
        got = torch.from_numpy(o[head, rows].view(np.int16)).view(DTYPES[case.format]).cuda().double()
        # P and O are rounded once each; as much again for everything in fp32.
        if ((got - p @ v).abs() > 4 * unit_roundoff * (p @ v.abs())).any():
            return False
        got = torch.from_numpy(lse[head, rows].view(np.float32)).cuda().double()
        if ((got - torch.logsumexp(s, -1)).abs() > 1e-3).any():
            return False
    return True


class Heads:
    """One tensor of several runs, head by head: a kernel whose blocks combine their results in the order in which they
    finish does not give the same bits every time. bits: [heads, ...], each head's most frequent bits; hashes: of those;
    variants: head -> the hashes of its other bits, most frequent first."""

    def __init__(self, runs):
        self.bits, self.variants = runs[0].copy(), {}
        self.hashes = hash_normal.hash_heads(self.bits)
        for head in range(len(self.bits)):
            if all((run[head] == runs[0][head]).all() for run in runs[1:]):
                continue
            seen = hash_normal.hash_heads(np.stack([run[head] for run in runs]))
            first, *others = [h for h, _ in collections.Counter(seen).most_common()]
            self.bits[head], self.hashes[head], self.variants[head] = runs[seen.index(first)][head], first, others

    def contains(self, bits):
        """Whether every head of another run is among those seen."""
        return all(h == self.hashes[head] or h in self.variants.get(head, []) for head, h in
                   enumerate(hash_normal.hash_heads(bits)))


def through_sdpa(backend, case, tensors, o):
    """Whether torch.nn.functional.scaled_dot_product_attention gives the same bits: "same", "different", "refused"."""
    q, k, v = tensors
    try:
        with sdpa_kernel([backend]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out, _ = run(lambda: (torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=case.mask == "causal", scale=case.softmax_scale,
                enable_gqa=q.shape[1] != k.shape[1]), None), case)
    except RuntimeError:
        return "refused"
    return "same" if o.contains(out) else "different"


def record(case, tensors, operator, backend, gqa):
    """(JSON object, O, LSE). RuntimeError if the operator refuses, AssertionError if its output is not attention."""
    q, k, v = tensors
    if gqa == "expanded":
        k, v = (t.repeat_interleave(case.heads_q // case.heads_kv, dim=1).contiguous() for t in (k, v))
    call = lambda with_lse=True: operator(q, k, v, case.mask == "causal", case.softmax_scale, with_lse)
    # Decode kernels are the ones seen to vary.
    runs = [run(call, case) for _ in range(32 if case.seqlen_q == 1 else 4)]
    o, lse = (Heads(tensor) for tensor in zip(*runs))
    rows = hash_normal.row_choice(case.seed, case.seqlen_q)
    masks = [case.mask] if case.mask == "full" or case.seqlen_q == case.seqlen_k else ["causal", "causal-top-left"]
    masks = [mask for mask in masks if is_attention(case, mask, tensors, o.bits, lse.bits, rows)]
    assert len(masks) == 1, f"not attention under this mask: {masks}"

    fields = {name: getattr(case, name) for name in ("name", "batch", "heads_q", "heads_kv", "seqlen_q", "seqlen_k",
                                                     "head_dim", "format")}
    fields |= {"mask": masks[0], "softmax_scale": case.softmax_scale, "seed": case.seed, "full_bits": case.full_bits}
    fields["kv_heads"] = "equal" if case.heads_q == case.heads_kv else gqa
    fields["sdpa"] = through_sdpa(backend, case, (q, k, v), o)
    fields["launches"] = launches(call)
    assert fields["launches"], "the profiler saw no kernel"
    # SDPA asks for no LSE in inference; FlashAttention writes it nevertheless.
    fields["same_without_lse"] = operator is flash or (
        o.contains(run(lambda: call(False), case)[0]) and launches(lambda: call(False)) == fields["launches"])
    fields |= {"runs": len(runs), "o_hashes": o.hashes, "lse_hashes": lse.hashes}
    fields["variants"] = [{"head": head, "o_hashes": o.variants.get(head, []), "lse_hashes": lse.variants.get(head, [])}
                          for head in sorted(o.variants | lse.variants)]
    fields["rows"] = [] if case.full_bits else [
        {"head": head, "row": row, "o": "".join(f"{x:04x}" for x in o.bits[head, row]),
         "lse": f"{lse.bits[head, row]:08x}"}
        for head in sorted({0, len(o.bits) - 1}) for row in rows]
    shape = (case.batch, case.heads_q, case.seqlen_q)
    return fields, o.bits.reshape(*shape, case.head_dim), lse.bits.reshape(shape)


def write_json(path, head, kernels, lists):
    """One case per line, so that a difference between two recordings is readable."""
    with open(path, "w") as file:
        file.write("{\n")
        for key, value in head.items():
            file.write(f"{json.dumps(key)}: {json.dumps(value)},\n")
        for key, entries in {"kernels": kernels, **lists}.items():
            body = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
            file.write(f"{json.dumps(key)}: [\n{body}\n]" + (",\n" if key != list(lists)[-1] else "\n"))
        file.write("}\n")


def record_list(name, part, case_list, path):
    """Records one list of cases with one backend; returns the files written."""
    operator, backend, all_ways = backends()[name]
    kernels, recorded, not_recorded, tensors_to_keep = {}, [], [], {}
    for case in case_list:
        errors = []
        for gqa in all_ways if case.heads_q != case.heads_kv else ["native"]:
            try:
                fields, o, lse = record(case, inputs(case), operator, backend, gqa)
            except (RuntimeError, AssertionError) as error:
                first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
                errors.append(f"kv heads {gqa}: {first_line}"[:300])
                print(f"{name}: {case.name}: {errors[-1]}", file=sys.stderr, flush=True)
                continue
            # Kernel names are long and few: a launch holds an index into their list.
            for launch in fields["launches"]:
                launch[0] = kernels.setdefault(launch[0], len(kernels))
            recorded.append(fields | {"failed_attempts": errors})
            if case.full_bits:
                tensors_to_keep |= {f"{case.name}.o": o, f"{case.name}.lse": lse}
            break
        else:
            not_recorded.append({"name": case.name, "failed_attempts": errors})
    stem = os.path.join(path, name + ("" if part == "recorded" else ".held-out"))
    write_json(f"{stem}.json", {"schema": 1, "backend": name, "part": part}, list(kernels),
               {"cases": recorded, "not_recorded": not_recorded})
    files = [f"{stem}.json"]
    if tensors_to_keep:
        np.savez_compressed(f"{stem}.npz", **tensors_to_keep)
        files.append(f"{stem}.npz")
    count = lambda key, value: sum(fields[key] == value for fields in recorded)
    print(f"{name} {part}: {len(recorded)} cases recorded, {len(not_recorded)} not; through SDPA "
          f"{count('sdpa', 'same')} the same, {count('sdpa', 'different')} different, {count('sdpa', 'refused')} "
          f"refused; without LSE {count('same_without_lse', False)} different; the same bits in all runs: "
          f"{count('variants', [])}", flush=True)
    return files


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def manifest(files):
    gpu = torch.cuda.get_device_properties(0)
    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"],
                            capture_output=True, text=True, check=True).stdout.strip()
    scripts = [os.path.join(HERE, name) for name in ("record_pytorch.py", "cases.py", "hash_normal.py")]
    return {"schema": 1,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "command": "python3 data/golden/record_pytorch.py",
            "gpu": {"name": gpu.name, "compute_capability": f"{gpu.major}.{gpu.minor}",
                    "multiprocessors": gpu.multi_processor_count, "memory_bytes": gpu.total_memory},
            "driver": driver,
            "software": {"pytorch": torch.__version__, "pytorch_git": torch.version.git_version,
                         "cuda": torch.version.cuda, "cudnn": cudnn_version(), "numpy": np.__version__,
                         "python": platform.python_version()},
            "scripts": {os.path.basename(path): sha256(path) for path in scripts},
            "files": {os.path.basename(path): {"sha256": sha256(path), "bytes": os.path.getsize(path)}
                      for path in files}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=HERE, help="folder to write to (default: the script's)")
    arguments = parser.parse_args()
    hash_normal.self_check()
    torch.backends.cuda.matmul.allow_tf32 = False
    os.makedirs(arguments.out, exist_ok=True)
    files = []
    with torch.inference_mode():
        for name in backends():
            for part, case_list in (("recorded", cases.RECORDED), ("held-out", cases.HELD_OUT)):
                files += record_list(name, part, case_list, arguments.out)
    with open(os.path.join(arguments.out, "manifest.json"), "w") as file:
        json.dump(manifest(files), file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
