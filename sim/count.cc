#include "sim/count.h"

#include <algorithm>
#include <array>

#include "data/error.h"
#include "sim/ceil_div.h"
#include "sim/count_stream.h"

namespace bitflash::sim {
namespace {

std::string Joined(const std::vector<Format>& formats) {
  std::string text;
  for (const Format format : formats) text += (text.empty() ? "" : ", ") + std::string(data::Name(format));
  return text;
}

int ArchNumber(const Gpu& gpu) { return std::stoi(gpu.arch.substr(2)); }

bool RunsOn(const Kernel& kernel, const Gpu& gpu) {
  return ArchNumber(gpu) >= kernel.min_arch && (kernel.mma != MmaInstruction::kWgmma || gpu.arch == "sm90");
}

// "standard, fa1".
std::string KernelsOf(const Gpu& gpu) {
  std::string names;
  for (const Kernel& kernel : Kernels()) {
    if (RunsOn(kernel, gpu)) names.append(names.empty() ? "" : ", ").append(kernel.name);
  }
  return names.empty() ? "none" : names;
}

// Why the kernel cannot take the problem, whatever the tile.
std::string Unsupported(const Kernel& kernel, const Attention& a, const Gpu& gpu) {
  const std::string name(kernel.name);
  if (!RunsOn(kernel, gpu)) {
    const bool old = ArchNumber(gpu) < kernel.min_arch;
    return "kernel " + name + " needs " +
           (old ? "sm" + std::to_string(kernel.min_arch) + " or newer, " : "wgmma, which only sm90 has; ") + gpu.name +
           " is " + gpu.arch + ": expected one of " + KernelsOf(gpu);
  }
  if (std::find(kernel.formats.begin(), kernel.formats.end(), a.format) == kernel.formats.end()) {
    return "kernel " + name + " does not take " + std::string(data::Name(a.format)) + ": expected one of " +
           Joined(kernel.formats);
  }
  if (kernel.max_head_dim > 0 && std::max(a.head_dim, a.head_dim_v) > kernel.max_head_dim) {
    return "kernel " + name + " takes head_dim up to " + std::to_string(kernel.max_head_dim) + ", not " +
           std::to_string(std::max(a.head_dim, a.head_dim_v));
  }
  if (a.format == Format::kBf16 && ArchNumber(gpu) < 80) {
    return gpu.name + " (" + gpu.arch + ") has no bf16 tensor cores: expected fp16";
  }
  if (a.format == Format::kTf32 && ArchNumber(gpu) < 80) {
    return gpu.name + " (" + gpu.arch + ") has no tf32 tensor cores: expected fp16 or fp32";
  }
  if (data::StorageBytes(a.format) == 1 && ArchNumber(gpu) < 89) {
    return gpu.name + " (" + gpu.arch + ") has no 8-bit floating-point tensor cores: expected a 16-bit format";
  }
  return "";
}

// Why the numbers of the tile themselves are wrong.
std::string BadTile(const Kernel& kernel, const Attention& a, const Tiling& t) {
  const auto require = [](bool holds, const std::string& field, int64_t value, const std::string& expected) {
    return holds ? std::string() : field + " is " + std::to_string(value) + ": expected " + expected;
  };
  const bool wgmma = kernel.mma == MmaInstruction::kWgmma;
  const int64_t rows = wgmma ? 64 : 16;
  const int64_t depth = data::StorageBytes(a.format) == 1 ? 32 : 16;  // keys are the depth of P V: 32 bytes at a time
  for (const std::string& reason : {
           require(t.Br >= rows && t.Br % rows == 0 && t.Br <= 1024, "Br", t.Br,
                   "a multiple of " + std::to_string(rows) + " up to 1024, the rows of one matrix instruction"),
           require(t.Bc >= depth && t.Bc % depth == 0 && t.Bc <= 1024, "Bc", t.Bc,
                   "a multiple of " + std::to_string(depth) + " up to 1024, the depth of one matrix instruction"),
           require(t.warps >= 1 && t.warps <= 32, "warps", t.warps, "1 to 32"),
           require(!wgmma || t.warps * 16 == t.Br || t.warps * 16 == 2 * t.Br, "warps", t.warps,
                   std::to_string(t.Br / 16) + ", one warpgroup of 4 warps for every 64 rows, or twice that, two that "
                                               "divide the columns of O"),
           require(t.stages >= 1 && t.stages <= 16, "stages", t.stages, "1 to 16"),
           require(t.splits >= 1 && t.splits <= (1 << 20), "splits", t.splits, "1 to 1048576"),
           require(t.part_keys == 0 || (t.part_keys > 0 && t.Bc > 0 && t.part_keys % t.Bc == 0), "part_keys",
                   t.part_keys, "0 (equal parts) or a multiple of Bc, which is " + std::to_string(t.Bc)),
           require(t.part_keys == 0 || t.splits == 1, "splits", t.splits,
                   "1: part_keys, which is " + std::to_string(t.part_keys) + ", says how many parts there are"),
           require(t.page_size >= 0 && t.page_size <= (1 << 20), "page_size", t.page_size, "0 (contiguous) to 1048576"),
           require(t.page_size == 0 || t.page_size % t.Bc == 0 || t.Bc % t.page_size == 0, "page_size", t.page_size,
                   "a divisor or a multiple of Bc, which is " + std::to_string(t.Bc)),
           require(t.splits == 1 || kernel.splits_keys, "splits", t.splits, "1: this kernel does not split the keys"),
           require(t.part_keys == 0 || kernel.fixed_parts, "part_keys", t.part_keys,
                   "0: this kernel has no parts of a given length"),
           require(t.page_size == 0 || kernel.pages, "page_size", t.page_size,
                   "0: this kernel does not read a paged cache"),
           require(!t.fp32_scores || kernel.stores_scores, "fp32_scores", 1, "0: this kernel stores no scores"),
           require(!t.pack_gqa || kernel.packs_heads, "pack_gqa", 1, "0: this kernel does not pack heads"),
       }) {
    if (!reason.empty()) return "kernel " + std::string(kernel.name) + ": " + reason;
  }
  return "";
}

// Blocks that differ are counted one by one, so a count has to end somewhere: 2^20 tiles of 128 are 128 Mi tokens.
constexpr int64_t kMostTiles = int64_t{1} << 20;
constexpr int64_t kMostColumns = 4096;

std::string TooLong(const Kernel& kernel, const Attention& a, const Tiling& t) {
  const auto refuse = [](const std::string& what, int64_t tiles, const std::string& field, int64_t rows) {
    return what + " would be cut into " + std::to_string(tiles) + " tiles: expected at most " +
           std::to_string(kMostTiles) + "; a larger " + field + " than " + std::to_string(rows) +
           " or a shorter sequence would do";
  };
  const int64_t columns = std::max(a.head_dim, a.head_dim_v);
  if (columns > kMostColumns) {
    return "head_dim is " + std::to_string(columns) + ": expected at most " + std::to_string(kMostColumns) +
           ", several times what any model has";
  }
  const int64_t query_tiles = QueryTileCount(a, t), key_tiles = CeilDiv(a.seqlen_k, t.Bc);
  if (query_tiles > kMostTiles) return refuse("the queries", query_tiles, "Br", t.Br);
  if (kernel.keys_outside && key_tiles > kMostTiles) return refuse("the keys", key_tiles, "Bc", t.Bc);
  if (t.part_keys > 0 && CeilDiv(a.seqlen_k, t.part_keys) > kMostTiles)
    return "the keys would be cut into " + std::to_string(CeilDiv(a.seqlen_k, t.part_keys)) +
           " parts: expected at most " + std::to_string(kMostTiles) + "; a larger part_keys than " +
           std::to_string(t.part_keys) + " or a shorter sequence would do";
  return "";
}

// Why the kernel cannot be counted at all; each question presumes that the ones before it have no answer.
std::string Refusal(const Kernel& kernel, const Attention& a, const Tiling& t, const Gpu& gpu) {
  std::string reason = Unsupported(kernel, a, gpu);
  if (reason.empty()) reason = BadTile(kernel, a, t);
  if (reason.empty()) reason = TooLong(kernel, a, t);
  return reason;
}

// True when sums over launches, tensors and directions would not stay below 2^62. In doubles nothing wraps.
bool TooLarge(const std::vector<CountStream::Launched>& launches) {
  constexpr double kMost = 0x1p62;
  double flops = 0, special = 0, fp32 = 0;
  std::array<double, 4> bytes{};
  for (const CountStream::Launched& launch : launches) {
    const Ledger& l = launch.ledger;
    flops += static_cast<double>(l.matrix_flops);
    special += static_cast<double>(l.special_ops);
    fp32 += static_cast<double>(l.fp32_ops);
    const PerTensor* const levels[] = {&l.hbm_compulsory, &l.l2_to_sm, &l.shared, &l.registers};
    for (size_t n = 0; n < bytes.size(); ++n) {
      for (const Traffic& t : *levels[n]) bytes[n] += static_cast<double>(t.read) + static_cast<double>(t.write);
    }
  }
  return std::max({flops, special, fp32, *std::max_element(bytes.begin(), bytes.end())}) >= kMost;
}

CountStream Evaluate(const Kernel& kernel, const Attention& a, const Tiling& t) {
  CountStream stream;
  kernel.Run(stream, a, t, kernel.recipe);
  if (stream.overflowed() || TooLarge(stream.launched())) {
    throw data::UsageError("some count of this problem passes 2^62: expected a smaller problem than " +
                           data::ToString(a));
  }
  return stream;
}

std::string DoesNotFit(const Kernel& kernel, const CountStream& stream, const Tiling& t, const Gpu& gpu) {
  for (const CountStream::Launched& launch : stream.launched()) {
    const std::string reason = Infeasible(launch.resources, gpu);
    if (!reason.empty())
      return "kernel " + std::string(kernel.name) + ", tile " + ToString(t) + ", launch " + launch.name + ": " + reason;
  }
  return "";
}

}  // namespace

Count CountKernel(const Kernel& kernel, const Attention& a, const Tiling& t, const Gpu& gpu) {
  data::Validate(a);
  const std::string refusal = Refusal(kernel, a, t, gpu);
  if (!refusal.empty()) throw data::UsageError(refusal);
  const CountStream stream = Evaluate(kernel, a, t);
  const std::string reason = DoesNotFit(kernel, stream, t, gpu);
  if (!reason.empty()) throw data::UsageError(reason);

  Count count;
  for (const CountStream::Launched& launched : stream.launched()) {
    LaunchCount launch{launched.name,  launched.grid, launched.resources, Occupy(launched.resources, gpu), 0,
                       launched.ledger};
    const int64_t slots = gpu.sms * launch.occupancy.blocks_per_sm;
    launch.waves = static_cast<double>(launch.grid.blocks()) / static_cast<double>(slots);
    if (launched.persistent) launch.grid = {std::min(launch.grid.blocks(), slots), 1, 1};
    count.total += launch.ledger;
    count.launches.push_back(std::move(launch));
  }
  return count;
}

std::string Infeasible(const Kernel& kernel, const Attention& a, const Tiling& t, const Gpu& gpu) {
  data::Validate(a);
  const std::string refusal = Refusal(kernel, a, t, gpu);
  if (!refusal.empty()) return refusal;
  return DoesNotFit(kernel, Evaluate(kernel, a, t), t, gpu);
}

Tiling ResolveTiling(const Kernel& kernel, const Attention& a, const Gpu& gpu, const TilingChoice& choice) {
  Tiling t = kernel.DefaultTiling(a, gpu);
  if (choice.Br) t.Br = *choice.Br;
  if (choice.Bc) t.Bc = *choice.Bc;
  if (choice.stages) t.stages = *choice.stages;
  if (choice.splits) {
    t.splits = *choice.splits;
    t.part_keys = 0;
  }
  if (choice.part_keys) t.part_keys = *choice.part_keys;
  // Parts are whole tiles: a published length follows a chosen tile.
  if (choice.Bc && *choice.Bc > 0 && !choice.part_keys) t.part_keys = CeilDiv(t.part_keys, t.Bc) * t.Bc;
  if (choice.page_size) t.page_size = *choice.page_size;
  if (choice.pack_gqa) t.pack_gqa = *choice.pack_gqa;
  if (choice.fp32_scores) t.fp32_scores = *choice.fp32_scores;
  if (choice.warps) {
    t.warps = *choice.warps;
  } else if (choice.Br || choice.Bc) {
    if (kernel.mma == MmaInstruction::kWgmma) {
      t.warps = std::max<int64_t>(1, t.Br / 16) * (std::max(a.head_dim, a.head_dim_v) > 256 ? 2 : 1);
    } else {
      // The fewest warps, of those that published kernels use, whose registers hold the tile.
      for (const int64_t warps : {4, 8}) {
        t.warps = std::min(warps, std::max<int64_t>(1, t.Br / 16));
        if (Infeasible(kernel, a, t, gpu).empty()) break;
      }
    }
  }
  return t;
}

}  // namespace bitflash::sim
