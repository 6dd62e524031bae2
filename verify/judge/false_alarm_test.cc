// No false alarm: correct kernels of every kind, on inputs of every kind, are never called wrong by the judge as users
// get it. Variants are not searched for, which is done only where a kernel has already passed.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

#include "data/convert_simd.h"
#include "data/error.h"
#include "data/golden.h"
#include "data/gpu.h"
#include "data/random.h"
#include "data/tensor_file.h"
#include "sim/random_problem.h"
#include "verify/cases/case_generator.h"
#include "verify/judge/judge.h"
#include "verify/judge/metamorphic.h"
#include "verify/judge/tensor_values.h"
#include "verify/judge/truth_testing.h"
#include "verify/subjects/plugin.h"
#include "verify/subjects/simulated_subject.h"

namespace bitflash::verify {
namespace {

using data::Format;

// What the judge said of the cases of one source.
struct Tally {
  int64_t cases = 0, relations = 0;
  int64_t overflows = 0;              // not judged: scores beyond fp16, in a kernel that stores them so
  double worst_o = 0, worst_lse = 0;  // largest error / bound of what passed within the bound of fp32 scores
  std::map<std::string_view, int64_t> practices;
  std::vector<std::string> alarms;

  void Add(const Judgement& j, const std::string& what) {
    ++cases;
    if (j.practice) ++practices[j.practice->practice->id];
    if (j.rung == Rung::kWrong) alarms.push_back(what + ": " + j.reason);
    if (j.evidence.beyond() > 0) return;
    if (j.evidence.o().worst) worst_o = std::max(worst_o, j.evidence.o().worst->score());
    if (j.evidence.lse() && j.evidence.lse()->worst) worst_lse = std::max(worst_lse, j.evidence.lse()->worst->score());
  }

  void Add(const std::vector<MetamorphicResult>& results, const std::string& what) {
    for (const MetamorphicResult& result : results) {
      if (result.status == MetamorphicStatus::kNotApplicable) continue;
      ++relations;
      if (result.status == MetamorphicStatus::kFailed) {
        alarms.push_back(what + ": " + result.id + " " + result.compared + " is " + std::to_string(result.error) +
                         " off, bound " + std::to_string(result.bound));
      }
    }
  }

