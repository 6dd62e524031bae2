// Which tiles a block visits, as runs of tiles that cost the same: the loops of the kernels.
#ifndef BITFLASH_SIM_RUNS_H_
#define BITFLASH_SIM_RUNS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "sim/tile.h"
#include "sim/tiling.h"

namespace bitflash::sim {

// A tile of query rows. With packed heads a row is (token, head of the group), token-major; otherwise row == token.
struct QueryTile {
  int64_t i = 0;
  Range rows;    // of the packed Q; fewer than Br in a ragged last tile
  Range tokens;  // the query positions that the rows belong to
};

// A tile of keys.
struct KeyTile {
  int64_t j = 0;
  Range rows;           // fewer than Bc in a ragged last tile
  bool masked = false;  // some row of the query tile does not see some column of the tile (padding columns included)

  bool operator==(const KeyTile&) const = default;
};

// `count` consecutive key tiles from `first` on, `step` tiles apart (1 or -1), that cost the same.
struct KeyRun {
  KeyTile first;
  int64_t count = 0;
  int64_t step = 1;
  int64_t total = 0;  // when the run stands for the like runs of several blocks: their tiles together; 0 otherwise

  KeyTile at(int64_t n) const;  // n-th tile of the run, 0 <= n < count
  KeyTile whole() const;        // the first tile, standing for all of them (Range::reach)
  bool operator==(const KeyRun&) const = default;
};

// The key tiles of one query tile in the order of visit: at most masked | plain | masked | ragged.
class KeyRuns {
 public:
  const KeyRun* begin() const { return runs_.data(); }
  const KeyRun* end() const { return runs_.data() + size_; }
  void Append(const KeyRun& run);
  void Reverse();

  // Adds the tiles of the like runs of `blocks` other blocks (AlikeRuns) to the totals of this one's. From the first of
  // them to the last each run grows evenly.
  void Accumulate(const KeyRuns& first, const KeyRuns& last, int64_t blocks);

  int64_t tiles() const;
  bool operator==(const KeyRuns& other) const;  // the same tiles in the same order
  Range keys() const;  // from the first key of the first tile to the last key of the last; empty without tiles

 private:
  std::array<KeyRun, 4> runs_;
  int size_ = 0;
};

enum class Order : uint8_t { kAscending, kDescending };

// Rows of the packed Q of one head: seqlen_q, or seqlen_q * group when query heads are packed.
int64_t QueryRows(const Attention& a, const Tiling& t);
int64_t QueryTileCount(const Attention& a, const Tiling& t);
QueryTile QueryTileAt(const Attention& a, const Tiling& t, int64_t i);

// Keys that one query position sees: a possibly empty interval inside [0, seqlen_k].
Range VisibleKeys(const Attention& a, int64_t token);

// The tiles of keys that at least one row of the query tile sees; none when no row sees a key. Tiles are counted from
// key 0. `within` restricts them to tiles [within.begin, within.end()) of the sequence, for kernels that split the
// keys.
KeyRuns KeyTiles(const Attention& a, const Tiling& t, const QueryTile& queries, Order order);
KeyRuns KeyTiles(const Attention& a, const Tiling& t, const QueryTile& queries, Order order, Range within);

// `count` consecutive query tiles from `first` on that cost the same.
struct QueryRun {
  QueryTile first;
  int64_t count = 0;

  QueryTile at(int64_t n) const;
  QueryTile whole() const;
};

// For kernels whose outer loop runs over the keys (fa1): all key tiles that some query row sees, ascending, as runs of
// tiles that the same query tiles see; and the query tiles with a row that sees the tile, ascending, ragged one last.
std::vector<KeyRun> AllKeyTiles(const Attention& a, const Tiling& t);
std::vector<QueryRun> QueryTilesOf(const Attention& a, const Tiling& t, const KeyTile& keys);

// True when both consist of runs of the same kinds of tile in the same order, however many tiles each run has. The cost
// of a block is linear in the lengths of its runs, so such blocks can be counted together.
bool AlikeRuns(const KeyRuns& a, const KeyRuns& b);

// `whole` cut into slices of `width`; the last one may be shorter.
struct SliceRun {
  Range first;
  int64_t count = 0;

  Range at(int64_t n) const { return {first.begin + n * first.count, first.count}; }
  Range whole() const { return {first.begin, first.count, (count - 1) * first.count}; }
};
std::vector<SliceRun> Slices(Range whole, int64_t width);

// The pages of a paged cache that hold the keys.
Range Pages(const Tiling& t, Range keys);

// Which part of the problem one thread block works on, within one head of one sequence.
struct BlockIndex {
  int64_t i = 0;      // query tile, or row for kernels with one block a row
  int64_t j = 0;      // tile of output columns, or row within the query tile, for kernels whose grid has one
  int64_t split = 0;  // part of the keys
};

// `count` blocks from `first` on, `step` apart, that a counting machine evaluates once: they have the same number of
// rows and the same kinds of key tiles, and `keys` holds the first block's tiles with the totals over all of them.
struct BlockRun {
  BlockIndex first;
  BlockIndex step;
  int64_t count = 1;
  KeyRuns keys;

  BlockIndex at(int64_t n) const { return {first.i + n * step.i, first.j + n * step.j, first.split + n * step.split}; }
};

// The blocks of one head for a grid of one block per query tile; `within` as in KeyTiles.
std::vector<BlockRun> QueryBlocks(const Attention& a, const Tiling& t, Order order);
std::vector<BlockRun> QueryBlocks(const Attention& a, const Tiling& t, Order order, Range within);

// Appends `count` blocks with the same key tiles to the list: to its last run when both are alike and `step` leads from
// one to the other. Or with like ones that grow evenly from `keys` to `last_keys`.
void AppendBlocks(std::vector<BlockRun>& blocks, const BlockIndex& index, const BlockIndex& step, const KeyRuns& keys,
                  int64_t count = 1);
void AppendBlocks(std::vector<BlockRun>& blocks, const BlockIndex& index, const BlockIndex& step, const KeyRuns& keys,
                  const KeyRuns& last_keys, int64_t count);

// The same when a block's cost depends on its rows only: whole tiles are one run, a ragged last tile another.
std::vector<BlockRun> WholeRows(const Attention& a, const Tiling& t);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_RUNS_H_
