// The first launch of split-KV decoding with TMA, for split_kv_decode.cu only. CUDA sources only.
#ifndef BITFLASH_GPU_SPLIT_KV_LAUNCH_H_
#define BITFLASH_GPU_SPLIT_KV_LAUNCH_H_

#include "gpu/split_kv_part.cuh"

namespace bitflash::gpu::split_kv {

// Of a KV head; on compute capability 9.0 a warpgroup takes the parts of more.
inline constexpr int64_t kMostRowsOfWarp = 16;

// A block for each part, KV head and tile of query rows. Parts innermost: blocks that run together read neighbouring
// memory (0.5 to 1 % faster than heads innermost).
template <class C>
dim3 PartsGrid(const data::Attention& a, const Parameters& p) {
  return {static_cast<unsigned>(p.parts), static_cast<unsigned>(a.batch * a.heads_kv),
          static_cast<unsigned>((p.rows + C::Br - 1) / C::Br)};
}

// Whether TMA can address the caches: compute capability 9.0, head_dim a multiple of 64, at least one key, strides
// neither negative nor, where there is more than one of their kind, zero or a tebibyte.
bool TmaTakes(const data::Attention& attention, const Options& options, const Tensors& tensors);

// `parameters` as for the portable kernel.
void LaunchHopperParts(const data::Attention& attention, const Options& options, const Parameters& parameters,
                       Stream& stream);

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_LAUNCH_H_
