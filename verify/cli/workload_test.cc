#include "verify/cli/workload.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::Mask;
using data::UsageError;

WorkloadFlags Heads() {
  WorkloadFlags flags;
  flags.heads_q = "16";
  flags.head_dim = "128";
  flags.seqlen = "4096";
  return flags;
}

WorkloadFlags OfModel(const char* model) {
  WorkloadFlags flags;
  flags.model = model;
  flags.seqlen = "8192";
  return flags;
}

Workload Resolve(const WorkloadFlags& flags) { return ResolveWorkload(flags, {.seed = true, .sweep = true}); }

bool Assumes(const Workload& workload, const std::string& text) {
  return std::find(workload.assumed.begin(), workload.assumed.end(), text) != workload.assumed.end();
}

TEST_CASE("what was not said is assumed and stated") {
  const Workload w = Resolve(Heads());
  const data::Attention& a = w.points.front();
  CHECK(a.heads_kv == 16);
  CHECK(a.head_dim_v == 128);
  CHECK(a.seqlen_q == 4096);
  CHECK(a.seqlen_k == 4096);
  CHECK(a.mask == Mask::Full());
  CHECK(a.format == data::Format::kBf16);
  CHECK(w.gpu.name == "h200");
  CHECK(w.kernels.size() == 1);
  for (const char* text : {"gpu = h200", "kernel = fa2", "seed = 0", "heads_kv = 16 (as heads_q)", "dtype = bf16",
                           "mask = full", "phase = prefill", "batch = 1"}) {
    CAPTURE(text);
    CHECK(Assumes(w, text));
  }
}

TEST_CASE("what was said is not assumed") {
  WorkloadFlags flags = Heads();
  flags.heads_kv = "4";
  flags.phase = "decode";
  flags.mask = "window(127,0)";
  flags.dtype = "fp16";
  flags.batch = "3";
  flags.gpu = "a100-80gb";
  flags.kernel = "standard,fa2";
  flags.seed = "0x10";
  flags.softmax_scale = "0.5";
  flags.head_dim_v = "64";
  const Workload w = Resolve(flags);
  const data::Attention& a = w.points.front();
  CHECK(w.assumed.empty());
  CHECK(a.seqlen_q == 1);
  CHECK(a.seqlen_k == 4096);
  CHECK(a.mask == Mask::Window(127, 0));
  CHECK(a.scale() == 0.5);
  CHECK(a.head_dim_v == 64);
  CHECK(w.seed == 16);
  CHECK(w.kernels.size() == 2);
  CHECK(w.phase == data::Phase::kDecode);
}

TEST_CASE("a model brings its shape, mask and format, which flags override") {
  WorkloadFlags flags = OfModel("llama-3-8b");
  Workload w = Resolve(flags);
  CHECK(w.points.front().heads_q == 32);
  CHECK(w.points.front().heads_kv == 8);
  CHECK(w.points.front().mask == Mask::Causal());
  CHECK(w.group->layers == 32);
  flags.mask = "full";
  flags.dtype = "fp16";
  w = Resolve(flags);
  CHECK(w.points.front().mask == Mask::Full());
  CHECK(w.points.front().format == data::Format::kFp16);
}

TEST_CASE("a model with two kinds of layers: the global ones unless said, each by the start of its name") {
  WorkloadFlags flags = OfModel("gemma-2-9b");
  Workload w = Resolve(flags);
  CHECK(w.group->name == "global");
  CHECK(w.points.front().mask == Mask::Causal());
  flags.layers = "sliding";
  w = Resolve(flags);
  CHECK(w.group->window == 4096);
  CHECK(w.points.front().mask.kind == Mask::Kind::kWindow);
  flags.layers = "local";
  CHECK_THROWS_AS(Resolve(flags), UsageError);
  flags.layers = "";
  CHECK_THROWS_AS(Resolve(flags), UsageError);
}

TEST_CASE("one query of latent attention is decode") {
  WorkloadFlags flags;
  flags.model = "deepseek-v3";
  flags.seqlen_q = "1";
  flags.seqlen_k = "1024";
  const Workload w = Resolve(flags);
  CHECK(w.points.front().v_is_in_k);
  CHECK_FALSE(w.notes.empty());
  flags.seqlen_q = "1024";
  CHECK_FALSE(Resolve(flags).points.front().v_is_in_k);
}

TEST_CASE("beyond a model's positions there is a note, not an error") {
  WorkloadFlags flags = OfModel("llama-3-8b");
  flags.seqlen = "8193";
  const Workload w = Resolve(flags);
  REQUIRE(w.notes.size() == 1);
  CHECK(w.notes[0].find("8192 positions") != std::string::npos);
}

TEST_CASE("sweeps multiply; each point assumes the same") {
  WorkloadFlags flags = OfModel("llama-3-8b");
  flags.batch = "1,8";
  flags.seqlen = "512:2048:x2";
  const Workload w = Resolve(flags);
  REQUIRE(w.points.size() == 6);
  CHECK(w.points[0].batch == 1);
  CHECK(w.points[5].batch == 8);
  CHECK(w.points[5].seqlen_k == 2048);
  CHECK(w.swept == std::vector<std::string>{"batch", "seqlen"});
  CHECK(std::count(w.assumed.begin(), w.assumed.end(), "mask = causal (the model's)") == 1);
  CHECK_THROWS_AS(ResolveWorkload(flags, {.sweep = false}), UsageError);
  flags.batch = "1:3000:+1";
  flags.seqlen = "1:3000:+1";
  CHECK_THROWS_AS(Resolve(flags), UsageError);
}

TEST_CASE("an architecture chooses a GPU, and must agree with one that is named") {
  WorkloadFlags flags = Heads();
  flags.arch = "sm90";
  CHECK(Resolve(flags).gpu.name == "h200");
  flags.arch = "sm80";
  CHECK(Resolve(flags).gpu.name == "a100-80gb");
  flags.gpu = "h200";
  CHECK_THROWS_AS(Resolve(flags), UsageError);
}

TEST_CASE("a tiling flag goes to the kernels that it means something to") {
  WorkloadFlags flags = Heads();
  flags.kernel = "standard,fa2";
  flags.fp32_scores = true;
  flags.tile = "64x64";
  const Workload w = Resolve(flags);
  CHECK(ChooseTiling(w, *w.kernels[0], w.points.front()).fp32_scores);
  CHECK_FALSE(ChooseTiling(w, *w.kernels[1], w.points.front()).fp32_scores);
  CHECK(ChooseTiling(w, *w.kernels[1], w.points.front()).Br == 64);
  flags.kernel = "fa2";
  CHECK_THROWS_AS(Resolve(flags), UsageError);
}

}  // namespace
}  // namespace bitflash::verify
