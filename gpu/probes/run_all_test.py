#!/usr/bin/env python3
"""Tests of the assembler: made-up outputs of the probes go in, and bitflash must take the fact file that comes out.

python3 gpu/probes/run_all_test.py PATH_OF_BITFLASH
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import fact_file  # noqa: E402
import l2_counters  # noqa: E402
import l2_fit  # noqa: E402
import recording  # noqa: E402

BITFLASH = ""
MIB = 1 << 20
L2_BYTES = 60 * MIB
CAPACITY = 54 * MIB  # of the made-up cache


def head(probe):
    return {"schema": 1, "probe": f"gpu/probes/{probe}", "date": "2026-01-02", "gpu": "Made-up GPU 1",
            "compute_capability": "9.0", "driver": "1.2.3", "driver_cuda": "13.0", "cuda_runtime": "13.0"}  # fmt: skip


def rate(per_clock, clock=1.7e9):
    return {"per_clock_sm": per_clock, "per_second": per_clock * clock * 132, "clock_hz": clock}


def made_up_outputs():
    curve = [{"set_bytes": L2_BYTES * n // 15, "bytes_per_second": 9.8e12} for n in range(1, 41)]
    shared = {"plateau_bytes_per_second": 9.8e12, "asymptote_bytes_per_second": 9.8e12,
              "largest_set_at_90_percent_bytes": 160 * MIB, "curve": curve}  # fmt: skip
    device = dict(head("device_facts"), arch="sm90", sms=132, memory_bytes=150109880320, l2_bytes=L2_BYTES,
                  shared_bytes_per_block=232448, shared_bytes_per_sm=233472, shared_bytes_reserved=1024,
                  registers_per_sm=65536, threads_per_sm=2048, threads_per_block=1024, blocks_per_sm=32,
                  clock_khz=1980000, memory_clock_khz=3201000, memory_bus_bits=6016)  # fmt: skip
    memory = dict(head("memory_probe"), dram_buffer_bytes=2 << 30, dram_read_bytes_per_second=4.17e12,
                  dram_write_bytes_per_second=4.0e12, dram_copy_bytes_per_second=4.0e12,
                  dram_memcpy_bytes_per_second=4.1e12, l2_shared=shared, l2_own=shared,
                  shared_memory=rate(127.5), special_functions=rate(15.9), fp32=rate(255.0), mma_sync_bf16=rate(2600.0),
                  wgmma_bf16=rate(4050.0), wgmma_e4m3=rate(8100.0), launch_back_to_back_seconds=2e-6,
                  launch_and_wait_seconds=8e-6)  # fmt: skip
    setting = {"setting": "any bits", "asks": "NaN", "outputs": 1000, "mismatches": 0}
    instruction = {"instruction": "mma.sync.m16n8k16.f32.bf16.bf16.f32",
                   "known": "L=16, F=25, out=fp32 toward zero, emax >= -133",
                   "measured": {"steps": "{0..15}", "L": 16, "F": 25, "least_unit_exponent": -158},
                   "expected": {"steps": "{0..15}", "L": 16, "F": 25, "least_unit_exponent": -158},
                   "settings": [setting], "best": "", "best_mismatches": 0, "fits": "",
                   "alternatives": [],
                   "corners": [{"case": "NaN * 1", "hardware": "0x7FFF", "rule": "0x7FFF"}]}  # fmt: skip
    tensor = dict(head("tensor_core_probe"), instructions=[instruction], skipped={"wgmma": "needs code for sm_90a"})
    sfu = dict(head("sfu_probe.cu"), hashes={"exp2f": "0x1"}, verdicts={"exp2f": "equal", "logf": "different"})
    return {"device_facts": device, "memory_probe": memory, "tensor_core_probe": tensor, "sfu_probe": sfu,
            "l2_counters": {"skipped": "ncu (Nsight Compute) was not found"}}  # fmt: skip


def made_up_counters():
    curve = []
    for mib in l2_counters.sizes_mib(L2_BYTES):
        size = mib * MIB
        miss = l2_fit.miss_rate(size / CAPACITY, 2)
        curve.append({"set_bytes": size, "passes": 5, "requested_bytes": 5 * 132 * size,
                      "dram_read_bytes": size * (1 + 4 * miss), "dram_write_bytes": 0, "miss_rate": miss,
                      "fabric_bytes": size * (1 + 4 * miss), "sm_read_bytes": 5 * 132 * size})  # fmt: skip
    return {"curve": curve}


class Assembling(unittest.TestCase):
    def assemble(self, outputs):
        """Exit code, folder of the files, text: of run_all.py --from."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name, found in outputs.items():
            with open(os.path.join(folder.name, name + ".json"), "w", encoding="utf-8") as file:
                json.dump(found, file)
        out = os.path.join(folder.name, "out")
        command = [sys.executable, "-B", os.path.join(HERE, "run_all.py"), "--from", folder.name, "--out", out]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, out, done.stdout + done.stderr

    def bitflash(self, *arguments):
        done = subprocess.run([BITFLASH, *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_bitflash_takes_the_file(self):
        code, out, text = self.assemble(made_up_outputs())
        self.assertEqual(code, 0, text)
        gpu = os.path.join(out, "gpu.json")
        for model in ("llama-3-8b", "gpt-2"):
            self.bitflash("traffic", "--gpu", gpu, "--model", model, "--seqlen", "2048")
        with open(gpu, encoding="utf-8") as file:
            facts = json.load(file)
        self.assertEqual(facts["name"], "made-up-gpu-1")
        self.assertEqual(facts["l2_partitions"]["value"], 2)
        self.assertEqual(facts["hbm_bytes_per_second"]["value"], 4.8143e12)
        self.assertAlmostEqual(facts["tensor_16bit_flops"]["value"] / (132 * 4050 * 1.7e9), 1, places=4)
        self.assertIn("Made-up GPU 1, 2026-01-02", facts["mufu_per_clock_sm"]["source"])

    def test_the_fields_are_those_that_bitflash_knows(self):
        facts, missing = fact_file.assemble(made_up_outputs())
        self.assertEqual(missing, [])
        with open(os.path.join(HERE, "..", "..", "data", "gpus", "h200.json"), encoding="utf-8") as file:
            self.assertEqual(list(facts), list(json.load(file)))

    def test_the_capacity_comes_back_from_counters_or_is_not_claimed(self):
        outputs = made_up_outputs()
        self.assertIsNone(fact_file.capacity_of(outputs))
        outputs["l2_counters"] = made_up_counters()
        capacity = fact_file.capacity_of(outputs)
        self.assertLess(abs(capacity["bytes"] - CAPACITY), MIB)
        self.assertIn("counted", capacity["text"])
        self.assertIn("stay up to 15.0 MiB", capacity["text"])
        self.assertEqual(fact_file.partitions_of(outputs)[0], 2)
        for point in outputs["l2_counters"]["curve"]:  # a cache of another kind: a straight line
            point["miss_rate"] = min(1, point["set_bytes"] / (2 * L2_BYTES))
        self.assertIsNone(fact_file.capacity_of(outputs)["bytes"])
        facts, missing = fact_file.assemble(outputs)
        self.assertEqual(missing, [])
        self.assertIsNone(facts["l2_bytes_effective"]["value"])
        self.assertIn("no capacity explains", facts["l2_bytes_effective"]["source"])
        self.assertIn("DIFFERS", [c["verdict"] for c in fact_file.claims(outputs, {}) if "cache model" in c["claim"]])

    def test_the_table_of_the_cache_model_is_what_the_model_gives(self):
        for ratio in (0.4, 0.6, 0.8):
            self.assertLess(abs(l2_fit.simulate(ratio, 9, sets=128) - l2_fit.miss_rate(ratio, 2)), 0.04)

    def test_a_gpu_without_wgmma_or_counters_still_gives_a_file(self):
        outputs = made_up_outputs()
        del outputs["memory_probe"]["wgmma_bf16"], outputs["memory_probe"]["wgmma_e4m3"]
        outputs["device_facts"].update(compute_capability="99.9", memory_clock_khz=0)
        code, out, text = self.assemble(outputs)
        self.assertEqual(code, 0, text)
        self.bitflash("traffic", "--gpu", os.path.join(out, "gpu.json"), "--model", "gpt-2", "--seqlen", "512")
        with open(os.path.join(out, "gpu.json"), encoding="utf-8") as file:
            facts = json.load(file)
        for field in ("tensor_8bit_flops", "l2_partitions", "l2_bytes_effective"):
            self.assertIsNone(facts[field]["value"])
        self.assertEqual(facts["hbm_bytes_per_second"]["value"], 4.17e12)

    def test_without_the_memory_probe_there_is_no_file(self):
        outputs = made_up_outputs()
        del outputs["memory_probe"]
        code, out, text = self.assemble(outputs)
        self.assertEqual(code, 1)
        self.assertIn("mufu_per_clock_sm", text)
        self.assertFalse(os.path.exists(os.path.join(out, "gpu.json")))
        self.assertTrue(os.path.exists(os.path.join(out, "facts-full.json")))

    def test_a_recording_is_short_and_in_the_manifest(self):
        outputs = made_up_outputs()
        outputs["l2_counters"] = made_up_counters()
        facts, _ = fact_file.assemble(outputs)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("made-up-gpu-1", "another"):
                path = recording.write(folder, outputs, dict(facts, name=name), fact_file.claims(outputs, facts))
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
                manifest = json.load(file)
            self.assertEqual(sorted(os.listdir(folder)), ["another.json", "made-up-gpu-1.json", "manifest.json"])
            self.assertEqual(list(manifest["files"]), ["another.json", "made-up-gpu-1.json"])
            self.assertEqual(manifest["files"]["another.json"]["sha256"], recording.sha256(path))
        self.assertNotIn("curve", found["memory"]["l2_shared"])
        self.assertEqual(found["matrix_instructions"][0]["settings"], {"any bits": 0})
        self.assertEqual(found["facts"]["sms"]["value"], 132)

    def test_verdicts(self):
        outputs = made_up_outputs()
        row = copy.deepcopy(outputs["tensor_core_probe"]["instructions"][0])
        row.update(fits="none", best="L=8", best_mismatches=3)
        row["settings"][0]["mismatches"] = 7
        row["measured"]["least_unit_exponent"] = -174
        row["corners"][0]["rule"] = "0x7FFE"
        outputs["tensor_core_probe"]["instructions"].append(row)
        outputs["l2_counters"] = made_up_counters()
        verdicts = [claim["verdict"] for claim in fact_file.claims(outputs, {})]
        self.assertEqual(verdicts[:9], ["holds"] * 3 + ["DIFFERS"] * 3 + ["open", "holds", "DIFFERS"])
        self.assertEqual(set(verdicts[9:]), {"holds"})
        text = json.dumps(fact_file.claims(outputs, {}))
        self.assertIn("least_unit_exponent -174, not -158", text)
        self.assertIn("NaN * 1: 0x7FFF, not 0x7FFE", text)


class Counters(unittest.TestCase):
    def test_raw_csv_of_ncu(self):
        text = (
            '==PROF== Connected\n"ID","Process ID","Kernel Name","dram__bytes_read.sum","lts__t_sectors_op_read.sum"\n'
            '"","","","byte","sector"\n'
            '"0","77","ReadSharedSet(const uint4 *, int)","10,485,760","1,000"\n'
            '"1","77","ReadSharedSet(const uint4 *, int)","20971520","n/a"\n'
        )
        counters = l2_counters.parse_raw_csv(text)
        self.assertEqual([c["dram__bytes_read.sum"] for c in counters], [10485760.0, 20971520.0])
        launches = [
            {"set_bytes": n * 10485760, "passes": 5, "requested_bytes": 660 * n * 10485760} for n in (1, 2)
        ]
        curve = l2_counters.summarize(launches, counters)
        self.assertEqual([p["miss_rate"] for p in curve], [0, 0])
        self.assertEqual(curve[0]["l2_read_bytes"], 32000)
        self.assertNotIn("l2_read_bytes", curve[1])
        self.assertIn("10.0", fact_file.counters_text({"curve": curve}))


if __name__ == "__main__":
    BITFLASH = sys.argv.pop(1)
    unittest.main()
