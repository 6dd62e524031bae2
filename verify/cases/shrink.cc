#include "verify/cases/shrink.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "data/convert.h"
#include "data/distribution.h"
#include "data/error.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {
namespace {

using data::Tensor;
using reference::Range;

// What a problem consists of and can be cut to a part of.
enum class Extent : uint8_t { kBatch, kHeadsKv, kGroup, kSeqlenQ, kSeqlenK, kHeadDim, kHeadDimV };
constexpr Extent kExtents[] = {Extent::kBatch,   Extent::kHeadsKv, Extent::kGroup,   Extent::kSeqlenQ,
                               Extent::kSeqlenK, Extent::kHeadDim, Extent::kHeadDimV};

const char* Name(Extent extent) {
  constexpr const char* kNames[] = {"batch",    "heads_kv",  "query heads a KV head", "seqlen_q", "seqlen_k",
                                    "head_dim", "head_dim_v"};
  return kNames[static_cast<size_t>(extent)];
}

int64_t SizeOf(const Problem& p, Extent extent) {
  const data::Attention& a = p.attention;
  const int64_t sizes[] = {a.batch, a.heads_kv, a.group(), a.seqlen_q, a.seqlen_k, a.head_dim, a.head_dim_v};
  return sizes[static_cast<size_t>(extent)];
}

Tensor Cut(const Tensor& tensor, int64_t dimension, Range range) {
  return tensor.Slice(dimension, range.begin, range.end).Contiguous();
}

// The query heads [begin, end) of every group.
std::vector<int64_t> HeadsOfGroups(const data::Attention& a, Range range) {
  std::vector<int64_t> heads;
  for (int64_t h = 0; h < a.heads_q; ++h) {
    const int64_t in_group = h % a.group();
    if (range.begin <= in_group && in_group < range.end) heads.push_back(h);
  }
  return heads;
}

void CutLengths(std::vector<int64_t>& lengths, Range range) {
  for (int64_t& length : lengths) length = std::clamp<int64_t>(length - range.begin, 0, range.size());
}

// The part [begin, end) of one extent. Masks keep their names and hence mean something else; whether the problem still
// fails is what decides.
Problem Cut(const Problem& from, Extent extent, Range range) {
  Problem p = from;
  data::Attention& a = p.attention;
  switch (extent) {
    case Extent::kBatch:
      p.q = Cut(p.q, 0, range);
      p.k = Cut(p.k, 0, range);
      if (!a.v_is_in_k) p.v = Cut(p.v, 0, range);
      for (auto* lengths : {&p.seqlens_q, &p.seqlens_k}) {
        if (!lengths->empty()) *lengths = {lengths->begin() + range.begin, lengths->begin() + range.end};
      }
      a.batch = range.size();
      break;
    case Extent::kHeadsKv: {
      const Range q = {range.begin * a.group(), range.end * a.group()};
      p.q = Cut(p.q, 1, q);
      p.k = Cut(p.k, 1, range);
      if (!a.v_is_in_k) p.v = Cut(p.v, 1, range);
      if (!p.sinks.empty()) p.sinks = {from.sinks.begin() + q.begin, from.sinks.begin() + q.end};
      a.heads_q = q.size();
      a.heads_kv = range.size();
      break;
    }
    case Extent::kGroup: {
      const int64_t group = a.group();
      const std::vector<int64_t> heads = HeadsOfGroups(a, range);
      p.q = p.q.Reshaped({a.batch, a.heads_kv, group, a.seqlen_q, a.head_dim})
                .Slice(2, range.begin, range.end)
                .Contiguous()
                .Reshaped({a.batch, a.heads_kv * range.size(), a.seqlen_q, a.head_dim});
      p.sinks.clear();
      for (const int64_t h : heads) {
        if (!from.sinks.empty()) p.sinks.push_back(from.sinks[h]);
      }
      a.heads_q = a.heads_kv * range.size();
      break;
    }
    case Extent::kSeqlenQ:
      p.q = Cut(p.q, 2, range);
      CutLengths(p.seqlens_q, range);
      a.seqlen_q = range.size();
      break;
    case Extent::kSeqlenK:
      p.k = Cut(p.k, 2, range);
      if (!a.v_is_in_k) p.v = Cut(p.v, 2, range);
      CutLengths(p.seqlens_k, range);
      a.seqlen_k = range.size();
      break;
    case Extent::kHeadDim:
      a.softmax_scale = a.scale();
      p.q = Cut(p.q, 3, range);
      p.k = Cut(p.k, 3, range);
      a.head_dim = range.size();
      a.head_dim_v = a.v_is_in_k ? std::min(a.head_dim_v, a.head_dim) : a.head_dim_v;
      break;
    case Extent::kHeadDimV:
      if (!a.v_is_in_k) p.v = Cut(p.v, 3, range);
      a.head_dim_v = range.size();
      break;
  }
  return p;
}

Tensor Filled(const Tensor& like, float value) {
  const data::Format format = *like.type().format();
  Tensor tensor = Tensor::Zeros(like.type(), like.shape());
  const uint32_t bits = data::Encode(format, value);
  std::byte* bytes = tensor.ContiguousBytes().data();
  const int64_t width = data::StorageBytes(format);
  for (int64_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<std::byte>(bits >> (8 * (i % width)));
  return tensor;
}

Tensor HashNormalLike(const Tensor& like, data::Role role) {
  const auto& s = like.shape();
  Tensor tensor = Tensor::Zeros(like.type(), s);
  const data::InputTensor input{data::Distribution::kHashNormal, role, 1, s[0], s[1], s[2], s[3], {}};
  if (tensor.count() > 0) {
    GenerateParallel(input, *like.type().format(), 0, tensor.count(), tensor.ContiguousBytes().data());
  }
  return tensor;
}

class Shrinker {
 public:
  Shrinker(const Problem& problem, const std::function<bool(const Problem&)>& fails, int64_t most)
      : fails_(fails), most_(most) {
    result_.problem = problem;
  }

  Shrunk Run() {
    size_t steps = 0;
    do {
      steps = result_.steps.size();
      for (const Extent extent : kExtents) {
        if (extent == Extent::kHeadDim) Both();
        Shorten(extent);
      }
      Simplify();
    } while (result_.steps.size() > steps && result_.evaluations < most_);
    result_.finished = result_.evaluations < most_;
    return std::move(result_);
  }

 private:
  // True, and taken, when the candidate fails too.
  bool Try(const Problem& candidate, const std::string& step) {
    if (result_.evaluations >= most_) return false;
    ++result_.evaluations;
    try {
      Validate(candidate);
      if (!fails_(candidate)) return false;
    } catch (const data::UndecidedError&) {
      return false;
    } catch (const data::UsageError&) {
      return false;  // an extent that only makes sense with another
    }
    result_.problem = candidate;
    result_.steps.push_back(step);
    return true;
  }

  bool TryCut(Extent extent, Range range) {
    const int64_t size = SizeOf(result_.problem, extent);
    if (range.size() >= size || range.size() < 1) return false;
    return Try(Cut(result_.problem, extent, range), fmt::format("{} {} -> {}", Name(extent), size, range.size()));
  }

  void Shorten(Extent extent) {
    // Small sizes and the edges of tiles, the smallest first, from the beginning and from the end.
    std::vector<int64_t> sizes = {1, 2, 3, 4};
    for (int64_t power = 8; power <= SizeOf(result_.problem, extent); power *= 2) {
      sizes.insert(sizes.end(), {power - 1, power, power + 1});
    }
    bool taken = false;
    for (size_t i = 0; i < sizes.size() && !taken; ++i) {
      const int64_t size = SizeOf(result_.problem, extent);
      taken = TryCut(extent, {0, sizes[i]}) || TryCut(extent, {size - sizes[i], size});
    }
    // Halves, quarters, ..., as long as something can go.
    for (int64_t chunk = SizeOf(result_.problem, extent) / 2; chunk >= 1; chunk /= 2) {
      for (bool cut = true; cut;) {
        const int64_t size = SizeOf(result_.problem, extent);
        cut = TryCut(extent, {0, size - chunk}) || TryCut(extent, {chunk, size});
      }
    }
  }

  // Kernels with one head_dim for Q, K and V take smaller ones only together.
  void Both() {
    for (const int64_t size : {1, 8, 16, 32, 64, 128}) {
      const data::Attention& a = result_.problem.attention;
      if (size >= a.head_dim || size >= a.head_dim_v) return;
      const Problem cut = Cut(Cut(result_.problem, Extent::kHeadDimV, {0, size}), Extent::kHeadDim, {0, size});
      if (Try(cut, fmt::format("head_dim {} -> {}", a.head_dim, size))) return;
    }
  }

  // A changed copy, where it is one.
  template <typename Change>
  void TryChange(bool differs, const char* step, Change change) {
    if (!differs) return;
    Problem candidate = result_.problem;
    change(candidate);
    Try(candidate, step);
  }

  void Simplify() {
    const Problem& p = result_.problem;
    TryChange(p.ragged(), "no padding: all sequences as long as the tensors", [](Problem& c) {
      c.seqlens_q.clear();
      c.seqlens_k.clear();
    });
    TryChange(p.attention.mask != data::Mask::Full(), "mask full", [](Problem& c) { c.attention.mask = {}; });
    TryChange(p.attention.softcap != 0, "no softcap", [](Problem& c) { c.attention.softcap = 0; });
    TryChange(!p.sinks.empty(), "no sinks", [](Problem& c) { c.sinks.clear(); });
    TryChange(p.q_scale != 1 || p.k_scale != 1 || p.v_scale != 1, "scales of 1",
              [](Problem& c) { c.q_scale = c.k_scale = c.v_scale = 1; });
    SimplifyValues("v", &Problem::v, data::Role::kV, 1);
    SimplifyValues("k", &Problem::k, data::Role::kK, 0);
    SimplifyValues("q", &Problem::q, data::Role::kQ, 0);
  }

  void SimplifyValues(const char* name, Tensor Problem::*tensor, data::Role role, float simplest) {
    if (role == data::Role::kV && result_.problem.attention.v_is_in_k) return;
    const auto& values = result_.problem.*tensor;
    const Tensor constant = Filled(values, simplest), normal = HashNormalLike(values, role);
    if (values == constant) return;
    Problem candidate = result_.problem;
    candidate.*tensor = constant;
    if (Try(candidate, fmt::format("{} = {}", name, simplest))) return;
    if (result_.problem.*tensor == normal) return;
    candidate.*tensor = normal;
    Try(candidate, fmt::format("{} hash-normal", name));
  }

  const std::function<bool(const Problem&)>& fails_;
  int64_t most_;
  Shrunk result_;
};

}  // namespace

Shrunk Shrink(const Problem& problem, const std::function<bool(const Problem&)>& fails, int64_t max_evaluations) {
  return Shrinker(problem, fails, max_evaluations).Run();
}

}  // namespace bitflash::verify
