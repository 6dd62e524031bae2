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
    kernel.Run(by_run, p.attention, p.tiling, kernel.recipe);
    kernel.Run(by_tile, p.attention, p.tiling, kernel.recipe);
    REQUIRE(by_run.launched().size() == by_tile.launched().size());
    for (size_t n = 0; n < by_run.launched().size(); ++n) {
      CAPTURE(by_run.launched()[n].name);
      REQUIRE(by_run.launched()[n].ledger == by_tile.launched()[n].ledger);
      REQUIRE(by_run.launched()[n].resources == by_tile.launched()[n].resources);
    }
  }
}

TEST_CASE("tiles that a window masks on one side, leaves plain and masks on the other are told apart") {
  const Kernel& kernel = FindKernel("split-kv");
  const Attention a{.seqlen_q = 480, .seqlen_k = 214, .mask = data::Mask::Window(189, 168)};
  const Tiling t{.Br = 96, .Bc = 112, .warps = 8, .splits = 7};
  CountStream by_run(Loops::kByRun), by_tile(Loops::kByTile);
  kernel.Run(by_run, a, t, kernel.recipe);
  kernel.Run(by_tile, a, t, kernel.recipe);
  CHECK(by_run.launched()[0].ledger == by_tile.launched()[0].ledger);
}

}  // namespace
}  // namespace bitflash::sim
