// The arithmetic of the golden attention on one block of query rows and keys, once per instruction set.
//
// Eigen chooses its instructions when it is compiled, so golden_block-inl.h is compiled three times and one version is
// chosen at run time. Only plain pointers cross this border: see golden_block-inl.h on why nothing else may.
#ifndef BITFLASH_REFERENCE_GOLDEN_BLOCK_H_
#define BITFLASH_REFERENCE_GOLDEN_BLOCK_H_

#include <cstdint>

namespace bitflash::reference {

// A block in the papers' letters. Matrices are row-major fp64; rows of Q, K, V and O are adjacent. Every pointer is
// aligned to 64 bytes: Eigen's order of summation depends on alignment, and the bits must not.
struct Block {
  int64_t rows = 0;         // query rows
  int64_t keys = 0;         // keys
  int64_t keys_padded = 0;  // keys, rounded up to a multiple of 8: the distance between rows of S
  int64_t head_dim = 0;
  int64_t head_dim_v = 0;
  double scale = 1;    // softmax_scale
  double softcap = 0;  // 0: none

  const double* Q = nullptr;  // [rows, head_dim]
  const double* K = nullptr;  // [keys, head_dim]
  const double* V = nullptr;  // [keys, head_dim_v]
  double* S = nullptr;        // [rows, keys_padded]: scores, then weights P
  double* m = nullptr;        // [rows]: the largest score so far; NaN once a score was NaN
  double* l = nullptr;        // [rows]: sum of exp(score - m) so far
  double* O = nullptr;        // [rows, head_dim_v]: sum of exp(score - m) V so far
};

struct BlockSteps {
  const char* isa;  // "baseline", "avx2", "avx512"

  // S = scale Q K^T, capped. The padding is left alone.
  void (*scores)(const Block& block);
  // Turns the scores of the whole padded rows, -inf where a key is not visible, into P = exp(S - m) with the new m,
  // adds them to l and rescales l and O to the new m. P is exactly 0 where it would be below 2^-1022, so also at -inf.
  void (*softmax)(const Block& block);
  // O += P V.
  void (*accumulate)(const Block& block);
  // x[i] = exp(x[i]) for x[i] <= 0, as softmax computes it; count is a multiple of 8, x aligned to 64 bytes.
  void (*exp)(double* x, int64_t count);
};

const BlockSteps& BaselineBlockSteps();
const BlockSteps& Avx2BlockSteps();    // x86-64 only
const BlockSteps& Avx512BlockSteps();  // x86-64 only

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_GOLDEN_BLOCK_H_
