#include "verify/diagnose/fault_outputs.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "sim/runs.h"
#include "verify/diagnose/fault_conditions.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Tensor;

// Element [sequence, kv head of head h, key, column] of V, decoded.
class ValuesOf {
 public:
  explicit ValuesOf(const Problem& problem)
      : a_(problem.attention),
        values_(ToFloats(a_.v_is_in_k ? problem.k : problem.v)),
        columns_(a_.v_is_in_k ? a_.head_dim : a_.head_dim_v),
        scale_(static_cast<float>(a_.v_is_in_k ? problem.k_scale : problem.v_scale)) {}

  float At(int64_t sequence, int64_t head, int64_t key, int64_t column) const {
    const int64_t kv = sequence * a_.heads_kv + head / a_.group();
    return scale_ * values_[(kv * a_.seqlen_k + key) * columns_ + column];
  }

 private:
  const data::Attention& a_;
  const std::vector<float> values_;
  const int64_t columns_;
  const float scale_;
};

// Calls change(sequence, head, row, o): the row of O as floats.
template <class Change>
void ChangeRows(Outputs& outputs, const Problem& problem, const Change& change) {
  const auto& shape = outputs.o.shape();
  std::vector<float> values = ToFloats(outputs.o);
  for (int64_t b = 0; b < shape[0]; ++b) {
    for (int64_t h = 0; h < shape[1]; ++h) {
      for (int64_t r = 0; r < problem.queries(b); ++r) {
        change(b, h, r, std::span(values).subspan(((b * shape[1] + h) * shape[2] + r) * shape[3], shape[3]));
      }
    }
  }
  outputs.o = FromFloats(values, *outputs.o.type().format(), outputs.o.shape());
}

}  // namespace

void ChangeLse(Outputs& outputs, const LseChange& change) {
  if (!outputs.lse) return;
  const auto& shape = outputs.lse->shape();
  const std::span<float> lse = outputs.lse->Elements<float>();
  for (int64_t i = 0; i < outputs.lse->count(); ++i) {
    lse[i] = change(lse[i], i / (shape[1] * shape[2]), i / shape[2] % shape[1], i % shape[2]);
  }
}

void LeaveUnwritten(Tensor& tensor, int64_t first_sequence, int64_t first_head, int64_t begin) {
  const auto& shape = tensor.shape();
  const int64_t row = tensor.type().bytes() * (tensor.dimensions() == 4 ? shape[3] : 1);
  for (int64_t b = first_sequence; b < shape[0]; ++b) {
    for (int64_t h = first_head; h < shape[1]; ++h) {
      std::memset(tensor.ContiguousBytes().data() + ((b * shape[1] + h) * shape[2] + begin) * row, 0xFF,
                  (shape[2] - begin) * row);
    }
  }
}

void CopyValues(Outputs& outputs, const Problem& problem) {
  const ValuesOf values(problem);
  ChangeRows(outputs, problem, [&](int64_t b, int64_t h, int64_t r, std::span<float> o) {
    const int64_t key = std::min(r, problem.keys(b) - 1);
    for (size_t c = 0; c < o.size(); ++c) o[c] = key < 0 ? 0 : values.At(b, h, key, static_cast<int64_t>(c));
  });
}

void MeanOfValues(Outputs& outputs, const Problem& problem, bool only_empty_rows) {
  const ValuesOf values(problem);
  std::vector<double> mean(outputs.o.shape()[3]);
  ChangeRows(outputs, problem, [&](int64_t b, int64_t h, int64_t r, std::span<float> o) {
    if (r == 0) {
      std::ranges::fill(mean, 0);
      for (int64_t key = 0; key < problem.keys(b); ++key) {
        for (size_t c = 0; c < mean.size(); ++c) mean[c] += values.At(b, h, key, static_cast<int64_t>(c));
      }
      for (double& m : mean) m /= static_cast<double>(std::max<int64_t>(1, problem.keys(b)));
    }
    if (only_empty_rows && sim::VisibleKeys(SequenceOf(problem, b), r).count > 0) return;
    std::ranges::transform(mean, o.begin(), [](double m) { return static_cast<float>(m); });
  });
}

void WriteAsBshd(Outputs& outputs) {
  const std::vector<int64_t> shape = outputs.o.shape();
  outputs.o = outputs.o.Permuted({0, 2, 1, 3}).Contiguous().Reshaped(shape);
}

void ShiftSequences(Outputs& outputs) {
  const auto shift = [](Tensor& tensor) {
    const int64_t bytes = tensor.bytes() / tensor.shape()[0];
    std::memmove(tensor.ContiguousBytes().data() + bytes, tensor.ContiguousBytes().data(), tensor.bytes() - bytes);
  };
  shift(outputs.o);
  if (outputs.lse) shift(*outputs.lse);
}

void AddSinks(Outputs& outputs, const Problem& problem, const std::function<double(int64_t)>& counts) {
  const std::vector<float> before(outputs.lse->Elements<float>().begin(), outputs.lse->Elements<float>().end());
  const auto& shape = outputs.lse->shape();
  const auto sink = [&](int64_t h) { return counts(h) > 0 ? problem.sinks[h] + std::log(counts(h)) : -INFINITY; };
  ChangeRows(outputs, problem, [&](int64_t b, int64_t h, int64_t r, std::span<float> o) {
    const double lse = before[(b * shape[1] + h) * shape[2] + r];
    for (float& x : o) x = static_cast<float>(x / (1 + std::exp(sink(h) - lse)));
  });
  ChangeLse(outputs, [&](float lse, int64_t, int64_t h, int64_t) {
    const double most = std::max<double>(lse, sink(h));
    if (!std::isfinite(most)) return lse;
    return static_cast<float>(most + std::log(std::exp(lse - most) + std::exp(sink(h) - most)));
  });
}

}  // namespace bitflash::verify
