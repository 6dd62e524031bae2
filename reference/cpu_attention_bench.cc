// Speed of CpuAttention beside the machine's limits and beside Eigen: prefill against the peak of fp32 multiply-adds,
// decode against a loop that only reads. Floating-point operations are 4 heads seqlen^2 head_dim, half of it under a
// causal mask, for everybody; bandwidth counts each byte of K and V once. reference/bench/peers.py pairs these with
// other libraries.
#include <benchmark/benchmark.h>
#include <omp.h>
#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "hwy/targets.h"
#include "reference/bench/eigen_attention.h"
#include "reference/cpu_attention.h"
#include "reference/cpu_kernels.h"

namespace bitflash::reference {
namespace {

constexpr int64_t kHeads = 8;

// Standard normal values on huge pages: decode reads more than the translation buffers reach.
class Normal {
 public:
  explicit Normal(int64_t count, uint64_t seed = 1) : count_(count) {
    constexpr size_t kHuge = size_t{1} << 21;
    const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + kHuge - 1) / kHuge * kHuge;
    data_.reset(static_cast<float*>(std::aligned_alloc(kHuge, bytes)));
    madvise(data_.get(), bytes, MADV_HUGEPAGE);
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    // Repeats: drawing a gigabyte takes longer than measuring it.
    for (int64_t i = 0; i < count; ++i) data_.get()[i] = i < (1 << 20) ? normal(random) : data_.get()[i - 1048573];
  }
  std::span<const float> view() const { return {data_.get(), static_cast<size_t>(count_)}; }
  float* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* x) const { std::free(x); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t count_;
};

void Rate(benchmark::State& state, const char* name, double amount) {
  state.counters[name] = benchmark::Counter(amount * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

double Flops(int64_t seqlen, int64_t head_dim, bool causal) {
  return 4.0 * kHeads * static_cast<double>(seqlen) * static_cast<double>(seqlen) * static_cast<double>(head_dim) *
         (causal ? 0.5 : 1.0);
}

void Peak(benchmark::State& state, int threads) {
  int64_t done = 0;
  for (auto _ : state) {
#pragma omp parallel num_threads(threads) reduction(+ : done)
    for (int n = 0; n < 100; ++n) done += RunFmaLoop();
  }
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(done), benchmark::Counter::kIsRate);
}

void Prefill(benchmark::State& state, int64_t head_dim, int64_t seqlen, bool causal, int threads) {
  const data::Attention a = {.heads_q = kHeads,
                             .heads_kv = kHeads,
                             .seqlen_q = seqlen,
                             .seqlen_k = seqlen,
                             .head_dim = head_dim,
                             .head_dim_v = head_dim,
                             .mask = causal ? data::Mask::Causal() : data::Mask::Full()};
  const Normal Q(kHeads * seqlen * head_dim, 1), K(kHeads * seqlen * head_dim, 2), V(kHeads * seqlen * head_dim, 3);
  std::vector<float> O(kHeads * seqlen * head_dim), LSE(kHeads * seqlen);
  for (auto _ : state) {
    CpuAttention(a, {.Q = AsOperand(Q.view()), .K = AsOperand(K.view()), .V = AsOperand(V.view())},
                 {.O = std::as_writable_bytes(std::span(O)), .LSE = LSE}, threads);
    benchmark::ClobberMemory();
  }
  Rate(state, "GFLOP/s", Flops(seqlen, head_dim, causal));
}

void Eigen(benchmark::State& state, int64_t head_dim, int64_t seqlen, bool causal, int threads) {
  const bool avx512 = (hwy::SupportedTargets() & HWY_AVX3) != 0;
  const Normal Q(kHeads * seqlen * head_dim, 1), K(kHeads * seqlen * head_dim, 2), V(kHeads * seqlen * head_dim, 3);
  const Normal O(kHeads * seqlen * head_dim);
  const Normal S(threads * seqlen * seqlen);
  for (auto _ : state) {
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t h = 0; h < kHeads; ++h) {
      const int64_t offset = h * seqlen * head_dim;
      const EigenHead head = {seqlen,
                              head_dim,
                              causal,
                              Q.get() + offset,
                              K.get() + offset,
                              V.get() + offset,
                              S.get() + omp_get_thread_num() * seqlen * seqlen,
                              O.get() + offset};
      avx512 ? EigenHead_avx512(head) : EigenHead_avx2(head);
    }
    benchmark::ClobberMemory();
  }
  Rate(state, "GFLOP/s", Flops(seqlen, head_dim, causal));
}

void Decode(benchmark::State& state, data::Format format, int64_t heads_q, int64_t head_dim, int64_t seqlen,
            int threads) {
  const data::Attention a = {.heads_q = heads_q,
                             .heads_kv = kHeads,
                             .seqlen_q = 1,
                             .seqlen_k = seqlen,
                             .head_dim = head_dim,
                             .head_dim_v = head_dim};
  const int64_t bytes = kHeads * seqlen * head_dim * data::StorageBytes(format);  // of K, and of V
  // As fp16 or bf16 the bits of fp32 would be noise with infinities: zeros and ones will do, nothing here depends on
  // it.
  const Normal Q(heads_q * head_dim), K(bytes / 4, 2), V(bytes / 4, 3);
  if (format != data::Format::kFp32) {
    for (const Normal* x : {&K, &V}) {
      uint16_t* bits = reinterpret_cast<uint16_t*>(x->get());
      for (int64_t i = 0; i < bytes / 2; ++i) bits[i] = i * 2654435761 % 3 == 0 ? 0x3C00 : 0x3400;
    }
  }
  std::vector<float> O(heads_q * head_dim), LSE(heads_q);
  for (auto _ : state) {
    CpuAttention(a,
                 {.Q = AsOperand(Q.view()),
                  .K = {.format = format, .bytes = std::as_bytes(K.view())},
                  .V = {.format = format, .bytes = std::as_bytes(V.view())}},
                 {.O = std::as_writable_bytes(std::span(O)), .LSE = LSE}, threads);
    benchmark::ClobberMemory();
  }
  Rate(state, "GB/s", 2.0 * static_cast<double>(bytes));
}

// The same bytes, only read, in a way of SumOf.
void Read(benchmark::State& state, int64_t bytes, int threads, int way) {
  const Normal x(bytes / 4);
  for (auto _ : state) {
    double total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
      const int64_t part = bytes / 4 / threads / 256 * 256;
      total += SumOf(x.get() + omp_get_thread_num() * part, part, way);
    }
    benchmark::DoNotOptimize(total);
  }
  Rate(state, "GB/s", static_cast<double>(bytes));
}

