// The JSON and text forms of `run`.
#include "verify/cli/run_result.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "verify/cli/device_flag.h"
#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

std::string Hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

double PerSecond(const RunResult& result) {
  return result.seconds > 0 ? static_cast<double>(result.multiply_adds) / result.seconds : 0;
}

}  // namespace

Json HashesJson(const std::vector<HeadHash>& hashes, bool has_lse) {
  Json json = Json::array();
  for (const HeadHash& hash : hashes) {
    json.push_back({{"batch", hash.batch},
                    {"head", hash.head},
                    {"o", Hex(hash.o)},
                    {"lse", has_lse ? Json(Hex(hash.lse)) : Json(nullptr)}});
  }
  return json;
}

std::string HashesText(const std::vector<HeadHash>& hashes, bool has_lse, bool color) {
  Table table({{"batch", Align::kRight}, {"head", Align::kRight}, {"hash of O"}, {has_lse ? "hash of LSE" : ""}});
  for (const HeadHash& hash : hashes) {
    table.Row({fmt::format("{}", hash.batch), fmt::format("{}", hash.head), Hex(hash.o), has_lse ? Hex(hash.lse) : ""});
  }
  return table.ToString(color);
}

Json FilesJson(const std::vector<WrittenFile>& files) {
  Json json = Json::array();
  for (const WrittenFile& file : files) {
    json.push_back({{"path", file.path}, {"tensor", file.tensor}, {"dtype", file.dtype}, {"shape", file.shape}});
  }
  return json;
}

std::string FilesText(const std::vector<WrittenFile>& files) {
  std::string text;
  for (const WrittenFile& file : files) {
    text += fmt::format("wrote {}: {} {} {}\n", Printable(file.path), file.tensor, file.dtype,
                        data::ShapeString(file.shape));
  }
  return text;
}

Json RunJson(const RunResult& r) {
  return {{"schema", "bitflash.run/1"},
          {"version", BITFLASH_VERSION},
          {"device", r.device ? DeviceJson(*r.device) : DeviceJson(r.workload.gpu)},
          {"gpu", GpuJson(r.workload.gpu)},
          {"kernel", {{"name", r.kernel.name}, {"title", r.kernel.title}, {"source", r.kernel.source}}},
          {"recipe", r.kernel.recipe.name},
          {"tensor_core", ToString(r.core)},
          {"problem", ProblemJson(r.workload.attention())},
          {"lengths", LengthsJson(r.workload.attention(), r.lengths)},
          {"tiling", TilingJson(r.tiling)},
          {"inputs", r.inputs},
          {"assumed", r.workload.assumed},
          {"notes", r.workload.notes},
          {"launches", r.launches},
          {"heads", {{"begin", r.heads.begin}, {"end", r.heads.end}}},
          {"hashes", HashesJson(r.hashes, r.has_lse)},
          {"multiply_adds", r.multiply_adds},
          {"seconds", r.seconds},
          {"multiply_adds_per_second", PerSecond(r)},
          {"threads", r.threads},
          {"files", FilesJson(r.files)}};
}

std::string RunText(const RunResult& r, bool color) {
  const std::string name = Paint(r.kernel.name, Colour::kBold, color);
  std::string text = r.device ? fmt::format("{}, the CUDA kernel, on {}\n", name, Printable(DeviceText(*r.device)))
                              : fmt::format("{} on {} ({})\n", name, r.workload.gpu.title, r.workload.gpu.arch);
  text += fmt::format("problem      {}\n", data::ToString(r.workload.attention()));
  if (r.lengths.ragged()) text += fmt::format("sequences    {}\n", LengthsText(r.workload.attention(), r.lengths));
  if (!SameChoices(r.kernel.recipe, sim::FindKernel(r.kernel.name).recipe)) {
    text += fmt::format("recipe       {}\n", Printable(r.kernel.recipe.name));
  }
  text += fmt::format("tile         {}\n", ToString(r.tiling));
  text += fmt::format("launches     {}\n", Join(r.launches));
  text += fmt::format("tensor core  {}\n", ToString(r.core));
  text += fmt::format("inputs       {}\n", Printable(r.inputs));
  for (const std::string& assumed : r.workload.assumed) text += fmt::format("assumed      {}\n", Printable(assumed));

  text += HashesText(r.hashes, r.has_lse, color);
  const std::string where =
      r.device ? "on the device" : fmt::format("on {} thread{}", r.threads, r.threads == 1 ? "" : "s");
  text += fmt::format("{} multiply-adds (whole tiles) in {}: {:.2f} billion per second {}\n",
                      Prefixed(static_cast<double>(r.multiply_adds)), Seconds(r.seconds), PerSecond(r) / 1e9, where);
  return text + FilesText(r.files);
}

}  // namespace bitflash::verify
