#include "verify/cli/banks_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

using sim::BankCount;
using sim::WarpPart;

std::string NameOf(const BankAccess& access) {
  return fmt::format("{} {}", access.instruction->name, Name(access.pattern));
}

// The model for cp.async knows no parts.
std::vector<WarpPart> WorstParts(const BankResult& result) {
  if (result.access.instruction->async) return {};
  return sim::Parts(*result.access.instruction,
                    PlaceOnTile(*result.tile, *result.access.instruction, result.access.pattern, result.pass->worst_row,
                                result.pass->worst_at));
}

Json CountJson(const BankCount& count) {
  return {{"instructions", count.instructions},
          {"wavefronts", count.wavefronts},
          {"ideal", count.ideal},
          {"conflicts", count.conflicts()}};
}

Json ResultJson(const BankResult& result) {
  Json json = {{"layout", sim::ToString(result.layout)},
               {"bytes", result.tile ? Json(result.tile->bytes()) : Json(nullptr)},
               {"instruction", result.access.instruction->name},
               {"pattern", Name(result.access.pattern)},
               {"basis", result.access.instruction->async ? "model" : "measured"},
               {"infeasible", result.pass ? Json(nullptr) : Json(result.infeasible)},
               {"pass", nullptr},
               {"worst", nullptr}};
  if (!result.pass) return json;
  json["pass"] = CountJson(result.pass->total);
  Json parts = Json::array();
  for (const WarpPart& part : WorstParts(result)) {
    Json words = Json::array();
    for (const auto& bank : part.words) words.push_back(bank.size());
    parts.push_back({{"lanes", part.lanes}, {"wavefronts", part.wavefronts()}, {"words_by_bank", words}});
  }
  json["worst"] = CountJson(result.pass->worst);
  json["worst"].update({{"row", result.pass->worst_row}, {"byte", result.pass->worst_at}, {"parts", parts}});
  return json;
}

// A character for each bank: how many words it has to give.
std::string BankMap(const WarpPart& part) {
  std::string map;
  for (const auto& bank : part.words) {
    map += bank.empty() ? '.' : bank.size() > 9 ? '#' : static_cast<char>('0' + bank.size());
  }
  return map;
}

std::string MapText(const BankResult& result, bool color) {
  const sim::TilePass& pass = *result.pass;
  std::string text = fmt::format(
      "\nThe worst instruction begins at row {}, byte {}: {} wavefronts, {} without conflicts.\n"
      "Words that each bank has to give, by the lanes that are served together (#: more than 9):\n",
      pass.worst_row, pass.worst_at, pass.worst.wavefronts, pass.worst.ideal);
  Table table(
      {{"lanes", Align::kLeft}, {"bank 0  4   8   12  16  20  24  28", Align::kLeft}, {"wavefronts", Align::kRight}});
  for (const WarpPart& part : WorstParts(result)) {
    table.Row({fmt::format("{}-{}", part.lanes.front(), part.lanes.back()), fmt::format("     {}", BankMap(part)),
               Grouped(part.wavefronts())});
  }
  return text + table.ToString(color, 2);
}

}  // namespace

BankResult CountLayout(const sim::SharedLayout& layout, int64_t rows, int64_t columns, data::Format format,
                       const BankAccess& access) {
  BankResult result{layout, access, {}, {}, ""};
  try {
    result.tile.emplace(layout, rows, columns, format);
    result.pass = CountTile(*result.tile, *access.instruction, access.pattern);
  } catch (const data::UsageError& error) {
    result.infeasible = error.what();
  }
  return result;
}

