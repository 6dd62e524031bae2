#include "verify/cases/problem.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;
using data::Tensor;
using data::UsageError;

void RequireTensor(const char* name, const Tensor& tensor, data::Format format, const std::vector<int64_t>& shape) {
  if (tensor.shape() != shape) {
    throw UsageError(std::string(name) + " has the shape " + data::ShapeString(tensor.shape()) + ": expected " +
                     data::ShapeString(shape));
  }
  if (tensor.type() != data::ElementType(format)) {
    throw UsageError(std::string(name) + " holds " + Name(tensor.type()) + ": expected " +
                     std::string(data::Name(format)));
  }
  if (!tensor.IsContiguous()) throw UsageError(std::string(name) + " has gaps: expected a contiguous tensor");
}

void RequireLengths(const char* name, const std::vector<int64_t>& lengths, int64_t batch, int64_t most) {
  if (lengths.empty()) return;
  if (static_cast<int64_t>(lengths.size()) != batch) {
    throw UsageError(std::string(name) + " has " + std::to_string(lengths.size()) + " entries: expected " +
                     std::to_string(batch) + ", one a sequence");
  }
  for (const int64_t length : lengths) {
    if (length < 0 || length > most) {
      throw UsageError(std::string(name) + " has an entry " + std::to_string(length) + ": expected 0 to " +
                       std::to_string(most));
    }
  }
}

void RequireScale(const char* name, double scale) {
  if (std::isfinite(scale) && scale > 0) return;
  throw UsageError(std::string(name) + " is " + std::to_string(scale) + ": expected a finite number above 0");
}

// The mask and the number of keys with which rows [rows.begin, rows.end) of a sequence of `queries` x `keys` see, as a
// problem of their own, what they see in it. Bottom-right masks are aligned to the last row and key of a problem, so
// keys behind the last row's are cut off; where a row of the part sees past them, the window is shifted instead.
struct CutMask {
  Mask mask;
  int64_t keys;
};
CutMask Cut(const Mask& mask, int64_t queries, int64_t keys, reference::Range rows) {
  switch (mask.kind) {
    case Mask::Kind::kFull:
      return {mask, keys};
    case Mask::Kind::kCausal: {
      return {mask, std::max<int64_t>(0, rows.end + keys - queries)};
    }
    case Mask::Kind::kCausalTopLeft: {
      if (rows.end <= keys) return {Mask::Causal(), rows.end};
      return {Mask::Window(Mask::kUnlimited, rows.end - keys), keys};  // rows that see all keys
    }
    case Mask::Kind::kWindow:
      break;
  }
  const int64_t diagonal = rows.end + keys - queries;  // one past the key on the diagonal of the part's last row
  if (mask.right == Mask::kUnlimited) {
    // Nothing is cut: keys of the part less rows must equal the offset of the diagonal.
    Mask shifted = mask;
    if (shifted.left != Mask::kUnlimited) shifted.left += keys - diagonal;
    return {shifted, keys};
  }
  const int64_t end = std::clamp<int64_t>(diagonal + mask.right, 0, keys);
  const int64_t shift = end - diagonal;  // how much further right the part's own diagonal lies
  Mask shifted = mask;
  if (shifted.left != Mask::kUnlimited) shifted.left += shift;
  shifted.right -= shift;
  // No key is left of the window: end is 0 and nothing is visible, whatever the window.
  if (shifted.left != Mask::kUnlimited) shifted.left = std::max<int64_t>(0, shifted.left);
  shifted.right = std::max<int64_t>(0, shifted.right);
  return {shifted, end};
}

Tensor SliceSequence(const Tensor& tensor, int64_t sequence, reference::Range heads, reference::Range rows) {
  return tensor.Slice(0, sequence, sequence + 1)
      .Slice(1, heads.begin, heads.end)
      .Slice(2, rows.begin, rows.end)
      .Contiguous();
}

}  // namespace

void Validate(const Problem& p) {
  const Attention& a = p.attention;
  data::Validate(a);
  RequireTensor("q", p.q, a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim});
  RequireTensor("k", p.k, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim});
  if (!a.v_is_in_k) RequireTensor("v", p.v, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v});
  RequireLengths("seqlens_q", p.seqlens_q, a.batch, a.seqlen_q);
  RequireLengths("seqlens_k", p.seqlens_k, a.batch, a.seqlen_k);
  if (!p.sinks.empty() && static_cast<int64_t>(p.sinks.size()) != a.heads_q) {
    throw UsageError("sinks has " + std::to_string(p.sinks.size()) + " entries: expected heads_q, which is " +
                     std::to_string(a.heads_q) + ", or none");
  }
  RequireScale("q_scale", p.q_scale);
  RequireScale("k_scale", p.k_scale);
  RequireScale("v_scale", p.v_scale);
}

