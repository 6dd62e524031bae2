#include "sim/l2/layout.h"

#include <algorithm>

#include "sim/ceil_div.h"
#include "sim/l2/cache.h"
#include "sim/splits.h"

namespace bitflash::sim::l2 {
namespace {

constexpr int64_t kMostGranules = int64_t{1} << 22;  // 64 MB of entries in the cache; larger problems, larger granules

int64_t PowerOfTwoUpTo(int64_t most) {
  int64_t n = 1;
  while (2 * n <= most) n *= 2;
  return n;
}

double BytesOf(const GlobalMatrix& m) {
  return static_cast<double>(m.matrices) * static_cast<double>(m.rows) * static_cast<double>(m.cols) *
         static_cast<double>(data::StorageBytes(m.format));
}

}  // namespace

Layout::Layout(const Attention& a, const Tiling& t, const Kernel& kernel) : a_(a), t_(t) {
  const Operands g = MakeOperands(a, t);
  std::vector<GlobalMatrix> all = {g.Q, g.K, g.O, g.LSE};
  if (!a.v_is_in_k) all.push_back(g.V);
  if (kernel.Scratch) {
    for (const GlobalMatrix& scratch : kernel.Scratch(a, t)) all.push_back(scratch);
  }
  if (kernel.keys_outside) all.push_back(g.m), all.push_back(g.l);
  if (t.page_size > 0) all.push_back(g.BlockTable);
  double bytes = 0;
  for (const GlobalMatrix& m : all) bytes += BytesOf(m);
  granule_bytes_ = kGranuleBytes;
  while (bytes / static_cast<double>(granule_bytes_) > static_cast<double>(kMostGranules)) granule_bytes_ *= 2;
  for (const GlobalMatrix& m : all) {
    // Rows of a tile, so that no granule reaches into the next tile.
    const bool keys = m.tensor == TensorId::kK || m.tensor == TensorId::kV;
    Add(m, keys ? t.Bc : t.Br);
  }
}

void Layout::Add(const GlobalMatrix& m, int64_t tile_rows) {
  Grain& g = grains_[static_cast<int>(m.tensor)];
  if (g.per_matrix > 0 || m.rows == 0 || m.cols == 0) return;
  g.matrix_rows = m.rows;
  g.matrix_cols = m.cols;
  g.element = data::StorageBytes(m.format);
  const bool scores = m.tensor == TensorId::kS || m.tensor == TensorId::kP;
  if (scores) {
    // Pieces of a tile's width: the scores leave in them, the softmax reads them row by row.
    g.cols = std::min(m.cols, t_.Bc);
    g.rows = PowerOfTwoUpTo(std::max<int64_t>(1, granule_bytes_ / (g.cols * g.element)));
  } else {
    g.cols = std::min(m.cols, std::max<int64_t>(1, granule_bytes_ / g.element));
    g.rows = PowerOfTwoUpTo(std::max<int64_t>(1, granule_bytes_ / (g.cols * g.element)));
  }
  g.rows = std::min(g.rows, PowerOfTwoUpTo(std::max<int64_t>(1, tile_rows & -tile_rows)));
  g.across = CeilDiv(m.cols, g.cols);
  g.per_matrix = g.across * CeilDiv(m.rows, g.rows);
  g.first = granules_;
  granules_ += g.per_matrix * m.matrices;
}

int64_t Layout::MatrixOf(TensorId tensor, int64_t head) const {
  const int64_t per_sequence = t_.pack_gqa ? a_.heads_kv : a_.heads_q;
  switch (tensor) {
    case TensorId::kK:
    case TensorId::kV:
      return t_.pack_gqa ? head : head / per_sequence * a_.heads_kv + head % per_sequence / a_.group();
    case TensorId::kBlockTable:
      return head / per_sequence;
    default:
      return head;
  }
}

}  // namespace bitflash::sim::l2
