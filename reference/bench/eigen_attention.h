#ifndef BITFLASH_REFERENCE_BENCH_EIGEN_ATTENTION_H_
#define BITFLASH_REFERENCE_BENCH_EIGEN_ATTENTION_H_

#include <cstdint>

namespace bitflash::reference {

// One head, row-major. S [seqlen, seqlen] is scratch.
struct EigenHead {
  int64_t seqlen, head_dim;
  bool causal;
  const float *Q, *K, *V;
  float *S, *O;
};

void EigenHead_avx2(const EigenHead& head);
void EigenHead_avx512(const EigenHead& head);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_BENCH_EIGEN_ATTENTION_H_
