#include "verify/diagnose/diagnose.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "data/error.h"
#include "data/gpu.h"
#include "verify/diagnose/diagnose_sample.h"
#include "verify/diagnose/diagnose_tiles.h"
#include "verify/diagnose/refit.h"
#include "verify/subjects/simulated_subject.h"

namespace bitflash::verify {
namespace {

using data::Attention;

constexpr double kLeastExplained = 0.1;  // of a hypothesis that is worth a line
constexpr double kFinding = 0.98;        // of one that is the answer, if its bits are not equal anyway
constexpr size_t kMostHypotheses = 10;
constexpr size_t kConfirmed = 2;  // kernels that a search on the probe passes on to the sample

constexpr size_t kKeptTrials = 8;  // of these, to say which tiles are equally good

// Of two explanations the one with less to choose in it is the answer when it leaves unexplained at most so many times
// as much: that can be roundings of an unknown kernel. A number that was fitted must explain this much more.
constexpr double kAsGood = 3;
constexpr double kFitMustGain = 1e-3;

// What a hypothesis gave, to find those that gave the same.
size_t BitsOf(const Outputs& outputs) {
  const auto hash = [](const data::Tensor& tensor) {
    const auto* bytes = reinterpret_cast<const char*>(tensor.ContiguousBytes().data());
    return std::hash<std::string_view>()(std::string_view(bytes, tensor.bytes()));
  };
  return hash(outputs.o) * 31 + (outputs.lse ? hash(*outputs.lse) : 0);
}

struct Found {
  Hypothesis hypothesis;
  Match match;
  size_t bits = 0;
};

bool BetterFound(const Found& a, const Found& b) { return Better(a.match, b.match); }

// One diagnosis: what was found so far, and what it was found on.
class Doctor {
 public:
  // `named`: whose kernel is known.
  Doctor(const Sample& sample, bool named, const std::function<void(double)>& progress)
      : sample_(sample), named_(named), progress_(progress) {}

  int64_t tried = 0;
  std::map<std::string_view, Found> best;  // by fault

  // Simulates the mistake in the kernel, and keeps it when it is the best so far.
  void Try(const Fault& fault, const SimulatedKernel& kernel, const std::string& tiles) {
    try {
      if (!fault.Applies(kernel, sample_.problem)) return;
      const Outputs outputs = fault.Run(kernel, sample_.problem);
      ++tried;
      const Match match = Compared(sample_, outputs);
      const auto known = best.find(fault.id);
      if (known != best.end() && !Better(match, known->second.match)) return;
      Found found{.hypothesis = {}, .match = match, .bits = BitsOf(outputs)};
      found.hypothesis.kernel = kernel.kernel->name;
      found.hypothesis.fault = &fault;
      found.hypothesis.id = fault.id;
      found.hypothesis.reading = fault.reading;
      // Bits that are all equal tell the tiles, whoever thought of them.
      const bool told = named_ || !tiles.empty() || !match.identical();
      found.hypothesis.tiles = told ? tiles : TilesText(AxisOf(fault), {{kernel, match}});
      best.insert_or_assign(fault.id, std::move(found));
      if (match.identical()) identical_ = kernel;
    } catch (const data::UndecidedError&) {
      // This kernel does not run the problem.
    } catch (const data::UsageError&) {
    }
  }

  // Every mistake in the first of the kernels that takes it.
  void TryAll(const std::vector<SimulatedKernel>& kernels, double share_before, double share_after) {
    for (size_t n = 0; n < Faults().size(); ++n) {
      const Fault& fault = Faults()[n];
      for (const SimulatedKernel& kernel : kernels) {
        const int64_t before = tried;
        Try(fault, kernel, "");
        if (tried > before) break;
      }
      const double share = static_cast<double>(n + 1) / static_cast<double>(Faults().size());
      if (progress_) progress_(share_before + (share_after - share_before) * share);
    }
  }

