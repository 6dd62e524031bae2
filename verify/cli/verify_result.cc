#include "verify/cli/verify_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "verify/cli/device_flag.h"
#include "verify/cli/difference_text.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

constexpr size_t kHeadLines = 8;

std::vector<std::string> LaunchNames(const DevicePlan& plan) {
  return {plan.kernel->launches.begin(), plan.kernel->launches.end()};
}

std::vector<NamedDifference> Tensors(const Agreement& agreement) {
  std::vector<NamedDifference> tensors = {{"o", agreement.o}};
  if (agreement.lse) tensors.push_back({"lse", *agreement.lse});
  return tensors;
}

std::string HeadLines(const Agreement& agreement) {
  std::string text = fmt::format("heads        {} of {} differ\n", agreement.differ.size(), agreement.heads);
  for (size_t n = 0; n < std::min(kHeadLines, agreement.differ.size()); ++n) {
    const HeadDifference& head = agreement.differ[n];
    text += fmt::format("             batch {}, head {}: {} elements of O, {} of LSE\n", head.batch, head.head,
                        Grouped(head.o), Grouped(head.lse));
  }
  if (agreement.differ.size() > kHeadLines) {
    text += fmt::format("             and {} more\n", agreement.differ.size() - kHeadLines);
  }
  return text;
}

std::string AgreementText(const KernelVerdict& v, bool color) {
  const Agreement& agreement = *v.agreement;
  std::string text;
  int64_t compared = 0, differ = 0;
  for (const NamedDifference& tensor : Tensors(agreement)) {
    text += DifferenceText(tensor, {"device", "simulated"}, color);
    compared += tensor.difference.elements;
    differ += tensor.difference.bits_differ;
  }
  if (agreement.not_written > 0) {
    text += fmt::format("not written  {} elements still hold the 0xff bytes that the outputs were filled with\n",
                        Grouped(agreement.not_written));
  }
  if (!agreement.differ.empty()) text += HeadLines(agreement);
  return text + fmt::format("compared     {} elements of {} heads: {} differ\n", Grouped(compared), agreement.heads,
                            Grouped(differ));
}

std::string KernelText(const VerifyResult& r, const KernelVerdict& v, bool color) {
  const Colour verdict_colour = v.verdict == Verdict::kPass   ? Colour::kGreen
                                : v.verdict == Verdict::kFail ? Colour::kRed
                                                              : Colour::kYellow;
  std::string text =
      fmt::format("{}, the CUDA kernel against its simulated twin: {}\n", Paint(v.kernel->name, Colour::kBold, color),
                  Paint(Name(v.verdict), verdict_colour, color));
  if (!v.reason.empty()) text += fmt::format("reason       {}\n", Printable(v.reason));
  if (r.device) text += fmt::format("device       {}\n", Printable(DeviceText(*r.device)));
  text += fmt::format("problem      {}\n", data::ToString(r.workload.attention()));
  if (v.plan) {
    text += fmt::format("tile         {}\n", ToString(v.plan->tiling));
    text += fmt::format("launches     {}\n", Join(LaunchNames(*v.plan)));
    if (const std::string pages = PagesText(*v.plan); !pages.empty()) text += fmt::format("cache        {}\n", pages);
    if (const std::string lengths = SequencesText(*v.plan); !lengths.empty())
      text += fmt::format("sequences    {}\n", lengths);
  }
  text += fmt::format("inputs       {}\n", Printable(r.inputs));
  if (!r.workload.assumed.empty()) {
    text += fmt::format("assumed      {}\n", Printable(Join(r.workload.assumed, "; ")));
  }
  if (v.agreement) {
    const int64_t all = r.workload.attention().heads_q;
    if (r.heads.end - r.heads.begin < all) {
      text += fmt::format("heads        {}:{} of {} simulated; the device ran all\n", r.heads.begin, r.heads.end, all);
    }
    text += fmt::format("runs         {} on the device, {}; the fastest took {}, the simulation {}\n", v.runs,
                        v.unstable_elements == 0 ? "the same bits"
                                                 : fmt::format("{} elements changed from the first to another",
                                                               Grouped(v.unstable_elements)),
                        Seconds(v.device_seconds), Seconds(v.simulation_seconds));
    text += AgreementText(v, color);
  }
  return text + fmt::format("to repeat    {}\n", Printable(v.command));
}

