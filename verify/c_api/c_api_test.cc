// The C interface gives what the C++ interface gives, bit by bit. libbitflash.so has its own copy of the library.
#include "verify/c_api.h"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>

#include "data/convert_simd.h"
#include "reference/golden.h"
#include "sim/count.h"
#include "sim/execute.h"
#include "verify/c_api/c_api_testing.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace bitflash::verify {
namespace {

using sim::Ledger;
using CountHandle = std::unique_ptr<bitflash_count, decltype(&bitflash_count_destroy)>;

CountHandle Count(const bitflash_problem& problem, const bitflash_kernel& kernel) {
  bitflash_count* count = nullptr;
  REQUIRE_MESSAGE(bitflash_count_create(&problem, &kernel, &count) == BITFLASH_OK, bitflash_last_error());
  return {count, bitflash_count_destroy};
}

void CheckLedger(const bitflash_count* count, int64_t launch, const Ledger& expected) {
  auto totals = Sized<bitflash_totals>();
  REQUIRE(bitflash_count_totals(count, launch, &totals) == BITFLASH_OK);
  CHECK(totals.hbm_compulsory_read == Sum(expected.hbm_compulsory).read);
  CHECK(totals.hbm_compulsory_write == Sum(expected.hbm_compulsory).write);
  CHECK(totals.l2_to_sm_read == Sum(expected.l2_to_sm).read);
  CHECK(totals.l2_to_sm_write == Sum(expected.l2_to_sm).write);
  CHECK(totals.shared_read == Sum(expected.shared).read);
  CHECK(totals.shared_write == Sum(expected.shared).write);
  CHECK(totals.register_read == Sum(expected.registers).read);
  CHECK(totals.matrix_flops == expected.matrix_flops);
  CHECK(totals.special_ops == expected.special_ops);
  CHECK(totals.fp32_ops == expected.fp32_ops);

  // The entries, put back into a ledger, are the bytes of the expected one.
  Ledger found;
  int64_t entries = 0;
  REQUIRE(bitflash_count_entries(count, launch, &entries) == BITFLASH_OK);
  for (int64_t i = 0; i < entries; ++i) {
    auto traffic = Sized<bitflash_traffic>();
    REQUIRE(bitflash_count_entry(count, launch, i, &traffic) == BITFLASH_OK);
    int tensor = 0;
    while (tensor < sim::kTensorCount && Name(static_cast<sim::TensorId>(tensor)) != traffic.tensor) ++tensor;
    REQUIRE(tensor < sim::kTensorCount);
    const std::string level = traffic.level;
    sim::PerTensor& of_level = level == "hbm_compulsory" ? found.hbm_compulsory
                               : level == "l2_to_sm"     ? found.l2_to_sm
                               : level == "shared"       ? found.shared
                                                         : found.registers;
    if (&of_level == &found.registers) CHECK(level == "register");
    CHECK(of_level[tensor] == sim::Traffic{});  // named once
    of_level[tensor] = {traffic.read, traffic.write};
  }
  found.matrix_flops = expected.matrix_flops;
  found.special_ops = expected.special_ops;
  found.fp32_ops = expected.fp32_ops;
  CHECK(found == expected);
}

TEST_CASE("C: a count is that of sim::CountKernel, for every kernel, launch by launch") {
  SmallCall call;
  int counted = 0;
  for (int64_t i = 0; i < bitflash_kernels(); ++i) {
    auto info = Sized<bitflash_kernel_info>();
    REQUIRE(bitflash_kernel_at(i, &info) == BITFLASH_OK);
    CAPTURE(info.name);
    const sim::Kernel& kernel = sim::FindKernel(info.name);
    CHECK(kernel.title == info.title);
    CHECK(kernel.source == info.source);
    const data::Gpu gpu = data::LoadGpu("h200");
    const sim::Tiling tiling = sim::ResolveTiling(kernel, call.attention, gpu, {});
    const sim::Count expected = sim::CountKernel(kernel, call.attention, tiling, gpu);

    auto choice = Sized<bitflash_kernel>();
    choice.name = info.name;
    const CountHandle count = Count(call.problem, choice);
    int64_t launches = 0;
    REQUIRE(bitflash_count_launches(count.get(), &launches) == BITFLASH_OK);
    REQUIRE(launches == static_cast<int64_t>(expected.launches.size()));
    for (int64_t n = 0; n < launches; ++n) {
      const sim::LaunchCount& of = expected.launches[n];
      auto launch = Sized<bitflash_launch>();
      REQUIRE(bitflash_count_launch(count.get(), n, &launch) == BITFLASH_OK);
      CHECK(launch.name == of.name);
      CHECK(sim::Grid{launch.grid_x, launch.grid_y, launch.grid_z}.blocks() == of.grid.blocks());
      CHECK(launch.threads_per_block == of.resources.threads);
      CHECK(launch.registers_per_thread == of.resources.registers_per_thread);
      CHECK(launch.shared_bytes_per_block == of.resources.shared_bytes);
      CHECK(launch.blocks_per_sm == of.occupancy.blocks_per_sm);
      CHECK(launch.occupancy_limit == of.occupancy.limit);
      CHECK(launch.waves == of.waves);
      CheckLedger(count.get(), n, of.ledger);
    }
    CheckLedger(count.get(), BITFLASH_ALL_LAUNCHES, expected.total);
    ++counted;

    // What was counted, counted again, is the same.
    auto resolved = Sized<bitflash_kernel>();
    REQUIRE(bitflash_count_kernel(count.get(), &resolved) == BITFLASH_OK);
    CHECK(resolved.Br == tiling.Br);
    CHECK(resolved.Bc == tiling.Bc);
    CHECK(resolved.warps == tiling.warps);
    CheckLedger(Count(call.problem, resolved).get(), BITFLASH_ALL_LAUNCHES, expected.total);
  }
  CHECK(counted == static_cast<int>(sim::Kernels().size()));
}

TEST_CASE("C: every choice of a tiling reaches the count") {
  SmallCall call;
  call.problem.seqlen_q = call.attention.seqlen_q = 1;
  call.problem.seqlen_k = call.attention.seqlen_k = 5000;
  const auto bytes = [&](const bitflash_kernel& kernel) {
    auto totals = Sized<bitflash_totals>();
    CHECK(bitflash_count_totals(Count(call.problem, kernel).get(), BITFLASH_ALL_LAUNCHES, &totals) == BITFLASH_OK);
    return totals.l2_to_sm_read + totals.l2_to_sm_write;
  };
  const auto expected = [&](const char* name, const sim::TilingChoice& choice) {
    const sim::Kernel& kernel = sim::FindKernel(name);
    const data::Gpu gpu = data::LoadGpu("a100-80gb");
    const sim::Count count =
        sim::CountKernel(kernel, call.attention, sim::ResolveTiling(kernel, call.attention, gpu, choice), gpu);
    return Sum(count.total.l2_to_sm).read + Sum(count.total.l2_to_sm).write;
  };
  auto kernel = Sized<bitflash_kernel>();
  kernel.gpu = "a100-80gb";
  kernel.name = "split-kv";
  kernel.Br = 16;
  kernel.Bc = 32;
  kernel.warps = 1;
  kernel.stages = 2;
  kernel.splits = 7;
  kernel.page_size = 16;
  kernel.pack_gqa = -1;
  CHECK(bytes(kernel) ==
        expected("split-kv",
                 {.Br = 16, .Bc = 32, .warps = 1, .stages = 2, .splits = 7, .page_size = 16, .pack_gqa = false}));
  kernel.splits = 0;
  kernel.part_keys = 64;
  kernel.pack_gqa = 1;
  CHECK(bytes(kernel) ==
        expected("split-kv",
                 {.Br = 16, .Bc = 32, .warps = 1, .stages = 2, .part_keys = 64, .page_size = 16, .pack_gqa = true}));
  auto standard = Sized<bitflash_kernel>();
  standard.gpu = "a100-80gb";
  standard.name = "standard";
  const int64_t narrow = bytes(standard);
  standard.fp32_scores = 1;
  CHECK(bytes(standard) == expected("standard", {.fp32_scores = true}));
  CHECK(bytes(standard) > narrow);
}

TEST_CASE("C: a simulation has the bits of sim::Execute, for any number of threads") {
  SmallCall call;
  const data::Attention& a = call.attention;
  std::vector<std::vector<uint16_t>> outputs;
  for (const char* gpu : {"h200", "a100-80gb"}) {
    for (const char* name : {"fa2", "fa3", "split-kv", "fa1"}) {
      if (std::string(gpu) != "h200" && std::string(name) == "fa3") continue;
      CAPTURE(gpu);
      CAPTURE(name);
      const sim::Kernel& kernel = sim::FindKernel(name);
      const data::Gpu facts = data::LoadGpu(gpu);
      std::vector<uint16_t> o(call.o.size());
      std::vector<float> lse(call.lse.size());
      const bool writes_lse = std::string(name) != "fa1";
      sim::Execute(kernel, a, sim::ResolveTiling(kernel, a, facts, {}), facts.arch,
                   {call.q.data(), call.k.data(), call.v.data()}, {o.data(), writes_lse ? lse.data() : nullptr});
      auto choice = Sized<bitflash_kernel>();
      choice.name = name;
      choice.gpu = gpu;
      for (const int threads : {0, 1, 3}) {
        std::ranges::fill(call.o, uint16_t{0xEEEE});
        std::ranges::fill(call.lse, 12345.0f);
        auto execution = Sized<bitflash_execution>();
        execution.threads = threads;
        bitflash_outputs out = call.outputs;
        if (!writes_lse) out.lse = nullptr;
        REQUIRE_MESSAGE(bitflash_simulate(&call.problem, &choice, &call.inputs, &out, &execution) == BITFLASH_OK,
                        bitflash_last_error());
        CHECK(call.o == o);
        if (writes_lse) CHECK(call.lse == lse);
      }
      outputs.push_back(o);
    }
  }
  CHECK(std::any_of(outputs.begin() + 1, outputs.end(), [&](const auto& o) { return o != outputs.front(); }));
}

// Every thread of a team rounds upwards and, on x86, flushes subnormals.
void SpoilFloat(int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::fesetround(FE_UPWARD);
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ and DAZ; Intel SDM, volume 1, section 10.2.3
#endif
  }
}

