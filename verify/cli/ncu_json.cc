// The JSON form of `ncu`.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "verify/cli/ncu_result.h"
#include "verify/cli/traffic_result.h"

namespace bitflash::verify {
namespace {

template <class T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json PredictionJson(const PredictedLaunch& prediction, int compute_capability) {
  Json json = {{"kernel", prediction.kernel->name},
               {"launch", prediction.count.name},
               {"tiling", TilingJson(prediction.tiling)},
               {"fields", Json::array()}};
  for (const NsightField& field : NsightFields()) {
    Json other = Json::array();
    const std::vector<std::string> names = NamesFor(field, compute_capability, prediction.attention.format);
    for (const NsightName& name : field.names) {
      if (std::find(names.begin(), names.end(), name.metric) == names.end()) other.push_back(name.metric);
    }
    json["fields"].push_back({{"field", field.name},
                              {"meaning", field.meaning},
                              {"predicted", OrNull(field.predict(prediction))},
                              {"exact", field.held},
                              {"metrics", names},
                              {"metrics_elsewhere", other}});
  }
  return json;
}

Json FieldJson(const ComparedField& field) {
  Json json = {{"field", field.field->name}, {"predicted", OrNull(field.predicted)},
               {"measured", nullptr},        {"rounding", nullptr},
               {"metric", nullptr},          {"error_percent", OrNull(field.error_percent)},
               {"held", field.held},         {"passes", field.held ? Json(field.passes) : Json(nullptr)}};
  if (field.measured) {
    json["measured"] = field.measured->value;
    json["rounding"] = field.measured->rounding;
    json["metric"] = field.measured->metric;
  }
  return json;
}

Json LaunchJson(const ComparedLaunch& launch) {
  Json json = {{"id", launch.measured->id},
               {"name", launch.measured->kernel},
               {"grid", launch.measured->grid},
               {"block", launch.measured->block},
               {"kernel", nullptr},
               {"launch", nullptr},
               {"not_compared", launch.predicted ? Json(nullptr) : Json(launch.why_not)},
               {"fields", Json::array()}};
  if (launch.predicted) {
    json["kernel"] = launch.predicted->kernel->name;
    json["launch"] = launch.predicted->count.name;
  }
  for (const ComparedField& field : launch.fields) json["fields"].push_back(FieldJson(field));
  return json;
}

}  // namespace

Json NcuJson(const Workload& workload, const NcuResult& result) {
  const int compute_capability = ComputeCapability(workload.gpu);
  Json json = {{"schema", "bitflash.ncu/1"},
               {"version", BITFLASH_VERSION},
               {"gpu", GpuJson(workload.gpu)},
               {"compute_capability", compute_capability},
               {"assumed", workload.assumed},
               {"notes", workload.notes},
               {"problem", ProblemJson(workload.attention())},
               {"predictions", Json::array()},
               {"profile", result.profile},
               {"compare", result.compare},
               {"measured", nullptr}};
  for (const PredictedLaunch& prediction : result.predictions) {
    json["predictions"].push_back(PredictionJson(prediction, compute_capability));
  }
  if (!result.table) return json;
  const bool limited = result.limit_percent.has_value();
  Json measured = {{"file", result.table->origin},
                   {"skipped_lines", result.table->skipped_lines},
                   {"compared", result.comparison.compared},
                   {"limit_percent", OrNull(result.limit_percent)},
                   {"held", limited ? Json(result.comparison.held) : Json(nullptr)},
                   {"failed", limited ? Json(result.comparison.failed) : Json(nullptr)},
                   {"launches", Json::array()}};
  for (const ComparedLaunch& launch : result.comparison.launches) measured["launches"].push_back(LaunchJson(launch));
  json["measured"] = std::move(measured);
  return json;
}

}  // namespace bitflash::verify