  // Searches tiles for the chosen mistakes: those that depend on them, and others for the sake of their roundings.
  template <class Choose>
  void Search(const Sample& probe, const Choose& choose, double share_before, double share_after) {
    for (size_t n = 0; n < Faults().size(); ++n) {
      const Fault& fault = Faults()[n];
      const TileAxis axis = AxisOf(fault);
      if (!choose(fault, axis)) continue;
      const std::vector<Trial> trials =
          SearchTiles(fault, axis == TileAxis::kNone ? TileAxis::kKeys : axis, probe, kKeptTrials, tried);
      const std::string tiles = TilesText(axis, trials);
      for (size_t k = 0; k < trials.size(); ++k) {
        // Those that the probe cannot tell from the best, too.
        if (k >= kConfirmed && Better(trials[0].match, trials[k].match)) break;
        for (const SimulatedKernel& kernel : OnWholeProblem(trials[k].kernel, probe, sample_.problem)) {
          Try(fault, kernel, tiles);
        }
      }
      const double share = static_cast<double>(n + 1) / static_cast<double>(Faults().size());
      if (progress_) progress_(share_before + (share_after - share_before) * share);
    }
  }

  bool Explains(const Fault& fault) const {
    const auto found = best.find(fault.id);
    return found != best.end() && found->second.match.explained >= kFinding;
  }

  // One of them explains nearly all.
  bool HasFinding() const {
    return std::ranges::any_of(best, [](const auto& found) { return found.second.match.explained >= kFinding; });
  }

  // The kernel, mistake included, that gave every bit of the sample.
  const std::optional<SimulatedKernel>& identical() const { return identical_; }

