#include "verify/cli/check_flags.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>

#include "data/error.h"
#include "verify/cli/numbers.h"
#include "verify/cli/simulation.h"
#include "verify/cli/text.h"
#include "verify/cli/verify_result.h"

namespace bitflash::verify {
namespace {

using data::Attention;

void Fill(std::optional<std::string>& flag, const std::string& value) {
  if (!flag) flag = value;
}

// The workload flags of a problem that is there already, for what they say of kernels and GPUs.
WorkloadFlags WithProblem(WorkloadFlags flags, const Attention& a) {
  Fill(flags.heads_q, std::to_string(a.heads_q));
  Fill(flags.heads_kv, std::to_string(a.heads_kv));
  Fill(flags.head_dim, std::to_string(a.head_dim));
  Fill(flags.head_dim_v, std::to_string(a.head_dim_v));
  Fill(flags.batch, std::to_string(a.batch));
  if (!flags.seqlen && !flags.phase) {
    Fill(flags.seqlen_q, std::to_string(a.seqlen_q));
    Fill(flags.seqlen_k, std::to_string(a.seqlen_k));
  }
  if (!flags.causal) Fill(flags.mask, ToString(a.mask));
  Fill(flags.softmax_scale, fmt::format("{:.17g}", a.scale()));
  Fill(flags.dtype, std::string(data::Name(a.format)));
  return flags;
}

}  // namespace

CaseHints HintsOf(const VerifyFlags& flags) {
  CaseHints hints;
  if (flags.layout) hints.layout = ParseCaseLayout(*flags.layout);
  if (flags.kv_layout) hints.kv_layout = ParseCaseLayout(*flags.kv_layout);
  if (flags.workload.dtype) hints.format = data::ParseFormat(*flags.workload.dtype);
  if (flags.output_dtype) hints.output_format = data::ParseFormat(*flags.output_dtype);
  if (flags.workload.causal) hints.mask = data::Mask::Causal();
  if (flags.workload.mask) hints.mask = data::ParseMask(*flags.workload.mask);
  const auto number = [](const char* name, const std::optional<std::string>& text) -> std::optional<double> {
    if (!text) return std::nullopt;
    return ParsePositive(name, *text);
  };
  hints.softmax_scale = number("--softmax-scale", flags.workload.softmax_scale);
  hints.softcap = number("--softcap", flags.softcap);
  hints.q_scale = number("--q-scale", flags.q_scale);
  hints.k_scale = number("--k-scale", flags.k_scale);
  hints.v_scale = number("--v-scale", flags.v_scale);
  if (flags.v_in_k) hints.v_in_k = ParseCount("--v-in-k", *flags.v_in_k, 1, int64_t{1} << 20);
  return hints;
}

CheckOptions CheckOptionsOf(const VerifyFlags& flags) {
  CheckOptions options;
  if (flags.pairs) {
    options.judge.most_pairs = *flags.pairs == "all" ? 0 : ParseCount("--pairs", *flags.pairs, 1, int64_t{1} << 50);
  }
  options.metamorphic = !flags.no_relations;
  options.diagnose = !flags.no_diagnosis;
  return options;
}

std::optional<SimulatedKernel> NamedKernel(const VerifyFlags& flags, const Problem& problem,
                                           const std::map<std::string, std::string>& notes,
                                           std::vector<std::string>& assumed) {
  WorkloadFlags workload = flags.workload;
  const auto noted = notes.find("kernel");
  if (!workload.kernel && noted != notes.end()) {
    workload.kernel = noted->second;
    assumed.push_back(fmt::format("kernel {}: the file says so", Printable(noted->second)));
  }
  if (!workload.kernel) return std::nullopt;
  const Workload resolved = ResolveWorkload(WithProblem(workload, problem.attention), {});
  if (resolved.kernels.size() != 1) throw data::UsageError("--kernel: tensors are compared with one kernel at a time");
  const sim::Kernel& kernel = *resolved.kernels.front();
  return SimulatedKernel{&kernel, ChooseTiling(resolved, kernel, resolved.attention()), resolved.gpu.arch};
}

std::string CommandText(const Arguments& arguments) {
  static const std::vector<DroppedFlag> dropped = {
      {"--json", false}, {"--junit", true}, {"--github", false}, {"--save", true}};
  return "bitflash verify" + ShellWords(arguments, dropped);
}

std::string SaveCase(const std::string& folder, const std::string& name, Case saved) try {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw OutputError(fmt::format("{}: {}", Printable(folder), error.message()));
  const std::string path = (std::filesystem::path(folder) / (name + ".safetensors")).string();
  saved.notes["producer"] = std::string("bitflash ") + BITFLASH_VERSION;
  WriteCase(path, saved);
  return path;
} catch (const data::InputError& error) {
  throw OutputError(error.what());
}

std::function<void(std::string_view, double)> CheckProgress::function() const {
  static constexpr int64_t kSteps = 1000;
  // A line for each step: the next one starts where its name changes.
  struct State {
    std::string step;
    std::optional<Progress> line;
  };
  return [&output = output_, state = std::make_shared<State>()](std::string_view step, double share) {
    if (state->step != step) {
      state->step = step;
      state->line.emplace(output, state->step, kSteps);
    }
    state->line->Advance(static_cast<int64_t>(share * kSteps));
  };
}

}  // namespace bitflash::verify
