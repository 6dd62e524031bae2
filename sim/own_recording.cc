#include "sim/own_recording.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/strict_json.h"

namespace bitflash::sim {
namespace {

// "h100-80gb-hbm3" of "NVIDIA H100 80GB HBM3", as record_own.py calls its files.
std::string ShortName(std::string name) {
  constexpr std::string_view kMaker = "NVIDIA ";
  if (name.starts_with(kMaker)) name.erase(0, kMaker.size());
  for (char& letter : name) letter = letter == ' ' ? '-' : letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter;
  return name;
}

}  // namespace

OwnRecording ReadOwnRecording() {
  const std::string path = std::string(BITFLASH_SOURCE_DIR) + "/data/golden/own/manifest.json";
  const nlohmann::json manifest = nlohmann::json::parse(data::ReadTextFile(path));
  const std::string recorded = ShortName(manifest.at("gpu").at("name"));
  const std::vector<std::string> names = data::GpuNames();
  const auto name =
      std::ranges::find_if(names, [&](const std::string& built_in) { return recorded.starts_with(built_in); });
  REQUIRE_MESSAGE(name != names.end(), recorded);
  return {data::LoadGpu(*name), "own/" + recorded + "_nsight.csv", manifest.at("nsight").at("launches")};
}

std::vector<std::string> RecordedKernels() {
  const nlohmann::json files =
      nlohmann::json::parse(data::ReadTextFile(std::string(BITFLASH_SOURCE_DIR) + "/data/golden/own/manifest.json"))
          .at("files");
  std::vector<std::string> names;
  for (const Kernel& kernel : Kernels()) {
    if (files.contains(std::string(kernel.name) + ".json")) names.emplace_back(kernel.name);
  }
  return names;
}

Tiling TwinTiling(const Kernel& kernel, const Attention& a, const Gpu& gpu, int64_t chunk, int64_t page_size,
                  bool fp32_scores) {
  Tiling t = kernel.DefaultTiling(a, gpu);
  if (kernel.fixed_parts) t.part_keys = chunk;
  if (kernel.name == "fa2") t.pack_gqa = false;  // published for one query; ours does not, which changes no bit
  t.page_size = page_size;
  t.fp32_scores = fp32_scores;
  return t;
}

}  // namespace bitflash::sim
