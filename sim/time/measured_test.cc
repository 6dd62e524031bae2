// The estimate against measured times, most of all those that no constant was fitted to. Prints the table of README.md.
#include "sim/time/measured.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "sim/time/estimate.h"

namespace bitflash::sim {
namespace {

double Quantile(std::vector<double> values, double share) {
  std::ranges::sort(values);
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

struct Problem {
  const Kernel* kernel = nullptr;
  bool held_out = false;
  double measured = 0, estimated = 0;
};

// Every launch of a kernel on a problem was timed; the launches' times are added.
std::map<std::string, Problem> Problems(const std::vector<MeasuredLaunch>& launches) {
  std::map<std::string, Problem> problems;
  for (const MeasuredLaunch& m : launches) {
    Problem& p = problems[m.file + " " + m.name];
    p.kernel = m.kernel, p.held_out = m.held_out;
    const Count count = CountKernel(*m.kernel, m.attention, m.tiling, m.gpu);
    const TimeEstimate e = EstimateTime(*m.kernel, m.attention, m.tiling, m.gpu, count);
    p.measured += m.seconds;
    p.estimated += e.launches.at(m.step).seconds;
  }
  return problems;
}

TEST_CASE("estimated times of our own kernels: within 15 % of measured ones, by the median of held-out problems") {
  const std::string root = BITFLASH_SOURCE_DIR;
  std::vector<MeasuredLaunch> launches = ReadMeasured(root, "time/h100-80gb-hbm3.csv", "h100");
  for (MeasuredLaunch& m : ReadMeasured(root, "h100_nsight_own.csv", "h100")) launches.push_back(m);
  std::map<std::string, std::vector<double>> held_out, fitted;
  for (const auto& [name, p] : Problems(launches)) {
    (p.held_out ? held_out : fitted)[std::string(p.kernel->name)].push_back(std::abs(p.estimated / p.measured - 1));
  }
  CHECK(held_out.size() == 4);
  for (const auto& [kernel, errors] : held_out) {
    std::printf(
        "time of %-8s: %2zu problems held out: median %.1f %%, p90 %.1f %%, most %.1f %%; %2zu fitted: %.1f %%\n",
        kernel.c_str(), errors.size(), 100 * Quantile(errors, .5), 100 * Quantile(errors, .9),
        100 * Quantile(errors, 1), fitted[kernel].size(), 100 * Quantile(fitted[kernel], .5));
    CHECK(errors.size() >= 10);
    CHECK(Quantile(errors, .5) <= 0.15);
    CHECK(Quantile(errors, .9) <= 0.25);
    CHECK(fitted[kernel].size() >= 10);
  }
}

TEST_CASE("estimated times of our own kernels on an H200, with constants of an H100: within 15 %, by the median") {
  std::map<std::string, std::vector<double>> errors;
  for (const auto& [name, p] : Problems(ReadMeasured(BITFLASH_SOURCE_DIR, "own/h200_nsight.csv", "h200"))) {
    errors[std::string(p.kernel->name)].push_back(std::abs(p.estimated / p.measured - 1));
  }
  CHECK(errors.size() == 4);
  for (const auto& entry : errors) {
    const std::string& kernel = entry.first;  // clang 14 captures no structured bindings
    const std::vector<double>& of = entry.second;
    CAPTURE(kernel);
    std::printf("time of %-8s on an H200: %zu problems: median %.1f %%, most %.1f %%\n", kernel.c_str(), of.size(),
                100 * Quantile(of, .5), 100 * Quantile(of, 1));
    CHECK(of.size() >= 5);
    CHECK(Quantile(of, .5) <= 0.15);
    CHECK(Quantile(of, 1) <= 0.3);
  }
}

TEST_CASE("estimated times of shipped kernels on an H200: within 15 % of measured ones, by the median") {
  std::vector<double> errors;
  for (const auto& [name, p] : Problems(ReadMeasured(BITFLASH_SOURCE_DIR, "h200_nsight_l2_to_sm.csv", "h200"))) {
    errors.push_back(std::abs(p.estimated / p.measured - 1));
  }
  REQUIRE(errors.size() >= 15);
  CHECK(Quantile(errors, .5) <= 0.15);
}

TEST_CASE("tiles: of every two whose times differ by a tenth, the estimate knows the faster one") {
  // 24 tiles of fa2 by three problems. Pairs of one head_dim and problem.
  std::vector<MeasuredLaunch> tiles = ReadMeasured(BITFLASH_SOURCE_DIR, "time/h100-80gb-hbm3_tiles.csv", "h100");
  std::vector<double> estimated;
  for (const MeasuredLaunch& m : tiles) {
    Count count = CountKernel(*m.kernel, m.attention, m.tiling, m.gpu);
    count.launches[0].occupancy.blocks_per_sm = m.blocks_per_sm;  // what the compiler made of it
    estimated.push_back(EstimateTime(*m.kernel, m.attention, m.tiling, m.gpu, count).seconds);
  }
  int pairs = 0, right = 0;
  for (size_t a = 0; a < tiles.size(); ++a) {
    for (size_t b = 0; b < tiles.size(); ++b) {
      const bool same = tiles[a].attention.head_dim == tiles[b].attention.head_dim &&
                        tiles[a].attention.seqlen_q == tiles[b].attention.seqlen_q;
      if (!same || tiles[a].seconds * 1.1 > tiles[b].seconds) continue;
      ++pairs;
      right += estimated[a] < estimated[b];
    }
  }
  std::printf("tiles: %d of %d pairs in the measured order\n", right, pairs);
  CHECK(pairs > 150);
  CHECK(right >= pairs * 95 / 100);
}

}  // namespace
}  // namespace bitflash::sim