std::string Advice(const BankResult& result, int64_t rows, int64_t columns, data::Format format) {
  const std::string access = NameOf(result.access), layout = sim::ToString(result.layout);
  const BankCount& count = result.pass->total;
  if (count.conflicts() == 0) return fmt::format("{}: {} has no bank conflicts.", access, layout);
  // Padding keeps pieces aligned when it is a multiple of them.
  std::vector<sim::SharedLayout> candidates = {{.swizzle_bytes = 128}, {.swizzle_bytes = 64}, {.swizzle_bytes = 32}};
  const int64_t piece = std::max<int64_t>(4, result.access.instruction->piece_bytes);
  for (const int64_t pad : {piece, 2 * piece, 4 * piece}) candidates.push_back({.pad_bytes = pad});
  std::optional<int64_t> fewest;
  std::vector<BankResult> best;
  for (const sim::SharedLayout& candidate : candidates) {
    BankResult one = CountLayout(candidate, rows, columns, format, result.access);
    if (!one.pass || one.pass->total.conflicts() >= count.conflicts()) continue;
    if (fewest && one.pass->total.conflicts() > *fewest) continue;
    if (!fewest || one.pass->total.conflicts() < *fewest) best.clear();
    fewest = one.pass->total.conflicts();
    if (best.empty() || best.back().layout.pad_bytes == 0)
      best.push_back(std::move(one));  // the least padding is enough
  }
  std::string text = fmt::format("{}: {} takes {} wavefronts where {} would do", access, layout,
                                 Grouped(count.wavefronts), Grouped(count.ideal));
  if (!fewest) return text + "; no swizzle and no padding of up to " + std::to_string(4 * piece) + " bytes has fewer.";
  std::vector<std::string> swizzles;
  std::string padding;
  for (const BankResult& one : best) {
    const int64_t pad = one.layout.pad_bytes;
    if (pad == 0) swizzles.push_back(sim::ToString(one.layout));
    if (pad > 0) {
      padding = fmt::format("pad each row by {} bytes ({} more{})", pad, Bytes(pad * rows),
                            pad % 16 ? "; then rows are no longer aligned for instructions of 16 bytes" : "");
    }
  }
  std::string ways = swizzles.empty() ? "" : "use " + Join(swizzles, " or ");
  if (!padding.empty()) ways += (ways.empty() ? "" : ", or ") + padding;
  const std::string left = *fewest == 0 ? "no conflicts" : fmt::format("{} conflicts", Grouped(*fewest));
  return fmt::format("{}. To have {}, {}.", text, left, ways);
}

Json BanksJson(const BanksResult& result) {
  Json json = {{"schema", "bitflash.banks/1"},
               {"version", BITFLASH_VERSION},
               {"tile",
                {{"rows", result.rows},
                 {"columns", result.columns},
                 {"dtype", data::Name(result.format)},
                 {"row_bytes", result.columns * data::StorageBytes(result.format)}}},
               {"results", Json::array()},
               {"advice", result.advice}};
  for (const BankResult& one : result.results) json["results"].push_back(ResultJson(one));
  return json;
}

std::string BanksText(const BanksResult& result, bool color) {
  std::string text =
      fmt::format("tile  {} rows of {} elements of {}: {} bytes a row; 32 banks of 4 bytes\n\n", result.rows,
                  result.columns, data::Name(result.format), result.columns * data::StorageBytes(result.format));
  Table table({{"access", Align::kLeft},
               {"layout", Align::kLeft},
               {"bytes", Align::kRight},
               {"instructions", Align::kRight},
               {"wavefronts", Align::kRight},
               {"ideal", Align::kRight},
               {"conflicts", Align::kRight},
               {"worst instruction", Align::kRight},
               {"", Align::kLeft}});
  for (const BankResult& one : result.results) {
    const std::string layout = sim::ToString(one.layout);
    if (!one.pass) {
      table.Row({NameOf(one.access), layout, "-", "-", "-", "-", "-", "-", Printable(one.infeasible)});
      continue;
    }
    const BankCount& total = one.pass->total;
    const std::string conflicts = Grouped(total.conflicts());
    table.Row({NameOf(one.access), layout, Grouped(one.tile->bytes()), Grouped(total.instructions),
               Grouped(total.wavefronts), Grouped(total.ideal),
               Paint(conflicts, total.conflicts() ? Colour::kRed : Colour::kGreen, color),
               fmt::format("{} for {}", one.pass->worst.wavefronts, one.pass->worst.ideal)});
  }
  text += table.ToString(color);
  const bool modelled = std::any_of(result.results.begin(), result.results.end(),
                                    [](const BankResult& one) { return one.access.instruction->async; });
  if (modelled) {
    text +=
        "\ncp.async: a model, right for 65 of 78 patterns measured on an H100, among them all of tiles whose copies "
        "begin "
        "on\na line of 128 bytes; elsewhere it is off by up to a third. The others: measured, every pattern of 870.\n";
  }
  if (result.results.size() == 1 && result.results.front().pass && !modelled)
    text += MapText(result.results.front(), color);
  if (!result.advice.empty()) text += "\n";
  for (const std::string& sentence : result.advice) text += Wrap(sentence, 100);
  return text;
}

}  // namespace bitflash::verify
