#include "sim/l2/spill.h"

namespace bitflash::sim::l2 {

// PyTorch 2.11's FlashAttention-2, 255 registers a thread: l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum over blocks,
// key tiles and threads (data/golden/l2, rows that are not held out). 56 to 60 bytes for head_dim 128 with lengths
// that are whole tiles, 32 for others; 24 to 25 for head_dim 64. head_dim 256 spills nothing.
Spill SpillOf(const Kernel& kernel, std::string_view launch, const Attention& a, const Tiling& t) {
  if (kernel.name != "pytorch-fa2" || launch != "fa2_forward") return {};
  const int64_t d = std::max(a.head_dim, a.head_dim_v);
  if (d <= 64) return {24};
  if (d <= 96 || d > 128) return {0};
  return {a.seqlen_q % t.Br == 0 && a.seqlen_k % t.Bc == 0 ? 56 : 32};
}

}  // namespace bitflash::sim::l2
