#include "verify/diagnose.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "data/error.h"
#include "data/gpu.h"
#include "verify/compare.h"
#include "verify/refit.h"
#include "verify/simulated_subject.h"
#include "verify/truth.h"

namespace bitflash::verify {
namespace {

using data::Attention;

constexpr double kMostPenalty = 1e4;     // of one element, so that a few infinite ones do not drown the rest
constexpr double kLeastExplained = 0.1;  // of a hypothesis that is worth a line
constexpr double kFinding = 0.98;        // of one that is the answer, if its bits are not equal anyway
constexpr size_t kMostHypotheses = 10;

bool SameKind(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::isinf(a) || std::isinf(b) ? a == b : true;
}

// How much is wrong between two numbers, in squared units of the bound.
double Penalty(double a, double b, double bound) {
  if (!SameKind(a, b)) return kMostPenalty;
  if (a == b || !std::isfinite(a)) return 0;
  if (bound <= 0) return kMostPenalty;
  if (!std::isfinite(bound)) return 0;
  const double score = std::abs(a - b) / bound;
  return std::min(score * score, kMostPenalty);
}

// The problem that the hypotheses run on, and what the kernel gave for it.
struct Sample {
  Problem problem;
  Outputs outputs;
  Truth truth;
  std::vector<double> o, lse;
  double penalty_o = 0, penalty_lse = 0;  // of the kernel against the truth
};

double TotalPenalty(const std::vector<double>& a, const std::vector<double>& b, const std::vector<double>& bound) {
  double total = 0;
  for (size_t n = 0; n < a.size(); ++n) total += Penalty(a[n], b[n], bound[n]);
  return total;
}

void Prepare(Sample& s) {
  s.truth = ComputeTruth(s.problem, ArithmeticOf(s.problem, s.outputs.o.type().format().value()));
  s.o = ToDoubles(s.outputs.o);
  if (s.outputs.lse) s.lse = ToDoubles(*s.outputs.lse);
  s.penalty_o = TotalPenalty(s.o, s.truth.o, s.truth.o_bound);
  if (s.outputs.lse) s.penalty_lse = TotalPenalty(s.lse, s.truth.lse, s.truth.lse_bound);
}

int64_t Pairs(const Problem& p) {
  return p.attention.batch * p.attention.heads_q * p.attention.seqlen_q * p.attention.seqlen_k;
}

// The head and the first row with an error beyond its bound, of O if there is one.
Element Landmark(const Evidence& evidence) {
  const TensorEvidence& e = evidence.o().beyond > 0 ? evidence.o() : *evidence.lse();
  return *e.first_beyond;
}

// Rows around the landmark, in as many heads as the budget has room for.
Sample CutSample(const Problem& p, const Outputs& outputs, const Evidence& evidence, int64_t most_pairs) {
  const Attention& a = p.attention;
  const Element at = Landmark(evidence);
  const int64_t sequence = at.index[0], queries = p.queries(sequence), keys = std::max<int64_t>(1, p.keys(sequence));
  // A quarter of the heads' worth of rows, but at least 16 rows: mistakes need rows to show, and heads to be told
  // apart.
  const int64_t rows = std::clamp<int64_t>(most_pairs / (keys * std::min<int64_t>(a.heads_q, 8)),
                                           std::min<int64_t>(16, queries), queries);
  const int64_t groups = std::clamp<int64_t>(most_pairs / (keys * rows * a.group()), 1, a.heads_kv);
  const int64_t first_group = std::clamp<int64_t>(at.index[1] / a.group() - groups / 2, 0, a.heads_kv - groups);
  const int64_t first_row = std::clamp<int64_t>(at.index[2] - 4, 0, queries - rows);
  const Part part{
      sequence, {first_group * a.group(), (first_group + groups) * a.group()}, {first_row, first_row + rows}};
  return {.problem = Extract(p, part), .outputs = Extract(outputs, part)};
}

Hypothesis Compared(const Sample& s, const Outputs& hypothesis) {
  Hypothesis h;
  double rest = 0, whole = 0;
  const auto add = [&](const data::Tensor& mine, const data::Tensor& theirs, const std::vector<double>& values,
                       const std::vector<double>& bound, double weight, double penalty) {
    rest += weight * TotalPenalty(values, ToDoubles(theirs), bound);
    whole += weight * penalty;
    h.elements += mine.count();
    if (mine.type() == theirs.type()) h.equal += mine.count() - Compare(mine, theirs).bits_differ;
  };
  add(s.outputs.o, hypothesis.o, s.o, s.truth.o_bound, 1, s.penalty_o);
  if (s.outputs.lse && hypothesis.lse) {
    // A row's LSE weighs as much as its O.
    const auto weight = static_cast<double>(s.problem.attention.head_dim_v);
    add(*s.outputs.lse, *hypothesis.lse, s.lse, s.truth.lse_bound, weight, s.penalty_lse);
  }
  h.explained = whole > 0 ? 1 - rest / whole : 0;
  return h;
}

// Better first: equal bits, then what is explained; among equals the order in which they were tried.
bool Better(const Hypothesis& a, const Hypothesis& b) {
  if (a.identical() != b.identical()) return a.identical();
  return a.explained > b.explained;
}

// Mistakes of softmax, tails and splits depend on the tile and its order, the others hardly.
bool DependsOnKernel(const Fault& fault) {
  return fault.family == FaultFamily::kTail || fault.family == FaultFamily::kSoftmax ||
         fault.family == FaultFamily::kSplit;
}

}  // namespace

const Hypothesis* Diagnosis::finding() const {
  if (hypotheses.empty()) return nullptr;
  const Hypothesis& first = hypotheses.front();
  return first.identical() || first.explained >= kFinding ? &first : nullptr;
}

std::vector<SimulatedKernel> LikelyKernels(const Attention& a) {
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
  Sample sample = {.problem = p, .outputs = outputs};
  if (Pairs(p) > options.most_pairs) {
    sample = CutSample(p, outputs, evidence, options.most_pairs);
    diagnosis.left_out.push_back(
        "mistakes of layouts and offsets: they show in the whole problem only, which is too large");
  }
  Prepare(sample);
  std::vector<SimulatedKernel> kernels = options.kernels;
  if (kernels.empty()) kernels = LikelyKernels(sample.problem.attention);

  std::vector<Hypothesis> found;
  const auto total = static_cast<double>(Faults().size());
  for (size_t n = 0; n < Faults().size(); ++n) {
    const Fault& fault = Faults()[n];
    std::optional<Hypothesis> best;
    for (const SimulatedKernel& kernel : kernels) {
      if (!fault.Applies(kernel, sample.problem)) continue;
      try {
        Hypothesis h = Compared(sample, fault.Run(kernel, sample.problem));
        ++diagnosis.tried;
        h.id = fault.id;
        h.reading = fault.reading;
        h.kernel = kernel.kernel->name;
        h.fault = &fault;
        if (!best || Better(h, *best)) best = h;
      } catch (const data::UndecidedError&) {
        continue;  // this kernel does not run the problem
      } catch (const data::UsageError&) {
        continue;
      }
      if (!DependsOnKernel(fault) || best->identical()) break;
    }
    if (best && best->explained >= kLeastExplained) found.push_back(*best);
    if (options.progress) options.progress(static_cast<double>(n + 1) / (total + 1));
  }
  for (const Refit& refit : Refits(sample.problem, sample.outputs, sample.truth)) {
    Hypothesis h = Compared(sample, refit.outputs);
    ++diagnosis.tried;
    h.equal = 0;  // fp64 rounded: equal bits would be chance
    h.id = refit.id;
    h.reading = refit.reading;
    if (h.explained >= kLeastExplained) found.push_back(h);
  }
  std::ranges::stable_sort(found, Better);
  if (found.size() > kMostHypotheses) found.resize(kMostHypotheses);
  diagnosis.hypotheses = std::move(found);
  if (options.progress) options.progress(1);
  return diagnosis;
}

}  // namespace bitflash::verify
