// Which counter of Nsight Compute each prediction is compared with. A new prediction is a row in nsight_fields.cc.
#ifndef BITFLASH_VERIFY_PREDICT_NSIGHT_FIELDS_H_
#define BITFLASH_VERIFY_PREDICT_NSIGHT_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/attention.h"
#include "data/gpu.h"
#include "data/nsight.h"
#include "sim/count.h"

namespace bitflash::verify {

// What is predicted for one launch.
struct PredictedLaunch {
  const sim::Kernel* kernel = nullptr;
  data::Attention attention;
  sim::Tiling tiling;
  sim::LaunchCount count;
  // Behind the L2, with nothing in it at first, as Nsight Compute has it (--cache-control all). Empty: not predicted.
  std::optional<int64_t> hbm_read = {}, hbm_write = {};
};

// A metric that means the field on GPUs of compute capability `first` to `last` (90 is 9.0), for inputs of one of
// `formats` (none: of any).
struct NsightName {
  std::string metric;
  int first = 0, last = 999;
  std::vector<data::Format> formats;
  double scale = 1;  // the field is the metric times this: 32 for sectors
};

struct NsightField {
  std::string name;       // "sm.read"
  std::string meaning;    // "bytes that the SMs received from L2"
  std::string dimension;  // of the metric: "byte", "inst", ""
  // Held to --limit unless --fields says otherwise: the count is exact. The others are estimates, or lack something
  // that `meaning` names.
  bool held;
  std::vector<NsightName> names;
  // Nothing where the model has no number for the launch.
  std::optional<int64_t> (*predict)(const PredictedLaunch& launch);
};

const std::vector<NsightField>& NsightFields();

// The compute capability of "sm90" is 90.
int ComputeCapability(const data::Gpu& gpu);

// The names of the field that a GPU of this compute capability has for the format; the others are for other GPUs.
std::vector<std::string> NamesFor(const NsightField& field, int compute_capability, data::Format format);

// What the launch says of the field, in the field's own unit; of any GPU's names, because the profile need not be of
// the GPU that was asked about. Throws InputError (data/nsight.h).
std::optional<data::NsightValue> Measured(const NsightField& field, const data::NsightTable& table,
                                          const data::NsightLaunch& launch, data::Format format);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_NSIGHT_FIELDS_H_
