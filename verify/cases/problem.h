// One call of an attention kernel, whoever makes it: what it is given and what it returns. Cases on disk, plug-ins,
// CUDA kernels, simulated kernels and the fp64 truth all speak of these two.
#ifndef BITFLASH_VERIFY_CASES_PROBLEM_H_
#define BITFLASH_VERIFY_CASES_PROBLEM_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "data/attention.h"
#include "data/tensor.h"
#include "reference/golden.h"

namespace bitflash::verify {

struct Problem {
  data::Attention attention;  // seqlen_q and seqlen_k are the longest of any sequence; format: of Q, K and V
  data::Tensor q;             // [batch, heads_q, seqlen_q, head_dim], contiguous, elements of attention.format
  data::Tensor k;             // [batch, heads_kv, seqlen_k, head_dim]
  data::Tensor v;             // [batch, heads_kv, seqlen_k, head_dim_v]

  // Rows and keys of each sequence, [batch]; empty: all have seqlen_q, seqlen_k. What lies beyond is padding: no output
  // may depend on it, and O and LSE there mean nothing. Masks are aligned to a sequence's own last query and key.
  std::vector<int64_t> seqlens_q, seqlens_k;

  // Attention sinks, [heads_q], or empty: exp(sink) joins the sum of exponentials of every row of the head, with no
  // value (gpt-oss, StreamingLLM's learned form): O = O' / (1 + exp(sink - LSE')), LSE = log(exp(LSE') + exp(sink)).
  std::vector<double> sinks;

  // The value of an element of Q is q_scale times what its bits say, and so on: fp8 with a scale a tensor.
  double q_scale = 1, k_scale = 1, v_scale = 1;

  int64_t queries(int64_t sequence) const { return seqlens_q.empty() ? attention.seqlen_q : seqlens_q[sequence]; }
  int64_t keys(int64_t sequence) const { return seqlens_k.empty() ? attention.seqlen_k : seqlens_k[sequence]; }
  bool ragged() const { return !seqlens_q.empty() || !seqlens_k.empty(); }
};

// O [batch, heads_q, seqlen_q, head_dim_v] of a float format, which need not be that of the inputs, and LSE [batch,
// heads_q, seqlen_q] of fp32, when the kernel returns one. Both contiguous.
struct Outputs {
  data::Tensor o;
  std::optional<data::Tensor> lse;
};

// Throws UsageError: what data::Validate refuses, tensors of another shape or type than the problem says, lengths out
// of range, scales that are not finite and positive.
void Validate(const Problem& problem);

// Query-key pairs of all heads, visible or not, without padding.
int64_t Pairs(const Problem& problem);

// The values of a tensor [batch, heads_q, seqlen_q, columns] that belong to rows of the sequences, without padding.
std::vector<double> OwnRows(const Problem& problem, std::span<const double> padded, int64_t columns);

// Rows [rows.begin, rows.end) of query heads [heads.begin, heads.end) of one sequence, without its padding.
struct Part {
  int64_t sequence = 0;
  reference::Range heads;
  reference::Range rows;
};

// All rows of all heads of one sequence.
Part WholeSequence(const Problem& problem, int64_t sequence);

// `rows` of a sequence's queries, or a few less, in slices of 16 at the beginning, at the end and evenly between; all
// of them where there are not more.
std::vector<reference::Range> SpreadRows(int64_t queries, int64_t rows);

// The part as a problem of its own, with batch 1: the whole groups of heads that the part touches, and the keys up to
// the last one that a row of the part can see. Row r of the result is row part.rows.begin + r, its first head is
// FirstHead(problem, part), and a kernel that treats rows alone gives the same bits for it, whatever the number of
// query rows in its tiles: masks keep their meaning and key tiles still start at key 0. Throws UsageError for a part
// outside the problem, or one without rows.
Problem Extract(const Problem& problem, const Part& part);
int64_t FirstHead(const Problem& problem, const Part& part);

// The same rows of the outputs of the whole problem: [1, heads of the part, rows of the part, head_dim_v].
Outputs Extract(const Outputs& outputs, const Part& part);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_PROBLEM_H_
