#include "sim/l2/builds.h"

#include <algorithm>

namespace bitflash::sim::l2 {

// Spills: l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum over blocks, key tiles and threads (data/golden/l2). PyTorch
// 2.11's FlashAttention-2 has 255 registers a thread. For every key tile it stores 56 bytes for head_dim 128, 32 when
// lengths are not whole tiles, and 24 for head_dim 64; beside them, once a block, 56 (64 under a mask), 28, and 88
// (104). The first tiles of a block, which may be masked, are other code than the rest and keep some of their bytes in
// places that the rest does not touch: 24 bytes once a block, 8 under a mask, 16 when lengths are not whole tiles,
// fitted to the DRAM writes of the rows that are not held out. None for head_dim 256. Ours store 32 bytes once a block
// for head_dim 128.
//
// Shares: fitted to the DRAM reads of the same rows. Blocks that start together stay together, unless the build favours
// the older of two (ours for head_dim 128), or, in PyTorch's causal launches, blocks of different lengths meet.
Build BuildOf(const Kernel& kernel, std::string_view launch, const Attention& a, const Tiling& t, const Gpu& gpu) {
  Build build;
  if (launch != "fa2_forward" || gpu.arch != "sm90") return build;
  const int64_t d = std::max(a.head_dim, a.head_dim_v);
  const bool wide = d > 96 && d <= 128;
  if (kernel.name == "fa2") {
    if (wide) build.spilled_per_block = 32, build.younger = 0.8;
    return build;
  }
  const bool whole = a.seqlen_q % t.Br == 0 && a.seqlen_k % t.Bc == 0;
  const bool masked = a.mask.kind != data::Mask::Kind::kFull;
  if (d <= 64) {
    build.spilled_per_tile = 24, build.spilled_per_block = 112;
  } else if (wide) {
    build.spilled_per_tile = whole ? 56 : 32, build.spilled_per_block = !whole ? 44 : masked ? 72 : 80;
  } else if (d <= 96) {
    build.spilled_per_block = 8;
  }
  if (wide && masked) build.younger = 0.4;
  return build;
}

// gpu/standard_row.cuh reads a row of S with ld.global.cs; gpu/standard_output_hopper.cuh loads P with evict_first
// where no second block of columns reads it again. Other hints of these kernels (evict_last for Q, K and V,
// st.global.cs) make no difference that the counters show.
Hint HintOf(std::string_view launch, TensorId tensor, bool write, const Attention& a, const Tiling& t) {
  if (write) return Hint::kNormal;
  if (launch == "standard_softmax" && tensor == TensorId::kS && t.row_on_chip) return Hint::kEvictFirst;
  if (launch == "standard_output" && tensor == TensorId::kP && t.tma && a.head_dim_v <= 128) return Hint::kEvictFirst;
  return Hint::kNormal;
}

}  // namespace bitflash::sim::l2
