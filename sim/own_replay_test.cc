// What the CUDA kernels of gpu/ gave and moved on an H200, without a GPU: every bit of O and LSE, and the bytes from L2
// to the SMs. data/golden/README.md says how it was recorded.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>

#include "sim/count.h"
#include "sim/golden_replay.h"
#include "sim/nsight_csv.h"

namespace bitflash::sim {
namespace {

// The twin's own tile for the problem, with the choices that the caller of the CUDA kernel made.
Tiling TwinTiling(const Kernel& kernel, const Attention& a, const Gpu& gpu, int64_t chunk, int64_t page_size,
                  bool fp32_scores) {
  Tiling t = kernel.DefaultTiling(a, gpu);
  if (kernel.fixed_parts) t.part_keys = chunk;
  t.page_size = page_size;
  t.fp32_scores = fp32_scores;
  return t;
}

struct OwnReplay : Replay {
  int64_t cases_of_file = 0;
};

// Replays those cases of data/golden/own/NAME.json that take at most `most` multiply-adds.
OwnReplay ReplayOwn(const std::string& name, double most) {
  const Gpu gpu = data::LoadGpu("h200");
  const Kernel& kernel = FindKernel(name);
  OwnReplay replay;
  for (const data::GoldenCase& golden : GoldenCases("own/" + name)) {
    ++replay.cases_of_file;
    if (Work(golden.attention) > most) continue;
    CAPTURE(golden.name);
    REQUIRE(golden.backend == "bitflash-" + name);
    REQUIRE(golden.options);
    const data::GoldenOptions& options = *golden.options;
    const Tiling t = TwinTiling(kernel, golden.attention, gpu, options.chunk, options.page_size, options.fp32_scores);
    CHECK(t.Br == options.Br);
    CHECK(t.Bc == options.Bc);
    CHECK(t.warps == options.warps);
    CHECK(golden.IsRepeatable());
    ReplayCase(golden, kernel, t, gpu.arch, replay);
  }
  Print("own/" + name, replay);
  return replay;
}

TEST_CASE("small recordings of our own kernels are reproduced bit for bit") {
  CHECK(ReplayOwn("fa2", 2e8).cases >= 55);
  CHECK(ReplayOwn("standard", 2e8).cases >= 60);
  CHECK(ReplayOwn("split-kv", 2e8).cases >= 55);
}

TEST_CASE("every recording of our own kernels is reproduced bit for bit" * doctest::test_suite("slow")) {
  int64_t cases = 0, elements = 0;
  for (const char* name : {"fa2", "standard", "split-kv"}) {
    const OwnReplay replay = ReplayOwn(name, 1e18);
    CHECK(replay.cases == replay.cases_of_file);
    CHECK(replay.heads_o_differ == 0);
    CHECK(replay.heads_lse_differ == 0);
    cases += replay.cases;
    elements += replay.elements;
  }
  CHECK(cases == 226);
  CHECK(elements >= 100'000'000);
}

// The mask of a row: "window(1023;0)".
data::Mask MaskOf(std::string text) {
  for (char& letter : text) letter = letter == ';' ? ',' : letter;
  return data::ParseMask(text);
}

// Launches that differ by more than 0.1 %, with how much and what is known. The test fails too when one of them fits.
struct Miss {
  const char* launch;
  double percent;
  const char* known;
};
constexpr Miss kMisses[] = {
    {"", 0, ""},
};

TEST_CASE("bytes from L2 to the SMs of our own kernels: within 0.1 % of Nsight's counter on an H200") {
  const data::Gpu gpu = data::LoadGpu("h200");
  int within = 0, exact = 0, missed = 0;
  for (const NsightRow& row : ReadNsight("own/h200_nsight.csv")) {
    const std::string name = row.at("kernel") + " " + row.at("case") + " " + row.at("launch");
    CAPTURE(name);
    const Kernel& kernel = FindKernel(row.at("kernel"));
    const Attention a{.batch = Number(row, "batch"),
                      .heads_q = Number(row, "heads_q"),
                      .heads_kv = Number(row, "heads_kv"),
                      .seqlen_q = Number(row, "seqlen_q"),
                      .seqlen_k = Number(row, "seqlen_k"),
                      .head_dim = Number(row, "head_dim"),
                      .head_dim_v = Number(row, "head_dim"),
                      .mask = MaskOf(row.at("mask")),
                      .format = data::ParseFormat(row.at("dtype"))};
    const Tiling t =
        TwinTiling(kernel, a, gpu, Number(row, "chunk"), Number(row, "page_size"), Number(row, "fp32_scores") != 0);
    CAPTURE(ToString(t));
    const Count count = CountKernel(kernel, a, t, gpu);
    const LaunchCount& launch = count.launches.at(static_cast<size_t>(Number(row, "step")));
    CHECK(launch.name == row.at("launch"));
    const int64_t counted = Sum(launch.ledger.l2_to_sm).read, measured = Number(row, "xbar_read_bytes");
    CAPTURE(counted);
    CAPTURE(measured);
    const double percent = Percent(measured, counted);
    std::printf("%-90s %15lld counted %15lld measured %+.4f %%\n", name.c_str(), static_cast<long long>(counted),
                static_cast<long long>(measured), percent);
    const Miss* miss = nullptr;
    for (const Miss& m : kMisses) miss = name == m.launch ? &m : miss;
    if (miss) {
      CHECK(percent == doctest::Approx(miss->percent).epsilon(0.005));
      ++missed;
      continue;
    }
    CHECK(std::abs(percent) < 0.1);
    exact += measured == counted;
    ++within;
  }
  std::printf("%d launches within 0.1 %%, %d of them to the byte, %d not\n", within, exact, missed);
  CHECK(within + missed == 39);
  CHECK(missed == 0);
}

}  // namespace
}  // namespace bitflash::sim
