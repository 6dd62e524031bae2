// What the extents of tensors mean in a layout: shared by finding the layout and arranging the tensors.
#ifndef BITFLASH_VERIFY_CASES_CASE_EXTENTS_H_
#define BITFLASH_VERIFY_CASES_CASE_EXTENTS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "verify/cases/case_layout.h"

namespace bitflash::verify {

struct Extents {
  int64_t batch;  // pages of a paged cache; -1 of kThd, whose cu_seqlens says it
  int64_t heads;
  int64_t seqlen;  // the total of kThd, the page size of a paged cache
  int64_t dim;
};

// Requires as many dimensions as the layout has.
Extents ExtentsOf(const data::Tensor& tensor, CaseLayout layout);

// The number of sequences that all tensors agree on, 1 where none says it, -1 where they disagree.
int64_t BatchOf(const LaidOut& tensors, CaseLayout q, CaseLayout kv);

enum class LseForm : uint8_t {
  kHeadsFirst,  // [batch, heads, seqlen_q], of kThd [heads, total]
  kRowsFirst,   // [batch, seqlen_q, heads], of kThd [total, heads]
  kPadded,      // of kThd only: [batch, heads, longest sequence or more] (FlashAttention before 2.6)
};

// Empty when lse is none of these. Where two forms have the same shape, the first.
std::optional<LseForm> FindLseForm(const LaidOut& tensors, CaseLayout q, int64_t batch);
std::string ExpectedLse(const LaidOut& tensors, CaseLayout q);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_CASE_EXTENTS_H_
