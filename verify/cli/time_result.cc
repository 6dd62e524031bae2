#include "verify/cli/time_result.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "verify/cli/units.h"

namespace bitflash::verify {

using sim::Limit;

Json TimeJson(const sim::LaunchTime& time) {
  Json parts = Json::object();
  for (int n = 0; n < sim::kLimitCount; ++n) {
    const auto limit = static_cast<Limit>(n);
    parts[std::string(sim::Name(limit))] = time.of(limit);
  }
  return {{"seconds", time.seconds}, {"bottleneck", sim::Name(time.bottleneck)}, {"parts", parts}};
}

Json TimeJson(const sim::TimeEstimate& time) {
  return {{"seconds", time.seconds}, {"bottleneck", sim::Name(time.bottleneck)}, {"calibrated", time.calibrated}};
}

std::string TimeParts(const sim::LaunchTime& time) {
  std::string text;
  for (const Limit limit : {time.slowest_unit(), Limit::kStalls, Limit::kIdleSms, Limit::kLaunch}) {
    if (time.of(limit) < 0.005 * time.seconds) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : " + ", sim::Title(limit), Seconds(time.of(limit)));
  }
  return text;
}

std::string TimeLine(const sim::LaunchTime& time) {
  return fmt::format("  time, estimated: {} = {}; bottleneck: {}\n", Seconds(time.seconds), TimeParts(time),
                     sim::Title(time.bottleneck));
}

std::string TimeLine(const sim::TimeEstimate& time) {
  return fmt::format("  time of all launches, estimated: {}; bottleneck: {}\n", Seconds(time.seconds),
                     sim::Title(time.bottleneck));
}

std::string TimeCaveat(const sim::TimeEstimate& time) {
  return time.calibrated ? ""
                         : "no times of this kernel on this architecture were measured: the estimate takes the "
                           "constants of the nearest kernel on an H100";
}

}  // namespace bitflash::verify
