#include "verify/judge/judge.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "data/error.h"
#include "data/text.h"
#include "verify/judge/judge_bits.h"
#include "verify/judge/tensor_values.h"
#include "verify/judge/witness_parts.h"
#include "verify/stopwatch.h"

namespace bitflash::verify {
namespace {

using data::Attention;

constexpr int64_t kLeastRows = 16;                // of a sequence that is sampled
constexpr int64_t kPartPairs = int64_t{1} << 27;  // of a part: bounds the memory of its truth
constexpr int64_t kMostStrays = 4;                // rows with NaN outside the sample that are judged as well

void RequireOutputs(const Problem& p, const Outputs& outputs) {
  const Attention& a = p.attention;
  const auto require = [](const char* name, const data::Tensor& tensor, const std::vector<int64_t>& shape) {
    if (tensor.shape() != shape) {
      throw data::UsageError(std::string(name) + " has the shape " + data::ShapeString(tensor.shape()) + ": expected " +
                             data::ShapeString(shape));
    }
    if (!tensor.type().format()) {
      throw data::UsageError(std::string(name) + " holds " + Name(tensor.type()) + ": expected a float format");
    }
  };
  require("o", outputs.o, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v});
  if (outputs.lse) require("lse", *outputs.lse, {a.batch, a.heads_q, a.seqlen_q});
}

// Rows outside the parts in which the kernel wrote something that is not finite, [sequence, head, row].
std::vector<std::array<int64_t, 3>> StrayRows(const Problem& p, const Outputs& outputs,
                                              const std::vector<Part>& parts) {
  const Attention& a = p.attention;
  const std::vector<double> o = ToDoubles(outputs.o);
  std::vector<std::array<int64_t, 3>> strays;
  for (int64_t n = 0; n < a.batch; ++n) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t row = 0; row < p.queries(n); ++row) {
        const double* x = o.data() + ((n * a.heads_q + h) * a.seqlen_q + row) * a.head_dim_v;
        if (std::all_of(x, x + a.head_dim_v, [](double value) { return std::isfinite(value); })) continue;
        const bool judged = std::ranges::any_of(parts, [&](const Part& part) {
          return part.sequence == n && part.heads.begin <= h && h < part.heads.end && part.rows.begin <= row &&
                 row < part.rows.end;
        });
        if (judged) continue;
        strays.push_back({n, h, row});
        if (static_cast<int64_t>(strays.size()) == kMostStrays) return strays;
      }
    }
  }
  return strays;
}

// What a statement about bits has seen less than the judgement: "" or " of a sample".
std::string_view OfSample(const Judgement& j) { return j.sampled ? " of a sample" : ""; }

// How the rows were judged that bits say nothing of: ", and all others are within their bounds".
std::string_view OthersBounded(const Judgement& j) {
  return j.witness && j.witness->used ? ", and all others are within their bounds" : "";
}

void Conclude(data::Format format, Judgement& j) {
  const TensorEvidence& o = j.evidence.o();
  if (o.elements == 0) {
    j.rung = Rung::kUndecided;
    j.reason = "the problem has no rows to judge";
    return;
  }
  const bool elsewhere = j.witness && j.witness->beyond > 0;
  const auto bits = [&](Rung rung, const BitAgreement& agreement) {
    j.rung = rung;
    j.reason = "all " + data::Counted(agreement.elements, "element") + std::string(OfSample(j)) + " have the bits of " +
               agreement.kernel + std::string(OthersBounded(j));
  };
  if (j.named && j.named->differ == 0 && j.named->elements > 0 && !elsewhere) return bits(Rung::kExact, *j.named);
  const int64_t beyond = j.evidence.beyond();
  const std::string sample(j.witness && j.witness->used ? "" : OfSample(j));
  const std::string all =
      data::Counted(o.elements + (j.evidence.lse() ? j.evidence.lse()->elements : 0), "element") + sample;
  if (beyond > 0 && !j.practice) {
    j.rung = Rung::kWrong;
    j.reason = std::to_string(beyond) + " of " + all + " are further from the truth than a correct kernel can be";
    if (elsewhere && j.witness->beyond == beyond) j.reason += ", none of them in the rows that fp64 judged";
    return;
  }
  if (beyond > 0) {
    j.rung = Rung::kBounded;
    j.reason = std::to_string(beyond) + " of " + all +
               " are beyond the bound of a kernel that keeps its scores in fp32, but within that of one that " +
               Text(*j.practice->practice, format);
    if (j.practice->examined < j.practice->rows) {
      j.reason += " (" + std::to_string(j.practice->examined) + " of these " + data::Counted(j.practice->rows, "row") +
                  " were looked at)";
    }
    return;
  }
  if (j.variant && j.variant->differ == 0) return bits(Rung::kExactVariant, *j.variant);
  j.rung = Rung::kBounded;
  j.reason = "every element" + sample + " is within its bound";
  if (j.witness && j.witness->open > 0) j.reason += ", or open (" + std::to_string(j.witness->open) + ")";
}

