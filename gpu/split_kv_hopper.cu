// Launches of split-KV decoding with TMA.
#include <algorithm>
#include <bit>

#include "gpu/launch.h"
#include "gpu/split_kv_hopper.cuh"
#include "gpu/split_kv_launch.h"
#include "gpu/split_kv_warpgroup.cuh"
#include "gpu/tensor_map.h"

namespace bitflash::gpu::split_kv {
namespace {

// Slices of 8 to 16 KiB, and how many warps with which ring share an SM. 64 to 96 KiB in flight hide the latency; more,
// with few long rings or with many, was 0.5 to 3 % slower. Pages make a part begin later (the block table comes first):
// two warps more fill in (H100; gpu/README.md has the numbers).
template <class T, int D, int Br, bool kPaged>
struct HopperShape {
  static constexpr int kSliceKeys = D <= 128 ? 64 : 32;
  static constexpr int kRing = D > 64 || kPaged ? 32 : 48;  // KiB
  static constexpr int kBlocksPerSm = kPaged ? 4 : D <= 128 ? 2 : 3;
  using Config = split_kv::Config<T, D, Br, kPaged, kSliceKeys, kRing * 1024 / (kSliceKeys * D * 2), true>;
};

// A cache as TMA sees it. How many pages it has is not known, nor needed: no table names one beyond the last.
MappedTensor MappedCache(const char* name, const data::Attention& a, const Options& options, const void* address,
                         const Strides& strides) {
  const bool paged = options.page_size > 0;
  return {.name = name,
          .address = address,
          .element_bytes = 2,
          .batch = paged ? INT32_MAX : a.batch,
          .heads = a.heads_kv,
          .rows = paged ? options.page_size : a.seqlen_k,
          .columns = a.head_dim,
          .strides = strides};
}

// A part that a warpgroup takes: 48 KiB in flight in each of two blocks on an SM; beyond 128 columns O has so many
// registers that one block fits.
template <class T, int D, bool kPaged>
struct WarpgroupShape {
  static constexpr int kBlocksPerSm = D <= 128 ? 2 : 1;
  static constexpr int kRing = D <= 128 ? 48 : 160;  // KiB
  using Config = warpgroup::Config<T, D, kPaged, kRing * 1024 / (64 * D * 2), kBlocksPerSm>;
};

template <class Shape>
void LaunchShaped(const data::Attention& a, const Options& options, Parameters p, Stream& stream) {
  using C = typename Shape::Config;
  constexpr bool kWarpgroup = C::Br == 64;
  const int box_rows =
      C::kPaged ? static_cast<int>(std::min<int64_t>(options.page_size, C::kSliceKeys)) : C::kSliceKeys;
  p.log2_box = std::countr_zero(static_cast<unsigned>(box_rows));
  const MappedTensor k = MappedCache("K", a, options, p.t.k, p.t.k_strides);
  const MappedTensor v = MappedCache("V", a, options, p.t.v, p.t.v_strides);
  // Each block asks for its share of the shared memory, so that no more fit than are wanted.
  const int share = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) / Shape::kBlocksPerSm - 1024;
  if constexpr (kWarpgroup) {
    const auto shared_bytes = static_cast<size_t>(std::max(warpgroup::kSharedBytes<C>, share));
    LaunchKernel(warpgroup::split_kv_decode<C>, "split_kv_decode",
                 {PartsGrid<C>(a, p), C::kThreads, shared_bytes, true}, stream, p, MakeTensorMap(k, box_rows),
                 MakeTensorMap(v, box_rows));
  } else {
    const auto shared_bytes = static_cast<size_t>(std::max(hopper::kSharedBytes<C>, share));
    LaunchKernel(hopper::split_kv_decode<C>, "split_kv_decode", {PartsGrid<C>(a, p), 32, shared_bytes, true}, stream, p,
                 MakeRowsMap(k, box_rows), MakeRowsMap(v, box_rows));
  }
}

template <class T, int D, bool kPaged>
void LaunchRows(const data::Attention& a, const Options& options, const Parameters& p, Stream& stream) {
  if (p.rows <= 8) return LaunchShaped<HopperShape<T, D, 8, kPaged>>(a, options, p, stream);
  if (p.rows <= kMostRowsOfWarp) return LaunchShaped<HopperShape<T, D, 16, kPaged>>(a, options, p, stream);
  LaunchShaped<WarpgroupShape<T, D, kPaged>>(a, options, p, stream);
}

// TMA takes strides from 16 bytes to below 2^40.
bool IsMappable(const Strides& strides, int64_t batch, int64_t heads, int64_t rows) {
  const auto takes = [](int64_t stride, int64_t count) {
    return count <= 1 || (stride > 0 && stride < int64_t{1} << 39);
  };
  return takes(strides.batch, batch) && takes(strides.head, heads) && takes(strides.row, rows);
}

}  // namespace

bool TmaTakes(const data::Attention& a, const Options& options, const Tensors& t) {
  if (!IsHopper() || a.head_dim % 64 != 0 || a.seqlen_k == 0) return false;
  const int64_t batch = options.page_size > 0 ? 2 : a.batch;  // pages: always some
  const int64_t rows = options.page_size > 0 ? options.page_size : a.seqlen_k;
  return IsMappable(t.k_strides, batch, a.heads_kv, rows) && IsMappable(t.v_strides, batch, a.heads_kv, rows);
}

void LaunchHopperParts(const data::Attention& a, const Options& options, const Parameters& p, Stream& stream) {
  ForTypeAndHeadDim(a, [&](auto type, auto head_dim) {
    if constexpr (head_dim % 64 == 0) {
      options.page_size > 0 ? LaunchRows<decltype(type), head_dim, true>(a, options, p, stream)
                            : LaunchRows<decltype(type), head_dim, false>(a, options, p, stream);
    }
  });
}

}  // namespace bitflash::gpu::split_kv
