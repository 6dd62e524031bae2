#include "verify/cli/workload.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/error.h"
#include "verify/cli/numbers.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/subjects/cpu_kernel.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::LayerGroup;
using data::Phase;
using data::UsageError;

// Far above anything that runs, far below what could overflow a product of two. data::Validate limits the products.
constexpr int64_t kMostHeads = 1 << 20;
constexpr int64_t kMostColumns = 1 << 16;
constexpr int64_t kMostLength = int64_t{1} << 40;

constexpr const char* kDefaultGpu = "h200";

bool IsFile(std::string_view name) {
  return name.find('/') != std::string_view::npos || (name.size() > 5 && name.substr(name.size() - 5) == ".json");
}

// A name that is neither built in nor a file, with the nearest built-in one. The loaders refuse it as well; only this
// layer suggests.
void RequireName(std::string_view kind, const std::string& name, const std::vector<std::string>& accepted) {
  if (IsFile(name) || std::find(accepted.begin(), accepted.end(), name) != accepted.end()) return;
  throw UsageError(UnknownName(kind, Printable(name), accepted) + ", or a .json file");
}

void Refuse(bool contradiction, std::string_view one, std::string_view other, std::string_view why) {
  if (contradiction) throw UsageError(fmt::format("{} contradicts {}: {}", one, other, why));
}

// The GPU that stands for an architecture where none is named: the one whose number of SMs and amount of shared memory
// choose tiles and splits.
struct Representative {
  std::string_view arch, gpu;
};
constexpr Representative kRepresentatives[] = {
    {"sm75", "t4"}, {"sm80", "a100-80gb"}, {"sm89", "l40s"}, {"sm90", "h200"}, {"sm100", "b200"}};

class Resolver {
 public:
  Resolver(const WorkloadFlags& flags, const WorkloadFeatures& features) : f_(flags), features_(features) {}

  Workload Resolve() {
    CheckContradictions();
    if (features_.gpu) ResolveGpu();
    if (features_.kernel) ResolveKernels();
    if (f_.seed) w_.seed = ParseSeed("--seed", *f_.seed);
    if (features_.seed && !f_.seed) Assume("seed = 0");
    ResolveProblem();
    return std::move(w_);
  }

 private:
  void Assume(std::string text) { w_.assumed.push_back(std::move(text)); }

  void CheckContradictions() const {
    Refuse(f_.model && f_.heads_q, "--heads-q", "--model", "the model says how many heads there are");
    Refuse(f_.model && f_.heads_kv, "--heads-kv", "--model", "the model says how many heads there are");
    Refuse(f_.model && f_.head_dim, "--head-dim", "--model", "the model says its head_dim");
    Refuse(f_.model && f_.head_dim_v, "--head-dim-v", "--model", "the model says its head_dim");
    Refuse(f_.layers && !f_.model, "--layers", "the missing --model", "it chooses among the layers of a model");
    const bool lengths = f_.seqlen_q || f_.seqlen_k;
    const char* length = f_.seqlen_q ? "--seqlen-q" : "--seqlen-k";
    Refuse(lengths && f_.phase, length, "--phase", "give the phase with --seqlen, or both lengths");
    Refuse(lengths && f_.seqlen, length, "--seqlen", "give one length for the phase, or both lengths");
    Refuse(f_.causal && f_.mask && data::ParseMask(*f_.mask) != data::Mask::Causal(), "--causal",
           fmt::format("--mask {}", f_.mask.value_or("")), "give one of them");
    Refuse(f_.splits && f_.chunk, "--splits", "--chunk", "give the number of parts or their length");
    if (!f_.model && !f_.heads_q && !f_.head_dim) {
      throw UsageError("which attention? Give --model NAME, or --heads-q N and --head-dim N");
    }
    if (!f_.model && !f_.heads_q) throw UsageError("--heads-q is missing (or give --model NAME)");
    if (!f_.model && !f_.head_dim) throw UsageError("--head-dim is missing (or give --model NAME)");
    if (!lengths && !f_.seqlen) {
      throw UsageError(f_.phase ? "--phase needs --seqlen N"
                                : "how long are the sequences? Give --phase prefill|decode and --seqlen N, or "
                                  "--seqlen-q N and --seqlen-k N");
    }
  }