TEST_CASE("C: the client's rounding mode and flushing decide no bit, and stay") {
  SmallCall call;
  for (size_t i = 0; i < call.v.size(); i += 2) call.v[i] &= 0x83FF;  // subnormal numbers of fp16
  REQUIRE(bitflash_simulate(&call.problem, nullptr, &call.inputs, &call.outputs, nullptr) == BITFLASH_OK);
  REQUIRE(bitflash_golden(&call.problem, &call.inputs, &call.truth, nullptr) == BITFLASH_OK);
  SmallCall spoilt;
  spoilt.v = call.v;
  std::fenv_t before;
  std::fegetenv(&before);
  for (const int threads : {1, 3}) {
    auto execution = Sized<bitflash_execution>();
    execution.threads = threads;
    SpoilFloat(threads);
    spoilt.inputs.v = spoilt.v.data();
    const auto simulated = bitflash_simulate(&spoilt.problem, nullptr, &spoilt.inputs, &spoilt.outputs, &execution);
    const auto golden = bitflash_golden(&spoilt.problem, &spoilt.inputs, &spoilt.truth, &execution);
    std::vector<int> modes(threads);
#pragma omp parallel num_threads(threads)
    {
      modes[omp_get_thread_num()] = std::fegetround();
      std::fesetenv(&before);
    }
    CHECK(simulated == BITFLASH_OK);
    CHECK(golden == BITFLASH_OK);
    CHECK(modes == std::vector<int>(threads, FE_UPWARD));
    CHECK(spoilt.o == call.o);
    CHECK(spoilt.lse == call.lse);
    CHECK(spoilt.true_o == call.true_o);
    CHECK(spoilt.true_lse == call.true_lse);
  }
}

