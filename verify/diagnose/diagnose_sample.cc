#include "verify/diagnose/diagnose_sample.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "verify/judge/compare.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;

constexpr double kMostPenalty = 1e4;   // of one element, so that a few infinite ones do not drown the rest
constexpr int64_t kTileRows = 128;     // of the query tiles that published kernels take
constexpr double kMuchPenalty = 2;     // of the last rows, as a share of what they had if all rows were alike
constexpr double kLittlePenalty = .1;  // of the last rows, as a share of what they had if all rows were alike

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

double TotalPenalty(const std::vector<double>& a, const std::vector<double>& b, const std::vector<double>& bound) {
  double total = 0;
  for (size_t n = 0; n < a.size(); ++n) total += Penalty(a[n], b[n], bound[n]);
  return total;
}

// The head and the first row with an error beyond its bound, of O if there is one.
Element Landmark(const Evidence& evidence) {
  const TensorEvidence& e = evidence.o().beyond > 0 ? evidence.o() : *evidence.lse();
  return *e.first_beyond;
}

int64_t BeginOfTile(int64_t row, int64_t rows) {
  const auto tile = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::min(rows, kTileRows))));
  return row / tile * tile;
}

// Penalties of the rows of every head, [batch * heads_q * seqlen_q].
std::vector<double> PenaltyOfRows(const Sample& s) {
  const int64_t columns = s.problem.attention.head_dim_v;
  std::vector<double> rows(s.truth.lse.size());
  for (size_t row = 0; row < rows.size(); ++row) {
    for (int64_t c = 0; c < columns; ++c) {
      const size_t n = row * columns + c;
      rows[row] += Penalty(s.o[n], s.truth.o[n], s.truth.o_bound[n]);
    }
    if (!s.lse.empty()) {
      rows[row] += static_cast<double>(columns) * Penalty(s.lse[row], s.truth.lse[row], s.truth.lse_bound[row]);
    }
  }
  return rows;
}

// Query head `head` of a problem of one sequence, with its KV head.
Problem OneHead(const Problem& p, int64_t head) {
  Problem one = p;
  const int64_t kv = head / p.attention.group();
  one.attention.heads_q = one.attention.heads_kv = 1;
  one.q = p.q.Slice(1, head, head + 1).Contiguous();
  one.k = p.k.Slice(1, kv, kv + 1).Contiguous();
  if (!p.attention.v_is_in_k) one.v = p.v.Slice(1, kv, kv + 1).Contiguous();
  if (!p.sinks.empty()) one.sinks = {p.sinks[head]};
  return one;
}

reference::Range Window(std::span<const double> penalties, Probe probe, int64_t keys, int64_t most_pairs) {
  const auto queries = static_cast<int64_t>(penalties.size());
  const int64_t rows =
      std::clamp<int64_t>(most_pairs / std::max<int64_t>(1, keys), std::min<int64_t>(16, queries), queries);
  if (rows == queries) return {0, queries};
  const int64_t last = BeginOfTile(queries - rows, rows);
  double total = 0, of_last = 0;
  for (int64_t row = 0; row < queries; ++row) {
    total += penalties[row];
    if (row >= last) of_last += penalties[row];
  }
  const double alike = total * static_cast<double>(queries - last) / static_cast<double>(queries);
  const bool fits = probe == Probe::kWorst ? of_last > kLittlePenalty * alike : of_last <= kMuchPenalty * alike;
  if (fits) return {last, queries};
  const auto row = probe == Probe::kWorst ? std::ranges::max_element(penalties) : std::ranges::min_element(penalties);
  const int64_t begin = BeginOfTile(row - penalties.begin(), rows);
  return {begin, std::min(queries, begin + rows)};
}

}  // namespace

Sample MakeSample(Problem problem, Outputs outputs) {
  Sample s{.problem = std::move(problem), .outputs = std::move(outputs), .truth = {}, .o = {}, .lse = {}};
  s.truth = ComputeTruth(s.problem, ArithmeticOf(s.problem, s.outputs.o.type().format().value()));
  s.o = ToDoubles(s.outputs.o);
  if (s.outputs.lse) s.lse = ToDoubles(*s.outputs.lse);
  s.penalty_o = TotalPenalty(s.o, s.truth.o, s.truth.o_bound);
  if (s.outputs.lse) s.penalty_lse = TotalPenalty(s.lse, s.truth.lse, s.truth.lse_bound);
  return s;
}

