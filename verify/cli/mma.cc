// bitflash mma: the tensor core's dot product on bit patterns.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "data/hash.h"
#include "data/text.h"
#include "sim/tensor_core_scalar.h"
#include "verify/cli/commands.h"
#include "verify/cli/filter_command.h"
#include "verify/cli/hex.h"
#include "verify/cli/numbers.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::UsageError;
using sim::TensorCore;

uint32_t LargestPattern(Format format) {
  return data::StorageBytes(format) == 4 ? ~uint32_t{0} : (1u << (8 * data::StorageBytes(format))) - 1;
}

int Digits(Format format) { return static_cast<int>(2 * data::StorageBytes(format)); }

// The instruction by its name in the table, or with a shape: "mma.sync.m16n8k8". Either fixes k.
struct Instruction {
  std::string name;
  std::optional<int64_t> k;  // of the shape
};

Instruction ParseInstruction(const std::string& text) {
  const size_t shape = text.rfind(".m");
  const size_t k = text.find('k', shape == std::string::npos ? 0 : shape);
  const bool has_shape = shape != std::string::npos && shape + 2 < text.size() && text[shape + 2] >= '0' &&
                         text[shape + 2] <= '9' && k != std::string::npos;
  if (!has_shape) return {text, {}};
  return {text.substr(0, shape), ParseCount("--instruction: k", text.substr(k + 1), 1, 256)};
}

// The k of the instruction itself; mma.sync also comes with half of it from sm80 on (PTX ISA, "mma": m16n8k8 beside
// m16n8k16, for tf32 m16n8k4 beside m16n8k8).
int64_t FixedK(const TensorCore& core, const Instruction& instruction) {
  if (!instruction.k) return core.instruction_k;
  const bool has_half = core.instruction == "mma.sync" && core.arch != "sm70" && core.arch != "sm75";
  if (*instruction.k == core.instruction_k || (has_half && 2 * *instruction.k == core.instruction_k)) {
    return *instruction.k;
  }
  throw UsageError(fmt::format("--instruction: {} {} has no k of {} (accepted: {}{})", core.arch, core.instruction,
                               *instruction.k, has_half ? fmt::format("{}, ", core.instruction_k / 2) : "",
                               core.instruction_k));
}

class MmaFilter {
 public:
  MmaFilter(const TensorCore& core, std::optional<int64_t> k)
      : core_(core),
        k_(k),
        largest_operand_(LargestPattern(core.input)),
        largest_c_(LargestPattern(core.accumulator)) {}

  void operator()(std::string_view lines, int64_t first, FilteredLines& results) const {
    std::vector<uint32_t> tokens;
    std::vector<sim::Decoded> operands;
    const char* at = lines.data();
    for (int64_t line = first; at < lines.data() + lines.size(); ++line) {
      ReadLine(at, line + 1, tokens);
      const size_t k = tokens.size() / 2;
      operands.clear();
      for (size_t i = 0; i < 2 * k; ++i) operands.push_back(sim::Decode(core_.input, tokens[i]));
      const std::span<const sim::Decoded> all = operands;
      const uint32_t d = sim::DotProductAdd(core_, all.first(k), all.subspan(k), tokens.back());
      AppendHexLine(results.text, d, Digits(core_.accumulator));
      results.hash += data::HashPair(static_cast<uint32_t>(line), d);
    }
  }

 private:
  // a[0..k-1] b[0..k-1] c; `at` moves to the next line.
  void ReadLine(const char*& at, int64_t line, std::vector<uint32_t>& tokens) const {
    const char* const begin = at;
    tokens.clear();
    uint32_t bits = 0, seen = 0;
    for (HexToken token; (token = NextHex(at, bits)) != HexToken::kEndOfLine;) {
      if (token == HexToken::kBad) {
        throw BadLine{line, fmt::format("token {}, {}: expected a bit pattern in hexadecimal", tokens.size() + 1,
                                        data::Quoted(TokenAt(at)))};
      }
      if (!tokens.empty()) seen |= tokens.back();
      tokens.push_back(bits);
    }
    ++at;
    if (k_ ? tokens.size() != static_cast<size_t>(2 * *k_ + 1) : tokens.size() < 3 || tokens.size() % 2 == 0) {
      const std::string count = k_ ? fmt::format("{} tokens, since k is {}", 2 * *k_ + 1, *k_) : "an odd number from 3";
      throw BadLine{line, fmt::format("{} tokens: expected {}: a[0..k-1] b[0..k-1] c", tokens.size(), count)};
    }
    if (seen > largest_operand_ || tokens.back() > largest_c_) ThrowTooLarge(begin, line, tokens);
  }

