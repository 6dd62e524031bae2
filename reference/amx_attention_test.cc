// AmxAttention against the golden attention, element by element within the bound of its arithmetic, on a model of the
// tile unit (amx_model_testing.h) and, where the machine has one, on the tile unit itself, with the same bits.
#include "reference/amx_attention.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "data/error.h"
#include "doctest/doctest.h"
#include "reference/amx_attention_testing.h"

namespace bitflash::reference {
namespace {

using data::Format;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

CpuProblem RandomCpuProblem(uint64_t seed) {
  std::mt19937_64 random(seed * 7919 + 1);
  const auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  const Format outputs[] = {Format::kFp32, Format::kBf16};
  const int layout = static_cast<int>(draw(0, 2));
  CpuProblem p = FromProblem(RandomProblem(seed), Format::kBf16, Format::kBf16, outputs[draw(0, 1)], layout);
  if (draw(0, 2) == 0) {
    for (int64_t n = 0; n < p.a.batch; ++n) p.seqlens_q.push_back(draw(0, p.a.seqlen_q));
  }
  return p;
}

TEST_CASE("amx: the machine has a tile unit or says what is missing") {
  const CpuProblem p = Bf16Problem({.head_dim = 32, .head_dim_v = 32}, 1);
  if (AmxSupport().empty()) {
    MESSAGE("results of the tile unit are compared with the model's");
    CHECK(SameBits(RunMachine(p), RunModel(p)));
    return;
  }
  MESSAGE("only the model is tested: " << AmxSupport());
  CHECK_THROWS_WITH_AS(RunMachine(p), doctest::Contains(AmxSupport().c_str()), data::UsageError);
}

TEST_CASE("amx: tile products have at most 18 roundings; the unit has the model's bits") {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  alignas(64) float a[512], b[512], sums[256], on_machine[256];
  alignas(64) uint16_t a_bits[512], b_bits[512];
  for (const float spread : {1.0f, 1e3f, 0x1p-70f}) {
    for (float& x : a) x = normal(random) * spread;
    for (float& x : b) x = normal(random) * spread;
    for (float& x : sums) x = normal(random) * spread;
    data::FromFloat(Format::kBf16, a, a_bits, 512);
    data::FromFloat(Format::kBf16, b, b_bits, 512);
    data::ToFloat(Format::kBf16, a_bits, a, 512);
    data::ToFloat(Format::kBf16, b_bits, b, 512);
    const std::vector<float> before(sums, sums + 256);
    std::copy_n(sums, 256, on_machine);
    ModelSteps().product(sums, a_bits, b_bits);
    for (int i = 0; i < 16; ++i) {
      for (int n = 0; n < 16; ++n) {
        double want = before[i * 16 + n], magnitude = std::abs(want);
        for (int k = 0; k < 32; ++k) {
          const double product = static_cast<double>(a[i * 32 + k]) * b[k / 2 * 32 + 2 * n + k % 2];
          want += product;
          magnitude += std::abs(product);
        }
        if (spread < 1) want = before[i * 16 + n];  // tiny products count as 0
        CHECK(std::abs(sums[i * 16 + n] - want) <= 18 * 0x1p-24 * magnitude);
      }
    }
    if (MachineAmxSteps() == nullptr) continue;
    MachineAmxSteps()->product(on_machine, a_bits, b_bits);
    CHECK(std::memcmp(on_machine, sums, sizeof(sums)) == 0);
  }
}

TEST_CASE("amx: 2^x is within 2^-22.6; the machine has the model's bits") {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<float> wide(-126, 9), narrow(-2, 1e-6f);
  std::vector<float> xs = {0, -0.0f, -126, -126.00001f, -1000, -kInfinity, -1e-9f, -6e-8f, -0.3f, 1e-9f, 9, kNan};
  for (int i = 0; i < 30000; ++i) xs.push_back(i % 2 == 0 ? wide(random) : narrow(random));
  xs.resize(xs.size() / 16 * 16);
  double worst = 0;
  for (size_t i = 0; i < xs.size(); i += 16) {
    alignas(64) float x[16], y[16], on_machine[16];
    std::copy_n(xs.data() + i, 16, x);
    ModelSteps().exp2(x, y);
    for (int n = 0; n < 16; ++n) {
      if (x[n] < -126) {
        CHECK(y[n] == 0);
      } else if (std::isnan(x[n])) {
        CHECK(std::isnan(y[n]));
      } else {
        worst = std::max(worst, std::abs(y[n] / std::exp2(static_cast<double>(x[n])) - 1));
      }
    }
    if (MachineAmxSteps() == nullptr) continue;
    MachineAmxSteps()->exp2(x, on_machine);
    CHECK(SameValues({on_machine, on_machine + 16}, {y, y + 16}));
  }
  MESSAGE("largest relative error of 2^x: 2^" << std::log2(worst));
  CHECK(worst < 0x1p-22);
  CHECK(worst > 0x1p-24);
}

TEST_CASE("amx: random problems are within the bound") {
  Verdict worst;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    const CpuProblem p = RandomCpuProblem(seed);
    const Verdict verdict = Check(p);
    if (p.output == Format::kFp32) worst.worst_O = std::max(worst.worst_O, verdict.worst_O);
    worst.worst_LSE = std::max(worst.worst_LSE, verdict.worst_LSE);
  }
  MESSAGE("largest error / bound: O " << worst.worst_O << ", LSE " << worst.worst_LSE);
  CHECK(worst.worst_O > 0.05);  // a bound that nothing comes near would judge nothing
}

TEST_CASE("amx: head dimensions and masks across blocks") {
  for (const int64_t head_dim : {32, 40, 64, 96, 128, 192, 256}) {
    for (const data::Mask& mask :
         {data::Mask::Full(), data::Mask::Causal(), data::Mask::CausalTopLeft(), data::Mask::Window(70, 5)}) {
      Check(Bf16Problem({.heads_q = 2,
                         .seqlen_q = 69,
                         .seqlen_k = 203,
                         .head_dim = head_dim,
                         .head_dim_v = head_dim == 192 ? 128 : head_dim,
                         .mask = mask},
                        head_dim));
    }
  }
}

TEST_CASE("amx: heads that share keys have the bits of heads with keys of their own") {
  const data::Attention a = {.heads_q = 6,
                             .heads_kv = 2,
                             .seqlen_q = 45,
                             .seqlen_k = 150,
                             .head_dim = 64,
                             .head_dim_v = 64,
                             .mask = data::Mask::Causal()};
  const CpuProblem shared = Bf16Problem(a, 1);
  Check(shared);
  CpuProblem own = shared;
  own.a.heads_kv = 6;
  const auto repeat = [](const CpuTensorData& t) {
    std::vector<double> values;
    for (int64_t h = 0; h < 6; ++h) {
      const auto head = t.values.begin() + h / 3 * t.rows * t.columns;
      values.insert(values.end(), head, head + t.rows * t.columns);
    }
    return MakeTensor(Format::kBf16, 1, 6, t.rows, t.columns, 0, values);
  };
  own.K = repeat(shared.K);
  own.V = repeat(shared.V);
  CHECK(SameBits(RunModel(shared), RunModel(own)));
}

TEST_CASE("amx: bits do not depend on the number of threads") {
  for (uint64_t seed = 300; seed < 320; ++seed) {
    const CpuProblem p = RandomCpuProblem(seed);
    const CpuResult one = RunModel(p);
    CHECK(SameBits(one, RunModel(p, {.threads = 2})));
    CHECK(SameBits(one, RunModel(p, {.threads = 5})));
    if (AmxSupport().empty()) CHECK(SameBits(RunMachine(p), RunMachine(p, {.threads = 5})));
  }
}

TEST_CASE("amx: groups that follow without a pause have the bits of groups alone") {
  for (const data::Mask& mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(20, 0)}) {
    for (const int64_t seqlen_k : {50, 200, 400}) {  // of 280 causal rows the first ones see nothing, or all something
      CAPTURE(seqlen_k);
      const data::Attention a = {.heads_q = 2,
                                 .heads_kv = 2,
                                 .seqlen_q = 280,
                                 .seqlen_k = seqlen_k,
                                 .head_dim = 32,
                                 .head_dim_v = 160,
                                 .mask = mask};
      CpuProblem p = Bf16Problem(a, 9);
      p.V.row(0, 1, 45)[7] = kNan;
      p.V.Encode();
      Check(p);
      CHECK(SameBits(RunModel(p, {.threads = 1}), RunModel(p, {.threads = 9})));  // tasks of four groups and of one
    }
  }
}