TEST_CASE("C: V that is part of K, and no keys at all") {
  SmallCall call;
  call.problem.v_is_in_k = 1;
  call.problem.head_dim_v = 32;
  call.inputs.v = nullptr;
  call.inputs.v_bytes = 0;
  REQUIRE(bitflash_simulate(&call.problem, nullptr, &call.inputs, &call.outputs, nullptr) == BITFLASH_OK);
  REQUIRE(bitflash_golden(&call.problem, &call.inputs, &call.truth, nullptr) == BITFLASH_OK);
  double worst = 0;
  for (size_t i = 0; i < call.o.size() / 2; ++i)
    worst = std::max(worst, std::fabs(data::Decode(data::Format::kFp16, call.o[i]) - call.true_o[i]));
  CHECK(worst < 0.01);
  CHECK(call.o[call.o.size() / 2] == 0xEEEE);  // beyond the smaller O nothing is written
  CHECK(call.true_o[call.o.size() / 2] == 12345);

  SmallCall empty;
  empty.problem.seqlen_k = 0;
  empty.inputs.k = empty.inputs.v = nullptr;
  empty.inputs.k_bytes = empty.inputs.v_bytes = 0;
  REQUIRE(bitflash_golden(&empty.problem, &empty.inputs, &empty.truth, nullptr) == BITFLASH_OK);
  CHECK(empty.true_o.front() == 0);
  CHECK(empty.true_lse.back() == -std::numeric_limits<double>::infinity());
  REQUIRE_MESSAGE(bitflash_simulate(&empty.problem, nullptr, &empty.inputs, &empty.outputs, nullptr) == BITFLASH_OK,
                  bitflash_last_error());
  CHECK(std::ranges::count(empty.o, uint16_t{0}) == static_cast<int64_t>(empty.o.size()));
}

