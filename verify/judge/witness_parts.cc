#include "verify/judge/witness_parts.h"

#include <algorithm>
#include <cmath>

namespace bitflash::verify {
namespace {

constexpr int64_t kChunkPairs = int64_t{1} << 27;     // query-key pairs
constexpr int64_t kChunkElements = int64_t{1} << 26;  // of K and V as fp32
constexpr int64_t kChunkOutputs = int64_t{1} << 24;   // of O

}  // namespace

std::vector<Part> WitnessChunks(const Problem& p) {
  const data::Attention& a = p.attention;
  std::vector<Part> chunks;
  for (int64_t n = 0; n < a.batch; ++n) {
    const int64_t queries = p.queries(n), keys = std::max<int64_t>(1, p.keys(n));
    if (queries == 0) continue;
    const int64_t most_rows = std::min(kChunkPairs / (keys * a.group()), kChunkOutputs / (a.group() * a.head_dim_v));
    const int64_t rows = std::clamp<int64_t>(most_rows, 1, queries);
    const int64_t most_heads =
        std::min({kChunkPairs / (rows * keys * a.group()), kChunkElements / (keys * (a.head_dim + 2 * a.head_dim_v)),
                  kChunkOutputs / (rows * a.group() * a.head_dim_v)});
    const int64_t heads = std::clamp<int64_t>(most_heads, 1, a.heads_kv);
    for (int64_t kv = 0; kv < a.heads_kv; kv += heads) {
      const reference::Range of_q = {kv * a.group(), std::min(a.heads_kv, kv + heads) * a.group()};
      for (int64_t row = 0; row < queries; row += rows) {
        chunks.push_back({n, of_q, {row, std::min(queries, row + rows)}});
      }
    }
  }
  return chunks;
}

std::vector<Part> Unseen(const Part& chunk, const std::vector<Part>& seen) {
  // By runs of heads that the same parts hold.
  std::vector<int64_t> edges = {chunk.heads.begin, chunk.heads.end};
  std::vector<Part> inside;
  for (const Part& part : seen) {
    const bool apart = part.sequence != chunk.sequence || part.heads.end <= chunk.heads.begin ||
                       part.heads.begin >= chunk.heads.end || part.rows.end <= chunk.rows.begin ||
                       part.rows.begin >= chunk.rows.end;
    if (apart) continue;
    inside.push_back(part);
    for (const int64_t edge : {part.heads.begin, part.heads.end}) {
      if (chunk.heads.begin < edge && edge < chunk.heads.end) edges.push_back(edge);
    }
  }
  std::ranges::sort(edges);
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  std::ranges::sort(inside, {}, [](const Part& part) { return part.rows.begin; });
  std::vector<Part> unseen;
  for (size_t n = 0; n + 1 < edges.size(); ++n) {
    const reference::Range heads = {edges[n], edges[n + 1]};
    int64_t row = chunk.rows.begin;
    for (const Part& part : inside) {
      if (part.heads.begin > heads.begin || part.heads.end < heads.end) continue;
      if (row < part.rows.begin) unseen.push_back({chunk.sequence, heads, {row, part.rows.begin}});
      row = std::max(row, part.rows.end);
    }
    if (row < chunk.rows.end) unseen.push_back({chunk.sequence, heads, {row, chunk.rows.end}});
  }
  return unseen;
}

Witness Cut(const Witness& w, const Part& chunk, const Part& part, int64_t columns) {
  Witness cut;
  const auto rows = [&](const std::vector<double>& from, int64_t width, std::vector<double>* to) {
    to->reserve(part.heads.size() * part.rows.size() * width);
    for (int64_t h = part.heads.begin; h < part.heads.end; ++h) {
      const int64_t first = (h - chunk.heads.begin) * chunk.rows.size() + part.rows.begin - chunk.rows.begin;
      to->insert(to->end(), from.begin() + first * width, from.begin() + (first + part.rows.size()) * width);
    }
  };
  rows(w.truth.o, columns, &cut.truth.o);
  rows(w.truth.o_bound, columns, &cut.truth.o_bound);
  rows(w.o_error, columns, &cut.o_error);
  rows(w.truth.lse, 1, &cut.truth.lse);
  rows(w.truth.lse_bound, 1, &cut.truth.lse_bound);
  rows(w.lse_error, 1, &cut.lse_error);
  for (const std::vector<double>* errors : {&cut.o_error, &cut.lse_error}) {
    cut.open += std::ranges::count_if(*errors, [](double error) { return std::isinf(error); });
  }
  return cut;
}

}  // namespace bitflash::verify
