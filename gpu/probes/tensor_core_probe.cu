// Question: which rule does every matrix instruction of this GPU follow, bit for bit?
//
// Asked of each instruction in matrix_instructions.cuh that the device and this build have. Its outputs are compared
// with the published rule (tensor_core_rules.h), evaluated by ordinary integer code (fdpa.h), on operands made to show
// every part of it (operands.cuh). Structured experiments (experiments.h) measure the parts of the rule one by one.
//
// 0 mismatches: the row of that architecture and instruction in sim/tensor_core.cc stands, with this run as evidence.
// Mismatches: the rule that fits is searched for and printed as `fits: L=.., F=.., out=..`; the row has to change.
// `fits: none`: the instruction does something that no candidate describes; the experiments and the first mismatch of
// each setting say where to look. Mismatches in "small integers", which every rule gets right, mean that the probe
// itself is wrong about where operands lie. `alternatives` are rules one change away: those with 0 mismatches the
// operands cannot tell apart.
//
//   tensor_core_probe [--json] [--outputs N] [--only PART OF A NAME]
#include <cuda_runtime.h>

#include <cstring>

#include "gpu/probes/matrix_instructions.cuh"
#include "gpu/probes/operands.cuh"
#include "gpu/probes/report.h"
#include "gpu/probes/tensor_core_rules.h"

namespace bitflash::gpu::probe {
namespace {

constexpr int64_t kOutputsAtATime = int64_t{1} << 22;
constexpr int kSampleOutputs = 1 << 16;  // per setting, for the searches

struct Counts {
  unsigned long long mismatches, first;
};

// An instruction as the host sees it.
struct Subject {
  const char* name;
  Input input;
  bool fp16;
  int M, N, K;
  int since;
  bool wgmma;
  void (*launch)(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d, int64_t tiles, cudaStream_t);
};

template <class Instruction>
Subject MakeSubject() {
  return {Instruction::kName,
          Instruction::kInput,
          Instruction::kFp16Accumulator,
          Instruction::kM,
          Instruction::kN,
          Instruction::kK,
          Instruction::kSince,
          Instruction::kWgmma,
          [](const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d, int64_t tiles, cudaStream_t stream) {
            RunInstruction<Instruction><<<4096, kThreads, 0, stream>>>(a, b, c, d, tiles);
            CheckLaunch(Instruction::kName);
          }};
}

template <class... Instructions>
std::vector<Subject> MakeSubjects() {
  return {MakeSubject<Instructions>()...};
}

// What this code was compiled for: an instruction that the GPU has may be missing in it.
__global__ void ReportTarget(int* target) {
#ifdef __CUDA_ARCH__
  target[0] = __CUDA_ARCH__ / 10;
#endif
  target[1] = PROBE_HAS_WGMMA;
}

__global__ void DrawTiles(Setting setting, Input input, bool fp16, int M, int N, int K, int64_t first_tile,
                          int64_t tiles, uint32_t* a, uint32_t* b, uint32_t* c) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = thread; i < tiles * M * K; i += threads) {
    a[i] = DrawOperand(setting, input, first_tile + i / (M * K), 0, static_cast<int>(i / K % M), i % K, K);
  }
  for (int64_t i = thread; i < tiles * N * K; i += threads) {
    b[i] = DrawOperand(setting, input, first_tile + i / (N * K), 1, static_cast<int>(i / K % N), i % K, K);
  }
  for (int64_t i = thread; i < tiles * M * N; i += threads)
    c[i] = DrawAccumulator(setting, fp16, first_tile * M * N + i);
}

// Every row of A, column of B and element of C of tile i is that of experiment i.
__global__ void SpreadExperiments(const uint32_t* rows, const uint32_t* columns, const uint32_t* cs, int M, int N,
                                  int K, int64_t tiles, uint32_t* a, uint32_t* b, uint32_t* c) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = thread; i < tiles * M * K; i += threads) a[i] = rows[i / (M * K) * K + i % K];
  for (int64_t i = thread; i < tiles * N * K; i += threads) b[i] = columns[i / (N * K) * K + i % K];
  for (int64_t i = thread; i < tiles * M * N; i += threads) c[i] = cs[i / (M * N)];
}