TEST_CASE("amx: a maximum that keeps growing, and one that lags") {
  const data::Attention a = {.seqlen_q = 33, .seqlen_k = 700, .head_dim = 32, .head_dim_v = 32, .softmax_scale = 1};
  for (const double slope : {0.0, 0.01, 0.08, 0.5, -0.08}) {  // per key
    CAPTURE(slope);
    CpuProblem p = Bf16Problem(a, 1, 0.1);
    for (int64_t i = 0; i < a.seqlen_q; ++i) p.Q.row(0, 0, i)[0] = 1;
    for (int64_t j = 0; j < a.seqlen_k; ++j) p.K.row(0, 0, j)[0] = static_cast<float>(slope * static_cast<double>(j));
    p.Q.Encode();
    p.K.Encode();
    Check(p);
  }
}

TEST_CASE("amx: what a row does not see never reaches it") {
  for (const float poison : {kNan, kInfinity, -kInfinity}) {
    for (const data::Mask& mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(3, 2)}) {
      for (const int64_t heads_q : {2, 6}) {
        CAPTURE(poison);
        CpuProblem p = Bf16Problem({.heads_q = heads_q,
                                    .heads_kv = 2,
                                    .seqlen_q = 60,
                                    .seqlen_k = 150,
                                    .head_dim = 32,
                                    .head_dim_v = 48,
                                    .mask = mask},
                                   3);
        p.seqlens_k = {131};
        for (const int64_t j : {80, 129, 131, 140, 149}) {
          p.V.row(0, 0, j)[5] = poison;
          if (j > 129) std::fill_n(p.K.row(0, 0, j), 32, poison);
        }
        p.V.Encode();
        p.K.Encode();
        Check(p);
        const CpuResult result = RunModel(p);
        for (int64_t row = 0; row < heads_q * 60; ++row) CHECK(std::isfinite(result.O[row * 48]));
      }
    }
  }
}