  void operator+=(const Tally& other) {
    cases += other.cases;
    relations += other.relations;
    overflows += other.overflows;
    worst_o = std::max(worst_o, other.worst_o);
    worst_lse = std::max(worst_lse, other.worst_lse);
    for (const auto& [id, count] : other.practices) practices[id] += count;
    alarms.insert(alarms.end(), other.alarms.begin(), other.alarms.end());
  }
};

void Report(const std::string& source, const Tally& tally) {
  std::string practices;
  for (const auto& [id, count] : tally.practices) practices += ", " + std::string(id) + " " + std::to_string(count);
  std::printf("%-18s %5lld cases, %5lld relations, %4lld overflow; largest error / bound: O %.3f, LSE %.3f%s\n",
              source.c_str(), static_cast<long long>(tally.cases), static_cast<long long>(tally.relations),
              static_cast<long long>(tally.overflows), tally.worst_o, tally.worst_lse, practices.c_str());
  for (const std::string& alarm : tally.alarms) FAIL_CHECK(source << ": " << alarm);
}

// The largest |Q K^T| that is visible, NaN aside.
double LargestProduct(const Problem& p) {
  const data::Attention& a = p.attention;
  const std::vector<double> q = ToDoubles(p.q), k = ToDoubles(p.k);
  double largest = 0;
  for (int64_t head = 0; head < a.batch * a.heads_q; ++head) {
    const int64_t n = head / a.heads_q, kv = n * a.heads_kv + head % a.heads_q / a.group();
    for (int64_t i = 0; i < p.queries(n); ++i) {
      const reference::KeyRange keys = reference::VisibleKeys(a.mask, p.queries(n), p.keys(n), i);
      for (int64_t j = keys.begin; j < keys.end; ++j) {
        double dot = 0;
        for (int64_t c = 0; c < a.head_dim; ++c) {
          dot += q[(head * a.seqlen_q + i) * a.head_dim + c] * k[(kv * a.seqlen_k + j) * a.head_dim + c];
        }
        largest = std::max(largest, std::abs(dot));
      }
    }
  }
  return largest;
}

// A random problem and tile for the kernel; every third time those that the command line would take.
struct SimulatedCase {
  CaseSpec spec;
  SimulatedKernel kernel;
};

SimulatedCase RandomCase(const sim::Kernel& kernel, uint64_t seed, int64_t longest) {
  std::mt19937_64 rng(seed);
  sim::RandomProblem random = sim::MakeRandomProblem(rng, kernel, longest);
  SimulatedCase result;
  CaseSpec& spec = result.spec;
  data::Attention& a = spec.attention;
  a = random.attention;
  a.batch = std::min<int64_t>(a.batch, 2);
  a.heads_kv = std::min<int64_t>(a.heads_kv, 2);
  a.heads_q = a.heads_kv * std::clamp<int64_t>(random.attention.group(), 1, 3);
  a.seqlen_q = std::max(std::min<int64_t>(a.seqlen_q, longest / 2), kernel.min_seqlen_q);
  a.seqlen_k = std::max<int64_t>(a.seqlen_k, 1);
  a.softcap = 0;  // not modelled to the bit
  a.v_is_in_k = false;
  a.format = rng() % 2 == 0 ? Format::kFp16 : Format::kBf16;
  a.head_dim = std::min<int64_t>(a.head_dim, 128);
  a.head_dim_v = std::min<int64_t>(a.head_dim_v, 128);
  const auto& distributions = data::AllDistributions();
  spec.distribution = distributions[rng() % distributions.size()].distribution;
  spec.ragged = kernel.min_seqlen_q <= 1 && (rng() % 3 == 0 || spec.distribution == data::Distribution::kNanPadding);
  if (!spec.ragged && spec.distribution == data::Distribution::kNanPadding) {
    spec.distribution = data::Distribution::kHashNormal;
  }
  if (spec.ragged) a.batch = 2;
  spec.seed = rng();
  result.kernel = {&kernel, random.tiling, kernel.min_arch >= 90 || rng() % 2 == 0 ? "sm90" : "sm80"};
  result.kernel.tiling.page_size = 0;
  if (rng() % 3 == 0) result.kernel = PublishedTilings(kernel, data::LoadGpu("h200"))(a);
  return result;
}

Tally JudgeSimulated(const sim::Kernel& kernel, const SimulatedCase& c, bool relations) {
  Tally tally;
  const std::string what = std::string(kernel.name) + " (" + ToString(c.kernel.tiling) + ", " + c.kernel.arch + "), " +
                           Name(c.spec) + (c.spec.attention.softmax_scale ? ", scaled" : "");
  const Problem p = Materialize(c.spec);
  Outputs outputs;
  try {
    outputs = RunSimulated(c.kernel, p);
  } catch (const data::UsageError&) {
    return tally;  // the kernel does not take the problem
  } catch (const data::UndecidedError&) {
    return tally;
  }
  const bool rounds_scores = kernel.stores_scores && !c.kernel.tiling.fp32_scores;
  if (rounds_scores && p.attention.format == Format::kFp16 && !(LargestProduct(p) < 65472)) {
    ++tally.overflows;
    return tally;
  }
  JudgeOptions options{.variant_work = 0};
  // Rounds O between its key tiles, which nobody's CUDA kernel does: not a kernel to be judged without its name.
  if (kernel.keys_outside) options.named = c.kernel;
  const Judgement j = Judge(p, outputs, options);
  tally.Add(j, what);
  if (kernel.keys_outside && j.evidence.beyond() > 0) tally.alarms.push_back(what + ": beyond the bound of its name");
  if (relations) {
    SimulatedSubject subject([&](const data::Attention&) { return c.kernel; });
    MetamorphicOptions how;
    if (kernel.keys_outside) how.arithmetic = ArithmeticOf(p, p.attention.format, kernel, c.kernel.tiling);
    tally.Add(RunMetamorphic(subject, p, how), what);
  }
  return tally;
}

// `cases` of every kernel, relations of one in `relations_of` of them.
int64_t Simulated(int64_t cases, int64_t relations_of, int64_t longest, uint64_t seed) {
  int64_t all = 0;
  for (const sim::Kernel& kernel : sim::Kernels()) {
    std::vector<Tally> tallies(cases);
#pragma omp parallel for schedule(dynamic)
    for (int64_t n = 0; n < cases; ++n) {
      // Some random problems are none of the kernel's.
      for (uint64_t attempt = 0; attempt < 20 && tallies[n].cases == 0; ++attempt) {
        const uint64_t random = data::SplitMix64(data::SplitMix64(seed + n) + attempt);
        try {
          tallies[n] += JudgeSimulated(kernel, RandomCase(kernel, random, longest), n % relations_of == 0);
        } catch (const data::UsageError&) {
        } catch (const data::UndecidedError&) {
        } catch (const std::exception& error) {
          tallies[n].alarms.push_back(error.what());
        }
      }
    }
    Tally sum;
    for (const Tally& tally : tallies) sum += tally;
    Report(std::string(kernel.name), sum);
    CHECK(sum.cases > cases * 9 / 10);
    all += sum.cases;
  }
  return all;
}

// The cases that `verify` generates, by the kernels with their published tilings in turn.
int64_t Generated(int64_t budget, uint64_t seed) {
  CaseOptions options{.budget = budget, .max_elements = 1 << 16, .formats = {Format::kBf16, Format::kFp16}};
  options.head_dims = {16, 40, 64, 128};
  options.seed = seed;
  const std::vector<CaseSpec> specs = GenerateCases(options);
  std::vector<Tally> tallies(specs.size());
#pragma omp parallel for schedule(dynamic)
  for (size_t n = 0; n < specs.size(); ++n) {
    const sim::Kernel& kernel = sim::Kernels()[n % sim::Kernels().size()];
    try {
      const SimulatedKernel published = PublishedTilings(kernel, data::LoadGpu("h200"))(specs[n].attention);
      tallies[n] += JudgeSimulated(kernel, {specs[n], published}, false);
    } catch (const data::UndecidedError&) {
    } catch (const std::exception& error) {
      tallies[n].alarms.push_back(error.what());
    }
  }
  Tally sum;
  for (const Tally& tally : tallies) sum += tally;
  Report("generated cases", sum);
  CHECK(sum.cases > budget / 2);
  return sum.cases;
}

int64_t Plain(int64_t cases, int64_t longest, uint64_t seed) {
  std::map<std::string_view, Tally> tallies;
  std::mt19937_64 rng(seed);
  for (int64_t n = 0; n < cases; ++n) {
    const Problem p = RandomTruthProblem(rng, longest);
    const Format outputs[] = {p.attention.format, Format::kFp16, Format::kBf16, Format::kFp32};
    const Format output = outputs[rng() % 4];
    tallies[data::Name(p.attention.format)].Add(Judge(p, PlainKernel(p, output), {.variant_work = 0}),
                                                data::ToString(p.attention) + " to " + std::string(data::Name(output)));
  }
  int64_t all = 0;
  for (const auto& [format, tally] : tallies) {
    Report("plain " + std::string(format), tally);
    all += tally.cases;
  }
  return all;
}

int64_t Plugin(int64_t cases, int64_t relations_of, uint64_t seed) {
  CaseOptions options{.budget = cases, .max_elements = 1 << 13};
  options.formats = {Format::kFp32, Format::kFp16, Format::kBf16};
  options.head_dims = {8, 32};
  options.tile_q = options.tile_k = 16;
  options.softcap = options.sinks = true;
  options.seed = seed;
  PluginSubject subject({.path = BITFLASH_BINARY_DIR "/plugin_correct.so"});
  Tally tally;
  for (const CaseSpec& spec : GenerateCases(options)) {
    const Problem p = Materialize(spec);
    try {
      tally.Add(Judge(p, subject.Run(p), {.variant_work = 0}), Name(spec));
    } catch (const data::UndecidedError&) {
      continue;
    }
    if (tally.cases % relations_of == 0) tally.Add(RunMetamorphic(subject, p), Name(spec));
  }
  Report("plug-in", tally);
  CHECK(tally.cases > cases / 2);
  return tally.cases;
}

Problem Recorded(const data::GoldenCase& golden) {
  Problem p;
  p.attention = golden.attention;
  const data::Attention& a = p.attention;
  const auto generate = [&](uint64_t seed, std::vector<int64_t> shape) {
    data::Tensor tensor = data::Tensor::Zeros(a.format, std::move(shape));
    std::vector<float> values(tensor.count());
    data::FillHashNormal(seed, 0, values);
    data::FromFloat(a.format, values.data(), tensor.ContiguousBytes().data(), tensor.count());
    return tensor;
  };
  p.q = generate(golden.seed, {a.batch, a.heads_q, a.seqlen_q, a.head_dim});
  p.k = generate(golden.seed + 1, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim});
  p.v = generate(golden.seed + 2, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v});
  return p;
}

