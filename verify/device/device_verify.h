// A CUDA kernel against its simulated twin: the outputs of both, compared to the last bit.
#ifndef BITFLASH_VERIFY_DEVICE_DEVICE_VERIFY_H_
#define BITFLASH_VERIFY_DEVICE_DEVICE_VERIFY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "data/format.h"
#include "data/tensor.h"
#include "verify/judge/compare.h"

namespace bitflash::verify {

// O [batch, heads, seqlen_q, head_dim_v], 16-bit patterns, and LSE [batch, heads, seqlen_q], fp32.
struct OutputPair {
  data::Tensor o, lse;
};

// Elements of one head that differ.
struct HeadDifference {
  int64_t batch = 0, head = 0;
  int64_t o = 0, lse = 0;
};

struct Agreement {
  Difference o;  // a: the device, b: the twin; the second index counts all heads of the problem
  std::optional<Difference> lse;
  int64_t heads = 0;                   // heads compared, of all sequences
  std::vector<HeadDifference> differ;  // those with a difference
  int64_t not_written =
      0;  // of the differing elements, those that still hold the bits which the outputs were filled with

  bool identical() const { return o.identical() && (!lse || lse->identical()); }
};

// `format` is what the 16-bit patterns are. The tensors hold the heads from `first_head` on. Without `has_lse` the twin
// writes no LSE, so none is compared.
Agreement CompareOutputs(const OutputPair& device, const OutputPair& twin, data::Format format, int64_t first_head,
                         bool has_lse);

// Elements of O and LSE whose bits differ.
int64_t CountDifferent(const OutputPair& a, const OutputPair& b);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DEVICE_DEVICE_VERIFY_H_
