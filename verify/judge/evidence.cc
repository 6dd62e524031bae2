#include "verify/judge/evidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "verify/judge/compare.h"

namespace bitflash::verify {
namespace {

using data::Tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr int64_t kMapHeads = 8, kMapRows = 32;

enum class Kind { kFinite, kNan, kPlus, kMinus };
Kind KindOf(double x) {
  if (std::isnan(x)) return Kind::kNan;
  if (std::isinf(x)) return x > 0 ? Kind::kPlus : Kind::kMinus;
  return Kind::kFinite;
}

uint64_t AllOnes(const data::ElementType& type) {
  return type.bytes() == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * type.bytes())) - 1;
}

// One element more.
void Count(TensorEvidence& e, const Element& x, uint64_t all_ones) {
  const bool finite = std::isfinite(x.got) && std::isfinite(x.truth);
  ++e.elements;
  e.nan += std::isnan(x.got);
  e.infinite += std::isinf(x.got);
  e.all_ones += x.bits == all_ones;
  e.largest_bound = std::isfinite(x.bound) ? std::max(e.largest_bound, x.bound) : e.largest_bound;
  if (KindOf(x.got) != KindOf(x.truth) && x.score() > 0) {
    ++e.kind_differs;
    if (!e.first_kind) e.first_kind = x;
  }
  const double score = x.score();
  if (score > 1) {
    ++e.beyond;
    if (!e.first_beyond) e.first_beyond = x;
  }
  const auto step = std::lower_bound(e.kScoreSteps.begin(), e.kScoreSteps.end(), score);
  ++e.by_score[static_cast<size_t>(step - e.kScoreSteps.begin())];
  if (!e.worst || score > e.worst->score()) e.worst = x;
  if (!finite) return;
  const double error = x.got - x.truth;
  e.sum_squared_error += error * error;
  e.sum_squared_truth += x.truth * x.truth;
  if (x.bound > 0 && std::isfinite(x.bound)) e.sum_signed_score += error / x.bound;
  if (!e.farthest || std::abs(error) > e.farthest->error()) e.farthest = x;
}

// The one whose index comes first.
void KeepFirst(std::optional<Element>& a, const std::optional<Element>& b) {
  if (b && (!a || b->index < a->index)) a = b;
}

// Of two tensors' evidence.
void Merge(TensorEvidence& a, const TensorEvidence& b) {
  a.elements += b.elements;
  a.nan += b.nan;
  a.infinite += b.infinite;
  a.all_ones += b.all_ones;
  a.plus_infinity += b.plus_infinity;
  a.kind_differs += b.kind_differs;
  a.beyond += b.beyond;
  KeepFirst(a.first_kind, b.first_kind);
  KeepFirst(a.first_beyond, b.first_beyond);
  if (b.worst && (!a.worst || b.worst->score() > a.worst->score())) a.worst = b.worst;
  if (b.farthest && (!a.farthest || b.farthest->error() > a.farthest->error())) a.farthest = b.farthest;
  a.largest_bound = std::max(a.largest_bound, b.largest_bound);
  a.sum_signed_score += b.sum_signed_score;
  a.sum_squared_error += b.sum_squared_error;
  a.sum_squared_truth += b.sum_squared_truth;
  for (size_t n = 0; n < a.by_score.size(); ++n) a.by_score[n] += b.by_score[n];
}

// The rows of one head of one part, [rows, columns] at `offset` of the part's tensors.
struct HeadRows {
  int64_t sequence, head, first_row, rows, columns, offset;
};

TensorEvidence Judge(const HeadRows& h, const Tensor& tensor, const std::vector<double>& values,
                     const std::vector<double>& truth, const std::vector<double>& bound, ErrorPlaces* places) {
  TensorEvidence e;
  e.type = tensor.type();
  const uint64_t all_ones = AllOnes(tensor.type());
  const std::byte* bytes = tensor.ContiguousBytes().data();
  const int64_t element_bytes = tensor.type().bytes();
  for (int64_t row = 0; row < h.rows; ++row) {
    for (int64_t column = 0; column < h.columns; ++column) {
      const int64_t at = h.offset + row * h.columns + column;
      Element x{{h.sequence, h.head, h.first_row + row, column}, 0, values[at], truth[at], bound[at]};
      for (int64_t byte = element_bytes - 1; byte >= 0; --byte) {
        x.bits = x.bits << 8 | static_cast<uint64_t>(bytes[at * element_bytes + byte]);
      }
      if (!places && x.truth == -kInfinity && x.got == kInfinity) {
        x.got = x.truth;
        ++e.plus_infinity;
      }
      const int64_t before = e.beyond;
      Count(e, x, all_ones);
      if (places && e.beyond > before) ++places->by_row[row], ++places->by_column[column];
    }
  }
  return e;
}

}  // namespace

