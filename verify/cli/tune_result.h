// What `tune` found, as tables, CSV and JSON.
#ifndef BITFLASH_VERIFY_CLI_TUNE_RESULT_H_
#define BITFLASH_VERIFY_CLI_TUNE_RESULT_H_

#include <cstdint>
#include <string>

#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/predict/tune.h"

namespace bitflash::verify {

struct TuneView {
  int64_t top = 10;  // how many of the ranking are printed; CSV and JSON have all
  bool all = false;  // the rejected ones, too
};

// The sentence about the kernel's own choice: "the published choice (128x64, 4 warps) is first".
std::string TuneSentence(const TuneInput& input, const TuneResult& result);

// "FlashAttention-3 publishes 128x176, 8 warps, 2 stages (hopper/tile_size.h); it is number 32 ..."; empty without one.
std::string ReferenceSentence(const TuneInput& input, const TuneResult& result);

std::string TuneText(const Workload& workload, const TuneInput& input, const TuneResult& result, const TuneView& view,
                     bool color);

// One line per candidate, ranked ones first; the rejected ones with --all.
std::string TuneCsv(const TuneInput& input, const TuneResult& result, const TuneView& view);

// verify/schemas/tune.schema.json.
Json TuneJson(const Workload& workload, const TuneInput& input, const TuneResult& result, const TuneView& view);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_TUNE_RESULT_H_
