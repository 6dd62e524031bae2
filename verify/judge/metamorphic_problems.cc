#include "verify/judge/metamorphic_problems.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "data/convert.h"
#include "data/random.h"

namespace bitflash::verify {
namespace {

using data::Mask;
using data::Tensor;

// Calls function(bytes of the row, b, h, s) for every row of a contiguous tensor [batch, heads, rows, columns].
template <typename Function>
void ForEachRow(Tensor& tensor, Function function) {
  const auto& shape = tensor.shape();
  const int64_t bytes = shape[3] * tensor.type().bytes();
  std::byte* row = tensor.ContiguousBytes().data();
  for (int64_t b = 0; b < shape[0]; ++b) {
    for (int64_t h = 0; h < shape[1]; ++h) {
      for (int64_t s = 0; s < shape[2]; ++s, row += bytes) function(row, b, h, s);
    }
  }
}

void Put(std::byte* element, uint64_t bits, int64_t bytes) { std::memcpy(element, &bits, bytes); }

void FillColumn(Tensor& tensor, int64_t column, uint64_t bits) {
  const int64_t bytes = tensor.type().bytes();
  ForEachRow(tensor, [&](std::byte* row, int64_t, int64_t, int64_t) { Put(row + column * bytes, bits, bytes); });
}

void Negate(std::byte* row, int64_t columns, int64_t bytes) {
  for (int64_t c = 0; c < columns; ++c) row[(c + 1) * bytes - 1] ^= std::byte{0x80};  // little-endian
}

// The same row of another tensor of the same shape.
const std::byte* RowOf(const Tensor& tensor, int64_t b, int64_t h, int64_t s) {
  const auto& shape = tensor.shape();
  return tensor.ContiguousBytes().data() + ((b * shape[1] + h) * shape[2] + s) * shape[3] * tensor.type().bytes();
}

// `tensor` with room for more rows in every sequence, zero.
Tensor Extended(const Tensor& tensor, int64_t rows) {
  const auto& shape = tensor.shape();
  Tensor result = Tensor::Zeros(tensor.type(), {shape[0], shape[1], shape[2] + rows, shape[3]});
  const int64_t bytes = shape[3] * tensor.type().bytes();
  ForEachRow(result, [&](std::byte* row, int64_t b, int64_t h, int64_t s) {
    if (s < shape[2]) std::memcpy(row, RowOf(tensor, b, h, s), bytes);
  });
  return result;
}

Tensor Repeated(const Tensor& tensor, int64_t times) {
  std::vector<int64_t> shape = tensor.shape();
  shape[0] = times;
  Tensor result = Tensor::Zeros(tensor.type(), shape);
  for (int64_t i = 0; i < times; ++i) {
    std::memcpy(result.ContiguousBytes().data() + i * tensor.bytes(), tensor.ContiguousBytes().data(), tensor.bytes());
  }
  return result;
}

void NegateSequence(Tensor& tensor, int64_t sequence) {
  const int64_t columns = tensor.shape()[3], bytes = tensor.type().bytes();
  ForEachRow(tensor, [&](std::byte* row, int64_t b, int64_t, int64_t) {
    if (b == sequence) Negate(row, columns, bytes);
  });
}

}  // namespace

uint64_t BitsOf(data::Format format, double value) { return data::Encode(format, value); }

Tensor Constant(const Tensor& like, double value) {
  Tensor result = Tensor::Zeros(like.type(), like.shape());
  const uint64_t bits = BitsOf(*like.type().format(), value);
  for (int64_t c = 0; c < like.shape()[3]; ++c) FillColumn(result, c, bits);
  return result;
}

Shifted ShiftLogits(const Problem& problem, bool up) {
  Shifted result;
  const data::Attention& a = problem.attention;
  const int64_t column = a.head_dim - 1;
  if (a.softcap > 0) return {{}, {}, 0, "a softcap bends logits"};
  if (a.head_dim < 2) return {{}, {}, 0, "there is one column only"};
  if (a.v_is_in_k && a.head_dim_v > column) return {{}, {}, 0, "every column of K is one of V"};
  // About 128, which would overflow exp in fp32 if the largest logit were not subtracted; e^-128 would underflow. fp8
  // tensor cores round logits of that size too coarsely to tell anything.
  const double target = data::StorageBytes(a.format) == 1 ? 8 : 128;
  const double unit = a.scale() * problem.q_scale * problem.k_scale;
  const int exponent = std::ilogb(target / unit), of_q = exponent / 2, of_k = exponent - of_q;
  for (const int e : {of_q, of_k}) {
    const double power = std::ldexp(1.0, e);
    if (static_cast<double>(data::Decode(a.format, static_cast<uint32_t>(BitsOf(a.format, power)))) != power) {
      return {{}, {}, 0, "the scales leave no powers of two in this format"};
    }
  }
  result.shift = (up ? unit : -unit) * std::ldexp(1.0, exponent);
  result.without = problem;
  result.without.q = problem.q.Clone();
  result.without.k = problem.k.Clone();
  FillColumn(result.without.q, column, 0);
  FillColumn(result.without.k, column, 0);
  result.with = result.without;
  result.with.q = result.without.q.Clone();
  result.with.k = result.without.k.Clone();
  FillColumn(result.with.q, column, BitsOf(a.format, std::ldexp(up ? 1.0 : -1.0, of_q)));
  FillColumn(result.with.k, column, BitsOf(a.format, std::ldexp(1.0, of_k)));
  for (double& sink : result.with.sinks) sink += result.shift;
  return result;
}

bool SeesAllKeys(const Problem& p) {
  const Mask& mask = p.attention.mask;
  return mask.kind == Mask::Kind::kFull ||
         (mask.kind == Mask::Kind::kWindow && mask.left == Mask::kUnlimited && mask.right == Mask::kUnlimited);
}

Problem PermuteKeys(const Problem& problem, uint64_t seed) {
  Problem p = problem;
  // order[b][s]: the key that comes to place s. Padding stays where it is.
  std::vector<std::vector<int64_t>> order;
  for (int64_t b = 0; b < p.attention.batch; ++b) {
    std::vector<int64_t> keys(static_cast<size_t>(p.attention.seqlen_k));
    std::iota(keys.begin(), keys.end(), 0);
    for (int64_t s = p.keys(b) - 1; s > 0; --s) {
      const uint64_t random = data::HashBits(seed, static_cast<uint64_t>(b * p.attention.seqlen_k + s));
      std::swap(keys[s], keys[random % static_cast<uint64_t>(s + 1)]);
    }
    order.push_back(std::move(keys));
  }
  const auto permuted = [&](const Tensor& tensor) {
    Tensor result = tensor.Clone();
    const int64_t bytes = tensor.shape()[3] * tensor.type().bytes();
    ForEachRow(result, [&](std::byte* row, int64_t b, int64_t h, int64_t s) {
      std::memcpy(row, RowOf(tensor, b, h, order[b][s]), bytes);
    });
    return result;
  };
  p.k = permuted(problem.k);
  if (!p.attention.v_is_in_k) p.v = permuted(problem.v);
  return p;
}

Problem HalfOfV(const Problem& problem, int part, bool negated) {
  Problem p = problem;
  p.v = problem.v.Clone();
  const int64_t columns = p.v.shape()[3], bytes = p.v.type().bytes();
  ForEachRow(p.v, [&](std::byte* row, int64_t, int64_t, int64_t s) {
    if (static_cast<int>(data::SplitMix64(static_cast<uint64_t>(s)) % 2) != part) {
      std::memset(row, 0, columns * bytes);
    } else if (negated) {
      Negate(row, columns, bytes);
    }
  });
  return p;
}

Problem Alone(const Problem& problem, int64_t sequence) {
  Problem p = problem;
  p.attention.batch = 1;
  const auto one = [&](const Tensor& tensor) { return tensor.Slice(0, sequence, sequence + 1).Contiguous(); };
  p.q = one(problem.q);
  p.k = one(problem.k);
  if (!p.attention.v_is_in_k) p.v = one(problem.v);
  if (!p.seqlens_q.empty()) p.seqlens_q = {problem.seqlens_q[sequence]};
  if (!p.seqlens_k.empty()) p.seqlens_k = {problem.seqlens_k[sequence]};
  return p;
}

Problem WithNeighbours(const Problem& problem, int64_t sequence) {
  Problem p = Alone(problem, sequence);
  p.attention.batch = 4;
  p.q = Repeated(p.q, 4);
  p.k = Repeated(p.k, 4);
  if (!p.attention.v_is_in_k) p.v = Repeated(p.v, 4);
  for (const int64_t neighbour : {0, 2}) {
    NegateSequence(p.k, neighbour);
    if (!p.attention.v_is_in_k) NegateSequence(p.v, neighbour);
  }
  const auto half_of = [](std::vector<int64_t>& lengths, int64_t half) {
    if (!lengths.empty()) lengths = {half, lengths[0], lengths[0], lengths[0]};
  };
  if (!p.seqlens_q.empty()) half_of(p.seqlens_q, (p.seqlens_q[0] + 1) / 2);
  if (!p.seqlens_k.empty()) half_of(p.seqlens_k, p.seqlens_k[0] / 2);
  return p;
}

int64_t LongestSequence(const Problem& p) {
  int64_t longest = 0;
  for (int64_t b = 1; b < p.attention.batch; ++b) {
    const bool has_rows = p.queries(b) > 0, better = p.keys(b) > p.keys(longest);
    if (p.queries(longest) == 0 ? has_rows : has_rows && better) longest = b;
  }
  return longest;
}

SplitKeys SplitInTwo(const Problem& problem) {
  SplitKeys result;
  const int64_t sequence = LongestSequence(problem);
  if (problem.queries(sequence) == 0 || problem.keys(sequence) < 2) {
    result.why_not = "no sequence has two keys";
    return result;
  }
  const Mask mask = problem.attention.mask;
  if (mask.kind == Mask::Kind::kCausalTopLeft || (mask.kind == Mask::Kind::kWindow && mask.left != Mask::kUnlimited)) {
    result.why_not = "the parts of this mask are no masks";
    return result;
  }
  // All keys, also those behind the last that a row sees: Extract would cut them off, and the mask with them.
  Problem whole = Alone(problem, sequence);
  const int64_t queries = problem.queries(sequence), keys = problem.keys(sequence);
  whole.attention.seqlen_q = queries;
  whole.attention.seqlen_k = keys;
  whole.q = whole.q.Slice(2, 0, queries).Contiguous();
  whole.seqlens_q.clear();
  whole.seqlens_k.clear();
  const Tensor k = whole.k, v = whole.v;
  const auto take = [&](Problem& p, int64_t begin, int64_t end) {
    p.attention.seqlen_k = end - begin;
    p.k = k.Slice(2, begin, end).Contiguous();
    if (!p.attention.v_is_in_k) p.v = v.Slice(2, begin, end).Contiguous();
  };
  take(whole, 0, keys);
  result.whole = result.first = result.second = whole;
  const int64_t split = (keys + 1) / 2;
  take(result.first, 0, split);
  take(result.second, split, keys);
  // Bottom-right masks are aligned to the last key: the first part's diagonal lies further right by what was cut off.
  if (!SeesAllKeys(problem)) {
    const int64_t right = mask.kind == Mask::Kind::kCausal ? 0 : mask.right;
    result.first.attention.mask = Mask::Window(Mask::kUnlimited, right + keys - split);
  }
  result.second.sinks.clear();  // a sink counts once
  return result;
}

Problem WithPadding(const Problem& problem, uint64_t bits) {
  constexpr int64_t kExtra = 5;
  Problem p = problem;
  const data::Attention& a = p.attention;
  const auto any = [](const std::vector<int64_t>& lengths, int64_t extent) {
    return std::any_of(lengths.begin(), lengths.end(), [&](int64_t x) { return x < extent; });
  };
  if (!any(p.seqlens_k, a.seqlen_k)) {
    p.seqlens_k.assign(a.batch, a.seqlen_k);
    p.attention.seqlen_k += kExtra;
    p.k = Extended(p.k, kExtra);
    if (!a.v_is_in_k) p.v = Extended(p.v, kExtra);
  }
  const auto fill = [&](Tensor& tensor, const std::vector<int64_t>& lengths) {
    if (lengths.empty()) return;
    tensor = tensor.Clone();
    const int64_t columns = tensor.shape()[3], bytes = tensor.type().bytes();
    ForEachRow(tensor, [&](std::byte* row, int64_t b, int64_t, int64_t s) {
      if (s < lengths[b]) return;
      for (int64_t c = 0; c < columns; ++c) Put(row + c * bytes, bits, bytes);
    });
  };
  fill(p.q, p.seqlens_q);
  fill(p.k, p.seqlens_k);
  if (!a.v_is_in_k) fill(p.v, p.seqlens_k);
  return p;
}

}  // namespace bitflash::verify
