// Outputs that real kernels gave on a real GPU, to be reproduced bit for bit. data/golden/README.md says how they were
// recorded and what the files hold.
#ifndef BITFLASH_DATA_GOLDEN_H_
#define BITFLASH_DATA_GOLDEN_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/attention.h"
#include "data/tensor.h"
#include "data/tensor_map.h"

namespace bitflash::data {

// The sum of HashPair(i, elements[i]) (data/hash.h) modulo 2^64: the fingerprint of one head's O [seqlen_q, head_dim_v]
// or LSE [seqlen_q].
uint64_t HashElements(std::span<const uint16_t> elements);
uint64_t HashElements(std::span<const uint32_t> elements);

// One head's bits over all runs. Most kernels give the same bits in every run; then there are no variants.
struct GoldenHead {
  uint64_t o_hash = 0, lse_hash = 0;               // of the bits that most runs gave
  std::vector<uint64_t> o_variants, lse_variants;  // of the other bits that were seen, most frequent first

  bool HasO(uint64_t hash) const;  // among those seen
  bool HasLse(uint64_t hash) const;
};

// The bits of one row, of the run of o_hash and lse_hash.
struct GoldenRow {
  int64_t head = 0;         // b * heads_q + h
  int64_t row = 0;          // of seqlen_q
  std::vector<uint16_t> o;  // [head_dim_v]
  uint32_t lse = 0;
};

// A kernel that one call launched.
struct GoldenLaunch {
  std::string kernel;
  std::array<int64_t, 3> grid{}, block{};  // x, y, z
};

// What a kernel of this repository was built for and called with beside the problem (gpu/kernels.h).
struct GoldenOptions {
  int64_t Br = 0, Bc = 0, warps = 0, stages = 0;
  int64_t chunk = 0;      // split-kv: keys of a part; 0: the keys are not split
  int64_t page_size = 0;  // split-kv: keys of a page; 0: contiguous
  bool fp32_scores = false;
};

// One problem as one backend solved it. Q, K and V are HashNormal (data/random.h) of the seeds seed, seed + 1 and
// seed + 2, rounded to the format.
struct GoldenCase {
  std::string name;     // unique within a file
  std::string backend;  // "pytorch-fa2"
  bool held_out = false;
  Attention attention;  // the mask is the one that the kernel applied
  uint64_t seed = 0;
  bool kv_heads_expanded = false;  // the kernel got every KV head once per query head, being without grouped queries
  int64_t runs = 0;
  std::vector<GoldenLaunch> launches;
  std::vector<GoldenHead> heads;         // [batch * heads_q]
  std::vector<GoldenRow> rows;           // empty where full_bits
  bool full_bits = false;                // every bit is in the .npz file beside this one
  std::optional<GoldenOptions> options;  // kernels of this repository only (schema 2)

  bool IsRepeatable() const;  // no head has variants
};

// The cases of a file of data/golden. Throws InputError that names the origin, the case, the field, its value and what
// was expected: for text that is not JSON, an unknown, missing or repeated field, a value outside its range, an invalid
// problem, a number of hashes other than batch * heads_q, and a row outside the problem or of another length.
std::vector<GoldenCase> ParseGolden(std::string_view text, std::string_view origin);
std::vector<GoldenCase> LoadGolden(const std::string& path);

// Every bit of a case: O [batch, heads_q, seqlen_q, head_dim_v] of the problem's format, LSE [batch, heads_q, seqlen_q]
// of fp32.
struct GoldenBits {
  Tensor o, lse;
};

// The bits of a case with full_bits in the tensors of its .npz file (data/tensor_file.h). Throws InputError when they
// are missing or of another shape or type.
GoldenBits FullBits(const GoldenCase& golden, const TensorMap& npz, std::string_view origin);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_GOLDEN_H_
