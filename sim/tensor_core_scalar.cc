#include "sim/tensor_core_scalar.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <optional>
#include <vector>

namespace bitflash::sim {
namespace {

using data::Format;
using Kind = Decoded::Kind;

constexpr int kFractionBits = 23;  // of Decoded::significand

// One term of the sum: (-1)^negative * magnitude * 2^(exponent - 46), the fixed point of a product of significands.
struct Term {
  bool negative;
  int exponent;
  uint64_t magnitude;
};

Term Product(const Decoded& a, const Decoded& b) {
  return {a.negative != b.negative, a.exponent + b.exponent, static_cast<uint64_t>(a.significand * b.significand)};
}

uint64_t ShiftRight(uint64_t value, int by) { return by > 63 ? 0 : value >> by; }

// Rule 7, or nothing when every term is finite: the sign of the infinity, or NaN.
std::optional<Decoded> Special(std::span<const Decoded> a, std::span<const Decoded> b, const Decoded& c) {
  constexpr Decoded kNan{.kind = Kind::kNan};
  bool positive = c.kind == Kind::kInfinity && !c.negative;
  bool negative = c.kind == Kind::kInfinity && c.negative;
  if (c.kind == Kind::kNan) return kNan;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].kind == Kind::kNan || b[i].kind == Kind::kNan) return kNan;
    if (a[i].kind == Kind::kFinite && b[i].kind == Kind::kFinite) continue;
    const bool a_is_zero = a[i].kind == Kind::kFinite && a[i].significand == 0;
    const bool b_is_zero = b[i].kind == Kind::kFinite && b[i].significand == 0;
    if (a_is_zero || b_is_zero) return kNan;
    (a[i].negative != b[i].negative ? negative : positive) = true;
  }
  if (positive && negative) return kNan;
  if (!positive && !negative) return std::nullopt;
  return Decoded{.kind = Kind::kInfinity, .negative = negative};
}

// The fp32 pattern of magnitude * 2^exponent, truncated.
uint32_t TruncateToFp32(bool negative, uint64_t magnitude, int exponent) {
  const uint32_t sign = negative ? 0x80000000u : 0;
  const int leading = exponent + std::bit_width(magnitude) - 1;  // the value is in [2^leading, 2^(leading + 1))
  if (leading > 127) return sign | 0x7F800000u;
  const int last = std::max(leading - kFractionBits, -149);  // the last bit that fp32 holds
  const uint64_t kept = last >= exponent ? ShiftRight(magnitude, last - exponent) : magnitude << (exponent - last);
  // A normal number's hidden bit adds 1 to the exponent field, hence the 126.
  const uint64_t field = leading >= -126 ? static_cast<uint64_t>(leading + 126) << kFractionBits : 0;
  return sign | static_cast<uint32_t>(field + kept);
}

// The fp16 pattern of magnitude * 2^exponent, rounded to nearest even.
uint32_t RoundToFp16(bool negative, uint64_t magnitude, int exponent) {
  const uint32_t sign = negative ? 0x8000u : 0;
  const int leading = exponent + std::bit_width(magnitude) - 1;
  if (leading > 15) return sign | 0x7C00u;
  const int last = std::max(leading - 10, -24);
  uint64_t kept = last >= exponent ? ShiftRight(magnitude, last - exponent) : magnitude << (exponent - last);
  if (last > exponent && last - exponent < 64) {
    const uint64_t rest = magnitude - (kept << (last - exponent));
    const uint64_t half = uint64_t{1} << (last - exponent - 1);
    if (rest > half || (rest == half && kept % 2 == 1)) ++kept;  // a carry runs into the exponent field as it should
  }
  const uint64_t field = leading >= -14 ? static_cast<uint64_t>(leading + 14) << 10 : 0;
  return sign | static_cast<uint32_t>(std::min<uint64_t>(field + kept, 0x7C00u));
}

