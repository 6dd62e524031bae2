// What `run` found, and its two forms: JSON, and text for people.
#ifndef BITFLASH_VERIFY_CLI_RUN_RESULT_H_
#define BITFLASH_VERIFY_CLI_RUN_RESULT_H_

#include <optional>
#include <string>
#include <vector>

#include "gpu/device.h"
#include "sim/tensor_core.h"
#include "verify/cli/length_flags.h"
#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

struct WrittenFile {
  std::string path, tensor, dtype;
  std::vector<int64_t> shape;
};

struct RunResult {
  const Workload& workload;
  const sim::Kernel& kernel;
  const sim::TensorCore& core;
  sim::Tiling tiling;
  HeadSubset heads;
  std::string inputs;                 // "hash-normal, seed 7" or the files
  std::optional<gpu::Device> device;  // empty: simulated
  Lengths lengths;
  bool has_lse = true;                // the kernel writes LSE
  int threads = 1;

  data::Tensor o, lse;  // of the heads, as Simulated has them
  std::vector<HeadHash> hashes;
  std::vector<std::string> launches;
  int64_t multiply_adds = 0;
  double seconds = 0;  // of the simulation alone, or of the launches on the device
  std::vector<WrittenFile> files;
};

// Of the heads and the files of a run.
Json HashesJson(const std::vector<HeadHash>& hashes, bool has_lse);
std::string HashesText(const std::vector<HeadHash>& hashes, bool has_lse, bool color);
Json FilesJson(const std::vector<WrittenFile>& files);
std::string FilesText(const std::vector<WrittenFile>& files);

// verify/schemas/run.schema.json.
Json RunJson(const RunResult& result);

std::string RunText(const RunResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_RUN_RESULT_H_
