// Elements per second of the array conversions. The limit is memcpy of the same number of bytes, read plus written.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <vector>

#include "data/convert.h"
#include "data/convert_simd.h"
#include "data/random.h"

namespace bitflash::data {
namespace {

constexpr int64_t kCount = 1 << 14;  // 64 KiB of fp32: stays in the L2 cache

void SetRates(benchmark::State& state, int64_t bytes) {
  state.SetItemsProcessed(state.iterations() * kCount);
  state.SetBytesProcessed(state.iterations() * kCount * bytes);
}

void BM_FromFloat(benchmark::State& state, Format format) {
  std::vector<float> values(kCount);
  FillHashNormal(1, 0, values);
  std::vector<double> out(kCount);  // wide enough for every format
  for (auto _ : state) {
    FromFloat(format, values.data(), out.data(), kCount);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  SetRates(state, 4 + StorageBytes(format));
}

void BM_ToFloat(benchmark::State& state, Format format) {
  std::vector<float> values(kCount);
  FillHashNormal(1, 0, values);
  std::vector<double> in(kCount);
  FromFloat(format, values.data(), in.data(), kCount);
  for (auto _ : state) {
    ToFloat(format, in.data(), values.data(), kCount);
    benchmark::DoNotOptimize(values.data());
    benchmark::ClobberMemory();
  }
  SetRates(state, 4 + StorageBytes(format));
}

void BM_EncodeScalar(benchmark::State& state, Format format) {
  std::vector<float> values(kCount);
  FillHashNormal(1, 0, values);
  for (auto _ : state) {
    uint32_t bits = 0;
    for (const float value : values) bits ^= Encode(format, value);
    benchmark::DoNotOptimize(bits);
  }
  SetRates(state, 4);
}

// As many bytes as a conversion of elements of `bytes` to fp32 moves: half of them read, half written.
void BM_Memcpy(benchmark::State& state) {
  const int64_t moved = 4 + state.range(0);
  std::vector<char> in(static_cast<size_t>(kCount * moved / 2), 1), out(in.size());
  for (auto _ : state) {
    std::memcpy(out.data(), in.data(), in.size());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  SetRates(state, moved);
}

void BM_HashNormal(benchmark::State& state) {
  std::vector<float> values(kCount);
  for (auto _ : state) {
    FillHashNormal(1, 0, values);
    benchmark::DoNotOptimize(values.data());
    benchmark::ClobberMemory();
  }
  SetRates(state, 4);
}

const int kRegistered = [] {
  for (const Format format : AllFormats()) {
    const std::string name(Name(format));
    benchmark::RegisterBenchmark(("FromFloat/" + name).c_str(), BM_FromFloat, format);
    benchmark::RegisterBenchmark(("ToFloat/" + name).c_str(), BM_ToFloat, format);
  }
  benchmark::RegisterBenchmark("EncodeScalar/bf16", BM_EncodeScalar, Format::kBf16);
  benchmark::RegisterBenchmark("Memcpy/element_bytes", BM_Memcpy)->Arg(1)->Arg(2)->Arg(4);
  benchmark::RegisterBenchmark("HashNormal", BM_HashNormal);
  return 0;
}();

}  // namespace
}  // namespace bitflash::data
