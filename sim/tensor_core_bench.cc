// Multiply-adds per second of the simulated tensor core, one thread, beside the fp32 FMA peak of the same run.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "data/simd_targets.h"
#include "sim/fma_peak.h"
#include "sim/tensor_core_cases.h"
#include "sim/tensor_core_scalar.h"
#include "sim/tensor_core_simd.h"

namespace bitflash::sim {
namespace {

using data::Format;

// Patterns like those of attention: a fraction of any bits, exponents over 16 binades below 2.
std::vector<uint32_t> Operands(Format format, int64_t count, uint64_t seed) {
  Random random(seed);
  const int below_top = (1 << data::Info(format).exponent_bits) - 1 - data::Info(format).bias;
  std::vector<uint32_t> patterns;
  for (int64_t i = 0; i < count; ++i) patterns.push_back(RandomPattern(random, format, {16, below_top}));
  return patterns;
}

std::vector<uint16_t> Operands16(Format format, int64_t count, uint64_t seed) {
  const auto patterns = Operands(format, count, seed);
  return {patterns.begin(), patterns.end()};
}

void CountMultiplyAdds(benchmark::State& state, int64_t per_iteration) {
  state.counters["multiply_adds"] =
      benchmark::Counter(static_cast<double>(per_iteration), benchmark::Counter::kIsIterationInvariantRate);
}

void Scalar(benchmark::State& state, Format format) {
  const TensorCore& core = FindTensorCore("sm90", format);
  const int64_t m = 16, n = 16, k = 64;
  const auto a = Operands16(format, m * k, 1), b = Operands16(format, k * n, 2);
  std::vector<float> d(m * n);
  for (auto _ : state) {
    MultiplyAddScalar(core, MatrixView::RowMajor(a.data(), format, m, k), MatrixView::RowMajor(b.data(), format, k, n),
                      d.data(), n);
    benchmark::DoNotOptimize(d.data());
  }
  CountMultiplyAdds(state, m * n * k);
}

enum class Packing { kOnce, kEveryTime };

// One tile product of an attention kernel: 128 query rows, 128 keys, head_dim 128; K arrives row-major, so packed
// transposed.
void Tile(benchmark::State& state, int64_t target, Format format, Packing packing) {
  const data::UseTarget use(target);
  const TensorCore& core = FindTensorCore("sm90", format);
  const int64_t m = 128, n = 128, k = 128;
  const auto a = Operands16(format, m * k, 1), b = Operands16(format, k * n, 2);
  const MatrixView rows = MatrixView::RowMajor(a.data(), format, m, k);
  const MatrixView columns = MatrixView::RowMajor(b.data(), format, n, k).Transposed();
  PackedRows packed_rows;
  PackedColumns packed_columns;
  packed_rows.Pack(rows);
  packed_columns.Pack(columns);
  std::vector<float> d(m * n);
  for (auto _ : state) {
    if (packing == Packing::kEveryTime) {
      packed_rows.Pack(rows);
      packed_columns.Pack(columns);
    }
    std::fill(d.begin(), d.end(), 0.0f);
    MultiplyAdd(core, packed_rows, packed_columns, d.data(), n);
    benchmark::DoNotOptimize(d.data());
  }
  CountMultiplyAdds(state, m * n * k);
}

// Random bit patterns: exponents everywhere, so hardly any step takes the fast path.
void TileOfAnyBits(benchmark::State& state, int64_t target) {
  const data::UseTarget use(target);
  const int64_t m = 128, n = 128, k = 128;
  Random random(1);
  std::vector<uint16_t> a, b;
  for (int64_t i = 0; i < m * k; ++i) {
    a.push_back(static_cast<uint16_t>(RandomPattern(random, Format::kBf16, {250, 1})));
    b.push_back(static_cast<uint16_t>(RandomPattern(random, Format::kBf16, {250, 1})));
  }
  PackedRows rows;
  PackedColumns columns;
  rows.Pack(MatrixView::RowMajor(a.data(), Format::kBf16, m, k));
  columns.Pack(MatrixView::RowMajor(b.data(), Format::kBf16, k, n));
  std::vector<float> d(m * n);
  for (auto _ : state) {
    std::fill(d.begin(), d.end(), 0.0f);
    MultiplyAdd(FindTensorCore("sm90", Format::kBf16), rows, columns, d.data(), n);
    benchmark::DoNotOptimize(d.data());
  }
  CountMultiplyAdds(state, m * n * k);
}

enum class Operand { kRows, kColumns, kTransposedColumns };

void Pack(benchmark::State& state, int64_t target, Operand operand) {
  const data::UseTarget use(target);
  const int64_t m = 128, k = 128;
  const auto a = Operands16(Format::kBf16, m * k, 1);
  const MatrixView view = MatrixView::RowMajor(a.data(), Format::kBf16, m, k);
  PackedRows rows;
  PackedColumns columns;
  for (auto _ : state) {
    if (operand == Operand::kRows) rows.Pack(view);
    if (operand == Operand::kColumns) columns.Pack(view);
    if (operand == Operand::kTransposedColumns) columns.Pack(view.Transposed());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * m * k);
}

void FmaPeak(benchmark::State& state, int64_t target) {
  const data::UseTarget use(target);
  int64_t multiply_adds = 0;
  for (auto _ : state) multiply_adds += RunFmaLoop();
  state.counters["multiply_adds"] = benchmark::Counter(static_cast<double>(multiply_adds), benchmark::Counter::kIsRate);
}

[[maybe_unused]] const bool kRegistered = [] {
  for (const int64_t target : data::UsableTargets()) {
    const std::string name = hwy::TargetName(target);
    benchmark::RegisterBenchmark(("fp32_fma_peak/" + name).c_str(), FmaPeak, target);
    benchmark::RegisterBenchmark(("tile_of_any_bits/bf16/" + name).c_str(), TileOfAnyBits, target);
    benchmark::RegisterBenchmark(("pack_rows/" + name).c_str(), Pack, target, Operand::kRows);
    benchmark::RegisterBenchmark(("pack_columns/" + name).c_str(), Pack, target, Operand::kColumns);
    benchmark::RegisterBenchmark(("pack_transposed_columns/" + name).c_str(), Pack, target,
                                 Operand::kTransposedColumns);
    for (const Format format : {Format::kBf16, Format::kFp16}) {
      const std::string suffix = std::string(data::Name(format)) + "/" + name;
      benchmark::RegisterBenchmark(("tile/" + suffix).c_str(), Tile, target, format, Packing::kOnce);
      benchmark::RegisterBenchmark(("tile_and_packing/" + suffix).c_str(), Tile, target, format, Packing::kEveryTime);
    }
  }
  benchmark::RegisterBenchmark("scalar/bf16", Scalar, Format::kBf16);
  return true;
}();

}  // namespace
}  // namespace bitflash::sim
