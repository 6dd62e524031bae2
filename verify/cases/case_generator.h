// Problems that bring kernels' mistakes to light: edges of tiles, uneven heads, every mask, ragged batches, hostile
// values; the same ones from the same seed on every machine, each with a name that makes it again.
#ifndef BITFLASH_VERIFY_CASES_CASE_GENERATOR_H_
#define BITFLASH_VERIFY_CASES_CASE_GENERATOR_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/distribution.h"
#include "verify/cases/problem.h"

namespace bitflash::verify {

// A generated problem, described completely.
struct CaseSpec {
  data::Attention attention;  // softmax_scale stays empty
  data::Distribution distribution = data::Distribution::kHashNormal;
  uint64_t seed = 0;
  // Sequences of unequal lengths: one as long as the tensors, the others of 0, 1, all but one, or any number of rows
  // and keys, by the seed. What lies behind them are values as everywhere, leftovers of others as in the pages of a
  // cache; with nan-padding, NaN.
  bool ragged = false;
  bool sinks = false;  // one a head, between -4 and 4

  bool operator==(const CaseSpec&) const = default;
};

// "b2_h6-2_s127x129_d64_bf16_causal_spiky_seed7": batch, query and KV heads, queries and keys, head_dim (d192-128 with
// another one of V), format, mask (window-255-0, u: no limit), softcap30, ragged, learned-sinks where they apply,
// distribution, seed. Stable: reports and scripts keep them.
std::string Name(const CaseSpec& spec);

// The inverse. Throws UsageError that names the part that is wrong and what was expected.
CaseSpec ParseCaseSpec(std::string_view name);

// Q, K and V of data/distribution.h, on all threads. Throws UsageError where Validate does.
Problem Materialize(const CaseSpec& spec);

struct CaseOptions {
  int64_t budget = 64;             // cases
  int64_t max_elements = 1 << 21;  // of Q, K, V, O and the scores together; larger cases get fewer or shorter sequences
  std::vector<data::Format> formats = {data::Format::kBf16};
  std::vector<int64_t> head_dims = {64, 128};
  std::vector<data::Mask::Kind> masks = {data::Mask::Kind::kFull, data::Mask::Kind::kCausal,
                                         data::Mask::Kind::kCausalTopLeft, data::Mask::Kind::kWindow};
  int64_t tile_q = 64, tile_k = 64;  // lengths are chosen around multiples of these
  bool ragged = true;
  bool sinks = false;
  bool softcap = false;
  uint64_t seed = 0;
};

// At most `budget` cases, no two alike, seeds from options.seed on. Every value of every choice (lengths, heads, masks,
// distributions, ...) meets every value of every other in some case, as far as the budget reaches: each case is the one
// that adds most new pairs. Throws UsageError for a budget or sizes below 1 and for no formats, head_dims or masks.
std::vector<CaseSpec> GenerateCases(const CaseOptions& options);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_CASE_GENERATOR_H_