int64_t Pairs(const Problem& p) {
  int64_t pairs = 0;
  for (int64_t n = 0; n < p.attention.batch; ++n) pairs += p.attention.heads_q * p.queries(n) * p.keys(n);
  return pairs;
}

std::vector<double> OwnRows(const Problem& p, std::span<const double> padded, int64_t columns) {
  const Attention& a = p.attention;
  std::vector<double> rows;
  for (int64_t n = 0; n < a.batch * a.heads_q; ++n) {
    const auto own = padded.subspan(n * a.seqlen_q * columns, p.queries(n / a.heads_q) * columns);
    rows.insert(rows.end(), own.begin(), own.end());
  }
  return rows;
}

Part WholeSequence(const Problem& p, int64_t sequence) {
  return {sequence, {0, p.attention.heads_q}, {0, p.queries(sequence)}};
}

int64_t FirstHead(const Problem& p, const Part& part) {
  const int64_t group = p.attention.group();
  return part.heads.begin / group * group;
}

std::vector<reference::Range> SpreadRows(int64_t queries, int64_t rows) {
  constexpr int64_t kSliceRows = 16;
  if (rows >= queries) return {{0, queries}};
  const int64_t slices = std::max<int64_t>(2, rows / kSliceRows);
  const int64_t length = std::max<int64_t>(1, rows / slices);
  std::vector<reference::Range> ranges;
  int64_t end = 0;
  for (int64_t n = 0; n < slices; ++n) {
    const int64_t begin = std::max(end, n * (queries - length) / (slices - 1));
    end = std::min(queries, begin + length);
    if (begin < end) ranges.push_back({begin, end});
  }
  return ranges;
}

Problem Extract(const Problem& p, const Part& part) {
  const Attention& a = p.attention;
  if (part.sequence < 0 || part.sequence >= a.batch) {
    throw UsageError("sequence " + std::to_string(part.sequence) + ": expected 0 to " + std::to_string(a.batch - 1));
  }
  const auto require = [](const char* name, reference::Range range, int64_t extent) {
    if (0 <= range.begin && range.begin < range.end && range.end <= extent) return;
    throw UsageError(std::string(name) + " are [" + std::to_string(range.begin) + ", " + std::to_string(range.end) +
                     "): expected a range inside [0, " + std::to_string(extent) + ") that is not empty");
  };
  require("heads", part.heads, a.heads_q);
  require("rows", part.rows, p.queries(part.sequence));

  const reference::Range kv = {part.heads.begin / a.group(), (part.heads.end - 1) / a.group() + 1};
  const reference::Range q_heads = {kv.begin * a.group(), kv.end * a.group()};
  const CutMask cut = Cut(a.mask, p.queries(part.sequence), p.keys(part.sequence), part.rows);
  Problem result;
  result.attention = a;
  result.attention.batch = 1;
  result.attention.heads_q = q_heads.size();
  result.attention.heads_kv = kv.size();
  result.attention.seqlen_q = part.rows.size();
  result.attention.seqlen_k = cut.keys;
  result.attention.mask = cut.mask;
  result.attention.softmax_scale = a.scale();
  result.q = SliceSequence(p.q, part.sequence, q_heads, part.rows);
  result.k = SliceSequence(p.k, part.sequence, kv, {0, cut.keys});
  if (!a.v_is_in_k) result.v = SliceSequence(p.v, part.sequence, kv, {0, cut.keys});
  if (!p.sinks.empty()) result.sinks.assign(p.sinks.begin() + q_heads.begin, p.sinks.begin() + q_heads.end);
  result.q_scale = p.q_scale;
  result.k_scale = p.k_scale;
  result.v_scale = p.v_scale;
  return result;
}

Outputs Extract(const Outputs& outputs, const Part& part) {
  Outputs result{SliceSequence(outputs.o, part.sequence, part.heads, part.rows), std::nullopt};
  if (outputs.lse) result.lse = SliceSequence(*outputs.lse, part.sequence, part.heads, part.rows);
  return result;
}

}  // namespace bitflash::verify
