// How far from the golden attention a correct kernel can be, element by element: an a-priori worst case, derived from
// the roundings that the kernel makes. An element beyond its bound is wrong, whatever the norm of the whole says; a
// small row is judged at its own scale.
//
// With s(i,j) the scaled score, m(i) its maximum, p(i,j) the softmax weight, l = sum_j exp(s(i,j) - m(i)):
//   g(K)    = ceil(K / L) ((L + 1) 2^-F + 2^-23)     a chain of tensor-core steps over K products, relative to the sum
//   of
//                                                    their magnitudes: every step truncates L products and the
//                                                    accumulator to 2^-F of the largest, and its sum to 24 bits
//   ds(i,j) = scale g(head_dim) sum_c |Q(i,c) K(j,c)| + 3 2^-24 (|s(i,j)| + |m(i)|) + score_unit |s(i,j)|
//   bound_O(i,d) = sum_j p(i,j) |V(j,d)| (e^(2 max_j ds(i,j)) - 1 + p_unit + 2 e + g(keys) + 2 R + A + 2^-23)
//                  + p_floor sum_j |V(j,d)| / l(i) + output_unit |O(i,d)| + output_floor + keys 2^-126 max_j |V(j,d)|
//   bound_LSE(i) = max_j ds(i,j) + e + R + A + 2^-22 (|LSE(i)| + 1)
// e = 2^-22.4 is the error of ex2.approx (1.39 ulp), R = rescales (e + 2^-23), A = (keys_per_sum + 8) 2^-24 the fp32
// row sums and their combination. keys counts the visible ones. Sources: FDPA, arXiv 2511.10909 and
// gpu/probes/tensor_core_probe.cu; ex2, gpu/probes/sfu_probe.cu.
#ifndef BITFLASH_REFERENCE_ERROR_BOUND_H_
#define BITFLASH_REFERENCE_ERROR_BOUND_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "reference/golden.h"

namespace bitflash::reference {

// The roundings of a kernel.
struct Arithmetic {
  int step_products = 16;   // L of the tensor core: 16 on Hopper, 8 on Ampere
  int alignment_bits = 25;  // F: 25 on Hopper, 24 on Ampere
  double score_unit = 0;    // unit roundoff of stored scores; 0: they stay in fp32
  double p_unit = 0x1p-8;   // unit roundoff of P: 2^-8 for bf16 (8 significant bits), 2^-11 for fp16
  double p_floor = 0;       // absolute error of P below the normal range: 2^-25 for fp16
  double output_unit = 0x1p-8;
  double output_floor = 0;
  int64_t rescales = 1;      // how often a row's state is multiplied: its key tiles, and once more for every combine
  int64_t keys_per_sum = 1;  // keys that one thread adds up

  // Of a kernel that rounds P and O to the format.
  static Arithmetic ForFormat(data::Format format);
};

struct ErrorBound {
  std::vector<double> O;    // as Golden
  std::vector<double> LSE;  // as Golden; 0 for a row that sees no key
};

// For the part that `golden` was computed for. Costs the sample's scores once more, unblocked. Throws as
// GoldenAttention.
ErrorBound BoundAttention(const data::Attention& attention, const GoldenInputs& inputs, const GoldenPart& part,
                          const Golden& golden, const Arithmetic& arithmetic);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_ERROR_BOUND_H_
