// Problems for the tests of cases.
#ifndef BITFLASH_VERIFY_CASES_CASE_TESTING_H_
#define BITFLASH_VERIFY_CASES_CASE_TESTING_H_

#include <random>
#include <vector>

#include "data/safetensors.h"
#include "verify/cases/case.h"

namespace bitflash::verify {

// Any bits, NaNs included.
inline data::Tensor RandomBits(data::ElementType type, std::vector<int64_t> shape, uint64_t seed) {
  data::Tensor tensor = data::Tensor::Zeros(type, std::move(shape));
  std::mt19937_64 random(seed);
  std::byte* bytes = tensor.ContiguousBytes().data();
  for (int64_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<std::byte>(random());
  return tensor;
}

inline Problem RandomProblem(const data::Attention& a, uint64_t seed) {
  Problem p;
  p.attention = a;
  p.attention.softmax_scale = a.scale();
  p.q = RandomBits(a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim}, seed);
  p.k = RandomBits(a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim}, seed + 1);
  if (!a.v_is_in_k) p.v = RandomBits(a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v}, seed + 2);
  return p;
}

// Through the bytes of a file.
inline Case RoundTrip(const Case& saved) {
  return ParseCase(data::MemorySource(Concatenated(data::SerializeSafetensors(ToTensorFile(saved))), "FILE"));
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_CASE_TESTING_H_
