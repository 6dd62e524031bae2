#include <cassert>
#include <cmath>

#include "data/sfu_tables.h"
#include "sim/gpu_float.h"
#include "sim/special_functions.h"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)  // as in packed_operand.cc
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sim/special_functions_simd.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "sim/special_functions_simd-inl.h"

#if HWY_ONCE
namespace bitflash::sim {
namespace {

HWY_EXPORT(EvaluateSpan);
HWY_EXPORT(FmaSpan);
HWY_EXPORT(DivideSpan);
HWY_EXPORT(ReciprocalSpan);

}  // namespace

void Evaluate(Function function, std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size());
  HWY_DYNAMIC_DISPATCH(EvaluateSpan)(function, data::BuiltInSfuTables(), x.data(), y.data(), x.size());
}

void Fma(std::span<const float> a, std::span<const float> b, std::span<const float> c, std::span<float> result) {
  assert(a.size() == result.size() && b.size() == result.size() && c.size() == result.size());
  HWY_DYNAMIC_DISPATCH(FmaSpan)(a.data(), b.data(), c.data(), result.data(), result.size());
}

void Divide(std::span<const float> a, std::span<const float> b, std::span<float> result) {
  assert(a.size() == result.size() && b.size() == result.size());
  HWY_DYNAMIC_DISPATCH(DivideSpan)(a.data(), b.data(), result.data(), result.size());
}

void Reciprocal(std::span<const float> x, std::span<float> result) {
  assert(x.size() == result.size());
  HWY_DYNAMIC_DISPATCH(ReciprocalSpan)(x.data(), result.data(), result.size());
}

}  // namespace bitflash::sim
#endif  // HWY_ONCE
