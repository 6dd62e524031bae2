// How far from the golden attention a correct kernel can be, element by element: an a-priori worst case, derived from
// the roundings that the kernel makes. An element beyond its bound is wrong, whatever the norm of the whole says; a
// small row is judged at its own scale.
//
// With s(i,j) the scaled score, m(i) its maximum, p(i,j) the softmax weight, l(i) = sum_j exp(s(i,j) - m(i)), sums and
// maxima over the visible keys whose score is not -inf, and |x|' the larger of |x| and operand_floor where x is not 0:
//   g(K)   = ceil(K / L) ((L + 1) 2^-F + u_c)       a chain of tensor-core steps over K products, relative to the sum
//   of
//                                                   their magnitudes: every step truncates L products and the
//                                                   accumulator to 2^-F of the largest, and its sum to u_c
//   ds(i)  = scale (e^(g(head_dim)) - 1 + 2 u_in + u_in^2) max_j sum_c |Q(i,c)|' |K(j,c)|'
//            + score_roundings 2^-24 (max_j |s(i,j)| + |m(i)|) + (score_unit + t) max_j |s(i,j)| + score_unit 2^-14
//   x(i)   = 2 ds + u_P + u_in + 2 e + g(keys) + 2 R + A + 2^-23
//   bound_O(i,d) = B + output_unit (|O(i,d)| + B) + output_floor, where
//   B = (e^x - 1) sum_j p(i,j) |V(j,d)|' + (p_floor / l' + g(keys) operand_floor_P / l' + 2^-126) sum_j |V(j,d)|'
//   bound_LSE(i) = ds + e + R + A + 2^-22 (|LSE(i)| + 1)
// e is the error of the exponential, R = rescales (e + 2^-23), A = (keys_per_sum + 8) 2^-24 the fp32 row sums and their
// combination, l' = l, or 1 when P is divided by its sum before it is rounded. Factors (1 + error) are multiplied out
// by e^sum, so that nothing has to be small. With softcap > 0 the derivative of cap tanh(s / cap) is at most 1, so ds
// carries over, with t = tanh_unit and the roundings before tanh, 3 2^-24 of the product sum. Scores that leave fp32,
// or O beyond output_max, have no bound: infinity. Sources: the step, FDPA, arXiv 2511.10909 and
// gpu/probes/tensor_core_probe.cu; ex2, gpu/probes/sfu_probe.cu; operands below the normal range count as 2^emin
// because the tensor core aligns them unnormalised (arXiv 2511.10909, section 4).
//
// The statistical error O_sigma takes the same roundings as independent, each uniform in its interval, so one standard
// deviation is 1 / sqrt(3) of it: keys add up as sqrt(sum_j p^2 |V|'^2), chains of T steps and sums of N terms as
// sqrt(T) and sqrt(N) (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019). What truncation biases toward zero stays
// linear: half a unit of every step, relative to |O| and to |s|.
#ifndef BITFLASH_REFERENCE_ERROR_BOUND_H_
#define BITFLASH_REFERENCE_ERROR_BOUND_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
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

  double accumulator_unit = 0x1p-23;  // u_c: 2^-23 of fp32 truncated; 2^-13 of Hopper's fp8 wgmma
  double operand_floor = 0;           // 2^emin of Q, K and V: what a smaller operand that is not 0 counts as
  double p_operand_floor = 0;         // 2^emin of P
  bool p_is_normalized = false;       // P is divided by its sum before it is rounded (the standard kernel)
  double input_unit = 0;              // Q, K, V and P are rounded on their way in: tf32 tensor cores on fp32 tensors
  int score_roundings = 3;            // fp32 roundings between the product Q K^T and the exponent
  double exponential_error = 0x1.84p-23;  // 2^-22.4, 1.5 ulp, of ex2.approx
  double tanh_unit = 0x1p-11;             // of tanh.approx.f32 (PTX ISA): relative error at most 2^-11; softcap only
  double output_max = std::numeric_limits<double>::infinity();  // largest finite output; no bound beyond

  // The weakest tensor core published for inputs of this format, whose kernels round P and O to it as well:
  //   fp16       V100, L 4 F 23                   bf16  A100, L 8 F 24
  //   e4m3, e5m2 Hopper's wgmma, L 32 F 13, sums truncated to 13 bits; no P below half its smallest subnormal number
  //   fp32       no tensor core: chains of FMA in any order, K 2^-24
  //   tf32       fp32 tensors through the tensor core of A100, L 4 F 24, operands truncated (2^-10) by its hardware;
  //              a kernel that rounds them to nearest has 2^-11
  // Throws UsageError for fp64.
  static Arithmetic ForFormat(data::Format format);

  // Sets what depends on the format of O. Throws UsageError for fp64.
  void SetOutput(data::Format format);
};

// What a kernel does to a row besides attention.
struct RowEffects {
  double v_scale = 1;             // the value of an element of V is v_scale times what its bits say
  std::span<const double> sinks;  // [heads_q], or empty: exp(sink) joins the row's sum of exponentials, with no value
};

struct ErrorBound {
  std::vector<double> O;        // as Golden; +inf where O is not finite; 0 for a row that sees no key
  std::vector<double> LSE;      // as Golden; +inf where LSE is not finite; 0 for a row without keys and sink
  std::vector<double> O_sigma;  // as O: one standard deviation
};

struct BoundedGolden {
  Golden golden;
  ErrorBound bound;
};

// The golden attention and its bounds in one pass, at about 2.5 times the cost of GoldenAttention. Throws as
// GoldenAttention, and UsageError for a wrong number of sinks.
BoundedGolden BoundAttention(const data::Attention& attention, const GoldenInputs& inputs, const GoldenPart& part,
                             const Arithmetic& arithmetic, const RowEffects& effects = {},
                             const GoldenExecution& execution = {});

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_ERROR_BOUND_H_
