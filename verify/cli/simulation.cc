#include "verify/cli/simulation.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/error.h"
#include "verify/cli/numbers.h"
#include "verify/cli/text.h"
#include "verify/stopwatch.h"

namespace bitflash::verify {

using data::Attention;

HeadSubset ParseHeads(const std::optional<std::string>& text, const Attention& a) {
  if (!text) return SelectHeads(a, 0, a.heads_q);
  const size_t colon = text->find(':');
  if (colon == std::string::npos) {
    throw data::UsageError(fmt::format("--heads: '{}' is not a range of query heads such as 0:4", Printable(*text)));
  }
  const int64_t end = ParseCount("--heads", text->substr(colon + 1), 1, a.heads_q);
  return SelectHeads(a, ParseCount("--heads", text->substr(0, colon), 0, end - 1), end);
}

TimedSimulation SimulateShowing(const Output& output, const sim::Kernel& kernel, const HeadSubset& heads,
                                const sim::Tiling& tiling, std::string_view arch, const KernelInputs& inputs) {
  constexpr int64_t kSteps = 1000;
  Progress progress(output, fmt::format("simulating {}", kernel.name), kSteps);
  int64_t shown = 0;
  TimedSimulation result;
  const Stopwatch watch;
  result.simulated = Simulate(kernel, heads, tiling, arch, inputs, [&](double share) {
    // Every launch counts from 0: the line only moves forward.
    shown = std::max(shown, static_cast<int64_t>(share * kSteps));
    progress.Advance(shown);
  });
  result.seconds = watch.seconds();
  return result;
}

}  // namespace bitflash::verify
