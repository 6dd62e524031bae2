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
  // Keys of each sequence, at most attention.seqlen_k; empty: all of them. split-kv: Tensors::seqlens_k.
  std::vector<int64_t> lengths = {};
  // Query rows of each sequence, at most attention.seqlen_q. Not empty, with `lengths`: Q, K, V and O are packed
  // (Tensors::cu_seqlens_q).
  std::vector<int64_t> queries = {};
  Layout layout = Layout::kHeadMajor;

  bool packed() const { return !queries.empty(); }
  int64_t keys(int64_t sequence) const { return lengths.empty() ? attention.seqlen_k : lengths[sequence]; }
  int64_t query_rows(int64_t sequence) const { return packed() ? queries[sequence] : attention.seqlen_q; }
};

// Contiguous [batch, heads, rows, head_dim], whatever the call's layout. Rows that a sequence does not have are not
// used.
struct Inputs {
  std::vector<uint16_t> q, k, v;
};

// Contiguous too. Rows that a sequence does not have are zeros.
struct Outputs {
  std::vector<uint16_t> o;    // [batch, heads_q, seqlen_q, head_dim]
  std::vector<uint32_t> lse;  // [batch, heads_q, seqlen_q]
  bool operator==(const Outputs&) const = default;
};

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_CALL_H_
