// The workbench of tensor_core_probe: fills buffers with tiles, runs one instruction on them, and counts on the device
// where its outputs differ from a rule.
#ifndef BITFLASH_GPU_PROBES_TENSOR_CORE_BENCH_CUH_
#define BITFLASH_GPU_PROBES_TENSOR_CORE_BENCH_CUH_

#include <cuda_runtime.h>

#include <string>
#include <vector>

#include "gpu/probes/experiments.h"
#include "gpu/probes/matrix_instructions.cuh"
#include "gpu/probes/operands.cuh"
#include "gpu/probes/report.h"

namespace bitflash::gpu::probe {

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

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_TENSOR_CORE_BENCH_CUH_
