"""Keeps what the probes found on one GPU as data/golden/probes/<gpu>.json, with a manifest of all that are there.

verify/probe_definition_test.cc reads it: a row of sim/tensor_core.cc that says "measured" has its instruction here.
"""

import datetime
import glob
import hashlib
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def instruction(row):
    """One matrix instruction without what only a search needs."""
    settings = row.get("settings_of_best", row["settings"])
    return {
        "instruction": row["instruction"],
        "fits": row["fits"],
        "best": row["best"],
        "outputs": sum(s["outputs"] for s in settings),
        "mismatches": row["best_mismatches"],
        "known": row["known"],
        "mismatches_with_known": sum(s["mismatches"] for s in row["settings"]),
        "settings": {s["setting"]: s["mismatches"] for s in settings},
        "measured": row["measured"],
        "corners": {c["case"]: c["hardware"] for c in row["corners"]},
        "alternatives": {a["change"]: f"{a['mismatches']} of {a['outputs']}" for a in row["alternatives"]},
    }


def without_curves(probe):
    return {key: without_curves(value) if isinstance(value, dict) else value for key, value in probe.items()
            if key != "curve"}  # fmt: skip


def recording(outputs, facts, claims):
    """The JSON of one GPU."""
    device = outputs["device_facts"]
    found = {key: device[key] for key in ("schema", "date", "gpu", "compute_capability", "driver", "driver_cuda",
                                          "cuda_runtime")}  # fmt: skip
    found["command"] = "python3 gpu/probes/run_all.py --record data/golden/probes"
    found["facts"] = facts
    found["claims"] = claims
    tensor = outputs.get("tensor_core_probe", {})
    found["matrix_instructions"] = [instruction(row) for row in tensor.get("instructions", [])]
    found["skipped"] = tensor.get("skipped", {})
    found["special_functions"] = outputs.get("sfu_probe", {}).get("hashes", {})
    found["memory"] = without_curves(outputs.get("memory_probe", {}))
    found["l2"] = outputs.get("l2_counters", {})
    return found


def as_text(found):
    """JSON with a line for each member of the first two levels."""

    def lines(value):
        if isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()):
            members = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
            return "{\n" + ",\n".join(members) + "\n }"
        if isinstance(value, list):
            return "[\n" + ",\n".join(f"  {json.dumps(v)}" for v in value) + "\n ]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f" {json.dumps(k)}: {lines(v)}" for k, v in found.items()) + "\n}\n"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def write(folder, outputs, facts, claims):
    """Writes <gpu>.json into `folder` and the manifest of every recording there. Returns the path."""
    os.makedirs(folder, exist_ok=True)
    found = recording(outputs, facts, claims)
    name = facts["name"] + ".json"
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(as_text(found))
    manifest_path = os.path.join(folder, "manifest.json")
    files = {}
    if os.path.exists(manifest_path):
        with open(manifest_path, encoding="utf-8") as file:
            files = json.load(file)["files"]
    patterns = ("*.cu", "*.cuh", "*.h", "*.py")
    sources = sorted(source for pattern in patterns for source in glob.glob(os.path.join(HERE, pattern)))
    files[name] = {
        "date": found["date"],
        "gpu": found["gpu"],
        "compute_capability": found["compute_capability"],
        "driver": found["driver"],
        "cuda": found["cuda_runtime"],
        "sha256": sha256(path),
        "bytes": os.path.getsize(path),
        # To look up what was recorded; not compared with the tree: a comment is no reason to record again.
        "sources": {os.path.relpath(source, ROOT): sha256(source) for source in sources},
    }
    manifest = {
        "schema": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "command": found["command"],
        "files": dict(sorted(files.items())),
    }
    with open(manifest_path, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")
    return path