TEST_CASE("C: the truth has the bits of reference::GoldenAttention, more heads than one part holds") {
  SmallCall call;
  data::Attention a = call.attention;
  a.batch = 1, a.heads_q = 70, a.heads_kv = 35, a.seqlen_q = 3, a.head_dim = a.head_dim_v = 8;
  a.mask = data::Mask::Window(20, 1);
  a.softmax_scale = 0.5;
  a.softcap = 3;
  a.format = data::Format::kBf16;
  const auto q = Normal16(a.format, a.q_bytes() / 2, 4), k = Normal16(a.format, a.k_bytes() / 2, 5),
             v = Normal16(a.format, a.v_bytes() / 2, 6);
  bitflash_problem p{sizeof p, 1, 70, 35, 3, 83, 8, 8, BITFLASH_BF16, BITFLASH_MASK_WINDOW, 20, 1, 0.5, 3, 0, 0};
  const bitflash_inputs in{sizeof in, q.data(), 2 * q.size(), k.data(), 2 * k.size(), v.data(), 2 * v.size()};
  std::vector<double> o(a.o_bytes() / 2, 1), lse(a.lse_bytes() / 4, 1);
  const bitflash_outputs out{sizeof out, o.data(), 8 * o.size(), lse.data(), 8 * lse.size()};
  std::vector<double> shares;
  auto execution = Sized<bitflash_execution>();
  execution.user = &shares;
  execution.progress = [](double share, void* user) {
    static_cast<std::vector<double>*>(user)->push_back(share);
    return 0;
  };
  REQUIRE_MESSAGE(bitflash_golden(&p, &in, &out, &execution) == BITFLASH_OK, bitflash_last_error());
  CHECK(shares == std::vector<double>{64.0 / 70, 1});

  const auto decoded = [&](const std::vector<uint16_t>& bits) {
    std::vector<float> values(bits.size());
    data::ToFloat(a.format, bits.data(), values.data(), static_cast<int64_t>(bits.size()));
    return values;
  };
  const auto fq = decoded(q), fk = decoded(k), fv = decoded(v);
  const reference::Golden golden =
      reference::GoldenAttention(a, {{std::span(fq), {}}, {std::span(fk), {}}, {std::span(fv), {}}, {}});
  CHECK(o == golden.O);
  CHECK(lse == golden.LSE);
}

