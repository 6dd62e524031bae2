#include "verify/predict/explain.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <string_view>

#include "data/error.h"
#include "verify/predict/explain_contrast.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;
using data::Phase;

// Llama 3 8B's layer without its model.
Attention LlamaLayer(int64_t seqlen_q, int64_t seqlen_k) {
  return {.heads_q = 32, .heads_kv = 8, .seqlen_q = seqlen_q, .seqlen_k = seqlen_k};
}

Explanation ExplainOn(const Attention& attention, const char* gpu = "h200") {
  return Explain({.attention = attention, .gpu = data::LoadGpu(gpu)});
}

// Every (query, key) pair asked one by one, from the definition of the masks in data/mask.h.
int64_t PairsOneByOne(const Attention& a) {
  int64_t pairs = 0;
  const int64_t offset = a.seqlen_k - a.seqlen_q;
  for (int64_t i = 0; i < a.seqlen_q; ++i) {
    for (int64_t j = 0; j < a.seqlen_k; ++j) {
      bool sees = true;
      if (a.mask.kind == Mask::Kind::kCausal) sees = j <= i + offset;
      if (a.mask.kind == Mask::Kind::kCausalTopLeft) sees = j <= i;
      if (a.mask.kind == Mask::Kind::kWindow) {
        sees = (a.mask.left == Mask::kUnlimited || j >= i + offset - a.mask.left) &&
               (a.mask.right == Mask::kUnlimited || j <= i + offset + a.mask.right);
      }
      pairs += sees;
    }
  }
  return pairs;
}

constexpr int64_t kMiB = 1 << 20;

}  // namespace

TEST_CASE("visible pairs in closed form are the pairs counted one by one") {
  for (const int64_t q : {1, 2, 7, 16}) {
    for (const int64_t k : {1, 3, 7, 20}) {
      for (const Mask mask :
           {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(0, 0), Mask::Window(3, 0),
            Mask::Window(2, 4), Mask::Window(Mask::kUnlimited, 1), Mask::Window(5, Mask::kUnlimited)}) {
        const Attention a{.seqlen_q = q, .seqlen_k = k, .mask = mask};
        CAPTURE(data::ToString(a));
        CHECK(VisiblePairs(a) == PairsOneByOne(a));
      }
    }
  }
}

TEST_CASE("Llama 3 8B on an H200, prefill of 8192 without a mask: 16,384 MiB of S and P, 160 MiB of Q, K, V and O") {
  const Explanation e = ExplainOn(LlamaLayer(8192, 8192));
  CHECK(e.phase == Phase::kPrefill);
  CHECK(e.prefill.standard.score_bytes == 16384 * kMiB);
  CHECK(e.prefill.standard.operand_bytes == 160 * kMiB);
  CHECK(e.prefill.flash.operand_bytes == 160 * kMiB);
  CHECK(e.prefill.flash.score_bytes == 0);
  CHECK(e.prefill.flash.stored_bytes == 0);
  CHECK(e.prefill.flash.lse_bytes == int64_t{32} * 8192 * 4);
  CHECK(e.prefill.flash.kernel == "fa3");
  CHECK(e.conclusion == Conclusion::kRemovesHbm);
  // 4 Sq Sk d a head, the textbook count.
  CHECK(e.prefill.useful_flops == int64_t{4} * 8192 * 8192 * 128 * 32);
  CHECK(e.claim("fewer-flops").verdict == ClaimVerdict::kRefuted);
  CHECK(e.claim("decode-from-scores").verdict == ClaimVerdict::kRefuted);
  // K and V are streamed once by each of ceil(Sq / Br) query tiles of each query head.
  const double times = 8192.0 / static_cast<double>(e.prefill.flash.tiling.Br) * 4;
  CHECK(e.claim("kv-read-once").numbers.at("times") == doctest::Approx(times));
}

