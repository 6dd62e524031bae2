#include "verify/subjects/plugin.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "data/convert.h"
#include "data/error.h"
#include "reference/golden.h"
#include "verify/judge/compare.h"
#include "verify/subjects/leftovers_testing.h"
#include "verify/subjects/plugin_testing.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;
using data::Tensor;

double Value(const Tensor& tensor, const std::vector<int64_t>& index) {
  return ValueOf(tensor.type(), tensor.Bits(index));
}

std::vector<double> Values(const Tensor& tensor) {
  std::vector<double> values;
  const Tensor flat = tensor.Reshaped({tensor.count()});
  for (int64_t i = 0; i < flat.count(); ++i) values.push_back(ValueOf(flat.type(), flat.Bits({i})));
  return values;
}

// O and LSE of the fp64 reference, sequence by sequence, against the plug-in's. Sinks join afterwards, by their
// formula.
void CheckAgainstGolden(const Problem& p, const Outputs& outputs, double tolerance) {
  for (int64_t b = 0; b < p.attention.batch; ++b) {
    if (p.queries(b) == 0) continue;
    const Problem one = Extract(p, WholeSequence(p, b));
    const std::vector<double> q = Values(one.q), k = Values(one.k);
    const std::vector<double> v = p.attention.v_is_in_k ? std::vector<double>() : Values(one.v);
    const reference::Golden golden =
        reference::GoldenAttention(one.attention, {{q, {}}, {k, {}}, {v, {}}, {}}, {}, {.threads = 1});
    for (int64_t h = 0; h < p.attention.heads_q; ++h) {
      for (int64_t row = 0; row < p.queries(b); ++row) {
        const int64_t at = h * p.queries(b) + row;
        double lse = golden.LSE[at], share = 1;
        if (!p.sinks.empty()) {
          share = 1 / (1 + std::exp(p.sinks[h] - lse));
          lse = std::isinf(lse) ? p.sinks[h] : lse - std::log(share);
        }
        for (int64_t c = 0; c < p.attention.head_dim_v; ++c) {
          const double expected = share * golden.O[at * p.attention.head_dim_v + c];
          REQUIRE(std::abs(Value(outputs.o, {b, h, row, c}) - expected) <= tolerance * (1 + std::abs(expected)));
        }
        const double got = Value(*outputs.lse, {b, h, row});
        const bool near = std::isinf(lse) ? got == lse : std::abs(got - lse) <= 1e-5 * (1 + std::abs(lse));
        REQUIRE(near);
      }
    }
  }
}

TEST_SUITE_BEGIN("plugin");

TEST_CASE("the example plug-in agrees with the reference in every feature") {
  const struct {
    Format format;
    double tolerance;
  } formats[] = {{Format::kFp32, 1e-5}, {Format::kFp16, 6e-4}, {Format::kBf16, 5e-3}};
  PluginSubject plain(Correct());
  PluginOptions odd = Correct();
  odd.layout = data::Layout::kBshd;
  odd.row_padding = 3;
  PluginSubject strided(odd);
  const Leftovers leftovers;
  for (const auto& kind : formats) {
    const Format format = kind.format;
    const double tolerance = kind.tolerance;
    for (const Mask& mask : {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(2, 1)}) {
      CAPTURE(data::Name(format));
      CAPTURE(ToString(mask));
      Problem p = MakeProblem(Small(format, mask), 7);
      const PluginRun run = plain.RunChecked(p);
      CheckClean(run);
      CheckAgainstGolden(p, run.outputs, tolerance);
      CHECK(strided.Run(p).o == run.outputs.o);

      p.seqlens_q = {3, 5};
      p.seqlens_k = {7, 0};  // rows that see nothing
      p.sinks = {0.5, -1, 2, 0};
      p.attention.softcap = 3;
      const PluginRun ragged = strided.RunChecked(p);
      CheckClean(ragged);
      CheckAgainstGolden(p, ragged.outputs, tolerance);
    }
  }
  plain.Close();
  strided.Close();
  leftovers.CheckNone();
}

TEST_CASE("no keys, V within K, another output format, fp8 refused") {
  PluginOptions options = Correct();
  options.output_format = Format::kFp32;
  PluginSubject subject(options);
  Attention a = Small(Format::kBf16);
  a.seqlen_k = 0;
  Outputs none = subject.Run(MakeProblem(a));
  CHECK(none.o == Tensor::Zeros(Format::kFp32, {2, 4, 5, 8}));
  CHECK(Value(*none.lse, {1, 3, 4}) == -std::numeric_limits<double>::infinity());

  a = Small(Format::kBf16);
  a.v_is_in_k = true;
  const Problem latent = MakeProblem(a);
  CheckAgainstGolden(latent, subject.RunChecked(latent).outputs, 1e-5);

  CHECK_THROWS_AS(subject.Run(MakeProblem(Small(Format::kE4m3))), data::UndecidedError);
  CHECK_THROWS_AS(subject.Run(MakeProblem(Small(Format::kTf32))), data::UndecidedError);
  CHECK(subject.Run(latent).o.type() == data::ElementType(Format::kFp32));  // still there
  CHECK(subject.name() == "plugin_correct.so");
  CHECK(subject.description() == "naive 1.0");
}