TEST_CASE("C: a comparison states what verify::Compare states") {
  const std::vector<uint16_t> a = {0x3F80, 0x7FFF, 0x7F80, 0x8000, 0x4000, 0x7FC1, 0x3F80},
                              b = {0x3F80, 0x3F80, 0xFF80, 0x0000, 0x4003, 0x7FC2, 0x0000};
  auto d = Sized<bitflash_difference>();
  REQUIRE(bitflash_compare(BITFLASH_BF16, a.data(), b.data(), 7, &d) == BITFLASH_OK);
  CHECK(d.elements == 7);
  CHECK(d.bits_differ == 6);
  CHECK(d.kind_differs == 2);
  CHECK(d.nan_bits_differ == 1);
  CHECK(d.zero_sign_differs == 1);
  CHECK(d.a_nan == 2);
  CHECK(d.b_nan == 1);
  CHECK(d.a_infinite == 1);
  CHECK(d.b_infinite == 1);
  CHECK(d.first.index == 1);
  CHECK(std::isnan(d.first.a));
  CHECK(d.first.b == 1);
  CHECK(d.first_kind.index == 1);
  CHECK(d.max_ulps == 0x3F80);
  CHECK(d.worst_ulps.index == 6);
  CHECK(d.worst_ulps.a_bits == 0x3F80);
  CHECK(d.worst_abs.index == 6);
  CHECK(d.max_abs == 1);
  CHECK(std::isinf(d.max_rel));
  CHECK(d.worst_rel.index == 6);

  REQUIRE(bitflash_compare(BITFLASH_BF16, a.data(), a.data(), 7, &d) == BITFLASH_OK);
  CHECK(d.bits_differ == 0);
  CHECK(d.first.index == -1);
  CHECK(d.worst_rel.index == -1);
  CHECK(bitflash_compare(BITFLASH_E4M3, nullptr, nullptr, 0, &d) == BITFLASH_OK);
  CHECK(d.elements == 0);
}

TEST_CASE("C: the value of bits in every format") {
  const auto value = [](int32_t format, uint64_t bits) {
    double result = 0;
    REQUIRE(bitflash_value(format, bits, &result) == BITFLASH_OK);
    return result;
  };
  CHECK(value(BITFLASH_BF16, 0x3FC0) == 1.5);
  CHECK(value(BITFLASH_FP16, 0xBE00) == -1.5);
  CHECK(value(BITFLASH_FP16, 0xFFFFFFFF0000BE00) == -1.5);  // the low bits
  CHECK(value(BITFLASH_FP32, 0x3FC00000) == 1.5);
  CHECK(value(BITFLASH_TF32, 0x3FC00000) == 1.5);
  CHECK(value(BITFLASH_FP64, std::bit_cast<uint64_t>(1.1)) == 1.1);
  CHECK(value(BITFLASH_E4M3, 0x3C) == 1.5);
  CHECK(value(BITFLASH_E5M2, 0x3E) == 1.5);
}

// Where a field stands is part of the interface: a compiled client has it inside.
static_assert(BITFLASH_ABI_MAJOR == 1 && sizeof(void*) == 8, "the offsets of another interface, or machine");
static_assert(offsetof(bitflash_problem, head_dim_v) == 56 && offsetof(bitflash_problem, reserved) == 108);
static_assert(offsetof(bitflash_kernel, Br) == 24 && offsetof(bitflash_kernel, fp32_scores) == 84);
static_assert(offsetof(bitflash_traffic, write) == 32 && offsetof(bitflash_totals, fp32_ops) == 80);
static_assert(offsetof(bitflash_launch, grid_x) == 16 && offsetof(bitflash_launch, waves) == 80);
static_assert(offsetof(bitflash_inputs, v_bytes) == 48 && offsetof(bitflash_outputs, lse_bytes) == 32);
static_assert(offsetof(bitflash_execution, progress) == 16 && offsetof(bitflash_execution, user) == 24);
static_assert(sizeof(bitflash_pair) == 40 && offsetof(bitflash_difference, first) == 80);
static_assert(offsetof(bitflash_difference, max_ulps) == 160 && offsetof(bitflash_difference, worst_rel) == 264);
static_assert(offsetof(bitflash_kernel_info, source) == 24 && offsetof(bitflash_gpu_info, arch) == 24);

TEST_CASE("C: lists and versions") {
  CHECK(bitflash_abi_version() == BITFLASH_ABI_VERSION);
  CHECK(std::string(bitflash_version()) == BITFLASH_VERSION);
  CHECK(bitflash_kernels() == static_cast<int64_t>(sim::Kernels().size()));
  const std::vector<std::string> names = data::GpuNames();
  REQUIRE(bitflash_gpus() == static_cast<int64_t>(names.size()));
  for (size_t i = 0; i < names.size(); ++i) {
    auto gpu = Sized<bitflash_gpu_info>();
    REQUIRE(bitflash_gpu_at(static_cast<int64_t>(i), &gpu) == BITFLASH_OK);
    CHECK(gpu.name == names[i]);
    CHECK(gpu.arch == data::LoadGpu(names[i]).arch);
    CHECK(gpu.title == data::LoadGpu(names[i]).title);
  }
}

}  // namespace
}  // namespace bitflash::verify
