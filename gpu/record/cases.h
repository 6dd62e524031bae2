// What is recorded of the CUDA kernels: one problem per line of data/golden/own_cases.txt, which explains its columns.
#ifndef BITFLASH_GPU_RECORD_CASES_H_
#define BITFLASH_GPU_RECORD_CASES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/record/call.h"

namespace bitflash::gpu {

struct RecordCase : Call {
  std::string name;      // unique among the cases of its kernel
  uint64_t seed = 0;     // of Q; K and V take the next two. Sequence b of `lengths` has seeds of its own, SeedOf
  bool profile = false;  // also one of the launches that Nsight Compute looks at

  uint64_t SeedOf(int64_t sequence) const { return lengths.empty() ? seed : seed + 3 * sequence; }
};

// Throws InputError naming the origin, the line, the word and what was expected.
std::vector<RecordCase> ParseCases(std::string_view text, std::string_view origin);

// Elements count through [batch, heads, rows, head_dim]; with `lengths`, through the rows of each sequence alone.
Inputs Generate(const RecordCase& c);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_CASES_H_
