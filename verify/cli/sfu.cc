// bitflash sfu: the GPU's elementary functions on bit patterns.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <span>

#include "data/error.h"
#include "data/hash.h"
#include "data/text.h"
#include "sim/special_functions.h"
#include "verify/cli/commands.h"
#include "verify/cli/filter_command.h"
#include "verify/cli/hex.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

std::vector<std::string> FunctionNames() {
  std::vector<std::string> names;
  for (const sim::Function function : sim::AllFunctions()) names.emplace_back(Name(function));
  return names;
}

sim::Function ParseFunction(const std::string& name) {
  for (const sim::Function function : sim::AllFunctions()) {
    if (Name(function) == name) return function;
  }
  throw UsageError(UnknownName("function", Printable(name), FunctionNames()));
}

uint32_t ParseLine(const char*& at, int64_t line) {
  uint32_t bits = 0, more = 0;
  const HexToken token = NextHex(at, bits);
  if (token == HexToken::kEndOfLine) {
    throw BadLine{line, "is empty: expected an fp32 bit pattern of 1 to 8 hexadecimal digits"};
  }
  if (token == HexToken::kBad) {
    throw BadLine{
        line, fmt::format("{}: expected an fp32 bit pattern of 1 to 8 hexadecimal digits", data::Quoted(TokenAt(at)))};
  }
  if (NextHex(at, more) != HexToken::kEndOfLine) {
    throw BadLine{line, "has more than one token: expected one fp32 bit pattern"};
  }
  ++at;
  return bits;
}

void FilterSfu(sim::Function function, std::string_view lines, int64_t first, FilteredLines& results) {
  constexpr int64_t kBatch = 2048;  // x and y stay in L1
  std::array<float, kBatch> x, y;
  const char* at = lines.data();
  const char* const end = at + lines.size();
  for (int64_t line = first; at < end;) {
    int64_t count = 0;
    std::optional<BadLine> bad;
    try {
      for (; count < kBatch && at < end; ++count) x[count] = std::bit_cast<float>(ParseLine(at, line + count + 1));
    } catch (const BadLine& caught) {
      bad = caught;
    }
    Evaluate(function, std::span(x).first(count), std::span(y).first(count));
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(y[i]);
      AppendHexLine(results.text, bits, 8);
      results.hash += data::HashPair(static_cast<uint32_t>(line + i), bits);
    }
    if (bad) throw *bad;
    line += count;
  }
}

}  // namespace

ExitCode Sfu(const Arguments& arguments) {
  CommandLine line(
      "sfu",
      "Evaluates a function of the GPU's special function unit, bit for bit: lines of fp32 bit patterns in\n"
      "hexadecimal in, one result a line out, from FILE or standard input.\n"
      "ex2, rcp, rsqrt and lg2 are PTX's .approx.ftz.f32; exp2f and logf are CUDA's without fast-math.",
      {{"echo 3f800000 | bitflash sfu ex2", "2^1: prints 40000000"},
       {"printf '40400000\\n7f800000\\n' | bitflash sfu rcp", "1/3 and 1/infinity"}});
  std::optional<std::string> function_name, path;
  OutputFlags output_flags;
  line.AddPositional("FUNCTION", function_name, Join(FunctionNames()));
  line.AddPositional("FILE", path, "Lines of hexadecimal digits (default or -: standard input)");
  line.Group("Output");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("sfu", output_flags);
  if (!function_name) throw UsageError(fmt::format("which function? One of {}", Join(FunctionNames())));
  const sim::Function function = ParseFunction(*function_name);
  const LineFilter filter = [function](std::string_view lines, int64_t first, FilteredLines& results) {
    FilterSfu(function, lines, first, results);
  };
  return RunFilter(output, path, filter, {{"schema", "bitflash.sfu/1"}, {"function", Name(function)}});
}

}  // namespace bitflash::verify
