#include "verify/diagnose/fault_problems.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace bitflash::verify {
namespace {

using data::Mask;
using data::Tensor;

int64_t RowBytes(const Tensor& t) { return t.shape()[3] * t.type().bytes(); }

// A tensor [shape[0], heads, shape[2], shape[3]] whose rows are those of `from` that `source` says.
Tensor Gather(const Tensor& from, int64_t heads, const RowSource& source) {
  Tensor to = Tensor::Zeros(from.type(), {from.shape()[0], heads, from.shape()[2], from.shape()[3]});
  const int64_t bytes = RowBytes(from), rows = from.shape()[2];
  std::byte* target = to.ContiguousBytes().data();
  for (int64_t b = 0; b < from.shape()[0]; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t r = 0; r < rows; ++r, target += bytes) {
        std::memcpy(target, from.ContiguousBytes().data() + source(b, h, r) * bytes, bytes);
      }
    }
  }
  return to;
}

template <class Change>
Problem WithKeysAndValues(Problem problem, const Change& change) {
  problem.k = change(problem.k);
  if (!problem.attention.v_is_in_k) problem.v = change(problem.v);
  return problem;
}

Problem WithKeys(Problem problem, int64_t keys) {
  problem.attention.softmax_scale = problem.attention.scale();
  problem.attention.seqlen_k = keys;
  return WithKeysAndValues(std::move(problem), [&](const Tensor& t) { return t.Slice(2, 0, keys).Contiguous(); });
}

}  // namespace

Problem WithMask(Problem problem, const Mask& mask) {
  problem.attention.mask = mask;
  return problem;
}

Problem WithScale(Problem problem, double scale) {
  problem.attention.softmax_scale = scale;
  return problem;
}

Problem WithDiagonal(const Problem& problem, int64_t diagonal) {
  const int64_t queries = problem.attention.seqlen_q, keys = problem.attention.seqlen_k;
  if (diagonal > keys - queries) return WithMask(problem, Mask::Window(Mask::kUnlimited, diagonal - (keys - queries)));
  // With queries + diagonal keys the bottom-right diagonal is the wanted one; no key is left where that is negative.
  return WithMask(WithKeys(problem, std::max<int64_t>(0, queries + diagonal)), Mask::Causal());
}

Problem WithDiagonalMoved(const Problem& problem, int64_t keys) {
  if (problem.attention.mask.kind == Mask::Kind::kCausalTopLeft) return WithDiagonal(problem, keys);
  if (keys > 0) return WithMask(problem, Mask::Window(Mask::kUnlimited, keys));
  if (!problem.ragged()) return WithDiagonal(problem, problem.attention.seqlen_k - problem.attention.seqlen_q + keys);
  Problem shorter = problem;
  shorter.seqlens_k.clear();
  for (int64_t b = 0; b < problem.attention.batch; ++b) {
    shorter.seqlens_k.push_back(std::max<int64_t>(0, problem.keys(b) + keys));
  }
  return shorter;
}

Problem WithColumnsCut(const Problem& problem, int64_t begin) {
  Problem cut = problem;
  cut.q = problem.q.Clone();
  const int64_t bytes = RowBytes(cut.q), kept = begin * cut.q.type().bytes();
  std::byte* row = cut.q.ContiguousBytes().data();
  for (int64_t offset = 0; offset < cut.q.bytes(); offset += bytes) std::memset(row + offset + kept, 0, bytes - kept);
  return cut;
}

Problem WithKeyRows(const Problem& problem, const RowSource& source) {
  return WithKeysAndValues(problem, [&](const Tensor& t) { return Gather(t, problem.attention.heads_kv, source); });
}

Problem WithHeadMap(const Problem& problem, const std::function<int64_t(int64_t)>& map) {
  const data::Attention& a = problem.attention;
  const RowSource source = [&](int64_t b, int64_t h, int64_t r) { return (b * a.heads_kv + map(h)) * a.seqlen_k + r; };
  Problem mapped = WithKeysAndValues(problem, [&](const Tensor& t) { return Gather(t, a.heads_q, source); });
  mapped.attention.heads_kv = a.heads_q;
  return mapped;
}

Problem WithOffsetsWrapped(const Problem& problem) {
  return WithKeysAndValues(problem, [](const Tensor& t) {
    int64_t wrap = 1;
    while (wrap * 2 < t.count()) wrap *= 2;
    Tensor wrapped = t.Clone();
    const int64_t element = t.type().bytes();
    std::byte* bytes = wrapped.ContiguousBytes().data();
    for (int64_t begin = wrap; begin < t.count(); begin += wrap) {
      std::memcpy(bytes + begin * element, bytes, std::min(wrap, t.count() - begin) * element);
    }
    return wrapped;
  });
}

Problem ReadAsBshd(const Problem& problem) {
  const auto read = [](const Tensor& t) {
    const auto& s = t.shape();
    return t.Reshaped({s[0], s[2], s[1], s[3]}).Permuted({0, 2, 1, 3}).Contiguous();
  };
  Problem other = WithKeysAndValues(problem, read);
  other.q = read(problem.q);
  return other;
}

Problem ReadPackedWithoutStride(const Problem& problem) {
  const int64_t rows = problem.attention.seqlen_q, heads = problem.attention.heads_q;
  const Tensor parts[] = {problem.q, problem.k, problem.v};
  // Row r of part p is row p + r of the packed rows of its head, instead of row 3 r + p.
  const auto read = [&](int64_t p) {
    Tensor to = problem.q.Clone();
    const int64_t bytes = RowBytes(to);
    for (int64_t n = 0; n < problem.attention.batch * heads; ++n) {
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t packed = p + r;
        std::memcpy(to.ContiguousBytes().data() + (n * rows + r) * bytes,
                    parts[packed % 3].ContiguousBytes().data() + (n * rows + packed / 3) * bytes, bytes);
      }
    }
    return to;
  };
  Problem other = problem;
  other.q = read(0);
  other.k = read(1);
  other.v = read(2);
  return other;
}

}  // namespace bitflash::verify