uint32_t EncodeSpecial(Format accumulator, const Decoded& value) {
  if (accumulator == Format::kFp16) return value.kind == Kind::kNan ? 0x7FFFu : value.negative ? 0xFC00u : 0x7C00u;
  return value.kind == Kind::kNan ? 0x7FFFFFFFu : value.negative ? 0xFF800000u : 0x7F800000u;
}

uint32_t AddToNearest(uint32_t product, uint32_t c) {
  const float sum = std::bit_cast<float>(product) + std::bit_cast<float>(c);
  return std::isnan(sum) ? 0x7FFFFFFFu : std::bit_cast<uint32_t>(sum);
}

// The operands of one instruction as its steps take them, padded to a whole one with zeros.
std::vector<Decoded> InStepOrder(const TensorCore& core, std::span<const Decoded> x) {
  std::vector<Decoded> whole(x.begin(), x.end());
  whole.resize(core.instruction_k);
  if (core.step_order == StepOrder::kEvenPairsFirst) {
    std::vector<Decoded> ordered;
    for (const size_t pair : {0, 2}) {
      for (size_t k = pair; k < whole.size(); k += 4) ordered.insert(ordered.end(), {whole[k], whole[k + 1]});
    }
    return ordered;
  }
  return whole;
}

}  // namespace

Decoded Decode(Format format, uint32_t bits) {
  const data::FormatInfo& info = data::Info(format);
  assert(data::StorageBytes(format) <= 4);
  if (format == Format::kTf32) bits >>= 13;
  const int fraction_bits = info.fraction_bits;
  const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
  const int field = static_cast<int>(bits >> fraction_bits) & ((1 << info.exponent_bits) - 1);
  const bool top = field == (1 << info.exponent_bits) - 1;
  Decoded d{.negative = ((bits >> (fraction_bits + info.exponent_bits)) & 1) != 0};
  if (info.has_infinity && top) {
    d.kind = fraction == 0 ? Kind::kInfinity : Kind::kNan;
  } else if (!info.has_infinity && top && fraction == (1u << fraction_bits) - 1) {
    d.kind = Kind::kNan;
  } else {
    const uint32_t hidden = field == 0 ? 0 : 1u << fraction_bits;
    d.exponent = std::max(field, 1) - info.bias;
    d.significand = static_cast<int64_t>(hidden | fraction) << (kFractionBits - fraction_bits);
  }
  return d;
}

uint32_t FusedStep(const TensorCore& core, std::span<const Decoded> a, std::span<const Decoded> b, uint32_t c) {
  assert(a.size() == b.size() && a.size() <= static_cast<size_t>(core.products));
  const Decoded addend = Decode(core.accumulator, c);
  if (const auto special = Special(a, b, addend)) return EncodeSpecial(core.accumulator, *special);

  std::vector<Term> terms;
  terms.reserve(a.size() + 1);
  terms.push_back({addend.negative, addend.exponent, static_cast<uint64_t>(addend.significand) << kFractionBits});
  for (size_t i = 0; i < a.size(); ++i) terms.push_back(Product(a[i], b[i]));

  std::optional<int> emax;
  for (const Term& term : terms) {
    if (term.magnitude != 0) emax = std::max(emax.value_or(term.exponent), term.exponent);
  }
  if (!emax) return 0;
  emax = std::max(*emax, core.emax_floor);

  int64_t sum = 0;  // in units of 2^(emax - F)
  for (const Term& term : terms) {
    const int dropped_bits = 2 * kFractionBits - core.alignment_bits + (*emax - term.exponent);
    const int64_t magnitude = term.magnitude == 0 ? 0 : static_cast<int64_t>(ShiftRight(term.magnitude, dropped_bits));
    sum += term.negative ? -magnitude : magnitude;
  }
  if (sum == 0) return 0;

  const uint64_t magnitude = static_cast<uint64_t>(std::abs(sum));
  const int exponent = *emax - core.alignment_bits;
  if (core.rounding == ResultRounding::kNearestFp16) {
    const uint32_t bits = RoundToFp16(sum < 0, magnitude, exponent);
    return bits == 0x8000u ? 0 : bits;
  }
  uint32_t bits = TruncateToFp32(sum < 0, magnitude, exponent);
  if (core.rounding == ResultRounding::kTruncateFp32To13) bits &= ~0x3FFu;
  return bits == 0x80000000u ? 0 : bits;
}

