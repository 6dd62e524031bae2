// Standard attention: three launches with S and P in HBM between them, each the twin of the launch of the same name in
// sim/kernels/standard_forward.cc. The baseline that savings are measured against, so it must be a good one: every
// launch aims at the time that HBM takes for its bytes. Key tiles that the mask hides from a whole query tile are
// skipped in all three; P of such tiles is neither written nor read.
#include <cuda_runtime.h>

#include <algorithm>
#include <limits>
#include <string>

#include "gpu/check.h"
#include "gpu/entries.h"
#include "gpu/launch.h"
#include "gpu/standard_launch.h"
#include "gpu/standard_output.cuh"
#include "gpu/standard_scores.cuh"
#include "gpu/standard_softmax.cuh"

namespace bitflash::gpu {
namespace {

using data::Attention;

constexpr int64_t kMaxSequence = int64_t{1} << 30;
constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max();

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// --- The problem as the kernels see it -------------------------------------------------------------------------------

// A row's first key and end relative to its number. Beyond 2^30 there is no row and no key.
void SetMask(const Attention& a, StandardProblem& p) {
  using Kind = data::Mask::Kind;
  const auto offset = [](int64_t x) { return static_cast<int>(std::clamp(x, -kMaxSequence, kMaxSequence)); };
  const int64_t diagonal = a.seqlen_k - a.seqlen_q;
  // A side of a window is any int64: two sequences' length of it hides nothing.
  const auto side = [](int64_t keys) { return std::min(keys, 2 * kMaxSequence); };
  p.first_offset = offset(-kMaxSequence);
  p.end_offset = offset(kMaxSequence);
  switch (a.mask.kind) {
    case Kind::kFull:
      p.full = true;
      break;
    case Kind::kCausal:
      p.end_offset = offset(diagonal + 1);
      break;
    case Kind::kCausalTopLeft:
      p.end_offset = 1;
      break;
    case Kind::kWindow:
      if (a.mask.left != data::Mask::kUnlimited) p.first_offset = offset(diagonal - side(a.mask.left));
      if (a.mask.right != data::Mask::kUnlimited) p.end_offset = offset(diagonal + side(a.mask.right) + 1);
      break;
  }
}

StandardProblem Problem(const Attention& a, const Tensors& t, int Br) {
  const Scale scale = ScaleOf(a);
  StandardProblem p{.Br = Br,
                    .seqlen_q = static_cast<int>(a.seqlen_q),
                    .seqlen_k = static_cast<int>(a.seqlen_k),
                    .head_dim = static_cast<int>(a.head_dim),
                    .heads_q = static_cast<int>(a.heads_q),
                    .group = static_cast<int>(a.group()),
                    .heads = static_cast<int>(a.batch * a.heads_q),
                    .query_tiles = static_cast<int>(CeilDiv(a.seqlen_q, Br)),
                    .scale = scale.natural,
                    .scale_log2 = scale.log2,
                    .q_strides = t.q_strides,
                    .k_strides = t.k_strides,
                    .v_strides = t.v_strides,
                    .o_strides = t.o_strides};
  SetMask(a, p);
  p.pitch = CeilDiv(a.seqlen_k, 64) * 64;
  return p;
}

// --- Workspace: S, then P --------------------------------------------------------------------------------------------

int64_t ScoreElements(const Attention& a) { return a.batch * a.heads_q * a.seqlen_q * (CeilDiv(a.seqlen_k, 64) * 64); }
int64_t ScoreBytes(const Attention& a, const Options& options) {
  return CeilDiv(ScoreElements(a) * (options.fp32_scores ? 4 : 2), 256) * 256;
}
int64_t WorkspaceBytes(const Attention& a, const Options& options) {
  return ScoreBytes(a, options) + ScoreElements(a) * 2;
}

std::string Refusal(const Attention& a, const Options&) {
  if (std::string why = CommonRefusal(a); !why.empty()) return why;
  if (std::string why = LengthRefusal(a); !why.empty()) return why;
  // The grids are one-dimensional: a block for a row, and for a tile of S.
  const int64_t rows_limit = kMaxBlocks / std::max<int64_t>(1, a.seqlen_q);
  const int64_t tiles = CeilDiv(a.seqlen_q, kPortableRows) * std::max<int64_t>(2, CeilDiv(a.seqlen_k, kKeysPerTile));
  const int64_t heads = a.batch * a.heads_q;
  if (heads > rows_limit || heads > kMaxBlocks / std::max<int64_t>(1, tiles)) {
    return "batch " + std::to_string(a.batch) + ", heads " + std::to_string(a.heads_q) + ", seqlen " +
           std::to_string(a.seqlen_q) + " x " + std::to_string(a.seqlen_k) +
           ": at most 2^31 - 1 query rows, and tiles of 128 x 128 scores, are accepted";
  }
  return "";
}

// --- Launches --------------------------------------------------------------------------------------------------------

template <class Kernel, class... Arguments>
void LaunchBlocks(const char* name, Kernel kernel, int64_t blocks, int threads, int shared_bytes, CUstream_st* stream,
                  const Arguments&... arguments) {
  if (shared_bytes > 32 * 1024) {  // beyond 48 KiB, with what is static, a kernel must ask
    Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), name);
  }
  kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes, stream>>>(arguments...);
  CheckLaunch(name);
}