Json KernelJson(const KernelVerdict& v) {
  Json json = {{"name", v.kernel->name},
               {"title", v.kernel->title},
               {"verdict", Name(v.verdict)},
               {"reason", v.reason.empty() ? Json(nullptr) : Json(v.reason)},
               {"command", v.command},
               {"cache", v.plan && !PagesText(*v.plan).empty() ? Json(PagesText(*v.plan)) : Json(nullptr)},
               {"launches", v.plan ? Json(LaunchNames(*v.plan)) : Json::array()},
               {"runs", v.runs},
               {"unstable_elements", v.unstable_elements},
               {"device_seconds", v.device_seconds},
               {"simulation_seconds", v.simulation_seconds},
               {"not_written", v.agreement ? v.agreement->not_written : 0},
               {"tensors", Json::array()},
               {"heads_differ", Json::array()}};
  if (v.plan) json["tiling"] = TilingJson(v.plan->tiling);
  if (!v.agreement) return json;
  for (const NamedDifference& tensor : Tensors(*v.agreement)) json["tensors"].push_back(DifferenceJson(tensor));
  for (const HeadDifference& head : v.agreement->differ) {
    json["heads_differ"].push_back({{"batch", head.batch}, {"head", head.head}, {"o", head.o}, {"lse", head.lse}});
  }
  return json;
}

}  // namespace

std::string_view Name(Verdict verdict) {
  return verdict == Verdict::kPass ? "pass" : verdict == Verdict::kFail ? "fail" : "undecided";
}

int64_t VerifyResult::Count(Verdict verdict) const {
  return std::count_if(kernels.begin(), kernels.end(), [&](const KernelVerdict& v) { return v.verdict == verdict; });
}

std::string ShellWords(const std::vector<std::string>& arguments, const std::vector<DroppedFlag>& dropped) {
  std::string words;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const std::string_view flag = std::string_view(word).substr(0, word.find('='));
    const auto found = std::ranges::find(dropped, flag, &DroppedFlag::flag);
    if (found == dropped.end()) {
      words += " " + ShellWord(word);
    } else if (found->takes_value && flag == word) {
      ++i;  // the value is the next word
    }
  }
  return words;
}

std::string RepeatCommand(const std::vector<std::string>& arguments, const sim::Kernel& kernel) {
  std::vector<DroppedFlag> dropped = {{"--kernel", true}, {"--json", false}};
  if (!kernel.splits_keys) dropped.push_back({"--splits", true});
  if (!kernel.pages) dropped.push_back({"--page-size", true});
  if (!kernel.packs_heads) dropped.push_back({"--pack-gqa", false});
  if (!kernel.stores_scores) dropped.push_back({"--fp32-scores", false});
  return fmt::format("bitflash verify --kernel {}", kernel.name) + ShellWords(arguments, dropped);
}

Json VerifyJson(const VerifyResult& r) {
  Json json = {{"schema", "bitflash.verify/1"},
               {"version", BITFLASH_VERSION},
               {"gpu", GpuJson(r.workload.gpu)},
               {"problem", ProblemJson(r.workload.attention())},
               {"lengths", LengthsJson(r.workload.attention(), r.lengths)},
               {"inputs", r.inputs},
               {"assumed", r.workload.assumed},
               {"notes", r.workload.notes},
               {"heads", {{"begin", r.heads.begin}, {"end", r.heads.end}}},
               {"kernels", Json::array()},
               {"result",
                {{"pass", r.Count(Verdict::kPass)},
                 {"fail", r.Count(Verdict::kFail)},
                 {"undecided", r.Count(Verdict::kUndecided)}}}};
  if (r.device) json["device"] = DeviceJson(*r.device);
  for (const KernelVerdict& v : r.kernels) json["kernels"].push_back(KernelJson(v));
  return json;
}

std::string VerifyText(const VerifyResult& r, bool color) {
  std::string text;
  for (const KernelVerdict& v : r.kernels) text += KernelText(r, v, color) + "\n";
  return text + fmt::format("RESULT pass={} fail={} undecided={}\n", r.Count(Verdict::kPass), r.Count(Verdict::kFail),
                            r.Count(Verdict::kUndecided));
}

}  // namespace bitflash::verify
