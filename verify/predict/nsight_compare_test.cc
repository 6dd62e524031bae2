// Predictions against recorded counters, in every form that Nsight Compute writes.
#include "verify/predict/nsight_compare.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <string_view>

#include "data/attention_testing.h"
#include "data/csv.h"
#include "data/strict_json.h"
#include "sim/kernels/kernels.h"
#include "verify/predict/nsight_kernels.h"

namespace bitflash::verify {
namespace {

const std::string kGolden = BITFLASH_SOURCE_DIR "/data/golden/";

std::vector<PredictedLaunch> Predictions(const char* kernel_name, const data::Attention& a, const char* gpu_name,
                                         const sim::TilingChoice& choice = {}) {
  const sim::Kernel& kernel = sim::FindKernel(kernel_name);
  const data::Gpu gpu = data::LoadGpu(gpu_name);
  const sim::Tiling tiling = sim::ResolveTiling(kernel, a, gpu, choice);
  std::vector<PredictedLaunch> predictions;
  for (const sim::LaunchCount& launch : sim::CountKernel(kernel, a, tiling, gpu).launches)
    predictions.push_back({&kernel, a, tiling, launch});
  return predictions;
}

const ComparedField& Field(const ComparedLaunch& launch, std::string_view name) {
  for (const ComparedField& field : launch.fields) {
    if (field.field->name == name) return field;
  }
  FAIL(std::string(name));
  return launch.fields.front();
}

data::NsightTable Testdata(const std::string& name) {
  return data::ReadNsight(BITFLASH_SOURCE_DIR "/data/testdata/nsight/" + name);
}

TEST_CASE("PyTorch's kernels on an H100: predicted to the byte and to the operation") {
  const data::NsightTable table = Testdata("torch.csv");
  std::vector<PredictedLaunch> predictions =
      Predictions("pytorch-fa2", data::PlainAttention(1, 8, 8, 2048, 2048, 128), "h100");
  for (PredictedLaunch& launch : Predictions("cudnn-9.19-sm90", data::PlainAttention(1, 8, 8, 2048, 2048, 128), "h100"))
    predictions.push_back(std::move(launch));
  const NsightComparison comparison = Compare(predictions, table, {}, {}, 0.01);
  REQUIRE(comparison.launches.size() == 6);
  CHECK(comparison.compared == 4);
  CHECK(comparison.held == 10);
  CHECK(comparison.failed == 0);
  const ComparedLaunch& flash = comparison.launches[1];
  CHECK(Field(flash, "sm.read").error_percent == 0.0);
  CHECK(Field(flash, "sm.read").measured->value == 138412032);
  CHECK(Field(flash, "tensor.flop").error_percent == 0.0);
  CHECK(Field(flash, "tensor.instructions").error_percent == 0.0);
  CHECK(Field(flash, "launch.blocks").error_percent == 0.0);
  CHECK(!Field(flash, "hbm.read").predicted.has_value());
  CHECK(Field(flash, "hbm.read").measured->value == 12638976);
  const ComparedLaunch& cudnn = comparison.launches[2];
  CHECK(cudnn.predicted->count.name == "fa3_forward");
  CHECK(std::abs(*Field(cudnn, "sm.read").error_percent + 0.0059) < 0.0001);
  CHECK(Field(cudnn, "tensor.flop").error_percent == 0.0);
  CHECK(!Field(cudnn, "tensor.instructions").predicted.has_value());  // wgmma
  CHECK(comparison.launches[4].why_not == "PyTorch's memory-efficient attention is not simulated");
}

TEST_CASE("the same launches in long, wide, mangled and sectioned form") {
  const std::vector<PredictedLaunch> predictions =
      Predictions("fa2", data::PlainAttention(1, 8, 8, 1000, 1111, 128), "h100");
  for (const char* name : {"long.csv", "wide.csv", "mangled.csv", "sections.csv"}) {
    CAPTURE(name);
    const data::NsightTable table = Testdata(name);
    const NsightComparison comparison = Compare(predictions, table, {}, {"sm.read", "tensor.instructions"}, 0.0);
    const ComparedLaunch& first = comparison.launches.front();
    REQUIRE(first.predicted != nullptr);
    const ComparedField& read = Field(first, "sm.read");
    CHECK(read.predicted == 38453248);
    CHECK(read.passes);  // long.csv has 38.45 Mbyte, which may be it
    CHECK((read.rounding_percent > 0) == (std::string(name) == "long.csv"));
    CHECK(Field(first, "tensor.instructions").passes);
  }
}

TEST_CASE("standard attention and split-kv: every launch of a call") {
  const data::NsightTable table = Testdata("wide.csv");
  const NsightComparison standard = Compare(
      Predictions("standard", data::PlainAttention(1, 8, 8, 1000, 1111, 96), "h100"), table, {}, {"sm.read"}, 0.0);
  CHECK(standard.compared == 3);
  CHECK(standard.held == 3);
  CHECK(standard.failed == 0);
  data::Attention decode = data::PlainAttention(1, 8, 8, 1, 8192, 96);
  decode.batch = 4;
  const NsightComparison split =
      Compare(Predictions("split-kv", decode, "h100", {.part_keys = 1024}), table, {}, {"sm.read"}, 0.1);
  CHECK(split.compared == 2);
  CHECK(split.failed == 0);
  CHECK(split.launches[5].fields.front().error_percent == 0.0);
  CHECK(split.launches[6].fields.front().error_percent == 0.0);  // sectors of m and l in split_kv_combine
}

// A table of ours as Nsight Compute would have written it: one metric a row, or one launch a row.
std::string AsExport(const std::vector<std::vector<std::string>>& rows, bool wide) {
  std::string text = "==PROF== Connected to process 1\n";
  const std::string head = "\"ID\",\"Kernel Name\",\"Grid Size\",";
  if (wide) {
    text += head + "\"l1tex__m_xbar2l1tex_read_bytes.sum\",\"l1tex__m_l1tex2xbar_write_bytes.sum\"\n";
    text += "\"\",\"\",\"\",\"byte\",\"byte\"\n";
  } else {
    text += head + "\"Metric Name\",\"Metric Unit\",\"Metric Value\"\n";
  }
  int id = 0;
  for (const auto& row : rows) {
    const std::string begin = "\"" + std::to_string(id++) + "\",\"void " + row[0] + "<x>(y)\",\"" + row[1] + "\",\"";
    if (wide) {
      text += begin + row[2] + "\",\"" + row[3] + "\"\n";
      continue;
    }
    text += begin + "l1tex__m_xbar2l1tex_read_bytes.sum\",\"byte\",\"" + row[2] + "\"\n";
    text += begin + "l1tex__m_l1tex2xbar_write_bytes.sum\",\"byte\",\"" + row[3] + "\"\n";
  }
  return text;
}

TEST_CASE("every recorded launch of standard attention, written as an export again, is predicted to the byte") {
  const std::string text = data::ReadTextFile(kGolden + "h100_nsight_standard.csv");
  data::CsvReader reader(text, "h100_nsight_standard.csv");
  const data::CsvRecord header = reader.Read();
  int held = 0;
  while (!reader.at_end()) {
    std::map<std::string, std::string> row;
    const data::CsvRecord record = reader.Read();
    for (size_t n = 0; n < record.fields.size(); ++n) row[header.fields[n].text] = record.fields[n].text;
    std::string mask = row["mask"];
    for (char& letter : mask) letter = letter == ';' ? ',' : letter;
    data::Attention a =
        data::PlainAttention(1, std::stoll(row["heads_q"]), std::stoll(row["heads_q"]), std::stoll(row["seqlen_q"]),
                             std::stoll(row["seqlen_k"]), std::stoll(row["head_dim"]), data::ParseMask(mask));
    a.batch = std::stoll(row["batch"]);
    a.heads_kv = std::stoll(row["heads_kv"]);
    a.format = data::ParseFormat(row["dtype"]);
    const auto predictions = Predictions("standard", a, "h100", {.fp32_scores = row["fp32_scores"] == "1"});
    for (const bool wide : {false, true}) {
      const data::NsightTable table = data::ParseNsight(
          AsExport({{row["launch"], row["grid"], row["xbar_read_bytes"], row["xbar_write_bytes"]}}, wide), "FILE");
      const NsightComparison comparison = Compare(predictions, table, {}, {"sm.read"}, 0.0);
      CAPTURE(row["case"]);
      CAPTURE(row["launch"]);
      CHECK(comparison.compared == 1);
      CHECK(comparison.failed == 0);
      held += static_cast<int>(comparison.held);
    }
  }
  CHECK(held == 2 * 39);
}

TEST_CASE("kernels of the user's own, renamed metrics, nothing measured") {
  const std::vector<PredictedLaunch> predictions =
      Predictions("fa2", data::PlainAttention(1, 8, 8, 2048, 2048, 128), "b200");
  const data::NsightTable table = data::ParseNsight(
      "ID,Kernel Name,Metric Name,Metric Unit,Metric Value\n"
      "0,mine<1>,dram__bytes_op_read.sum,Mbyte,12.6\n0,mine<1>,l1tex__m_xbar2l1tex_read_sectors.sum,sector,\"4,325,"
      "376\"\n"
      "1,mine<1>,sm__inst_executed_pipe_tensor_op_hmma.sum,inst,0\n2,other,m__x.sum,,1\n",
      "FILE");
  const NsightComparison none = Compare(predictions, table, {}, {}, {});
  CHECK(none.compared == 0);
  CHECK(none.launches[0].why_not == "no known kernel");
  const NsightComparison comparison = Compare(predictions, table, {{"mine", "fa2_forward"}}, {}, 0.0);
  CHECK(comparison.compared == 2);
  const ComparedLaunch& first = comparison.launches[0];
  CHECK(Field(first, "hbm.read").measured->metric == "dram__bytes_op_read.sum");
  CHECK(Field(first, "sm.read").error_percent == 0.0);  // 32 bytes a sector
  CHECK(Field(first, "sm.read").passes);
  const ComparedField& zero = Field(comparison.launches[1], "tensor.instructions");
  CHECK(!zero.error_percent.has_value());
  CHECK(!zero.passes);  // something was predicted, 0 was measured
  CHECK(comparison.held == 2);
  CHECK(comparison.failed == 1);
}

TEST_CASE("HBM is compared where it is predicted") {
  const data::NsightTable table = Testdata("torch.csv");
  std::vector<PredictedLaunch> predictions =
      Predictions("pytorch-fa2", data::PlainAttention(1, 8, 8, 2048, 2048, 128), "h100");
  predictions[0].hbm_read = 3 * 4 << 20;  // Q, K and V once
  const NsightComparison comparison = Compare(predictions, table, {}, {"hbm.read", "hbm.write"}, 1.0);
  CHECK(comparison.held == 2);  // the writes are not predicted
  CHECK(comparison.failed == 0);
  CHECK(*Field(comparison.launches[0], "hbm.read").error_percent == doctest::Approx(-0.444).epsilon(0.01));
}

TEST_CASE("kernel names: mangled or not, and more specific ones first") {
  CHECK(SimulatedKernelOf("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128>>(Flash_fwd_params)") ==
        "pytorch-fa2");
  CHECK(SimulatedKernelOf(
            "_ZN13pytorch_flash16flash_fwd_kernelI23Flash_fwd_kernel_traitsILi128EEEEvNS_16Flash_fwd_paramsE") ==
        "pytorch-fa2");
  CHECK(LaunchOf("flash_fwd_splitkv_combine_kernel", "pytorch-fa2") == "fa2_splitkv_combine");
  CHECK(LaunchOf("flash_fwd_splitkv_kernel", "pytorch-fa2") == "fa2_splitkv");
  CHECK(LaunchOf("flash_fwd_splitkv_kernel", "split-kv") == "split_kv_decode");
  CHECK(LaunchOf("flash_fwd_kernel", "standard").empty());
  CHECK(SimulatedKernelOf("fmha_cutlassF_bf16_aligned_64x128_rf_sm80").empty());
  CHECK(SimulatedKernelOf("vectorized_elementwise_kernel").empty());
  CHECK(WhyNotSimulated("vectorized_elementwise_kernel").empty());
  CHECK(KernelNameFilter({"pytorch-fa2"}, {}) ==
        "regex:fa2_forward|flash_fwd_splitkv_combine_kernel|flash_fwd_splitkv_kernel|flash_fwd_kernel");
  CHECK(KernelNameFilter({"fa1"}, {}).empty());
  CHECK(KernelNameFilter({"fa1"}, {"mine"}) == "regex:mine");
  // Every launch of a pattern is one that its kernel makes.
  for (const KernelPattern& pattern : KernelPatterns()) {
    if (pattern.kernel.empty()) continue;
    data::Attention a = data::PlainAttention(1, 8, 8, 2048, 2048, 128);
    sim::TilingChoice choice;
    if (pattern.launch.find("split") != std::string::npos) {
      a.seqlen_q = 1;
      choice.splits = 4;
    }
    bool found = false;
    for (const PredictedLaunch& launch : Predictions(pattern.kernel.c_str(), a, "h100", choice))
      found |= launch.count.name == pattern.launch;
    CHECK_MESSAGE(found, pattern.kernel, " ", pattern.launch);
  }
}

TEST_CASE("every field has a metric on every architecture from sm75 on, but for operations of the tensor cores") {
  for (const NsightField& field : NsightFields()) {
    for (const int compute_capability : {75, 80, 89, 90, 100, 120}) {
      CAPTURE(field.name);
      CAPTURE(compute_capability);
      const bool some = !NamesFor(field, compute_capability, data::Format::kFp16).empty();
      CHECK(some == (field.name != "tensor.flop" || compute_capability >= 90));
    }
  }
  CHECK(NamesFor(NsightFields()[2], 100, data::Format::kBf16).front() == "dram__bytes_op_read.sum");
  CHECK(NamesFor(NsightFields()[2], 90, data::Format::kBf16).front() == "dram__bytes_read.sum");
}

TEST_CASE("products of extents") {
  CHECK(ProductOf("(32, 16, 1)") == 512);
  CHECK(ProductOf("8") == 8);
  CHECK(!ProductOf("").has_value());
  CHECK(!ProductOf("(99999999999999999999, 1, 1)").has_value());
  CHECK(!ProductOf("(2147483648, 2147483648, 2147483648)").has_value());
}

}  // namespace
}  // namespace bitflash::verify
