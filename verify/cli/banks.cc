// bitflash banks: conflicts in shared memory.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "data/error.h"
#include "verify/cli/banks_result.h"
#include "verify/cli/commands.h"
#include "verify/cli/numbers.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::UsageError;
using sim::SharedInstruction;
using sim::WarpPattern;

const SharedInstruction& InstructionOf(const std::string& name) {
  std::vector<std::string> accepted;
  for (const SharedInstruction& instruction : sim::SharedInstructions()) {
    if (instruction.name == name) return instruction;
    accepted.emplace_back(instruction.name);
  }
  throw UsageError(UnknownName("instruction", Printable(name), accepted));
}

WarpPattern PatternOf(const std::string& name) {
  std::vector<std::string> accepted;
  for (const WarpPattern pattern : sim::kWarpPatterns) {
    if (Name(pattern) == name) return pattern;
    accepted.emplace_back(Name(pattern));
  }
  throw UsageError(UnknownName("pattern", Printable(name), accepted));
}

data::Format FormatOf(const std::string& name) {
  std::vector<std::string> accepted;
  for (const data::Format format : data::AllFormats()) {
    if (data::Name(format) == name) return format;
    accepted.emplace_back(data::Name(format));
  }
  throw UsageError(UnknownName("dtype", Printable(name), accepted));
}

// What was asked for; without either, what attention kernels do: copy a tile in, read it as matrices, read fragments
// one by one, and walk down a column.
std::vector<BankAccess> Accesses(const std::optional<std::string>& instruction,
                                 const std::optional<std::string>& pattern) {
  const auto named = [](const char* name) { return &sim::FindSharedInstruction(name); };
  if (!instruction && !pattern)
    return {{named("st.shared.b128"), WarpPattern::kAlongRow},
            {named("ldmatrix.x4"), WarpPattern::kMatrix},
            {named("ld.shared.b32"), WarpPattern::kFragment},
            {named("ld.shared.b32"), WarpPattern::kDownColumn}};
  if (!instruction) {
    const WarpPattern chosen = PatternOf(*pattern);
    return {{named(chosen == WarpPattern::kMatrix ? "ldmatrix.x4" : "ld.shared.b32"), chosen}};
  }
  const SharedInstruction& chosen = InstructionOf(*instruction);
  if (pattern) return {{&chosen, PatternOf(*pattern)}};
  if (chosen.matrices) return {{&chosen, WarpPattern::kMatrix}};
  return {{&chosen, WarpPattern::kAlongRow}, {&chosen, WarpPattern::kDownColumn}, {&chosen, WarpPattern::kFragment}};
}

std::vector<sim::SharedLayout> Layouts(const std::optional<std::string>& text) {
  if (!text) return {{}, {.pad_bytes = 16}, {.swizzle_bytes = 32}, {.swizzle_bytes = 64}, {.swizzle_bytes = 128}};
  std::vector<sim::SharedLayout> layouts;
  for (size_t at = 0; at <= text->size();) {
    const size_t comma = std::min(text->find(',', at), text->size());
    layouts.push_back(sim::ParseSharedLayout(text->substr(at, comma - at)));
    at = comma + 1;
  }
  return layouts;
}

// The first layout of each access that is possible is the one that a sentence is about.
BanksResult CountAll(int64_t rows, int64_t columns, data::Format format, const std::vector<BankAccess>& accesses,
                     const std::vector<sim::SharedLayout>& layouts) {
  BanksResult result{rows, columns, format, {}, {}};
  for (const BankAccess& access : accesses) {
    bool advised = false;
    for (const sim::SharedLayout& layout : layouts) {
      result.results.push_back(CountLayout(layout, rows, columns, format, access));
      const BankResult& one = result.results.back();
      if (one.pass && !advised) result.advice.push_back(Advice(one, rows, columns, format));
      advised |= one.pass.has_value();
    }
  }
  const bool none = std::none_of(result.results.begin(), result.results.end(),
                                 [](const BankResult& one) { return one.pass.has_value(); });
  if (none) throw UsageError(result.results.front().infeasible);
  return result;
}

}  // namespace

ExitCode Banks(const Arguments& arguments) {
  CommandLine line(
      "banks",
      "Counts the wavefronts that instructions of a warp take in shared memory, and how many of them are bank\n"
      "conflicts, while they go once over a tile in some layouts; says what to do about them. The counts are those of\n"
      "Nsight Compute's l1tex__data_pipe_lsu_wavefronts_mem_shared and l1tex__data_bank_conflicts_pipe_lsu_mem_shared, "
      "as measured on an\n"
      "H100. Copies by cp.async follow a model, which is right for most patterns measured. Copies by TMA, and what "
      "wgmma\n"
      "reads, are not counted.",
      {{"bitflash banks --tile 64x128", "a tile of K in bf16: what attention kernels do, in five layouts"},
       {"bitflash banks --tile 64x128 --instruction ldmatrix.x4 --layout row-major",
        "one layout and one instruction: the map of its banks"},
       {"bitflash banks --tile 32x32 --dtype fp32 --pattern down-column --layout row-major,padded-4",
        "a transposition in fp32, without and with one more word a row"}});
  OutputFlags output_flags;
  std::optional<std::string> tile, dtype, layout, instruction, pattern;
  line.Group("Tile");
  line.AddOption("--tile", tile, "RxC", "Rows x columns, e.g. 64x128 for 64 keys of head_dim 128");
  line.AddOption("--dtype", dtype, "FORMAT", "Of its elements (default: bf16)");
  line.AddOption("--layout", layout, "NAME[,NAME]", "row-major, padded-N, swizzle-32, swizzle-64, swizzle-128");
  line.Group("Access");
  line.AddOption("--instruction", instruction, "NAME",
                 "ld.shared.b16 b32 b64 b128, st.shared likewise, ldmatrix.x1 x2 x4, stmatrix likewise, cp.async.b128");
  line.AddOption("--pattern", pattern, "NAME", "along-row, down-column, fragment; matrix for ldmatrix and stmatrix");
  line.Group("Output");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("banks", output_flags);
  if (!tile) throw UsageError("which tile? Give --tile RxC, rows x columns");
  int64_t rows = 0, columns = 0;
  std::tie(rows, columns) = ParseTile("--tile", *tile, "rows x columns such as 64x128");
  const BanksResult result =
      CountAll(rows, columns, FormatOf(dtype.value_or("bf16")), Accesses(instruction, pattern), Layouts(layout));
  if (output.wants_json()) output.JsonResult(BanksJson(result));
  if (output.wants_text()) output.Text(BanksText(result, output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
