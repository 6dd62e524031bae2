#include "sim/runs.h"

#include <algorithm>
#include <cassert>

#include "sim/ceil_div.h"

namespace bitflash::sim {
namespace {

// No extent is above 2^40, so no side of a window longer than kFar hides anything; clamping keeps the sums in range.
constexpr int64_t kFar = int64_t{1} << 41;

// The query positions that see one of the keys, VisibleKeys the other way round: consecutive, because both ends of what
// a position sees never decrease.
Range SeeingTokens(const Attention& a, Range keys) {
  using Kind = data::Mask::Kind;
  const int64_t shift = a.seqlen_q - a.seqlen_k;  // key k is on the diagonal of token k + shift
  int64_t first = 0;
  int64_t last = a.seqlen_q - 1;
  switch (a.mask.kind) {
    case Kind::kFull:
      break;
    case Kind::kCausal:
      first = std::max(first, keys.begin + shift);
      break;
    case Kind::kCausalTopLeft:
      first = keys.begin;
      break;
    case Kind::kWindow:
      if (a.mask.right != data::Mask::kUnlimited)
        first = std::max(first, keys.begin + shift - std::min(a.mask.right, kFar));
      if (a.mask.left != data::Mask::kUnlimited)
        last = std::min(last, keys.end() - 1 + shift + std::min(a.mask.left, kFar));
      break;
  }
  first = std::min(first, a.seqlen_q);
  return {first, keys.count > 0 ? std::max<int64_t>(0, last + 1 - first) : 0};
}

constexpr size_t kMostRuns = 4;  // of KeyRuns

// By how many tiles the runs of the second query tile are longer.
std::array<int64_t, kMostRuns> Growth(const KeyRuns& first, const KeyRuns& second) {
  std::array<int64_t, kMostRuns> growth{};
  size_t n = 0;
  const KeyRun* run = second.begin();
  for (const KeyRun& before : first) {
    if (run == second.end()) break;
    growth[n++] = (run++)->count - before.count;
  }
  return growth;
}

// True when `later` is `first` with every run grown `times` times.
bool Grows(const KeyRuns& first, const KeyRuns& later, const std::array<int64_t, kMostRuns>& growth, int64_t times) {
  if (!AlikeRuns(first, later)) return false;
  const std::array<int64_t, kMostRuns> grown = Growth(first, later);
  for (size_t n = 0; n < growth.size(); ++n) {
    if (grown[n] != growth[n] * times) return false;
  }
  return true;
}

// The query tiles with a row that sees one of the keys.
Range QueryTileRange(const Attention& a, const Tiling& t, Range keys) {
  const int64_t per_token = t.pack_gqa ? a.group() : 1;
  const Range tokens = SeeingTokens(a, keys);
  const int64_t begin = tokens.begin * per_token / t.Br;
  return {begin, tokens.count > 0 ? CeilDiv(tokens.end() * per_token, t.Br) - begin : 0};
}

}  // namespace

QueryTile QueryRun::at(int64_t n) const {
  QueryTile tile = first;
  // Tiles of a longer run are whole, so packed heads divide them alike only when Br is a multiple of the group.
  tile.i += n;
  tile.rows.begin += n * first.rows.count;
  tile.tokens.begin += n * first.tokens.count;
  return tile;
}

QueryTile QueryRun::whole() const {
  QueryTile tile = first;
  tile.rows.reach = (count - 1) * first.rows.count;
  return tile;
}

KeyTile KeyRun::at(int64_t n) const {
  KeyTile tile = first;
  tile.j += n * step;
  // A ragged tile is a run of its own, so every tile of a longer run has the same number of rows: Bc.
  tile.rows.begin += n * step * first.rows.count;
  return tile;
}

KeyTile KeyRun::whole() const {
  KeyTile tile = first;
  tile.rows.reach = (count - 1) * step * first.rows.count;
  return tile;
}

void KeyRuns::Append(const KeyRun& run) {
  if (run.count == 0) return;
  assert(size_ < static_cast<int>(runs_.size()));
  runs_[size_++] = run;
}

void KeyRuns::Reverse() {
  std::reverse(runs_.begin(), runs_.begin() + size_);
  for (int r = 0; r < size_; ++r) {
    runs_[r].first = runs_[r].at(runs_[r].count - 1);
    runs_[r].step = -runs_[r].step;
  }
}

void KeyRuns::Accumulate(const KeyRuns& first, const KeyRuns& last, int64_t blocks) {
  assert(size_ == first.size_ && size_ == last.size_);
  for (int r = 0; r < size_; ++r) runs_[r].total += (first.runs_[r].count + last.runs_[r].count) * blocks / 2;
}

bool KeyRuns::operator==(const KeyRuns& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

int64_t KeyRuns::tiles() const {
  int64_t sum = 0;
  for (const KeyRun& run : *this) sum += run.count;
  return sum;
}

Range KeyRuns::keys() const {
  if (size_ == 0) return {};
  const KeyRun& a = runs_[0];
  const KeyRun& b = runs_[size_ - 1];
  const KeyTile ends[] = {a.first, b.at(b.count - 1)};
  const KeyTile& low = ends[0].j <= ends[1].j ? ends[0] : ends[1];
  const KeyTile& high = ends[0].j <= ends[1].j ? ends[1] : ends[0];
  return {low.rows.begin, high.rows.end() - low.rows.begin};
}

int64_t QueryRows(const Attention& a, const Tiling& t) { return a.seqlen_q * (t.pack_gqa ? a.group() : 1); }

int64_t QueryTileCount(const Attention& a, const Tiling& t) { return CeilDiv(QueryRows(a, t), t.Br); }

QueryTile QueryTileAt(const Attention& a, const Tiling& t, int64_t i) {
  const int64_t per_token = t.pack_gqa ? a.group() : 1;
  QueryTile tile{i, {i * t.Br, std::min(t.Br, QueryRows(a, t) - i * t.Br)}, {}};
  tile.tokens.begin = tile.rows.begin / per_token;
  tile.tokens.count = (tile.rows.end() - 1) / per_token + 1 - tile.tokens.begin;
  return tile;
}

Range VisibleKeys(const Attention& a, int64_t token) {
  using Kind = data::Mask::Kind;
  const int64_t diagonal = token + a.seqlen_k - a.seqlen_q;  // bottom-right alignment: the last query sees the last key
  int64_t first = 0;
  int64_t last = a.seqlen_k - 1;
  switch (a.mask.kind) {
    case Kind::kFull:
      break;
    case Kind::kCausal:
      last = std::min(last, diagonal);
      break;
    case Kind::kCausalTopLeft:
      last = std::min(last, token);
      break;
    case Kind::kWindow:
      if (a.mask.left != data::Mask::kUnlimited) first = std::max(first, diagonal - std::min(a.mask.left, kFar));
      if (a.mask.right != data::Mask::kUnlimited) last = std::min(last, diagonal + std::min(a.mask.right, kFar));
      break;
  }
  first = std::min(first, a.seqlen_k);
  return {first, std::max<int64_t>(0, last + 1 - first)};
}

KeyRuns KeyTiles(const Attention& a, const Tiling& t, const QueryTile& queries, Order order) {
  return KeyTiles(a, t, queries, order, {0, CeilDiv(a.seqlen_k, t.Bc)});
}

KeyRuns KeyTiles(const Attention& a, const Tiling& t, const QueryTile& queries, Order order, Range within) {
  // Both ends of VisibleKeys never decrease from one query position to the next. So the union over the tile reaches
  // from the first row's first key to the last row's last one, and what every row sees is the other way round.
  const Range top = VisibleKeys(a, queries.tokens.begin);
  const Range bottom = VisibleKeys(a, queries.tokens.end() - 1);
  KeyRuns runs;
  const int64_t union_end = std::max(top.end(), bottom.end());
  if (top.begin >= union_end) return runs;

  const int64_t begin = std::max(top.begin / t.Bc, within.begin);
  const int64_t end = std::min(CeilDiv(union_end, t.Bc), within.end());
  if (begin >= end) return runs;
  const int64_t whole_end = std::min(end, a.seqlen_k / t.Bc);  // tiles before it are not ragged
  // Every row sees the plain tiles whole.
  const int64_t plain_begin = std::clamp(CeilDiv(bottom.begin, t.Bc), begin, whole_end > begin ? whole_end : begin);
  const int64_t plain_end = std::clamp(top.end() / t.Bc, plain_begin, std::max(plain_begin, whole_end));

  const auto append = [&](int64_t from, int64_t to, bool masked) {
    const int64_t rows = std::min(t.Bc, a.seqlen_k - from * t.Bc);
    runs.Append({{from, {from * t.Bc, rows}, masked}, to - from, 1});
  };
  if (plain_begin > begin) append(begin, plain_begin, true);
  if (plain_end > plain_begin) append(plain_begin, plain_end, false);
  if (whole_end > plain_end) append(plain_end, whole_end, true);
  if (end > std::max(whole_end, begin)) append(end - 1, end, true);
  if (order == Order::kDescending) runs.Reverse();
  return runs;
}

bool AlikeRuns(const KeyRuns& a, const KeyRuns& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const KeyRun& x, const KeyRun& y) {
    return x.first.masked == y.first.masked && x.first.rows.count == y.first.rows.count;
  });
}