TEST_CASE("Llama 3 8B on an H200, decode at 8192: 2 MiB of S and P against 32 MiB of K and V") {
  const Explanation e = ExplainOn(LlamaLayer(1, 8192));
  CHECK(e.phase == Phase::kDecode);
  CHECK(e.decode.standard.score_bytes == 2 * kMiB);
  CHECK(e.decode.standard.operand_bytes == 32 * kMiB + 2 * 32 * 128 * 2);
  CHECK(e.decode.flash.kernel == "split-kv");
  CHECK(e.conclusion == Conclusion::kDecodeElsewhere);
  CHECK(e.claim("decode-from-scores").verdict == ClaimVerdict::kRefuted);
  CHECK(e.claim("split-kv-bytes").verdict == ClaimVerdict::kRefuted);
  CHECK(e.decode.standard.bottleneck == Bottleneck::kHbm);
  CHECK(e.decode.flash.bottleneck == Bottleneck::kHbm);
  CHECK(e.decode.floor_ratio() < 1.10);
}

TEST_CASE("the standard kernels move Q K V O once and S, P twice each; fp32 scores double S") {
  for (const auto& [q, k, heads, kv] : {std::tuple{512, 512, 4, 4}, {1024, 2048, 8, 2}, {1, 4096, 16, 16}}) {
    const Attention a{.batch = 3, .heads_q = heads, .heads_kv = kv, .seqlen_q = q, .seqlen_k = k};
    const Contrast c = CountContrast(a, data::LoadGpu("h200"), false);
    const int64_t scores = int64_t{3} * heads * q * k * 2;
    CHECK(c.standard.score_bytes == 4 * scores);
    CHECK(c.standard.stored_bytes == 2 * scores);
    CHECK(c.standard.operand_bytes == a.q_bytes() + a.k_bytes() + a.v_bytes() + a.o_bytes());
    CHECK(CountContrast(a, data::LoadGpu("h200"), true).standard.score_bytes == 6 * scores);
    CHECK(c.standard.hbm.compulsory == c.standard.operand_bytes + c.standard.score_bytes + c.standard.lse_bytes);
    CHECK(c.flash.hbm.compulsory == c.flash.operand_bytes + c.flash.lse_bytes + c.flash.other_bytes);
  }
}

TEST_CASE("beside the floors stands an estimate, which launches, stalls and idle SMs make longer") {
  const data::Model model = data::LoadModel("llama-3-8b");
  const Attention a = data::ToAttention(model, model.groups[0], data::Phase::kPrefill, 1, 8192);
  for (const char* gpu : {"h100", "a100-80gb"}) {
    const Explanation e = Explain({.attention = a, .gpu = data::LoadGpu(gpu), .model = model});
    for (const Contrast* c : {&e.prefill, &e.decode}) {
      for (const KernelCost* side : {&c->standard, &c->flash}) {
        REQUIRE(side->time.has_value());
        CHECK(side->time->launches.size() == side->count.launches.size());
        // Writes that L2 still holds at the end are in the floor and not in the estimate.
        CHECK(side->time->seconds >= 0.9 * side->floors.total);
      }
      CHECK(c->standard.time->seconds > c->flash.time->seconds);
    }
    CHECK(e.prefill.standard.time->calibrated == (std::string_view(gpu) == "h100"));
  }
}

TEST_CASE("floors are the bytes and operations over the GPU's rates, the largest of each launch") {
  const data::Gpu gpu = data::LoadGpu("h200");
  const Contrast c = CountContrast(LlamaLayer(8192, 8192), gpu, false);
  CHECK(c.standard.floors.hbm ==
        doctest::Approx(static_cast<double>(c.standard.hbm.compulsory) / gpu.hbm_bytes_per_second));
  CHECK(c.flash.floors.tensor == doctest::Approx(static_cast<double>(c.useful_flops) / gpu.tensor_16bit_flops));
  CHECK(c.flash.floors.total == std::max({c.flash.floors.hbm, c.flash.floors.tensor, c.flash.floors.special}));
  CHECK(c.standard.floors.total >= c.standard.floors.hbm);
}

