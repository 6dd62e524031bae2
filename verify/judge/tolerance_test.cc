#include "verify/judge/tolerance.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string_view>

#include "data/convert.h"
#include "data/error.h"
#include "data/random.h"

namespace bitflash::verify {
namespace {

using data::Format;

Problem MakeProblem(int64_t queries, int64_t keys) {
  Problem p;
  p.attention = {.heads_q = 2,
                 .heads_kv = 1,
                 .seqlen_q = queries,
                 .seqlen_k = keys,
                 .head_dim = 32,
                 .head_dim_v = 32,
                 .mask = data::Mask::Causal(),
                 .format = Format::kBf16};
  const auto normal = [](std::vector<int64_t> shape, uint64_t seed) {
    data::Tensor tensor = data::Tensor::Zeros(Format::kBf16, std::move(shape));
    int64_t i = 0;
    for (uint16_t& bits : tensor.Elements<uint16_t>()) {
      bits = static_cast<uint16_t>(data::Encode(Format::kBf16, data::HashNormal(seed, i++)));
    }
    return tensor;
  };
  p.q = normal({1, 2, queries, 32}, 1);
  p.k = normal({1, 1, keys, 32}, 2);
  p.v = normal({1, 1, keys, 32}, 3);
  return p;
}

SimulatedKernel Kernel(std::string_view name) {
  return {&sim::FindKernel(name), {.Br = 64, .Bc = 32, .warps = 4}, "sm90"};
}

const FaultAudit& Find(const ToleranceAudit& audit, std::string_view id) {
  for (const FaultAudit& fault : audit.faults) {
    if (fault.fault->id == id) return fault;
  }
  FAIL("no such fault: " << id);
  return audit.faults.front();
}

TEST_CASE("a huge tolerance lets everything through but NaN, a sound one nothing that is wrong") {
  const Problem problem = MakeProblem(96, 120);
  const ToleranceAudit loose = AuditTolerance(Kernel("fa2"), problem, {.atol = 1e6});
  CHECK(loose.blind_rows == loose.rows);
  CHECK(loose.rows == 2 * 96);
  CHECK(Find(loose, "zeros").escapes());
  CHECK(Find(loose, "mask-ignored").escapes());
  CHECK(!Find(loose, "unwritten").passes_tolerance());  // NaN
  CHECK(!Find(loose, "v-tail-not-cleared").passes_tolerance());

  const ToleranceAudit exact = AuditTolerance(Kernel("fa2"), problem, {.atol = 0});
  CHECK(exact.escaped() == 0);
  CHECK(exact.blind_rows == 0);
  REQUIRE(exact.right);
  CHECK(!exact.right->passes_tolerance());
  CHECK(exact.right->beyond_bound == 0);
  CHECK(exact.right->worst_ratio < 1);
  // A correct kernel meets the tightest tolerance.
  const ToleranceAudit tight = AuditTolerance(Kernel("fa2"), problem, {.atol = exact.tightest_atol});
  CHECK(tight.right->o.passes);
  CHECK(exact.tightest_atol == exact.largest_bound);
  CHECK(exact.median_bound < exact.largest_bound);
}

TEST_CASE("the right kernel stays within every bound, and gross mistakes do not, whichever kernel") {
  for (const sim::Kernel& kernel : sim::Kernels()) {
    CAPTURE(kernel.name);
    const ToleranceAudit audit =
        AuditTolerance(Kernel(kernel.name), MakeProblem(80, 100), {.atol = 1e-2, .rtol = 1e-2});
    REQUIRE(audit.right);
    CHECK(audit.right->beyond_bound == 0);
    for (const char* id : {"mask-top-left", "mask-ignored", "scale-missing", "not-divided", "head-unwritten", "zeros",
                           "v-copied", "k-as-v", "log2e-missing"}) {
      CAPTURE(id);
      CHECK(Find(audit, id).beyond_bound > 0);
    }
    // On scores this small a kernel without a maximum is as good as any.
    CHECK(Find(audit, "maximum-missing").beyond_bound == 0);
  }
}

TEST_CASE("tolerances that are none, and problems that nothing is known about, are refused") {
  const Problem problem = MakeProblem(8, 8);
  CHECK_THROWS_AS(AuditTolerance(Kernel("fa2"), problem, {.atol = -1}), data::UsageError);
  CHECK_THROWS_AS(AuditTolerance(Kernel("fa2"), problem, {.rtol = std::numeric_limits<double>::quiet_NaN()}),
                  data::UsageError);
  Problem both = problem;
  both.attention.softcap = 30;
  both.sinks = {1, 1};
  CHECK_THROWS_AS(AuditTolerance(Kernel("fa2"), both, {}), data::UndecidedError);
}

}  // namespace
}  // namespace bitflash::verify