template <Input input>
__global__ void Judge(const __grid_constant__ Rule rule, int M, int N, int K, int64_t outputs, int64_t first_output,
                      const uint32_t* a, const uint32_t* b, const uint32_t* c, const uint32_t* d, Counts* counts) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  unsigned long long mismatches = 0, first = ~0ull;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < outputs; i += threads) {
    const int64_t tile = i / (M * N);
    const int m = static_cast<int>(i / N % M), n = static_cast<int>(i % N);
    if (Evaluate(rule, input, a + (tile * M + m) * K, b + (tile * N + n) * K, K, c[i]) == d[i]) continue;
    ++mismatches;
    if (first == ~0ull) first = static_cast<unsigned long long>(first_output + i);
  }
  if (mismatches == 0) return;
  atomicAdd(&counts->mismatches, mismatches);
  atomicMin(&counts->first, first);
}

struct Row {  // of the report
  Setting setting;
  int64_t outputs = 0;
  uint64_t mismatches = 0;
  std::string first;  // in words
};

class Bench {
 public:
  explicit Bench(const Subject& subject, Stream& stream) : s_(subject), stream_(stream) {
    tiles_ = kOutputsAtATime / (s_.M * s_.N);
    a_ = Buffer(tiles_ * s_.M * s_.K * 4), b_ = Buffer(tiles_ * s_.N * s_.K * 4);
    c_ = Buffer(tiles_ * s_.M * s_.N * 4), d_ = Buffer(tiles_ * s_.M * s_.N * 4);
  }

  // `setting` under `rule`, in batches, until `outputs` have been compared.
  Row Compare(const Setting& setting, const Rule& rule, int64_t outputs) {
    Row row{.setting = setting};
    Buffer counts = NewCounts(1);
    for (int64_t first_tile = 0; row.outputs < outputs; first_tile += tiles_, row.outputs += kOutputsAtATime) {
      DrawAndRun(setting, first_tile, 0, tiles_);
      LaunchJudge(rule, kOutputsAtATime, row.outputs, counts.as<Counts>());
      const Counts now = ReadCounts(counts, 1)[0];
      if (now.mismatches != 0 && row.first.empty()) {
        row.first = Explain(rule, static_cast<int64_t>(now.first) - row.outputs);
      }
      row.mismatches = now.mismatches;
    }
    return row;
  }

  // A sample of every setting, side by side in the buffers; then the mismatches of every rule on it.
  int64_t DrawSample(const std::vector<Setting>& settings) {
    const int64_t part = kSampleOutputs / (s_.M * s_.N);
    int64_t tile = 0;
    for (const Setting& setting : settings) DrawAndRun(setting, int64_t{1} << 40, tile, part), tile += part;
    sample_outputs_ = tile * s_.M * s_.N;
    return sample_outputs_;
  }
  std::vector<uint64_t> CountOnSample(const std::vector<Rule>& rules) {
    Buffer counts = NewCounts(static_cast<int64_t>(rules.size()));
    for (size_t i = 0; i < rules.size(); ++i) LaunchJudge(rules[i], sample_outputs_, 0, counts.as<Counts>() + i);
    std::vector<uint64_t> mismatches;
    for (const Counts& c : ReadCounts(counts, rules.size())) mismatches.push_back(c.mismatches);
    return mismatches;
  }

