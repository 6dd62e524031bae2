#include "verify/diagnose/diagnose_tiles.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "data/error.h"
#include "sim/splits.h"
#include "verify/diagnose/diagnose.h"

namespace bitflash::verify {
namespace {

using data::Attention;

// Every multiple of 16, the keys of one step of P V, that a published kernel or its tuner takes.
constexpr int64_t kTileKeys[] = {64, 128, 32, 16, 48, 80, 96, 112, 160, 176, 192, 224, 256};
constexpr int64_t kTileRows[] = {64, 128, 16, 32, 192, 256};
constexpr int64_t kPartTiles[] = {16, 32, 64, 128, 256};
constexpr int64_t kSplits[] = {2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 96, 128};
constexpr int64_t kPageSizes[] = {16, 32, 64, 128, 256, 8, 4, 2};
constexpr size_t kFewCombinations = 48;
constexpr double kLeastAgreement = 0.125;  // to take a kernel for the unknown one
constexpr size_t kRefined = 4;             // trials around which a search goes on

using Run = std::function<std::optional<Outputs>(const SimulatedKernel&)>;

// fa2 with its key tiles in either order.
const sim::Kernel& OnePass(sim::Order order) {
  static const sim::Kernel ascending = [] {
    sim::Kernel kernel = sim::FindKernel("fa2");
    kernel.recipe.key_order = sim::Order::kAscending;
    return kernel;
  }();
  return order == sim::Order::kAscending ? ascending : sim::FindKernel("fa2");
}

SimulatedKernel Tiled(const sim::Kernel& kernel, int64_t Br, int64_t Bc) {
  return {&kernel, {.Br = Br, .Bc = Bc, .warps = std::min<int64_t>(4, Br / 16)}, "sm90"};
}

// Of the sizes that hold the whole extent only the smallest.
std::vector<int64_t> Distinct(std::span<const int64_t> sizes, int64_t extent) {
  std::vector<int64_t> distinct;
  int64_t whole = 0;
  for (const int64_t size : sizes) {
    if (size < extent) distinct.push_back(size);
    if (size >= extent && (whole == 0 || size < whole)) whole = size;
  }
  if (whole > 0) distinct.push_back(whole);
  return distinct;
}

void AddOnePass(const Attention& a, int64_t Br, std::vector<SimulatedKernel>& kernels) {
  for (const int64_t Bc : Distinct(kTileKeys, a.seqlen_k)) {
    for (const sim::Order order : {sim::Order::kDescending, sim::Order::kAscending}) {
      if (Bc < a.seqlen_k || order == sim::Order::kDescending) kernels.push_back(Tiled(OnePass(order), Br, Bc));
    }
  }
}

// Lengths of parts that kernels make: powers of two, and equal numbers of tiles.
std::vector<int64_t> PartLengths(const Attention& a) {
  std::set<int64_t> lengths;
  for (const int64_t Bc : kPartTiles) {
    const int64_t tiles = (a.seqlen_k + Bc - 1) / Bc;
    for (const int64_t splits : kSplits) lengths.insert((tiles + splits - 1) / splits * Bc);
    for (int64_t length = Bc; length < a.seqlen_k; length *= 2) lengths.insert(length);
  }
  std::erase_if(lengths, [&](int64_t length) { return length >= a.seqlen_k; });
  return {lengths.rbegin(), lengths.rend()};
}

std::vector<int64_t> TilesOfPart(int64_t part_keys) {
  std::vector<int64_t> tiles;
  for (const int64_t Bc : kTileKeys) {
    if (part_keys % Bc == 0) tiles.push_back(Bc);
  }
  return tiles;
}

SimulatedKernel InParts(int64_t part_keys, int64_t Br, int64_t Bc) {
  SimulatedKernel kernel = Tiled(sim::FindKernel("split-kv"), Br, Bc);
  kernel.tiling.part_keys = part_keys;
  return kernel;
}

// Query rows that are tried with every one of so many key tiles: all where that is little work, else the usual ones.
std::vector<int64_t> RowsFirst(const Attention& a, size_t key_tiles) {
  std::vector<int64_t> rows = Distinct(kTileRows, a.seqlen_q);
  if (rows.size() * key_tiles > kFewCombinations && rows.size() > 2) rows.resize(2);
  return rows;
}

std::vector<SimulatedKernel> FirstCandidates(TileAxis axis, const Attention& a) {
  std::vector<SimulatedKernel> kernels;
  switch (axis) {
    case TileAxis::kNone:
      break;
    case TileAxis::kKeys:
      kernels = LikelyKernels(a);
      AddOnePass(a, 64, kernels);
      break;
    case TileAxis::kRows:
      for (const int64_t Br : RowsFirst(a, Distinct(kTileKeys, a.seqlen_k).size())) AddOnePass(a, Br, kernels);
      for (const SimulatedKernel& kernel : LikelyKernels(a)) kernels.push_back(kernel);
      break;
    case TileAxis::kTails:
      // A tile that is longer than all keys has more columns past them. The order of tiles hardly matters.
      for (const int64_t Br : RowsFirst(a, std::size(kTileKeys))) {
        for (const int64_t Bc : kTileKeys) kernels.push_back(Tiled(OnePass(sim::Order::kDescending), Br, Bc));
      }
      break;
    case TileAxis::kParts:
      for (const int64_t length : PartLengths(a)) kernels.push_back(InParts(length, 64, TilesOfPart(length)[0]));
      break;
    case TileAxis::kMaskedParts:
      for (const int64_t Bc : Distinct(kTileKeys, a.seqlen_k)) {
        if (Bc < a.seqlen_k) kernels.push_back(InParts(Bc, 16, Bc));
      }
      break;
    case TileAxis::kPages:
      for (const int64_t page : kPageSizes) {
        kernels.push_back(Tiled(sim::FindKernel("split-kv"), 64, std::max<int64_t>(page, 16)));
        kernels.back().tiling.page_size = page;
        kernels.back().tiling.Bc = 64 % page == 0 ? 64 : page;
      }
      break;
  }
  return kernels;
}

// Around one that is good: what the first candidates left out.
std::vector<SimulatedKernel> Around(TileAxis axis, const SimulatedKernel& good, const Attention& a) {
  std::vector<SimulatedKernel> kernels;
  const sim::Tiling& t = good.tiling;
  const auto with_rows = [&](const SimulatedKernel& kernel) {
    for (const int64_t Br : Distinct(kTileRows, a.seqlen_q)) {
      kernels.push_back(Tiled(*kernel.kernel, Br, kernel.tiling.Bc));
      kernels.back().tiling.part_keys = kernel.tiling.part_keys;
    }
  };
  const bool one_pass =
      good.kernel == &OnePass(sim::Order::kAscending) || good.kernel == &OnePass(sim::Order::kDescending);
  if (axis == TileAxis::kRows && one_pass) with_rows(good);
  if (axis == TileAxis::kTails) {
    with_rows(good);
    with_rows(Tiled(OnePass(sim::Order::kAscending), t.Br, t.Bc));
  }
  if (axis == TileAxis::kMaskedParts) {
    with_rows(good);
    for (const int64_t length : PartLengths(a)) {
      if (length % t.Bc == 0) kernels.push_back(InParts(length, t.Br, t.Bc));
    }
  }
  if (axis != TileAxis::kParts || t.part_keys == 0) return kernels;
  for (const int64_t Bc : TilesOfPart(t.part_keys)) {
    kernels.push_back(InParts(t.part_keys, t.Br, Bc));
    SimulatedKernel normalised = Tiled(sim::FindKernel("pytorch-fa2"), t.Br, Bc);
    normalised.tiling.splits = (a.seqlen_k + t.part_keys - 1) / t.part_keys;
    if (sim::KeysPerPart(a, normalised.tiling) == t.part_keys) kernels.push_back(normalised);
  }
  return kernels;
}

bool SameKernel(const SimulatedKernel& a, const SimulatedKernel& b) {
  return a.kernel == b.kernel && a.tiling == b.tiling && a.arch == b.arch;
}

// Tries the kernels that `trials` does not have yet.
void Try(const std::vector<SimulatedKernel>& kernels, const Run& run, const Sample& probe, std::vector<Trial>& trials,
         int64_t& tried) {
  std::vector<SimulatedKernel> fresh;
  for (const SimulatedKernel& kernel : kernels) {
    const auto same = [&](const SimulatedKernel& other) { return SameKernel(kernel, other); };
    if (std::ranges::any_of(trials, same, &Trial::kernel) || std::ranges::any_of(fresh, same)) continue;
    fresh.push_back(kernel);
  }
  std::vector<std::optional<Match>> matches(fresh.size());
  const auto count = static_cast<int64_t>(fresh.size());
#pragma omp parallel for schedule(dynamic)
  for (int64_t n = 0; n < count; ++n) {
    try {
      if (const std::optional<Outputs> outputs = run(fresh[n])) matches[n] = Compared(probe, *outputs);
    } catch (const std::exception&) {
      // Not a tile of this kernel.
    }
  }
  for (int64_t n = 0; n < count; ++n) {
    if (matches[n]) trials.push_back({fresh[n], *matches[n]});
  }
  tried += count;
}

// By `Better`, or by equal bits alone.
void Sort(std::vector<Trial>& trials, bool by_bits) {
  std::ranges::stable_sort(trials, [&](const Trial& a, const Trial& b) {
    return by_bits ? a.match.agreement > b.match.agreement : Better(a.match, b.match);
  });
}

std::vector<Trial> Search(const std::vector<TileAxis>& axes, const Run& run, const Sample& probe, bool by_bits,
                          int64_t& tried) {
  const Attention& a = probe.problem.attention;
  std::vector<Trial> all;
  for (const TileAxis axis : axes) {
    std::vector<Trial> trials;
    Try(FirstCandidates(axis, a), run, probe, trials, tried);
    Sort(trials, by_bits);
    // Tiles of other rows and parts of other lengths, by and by.
    std::vector<SimulatedKernel> around;
    for (size_t n = 0; n < std::min(kRefined, trials.size()); ++n) {
      for (const SimulatedKernel& kernel : Around(axis, trials[n].kernel, a)) around.push_back(kernel);
    }
    Try(around, run, probe, trials, tried);
    Sort(trials, by_bits);
    if (axis == TileAxis::kMaskedParts && !trials.empty()) {
      Try(Around(axis, trials[0].kernel, a), run, probe, trials, tried);
    }
    all.insert(all.end(), trials.begin(), trials.end());
  }
  Sort(all, by_bits);
  return all;
}

}  // namespace

TileAxis AxisOf(const Fault& fault) {
  static const std::set<std::string_view> rows = {
      "mask-tile-unmasked", "hidden-tile-nan",     "mask-zero",       "v-tail-not-cleared", "last-tile-skipped",
      "first-tile-skipped", "last-rows-unwritten", "maximum-of-tile", "k-stage-stale",      "v-stage-stale"};
  static const std::set<std::string_view> tails = {"mask-sentinel-1e4", "mask-sentinel-5e4", "tail-scores-zero"};
  static const std::set<std::string_view> parts = {"empty-part-nan",   "part-dropped",         "part-twice",
                                                   "parts-unweighted", "part-sums-unweighted", "parts-without-maximum"};
  if (rows.contains(fault.id)) return TileAxis::kRows;
  if (tails.contains(fault.id)) return TileAxis::kTails;
  // Even what any tile shows is rounded otherwise with another tile, relative to another maximum.
  const bool softmax = fault.family == FaultFamily::kSoftmax && !fault.id.starts_with("scale-");
  if (softmax || fault.id == "partial-tile-skipped") return TileAxis::kKeys;
  if (parts.contains(fault.id)) return TileAxis::kParts;
  if (fault.id == "split-mask-skipped") return TileAxis::kMaskedParts;
  return fault.id.starts_with("page-") ? TileAxis::kPages : TileAxis::kNone;
}

std::vector<Trial> SearchTiles(const Fault& fault, TileAxis axis, const Sample& probe, size_t most, int64_t& tried) {
  const Run run = [&](const SimulatedKernel& kernel) -> std::optional<Outputs> {
    if (!fault.Applies(kernel, probe.problem)) return std::nullopt;
    return fault.Run(kernel, probe.problem);
  };
  std::vector<Trial> trials = Search({axis}, run, probe, false, tried);
  if (trials.size() > most) trials.resize(most);
  return trials;
}

std::vector<Trial> SearchByBits(const Sample& probe, int64_t& tried) {
  const Run run = [&](const SimulatedKernel& kernel) -> std::optional<Outputs> {
    return RunSimulated(kernel, probe.problem);
  };
  std::vector<Trial> trials = Search({TileAxis::kKeys, TileAxis::kParts}, run, probe, true, tried);
  if (trials.size() > 1) trials.resize(1);
  // Fewer are equal by chance whatever the kernel.
  if (!trials.empty() && trials[0].match.agreement < kLeastAgreement) trials.clear();
  return trials;
}

std::vector<SimulatedKernel> OnWholeProblem(const SimulatedKernel& kernel, const Sample& probe, const Problem& whole) {
  std::vector<SimulatedKernel> kernels = {kernel};
  if (whole.ragged() && kernel.tiling.part_keys > 0) {
    const int64_t part = kernel.tiling.part_keys, keys = probe.problem.attention.seqlen_k;
    kernels.push_back(kernel);
    kernels.back().tiling.part_keys = 0;
    kernels.back().tiling.splits = (keys + part - 1) / part;
  }
  return kernels;
}

std::string TilesText(TileAxis axis, const std::vector<Trial>& trials) {
  std::set<int64_t> sizes;
  for (const Trial& trial : trials) {
    if (Better(trials[0].match, trial.match)) break;
    const sim::Tiling& t = trial.kernel.tiling;
    sizes.insert(axis == TileAxis::kPages ? t.page_size : axis == TileAxis::kParts ? t.part_keys : t.Bc);
  }
  sizes.erase(0);
  if (sizes.empty() || axis == TileAxis::kNone) return "";
  if (sizes.size() > 4) return "";
  std::string text;
  size_t n = 0;
  for (const int64_t size : sizes) {
    if (n > 0) text += n + 1 == sizes.size() ? " or " : ", ";
    text += std::to_string(size);
    ++n;
  }
  const char* what = axis == TileAxis::kPages ? "pages" : axis == TileAxis::kParts ? "parts" : "tiles";
  return std::string(what) + " of " + text + " keys";
}

}  // namespace bitflash::verify
