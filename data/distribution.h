// Inputs that provoke the mistakes of attention kernels: pure functions of a seed and an index, which any language can
// compute again from this page.
//
// Notation. Element i of the contiguous tensor [batch, heads, seqlen, head_dim] has coordinates b, h, s, d; S = seqlen,
// D = head_dim. `seed` is one for Q, K and V together; t = seed + 0, 1, 2 for Q, K, V is the tensor's own.
//   n(i) = HashNormal(t, i) of random.h                    nearly normal, a multiple of 2^-15, |n| < 4
//   c(k) = SplitMix64(SplitMix64(seed) + k)                choices that Q, K and V share
//   r(k) = SplitMix64(SplitMix64(t) + k)                   choices of one tensor
//   u(d) = -1 if c(d) is odd, else 1                       the direction that makes a dot product of Q and K large
// Integers are unsigned modulo 2^64, x/y on them rounds down. Every value is exact in fp32; converting it to the
// tensor's format (convert.h) is a step of its own, in which fp8 saturates. Where Q, K or V is not listed it is n(i).
//
//   hash-normal  n(i)
//   uniform      (2 (HashBits(t, i) >> 48) - 65535) / 65536
//   spiky        Q, K: in column d == c(0) mod D and where r(i) mod 8 == 0: 1024 with the sign of n(i); else n(i)
//                V: 256 n(i) where r(i) mod 1024 == 0, else n(i)
//   ascending    Q: u(d) + n(i)/8     K: u(d) (64 s / S) / 16 + n(i)/8, the first division on integers
//   descending   as ascending, with S - 1 - s for s
//   sinks        Q: u(d) + n(i)/2     K: u(d) where s < 4, else n(i)/2     V: n(i)/64 where s < 4, else n(i)
//   cancelling   with j = i - D (s mod 2):  Q: 8 n(i - d mod 2)
//                K: 8 (-1)^d n(j - d mod 2) + n(j)/8       V: 16 (-1)^s n(j) + n(i)/4
//   long-tail    n(i) 2^min(z, m) with z = trailing zero bits of r(i); m = 4 in Q and K, 12 in V
//   extreme      Q: 128 (-1)^s u(d)   K: 128 u(d) + n(i)
//   one-hot      Q: 64 w(s, d)        K: w(s, d), where w(s, d) = -1 if c(s D + d) is odd, else 1
//   constant-v   V: 1
//   duplicates   K: n(i') with i' the same place in row s mod 8     V: -|n(i)|
//   subnormal    n(i) 2^e with e = -8, -17, -130, 0 for d mod 4 = 0, 1, 2, 3
//   nan-padding  n(i), and NaN beyond the valid length of each sequence (below)
#ifndef BITFLASH_DATA_DISTRIBUTION_H_
#define BITFLASH_DATA_DISTRIBUTION_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/format.h"

namespace bitflash::data {

enum class Distribution : uint8_t {
  kHashNormal,
  kUniform,
  kSpiky,
  kAscending,
  kDescending,
  kSinks,
  kCancelling,
  kLongTail,
  kExtreme,
  kOneHot,
  kConstantV,
  kDuplicates,
  kSubnormal,
  kNanPadding,
};

struct DistributionInfo {
  Distribution distribution;
  std::string_view name;         // "hash-normal", as on the command line
  std::string_view description;  // one sentence: what it looks like and which mistakes it brings to light
};

// Every distribution, in the order of the enumeration.
const std::vector<DistributionInfo>& AllDistributions();

std::string_view Name(Distribution distribution);

// The distribution of that name; throws UsageError with the accepted names.
Distribution ParseDistribution(std::string_view name);

enum class Role : uint8_t { kQ, kK, kV };

// One generated tensor, described completely.
struct InputTensor {
  Distribution distribution = Distribution::kHashNormal;
  Role role = Role::kQ;
  uint64_t seed = 0;  // the same for Q, K and V
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t seqlen = 1;
  int64_t head_dim = 1;
  // Positions s >= valid_seqlen[b] are NaN (0x7FFFFFFF), whatever the distribution. Empty: all are valid, except that
  // nan-padding then takes S - S (b mod 4 + 1) / 8, rounding the quotient down.
  std::vector<int64_t> valid_seqlen;  // [batch], or empty

  int64_t count() const { return batch * heads * seqlen * head_dim; }
};

// Throws UsageError that names the field: extents are at least 1 and count() at most 2^58; valid_seqlen has one entry
// per sequence, from 0 to seqlen.
void Validate(const InputTensor& tensor);

// The number of valid positions of sequence b.
int64_t ValidSeqlen(const InputTensor& tensor, int64_t b);

// The value of element `index`, 0 <= index < count().
float Element(const InputTensor& tensor, int64_t index);

// out[k] = Element(tensor, first + k). Parts are independent: threads may fill disjoint ones.
void Fill(const InputTensor& tensor, int64_t first, std::span<float> out);

// The same values in another format, rounded to nearest even with UsualOverflow (convert.h): `count` elements to `out`.
void Generate(const InputTensor& tensor, Format format, int64_t first, int64_t count, void* out);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_DISTRIBUTION_H_
