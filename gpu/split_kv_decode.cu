// The host side of split-KV decoding: row tiles, workspace, and the two launches.
#include <algorithm>
#include <bit>

#include "gpu/check.h"
#include "gpu/entries.h"
#include "gpu/launch.h"
#include "gpu/split_kv_combine.cuh"
#include "gpu/split_kv_decode.cuh"
#include "gpu/split_kv_launch.h"

namespace bitflash::gpu {
namespace {

constexpr int64_t kBc = 64;

int64_t Rows(const data::Attention& a) { return a.seqlen_q * a.group(); }  // of a KV head
int64_t Parts(const data::Attention& a, const Options& options) {
  return (a.seqlen_k + options.chunk - 1) / options.chunk;
}

// Two tiles of 16 rows a warp read each key half as often; beyond 128 columns their O and S have no room. (Up to 8 rows
// are columns on compute capability 9.0, split_kv_rows8.cuh: rows without a query change no bit.)
int RowTiles(const data::Attention& a) { return Rows(a) > 16 && a.head_dim <= 128 ? 2 : 1; }

Tile PortableTileOf(const data::Attention& a) { return {16 * RowTiles(a), kBc, 1}; }
// Of caches that TMA can address.
Tile TileOf(const data::Attention& a) {
  const bool warpgroup = Rows(a) > split_kv::kMostRowsOfWarp && a.head_dim % 64 == 0 && IsHopper();
  return warpgroup ? Tile{64, kBc, 4} : PortableTileOf(a);
}

std::string Refusal(const data::Attention& a, const Options& options) {
  if (std::string why = CommonRefusal(a); !why.empty()) return why;
  if (options.chunk < kBc || options.chunk % kBc != 0 || options.chunk > INT32_MAX) {
    return "parts of " + std::to_string(options.chunk) + " keys: a multiple of 64 below 2^31 is needed";
  }
  if (options.page_size != 0 &&
      (options.page_size < 8 || options.page_size > 1 << 30 || !std::has_single_bit(uint64_t(options.page_size)))) {
    return "pages of " + std::to_string(options.page_size) + " keys: a power of two from 8 to 2^30 is needed";
  }
  constexpr int64_t kMostParts = 16384;  // whose weights the combine kernel keeps in shared memory
  if (Parts(a, options) > kMostParts) {
    return std::to_string(Parts(a, options)) + " parts of " + std::to_string(options.chunk) + " keys: at most " +
           std::to_string(kMostParts);
  }
  constexpr int64_t kMostBlocks = 65535;  // of the y and z axes of a grid
  if ((Rows(a) + 15) / 16 > kMostBlocks || a.batch * a.heads_kv > kMostBlocks) {
    return "batch " + std::to_string(a.batch) + ", heads " + std::to_string(a.heads_q) + "/" +
           std::to_string(a.heads_kv) + ", seqlen_q " + std::to_string(a.seqlen_q) +
           ": at most 65535 sequences times KV heads, and 1048560 query rows a KV head";
  }
  return LengthRefusal(a);
}

// Rows of partial results. The workspace holds O of all, then m, then l.
int64_t PartRows(const data::Attention& a, const Options& options) {
  return a.batch * a.heads_kv * Rows(a) * Parts(a, options);
}
int64_t WorkspaceBytes(const data::Attention& a, const Options& options) {
  return PartRows(a, options) * (a.head_dim_v + 2) * static_cast<int64_t>(sizeof(float));
}

split_kv::Parameters ParametersOf(const data::Attention& a, const Options& options, const Tensors& t, void* workspace) {
  const int64_t part_rows = PartRows(a, options);
  float* const o_part = static_cast<float*>(workspace);
  return {.t = t,
          .o_part = o_part,
          .m_part = o_part + part_rows * a.head_dim_v,
          .l_part = o_part + part_rows * (a.head_dim_v + 1),
          .mask = a.mask,
          .seqlen_q = static_cast<int>(a.seqlen_q),
          .seqlen_k = static_cast<int>(a.seqlen_k),
          .heads_kv = static_cast<int>(a.heads_kv),
          .group = static_cast<int>(a.group()),
          .rows = static_cast<int>(Rows(a)),
          .chunk = static_cast<int>(options.chunk),
          .parts = static_cast<int>(Parts(a, options)),
          .log2_page = options.page_size ? std::countr_zero(static_cast<uint64_t>(options.page_size)) : 0,
          .scale = ScaleOf(a)};
}

template <class C>
void LaunchParts(const data::Attention& a, const split_kv::Parameters& p, Stream& stream) {
  // More blocks than keep 96 KiB in flight on an SM only get in one another's way: 36 KiB hide the latency of 4.8 TB/s.
  // Three blocks of 32 KiB were 0.3 to 0.5 % faster than four, those 0.5 to 1 % faster than six; two were slower with
  // few sequences (H100, gpu/bench/bench.py). So each asks for its share of the shared memory.
  constexpr int kNeeded = C::kRingBytes + C::kQBytes;
  constexpr int kBlocksPerSm = std::max(1, 96 * 1024 / C::kRingBytes);
  const int share = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) / kBlocksPerSm - 1024;
  const int limit = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const auto shared_bytes = static_cast<size_t>(std::max(kNeeded, std::min(share, limit)));
  LaunchKernel(split_kv::split_kv_decode<C>, "split_kv_decode", {split_kv::PartsGrid<C>(a, p), 32, shared_bytes},
               stream, p);
}

template <class T, int D, bool kPaged>
void LaunchRowTiles(const data::Attention& a, const split_kv::Parameters& p, Stream& stream) {
  if constexpr (D <= 128) {
    if (RowTiles(a) == 2) return LaunchParts<split_kv::CopyConfig<T, D, 32, kPaged>>(a, p, stream);
  }
  LaunchParts<split_kv::CopyConfig<T, D, 16, kPaged>>(a, p, stream);
}

void LaunchPortableParts(const data::Attention& a, const split_kv::Parameters& p, Stream& stream) {
  ForTypeAndHeadDim(a, [&](auto type, auto head_dim) {
    p.t.block_table != nullptr ? LaunchRowTiles<decltype(type), head_dim, true>(a, p, stream)
                               : LaunchRowTiles<decltype(type), head_dim, false>(a, p, stream);
  });
}

void LaunchCombine(const data::Attention& a, const split_kv::Parameters& p, bool overlap, Stream& stream) {
  ForTypeAndHeadDim(a, [&](auto type, auto head_dim) {
    using T = decltype(type);
    constexpr int D = head_dim;
    const int64_t rows = a.batch * a.heads_kv * Rows(a);
    const auto launch = [&]<int kBlocksPerRow>(std::integral_constant<int, kBlocksPerRow>) {
      LaunchKernel(split_kv::split_kv_combine<T, D, kBlocksPerRow>, "split_kv_combine",
                   {{static_cast<unsigned>(rows), kBlocksPerRow},
                    split_kv::kCombineThreads<kBlocksPerRow>,
                    2 * sizeof(float) * static_cast<size_t>(p.parts),
                    overlap},
                   stream, p);
    };
    // As many blocks a row as it has groups of 32 columns where the rows alone leave SMs idle.
    const bool few = rows < 2 * DeviceAttribute(cudaDevAttrMultiProcessorCount);
    few ? launch(std::integral_constant<int, D / 32>()) : launch(std::integral_constant<int, 1>());
  });
}

void Launch(const Kernel& kernel, const data::Attention& a, const Options& options, const Tensors& tensors,
            void* workspace, Stream& stream, bool portable) {
  Validate(kernel, a, options, tensors);
  const split_kv::Parameters p = ParametersOf(a, options, tensors, workspace);
  const bool tma = !portable && split_kv::TmaTakes(a, options, tensors);
  if (tma) {
    split_kv::LaunchHopperParts(a, options, p, stream);
  } else if (p.parts > 0) {
    LaunchPortableParts(a, p, stream);
  }
  if (p.IsWhole()) return;
  const bool overlap = DeviceAttribute(cudaDevAttrComputeCapabilityMajor) >= 9 && p.parts > 0;
  LaunchCombine(a, p, overlap, stream);
}

Kernel Named(std::string_view name, std::string_view title, decltype(Kernel::TileOf) tile_of,
             decltype(Kernel::Launch) launch) {
  return {.name = name,
          .title = title,
          .launches = {"split_kv_decode", "split_kv_combine"},
          .takes_key_lengths = true,
          .takes_pages = true,
          .TileOf = tile_of,
          .Refusal = Refusal,
          .WorkspaceBytes = WorkspaceBytes,
          .Launch = launch};
}

}  // namespace

const Kernel& SplitKvDecode() {
  static const Kernel kernel =
      Named("split-kv", "Split-KV decode (flash-decoding) and combine, mma.sync", TileOf,
            [](const data::Attention& a, const Options& options, const Tensors& tensors, void* workspace,
               Stream& stream) { Launch(SplitKvDecode(), a, options, tensors, workspace, stream, false); });
  return kernel;
}

const Kernel& SplitKvDecodePortable() {
  static const Kernel kernel =
      Named("split-kv-portable", "Split-KV decode (flash-decoding) and combine, mma.sync and cp.async", PortableTileOf,
            [](const data::Attention& a, const Options& options, const Tensors& tensors, void* workspace,
               Stream& stream) { Launch(SplitKvDecodePortable(), a, options, tensors, workspace, stream, true); });
  return kernel;
}

}  // namespace bitflash::gpu
