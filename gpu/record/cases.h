// What is recorded of the CUDA kernels: one problem per line of data/golden/own_cases.txt, which explains its columns.
#ifndef BITFLASH_GPU_RECORD_CASES_H_
#define BITFLASH_GPU_RECORD_CASES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/attention.h"
#include "gpu/kernels.h"

namespace bitflash::gpu {

struct RecordCase {
  std::string name;    // unique among the cases of its kernel
  std::string kernel;  // "fa2"
  data::Attention attention;
  Options options;
  std::vector<int64_t> lengths;  // split-kv: keys of each sequence, at most attention.seqlen_k; empty: all of them
  uint64_t seed = 0;     // of Q; K and V take the next two. Sequence b of `lengths` has seeds of its own, SeedOf
  bool profile = false;  // also one of the launches that Nsight Compute looks at
  int64_t line = 0;      // of the file, from 1

  int64_t keys(int64_t sequence) const { return lengths.empty() ? attention.seqlen_k : lengths[sequence]; }
  uint64_t SeedOf(int64_t sequence) const { return lengths.empty() ? seed : seed + 3 * sequence; }
};

// Throws InputError naming the origin, the line, the word and what was expected.
std::vector<RecordCase> ParseCases(std::string_view text, std::string_view origin);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_CASES_H_
