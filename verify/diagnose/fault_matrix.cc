#include "verify/diagnose/fault_matrix.h"

#include <algorithm>
#include <optional>

#include "data/error.h"
#include "verify/diagnose/diagnose.h"
#include "verify/diagnose/fault_cases.h"
#include "verify/judge/criteria.h"
#include "verify/judge/judge.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {
namespace {

using data::Format;

constexpr double kTolerance = 1e-2;  // of allclose, absolute and relative

// One that walks over all keys, and one that splits them, with pages; small tiles, so that small problems have many.
std::vector<SimulatedKernel> Kernels() {
  return {{&sim::FindKernel("fa2"), {.Br = 32, .Bc = 16, .warps = 2}, "sm90"},
          {&sim::FindKernel("split-kv"),
           {.Br = 32, .Bc = 16, .warps = 2, .splits = 3, .page_size = 8, .pack_gqa = true},
           "sm90"}};
}

// Tiles, a tensor core, an order and an arithmetic of their own. What no hypothesis of a diagnosis is made of is the
// arithmetic.
std::vector<SimulatedKernel> ForeignKernels() {
  const auto foreign = [](std::string_view name) {
    sim::Kernel kernel = sim::FindKernel(name);
    kernel.recipe.key_order = sim::Order::kAscending;
    kernel.recipe.exponent = sim::Recipe::Exponent::kUnfused;
    kernel.recipe.row_sum = sim::Recipe::RowSum::kTileThenFused;
    kernel.recipe.reciprocal = sim::Recipe::Reciprocal::kRcp;
    return kernel;
  };
  static const sim::Kernel fa2 = foreign("fa2"), split_kv = foreign("split-kv");
  return {{&fa2, {.Br = 16, .Bc = 32, .warps = 1}, "sm80"},
          {&split_kv, {.Br = 16, .Bc = 16, .warps = 1, .part_keys = 16}, "sm80"}};
}

// A problem with all that is compared with it; made once for all faults.
struct Setting {
  Problem problem;
  Truth truth;
  std::optional<FlashAttentionRule> rule;

  explicit Setting(Problem p) : problem(std::move(p)) {
    const Format output = problem.attention.format == Format::kE4m3 ? Format::kFp16 : problem.attention.format;
    truth = ComputeTruth(problem, ArithmeticOf(problem, output));
    if (HasFlashAttentionRule(problem)) rule = MakeFlashAttentionRule(problem, truth.o);
  }

  // O without padding.
  std::vector<double> Own(std::span<const double> o) const { return OwnRows(problem, o, problem.attention.head_dim_v); }
};

bool Sees(Criterion criterion, const Setting& s, const std::vector<double>& o, const std::vector<double>& truth) {
  switch (criterion) {
    case Criterion::kFlashAttention2: {
      const std::vector<double> ref = s.Own(std::vector<double>(s.rule->ref.begin(), s.rule->ref.end()));
      return !MaxAbs(o, ref, s.rule->limit_fa2()).passes;
    }
    case Criterion::kAllClose:
      return !AllClose(o, truth, kTolerance, kTolerance).passes;
    case Criterion::kNmse:
      break;
  }
  return !Nmse(o, truth).passes;
}

// The mistake comes first, or cannot be told from what does: both give the same bits.
bool Named(const Diagnosis& d, const Fault& fault) {
  if (d.hypotheses.empty()) return false;
  const Hypothesis& first = d.hypotheses.front();
  return first.id == fault.id || std::ranges::find(first.same, fault.id) != first.same.end();
}

void Add(const Diagnosis& d, const Fault& fault, Naming& naming) {
  ++naming.diagnosed;
  if (Named(d, fault)) {
    ++naming.named;
    return;
  }
  naming.misled += d.finding() != nullptr;
  naming.confused_with = d.hypotheses.empty() ? "nothing" : d.hypotheses[0].id;
}

std::optional<Outputs> Run(const SimulatedKernel& kernel, const Fault& fault, const Problem& problem) {
  if (!fault.Applies(kernel, problem)) return std::nullopt;
  try {
    return fault.Run(kernel, problem);
  } catch (const data::UndecidedError&) {
    return std::nullopt;  // the kernel does not run this problem to the bit
  } catch (const data::UsageError&) {
    return std::nullopt;  // nor at all
  }
}

void Run(const Setting& s, const SimulatedKernel& kernel, const Fault& fault, const FaultMatrixOptions& options,
         MatrixCell& cell) {
  if (cell.outside >= options.most_outside) return;
  const std::optional<Outputs> outputs = Run(kernel, fault, s.problem);
  if (!outputs) return;
  ++cell.applied;
  const Judgement judgement = Judge(s.problem, *outputs, {.variant_work = 0});
  if (judgement.evidence.beyond() == 0 || judgement.practice) {
    ++cell.within;
    return;
  }
  ++cell.outside;
  cell.wrong += judgement.rung == Rung::kWrong;
  const std::vector<double> o = s.Own(ToDoubles(outputs->o)), truth = s.Own(s.truth.o);
  for (int c = 0; c < kCriteria; ++c) {
    const auto criterion = static_cast<Criterion>(c);
    if (criterion == Criterion::kFlashAttention2 && !s.rule) continue;
    ++cell.asked[c];
    cell.seen[c] += Sees(criterion, s, o, truth);
  }
  if (cell.known.diagnosed < options.most_diagnosed) {
    Add(Diagnose(s.problem, *outputs, judgement.evidence, {.kernels = {kernel}}), fault, cell.known);
  }
  if (options.unknown && cell.unknown.diagnosed == 0) {
    Add(Diagnose(s.problem, *outputs, judgement.evidence), fault, cell.unknown);
  }
}

// One problem a cell.
void RunForeign(const Setting& s, const SimulatedKernel& kernel, const Fault& fault, Naming& naming) {
  if (naming.diagnosed > 0) return;
  const std::optional<Outputs> outputs = Run(kernel, fault, s.problem);
  if (!outputs) return;
  const Judgement judgement = Judge(s.problem, *outputs, {.variant_work = 0});
  if (judgement.rung != Rung::kWrong) return;
  Add(Diagnose(s.problem, *outputs, judgement.evidence), fault, naming);
}

bool IsChosen(const Fault& fault, const FaultMatrixOptions& options) {
  return options.faults.empty() || std::ranges::find(options.faults, fault.id) != options.faults.end();
}

std::string Letters(const MatrixCell& cell) {
  if (cell.applied == 0) return "";
  if (cell.outside == 0) return "in";
  std::string letters = cell.wrong == cell.outside ? "V" : "v";
  constexpr std::string_view kLetters = "FAN";
  for (int c = 0; c < kCriteria; ++c)
    if (cell.asked[c] > 0 && cell.seen[c] == cell.asked[c]) letters += kLetters[c];
  return letters + (cell.known.diagnosed > 0 && cell.known.named == cell.known.diagnosed ? "*" : "");
}

}  // namespace

