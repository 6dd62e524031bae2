#!/usr/bin/env python3
"""Runs every probe on this machine's GPU and writes what they found as a GPU fact file.

  python3 gpu/probes/run_all.py --build build/gpu --out DIR

DIR gets gpu.json, which `bitflash ... --gpu DIR/gpu.json` takes (the form is data/gpus/README.md; every fact names the
probe, the GPU and the day), facts-full.json with everything else (curves, verdicts, fits), and the output of each probe
as <probe>.json. --from DIR assembles the two files again from such outputs and needs no GPU. --record DIR keeps a short
form of all as DIR/<gpu>.json, beside a manifest: data/golden/probes in this tree.

Exit codes: 0 all probes ran; 1 one failed or timed out (the files hold what the others found); 5 there is no GPU.
Standard library only.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # the tree stays as it is
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fact_file  # noqa: E402  (beside this file)
import l2_counters  # noqa: E402
import recording  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN_HASHES = os.path.join(ROOT, "data", "golden", "sfu_hashes.json")
# In the order of running. device_facts is needed for anything to be written.
PROBES = {
    "device_facts": [],
    "memory_probe": ["--json"],
    "sfu_probe": ["--golden", GOLDEN_HASHES],
    "tensor_core_probe": ["--json"],
}
NO_GPU = 5


def find_probe(name, build):
    """Path of a built probe: beside this file, in the build folder, or in its gpu/ (where CMake puts it); or None."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(build, "gpu"), build, os.path.join(build, "gpu", "probes"), here):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def run_probe(name, path, timeout_s):
    """(parsed stdout, None) or (None, why). The probe's text goes to this program's stdout as it comes."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            [path] + PROBES[name], stdout=subprocess.PIPE, stderr=sys.stdout, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return None, f"took longer than {timeout_s} s"
    if done.returncode != 0:
        return None, f"exit code {done.returncode}"
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        return None, f"did not print JSON: {error}"
    found["seconds"] = round(time.monotonic() - started, 2)
    return found, None


def run_everything(build, timeout_s):
    """(outputs by probe, failures by probe)."""
    outputs, failures = {}, {}
    for name in PROBES:
        path = find_probe(name, build)
        print(f"== {name}", flush=True)
        if path is None:
            failures[name] = f"not found in {build} (cmake --build {build} --target {name})"
        else:
            found, why = run_probe(name, path, timeout_s)
            if why is None:
                outputs[name] = found
                print(f"   {found['seconds']:.1f} s", flush=True)
            else:
                failures[name] = why
        if name in failures:
            print(f"   {name}: {failures[name]}", flush=True)
        if name == "device_facts" and name not in outputs:
            return outputs, failures
    print("== l2_counters", flush=True)
    memory_probe = find_probe("memory_probe", build)
    if memory_probe is not None:
        started = time.monotonic()
        counters = l2_counters.measure(memory_probe, outputs["device_facts"]["l2_bytes"])
        counters["seconds"] = round(time.monotonic() - started, 2)
        outputs["l2_counters"] = counters
        print(fact_file.counters_text(counters), flush=True)
    return outputs, failures


def read_outputs(folder):
    """The outputs that an earlier run left in `folder`."""
    outputs = {}
    for name in list(PROBES) + ["l2_counters"]:
        path = os.path.join(folder, name + ".json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                outputs[name] = json.load(file)
    return outputs


def write_json(path, content, one_fact_a_line=False):
    if one_fact_a_line:
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        text = "{\n" + ",\n".join(lines) + "\n}"
    else:
        text = json.dumps(content, indent=1)
        text = re.sub(
            r"\{\s*(\"[^{}\[\]]{0,150}?)\s*\}", lambda m: "{" + re.sub(r"\s*\n\s*", " ", m.group(1)) + "}", text
        )
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def main():
    parser = argparse.ArgumentParser(description="Measure this GPU and write a fact file for bitflash --gpu")
    parser.add_argument(
        "--build", default=os.path.join(ROOT, "build", "gpu"), help="CMake build folder (default: build/gpu)"
    )
    parser.add_argument("--out", default="gpu-facts", help="folder for the files (default: gpu-facts)")
    parser.add_argument(
        "--from", dest="recorded", metavar="DIR", help="assemble from the outputs in DIR; run nothing"
    )
    parser.add_argument("--record", metavar="DIR", help="also write DIR/<gpu>.json and DIR/manifest.json")
    parser.add_argument(
        "--timeout", type=int, default=60, metavar="S", help="seconds that one probe may take (default: 60)"
    )
    arguments = parser.parse_args()

    started = time.monotonic()
    if arguments.recorded:
        outputs, failures = read_outputs(arguments.recorded), {}
    else:
        outputs, failures = run_everything(arguments.build, arguments.timeout)
    if "device_facts" not in outputs:
        print(
            f"run_all: {failures.get('device_facts', 'no device_facts.json there')}: nothing can be written",
            file=sys.stderr,
        )
        return NO_GPU if failures.get("device_facts") == f"exit code {NO_GPU}" else 1

    os.makedirs(arguments.out, exist_ok=True)
    for name, found in outputs.items():
        write_json(os.path.join(arguments.out, name + ".json"), found)
    facts, missing = fact_file.assemble(outputs)
    full = {"facts": facts, "claims": fact_file.claims(outputs, facts), "failures": failures}
    full.update(outputs)
    write_json(os.path.join(arguments.out, "facts-full.json"), full)
    if not missing:
        write_json(os.path.join(arguments.out, "gpu.json"), facts, one_fact_a_line=True)

    print("\n== facts")
    for name, fact in facts.items():
        if isinstance(fact, dict):
            value = "unknown" if fact["value"] is None else f"{fact['value']}"
            print(f"  {name:<28}{value:>16}  {fact['source']}")
    print("\n== claims")
    for claim in full["claims"]:
        print(f"  {claim['verdict']:<10} {claim['claim']}: {claim['found']}")
    if arguments.record:
        print(f"\nrecorded {recording.write(arguments.record, outputs, facts, full['claims'])}")
    seconds = time.monotonic() - started
    if missing:
        print(f"\nrun_all: no gpu.json: {', '.join(missing)} could not be measured", file=sys.stderr)
        return 1
    print(f"\nwrote {os.path.join(arguments.out, 'gpu.json')} and facts-full.json in {seconds:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