TEST_CASE("scales of fp8 reach the plug-in, and a plug-in need not have an LSE") {
  PluginSubject subject(Correct());
  Problem p = MakeProblem(Small(Format::kFp32));
  const Outputs plain = subject.Run(p);
  p.q_scale = 4;
  p.k_scale = 0.25;
  p.v_scale = 2;
  const Outputs scaled = subject.Run(p);
  CHECK(Value(scaled.o, {0, 1, 2, 3}) == 2 * Value(plain.o, {0, 1, 2, 3}));

  PluginSubject silent(Faulty("no-lse"));
  const PluginRun run = silent.RunChecked(p);
  CHECK_FALSE(run.outputs.lse.has_value());
  CHECK(run.unwritten_lse == 2 * 4 * 5);
  CHECK(run.unwritten_o == 0);
  PluginOptions without = Correct();
  without.wants_lse = false;
  CHECK_FALSE(PluginSubject(without).RunChecked(p).outputs.lse.has_value());
}

TEST_CASE("what is no failure is reported as a value") {
  const Problem p = MakeProblem(Small());
  PluginRun run = PluginSubject(Faulty("unwritten")).RunChecked(p);
  CHECK(run.unwritten_o == 2 * 4 * 8);
  CHECK(run.unwritten_lse == 2 * 4);
  CHECK(run.differing_o == 0);
  CHECK(std::isnan(Value(run.outputs.o, {0, 0, 4, 0})));
  CHECK(PluginSubject(Faulty("unwritten")).RunOnce(p).unwritten_o == 2 * 4 * 8);

  run = PluginSubject(Faulty("nondeterministic")).RunChecked(p);
  CHECK(run.differing_o == 0);  // the bit of odd calls: the first and the third
  PluginSubject flipping(Faulty("nondeterministic"));
  const Outputs odd = flipping.Run(p), even = flipping.Run(p);
  CHECK(Compare(odd.o, even.o).bits_differ == 1);

  run = PluginSubject(Faulty("stale")).RunChecked(p);
  CHECK(run.stale_o == run.outputs.o.count());
  CHECK(run.differing_o == 0);

  run = PluginSubject(Faulty("top-left")).RunChecked(MakeProblem(Small(Format::kFp16, Mask::Causal())));
  CheckClean(run);
  CHECK(run.outputs.o == PluginSubject(Correct()).Run(MakeProblem(Small(Format::kFp16, Mask::CausalTopLeft()))).o);
  run = PluginSubject(Faulty("no-scale")).RunChecked(p);
  CheckClean(run);
  CHECK(run.outputs.o != PluginSubject(Correct()).Run(p).o);
}

TEST_CASE("a changed floating-point mode is undone and noted") {
  const Problem p = MakeProblem(Small(Format::kFp32));
  PluginSubject subject(Faulty("fast-math"));
  for (int round = 0; round < 3; ++round) {
    const PluginRun run = subject.RunOnce(p);
    CHECK(run.changed_fp_control);
#if defined(__x86_64__)
    CHECK(run.fp_control_note.find("the call: MXCSR 0x1f80 became 0x9fc0") == 0);
#endif
  }
#if defined(__x86_64__)
  PluginSubject on_load({.path = Library("plugin_flush_on_load")});
  // A subnormal V: O would be 0 under flush to zero.
  Problem tiny = MakeProblem(Small(Format::kFp32));
  for (uint32_t& bits : tiny.v.Elements<uint32_t>()) bits = 0x400;
  const PluginRun run = on_load.RunOnce(tiny);
  CHECK(run.changed_fp_control);
  CHECK(run.fp_control_note.find("loading: MXCSR 0x1f80 became 0x9fc0") == 0);
  CHECK(Value(run.outputs.o, {0, 0, 0, 0}) > 0);
#endif
}

TEST_CASE("what a plug-in prints is captured, and only its end is kept") {
  PluginSubject subject(Faulty("prints"));
  const PluginRun run = subject.RunOnce(MakeProblem(Small()));
  CHECK(run.stderr_tail.size() == 4096);
  CHECK(run.stderr_tail.find("the last line\n") != std::string::npos);
  CHECK(run.stderr_tail.find("to standard output") != std::string::npos);  // flushed after the call
}

TEST_CASE("unsupported is undecided, in init as in supports") {
  CHECK_THROWS_AS(PluginSubject(Faulty("init-unsupported")).Run(MakeProblem(Small())), data::UndecidedError);
  CHECK_THROWS_AS(PluginSubject(Faulty("unsupported")).Run(MakeProblem(Small())), data::UndecidedError);
}

TEST_CASE("older and newer minor versions of the table work") {
  const Problem p = MakeProblem(Small());
  const Outputs expected = PluginSubject(Correct()).Run(p);
  PluginSubject older({.path = Library("plugin_older_minor")}), newer({.path = Library("plugin_newer_minor")});
  CHECK(older.Run(p).o == expected.o);
  CHECK(newer.Run(p).o == expected.o);
  CHECK(older.description() == "older 0.9");
  older.Close();
}

TEST_SUITE_END();

}  // namespace
}  // namespace bitflash::verify