  void ResolveGpu() {
    if (f_.arch) {
      std::string_view representative;
      for (const Representative& entry : kRepresentatives) {
        if (entry.arch == *f_.arch) representative = entry.gpu;
      }
      if (representative.empty()) {
        throw UsageError(UnknownName("architecture", Printable(*f_.arch), ArchitectureNames()));
      }
      if (!f_.gpu) {
        w_.gpu = data::LoadGpu(representative);
        return Assume(fmt::format("gpu = {} (stands for {})", w_.gpu.name, *f_.arch));
      }
    }
    if (f_.gpu) RequireName("GPU", *f_.gpu, data::GpuNames());
    w_.gpu = data::LoadGpu(f_.gpu.value_or(kDefaultGpu));
    if (!f_.gpu) Assume(fmt::format("gpu = {}", kDefaultGpu));
    Refuse(f_.arch && w_.gpu.arch != *f_.arch, fmt::format("--arch {}", f_.arch.value_or("")),
           fmt::format("--gpu {}", f_.gpu.value_or("")), fmt::format("that GPU is {}", w_.gpu.arch));
  }

  void ResolveKernels() {
    std::vector<std::string> accepted;
    for (const sim::Kernel& kernel : sim::Kernels()) accepted.emplace_back(kernel.name);
    if (!f_.kernel) Assume(fmt::format("kernel = {}", features_.default_kernel));
    const std::string names = f_.kernel.value_or(features_.default_kernel);
    for (std::string_view rest = names;;) {
      const size_t comma = rest.find(',');
      const std::string name(rest.substr(0, comma));
      if (std::find(accepted.begin(), accepted.end(), name) == accepted.end()) {
        if (FindCpuKernel(name) != nullptr) {
          throw UsageError(fmt::format("kernel {} runs on the CPU: expected a simulated one here (accepted: {})", name,
                                       Join(accepted)));
        }
        if (features_.cpu_kernels) {
          for (const CpuKernel& cpu_kernel : CpuKernels()) accepted.emplace_back(cpu_kernel.name);
        }
        throw UsageError(UnknownName("kernel", Printable(name), accepted));
      }
      const sim::Kernel* kernel = &sim::FindKernel(name);
      if (std::find(w_.kernels.begin(), w_.kernels.end(), kernel) != w_.kernels.end()) {
        throw UsageError(fmt::format("--kernel names '{}' twice", name));
      }
      w_.kernels.push_back(kernel);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
    if (f_.tile) std::tie(w_.tiling.Br, w_.tiling.Bc) = ParseTile("--tile", *f_.tile);
    const auto count = [](const char* flag, const std::optional<std::string>& text, int64_t min, int64_t max) {
      return text ? std::optional(ParseCount(flag, *text, min, max)) : std::nullopt;
    };
    w_.tiling.warps = count("--warps", f_.warps, 1, 32);  // 1024 threads a block
    w_.tiling.stages = count("--stages", f_.stages, 1, 64);
    w_.tiling.splits = count("--splits", f_.splits, 1, 1 << 16);
    w_.tiling.part_keys = count("--chunk", f_.chunk, 1, kMostLength);
    w_.tiling.page_size = count("--page-size", f_.page_size, 0, 1 << 20);
    if (f_.pack_gqa) w_.tiling.pack_gqa = true;
    if (f_.fp32_scores) w_.tiling.fp32_scores = true;
    RequireMeaning("--splits", f_.splits.has_value(), &sim::Kernel::splits_keys);
    RequireMeaning("--chunk", f_.chunk.has_value(), &sim::Kernel::fixed_parts);
    RequireMeaning("--page-size", f_.page_size.has_value(), &sim::Kernel::pages);
    RequireMeaning("--pack-gqa", f_.pack_gqa, &sim::Kernel::packs_heads);
    RequireMeaning("--fp32-scores", f_.fp32_scores, &sim::Kernel::stores_scores);
  }

  // With several kernels a flag goes to those that it means something to; there must be one.
  void RequireMeaning(std::string_view flag, bool given, bool sim::Kernel::*takes) const {
    if (!given) return;
    for (const sim::Kernel* kernel : w_.kernels) {
      if (kernel->*takes) return;
    }
    std::vector<std::string> takers;
    for (const sim::Kernel& kernel : sim::Kernels()) {
      if (kernel.*takes) takers.emplace_back(kernel.name);
    }
    throw UsageError(fmt::format("{} means something only with --kernel {}", flag, Join(takers)));
  }

  // The group of --layers, by name or by the start of its name; else the first without a window, whose cost grows
  // with the square of the length.
  const LayerGroup& ChooseGroup(const data::Model& model) {
    std::vector<std::string> names;
    for (const LayerGroup& group : model.groups) names.push_back(group.name);
    if (f_.layers) {
      const LayerGroup* found = nullptr;
      for (const LayerGroup& group : model.groups) {
        if (group.name == *f_.layers) return group;
        if (!f_.layers->empty() && group.name.rfind(*f_.layers, 0) == 0) {
          if (found)
            throw UsageError(fmt::format("--layers: '{}' is ambiguous (accepted: {})", *f_.layers, Join(names)));
          found = &group;
        }
      }
      if (!found) throw UsageError(UnknownName(fmt::format("layers of {}:", model.name), Printable(*f_.layers), names));
      return *found;
    }
    const LayerGroup* chosen = &model.groups.front();
    for (const LayerGroup& group : model.groups) {
      if (!group.window) {
        chosen = &group;
        break;
      }
    }
    if (model.groups.size() > 1) {
      int64_t layers = 0;
      for (const LayerGroup& group : model.groups) layers += group.layers;
      Assume(fmt::format("layers = {} ({} of {} layers; all: {})", chosen->name, chosen->layers, layers, Join(names)));
    }
    return *chosen;
  }

  std::vector<int64_t> Values(const char* name, const char* flag, const std::optional<std::string>& text, int64_t min) {
    if (!features_.sweep) return {ParseCount(flag, *text, min, kMostLength)};
    std::vector<int64_t> values = ParseSweep(flag, *text, min, kMostLength);
    if (values.size() > 1) w_.swept.emplace_back(name);
    return values;
  }

  void ResolveProblem() {
    if (f_.model) {
      RequireName("model", *f_.model, data::ModelNames());
      w_.model = data::LoadModel(*f_.model);
      w_.group = ChooseGroup(*w_.model);
      for (const std::string& text : w_.model->assumed) Assume(text);
      for (const std::string& text : w_.model->not_modelled) w_.notes.push_back(fmt::format("not modelled: {}", text));
    }
    if (f_.seqlen) {
      const std::vector<std::string> phases = {"prefill", "decode"};
      if (f_.phase && std::find(phases.begin(), phases.end(), *f_.phase) == phases.end()) {
        throw UsageError(UnknownName("phase", Printable(*f_.phase), phases));
      }
      w_.phase = f_.phase == "decode" ? Phase::kDecode : Phase::kPrefill;
      if (!f_.phase) Assume("phase = prefill");
    }

    std::vector<int64_t> batches = {1};
    if (f_.batch) batches = Values("batch", "--batch", f_.batch, 1);
    if (!f_.batch) Assume("batch = 1");
    // {seqlen_q, seqlen_k}; -1: as long as the other
    std::vector<int64_t> queries = {-1}, keys = {-1};
    if (f_.seqlen) keys = Values("seqlen", "--seqlen", f_.seqlen, 1);
    if (f_.seqlen_q) queries = Values("seqlen_q", "--seqlen-q", f_.seqlen_q, 1);
    if (f_.seqlen_k) keys = Values("seqlen_k", "--seqlen-k", f_.seqlen_k, 0);
    if (f_.seqlen_q && !f_.seqlen_k) Assume("seqlen_k = seqlen_q");
    if (f_.seqlen_k && !f_.seqlen_q) Assume("seqlen_q = seqlen_k");
    const size_t points = batches.size() * queries.size() * keys.size();
    if (points > static_cast<size_t>(kMostSweepValues)) {
      throw UsageError(
          fmt::format("the sweeps make {} combinations; at most {} are counted", points, kMostSweepValues));
    }

    Attention shape = f_.model ? Attention() : ShapeOfFlags();
    ApplyChoices(shape);
    const size_t assumed = w_.assumed.size();
    for (const int64_t batch : batches) {
      for (const int64_t seqlen_q : queries) {
        for (const int64_t seqlen_k : keys) {
          w_.assumed.resize(assumed);  // every point assumes the same
          w_.points.push_back(Point(shape, batch, seqlen_q, seqlen_k));
        }
      }
    }
    NoteLength();
  }

  Attention ShapeOfFlags() {
    Attention a;
    a.heads_q = ParseCount("--heads-q", *f_.heads_q, 1, kMostHeads);
    a.heads_kv = f_.heads_kv ? ParseCount("--heads-kv", *f_.heads_kv, 1, kMostHeads) : a.heads_q;
    if (!f_.heads_kv) Assume(fmt::format("heads_kv = {} (as heads_q)", a.heads_kv));
    if (a.heads_q % a.heads_kv != 0) {
      throw UsageError(fmt::format("--heads-q {} is not a multiple of --heads-kv {}", a.heads_q, a.heads_kv));
    }
    a.head_dim = ParseCount("--head-dim", *f_.head_dim, 1, kMostColumns);
    a.head_dim_v = f_.head_dim_v ? ParseCount("--head-dim-v", *f_.head_dim_v, 1, kMostColumns) : a.head_dim;
    if (!f_.dtype) Assume("dtype = bf16");
    if (!f_.mask && !f_.causal) Assume("mask = full");
    return a;
  }

  // What the user chose whether or not there is a model.
  void ApplyChoices(Attention& a) {
    if (f_.dtype) {
      std::vector<std::string> accepted;
      for (const data::Format format : data::AllFormats()) {
        if (data::StorageBytes(format) <= 4) accepted.emplace_back(data::Name(format));
      }
      if (std::find(accepted.begin(), accepted.end(), *f_.dtype) == accepted.end()) {
        throw UsageError(UnknownName("dtype", Printable(*f_.dtype), accepted));
      }
      a.format = data::ParseFormat(*f_.dtype);
    }
    if (f_.mask) a.mask = data::ParseMask(*f_.mask);
    if (f_.causal) a.mask = data::Mask::Causal();
    if (f_.softmax_scale) a.softmax_scale = ParsePositive("--softmax-scale", *f_.softmax_scale);
    if (f_.softcap) a.softcap = ParsePositive("--softcap", *f_.softcap);
  }

  Attention Point(const Attention& shape, int64_t batch, int64_t seqlen_q, int64_t seqlen_k) {
    const int64_t length = std::max(seqlen_q, seqlen_k);
    if (w_.phase == Phase::kDecode) seqlen_q = 1;
    if (seqlen_q < 0) seqlen_q = length;
    if (seqlen_k < 0) seqlen_k = length;
    Attention a = shape;
    if (w_.model) {
      Phase phase = w_.phase.value_or(Phase::kPrefill);
      if (!w_.phase) {
        // Latent attention computes differently in the two phases.
        phase = seqlen_q == 1 && seqlen_k > 1 ? Phase::kDecode : Phase::kPrefill;
        Assume(fmt::format("phase = {}", phase == Phase::kDecode ? "decode (one query)" : "prefill"));
      }
      a = data::ToAttention(*w_.model, *w_.group, phase, batch, std::max<int64_t>(length, 1));
      if (!f_.dtype) Assume(fmt::format("dtype = {} (the model's)", data::Name(a.format)));
      if (!f_.mask && !f_.causal) Assume(fmt::format("mask = {} (the model's)", data::ToString(a.mask)));
      if (f_.dtype) a.format = shape.format;
      if (f_.mask || f_.causal) a.mask = shape.mask;
      if (f_.softmax_scale) a.softmax_scale = shape.softmax_scale;
      if (f_.softcap) a.softcap = shape.softcap;
    }
    a.batch = batch;
    a.seqlen_q = seqlen_q;
    a.seqlen_k = seqlen_k;
    data::Validate(a);
    return a;
  }

  void NoteLength() {
    if (!w_.model || w_.model->max_seqlen == 0) return;
    int64_t longest = 0;
    for (const Attention& a : w_.points) longest = std::max(longest, std::max(a.seqlen_q, a.seqlen_k));
    if (longest > w_.model->max_seqlen) {
      w_.notes.push_back(fmt::format("{} is configured for {} positions; {} were asked for", w_.model->title,
                                     w_.model->max_seqlen, longest));
    }
  }

  const WorkloadFlags& f_;
  const WorkloadFeatures& features_;
  Workload w_;
};

}  // namespace

Workload ResolveWorkload(const WorkloadFlags& flags, const WorkloadFeatures& features) {
  return Resolver(flags, features).Resolve();
}

std::vector<std::string> ArchitectureNames() {
  std::vector<std::string> names;
  for (const Representative& entry : kRepresentatives) names.emplace_back(entry.arch);
  return names;
}

sim::TilingChoice ChoiceFor(const Workload& workload, const sim::Kernel& kernel) {
  sim::TilingChoice choice = workload.tiling;
  if (!kernel.splits_keys) choice.splits.reset();
  if (!kernel.fixed_parts) choice.part_keys.reset();
  if (!kernel.pages) choice.page_size.reset();
  if (!kernel.packs_heads) choice.pack_gqa.reset();
  if (!kernel.stores_scores) choice.fp32_scores.reset();
  return choice;
}

sim::Tiling ChooseTiling(const Workload& workload, const sim::Kernel& kernel, const data::Attention& attention) {
  return sim::ResolveTiling(kernel, attention, workload.gpu, ChoiceFor(workload, kernel));
}

}  // namespace bitflash::verify
