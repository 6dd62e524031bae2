// Random attention problems and tilings for property tests: small, ragged, every mask.
#ifndef BITFLASH_SIM_RANDOM_PROBLEM_H_
#define BITFLASH_SIM_RANDOM_PROBLEM_H_

#include <algorithm>
#include <random>

#include "sim/kernels/kernels.h"

namespace bitflash::sim {

struct RandomProblem {
  Attention attention;
  Tiling tiling;
};

// Any problem that the kernel takes. Lengths up to `longest`, often next to a multiple of the tile.
inline RandomProblem MakeRandomProblem(std::mt19937_64& rng, const Kernel& kernel, int64_t longest) {
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); };
  RandomProblem p;
  Attention& a = p.attention;
  Tiling& t = p.tiling;
  const bool wgmma = kernel.mma == MmaInstruction::kWgmma;
  t.Br = wgmma ? 64 * pick(1, 3) : 16 * pick(1, 8);
  t.Bc = 16 * pick(1, 8);
  t.warps = wgmma ? t.Br / 16 : int64_t{4} << pick(0, 1);
  t.stages = pick(1, 4);
  const auto length = [&](int64_t tile) {
    const int64_t near = tile * pick(0, longest / tile) + pick(-1, 1);
    return std::clamp<int64_t>(pick(0, 1) ? near : pick(1, longest), 1, longest);
  };
  a.batch = pick(1, 3);
  a.heads_kv = pick(1, 3);
  a.heads_q = a.heads_kv * pick(1, 5);
  a.seqlen_q = pick(0, 4) == 0 ? 1 : length(t.Br);
  a.seqlen_k = pick(0, 20) == 0 ? 0 : length(t.Bc);
  a.head_dim = 8 * pick(1, 24);
  a.head_dim_v = pick(0, 2) ? a.head_dim : 8 * pick(1, 24);
  a.format = kernel.formats[pick(0, static_cast<int64_t>(kernel.formats.size()) - 1)];
  a.softcap = pick(0, 3) ? 0 : 30;
  switch (pick(0, 4)) {
    case 0:
      break;
    case 1:
      a.mask = data::Mask::Causal();
      break;
    case 2:
      a.mask = data::Mask::CausalTopLeft();
      break;
    default: {
      const auto side = [&] { return pick(0, 3) ? pick(0, longest) : data::Mask::kUnlimited; };
      const int64_t left = side();
      a.mask = data::Mask::Window(left, side());
    }
  }
  if (kernel.stores_scores) {
    t.fp32_scores = pick(0, 1);
    t.row_on_chip = pick(0, 1);
  } else if (kernel.packs_heads) {
    t.pack_gqa = pick(0, 1);
  }
  if (kernel.fixed_parts) t.row_blocks = pick(1, 4);
  const bool tma = kernel.stores_scores || kernel.fixed_parts || wgmma;
  if (tma && data::StorageBytes(a.format) == 2) t.tma = pick(0, 1);
  a.v_is_in_k = a.head_dim_v <= a.head_dim && pick(0, 3) == 0;
  if (wgmma && pick(0, 3) == 0) t.warps *= 2;  // warpgroups that divide the columns
  if (data::StorageBytes(a.format) == 1) t.Bc = (t.Bc + 31) / 32 * 32;
  if (kernel.fixed_parts && pick(0, 1)) {
    t.part_keys = t.Bc * pick(1, 4);
  } else if (kernel.splits_keys) {
    t.splits = pick(1, 9);
  }
  if (kernel.pages) {
    t.page_size = pick(0, 1) ? 0 : pick(0, 1) ? t.Bc * pick(1, 4) : t.Bc >> pick(0, 4);
  }
  return p;
}

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_RANDOM_PROBLEM_H_
