#include "data/distribution.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <string>

#include "data/convert.h"
#include "data/convert_simd.h"
#include "data/error.h"
#include "data/random.h"

namespace bitflash::data {
namespace {

// Where an element is.
struct Place {
  int64_t i, b, s, d;
};

Place PlaceOf(const InputTensor& tensor, int64_t i) {
  const int64_t row = i / tensor.head_dim;
  return {i, row / tensor.seqlen / tensor.heads, row % tensor.seqlen, i % tensor.head_dim};
}

// The next place in memory order.
void Advance(const InputTensor& tensor, Place& place) {
  ++place.i;
  if (++place.d == tensor.head_dim) place = PlaceOf(tensor, place.i);
}

// The letters of the header.
class Letters {
 public:
  explicit Letters(const InputTensor& tensor)
      : own_seed_(tensor.seed + static_cast<uint64_t>(tensor.role)),
        shared_base_(SplitMix64(tensor.seed)),
        own_base_(SplitMix64(own_seed_)) {}

  uint64_t bits(int64_t i) const { return HashBits(own_seed_, static_cast<uint64_t>(i)); }
  float n(int64_t i) const { return HashNormal(own_seed_, static_cast<uint64_t>(i)); }
  uint64_t c(int64_t k) const { return SplitMix64(shared_base_ + static_cast<uint64_t>(k)); }
  uint64_t r(int64_t k) const { return SplitMix64(own_base_ + static_cast<uint64_t>(k)); }
  float u(int64_t k) const { return c(k) % 2 == 1 ? -1.0f : 1.0f; }