int64_t Recordings() {
  int64_t all = 0;
  for (const char* backend : {"pytorch-fa2", "cudnn-9.19-sm90", "pytorch-memeff"}) {
    const std::string path = std::string(BITFLASH_SOURCE_DIR) + "/data/golden/" + backend;
    const data::TensorFile bits = data::ReadTensors(path + ".npz");
    Tally tally;
    for (const data::GoldenCase& golden : data::LoadGolden(path + ".json")) {
      if (!golden.full_bits) continue;
      const data::GoldenBits full = data::FullBits(golden, bits.tensors, path);
      const Problem p = Recorded(golden);
      tally.Add(Judge(p, {full.o.Contiguous(), full.lse.Contiguous()}, {.variant_work = 0}), golden.name);
    }
    Report(backend, tally);
    CHECK(tally.cases > 0);
    all += tally.cases;
  }
  return all;
}

TEST_CASE("no false alarm on 300 correct cases") {
  int64_t all = Simulated(18, 9, 80, 1);
  all += Generated(40, 2);
  all += Plain(120, 40, 3);
  all += Plugin(20, 20, 4);
  all += Recordings();
  CHECK(all >= 300);
}

TEST_CASE("no false alarm on ten thousand correct cases: simulated kernels" * doctest::test_suite("slow")) {
  CHECK(Simulated(900, 50, 260, 5) + Generated(1000, 6) >= 7000);
}

TEST_CASE("no false alarm on ten thousand correct cases: CPU kernels and recordings" * doctest::test_suite("slow")) {
  CHECK(Plain(3000, 150, 7) + Plugin(400, 20, 8) + Recordings() >= 3300);
}

}  // namespace
}  // namespace bitflash::verify
