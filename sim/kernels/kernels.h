// The list of simulated kernels.
#ifndef BITFLASH_SIM_KERNELS_KERNELS_H_
#define BITFLASH_SIM_KERNELS_KERNELS_H_

#include <string_view>
#include <vector>

#include "data/attention.h"
#include "data/gpu.h"
#include "sim/recipe.h"
#include "sim/stream.h"
#include "sim/tiling.h"

namespace bitflash::sim {

using data::Gpu;

// A tile that others publish for their kernel of the same algorithm.
struct PublishedTile {
  std::string_view by, source;  // "FlashAttention-3"; the file that holds it
  int64_t Br = 0, Bc = 0, warps = 0, stages = 1;
  std::string_view differs;  // what theirs does otherwise, where that decides whether the tile fits
};

// An entry of the list: what people call the kernel, where it is published, what it needs, and its text.
struct Kernel {
  std::string_view name;     // "fa2"; what --kernel takes
  std::string_view title;    // "FlashAttention-2 forward"
  std::string_view source;   // paper and algorithm
  std::string_view summary;  // one sentence: its idea
  int min_arch;              // 80: sm80 and newer
  std::vector<Format> formats;

  // The tile that the kernel takes for this problem on this GPU: the published one, or that of gpu/ (own_tile).
  Tiling (*DefaultTiling)(const Attention& attention, const Gpu& gpu);

  // The launches, in order.
  void (*Run)(Stream& stream, const Attention& attention, const Tiling& tiling, const Recipe& recipe);

  Recipe recipe = {};              // the choices that decide bits
  std::string_view own_tile = "";  // why, when DefaultTiling is that of the kernel in gpu/; empty: it is published
  // What others take where DefaultTiling is our own; null: nobody, or DefaultTiling is theirs.
  PublishedTile (*Published)(const Attention& attention, const Gpu& gpu) = nullptr;
  MmaInstruction mma = MmaInstruction::kMmaSync;  // kWgmma: sm90 only, tiles of 64 rows a warpgroup
  int64_t max_head_dim = 0;                       // 0: whatever fits on chip
  int64_t min_seqlen_q = 1;                       // shorter: another kernel runs, whose recipe is not known
  bool keys_outside = false;                      // its outer loop runs over the keys, one block a head
  bool splits_keys = false;                       // takes Tiling::splits
  bool fixed_parts = false;                       // takes Tiling::part_keys
  bool pages = false;                             // takes Tiling::page_size
  bool packs_heads = true;                        // takes Tiling::pack_gqa
  bool stores_scores = false;                     // takes Tiling::fp32_scores
  // The matrices of one head that live in global memory between launches; null: none.
  std::vector<GlobalMatrix> (*Scratch)(const Attention& attention, const Tiling& tiling) = nullptr;
};

const std::vector<Kernel>& Kernels();

// Throws UsageError with the accepted names.
const Kernel& FindKernel(std::string_view name);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_KERNELS_KERNELS_H_
