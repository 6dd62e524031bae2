// A small problem with inputs and outputs for the tests of the C interface.
#ifndef BITFLASH_VERIFY_C_API_C_API_TESTING_H_
#define BITFLASH_VERIFY_C_API_C_API_TESTING_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "data/attention.h"
#include "data/convert.h"
#include "data/random.h"
#include "verify/c_api.h"

namespace bitflash::verify {

template <class Struct>
Struct Sized() {
  Struct result{};
  result.struct_size = sizeof(Struct);
  return result;
}

inline std::vector<uint16_t> Normal16(data::Format format, int64_t elements, uint64_t seed) {
  std::vector<uint16_t> bits(elements);
  for (int64_t i = 0; i < elements; ++i)
    bits[i] = static_cast<uint16_t>(data::Encode(format, data::HashNormal(seed, i)));
  return bits;
}

// Causal GQA of ragged lengths in fp16, and the same as the library's own type.
struct SmallCall {
  bitflash_problem problem = Sized<bitflash_problem>();
  data::Attention attention{.batch = 2,
                            .heads_q = 4,
                            .heads_kv = 2,
                            .seqlen_q = 37,
                            .seqlen_k = 83,
                            .head_dim = 64,
                            .head_dim_v = 64,
                            .mask = data::Mask::Causal(),
                            .format = data::Format::kFp16};
  std::vector<uint16_t> q, k, v, o;
  std::vector<float> lse;
  std::vector<double> true_o, true_lse;
  bitflash_inputs inputs = Sized<bitflash_inputs>();
  bitflash_outputs outputs = Sized<bitflash_outputs>();  // of a simulation
  bitflash_outputs truth = Sized<bitflash_outputs>();    // of the fp64 reference

  SmallCall() {
    const data::Attention& a = attention;
    problem.batch = a.batch;
    problem.heads_q = a.heads_q;
    problem.heads_kv = a.heads_kv;
    problem.seqlen_q = a.seqlen_q;
    problem.seqlen_k = a.seqlen_k;
    problem.head_dim = a.head_dim;
    problem.mask = BITFLASH_MASK_CAUSAL;
    problem.format = BITFLASH_FP16;
    q = Normal16(a.format, a.q_bytes() / 2, 1);
    k = Normal16(a.format, a.k_bytes() / 2, 2);
    v = Normal16(a.format, a.v_bytes() / 2, 3);
    o.assign(a.o_bytes() / 2, 0xEEEE);
    lse.assign(a.lse_bytes() / 4, 12345);
    true_o.assign(o.size(), 12345);
    true_lse.assign(lse.size(), 12345);
    inputs = {sizeof inputs, q.data(), 2 * q.size(), k.data(), 2 * k.size(), v.data(), 2 * v.size()};
    outputs = {sizeof outputs, o.data(), 2 * o.size(), lse.data(), 4 * lse.size()};
    truth = {sizeof truth, true_o.data(), 8 * true_o.size(), true_lse.data(), 8 * true_lse.size()};
  }
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_C_API_C_API_TESTING_H_