std::vector<SliceRun> Slices(Range whole, int64_t width) {
  std::vector<SliceRun> runs;
  const int64_t full = whole.count / width;
  if (full > 0) runs.push_back({{whole.begin, width}, full});
  if (whole.count % width > 0) runs.push_back({{whole.begin + full * width, whole.count % width}, 1});
  return runs;
}

Range Pages(const Tiling& t, Range keys) {
  const int64_t first = keys.begin / t.page_size;
  return {first, CeilDiv(keys.end(), t.page_size) - first, (keys.begin + keys.reach) / t.page_size - first};
}

void AppendBlocks(std::vector<BlockRun>& blocks, const BlockIndex& index, const BlockIndex& step, const KeyRuns& keys,
                  int64_t count) {
  AppendBlocks(blocks, index, step, keys, keys, count);
}

void AppendBlocks(std::vector<BlockRun>& blocks, const BlockIndex& index, const BlockIndex& step, const KeyRuns& keys,
                  const KeyRuns& last_keys, int64_t count) {
  if (count == 0) return;
  if (!blocks.empty()) {
    BlockRun& last = blocks.back();
    const BlockIndex next = last.at(last.count);
    const bool follows = next.i == index.i && next.j == index.j && next.split == index.split;
    if (follows && AlikeRuns(last.keys, keys)) {
      last.count += count;
      last.keys.Accumulate(keys, last_keys, count);
      return;
    }
  }
  blocks.push_back({index, step, count, keys});
  blocks.back().keys.Accumulate(keys, last_keys, count);
}

