#include "verify/cli/verify_flags.h"

#include "verify/cli/recipe_flag.h"

namespace bitflash::verify {

VerifyFlags ParseVerifyFlags(const Arguments& arguments) {
  VerifyFlags flags;
  CommandLine line(
      "verify",
      "Judges an attention kernel: its outputs as tensors, the kernel itself as a plug-in, a CUDA kernel of gpu/, a\n"
      "kernel of the CPU, or a simulated kernel with a mistake in it. The verdict is the highest rung that holds:\n"
      "  exact          every bit is that of the kernel that --kernel names\n"
      "  exact-variant  every bit is that of another known recipe, tile, split or order\n"
      "  bounded        every element is within the error that a correct kernel can make\n"
      "  wrong          some are not; then, what the output looks like instead\n"
      "Exit code 0: all cases pass; 1: one does not; 4: the plug-in failed; 5: nothing was decided. The last line is\n"
      "RESULT pass=N fail=N undecided=N.\n"
      "The truth is computed in fp64, of larger problems for a sample of rows of every head (--pairs). A second\n"
      "witness, the fp32 kernel of the CPU, then judges every other row, with its own error added to each bound; it "
      "is\n"
      "used only where it agrees with fp64 on the sample (--witness).",
      {{"bitflash verify --in case.safetensors --causal", "tensors q, k, v, o and perhaps lse, of any layout"},
       {"bitflash verify --q q.npy --k k.npy --v v.npy --o o.npy --dtype bf16 --layout bshd --kernel pytorch-fa2",
        "is it PyTorch's FlashAttention-2, to the last bit?"},
       {"bitflash verify --plugin ./libmykernel.so --cases 200 --junit verify.xml", "a kernel, over generated cases"},
       {"bitflash verify --plugin ./libmykernel.so --case bitflash-cases/min.safetensors", "one saved case again"},
       {"bitflash verify --kernel fa2 --fault mask-top-left --heads-q 4 --head-dim 64 --seqlen-q 100 --seqlen-k 300 "
        "--causal",
        "what a known mistake looks like (bitflash list faults)"},
       {"bitflash verify --kernel cpu-simd --heads-q 4 --head-dim 64 --seqlen 300 --causal --dtype fp32",
        "the attention kernel of this machine's CPU, against fp64"},
       {"bitflash verify --in case.safetensors --causal --witness simd",
        "fp64 only for a small sample, the CPU kernel for all other rows: the fastest for long sequences"},
       {"bitflash verify --kernel fa2 --device cuda --heads-q 8 --heads-kv 2 --head-dim 128 --seqlen 500 --causal",
        "a CUDA kernel of gpu/ against its simulated twin"}});
  AddWorkloadFlags(line, flags.workload, {.seed = true});
  AddLengthFlags(line, flags.lengths);
  AddInputFlags(line, flags.inputs);
  AddRecipeFlag(line, flags.recipe);
  line.Group("What is judged");
  line.AddOption("--o", flags.o, "FILE", "The kernel's O, where --in does not hold it as tensor o");
  line.AddOption("--lse", flags.lse, "FILE", "The kernel's LSE, likewise");
  line.AddOption("--case", flags.case_file, "FILE",
                 "A case that bitflash saved; with --plugin and --device its inputs only");
  line.AddOption("--plugin", flags.plugin, "FILE.so", "A kernel as a shared library (bitflash/plugin_abi.h)");
  line.AddOption("--fault", flags.fault, "NAME", "The simulated --kernel with this mistake (bitflash list faults)");
  line.AddOption("--device", flags.device, "cuda", "The CUDA kernel --kernel of gpu/, on the GPU in this machine");
  line.Group("Tensors");
  line.AddOption("--layout", flags.layout, "bhsd|bshd|thd", "Of q and o, and of k and v (default: from the shapes)");
  line.AddOption("--kv-layout", flags.kv_layout, "bhsd|bshd|thd", "Of k and v, or of a page of them");
  line.AddOption("--output-dtype", flags.output_dtype, "FORMAT", "Of o, where the file holds bit patterns");
  line.AddOption("--v-in-k", flags.v_in_k, "N", "V is the first N columns of K (latent attention)");
  line.AddOption("--q-scale", flags.q_scale, "X", "The value of an element of Q is X times its bits (fp8)");
  line.AddOption("--k-scale", flags.k_scale, "X", "Likewise of K");
  line.AddOption("--v-scale", flags.v_scale, "X", "Likewise of V");
  line.Group("Plug-in");
  line.AddOption("--init", flags.init, "JSON", "Given to the plug-in when it starts (default: {})");
  line.AddOption("--timeout", flags.timeout, "SECONDS", "For one call (default: 60)");
  line.AddOption("--cases", flags.cases, "N|NAME",
                 "Generated cases, when no shape is given (default: 64), or the one of this name");
  line.Group("Judgement");
  line.AddOption("--pairs", flags.pairs, "N|all",
                 "Query-key pairs for fp64: of larger problems a sample of every head (default: 1073741824; beside a "
                 "second witness 134217728)");
  line.AddOption("--witness", flags.witness, "auto|fp64|simd",
                 "Of the rows that fp64 leaves: auto: the CPU kernel judges them; fp64: nobody; simd: the CPU kernel, "
                 "and fp64 only what checks it (default: auto)");
  line.AddFlag("--no-relations", flags.no_relations, "No checks between calls (permuted keys, split keys, ...)");
  line.AddFlag("--no-diagnosis", flags.no_diagnosis, "Do not search for what a wrong output looks like");
  line.AddOption("--heads", flags.heads, "A:B", "--device: simulate and compare query heads A to B - 1 only");
  line.AddOption("--repeat", flags.runs, "N", "--device: runs, which must all give the same bits (default: 2)");
  line.Group("Output");
  line.AddOption("--save", flags.save, "DIR",
                 "The smallest failing cases as files (plug-ins: bitflash-cases; none: do not)");
  line.AddOption("--junit", flags.junit, "FILE", "JUnit XML");
  line.AddFlag("--github", flags.github, "Annotations on standard error, and the step summary of GitHub Actions");
  AddOutputFlags(line, flags.output);
  line.Parse(arguments);
  return flags;
}

}  // namespace bitflash::verify
