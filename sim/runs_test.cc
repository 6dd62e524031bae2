#include "sim/runs.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>

#include "sim/ceil_div.h"
#include "sim/random_problem.h"

namespace bitflash::sim {
namespace {

// The mask once more, as the predicate of data/mask.h, one pair at a time.
bool Sees(const Attention& a, int64_t token, int64_t key) {
  const int64_t diagonal = token + a.seqlen_k - a.seqlen_q;
  switch (a.mask.kind) {
    case data::Mask::Kind::kFull:
      return true;
    case data::Mask::Kind::kCausal:
      return key <= diagonal;
    case data::Mask::Kind::kCausalTopLeft:
      return key <= token;
    case data::Mask::Kind::kWindow:
      return (a.mask.left < 0 || key >= diagonal - a.mask.left) && (a.mask.right < 0 || key <= diagonal + a.mask.right);
  }
  return false;
}

TEST_CASE("key tiles of random problems: every visible pair once, nothing invisible loaded, masked tiles marked") {
  std::mt19937_64 rng(1);
  int64_t tiles_seen = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    const RandomProblem p = MakeRandomProblem(rng, Kernels()[trial % Kernels().size()], 300);
    const Attention& a = p.attention;
    const Tiling& t = p.tiling;
    CAPTURE(data::ToString(a));
    CAPTURE(ToString(t));
    const int64_t group = t.pack_gqa ? a.group() : 1;
    int64_t row = 0;
    for (int64_t i = 0; i < QueryTileCount(a, t); ++i) {
      const QueryTile queries = QueryTileAt(a, t, i);
      REQUIRE(queries.rows.begin == row);
      row = queries.rows.end();
      std::set<int64_t> expected;
      for (int64_t r = queries.rows.begin; r < queries.rows.end(); ++r) {
        for (int64_t key = 0; key < a.seqlen_k; ++key) {
          if (Sees(a, r / group, key)) expected.insert(key / t.Bc);
        }
      }
      for (const Order order : {Order::kAscending, Order::kDescending}) {
        std::vector<int64_t> visited;
        for (const KeyRun& run : KeyTiles(a, t, queries, order)) {
          for (int64_t n = 0; n < run.count; ++n) {
            const KeyTile tile = run.at(n);
            ++tiles_seen;
            visited.push_back(tile.j);
            REQUIRE(tile.rows.begin == tile.j * t.Bc);
            REQUIRE(tile.rows.count == std::min(t.Bc, a.seqlen_k - tile.j * t.Bc));
            bool plain = tile.rows.count == t.Bc;
            for (int64_t r = queries.rows.begin; r < queries.rows.end() && plain; ++r) {
              for (int64_t key = tile.rows.begin; key < tile.rows.end() && plain; ++key)
                plain = Sees(a, r / group, key);
            }
            REQUIRE(tile.masked == !plain);
          }
        }
        std::vector<int64_t> wanted(expected.begin(), expected.end());
        if (order == Order::kDescending) wanted.assign(expected.rbegin(), expected.rend());
        REQUIRE(visited == wanted);
      }
    }
    REQUIRE(row == QueryRows(a, t));
  }
  CHECK(tiles_seen > 50000);
}

TEST_CASE("runs of like blocks stand for the tiles of each of them") {
  std::mt19937_64 rng(3);
  int64_t longest = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    RandomProblem p = MakeRandomProblem(rng, FindKernel("fa2"), 3000);
    // Every other one with query tiles of whole key tiles, whose runs grow evenly under a mask.
    if (trial % 2 == 0) p.tiling.Br = p.tiling.Bc * (1 + trial % 3);
    const Attention& a = p.attention;
    const Tiling& t = p.tiling;
    CAPTURE(data::ToString(a));
    CAPTURE(ToString(t));
    const int64_t tiles = CeilDiv(a.seqlen_k, t.Bc);
    const Range within = trial % 4 == 0 ? Range{tiles / 3, CeilDiv(tiles, 3)} : Range{0, tiles};
    for (const Order order : {Order::kAscending, Order::kDescending}) {
      int64_t next = 0;
      for (const BlockRun& blocks : QueryBlocks(a, t, order, within)) {
        longest = std::max(longest, blocks.count);
        std::vector<int64_t> total(4);
        for (int64_t n = 0; n < blocks.count; ++n) {
          REQUIRE(blocks.at(n).i == next);
          const KeyRuns keys = KeyTiles(a, t, QueryTileAt(a, t, next++), order, within);
          REQUIRE(AlikeRuns(keys, blocks.keys));
          if (n == 0) REQUIRE(keys.tiles() == blocks.keys.tiles());
          size_t run = 0;
          for (const KeyRun& r : keys) total[run++] += r.count;
        }
        size_t run = 0;
        for (const KeyRun& r : blocks.keys) REQUIRE(r.total == total[run++]);
      }
      REQUIRE(next == QueryTileCount(a, t));
    }
  }
  CHECK(longest > 20);
}

TEST_CASE("query tiles of a key tile are those that visit it") {
  std::mt19937_64 rng(2);
  for (int trial = 0; trial < 500; ++trial) {
    const RandomProblem p = MakeRandomProblem(rng, FindKernel("fa1"), 400);
    const Attention& a = p.attention;
    const Tiling& t = p.tiling;
    CAPTURE(data::ToString(a));
    CAPTURE(ToString(t));
    std::set<std::pair<int64_t, int64_t>> by_query, by_key;
    for (int64_t i = 0; i < QueryTileCount(a, t); ++i) {
      for (const KeyRun& run : KeyTiles(a, t, QueryTileAt(a, t, i), Order::kAscending)) {
        for (int64_t n = 0; n < run.count; ++n) by_query.insert({i, run.at(n).j});
      }
    }
    for (const KeyRun& keys : AllKeyTiles(a, t)) {
      for (int64_t n = 0; n < keys.count; ++n) {
        for (const QueryRun& queries : QueryTilesOf(a, t, keys.at(n))) {
          for (int64_t m = 0; m < queries.count; ++m) {
            const QueryTile tile = queries.at(m);
            const QueryTile expected = QueryTileAt(a, t, tile.i);
            REQUIRE((tile.rows == expected.rows && tile.tokens == expected.tokens));
            by_key.insert({tile.i, keys.at(n).j});
          }
        }
      }
    }
    REQUIRE(by_key == by_query);
  }
}

TEST_CASE("slices cover the whole once") {
  for (const int64_t count : {0, 1, 63, 64, 65, 128, 1000}) {
    int64_t next = 5;
    for (const SliceRun& run : Slices({5, count}, 64)) {
      for (int64_t n = 0; n < run.count; ++n) {
        CHECK(run.at(n).begin == next);
        next = run.at(n).end();
      }
    }
    CHECK(next == 5 + count);
  }
}

}  // namespace
}  // namespace bitflash::sim