// One judgement from its parts to its conclusion.
class Judging {
 public:
  Judging(const Problem& p, const Outputs& outputs, const JudgeOptions& options)
      : p_(p),
        outputs_(outputs),
        options_(options),
        format_(outputs.o.type().format().value()),
        kernel_(options.witness_kernel != nullptr ? *options.witness_kernel : *FindCpuKernel("cpu-simd")),
        j_{.evidence = Evidence(p)} {}

  Judgement Run() {
    const int64_t budget = PlanWitness();
    const bool witness = j_.witness && j_.witness->reason.empty();
    j_.parts = ChooseParts(p_, budget);
    j_.sampled = TooLarge(budget);
    if (j_.sampled && !witness) AddStrays();
    const std::vector<Part> chunks = witness ? WitnessChunks(p_) : std::vector<Part>();
    steps_ = static_cast<double>(j_.parts.size() + chunks.size());
    int64_t pairs = 0;
    for (const Part& part : j_.parts) pairs += part.heads.size() * part.rows.size() * p_.keys(part.sequence);
    rule_.emplace(pairs);
    if (options_.named) j_.named.emplace().kernel = KernelText(*options_.named);
    // Of a large sample the witness is held against every n-th part.
    const auto every = static_cast<size_t>(pairs / kWitnessCheckPairs + 1);
    for (size_t n = 0; n < j_.parts.size(); ++n) JudgePart(j_.parts[n], witness && n % every == 0);
    if (witness) {
      ConcludeCheck();
      if (j_.witness->used) {
        for (const Part& chunk : chunks) JudgeByWitness(chunk);
      } else {
        const size_t before = j_.parts.size();
        AddStrays();
        for (size_t n = before; n < j_.parts.size(); ++n) JudgePart(j_.parts[n], false);
      }
    }
    Finish();
    return std::move(j_);
  }

 private:
  bool TooLarge(int64_t budget) const { return budget > 0 && Pairs(p_) > budget; }

  // The budget of fp64, and whether there is something for the witness to do.
  int64_t PlanWitness() {
    if (options_.witness == WitnessChoice::kFp64) return options_.most_pairs;
    int64_t budget = options_.most_pairs;
    if (options_.witness == WitnessChoice::kSimd) {
      budget = budget > 0 ? std::min(budget, kWitnessCheckPairs) : kWitnessCheckPairs;
    }
    if (!TooLarge(budget)) return budget;
    j_.witness.emplace().kernel = kernel_.name;
    j_.witness->reason = WhyNoWitness(kernel_, p_);
    if (!j_.witness->reason.empty()) return options_.most_pairs;
    return std::min(budget, options_.most_pairs_beside_witness);
  }

  void AddStrays() {
    for (const auto& [n, head, row] : StrayRows(p_, outputs_, j_.parts)) {
      const int64_t first = head / p_.attention.group() * p_.attention.group();
      j_.parts.push_back({n, {first, first + p_.attention.group()}, {row, row + 1}});
    }
  }

  reference::Arithmetic Roundings(const Problem& cut) const {
    return options_.named ? ArithmeticOf(cut, format_, *options_.named->kernel, options_.named->tiling)
                          : ArithmeticOf(cut, format_);
  }

  void Advance() {
    if (options_.progress) options_.progress(std::min(1.0, ++done_ / steps_));
  }

  void JudgePart(const Part& part, bool check_witness) {
    const Problem cut = Extract(p_, part);
    const Outputs mine = Extract(outputs_, part);
    Stopwatch watch;
    const Truth truth = ComputeTruth(cut, Roundings(cut));
    const int64_t beyond = j_.evidence.beyond();
    j_.evidence.Add(part, mine, truth);
    if (j_.evidence.beyond() > beyond) AddRowsBeyond(part, mine, truth, &rows_beyond_);
    rule_->Add(cut, mine, truth);
    j_.fp64_rows += part.heads.size() * part.rows.size();
    j_.truth_seconds += watch.seconds();
    if (check_witness) {
      watch = Stopwatch();
      AddCheck(part, p_.attention.head_dim_v, ComputeWitness(cut, Roundings(cut), kernel_), truth, &j_.witness->check);
      j_.witness->seconds += watch.seconds();
    }
    if (j_.named && KeepsBits(*options_.named, p_, part, cut)) {
      watch = Stopwatch();
      AddAgreement(*j_.named, named_o_, part, mine, RunSimulated(*options_.named, cut));
      j_.simulation_seconds += watch.seconds();
    }
    Advance();
  }

