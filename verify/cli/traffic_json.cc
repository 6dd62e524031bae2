// The JSON and CSV forms of `traffic`: exact numbers, never translated.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "verify/cli/time_result.h"
#include "verify/cli/traffic_result.h"

namespace bitflash::verify {
namespace {

using sim::Ledger;
using sim::PerTensor;
using sim::TensorId;
using sim::Traffic;

// HBM bytes behind the L2; of one tensor alone they are not known.
struct Behind {
  Json read = nullptr, write = nullptr;
};

Behind BehindL2(const sim::l2::Prediction* l2, bool total) {
  if (l2 == nullptr) return {};
  return {l2->dram_read.value, WrittenBehindL2(*l2, total)};
}

Json BytesJson(const Traffic& compulsory, const Traffic& l2_to_sm, const Traffic& shared, int64_t register_read,
               const Behind& behind = {}) {
  const auto hbm = [](int64_t floor, const Json& predicted, int64_t requested) {
    return Json{{"compulsory", floor}, {"predicted", predicted}, {"requested", requested}};
  };
  return {{"hbm",
           {{"read", hbm(compulsory.read, behind.read, l2_to_sm.read)},
            {"write", hbm(compulsory.write, behind.write, l2_to_sm.write)}}},
          {"l2_to_sm", {{"read", l2_to_sm.read}, {"write", l2_to_sm.write}}},
          {"shared", {{"read", shared.read}, {"write", shared.write}}},
          {"register", {{"read", register_read}}}};
}

Json L2Json(const sim::l2::Prediction* l2) {
  if (l2 == nullptr) return nullptr;
  const auto range = [](const sim::l2::Estimate& e) {
    return Json{{"low", e.low}, {"value", e.value}, {"high", e.high}};
  };
  return {{"dram_read", range(l2->dram_read)},
          {"dram_write", range(l2->dram_write)},
          {"dirty_at_end", l2->dirty_at_end.value},
          {"earlier_write", l2->earlier_write},
          {"fabric", l2->fabric},
          {"working_set", l2->working_set},
          {"in_knee", l2->in_knee()}};
}

bool Occurs(const Ledger& ledger, TensorId tensor) {
  const Traffic none;
  return At(ledger.hbm_compulsory, tensor) != none || At(ledger.l2_to_sm, tensor) != none ||
         At(ledger.shared, tensor) != none || At(ledger.registers, tensor) != none;
}

Json LaunchJson(const sim::LaunchCount& launch, const sim::l2::Prediction* l2) {
  Json json = {{"name", launch.name},
               {"grid", {{"x", launch.grid.x}, {"y", launch.grid.y}, {"z", launch.grid.z}}},
               {"blocks", launch.grid.blocks()},
               {"threads_per_block", launch.resources.threads},
               {"registers_per_thread", launch.resources.registers_per_thread},
               {"shared_bytes_per_block", launch.resources.shared_bytes},
               {"blocks_per_sm", launch.occupancy.blocks_per_sm},
               {"occupancy_limit", launch.occupancy.limit},
               {"waves", launch.waves}};
  json.update(LedgerJson(launch.ledger, l2, false));
  return json;
}

Json ResultJson(const std::vector<Assertion>& assertions, const TrafficResult& result) {
  Json json = {
      {"kernel", {{"name", result.kernel->name}, {"title", result.kernel->title}, {"source", result.kernel->source}}},
      {"problem", ProblemJson(result.attention)},
      {"tiling", TilingJson(result.tiling)},
      {"launches", Json::array()},
      {"l2_mode", result.l2 ? Json(result.l2->mode == sim::l2::Mode::kExact ? "exact" : "closed") : Json(nullptr)},
      {"total", result.infeasible.empty()
                    ? LedgerJson(result.count.total, result.l2 ? &result.l2->total : nullptr, true)
                    : Json(nullptr)},
      {"time", result.infeasible.empty() ? TimeJson(result.time) : Json(nullptr)},
      {"assertions", Json::array()}};
  for (size_t n = 0; n < result.count.launches.size(); ++n) {
    json["launches"].push_back(LaunchJson(result.count.launches[n], result.l2 ? &result.l2->launches[n] : nullptr));
    json["launches"].back()["time"] = TimeJson(result.time.launches.at(n));
  }
  for (size_t i = 0; i < assertions.size(); ++i) {
    if (!result.infeasible.empty()) {
      json["assertions"].push_back(
          {{"text", assertions[i].text}, {"field", assertions[i].field}, {"value", nullptr}, {"holds", false}});
      continue;
    }
    const Outcome& outcome = result.outcomes[i];
    json["assertions"].push_back(
        {{"text", assertions[i].text}, {"field", outcome.field}, {"value", outcome.value}, {"holds", outcome.holds}});
  }
  return json;
}

}  // namespace

Json LedgerJson(const Ledger& ledger, const sim::l2::Prediction* l2, bool total) {
  Json json = BytesJson(Sum(ledger.hbm_compulsory), Sum(ledger.l2_to_sm), Sum(ledger.shared),
                        Sum(ledger.registers).read, BehindL2(l2, total));
  json["l2"] = L2Json(l2);
  json["flops"] = {{"matrix", ledger.matrix_flops}};
  json["ops"] = {{"special", ledger.special_ops}, {"fp32", ledger.fp32_ops}};
  Json tensors = Json::object();
  for (int t = 0; t < sim::kTensorCount; ++t) {
    const auto tensor = static_cast<TensorId>(t);
    if (!Occurs(ledger, tensor)) continue;
    tensors[std::string(Name(tensor))] = BytesJson(At(ledger.hbm_compulsory, tensor), At(ledger.l2_to_sm, tensor),
                                                   At(ledger.shared, tensor), At(ledger.registers, tensor).read);
  }
  json["tensors"] = tensors;
  return json;
}

Json ProblemJson(const data::Attention& a) {
  return {{"batch", a.batch},           {"heads_q", a.heads_q},           {"heads_kv", a.heads_kv},
          {"seqlen_q", a.seqlen_q},     {"seqlen_k", a.seqlen_k},         {"head_dim", a.head_dim},
          {"head_dim_v", a.head_dim_v}, {"mask", data::ToString(a.mask)}, {"dtype", Name(a.format)},
          {"softmax_scale", a.scale()}, {"softcap", a.softcap},           {"v_is_in_k", a.v_is_in_k}};
}

Json TilingJson(const sim::Tiling& t) {
  return {{"br", t.Br},
          {"bc", t.Bc},
          {"warps", t.warps},
          {"stages", t.stages},
          {"splits", t.splits},
          {"part_keys", t.part_keys},
          {"page_size", t.page_size},
          {"pack_gqa", t.pack_gqa},
          {"fp32_scores", t.fp32_scores},
          {"row_on_chip", t.row_on_chip},
          {"tma", t.tma}};
}

Json GpuJson(const data::Gpu& gpu) {
  return {{"name", gpu.name}, {"title", gpu.title}, {"arch", gpu.arch}, {"sms", gpu.sms}};
}

Json TrafficJson(const Workload& workload, const std::vector<Assertion>& assertions,
                 const std::vector<TrafficResult>& results) {
  const bool sweep = results.size() != 1;
  Json json = {{"schema", sweep ? "bitflash.traffic-sweep/1" : "bitflash.traffic/1"},
               {"version", BITFLASH_VERSION},
               {"gpu", GpuJson(workload.gpu)},
               {"model", nullptr},
               {"phase", nullptr},
               {"assumed", workload.assumed},
               {"notes", workload.notes}};
  if (workload.model) {
    json["model"] = {{"name", workload.model->name},
                     {"title", workload.model->title},
                     {"layers", workload.group->name},
                     {"layer_count", workload.group->layers}};
  }
  if (workload.phase) json["phase"] = workload.phase == data::Phase::kDecode ? "decode" : "prefill";
  if (!sweep) {
    json.update(ResultJson(assertions, results.front()));
    return json;
  }
  json["swept"] = workload.swept;
  json["results"] = Json::array();
  for (const TrafficResult& result : results) {
    Json point = ResultJson(assertions, result);
    point["infeasible"] = result.infeasible.empty() ? Json(nullptr) : Json(result.infeasible);
    json["results"].push_back(std::move(point));
  }
  return json;
}

std::string TrafficCsv(const std::vector<TrafficResult>& results) {
  std::string csv =
      "kernel,batch,heads_q,heads_kv,seqlen_q,seqlen_k,head_dim,head_dim_v,mask,dtype,br,bc,warps,stages,splits,"
      "part_keys,page_size,pack_gqa,fp32_scores,launch,tensor,hbm_read_compulsory_bytes,hbm_read_predicted_bytes,"
      "hbm_read_requested_bytes,hbm_write_compulsory_bytes,hbm_write_predicted_bytes,hbm_write_requested_bytes,"
      "l2_to_sm_read_bytes,l2_to_sm_write_bytes,shared_read_bytes,shared_write_bytes,register_read_bytes,"
      "matrix_flops,special_ops,fp32_ops,infeasible,time_seconds,time_bottleneck,hbm_read_predicted_low_bytes,"
      "hbm_read_predicted_high_bytes\r\n";
  for (const TrafficResult& r : results) {
    const data::Attention& a = r.attention;
    const sim::Tiling& t = r.tiling;
    const std::string point = fmt::format(
        "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{:d},{:d}", r.kernel->name, a.batch, a.heads_q, a.heads_kv,
        a.seqlen_q, a.seqlen_k, a.head_dim, a.head_dim_v, CsvCell(data::ToString(a.mask)), Name(a.format), t.Br, t.Bc,
        t.warps, t.stages, t.splits, t.part_keys, t.page_size, t.pack_gqa, t.fp32_scores);
    const auto line = [&](std::string_view launch, std::string_view tensor, const Traffic& floor, const Traffic& l2,
                          const Traffic& shared, int64_t registers, const std::string& operations,
                          const std::string& time, const Behind& behind = {}, const std::string& range = ",") {
      const auto known = [](const Json& bytes) { return bytes.is_null() ? "" : bytes.dump(); };
      csv += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},,{},{}\r\n", point, CsvCell(launch), tensor,
                         floor.read, known(behind.read), l2.read, floor.write, known(behind.write), l2.write, l2.read,
                         l2.write, shared.read, shared.write, registers, operations, time, range);
    };
    const auto lines = [&](std::string_view launch, const Ledger& ledger, const sim::l2::Prediction* l2, bool total,
                           double seconds, sim::Limit bottleneck) {
      for (int i = 0; i < sim::kTensorCount; ++i) {
        const auto tensor = static_cast<TensorId>(i);
        if (!Occurs(ledger, tensor)) continue;
        line(launch, Name(tensor), At(ledger.hbm_compulsory, tensor), At(ledger.l2_to_sm, tensor),
             At(ledger.shared, tensor), At(ledger.registers, tensor).read, ",,", ",");
      }
      line(launch, "all", Sum(ledger.hbm_compulsory), Sum(ledger.l2_to_sm), Sum(ledger.shared),
           Sum(ledger.registers).read,
           fmt::format("{},{},{}", ledger.matrix_flops, ledger.special_ops, ledger.fp32_ops),
           fmt::format("{},{}", seconds, sim::Name(bottleneck)), BehindL2(l2, total),
           l2 == nullptr ? "," : fmt::format("{},{}", l2->dram_read.low, l2->dram_read.high));
    };
    if (!r.infeasible.empty()) {
      constexpr int kCounts = 14;  // columns from hbm_read_compulsory_bytes to fp32_ops
      csv += fmt::format("{},total,all{},{},,,,\r\n", point, std::string(kCounts, ','), CsvCell(r.infeasible));
      continue;
    }
    for (size_t n = 0; n < r.count.launches.size(); ++n) {
      const sim::LaunchCount& launch = r.count.launches[n];
      const sim::LaunchTime& time = r.time.launches.at(n);
      lines(launch.name, launch.ledger, r.l2 ? &r.l2->launches[n] : nullptr, false, time.seconds, time.bottleneck);
    }
    lines("total", r.count.total, r.l2 ? &r.l2->total : nullptr, true, r.time.seconds, r.time.bottleneck);
  }
  return csv;
}

}  // namespace bitflash::verify
