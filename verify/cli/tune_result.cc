#include "verify/cli/tune_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/time_result.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

// "1024 keys" or "4": the parts of a kernel that has some.
std::string Parts(const sim::Kernel& kernel, const sim::Tiling& t) {
  if (t.part_keys > 0) return fmt::format("{} keys", Grouped(t.part_keys));
  return kernel.splits_keys ? std::to_string(t.splits) : "-";
}

std::string TileName(const sim::Tiling& t) { return fmt::format("{}x{}", t.Br, t.Bc); }

std::string Waves(double waves) { return fmt::format("{:.{}f}", waves, waves < 10 ? 2 : waves < 100 ? 1 : 0); }

// The kernel's own choice, as a mark in the table and in sentences.
std::string_view OwnMark(const TuneInput& input) { return input.kernel->own_tile.empty() ? "published" : "default"; }

std::string Marks(const TuneInput& input, const TuneCandidate& c) {
  std::string marks(c.published ? OwnMark(input) : "");
  if (c.reference)
    marks += fmt::format("{}{}", marks.empty() ? "" : ", ", input.kernel->Published(input.attention, input.gpu).by);
  return marks;
}

std::string RankingTable(const TuneInput& input, const TuneResult& result, int64_t top, bool color) {
  Table table({{"rank", Align::kRight},
               {"tile", Align::kLeft},
               {"warps", Align::kRight},
               {"stages", Align::kRight},
               {"splits", Align::kRight},
               {"blocks/SM", Align::kRight},
               {"waves", Align::kRight},
               {"limit", Align::kLeft},
               {"time, est.", Align::kRight},
               {"bottleneck", Align::kLeft},
               {"requested", Align::kRight},
               {"HBM", Align::kRight},
               {"", Align::kLeft}});
  for (size_t rank = 0; rank < result.ranked.size(); ++rank) {
    const TuneCandidate& c = result.ranked[rank];
    if (static_cast<int64_t>(rank) >= top && !c.published && !c.reference) continue;
    const sim::LaunchCount& launch = c.count.launches[c.main_launch];
    table.Row({Grouped(static_cast<int64_t>(rank) + 1), TileName(c.tiling), std::to_string(c.tiling.warps),
               std::to_string(c.tiling.stages), Parts(*input.kernel, c.tiling),
               std::to_string(launch.occupancy.blocks_per_sm), Waves(launch.waves), launch.occupancy.limit,
               Seconds(c.time.seconds), std::string(sim::Title(c.time.bottleneck)), Bytes(c.requested_bytes),
               Bytes(c.hbm_bytes), Paint(Marks(input, c), Colour::kBold, color)});
  }
  return table.ToString(color);
}

std::string RejectionTable(const TuneInput& input, const TuneResult& result, bool color) {
  Table table({{"tile", Align::kLeft},
               {"warps", Align::kRight},
               {"stages", Align::kRight},
               {"splits", Align::kRight},
               {"rejected because", Align::kLeft}});
  for (const TuneRejection& r : result.rejected) {
    table.Row({TileName(r.tiling), std::to_string(r.tiling.warps), std::to_string(r.tiling.stages),
               Parts(*input.kernel, r.tiling), Printable(r.reason)});
  }
  return table.ToString(color);
}

Json CandidateJson(const TuneCandidate& c, size_t rank) {
  const sim::LaunchCount& launch = c.count.launches[c.main_launch];
  Json times = Json::array();
  for (const sim::LaunchTime& time : c.time.launches) times.push_back(TimeJson(time));
  return {{"rank", rank + 1},
          {"published", c.published},
          {"reference", c.reference},
          {"tiling", TilingJson(c.tiling)},
          {"blocks_per_sm", launch.occupancy.blocks_per_sm},
          {"waves", launch.waves},
          {"limit", launch.occupancy.limit},
          {"time", TimeJson(c.time)},
          {"launch_times", times},
          {"requested_bytes", c.requested_bytes},
          {"hbm_predicted_bytes", c.hbm_bytes}};
}

// " is first", " is number 3 of 140, ...": what follows the name of a choice.
std::string Standing(const TuneInput& input, const TuneResult& result, const TunePlace& place) {
  if (place.verdict == TuneVerdict::kInfeasible) {
    return fmt::format(" does not run here: {}", Printable(result.rejected[place.rank].reason));
  }
  const TuneCandidate &own = result.ranked[place.rank], &first = result.ranked.front();
  if (place.verdict == TuneVerdict::kFirst) return " is first";
  std::string text = fmt::format(" is number {} of {}, {:.1f} % behind {}", place.rank + 1, result.ranked.size(),
                                 100 * place.slowdown, sim::ToString(first.tiling));
  if (place.because_seconds > 0) {
    text += fmt::format(": {} more of {}", Seconds(place.because_seconds), sim::Title(place.because));
  }
  if (place.verdict == TuneVerdict::kWithin) return text + ", which is within the error of the estimate";
  if (own.requested_bytes < first.requested_bytes) {
    text += fmt::format("; it asks L2 for {} less", Percent(1 - static_cast<double>(own.requested_bytes) /
                                                                    static_cast<double>(first.requested_bytes)));
  }
  if (!own.time.calibrated) text += fmt::format("; {} was not timed on {}", input.kernel->name, input.gpu.arch);
  return text;
}

Json PlaceJson(const TunePlace& place, const std::string& sentence) {
  const bool runs = place.verdict != TuneVerdict::kInfeasible;
  return {{"verdict", Name(place.verdict)},
          {"rank", runs ? Json(place.rank + 1) : Json(nullptr)},
          {"slowdown", runs ? Json(place.slowdown) : Json(nullptr)},
          {"because", runs && place.because_seconds > 0 ? Json(sim::Name(place.because)) : Json(nullptr)},
          {"because_seconds", place.because_seconds},
          {"sentence", sentence}};
}

}  // namespace