  void ConcludeCheck() {
    WitnessReport& witness = *j_.witness;
    const WitnessCheck& check = witness.check;
    witness.used = check.beyond == 0 && check.elements > 0;
    if (check.elements == 0) witness.reason = "there was nothing to hold it against fp64 with";
    if (check.beyond == 0) return;
    const auto& [n, head, row, column] = *check.first_beyond;
    std::string at = std::to_string(n) + ", " + std::to_string(head) + ", " + std::to_string(row);
    if (column >= 0) at += ", " + std::to_string(column);
    witness.reason = "it failed its own check: " + std::to_string(check.beyond) + " of " +
                     data::Counted(check.elements, "element") + " are further from fp64 than it can be, the first " +
                     (column >= 0 ? "of O" : "of LSE") + " at (" + at + ")";
  }

  void JudgeByWitness(const Part& chunk) {
    const std::vector<Part> unseen = Unseen(chunk, j_.parts);
    if (!unseen.empty()) {
      const Stopwatch watch;
      const Problem cut = Extract(p_, chunk);
      const Witness all = ComputeWitness(cut, Roundings(cut), kernel_);
      for (const Part& part : unseen) {
        const Witness witness = verify::Cut(all, chunk, part, p_.attention.head_dim_v);
        const Outputs mine = Extract(outputs_, part);
        const int64_t beyond = j_.evidence.beyond();
        j_.evidence.Add(part, mine, witness.truth);
        if (j_.evidence.beyond() > beyond) AddRowsBeyond(part, mine, witness.truth, &rows_beyond_);
        j_.witness->beyond += j_.evidence.beyond() - beyond;
        j_.witness->rows += part.heads.size() * part.rows.size();
        j_.witness->open += witness.open;
      }
      j_.witness->seconds += watch.seconds();
    }
    Advance();
  }

  void Finish() {
    if (named_o_) j_.named->o = *named_o_;
    j_.flash_rule = rule_->Result();
    const bool elsewhere = j_.witness && j_.witness->beyond > 0;
    const bool exact = j_.named && j_.named->elements > 0 && j_.named->differ == 0 && !elsewhere;
    if (!exact && !rows_beyond_.empty()) {
      const Stopwatch watch;
      j_.practice = FindScorePractice(p_, outputs_, rows_beyond_);
      j_.truth_seconds += watch.seconds();
    }
    if (options_.variant_work > 0 && !exact && j_.evidence.beyond() == 0 && j_.evidence.o().elements > 0) {
      const Stopwatch watch;
      j_.variant = FindVariant(p_, outputs_, options_);
      j_.simulation_seconds += watch.seconds();
    }
    Conclude(p_.attention.format, j_);
  }

  const Problem& p_;
  const Outputs& outputs_;
  const JudgeOptions& options_;
  const data::Format format_;
  const CpuKernel& kernel_;
  Judgement j_;
  std::optional<FlashRuleMeter> rule_;
  std::optional<Difference> named_o_;
  std::vector<HeadRow> rows_beyond_;
  double done_ = 0, steps_ = 1;
};

}  // namespace

std::string_view Name(Rung rung) {
  switch (rung) {
    case Rung::kExact:
      return "exact";
    case Rung::kExactVariant:
      return "exact-variant";
    case Rung::kBounded:
      return "bounded";
    case Rung::kWrong:
      return "wrong";
    case Rung::kUndecided:
      break;
  }
  return "undecided";
}

bool Passes(Rung rung) { return rung == Rung::kExact || rung == Rung::kExactVariant || rung == Rung::kBounded; }

std::vector<Part> ChooseParts(const Problem& p, int64_t most_pairs) {
  const Attention& a = p.attention;
  const int64_t pairs = Pairs(p);
  const double share =
      most_pairs > 0 && pairs > most_pairs ? static_cast<double>(most_pairs) / static_cast<double>(pairs) : 1;
  std::vector<Part> parts;
  for (int64_t n = 0; n < a.batch; ++n) {
    const int64_t queries = p.queries(n), keys = std::max<int64_t>(1, p.keys(n));
    if (queries == 0) continue;
    const auto rows = std::max<int64_t>(kLeastRows, static_cast<int64_t>(share * static_cast<double>(queries)));
    const std::vector<reference::Range> slices =
        share < 1 ? SpreadRows(queries, rows) : std::vector<reference::Range>{{0, queries}};
    const int64_t groups = std::clamp<int64_t>(kPartPairs / (slices[0].size() * keys * a.group()), 1, a.heads_kv);
    for (int64_t kv = 0; kv < a.heads_kv; kv += groups) {
      const reference::Range heads = {kv * a.group(), std::min(a.heads_kv, kv + groups) * a.group()};
      for (const reference::Range& slice : slices) parts.push_back({n, heads, slice});
    }
  }
  return parts;
}

Judgement Judge(const Problem& p, const Outputs& outputs, const JudgeOptions& options) {
  Validate(p);
  RequireOutputs(p, outputs);
  return Judging(p, outputs, options).Run();
}

}  // namespace bitflash::verify
