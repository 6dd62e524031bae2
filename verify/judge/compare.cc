#include "verify/judge/compare.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <limits>

#include "data/convert.h"
#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::ElementType;
using data::Format;
using data::Tensor;

// Where the numbers of a type end. An integer type has neither infinities nor NaNs.
struct Layout {
  bool is_float = false;
  uint64_t sign = 0;      // the sign bit
  uint64_t infinity = 0;  // magnitude of infinity; of the first NaN when the format has no infinity
  bool has_infinity = false;
  int unused_bits = 0;  // low bits without meaning: 13 in tf32

  explicit Layout(ElementType type) {
    if (type.IsInteger()) return;
    const data::FormatInfo& info = data::Info(*type.format());
    is_float = true;
    has_infinity = info.has_infinity;
    unused_bits = static_cast<int>(8 * type.bytes()) - 1 - info.exponent_bits - info.fraction_bits;
    sign = uint64_t{1} << (8 * type.bytes() - 1);
    const uint64_t exponent = ((uint64_t{1} << info.exponent_bits) - 1) << info.fraction_bits;
    const uint64_t fraction = (uint64_t{1} << info.fraction_bits) - 1;
    // OCP 8-bit floating point specification, table 1: e4m3 has one NaN, S.1111.111, and no infinity.
    infinity = (has_infinity ? exponent : exponent | fraction) << unused_bits;
  }

  // 0 finite, 1 NaN, 2 +inf, 3 -inf.
  int Kind(uint64_t bits) const {
    if (!is_float) return 0;
    const uint64_t magnitude = bits & ~sign;
    if (magnitude < infinity) return 0;
    if (!has_infinity || magnitude > infinity) return 1;
    return bits & sign ? 3 : 2;
  }

  // Neighbouring numbers get neighbouring integers; -0 and +0 the same.
  int64_t Ordinal(uint64_t bits) const {
    const auto magnitude = static_cast<int64_t>((bits & ~sign) >> unused_bits);
    return bits & sign ? -magnitude : magnitude;
  }
};

int64_t SignExtended(ElementType type, uint64_t bits) {
  const int shift = static_cast<int>(64 - 8 * type.bytes());
  return static_cast<int64_t>(bits << shift) >> shift;
}

uint64_t Distance(ElementType type, const Layout& layout, uint64_t a, uint64_t b) {
  if (layout.is_float) {
    const int64_t x = layout.Ordinal(a), y = layout.Ordinal(b);
    return x > y ? static_cast<uint64_t>(x) - static_cast<uint64_t>(y)
                 : static_cast<uint64_t>(y) - static_cast<uint64_t>(x);
  }
  if (type.IsSigned()) {
    const int64_t x = SignExtended(type, a), y = SignExtended(type, b);
    return x > y ? static_cast<uint64_t>(x) - static_cast<uint64_t>(y)
                 : static_cast<uint64_t>(y) - static_cast<uint64_t>(x);
  }
  return a > b ? a - b : b - a;
}

std::vector<int64_t> IndexOf(int64_t element, const std::vector<int64_t>& shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    index[d] = element % shape[d];
    element /= shape[d];
  }
  return index;
}

class Comparison {
 public:
  explicit Comparison(const Tensor& a) : layout_(a.type()) {
    result_.type = a.type();
    result_.shape = a.shape();
    result_.elements = a.count();
  }

  template <class Word>
  Difference Run(const Tensor& a, const Tensor& b) {
    const auto x = a.Elements<Word>();
    const auto y = b.Elements<Word>();
    for (int64_t i = 0; i < result_.elements; ++i) {
      const uint64_t p = x[i], q = y[i];
      const int p_kind = layout_.Kind(p), q_kind = layout_.Kind(q);
      if ((p_kind | q_kind) != 0) CountNonFinite(p_kind, q_kind);
      if (p != q) Differ(i, p, q, p_kind, q_kind);
    }
    return std::move(result_);
  }

 private:
  void CountNonFinite(int a_kind, int b_kind) {
    result_.a_nan += a_kind == 1;
    result_.b_nan += b_kind == 1;
    result_.a_infinite += a_kind >= 2;
    result_.b_infinite += b_kind >= 2;
  }

  ElementPair Pair(int64_t i, uint64_t a, uint64_t b) const { return {IndexOf(i, result_.shape), a, b}; }

  void Differ(int64_t i, uint64_t a, uint64_t b, int a_kind, int b_kind) {
    if (result_.bits_differ++ == 0) result_.first = Pair(i, a, b);
    if (a_kind != b_kind) {
      if (result_.kind_differs++ == 0) result_.first_kind = Pair(i, a, b);
      return;
    }
    if (a_kind != 0) {  // the same kind but other bits can only be NaNs
      ++result_.nan_bits_differ;
      return;
    }
    const uint64_t ulps = Distance(result_.type, layout_, a, b);
    if (layout_.is_float && ulps == 0 && layout_.Ordinal(a) == 0) ++result_.zero_sign_differs;
    if (ulps > result_.max_ulps) {
      result_.max_ulps = ulps;
      result_.worst_ulps = Pair(i, a, b);
    }
    const double p = ValueOf(result_.type, a), q = ValueOf(result_.type, b);
    const double error = std::fabs(p - q);
    if (error > result_.max_abs) {
      result_.max_abs = error;
      result_.worst_abs = Pair(i, a, b);
    }
    if (error == 0) return;
    const double relative = q == 0 ? std::numeric_limits<double>::infinity() : error / std::fabs(q);
    if (relative > result_.max_rel) {
      result_.max_rel = relative;
      result_.worst_rel = Pair(i, a, b);
    }
  }

  Layout layout_;
  Difference result_;
};

}  // namespace

Difference Compare(const Tensor& a, const Tensor& b) {
  if (!(a.type() == b.type())) {
    throw data::UsageError(fmt::format("the element types differ: {} and {}", Name(a.type()), Name(b.type())));
  }
  if (a.shape() != b.shape()) {
    throw data::UsageError(
        fmt::format("the shapes differ: {} and {}", data::ShapeString(a.shape()), data::ShapeString(b.shape())));
  }
  const Tensor x = a.Contiguous(), y = b.Contiguous();
  Comparison comparison(x);
  switch (a.type().bytes()) {
    case 1:
      return comparison.Run<uint8_t>(x, y);
    case 2:
      return comparison.Run<uint16_t>(x, y);
    case 4:
      return comparison.Run<uint32_t>(x, y);
    default:
      return comparison.Run<uint64_t>(x, y);
  }
}

double ValueOf(ElementType type, uint64_t bits) {
  if (type.IsSigned()) return static_cast<double>(SignExtended(type, bits));
  if (type.IsInteger()) return static_cast<double>(bits);
  if (*type.format() == Format::kFp64) return std::bit_cast<double>(bits);
  return data::Decode(*type.format(), static_cast<uint32_t>(bits));
}

std::string HexBits(ElementType type, uint64_t bits) { return fmt::format("0x{:0{}x}", bits, 2 * type.bytes()); }

}  // namespace bitflash::verify
