// The counting machine against Nsight Compute on our own CUDA kernels: bytes that the SMs received from L2, and shared
// memory. data/golden/README.md says how they were recorded.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>

#include "sim/count.h"
#include "sim/nsight_csv.h"
#include "sim/own_recording.h"

namespace bitflash::sim {
namespace {

// The mask of a row: "window(1023;0)".
data::Mask MaskOf(std::string text) {
  for (char& letter : text) letter = letter == ';' ? ',' : letter;
  return data::ParseMask(text);
}

std::string NameOf(const NsightRow& row) { return row.at("kernel") + " " + row.at("case") + " " + row.at("launch"); }

// What the twin counts for the launch of a row.
LaunchCount CountOf(const NsightRow& row, const Gpu& gpu) {
  const Kernel& kernel = FindKernel(row.at("kernel"));
  const Attention a = ProblemOf(row, MaskOf(row.at("mask")));
  const Tiling t =
      TwinTiling(kernel, a, gpu, Number(row, "chunk"), Number(row, "page_size"), Number(row, "fp32_scores") != 0);
  const Count count = CountKernel(kernel, a, t, gpu);
  const auto launch = std::ranges::find(count.launches, row.at("launch"), &LaunchCount::name);
  REQUIRE(launch != count.launches.end());
  return *launch;
}

// The rows of the recording that some twin has.
std::vector<NsightRow> Rows(const OwnRecording& recording) {
  std::vector<NsightRow> rows = ReadNsight(recording.nsight);
  CHECK(static_cast<int64_t>(rows.size()) == recording.nsight_launches);
  // All four again in one run, on an H100, with more of split-kv: parts of a warpgroup, ragged ones, sequences of one
  // part (h100_nsight_all.json).
  const std::vector<NsightRow> later = ReadNsight("h100_nsight_all.csv");
  CHECK(later.size() == 67);
  rows.insert(rows.end(), later.begin(), later.end());
  std::erase_if(rows, [](const NsightRow& row) { return row.at("launch") == kCounterReset; });
  return rows;
}

// Blocks of split_kv_combine that share a row each ask for the sectors of its m and l; where two of them meet on an SM,
// the second finds them in L1. Of the sectors that all but the first ask for, at most this share.
constexpr double kFoundInL1 = 0.2;

TEST_CASE("bytes from L2 to the SMs of our own kernels: within 0.1 % of Nsight's counter") {
  const OwnRecording recording = ReadOwnRecording();
  int64_t within = 0, exact = 0, found_in_l1 = 0;
  const std::vector<NsightRow> rows = Rows(recording);
  for (const NsightRow& row : rows) {
    const std::string name = NameOf(row);
    CAPTURE(name);
    const LaunchCount launch = CountOf(row, recording.gpu);
    const int64_t counted = Sum(launch.ledger.l2_to_sm).read, measured = Number(row, "xbar_read_bytes");
    CAPTURE(counted);
    CAPTURE(measured);
    // With a mask the blocks of fa3 draw tiles from a counter, whose answers come through the crossbar too.
    if (launch.name == "fa3_forward" && row.at("mask") == "full") CHECK(measured == counted);
    const double percent = Percent(measured, counted);
    if (launch.name == "split_kv_combine") {
      const int64_t statistics =
          At(launch.ledger.l2_to_sm, TensorId::kM).read + At(launch.ledger.l2_to_sm, TensorId::kL).read;
      CHECK(measured <= counted);
      CHECK(static_cast<double>(counted - measured) <= kFoundInL1 * static_cast<double>(statistics));
      CHECK(percent > -3);
      if (percent < -0.1) {
        std::printf("%s: %.3f %%: sectors found in L1\n", name.c_str(), percent);
        ++found_in_l1;
        continue;
      }
    } else {
      CHECK(measured >= counted);  // the tile traffic is a floor: nothing that the model charges goes unread
    }
    CHECK(std::abs(percent) < 0.1);
    exact += measured == counted;
    ++within;
  }
  std::printf("%lld launches of our own kernels within 0.1 %%, %lld of them to the byte; %lld not\n",
              static_cast<long long>(within), static_cast<long long>(exact), static_cast<long long>(found_in_l1));
  CHECK(within + found_in_l1 == static_cast<int64_t>(rows.size()));
}

TEST_CASE("all launches of a kernel together: within 0.1 % of Nsight's counter") {
  struct Bytes {
    int64_t counted = 0, measured = 0;
  };
  std::map<std::string, Bytes> calls;
  const OwnRecording recording = ReadOwnRecording();
  for (const NsightRow& row : Rows(recording)) {
    Bytes& call = calls[row.at("kernel") + " " + row.at("case")];
    call.counted += Sum(CountOf(row, recording.gpu).ledger.l2_to_sm).read;
    call.measured += Number(row, "xbar_read_bytes");
  }
  for (const auto& [key, call] : calls) {
    const std::string name = key;  // clang 14 captures no structured bindings
    CAPTURE(name);
    const double percent = Percent(call.measured, call.counted);
    std::printf("%-60s %8.4f %%\n", name.c_str(), percent);
    CHECK(std::abs(percent) < 0.1);
  }
}

// Every row of standard attention: those of own/, and ragged problems (h100_nsight_standard.json).
template <class Body>
void ForStandard(const Body& body) {
  const OwnRecording recording = ReadOwnRecording();
  int rows = 0;
  for (const std::string& file : {recording.nsight, std::string("h100_nsight_standard.csv")}) {
    for (const NsightRow& row : ReadNsight(file)) {
      if (row.at("kernel") != "standard") continue;
      CAPTURE(NameOf(row));
      const LaunchCount launch = CountOf(row, recording.gpu);
      const Traffic moved = Sum(launch.ledger.l2_to_sm);
      CAPTURE(moved.read);
      CAPTURE(moved.write);
      body(row, launch, moved);
      ++rows;
    }
  }
  CHECK(rows == 15 + 39);
}

TEST_CASE("standard attention reads to the byte what Nsight counts: TMA's boxes, and sectors of rows") {
  ForStandard([](const NsightRow& row, const LaunchCount&, const Traffic& moved) {
    CHECK(Number(row, "xbar_read_bytes") == moved.read);
  });
}

// Nobody has derived the other kernels' writes, which are LSE in other pieces than their twins'.
TEST_CASE("and writes to the byte S and O; P and LSE within 0.01 %") {
  ForStandard([](const NsightRow& row, const LaunchCount& launch, const Traffic& moved) {
    const int64_t measured = Number(row, "xbar_write_bytes");
    if (launch.name != "standard_softmax") {
      CHECK(measured == moved.write);
      return;
    }
    CHECK(measured <= moved.write);  // now and then two blocks' LSE seem to share a sector
    CHECK(-Percent(measured, moved.write) < 0.01);
  });
}

TEST_CASE("our own kernels have at least the shared memory of their twins") {
  const OwnRecording recording = ReadOwnRecording();
  for (const NsightRow& row : Rows(recording)) {
    CAPTURE(NameOf(row));
    const LaunchCount launch = CountOf(row, recording.gpu);
    // The kernels fetch ahead where it costs no block of an SM, and split-kv asks for more than it uses so that fewer
    // blocks share an SM.
    CHECK(Number(row, "smem_dynamic") >= launch.resources.shared_bytes);
    // m and l of a row's parts; S of a row of up to 4096 keys, which is in registers.
    if (launch.name == "split_kv_combine" || launch.name == "standard_softmax")
      CHECK(Number(row, "smem_dynamic") == launch.resources.shared_bytes);
  }
}

}  // namespace
}  // namespace bitflash::sim
