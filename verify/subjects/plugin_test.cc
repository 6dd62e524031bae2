#include "verify/subjects/plugin.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <thread>

#include "data/convert.h"
#include "data/error.h"
#include "reference/golden.h"
#include "verify/cli/shell.h"
#include "verify/judge/compare.h"
#include "verify/subjects/leftovers_testing.h"

namespace bitflash::verify {
namespace {

namespace fs = std::filesystem;
using data::Attention;
using data::Format;
using data::Mask;
using data::Tensor;
using Kind = PluginError::Kind;

std::string Library(const std::string& name) { return BITFLASH_BINARY_DIR "/" + name + ".so"; }

PluginOptions Correct() { return {.path = Library("plugin_correct"), .timeout_s = 60}; }
PluginOptions Faulty(const std::string& fault, double timeout_s = 60) {
  return {.path = Library("plugin_faulty"), .init_json = R"({"fault": ")" + fault + "\"}", .timeout_s = timeout_s};
}

Tensor Random(std::mt19937_64& rng, Format format, std::vector<int64_t> shape) {
  Tensor tensor = Tensor::Zeros(format, std::move(shape));
  std::normal_distribution<float> normal;
  std::vector<uint64_t> bits(tensor.count());
  for (uint64_t& b : bits) b = data::Encode(format, normal(rng));
  return Tensor::FromBits(format, tensor.shape(), bits);
}

Problem MakeProblem(Attention a, uint64_t seed = 1) {
  std::mt19937_64 rng(seed);
  Problem p;
  p.attention = a;
  p.q = Random(rng, a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim});
  p.k = Random(rng, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim});
  if (!a.v_is_in_k) p.v = Random(rng, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v});
  return p;
}

