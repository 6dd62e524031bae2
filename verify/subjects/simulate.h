// Simulated kernels on tensors: the inputs that some heads read, what the kernel makes of them, and its fingerprints.
#ifndef BITFLASH_VERIFY_SUBJECTS_SIMULATE_H_
#define BITFLASH_VERIFY_SUBJECTS_SIMULATE_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "data/attention.h"
#include "data/distribution.h"
#include "data/tensor.h"
#include "sim/count.h"
#include "sim/execute.h"
#include "verify/cases/problem.h"

namespace bitflash::verify {

// Some query heads of every sequence, and the whole groups of heads that they are part of. What a head computes does
// not depend on the others, so these can be simulated as a problem of their own.
struct HeadSubset {
  int64_t begin = 0, end = 0;        // the query heads asked for
  int64_t kv_begin = 0, kv_end = 0;  // the KV heads that they read
  data::Attention attention;         // the problem of these groups

  int64_t q_begin = 0;  // the first query head of the groups: begin or less
};

// Throws UsageError unless 0 <= begin < end <= heads_q.
HeadSubset SelectHeads(const data::Attention& attention, int64_t begin, int64_t end);

// Elements [first, first + count) of a generated tensor as `format`, on all threads.
void GenerateParallel(const data::InputTensor& input, data::Format format, int64_t first, int64_t count,
                      std::byte* out);

// Bits of the problem's format. V is empty when it is part of K.
struct KernelInputs {
  data::Tensor q, k, v;  // [batch, heads of the subset, seqlen, head_dim]
};

// The heads of the subset of the tensors that data/distribution.h defines for the whole problem.
KernelInputs GenerateInputs(const data::Attention& attention, const HeadSubset& heads, data::Distribution distribution,
                            uint64_t seed);

// The whole problem with those tensors.
Problem GenerateProblem(const data::Attention& attention, data::Distribution distribution, uint64_t seed);

// The sums of HashPair(i, bits of element i) (data/hash.h) modulo 2^64, i counting the head's elements.
struct HeadHash {
  int64_t batch = 0, head = 0;
  uint64_t o = 0, lse = 0;
};

// Of O [batch, heads, seqlen_q, head_dim_v], patterns of 16 or 32 bits, and LSE [batch, heads, seqlen_q], fp32; both
// contiguous. `first_head` is the number of their first head.
std::vector<HeadHash> HashHeads(const data::Tensor& o, const data::Tensor& lse, int64_t first_head);

// Throws UndecidedError for what the simulation cannot do to the last bit.
void RequireModelled(const sim::Kernel& kernel, const data::Attention& attention);

// False for a kernel that keeps the maximum and the sum of each row instead.
bool WritesLse(const sim::Count& count);

struct Simulated {
  data::Tensor o;    // [batch, end - begin, seqlen_q, head_dim_v], 16-bit patterns
  data::Tensor lse;  // [batch, end - begin, seqlen_q], fp32; zeros of a kernel that writes none
  std::vector<HeadHash> hashes;
  sim::Executed executed;  // of the whole groups
};

// Executes the kernel on the subset; `tiling` is that of the whole problem. `inputs` are contiguous and of 16-bit
// elements. Throws as sim::Execute does.
Simulated Simulate(const sim::Kernel& kernel, const HeadSubset& heads, const sim::Tiling& tiling, std::string_view arch,
                   const KernelInputs& inputs, const std::function<void(double)>& progress = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_SIMULATE_H_
