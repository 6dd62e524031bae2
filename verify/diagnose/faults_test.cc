#include "verify/diagnose/faults.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "data/convert.h"
#include "data/error.h"
#include "verify/diagnose/fault_cases.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;

Problem MakeProblem(const Attention& a) { return GenerateProblem(a, data::Distribution::kHashNormal, 7); }

std::vector<FaultCase> Cases() {
  std::vector<FaultCase> cases = FaultCases(data::Distribution::kHashNormal);
  Attention small_scale = FaultShape(40, 72, Mask::Causal());
  small_scale.softmax_scale = 1e-3;
  cases.push_back({"small scale", MakeProblem(small_scale)});
  return cases;
}

// One of each kernel, and those that split with one part too.
std::vector<SimulatedKernel> SimulatedKernels() {
  std::vector<SimulatedKernel> kernels;
  for (const sim::Kernel& kernel : sim::Kernels()) {
    const bool wgmma = kernel.mma == sim::MmaInstruction::kWgmma;
    sim::Tiling t{.Br = wgmma ? 64 : 32, .Bc = 16, .warps = wgmma ? 4 : 2};
    kernels.push_back({&kernel, t, "sm90"});
    if (!kernel.splits_keys) continue;
    t.splits = 3;
    t.Bc = 16;
    t.page_size = kernel.pages ? 8 : 0;
    t.pack_gqa = true;
    kernels.push_back({&kernel, t, "sm90"});
  }
  return kernels;
}

// Bits of rows that mean something.
bool SameBits(const Outputs& a, const Outputs& b, const Problem& p) {
  if (a.lse.has_value() != b.lse.has_value()) return false;
  for (int64_t sequence = 0; sequence < p.attention.batch; ++sequence) {
    if (p.queries(sequence) == 0) continue;
    const Outputs x = Extract(a, WholeSequence(p, sequence)), y = Extract(b, WholeSequence(p, sequence));
    if (!(x.o == y.o) || (x.lse && !(*x.lse == *y.lse))) return false;
  }
  return true;
}

TEST_CASE("faults have unique ids in kebab-case, codes, and words") {
  std::set<std::string_view> ids;
  for (const Fault& fault : Faults()) {
    CAPTURE(fault.id);
    CHECK(ids.insert(fault.id).second);
    CHECK(fault.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string_view::npos);
    CHECK(fault.code.size() == 3);
    CHECK(std::string_view("MPSLAXCT").find(fault.code[0]) != std::string_view::npos);
    CHECK(!fault.mistake.empty());
    CHECK(!fault.reading.empty());
    CHECK((fault.seen_in.empty() || fault.seen_in.starts_with("https://")));
    CHECK(&FindFault(fault.id) == &fault);
  }
  CHECK(ids.size() >= 40);
  CHECK_THROWS_AS(FindFault("no-such-fault"), data::UsageError);
}

// Runs every fault on the cases where it applies, at most `most` of each kernel's, and counts the changes of bits.
std::map<std::string_view, int> ChangesOf(int most) {
  std::map<std::string_view, int> changes;
  for (const SimulatedKernel& kernel : SimulatedKernels()) {
    CAPTURE(kernel.kernel->name);
    CAPTURE(ToString(kernel.tiling));
    std::map<std::string_view, int> runs;
    for (const auto& [key, problem] : Cases()) {
      const std::string name = key;  // clang 14 captures no structured bindings
      CAPTURE(name);
      std::optional<Outputs> right;
      for (const Fault& fault : Faults()) {
        if (runs[fault.id] == most || !fault.Applies(kernel, problem)) continue;
        ++runs[fault.id];
        CAPTURE(fault.id);
        const Outputs wrong = fault.Run(kernel, problem);
        CHECK(wrong.o.shape() == std::vector<int64_t>{2, 4, problem.attention.seqlen_q, 80});
        if (!problem.sinks.empty() || problem.attention.softcap > 0) {
          ++changes[fault.id];  // the right kernel is not modelled: nothing to compare with
          continue;
        }
        if (!right) right = RunSimulated(kernel, problem);
        const bool differs = !SameBits(*right, wrong, problem);
        CHECK(differs);
        changes[fault.id] += differs;
      }
    }
  }
  return changes;
}

