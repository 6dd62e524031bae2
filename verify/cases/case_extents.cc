#include "verify/cases/case_extents.h"

#include <fmt/format.h>

namespace bitflash::verify {

Extents ExtentsOf(const data::Tensor& tensor, CaseLayout layout) {
  const std::vector<int64_t>& s = tensor.shape();
  switch (layout) {
    case CaseLayout::kBhsd:
      return {s[0], s[1], s[2], s[3]};
    case CaseLayout::kBshd:
      return {s[0], s[2], s[1], s[3]};
    case CaseLayout::kThd:
      break;
  }
  return {-1, s[1], s[0], s[2]};
}

int64_t BatchOf(const LaidOut& t, CaseLayout q, CaseLayout kv) {
  std::optional<int64_t> batch;
  bool agree = true;
  const auto says = [&](int64_t value) {
    agree &= !batch || *batch == value;
    batch = value;
  };
  if (q != CaseLayout::kThd) says(t.q.shape()[0]);
  if (kv != CaseLayout::kThd && !t.block_table) says(t.k.shape()[0]);
  if (t.block_table) says(t.block_table->shape()[0]);
  for (const auto* starts : {&t.cu_seqlens_q, &t.cu_seqlens_k}) {
    if (*starts) says(static_cast<int64_t>((*starts)->size()) - 1);
  }
  for (const auto* lengths : {&t.seqlens_q, &t.seqlens_k}) {
    if (*lengths) says(static_cast<int64_t>((*lengths)->size()));
  }
  if (!agree) return -1;
  return batch.value_or(1);
}

std::optional<LseForm> FindLseForm(const LaidOut& t, CaseLayout layout, int64_t batch) {
  using Shape = std::vector<int64_t>;
  const Extents q = ExtentsOf(t.q, layout);
  const Shape& shape = t.lse->shape();
  if (layout != CaseLayout::kThd) {
    if (shape == Shape{q.batch, q.heads, q.seqlen}) return LseForm::kHeadsFirst;
    if (shape == Shape{q.batch, q.seqlen, q.heads}) return LseForm::kRowsFirst;
    return std::nullopt;
  }
  if (shape == Shape{q.heads, q.seqlen}) return LseForm::kHeadsFirst;
  if (shape == Shape{q.seqlen, q.heads}) return LseForm::kRowsFirst;
  if (shape.size() == 3 && shape[0] == batch && shape[1] == q.heads) return LseForm::kPadded;
  return std::nullopt;
}

std::string ExpectedLse(const LaidOut& t, CaseLayout layout) {
  const Extents q = ExtentsOf(t.q, layout);
  if (layout == CaseLayout::kThd) return fmt::format("({}, {}), [heads, total]", q.heads, q.seqlen);
  return fmt::format("({}, {}, {}), [batch, heads, seqlen_q]", q.batch, q.heads, q.seqlen);
}

}  // namespace bitflash::verify
