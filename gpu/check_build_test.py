"""Tests of check_build.py on what ptxas printed for kernels that are fast and that are not: python3 check_build_test.py

No compiler is needed. The outputs are those of nvcc 13.0, shortened.
"""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_build  # noqa: E402

SYMBOL = "_ZN8bitflash3gpu3fa311fa3_forwardINS1_6ConfigI6__halfLi64EEEEEvNS1_10ParametersE"
FACT = ["fa3", "fa3_forward", "fp16", "64", "0", "192", "128", "512", "160", "181584",
        "Name<&(void bitflash::gpu::fa3::fa3_forward<bitflash::gpu::fa3::Config<__half, 64> >("
        "bitflash::gpu::fa3::Parameters))>"]


def output(stack=0, stores=0, loads=0, extra=""):
    return f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{SYMBOL}' for 'sm_90a'
{extra}ptxas info    : Function properties for {SYMBOL}
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, {stack} bytes cumulative stack size, 16 bytes smem
ptxas info    : Compile time = 617.472 ms
"""


class CheckBuildTest(unittest.TestCase):
    def judge(self, text, facts=None):
        return check_build.judge({"fa3_forward.cu": text}, [FACT] if facts is None else facts, "13.0.88")

    def test_clean(self):
        rows, problems = self.judge(output())
        self.assertEqual(problems, [])
        self.assertEqual(len(rows), 1)
        self.assertEqual((rows[0]["registers"], rows[0]["barriers"], rows[0]["static_shared"]), ("128", "1", "16"))
        self.assertEqual((rows[0]["threads"], rows[0]["dynamic_shared"], rows[0]["blocks_per_sm"]), ("512", "181584", "1"))

    def test_stack_and_spills(self):
        for arguments in ({"stack": 8}, {"stores": 4}, {"loads": 4}):
            problems = self.judge(output(**arguments))[1]
            self.assertEqual(len(problems), 1, arguments)
            self.assertIn("fa3_forward<", problems[0])

    def test_warnings(self):
        for warning in (
                "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to "
                "non wgmma instructions defining accumulator registers of a wgmma between start and end of the pipeline "
                f"stage in the function '{SYMBOL}'",
                f"ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored to maintain minimum register "
                f"requirements in the function '{SYMBOL}'",
                f"ptxas warning : Registers are spilled to local memory in function '{SYMBOL}', 96 bytes spill stores",
                f"ptxas warning : Local memory used for function '{SYMBOL}', size of stack frame: 8 bytes"):
            problems = self.judge(output(extra=warning + "\n"))[1]
            self.assertEqual(len(problems), 1, warning)

    def test_a_kernel_that_nobody_compiled(self):
        self.assertIn("ptxas named no kernel", self.judge("")[1][0])
        other = FACT[:-1] + [FACT[-1].replace("64", "128")]
        self.assertIn("was not compiled", self.judge(output(), [FACT, other])[1][0])

    def spills(self, **arguments):
        return check_build.judge_spills({"fa2_forward.cu": output(**arguments)}, "13.0.88")

    def test_spills_without_wgmma(self):
        self.assertEqual(self.spills(), ([], []))
        rows, problems = self.spills(stack=8, stores=36, loads=68)
        self.assertEqual(problems, [])
        self.assertEqual(rows, [{"source": "fa2_forward.cu", "arch": "sm_90a",
                                 "kernel": "fa3::fa3_forward<fa3::Config<__half, 64> >", "stack": "8",
                                 "spill_stores": "36", "spill_loads": "68", "nvcc": "13.0.88"}])
        same = lambda recorded, rows=rows: check_build.spill_differences(rows, recorded, "13.0.88")
        self.assertEqual(same(rows), [])
        self.assertIn("spill_stores 36, spill_loads 68; spills.csv has nothing", same([])[0])
        less = [rows[0] | {"spill_stores": "32"}]
        self.assertEqual(len(same(less)), 1)
        self.assertIn("record again", same(rows, [])[0])
        self.assertEqual(same([less[0] | {"nvcc": "12.9.1"}]), [])  # of another compiler: not compared
        self.assertEqual(len(self.spills(extra="ptxas info : (C7510) serialized\n")[1]), 1)

    def test_blocks_per_sm(self):
        self.assertEqual(check_build.blocks_per_sm(168, 384, 197888), 1)
        self.assertEqual(check_build.blocks_per_sm(160, 160, 114848), 2)  # 8 warps of 160 registers fit twice
        self.assertEqual(check_build.blocks_per_sm(32, 1024, 0), 2)
        self.assertEqual(check_build.blocks_per_sm(255, 256, 0), 1)

    def test_finds_the_sources(self):
        names = [os.path.basename(path) for path in check_build.sources()]
        self.assertIn("standard_hopper.cu", names)
        self.assertNotIn("fa2_forward.cu", names)
        self.assertNotIn("build_facts.cu", names)


if __name__ == "__main__":
    unittest.main()
