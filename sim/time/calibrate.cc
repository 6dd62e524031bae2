// Holds the time model against the measured times in data/golden, and fits its constants to those that are not held
// out:
//   time_calibrate ROOT                      errors by launch
//   time_calibrate ROOT --launch NAME        every measurement of it
//   time_calibrate ROOT --fit KERNEL NAME [CONSTANT ...]   (--fit-tma: of the build that loads by TMA)
//                                            constants that fit better, to be copied to calibration.cc; few launches
//                                            cannot tell many of them apart
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "sim/time/estimate.h"
#include "sim/time/hbm_bytes.h"
#include "sim/time/measured.h"

namespace bitflash::sim {
namespace {

// A measurement with everything that does not depend on constants.
struct Prepared {
  MeasuredLaunch measured;
  LaunchCount count;
  Traffic hbm;
  LaunchWork work;

  bool tma() const { return LoadsByTma(count.name, measured.tiling); }
};

std::vector<Prepared> Prepare(const std::string& root) {
  std::vector<Prepared> all;
  for (MeasuredLaunch& m : ReadAllMeasured(root)) {
    const std::string reason = Infeasible(*m.kernel, m.attention, m.tiling, m.gpu);
    if (!reason.empty()) {
      std::printf("%s: %s\n", m.name.c_str(), reason.c_str());
      continue;
    }
    const Count all_launches = CountKernel(*m.kernel, m.attention, m.tiling, m.gpu);
    LaunchCount count = all_launches.launches.at(m.step);
    const Traffic hbm = HbmWhileRunning(*m.kernel, m.attention, m.tiling, m.gpu, all_launches).at(m.step);
    if (m.blocks_per_sm > 0) count.occupancy.blocks_per_sm = m.blocks_per_sm;
    LaunchWork work = WorkOf(*m.kernel, m.attention, m.tiling).at(m.step);
    all.push_back({std::move(m), std::move(count), hbm, std::move(work)});
  }
  return all;
}

LaunchTime Estimated(const Prepared& p, const Calibration& c) {
  const MeasuredLaunch& m = p.measured;
  return TimeOf(ModelOf(c, *m.kernel, m.attention, m.tiling, m.gpu, p.count, p.hbm, p.work));
}

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

void PrintErrors(const std::vector<Prepared>& all, const std::string& only) {
  struct Errors {
    std::vector<double> fitted, held_out;
  };
  std::map<std::string, Errors> errors;
  for (const Prepared& p : all) {
    const MeasuredLaunch& m = p.measured;
    const Calibration& c = CalibrationOf(m.kernel->name, p.count.name, p.tma());
    const LaunchTime time = Estimated(p, c);
    const double error = time.seconds / m.seconds - 1;
    Errors& of = errors[std::string(m.kernel->name) + " " + p.count.name + (p.tma() ? " TMA" : "") +
                        (m.file.find("tiles") != std::string::npos  ? " (tiles)"
                         : m.file.find("rows") != std::string::npos ? " (rows)"
                         : m.file.starts_with("l2/")                ? " (l2)"
                         : m.file.starts_with("own/")               ? " (h200)"
                                                                    : "")];
    (m.held_out ? of.held_out : of.fitted).push_back(std::abs(error));
    if (p.count.name != only) continue;
    std::printf("%-68s %s %9.1f us, measured %9.1f, %+6.1f %%, %-10s blocks/SM %zu, tiles %lld |", m.name.c_str(),
                m.held_out ? "held out" : "fitted  ", time.seconds * 1e6, m.seconds * 1e6, 100 * error,
                std::string(Name(time.bottleneck)).c_str(),
                ModelOf(c, *m.kernel, m.attention, m.tiling, m.gpu, p.count, p.hbm, p.work).sm.tile_cycles.size(),
                static_cast<long long>(p.work.tiles()));
    for (const double part : time.part) std::printf(" %.1f", part * 1e6);
    std::printf("\n");
  }
  std::printf("%-44s %22s %28s\n", "absolute error of a launch, %", "fitted: median, p90",
              "held out: median, p90, most");
  for (const auto& [name, of] : errors) {
    std::printf("%-44s %4zu: %6.1f %6.1f %10zu: %6.1f %6.1f %6.1f\n", name.c_str(), of.fitted.size(),
                100 * Quantile(of.fitted, .5), 100 * Quantile(of.fitted, .9), of.held_out.size(),
                100 * Quantile(of.held_out, .5), 100 * Quantile(of.held_out, .9), 100 * Quantile(of.held_out, 1));
  }
}

// Mean of |log(estimate / measurement)| and of its square: what most launches miss by, and the worst.
double Loss(const std::vector<Prepared>& set, const Calibration& c) {
  double loss = 0;
  for (const Prepared& p : set) {
    const double miss = std::abs(std::log(Estimated(p, c).seconds / p.measured.seconds));
    loss += miss + 2 * miss * miss;
  }
  return loss / static_cast<double>(set.size());
}

void Fit(std::vector<Prepared> all, const std::string& kernel, const std::string& launch,
         const std::vector<std::string>& only, bool tma) {
  std::erase_if(all, [&](const Prepared& p) {
    return p.measured.held_out || p.measured.kernel->name != kernel || p.count.name != launch || p.tma() != tma;
  });
  Calibration c = CalibrationOf(kernel, launch, tma);
  struct Constant {
    const char* name;
    double Calibration::*member;
    double step, least, most;
  };
  std::vector<Constant> constants = {{"fixed_us", &Calibration::fixed_us, 1, 2, 20},
                                     {"block_cycles", &Calibration::block_cycles, 400, 0, 2e4},
                                     {"masked_tile", &Calibration::masked_tile, .2, 0, 2},
                                     {"stall_cycles", &Calibration::stall_cycles, 300, 0, 2e4},
                                     {"hiding", &Calibration::hiding, .3, 0, 4},
                                     {"one_stage_cycles", &Calibration::one_stage_cycles, 150, 0, 3000},
                                     {"copy_cycles_per_kib", &Calibration::copy_cycles_per_kib, 20, 0, 500},
                                     {"odd_row_cycles_per_kib", &Calibration::odd_row_cycles_per_kib, 20, 0, 500},
                                     {"page_cycles_per_kib", &Calibration::page_cycles_per_kib, 20, 0, 500},
                                     {"page_cycles", &Calibration::page_cycles, 20, 0, 500},
                                     {"wide_cycles", &Calibration::wide_cycles, 200, 0, 5000},
                                     {"crowded_cycles", &Calibration::crowded_cycles, 200, 0, 5000},
                                     {"part_cycles", &Calibration::part_cycles, 100, 0, 2000},
                                     {"walked_row_cycles", &Calibration::walked_row_cycles, 20, 0, 500},
                                     {"tensor", &Calibration::tensor, .2, 0, 3},
                                     {"special", &Calibration::special, .2, 0, 3},
                                     {"fp32", &Calibration::fp32, .2, 0, 3},
                                     {"shared", &Calibration::shared, .2, 0, 3},
                                     {"l2_share", &Calibration::l2_share, .2, .5, 3},
                                     {"hbm_share", &Calibration::hbm_share, .1, .4, 1.2}};
  if (!only.empty())
    std::erase_if(constants, [&](const Constant& constant) { return !std::ranges::count(only, constant.name); });
  double loss = Loss(all, c);
  std::printf("%zu launches, loss %.4f\n", all.size(), loss);
  for (int round = 0, halved = 0; round < 60; ++round) {
    bool better = false;
    for (Constant& constant : constants) {
      // What does not apply to a launch is 0, and its bandwidth 1.
      const std::string name = constant.name;
      if (c.*constant.member == 0 &&
          (name.find("per_kib") != std::string::npos || name == "walked_row_cycles" || name == "crowded_cycles" ||
           name == "part_cycles" || name == "block_cycles" || name == "page_cycles" || name == "wide_cycles"))
        continue;
      if (c.*constant.member == 1 && name.find("_share") != std::string::npos) continue;
      for (const double sign : {1.0, -1.0}) {
        Calibration trial = c;
        trial.*constant.member = std::clamp(c.*constant.member + sign * constant.step, constant.least, constant.most);
        if (const double l = Loss(all, trial); l < loss - 1e-6) {
          loss = l, c = trial, better = true;
          break;
        }
      }
    }
    if (!better) {
      for (Constant& constant : constants) constant.step /= 2;
      if (++halved == 6) break;
    }
  }
  std::printf("loss %.4f\n", loss);
  for (const Constant& constant : constants) std::printf(".%s = %.3g, ", constant.name, c.*constant.member);
  std::printf("\n");
}

}  // namespace
}  // namespace bitflash::sim

int main(int argc, char** argv) {
  using namespace bitflash::sim;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) {
    std::fprintf(stderr, "usage: time_calibrate ROOT [--launch NAME | --fit KERNEL NAME [CONSTANT ...]]\n");
    return 2;
  }
  std::vector<Prepared> all = Prepare(words[0]);
  if (words.size() >= 4 && (words[1] == "--fit" || words[1] == "--fit-tma")) {
    Fit(std::move(all), words[2], words[3], {words.begin() + 4, words.end()}, words[1] == "--fit-tma");
  } else {
    PrintErrors(all, words.size() == 3 && words[1] == "--launch" ? words[2] : "");
  }
  return 0;
}