 private:
  uint64_t own_seed_, shared_base_, own_base_;
};

float MinusOneTo(int64_t power) { return power % 2 == 1 ? -1.0f : 1.0f; }

// Q and K of a sequence whose logits climb with `step` = 0, 1, ... of S keys.
float Ramp(const Letters& l, Role role, const Place& p, int64_t step, int64_t seqlen) {
  if (role == Role::kV) return l.n(p.i);
  const float height = role == Role::kQ ? 1.0f : static_cast<float>(64 * step / seqlen) / 16.0f;
  return l.u(p.d) * height + l.n(p.i) / 8.0f;
}

float Spiky(const Letters& l, Role role, const Place& p, int64_t head_dim) {
  const float n = l.n(p.i);
  if (role == Role::kV) return l.r(p.i) % 1024 == 0 ? 256.0f * n : n;
  const bool spike = p.d == static_cast<int64_t>(l.c(0) % static_cast<uint64_t>(head_dim)) && l.r(p.i) % 8 == 0;
  return spike ? std::copysign(1024.0f, n) : n;
}

float Sinks(const Letters& l, Role role, const Place& p) {
  const bool sink = p.s < 4;
  if (role == Role::kQ) return l.u(p.d) + l.n(p.i) / 2.0f;
  if (role == Role::kK) return sink ? l.u(p.d) : l.n(p.i) / 2.0f;
  return sink ? l.n(p.i) / 64.0f : l.n(p.i);
}

float Cancelling(const Letters& l, Role role, const Place& p, int64_t head_dim) {
  if (role == Role::kQ) return 8.0f * l.n(p.i - p.d % 2);
  const int64_t j = p.i - head_dim * (p.s % 2);
  if (role == Role::kK) return 8.0f * MinusOneTo(p.d) * l.n(j - p.d % 2) + l.n(j) / 8.0f;
  return 16.0f * MinusOneTo(p.s) * l.n(j) + l.n(p.i) / 4.0f;
}

float LongTail(const Letters& l, Role role, const Place& p) {
  return std::ldexp(l.n(p.i), std::min(std::countr_zero(l.r(p.i)), role == Role::kV ? 12 : 4));
}

float Extreme(const Letters& l, Role role, const Place& p) {
  if (role == Role::kQ) return 128.0f * MinusOneTo(p.s) * l.u(p.d);
  return role == Role::kK ? 128.0f * l.u(p.d) + l.n(p.i) : l.n(p.i);
}

float OneHot(const Letters& l, Role role, const Place& p, int64_t head_dim) {
  if (role == Role::kV) return l.n(p.i);
  return (role == Role::kQ ? 64.0f : 1.0f) * l.u(p.s * head_dim + p.d);
}

float Duplicates(const Letters& l, Role role, const Place& p, int64_t head_dim) {
  if (role == Role::kK) return l.n(p.i - head_dim * (p.s - p.s % 8));
  return role == Role::kV ? 0.0f - std::abs(l.n(p.i)) : l.n(p.i);  // never -0
}

float Subnormal(const Letters& l, const Place& p) {
  // Below the smallest normal number of e4m3 (2^-6), of fp16 and e5m2 (2^-14), of bf16, tf32 and fp32 (2^-126); none.
  constexpr std::array<int, 4> kExponents = {-8, -17, -130, 0};
  return std::ldexp(l.n(p.i), kExponents[static_cast<size_t>(p.d % 4)]);
}

float ValueAt(const InputTensor& tensor, const Letters& l, const Place& p) {
  const Role role = tensor.role;
  switch (tensor.distribution) {
    case Distribution::kHashNormal:
    case Distribution::kNanPadding:
      return l.n(p.i);
    case Distribution::kUniform:
      return static_cast<float>(2 * static_cast<int64_t>(l.bits(p.i) >> 48) - 65535) / 65536.0f;
    case Distribution::kSpiky:
      return Spiky(l, role, p, tensor.head_dim);
    case Distribution::kAscending:
      return Ramp(l, role, p, p.s, tensor.seqlen);
    case Distribution::kDescending:
      return Ramp(l, role, p, tensor.seqlen - 1 - p.s, tensor.seqlen);
    case Distribution::kSinks:
      return Sinks(l, role, p);
    case Distribution::kCancelling:
      return Cancelling(l, role, p, tensor.head_dim);
    case Distribution::kLongTail:
      return LongTail(l, role, p);
    case Distribution::kExtreme:
      return Extreme(l, role, p);
    case Distribution::kOneHot:
      return OneHot(l, role, p, tensor.head_dim);
    case Distribution::kConstantV:
      return role == Role::kV ? 1.0f : l.n(p.i);
    case Distribution::kDuplicates:
      return Duplicates(l, role, p, tensor.head_dim);
    case Distribution::kSubnormal:
      return Subnormal(l, p);
  }
  assert(false && "a distribution of the enumeration");
  return 0;
}

float PoisonedValueAt(const InputTensor& tensor, const Letters& l, const Place& p) {
  if (p.s >= ValidSeqlen(tensor, p.b)) return std::bit_cast<float>(CanonicalNan(Format::kFp32));
  return ValueAt(tensor, l, p);
}

}  // namespace

const std::vector<DistributionInfo>& AllDistributions() {
  static const std::vector<DistributionInfo> all = {
      {Distribution::kHashNormal, "hash-normal",
       "Nearly normal numbers of standard deviation 1.15: the ordinary case, in which softmax is almost flat."},
      {Distribution::kUniform, "uniform", "Uniform numbers between -1 and 1: the mildest case."},
      {Distribution::kSpiky, "spiky",
       "One column of Q and K holds rare values of 1024, as massive activations do, so that logits pass 5e4: finds "
       "finite stand-ins for minus infinity, guessed maxima and overflowing accumulators."},
      {Distribution::kAscending, "ascending",
       "Logits climb along the sequence, so that the maximum rises in every tile: finds forgotten rescaling of O or "
       "l."},
      {Distribution::kDescending, "descending",
       "Logits fall along the sequence, so that the first tile holds the maximum: finds a maximum that is not kept."},
      {Distribution::kSinks, "sinks",
       "The first four keys, whose values are small, take most of the probability: finds P that underflows and lost "
       "sink keys."},
      {Distribution::kCancelling, "cancelling",
       "Neighbouring columns and keys nearly cancel in Q K^T and in P V: brings out the precision of accumulators."},
      {Distribution::kLongTail, "long-tail",
       "Magnitudes with a heavy tail, so that few elements rule each sum: finds alignment and range mistakes."},
      {Distribution::kExtreme, "extreme",
       "Every logit of even queries is above 5e4 and of odd queries below -5e4 (head_dim 16 and up): finds finite "
       "stand-ins for minus infinity and P in the subnormal range."},
      {Distribution::kOneHot, "one-hot",
       "Query s puts its whole weight on key s (head_dim 32 and up), so that O repeats rows of V to the bit: finds "
       "wrong rows, heads and orders."},
      {Distribution::kConstantV, "constant-v",
       "V is 1 everywhere, so that O must be 1: finds lost or doubled row mass."},
      {Distribution::kDuplicates, "duplicates",
       "Eight keys repeat along the sequence and V has one sign, so that the maximum recurs and rounding errors add up "
       "instead of cancelling."},
      {Distribution::kSubnormal, "subnormal",
       "Columns of numbers that are subnormal in fp8, in fp16 and in bf16: finds flushing to zero."},
      {Distribution::kNanPadding, "nan-padding",
       "Normal numbers with NaN beyond each sequence's valid length: finds reads of padding, such as 0 times NaN."},
  };
  return all;
}

std::string_view Name(Distribution distribution) { return AllDistributions()[static_cast<size_t>(distribution)].name; }

Distribution ParseDistribution(std::string_view name) {
  std::string accepted;
  for (const DistributionInfo& info : AllDistributions()) {
    if (info.name == name) return info.distribution;
    accepted += (accepted.empty() ? "" : ", ") + std::string(info.name);
  }
  throw UsageError("unknown distribution '" + std::string(name) + "': expected one of " + accepted);
}

void Validate(const InputTensor& tensor) {
  constexpr int64_t kMaxCount = int64_t{1} << 58;
  const std::pair<const char*, int64_t> extents[] = {
      {"batch", tensor.batch}, {"heads", tensor.heads}, {"seqlen", tensor.seqlen}, {"head_dim", tensor.head_dim}};
  int64_t count = 1;
  for (const auto& [name, extent] : extents) {
    if (extent < 1) throw UsageError(std::string(name) + " is " + std::to_string(extent) + ": expected at least 1");
    if (extent > kMaxCount / count) {
      throw UsageError(std::string(name) + " is " + std::to_string(extent) + ": expected at most 2^58 elements in all");
    }
    count *= extent;
  }
  if (tensor.valid_seqlen.empty()) return;
  if (std::ssize(tensor.valid_seqlen) != tensor.batch) {
    throw UsageError("valid_seqlen has " + std::to_string(tensor.valid_seqlen.size()) +
                     " entries: expected one for each of the " + std::to_string(tensor.batch) + " sequences");
  }
  for (size_t b = 0; b < tensor.valid_seqlen.size(); ++b) {
    const int64_t valid = tensor.valid_seqlen[b];
    if (valid < 0 || valid > tensor.seqlen) {
      throw UsageError("valid_seqlen[" + std::to_string(b) + "] is " + std::to_string(valid) + ": expected 0 to " +
                       std::to_string(tensor.seqlen) + ", the seqlen");
    }
  }
}

int64_t ValidSeqlen(const InputTensor& tensor, int64_t b) {
  if (!tensor.valid_seqlen.empty()) return tensor.valid_seqlen[static_cast<size_t>(b)];
  if (tensor.distribution != Distribution::kNanPadding) return tensor.seqlen;
  return tensor.seqlen - tensor.seqlen * (b % 4 + 1) / 8;
}

float Element(const InputTensor& tensor, int64_t index) {
  assert(index >= 0 && index < tensor.count());
  return PoisonedValueAt(tensor, Letters(tensor), PlaceOf(tensor, index));
}

void Fill(const InputTensor& tensor, int64_t first, std::span<float> out) {
  assert(first >= 0 && first + std::ssize(out) <= tensor.count());
  const Letters letters(tensor);
  Place place = PlaceOf(tensor, first);
  for (float& value : out) {
    value = PoisonedValueAt(tensor, letters, place);
    Advance(tensor, place);
  }
}

void Generate(const InputTensor& tensor, Format format, int64_t first, int64_t count, void* out) {
  std::array<float, 1024> values;
  uint8_t* bytes = static_cast<uint8_t*>(out);
  for (int64_t done = 0; done < count;) {
    const int64_t part = std::min(count - done, std::ssize(values));
    Fill(tensor, first + done, std::span(values).first(static_cast<size_t>(part)));
    FromFloat(format, values.data(), bytes + done * StorageBytes(format), part);
    done += part;
  }
}

}  // namespace bitflash::data
