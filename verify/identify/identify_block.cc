#include "verify/identify/identify_block.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "sim/execute.h"
#include "sim/splits.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;

constexpr int64_t kMostPackedRows = 64;
constexpr int64_t kPackingWork = 12;  // packing an element of K or V costs about as much as 12 multiply-adds

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t WorkOf(const Attention& a, int64_t keys, int64_t rows) {
  return std::max<int64_t>(1, keys) * (a.head_dim + a.head_dim_v) * (RoundUp(rows, 16) + kPackingWork);
}

// Keys up to the last one that any row of the part sees.
int64_t KeysOf(const Problem& p, const Part& part) {
  Attention a = p.attention;
  a.seqlen_q = p.queries(part.sequence), a.seqlen_k = p.keys(part.sequence);
  return sim::VisibleKeys(a, part.rows.end - 1).end();
}

template <typename T>
int64_t CountDifferentElements(const std::vector<T>& a, const std::vector<T>& b) {
  int64_t differ = 0;
  for (size_t i = 0; i < a.size(); ++i) differ += a[i] != b[i];
  return differ;
}

}  // namespace

Blocks::Blocks(const Problem& problem, const Outputs& outputs, int64_t rows_of_block)
    : problem_(problem), outputs_(outputs) {
  const Attention& a = problem.attention;
  for (int64_t sequence = 0; sequence < a.batch; ++sequence) {
    const int64_t rows = problem.queries(sequence);
    if (rows == 0) continue;
    const bool whole_groups = rows < 16 && rows * a.group() <= kMostPackedRows;
    const int64_t step = whole_groups ? a.group() : 1;
    for (int64_t head = 0; head < a.heads_q; head += step) {
      for (int64_t row = 0; row < rows; row += rows_of_block) {
        parts_.push_back({sequence, {head, head + step}, {row, std::min(rows, row + rows_of_block)}});
      }
    }
  }
}

int64_t Blocks::Work(int64_t number) const {
  const Part& part = parts_[number];
  return WorkOf(problem_.attention, KeysOf(problem_, part), part.heads.size() * part.rows.size());
}

Block Blocks::Make(int64_t number) const { return Make(parts_[number]); }

Block Blocks::Make(const Part& part) const {
  Block block;
  block.part = part;
  block.problem = Extract(problem_, part);
  block.head_begin = part.heads.begin - FirstHead(problem_, part);
  block.sequence_keys = problem_.keys(part.sequence);
  block.pack = part.heads.size() > 1;
  const Outputs observed = Extract(outputs_, part);
  const auto o = observed.o.Elements<uint16_t>();
  block.o.assign(o.begin(), o.end());
  if (observed.lse) {
    const auto lse = observed.lse->Elements<uint32_t>();
    block.lse.assign(lse.begin(), lse.end());
  }
  block.work = WorkOf(problem_.attention, block.problem.attention.seqlen_k, block.rows());
  return block;
}

std::vector<int64_t> Blocks::Spread(int64_t most) const {
  // Steps of about the golden ratio of a circle: no two neighbours stay close.
  std::vector<int64_t> numbers;
  const int64_t n = count();
  int64_t step = std::max<int64_t>(1, static_cast<int64_t>(0.6180339887498949 * static_cast<double>(n)));
  while (std::gcd(step, n) != 1) ++step;
  int64_t at = n - 1;  // the last rows see most keys
  for (int64_t i = 0; i < std::min(n, most); ++i) {
    numbers.push_back(at);
    at = (at + step) % n;
  }
  return numbers;
}

int64_t Information(const Block& block) {
  const Attention& a = block.problem.attention;
  const int64_t keys = a.seqlen_k, d = a.head_dim;
  constexpr int64_t kGroup = 16;
  const auto floats = [&](const data::Tensor& tensor, int64_t first, int64_t count) {
    return ToFloats(tensor.Reshaped({tensor.count()}).Slice(0, first, first + count));
  };
  int64_t changes = 0;
  for (int64_t head = block.head_begin; head < block.head_begin + block.part.heads.size(); ++head) {
    const std::vector<float> k = floats(block.problem.k, head / a.group() * keys * d, keys * d);
    const std::vector<float> q = floats(block.problem.q, head * a.seqlen_q * d, a.seqlen_q * d);
    for (int64_t row = 0; row < a.seqlen_q; ++row) {
      const sim::Range visible = sim::VisibleKeys(a, row);
      std::vector<float> most(keys / kGroup + 1, -INFINITY);
      for (int64_t key = visible.begin; key < visible.end(); ++key) {
        float s = 0;
        for (int64_t c = 0; c < d; ++c) s += q[row * d + c] * k[key * d + c];
        most[key / kGroup] = std::max(most[key / kGroup], s);
      }
      float up = -INFINITY, down = -INFINITY;
      for (size_t n = 0; n < most.size(); ++n) {
        const float ascending = most[n], descending = most[most.size() - 1 - n];
        changes += (ascending > up) + (descending > down);
        up = std::max(up, ascending), down = std::max(down, descending);
      }
    }
  }
  return changes;
}

BlockBits Simulate(const Candidate& candidate, const Block& block) {
  const Attention& a = block.problem.attention;
  sim::Kernel kernel = *candidate.text;
  kernel.recipe = candidate.recipe;
  sim::Tiling tiling = candidate.tiling;
  if (tiling.splits > 1) {
    Attention whole = a;
    whole.seqlen_k = block.sequence_keys;  // the block may have fewer
    tiling.part_keys = sim::KeysPerPart(whole, tiling);
  }
  tiling.pack_gqa = block.pack && kernel.packs_heads;
  const int64_t rows = a.seqlen_q * (tiling.pack_gqa ? a.group() : 1);
  const bool wgmma = kernel.mma == sim::MmaInstruction::kWgmma;
  tiling.Br = wgmma ? 64 : std::min<int64_t>(64, RoundUp(rows, 16));
  tiling.warps = wgmma ? 4 : 1;
  tiling.stages = 1;

  const size_t o_head = a.seqlen_q * a.head_dim_v, lse_head = a.seqlen_q;
  BlockBits all{std::vector<uint16_t>(a.heads_q * o_head), std::vector<uint32_t>(a.heads_q * lse_head)};
  sim::ExecuteOptions options;
  options.head_begin = block.head_begin;
  options.head_end = block.head_begin + block.part.heads.size();
  options.threads = 1;
  std::vector<float> lse(a.heads_q * lse_head);
  sim::Execute(kernel, a, tiling, candidate.arch,
               {block.problem.q.ContiguousBytes().data(), block.problem.k.ContiguousBytes().data(),
                block.problem.v.ContiguousBytes().data()},
               {all.o.data(), lse.data()}, options);
  std::transform(lse.begin(), lse.end(), all.lse.begin(), [](float x) { return std::bit_cast<uint32_t>(x); });
  BlockBits bits;
  bits.o.assign(all.o.begin() + options.head_begin * o_head, all.o.begin() + options.head_end * o_head);
  if (!block.lse.empty()) {
    bits.lse.assign(all.lse.begin() + options.head_begin * lse_head, all.lse.begin() + options.head_end * lse_head);
  }
  return bits;
}

int64_t CountDifferent(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b) {
  return CountDifferentElements(a, b);
}
int64_t CountDifferent(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  return CountDifferentElements(a, b);
}

}  // namespace bitflash::verify