template <class... Arguments>
void Add(const std::string& name, int threads, void (*function)(benchmark::State&, Arguments...),
         std::type_identity_t<Arguments>... arguments) {
  benchmark::RegisterBenchmark((name + "/threads=" + std::to_string(threads)).c_str(), function, arguments...)
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

const int kRegistered = [] {
  for (const int threads : {1, 2}) {
    Add("peak fp32 FMA", threads, Peak, threads);
    for (const int64_t head_dim : {64, 128}) {
      for (const int64_t seqlen : {1024, 4096}) {
        for (const bool causal : {false, true}) {
          const std::string shape =
              "/d=" + std::to_string(head_dim) + "/s=" + std::to_string(seqlen) + (causal ? "/causal" : "/full");
          Add("prefill fp32" + shape, threads, Prefill, head_dim, seqlen, causal, threads);
          Add("Eigen fp32" + shape, threads, Eigen, head_dim, seqlen, causal, threads);
        }
      }
    }
    for (const int64_t megabytes : {16, 512}) {
      for (int way = 0; way < kReadWays; ++way) {
        Add("read/MiB=" + std::to_string(megabytes) + "/way=" + std::to_string(way), threads, Read, megabytes << 20,
            threads, way);
      }
      for (const data::Format format : {data::Format::kFp32, data::Format::kFp16, data::Format::kBf16}) {
        for (const int64_t heads_q : {8, 32}) {
          for (const int64_t head_dim : {64, 128}) {
            const int64_t seqlen = (megabytes << 19) / kHeads / head_dim / data::StorageBytes(format);
            Add("decode " + std::string(data::Name(format)) + "/MiB=" + std::to_string(megabytes) +
                    "/heads=" + std::to_string(heads_q) + "/d=" + std::to_string(head_dim),
                threads, Decode, format, heads_q, head_dim, seqlen, threads);
          }
        }
      }
    }
  }
  return 0;
}();

}  // namespace
}  // namespace bitflash::reference
