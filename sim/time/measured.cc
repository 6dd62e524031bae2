#include "sim/time/measured.h"

#include <filesystem>

#include "data/hash.h"
#include "sim/nsight_csv.h"
#include "sim/splits.h"

namespace bitflash::sim {
namespace {

// 0 where the table has no such column.
int64_t NumberOrZero(const NsightRow& row, const std::string& column) {
  return row.contains(column) ? Number(row, column) : 0;
}

// "window(1023;0)"; the recordings of shipped kernels have 0 or 1 in `causal`.
data::Mask MaskOf(const NsightRow& row) {
  if (row.contains("causal")) return Number(row, "causal") != 0 ? data::Mask::Causal() : data::Mask::Full();
  std::string text = row.at("mask");
  for (char& letter : text) letter = letter == ';' ? ',' : letter;
  return data::ParseMask(text);
}

// The simulated kernel of a shipped one; empty: there is none (split-kv as it was before it used TMA), or it has no
// such launch (what clears fa3's counter).
std::string KernelOf(const NsightRow& row, const std::string& file) {
  const std::string& kernel = row.at("kernel");
  if (kernel == "split-kv" && (file == "h100_nsight_own.csv" || file.starts_with("l2/"))) return "";
  if (kernel == "fa3" && row.at("launch") == "fa3_reset") return "";
  if (kernel == "cudnn") return row.at("launch").find("sm90") != std::string::npos ? "cudnn-9.19-sm90" : "";
  if (!row.contains("backend")) return kernel;
  if (row.at("backend") == "fa2") return "pytorch-fa2";
  return kernel.find("cudnn_sm90") == 0 ? "cudnn-9.19-sm90" : "";
}

Tiling TilingOf(const Kernel& kernel, const Attention& a, const Gpu& gpu, const NsightRow& row) {
  Tiling t = kernel.DefaultTiling(a, gpu);
  if (!row.contains("br")) {  // recorded with the kernel's own choices
    t.fp32_scores = NumberOrZero(row, "fp32_scores") != 0;
    return t;
  }
  if (kernel.fixed_parts) t.part_keys = Number(row, "chunk");
  t.page_size = Number(row, "page_size");
  t.fp32_scores = Number(row, "fp32_scores") != 0;
  if (kernel.name != "fa2") return t;
  t.pack_gqa = false;
  t.Br = Number(row, "br"), t.Bc = Number(row, "bc"), t.warps = Number(row, "warps");
  // The kernel takes a second stage where it fits; its shared memory tells.
  const int64_t bytes = data::StorageBytes(a.format);
  t.stages = (Number(row, "smem_dynamic") - t.Br * a.head_dim * bytes) / (2 * t.Bc * a.head_dim * bytes);
  return t;
}

}  // namespace

std::vector<MeasuredLaunch> ReadMeasured(const std::string& root, const std::string& file, const std::string& gpu) {
  std::vector<MeasuredLaunch> launches;
  std::string previous;
  size_t step = 0;
  for (const NsightRow& row : ReadCsv(root + "/data/golden/" + file)) {
    const std::string kernel = KernelOf(row, file);
    if (kernel.empty()) continue;
    MeasuredLaunch m{.file = file,
                     .name = kernel + " " + row.at("case"),
                     .kernel = &FindKernel(kernel),
                     .attention = ProblemOf(row, MaskOf(row)),
                     .gpu = data::LoadGpu(gpu)};
    m.tiling = TilingOf(*m.kernel, m.attention, m.gpu, row);
    // The kernel that was recorded first had a second launch for a single part, too.
    if (row.contains("launch") && row.at("launch") == "split_kv_combine" && SplitParts(m.attention, m.tiling) == 1)
      continue;
    step = m.name == previous ? step + 1 : 0;
    previous = m.name;
    m.step = step;
    m.seconds = row.contains("time_ns") ? std::stod(row.at("time_ns")) * 1e-9 : std::stod(row.at("time_us")) * 1e-6;
    m.blocks_per_sm = NumberOrZero(row, "blocks_per_sm");
    // What was recorded for the L2 came after the fit, and what an H200 gave of our kernels is to be met with constants
    // of an H100.
    m.held_out = data::Fnv1a(m.name) % 2 == 1 || file.starts_with("l2/") || file.starts_with("own/");
    launches.push_back(std::move(m));
  }
  return launches;
}

std::vector<MeasuredLaunch> ReadAllMeasured(const std::string& root) {
  std::vector<MeasuredLaunch> all;
  const struct {
    const char *file, *gpu;
  } files[] = {{"time/h100-80gb-hbm3.csv", "h100"},       {"h100_nsight_own.csv", "h100"},
               {"time/h100-80gb-hbm3_tiles.csv", "h100"}, {"time/h100-80gb-hbm3_rows.csv", "h100"},
               {"l2/h100-80gb-hbm3_cold.csv", "h100"},    {"own/h200_nsight.csv", "h200"},
               {"h200_nsight_l2_to_sm.csv", "h200"}};
  for (const auto& [file, gpu] : files) {
    if (!std::filesystem::exists(root + "/data/golden/" + file)) continue;
    for (MeasuredLaunch& launch : ReadMeasured(root, file, gpu)) all.push_back(std::move(launch));
  }
  return all;
}

}  // namespace bitflash::sim
