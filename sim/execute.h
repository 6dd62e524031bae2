// The executing machine: runs a kernel's blocks on real tensors, bit for bit, on all cores.
#ifndef BITFLASH_SIM_EXECUTE_H_
#define BITFLASH_SIM_EXECUTE_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/kernels/kernels.h"
#include "sim/ledger.h"
#include "sim/machine_fault.h"

namespace bitflash::sim {

// Bit patterns in attention.format, contiguous: Q [batch, heads_q, seqlen_q, head_dim], K [batch, heads_kv, seqlen_k,
// head_dim], V likewise with head_dim_v (unused when attention.v_is_in_k).
struct ExactInputs {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
};

// O [batch, heads_q, seqlen_q, head_dim_v] in attention.format, LSE [batch, heads_q, seqlen_q] in fp32. Only the heads
// that were asked for are written (with packed query heads: all heads of their groups).
struct ExactOutputs {
  void* o = nullptr;
  float* lse = nullptr;  // may be null
};

struct ExecuteOptions {
  int64_t head_begin = 0;  // query heads of every sequence to simulate; the bits do not depend on the choice
  int64_t head_end = -1;   // -1: all
  int threads = 0;         // 0: OpenMP's default; the bits do not depend on it
  // Called now and then by the calling thread with the share of the work that is done, 0 to 1 (of each launch). What
  // it throws ends the execution and leaves Execute.
  std::function<void(double)> progress;
  // O is multiplied by this before it is rounded, as kernels do with the scale of an fp8 V. Only 1 for kernels whose
  // outer loop runs over the keys (fa1), which round O once a tile: UsageError otherwise.
  float output_scale = 1;
  MachineFault fault = MachineFault::kNone;  // what the machine does wrong
};

// What was executed, launch by launch: equals CountKernel's ledgers when all heads were asked for.
struct Executed {
  struct Launch {
    std::string name;
    Ledger ledger;
  };
  std::vector<Launch> launches;
  Ledger total;
};

// `arch` ("sm80", "sm90", ...) chooses the tensor core. Memory beyond the tensors: a few tiles a thread; `standard`
// adds S and P, and `split-kv` its partial outputs, of as many heads as there are threads. Throws UsageError for a
// problem or format that the kernel or the tensor core does not take, and UndecidedError for what is not modelled to
// the bit (softcap).
Executed Execute(const Kernel& kernel, const Attention& attention, const Tiling& tiling, std::string_view arch,
                 const ExactInputs& inputs, const ExactOutputs& outputs, const ExecuteOptions& options = {});

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_EXECUTE_H_
