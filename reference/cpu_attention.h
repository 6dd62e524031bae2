// Flash attention on the CPU in fp32, with the SIMD instructions of the machine it runs on: fast enough to judge shapes
// that the golden attention (golden.h) is too slow for, and judged by it (error_bound.h).
//
//   O(i,:) = sum_j P(i,j) V(j,:) / sum_j P(i,j)     P(i,j) = exp(s(i,j) - m(i))     LSE(i) = log sum_j exp(s(i,j))
//
// with the scores s of golden.h. Tiles of keys, online softmax (FlashAttention-2, arXiv 2307.08691): S never leaves
// the first-level cache.
//
// Error: CpuAttentionArithmetic states the roundings; BoundAttention turns them into a bound for every element.
//
// Special values. A row that sees no key: O = 0, LSE = -inf. Keys that a row does not see never reach it, whatever they
// hold. What it sees acts as IEEE 754 says for the formulas above, as in golden.h, with one exception: the LSE of a row
// whose largest score is infinite is that infinity even beside a NaN score, where golden.h has NaN (O is NaN in both).
// Weights below 2^-125 of the row's
// largest count as 0: a subnormal product costs a hundred ordinary ones on most processors, and the flags that would
// flush it belong to the process, not to this library.
//
// Bounded rows. Where the norms of a row, its neighbours and the head's keys promise that no weight leaves fp32's
// normal range, 0 or an integer near the row's first scores is what is subtracted (log2 units) instead of m, and maxima
// are not looked for. So bits, within the bound, may depend on keys that a row does not see.
//
// Bits. The same for every number of threads and every run; which of the two ways below computes a problem depends on
// its shape alone. They are the same on every SIMD target with fused multiply-add (AVX2, AVX-512, NEON); without
// (SSE4) they differ within the bound.
#ifndef BITFLASH_REFERENCE_CPU_ATTENTION_H_
#define BITFLASH_REFERENCE_CPU_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "data/attention.h"
#include "data/format.h"
#include "reference/error_bound.h"
#include "reference/golden.h"

namespace bitflash::reference {

// A tensor to read, [batch, heads, rows, columns], in fp32, fp16 or bf16; columns are adjacent. Converted exactly.
struct CpuOperand {
  data::Format format = data::Format::kFp32;
  std::span<const std::byte> bytes;  // aligned to one element
  std::optional<Strides> strides;    // elements; empty: row-major, nothing between. 0 or more; 0 repeats.
};

inline CpuOperand AsOperand(std::span<const float> elements, std::optional<Strides> strides = {}) {
  return {.format = data::Format::kFp32, .bytes = std::as_bytes(elements), .strides = strides};
}

// `format` fp16 or bf16: the elements' bits.
inline CpuOperand AsOperand(data::Format format, std::span<const uint16_t> elements,
                            std::optional<Strides> strides = {}) {
  return {.format = format, .bytes = std::as_bytes(elements), .strides = strides};
}

// K and V in pages: key j of sequence n is row j % page_size of page block_table[n, j / page_size], and K and V are
// [pages, heads_kv, page_size, columns], whatever order the strides give that in memory.
struct PagedCache {
  int64_t pages = 0;
  int64_t page_size = 0;
  int64_t pages_per_sequence = 0;        // of block_table; covers the longest sequence
  std::span<const int64_t> block_table;  // [batch, pages_per_sequence]; entries beyond a sequence are not looked at
};

struct CpuAttentionInputs {
  CpuOperand Q;  // [batch, heads_q, seqlen_q, head_dim]
  CpuOperand K;  // [batch, heads_kv, seqlen_k, head_dim]
  CpuOperand V;  // [batch, heads_kv, seqlen_k, head_dim_v]; not looked at when attention.v_is_in_k
  // Rows and keys of each sequence, [batch], from 0 to seqlen_q and seqlen_k; empty: all. Masks are aligned to the
  // sequence's own lengths. Rows beyond seqlens_q count as rows that see no key.
  std::span<const int64_t> seqlens_q;
  std::span<const int64_t> seqlens_k;
  std::optional<PagedCache> paged;
};

struct CpuAttentionOutputs {
  data::Format format = data::Format::kFp32;  // of O: fp32, fp16 or bf16, rounded to nearest even
  std::span<std::byte> O;                     // [batch, heads_q, seqlen_q, head_dim_v], aligned to one element
  std::optional<Strides> strides;             // of O, elements; empty: row-major. Rows must not overlap.
  std::span<float> LSE;                       // [batch, heads_q, seqlen_q], natural logarithm; or empty: not wanted
};

// `attention.format` is not looked at: every tensor has its own. `threads`: 0 is OpenMP's choice.
//
// Up to kDecodeQueries rows per head take the decode path, bound by the bandwidth of K and V: the query heads of a
// KV head share each key that is read, and keys are split into parts of kDecodePartKeys, merged in order. More rows
// take the prefill path, bound by arithmetic: K and V are converted and packed once per KV head.
//
// Throws data::UsageError: what data::Validate refuses, a format that is not accepted, operands too small for their
// shape or not aligned, wrong lengths, a block table that names a page that is not there.
void CpuAttention(const data::Attention& attention, const CpuAttentionInputs& inputs,
                  const CpuAttentionOutputs& outputs, int threads = 0);

inline constexpr int64_t kDecodeQueries = 4;
inline constexpr int64_t kDecodePartKeys = 1024;

// The roundings of CpuAttention, for BoundAttention: fp32 with chains of fused or separate multiply-adds.
//   scores       chains of at most head_dim products; (s - m) log2(e): 3 roundings, 5 with softcap, fewer if bounded
//   exponential  1.4 units in the last place of fp32 (measured: 1.16; 1.34 without fused multiply-add)
//   tanh         2^-22 relative (measured: 2^-22.4; both in cpu_kernels_test.cc)
//   row sums     16 partial sums
// O is rounded once to `output`.
Arithmetic CpuAttentionArithmetic(const data::Attention& attention, data::Format output);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_CPU_ATTENTION_H_