  std::vector<uint32_t> Run(const std::vector<Experiment>& experiments) {
    std::vector<uint32_t> rows, columns, cs;
    for (const Experiment& e : experiments) {
      rows.insert(rows.end(), e.a.begin(), e.a.end()), columns.insert(columns.end(), e.b.begin(), e.b.end());
      cs.push_back(e.c);
    }
    const int64_t n = static_cast<int64_t>(experiments.size());
    Buffer row(n * s_.K * 4), column(n * s_.K * 4), c(n * 4);
    stream_.ToDevice(row, rows.data(), row.bytes());
    stream_.ToDevice(column, columns.data(), column.bytes());
    stream_.ToDevice(c, cs.data(), c.bytes());
    SpreadExperiments<<<1024, 256, 0, stream_.get()>>>(row.as<uint32_t>(), column.as<uint32_t>(), c.as<uint32_t>(),
                                                       s_.M, s_.N, s_.K, n, a_.as<uint32_t>(), b_.as<uint32_t>(),
                                                       c_.as<uint32_t>());
    CheckLaunch("SpreadExperiments");
    s_.launch(a_.as<uint32_t>(), b_.as<uint32_t>(), c_.as<uint32_t>(), d_.as<uint32_t>(), n, stream_.get());
    std::vector<uint32_t> all(static_cast<size_t>(n * s_.M * s_.N)), d;
    stream_.ToHost(all.data(), d_, static_cast<int64_t>(all.size()) * 4);
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t* tile = all.data() + i * s_.M * s_.N;
      for (int j = 1; j < s_.M * s_.N; ++j) uneven_ += tile[j] != tile[0];
      d.push_back(tile[0]);
    }
    return d;
  }
  // Outputs of experiments that differed from the first of their tile: 0, or rows and columns are not treated alike.
  int64_t uneven() const { return uneven_; }

 private:
  void DrawAndRun(const Setting& setting, int64_t first_tile, int64_t at, int64_t tiles) {
    uint32_t* a = a_.as<uint32_t>() + at * s_.M * s_.K;
    uint32_t* b = b_.as<uint32_t>() + at * s_.N * s_.K;
    uint32_t* c = c_.as<uint32_t>() + at * s_.M * s_.N;
    DrawTiles<<<4096, 256, 0, stream_.get()>>>(setting, s_.input, s_.fp16, s_.M, s_.N, s_.K, first_tile, tiles, a, b,
                                               c);
    CheckLaunch("DrawTiles");
    s_.launch(a, b, c, d_.as<uint32_t>() + at * s_.M * s_.N, tiles, stream_.get());
  }

  void LaunchJudge(const Rule& rule, int64_t outputs, int64_t first_output, Counts* counts) {
    const auto launch = [&](auto judge) {
      const int blocks = static_cast<int>(std::min<int64_t>((outputs + 255) / 256, 8192));
      judge<<<blocks, 256, 0, stream_.get()>>>(rule, s_.M, s_.N, s_.K, outputs, first_output, a_.as<uint32_t>(),
                                               b_.as<uint32_t>(), c_.as<uint32_t>(), d_.as<uint32_t>(), counts);
      CheckLaunch("Judge");
    };
    switch (s_.input) {
      case Input::kFp16:
        return launch(Judge<Input::kFp16>);
      case Input::kBf16:
        return launch(Judge<Input::kBf16>);
      case Input::kTf32:
        return launch(Judge<Input::kTf32>);
      case Input::kE4m3:
        return launch(Judge<Input::kE4m3>);
      default:
        return launch(Judge<Input::kE5m2>);
    }
  }

  Buffer NewCounts(int64_t n) {
    const std::vector<Counts> zero(static_cast<size_t>(n), Counts{0, ~0ull});
    Buffer counts(n * static_cast<int64_t>(sizeof(Counts)));
    stream_.ToDevice(counts, zero.data(), counts.bytes());
    return counts;
  }
  std::vector<Counts> ReadCounts(const Buffer& counts, size_t n) {
    std::vector<Counts> read(n);
    stream_.ToHost(read.data(), counts, static_cast<int64_t>(n * sizeof(Counts)));
    return read;
  }

  // One output of the batch in the buffers, in hex.
  std::string Explain(const Rule& rule, int64_t output) {
    const int64_t tile = output / (s_.M * s_.N), m = output / s_.N % s_.M, n = output % s_.N;
    std::vector<uint32_t> a(s_.K), b(s_.K);
    uint32_t c, d;
    stream_.ToHost(a.data(), a_, s_.K * 4, (tile * s_.M + m) * s_.K * 4);
    stream_.ToHost(b.data(), b_, s_.K * 4, (tile * s_.N + n) * s_.K * 4);
    stream_.ToHost(&c, c_, 4, output * 4);
    stream_.ToHost(&d, d_, 4, output * 4);
    const int digits = LayoutOf(s_.input).bits / 4, c_digits = s_.fp16 ? 4 : 8;
    std::string text = "hardware " + Hex(d, c_digits) + " expected " +
                       Hex(Evaluate(rule, s_.input, a.data(), b.data(), s_.K, c), c_digits) + " c " + Hex(c, c_digits) +
                       " a*b";
    for (int k = 0; k < s_.K; ++k) text += " " + Format("%0*X*%0*X", digits, a[k], digits, b[k]);
    return text;
  }

  const Subject& s_;
  Stream& stream_;
  int64_t tiles_, sample_outputs_ = 0, uneven_ = 0;
  Buffer a_, b_, c_, d_;
};

