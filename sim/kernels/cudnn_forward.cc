// cuDNN 9.19's fused forward kernel for sm90, as PyTorch 2.11's CUDNN_ATTENTION backend calls it. Closed source: the
// recipe was found from recorded outputs alone. It covers the kernels named sm90_flash_fprop_wgmma; for decode steps
// and a few small problems cuDNN launches sm80 kernels that are other recipes (and whose bits vary from run to run).
#include <algorithm>

#include "sim/kernels/entries.h"
#include "sim/operands.h"

namespace bitflash::sim {
namespace {

bool Wide(const Attention& a) { return std::max(a.head_dim, a.head_dim_v) > 128; }

// Query and key tiles of 128, as the bytes that the SMs received from L2 show for head_dim 64, 96, 128 and 256 (an
// H100, data/golden/l2). Two stages are assumed as far as they fit; head_dim_v beyond head_dim, which nobody recorded,
// gets half the rows where O finds no room beside K and V. Q, K and V arrive by TMA in boxes of whole tiles: the
// counted bytes hold zeros for the rows behind a ragged end, and 128 columns for head_dim 96.
Tiling DefaultTiling(const Attention& a, const Gpu& gpu) {
  Tiling t{.Br = 128, .Bc = 128, .warps = 8, .stages = Wide(a) ? 1 : 2, .tma = true};
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = PaddedDim(a.head_dim_v, a.format);
  const int64_t elements = t.Br * d + t.stages * t.Bc * (d + dv) + (dv > d ? t.Br * dv : 0);
  if (elements * data::StorageBytes(a.format) > gpu.shared_bytes_per_block) t.Br = 64;
  return t;
}

// S, P and O of head_dim 256 do not fit the registers of two warpgroups.
void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  RunFa3(stream, a, t, recipe, Wide(a) && 16 * t.warps <= t.Br);
}

}  // namespace

Kernel CudnnForward() {
  return {.name = "cudnn-9.19-sm90",
          .title = "cuDNN 9.19 fused attention (Hopper), PyTorch's CUDNN_ATTENTION backend",
          .source = "closed source; recipe found from outputs recorded on an H200",
          .summary = "key tiles of 128 ascending, unfused exponent, approximate reciprocal",
          .min_arch = 90,
          .formats = {Format::kFp16, Format::kBf16},
          .DefaultTiling = DefaultTiling,
          .Run = Run,
          .recipe = {.name = "cudnn-9.19-sm90",
                     .scale_log2 = Recipe::ScaleLog2::kFromFloat,
                     .key_order = Order::kAscending,
                     .exponent = Recipe::Exponent::kUnfused,
                     .rescale = Recipe::Rescale::kProducts,
                     .exponential = Recipe::Exponential::kEx2,
                     .row_sum = Recipe::RowSum::kTileThenFused,
                     .quad_sum = Recipe::QuadSum::kNeighbors,
                     .reciprocal = Recipe::Reciprocal::kRcp,
                     .empty_row = Recipe::EmptyRow::kZero,
                     .log_sum_exp = Recipe::LogSumExp::kScaledTwice},
          .mma = MmaInstruction::kWgmma,
          .max_head_dim = 256,
          .min_seqlen_q = 2};
}

}  // namespace bitflash::sim