std::string_view Name(Criterion criterion) {
  switch (criterion) {
    case Criterion::kFlashAttention2:
      return "FA's rule";
    case Criterion::kAllClose:
      return "allclose 1e-2";
    case Criterion::kNmse:
      break;
  }
  return "NMSE 5e-4";
}

void Naming::Add(const Naming& other) {
  diagnosed += other.diagnosed;
  named += other.named;
  misled += other.misled;
}

MatrixCell FaultMatrix::Total() const {
  MatrixCell total;
  for (const auto& row : cells) {
    for (const MatrixCell& cell : row) {
      total.applied += cell.applied;
      total.within += cell.within;
      total.outside += cell.outside;
      total.wrong += cell.wrong;
      for (int c = 0; c < kCriteria; ++c) {
        total.asked[c] += cell.asked[c];
        total.seen[c] += cell.seen[c];
      }
      total.known.Add(cell.known);
      total.unknown.Add(cell.unknown);
      total.foreign.Add(cell.foreign);
    }
  }
  return total;
}

FaultMatrix RunFaultMatrix(const FaultMatrixOptions& options) {
  FaultMatrix matrix{.families = options.families, .cells = {}};
  matrix.cells.assign(Faults().size(), std::vector<MatrixCell>(options.families.size()));
  const std::vector<SimulatedKernel> kernels = Kernels(), foreign = ForeignKernels();
  const auto families = static_cast<int64_t>(options.families.size()), faults = static_cast<int64_t>(Faults().size());
  std::vector<std::vector<Setting>> settings(families);
#pragma omp parallel for schedule(dynamic)
  for (int64_t family = 0; family < families; ++family) {
    for (const FaultCase& c : FaultCases(options.families[family])) settings[family].emplace_back(c.problem);
  }
  // A thread has a whole cell, whose problems come in a fixed order, so the counts do not depend on the threads. The
  // simulations inside are too small for threads of their own.
  int64_t done = 0;
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (int64_t n = 0; n < faults; ++n) {
    for (int64_t family = 0; family < families; ++family) {
      const Fault& fault = Faults()[n];
      MatrixCell& cell = matrix.cells[n][family];
      if (IsChosen(fault, options)) {
        for (const Setting& setting : settings[family]) {
          for (const SimulatedKernel& kernel : kernels) Run(setting, kernel, fault, options, cell);
          if (!options.unknown) continue;
          for (const SimulatedKernel& kernel : foreign) RunForeign(setting, kernel, fault, cell.foreign);
        }
      }
#pragma omp critical
      if (options.progress) options.progress(static_cast<double>(++done) / static_cast<double>(faults * families));
    }
  }
  return matrix;
}

std::string ToMarkdown(const FaultMatrix& matrix) {
  std::string text = "| mistake |";
  std::string rule = "|---|";
  for (const data::Distribution family : matrix.families) {
    text += " " + std::string(data::Name(family)) + " |";
    rule += "---|";
  }
  text += "\n" + rule + "\n";
  for (size_t n = 0; n < matrix.cells.size(); ++n) {
    text += "| `" + std::string(Faults()[n].id) + "` |";
    for (const MatrixCell& cell : matrix.cells[n]) text += " " + Letters(cell) + " |";
    text += "\n";
  }
  return text;
}

}  // namespace bitflash::verify