struct Found {
  Rule rule;
  uint64_t mismatches;  // on the sample
};

// The best rule on the sample, in two stages.
Found Search(Bench& bench, const Structure& structure, const Subject& s) {
  std::vector<Rule> rules = Candidates(structure, s.fp16, s.K);
  rules.push_back(Published(80, s.input, s.fp16, s.wgmma));
  const std::vector<uint64_t> counts = bench.CountOnSample(rules);
  std::vector<size_t> rank(rules.size());
  for (size_t i = 0; i < rank.size(); ++i) rank[i] = i;
  std::ranges::stable_sort(rank, [&](size_t x, size_t y) { return counts[x] < counts[y]; });
  std::vector<Rule> finer;
  for (size_t i = 0; i < std::min<size_t>(12, rank.size()); ++i) {
    for (const Rule& rule : SmallPrint(rules[rank[i]])) finer.push_back(rule);
  }
  const std::vector<uint64_t> fine = bench.CountOnSample(finer);
  const size_t best = static_cast<size_t>(std::ranges::min_element(fine) - fine.begin());
  return {finer[best], fine[best]};
}

// Text and JSON of one instruction. Returns the mismatches under the published rule.
uint64_t Report(const Subject& s, int capability, int64_t outputs, Stream& stream, FILE* text, Json& json) {
  Bench bench(s, stream);
  const std::vector<Setting> settings = Settings(s.input, s.fp16);
  const Rule published = Published(capability, s.input, s.fp16, s.wgmma);
  std::fprintf(text, "\n%s\n  published: %s\n", s.name, Text(published, s.K).c_str());
  json.Begin('{');
  json.Add("instruction", s.name);
  json.Add("published", Text(published, s.K));

  const Structure found(s.input, s.fp16, s.K, [&](const auto& experiments) { return bench.Run(experiments); });
  std::fprintf(text, "  measured:  steps %s%s; F %d (products), %d (c below), %d (below c); c joins: %s",
               found.StepsText().c_str(), found.L > 0 ? Format(" (L=%d)", found.L).c_str() : "", found.F, found.F_c,
               found.F_below_c, found.c_joins.c_str());
  if (found.least_unit != 0) std::fprintf(text, "; least unit 2^%d", found.least_unit);
  std::fprintf(text, "%s\n", bench.uneven() != 0 ? "; WARNING: equal rows or columns gave unequal results" : "");
  json.Begin("measured", '{');
  json.Add("steps", found.StepsText());
  json.Add("L", found.L);
  json.Add("F", found.F);
  json.Add("F_c", found.F_c);
  json.Add("F_below_c", found.F_below_c);
  json.Add("c_joins", found.c_joins);
  if (found.least_unit != 0) json.Add("least_unit_exponent", found.least_unit);
  json.Add("uneven_outputs", bench.uneven());
  json.End('}');

  const auto compare_all = [&](const char* key, const Rule& rule) {
    uint64_t mismatches = 0;
    json.Begin(key, '[');
    for (const Setting& setting : settings) {
      const Row row = bench.Compare(setting, rule, outputs);
      mismatches += row.mismatches;
      std::fprintf(text, "  %-24s %12" PRId64 " outputs %12" PRIu64 " mismatches%s%s\n", setting.name, row.outputs,
                   row.mismatches, row.first.empty() ? "" : "  first: ", row.first.c_str());
      json.Begin('{');
      json.Add("setting", setting.name);
      json.Add("asks", setting.why);
      json.Add("outputs", row.outputs);
      json.Add("mismatches", static_cast<int64_t>(row.mismatches));
      if (!row.first.empty()) json.Add("first", row.first);
      json.End('}');
    }
    json.End(']');
    return mismatches;
  };
  const uint64_t mismatches = compare_all("settings", published);

  Found best{published, 0};
  const int64_t sample = bench.DrawSample(settings);
  uint64_t left = mismatches;
  if (mismatches != 0) {
    best = Search(bench, found, s);
    std::fprintf(text, "  the best of the candidates: %s (%" PRIu64 " mismatches in a sample of %" PRId64 ")\n",
                 Text(best.rule, s.K).c_str(), best.mismatches, sample);
    left = compare_all("settings_of_best", best.rule);
    bench.DrawSample(settings);
  }
  json.Add("best", Text(best.rule, s.K));
  json.Add("best_mismatches", static_cast<int64_t>(left));
  json.Add("fits", left == 0 ? Text(best.rule, s.K) : std::string("none"));
  std::fprintf(text, "  fits: %s\n", left == 0 ? Text(best.rule, s.K).c_str() : "none");

  const std::vector<Rule> neighbours = Neighbours(best.rule, s.input, s.fp16, s.K);
  const std::vector<uint64_t> counts = bench.CountOnSample(neighbours);
  std::fprintf(text, "  alternatives, mismatches of %" PRId64 ":", sample);
  json.Begin("alternatives", '[');
  for (size_t i = 0; i < neighbours.size(); ++i) {
    const std::string change = Difference(neighbours[i], best.rule);
    std::fprintf(text, "%s %s: %" PRIu64 "%s", i == 0 ? "" : ";", change.c_str(), counts[i],
                 counts[i] == 0 ? " (CANNOT BE TOLD APART)" : "");
    json.Begin('{');
    json.Add("change", change);
    json.Add("outputs", sample);
    json.Add("mismatches", static_cast<int64_t>(counts[i]));
    json.End('}');
  }
  std::fprintf(text, "\n");
  json.End(']');

  const std::vector<Experiment> corners = Corners(found, s.input, s.fp16, s.K);
  const std::vector<uint32_t> d = bench.Run(corners);
  size_t as_ruled = 0;
  json.Begin("corners", '[');
  for (size_t i = 0; i < corners.size(); ++i) {
    const Experiment& e = corners[i];
    const uint32_t expected = Evaluate(best.rule, s.input, e.a.data(), e.b.data(), s.K, e.c);
    const int digits = s.fp16 ? 4 : 8;
    as_ruled += d[i] == expected;
    if (d[i] != expected) {
      std::fprintf(text, "  corner \"%s\": hardware %s, the rule says %s\n", e.label.c_str(), Hex(d[i], digits).c_str(),
                   Hex(expected, digits).c_str());
    }
    json.Begin('{');
    json.Add("case", e.label);
    json.Add("hardware", Hex(d[i], digits));
    json.Add("rule", Hex(expected, digits));
    json.End('}');
  }
  std::fprintf(text, "  corners: %zu of %zu as the rule says\n", as_ruled, corners.size());
  json.End(']');
  json.End('}');
  std::fflush(text);
  return mismatches;
}

