// Attention by Eigen, not fused: S = Q K^T, softmax of every row, O = P V, a whole head at a time; a causal mask hides
// scores and saves no work. A peer for cpu_attention_bench.cc. Each including file names its instruction set, is
// compiled for it and gives Eigen's namespace a name of its own (reference/golden_block-inl.h says why).
//
// Eigen would use every thread of OpenMP for each product wherever only one head is computed at a time: one core would
// be compared with several. The heads are what is parallel here.
#define EIGEN_DONT_PARALLELIZE
#define BITFLASH_PASTE2(a, b) a##b
#define BITFLASH_PASTE(a, b) BITFLASH_PASTE2(a, b)
#define Eigen BITFLASH_PASTE(Eigen_peer_, BITFLASH_PEER_ISA)
#include <Eigen/Core>
#undef Eigen

#include <cmath>
#include <limits>

#include "reference/bench/eigen_attention.h"

namespace bitflash::reference {

void BITFLASH_PASTE(EigenHead_, BITFLASH_PEER_ISA)(const EigenHead& h) {
  namespace E = BITFLASH_PASTE(Eigen_peer_, BITFLASH_PEER_ISA);
  using Matrix = E::Matrix<float, E::Dynamic, E::Dynamic, E::RowMajor>;
  const E::Map<const Matrix> Q(h.Q, h.seqlen, h.head_dim), K(h.K, h.seqlen, h.head_dim), V(h.V, h.seqlen, h.head_dim);
  E::Map<Matrix> S(h.S, h.seqlen, h.seqlen), O(h.O, h.seqlen, h.head_dim);
  S.noalias() = Q * K.transpose();
  const float scale = 1 / std::sqrt(static_cast<float>(h.head_dim));
  for (int64_t i = 0; i < h.seqlen; ++i) {
    auto row = S.row(i).array();
    if (h.causal) row.tail(h.seqlen - 1 - i).setConstant(-std::numeric_limits<float>::infinity());
    row = ((row - row.maxCoeff()) * scale).exp();
    row *= 1 / row.sum();
  }
  O.noalias() = S * V;
}

}  // namespace bitflash::reference
