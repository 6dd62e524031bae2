#include "verify/predict/nsight_fields.h"

#include <algorithm>

namespace bitflash::verify {
namespace {

using data::Format;
using sim::Sum;

// Names as Nsight Compute 2024.3 and 2025.3 know them; those of compute capability 10 and 12 as published, not seen.
const std::vector<NsightName> kSmRead = {{"l1tex__m_xbar2l1tex_read_bytes.sum"},
                                         {"l1tex__m_xbar2l1tex_read_sectors.sum", 0, 999, {}, 32}};
const std::vector<NsightName> kSmWrite = {{"l1tex__m_l1tex2xbar_write_bytes.sum"},
                                          {"l1tex__m_l1tex2xbar_write_sectors.sum", 0, 999, {}, 32}};
const std::vector<NsightName> kHbmRead = {{"dram__bytes_read.sum", 0, 99},
                                          {"dram__bytes_op_read.sum", 100},
                                          {"dram__sectors_read.sum", 0, 99, {}, 32},
                                          {"dram__sectors_op_read.sum", 100, 999, {}, 32}};
const std::vector<NsightName> kHbmWrite = {{"dram__bytes_write.sum", 0, 99},
                                           {"dram__bytes_op_write.sum", 100},
                                           {"dram__sectors_write.sum", 0, 99, {}, 32},
                                           {"dram__sectors_op_write.sum", 100, 999, {}, 32}};
// Multiplications and additions of mma.sync and wgmma together. Older GPUs count instructions only.
const std::vector<NsightName> kTensorFlop = {
    {"sm__ops_path_tensor_src_bf16_dst_fp32.sum", 90, 999, {Format::kBf16}},
    {"sm__ops_path_tensor_src_fp16.sum", 90, 999, {Format::kFp16}},
    {"sm__ops_path_tensor_src_tf32_dst_fp32.sum", 90, 999, {Format::kTf32, Format::kFp32}},
    {"sm__ops_path_tensor_src_fp8.sum", 90, 999, {Format::kE4m3, Format::kE5m2}}};
const std::vector<NsightName> kTensorInstructions = {{"sm__inst_executed_pipe_tensor.sum", 90},
                                                     {"smsp__inst_executed_pipe_tensor.sum", 90},
                                                     {"sm__inst_executed_pipe_tensor_op_hmma.sum"}};
const std::vector<NsightName> kSpecialInstructions = {{"sm__inst_executed_pipe_xu.sum"},
                                                      {"smsp__inst_executed_pipe_xu.sum"}};
const std::vector<NsightName> kSharedWavefronts = {{"l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"}};

// True when its matrices go through mma.sync; wgmma and TMA move shared memory past the counters of the LSU pipe.
bool ByMmaSync(const PredictedLaunch& launch) {
  return launch.kernel->mma == sim::MmaInstruction::kMmaSync && !launch.tiling.tma;
}

std::optional<int64_t> TensorFlop(const PredictedLaunch& launch) {
  if (launch.count.ledger.matrix_flops == 0) return {};  // what it does with the tensor pipe is no matrix product
  return launch.count.ledger.matrix_flops;
}

// m16n8 with a depth of 32 bytes of the input format (m16n8k16 of 16-bit formats): 2 * 16 * 8 * k FLOP each.
std::optional<int64_t> TensorInstructions(const PredictedLaunch& launch) {
  if (!ByMmaSync(launch) || launch.count.ledger.matrix_flops == 0) return {};
  return launch.count.ledger.matrix_flops / (2 * 16 * 8 * (32 / data::StorageBytes(launch.attention.format)));
}

// Results of 32 lanes each; a warp's last instruction may have fewer, and conversions take the same unit.
std::optional<int64_t> SpecialInstructions(const PredictedLaunch& launch) {
  if (launch.count.ledger.special_ops == 0) return {};
  return launch.count.ledger.special_ops / 32;
}

std::optional<int64_t> SharedWavefronts(const PredictedLaunch& launch) {
  if (!ByMmaSync(launch)) return {};
  const sim::Traffic shared = Sum(launch.count.ledger.shared);
  return (shared.read + shared.write) / 128;
}

}  // namespace

const std::vector<NsightField>& NsightFields() {
  static const std::vector<NsightField> fields = {
      {"sm.read", "bytes that the SMs received from L2", "byte", true, kSmRead,
       [](const PredictedLaunch& l) -> std::optional<int64_t> { return Sum(l.count.ledger.l2_to_sm).read; }},
      {"sm.write", "bytes that the SMs sent to L2; spilled registers and LSE in smaller pieces add to it", "byte",
       false, kSmWrite,
       [](const PredictedLaunch& l) -> std::optional<int64_t> { return Sum(l.count.ledger.l2_to_sm).write; }},
      {"hbm.read", "bytes read from HBM while the kernel ran", "byte", false, kHbmRead,
       [](const PredictedLaunch& l) { return l.hbm_read; }},
      {"hbm.write", "bytes written to HBM while the kernel ran; what stays in L2 is written later", "byte", false,
       kHbmWrite, [](const PredictedLaunch& l) { return l.hbm_write; }},
      {"tensor.flop", "operations of the tensor cores", "", true, kTensorFlop, TensorFlop},
      {"tensor.instructions", "instructions of the tensor cores, where they are mma.sync", "inst", true,
       kTensorInstructions, TensorInstructions},
      {"special.instructions", "instructions of the special-function unit; conversions add to it", "inst", false,
       kSpecialInstructions, SpecialInstructions},
      {"shared.wavefronts", "passes through shared memory without bank conflicts, of the simulated copies", "", false,
       kSharedWavefronts, SharedWavefronts},
      {"launch.blocks",
       "thread blocks",
       "block",
       false,
       {{"launch__grid_size"}},
       [](const PredictedLaunch& l) -> std::optional<int64_t> { return l.count.grid.blocks(); }},
      {"launch.threads",
       "threads of a block",
       "thread",
       false,
       {{"launch__block_size"}},
       [](const PredictedLaunch& l) -> std::optional<int64_t> { return l.count.resources.threads; }},
  };
  return fields;
}

int ComputeCapability(const data::Gpu& gpu) { return std::stoi(gpu.arch.substr(2)); }

std::vector<std::string> NamesFor(const NsightField& field, int compute_capability, data::Format format) {
  std::vector<std::string> metrics;
  for (const NsightName& name : field.names) {
    const bool takes =
        name.formats.empty() || std::find(name.formats.begin(), name.formats.end(), format) != name.formats.end();
    if (takes && name.first <= compute_capability && compute_capability <= name.last) metrics.push_back(name.metric);
  }
  return metrics;
}

std::optional<data::NsightValue> Measured(const NsightField& field, const data::NsightTable& table,
                                          const data::NsightLaunch& launch, data::Format format) {
  for (const NsightName& name : field.names) {
    if (!name.formats.empty() && std::find(name.formats.begin(), name.formats.end(), format) == name.formats.end())
      continue;
    // Sectors have a unit of their own.
    const std::string dimension = name.scale == 1 ? field.dimension : "sector";
    std::optional<data::NsightValue> value = data::FindMetric(table, launch, {name.metric}, dimension);
    if (!value) continue;
    value->value *= name.scale;
    value->rounding *= name.scale;
    return value;
  }
  return {};
}

}  // namespace bitflash::verify
