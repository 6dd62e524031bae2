// The kernels of decode, for every SIMD target.
#include "reference/cpu_kernels.h"
#include "reference/cpu_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "reference/cpu_decode_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep; compiles this file once per SIMD target
#include "hwy/highway.h"
#include "reference/cpu_decode-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {

// Out-of-line functions of their own name for HWY_EXPORT.
void DecodeRows(const DecodePart& part) { Decode(part); }
void MergeRows(const ScoreRule& rule, int64_t rows, int64_t head_dim_v, const RowState& state, const RowState& later) {
  Merge(rule, rows, head_dim_v, state, later);
}
float NormalizeRow(const ScoreRule& rule, int64_t head_dim_v, float m, const float* l, float* O) {
  const float sum = RowSum(l);
  MultiplyAll(O, RoundUp(head_dim_v, kRowPadding), 1 / sum, O);
  return LseOf(rule, m, sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::reference {
namespace {

HWY_EXPORT(DecodeRows);
HWY_EXPORT(MergeRows);
HWY_EXPORT(NormalizeRow);

}  // namespace

int64_t DecodeScratchFloats(int64_t rows, int64_t head_dim, int64_t head_dim_v) {
  return rows * RoundUp(head_dim, kRowPadding) + 2 * rows * kDecodeTileKeys + RoundUp(rows + 4, kRowPadding) +
         kDecodeTileKeys * (RoundUp(head_dim, kRowPadding) + RoundUp(head_dim_v, kRowPadding));
}
void RunDecode(const DecodePart& part) { HWY_DYNAMIC_DISPATCH(DecodeRows)(part); }
void MergeStates(const ScoreRule& rule, int64_t rows, int64_t head_dim_v, const RowState& state,
                 const RowState& later) {
  HWY_DYNAMIC_DISPATCH(MergeRows)(rule, rows, head_dim_v, state, later);
}
float FinishRow(const ScoreRule& rule, int64_t head_dim_v, float m, const float* l, float* O) {
  return HWY_DYNAMIC_DISPATCH(NormalizeRow)(rule, head_dim_v, m, l, O);
}

}  // namespace bitflash::reference
#endif  // HWY_ONCE