Attention Small(Format format = Format::kFp16, Mask mask = Mask::Full()) {
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

void CheckClean(const PluginRun& run) {
  CHECK(run.unwritten_o == 0);
  CHECK(run.unwritten_lse == 0);
  CHECK(run.differing_o == 0);
  CHECK(run.differing_lse == 0);
  CHECK(run.stale_o == 0);
  CHECK_FALSE(run.changed_fp_control);
  CHECK(run.stderr_tail == "");
}

// True as soon as the condition is, within a time that is long enough on a busy machine.
bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
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

TEST_CASE("every way to fail is named, three times in a row, and nothing stays behind") {
  const struct {
    std::string fault;
    Kind kind;
    const char* message;
  } faults[] = {
      {"crash", Kind::kCrash, "crashed in forward(): SIGSEGV"},
      {"overflow", Kind::kCrash, "crashed in forward(): SIGSEGV"},
      {"abort", Kind::kCrash, "crashed in forward(): SIGABRT"},
      {"init-crash", Kind::kCrash, "crashed in init(): SIGSEGV"},
      {"exit", Kind::kExit, "exit status 3 in forward()"},
      {"close-all", Kind::kExit, "exit status 0"},
      {"kill-group", Kind::kCrash, "SIGKILL"},
      {"error-code", Kind::kErrorCode, "returned -42 from forward(): 'the device is on fire'"},
      {"init-error", Kind::kErrorCode, "init() returned -7"},
      {"write-outside", Kind::kGuardPage, "wrote right behind the end of O in forward() (SIGSEGV)"},
      {"write-input", Kind::kWroteOutside, "wrote to the input Q, at byte 0 in forward()"},
      {"unprotect-input", Kind::kErrorCode, "returned -42"},
      {"read-outside", Kind::kGuardPage, "read right behind the end of K"},
      {"hang", Kind::kTimeout, "did not come back within 0.3 s in forward()"},
      {"babbles", Kind::kTimeout, "in forward(); it printed '"},
      {"init-hang", Kind::kTimeout, "did not come back within 0.3 s in init()"},
  };
  const Leftovers leftovers;
  const Problem p = MakeProblem(Small());
  for (const auto& expected : faults) {
    const Kind kind = expected.kind;
    CAPTURE(expected.fault);
    PluginSubject subject(Faulty(expected.fault, kind == Kind::kTimeout ? 0.3 : 60));
    for (int round = 0; round < 3; ++round) {
      try {
        subject.Run(p);
        FAIL("no error");
      } catch (const PluginError& error) {
        CHECK(Name(error.kind) == Name(kind));
        CHECK_MESSAGE(std::string(error.what()).find(expected.message) != std::string::npos, error.what());
      }
      leftovers.CheckNone();
    }
  }
}

TEST_CASE("accesses before a tensor and beside an unaligned one are found by the second call and by canaries") {
  const auto kind_of = [](PluginOptions options, const Problem& p) -> std::string {
    try {
      PluginSubject(options).RunChecked(p);
    } catch (const PluginError& error) {
      return std::string(Name(error.kind)) + ": " + error.what();
    }
    return "";
  };
  const Problem p = MakeProblem(Small());  // LSE has 160 bytes
  CHECK(kind_of(Faulty("read-before"), p).find("read 1 bytes before the start of K") != std::string::npos);
  CHECK(kind_of(Faulty("write-before"), p).find("guard-page") == std::string::npos);  // slack of the first call
  CHECK(
      kind_of(Faulty("write-before"), p).find("2 bytes that do not belong to O, the first 2 bytes before its start") !=
      std::string::npos);
  CHECK(kind_of(Faulty("write-beside-lse"), p).find("behind the end of LSE") != std::string::npos);
  Attention a = Small();
  a.batch = 1;
  a.heads_q = 2;  // LSE has 40 bytes: 8 bytes of slack at its end
  CHECK(kind_of(Faulty("write-beside-lse"), MakeProblem(a)).find("to LSE, the first right behind its end") !=
        std::string::npos);
  PluginOptions gaps = Faulty("write-between");
  gaps.row_padding = 8;
  CHECK(kind_of(gaps, p).find("wrote-outside") == 0);
  CHECK(kind_of(gaps, p).find("between its rows") != std::string::npos);
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

TEST_CASE("processes that a plug-in starts are killed at its end, also those that hide") {
  const Leftovers leftovers;
  for (int round = 0; round < 3; ++round) {
    PluginSubject subject(Faulty("forks"));
    CheckClean(subject.RunOnce(MakeProblem(Small())));
    CHECK(Eventually([&] { return leftovers.Processes() >= 5; }));  // two of the host and three of the plug-in
    subject.Close();
    leftovers.CheckNone();
  }
  PluginSubject orphan(Faulty("kill-host"));
  CHECK_THROWS_WITH_AS(orphan.Run(MakeProblem(Small())), doctest::Contains("killed its own host"), PluginError);
  leftovers.CheckNone();
}

TEST_CASE("a plug-in that hangs does not outlive a bitflash that is killed") {
  const Leftovers leftovers;
  const pid_t child = fork();
  if (child == 0) {
    try {
      PluginSubject(Faulty("hang")).Run(MakeProblem(Small()));
    } catch (const std::exception&) {
    }
    _exit(0);
  }
  CHECK(Eventually([&] { return leftovers.Processes() == 2; }));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(Eventually([&] { return leftovers.Processes() == 0; }));
  leftovers.CheckNone();
}

TEST_CASE("a crash costs only one call, and the end in order can fail") {
  const Problem p = MakeProblem(Small());
  PluginSubject subject(Faulty("crash-second"));
  const Outputs first = subject.Run(p);
  CHECK_THROWS_AS(subject.Run(p), PluginError);
  CHECK(subject.Run(p).o == first.o);  // a new process, whose first call this is

  PluginSubject later(Faulty("crash-later"));
  later.Run(p);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_THROWS_WITH_AS(later.Run(p), doctest::Contains("crashed between calls: SIGABRT"), PluginError);
  later.Run(p);

  PluginSubject ends_badly(Faulty("destroy-crash"));
  ends_badly.Run(p);
  CHECK_THROWS_WITH_AS(ends_badly.Close(), doctest::Contains("crashed in destroy(): SIGSEGV"), PluginError);
  PluginSubject ends_never(Faulty("destroy-hang", 0.3));
  ends_never.Run(p);
  CHECK_THROWS_WITH_AS(ends_never.Close(), doctest::Contains("within 0.3 s in destroy()"), PluginError);
  ends_never.Close();
  const Leftovers leftovers;
  PluginSubject(Faulty("destroy-crash")).Run(p);  // the destructor says nothing
  leftovers.CheckNone();
}

TEST_CASE("the memory of a plug-in can be limited") {
  const Problem p = MakeProblem(Small());
  PluginOptions options = Faulty("allocate");
  PluginSubject(options).Run(p);
#if !defined(__SANITIZE_ADDRESS__)
  options.memory_limit_bytes = int64_t{1} << 30;
  CHECK_THROWS_WITH_AS(PluginSubject(options).Run(p), doctest::Contains("returned -42"), PluginError);
  options.memory_limit_bytes = 16 << 20;  // too little even for the tensors' guards
  CHECK_THROWS_AS(PluginSubject(options).Run(p), PluginError);
#endif
}

TEST_CASE("unsupported is undecided, in init as in supports") {
  CHECK_THROWS_AS(PluginSubject(Faulty("init-unsupported")).Run(MakeProblem(Small())), data::UndecidedError);
  CHECK_THROWS_AS(PluginSubject(Faulty("unsupported")).Run(MakeProblem(Small())), data::UndecidedError);
}

TEST_CASE("files that are no plug-in") {
  const TemporaryFolder folder;
  const Leftovers leftovers;
  const Problem p = MakeProblem(Small());
  const auto refused = [&](const std::string& path, Kind kind, const char* message) {
    CAPTURE(path);
    for (int round = 0; round < 3; ++round) {
      try {
        PluginSubject({.path = path}).Run(p);
        FAIL("no error");
      } catch (const PluginError& error) {
        CHECK(Name(error.kind) == Name(kind));
        CHECK_MESSAGE(std::string(error.what()).find(message) != std::string::npos, error.what());
      }
    }
    leftovers.CheckNone();
  };
  WriteText(folder.path() + "/text.so", "not a library");
  refused(folder.path() + "/text.so", Kind::kLoad, "cannot be loaded");
  WriteText(folder.path() + "/empty.so", "");
  refused(folder.path() + "/empty.so", Kind::kLoad, "cannot be loaded");
  refused(Library("plugin_unresolved"), Kind::kLoad, "bitflash_test_defined_nowhere");
  refused(Library("plugin_crash_on_load"), Kind::kCrash, "crashed while it was loaded: SIGABRT");
  refused(Library("plugin_no_entry"), Kind::kAbi, "does not export bitflash_plugin_entry");
  refused(Library("plugin_other_major"), Kind::kAbi, "it speaks version 2 of the interface: expected 1");
  refused(Library("plugin_null_table"), Kind::kAbi, "it does not serve version 1");
  refused(Library("plugin_too_small"), Kind::kAbi, "struct_size 32: expected at least 40");
  refused(Library("plugin_no_forward"), Kind::kAbi, "lacks init or forward");

  CHECK_THROWS_AS(PluginSubject({.path = ""}), data::UsageError);
  CHECK_THROWS_AS(PluginSubject({.path = folder.path() + "/none.so"}), data::InputError);
  CHECK_THROWS_AS(PluginSubject({.path = folder.path()}), data::InputError);
  const std::string fifo = folder.path() + "/fifo.so";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(PluginSubject({.path = fifo}), doctest::Contains("not a regular file"), data::InputError);
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

TEST_CASE("options and installations that cannot work are refused with the value") {
  const auto with = [](const std::function<void(PluginOptions&)>& change) {
    PluginOptions options = Correct();
    change(options);
    return options;
  };
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.timeout_s = 0; })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.timeout_s = std::nan(""); })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.alignment_bytes = 48; })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.row_padding = -1; })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.init_json = std::string(1 << 17, ' '); })), data::UsageError);
  const Problem p = MakeProblem(Small());
  const Leftovers leftovers;
  for (const char* host : {"/nowhere/host", "/bin/true", "/bin/false"}) {
    try {
      PluginSubject(with([&](auto& o) { o.host_path = host; })).Run(p);
      FAIL("no error");
    } catch (const PluginError& error) {
      CHECK(Name(error.kind) == Name(Kind::kHost));
    }
    leftovers.CheckNone();
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace bitflash::verify
