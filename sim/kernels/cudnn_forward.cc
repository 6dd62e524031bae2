// cuDNN 9.19's fused forward kernel for sm90, as PyTorch 2.11's CUDNN_ATTENTION backend calls it. Closed source: the
// recipe was found from recorded outputs alone. It covers the kernels named sm90_flash_fprop_wgmma; for decode steps
// and a few small problems cuDNN launches sm80 kernels that are other recipes (and whose bits vary from run to run).
#include <algorithm>

#include "sim/kernels/entries.h"

namespace bitflash::sim {
namespace {

// Key tiles of 128, ascending; up to head_dim 128 query tiles of 128 rows, as its counted bytes show. Beyond that its
// query tile is not known: 64 rows by two warpgroups are assumed, which changes bytes but no bits.
Tiling DefaultTiling(const Attention& a, const Gpu&) {
  const bool wide = std::max(a.head_dim, a.head_dim_v) > 128;
  return {.Br = wide ? 64 : 128, .Bc = 128, .warps = 8, .stages = wide ? 1 : 2};
}

void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  Fa3Forward().Run(stream, a, t, recipe);
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
