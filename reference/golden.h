// The golden attention: what O and LSE are, in fp64. Everything else that bitflash computes is judged against it.
//
//   s(i,j) = scale * sum_c Q(i,c) K(j,c), then softcap * tanh(s / softcap) when softcap > 0
//   O(i,:) = sum_j exp(s(i,j)) V(j,:) / sum_j exp(s(i,j))      LSE(i) = log sum_j exp(s(i,j))
//
// over the keys j that row i sees (visible.h). The code computes it block by block with the largest score subtracted.
//
// Error, for finite inputs, with u = 2^-53, N visible keys and ds(i,j) = scale (head_dim + 3) u sum_c |Q(i,c) K(j,c)| +
// 8 u |s(i,j)| (golden_test.cc tests these bounds against long double, from both sides):
//   |O error|   <= sum_j p(i,j) |V(j,:)| (2 max_j ds(i,j) + (2 N + 16) u) + 2^-1000
//   |LSE error| <= max_j ds(i,j) + (N + 16) u + 4 u |LSE|
// It is an a-priori worst case; the typical error is a few u.
//
// Special values. A row that sees no key: O = 0, LSE = -inf. Keys that a row does not see never reach it, whatever they
// hold: NaN or infinity there changes nothing. What a row does see acts as IEEE 754 says for the formulas above: a NaN
// score makes O and LSE NaN; a score of +inf makes O NaN (inf / inf) and LSE +inf; scores that are all -inf make O NaN
// (0 / 0) and LSE -inf. Weights below 2^-1022 of the row's largest count as 0.
//
// Bits. The same for every number of threads and every run. They differ, within the bound, between instruction sets
// (fused or separate rounding of a*b + c, another order of summation); name one to compare runs of different machines.
#ifndef BITFLASH_REFERENCE_GOLDEN_H_
#define BITFLASH_REFERENCE_GOLDEN_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "data/attention.h"

namespace bitflash::reference {

// Distances, in elements, between neighbours of a tensor [batch, heads, rows, columns]. Columns are adjacent.
struct Strides {
  int64_t batch = 0;
  int64_t head = 0;
  int64_t row = 0;
};

// A tensor to read, [batch, heads, rows, columns]; fp32 is widened exactly. Decode narrower formats first.
struct Operand {
  std::variant<std::span<const float>, std::span<const double>> elements;
  std::optional<Strides> strides;  // empty: row-major, nothing between. Strides are 0 or more; 0 repeats.
};

struct GoldenInputs {
  Operand Q;  // [batch, heads_q, seqlen_q, head_dim]
  Operand K;  // [batch, heads_kv, seqlen_k, head_dim]
  Operand V;  // [batch, heads_kv, seqlen_k, head_dim_v]; not looked at when attention.v_is_in_k
  // Keys of each sequence, [batch], each from 0 to seqlen_k; empty: all have seqlen_k. Masks are aligned to the
  // sequence's own last key, as in FlashAttention's cache; K and V keep the shape that seqlen_k gives.
  std::span<const int64_t> seqlens_k;
};

// begin, begin + 1, ..., end - 1.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// What to compute, so that a sample of a huge problem costs what the sample costs. Empty: all.
struct GoldenPart {
  std::optional<Range> heads;  // of batch * heads_q pairs: pair b * heads_q + h is head h of sequence b
  std::optional<Range> rows;   // of seqlen_q, in every head asked for
};

struct GoldenExecution {
  int threads = 0;       // 0: OpenMP's choice
  std::string_view isa;  // one of GoldenIsas(); empty: its last, the fastest
};

struct Golden {
  std::vector<double> O;    // [heads asked for, rows asked for, head_dim_v]
  std::vector<double> LSE;  // [heads asked for, rows asked for]
};

// What error bounds are made of (error_bound.h), computed beside O and LSE: three more matrix products. Over the keys j
// that a row sees; |x|' is |x|, and operand_floor where 0 < |x| < operand_floor.
struct Magnitudes {
  double operand_floor = 0;  // given; the rest is written
  // [heads asked for, rows asked for], of keys whose score is not -inf; without such: 0, -inf and 0.
  std::vector<double> qk;         // max_j sum_c |Q(i,c)|' |K(j,c)|'
  std::vector<double> score_max;  // max_j s(i,j)
  std::vector<double> score_abs;  // max_j |s(i,j)|
  // As O. With p the softmax weights; NaN or infinity where O is.
  std::vector<double> pv;    // sum_j p(i,j) |V(j,d)|'
  std::vector<double> p2v2;  // sum_j p(i,j)^2 (|V(j,d)|')^2
  std::vector<double> v;     // sum_j |V(j,d)|'
};

// Throws data::UsageError: what data::Validate refuses, operands too small for their shape, ranges out of the problem,
// a wrong number of sequences or of keys, an instruction set that this machine lacks. Fills `magnitudes` when it is not
// null; the bits of O and LSE do not depend on that.
Golden GoldenAttention(const data::Attention& attention, const GoldenInputs& inputs, const GoldenPart& part = {},
                       const GoldenExecution& execution = {}, Magnitudes* magnitudes = nullptr);

// Instruction sets that this machine can run, slowest first: "baseline", on x86-64 also "avx2" and "avx512".
std::vector<std::string_view> GoldenIsas();

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_GOLDEN_H_
