// Predictions beside what Nsight Compute measured, launch by launch.
#ifndef BITFLASH_VERIFY_PREDICT_NSIGHT_COMPARE_H_
#define BITFLASH_VERIFY_PREDICT_NSIGHT_COMPARE_H_

#include <optional>
#include <string>
#include <vector>

#include "verify/predict/nsight_fields.h"

namespace bitflash::verify {

// A launch whose kernel name has `part` is the simulated launch `launch`: "--map my_kernel=fa2_forward".
struct NsightMapping {
  std::string part, launch;
};

struct ComparedField {
  const NsightField* field = nullptr;
  std::optional<int64_t> predicted;
  std::optional<data::NsightValue> measured;
  // 100 * (predicted - measured) / measured: positive where too much is predicted. Nothing without both numbers, and
  // where only the measured one is 0.
  std::optional<double> error_percent;
  double rounding_percent = 0;  // the error may be off by so much, because the file gives rounded numbers
  bool held = false;            // the limit is about this field
  bool passes = true;           // false: held, and the error passes the limit by more than rounding
};

struct ComparedLaunch {
  const data::NsightLaunch* measured = nullptr;
  const PredictedLaunch* predicted = nullptr;  // null: compared with nothing
  std::string why_not;                         // then: the reason
  std::vector<ComparedField> fields;           // those that are predicted or measured
};

struct NsightComparison {
  std::vector<ComparedLaunch> launches;  // in the order of the file
  int64_t compared = 0;                  // launches
  int64_t held = 0, failed = 0;          // fields of launches that were held to the limit, and that passed it
};

// `held` names the fields of the limit, empty: those that NsightFields() says; `limit_percent` empty: none fails.
// Predictions and table must outlive the result. Throws InputError where the file is wrong.
NsightComparison Compare(const std::vector<PredictedLaunch>& predictions, const data::NsightTable& table,
                         const std::vector<NsightMapping>& mappings, const std::vector<std::string>& held,
                         std::optional<double> limit_percent);

// Total of the integers in "(32, 16, 1)", or nothing.
std::optional<int64_t> ProductOf(const std::string& extent);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_NSIGHT_COMPARE_H_
