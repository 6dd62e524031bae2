// Problems for the tests of CpuAttention: values in any format and layout, and the golden attention's verdict.
#ifndef BITFLASH_REFERENCE_CPU_ATTENTION_TESTING_H_
#define BITFLASH_REFERENCE_CPU_ATTENTION_TESTING_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "data/convert_simd.h"
#include "data/simd_targets.h"
#include "doctest/doctest.h"
#include "reference/cpu_attention.h"
#include "reference/golden_testing.h"

namespace bitflash::reference {

// A tensor [batch, heads, rows, columns] in a format; `values` is what it means, row-major.
struct CpuTensorData {
  data::Format format;
  int64_t batch, heads, rows, columns;
  Strides strides;
  std::vector<std::byte> bytes;
  std::vector<float> values;

  CpuOperand view() const { return {.format = format, .bytes = bytes, .strides = strides}; }
  float* row(int64_t n, int64_t h, int64_t i) { return values.data() + ((n * heads + h) * rows + i) * columns; }

  // Writes `values`, rounded to the format, into the bytes and back.
  void Encode() {
    const int64_t size = data::StorageBytes(format);
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < rows; ++i) {
          std::byte* to = bytes.data() + size * (n * strides.batch + h * strides.head + i * strides.row);
          data::FromFloat(format, row(n, h, i), to, columns);
          data::ToFloat(format, to, row(n, h, i), columns);
        }
      }
    }
  }
};

// `layout` 0: row-major; 1: [batch, rows, heads, columns]; 2: gaps everywhere.
inline CpuTensorData MakeTensor(data::Format format, int64_t batch, int64_t heads, int64_t rows, int64_t columns,
                                int layout, const std::vector<double>& values) {
  CpuTensorData t = {.format = format, .batch = batch, .heads = heads, .rows = rows, .columns = columns};
  const int64_t row = columns + (layout == 2 ? 3 : 0);
  if (layout == 1) {
    t.strides = {rows * heads * columns, columns, heads * columns};
  } else {
    t.strides = {heads * rows * row + (layout == 2 ? 5 : 0), rows * row + (layout == 2 ? 1 : 0), row};
  }
  const int64_t elements =
      batch * heads * rows * columns == 0
          ? 0
          : (batch - 1) * t.strides.batch + (heads - 1) * t.strides.head + (rows - 1) * t.strides.row + columns;
  t.bytes.resize(elements * data::StorageBytes(format), std::byte{0xFF});  // gaps are NaN
  t.values.assign(values.begin(), values.end());
  t.Encode();
  return t;
}

struct CpuProblem {
  data::Attention a;
  CpuTensorData Q, K, V;
  std::vector<int64_t> seqlens_q, seqlens_k;
  data::Format output = data::Format::kFp32;

  int64_t queries(int64_t n) const { return seqlens_q.empty() ? a.seqlen_q : seqlens_q[n]; }
  int64_t keys(int64_t n) const { return seqlens_k.empty() ? a.seqlen_k : seqlens_k[n]; }
  CpuAttentionInputs inputs() const {
    return {.Q = Q.view(), .K = K.view(), .V = V.view(), .seqlens_q = seqlens_q, .seqlens_k = seqlens_k, .paged = {}};
  }
};

inline CpuProblem FromProblem(const Problem& p, data::Format q, data::Format kv, data::Format output, int layout) {
  const data::Attention& a = p.a;
  CpuProblem c = {.a = a,
                  .Q = MakeTensor(q, a.batch, a.heads_q, a.seqlen_q, a.head_dim, layout, p.Q),
                  .K = MakeTensor(kv, a.batch, a.heads_kv, a.seqlen_k, a.head_dim, layout, p.K),
                  .V = {},
                  .seqlens_q = {},
                  .seqlens_k = p.seqlens_k,
                  .output = output};
  if (!a.v_is_in_k) c.V = MakeTensor(kv, a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v, layout, p.V);
  return c;
}

