#include "sim/time/calibration.h"

#include <algorithm>
#include <cassert>

namespace bitflash::sim {

const std::vector<Calibration>& Calibrations() {
  static const std::vector<Calibration> calibrations = {
      {.kernel = "fa2", .launch = "fa2_forward", .fixed_us = 6, .block_cycles = 1500, .stall_cycles = 900, .one_stage_cycles = 300, .special = .7, .fp32 = .7, .shared = .1, .fitted_to = "x"},
      {.kernel = "standard", .launch = "standard_scores", .fixed_us = 6, .block_cycles = 0, .stall_cycles = 600, .hiding = 1, .shared = .5, .blocks_per_sm = 1, .fitted_to = "x"},
      {.kernel = "standard", .launch = "standard_softmax", .fixed_us = 5, .block_cycles = 400, .fitted_to = "x"},
      {.kernel = "standard", .launch = "standard_output", .fixed_us = 6, .block_cycles = 1500, .stall_cycles = 200, .hiding = 1, .blocks_per_sm = 1, .fitted_to = "x"},
      {.kernel = "split-kv", .launch = "split_kv_decode", .fixed_us = 5, .block_cycles = 2500, .stall_cycles = 1180, .hiding = 1, .copy_cycles_per_kib = 57, .odd_row_cycles_per_kib = 60, .page_cycles_per_kib = 90, .kib_in_flight = 96, .fitted_to = "x"},
      {.kernel = "split-kv", .launch = "split_kv_combine", .fixed_us = 4.5, .block_cycles = 500, .fitted_to = "x"},
  };
  return calibrations;
}

const Calibration& CalibrationOf(std::string_view kernel, std::string_view launch) {
  const Calibration* same_launch = nullptr;
  for (const Calibration& c : Calibrations()) {
    if (c.launch != launch) continue;
    if (c.kernel == kernel) return c;
    if (!same_launch) same_launch = &c;
  }
  return same_launch ? *same_launch : Calibrations().front();
}

}  // namespace bitflash::sim
