// The host side of FlashAttention-2: which tile for which head_dim, and the launch.
#include <algorithm>

#include "gpu/check.h"
#include "gpu/entries.h"
#include "gpu/fa2_forward.cuh"
#include "gpu/launch.h"

namespace bitflash::gpu {
namespace {

// Br and Bc are those of the published kernel on a part with much shared memory: Bc decides bits, so a GPU never
// changes it. Four warps of 32 rows (16 at 256 columns, where O alone takes 128 registers) run twice on an SM.
constexpr Tile TileOfHeadDim(int64_t d) {
  if (d <= 64) return {128, 128, 4};
  if (d <= 128) return {128, 64, 4};
  if (d <= 192) return {128, 64, 8};
  return {64, 64, 4};
}

Tile TileOf(const data::Attention& a) { return TileOfHeadDim(a.head_dim); }

std::string Refusal(const data::Attention& a, const Options&) {
  if (std::string why = CommonRefusal(a); !why.empty()) return why;
  constexpr int64_t kMost = 65535;  // of the y and z axes of a grid
  if (a.heads_q > kMost || a.batch > kMost) {
    return "batch " + std::to_string(a.batch) + ", heads_q " + std::to_string(a.heads_q) + ": at most 65535 each";
  }
  return LengthRefusal(a);
}

int64_t WorkspaceBytes(const data::Attention&, const Options&) { return 0; }

fa2::Parameters ParametersOf(const data::Attention& a, const Tensors& t) {
  return {.t = t,
          .seqlen_q = static_cast<int>(a.seqlen_q),
          .group = static_cast<int>(a.group()),
          .visible = VisibleKeys(a.mask, a.seqlen_q, static_cast<int>(a.seqlen_k)),
          .scale = ScaleOf(a)};
}

template <class C>
void LaunchConfig(const data::Attention& a, const fa2::Parameters& parameters, Stream& stream) {
  const dim3 grid(static_cast<unsigned>((a.seqlen_q + C::Br - 1) / C::Br), static_cast<unsigned>(a.heads_q),
                  static_cast<unsigned>(a.batch));
  LaunchKernel(fa2::fa2_forward<C>, "fa2_forward", {grid, C::kThreads, C::kSharedBytes}, stream, parameters);
}

void Launch(const data::Attention& a, const Options& options, const Tensors& tensors, void*, Stream& stream) {
  Validate(Fa2Forward(), a, options, tensors);
  const fa2::Parameters parameters = ParametersOf(a, tensors);
  const int shared_limit = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  ForTypeAndHeadDim(a, [&](auto type, auto head_dim) {
    using T = decltype(type);
    constexpr int D = head_dim;
    constexpr Tile kTile = TileOfHeadDim(D);
    using OneStage = fa2::Config<T, D, kTile.Br, kTile.Bc, kTile.warps, 1>;
    using TwoStages = fa2::Config<T, D, kTile.Br, kTile.Bc, kTile.warps, 2>;
    // Two stages where all blocks of an SM have room for them; each block costs 1 KiB more.
    if (TwoStages::kBlocksPerSm * (TwoStages::kSharedBytes + 1024) <= shared_limit) {
      LaunchConfig<TwoStages>(a, parameters, stream);
    } else {
      LaunchConfig<OneStage>(a, parameters, stream);
    }
  });
}

}  // namespace

const Kernel& Fa2Forward() {
  static const Kernel kernel = {.name = "fa2",
                                .title = "FlashAttention-2 forward, mma.sync and cp.async",
                                .launches = {"fa2_forward"},
                                .TileOf = TileOf,
                                .Refusal = Refusal,
                                .WorkspaceBytes = WorkspaceBytes,
                                .Launch = Launch};
  return kernel;
}

}  // namespace bitflash::gpu
