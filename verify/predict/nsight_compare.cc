#include "verify/predict/nsight_compare.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "verify/predict/nsight_kernels.h"

namespace bitflash::verify {
namespace {

using data::NsightLaunch;
using data::NsightValue;

const PredictedLaunch* Find(const std::vector<PredictedLaunch>& predictions, const std::string& launch,
                            std::string_view kernel) {
  for (const PredictedLaunch& prediction : predictions) {
    if (prediction.count.name == launch && (kernel.empty() || prediction.kernel->name == kernel)) return &prediction;
  }
  return nullptr;
}

// The prediction for a launch: what the user said; else by its name, its own kernel before its likes.
const PredictedLaunch* PredictionOf(const NsightLaunch& launch, const std::vector<PredictedLaunch>& predictions,
                                    const std::vector<NsightMapping>& mappings) {
  for (const NsightMapping& mapping : mappings) {
    if (launch.kernel.find(mapping.part) != std::string::npos) return Find(predictions, mapping.launch, "");
  }
  const std::string own = SimulatedKernelOf(launch.kernel);
  if (const PredictedLaunch* found = Find(predictions, LaunchOf(launch.kernel, own), own)) return found;
  for (const PredictedLaunch& prediction : predictions) {
    if (LaunchOf(launch.kernel, prediction.kernel->name) == prediction.count.name) return &prediction;
  }
  return nullptr;
}

std::string WhyNot(const NsightLaunch& launch) {
  const std::string known = WhyNotSimulated(launch.kernel);
  if (!known.empty()) return known;
  const std::string kernel = SimulatedKernelOf(launch.kernel);
  return kernel.empty() ? "no known kernel" : "a launch of kernel " + kernel + ", which was not predicted";
}

// Grid and block stand in columns of their own, whatever metrics were asked for.
std::optional<NsightValue> FromExtents(const NsightField& field, const NsightLaunch& launch) {
  const bool blocks = field.name == "launch.blocks", threads = field.name == "launch.threads";
  if (!blocks && !threads) return {};
  const std::optional<int64_t> product = ProductOf(blocks ? launch.grid : launch.block);
  if (!product) return {};
  return NsightValue{static_cast<double>(*product), 0, blocks ? "Grid Size" : "Block Size"};
}

ComparedField CompareField(const NsightField& field, const PredictedLaunch& prediction, const data::NsightTable& table,
                           const NsightLaunch& launch) {
  ComparedField compared{.field = &field, .predicted = field.predict(prediction)};
  compared.measured = Measured(field, table, launch, prediction.attention.format);
  if (!compared.measured) compared.measured = FromExtents(field, launch);
  if (!compared.predicted || !compared.measured) return compared;
  const auto predicted = static_cast<double>(*compared.predicted);
  const double measured = compared.measured->value;
  if (measured != 0) {
    compared.error_percent = 100 * (predicted - measured) / measured;
    compared.rounding_percent = 100 * compared.measured->rounding * std::abs(predicted) / (measured * measured);
  } else if (predicted == 0) {
    compared.error_percent = 0;
  }
  return compared;
}

bool Passes(const ComparedField& compared, double limit_percent) {
  if (!compared.error_percent) return false;  // something is predicted, and nothing was measured
  return std::abs(*compared.error_percent) <= limit_percent + compared.rounding_percent;
}

}  // namespace

NsightComparison Compare(const std::vector<PredictedLaunch>& predictions, const data::NsightTable& table,
                         const std::vector<NsightMapping>& mappings, const std::vector<std::string>& held,
                         std::optional<double> limit_percent) {
  const auto is_held = [&](const NsightField& field) {
    return held.empty() ? field.held : std::find(held.begin(), held.end(), field.name) != held.end();
  };
  NsightComparison comparison;
  for (const NsightLaunch& launch : table.launches) {
    ComparedLaunch compared{.measured = &launch, .predicted = PredictionOf(launch, predictions, mappings)};
    if (!compared.predicted) {
      compared.why_not = WhyNot(launch);
      comparison.launches.push_back(std::move(compared));
      continue;
    }
    ++comparison.compared;
    for (const NsightField& field : NsightFields()) {
      ComparedField one = CompareField(field, *compared.predicted, table, launch);
      if (!one.predicted && !one.measured) continue;
      one.held = limit_percent && one.predicted && one.measured && is_held(field);
      if (one.held) {
        one.passes = Passes(one, *limit_percent);
        ++comparison.held;
        comparison.failed += !one.passes;
      }
      compared.fields.push_back(std::move(one));
    }
    comparison.launches.push_back(std::move(compared));
  }
  return comparison;
}

std::optional<int64_t> ProductOf(const std::string& extent) {
  int64_t product = 1;
  bool any = false;
  for (const char *at = extent.data(), *end = at + extent.size(); at < end;) {
    int64_t number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error == std::errc::invalid_argument) {
      ++at;
      continue;
    }
    constexpr int64_t kMost = int64_t{1} << 31;  // of blocks in a direction, and far more than threads
    if (error != std::errc() || number < 0 || number > kMost ||
        product > (int64_t{1} << 62) / std::max<int64_t>(1, number))
      return {};
    product *= number;
    any = true;
    at = next;
  }
  return any ? std::optional(product) : std::nullopt;
}

}  // namespace bitflash::verify