TEST_CASE("the turning points of the sweep are exact to one token") {
  const Explanation e = ExplainOn(LlamaLayer(8192, 8192));
  REQUIRE(e.sweep.scores_exceed_operands);
  REQUIRE(e.sweep.scores_leave_l2);
  const auto at = [&](int64_t n) { return CountContrast(LlamaLayer(n, n), e.input.gpu, false).standard; };
  REQUIRE(e.sweep.scores_reach_hbm);
  const auto stay = [&](int64_t n) {
    Contrast c = CountContrast(LlamaLayer(n, n), e.input.gpu, false);
    PredictHbm(c, e.input.gpu, 0);
    return c.scores_stay_in_l2();
  };
  CHECK(stay(*e.sweep.scores_reach_hbm - 1));
  CHECK_FALSE(stay(*e.sweep.scores_reach_hbm));
  const int64_t exceed = *e.sweep.scores_exceed_operands, leave = *e.sweep.scores_leave_l2;
  CHECK(at(exceed).score_bytes > at(exceed).operand_bytes);
  CHECK(at(exceed - 1).score_bytes <= at(exceed - 1).operand_bytes);
  CHECK(at(leave).stored_bytes > e.l2_bytes);
  CHECK(at(leave - 1).stored_bytes <= e.l2_bytes);
  // 4 (2 N N e) H > (2 H + 2 Hkv) N d e for H = 32, Hkv = 8, d = 128: N > 80.
  CHECK(exceed == 81);
}

TEST_CASE("what is on chip adds up to what the simulated block allocates, or leaves the output's staging") {
  for (const char* gpu : {"h200", "a100-80gb"}) {
    const Explanation e = ExplainOn(LlamaLayer(4096, 4096), gpu);
    int64_t shared = 0;
    for (const OnChipTile& tile : e.on_chip.tiles) shared += tile.space == sim::Space::kShared ? tile.bytes : 0;
    const sim::Tiling& t = e.prefill.flash.tiling;
    CHECK(shared <= e.on_chip.shared_bytes);
    CHECK(e.on_chip.shared_bytes - shared <= t.Br * 128 * 2);
    CHECK(shared == (t.Br + 2 * t.stages * t.Bc) * 128 * 2);
    CHECK(e.loop.Tr == (4096 + t.Br - 1) / t.Br);
    CHECK(e.loop.tiles == e.loop.tiles_full);
    CHECK(e.loop.tiles == 32 * e.loop.Tr * ((4096 + t.Bc - 1) / t.Bc));
  }
}

TEST_CASE("a short prefill leaves S and P in L2, grouped decode removes a share") {
  CHECK(ExplainOn(LlamaLayer(512, 512)).conclusion == Conclusion::kScoresInL2);
  const Attention multi_query{.heads_q = 64, .heads_kv = 1, .seqlen_q = 1, .seqlen_k = 8192};
  const Explanation in_l2 = ExplainOn(multi_query);
  // Half of the bytes on paper, but 2 MiB of S and P lie in 54 MiB of L2.
  CHECK(in_l2.conclusion == Conclusion::kDecodeInL2);
  CHECK(in_l2.decode.scores_in_hbm() == 0);
  CHECK(in_l2.claim("decode-from-scores").verdict == ClaimVerdict::kRefuted);
  Attention batch = multi_query;
  batch.batch = 64;  // 128 MiB
  CHECK(ExplainOn(batch).conclusion == Conclusion::kDecodeShare);
  // 4 H a key of S and P (2 bytes, written and read) against 2 d of K and V: 64 heads give 1/3.
  CHECK(ExplainOn(multi_query).decode.score_share() == doctest::Approx(64.0 * 4 / (64 * 4 + 2 * 128)).epsilon(0.01));
}

TEST_CASE("floors are of the bytes behind the L2, and a launch's own reads are no scores") {
  const data::Gpu gpu = data::LoadGpu("h200");
  const Explanation e = ExplainOn(LlamaLayer(512, 512));
  for (const KernelCost* side : {&e.prefill.standard, &e.prefill.flash}) {
    CHECK(side->floors.hbm ==
          doctest::Approx(static_cast<double>(*side->hbm.predicted) / gpu.hbm_bytes_per_second).epsilon(1e-6));
  }
  CHECK(e.prefill.standard.floors.hbm <
        0.5 * static_cast<double>(e.prefill.standard.hbm.compulsory) / gpu.hbm_bytes_per_second);
  const Explanation tiny = ExplainOn(LlamaLayer(64, 64));
  CHECK(tiny.prefill.standard.hbm.overhead == 3 * *gpu.launch_dram_bytes);
  CHECK(tiny.prefill.scores_in_hbm() == 0);
  CHECK(tiny.conclusion == Conclusion::kScoresInL2);
}

