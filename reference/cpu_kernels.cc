#include "reference/cpu_kernels.h"

// The scalable targets are left out: nobody has run this on them, and 128-bit NEON serves the same processors.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "reference/cpu_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep; compiles this file once per SIMD target
#include "hwy/highway.h"
#include "reference/cpu_decode-inl.h"
#include "reference/cpu_exp-inl.h"
#include "reference/cpu_prefill-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Out-of-line functions of their own name for HWY_EXPORT.
void PackKeyRows(const float* const* rows, int64_t keys, int64_t head_dim, float* packed) {
  PackKeyTile(rows, keys, head_dim, packed);
}
void PackValueRows(const float* const* rows, int64_t keys, int64_t head_dim_v, float* packed) {
  PackValueTile(rows, keys, head_dim_v, packed);
}
int64_t StripScratchFloats(int64_t strips, int64_t head_dim_v) {
  return kStripsAtOnce * kStripRows * kTileKeys + strips * StripFloats(head_dim_v);
}
void PrefillRows(const PrefillTask& task) { Prefill(task); }
void DecodeRows(const DecodePart& part) { Decode(part); }
void MergeRows(const ScoreRule& rule, int64_t rows, int64_t head_dim_v, const RowState& state, const RowState& later) {
  Merge(rule, rows, head_dim_v, state, later);
}
float NormalizeRow(const ScoreRule& rule, int64_t head_dim_v, float m, const float* l, float* O) {
  return Finish(rule, head_dim_v, m, l, O);
}

template <class Function>
HWY_INLINE void ForEachVector(std::span<const float> x, std::span<float> y, const Function& function) {
  const D d;
  for (size_t i = 0; i < x.size(); i += kLanes) {
    HWY_ALIGN float buffer[kPartialSums] = {};
    const size_t n = std::min<size_t>(kLanes, x.size() - i);
    std::copy_n(x.data() + i, n, buffer);
    hn::Store(function(hn::Load(d, buffer)), d, buffer);
    std::copy_n(buffer, n, y.data() + i);
  }
}
void Exp2All(std::span<const float> x, std::span<float> y) {
  ForEachVector(x, y, [](V v) HWY_ATTR { return Exp2(D(), v); });
}
void TanhAll(std::span<const float> x, std::span<float> y) {
  ForEachVector(x, y, [](V v) HWY_ATTR { return Tanh(D(), v); });
}

// Ten independent chains: enough for two units of latency five.
int64_t FmaLoop() {
  const D d;
  const V a = hn::Set(d, 0.999f), b = hn::Set(d, 0.001f);
  V x0 = hn::Set(d, 0.0f), x1 = hn::Set(d, 1.0f), x2 = hn::Set(d, 2.0f), x3 = hn::Set(d, 3.0f), x4 = hn::Set(d, 4.0f);
  V x5 = hn::Set(d, 5.0f), x6 = hn::Set(d, 6.0f), x7 = hn::Set(d, 7.0f), x8 = hn::Set(d, 8.0f), x9 = hn::Set(d, 9.0f);
  constexpr int64_t kRounds = 2000;
  for (int64_t i = 0; i < kRounds; ++i) {
    x0 = hn::MulAdd(x0, a, b), x1 = hn::MulAdd(x1, a, b), x2 = hn::MulAdd(x2, a, b), x3 = hn::MulAdd(x3, a, b);
    x4 = hn::MulAdd(x4, a, b), x5 = hn::MulAdd(x5, a, b), x6 = hn::MulAdd(x6, a, b), x7 = hn::MulAdd(x7, a, b);
    x8 = hn::MulAdd(x8, a, b), x9 = hn::MulAdd(x9, a, b);
  }
  const V sum = hn::Add(hn::Add(hn::Add(hn::Add(x0, x1), hn::Add(x2, x3)), hn::Add(hn::Add(x4, x5), hn::Add(x6, x7))),
                        hn::Add(x8, x9));
  const bool ran = hn::GetLane(sum) > 0;  // uses the result
  return ran ? 10 * kRounds * kLanes : 0;
}

float ReadAll(const float* x, int64_t count) {
  const D d;
  V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = 0; i < count; i += 4 * kLanes) {
    if (i % 16 == 0) hwy::Prefetch(x + std::min(i + 512, count - 1));
    s0 = hn::Add(s0, hn::LoadU(d, x + i)), s1 = hn::Add(s1, hn::LoadU(d, x + i + kLanes));
    s2 = hn::Add(s2, hn::LoadU(d, x + i + 2 * kLanes)), s3 = hn::Add(s3, hn::LoadU(d, x + i + 3 * kLanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::reference {
namespace {

HWY_EXPORT(PackKeyRows);
HWY_EXPORT(PackValueRows);
HWY_EXPORT(StripScratchFloats);
HWY_EXPORT(PrefillRows);
HWY_EXPORT(DecodeRows);
HWY_EXPORT(MergeRows);
HWY_EXPORT(NormalizeRow);
HWY_EXPORT(Exp2All);
HWY_EXPORT(TanhAll);
HWY_EXPORT(FmaLoop);
HWY_EXPORT(ReadAll);

}  // namespace

void PackKeys(const float* const* rows, int64_t keys, int64_t head_dim, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackKeyRows)(rows, keys, head_dim, packed);
}
void PackValues(const float* const* rows, int64_t keys, int64_t head_dim_v, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackValueRows)(rows, keys, head_dim_v, packed);
}
int64_t PrefillScratchFloats(int64_t heads, int64_t rows, int64_t head_dim_v) {
  return HWY_DYNAMIC_DISPATCH(StripScratchFloats)(heads * RoundUp(rows, kStripRows) / kStripRows, head_dim_v);
}
void RunPrefill(const PrefillTask& task) { HWY_DYNAMIC_DISPATCH(PrefillRows)(task); }

int64_t DecodeScratchFloats(int64_t rows, int64_t head_dim, int64_t head_dim_v) {
  return rows * kTileKeys + RoundUp(rows + 4, kRowPadding) + kTileKeys * RoundUp(head_dim, kRowPadding) +
         kTileKeys * RoundUp(head_dim_v, kRowPadding);
}
void RunDecode(const DecodePart& part) { HWY_DYNAMIC_DISPATCH(DecodeRows)(part); }
void MergeStates(const ScoreRule& rule, int64_t rows, int64_t head_dim_v, const RowState& state,
                 const RowState& later) {
  HWY_DYNAMIC_DISPATCH(MergeRows)(rule, rows, head_dim_v, state, later);
}
float FinishRow(const ScoreRule& rule, int64_t head_dim_v, float m, const float* l, float* O) {
  return HWY_DYNAMIC_DISPATCH(NormalizeRow)(rule, head_dim_v, m, l, O);
}
void Exp2Span(std::span<const float> x, std::span<float> y) { HWY_DYNAMIC_DISPATCH(Exp2All)(x, y); }
void TanhSpan(std::span<const float> x, std::span<float> y) { HWY_DYNAMIC_DISPATCH(TanhAll)(x, y); }
float SumOf(const float* x, int64_t count) { return HWY_DYNAMIC_DISPATCH(ReadAll)(x, count); }
int64_t RunFmaLoop() { return HWY_DYNAMIC_DISPATCH(FmaLoop)(); }

}  // namespace bitflash::reference
#endif  // HWY_ONCE
