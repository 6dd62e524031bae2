// `run` with a kernel of the CPU: nothing is simulated.
#ifndef BITFLASH_VERIFY_CLI_RUN_CPU_H_
#define BITFLASH_VERIFY_CLI_RUN_CPU_H_

#include <optional>
#include <string>
#include <vector>

#include "verify/cli/output.h"
#include "verify/cli/run_result.h"
#include "verify/subjects/cpu_kernel.h"

namespace bitflash::verify {

struct CpuRunResult {
  const Workload& workload;
  const CpuKernel& kernel;
  HeadSubset heads;
  std::string inputs;
  int threads = 1;
  Lengths lengths = {};

  data::Tensor o, lse;  // of the heads: 16-bit patterns or fp32 [batch, heads, seqlen_q, head_dim_v], fp32
  std::vector<HeadHash> hashes;
  int64_t multiply_adds = 0;  // of the pairs that the mask leaves, of the whole groups of heads
  int64_t kv_bytes = 0;       // K and V, each read once
  double seconds = 0;         // of the fastest run
  std::vector<WrittenFile> files;
};

// Runs the kernel on whole groups of heads; short ones several times. Throws UndecidedError where the kernel does not
// take the problem.
void RunOnCpu(CpuRunResult& result, const KernelInputs& inputs);

// verify/schemas/run.schema.json.
Json RunJson(const CpuRunResult& result);

std::string RunText(const CpuRunResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_RUN_CPU_H_
