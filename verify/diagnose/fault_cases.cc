#include "verify/diagnose/fault_cases.h"

#include "verify/subjects/simulate.h"

namespace bitflash::verify {

using data::Attention;
using data::Format;
using data::Mask;

Attention FaultShape(int64_t queries, int64_t keys, const Mask& mask) {
  return {.batch = 2,
          .heads_q = 4,
          .heads_kv = 2,
          .seqlen_q = queries,
          .seqlen_k = keys,
          .head_dim = 80,
          .head_dim_v = 80,
          .mask = mask,
          .format = Format::kBf16};
}

std::vector<FaultCase> FaultCases(data::Distribution family) {
  const auto generate = [&](const Attention& a) { return GenerateProblem(a, family, 7); };
  std::vector<FaultCase> cases = {{"causal, more keys", generate(FaultShape(40, 72, Mask::Causal()))},
                                  {"causal, more queries", generate(FaultShape(70, 40, Mask::Causal()))},
                                  {"top-left", generate(FaultShape(70, 40, Mask::CausalTopLeft()))},
                                  {"window", generate(FaultShape(64, 64, Mask::Window(20, 3)))},
                                  {"full", generate(FaultShape(33, 100, Mask::Full()))}};
  Attention square = FaultShape(48, 48, Mask::Full());
  square.heads_kv = 4;
  square.format = Format::kFp16;
  cases.push_back({"square, fp16", generate(square)});
  Problem ragged = generate(FaultShape(40, 72, Mask::Causal()));
  ragged.seqlens_q = {17, 40};
  ragged.seqlens_k = {72, 50};
  cases.push_back({"ragged", std::move(ragged)});
  Attention fp8 = FaultShape(40, 72, Mask::Causal());
  fp8.format = Format::kE4m3;
  Problem scaled = generate(fp8);
  scaled.q_scale = 0.5, scaled.k_scale = 1.25, scaled.v_scale = 3;
  cases.push_back({"fp8 with scales", std::move(scaled)});
  Attention capped = FaultShape(40, 72, Mask::Causal());
  capped.softcap = 5;
  cases.push_back({"softcap", generate(capped)});
  Problem sinks = generate(FaultShape(40, 72, Mask::Causal()));
  sinks.sinks = {0.5, 1, 2, -1};
  cases.push_back({"sinks", std::move(sinks)});
  return cases;
}

}  // namespace bitflash::verify