std::vector<BlockRun> QueryBlocks(const Attention& a, const Tiling& t, Order order) {
  return QueryBlocks(a, t, order, {0, CeilDiv(a.seqlen_k, t.Bc)});
}

std::vector<BlockRun> QueryBlocks(const Attention& a, const Tiling& t, Order order, Range within) {
  std::vector<BlockRun> blocks;
  const int64_t whole = QueryRows(a, t) / t.Br;
  const auto keys_of = [&](int64_t i) { return KeyTiles(a, t, QueryTileAt(a, t, i), order, within); };
  // What decides the key tiles of query tile i and which of them are masked: where its rows begin and end to see, in
  // key tiles. None of the four ever decreases, so when two query tiles agree in them, those between do too. (Their
  // runs alone would not do: under a window a tile can be masked on one side, then plain, then masked on the other.)
  const auto ends_of = [&](int64_t i) {
    const Range tokens = QueryTileAt(a, t, i).tokens;
    const Range top = VisibleKeys(a, tokens.begin), bottom = VisibleKeys(a, tokens.end() - 1);
    std::array<int64_t, 4> ends = {top.begin / t.Bc, CeilDiv(bottom.begin, t.Bc), top.end() / t.Bc,
                                   CeilDiv(bottom.end(), t.Bc)};
    for (int64_t& end : ends) end = std::clamp(end, within.begin, within.end());
    return ends;
  };
  // Only these query tiles see keys at all.
  const int64_t first_key = std::min(a.seqlen_k, within.begin * t.Bc);
  const Range keys{first_key, std::min(a.seqlen_k, within.end() * t.Bc) - first_key};
  const Range seeing = QueryTileRange(a, t, keys);
  const int64_t begin = std::min(seeing.begin, whole), end = std::min(seeing.end(), whole);
  // From one query tile to the next, each of the four goes on by `further` key tiles where the mask decides it, when
  // that is a whole number, and by less near the ends of the keys. Those that went on so far, or not at all, over many
  // query tiles did so at every one of them: then the runs grow evenly, unless they become others.
  const int64_t tokens_per_tile = t.pack_gqa ? t.Br / a.group() : t.Br;
  const bool even = tokens_per_tile % t.Bc == 0 && (!t.pack_gqa || t.Br % a.group() == 0);
  const int64_t further = even ? tokens_per_tile / t.Bc : 0;
  const auto evenly = [&](const std::array<int64_t, 4>& from, const std::array<int64_t, 4>& to, int64_t tiles) {
    for (size_t n = 0; n < from.size(); ++n) {
      if (to[n] != from[n] && to[n] != from[n] + further * tiles) return false;
    }
    return true;
  };
  AppendBlocks(blocks, {}, {.i = 1}, {}, begin);
  for (int64_t i = begin; i < end;) {
    const std::array<int64_t, 4> ends = ends_of(i);
    const KeyRuns first = keys_of(i);
    KeyRuns last = first;
    int64_t count = 1;
    std::array<int64_t, kMostRuns> step{};
    while (i + 2 * count <= end && evenly(ends, ends_of(i + 2 * count - 1), 2 * count - 1)) {
      const KeyRuns next = keys_of(i + 2 * count - 1);
      if (count == 1) step = Growth(first, next);
      if (!Grows(first, next, step, 2 * count - 1)) break;
      last = next;
      count *= 2;
    }
    AppendBlocks(blocks, {.i = i}, {.i = 1}, first, last, count);
    i += count;
  }
  AppendBlocks(blocks, {.i = end}, {.i = 1}, {}, whole - end);
  // A ragged last tile never joins the others: its rows differ.
  if (whole < QueryTileCount(a, t)) {
    std::vector<BlockRun> ragged;
    AppendBlocks(ragged, {.i = whole}, {.i = 1}, keys_of(whole));
    blocks.push_back(ragged.front());
  }
  return blocks;
}

