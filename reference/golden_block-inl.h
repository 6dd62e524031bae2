// The body of golden_block.cc, golden_block_avx2.cc and golden_block_avx512.cc. The includer renames
// Eigen, defines BITFLASH_ISA ("avx2") and BITFLASH_BLOCK_STEPS (Avx2BlockSteps), and is compiled with that instruction
// set's flags.
//
// One-definition rule: an inline function compiled with two sets of flags is two definitions of one symbol, the linker
// keeps either, and a processor without AVX then meets an AVX instruction in a function that it had every right to
// call. Hence (1) the includers rename Eigen's namespace (to Eigen_avx2), (2) everything here is in an unnamed
// namespace, (3) nothing else is included whose inline functions could be emitted: no standard containers, no header of
// ours but the plain struct. The test reference_isa_symbols reads the object files' symbols and fails if one slips
// through. The baseline is renamed as well: the cache sizes set below are then nobody else's.
//
// No include guard: each translation unit includes it once, on purpose.

// Threads are the caller's business, and one product must not depend on how many there are.
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_NO_IO
#include <Eigen/Core>
#include <cmath>
#include <limits>

#include "reference/golden_block.h"

namespace bitflash::reference {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Gaps = Eigen::OuterStride<>;
using Row = Eigen::Map<Eigen::Array<double, 1, Eigen::Dynamic>, Eigen::Aligned64>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// log(2^-1022), rounded up. Eigen's exp stops falling at exp(-709.8), a subnormal number: it is not 0 at -inf, and
// subnormal weights make the product with V many times slower.
constexpr double kLeastExponent = -708.396418532264;

void Scores(const Block& b) {
  const Eigen::Map<const Matrix> Q(b.Q, b.rows, b.head_dim);
  const Eigen::Map<const Matrix> K(b.K, b.keys, b.head_dim);
  Eigen::Map<Matrix, Eigen::Unaligned, Gaps> S(b.S, b.rows, b.keys, Gaps(b.keys_padded));
  S.noalias() = b.scale * (Q * K.transpose());
  if (b.softcap > 0) S = b.softcap * (S.array() / b.softcap).tanh();
}

// x = exp(x) for x <= 0. NaN stays NaN.
void ExpInPlace(Row x) {
  constexpr int64_t kChunk = 64;
  alignas(64) double argument[kChunk];
  for (int64_t begin = 0; begin < x.size(); begin += kChunk) {
    const int64_t size = x.size() - begin < kChunk ? x.size() - begin : kChunk;
    Row chunk(x.data() + begin, size);
    Row(argument, size) = chunk;
    chunk = chunk.exp();
    for (int64_t j = 0; j < size; ++j) chunk[j] = argument[j] < kLeastExponent ? 0.0 : chunk[j];
  }
}

void Softmax(const Block& b) {
  for (int64_t i = 0; i < b.rows; ++i) {
    Row P(b.S + i * b.keys_padded, b.keys_padded);
    Eigen::Map<Eigen::Array<double, 1, Eigen::Dynamic>> O(b.O + i * b.head_dim_v, b.head_dim_v);
    const double m_block = P.maxCoeff<Eigen::PropagateNaN>();
    // The comparison is false for a NaN, which must stay, and true for one that arrives.
    const double m = !(m_block <= b.m[i]) && b.m[i] == b.m[i] ? m_block : b.m[i];
    // -inf minus -inf is NaN, so a row that has seen nothing yet is shifted by 0: all its weights are 0.
    const double shift = m == -kInfinity ? 0 : m;
    if (m != b.m[i]) {
      const double rescale = std::exp(b.m[i] - shift);  // 0 for the first block
      b.l[i] *= rescale;
      O *= rescale;
    }
    P -= shift;
    ExpInPlace(P);
    b.l[i] += P.sum();
    b.m[i] = m;
  }
}

void Accumulate(const Block& b) {
  const Eigen::Map<const Matrix, Eigen::Unaligned, Gaps> P(b.S, b.rows, b.keys, Gaps(b.keys_padded));
  const Eigen::Map<const Matrix> V(b.V, b.keys, b.head_dim_v);
  Eigen::Map<Matrix> O(b.O, b.rows, b.head_dim_v);
  O.noalias() += P * V;
}

void Exp(double* x, int64_t count) { ExpInPlace(Row(x, count)); }

}  // namespace

const BlockSteps& BITFLASH_BLOCK_STEPS() {
  // Eigen splits long products by the caches that it finds; a fixed answer keeps the bits the same on every processor
  // of this instruction set. Run once: initialisation of a local static is serialised.
  static const BlockSteps steps = [] {
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
    return BlockSteps{BITFLASH_ISA, Scores, Softmax, Accumulate, Exp};
  }();
  return steps;
}

}  // namespace bitflash::reference
