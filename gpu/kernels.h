// The CUDA kernels, each the twin of the simulated kernel of the same name (sim/kernels/), and how they are called.
//
// Limits of all of them: fp16 or bf16 in and out; head_dim = head_dim_v, one of 64, 96, 128, 192, 256; no softcap; no V
// in K; compute capability 8.0 or newer (Kernel::hopper_only: 9.0). Pointers and strides are multiples of 16 bytes (the
// strides of one sequence, one head and, for fa3, one row may be anything); strides of Q, K and V may be 0, so that all
// heads or sequences share what lies there. What fa3, and standard on compute capability 9.0, read and write by TMA has
// strides from 0 to below 2^40 bytes, packed rows below 2^35. Offsets are 64-bit: a tensor may have more than 2^31
// elements. Masks as data/mask.h. O of a row that sees no key is +0, its LSE -inf.
#ifndef BITFLASH_GPU_KERNELS_H_
#define BITFLASH_GPU_KERNELS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/attention.h"
#include "gpu/device.h"

namespace bitflash::gpu {

// Elements from one sequence, head or row (token) to the next; the columns of a row are adjacent.
struct Strides {
  int64_t batch = 0, head = 0, row = 0;
};

// Of a contiguous [batch, heads, rows, columns].
Strides ContiguousStrides(int64_t heads, int64_t rows, int64_t columns);

// Device addresses. O and LSE of every row are written, nothing else is.
struct Tensors {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* o = nullptr;
  float* lse = nullptr;  // [batch, heads_q, seqlen_q], contiguous; null: not wanted
  Strides q_strides, k_strides, v_strides, o_strides;

  // split-kv only. Keys of each sequence, [batch], at most attention.seqlen_k; null: attention.seqlen_k for all. Rows
  // of K and V behind them may be read, within attention.seqlen_k or the last page; what they hold does not matter.
  const int32_t* seqlens_k = nullptr;
  // split-kv with Options::page_size only: page of each page_size keys, [batch, pages_per_sequence]. K and V are then
  // [pages, heads_kv, page_size, head_dim] with k_strides and v_strides: `batch` is the stride from page to page.
  // Entries beyond a sequence's length are not read.
  const int32_t* block_table = nullptr;
  int64_t pages_per_sequence = 0;

  // fa3 only. Where each sequence starts, [batch + 1], device memory, non-decreasing from 0: Q and O are then
  // [total_q, heads_q, head_dim], K and V [total_k, heads_kv, head_dim] (strides.batch unused), attention.seqlen_q /
  // seqlen_k are the longest sequence's; LSE stays [batch, heads_q, seqlen_q] and rows beyond a sequence are not
  // written. Nothing of a neighbour, in front of a tensor or behind it is read.
  const int32_t* cu_seqlens_q = nullptr;
  const int32_t* cu_seqlens_k = nullptr;
};

// Contiguous Q, K, V and O at these addresses.
Tensors ContiguousTensors(const data::Attention& attention, const void* q, const void* k, const void* v, void* o,
                          float* lse);

// The choices beside the problem.
struct Options {
  bool fp32_scores = false;  // standard: S in fp32 instead of the input format
  int64_t chunk = 1024;      // split-kv: keys of one part, a multiple of 64; decides bits
  int64_t page_size = 0;     // split-kv: keys of a page, a power of two from 8 on; 0: contiguous cache
};

// What a kernel is built for; the twin must run with the same.
struct Tile {
  int64_t Br = 0, Bc = 0, warps = 0, stages = 1;
};

struct Kernel {
  std::string_view name;                   // of the twin: "fa2"
  std::string_view title;                  // "FlashAttention-2 forward, mma.sync"
  std::vector<std::string_view> launches;  // names of its __global__ functions, in order; not every call has all
  bool hopper_only = false;                // wgmma and TMA: compute capability 9.0 and no other
  bool packs_sequences = false;            // takes Tensors::cu_seqlens_q and cu_seqlens_k
  bool takes_key_lengths = false;          // takes Tensors::seqlens_k
  bool takes_pages = false;                // takes Options::page_size and Tensors::block_table

  Tile (*TileOf)(const data::Attention& attention);
  // Why the kernel does not take the problem, in one sentence with the accepted values; empty when it does.
  std::string (*Refusal)(const data::Attention& attention, const Options& options);
  // Bytes of device memory for what lives between its launches; 0: none.
  int64_t (*WorkspaceBytes)(const data::Attention& attention, const Options& options);
  // Enqueues the launches and returns. `workspace` has WorkspaceBytes and is not shared with a launch in flight. Throws
  // UsageError for what Refusal names, for misaligned or missing tensors (naming the tensor and its address or stride)
  // and for lengths, starts or pages that the kernel does not take; CudaError.
  void (*Launch)(const data::Attention& attention, const Options& options, const Tensors& tensors, void* workspace,
                 Stream& stream);
};

// "standard", "fa2", "fa3", "split-kv".
const std::vector<Kernel>& Kernels();

// Null for a kernel that has no CUDA twin.
const Kernel* FindKernel(std::string_view name);

// Why the kernel does not run on the device, whatever the problem; empty when it does.
std::string DeviceRefusal(const Kernel& kernel, const Device& device);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_KERNELS_H_