int Run(int argc, char** argv) {
  bool as_json = false;
  int64_t outputs = int64_t{1} << 25;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--json") {
      as_json = true;
    } else if (option == "--outputs" && i + 1 < argc && std::atoll(argv[i + 1]) > 0) {
      outputs = std::atoll(argv[++i]);
    } else if (option == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else {
      std::fprintf(stderr, "usage: tensor_core_probe [--json] [--outputs N] [--only PART OF A NAME]\n");
      return 2;
    }
  }
  const Device device = CurrentDevice();
  const int capability = device.major * 10 + device.minor;
  FILE* text = as_json ? stderr : stdout;
  Stream stream;
  int target[2] = {0, 0};
  Buffer target_buffer(sizeof(target));
  ReportTarget<<<1, 1, 0, stream.get()>>>(target_buffer.as<int>());
  CheckLaunch("ReportTarget");
  stream.ToHost(target, target_buffer, sizeof(target));

  std::fprintf(text, "tensor_core_probe: %s, compute capability %d.%d (code for sm_%d%s), driver %s, CUDA %s\n",
               device.name.c_str(), device.major, device.minor, target[0], target[1] ? "a" : "", device.driver.c_str(),
               device.runtime_cuda.c_str());
  Json json;
  json.Begin('{');
  AddDevice(json, "tensor_core_probe", device);
  json.Add("code_for", Format("sm_%d%s", target[0], target[1] ? "a" : ""));
  json.Begin("instructions", '[');
  std::vector<std::string> different, skipped;
  uint64_t mismatches = 0;
  int64_t asked = 0;
  for (const Subject& s :
       MakeSubjects<MmaFp16, MmaFp16ToFp16, MmaBf16, MmaTf32, MmaE4m3, MmaE5m2, WgmmaFp16, WgmmaFp16ToFp16, WgmmaBf16,
                    WgmmaTf32, WgmmaE4m3, WgmmaE5m2, WgmmaE4m3ToFp16, WgmmaE5m2ToFp16>()) {
    if (!only.empty() && std::string_view(s.name).find(only) == std::string_view::npos) continue;
    if (target[0] < s.since || (s.wgmma && !target[1])) {
      skipped.push_back(std::string(s.name) +
                        (s.wgmma ? ": needs code for sm_90a" : Format(": needs code for sm_%d or newer", s.since)));
      continue;
    }
    const uint64_t here = Report(s, capability, outputs, stream, text, json);
    mismatches += here, ++asked;
    if (here != 0) different.push_back(s.name);
  }
  json.End(']');
  json.Begin("skipped", '{');
  std::fprintf(text, "\n");
  for (const std::string& what : skipped) {
    std::fprintf(text, "not asked: %s (this build is for sm_%d; CMAKE_CUDA_ARCHITECTURES)\n", what.c_str(), target[0]);
    json.Add(what.substr(0, what.find(':')), what.substr(what.find(':') + 2));
  }
  json.End('}');
  json.Add("instructions_asked", asked);
  json.Add("mismatches_with_published", static_cast<int64_t>(mismatches));
  json.End('}');
  std::fprintf(text, "%" PRId64 " instructions asked, %zu differ from the published rule", asked, different.size());
  for (size_t i = 0; i < different.size(); ++i) std::fprintf(text, "%s%s", i == 0 ? ": " : ", ", different[i].c_str());
  std::fprintf(text, "\n");
  if (as_json) std::printf("%s\n", json.text().c_str());
  return 0;
}

}  // namespace
}  // namespace bitflash::gpu::probe

int main(int argc, char** argv) {
  return bitflash::gpu::probe::Main("tensor_core_probe", [&] { return bitflash::gpu::probe::Run(argc, argv); });
}
