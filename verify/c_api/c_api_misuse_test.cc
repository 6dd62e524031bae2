// The C interface refuses what is wrong with a code and a message, never with a crash, and takes structs of other
// versions.
#include <doctest/doctest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "verify/c_api/c_api_testing.h"

namespace bitflash::verify {
namespace {

struct Refused {
  bitflash_status status;
  const char* part;  // of the message
};

void CheckRefused(bitflash_status status, const Refused& expected) {
  CHECK(status == expected.status);
  CHECK_MESSAGE(std::string(bitflash_last_error()).find(expected.part) != std::string::npos,
                "message: ", bitflash_last_error(), "; expected: ", expected.part);
}

bitflash_status CreateAndDestroy(const bitflash_problem* problem, const bitflash_kernel* kernel) {
  bitflash_count* count = reinterpret_cast<bitflash_count*>(8);
  const bitflash_status status = bitflash_count_create(problem, kernel, &count);
  CHECK((status == BITFLASH_OK) == (count != nullptr));
  bitflash_count_destroy(count);
  return status;
}

TEST_CASE("C: a wrong problem is refused by name and value, by every function that takes one") {
  const struct {
    std::function<void(bitflash_problem&)> change;
    Refused refused;
  } cases[] = {
      {[](auto& p) { p.struct_size = 0; }, {BITFLASH_USAGE, "problem.struct_size is 0: expected the sizeof"}},
      {[](auto& p) { p.struct_size = 8; }, {BITFLASH_USAGE, "problem.struct_size is 8"}},
      {[](auto& p) { p.struct_size = ~uint64_t{0}; }, {BITFLASH_USAGE, "problem.struct_size is 18446744073709551615"}},
      {[](auto& p) { p.batch = -1; }, {BITFLASH_USAGE, "batch is -1"}},
      {[](auto& p) { p.heads_q = 0; }, {BITFLASH_USAGE, "heads_q is 0: expected an integer from 1"}},
      {[](auto& p) { p.heads_q = INT64_MAX; }, {BITFLASH_USAGE, "heads_q is 9223372036854775807"}},
      {[](auto& p) { p.heads_kv = 3; }, {BITFLASH_USAGE, "expected a multiple of heads_kv, which is 3"}},
      {[](auto& p) { p.seqlen_q = 0; }, {BITFLASH_USAGE, "seqlen_q is 0"}},
      {[](auto& p) { p.seqlen_k = -5; }, {BITFLASH_USAGE, "seqlen_k is -5"}},
      {[](auto& p) { p.head_dim = 0; }, {BITFLASH_USAGE, "head_dim is 0"}},
      {[](auto& p) { p.head_dim_v = INT64_MIN; }, {BITFLASH_USAGE, "head_dim_v is -9223372036854775808"}},
      {[](auto& p) { p.seqlen_q = p.seqlen_k = int64_t{1} << 40; }, {BITFLASH_USAGE, "2^60 bytes"}},
      {[](auto& p) { p.format = 7; }, {BITFLASH_USAGE, "format is 7: expected a bitflash_format: 0 bf16, 1 fp16"}},
      {[](auto& p) { p.format = -1; }, {BITFLASH_USAGE, "format is -1"}},
      {[](auto& p) { p.format = BITFLASH_FP64; }, {BITFLASH_USAGE, "format is fp64"}},
      {[](auto& p) { p.mask = 4; }, {BITFLASH_USAGE, "mask is 4: expected a bitflash_mask"}},
      {[](auto& p) { p.mask = BITFLASH_MASK_WINDOW, p.window_left = -2; }, {BITFLASH_USAGE, "window_left is -2"}},
      {[](auto& p) { p.mask = BITFLASH_MASK_WINDOW, p.window_right = INT64_MAX; },
       {BITFLASH_USAGE, "window_right is 9223372036854775807"}},
      {[](auto& p) { p.softmax_scale = -1; }, {BITFLASH_USAGE, "softmax_scale is -1"}},
      {[](auto& p) { p.softcap = -1; }, {BITFLASH_USAGE, "softcap is -1"}},
      {[](auto& p) { p.v_is_in_k = 2; }, {BITFLASH_USAGE, "v_is_in_k is 2"}},
      {[](auto& p) { p.v_is_in_k = 1, p.head_dim_v = 128; }, {BITFLASH_USAGE, "head_dim_v is 128"}},
      {[](auto& p) { p.reserved = 1; }, {BITFLASH_USAGE, "problem.reserved is 1: expected 0"}},
  };
  SmallCall call;
  for (const auto& c : cases) {
    bitflash_problem p = call.problem;
    c.change(p);
    CheckRefused(CreateAndDestroy(&p, nullptr), c.refused);
    CheckRefused(bitflash_simulate(&p, nullptr, &call.inputs, &call.outputs, nullptr), c.refused);
    CheckRefused(bitflash_golden(&p, &call.inputs, &call.truth, nullptr), c.refused);
  }
  CHECK(call.o.front() == 0xEEEE);  // nothing was written
}

TEST_CASE("C: a wrong kernel, GPU or tile is refused") {
  const struct {
    std::function<void(bitflash_kernel&)> change;
    Refused refused;
  } cases[] = {
      {[](auto& k) { k.struct_size = 7; }, {BITFLASH_USAGE, "kernel.struct_size is 7"}},
      {[](auto& k) { k.name = "fa9"; }, {BITFLASH_USAGE, "fa9"}},
      {[](auto& k) { k.name = ""; }, {BITFLASH_USAGE, "fa2"}},
      {[](auto& k) { k.gpu = "h2000"; }, {BITFLASH_USAGE, "h2000"}},
      {[](auto& k) { k.gpu = "/no/such/gpu.json"; }, {BITFLASH_INPUT, "/no/such/gpu.json"}},
      {[](auto& k) { k.name = "fa3", k.gpu = "a100-80gb"; }, {BITFLASH_USAGE, "a100-80gb is sm80"}},
      {[](auto& k) { k.Br = 17; }, {BITFLASH_USAGE, "Br is 17"}},
      {[](auto& k) { k.Br = -16; }, {BITFLASH_USAGE, "kernel.Br is -16"}},
      {[](auto& k) { k.Bc = INT64_MAX; }, {BITFLASH_USAGE, "kernel.Bc is 9223372036854775807"}},
      {[](auto& k) { k.Br = k.Bc = 1024; }, {BITFLASH_USAGE, "1024x1024"}},
      {[](auto& k) { k.warps = 33; }, {BITFLASH_USAGE, "warps is 33"}},
      {[](auto& k) { k.stages = int64_t{1} << 40; }, {BITFLASH_USAGE, "stages is 1099511627776"}},
      {[](auto& k) { k.splits = 2; }, {BITFLASH_USAGE, "this kernel does not split"}},
      {[](auto& k) { k.part_keys = 1 << 20; }, {BITFLASH_USAGE, "part_keys is 1048576"}},
      {[](auto& k) { k.page_size = 64; }, {BITFLASH_USAGE, "page_size is 64"}},
      {[](auto& k) { k.pack_gqa = 2; }, {BITFLASH_USAGE, "kernel.pack_gqa is 2"}},
      {[](auto& k) { k.fp32_scores = 1; }, {BITFLASH_USAGE, "fp32_scores"}},
  };
  SmallCall call;
  for (const auto& c : cases) {
    auto k = Sized<bitflash_kernel>();
    c.change(k);
    CheckRefused(CreateAndDestroy(&call.problem, &k), c.refused);
    CheckRefused(bitflash_simulate(&call.problem, &k, &call.inputs, &call.outputs, nullptr), c.refused);
  }
}

TEST_CASE("C: what is not modelled to the bit is undecided; LSE of a kernel without one is refused") {
  SmallCall call;
  bitflash_problem p = call.problem;
  p.softcap = 30;
  CheckRefused(bitflash_simulate(&p, nullptr, &call.inputs, &call.outputs, nullptr), {BITFLASH_UNDECIDED, "softcap"});
  p = call.problem;
  p.format = BITFLASH_E4M3;
  auto kernel = Sized<bitflash_kernel>();
  kernel.name = "fa3";
  CHECK(CreateAndDestroy(&p, &kernel) == BITFLASH_OK);  // but counted
  CheckRefused(bitflash_simulate(&p, &kernel, &call.inputs, &call.outputs, nullptr), {BITFLASH_UNDECIDED, "e4m3"});
  kernel.name = "fa1";
  CheckRefused(bitflash_simulate(&call.problem, &kernel, &call.inputs, &call.outputs, nullptr),
               {BITFLASH_USAGE, "fa1 keeps the maximum and the sum of each row"});
}

TEST_CASE("C: buffers of another size, place or alignment are refused") {
  using Change = std::function<void(bitflash_inputs&, bitflash_outputs&)>;
  const auto odd = [](auto* pointer) {
    return reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(reinterpret_cast<uintptr_t>(pointer) + 1);
  };
  const struct {
    Change change;
    Refused refused;
  } cases[] = {
      {[](auto& in, auto&) { in.struct_size = 16; }, {BITFLASH_USAGE, "inputs.struct_size is 16"}},
      {[](auto& in, auto&) { in.q = nullptr; }, {BITFLASH_USAGE, "inputs.q is NULL"}},
      {[](auto& in, auto&) { in.k = nullptr; }, {BITFLASH_USAGE, "inputs.k is NULL"}},
      {[](auto& in, auto&) { in.v = nullptr; }, {BITFLASH_USAGE, "inputs.v is NULL"}},
      {[](auto& in, auto&) { in.q_bytes -= 1; }, {BITFLASH_USAGE, "inputs.q_bytes is 37887: expected 37888"}},
      {[](auto& in, auto&) { in.k_bytes *= 2; }, {BITFLASH_USAGE, "inputs.k_bytes is 84992: expected 42496"}},
      {[](auto& in, auto&) { in.v_bytes = ~uint64_t{0}; }, {BITFLASH_USAGE, "inputs.v_bytes is 18446744073709551615"}},
      {[&](auto& in, auto&) { in.q = odd(in.q); }, {BITFLASH_USAGE, "inputs.q is at an odd address"}},
      {[](auto&, auto& out) { out.struct_size = 0; }, {BITFLASH_USAGE, "outputs.struct_size is 0"}},
      {[](auto&, auto& out) { out.o = nullptr; }, {BITFLASH_USAGE, "outputs.o is NULL: expected a buffer of"}},
      {[](auto&, auto& out) { out.o_bytes -= 1; }, {BITFLASH_USAGE, "outputs.o_bytes is"}},
      {[](auto&, auto& out) { out.lse_bytes -= 1; }, {BITFLASH_USAGE, "outputs.lse_bytes is"}},
      {[&](auto&, auto& out) { out.lse = odd(out.lse); }, {BITFLASH_USAGE, "outputs.lse is at an odd address"}},
      {[](auto& in, auto& out) { in.v = out.o; }, {BITFLASH_USAGE, "outputs.o overlaps inputs.v"}},
      {[](auto&, auto& out) { out.lse = out.o; }, {BITFLASH_USAGE, "outputs.o overlaps outputs.lse"}},
  };
  SmallCall call;
  for (const auto& c : cases) {
    bitflash_inputs in = call.inputs;
    bitflash_outputs out = call.outputs, truth = call.truth;
    c.change(in, out);
    CheckRefused(bitflash_simulate(&call.problem, nullptr, &in, &out, nullptr), c.refused);
    in = call.inputs;
    c.change(in, truth);
    CheckRefused(bitflash_golden(&call.problem, &in, &truth, nullptr), c.refused);
  }
  auto execution = Sized<bitflash_execution>();
  execution.threads = -1;
  const Refused threads{BITFLASH_USAGE, "execution.threads is -1"};
  CheckRefused(bitflash_simulate(&call.problem, nullptr, &call.inputs, &call.outputs, &execution), threads);
  CheckRefused(bitflash_golden(&call.problem, &call.inputs, &call.truth, &execution), threads);
  CHECK(call.o.front() == 0xEEEE);
  CHECK(call.true_o.front() == 12345);
}

TEST_CASE("C: NULL is refused everywhere, and destroying it does nothing") {
  bitflash_count_destroy(nullptr);
  SmallCall call;
  bitflash_count* count = nullptr;
  CheckRefused(bitflash_count_create(nullptr, nullptr, &count), {BITFLASH_USAGE, "problem is NULL"});
  CheckRefused(bitflash_count_create(&call.problem, nullptr, nullptr), {BITFLASH_USAGE, "count is NULL"});
  CheckRefused(bitflash_simulate(nullptr, nullptr, &call.inputs, &call.outputs, nullptr),
               {BITFLASH_USAGE, "problem is NULL"});
  CheckRefused(bitflash_simulate(&call.problem, nullptr, nullptr, &call.outputs, nullptr),
               {BITFLASH_USAGE, "inputs is NULL"});
  CheckRefused(bitflash_golden(&call.problem, &call.inputs, nullptr, nullptr), {BITFLASH_USAGE, "outputs is NULL"});

  REQUIRE(bitflash_count_create(&call.problem, nullptr, &count) == BITFLASH_OK);
  const std::unique_ptr<bitflash_count, decltype(&bitflash_count_destroy)> owner(count, bitflash_count_destroy);
  int64_t number = 0;
  auto kernel = Sized<bitflash_kernel>();
  auto launch = Sized<bitflash_launch>();
  auto totals = Sized<bitflash_totals>();
  auto traffic = Sized<bitflash_traffic>();
  const Refused no_count{BITFLASH_USAGE, "count is NULL: expected a handle"};
  CheckRefused(bitflash_count_kernel(nullptr, &kernel), no_count);
  CheckRefused(bitflash_count_launches(nullptr, &number), no_count);
  CheckRefused(bitflash_count_launch(nullptr, 0, &launch), no_count);
  CheckRefused(bitflash_count_totals(nullptr, 0, &totals), no_count);
  CheckRefused(bitflash_count_entries(nullptr, 0, &number), no_count);
  CheckRefused(bitflash_count_entry(nullptr, 0, 0, &traffic), no_count);
  CheckRefused(bitflash_count_kernel(count, nullptr), {BITFLASH_USAGE, "kernel is NULL"});
  CheckRefused(bitflash_count_launches(count, nullptr), {BITFLASH_USAGE, "launches is NULL"});
  CheckRefused(bitflash_count_launch(count, 0, nullptr), {BITFLASH_USAGE, "launch is NULL"});
  CheckRefused(bitflash_count_totals(count, 0, nullptr), {BITFLASH_USAGE, "totals is NULL"});
  CheckRefused(bitflash_count_entries(count, 0, nullptr), {BITFLASH_USAGE, "entries is NULL"});
  CheckRefused(bitflash_count_entry(count, 0, 0, nullptr), {BITFLASH_USAGE, "traffic is NULL"});

  auto difference = Sized<bitflash_difference>();
  CheckRefused(bitflash_compare(BITFLASH_FP16, nullptr, call.o.data(), 1, &difference), {BITFLASH_USAGE, "a is NULL"});
  CheckRefused(bitflash_compare(BITFLASH_FP16, call.o.data(), nullptr, 1, &difference), {BITFLASH_USAGE, "b is NULL"});
  CheckRefused(bitflash_compare(BITFLASH_FP16, call.o.data(), call.o.data(), 1, nullptr),
               {BITFLASH_USAGE, "difference is NULL"});
  CheckRefused(bitflash_value(BITFLASH_FP16, 0, nullptr), {BITFLASH_USAGE, "value is NULL"});
  CheckRefused(bitflash_kernel_at(0, nullptr), {BITFLASH_USAGE, "kernel is NULL"});
  CheckRefused(bitflash_gpu_at(0, nullptr), {BITFLASH_USAGE, "gpu is NULL"});
}

TEST_CASE("C: indices, formats and lengths out of range") {
  SmallCall call;
  bitflash_count* count = nullptr;
  REQUIRE(bitflash_count_create(&call.problem, nullptr, &count) == BITFLASH_OK);
  const std::unique_ptr<bitflash_count, decltype(&bitflash_count_destroy)> owner(count, bitflash_count_destroy);
  auto launch = Sized<bitflash_launch>();
  auto totals = Sized<bitflash_totals>();
  auto traffic = Sized<bitflash_traffic>();
  int64_t entries = 0;
  for (const int64_t bad : {int64_t{-2}, int64_t{1}, INT64_MAX, INT64_MIN}) {
    CheckRefused(bitflash_count_launch(count, bad, &launch), {BITFLASH_USAGE, "index is "});
    CheckRefused(bitflash_count_totals(count, bad, &totals), {BITFLASH_USAGE, "launch (-1: all) is "});
    CheckRefused(bitflash_count_entries(count, bad, &entries), {BITFLASH_USAGE, "launch (-1: all) is "});
  }
  CheckRefused(bitflash_count_launch(count, -1, &launch), {BITFLASH_USAGE, "index is -1"});
  REQUIRE(bitflash_count_entries(count, 0, &entries) == BITFLASH_OK);
  CheckRefused(bitflash_count_entry(count, 0, entries, &traffic), {BITFLASH_USAGE, "index is "});
  CheckRefused(bitflash_count_entry(count, 0, -1, &traffic), {BITFLASH_USAGE, "index is -1"});

  auto kernel = Sized<bitflash_kernel_info>();
  auto gpu = Sized<bitflash_gpu_info>();
  CheckRefused(bitflash_kernel_at(bitflash_kernels(), &kernel), {BITFLASH_USAGE, "index is "});
  CheckRefused(bitflash_gpu_at(-1, &gpu), {BITFLASH_USAGE, "index is -1"});

  auto difference = Sized<bitflash_difference>();
  double value = 0;
  CheckRefused(bitflash_compare(99, call.o.data(), call.o.data(), 1, &difference), {BITFLASH_USAGE, "format is 99"});
  CheckRefused(bitflash_compare(BITFLASH_FP16, call.o.data(), call.o.data(), -1, &difference),
               {BITFLASH_USAGE, "elements is -1"});
  CheckRefused(bitflash_compare(BITFLASH_FP16, call.o.data(), call.o.data(), INT64_MAX, &difference),
               {BITFLASH_USAGE, "2^62"});
  CheckRefused(bitflash_value(-1, 0, &value), {BITFLASH_USAGE, "format is -1"});
}

TEST_CASE("C: structs of an older header lack their last fields, those of a newer one have more") {
  SmallCall call;
  // Up to head_dim: what follows counts as 0, whatever lies there.
  bitflash_problem p = call.problem;
  p.struct_size = offsetof(bitflash_problem, head_dim_v);
  p.head_dim_v = p.format = p.mask = -77;
  CHECK(CreateAndDestroy(&p, nullptr) == BITFLASH_OK);

  // A result is written as far as the caller's struct goes.
  auto old_totals = Sized<bitflash_totals>();
  old_totals.struct_size = offsetof(bitflash_totals, l2_to_sm_read);
  old_totals.l2_to_sm_read = -77;
  bitflash_count* count = nullptr;
  REQUIRE(bitflash_count_create(&call.problem, nullptr, &count) == BITFLASH_OK);
  CHECK(bitflash_count_totals(count, BITFLASH_ALL_LAUNCHES, &old_totals) == BITFLASH_OK);
  CHECK(old_totals.hbm_compulsory_read > 0);
  CHECK(old_totals.l2_to_sm_read == -77);

  struct NewTotals {
    bitflash_totals known;
    int64_t more;
  } new_totals{Sized<bitflash_totals>(), -77};
  new_totals.known.struct_size = sizeof new_totals;
  CHECK(bitflash_count_totals(count, BITFLASH_ALL_LAUNCHES, &new_totals.known) == BITFLASH_OK);
  CHECK(new_totals.known.l2_to_sm_read > 0);
  CHECK(new_totals.known.struct_size == sizeof new_totals);
  CHECK(new_totals.more == 0);
  bitflash_count_destroy(count);

  struct NewProblem {
    bitflash_problem known;
    int64_t more;
  } newer{call.problem, 0};
  newer.known.struct_size = sizeof newer;
  CHECK(CreateAndDestroy(&newer.known, nullptr) == BITFLASH_OK);
  newer.more = 1;
  CheckRefused(CreateAndDestroy(&newer.known, nullptr), {BITFLASH_USAGE, "a field beyond the"});
}

TEST_CASE("C: a message is its thread's own, stays until the next failure, and has an end") {
  CheckRefused(bitflash_kernel_at(-1, nullptr), {BITFLASH_USAGE, "kernel is NULL"});
  std::string at_start = "?", later;
  std::thread([&] {
    at_start = bitflash_last_error();
    bitflash_value(-1, 0, nullptr);
    later = bitflash_last_error();
  }).join();
  CHECK(at_start.empty());
  CHECK(later.find("format is -1") != std::string::npos);
  CHECK(bitflash_kernels() > 0);  // a success leaves the message
  CHECK(std::string(bitflash_last_error()).find("kernel is NULL") != std::string::npos);

  SmallCall call;
  auto kernel = Sized<bitflash_kernel>();
  for (const size_t length : {5000, 5001, 5002}) {
    std::string name;
    while (name.size() < length) name += "\u20ac";  // three bytes
    name.insert(0, length % 3, 'x');
    kernel.gpu = name.c_str();
    CHECK(CreateAndDestroy(&call.problem, &kernel) == BITFLASH_USAGE);
    const std::string message = bitflash_last_error();
    CHECK(message.size() < 2048);
    CHECK(message.size() > 2000);
    CHECK(message.ends_with("..."));
    CHECK(message[message.size() - 4] == "\u20ac"[2]);  // no character is cut
  }
}

TEST_CASE("C: progress is told, and cancels") {
  SmallCall call;
  struct Seen {
    int calls = 0, cancel_at = 1 << 30;
    double last = 0;
    std::thread::id thread = std::this_thread::get_id();
  } seen;
  auto execution = Sized<bitflash_execution>();
  execution.threads = 2;
  execution.user = &seen;
  execution.progress = [](double share, void* user) {
    Seen& s = *static_cast<Seen*>(user);
    if (s.thread != std::this_thread::get_id() || share < 0 || share > 1) std::abort();
    s.last = share;
    return ++s.calls >= s.cancel_at ? 1 : 0;
  };
  REQUIRE(bitflash_simulate(&call.problem, nullptr, &call.inputs, &call.outputs, &execution) == BITFLASH_OK);
  execution.threads = 1;
  REQUIRE(bitflash_simulate(&call.problem, nullptr, &call.inputs, &call.outputs, &execution) == BITFLASH_OK);
  CHECK(seen.last == 1);
  const int all = seen.calls;
  CHECK(all >= 8);  // one block a head

  seen = {0, 2};
  CheckRefused(bitflash_simulate(&call.problem, nullptr, &call.inputs, &call.outputs, &execution),
               {BITFLASH_CANCELLED, "cancelled by the progress callback"});
  CHECK(seen.calls == 2);
  seen = {0, 1};
  CheckRefused(bitflash_golden(&call.problem, &call.inputs, &call.truth, &execution),
               {BITFLASH_CANCELLED, "cancelled"});
}

}  // namespace
}  // namespace bitflash::verify
