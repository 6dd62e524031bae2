// Two tensors compared bit by bit: facts, no judgement.
#ifndef BITFLASH_VERIFY_JUDGE_COMPARE_H_
#define BITFLASH_VERIFY_JUDGE_COMPARE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/tensor.h"

namespace bitflash::verify {

// One element of both tensors.
struct ElementPair {
  std::vector<int64_t> index;
  uint64_t a_bits = 0;
  uint64_t b_bits = 0;
};

// NaN counts by position: a NaN in both tensors is equal only when its bits are, and is never a wildcard.
struct Difference {
  data::ElementType type = data::Format::kFp32;
  std::vector<int64_t> shape;
  int64_t elements = 0;

  // Non-finite values come first: where the two disagree about NaN, +inf, -inf or finite, a distance means nothing.
  int64_t a_nan = 0, a_infinite = 0;
  int64_t b_nan = 0, b_infinite = 0;
  int64_t kind_differs = 0;  // positions where one is NaN, +inf or -inf and the other is not the same
  ElementPair first_kind;    // when kind_differs > 0

  int64_t bits_differ = 0;      // all elements whose bits differ, those above included
  ElementPair first;            // when bits_differ > 0
  int64_t nan_bits_differ = 0;  // NaN in both, other payload or sign
  int64_t zero_sign_differs = 0;

  // Over the elements that are finite in both.
  uint64_t max_ulps = 0;   // representable numbers between the two, one end counted; -0 and +0 are one number
  ElementPair worst_ulps;  // when max_ulps > 0, and so below
  double max_abs = 0;
  ElementPair worst_abs;
  double max_rel = 0;  // |a - b| / |b|; infinite where b is zero and a is not
  ElementPair worst_rel;

  bool identical() const { return bits_differ == 0; }
};

// Throws UsageError when types or shapes differ. Integers are compared as numbers; an ulp is then 1.
Difference Compare(const data::Tensor& a, const data::Tensor& b);

// The number of the bits: a decoded float, or an integer. Exact for formats of up to 64 bits and |integers| <= 2^53.
double ValueOf(data::ElementType type, uint64_t bits);

// "0x3f80".
std::string HexBits(data::ElementType type, uint64_t bits);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_COMPARE_H_
