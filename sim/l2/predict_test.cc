// What every prediction must satisfy, whatever the GPU does: bounds, reuse, warm starts, order of events, and how far
// the closed form is from the replay.
#include "sim/l2/predict.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <vector>

#include "data/attention_testing.h"
#include "sim/l2/closed_form.h"

namespace bitflash::sim::l2 {
namespace {

using data::PlainAttention;

struct Asked {
  const Kernel* kernel;
  Attention attention;
  Tiling tiling;
  Count count;

  Predicted operator()(const data::Gpu& gpu, PredictOptions options) const {
    return Predict(*kernel, attention, tiling, gpu, count, options);
  }
};

Asked Ask(const char* name, const Attention& a, const data::Gpu& gpu) {
  const Kernel& kernel = FindKernel(name);
  const Tiling t = kernel.DefaultTiling(a, gpu);
  return {&kernel, a, t, CountKernel(kernel, a, t, gpu)};
}

std::vector<Asked> Problems(const data::Gpu& gpu) {
  std::vector<Asked> problems;
  const data::Mask causal = data::Mask::Causal();
  for (const char* kernel : {"standard", "fa1", "fa2", "fa3", "pytorch-fa2", "cudnn-9.19-sm90"}) {
    if (FindKernel(kernel).min_arch > std::stoi(gpu.arch.substr(2))) continue;
    if (FindKernel(kernel).mma == MmaInstruction::kWgmma && gpu.arch != "sm90") continue;
    problems.push_back(Ask(kernel, PlainAttention(2, 4, 2, 1024, 1024, 64), gpu));
    problems.push_back(Ask(kernel, PlainAttention(1, 4, 4, 777, 1000, 128, causal), gpu));
  }
  problems.push_back(Ask("split-kv", PlainAttention(2, 8, 2, 1, 4096, 128), gpu));
  problems.push_back(Ask("pytorch-fa2", PlainAttention(2, 8, 2, 1, 4096, 128), gpu));
  problems.push_back(Ask("fa2", PlainAttention(1, 2, 2, 512, 4096, 128, data::Mask::Window(255, 0)), gpu));
  return problems;
}

TEST_CASE("compulsory <= DRAM reads <= requested on every GPU, and nothing that is written is lost") {
  for (const char* name : {"h100", "h200", "a100-80gb", "l40s", "b200"}) {
    const data::Gpu gpu = data::LoadGpu(name);
    for (const Asked& asked : Problems(gpu)) {
      for (const Mode mode : {Mode::kExact, Mode::kClosedForm}) {
        const Predicted p = asked(gpu, {mode, Start::kFlushed, 1, {}});
        CAPTURE(name);
        CAPTURE(asked.kernel->name);
        CAPTURE(data::ToString(asked.attention));
        CAPTURE(static_cast<int>(mode));
        REQUIRE(p.launches.size() == asked.count.launches.size());
        for (const Prediction& launch : p.launches) {
          CAPTURE(launch.name);
          const int64_t overhead = gpu.launch_dram_bytes.value_or(0);
          // A granule is read whole, also where a ragged or masked tile uses a part of it.
          CHECK(launch.dram_read.value >= launch.compulsory_read * 0.999);
          CHECK(launch.dram_read.value <= launch.requested_read * 1.2 + overhead + 65536);
          const int64_t written = launch.dram_write.value - launch.earlier_write + launch.dirty_at_end.value;
          CHECK(written >= launch.compulsory_write * 0.999);
          CHECK(launch.earlier_write <= gpu.l2_dirty_at_start_bytes.value_or(0));
          CHECK(launch.dram_read.low <= launch.dram_read.value);
          CHECK(launch.dram_read.value <= launch.dram_read.high);
        }
      }
    }
  }
}

TEST_CASE("a problem that fits is read once, and when it ran just before not at all") {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Asked asked = Ask("fa2", PlainAttention(1, 8, 8, 1024, 1024, 128), gpu);
  for (const Mode mode : {Mode::kExact, Mode::kClosedForm}) {
    const int64_t overhead = *gpu.launch_dram_bytes;
    const Prediction cold = asked(gpu, {mode, Start::kFlushed, 1, {}}).total;
    CHECK(cold.dram_read.value == cold.compulsory_read + overhead);
    CHECK(cold.dram_write.value == 0);
    const Prediction again = asked(gpu, {mode, Start::kAgain, 1, {}}).total;
    CHECK(again.dram_read.value == overhead);
    CHECK(again.dirty_at_start == cold.dirty_at_end.value);
    CHECK(again.dirty_at_end == cold.dirty_at_end);
  }
}

TEST_CASE("standard attention at a decode size: S and P are found in L2 by the next launch") {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Asked asked = Ask("standard", PlainAttention(1, 8, 8, 1024, 1024, 128), gpu);  // S and P of 16.8 MB each
  for (const Mode mode : {Mode::kExact, Mode::kClosedForm}) {
    const Predicted stream = asked(gpu, {mode, Start::kStream, 1, {}});
    const Predicted flushed = asked(gpu, {mode, Start::kFlushed, 1, {}});
    CHECK(flushed.launches[1].dram_read.value > 16'000'000);
    CHECK(stream.launches[1].dram_read.value < 3'000'000);  // an H100 counts 1.2 to 2.8 MB of as large an S
    CHECK(stream.launches[0].dram_read == flushed.launches[0].dram_read);
  }
}

TEST_CASE("decode reads K and V once, whoever reads them") {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Asked asked = Ask("split-kv", PlainAttention(8, 32, 8, 1, 8192, 128), gpu);
  for (const Mode mode : {Mode::kExact, Mode::kClosedForm}) {
    const Predicted p = asked(gpu, {mode, Start::kStream, 1, {}});
    const double ratio =
        static_cast<double>(p.total.dram_read.value) / static_cast<double>(p.launches[0].compulsory_read);
    CHECK(ratio == doctest::Approx(1).epsilon(0.01));
  }
}

TEST_CASE("the first FlashAttention reads and writes O again from HBM where heads in flight do not fit L2") {
  struct Case {
    const char* gpu;
    int64_t seqlen;
    bool fits;
  };
  for (const Case& c :
       {Case{"t4", 1024, false}, {"a100-80gb", 1024, true}, {"a100-80gb", 3072, false}, {"h100", 4096, false}}) {
    CAPTURE(c.gpu);
    CAPTURE(c.seqlen);
    const data::Gpu gpu = data::LoadGpu(c.gpu);
    Attention a = PlainAttention(1, 32, 32, c.seqlen, c.seqlen, 128);
    a.format = data::Format::kFp16;
    const Asked asked = Ask("fa1", a, gpu);
    const Prediction exact = asked(gpu, {Mode::kExact, Start::kStream, 1, {}}).total;
    const Prediction closed = asked(gpu, {Mode::kClosedForm, Start::kStream, 1, {}}).total;
    const double reads = static_cast<double>(exact.dram_read.value),
                 writes = static_cast<double>(exact.hbm_bytes()) - reads;
    CHECK((reads > 0.9 * static_cast<double>(exact.requested_read)) == !c.fits);
    CHECK(static_cast<double>(closed.dram_read.value) == doctest::Approx(reads).epsilon(0.05));
    CHECK(static_cast<double>(closed.hbm_bytes() - closed.dram_read.value) == doctest::Approx(writes).epsilon(0.05));
  }
}

TEST_CASE("the same bits every time; far from the capacity other runs give about the same bytes") {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Asked asked = Ask("fa2", PlainAttention(1, 2, 2, 8192, 8192, 128, data::Mask::Causal()), gpu);
  const Prediction one = asked(gpu, {}).total, two = asked(gpu, {}).total;
  CHECK(one.dram_read == two.dram_read);
  CHECK(one.dram_write == two.dram_write);
  CHECK(one.fabric == two.fabric);
  const Prediction three = asked(gpu, {Mode::kExact, Start::kStream, 3, {}}).total;
  CHECK(three.dram_read.value == one.dram_read.value);
  CHECK(three.dram_read.low <= one.dram_read.value);
  CHECK(static_cast<double>(three.dram_read.high) < 1.02 * static_cast<double>(one.dram_read.value));
}

TEST_CASE("events come in the order of time, from every SM, and add up to what the SMs ask for") {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Asked asked = Ask("fa2", PlainAttention(1, 16, 16, 2048, 2048, 128), gpu);
  double last = 0;
  int64_t read = 0, written = 0, dram = 0;
  std::map<int64_t, int> sms;
  PredictOptions options;
  options.observer = [&](const Event& event) {
    CHECK(event.seconds >= last);
    last = event.seconds;
    ++sms[event.sm];
    const int64_t bytes = event.hit_bytes + event.fabric_bytes + event.dram_bytes;
    (event.write ? written : read) += bytes;
    dram += event.dram_bytes;
  };
  const Predicted p = asked(gpu, options);
  CHECK(sms.size() == static_cast<size_t>(gpu.sms));
  CHECK(read == p.total.requested_read);
  CHECK(dram + *gpu.launch_dram_bytes == p.total.dram_read.value);
  CHECK(static_cast<double>(written) == doctest::Approx(static_cast<double>(p.total.requested_write)).epsilon(0.05));
}

TEST_CASE("closed form and replay, over lengths from far below the knee to far beyond it") {
  const data::Gpu gpu = data::LoadGpu("h100");
  std::vector<double> outside, inside;
  for (const char* kernel : {"fa2", "fa3", "pytorch-fa2"}) {
    for (const int64_t length : {1024, 4096, 8192, 16384, 24576}) {
      const Asked asked = Ask(kernel, PlainAttention(1, 2, 2, length, length, 128), gpu);
      const Prediction exact = asked(gpu, {Mode::kExact, Start::kFlushed, 1, {}}).total;
      const Prediction closed = asked(gpu, {Mode::kClosedForm, Start::kFlushed, 1, {}}).total;
      const double difference =
          std::abs(static_cast<double>(closed.dram_read.value) / static_cast<double>(exact.dram_read.value) - 1);
      (exact.in_knee() ? inside : outside).push_back(difference);
    }
  }
  std::ranges::sort(outside);
  std::printf("closed form against replay: median %.4f, most %.3f outside the knee (%zu)\n",
              outside[outside.size() / 2], outside.back(), outside.size());
  CHECK(outside[outside.size() / 2] < 0.001);
  CHECK(outside.back() < 0.15);
}

TEST_CASE("closed form and replay where blocks that share keys drift apart at the edge of the capacity") {
  const data::Gpu gpu = data::LoadGpu("h100");
  const data::Mask causal = data::Mask::Causal();
  const Asked problems[] = {Ask("cudnn-9.19-sm90", PlainAttention(1, 1, 1, 32768, 49152, 128), gpu),
                            Ask("cudnn-9.19-sm90", PlainAttention(1, 1, 1, 65536, 65536, 128, causal), gpu),
                            Ask("pytorch-fa2", PlainAttention(1, 2, 2, 24576, 24576, 128, causal), gpu)};
  for (const Asked& asked : problems) {
    const Prediction exact = asked(gpu, {Mode::kExact, Start::kFlushed, 1, {}}).total;
    const Prediction closed = asked(gpu, {Mode::kClosedForm, Start::kFlushed, 1, {}}).total;
    CAPTURE(asked.kernel->name);
    CHECK(static_cast<double>(exact.dram_read.value) > 1.1 * static_cast<double>(exact.compulsory_read));
    CHECK(static_cast<double>(closed.dram_read.value) ==
          doctest::Approx(static_cast<double>(exact.dram_read.value)).epsilon(0.08));
    CHECK(closed.dram_read.low < closed.dram_read.high);
  }
}

TEST_CASE("the miss rate rises from 0 to 1 around a load of 1") {
  CHECK(MissRate(0) == 0);
  CHECK(MissRate(0.9) == 0);
  CHECK(MissRate(2) == 1);
  for (double load = 0.5; load < 1.5; load += 0.01) CHECK(MissRate(load) <= MissRate(load + 0.01));
}

}  // namespace
}  // namespace bitflash::sim::l2
