#include "verify/judge.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "data/error.h"
#include "data/text.h"
#include "verify/identify.h"
#include "verify/stopwatch.h"
#include "verify/tensor_values.h"

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

std::string KernelText(const SimulatedKernel& kernel) {
  return std::string(kernel.kernel->name) + " (" + ToString(kernel.tiling) + ", " + kernel.arch + ")";
}

void Accumulate(std::optional<Difference>& into, const Difference& more) {
  if (!into) {
    into = more;
    return;
  }
  into->elements += more.elements;
  into->a_nan += more.a_nan;
  into->b_nan += more.b_nan;
  into->kind_differs += more.kind_differs;
  if (into->bits_differ == 0) into->first = more.first;
  into->bits_differ += more.bits_differ;
  if (more.max_ulps > into->max_ulps) into->max_ulps = more.max_ulps, into->worst_ulps = more.worst_ulps;
  if (more.max_abs > into->max_abs) into->max_abs = more.max_abs, into->worst_abs = more.worst_abs;
}

// Indices of the whole problem in place of those of a part.
void Shift(ElementPair& pair, const Part& part) {
  if (pair.index.empty()) return;
  pair.index[0] += part.sequence;
  pair.index[1] += part.heads.begin;
  pair.index[2] += part.rows.begin;
}

void Shift(Difference& d, const Part& part) {
  for (ElementPair* pair : {&d.first_kind, &d.first, &d.worst_ulps, &d.worst_abs, &d.worst_rel}) Shift(*pair, part);
}

// The simulated outputs of a part's problem have all heads of its groups; parts hold whole groups, so they agree.
void AddAgreement(BitAgreement& agreement, std::optional<Difference>& o, const Part& part, const Outputs& mine,
                  const Outputs& simulated) {
  Difference difference = Compare(mine.o, simulated.o);
  agreement.elements += difference.elements;
  agreement.differ += difference.bits_differ;
  Shift(difference, part);
  Accumulate(o, difference);
  if (!mine.lse || !simulated.lse) return;
  Difference lse = Compare(*mine.lse, *simulated.lse);
  agreement.elements += lse.elements;
  agreement.differ += lse.bits_differ;
  Shift(lse, part);
  Accumulate(agreement.lse, lse);
}

// Equal parts of the keys are cut elsewhere when a part of the problem has fewer keys.
bool KeepsBits(const SimulatedKernel& kernel, const Problem& whole, const Part& part, const Problem& cut) {
  return kernel.tiling.splits == 1 || cut.attention.seqlen_k == whole.keys(part.sequence);
}

// The recipe that made the bits, if the search finds one that made all that it looked at.
std::optional<BitAgreement> FindVariant(const Problem& p, const Outputs& outputs, const JudgeOptions& options) try {
  IdentifyOptions search;
  search.work = options.variant_work;
  const Identification found = Identify(p, outputs, search);
  if (found.verdict != Identification::Verdict::kExact) return std::nullopt;
  BitAgreement agreement;
  agreement.kernel = found.named.empty() ? "a recipe of the text of " + std::string(found.recipe.kernel.name) + " (" +
                                               ToString(found.recipe.tiling) + ", " + found.recipe.arch + ")"
                                         : found.named.front();
  agreement.elements = found.elements + found.lse_rows;
  agreement.differ = agreement.elements - found.equal - found.lse_equal;
  if (found.rows < found.all_rows) {
    agreement.reason = std::to_string(found.rows) + " of " + std::to_string(found.all_rows) + " rows were compared";
  }
  return agreement;
} catch (const data::UndecidedError&) {
  return std::nullopt;  // not modelled to the bit
}

void Conclude(data::Format format, Judgement& j) {
  const TensorEvidence& o = j.evidence.o();
  const std::string sample = j.sampled ? " of a sample" : "";
  if (o.elements == 0) {
    j.rung = Rung::kUndecided;
    j.reason = "the problem has no rows to judge";
    return;
  }
  if (j.named && j.named->differ == 0 && j.named->elements > 0) {
    j.rung = Rung::kExact;
    j.reason = "all " + data::Counted(j.named->elements, "element") + sample + " have the bits of " + j.named->kernel;
    return;
  }
  const int64_t beyond = j.evidence.beyond();
  const std::string all =
      data::Counted(o.elements + (j.evidence.lse() ? j.evidence.lse()->elements : 0), "element") + sample;
  if (beyond > 0 && !j.practice) {
    j.rung = Rung::kWrong;
    j.reason = std::to_string(beyond) + " of " + all + " are further from the truth than a correct kernel can be";
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
  if (j.variant && j.variant->differ == 0) {
    j.rung = Rung::kExactVariant;
    j.reason =
        "all " + data::Counted(j.variant->elements, "element") + sample + " have the bits of " + j.variant->kernel;
    return;
  }
  j.rung = Rung::kBounded;
  j.reason = "every element" + sample + " is within its bound";
}

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
  Judgement j{.evidence = Evidence(p), .parts = ChooseParts(p, options.most_pairs)};
  j.sampled = options.most_pairs > 0 && Pairs(p) > options.most_pairs;
  if (j.sampled) {
    for (const auto& [n, head, row] : StrayRows(p, outputs, j.parts)) {
      const int64_t first = head / p.attention.group() * p.attention.group();
      j.parts.push_back({n, {first, first + p.attention.group()}, {row, row + 1}});
    }
  }
  std::optional<Difference> named_o;
  int64_t judged = 0;
  for (const Part& part : j.parts) judged += part.heads.size() * part.rows.size() * p.keys(part.sequence);
  FlashRuleMeter rule(judged);
  if (options.named) j.named.emplace().kernel = KernelText(*options.named);
  std::vector<HeadRow> rows_beyond;
  for (size_t n = 0; n < j.parts.size(); ++n) {
    const Part& part = j.parts[n];
    const Problem cut = Extract(p, part);
    const Outputs mine = Extract(outputs, part);
    Stopwatch watch;
    const data::Format format = outputs.o.type().format().value();
    const Truth truth =
        ComputeTruth(cut, options.named ? ArithmeticOf(cut, format, *options.named->kernel, options.named->tiling)
                                        : ArithmeticOf(cut, format));
    const int64_t beyond = j.evidence.beyond();
    j.evidence.Add(part, mine, truth);
    if (j.evidence.beyond() > beyond) AddRowsBeyond(part, mine, truth, &rows_beyond);
    rule.Add(cut, mine, truth);
    j.truth_seconds += watch.seconds();
    if (j.named && KeepsBits(*options.named, p, part, cut)) {
      watch = Stopwatch();
      AddAgreement(*j.named, named_o, part, mine, RunSimulated(*options.named, cut));
      j.simulation_seconds += watch.seconds();
    }
    if (options.progress) options.progress(static_cast<double>(n + 1) / static_cast<double>(j.parts.size()));
  }
  if (named_o) j.named->o = *named_o;
  j.flash_rule = rule.Result();
  const bool exact = j.named && j.named->elements > 0 && j.named->differ == 0;
  if (!exact && !rows_beyond.empty()) {
    const Stopwatch watch;
    j.practice = FindScorePractice(p, outputs, rows_beyond);
    j.truth_seconds += watch.seconds();
  }
  if (options.variant_work > 0 && !exact && j.evidence.beyond() == 0 && j.evidence.o().elements > 0) {
    const Stopwatch watch;
    j.variant = FindVariant(p, outputs, options);
    j.simulation_seconds += watch.seconds();
  }
  Conclude(p.attention.format, j);
  return j;
}

}  // namespace bitflash::verify
