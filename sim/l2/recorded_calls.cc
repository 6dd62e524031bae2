#include "sim/l2/recorded_calls.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "data/gpu.h"
#include "data/hash.h"
#include "sim/nsight_csv.h"
#include "sim/splits.h"

namespace bitflash::sim::l2 {
namespace {

bool HeldOut(const std::string& id) { return (data::Fnv1a(id) >> 32 & 1) == 1; }

constexpr int64_t kSector = 32;

void Add(RecordedCall& call, const NsightRow& row, size_t step) {
  const int64_t fabric = row.contains("l2_fabric_sectors") ? kSector * Number(row, "l2_fabric_sectors") : 0;
  call.launches.push_back(
      {step, Number(row, "dram_read_bytes"), Number(row, "dram_write_bytes"), Number(row, "xbar_read_bytes"), fabric});
}

double Quantile(std::vector<double> errors, double p) {
  if (errors.empty()) return 0;
  std::ranges::sort(errors);
  return errors[std::min(errors.size() - 1, static_cast<size_t>(p * static_cast<double>(errors.size())))];
}

}  // namespace

std::vector<RecordedCall> ReadH100(const std::string& which) {
  const data::Gpu gpu = data::LoadGpu("h100");
  std::vector<RecordedCall> calls;
  for (const NsightRow& row : ReadNsight("l2/h100-80gb-hbm3_" + which + ".csv")) {
    const std::string& name = row.at("kernel");
    if (name == "cudnn" && Number(row, "seqlen_q") == 1) continue;
    if (row.at("step") == "0") {
      RecordedCall& call = calls.emplace_back();
      call.id = name + "/" + row.at("case");
      call.gpu = gpu.name;
      call.held_out = Number(row, "held_out") != 0;
      const std::string& state = row.at("state");
      call.start = state == "cold" ? Start::kFlushed : state == "flushed" ? Start::kStream : Start::kAgain;
      call.kernel = &FindKernel(name == "cudnn" ? "cudnn-9.19-sm90" : name);
      call.attention = ProblemOf(row, data::ParseMask(row.at("mask")));
      TilingChoice choice;
      if (Number(row, "fp32_scores") != 0) choice.fp32_scores = true;
      call.tiling = ResolveTiling(*call.kernel, call.attention, gpu, choice);
    }
    // The kernel that was recorded had a second launch for a single part, too.
    if (row.at("launch") == "split_kv_combine" && SplitParts(calls.back().attention, calls.back().tiling) == 1)
      continue;
    // It shared out a row's columns among more blocks, "rows x blocks x 1".
    if (row.at("launch") == "split_kv_combine") {
      const std::string& grid = row.at("grid");
      calls.back().tiling.row_blocks = std::stoll(grid.substr(grid.find('x') + 1));
    }
    Add(calls.back(), row, static_cast<size_t>(Number(row, "step")));
  }
  return calls;
}

std::vector<RecordedCall> ReadH200() {
  const data::Gpu gpu = data::LoadGpu("h200");
  std::vector<RecordedCall> calls;
  for (const NsightRow& row : ReadNsight("h200_nsight_l2_to_sm.csv")) {
    const std::string& kernel = row.at("kernel");
    const bool fa2 = kernel.starts_with("fa2_"), cudnn = kernel.starts_with("cudnn_sm90");
    if (!fa2 && !cudnn) continue;
    if (row.at("step") == "1") {
      RecordedCall& call = calls.emplace_back();
      call.id = "h200/" + row.at("case") + "/" + row.at("backend");
      call.gpu = gpu.name;
      call.held_out = HeldOut(call.id);
      call.kernel = &FindKernel(fa2 ? "pytorch-fa2" : "cudnn-9.19-sm90");
      call.attention = ProblemOf(row, Number(row, "causal") != 0 ? data::Mask::Causal() : data::Mask::Full());
      call.tiling = ResolveTiling(*call.kernel, call.attention, gpu, {});
    }
    Add(calls.back(), row, static_cast<size_t>(Number(row, "step") - 1));
  }
  return calls;
}

std::vector<RecordedCall> ReadOwnForward() {
  const data::Gpu gpu = data::LoadGpu("h200");
  std::vector<RecordedCall> calls;
  for (const NsightRow& row : ReadNsight("own/h200_nsight.csv")) {
    if (!row.at("launch").ends_with("_forward")) continue;  // fa3's counter is cleared by a launch of its own
    RecordedCall& call = calls.emplace_back();
    std::string mask = row.at("mask");
    std::ranges::replace(mask, ';', ',');
    call.id = row.at("kernel") + "/" + row.at("case");
    call.gpu = gpu.name;
    call.held_out = true;
    call.kernel = &FindKernel(row.at("kernel"));
    call.attention = ProblemOf(row, data::ParseMask(mask));
    call.tiling = ResolveTiling(*call.kernel, call.attention, gpu, {});
    Add(call, row, 0);
  }
  return calls;
}

double Compared::read_error() const {
  return static_cast<double>(predicted.dram_read.value) / static_cast<double>(counted.dram_read) - 1;
}

double Compared::sm_read_error() const {
  return static_cast<double>(predicted.requested_read) / static_cast<double>(counted.sm_read) - 1;
}

double Compared::fabric_error() const {
  return static_cast<double>(predicted.fabric) / static_cast<double>(counted.fabric) - 1;
}

int64_t Compared::write_error() const { return predicted.dram_write.value - counted.dram_write; }

bool Compared::read_within() const {
  const int64_t error = predicted.dram_read.value - counted.dram_read;
  return std::abs(error) <= std::max<int64_t>(2'000'000, counted.dram_read / 20);
}

bool Compared::write_within() const {
  return std::abs(write_error()) <= std::max<int64_t>(2'000'000, counted.dram_write / 20);
}

std::vector<Compared> Reading(const std::vector<Compared>& launches, int64_t bytes) {
  std::vector<Compared> some;
  for (const Compared& c : launches) {
    if (c.counted.dram_read >= bytes) some.push_back(c);
  }
  return some;
}

std::vector<Compared> Compare(const std::vector<RecordedCall>& calls, Mode mode, int seeds) {
  std::vector<Compared> compared;
  for (const RecordedCall& call : calls) {
    const data::Gpu gpu = data::LoadGpu(call.gpu);
    const Count count = CountKernel(*call.kernel, call.attention, call.tiling, gpu);
    const Predicted predicted =
        Predict(*call.kernel, call.attention, call.tiling, gpu, count, {mode, call.start, seeds, {}});
    for (const RecordedLaunch& launch : call.launches) {
      if (launch.step >= predicted.launches.size()) continue;
      const Prediction& p = predicted.launches[launch.step];
      compared.push_back({call.id, p.name, call.held_out, p.in_knee(), call.start, p, launch, call.kernel,
                          call.attention, call.tiling, gpu});
    }
  }
  return compared;
}

double ReadError(const std::vector<Compared>& launches, double p) {
  std::vector<double> errors;
  for (const Compared& c : launches) errors.push_back(std::abs(c.read_error()));
  return Quantile(errors, p);
}

double FabricError(const std::vector<Compared>& launches, double p) {
  std::vector<double> errors;
  for (const Compared& c : launches) {
    if (c.counted.fabric >= 5'000'000) errors.push_back(std::abs(c.fabric_error()));
  }
  return Quantile(errors, p);
}

}  // namespace bitflash::sim::l2