Sample SampleOf(const Problem& p, const Outputs& outputs, const Evidence& evidence, int64_t most_pairs) {
  if (Pairs(p) <= most_pairs) return MakeSample(p, outputs);
  const Attention& a = p.attention;
  const Element at = Landmark(evidence);
  const int64_t sequence = at.index[0], queries = p.queries(sequence), keys = std::max<int64_t>(1, p.keys(sequence));
  // A quarter of the heads' worth of rows, but at least 16 rows: mistakes need rows to show, and heads to be told
  // apart.
  const int64_t rows = std::clamp<int64_t>(most_pairs / (keys * std::min<int64_t>(a.heads_q, 8)),
                                           std::min<int64_t>(16, queries), queries);
  const int64_t groups = std::clamp<int64_t>(most_pairs / (keys * rows * a.group()), 1, a.heads_kv);
  const int64_t first_group = std::clamp<int64_t>(at.index[1] / a.group() - groups / 2, 0, a.heads_kv - groups);
  const int64_t first_row = BeginOfTile(std::min(at.index[2], queries - rows), rows);
  const Part part{sequence,
                  {first_group * a.group(), (first_group + groups) * a.group()},
                  {first_row, std::min(queries, std::max(first_row + rows, at.index[2] + 1))}};
  return MakeSample(Extract(p, part), Extract(outputs, part));
}

Sample ProbeOf(const Sample& s, Probe probe, int64_t most_pairs) {
  const Attention& a = s.problem.attention;
  const std::vector<double> rows = PenaltyOfRows(s);
  std::optional<int64_t> chosen;
  double most = 0;
  for (int64_t n = 0; n < a.batch * a.heads_q; ++n) {
    double sum = 0;
    for (int64_t row = 0; row < s.problem.queries(n / a.heads_q); ++row) sum += rows[n * a.seqlen_q + row];
    if (s.problem.queries(n / a.heads_q) == 0) continue;
    if (!chosen || (probe == Probe::kWorst ? sum > most : sum < most)) chosen = n, most = sum;
  }
  const int64_t sequence = chosen.value() / a.heads_q, head = *chosen % a.heads_q;
  const std::span own(rows.data() + *chosen * a.seqlen_q, s.problem.queries(sequence));
  const Part part{sequence, {head, head + 1}, Window(own, probe, s.problem.keys(sequence), most_pairs)};
  return MakeSample(OneHead(Extract(s.problem, part), head - FirstHead(s.problem, part)), Extract(s.outputs, part));
}

Match Compared(const Sample& s, const Outputs& hypothesis) {
  Match match;
  double rest = 0, whole = 0;
  const auto add = [&](const data::Tensor& mine, const data::Tensor& theirs, const std::vector<double>& values,
                       const std::vector<double>& bound, double weight, double penalty) {
    rest += weight * TotalPenalty(values, ToDoubles(theirs), bound);
    whole += weight * penalty;
    match.elements += mine.count();
    if (mine.type() != theirs.type()) return;
    const int64_t equal = mine.count() - Compare(mine, theirs).bits_differ;
    match.equal += equal;
    match.agreement += static_cast<double>(equal) / static_cast<double>(std::max<int64_t>(1, mine.count()));
  };
  add(s.outputs.o, hypothesis.o, s.o, s.truth.o_bound, 1, s.penalty_o);
  if (s.outputs.lse && hypothesis.lse) {
    // A row's LSE weighs as much as its O.
    const auto weight = static_cast<double>(s.problem.attention.head_dim_v);
    add(*s.outputs.lse, *hypothesis.lse, s.lse, s.truth.lse_bound, weight, s.penalty_lse);
  }
  match.explained = whole > 0 ? 1 - rest / whole : 0;
  return match;
}

bool Better(const Match& a, const Match& b) {
  if (a.identical() != b.identical()) return a.identical();
  return a.explained > b.explained;
}

}  // namespace bitflash::verify