 private:
  const Sample& sample_;
  const bool named_;
  const std::function<void(double)>& progress_;
  std::optional<SimulatedKernel> identical_;
};

// The kernel is not known: one whose bits shine through, or likely ones, then tiles for what depends on them.
void DiagnoseUnknown(const Sample& sample, int64_t probe_pairs, Doctor& doctor) {
  const Attention& a = sample.problem.attention;
  std::vector<SimulatedKernel> kernels;
  if (a.softcap == 0 && sample.problem.sinks.empty()) {
    const Sample best = ProbeOf(sample, Probe::kBest, probe_pairs);
    for (const Trial& trial : SearchByBits(best, doctor.tried)) {
      for (const SimulatedKernel& kernel : OnWholeProblem(trial.kernel, best, sample.problem))
        kernels.push_back(kernel);
    }
  }
  for (const SimulatedKernel& kernel : LikelyKernels(a)) kernels.push_back(kernel);
  doctor.TryAll(kernels, 0, 0.4);
  const Sample worst = ProbeOf(sample, Probe::kWorst, probe_pairs);
  if (!doctor.identical()) {
    doctor.Search(
        worst, [](const Fault&, TileAxis axis) { return axis != TileAxis::kNone; }, 0.4, 0.8);
  }
  if (!doctor.identical()) {
    // The others depend on tiles by their roundings only: that counts between explanations that are equally good, and
    // where an error is hardly larger than roundings.
    const bool all = !doctor.HasFinding();
    const auto choose = [&](const Fault& f, TileAxis axis) {
      return axis == TileAxis::kNone && (all || doctor.Explains(f));
    };
    doctor.Search(worst, choose, 0.8, 0.9);
  }
  if (doctor.identical()) {
    // Bits that are all equal tell the kernel. What else gives them, in this kernel or where it cannot happen in it?
    doctor.TryAll({*doctor.identical()}, 0.9, 0.92);
    const auto choose = [&](const Fault& f, TileAxis axis) {
      return axis != TileAxis::kNone && !doctor.best.contains(f.id);
    };
    doctor.Search(worst, choose, 0.92, 0.95);
  }
}

// How much there is to choose in it: nothing, tiles, parts or pages, a fitted number.
int Freedom(const Found& found) {
  if (found.hypothesis.fault == nullptr) return 3;
  switch (AxisOf(*found.hypothesis.fault)) {
    case TileAxis::kNone:
      return 0;
    case TileAxis::kKeys:
    case TileAxis::kRows:
    case TileAxis::kTails:
      return 1;
    case TileAxis::kParts:
    case TileAxis::kMaskedParts:
    case TileAxis::kPages:
      break;
  }
  return 2;
}

// Best first. What explains hardly more only because there is more to choose in it comes after the simplest that
// explains as much.
void Rank(std::vector<Found>& found) {
  std::ranges::stable_sort(found, BetterFound);
  if (found.empty() || found[0].match.identical() || found[0].match.explained < kFinding) return;
  const double rest = 1 - found[0].match.explained;
  const double enough = found[0].hypothesis.fault == nullptr ? std::max(kFitMustGain, kAsGood * rest) : kAsGood * rest;
  size_t simplest = 0;
  for (size_t n = 1; n < found.size(); ++n) {
    const bool as_good = 1 - found[n].match.explained <= enough;
    if (as_good && Freedom(found[n]) < Freedom(found[simplest])) simplest = n;
  }
  std::rotate(found.begin(), found.begin() + simplest, found.begin() + simplest + 1);
}

// Those that gave the same bits as another.
void TellSame(std::vector<Found>& found) {
  for (Found& one : found) {
    for (const Found& other : found) {
      if (&one == &other || one.hypothesis.fault == nullptr || other.hypothesis.fault == nullptr) continue;
      if (one.bits == other.bits) one.hypothesis.same.push_back(other.hypothesis.id);
    }
  }
}

}  // namespace

const Hypothesis* Diagnosis::finding() const {
  if (hypotheses.empty()) return nullptr;
  const Hypothesis& first = hypotheses.front();
  return first.identical() || first.explained >= kFinding ? &first : nullptr;
}

std::vector<SimulatedKernel> LikelyKernels(const Attention& attention) {
  Attention a = attention;
  if (data::StorageBytes(a.format) == 1) a.format = data::Format::kFp16;  // as RunSimulated does it
  std::vector<SimulatedKernel> kernels;
  const data::Gpu gpu = data::LoadGpu("h200");
  const auto add = [&](std::string_view name, const sim::TilingChoice& choice) {
    try {
      kernels.push_back(PublishedKernel(sim::FindKernel(name), a, gpu, choice));
    } catch (const data::UndecidedError&) {
      // Not a kernel of this problem.
    }
  };
  add("fa2", {});
  add("cudnn-9.19-sm90", {});  // keys ascending
  add("fa2", {.Br = 64, .Bc = 32});
  add("split-kv", {});
  add("pytorch-fa2", {});
  add("standard", {});
  return kernels;
}

Diagnosis Diagnose(const Problem& p, const Outputs& outputs, const Evidence& evidence, const DiagnoseOptions& options) {
  Diagnosis diagnosis;
  if (evidence.beyond() == 0) return diagnosis;
  const Sample sample = SampleOf(p, outputs, evidence, options.most_pairs);
  if (Pairs(p) > options.most_pairs) {
    diagnosis.left_out.push_back(
        "mistakes of layouts and offsets: they show in the whole problem only, which is too large");
  }
  Doctor doctor(sample, !options.kernels.empty(), options.progress);
  if (options.kernels.empty()) {
    DiagnoseUnknown(sample, options.probe_pairs, doctor);
  } else {
    for (const SimulatedKernel& kernel : options.kernels) doctor.TryAll({kernel}, 0, 0.95);
  }

  std::vector<Found> found;
  for (const Fault& fault : Faults()) {
    const auto best = doctor.best.find(fault.id);
    if (best != doctor.best.end()) found.push_back(best->second);
  }
  for (const Refit& refit : Refits(sample.problem, sample.outputs, sample.truth)) {
    Found fit{.hypothesis = {}, .match = Compared(sample, refit.outputs), .bits = 0};
    ++doctor.tried;
    fit.match.equal = 0;  // fp64 rounded: equal bits would be chance
    fit.hypothesis.id = refit.id;
    fit.hypothesis.reading = refit.reading;
    found.push_back(std::move(fit));
  }
  std::erase_if(found, [](const Found& f) { return f.match.explained < kLeastExplained; });
  Rank(found);
  TellSame(found);
  if (found.size() > kMostHypotheses) found.resize(kMostHypotheses);
  for (Found& one : found) {
    one.hypothesis.elements = one.match.elements;
    one.hypothesis.equal = one.match.equal;
    one.hypothesis.explained = one.match.explained;
    diagnosis.hypotheses.push_back(std::move(one.hypothesis));
  }
  diagnosis.tried = doctor.tried;
  if (options.progress) options.progress(1);
  return diagnosis;
}

}  // namespace bitflash::verify
