#include "verify/fault_matrix.h"

#include <algorithm>

#include "data/error.h"
#include "verify/criteria.h"
#include "verify/diagnose.h"
#include "verify/judge.h"
#include "verify/simulate.h"
#include "verify/truth.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;

constexpr double kTolerance = 1e-2;  // of allclose, absolute and relative

Attention Shape(int64_t queries, int64_t keys, const Mask& mask) {
  return {.batch = 2,
          .heads_q = 4,
          .heads_kv = 2,
          .seqlen_q = queries,
          .seqlen_k = keys,
          .head_dim = 80,  // more than 64, no power of two
          .head_dim_v = 80,
          .mask = mask};
}

Problem Generate(const Attention& a, data::Distribution family) { return GenerateProblem(a, family, 7); }

// Between them they have what every fault needs: tails, empty rows, ragged lengths, every mask, groups, scales.
std::vector<Problem> Problems(data::Distribution family) {
  std::vector<Problem> problems = {
      Generate(Shape(40, 72, Mask::Causal()), family), Generate(Shape(70, 40, Mask::Causal()), family),
      Generate(Shape(70, 40, Mask::CausalTopLeft()), family), Generate(Shape(64, 64, Mask::Window(20, 3)), family),
      Generate(Shape(33, 100, Mask::Full()), family)};
  Attention square = Shape(48, 48, Mask::Full());
  square.heads_kv = 4;
  square.format = Format::kFp16;
  problems.push_back(Generate(square, family));
  Problem ragged = Generate(Shape(40, 72, Mask::Causal()), family);
  ragged.seqlens_q = {17, 40};
  ragged.seqlens_k = {72, 50};
  problems.push_back(std::move(ragged));
  Attention fp8 = Shape(40, 72, Mask::Causal());
  fp8.format = Format::kE4m3;
  Problem scaled = Generate(fp8, family);
  scaled.q_scale = 0.5, scaled.k_scale = 1.25, scaled.v_scale = 3;
  problems.push_back(std::move(scaled));
  Attention capped = Shape(40, 72, Mask::Causal());
  capped.softcap = 5;
  problems.push_back(Generate(capped, family));
  Problem sinks = Generate(Shape(40, 72, Mask::Causal()), family);
  sinks.sinks = {0.5, 1, 2, -1};
  problems.push_back(std::move(sinks));
  return problems;
}

// One that walks over all keys, and one that splits them, with pages; small tiles, so that small problems have many.
std::vector<SimulatedKernel> Kernels() {
  return {{&sim::FindKernel("fa2"), {.Br = 32, .Bc = 16, .warps = 2}, "sm90"},
          {&sim::FindKernel("split-kv"),
           {.Br = 32, .Bc = 16, .warps = 2, .splits = 3, .page_size = 8, .pack_gqa = true},
           "sm90"}};
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

// The mistake comes first, or cannot be told from what does: both gave every bit.
bool Named(const Diagnosis& d, const Fault& fault) {
  if (d.hypotheses.empty()) return false;
  const Hypothesis& first = d.hypotheses.front();
  if (first.id == fault.id) return true;
  return first.identical() &&
         std::ranges::any_of(d.hypotheses, [&](const Hypothesis& h) { return h.id == fault.id && h.identical(); });
}

void Diagnose(const Setting& s, const SimulatedKernel& kernel, const Fault& fault, const Outputs& outputs,
              const Evidence& evidence, bool unknown, MatrixCell& cell) {
  ++cell.diagnosed;
  const Diagnosis told = Diagnose(s.problem, outputs, evidence, {.kernels = {kernel}});
  if (Named(told, fault)) {
    ++cell.named;
  } else {
    cell.confused_with = told.hypotheses.empty() ? "nothing" : told.hypotheses[0].id;
  }
  if (!unknown || cell.diagnosed_unknown > 0) return;
  ++cell.diagnosed_unknown;
  cell.named_unknown += Named(Diagnose(s.problem, outputs, evidence, {}), fault);
}

void Run(const Setting& s, const SimulatedKernel& kernel, const Fault& fault, const FaultMatrixOptions& options,
         MatrixCell& cell) {
  if (!fault.Applies(kernel, s.problem)) return;
  Outputs outputs;
  try {
    outputs = fault.Run(kernel, s.problem);
  } catch (const data::UndecidedError&) {
    return;  // the kernel does not run this problem to the bit
  } catch (const data::UsageError&) {
    return;  // nor at all
  }
  ++cell.applied;
  const Judgement judgement = Judge(s.problem, outputs, {.variant_work = 0});
  if (judgement.evidence.beyond() == 0 || judgement.practice) {
    ++cell.within;
    return;
  }
  ++cell.outside;
  cell.wrong += judgement.rung == Rung::kWrong;
  const std::vector<double> o = s.Own(ToDoubles(outputs.o)), truth = s.Own(s.truth.o);
  for (int c = 0; c < kCriteria; ++c) {
    const auto criterion = static_cast<Criterion>(c);
    if (criterion == Criterion::kFlashAttention2 && !s.rule) continue;
    ++cell.asked[c];
    cell.seen[c] += Sees(criterion, s, o, truth);
  }
  if (cell.diagnosed < options.most_diagnosed) {
    Diagnose(s, kernel, fault, outputs, judgement.evidence, options.unknown, cell);
  }
}

std::string Letters(const MatrixCell& cell) {
  if (cell.applied == 0) return "";
  if (cell.outside == 0) return "in";
  std::string letters = cell.wrong == cell.outside ? "V" : "v";
  constexpr std::string_view kLetters = "FAN";
  for (int c = 0; c < kCriteria; ++c)
    if (cell.asked[c] > 0 && cell.seen[c] == cell.asked[c]) letters += kLetters[c];
  return letters + (cell.diagnosed > 0 && cell.named == cell.diagnosed ? "*" : "");
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
      total.diagnosed += cell.diagnosed;
      total.named += cell.named;
      total.diagnosed_unknown += cell.diagnosed_unknown;
      total.named_unknown += cell.named_unknown;
    }
  }
  return total;
}

FaultMatrix RunFaultMatrix(const FaultMatrixOptions& options) {
  FaultMatrix matrix{.families = options.families, .cells = {}};
  matrix.cells.assign(Faults().size(), std::vector<MatrixCell>(options.families.size()));
  const std::vector<SimulatedKernel> kernels = Kernels();
  const auto families = static_cast<int64_t>(options.families.size());
  int64_t done = 0;
  // The simulations inside are too small for threads of their own.
#pragma omp parallel for schedule(dynamic)
  for (int64_t family = 0; family < families; ++family) {
    const std::vector<Problem> problems = Problems(options.families[family]);
    for (const Problem& problem : problems) {
      const Setting setting(problem);
      for (const SimulatedKernel& kernel : kernels) {
        for (size_t n = 0; n < Faults().size(); ++n) {
          const Fault& fault = Faults()[n];
          if (!options.faults.empty() && std::ranges::find(options.faults, fault.id) == options.faults.end()) continue;
          Run(setting, kernel, fault, options, matrix.cells[n][family]);
        }
      }
    }
#pragma omp critical
    if (options.progress) options.progress(static_cast<double>(++done) / static_cast<double>(families));
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
