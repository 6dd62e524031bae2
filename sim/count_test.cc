#include "sim/count.h"

#include <doctest/doctest.h>

#include <random>

#include "data/error.h"
#include "sim/count_stream.h"
#include "sim/random_problem.h"

namespace bitflash::sim {
namespace {

TEST_CASE("counting by runs equals visiting every tile of every block") {
  std::mt19937_64 rng(3);
  for (int trial = 0; trial < 4000; ++trial) {
    const Kernel& kernel = Kernels()[trial % Kernels().size()];
    const RandomProblem p = MakeRandomProblem(rng, kernel, trial % 10 == 0 ? 3000 : 500);
    CAPTURE(kernel.name);
    CAPTURE(data::ToString(p.attention));
    CAPTURE(ToString(p.tiling));
    CountStream by_run(Loops::kByRun), by_tile(Loops::kByTile);
    kernel.Run(by_run, p.attention, p.tiling);
    kernel.Run(by_tile, p.attention, p.tiling);
    REQUIRE(by_run.launched().size() == by_tile.launched().size());
    for (size_t n = 0; n < by_run.launched().size(); ++n) {
      CAPTURE(by_run.launched()[n].name);
      REQUIRE(by_run.launched()[n].ledger == by_tile.launched()[n].ledger);
      REQUIRE(by_run.launched()[n].resources == by_tile.launched()[n].resources);
    }
  }
}

}  // namespace
}  // namespace bitflash::sim
