// Where `run` takes Q, K and V from: files, or a seed.
#ifndef BITFLASH_VERIFY_CLI_RUN_INPUTS_H_
#define BITFLASH_VERIFY_CLI_RUN_INPUTS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/cli/length_flags.h"
#include "verify/cli/workload.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

// The flags as written on the command line.
struct InputFlags {
  std::optional<std::string> distribution, in, q, k, v;

  bool FromFiles() const { return in || q || k || v; }
};

void AddInputFlags(CommandLine& line, InputFlags& flags);

// The tensors of files, of whole heads and in the layout bhsd.
struct FileInputs {
  std::vector<std::string> paths;
  data::Tensor q, k;
  std::optional<data::Tensor> v;
  Lengths lengths;  // tensors seqlens_q and seqlens_k, as a saved case has them
};

// Empty where the flags name no file. Reads the files and fills in the workload flags that the files answer and the
// user left open: the shapes, the type when the files say it, and the mask and scale that `gen` noted in a .safetensors
// file. The command then takes no seed: the files hold the values. Throws UsageError for flags that contradict files,
// InputError.
std::optional<FileInputs> ReadInputs(const InputFlags& flags, WorkloadFlags& workload, WorkloadFeatures& features);

// Throws UsageError for files with sequences of several lengths, which the command does not take.
void RequireOneLength(const std::optional<FileInputs>& files, std::string_view command);

// What the flags say, else the file. Throws UsageError where both do, and as ParseLengths.
Lengths LengthsOf(const LengthFlags& flags, const std::optional<FileInputs>& files, WorkloadFlags& workload);

// The heads of the subset. Throws InputError that names the tensor whose shape or type is not the problem's.
KernelInputs SelectInputs(const FileInputs& files, const data::Attention& attention, const HeadSubset& heads);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_RUN_INPUTS_H_