// K and V of a problem in pages, dealt out backwards, NaN where there is no key.
struct PagedKeys {
  PagedKeys(const CpuProblem& p, int64_t page_size) {
    const int64_t per_sequence = (p.a.seqlen_k + page_size - 1) / page_size, used = p.a.batch * per_sequence;
    for (int64_t page = 0; page < used; ++page) table.push_back(used - page);
    cache = {.pages = used + 1, .page_size = page_size, .pages_per_sequence = per_sequence};
    K = Scatter(p, p.K);
    V = Scatter(p, p.V);
  }
  CpuAttentionInputs inputs(const CpuProblem& p) const {
    CpuAttentionInputs in = p.inputs();
    in.K = K.view();
    in.V = V.view();
    in.paged = cache;
    in.paged->block_table = table;
    return in;
  }

  PagedCache cache;
  std::vector<int64_t> table;
  CpuTensorData K, V;

 private:
  CpuTensorData Scatter(const CpuProblem& p, const CpuTensorData& from) const {
    const int64_t size = cache.page_size, columns = from.columns;
    std::vector<double> values(cache.pages * from.heads * size * columns, NAN);
    for (int64_t n = 0; n < p.a.batch; ++n) {
      for (int64_t h = 0; h < from.heads; ++h) {
        for (int64_t j = 0; j < p.keys(n); ++j) {
          const int64_t page = table[n * cache.pages_per_sequence + j / size];
          const float* row = from.values.data() + ((n * from.heads + h) * from.rows + j) * columns;
          std::copy_n(row, columns, values.data() + ((page * from.heads + h) * size + j % size) * columns);
        }
      }
    }
    return MakeTensor(from.format, cache.pages, from.heads, size, columns, 1, values);
  }
};

struct CpuResult {
  std::vector<std::byte> O_bytes;
  std::vector<float> O, LSE;  // O decoded
};

inline bool SameBits(const CpuResult& a, const CpuResult& b) {
  return a.O_bytes == b.O_bytes && std::memcmp(a.LSE.data(), b.LSE.data(), a.LSE.size() * sizeof(float)) == 0;
}

// What `run` makes of (attention, inputs, outputs); the outputs hold other values before.
template <class Function>
CpuResult Collect(const CpuProblem& p, const CpuAttentionInputs& inputs, const Function& run) {
  const int64_t rows = p.a.batch * p.a.heads_q * p.a.seqlen_q, elements = rows * p.a.head_dim_v;
  CpuResult r = {.O_bytes = std::vector<std::byte>(elements * data::StorageBytes(p.output), std::byte{0xFF}),
                 .O = std::vector<float>(elements),
                 .LSE = std::vector<float>(rows, 1e30f)};
  run(p.a, inputs, CpuAttentionOutputs{.format = p.output, .O = r.O_bytes, .strides = {}, .LSE = r.LSE});
  data::ToFloat(p.output, r.O_bytes.data(), r.O.data(), elements);
  return r;
}

inline CpuResult RunCpu(const CpuProblem& p, const CpuAttentionInputs& inputs, int threads = 0) {
  return Collect(p, inputs, [&](const auto&... problem) { CpuAttention(problem..., threads); });
}

inline CpuResult RunCpu(const CpuProblem& p, int threads = 0) { return RunCpu(p, p.inputs(), threads); }

// How the result stands against the golden attention.
struct Verdict {
  int64_t judged = 0, wrong = 0;
  double worst_O = 0, worst_LSE = 0;  // largest error / bound
};

