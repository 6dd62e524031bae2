// Test-only: plug-ins of this build and small problems for them.
#ifndef BITFLASH_VERIFY_SUBJECTS_PLUGIN_TESTING_H_
#define BITFLASH_VERIFY_SUBJECTS_PLUGIN_TESTING_H_

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "data/convert.h"
#include "verify/cases/problem.h"
#include "verify/subjects/plugin.h"

namespace bitflash::verify {

inline std::string Library(const std::string& name) { return BITFLASH_BINARY_DIR "/" + name + ".so"; }

inline PluginOptions Correct() { return {.path = Library("plugin_correct"), .timeout_s = 60}; }
inline PluginOptions Faulty(const std::string& fault, double timeout_s = 60) {
  return {.path = Library("plugin_faulty"), .init_json = R"({"fault": ")" + fault + "\"}", .timeout_s = timeout_s};
}

inline data::Tensor Random(std::mt19937_64& rng, data::Format format, std::vector<int64_t> shape) {
  data::Tensor tensor = data::Tensor::Zeros(format, std::move(shape));
  std::normal_distribution<float> normal;
  std::vector<uint64_t> bits(tensor.count());
  for (uint64_t& b : bits) b = data::Encode(format, normal(rng));
  return data::Tensor::FromBits(format, tensor.shape(), bits);
}

inline Problem MakeProblem(data::Attention a, uint64_t seed = 1) {
  std::mt19937_64 rng(seed);
  Problem p;
  p.attention = a;
  p.q = Random(rng, a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim});
  p.k = Random(rng, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim});
  if (!a.v_is_in_k) p.v = Random(rng, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v});
  return p;
}

inline data::Attention Small(data::Format format = data::Format::kFp16, data::Mask mask = data::Mask::Full()) {
  return {.batch = 2,
          .heads_q = 4,
          .heads_kv = 2,
          .seqlen_q = 5,
          .seqlen_k = 7,
          .head_dim = 16,
          .head_dim_v = 8,
          .mask = mask,
          .format = format};
}

inline void CheckClean(const PluginRun& run) {
  CHECK(run.unwritten_o == 0);
  CHECK(run.unwritten_lse == 0);
  CHECK(run.differing_o == 0);
  CHECK(run.differing_lse == 0);
  CHECK(run.stale_o == 0);
  CHECK_FALSE(run.changed_fp_control);
  CHECK(run.stderr_tail == "");
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_PLUGIN_TESTING_H_
