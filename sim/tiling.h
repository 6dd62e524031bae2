// The free choices of a kernel: they change bytes, time and feasibility, never what is computed.
#ifndef BITFLASH_SIM_TILING_H_
#define BITFLASH_SIM_TILING_H_

#include <cstdint>
#include <string>

namespace bitflash::sim {

// Letters as in the FlashAttention papers: Br query rows and Bc keys a tile (kBlockM and kBlockN in the CUDA sources).
struct Tiling {
  int64_t Br = 128;
  int64_t Bc = 128;
  int64_t warps = 4;         // warps that issue matrix instructions (fa3: consumer warps, 4 a warpgroup)
  int64_t stages = 1;        // K and V tiles in flight in shared memory
  int64_t splits = 1;        // equal parts of the keys that separate blocks work on
  int64_t part_keys = 0;     // or parts of this many keys each, counted from key 0; 0: `splits` equal parts
  int64_t page_size = 0;     // keys a page of a paged KV cache; 0: contiguous
  bool pack_gqa = false;     // query heads of a KV head are rows of one tile
  bool fp32_scores = false;  // standard: S in HBM as fp32 instead of the input format
  bool row_on_chip = true;   // standard: a row of scores fits on chip, so softmax reads S once
  int64_t row_blocks = 1;    // split-kv: blocks that combine the parts of one row, each for some of its columns
  bool tma = false;  // as our CUDA kernel on sm90: Q, K, V and P (`standard`) come in boxes by TMA, S leaves by it

  bool operator==(const Tiling&) const = default;
};

// "128x64, 4 warps, 1 stage".
std::string ToString(const Tiling& tiling);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TILING_H_
