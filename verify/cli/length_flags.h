// --seqlens-q and --seqlens-k: sequences of several lengths in one problem.
#ifndef BITFLASH_VERIFY_CLI_LENGTH_FLAGS_H_
#define BITFLASH_VERIFY_CLI_LENGTH_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/device/device_verify.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

// The flags as written on the command line.
struct LengthFlags {
  std::optional<std::string> q, k;

  bool any() const { return q || k; }
};

void AddLengthFlags(CommandLine& line, LengthFlags& flags);

// Query rows and keys of each sequence, [batch]; empty: all have the problem's.
struct Lengths {
  std::vector<int64_t> queries, keys;

  bool ragged() const { return !queries.empty() || !keys.empty(); }
};

// Fills in the workload flags that the lists answer and the user left open: the number of sequences, and the longest.
// Throws UsageError for a list that is none, lists of different numbers of sequences, and flags that contradict them.
Lengths ParseLengths(const LengthFlags& flags, WorkloadFlags& workload);

// Throws UsageError where there are not as many as the batch has sequences, or one is longer than the problem.
void RequireFitting(const Lengths& lengths, const data::Attention& attention);

// The tensors as a problem with these lengths.
Problem ProblemOf(const data::Attention& attention, const KernelInputs& inputs, const Lengths& lengths);

// What the simulated kernel gives for the heads of the subset, every sequence by itself. `inputs` are those of the
// subset. Throws as RunSimulated.
OutputPair SimulateSequences(const sim::Kernel& kernel, const HeadSubset& heads, const sim::Tiling& tiling,
                             const std::string& arch, const KernelInputs& inputs, const Lengths& lengths);

// What one sequence is, as a problem.
data::Attention SequenceOf(const data::Attention& attention, const Lengths& lengths, int64_t sequence);

// "200 x 257, 1 x 300" queries and keys, the first few.
std::string LengthsText(const data::Attention& attention, const Lengths& lengths);

// {"queries": [200, 1], "keys": [257, 300]} with the lengths of all sequences; null where all have the problem's.
Json LengthsJson(const data::Attention& attention, const Lengths& lengths);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_LENGTH_FLAGS_H_
