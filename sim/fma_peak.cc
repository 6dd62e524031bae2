#include "sim/fma_peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sim/fma_peak.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::sim {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Eight independent chains: enough for two units of latency four.
int64_t FmaLoop() {
  const hn::ScalableTag<float> d;
  const auto a = hn::Set(d, 0.999f), b = hn::Set(d, 0.001f);
  const auto start = [&](float value)
                         HWY_ATTR { return hn::Set(d, value); };  // all different, or the compiler merges them
  auto x0 = start(0), x1 = start(1), x2 = start(2), x3 = start(3);
  auto x4 = start(4), x5 = start(5), x6 = start(6), x7 = start(7);
  constexpr int64_t kRounds = 2000;
  for (int64_t i = 0; i < kRounds; ++i) {
    x0 = hn::MulAdd(x0, a, b), x1 = hn::MulAdd(x1, a, b), x2 = hn::MulAdd(x2, a, b), x3 = hn::MulAdd(x3, a, b);
    x4 = hn::MulAdd(x4, a, b), x5 = hn::MulAdd(x5, a, b), x6 = hn::MulAdd(x6, a, b), x7 = hn::MulAdd(x7, a, b);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(x0, x1), hn::Add(x2, x3)), hn::Add(hn::Add(x4, x5), hn::Add(x6, x7)));
  const bool ran = hn::GetLane(sum) > 0;  // uses the result
  return ran ? 8 * kRounds * static_cast<int64_t>(hn::Lanes(d)) : 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::sim
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::sim {

HWY_EXPORT(FmaLoop);

int64_t RunFmaLoop() { return HWY_DYNAMIC_DISPATCH(FmaLoop)(); }

}  // namespace bitflash::sim
#endif  // HWY_ONCE
