// From a problem and the user's choices to the call of a CUDA kernel, and to the tiling that its simulated twin must
// run with so that both have the same bits. Decides without a GPU and without CUDA.
#ifndef BITFLASH_VERIFY_DEVICE_DEVICE_PLAN_H_
#define BITFLASH_VERIFY_DEVICE_DEVICE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/attention.h"
#include "data/gpu.h"
#include "gpu/kernels.h"
#include "sim/count.h"
#include "sim/kernels/kernels.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

// The CUDA kernel of `kernels` that is the twin of `name`. Throws UsageError that lists those that have one, and
// UndecidedError when the build has no CUDA kernel at all.
const gpu::Kernel& FindTwin(const std::vector<gpu::Kernel>& kernels, std::string_view name);

// Throws UsageError when the kernel does not take the problem, whatever the options.
void RequireTaken(const gpu::Kernel& kernel, const data::Attention& attention);

// Keys of one part of a kernel that splits them (all the keys without a split). Decides bits.
int64_t PartKeysOf(const data::Attention& attention, const sim::Tiling& tiling);

struct DevicePlan {
  const gpu::Kernel* kernel = nullptr;
  data::Attention attention;
  gpu::Options options;
  sim::Tiling tiling;  // of the simulated twin: the tile that the CUDA kernel is built for
  // Rows and keys of each sequence; empty: all are the problem's. Both: the device gets them packed
  // (Tensors::cu_seqlens_q). Keys alone: padded (Tensors::seqlens_k).
  std::vector<int64_t> queries, keys;

  bool packed() const { return !queries.empty(); }
};

// `choice` is what the user chose of the tiling; `gpu` stands for the device. Throws UsageError for a choice that the
// CUDA kernel is not built for, naming what it is built for, and for what it refuses.
DevicePlan PlanDevice(const gpu::Kernel& kernel, const sim::Kernel& twin, const data::Attention& attention,
                      const data::Gpu& gpu, const sim::TilingChoice& choice);

// Throws UsageError when the kernel does not take sequences of several lengths, naming those that do. `queries` are the
// rows of each, or empty: as Problem::seqlens_q.
void RequireRaggedTaken(const gpu::Kernel& kernel, const data::Attention& attention,
                        const std::vector<int64_t>& queries);

// Makes the plan that of a ragged problem (Problem::ragged). Throws as RequireRaggedTaken.
void SetLengths(DevicePlan& plan, const std::vector<int64_t>& queries, const std::vector<int64_t>& keys);

// The first `lengths[b]` rows of each sequence of a [batch, heads, rows, columns] tensor as [total, heads, columns],
// and back, with zeros in the other rows. Of contiguous tensors; LSE is not packed.
data::Tensor Pack(const data::Tensor& padded, const std::vector<int64_t>& lengths);
data::Tensor Unpack(const data::Tensor& packed, const std::vector<int64_t>& lengths, int64_t rows);

// K and V as a paged cache. A sequence's pages are scattered over the pool, so that a kernel that ignores the table
// reads other keys; rows of a page beyond the sequence's end are 0xFF bytes, NaN in every format.
struct PagedCache {
  data::Tensor k, v;                 // [pages, heads_kv, page_size, head_dim]
  std::vector<int32_t> block_table;  // [batch, pages_per_sequence]: the page of each page_size keys
  int64_t pages_per_sequence = 0;
};
// `lengths`: keys of each sequence; empty: all are the problem's.
PagedCache Paginate(const data::Attention& attention, const KernelInputs& inputs, int64_t page_size,
                    const std::vector<int64_t>& lengths = {});

// K or V, [batch, heads, seqlen_k, columns], with 0xFF bytes in the rows beyond each sequence's keys.
data::Tensor PoisonPadding(const data::Tensor& padded, const std::vector<int64_t>& lengths);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DEVICE_DEVICE_PLAN_H_
