#include "verify/subjects/run_simulated.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "data/error.h"
#include "sim/execute.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Tensor;
using data::UndecidedError;

void RequireModelled(const sim::Kernel& kernel, const Problem& problem) {
  if (problem.attention.softcap > 0) {
    throw UndecidedError("softcap needs tanh.approx, whose bits are not modelled: nothing was simulated");
  }
  if (!problem.sinks.empty())
    throw UndecidedError("attention sinks are not modelled to the bit: nothing was simulated");
  for (int64_t b = 0; b < problem.attention.batch; ++b) {
    const int64_t queries = problem.queries(b);
    if (queries == 0 || queries >= kernel.min_seqlen_q) continue;
    throw UndecidedError(std::string(kernel.name) + " answers " + std::to_string(queries) +
                         " query rows with another kernel whose recipe is not known: nothing was simulated");
  }
}

// fp8 as fp16: every e4m3 and e5m2 number is an fp16 number.
Tensor Widened(const Tensor& tensor) { return FromFloats(ToFloats(tensor), Format::kFp16, tensor.shape()); }

Tensor Scaled(const Tensor& tensor, float factor) {
  std::vector<float> values = ToFloats(tensor);
  for (float& value : values) value *= factor;
  return FromFloats(values, *tensor.type().format(), tensor.shape());
}

// Sequence `from` of a batch of 1 into sequence `index` of `to`, whose rows are as many or more.
void Place(Tensor& to, const Tensor& from, int64_t index) {
  const int64_t element = to.type().bytes();
  const int64_t heads = to.shape()[1];
  const int64_t of_row = to.dimensions() == 4 ? to.shape()[3] * element : element;
  const int64_t rows = from.shape()[2];
  for (int64_t h = 0; h < heads; ++h) {
    std::memcpy(to.ContiguousBytes().data() + (index * heads + h) * to.shape()[2] * of_row,
                from.ContiguousBytes().data() + h * rows * of_row, rows * of_row);
  }
}

Outputs RunDense(const SimulatedKernel& kernel, const Problem& problem, sim::MachineFault fault) {
  Attention a = problem.attention;
  Tensor q = problem.q, k = problem.k, v = problem.v;
  if (data::StorageBytes(a.format) == 1) {
    a.format = Format::kFp16;
    q = Widened(q);
    k = Widened(k);
    if (!a.v_is_in_k) v = Widened(v);
  }
  a.softmax_scale = a.scale() * problem.q_scale * problem.k_scale;
  const auto v_scale = static_cast<float>(problem.v_scale);
  const bool scales_before_rounding = !kernel.kernel->keys_outside;
  Outputs outputs{Tensor::Zeros(a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
                  Tensor::Zeros(Format::kFp32, {a.batch, a.heads_q, a.seqlen_q})};
  sim::ExecuteOptions options;
  if (scales_before_rounding) options.output_scale = v_scale;
  options.fault = fault;
  const sim::Executed executed = sim::Execute(
      *kernel.kernel, a, kernel.tiling, kernel.arch,
      {q.ContiguousBytes().data(), k.ContiguousBytes().data(), a.v_is_in_k ? nullptr : v.ContiguousBytes().data()},
      {outputs.o.ContiguousBytes().data(), outputs.lse->Elements<float>().data()}, options);
  if (!scales_before_rounding && v_scale != 1) outputs.o = Scaled(outputs.o, v_scale);
  if (At(executed.total.l2_to_sm, sim::TensorId::kLse).write == 0) outputs.lse.reset();
  return outputs;
}

}  // namespace

Outputs RunBySequence(const Problem& problem, const std::function<Outputs(const Problem&, int64_t)>& run) {
  const Attention& a = problem.attention;
  const Format format = data::StorageBytes(a.format) == 1 ? Format::kFp16 : a.format;
  Outputs outputs{Tensor::Zeros(format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
                  Tensor::Zeros(Format::kFp32, {a.batch, a.heads_q, a.seqlen_q})};
  bool has_lse = true;
  for (int64_t b = 0; b < a.batch; ++b) {
    if (problem.queries(b) == 0) continue;
    const Outputs part = run(Extract(problem, WholeSequence(problem, b)), b);
    Place(outputs.o, part.o, b);
    has_lse = part.lse.has_value();
    if (has_lse) Place(*outputs.lse, *part.lse, b);
  }
  if (!has_lse) outputs.lse.reset();
  return outputs;
}

Outputs RunOnMachine(const SimulatedKernel& kernel, const Problem& problem, sim::MachineFault fault) {
  Validate(problem);
  RequireModelled(*kernel.kernel, problem);
  if (!problem.ragged()) return RunDense(kernel, problem, fault);
  return RunBySequence(problem, [&](const Problem& sequence, int64_t) { return RunDense(kernel, sequence, fault); });
}

Outputs RunSimulated(const SimulatedKernel& kernel, const Problem& problem) {
  return RunOnMachine(kernel, problem, sim::MachineFault::kNone);
}

}  // namespace bitflash::verify
