// The workload flags, the same in every command: which attention, on which GPU, by which kernel.
#ifndef BITFLASH_VERIFY_CLI_WORKLOAD_H_
#define BITFLASH_VERIFY_CLI_WORKLOAD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/attention.h"
#include "data/gpu.h"
#include "data/model_config.h"
#include "sim/count.h"
#include "sim/kernels/kernels.h"
#include "verify/cli/command_line.h"

namespace bitflash::verify {

// The flags as written on the command line.
struct WorkloadFlags {
  std::optional<std::string> model, layers, heads_q, heads_kv, head_dim, head_dim_v;
  std::optional<std::string> batch, seqlen_q, seqlen_k, phase, seqlen;
  std::optional<std::string> mask, softmax_scale, softcap, dtype;
  bool causal = false;
  std::optional<std::string> gpu, arch;
  std::optional<std::string> kernel, tile, warps, stages, splits, chunk, page_size;
  bool pack_gqa = false;
  bool fp32_scores = false;
  std::optional<std::string> seed;
};

// Which groups of flags a command takes besides the problem itself.
struct WorkloadFeatures {
  bool gpu = true;
  bool kernel = true;
  bool seed = false;
  std::string default_kernel = "fa2";
  bool cpu_kernels = false;  // --kernel also takes kernels of the CPU (cpu_kernel_flag.h)
  bool sweep = false;        // --batch and the lengths may be sweeps (numbers.h)
};

void AddWorkloadFlags(CommandLine& line, WorkloadFlags& flags, const WorkloadFeatures& features);

struct Workload {
  std::optional<data::Model> model;
  std::optional<data::LayerGroup> group;  // of the model; with it `attention` is one layer of this group
  std::optional<data::Phase> phase;       // empty: the lengths were given one by one
  std::vector<data::Attention> points;    // one for each combination of the swept flags; at least one
  std::vector<std::string> swept;         // "batch", "seqlen_q", "seqlen_k", "seqlen": what changes between points
  data::Gpu gpu;
  std::vector<const sim::Kernel*> kernels;  // those of --kernel, else the command's default
  sim::TilingChoice tiling;                 // the flags that were given
  uint64_t seed = 0;
  std::vector<std::string> assumed;  // "batch = 1": what was not said, and the value taken
  std::vector<std::string> notes;    // what the user should know: beyond the model's positions, not modelled, ...

  const data::Attention& attention() const { return points.front(); }
};

// Reads the model and the GPU and checks everything that can be checked without a kernel. Throws UsageError (also when
// flags contradict one another), InputError, UndecidedError.
Workload ResolveWorkload(const WorkloadFlags& flags, const WorkloadFeatures& features);

// What --arch takes.
std::vector<std::string> ArchitectureNames();

// The user's choices that mean something to this kernel; ResolveWorkload has refused those that mean nothing to any
// chosen one.
sim::TilingChoice ChoiceFor(const Workload& workload, const sim::Kernel& kernel);

// What `kernel` would run for the problem: the tiling of the published kernel with those choices.
sim::Tiling ChooseTiling(const Workload& workload, const sim::Kernel& kernel, const data::Attention& attention);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_WORKLOAD_H_