double Element::error() const { return std::abs(got - truth); }

double Element::score() const {
  if (got == truth || (std::isnan(got) && std::isnan(truth))) return 0;
  // Where a correct kernel may overflow, nothing is said of it.
  if (std::isfinite(truth) && std::isinf(bound)) return 0;
  if (KindOf(got) != KindOf(truth)) return kInfinity;
  return error() / bound;  // both finite and different: a bound of 0 gives infinity
}

Evidence::Evidence(const Problem& p) {
  const data::Attention& a = p.attention;
  places_ = {.batch = a.batch, .heads = a.heads_q, .rows = a.seqlen_q, .columns = a.head_dim_v};
  places_.by_head.resize(a.batch * a.heads_q);
  places_.judged_by_head = places_.by_head;
  places_.worst_by_head.resize(a.batch * a.heads_q);
  places_.by_row.resize(a.seqlen_q);
  places_.judged_by_row = places_.by_row;
  places_.by_column.resize(a.head_dim_v);
  const auto cells = [](int64_t extent, int64_t most, int64_t& per_cell) {
    per_cell = std::max<int64_t>(1, (extent + most - 1) / most);
    return (extent + per_cell - 1) / per_cell;
  };
  const int64_t across = cells(a.seqlen_q, kMapRows, places_.rows_per_cell);
  places_.by_cell.assign(cells(a.batch * a.heads_q, kMapHeads, places_.heads_per_cell), std::vector<int64_t>(across));
  places_.judged_by_cell = places_.by_cell;
}

void Evidence::Add(const Part& part, const Outputs& outputs, const Truth& truth) {
  const int64_t heads = part.heads.size(), rows = part.rows.size(), columns = places_.columns;
  const std::vector<double> o = ToDoubles(outputs.o);
  const std::vector<double> lse = outputs.lse ? ToDoubles(*outputs.lse) : std::vector<double>();
  std::vector<TensorEvidence> of_o(heads), of_lse(heads);
  std::vector<ErrorPlaces> of_head(heads);
#pragma omp parallel for schedule(dynamic)
  for (int64_t h = 0; h < heads; ++h) {
    ErrorPlaces& places = of_head[h];
    places.by_row.resize(rows);
    places.by_column.resize(columns);
    const int64_t head = part.heads.begin + h;
    of_o[h] = Judge({part.sequence, head, part.rows.begin, rows, columns, h * rows * columns}, outputs.o, o, truth.o,
                    truth.o_bound, &places);
    if (outputs.lse) {
      of_lse[h] = Judge({part.sequence, head, part.rows.begin, rows, 1, h * rows}, *outputs.lse, lse, truth.lse,
                        truth.lse_bound, nullptr);
    }
  }
  o_.type = outputs.o.type();
  if (outputs.lse && !lse_) lse_.emplace().type = outputs.lse->type();
  for (int64_t h = 0; h < heads; ++h) {
    Merge(o_, of_o[h]);
    if (outputs.lse) Merge(*lse_, of_lse[h]);
    const int64_t head = part.sequence * places_.heads + part.heads.begin + h;
    places_.by_head[head] += of_o[h].beyond;
    places_.judged_by_head[head] += of_o[h].elements;
    if (of_o[h].worst) places_.worst_by_head[head] = std::max(places_.worst_by_head[head], of_o[h].worst->score());
    const int64_t cell = head / places_.heads_per_cell;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = part.rows.begin + r;
      places_.by_row[row] += of_head[h].by_row[r];
      places_.judged_by_row[row] += columns;
      places_.by_cell[cell][row / places_.rows_per_cell] += of_head[h].by_row[r];
      places_.judged_by_cell[cell][row / places_.rows_per_cell] += columns;
    }
    for (int64_t column = 0; column < columns; ++column) places_.by_column[column] += of_head[h].by_column[column];
  }
}

}  // namespace bitflash::verify