TEST_CASE("where an L2 is too small for what tiles read again, FlashAttention's first version does not pay") {
  const Explanation e = ExplainOn(LlamaLayer(2048, 2048), "t4");
  CHECK(e.prefill.flash.kernel == "fa1");
  CHECK(*e.prefill.flash.hbm.predicted > *e.prefill.standard.hbm.predicted);
  CHECK(e.prefill.floor_ratio() < 1);
  CHECK(e.conclusion == Conclusion::kSmallGain);
}

TEST_CASE("the causal mask halves S and P when tiles are skipped") {
  Attention a = LlamaLayer(8192, 8192);
  a.mask = Mask::Causal();
  const Explanation e = ExplainOn(a);
  const double ratio =
      static_cast<double>(e.prefill.standard.score_bytes) / static_cast<double>(e.unmasked_score_bytes);
  CHECK(e.unmasked_score_bytes == 16384 * kMiB);
  CHECK(ratio > 0.5);
  CHECK(ratio < 0.52);
}

TEST_CASE("every model on every GPU in both phases is explained") {
  for (const std::string& model_name : data::ModelNames()) {
    const data::Model model = data::LoadModel(model_name);
    for (const std::string& gpu : data::GpuNames()) {
      for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
        for (size_t group = 0; group < model.groups.size(); ++group) {
          CAPTURE(model_name);
          CAPTURE(gpu);
          CAPTURE(group);
          ExplainInput input{.attention = data::ToAttention(model, model.groups[group], phase, 1, 4096),
                             .phase = phase,
                             .gpu = data::LoadGpu(gpu),
                             .model = model,
                             .group = group};
          Explanation e;
          REQUIRE_NOTHROW(e = Explain(input));
          CHECK(e.claims.size() == 10);
          CHECK(e.asked().standard.score_bytes > 0);
          CHECK(e.asked().flash.score_bytes == 0);
          CHECK(e.asked().flash.hbm.compulsory <= e.asked().flash.hbm.requested);
          CHECK((e.groups.empty() || e.groups.size() == model.groups.size()));
        }
      }
    }
  }
}

TEST_CASE("degenerate problems are explained: one token, one key, windows, a chunk of a prompt") {
  for (const char* gpu : {"h200", "t4", "rtx-4090"}) {
    for (const auto& [q, k] : {std::pair{1, 1}, {1, 2}, {2, 1}, {16, 8192}, {300, 7}}) {
      for (const Mask mask :
           {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(0, 0), Mask::Window(127, 0)}) {
        Attention a = LlamaLayer(q, k);
        a.mask = mask;
        CAPTURE(data::ToString(a));
        REQUIRE_NOTHROW(ExplainOn(a, gpu));
      }
    }
  }
}

TEST_CASE("the sweep of a huge batch ends where its counts no longer fit") {
  Attention a = LlamaLayer(4096, 4096);
  a.batch = 100000;
  const Explanation e = ExplainOn(a);
  CHECK(e.sweep.points.back().seqlen >= 4096);
  CHECK(e.sweep.points.back().seqlen < 131072);
}

TEST_CASE("what cannot be explained is said") {
  CHECK_THROWS_AS(ExplainOn(LlamaLayer(1, 0)), data::UsageError);
  Attention fp32 = LlamaLayer(128, 128);
  fp32.format = data::Format::kFp32;
  CHECK_THROWS_AS(ExplainOn(fp32), data::UsageError);
  const Explanation t4 = ExplainOn(LlamaLayer(1024, 1024), "t4");
  CHECK(t4.prefill.attention.format == data::Format::kFp16);
  CHECK(std::find(t4.notes.begin(), t4.notes.end(), ExplainNote::kBf16AsFp16) != t4.notes.end());
  CHECK(t4.prefill.flash.kernel == "fa1");
}

}  // namespace bitflash::verify
