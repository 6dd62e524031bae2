// One call of CpuAttention, checked. Internal.
#ifndef BITFLASH_REFERENCE_CPU_JOB_H_
#define BITFLASH_REFERENCE_CPU_JOB_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "data/attention.h"
#include "reference/cpu_attention.h"
#include "reference/cpu_kernels.h"
#include "reference/visible.h"

namespace bitflash::reference {

// A tensor in memory whose every index is known to lie inside it.
struct CpuTensor {
  data::Format format = data::Format::kFp32;
  const std::byte* data = nullptr;
  Strides strides;
  int64_t element_bytes = 4;

  const std::byte* Row(int64_t batch, int64_t head, int64_t row) const {
    return data + element_bytes * (batch * strides.batch + head * strides.head + row * strides.row);
  }
};

struct CpuJob {
  // Throws UsageError, see CpuAttention.
  CpuJob(const data::Attention& attention, const CpuAttentionInputs& inputs, const CpuAttentionOutputs& outputs,
         int wanted_threads);

  int64_t queries(int64_t n) const { return seqlens_q.empty() ? a.seqlen_q : seqlens_q[n]; }
  int64_t keys(int64_t n) const { return seqlens_k.empty() ? a.seqlen_k : seqlens_k[n]; }
  KeyRange Visible(int64_t n, int64_t row) const { return VisibleKeys(a.mask, queries(n), keys(n), row); }
  // The keys that any row of a sequence sees; empty when there is no row.
  KeyRange VisibleToAll(int64_t n) const;

  // Where the rows of K or V for keys [first, first + count) lie.
  void KeyRows(const CpuTensor& tensor, int64_t n, int64_t h_kv, int64_t first, int64_t count, const void** rows) const;
  // Writes one row of Q as fp32, padded with zeros to a multiple of kRowPadding.
  void LoadQuery(int64_t n, int64_t h, int64_t i, float* out) const;
  // Where a row of O lies.
  std::byte* OutputRow(int64_t n, int64_t h, int64_t i) const { return o_data + (O.Row(n, h, i) - O.data); }
  void StoreLse(int64_t n, int64_t h, int64_t i, float lse) const {
    if (!LSE.empty()) LSE[(n * a.heads_q + h) * a.seqlen_q + i] = lse;
  }
  // Stores one row of results; rounds O.
  void StoreRow(int64_t n, int64_t h, int64_t i, const float* row, float lse) const;
  // O = 0 and LSE = -inf for the rows beyond each sequence's length.
  void ClearUnusedRows() const;

  data::Attention a;
  CpuTensor Q, K, V, O;
  std::byte* o_data;  // of O
  std::span<float> LSE;
  std::span<const int64_t> seqlens_q, seqlens_k;
  PagedCache paged;  // page_size 0: not paged
  ScoreRule rule;
  int threads;
};

void RunPrefillJob(const CpuJob& job);
void RunDecodeJob(const CpuJob& job);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_CPU_JOB_H_