std::string TuneSentence(const TuneInput& input, const TuneResult& result) {
  const TunePlace& place = result.published;
  const sim::Tiling& own =
      place.verdict == TuneVerdict::kInfeasible ? result.rejected[place.rank].tiling : result.ranked[place.rank].tiling;
  const std::string_view why = input.kernel->own_tile;
  std::string text = fmt::format("{} ({}){}", why.empty() ? "the published choice" : "the default", sim::ToString(own),
                                 Standing(input, result, place));
  if (why.empty() && place.verdict == TuneVerdict::kSlower) {
    text += "; published tiles are the same for every length and number of heads";
  }
  if (!why.empty() && place.verdict != TuneVerdict::kFirst) text += fmt::format("; it was chosen {}", why);
  return text;
}

std::string ReferenceSentence(const TuneInput& input, const TuneResult& result) {
  if (!result.reference) return "";
  const TunePlace& place = *result.reference;
  const sim::PublishedTile tile = input.kernel->Published(input.attention, input.gpu);
  std::string text = fmt::format("{} publishes {} ({})", tile.by, sim::ToString(*ReferenceTiling(input)), tile.source);
  const bool runs = place.verdict != TuneVerdict::kInfeasible;
  if (runs && result.ranked[place.rank].published) return text + ": the default, too";
  text += "; it" + Standing(input, result, place);
  if (!runs && !tile.differs.empty()) text += fmt::format(" ({})", tile.differs);
  return text;
}

std::string TuneText(const Workload& workload, const TuneInput& input, const TuneResult& result, const TuneView& view,
                     bool color) {
  std::string text = fmt::format("{}  {}\n", Paint(input.kernel->name, Colour::kBold, color), input.kernel->title);
  text += fmt::format("problem  {}\n", data::ToString(input.attention));
  text += fmt::format("GPU      {} ({}, {} SMs)\n", Printable(input.gpu.title), input.gpu.arch, input.gpu.sms);
  for (const std::string& assumed : workload.assumed) text += fmt::format("assumed: {}\n", Printable(assumed));
  text += "\n" + RankingTable(input, result, view.top, color);
  text += fmt::format("\n{} feasible, {} rejected{}; HBM is what a model of the L2 predicts\n", result.ranked.size(),
                      result.rejected.size(), view.all || result.rejected.empty() ? "" : " (--all shows why)");
  text += TuneSentence(input, result) + "\n";
  if (const std::string reference = ReferenceSentence(input, result); !reference.empty()) text += reference + "\n";
  if (const std::string caveat = TimeCaveat(result.ranked.front().time); !caveat.empty()) text += caveat + "\n";
  if (view.all && !result.rejected.empty()) text += "\n" + RejectionTable(input, result, color);
  return text;
}

std::string TuneCsv(const TuneInput& input, const TuneResult& result, const TuneView& view) {
  std::string csv =
      "rank,kernel,br,bc,warps,stages,splits,part_keys,published,blocks_per_sm,waves,limit,time_seconds,bottleneck,"
      "requested_bytes,hbm_predicted_bytes,rejected,reference\r\n";
  const auto tiling = [&](const sim::Tiling& t, bool published) {
    return fmt::format("{},{},{},{},{},{},{},{:d}", input.kernel->name, t.Br, t.Bc, t.warps, t.stages, t.splits,
                       t.part_keys, published);
  };
  for (size_t rank = 0; rank < result.ranked.size(); ++rank) {
    const TuneCandidate& c = result.ranked[rank];
    const sim::LaunchCount& launch = c.count.launches[c.main_launch];
    csv += fmt::format("{},{},{},{},{},{},{},{},{},,{:d}\r\n", rank + 1, tiling(c.tiling, c.published),
                       launch.occupancy.blocks_per_sm, launch.waves, CsvCell(launch.occupancy.limit), c.time.seconds,
                       sim::Name(c.time.bottleneck), c.requested_bytes, c.hbm_bytes, c.reference);
  }
  if (!view.all) return csv;
  for (const TuneRejection& r : result.rejected) {
    csv += fmt::format(",{},,,,,,,,{},{:d}\r\n", tiling(r.tiling, r.published), CsvCell(r.reason), r.reference);
  }
  return csv;
}

Json TuneJson(const Workload& workload, const TuneInput& input, const TuneResult& result, const TuneView& view) {
  Json json = {{"schema", "bitflash.tune/1"},
               {"version", BITFLASH_VERSION},
               {"gpu", GpuJson(input.gpu)},
               {"assumed", workload.assumed},
               {"notes", workload.notes},
               {"kernel", {{"name", input.kernel->name}, {"title", input.kernel->title}}},
               {"problem", ProblemJson(input.attention)},
               {"feasible", result.ranked.size()},
               {"infeasible", result.rejected.size()}};
  json["published"] = PlaceJson(result.published, TuneSentence(input, result));
  json["reference"] = nullptr;
  if (result.reference) json["reference"] = PlaceJson(*result.reference, ReferenceSentence(input, result));
  json["ranked"] = Json::array();
  for (size_t rank = 0; rank < result.ranked.size(); ++rank) {
    json["ranked"].push_back(CandidateJson(result.ranked[rank], rank));
  }
  json["rejected"] = Json::array();
  for (const TuneRejection& r : view.all ? result.rejected : std::vector<TuneRejection>()) {
    json["rejected"].push_back({{"tiling", TilingJson(r.tiling)},
                                {"published", r.published},
                                {"reference", r.reference},
                                {"reason", r.reason}});
  }
  return json;
}

}  // namespace bitflash::verify
