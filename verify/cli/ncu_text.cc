// The tables of `ncu`.
#include <fmt/format.h>

#include <cmath>

#include "verify/cli/ncu_result.h"
#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

std::string Head(const Workload& workload) {
  std::string text = fmt::format("problem  {}\nGPU      {} (compute capability {}.{})\n",
                                 data::ToString(workload.attention()), Printable(workload.gpu.title),
                                 ComputeCapability(workload.gpu) / 10, ComputeCapability(workload.gpu) % 10);
  for (const std::string& assumed : workload.assumed) text += fmt::format("assumed: {}\n", Printable(assumed));
  return text;
}

// "1,090,519,040": whole, as counters are, unless the file gave a fraction.
std::string Value(double value) {
  constexpr double kLargest = 0x1p62;
  if (value != std::floor(value) || std::abs(value) > kLargest) return fmt::format("{:.6g}", value);
  return Grouped(static_cast<int64_t>(value));
}

std::string Error(const ComparedField& field) {
  if (!field.error_percent) return "-";
  std::string text = fmt::format("{:+.3f} %", *field.error_percent);
  if (field.rounding_percent > 0) text += fmt::format(" (file: +-{:.2g} %)", field.rounding_percent);
  return text;
}

std::string Verdict(const ComparedField& field, bool color) {
  if (!field.held) return "";
  return field.passes ? Paint("holds", Colour::kGreen, color) : Paint("FAILS", Colour::kRed, color);
}

// A kernel's name without what surrounds it: return type, arguments and those of its template, which can be longer than
// any line, and the namespaces that have no name.
std::string ShortKernel(const std::string& name) {
  constexpr size_t kLongest = 100;
  std::string text = name.rfind("void ", 0) == 0 ? name.substr(5) : name;
  for (const char* nameless : {"<unnamed>::", "(anonymous namespace)::"}) {
    for (size_t at; (at = text.find(nameless)) != std::string::npos;) text.erase(at, std::string_view(nameless).size());
  }
  text = Printable(text.substr(0, text.find_first_of("<(")));
  if (text.empty()) text = Printable(name);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

// Other bytes and another grid: what was profiled is not what was asked about. (Where a grid is as large as the GPU
// rather than the problem, or is ordered otherwise, the bytes are right.)
std::string OtherProblem(const ComparedLaunch& launch) {
  constexpr double kTelling = 1;  // percent
  bool other_bytes = false, other_grid = false;
  int64_t blocks = 0;
  for (const ComparedField& field : launch.fields) {
    const double error = std::abs(field.error_percent.value_or(0));
    other_bytes |= field.field->name == "sm.read" && error > kTelling;
    if (field.field->name != "launch.blocks" || !field.predicted) continue;
    blocks = *field.predicted;
    other_grid = error > 0;
  }
  if (!other_bytes || !other_grid) return "";
  return fmt::format("   the grid is not the predicted one, which has {} blocks: is it another problem or tile?\n",
                     Grouped(blocks));
}

std::string LaunchText(const ComparedLaunch& launch, bool color) {
  const data::NsightLaunch& measured = *launch.measured;
  std::string text =
      fmt::format("\n{}  {}", Printable(measured.id), Paint(ShortKernel(measured.kernel), Colour::kBold, color));
  if (!measured.grid.empty()) text += fmt::format("  grid {}", Printable(measured.grid));
  if (!launch.predicted) return text + fmt::format("\n   not compared: {}\n", launch.why_not);
  text += fmt::format("\n   predicted as {} of {}\n", launch.predicted->count.name, launch.predicted->kernel->name);
  Table table({{"field", Align::kLeft},
               {"predicted", Align::kRight},
               {"measured", Align::kRight},
               {"error", Align::kRight},
               {"", Align::kLeft},
               {"metric", Align::kLeft}});
  for (const ComparedField& field : launch.fields) {
    table.Row({field.field->name, field.predicted ? Grouped(*field.predicted) : "-",
               field.measured ? Value(field.measured->value) : "-", Error(field), Verdict(field, color),
               field.measured ? field.measured->metric : ""});
  }
  return text + table.ToString(color, 3) + OtherProblem(launch);
}

}  // namespace

std::string NcuPredictionText(const Workload& workload, const NcuResult& result, bool color) {
  const int compute_capability = ComputeCapability(workload.gpu);
  const data::Format format = workload.attention().format;
  std::string text = Head(workload);
  for (const PredictedLaunch& prediction : result.predictions) {
    text += fmt::format("\n{}  of {}\n", Paint(prediction.count.name, Colour::kBold, color), prediction.kernel->name);
    Table table({{"field", Align::kLeft}, {"predicted", Align::kRight}, {"", Align::kLeft}, {"metric", Align::kLeft}});
    for (const NsightField& field : NsightFields()) {
      const std::vector<std::string> names = NamesFor(field, compute_capability, format);
      if (names.empty()) continue;
      const std::optional<int64_t> predicted = field.predict(prediction);
      table.Row({field.name, predicted ? Grouped(*predicted) : "-",
                 !predicted   ? ""
                 : field.held ? "exact"
                              : "estimate",
                 Join(names, ", or ")});
    }
    text += table.ToString(color, 2);
  }
  text += "\nTo falsify this, profile a program that runs the kernel, then compare:\n";
  text += fmt::format("  {}\n  {}\n", result.profile, result.compare);
  std::string elsewhere;
  for (const NsightField& field : NsightFields()) {
    for (const NsightName& name : field.names) {
      const bool here = name.first <= compute_capability && compute_capability <= name.last;
      if (!here && name.scale == 1 && (name.formats.empty() || name.formats.front() == format))
        elsewhere += fmt::format("  {:<22}{}\n", field.name, name.metric);
    }
  }
  if (!elsewhere.empty()) text += "Names on GPUs of other compute capabilities, which are read as well:\n" + elsewhere;
  return text;
}

std::string NcuComparisonText(const Workload& workload, const NcuResult& result, bool color) {
  const NsightComparison& comparison = result.comparison;
  std::string text = Head(workload);
  text += fmt::format("file     {}\n", Printable(result.table->origin));
  text += "error    100 (predicted - measured) / measured\n";
  for (const ComparedLaunch& launch : comparison.launches) text += LaunchText(launch, color);
  text += fmt::format("\n{} of {} launches compared", comparison.compared, comparison.launches.size());
  if (result.limit_percent) {
    text += fmt::format("; of {} values held to {:g} %, {} fail", comparison.held, *result.limit_percent,
                        comparison.failed == 0 ? std::string("none") : std::to_string(comparison.failed));
  }
  return text + "\n";
}

}  // namespace bitflash::verify
