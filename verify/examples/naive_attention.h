// Attention as a textbook writes it, on the tensors of the plug-in interface: three loops, fp32 sums, a softmax with
// the row's maximum subtracted. The kernel of the example plug-ins; slow on purpose.
#ifndef BITFLASH_VERIFY_EXAMPLES_NAIVE_ATTENTION_H_
#define BITFLASH_VERIFY_EXAMPLES_NAIVE_ATTENTION_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "verify/plugin_abi.h"

namespace naive {

inline float FloatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float FromFp16(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16, exponent = (half >> 10) & 31, fraction = half & 0x3FF;
  if (exponent == 31) return FloatFromBits(sign | 0x7F800000 | fraction << 13);
  if (exponent == 0) return std::copysign(static_cast<float>(fraction) * 0x1p-24f, FloatFromBits(sign));
  return FloatFromBits(sign | (exponent + 112) << 23 | fraction << 13);
}

// To nearest, ties to even. Below 2^-14 the unit is 2^-24: adding 0.5, whose unit in fp32 is that, rounds there.
inline uint16_t ToFp16(float value) {
  const uint32_t bits = BitsOf(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // rounds to 2^16 or more
  if (magnitude < 0x38800000) {
    return static_cast<uint16_t>(sign | (BitsOf(FloatFromBits(magnitude) + 0.5f) - BitsOf(0.5f)));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}

inline uint16_t ToBf16(float value) {
  const uint32_t bits = BitsOf(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline bool Knows(const bitflash_tensor& t) {
  return t.dtype == BITFLASH_DTYPE_FP32 || t.dtype == BITFLASH_DTYPE_FP16 || t.dtype == BITFLASH_DTYPE_BF16;
}

inline int64_t Offset(const bitflash_tensor& t, int64_t batch, int64_t head, int64_t row) {
  return batch * t.stride[0] + head * t.stride[1] + row * t.stride[2];
}

inline float Load(const bitflash_tensor& t, int64_t offset) {
  switch (t.dtype) {
    case BITFLASH_DTYPE_FP16:
      return FromFp16(static_cast<const uint16_t*>(t.data)[offset]);
    case BITFLASH_DTYPE_BF16:
      return FloatFromBits(uint32_t{static_cast<const uint16_t*>(t.data)[offset]} << 16);
    default:
      return static_cast<const float*>(t.data)[offset];
  }
}

inline void Store(const bitflash_tensor& t, int64_t offset, float value) {
  switch (t.dtype) {
    case BITFLASH_DTYPE_FP16:
      static_cast<uint16_t*>(t.data)[offset] = ToFp16(value);
      break;
    case BITFLASH_DTYPE_BF16:
      static_cast<uint16_t*>(t.data)[offset] = ToBf16(value);
      break;
    default:
      static_cast<float*>(t.data)[offset] = value;
  }
}

// Whether query `row` of `queries` sees key `key` of `keys`.
inline bool Visible(const bitflash_attention& a, int64_t queries, int64_t keys, int64_t row, int64_t key) {
  const int64_t diagonal = row + keys - queries;
  if (a.mask == BITFLASH_MASK_CAUSAL && key > diagonal) return false;
  if (a.mask == BITFLASH_MASK_CAUSAL_TOP_LEFT && key > row) return false;
  if (a.window_left >= 0 && key < diagonal - a.window_left) return false;
  return a.window_right < 0 || key <= diagonal + a.window_right;
}

// One row of one head: its scores, then O and LSE.
inline void Row(const bitflash_attention& a, const bitflash_tensor& q, const bitflash_tensor& k,
                const bitflash_tensor& v, const bitflash_tensor& o, const bitflash_tensor* lse, int64_t batch,
                int64_t head, int64_t row, int64_t queries, int64_t keys) {
  const int64_t kv_head = head / (q.shape[1] / k.shape[1]);
  const float scale = static_cast<float>(a.scale * a.q_scale * a.k_scale), softcap = static_cast<float>(a.softcap);
  std::vector<float> weights(keys, 0.0f), sums(v.shape[3], 0.0f);
  std::vector<int64_t> visible;
  float largest = a.sinks ? static_cast<float>(a.sinks[head]) : -std::numeric_limits<float>::infinity();
  for (int64_t key = 0; key < keys; ++key) {
    if (!Visible(a, queries, keys, row, key)) continue;
    float score = 0;
    for (int64_t c = 0; c < q.shape[3]; ++c) {
      score += Load(q, Offset(q, batch, head, row) + c) * Load(k, Offset(k, batch, kv_head, key) + c);
    }
    score *= scale;
    if (softcap > 0) score = softcap * std::tanh(score / softcap);
    weights[key] = score;
    visible.push_back(key);
    if (score > largest) largest = score;
  }
  float total = a.sinks ? std::exp(static_cast<float>(a.sinks[head]) - largest) : 0.0f;
  for (const int64_t key : visible) {
    const float weight = std::exp(weights[key] - largest);
    total += weight;
    for (int64_t c = 0; c < v.shape[3]; ++c) sums[c] += weight * Load(v, Offset(v, batch, kv_head, key) + c);
  }
  const float factor = total > 0 ? static_cast<float>(a.v_scale) / total : 0.0f;
  for (int64_t c = 0; c < v.shape[3]; ++c) Store(o, Offset(o, batch, head, row) + c, sums[c] * factor);
  // log(0) is -inf, which is what a row that sees nothing has; its largest is -inf, too.
  if (lse) Store(*lse, batch * lse->stride[0] + head * lse->stride[1] + row, largest + std::log(total));
}

// All rows of all heads that are no padding.
inline void Attention(const bitflash_attention& a, const bitflash_tensor& q, const bitflash_tensor& k,
                      const bitflash_tensor& v, const bitflash_tensor& o, const bitflash_tensor* lse) {
  for (int64_t batch = 0; batch < q.shape[0]; ++batch) {
    const int64_t queries = a.seqlens_q ? a.seqlens_q[batch] : q.shape[2];
    const int64_t keys = a.seqlens_k ? a.seqlens_k[batch] : k.shape[2];
    for (int64_t head = 0; head < q.shape[1]; ++head) {
      for (int64_t row = 0; row < queries; ++row) Row(a, q, k, v, o, lse, batch, head, row, queries, keys);
    }
  }
}

}  // namespace naive

#endif  // BITFLASH_VERIFY_EXAMPLES_NAIVE_ATTENTION_H_
