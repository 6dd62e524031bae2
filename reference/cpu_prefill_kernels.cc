// The kernels of prefill, for every SIMD target.
#include "reference/cpu_kernels.h"
#include "reference/cpu_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "reference/cpu_prefill_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep; compiles this file once per SIMD target
#include "hwy/highway.h"
#include "reference/cpu_pack-inl.h"
#include "reference/cpu_prefill-inl.h"
#include "reference/cpu_strips-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {

// Out-of-line functions of their own name for HWY_EXPORT.
float PackKeyRows(const float* const* rows, int64_t keys, int64_t head_dim, float* packed) {
  return PackKeyTile(rows, keys, head_dim, packed);
}
float PackValueRows(const float* const* rows, int64_t keys, int64_t head_dim_v, float* packed) {
  return PackValueTile(rows, keys, head_dim_v, packed);
}
bool ValueRowsArePanels(int64_t head_dim_v) { return RowsArePanels(head_dim_v); }
float LargestValueOf(const float* x, int64_t count) { return LargestMagnitude(x, count); }
int64_t StripScratchFloats(int64_t strips, int64_t head_dim_v) {
  return ScoreFloats() + strips * StripFloats(head_dim_v);
}
void PrefillRows(const PrefillTask& task) { Prefill(task); }

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::reference {
namespace {

HWY_EXPORT(PackKeyRows);
HWY_EXPORT(PackValueRows);
HWY_EXPORT(ValueRowsArePanels);
HWY_EXPORT(LargestValueOf);
HWY_EXPORT(StripScratchFloats);
HWY_EXPORT(PrefillRows);

}  // namespace

float PackKeys(const float* const* rows, int64_t keys, int64_t head_dim, float* packed) {
  return HWY_DYNAMIC_DISPATCH(PackKeyRows)(rows, keys, head_dim, packed);
}
float PackValues(const float* const* rows, int64_t keys, int64_t head_dim_v, float* packed) {
  return HWY_DYNAMIC_DISPATCH(PackValueRows)(rows, keys, head_dim_v, packed);
}
bool ValuesArePacked(int64_t head_dim_v) { return HWY_DYNAMIC_DISPATCH(ValueRowsArePanels)(head_dim_v); }
float LargestValue(const float* x, int64_t count) { return HWY_DYNAMIC_DISPATCH(LargestValueOf)(x, count); }
int64_t PrefillScratchFloats(int64_t heads, int64_t rows, int64_t head_dim_v) {
  return HWY_DYNAMIC_DISPATCH(StripScratchFloats)(heads * RoundUp(rows, kStripRows) / kStripRows, head_dim_v);
}
void RunPrefill(const PrefillTask& task) { HWY_DYNAMIC_DISPATCH(PrefillRows)(task); }

}  // namespace bitflash::reference
#endif  // HWY_ONCE
