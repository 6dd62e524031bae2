// The workload flags and their help.
#include "verify/cli/workload.h"

namespace bitflash::verify {

void AddWorkloadFlags(CommandLine& line, WorkloadFlags& flags, const WorkloadFeatures& features) {
  const std::string many = features.sweep ? "; N may be a sweep" : "";
  line.Group("Attention");
  line.AddOption("--model", flags.model, "FILE|NAME", "A Hugging Face config.json, or a name (bitflash list models)");
  line.AddOption("--layers", flags.layers, "NAME", "Which layers of a model whose layers differ, e.g. global");
  line.AddOption("--heads-q", flags.heads_q, "N", "Query heads");
  line.AddOption("--heads-kv", flags.heads_kv, "N", "Key and value heads (default: as many as query heads)");
  line.AddOption("--head-dim", flags.head_dim, "N", "Columns of Q and K");
  line.AddOption("--head-dim-v", flags.head_dim_v, "N", "Columns of V and O (default: as --head-dim)");
  line.AddOption("--batch", flags.batch, "N", "Sequences (default: 1)" + many);
  line.AddOption("--phase", flags.phase, "PHASE", "prefill or decode; with --seqlen (default: prefill)");
  line.AddOption("--seqlen", flags.seqlen, "N", "Prefill: queries and keys. Decode: keys, one query" + many);
  line.AddOption("--seqlen-q", flags.seqlen_q, "N", "Queries, instead of --phase and --seqlen" + many);
  line.AddOption("--seqlen-k", flags.seqlen_k, "N", "Keys, instead of --phase and --seqlen" + many);
  line.AddFlag("--causal", flags.causal, "Short for --mask causal");
  line.AddOption("--mask", flags.mask, "MASK", "full, causal, causal-top-left, window(LEFT,RIGHT)");
  line.AddOption("--softmax-scale", flags.softmax_scale, "X", "Factor of the scores (default: 1/sqrt(head_dim))");
  line.AddOption("--softcap", flags.softcap, "X", "Scores are X tanh(score / X) (default: the model's, else none)");
  line.AddOption("--dtype", flags.dtype, "FORMAT", "Of Q, K, V and O (default: the model's, else bf16)");
  if (features.gpu) {
    line.Group("GPU");
    line.AddOption("--gpu", flags.gpu, "NAME|FILE", "A name (bitflash list gpus) or a JSON file (default: h200)");
    line.AddOption("--arch", flags.arch, "ARCH",
                   "sm75, sm80, sm89, sm90, sm100: a GPU that stands for the architecture");
  }
  if (features.kernel) {
    line.Group("Kernel");
    line.AddOption("--kernel", flags.kernel, "NAME[,NAME]", "Kernels (bitflash list kernels)");
    line.AddOption("--tile", flags.tile, "BRxBC", "Query rows x keys of a tile, e.g. 128x64");
    line.AddOption("--warps", flags.warps, "N", "Warps that issue matrix instructions");
    line.AddOption("--stages", flags.stages, "N", "K and V tiles in flight in shared memory");
    line.AddOption("--splits", flags.splits, "N", "Equal parts of the keys for separate blocks");
    line.AddOption("--chunk", flags.chunk, "N", "Or parts of N keys each, a multiple of the tile's keys; decides bits");
    line.AddOption("--page-size", flags.page_size, "N", "Keys in a page of a paged cache (0: contiguous)");
    line.AddFlag("--pack-gqa", flags.pack_gqa, "Query heads of one KV head are rows of one tile");
    line.AddFlag("--fp32-scores", flags.fp32_scores, "The standard kernel stores S in fp32");
  }
  if (features.seed) {
    line.Group("Inputs");
    line.AddOption("--seed", flags.seed, "N", "Seed of Q; K takes the next, V the one after (default: 0)");
  }
  line.Group("Output");
}

}  // namespace bitflash::verify
