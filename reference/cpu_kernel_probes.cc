// Parts of the kernels alone, for tests, and what machines can do, for benchmarks; for every SIMD target.
#include "reference/cpu_kernels.h"
#include "reference/cpu_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "reference/cpu_kernel_probes.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep; compiles this file once per SIMD target
#include "hwy/highway.h"
#include "reference/cpu_exp-inl.h"
#include "reference/cpu_multiply-inl.h"
#include "reference/cpu_softmax-inl.h"
#include "reference/cpu_weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

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
// Four vectors at a time, the rest one by one.
template <class Weights>
HWY_INLINE void WeighAll(const Weights& weights, std::span<const float> x, std::span<float> y) {
  const D d;
  size_t i = 0;
  for (; i + 4 * kLanes <= x.size(); i += 4 * kLanes) {
    const float* from = x.data() + i;
    float* to = y.data() + i;
    V x0 = hn::LoadU(d, from), x1 = hn::LoadU(d, from + kLanes);
    V x2 = hn::LoadU(d, from + 2 * kLanes), x3 = hn::LoadU(d, from + 3 * kLanes);
    weights.Two(x0, x1), weights.Two(x2, x3);
    hn::StoreU(x0, d, to), hn::StoreU(x1, d, to + kLanes);
    hn::StoreU(x2, d, to + 2 * kLanes), hn::StoreU(x3, d, to + 3 * kLanes);
  }
  ForEachVector(x.subspan(i), y.subspan(i), [&](V v) HWY_ATTR { return weights.One(v); });
}
void Exp2All(std::span<const float> x, std::span<float> y) { WeighAll(WeightsBelow(ScoreRule(), 0), x, y); }
void BoundedExp2All(std::span<const float> x, float M, bool masked, std::span<float> y) {
  masked ? WeighAll(BoundedWeights<true>(ScoreRule(), M), x, y) : WeighAll(BoundedWeights<false>(ScoreRule(), M), x, y);
}
void TanhAll(std::span<const float> x, std::span<float> y) {
  ForEachVector(x, y, [](V v) HWY_ATTR { return Tanh(D(), v); });
}

// More independent chains than two units of latency five need, and as many as there are registers for: with just
// enough, an instruction that meets a busy unit delays its chain for good.
int64_t FmaLoop() {
  const D d;
  const V a = hn::Set(d, 0.999f), b = hn::Set(d, 0.001f);
  constexpr bool k32Registers = kPanelVectors == 4;
  constexpr int64_t kChains = k32Registers ? 24 : 12, kRounds = 2000;
  const auto start = [&](int n) HWY_ATTR { return hn::Set(d, static_cast<float>(n)); };  // different, or they merge
  V x0 = start(0), x1 = start(1), x2 = start(2), x3 = start(3), x4 = start(4), x5 = start(5);
  V x6 = start(6), x7 = start(7), x8 = start(8), x9 = start(9), x10 = start(10), x11 = start(11);
  V y0 = start(12), y1 = start(13), y2 = start(14), y3 = start(15), y4 = start(16), y5 = start(17);
  V y6 = start(18), y7 = start(19), y8 = start(20), y9 = start(21), y10 = start(22), y11 = start(23);
  for (int64_t i = 0; i < kRounds; ++i) {
    x0 = hn::MulAdd(x0, a, b), x1 = hn::MulAdd(x1, a, b), x2 = hn::MulAdd(x2, a, b), x3 = hn::MulAdd(x3, a, b);
    x4 = hn::MulAdd(x4, a, b), x5 = hn::MulAdd(x5, a, b), x6 = hn::MulAdd(x6, a, b), x7 = hn::MulAdd(x7, a, b);
    x8 = hn::MulAdd(x8, a, b), x9 = hn::MulAdd(x9, a, b), x10 = hn::MulAdd(x10, a, b), x11 = hn::MulAdd(x11, a, b);
    if constexpr (k32Registers) {
      y0 = hn::MulAdd(y0, a, b), y1 = hn::MulAdd(y1, a, b), y2 = hn::MulAdd(y2, a, b), y3 = hn::MulAdd(y3, a, b);
      y4 = hn::MulAdd(y4, a, b), y5 = hn::MulAdd(y5, a, b), y6 = hn::MulAdd(y6, a, b), y7 = hn::MulAdd(y7, a, b);
      y8 = hn::MulAdd(y8, a, b), y9 = hn::MulAdd(y9, a, b), y10 = hn::MulAdd(y10, a, b), y11 = hn::MulAdd(y11, a, b);
    }
  }
  V sum = hn::Zero(d);
  for (const V x : {x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11}) sum = hn::Add(sum, x);
  for (const V y : {y0, y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11}) sum = hn::Add(sum, y);
  const bool ran = hn::GetLane(sum) > 0;  // uses the result
  return ran ? kChains * kRounds * kLanes : 0;
}

// Every line of kStreams equal parts of x, a stretch of each in turn; if kAsks, lines are asked for 2 KiB before.
template <int64_t kStreams, bool kAsks>
float ReadStreams(const float* x, int64_t count) {
  const D d;
  constexpr int64_t kLine = 16, kAhead = 512, kStretch = 128;  // floats
  const int64_t part = count / kStreams;
  V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = 0; i < part; i += kStretch) {
    for (int64_t stream = 0; stream < kStreams; ++stream) {
      const float* from = x + stream * part + i;
      for (int64_t n = 0; n < kStretch; n += 4 * kLanes) {
        for (int64_t line = 0; kAsks && line < HWY_MAX(4 * kLanes, kLine); line += kLine) {
          hwy::Prefetch(from + n + line + kAhead);  // perhaps behind the end: to ask is no access
        }
        s0 = hn::Add(s0, hn::LoadU(d, from + n)), s1 = hn::Add(s1, hn::LoadU(d, from + n + kLanes));
        s2 = hn::Add(s2, hn::LoadU(d, from + n + 2 * kLanes)), s3 = hn::Add(s3, hn::LoadU(d, from + n + 3 * kLanes));
      }
    }
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}
float ReadAll(const float* x, int64_t count, int way) {
  switch (way) {
    case 0:
      return ReadStreams<1, false>(x, count);
    case 1:
      return ReadStreams<1, true>(x, count);
    case 2:
      return ReadStreams<2, false>(x, count);
    default:
      return ReadStreams<2, true>(x, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::reference {
namespace {

HWY_EXPORT(Exp2All);
HWY_EXPORT(BoundedExp2All);
HWY_EXPORT(TanhAll);
HWY_EXPORT(FmaLoop);
HWY_EXPORT(ReadAll);

}  // namespace

void Exp2Span(std::span<const float> x, std::span<float> y) { HWY_DYNAMIC_DISPATCH(Exp2All)(x, y); }
void BoundedExp2Span(std::span<const float> x, float M, bool masked, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(BoundedExp2All)(x, M, masked, y);
}
void TanhSpan(std::span<const float> x, std::span<float> y) { HWY_DYNAMIC_DISPATCH(TanhAll)(x, y); }
float SumOf(const float* x, int64_t count, int way) { return HWY_DYNAMIC_DISPATCH(ReadAll)(x, count, way); }
int64_t RunFmaLoop() { return HWY_DYNAMIC_DISPATCH(FmaLoop)(); }

}  // namespace bitflash::reference
#endif  // HWY_ONCE