uint32_t DotProductAdd(const TensorCore& core, std::span<const Decoded> a, std::span<const Decoded> b, uint32_t c) {
  assert(a.size() == b.size());
  const auto chain = [&](std::span<const Decoded> x, std::span<const Decoded> y, uint32_t d) {
    for (size_t k = 0; k < x.size(); k += core.products) {
      const size_t length = std::min<size_t>(core.products, x.size() - k);
      d = FusedStep(core, x.subspan(k, length), y.subspan(k, length), d);
    }
    return d;
  };
  if (core.accumulator_add == AccumulatorAdd::kInEveryStep) {
    assert(core.step_order == StepOrder::kAscending);
    return chain(a, b, c);
  }
  for (size_t k = 0; k < a.size(); k += core.instruction_k) {
    const size_t length = std::min<size_t>(core.instruction_k, a.size() - k);
    c = AddToNearest(chain(InStepOrder(core, a.subspan(k, length)), InStepOrder(core, b.subspan(k, length)), 0), c);
  }
  return c;
}

uint32_t DotProductAdd(const TensorCore& core, std::span<const uint32_t> a, std::span<const uint32_t> b, uint32_t c) {
  std::vector<Decoded> da, db;
  for (const uint32_t bits : a) da.push_back(Decode(core.input, bits));
  for (const uint32_t bits : b) db.push_back(Decode(core.input, bits));
  return DotProductAdd(core, std::span<const Decoded>(da), std::span<const Decoded>(db), c);
}

uint32_t AccumulatorPattern(Format accumulator, float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (accumulator == Format::kFp32) return bits;
  const Decoded d = Decode(Format::kFp32, bits);
  if (d.kind != Kind::kFinite) return EncodeSpecial(Format::kFp16, d);
  return RoundToFp16(d.negative, static_cast<uint64_t>(d.significand), d.exponent - kFractionBits);
}

float AccumulatorValue(Format accumulator, uint32_t bits) {
  if (accumulator == Format::kFp32) return std::bit_cast<float>(bits);
  const Decoded d = Decode(Format::kFp16, bits);
  if (d.kind == Kind::kNan) return std::bit_cast<float>(0x7FFFE000u);
  if (d.kind == Kind::kInfinity) return d.negative ? -INFINITY : INFINITY;
  const float magnitude = std::ldexp(static_cast<float>(d.significand), d.exponent - kFractionBits);
  return d.negative ? -magnitude : magnitude;
}

void MultiplyAddScalar(const TensorCore& core, const MatrixView& a, const MatrixView& b, float* accumulator,
                       int64_t row_stride) {
  assert(a.format == core.input && b.format == core.input && a.columns == b.rows);
  std::vector<Decoded> row(a.columns), column(a.columns);
  for (int64_t j = 0; j < b.columns; ++j) {
    for (int64_t k = 0; k < b.rows; ++k) column[k] = Decode(core.input, b.Bits(k, j));
    for (int64_t i = 0; i < a.rows; ++i) {
      for (int64_t k = 0; k < a.columns; ++k) row[k] = Decode(core.input, a.Bits(i, k));
      float& d = accumulator[i * row_stride + j];
      d = AccumulatorValue(core.accumulator,
                           DotProductAdd(core, std::span<const Decoded>(row), std::span<const Decoded>(column),
                                         AccumulatorPattern(core.accumulator, d)));
    }
  }
}

}  // namespace bitflash::sim
