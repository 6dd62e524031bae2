#include "verify/cli/verify_flags.h"

#include "verify/cli/recipe_flag.h"

namespace bitflash::verify {

VerifyFlags ParseVerifyFlags(const Arguments& arguments) {
  VerifyFlags flags;
  CommandLine line(
      "verify",
      "Judges an attention kernel: its outputs as tensors, the kernel itself as a plug-in, a CUDA kernel of gpu/, or "
      "a\n"
      "simulated kernel with a mistake in it. The verdict is the highest rung that holds:\n"
      "  exact          every bit is that of the kernel that --kernel names\n"
      "  exact-variant  every bit is that of another known recipe, tile, split or order\n"
      "  bounded        every element is within the error that a correct kernel can make\n"
      "  wrong          some are not; then, what the output looks like instead\n"
      "Exit code 0: all cases pass; 1: one does not; 4: the plug-in failed; 5: nothing was decided. The last line is\n"
      "RESULT pass=N fail=N undecided=N.",
      {{"bitflash verify --in case.safetensors --causal", "tensors q, k, v, o and perhaps lse, of any layout"},
       {"bitflash verify --q q.npy --k k.npy --v v.npy --o o.npy --dtype bf16 --layout bshd --kernel pytorch-fa2",
        "is it PyTorch's FlashAttention-2, to the last bit?"},
       {"bitflash verify --plugin ./libmykernel.so --cases 200 --junit verify.xml", "a kernel, over generated cases"},
       {"bitflash verify --plugin ./libmykernel.so --case bitflash-cases/min.safetensors", "one saved case again"},
       {"bitflash verify --kernel fa2 --fault mask-top-left --heads-q 4 --head-dim 64 --seqlen-q 100 --seqlen-k 300 "
        "--causal",
        "what a known mistake looks like (bitflash list faults)"},
       {"bitflash verify --kernel fa2 --device cuda --heads-q 8 --heads-kv 2 --head-dim 128 --seqlen 500 --causal",
        "a CUDA kernel of gpu/ against its simulated twin"}});
  AddWorkloadFlags(line, flags.workload, {.seed = true});
  AddInputFlags(line, flags.inputs);
  AddRecipeFlag(line, flags.recipe);
  line.Group("What is judged");
  line.AddOption("--o", flags.o, "FILE", "The kernel's O, where --in does not hold it as tensor o");
  line.AddOption("--lse", flags.lse, "FILE", "The kernel's LSE, likewise");
  line.AddOption("--case", flags.case_file, "FILE", "A case that bitflash saved; with --plugin its inputs only");
  line.AddOption("--plugin", flags.plugin, "FILE.so", "A kernel as a shared library (bitflash/plugin_abi.h)");
  line.AddOption("--fault", flags.fault, "NAME", "The simulated --kernel with this mistake (bitflash list faults)");
  line.AddOption("--device", flags.device, "cuda", "The CUDA kernel --kernel of gpu/, on the GPU in this machine");
  line.Group("Tensors");
  line.AddOption("--layout", flags.layout, "bhsd|bshd|thd", "Of q and o, and of k and v (default: from the shapes)");
  line.AddOption("--kv-layout", flags.kv_layout, "bhsd|bshd|thd", "Of k and v, or of a page of them");
  line.AddOption("--output-dtype", flags.output_dtype, "FORMAT", "Of o, where the file holds bit patterns");
  line.AddOption("--v-in-k", flags.v_in_k, "N", "V is the first N columns of K (latent attention)");
  line.AddOption("--softcap", flags.softcap, "X", "Scores are X tanh(score / X)");
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
                 "Query-key pairs to judge: larger problems are sampled, every head of them (default: 1073741824)");
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
