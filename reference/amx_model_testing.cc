#include "reference/amx_model_testing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#define AMX_INLINE inline

namespace bitflash::reference {
namespace {

struct F {
  float v[16];
};
struct Lanes {
  bool v[16];
};

template <class Function>
F Each(const Function& function) {
  F result;
  for (int i = 0; i < 16; ++i) result.v[i] = function(i);
  return result;
}

F Set(float x) {
  return Each([&](int) { return x; });
}
F Load(const float* from) {
  F x;
  std::memcpy(x.v, from, sizeof(x.v));
  return x;
}
void Store(const F& x, float* to) { std::memcpy(to, x.v, sizeof(x.v)); }
F Add(const F& a, const F& b) {
  return Each([&](int i) { return a.v[i] + b.v[i]; });
}
F Sub(const F& a, const F& b) {
  return Each([&](int i) { return a.v[i] - b.v[i]; });
}
F Mul(const F& a, const F& b) {
  return Each([&](int i) { return a.v[i] * b.v[i]; });
}
F Div(const F& a, const F& b) {
  return Each([&](int i) { return a.v[i] / b.v[i]; });
}
F MulAdd(const F& a, const F& b, const F& c) {
  return Each([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
F Max(const F& a, const F& b) {
  return Each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
F Abs(const F& a) {
  return Each([&](int i) { return std::abs(a.v[i]); });
}
F CopySign(const F& magnitude, const F& sign) {
  return Each([&](int i) { return std::copysign(magnitude.v[i], sign.v[i]); });
}
// VREDUCEPS, which rounds its result as it rounds to integers, here down; 0 for an infinity.
F Fraction(const F& x) {
  return Each([&](int i) {
    if (std::isinf(x.v[i])) return 0.0f;
    const double exact = static_cast<double>(x.v[i]) - std::floor(static_cast<double>(x.v[i]));  // but for tiny x
    const float nearest = static_cast<float>(exact);
    return nearest > exact || nearest == 1.0f ? std::nextafter(nearest, 0.0f) : nearest;
  });
}
F ScaleOrZero(const F& p, const F& x) {  // VSCALEFPS
  return Each([&](int i) {
    if (x.v[i] < -126.0f) return 0.0f;
    if (!std::isfinite(x.v[i])) return x.v[i];
    return std::ldexp(p.v[i], static_cast<int>(std::min(std::floor(x.v[i]), 300.0f)));
  });
}
Lanes Greater(const F& a, const F& b) {
  Lanes result;
  for (int i = 0; i < 16; ++i) result.v[i] = a.v[i] > b.v[i];
  return result;
}
bool Any(const Lanes& a) {
  return std::any_of(a.v, a.v + 16, [](bool x) { return x; });
}
F Select(const Lanes& a, const F& yes, const F& no) {
  return Each([&](int i) { return a.v[i] ? yes.v[i] : no.v[i]; });
}
Lanes Between(int32_t number, const int32_t* begin, const int32_t* end) {
  Lanes result;
  for (int i = 0; i < 16; ++i) result.v[i] = begin[i] <= number && number < end[i];
  return result;
}
Lanes Inside(int64_t begin, int64_t end) {
  Lanes result;
  for (int i = 0; i < 16; ++i) result.v[i] = begin <= i && i < end;
  return result;
}
float Greatest(const F& x) { return *std::max_element(x.v, x.v + 16); }
void LoadColumns(const float* from, F* x) {
  for (int n = 0; n < 4; ++n) {
    x[n] = Each([&](int i) { return from[16 * i + n]; });
  }
}
void AskFor(const void*) {}
void AskFarFor(const void*) {}

float Widen(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// DAZ and FTZ of the instructions for bf16.
float Flushed(float x) { return std::abs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

uint16_t Bf16(float x) {  // VCVTNE2PS2BF16
  uint32_t bits = std::bit_cast<uint32_t>(Flushed(x));
  if (std::isnan(x)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  bits += 0x7FFF + (bits >> 16 & 1);
  return static_cast<uint16_t>(bits >> 16);
}

void StorePairs(const F& even, const F& odd, uint16_t* to) {
  for (int i = 0; i < 16; ++i) {
    to[2 * i] = Bf16(even.v[i]);
    to[2 * i + 1] = Bf16(odd.v[i]);
  }
}

void StoreHalves(const F& x, uint16_t* lower, uint16_t* upper) {  // VCVTNEPS2BF16
  for (int i = 0; i < 16; ++i) {
    lower[2 * i] = upper[2 * i + 1] = Bf16(x.v[i]);
    lower[2 * i + 1] = upper[2 * i] = 0;
  }
}

F PairBf16(const F& low, const F& high) {
  const auto rounded = [](float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return std::isnan(x) ? 0x7FFFu : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  };
  F words;
  for (int i = 0; i < 16; ++i) {
    const uint32_t word = rounded(high.v[i]) << 16 | rounded(low.v[i]);
    std::memcpy(&words.v[i], &word, sizeof(word));
  }
  return words;
}
void StoreBf16(const F& words, int64_t columns, uint16_t* to) {
  std::memcpy(to, words.v, static_cast<size_t>(std::min<int64_t>(32, columns)) * 2);
}

F LoadBf16(const uint16_t* from, int64_t columns) {
  F words = Set(0.0f);
  std::memcpy(words.v, from, static_cast<size_t>(std::min<int64_t>(32, columns)) * 2);
  return words;
}
F InterleaveBf16(const uint16_t* even, const uint16_t* odd, int64_t columns) {
  uint16_t pairs[32] = {};
  for (int64_t i = 0; i < std::min<int64_t>(16, columns); ++i) {
    if (even != nullptr) pairs[2 * i] = even[i];
    if (odd != nullptr) pairs[2 * i + 1] = odd[i];
  }
  F words;
  std::memcpy(words.v, pairs, sizeof(pairs));
  return words;
}
bool AllFiniteBf16(const F& pairs) {
  uint16_t bits[32];
  std::memcpy(bits, pairs.v, sizeof(bits));
  return std::none_of(bits, bits + 32, [](uint16_t x) { return (x & 0x7F80) == 0x7F80; });
}
void Transpose(F* rows) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      uint32_t a, b;  // words, not numbers: a NaN keeps its bits
      std::memcpy(&a, &rows[i].v[j], sizeof(a));
      std::memcpy(&b, &rows[j].v[i], sizeof(b));
      std::memcpy(&rows[i].v[j], &b, sizeof(b));
      std::memcpy(&rows[j].v[i], &a, sizeof(a));
    }
  }
}

// Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS: even and odd products in two chains of fused
// multiply-adds, their sum to the accumulator; nearest even, subnormal operands and results count as 0. A product of
// two bf16 numbers is exact in fp32 unless it leaves its normal range.
void Product(float* sums, const uint16_t* a, const uint16_t* b) {
  float right[512];
  for (int i = 0; i < 512; ++i) right[i] = Flushed(Widen(b[i]));
  for (int row = 0; row < 16; ++row) {
    float chains[32] = {};
    for (int k = 0; k < 16; ++k) {
      const float even = Flushed(Widen(a[row * 32 + 2 * k])), odd = Flushed(Widen(a[row * 32 + 2 * k + 1]));
      for (int n = 0; n < 16; ++n) {
        chains[2 * n] = Flushed(chains[2 * n] + even * right[k * 32 + 2 * n]);
        chains[2 * n + 1] = Flushed(chains[2 * n + 1] + odd * right[k * 32 + 2 * n + 1]);
      }
    }
    for (int n = 0; n < 16; ++n) {
      float& sum = sums[row * 16 + n];
      sum = Flushed(Flushed(sum) + Flushed(chains[2 * n] + chains[2 * n + 1]));
    }
  }
}

class Tiles {
 public:
  template <int n>
  void Zero() {
    std::memset(bytes_[n], 0, sizeof(bytes_[n]));
  }
  template <int n>
  void Load(const void* from, int64_t step = 64) {
    for (int row = 0; row < 16; ++row)
      std::memcpy(bytes_[n] + row * 64, static_cast<const char*>(from) + row * step, 64);
  }
  template <int n>
  void Store(void* to) {
    std::memcpy(to, bytes_[n], sizeof(bytes_[n]));
  }
  template <int sums, int a, int b>
  void Multiply() {
    float c[256];
    uint16_t x[512], y[512];
    std::memcpy(c, bytes_[sums], sizeof(c));
    std::memcpy(x, bytes_[a], sizeof(x));
    std::memcpy(y, bytes_[b], sizeof(y));
    Product(c, x, y);
    std::memcpy(bytes_[sums], c, sizeof(c));
  }

 private:
  unsigned char bytes_[8][1024];
};

struct TileScope {
  TileScope() {}  // nothing to configure
};

}  // namespace

}  // namespace bitflash::reference

#include "reference/amx_kernel-inl.h"

namespace bitflash::reference {

const AmxSteps& ModelSteps() { return kSteps; }

}  // namespace bitflash::reference