std::vector<KeyRun> AllKeyTiles(const Attention& a, const Tiling& t) {
  const auto keys = [&](int64_t j) { return Range{j * t.Bc, std::min(t.Bc, a.seqlen_k - j * t.Bc)}; };
  const auto queries = [&](int64_t j) { return QueryTileRange(a, t, keys(j)); };
  std::vector<KeyRun> runs;
  const int64_t whole = a.seqlen_k / t.Bc;
  for (int64_t j = 0; j < whole;) {
    const Range seeing = queries(j);
    // As in QueryBlocks: both ends of the range never decrease from one key tile to the next.
    int64_t count = 1;
    while (j + 2 * count <= whole && queries(j + 2 * count - 1) == seeing) count *= 2;
    const bool again =
        !runs.empty() && runs.back().first.j + runs.back().count == j && queries(runs.back().first.j) == seeing;
    if (seeing.count > 0 && again) runs.back().count += count;
    if (seeing.count > 0 && !again) runs.push_back({{j, keys(j), true}, count, 1});
    j += count;
  }
  if (whole * t.Bc < a.seqlen_k && queries(whole).count > 0) runs.push_back({{whole, keys(whole), true}, 1, 1});
  return runs;
}

std::vector<QueryRun> QueryTilesOf(const Attention& a, const Tiling& t, const KeyTile& keys) {
  const Range tiles = QueryTileRange(a, t, keys.rows);
  std::vector<QueryRun> runs;
  if (tiles.count == 0) return runs;
  const QueryTile last = QueryTileAt(a, t, tiles.end() - 1);
  const bool ragged = last.rows.count < t.Br;
  if (tiles.count > ragged) runs.push_back({QueryTileAt(a, t, tiles.begin), tiles.count - ragged});
  if (ragged) runs.push_back({last, 1});
  return runs;
}

std::vector<BlockRun> WholeRows(const Attention& a, const Tiling& t) {
  const int64_t whole = QueryRows(a, t) / t.Br;
  std::vector<BlockRun> blocks;
  if (whole > 0) blocks.push_back({{}, {.i = 1}, whole});
  if (whole < QueryTileCount(a, t)) blocks.push_back({{.i = whole}, {.i = 1}, 1});
  return blocks;
}

}  // namespace bitflash::sim
