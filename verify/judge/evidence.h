// How a kernel's outputs differ from the truth, and where: facts that a verdict (judge.h) and a diagnosis (diagnose.h)
// are drawn from. Non-finite values come first and by position; every element is held against its own bound.
#ifndef BITFLASH_VERIFY_JUDGE_EVIDENCE_H_
#define BITFLASH_VERIFY_JUDGE_EVIDENCE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/judge/tensor_values.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {

// One element of O or LSE. Indices are those of the whole problem: sequence, head, row, column (0 for LSE).
struct Element {
  std::array<int64_t, 4> index{};
  uint64_t bits = 0;
  double got = 0, truth = 0, bound = 0;

  double error() const;  // |got - truth|
  double score() const;  // error / bound; infinity where one is finite and the other is not, or the bound is 0; 0 where
                         // the truth is finite and its bound infinite
};

// About O, or about LSE.
struct TensorEvidence {
  data::ElementType type = data::Format::kFp32;
  int64_t elements = 0;           // that were judged
  int64_t nan = 0, infinite = 0;  // of the kernel's
  int64_t all_ones = 0;           // elements whose bits are all ones: what outputs are filled with before a call
  int64_t plus_infinity = 0;      // LSE only: +inf for a row without keys, as FlashAttention-2 writes it; not an error
  int64_t kind_differs = 0;       // NaN, +inf, -inf or finite where the truth is another of these
  int64_t beyond = 0;             // further from the truth than the bound, those of another kind included
  std::optional<Element> first_kind;    // the first of another kind
  std::optional<Element> first_beyond;  // in the order of indices
  std::optional<Element> worst;         // the largest score
  std::optional<Element> farthest;      // the largest error of finite elements
  double largest_bound = 0;             // of all elements
  double sum_squared_error = 0;         // of finite elements
  double sum_squared_truth = 0;
  double sum_signed_score = 0;  // of (got - truth) / bound of finite elements; its mean is 0 without a bias
  // Elements by score: up to 1/16, 1/8, 1/4, 1/2, 1, 2, 16, and above (other kinds included).
  static constexpr std::array<double, 7> kScoreSteps = {0.0625, 0.125, 0.25, 0.5, 1, 2, 16};
  std::array<int64_t, 8> by_score{};
};

// Elements of O beyond their bounds, counted along each axis: where a mistake sits.
struct ErrorPlaces {
  int64_t batch = 0, heads = 0, rows = 0, columns = 0;
  std::vector<int64_t> by_head;                        // [batch * heads]
  std::vector<int64_t> by_row;                         // [rows], over all sequences and heads
  std::vector<int64_t> by_column;                      // [columns]
  std::vector<int64_t> judged_by_head, judged_by_row;  // elements that were judged
  std::vector<double> worst_by_head;                   // largest score of each head

  // The same in a grid of at most 8 x 32 cells, [cells of heads of all sequences][cells of rows].
  int64_t heads_per_cell = 1, rows_per_cell = 1;
  std::vector<std::vector<int64_t>> by_cell, judged_by_cell;
};

// Everything about one kernel's outputs, from one part of the problem or from many.
class Evidence {
 public:
  explicit Evidence(const Problem& problem);

  // Adds the judged part: `outputs` and `truth` are those of the part (Extract), of the same shapes. Parts do not
  // overlap; what is found does not depend on their order.
  void Add(const Part& part, const Outputs& outputs, const Truth& truth);

  const TensorEvidence& o() const { return o_; }
  const std::optional<TensorEvidence>& lse() const { return lse_; }
  const ErrorPlaces& places() const { return places_; }
  int64_t beyond() const { return o_.beyond + (lse_ ? lse_->beyond : 0); }

 private:
  TensorEvidence o_;
  std::optional<TensorEvidence> lse_;
  ErrorPlaces places_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_EVIDENCE_H_
