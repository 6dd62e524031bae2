#include "sim/l2/builds.h"

#include <algorithm>

namespace bitflash::sim::l2 {
namespace {

constexpr double kSeenYounger = 0.98;

// When the tiles of S of one query over 131072 keys were written (data/golden/l2/*_scores.csv): 24 of 132 SMs, 12
// pairs, take 2.5 us for each, all others 3.6. So many would share a CPC with two others, not four, if an H100 has 24
// CPCs of three TPCs, less six TPCs.
constexpr double kRoomyCpc = 1.46;

}  // namespace

// Spills: l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum over blocks, key tiles and threads (data/golden/l2). PyTorch
// 2.11's FlashAttention-2 has 255 registers a thread. For every key tile it stores 56 bytes for head_dim 128, 32 when
// lengths are not whole tiles, and 24 for head_dim 64; beside them, once a block, 56 (64 under a mask), 28, and 88
// (104). The first tiles of a block, which may be masked, are other code than the rest and keep some of their bytes in
// places that the rest does not touch: 24 bytes once a block, 8 under a mask, none when lengths are not whole tiles,
// fitted to the DRAM writes of the rows that are not held out. None for head_dim 256. Ours store 32 bytes once a block
// for head_dim 128.
//
// For head_dim 64 the DRAM writes of launches of the same number of blocks grow with the number of key tiles, by 0.2 to
// 0.7 % of the stores (lengths of 2 to 64 Ki), and short launches write more than slots that are used again would: a
// share of the stores and three places an SM are fitted to three launches. Why is not known: lines that are written
// again and again are otherwise never written back while they fit (gpu/probes/l2_patterns.cu, rewrite_*).
//
// Shares of an SM. When tiles end (data/golden/l2/*_tiles.csv) shows of PyTorch's launches without a mask that one of
// the two blocks is ahead by 2.3 % for head_dim 64, by 0.6 to 6 % for 128: 0.98, and so it is between its split keys'
// parts. Ours for head_dim 128 favours the older by more (from when tiles end, too). The 0.62 of PyTorch's causal
// launches is fitted to the DRAM reads of the rows that are not held out and is not how fast blocks are: their ends
// show equal shares, and with every block as fast as it was seen the model reads 7 to 33 % less than was counted. What
// is missing has the effect of an L2 that is 6 % smaller.
Build BuildOf(const Kernel& kernel, std::string_view launch, const Attention& a, const Tiling& t, const Gpu& gpu) {
  Build build;
  if (gpu.arch != "sm90") return build;
  if (launch == "standard_scores" && t.tma) build.roomy_cpc = kRoomyCpc;
  if (launch == "fa2_splitkv") build.younger = kSeenYounger;
  if (launch != "fa2_forward") return build;
  const int64_t d = std::max(a.head_dim, a.head_dim_v);
  const bool wide = d > 96 && d <= 128;
  if (kernel.name == "fa2") {
    if (wide) build.spilled_per_block = 32, build.younger = 0.8;
    return build;
  }
  const bool whole = a.seqlen_q % t.Br == 0 && a.seqlen_k % t.Bc == 0;
  const bool masked = a.mask.kind != data::Mask::Kind::kFull;
  if (d <= 64) {
    build.spilled_per_tile = 24, build.spilled_per_block = 28, build.leaked = .0035, build.places = 3;
  } else if (wide) {
    build.spilled_per_tile = whole ? 56 : 32, build.spilled_per_block = !whole ? 28 : masked ? 72 : 80;
  } else if (d <= 96) {
    build.spilled_per_block = 8;
  }
  build.younger = masked ? 0.62 : kSeenYounger;
  return build;
}

// Standard attention: whatever it runs on, the softmax reads what a row has in registers with ld.global.cs
// (gpu/standard_row.cuh; up to 4096 keys) and writes P with st.global.cs (gpu/standard_softmax.cuh). With TMA, the
// scores load Q and K with evict_last and store S with evict_first (gpu/standard_scores_hopper.cuh); the output loads V
// with evict_last, and P with evict_first where no second block of columns reads it again
// (gpu/standard_output_hopper.cuh). Our fa3 loads K and V with evict_last, Q with evict_first, and stores O so
// (gpu/fa3_producer.cuh, fa3_consumer.cuh).
Hint HintOf(const Kernel& kernel, std::string_view launch, TensorId tensor, bool write, const Attention& a,
            const Tiling& t) {
  constexpr int64_t kHeldKeys = 4096;  // kHeldVectors * 8 * kSoftmaxThreads
  if (launch == "standard_softmax") {
    if (tensor == TensorId::kP && write) return Hint::kEvictFirst;
    if (tensor == TensorId::kS && t.row_on_chip && a.seqlen_k <= kHeldKeys) return Hint::kEvictFirst;
  }
  if (!t.tma) return Hint::kNormal;
  if (kernel.name == "fa3") {
    return write || tensor == TensorId::kQ ? Hint::kEvictFirst : Hint::kEvictLast;
  }
  if (launch == "standard_scores") return write ? Hint::kEvictFirst : Hint::kEvictLast;
  if (launch == "standard_output" && !write) {
    if (tensor != TensorId::kP) return Hint::kEvictLast;
    if (a.head_dim_v <= 128) return Hint::kEvictFirst;
  }
  return Hint::kNormal;
}

}  // namespace bitflash::sim::l2
