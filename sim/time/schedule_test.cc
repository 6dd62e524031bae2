// The schedule against what can be said without one: whole waves, sharing, lengths, bandwidth.
#include "sim/time/schedule.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace bitflash::sim {
namespace {

// `r` blocks share an SM at no cost: each tile takes the SM 100 clocks, whoever's it is.
SmModel Plain(int64_t sms, size_t slots) { return {.sms = sms, .tile_cycles = std::vector<double>(slots, 100.0)}; }

LaunchWork Blocks(std::vector<BlockGroup> head, int64_t heads = 1) { return OnePass("test", heads, std::move(head)); }

TEST_CASE("equal blocks take whole waves") {
  for (const int64_t blocks : {1, 4, 5, 8, 9, 12}) {
    CAPTURE(blocks);
    const int64_t waves = (blocks + 3) / 4;
    CHECK(Simulate(Blocks({{10, 0, blocks}}), Plain(4, 1)).cycles == doctest::Approx(1000.0 * double(waves)));
  }
}

TEST_CASE("blocks of one SM share it; a lone one is as fast as the SM") {
  CHECK(Simulate(Blocks({{10, 0, 1}}), Plain(1, 2)).cycles == doctest::Approx(1000).epsilon(1e-3));
  CHECK(Simulate(Blocks({{10, 0, 2}}), Plain(1, 2)).cycles == doctest::Approx(2000).epsilon(1e-3));
  // Two together hide what one alone waits for.
  const SmModel hiding{.sms = 1, .tile_cycles = {150, 100}};
  CHECK(Simulate(Blocks({{10, 0, 1}}), hiding).cycles == doctest::Approx(1500).epsilon(1e-3));
  CHECK(Simulate(Blocks({{10, 0, 2}}), hiding).cycles == doctest::Approx(2000).epsilon(1e-3));
  // 20 tiles against 10: together until the shorter one ends, then alone.
  CHECK(Simulate(Blocks({{20, 0, 1}, {10, 0, 1}}), hiding).cycles == doctest::Approx(2000 + 10 * 150).epsilon(1e-3));
}

TEST_CASE("few blocks after a wave go to different SMs") {
  const Schedule s = Simulate(Blocks({{10, 0, 10}}), Plain(4, 2));
  CHECK(s.cycles == doctest::Approx(2000 + 1000).epsilon(1e-3));
  CHECK(s.full == doctest::Approx(10 * 10 * 100 / 4.0));
}

TEST_CASE("the longest first end together, the longest last do not") {
  std::vector<BlockGroup> longest_first, longest_last;
  for (int64_t tiles = 1; tiles <= 64; ++tiles) {
    longest_last.push_back({tiles, 0, 1});
    longest_first.insert(longest_first.begin(), {tiles, 0, 1});
  }
  const Schedule first = Simulate(Blocks(longest_first), Plain(8, 1)),
                 last = Simulate(Blocks(longest_last), Plain(8, 1));
  CHECK(first.full == doctest::Approx(last.full));
  CHECK(first.cycles <= 1.02 * first.full);
  CHECK(last.cycles >= 1.05 * last.full);
}

TEST_CASE("fixed shares wait for their slot, others take the next that is free") {
  // One of two SMs gets every long block.
  LaunchWork work = Blocks({{20, 0, 1}, {10, 0, 1}, {20, 0, 1}, {10, 0, 1}});
  CHECK(Simulate(work, Plain(2, 1)).cycles == doctest::Approx(3000));
  work.fixed_shares = true;
  CHECK(Simulate(work, Plain(2, 1)).cycles == doctest::Approx(4000));
  work = Blocks({{20, 0, 2}, {10, 0, 2}});
  CHECK(Simulate(work, Plain(2, 1)).cycles == doctest::Approx(3000));
}

TEST_CASE("passes: heads one after another, or a block for each of them in turn") {
  LaunchWork work{.name = "test",
                  .orders = {{{9, 0, 2}, {7, 0, 1}}, {{5, 0, 1}}},
                  .passes = {{0, 2, true, 0}, {2, 1, false, 0}, {0, 3, false, 1}},
                  .heads = {.heads = 3}};
  CHECK(work.blocks() == 6 + 3 + 3);
  CHECK(work.tiles() == 2 * 25 + 25 + 15);
  std::vector<int64_t> heads, of_head, tiles;
  Simulate(work, Plain(1, 1), [&](const Placement& p) {
    heads.push_back(p.head), of_head.push_back(p.of_head), tiles.push_back(p.tiles);
  });
  CHECK(heads == std::vector<int64_t>{0, 1, 0, 1, 0, 1, 2, 2, 2, 0, 1, 2});
  CHECK(of_head == std::vector<int64_t>{0, 0, 1, 1, 2, 2, 0, 1, 2, 3, 3, 3});
  CHECK(tiles == std::vector<int64_t>{9, 9, 9, 9, 7, 7, 9, 9, 7, 5, 5, 5});
}

TEST_CASE("memory stretches time while the tiles in flight ask for too much") {
  SmModel model = Plain(4, 1);
  model.hbm_cycles = 100;  // four times what four SMs ask for at 25 clocks a tile
  CHECK(Simulate(Blocks({{10, 0, 4}}), model).cycles == doctest::Approx(4000).epsilon(0.01));
  // One SM alone asks for as much as there is: 19 % longer.
  CHECK(Simulate(Blocks({{10, 0, 1}}), model).cycles == doctest::Approx(1189).epsilon(0.01));
}

TEST_CASE("what a block and a masked tile cost beside their tiles") {
  SmModel model = Plain(1, 1);
  model.block_tiles = 3;
  model.masked_tiles = 0.5;
  CHECK(Simulate(Blocks({{10, 2, 1}}), model).cycles == doctest::Approx(1400));
  CHECK(Simulate(Blocks({{0, 0, 5}}), model).cycles == doctest::Approx(1500));
  CHECK(Simulate(Blocks({}), model).cycles == 0);
}

TEST_CASE("every block is placed once, in a slot that is free, and a long launch costs what all its blocks do") {
  SmModel model{.sms = 7, .tile_cycles = {130, 100, 95}};
  model.block_tiles = 0.7;
  model.l2_cycles = 9;
  const LaunchWork work = Blocks({{9, 1, 3}, {7, 0, 2}, {2, 2, 4}}, 200);
  std::map<std::pair<int64_t, int64_t>, double> free;  // (SM, slot) -> when
  std::vector<int> seen(static_cast<size_t>(work.blocks()));
  double last = 0;
  std::vector<Placement> placements;
  const Schedule all = Simulate(work, model, [&](const Placement& p) { placements.push_back(p); });
  std::ranges::sort(placements, {}, &Placement::begin);
  for (const Placement& p : placements) {
    ++seen[static_cast<size_t>(p.block)];
    CHECK(p.end > p.begin);
    double& since = free[{p.sm, p.slot}];
    CHECK(p.begin >= since - 1e-9);
    since = p.end;
    last = std::max(last, p.end);
    CHECK((p.sm < 7 && p.slot < 3));
  }
  CHECK(std::ranges::all_of(seen, [](int n) { return n == 1; }));
  CHECK(last == all.cycles);
  CHECK(all.cycles >= all.full);
  // Not block by block: within half a block of the same.
  const Schedule shortened = Simulate(work, model);
  CHECK(shortened.full == doctest::Approx(all.full));
  CHECK(shortened.cycles == doctest::Approx(all.cycles).epsilon(0.02));
}

}  // namespace
}  // namespace bitflash::sim
