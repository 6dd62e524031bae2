#include "verify/subjects/simulate.h"

#include <algorithm>
#include <string>

#include "data/error.h"
#include "data/golden.h"

namespace bitflash::verify {

using data::Attention;
using data::Tensor;

HeadSubset SelectHeads(const Attention& a, int64_t begin, int64_t end) {
  if (begin < 0 || begin >= end || end > a.heads_q) {
    throw data::UsageError("heads " + std::to_string(begin) + ":" + std::to_string(end) +
                           ": expected BEGIN:END with 0 <= BEGIN < END <= " + std::to_string(a.heads_q));
  }
  HeadSubset heads{begin, end, begin / a.group(), (end - 1) / a.group() + 1, a, 0};
  heads.q_begin = heads.kv_begin * a.group();
  heads.attention.heads_kv = heads.kv_end - heads.kv_begin;
  heads.attention.heads_q = heads.attention.heads_kv * a.group();
  return heads;
}

void GenerateParallel(const data::InputTensor& input, data::Format format, int64_t first, int64_t count,
                      std::byte* out) {
  // Small enough that a part's fp32 values stay in L2, large enough that threads are worth it.
  constexpr int64_t kPart = 1 << 16;
  const int64_t parts = (count + kPart - 1) / kPart;
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = part * kPart;
    data::Generate(input, format, first + begin, std::min(kPart, count - begin),
                   out + begin * data::StorageBytes(format));
  }
}

KernelInputs GenerateInputs(const Attention& a, const HeadSubset& heads, data::Distribution distribution,
                            uint64_t seed) {
  const auto generate = [&](data::Role role, int64_t all_heads, int64_t begin, int64_t end, int64_t seqlen,
                            int64_t head_dim) {
    Tensor tensor = Tensor::Zeros(a.format, {a.batch, end - begin, seqlen, head_dim});
    if (tensor.count() == 0) return tensor;
    const data::InputTensor input{distribution, role, seed, a.batch, all_heads, seqlen, head_dim, {}};
    Validate(input);
    const int64_t of_head = seqlen * head_dim, of_sequence = (end - begin) * of_head;
    for (int64_t b = 0; b < a.batch; ++b) {
      GenerateParallel(input, a.format, (b * all_heads + begin) * of_head, of_sequence,
                       tensor.ContiguousBytes().data() + b * of_sequence * data::StorageBytes(a.format));
    }
    return tensor;
  };
  const auto of_keys = [&](data::Role role, int64_t head_dim) {
    return generate(role, a.heads_kv, heads.kv_begin, heads.kv_end, a.seqlen_k, head_dim);
  };
  KernelInputs inputs;
  inputs.q = generate(data::Role::kQ, a.heads_q, heads.q_begin, heads.q_begin + heads.attention.heads_q, a.seqlen_q,
                      a.head_dim);
  inputs.k = of_keys(data::Role::kK, a.head_dim);
  if (!a.v_is_in_k) inputs.v = of_keys(data::Role::kV, a.head_dim_v);
  return inputs;
}

Problem GenerateProblem(const Attention& a, data::Distribution distribution, uint64_t seed) {
  KernelInputs inputs = GenerateInputs(a, SelectHeads(a, 0, a.heads_q), distribution, seed);
  Problem problem;
  problem.attention = a;
  problem.q = std::move(inputs.q);
  problem.k = std::move(inputs.k);
  problem.v = std::move(inputs.v);
  return problem;
}

std::vector<HeadHash> HashHeads(const Tensor& o, const Tensor& lse, int64_t first_head) {
  const int64_t batch = o.shape()[0], heads = o.shape()[1], rows = o.shape()[2], of_head = rows * o.shape()[3];
  const auto hash_o = [&](int64_t n) {
    return o.type().bytes() == 2 ? data::HashElements(o.Elements<uint16_t>().subspan(n * of_head, of_head))
                                 : data::HashElements(o.Elements<uint32_t>().subspan(n * of_head, of_head));
  };
  const auto lse_bits = lse.Elements<uint32_t>();
  std::vector<HeadHash> hashes(batch * heads);
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < batch * heads; ++n) {
    hashes[n] = {n / heads, first_head + n % heads, hash_o(n), data::HashElements(lse_bits.subspan(n * rows, rows))};
  }
  return hashes;
}

void RequireModelled(const sim::Kernel& kernel, const Attention& a) {
  if (a.seqlen_q < kernel.min_seqlen_q) {
    throw data::UndecidedError(std::string(kernel.name) + " answers " + std::to_string(a.seqlen_q) + " query row" +
                               (a.seqlen_q == 1 ? "" : "s") +
                               " with another kernel whose recipe is not known: nothing was simulated");
  }
  if (a.softcap > 0) {
    throw data::UndecidedError("softcap needs tanh.approx, whose bits are not modelled: nothing was simulated");
  }
  if (data::StorageBytes(a.format) != 2) {
    throw data::UndecidedError(std::string(data::Name(a.format)) +
                               " is counted (bitflash traffic) but not modelled to the bit: nothing was simulated "
                               "(expected fp16 or bf16)");
  }
}

bool WritesLse(const sim::Count& count) { return At(count.total.l2_to_sm, sim::TensorId::kLse).write > 0; }

Simulated Simulate(const sim::Kernel& kernel, const HeadSubset& heads, const sim::Tiling& tiling, std::string_view arch,
                   const KernelInputs& inputs, const std::function<void(double)>& progress) {
  const Attention& a = heads.attention;
  Simulated result;
  result.o = Tensor::Zeros(data::ElementType::Unsigned(2), {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v});
  result.lse = Tensor::Zeros(data::Format::kFp32, {a.batch, a.heads_q, a.seqlen_q});
  const int64_t begin = heads.begin - heads.q_begin, end = heads.end - heads.q_begin;
  sim::ExecuteOptions options;
  options.head_begin = begin;
  options.head_end = end;
  options.progress = progress;
  result.executed = sim::Execute(
      kernel, a, tiling, arch,
      {inputs.q.ContiguousBytes().data(), inputs.k.ContiguousBytes().data(), inputs.v.ContiguousBytes().data()},
      {result.o.ContiguousBytes().data(), result.lse.Elements<float>().data()}, options);
  result.o = result.o.Slice(1, begin, end).Contiguous();
  result.lse = result.lse.Slice(1, begin, end).Contiguous();

  result.hashes = HashHeads(result.o, result.lse, heads.begin);
  return result;
}

}  // namespace bitflash::verify
