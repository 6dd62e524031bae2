// What CpuAttention does for many rows alone: rows whose scores norms bound, and V that is read where it lies.
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "data/simd_targets.h"
#include "doctest/doctest.h"
#include "hwy/targets.h"
#include "reference/aligned_array.h"
#include "reference/cpu_attention_testing.h"

namespace bitflash::reference {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("rows whose scores norms bound, and rows whose scores they do not") {
  for (const data::Mask& mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(400, 30)}) {
    // Later scores far above the first tile's maximum, far below, beyond the bound, and values that make it void.
    for (const auto& factors : {std::tuple{1.0f, 1.0f, 1.0f},
                                {0.01f, 2.0f, 1.0f},
                                {2.0f, 0.01f, 1.0f},
                                {0.01f, 5.0f, 1.0f},
                                {8.0f, 8.0f, 1.0f},
                                {1.0f, 1.0f, 1e12f},
                                {1.0f, 1.0f, 1e20f},
                                {1.0f, 1.0f, 1e-36f}}) {
      const auto& [first_one, later_one, v_one] = factors;
      const float first = first_one, later = later_one, v = v_one;  // bindings are not captured
      CAPTURE(data::ToString(mask));
      CAPTURE(first);
      CAPTURE(later);
      CAPTURE(v);
      CheckOnEveryTarget(TiledProblem(mask, first, later, v));
    }
  }
}

TEST_CASE("bounded rows are computed another way, and differ by roundings") {
  // A value of 2^41 makes the bound void for all rows of the head. Only the last row sees it.
  const CpuProblem bounded = TiledProblem(data::Mask::Causal(), 1, 1, 1);
  CpuProblem other = bounded;
  other.V.row(0, 0, 699)[0] = 0x1p41f;
  other.V.Encode();
  const CpuResult a = RunCpu(bounded), b = RunCpu(other);
  int64_t differ = 0;
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t n = 0; n < 132 * 80; ++n) {
      const float x = a.O[h * 133 * 80 + n], y = b.O[h * 133 * 80 + n];
      differ += x != y ? 1 : 0;
      CHECK(std::abs(x - y) < 1e-5f);
    }
  }
  CHECK(differ > 1000);
}

TEST_CASE("scores far below 0 that are taken relative to 0, times values near the smallest") {
  // Weights near 2^-23 and, were all taken so, 2^-52: what products lose in subnormal numbers must not come back with
  // the division.
  for (const float key : {-2.0f, -4.5f}) {
    CAPTURE(key);
    CpuProblem p = ShapedProblem({.heads_q = 2, .seqlen_q = 20, .seqlen_k = 600, .head_dim = 64, .head_dim_v = 64}, 4);
    for (float& q : p.Q.values) q = 1;
    for (float& k : p.K.values) k = key + k * 0x1p-12f;
    for (float& v : p.V.values) v *= 0x1p-115f;
    p.Q.Encode();
    p.K.Encode();
    p.V.Encode();
    CheckOnEveryTarget(p);
  }
}

TEST_CASE("values that are read where they lie give the bits of packed ones") {
  for (const int64_t columns : {16, 48, 64, 80}) {
    for (const data::Mask& mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(100, 0)}) {
      for (const bool poisoned : {false, true}) {
        CAPTURE(columns);
        CAPTURE(data::ToString(mask));
        CAPTURE(poisoned);
        CpuProblem p = ShapedProblem({.heads_q = 4,
                                      .heads_kv = 2,
                                      .seqlen_q = 133,
                                      .seqlen_k = 700,
                                      .head_dim = 32,
                                      .head_dim_v = columns,
                                      .mask = mask},
                                     columns);
        if (poisoned) p.V.row(0, 0, 650)[3] = kNan;
        p.V.Encode();
        const size_t size = p.V.bytes.size();
        const AlignedArray<std::byte> aligned(size), shifted(size + sizeof(float));
        std::copy_n(p.V.bytes.data(), size, aligned.get());
        std::copy_n(p.V.bytes.data(), size, shifted.get() + sizeof(float));
        const std::vector<BoundedGolden> golden = GoldenOf(p);
        for (const int64_t target : data::UsableTargets()) {
          const data::UseTarget use(target);
          CAPTURE(std::string(hwy::TargetName(target)));
          CpuAttentionInputs inputs = p.inputs();
          inputs.V.bytes = {aligned.get(), size};
          const CpuResult in_place = RunCpu(p, inputs, 2);
          inputs.V.bytes = {shifted.get() + sizeof(float), size};
          CHECK(SameBits(in_place, RunCpu(p, inputs, 2)));
          CHECK(Judge(p, golden, in_place).wrong == 0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace bitflash::reference
