#include "gpu/record/golden_json.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "data/golden.h"
#include "data/random.h"

namespace bitflash::gpu {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
std::string Hex(std::span<const T> numbers) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const T number : numbers) {
    for (int shift = static_cast<int>(sizeof(T)) * 8 - 4; shift >= 0; shift -= 4) text += kDigits[number >> shift & 15];
  }
  return text;
}

std::string Hex(uint64_t number) { return Hex(std::span<const uint64_t>(&number, 1)); }

// The hashes of one head over all runs, the most frequent first.
std::vector<uint64_t> ByFrequency(const std::vector<uint64_t>& hashes) {
  std::map<uint64_t, int> counts;
  for (const uint64_t hash : hashes) ++counts[hash];
  std::vector<uint64_t> seen;
  for (const auto& [hash, count] : counts) seen.push_back(hash);
  std::ranges::stable_sort(seen, [&](uint64_t x, uint64_t y) { return counts[x] > counts[y]; });
  return seen;
}

Json Others(const std::vector<uint64_t>& seen) {
  Json others = Json::array();
  for (size_t n = 1; n < seen.size(); ++n) others.push_back(Hex(seen[n]));
  return others;
}

// Rows of a head of `rows` whose bits are written out: the first or the last, and one other.
std::set<int64_t> RowsOf(const RecordCase& c, int64_t rows, bool last_head) {
  return {last_head ? rows - 1 : 0,
          static_cast<int64_t>(data::HashBits(c.seed, last_head) % static_cast<uint64_t>(rows))};
}

// `sequences` sequences from `first` on as one problem.
Json CaseJson(const RecordCase& c, const Kernel& kernel, const std::vector<LaunchFacts>& launches,
              const std::vector<Outputs>& runs, int64_t first, int64_t sequences) {
  const data::Attention& a = c.attention;
  const bool alone = !c.lengths.empty();
  const Tile tile = kernel.TileOf(a);
  const auto ordinal = [&](const LaunchFacts& launch) {
    return std::ranges::find(kernel.launches, launch.name) - kernel.launches.begin();
  };
  Json json = {{"name", c.name + (alone ? "_sequence" + std::to_string(first) : "")},
               {"batch", sequences},
               {"heads_q", a.heads_q},
               {"heads_kv", a.heads_kv},
               {"seqlen_q", c.query_rows(first)},
               {"seqlen_k", c.keys(first)},
               {"head_dim", a.head_dim},
               {"format", data::Name(a.format)},
               {"mask", data::ToString(a.mask)},
               {"softmax_scale", a.softmax_scale ? Json(*a.softmax_scale) : Json(nullptr)},
               {"seed", c.SeedOf(first)},
               {"tile", {tile.Br, tile.Bc, tile.warps, tile.stages}},
               {"chunk", c.kernel == "split-kv" ? c.options.chunk : 0},
               {"page_size", c.options.page_size},
               {"fp32_scores", c.options.fp32_scores},
               {"launches", Json::array()},
               {"runs", runs.size()},
               {"o_hashes", Json::array()},
               {"lse_hashes", Json::array()},
               {"variants", Json::array()},
               {"rows", Json::array()}};
  for (const LaunchFacts& launch : launches) json["launches"].push_back({ordinal(launch), launch.grid, launch.block});

  const int64_t begin = first * a.heads_q, heads = sequences * a.heads_q;
  const size_t columns = static_cast<size_t>(a.head_dim), rows = static_cast<size_t>(c.query_rows(first));
  for (int64_t head = 0; head < heads; ++head) {
    const size_t at = static_cast<size_t>((begin + head) * a.seqlen_q);
    std::vector<uint64_t> o, lse;
    for (const Outputs& run : runs) {
      o.push_back(data::HashElements(std::span(run.o).subspan(at * columns, rows * columns)));
      lse.push_back(data::HashElements(std::span(run.lse).subspan(at, rows)));
    }
    o = ByFrequency(o);
    lse = ByFrequency(lse);
    json["o_hashes"].push_back(Hex(o[0]));
    json["lse_hashes"].push_back(Hex(lse[0]));
    if (o.size() > 1 || lse.size() > 1)
      json["variants"].push_back({{"head", head}, {"o_hashes", Others(o)}, {"lse_hashes", Others(lse)}});
  }
  // Where runs differ, the first run's rows may be those of a variant; the case is reported as failed anyway.
  for (const int64_t head : std::set<int64_t>{0, heads - 1}) {
    for (const int64_t row : RowsOf(c, c.query_rows(first), head > 0)) {
      const size_t at = static_cast<size_t>((begin + head) * a.seqlen_q + row);
      json["rows"].push_back({{"head", head},
                              {"row", row},
                              {"o", Hex(std::span(runs[0].o).subspan(at * columns, columns))},
                              {"lse", Hex(std::span(runs[0].lse).subspan(at, 1))}});
    }
  }
  return json;
}

}  // namespace

std::vector<std::string> CaseLines(const RecordCase& c, const Kernel& kernel, const std::vector<LaunchFacts>& launches,
                                   const std::vector<Outputs>& runs) {
  if (c.lengths.empty()) return {CaseJson(c, kernel, launches, runs, 0, c.attention.batch).dump()};
  std::vector<std::string> lines;
  for (int64_t b = 0; b < c.attention.batch; ++b) {
    if (c.query_rows(b) > 0) lines.push_back(CaseJson(c, kernel, launches, runs, b, 1).dump());
  }
  return lines;
}

std::string GoldenFile(const Kernel& kernel, const std::vector<std::string>& case_lines) {
  const auto list = [](const std::vector<std::string>& lines) {
    std::string text = "[\n";
    for (size_t n = 0; n < lines.size(); ++n) text += lines[n] + (n + 1 < lines.size() ? ",\n" : "\n");
    return text + "]";
  };
  std::vector<std::string> launches;
  for (const std::string_view launch : kernel.launches) launches.push_back(Json(launch).dump());
  return "{\n\"schema\": 2,\n\"backend\": " + Json("bitflash-" + std::string(kernel.name)).dump() +
         ",\n\"kernels\": " + list(launches) + ",\n\"cases\": " + list(case_lines) + "\n}\n";
}

}  // namespace bitflash::gpu