template <class T, class S>
void LaunchScores(const StandardProblem& p, const StandardTensors& t, CUstream_st* stream) {
  const int64_t tiles = CeilDiv(p.seqlen_k, kKeysPerTile);
  LaunchBlocks("standard_scores", standard_scores<T, S>, tiles * p.query_tiles * p.heads, kTileThreads,
               kScoresSharedBytes, stream, p, static_cast<const T*>(t.q), static_cast<const T*>(t.k),
               static_cast<S*>(t.s));
}

// The longest row of S that a block reads.
int LongestRow(const StandardProblem& p) {
  int keys = 0;
  for (int i = 0; i < p.query_tiles; ++i) {
    keys = std::max(keys, Columns(p, KeyTiles(p, i)).count());
    if (keys == p.seqlen_k) break;
  }
  return keys;
}

template <class T, class S>
void LaunchSoftmax(const StandardProblem& p, const StandardTensors& t, float* lse, CUstream_st* stream) {
  const bool on_chip = StandardRowOnChip(p.seqlen_k, DeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  const int64_t rows = int64_t{p.heads} * p.seqlen_q;
  LaunchBlocks("standard_softmax", on_chip ? standard_softmax<T, S, true> : standard_softmax<T, S, false>, rows,
               kSoftmaxThreads, SoftmaxSharedBytes<S>(on_chip, LongestRow(p)), stream, p, static_cast<const S*>(t.s),
               static_cast<T*>(t.p), lse);
}

template <class T, int kColumns>
void LaunchOutput(const StandardProblem& p, const StandardTensors& t, CUstream_st* stream) {
  // Three stages where two blocks of them fit an SM.
  constexpr int kThree = kOutputSharedBytes<kColumns, 3>, kTwo = kOutputSharedBytes<kColumns, 2>;
  const int shared = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  const bool three = 2 * (kThree + DeviceAttribute(cudaDevAttrReservedSharedMemoryPerBlock)) <= shared;
  LaunchBlocks("standard_output", three ? standard_output<T, kColumns, 3> : standard_output<T, kColumns, 2>,
               CeilDiv(p.head_dim, kColumns) * p.query_tiles * p.heads, kTileThreads, three ? kThree : kTwo, stream, p,
               static_cast<const T*>(t.p), static_cast<const T*>(t.v), static_cast<T*>(t.o));
}

template <class T, class S>
void LaunchAll(const StandardProblem& p, const StandardTensors& t, float* lse, bool wgmma, CUstream_st* stream) {
  if (p.seqlen_k > 0) wgmma ? LaunchHopperScores<T, S>(p, t, stream) : LaunchScores<T, S>(p, t, stream);
  LaunchSoftmax<T, S>(p, t, lse, stream);
  if (wgmma) return LaunchHopperOutput<T>(p, t, stream);
  p.head_dim == 64 ? LaunchOutput<T, 64>(p, t, stream) : LaunchOutput<T, kOutputColumns>(p, t, stream);
}

void Launch(const Kernel& kernel, const Attention& a, const Options& options, const Tensors& tensors, void* workspace,
            Stream& stream, bool wgmma) {
  Validate(kernel, a, options, tensors);
  // Without keys there is nothing to multiply: the portable kernels write the zeros.
  wgmma &= a.seqlen_k > 0;
  const StandardProblem p = Problem(a, tensors, wgmma ? kHopperRows : kPortableRows);
  const StandardTensors t{
      tensors.q, tensors.k, tensors.v, workspace, static_cast<char*>(workspace) + ScoreBytes(a, options), tensors.o};
  const auto launch = [&]<class T>(T) {
    options.fp32_scores ? LaunchAll<T, float>(p, t, tensors.lse, wgmma, stream.get())
                        : LaunchAll<T, T>(p, t, tensors.lse, wgmma, stream.get());
  };
  a.format == data::Format::kFp16 ? launch(__half()) : launch(__nv_bfloat16());
}

Tile TileOf(bool wgmma) {
  return {.Br = wgmma ? kHopperRows : kPortableRows, .Bc = kKeysPerTile, .warps = wgmma ? 8 : 4, .stages = 2};
}

}  // namespace

bool StandardRowOnChip(int64_t seqlen_k, int64_t shared_bytes_per_block) {
  return seqlen_k <= kRegisterRow || seqlen_k * 4 <= shared_bytes_per_block;
}

const Kernel& StandardForward() {
  static const Kernel kernel{
      .name = "standard",
      .title = "Standard attention, three kernels",
      .launches = {"standard_scores", "standard_softmax", "standard_output"},
      .TileOf = [](const Attention&) { return TileOf(IsHopper()); },
      .Refusal = Refusal,
      .WorkspaceBytes = WorkspaceBytes,
      .Launch = [](const Attention& a, const Options& options, const Tensors& tensors, void* workspace,
                   Stream& stream) { Launch(StandardForward(), a, options, tensors, workspace, stream, IsHopper()); }};
  return kernel;
}

const Kernel& StandardForwardPortable() {
  static const Kernel kernel{
      .name = "standard-portable",
      .title = "Standard attention, three kernels, mma.sync",
      .launches = {"standard_scores", "standard_softmax", "standard_output"},
      .TileOf = [](const Attention&) { return TileOf(false); },
      .Refusal = Refusal,
      .WorkspaceBytes = WorkspaceBytes,
      .Launch =
          [](const Attention& a, const Options& options, const Tensors& tensors, void* workspace, Stream& stream) {
            Launch(StandardForwardPortable(), a, options, tensors, workspace, stream, false);
          }};
  return kernel;
}

}  // namespace bitflash::gpu