TEST_CASE("every fault changes bits where it applies, and applies somewhere") {
  std::map<std::string_view, int> changes = ChangesOf(1);
  for (const Fault& fault : Faults()) {
    CAPTURE(fault.id);
    CHECK(changes[fault.id] > 0);
  }
}

TEST_SUITE("slow") {
  TEST_CASE("every fault changes bits wherever it applies") { CHECK(ChangesOf(1000).size() == Faults().size()); }
}

TEST_CASE("without a fault the bits are those of Simulate") {
  for (const SimulatedKernel& kernel : SimulatedKernels()) {
    CAPTURE(kernel.kernel->name);
    const Problem problem = MakeProblem(FaultShape(40, 72, Mask::Causal()));
    const Simulated simulated = Simulate(*kernel.kernel, SelectHeads(problem.attention, 0, problem.attention.heads_q),
                                         kernel.tiling, kernel.arch, {problem.q, problem.k, problem.v}, {});
    const Outputs outputs = RunSimulated(kernel, problem);
    CHECK(outputs.o.View(data::ElementType::Unsigned(2)) == simulated.o);
    CHECK(outputs.lse.has_value() == (kernel.kernel->name != "fa1"));
    if (outputs.lse) CHECK(*outputs.lse == simulated.lse);
  }
}

TEST_CASE("a sequence of a ragged problem has the bits that it has alone, and padding is 0") {
  const SimulatedKernel kernel = SimulatedKernels()[3];
  const Problem ragged = [] {
    for (const FaultCase& c : Cases()) {
      if (c.name == "ragged") return c.problem;
    }
    return Problem();
  }();
  const Outputs all = RunSimulated(kernel, ragged);
  for (int64_t b = 0; b < 2; ++b) {
    const Part part = WholeSequence(ragged, b);
    const Outputs alone = RunSimulated(kernel, Extract(ragged, part));
    CHECK(Extract(all, part).o == alone.o);
    CHECK(*Extract(all, part).lse == *alone.lse);
  }
  for (int64_t row = 17; row < 40; ++row) CHECK(all.o.Bits({0, 3, row, 79}) == 0);
}

TEST_CASE("scales of fp8 are those of the numbers") {
  // Powers of two move no rounding: the same bits as scaled numbers.
  Attention a = FaultShape(20, 40, Mask::Causal());
  a.format = Format::kE4m3;
  Problem scaled = MakeProblem(a);
  scaled.q_scale = 2;
  scaled.k_scale = 0.25;
  scaled.v_scale = 4;
  Problem plain = scaled;
  plain.q_scale = plain.k_scale = plain.v_scale = 1;
  plain.attention.softmax_scale = a.scale() / 2;
  for (const SimulatedKernel& kernel : SimulatedKernels()) {
    const Outputs x = RunSimulated(kernel, scaled), y = RunSimulated(kernel, plain);
    REQUIRE(x.o.type() == data::ElementType(Format::kFp16));
    for (int64_t row = 0; row < 20; ++row) {
      const float with = data::Decode(Format::kFp16, static_cast<uint32_t>(x.o.Bits({1, 2, row, 5})));
      const float without = data::Decode(Format::kFp16, static_cast<uint32_t>(y.o.Bits({1, 2, row, 5})));
      // Subnormal fp16 outputs are rounded elsewhere.
      if (std::abs(without) > 1e-3f) CHECK(with == 4 * without);
    }
  }
}

TEST_CASE("what is not modelled to the bit is undecided") {
  const SimulatedKernel kernel = SimulatedKernels()[2];
  Problem problem = MakeProblem(FaultShape(4, 8, Mask::Full()));
  problem.sinks = {0, 0, 0, 0};
  CHECK_THROWS_AS(RunSimulated(kernel, problem), data::UndecidedError);
  problem.sinks.clear();
  problem.attention.softcap = 30;
  CHECK_THROWS_AS(RunSimulated(kernel, problem), data::UndecidedError);
}

}  // namespace
}  // namespace bitflash::verify
