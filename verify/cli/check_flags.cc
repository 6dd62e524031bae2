#include "verify/cli/check_flags.h"

#include <fmt/format.h>

#include <span>
#include <string_view>
#include <utility>

#include "data/error.h"
#include "verify/cli/numbers.h"
#include "verify/cli/simulation.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::Attention;

void Fill(std::optional<std::string>& flag, const std::string& value) {
  if (!flag) flag = value;
}

WitnessChoice ParseWitness(const std::string& text) {
  if (text == "auto") return WitnessChoice::kAuto;
  if (text == "fp64") return WitnessChoice::kFp64;
  if (text == "simd") return WitnessChoice::kSimd;
  throw data::UsageError("--witness: " + UnknownName("witness", Printable(text), {"auto", "fp64", "simd"}));
}

// The first of some flags that was given.
void RefuseGiven(std::span<const std::pair<const char*, bool>> flags, std::string_view why) {
  for (const auto& [flag, given] : flags) {
    if (given) throw data::UsageError(fmt::format("{} {}", flag, why));
  }
}

}  // namespace

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
  if (a.softcap > 0) Fill(flags.softcap, fmt::format("{:.17g}", a.softcap));
  Fill(flags.dtype, std::string(data::Name(a.format)));
  return flags;
}

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
  hints.softcap = number("--softcap", flags.workload.softcap);
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
    options.judge.most_pairs_beside_witness = options.judge.most_pairs;
  }
  if (flags.witness) options.judge.witness = ParseWitness(*flags.witness);
  if (options.judge.witness == WitnessChoice::kSimd && options.judge.most_pairs == 0) {
    throw data::UsageError("--witness simd contradicts --pairs all: fp64 would leave no row to it");
  }
  options.metamorphic = !flags.no_relations;
  options.diagnose = !flags.no_diagnosis;
  return options;
}

std::vector<NamedFile> FilesOf(const VerifyFlags& flags) {
  std::vector<NamedFile> files;
  const auto add = [&](const char* tensor, const std::optional<std::string>& path) {
    if (path) files.push_back({tensor, *path});
  };
  add("", flags.case_file);
  add("", flags.inputs.in);
  add("q", flags.inputs.q);
  add("k", flags.inputs.k);
  add("v", flags.inputs.v);
  add("o", flags.o);
  add("lse", flags.lse);
  return files;
}

void RefuseProblemFlags(const VerifyFlags& flags) {
  const std::pair<const char*, bool> idle[] = {
      {"--model", flags.workload.model.has_value()}, {"--layers", flags.workload.layers.has_value()},
      {"--phase", flags.workload.phase.has_value()}, {"--seqlen", flags.workload.seqlen.has_value()},
      {"--seed", flags.workload.seed.has_value()},   {"--distribution", flags.inputs.distribution.has_value()},
      {"--cases", flags.cases.has_value()}};
  RefuseGiven(idle, "contradicts tensors from files: they hold the problem");
}

void RefuseIdleFlags(const VerifyFlags& flags, bool generated) {
  const WorkloadFlags& w = flags.workload;
  const std::pair<const char*, bool> of_tensors[] = {{"--layout", flags.layout.has_value()},
                                                     {"--kv-layout", flags.kv_layout.has_value()},
                                                     {"--v-in-k", flags.v_in_k.has_value()},
                                                     {"--q-scale", flags.q_scale.has_value()},
                                                     {"--k-scale", flags.k_scale.has_value()},
                                                     {"--v-scale", flags.v_scale.has_value()},
                                                     {"--output-dtype", flags.output_dtype && !flags.plugin}};
  RefuseGiven(of_tensors, "needs tensors from files (--in, --q, --k and --v, --case)");
  if (!generated) return;
  const std::pair<const char*, bool> of_shape[] = {{"--layers", w.layers.has_value()},
                                                   {"--heads-kv", w.heads_kv.has_value()},
                                                   {"--head-dim-v", w.head_dim_v.has_value()},
                                                   {"--batch", w.batch.has_value()},
                                                   {"--phase", w.phase.has_value()},
                                                   {"--causal", w.causal},
                                                   {"--mask", w.mask.has_value()},
                                                   {"--softmax-scale", w.softmax_scale.has_value()},
                                                   {"--softcap", w.softcap.has_value()},
                                                   {"--distribution", flags.inputs.distribution.has_value()}};
  RefuseGiven(of_shape,
              "needs a shape (--model, or --heads-q, --head-dim and --seqlen): generated cases choose their own");
}

void RequireSameShape(const WorkloadFlags& flags, const Attention& a) {
  const struct {
    const char* flag;
    const std::optional<std::string>& text;
    int64_t value;
  } extents[] = {{"--heads-q", flags.heads_q, a.heads_q},    {"--heads-kv", flags.heads_kv, a.heads_kv},
                 {"--head-dim", flags.head_dim, a.head_dim}, {"--head-dim-v", flags.head_dim_v, a.head_dim_v},
                 {"--batch", flags.batch, a.batch},          {"--seqlen-q", flags.seqlen_q, a.seqlen_q},
                 {"--seqlen-k", flags.seqlen_k, a.seqlen_k}};
  for (const auto& extent : extents) {
    if (!extent.text) continue;
    constexpr int64_t kMost = int64_t{1} << 40;
    if (ParseCount(extent.flag, *extent.text, 0, kMost) == extent.value) continue;
    throw data::UsageError(
        fmt::format("{} {} contradicts the tensors: expected {}", extent.flag, *extent.text, extent.value));
  }
}

SimulatedKernel KernelOf(const WorkloadFlags& flags, const Attention& attention,
                         const std::optional<RecipeFile>& recipe) {
  const Workload resolved = ResolveWorkload(WithProblem(flags, attention), {});
  if (resolved.kernels.size() != 1) throw data::UsageError("--kernel: verify compares with one kernel at a time");
  if (recipe) RequireArchitecture(*recipe, resolved.gpu);
  const sim::Kernel& kernel = recipe ? recipe->kernel : *resolved.kernels.front();
  return {&kernel, ChooseTiling(resolved, kernel, resolved.attention()), resolved.gpu.arch};
}

std::optional<SimulatedKernel> NamedKernel(const WorkloadFlags& flags, const std::optional<RecipeFile>& recipe,
                                           const Problem& problem, const std::map<std::string, std::string>& notes,
                                           std::vector<std::string>& assumed) {
  if (flags.kernel) return KernelOf(flags, problem.attention, recipe);
  const auto noted = notes.find("kernel");
  if (noted == notes.end()) return std::nullopt;
  // Whoever wrote the file may mean another kernel than those of bitflash: then nothing is compared with it.
  const std::string name = Printable(Shorten(noted->second));
  try {
    WorkloadFlags with_kernel = flags;
    with_kernel.kernel = noted->second;
    const SimulatedKernel kernel = KernelOf(with_kernel, problem.attention, std::nullopt);
    assumed.push_back(fmt::format("kernel {}: the file says so", name));
    return kernel;
  } catch (const data::UsageError&) {
    assumed.push_back(fmt::format("no kernel: the file says {}, which bitflash does not simulate for it", name));
    return std::nullopt;
  }
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
