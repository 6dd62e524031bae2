// The problem: what is to be computed, never how.
#ifndef BITFLASH_DATA_ATTENTION_H_
#define BITFLASH_DATA_ATTENTION_H_

#include <cstdint>
#include <optional>
#include <string>

#include "data/format.h"
#include "data/mask.h"

namespace bitflash::data {

// O = softmax(mask(softmax_scale * Q K^T)) V, one head at a time; query head h reads KV head h / (heads_q / heads_kv).
//   Q [batch, heads_q, seqlen_q, head_dim]      K [batch, heads_kv, seqlen_k, head_dim]
//   O [batch, heads_q, seqlen_q, head_dim_v]    V [batch, heads_kv, seqlen_k, head_dim_v]
//   LSE [batch, heads_q, seqlen_q], fp32: log of the row's sum of exponentials; -inf for a row that sees no key.
struct Attention {
  int64_t batch = 1;
  int64_t heads_q = 1;
  int64_t heads_kv = 1;
  int64_t seqlen_q = 1;
  int64_t seqlen_k = 1;
  int64_t head_dim = 128;
  int64_t head_dim_v = 128;
  Mask mask;
  std::optional<double> softmax_scale;  // empty: 1 / sqrt(head_dim)
  double softcap = 0;                   // > 0: scores become softcap * tanh(score / softcap) before the mask
  Format format = Format::kBf16;        // of Q, K, V and O
  // Latent attention's cache (DeepSeek-V2, arXiv 2405.04434, section 2.1, with absorbed weights): V is the first
  // head_dim_v columns of K, stored and read once.
  bool v_is_in_k = false;

  int64_t group() const { return heads_q / heads_kv; }  // query heads that share a KV head
  double scale() const;                                 // softmax_scale or its default

  // Bytes of a whole tensor in HBM.
  int64_t q_bytes() const { return batch * heads_q * seqlen_q * head_dim * StorageBytes(format); }
  int64_t k_bytes() const { return batch * heads_kv * seqlen_k * head_dim * StorageBytes(format); }
  int64_t v_bytes() const { return v_is_in_k ? 0 : batch * heads_kv * seqlen_k * head_dim_v * StorageBytes(format); }
  int64_t o_bytes() const { return batch * heads_q * seqlen_q * head_dim_v * StorageBytes(format); }
  int64_t lse_bytes() const { return batch * heads_q * seqlen_q * 4; }

  bool operator==(const Attention&) const = default;
};

// Throws UsageError that names the field, its value and what it must be: every extent is at least 1 (seqlen_k at least
// 0), heads_q is a multiple of heads_kv, the scale is finite and positive, the format has 1, 2 or 4 bytes, and no
// tensor has more than 2^60 bytes (so that sums over tensors cannot overflow int64).
void Validate(const Attention& attention);

// "batch 1, heads 32/8, seqlen 8192 x 8192, head_dim 128, bf16, causal".
std::string ToString(const Attention& attention);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_ATTENTION_H_