  // The first token of the line at `at` that has too many bits.
  [[noreturn]] void ThrowTooLarge(const char* at, int64_t line, const std::vector<uint32_t>& tokens) const {
    for (size_t i = 0;; ++i) {
      while (IsBlank(*at)) ++at;
      const std::string_view word = TokenAt(at);
      at += word.size();
      const bool is_c = i + 1 == tokens.size();
      const Format format = is_c ? core_.accumulator : core_.input;
      if (tokens[i] <= LargestPattern(format)) continue;
      throw BadLine{line,
                    fmt::format("token {}, {}: expected the bits of {} ({}), 1 to {} digits", i + 1, data::Quoted(word),
                                is_c ? "c" : "an operand", data::Name(format), Digits(format))};
    }
  }

  const TensorCore& core_;
  const std::optional<int64_t> k_;
  const uint32_t largest_operand_, largest_c_;
};

Json CoreJson(const TensorCore& core) {
  const bool floor = core.emax_floor != sim::kNoEmaxFloor;
  return {{"arch", core.arch},
          {"instruction", core.instruction},
          {"in", data::Name(core.input)},
          {"out", data::Name(core.accumulator)},
          {"products", core.products},
          {"alignment_bits", core.alignment_bits},
          {"emax_floor", floor ? Json(core.emax_floor) : Json(nullptr)},
          {"step_order", core.step_order == sim::StepOrder::kAscending ? "ascending" : "even pairs first"},
          {"measured", core.evidence == sim::Evidence::kMeasured},
          {"source", core.source}};
}

}  // namespace

ExitCode Mma(const Arguments& arguments) {
  CommandLine line(
      "mma",
      "Computes d = a . b + c as a tensor core does, bit for bit: lines of hexadecimal bit patterns a[0..k-1]\n"
      "b[0..k-1] c in, d out, one a line, from FILE or standard input. k is taken from the line: the architecture's\n"
      "steps in its order of k, the last one padded with zeros.",
      {{"echo '3f80 3f80 3f80 3f80 40000000' | bitflash mma --arch sm90 --in bf16 --out fp32",
        "1 1 + 1 1 + 2: 40800000"},
       {"echo '3c00 3c00 0000' | bitflash mma --arch sm80 --in fp16 --out fp16", "half precision accumulator: 3c00"},
       {"echo '3f800000 3f800000 0' | bitflash mma --arch sm100 --in tf32 --out fp32", "tf32 takes 32-bit patterns"}});
  std::optional<std::string> arch, in, out, instruction_text, path;
  OutputFlags output_flags;
  line.Group("Tensor core");
  line.AddOption("--arch", arch, "ARCH", "sm70, sm75, sm80, sm86, sm89, sm90, sm100");
  line.AddOption("--in", in, "FORMAT", "Of a and b: fp16, bf16, tf32, e4m3, e5m2");
  line.AddOption("--out", out, "FORMAT", "Of c and d: fp32, fp16 (default: fp32)");
  line.AddOption(
      "--instruction", instruction_text, "NAME",
      "wgmma, mma.sync, tcgen05.mma or with a shape, mma.sync.m16n8k8: fixes k (default: the newest, any k)");
  line.AddPositional("FILE", path, "Lines of hexadecimal bit patterns (default or -: standard input)");
  line.Group("Output");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("mma", output_flags);
  if (!arch) throw UsageError("--arch is missing: one of sm70, sm75, sm80, sm86, sm89, sm90, sm100");
  if (!in) throw UsageError("--in is missing: the format of a and b, one of fp16, bf16, tf32, e4m3, e5m2");
  const Format input = data::ParseFormat(*in), accumulator = data::ParseFormat(out.value_or("fp32"));
  Instruction instruction;
  if (instruction_text) instruction = ParseInstruction(*instruction_text);
  if (instruction_text && instruction.name.empty()) throw UsageError("--instruction: '' names no instruction");
  const TensorCore& core = sim::FindTensorCore(*arch, input, accumulator, instruction.name);
  std::optional<int64_t> k;
  if (instruction_text) k = FixedK(core, instruction);
  return RunFilter(
      output, path, MmaFilter(core, k),
      {{"schema", "bitflash.mma/1"}, {"tensor_core", CoreJson(core)}, {"k", k ? Json(*k) : Json(nullptr)}});
}

}  // namespace bitflash::verify
