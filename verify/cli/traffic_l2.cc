// How `traffic` looks behind the L2.
#include <algorithm>

#include "data/error.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"

namespace bitflash::verify {
namespace {

// Granules that the exact mode looks up in a second or two.
constexpr int64_t kMostGranules = 25'000'000;
// And in a minute: more is refused.
constexpr int64_t kMostAtAll = 1'000'000'000;

template <class T>
T Parse(const char* flag, const char* kind, const std::optional<std::string>& text,
        const std::vector<std::pair<std::string, T>>& words, T otherwise) {
  if (!text) return otherwise;
  std::vector<std::string> accepted;
  for (const auto& [word, value] : words) {
    if (word == *text) return value;
    accepted.push_back(word);
  }
  throw data::UsageError(std::string(flag) + ": " + UnknownName(kind, Printable(*text), accepted));
}

}  // namespace

L2Choice ParseL2(const std::optional<std::string>& mode, const std::optional<std::string>& start) {
  using enum L2Choice::Mode;
  using enum sim::l2::Start;
  L2Choice choice;
  choice.mode = Parse<L2Choice::Mode>(
      "--l2", "mode", mode, {{"auto", kAuto}, {"exact", kExact}, {"closed", kClosedForm}, {"off", kOff}}, kAuto);
  choice.start = Parse<sim::l2::Start>("--l2-start", "state", start,
                                       {{"stream", kStream}, {"flushed", kFlushed}, {"again", kAgain}}, kStream);
  if (choice.mode == kOff && start) throw data::UsageError("--l2-start means nothing with --l2 off");
  return choice;
}

std::optional<sim::l2::Predicted> PredictL2(const L2Choice& choice, bool sweep, const sim::Kernel& kernel,
                                            const data::Attention& attention, const sim::Tiling& tiling,
                                            const data::Gpu& gpu, const sim::Count& count,
                                            const sim::l2::Rereads* rereads) {
  if (choice.mode == L2Choice::Mode::kOff) return std::nullopt;
  const int64_t cost = sim::l2::ExactCost(count);
  if (choice.mode == L2Choice::Mode::kExact && cost > kMostAtAll) {
    throw data::UsageError("--l2 exact would look up " + std::to_string(cost) +
                           " granules of 4 KiB: expected at most " + std::to_string(kMostAtAll) +
                           "; --l2 closed takes any problem");
  }
  const bool exact = choice.mode == L2Choice::Mode::kExact ||
                     (choice.mode == L2Choice::Mode::kAuto && !sweep && cost <= kMostGranules);
  bool knee = false;
  for (const sim::LaunchCount& launch : count.launches) {
    knee |= sim::l2::InKnee(sim::l2::WorkingSet(attention, gpu, launch));
  }
  sim::l2::PredictOptions options;
  options.mode = exact ? sim::l2::Mode::kExact : sim::l2::Mode::kClosedForm;
  options.start = choice.start;
  options.seeds = knee ? 3 : 1;
  options.rereads = rereads;
  return Predict(kernel, attention, tiling, gpu, count, options);
}

}  // namespace bitflash::verify
