#include "sim/operands.h"

#include <numbers>

#include "sim/runs.h"

namespace bitflash::sim {

Operands MakeOperands(const Attention& a, const Tiling& t) {
  const int64_t rows = QueryRows(a, t);
  const int64_t heads = Heads(a, t);
  const int64_t kv_heads = a.batch * a.heads_kv;
  const Format scores = t.fp32_scores ? Format::kFp32 : a.format;
  const int64_t pages = t.page_size ? (a.seqlen_k + t.page_size - 1) / t.page_size : 0;
  Operands g;
  g.Q = {TensorId::kQ, a.format, rows, a.head_dim, heads};
  g.K = {TensorId::kK, a.format, a.seqlen_k, a.head_dim, kv_heads, Reuse::kShared};
  g.V = {TensorId::kV, a.format, a.seqlen_k, a.head_dim_v, kv_heads, Reuse::kShared};
  g.O = {TensorId::kO, a.format, rows, a.head_dim_v, heads};
  g.LSE = {TensorId::kLse, Format::kFp32, rows, 1, heads};
  g.S = {TensorId::kS, scores, rows, a.seqlen_k, heads};
  g.P = {TensorId::kP, a.format, rows, a.seqlen_k, heads};
  g.m = {TensorId::kM, Format::kFp32, rows, 1, heads};
  g.l = {TensorId::kL, Format::kFp32, rows, 1, heads};
  g.OPartial = {TensorId::kOPartial, Format::kFp32, rows, a.head_dim_v, heads};
  g.BlockTable = {TensorId::kBlockTable, Format::kFp32, pages, 1, a.batch, Reuse::kShared};
  return g;
}

int64_t Heads(const Attention& a, const Tiling& t) { return a.batch * (t.pack_gqa ? a.heads_kv : a.heads_q); }

int64_t PaddedDim(int64_t head_dim, Format format) {
  const int64_t depth = data::StorageBytes(format) == 1 ? 32 : 16;
  return (head_dim + depth - 1) / depth * depth;
}

float ScaleLog2(const Attention& a, const Recipe& recipe) {
  const float scale = static_cast<float>(a.scale());
  if (recipe.scale_log2 == Recipe::ScaleLog2::kFromFloat) return scale * static_cast<float>(std::numbers::log2e);
  return static_cast<float>(static_cast<double>(scale) * std::numbers::log2e);
}

}  // namespace bitflash::sim
