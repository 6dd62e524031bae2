// A call of a CUDA kernel with everything that it may be asked, and its tensors on the host.
#ifndef BITFLASH_GPU_RECORD_CALL_H_
#define BITFLASH_GPU_RECORD_CALL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/attention.h"
#include "gpu/kernels.h"
#include "gpu/record/guarded.h"

namespace bitflash::gpu {

struct Call {
  std::string kernel;  // "fa2"
  data::Attention attention = {};
  Options options = {};
  std::vector<int64_t> lengths = {};  // split-kv: keys of each sequence, at most attention.seqlen_k; empty: all of them
  Layout layout = Layout::kHeadMajor;

  int64_t keys(int64_t sequence) const { return lengths.empty() ? attention.seqlen_k : lengths[sequence]; }
};

// Contiguous [batch, heads, rows, head_dim]. Rows of K and V that a sequence does not have are not used.
struct Inputs {
  std::vector<uint16_t> q, k, v;
};

// Contiguous too.
struct Outputs {
  std::vector<uint16_t> o;    // [batch, heads_q, seqlen_q, head_dim]
  std::vector<uint32_t> lse;  // [batch, heads_q, seqlen_q]
  bool operator==(const Outputs&) const = default;
};

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_CALL_H_