TEST_CASE("amx: special scores, large and tiny numbers, one key, no key") {
  const data::Attention a = {.heads_q = 2, .seqlen_q = 20, .seqlen_k = 200, .head_dim = 64, .head_dim_v = 64};
  for (const double spread : {1e-42, 30.0, 1e4, 1e20}) Check(Bf16Problem(a, 1, spread));
  for (const float factor : {1e-41f, 1e-25f}) {
    CpuProblem tiny = Bf16Problem(a, 5);
    for (float& v : tiny.V.values) v *= factor;
    tiny.V.Encode();
    Check(tiny);
  }
  for (const float score : {kInfinity, -kInfinity, kNan}) {
    CpuProblem p = Bf16Problem(a, 6);
    for (float& q : p.Q.values) q = std::abs(q);
    p.K.row(0, 0, 70)[3] = score;
    p.Q.Encode();
    p.K.Encode();
    Check(p);
  }
  data::Attention few = a;
  few.seqlen_k = 0;
  for (const float o : RunModel(Bf16Problem(few, 1)).O) CHECK(o == 0);
  few.seqlen_k = 1;
  const CpuProblem one = Bf16Problem(few, 2);
  Check(one);
  const CpuResult result = RunModel(one);
  for (int64_t i = 0; i < 20 * 64; ++i) CHECK(std::abs(result.O[i] / one.V.values[i % 64] - 1) < 1e-6);
  few.mask = data::Mask::Causal();  // all rows but the last see nothing
  Check(Bf16Problem(few, 3));
}

TEST_CASE("amx: inputs are rounded only when asked") {
  const Problem problem = NormalProblem({.seqlen_q = 9, .seqlen_k = 40, .head_dim = 32, .head_dim_v = 40}, 1);
  const CpuProblem exact = FromProblem(problem, Format::kBf16, Format::kBf16, Format::kFp32, 0);
  for (const Format format : {Format::kFp32, Format::kFp16}) {
    CpuProblem p = FromProblem(problem, format, Format::kBf16, Format::kFp32, 1);
    CHECK_THROWS_WITH_AS(RunModel(p), doctest::Contains("round_inputs"), data::UsageError);
    p = FromProblem(problem, Format::kBf16, format, Format::kFp32, 1);
    CHECK_THROWS_WITH_AS(RunModel(p), doctest::Contains("tensor K is"), data::UsageError);
  }
  const CpuProblem fp32 = FromProblem(problem, Format::kFp32, Format::kFp32, Format::kFp32, 2);
  CHECK(SameBits(RunModel(fp32, {.threads = 1, .round_inputs = true}), RunModel(exact)));
  CHECK_THROWS_AS(RunModel(exact, {.threads = -1}), data::UsageError);
}

}  // namespace
}  // namespace bitflash::reference