// The golden attention of every sequence alone: it knows no seqlens_q.
inline std::vector<BoundedGolden> GoldenOf(const CpuProblem& p, const Arithmetic& arithmetic) {
  const data::Attention& a = p.a;
  std::vector<BoundedGolden> golden(a.batch);
  for (int64_t n = 0; n < a.batch; ++n) {
    data::Attention one = a;
    one.batch = 1;
    one.seqlen_q = p.queries(n);
    one.seqlen_k = p.keys(n);
    if (one.seqlen_q == 0) continue;
    const auto view = [&](const CpuTensorData& t) {
      const int64_t head = t.rows * t.columns;
      return Operand{.elements = std::span<const float>(t.values).subspan(n * t.heads * head),
                     .strides = Strides{0, head, t.columns}};
    };
    GoldenInputs inputs = {.Q = view(p.Q), .K = view(p.K), .V = {}, .seqlens_k = {}};
    if (!a.v_is_in_k) inputs.V = view(p.V);
    golden[n] = BoundAttention(one, inputs, {}, arithmetic, {}, {.threads = 1, .isa = {}});
  }
  return golden;
}

inline std::vector<BoundedGolden> GoldenOf(const CpuProblem& p) {
  return GoldenOf(p, CpuAttentionArithmetic(p.a, p.output));
}

inline Verdict Judge(const CpuProblem& p, const std::vector<BoundedGolden>& golden, const CpuResult& result) {
  Verdict verdict;
  const data::Attention& a = p.a;
  const auto judge = [&](double got, double want, double bound, double& worst) {
    ++verdict.judged;
    if (std::isfinite(want) && std::isfinite(bound)) {
      const double error = std::abs(got - want);
      verdict.wrong += !(error <= bound);
      if (bound > 0) worst = std::max(worst, error / bound);
    } else if (!std::isfinite(want)) {
      verdict.wrong += std::isnan(want) ? !std::isnan(got) : got != want;
    }
  };
  for (int64_t n = 0; n < a.batch; ++n) {
    const BoundedGolden& b = golden[n];
    const int64_t queries = p.queries(n);
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t i = 0; i < a.seqlen_q; ++i) {
        const bool used = i < queries;
        const int64_t row = (n * a.heads_q + h) * a.seqlen_q + i, from = h * queries + i;
        judge(result.LSE[row], used ? b.golden.LSE[from] : -INFINITY, used ? b.bound.LSE[from] : 0, verdict.worst_LSE);
        for (int64_t c = 0; c < a.head_dim_v; ++c) {
          const int64_t at = from * a.head_dim_v + c;
          judge(result.O[row * a.head_dim_v + c], used ? b.golden.O[at] : 0, used ? b.bound.O[at] : 0, verdict.worst_O);
        }
      }
    }
  }
  return verdict;
}

inline Verdict Judge(const CpuProblem& p, const CpuResult& result) { return Judge(p, GoldenOf(p), result); }

inline CpuProblem ShapedProblem(const data::Attention& a, uint64_t seed, data::Format format = data::Format::kFp32,
                                double spread = 1) {
  return FromProblem(NormalProblem(a, seed, spread), format, format, data::Format::kFp32, 0);
}

inline void CheckOnEveryTarget(const CpuProblem& p) {
  const std::vector<BoundedGolden> golden = GoldenOf(p);
  for (const int64_t target : data::UsableTargets()) {
    const data::UseTarget use(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    const Verdict verdict = Judge(p, golden, RunCpu(p, 1));
    CHECK(verdict.judged > 0);
    CHECK(verdict.wrong == 0);
  }
}

// 700 keys of head_dim 64, three tiles. `first` and `later` multiply the keys of the first tile and of the others.
inline CpuProblem TiledProblem(const data::Mask& mask, float first, float later, float v) {
  CpuProblem p = ShapedProblem(
      {.heads_q = 2, .heads_kv = 1, .seqlen_q = 133, .seqlen_k = 700, .head_dim = 64, .head_dim_v = 80, .mask = mask},
      9);
  for (int64_t j = 0; j < 700; ++j) {
    for (int64_t c = 0; c < 64; ++c) p.K.row(0, 0, j)[c] *= j < 256 ? first : later;
    for (int64_t c = 0; c < 80; ++c) p.V.row(0, 0, j)[c] *= v;
  }
  p.K.Encode();
  p.V.Encode();
  return p;
}

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_CPU_ATTENTION_TESTING_H_
