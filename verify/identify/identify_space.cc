#include "verify/identify/identify_space.h"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include "data/gpu.h"
#include "sim/count.h"
#include "sim/operands.h"
#include "sim/splits.h"
#include "sim/tensor_core.h"

namespace bitflash::verify {
namespace {

using data::Attention;

// Keys of a tile, those of published kernels first.
constexpr int64_t kTileKeys[] = {128, 64, 32, 256, 96, 80, 112, 176, 160, 192, 48, 16, 224, 144, 208, 240, 512};

// PyTorch's limit (flash_api.cpp, num_splits_heuristic).
constexpr int64_t kMostSplits = 128;

constexpr std::string_view kArchitectures[] = {"sm90", "sm80", "sm75", "sm70", "sm89", "sm86", "sm100"};

// The GPU whose published tile stands for the architecture.
struct Representative {
  std::string_view arch, gpu;
};
constexpr Representative kRepresentatives[] = {
    {"sm75", "t4"}, {"sm80", "a100-80gb"}, {"sm89", "l40s"}, {"sm90", "h200"}, {"sm100", "b200"}};

std::optional<data::Gpu> GpuOf(std::string_view arch) {
  for (const Representative& r : kRepresentatives) {
    if (r.arch == arch) return data::LoadGpu(r.gpu);
  }
  return std::nullopt;
}

// mma.sync's row of the table; wgmma's is the same for 16-bit formats.
const sim::TensorCore* Core(std::string_view arch, data::Format format) {
  for (const sim::TensorCore& core : sim::AllTensorCores()) {
    if (core.arch == arch && core.instruction == "mma.sync" && core.input == format &&
        core.accumulator == data::Format::kFp32) {
      return &core;
    }
  }
  return nullptr;
}

bool SameBits(const sim::TensorCore& a, const sim::TensorCore& b) {
  const auto key = [](const sim::TensorCore& core) {
    return std::tuple(core.products, core.alignment_bits, core.rounding, core.accumulator_add, core.step_order,
                      core.emax_floor);
  };
  return key(a) == key(b);
}

int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiles that differ for the problem: of those that hold all keys only the first.
std::vector<int64_t> TileKeys(int64_t seqlen_k) {
  std::vector<int64_t> keys;
  bool whole = false;
  for (const int64_t Bc : kTileKeys) {
    if (Bc >= seqlen_k && std::exchange(whole, true)) continue;
    keys.push_back(Bc);
  }
  return keys;
}

Candidate Make(std::string_view text, std::string_view arch, int64_t Bc) {
  Candidate candidate{&sim::FindKernel(text), {.Br = 16, .Bc = Bc, .warps = 1}, arch, {}};
  candidate.recipe.name = "identified";
  return candidate;
}

// Key tiles of a part, and how many threads of the combine kernel share the parts of a row: all that the number of
// splits decides (pytorch_fa2.cc).
std::pair<int64_t, int64_t> SplitClass(const Attention& a, int64_t Bc, int64_t splits) {
  int64_t pow2 = 2;
  while (pow2 < splits) pow2 *= 2;
  return {Ceil(Ceil(a.seqlen_k, Bc), splits), std::min<int64_t>(pow2, 32)};
}

template <typename Change>
void Add(std::vector<Alternative>& all, const Candidate& candidate, std::string choice, std::string value,
         const Change& change) {
  all.push_back({std::move(choice), std::move(value), candidate});
  change(all.back().candidate);
}

std::string TextMeaning(const Candidate& c) {
  if (c.text->name == "fa2") return "one pass over the keys, S and P on chip (FlashAttention-2 and later)";
  return std::string(c.text->summary);
}

}  // namespace

std::vector<std::string_view> DistinctArchitectures(data::Format format) {
  std::vector<std::string_view> distinct;
  for (const std::string_view arch : kArchitectures) {
    const sim::TensorCore* core = Core(arch, format);
    const auto like = [&](std::string_view other) { return SameBits(*Core(other, format), *core); };
    if (core != nullptr && std::ranges::none_of(distinct, like)) distinct.push_back(arch);
  }
  return distinct;
}

std::string LikeArchitectures(std::string_view arch, data::Format format) {
  std::string names(arch);
  for (const std::string_view other : kArchitectures) {
    const sim::TensorCore* core = Core(other, format);
    if (other != arch && core != nullptr && SameBits(*core, *Core(arch, format))) names.append(", ").append(other);
  }
  return names;
}

std::vector<Candidate> OnePassStructures(const Attention& a, std::string_view arch) {
  std::vector<Candidate> all;
  for (const int64_t Bc : TileKeys(a.seqlen_k)) {
    for (const sim::Order order : {sim::Order::kDescending, sim::Order::kAscending}) {
      if (Bc >= a.seqlen_k && order == sim::Order::kAscending) continue;  // one tile
      all.push_back(Make("fa2", arch, Bc));
      all.back().recipe.key_order = order;
    }
  }
  for (const bool fp32_scores : {false, true}) {
    all.push_back(Make("standard", arch, 128));
    // Rows that do not fit on chip are read twice: the GPU of Hopper decides.
    all.back().tiling.row_on_chip = sim::FindKernel("standard").DefaultTiling(a, *GpuOf("sm90")).row_on_chip;
    all.back().tiling.fp32_scores = fp32_scores;
  }
  for (const int64_t Bc : TileKeys(a.seqlen_k)) all.push_back(Make("fa1", arch, Bc));
  return all;
}

std::vector<Candidate> SplitStructures(const Attention& a, std::string_view arch) {
  std::vector<Candidate> all;
  for (const int64_t Bc : kTileKeys) {
    const int64_t tiles = Ceil(a.seqlen_k, Bc);
    std::set<std::pair<int64_t, int64_t>> seen;
    std::set<int64_t> lengths;
    for (int64_t splits = 2; splits <= std::min(kMostSplits, tiles); ++splits) {
      if (!seen.insert(SplitClass(a, Bc, splits)).second) continue;
      for (const sim::Order order : {sim::Order::kDescending, sim::Order::kAscending}) {
        // Tiles of one key tile have no order.
        if (splits >= tiles && order == sim::Order::kAscending) continue;
        all.push_back(Make("pytorch-fa2", arch, Bc));
        all.back().tiling.splits = splits;
        all.back().recipe.key_order = order;
      }
      lengths.insert(Ceil(tiles, splits));
    }
    for (int64_t length = 1; length < tiles; length *= 2) lengths.insert(length);
    for (const int64_t length : lengths) {
      if (length >= tiles) continue;
      all.push_back(Make("split-kv", arch, Bc));
      all.back().tiling.part_keys = length * Bc;
    }
  }
  return all;
}

std::vector<Candidate> Expand(const std::vector<Candidate>& candidates, const Attention& a,
                              const std::vector<std::string_view>& choices,
                              const std::vector<std::string_view>& architectures) {
  std::vector<Candidate> all = candidates;
  for (const std::string_view choice : choices) {
    std::vector<Candidate> wider;
    for (const Candidate& candidate : all) {
      if (choice == "arch") {
        for (const std::string_view arch : architectures) {
          wider.push_back(candidate);
          wider.back().arch = arch;
        }
        continue;
      }
      const auto& fields = sim::RecipeFields();
      const auto field = std::ranges::find(fields, choice, &sim::RecipeField::name);
      std::set<float> seen;
      for (int value = 0; value < static_cast<int>(field->values.size()); ++value) {
        Candidate changed = candidate;
        field->Set(changed.recipe, value);
        if (choice == "scale_log2" && !seen.insert(sim::ScaleLog2(a, changed.recipe)).second) continue;
        wider.push_back(changed);
      }
    }
    all = std::move(wider);
  }
  return all;
}

std::vector<Alternative> Alternatives(const Candidate& candidate, const std::vector<std::string_view>& architectures) {
  std::vector<Alternative> all;
  const std::string_view text = candidate.text->name;
  if (text == "standard") {
    const bool other = !candidate.tiling.fp32_scores;
    Add(all, candidate, "scores", other ? "fp32" : "input format", [&](Candidate& c) { c.tiling.fp32_scores = other; });
  } else {
    for (const int64_t Bc : kTileKeys) {
      const int64_t part = candidate.tiling.part_keys;
      if (Bc == candidate.tiling.Bc || (part > 0 && part % Bc != 0)) continue;
      Add(all, candidate, "tile_keys", std::to_string(Bc), [&](Candidate& c) { c.tiling.Bc = Bc; });
    }
  }
  if (candidate.tiling.splits > 1) {
    const int64_t splits = candidate.tiling.splits;
    for (const int64_t other : {splits - 1, splits + 1, splits / 2, splits * 2}) {
      if (other < 2 || other == splits) continue;
      Add(all, candidate, "splits", std::to_string(other), [&](Candidate& c) { c.tiling.splits = other; });
    }
  }
  if (candidate.tiling.part_keys > 0) {
    const int64_t Bc = candidate.tiling.Bc, part = candidate.tiling.part_keys;
    for (const int64_t other : {part - Bc, part + Bc, part / Bc / 2 * Bc, part * 2}) {
      if (other < Bc || other == part) continue;
      Add(all, candidate, "part_keys", std::to_string(other), [&](Candidate& c) { c.tiling.part_keys = other; });
    }
  }
  for (const std::string_view arch : architectures) {
    if (arch == candidate.arch) continue;
    Add(all, candidate, "arch", std::string(arch), [&](Candidate& c) { c.arch = arch; });
  }
  for (const sim::RecipeField& field : sim::RecipeFields()) {
    for (int value = 0; value < static_cast<int>(field.values.size()); ++value) {
      if (value == field.Get(candidate.recipe)) continue;
      Add(all, candidate, std::string(field.name), std::string(field.values[value].name),
          [&](Candidate& c) { field.Set(c.recipe, value); });
    }
  }
  return all;
}

std::vector<ChosenValue> Describe(const Candidate& c, const Attention& a) {
  std::vector<ChosenValue> all = {{"text", std::string(c.text->name), TextMeaning(c)}};
  if (c.text->name == "standard") {
    all.push_back({"scores", c.tiling.fp32_scores ? "fp32" : "input format", "the format of S between the launches"});
  } else {
    all.push_back({"tile_keys", std::to_string(c.tiling.Bc), "keys of a tile, Bc"});
  }
  if (c.tiling.splits > 1) {
    all.push_back({"splits", std::to_string(c.tiling.splits),
                   "parts of the keys, of " + std::to_string(sim::KeysPerPart(a, c.tiling)) + " keys each"});
  }
  if (c.tiling.part_keys > 0) {
    all.push_back({"part_keys", std::to_string(c.tiling.part_keys), "keys of a part"});
  }
  const sim::TensorCore* core = Core(c.arch, a.format);
  all.push_back({"arch", std::string(c.arch),
                 "tensor core: L " + std::to_string(core->products) + ", F " + std::to_string(core->alignment_bits) +
                     " (" + LikeArchitectures(c.arch, a.format) + ")"});
  for (const sim::RecipeChoice& choice : sim::Describe(c.recipe)) {
    all.push_back({std::string(choice.field), std::string(choice.value), std::string(choice.meaning)});
  }
  return all;
}

std::vector<Candidate> NamedCandidates(const Attention& a, std::string_view arch) {
  std::vector<Candidate> all;
  const std::optional<data::Gpu> gpu = GpuOf(arch);
  if (!gpu) return all;
  for (const sim::Kernel& kernel : sim::Kernels()) {
    const bool wgmma = kernel.mma == sim::MmaInstruction::kWgmma;
    if (std::ranges::find(kernel.formats, a.format) == kernel.formats.end()) continue;
    if (a.seqlen_q < kernel.min_seqlen_q || std::stoi(std::string(arch.substr(2))) < kernel.min_arch) continue;
    if (kernel.max_head_dim > 0 && std::max(a.head_dim, a.head_dim_v) > kernel.max_head_dim) continue;
    if (wgmma && arch != "sm90") continue;
    all.push_back({&kernel, kernel.DefaultTiling(a, *gpu), arch, kernel.recipe});
  }
  return all;
}

sim::Tiling RunnableTiling(const Candidate& c, const Attention& a) {
  sim::Tiling tiling = c.tiling;
  const std::optional<data::Gpu> gpu = GpuOf(c.arch);
  if (!gpu) return tiling;
  for (const int64_t Br : {128, 64, 32, 16}) {
    for (const int64_t warps : {4, 8}) {
      tiling.Br = Br;
      tiling.warps = std::min(warps, Br / 16);
      try {
        if (sim::Infeasible(*c.text, a, tiling, *gpu).empty()) return tiling;
      } catch (const std::exception&) {
        continue;  // too large to count
      }
    }
  }
  return tiling;
}

}  // namespace bitflash::verify
