// An attention problem in one line. For tests.
#ifndef BITFLASH_DATA_ATTENTION_TESTING_H_
#define BITFLASH_DATA_ATTENTION_TESTING_H_

#include "data/attention.h"

namespace bitflash::data {

// With V as wide as K and everything else as it is by default.
inline Attention PlainAttention(int64_t batch, int64_t heads_q, int64_t heads_kv, int64_t seqlen_q, int64_t seqlen_k,
                                int64_t head_dim, const Mask& mask = Mask::Full(), Format format = Format::kBf16) {
  return {.batch = batch,
          .heads_q = heads_q,
          .heads_kv = heads_kv,
          .seqlen_q = seqlen_q,
          .seqlen_k = seqlen_k,
          .head_dim = head_dim,
          .head_dim_v = head_dim,
          .mask = mask,
          .format = format};
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_ATTENTION_TESTING_H_
