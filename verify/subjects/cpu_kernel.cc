#include "verify/subjects/cpu_kernel.h"

#include <algorithm>

#include "data/error.h"
#include "reference/amx_attention.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Format;

std::string FormatNames(const CpuKernel& kernel) {
  std::string names;
  for (const Format format : kernel.formats) names.append(names.empty() ? "" : ", ").append(data::Name(format));
  return names;
}

}  // namespace

std::span<const CpuKernel> CpuKernels() {
  static const std::vector<CpuKernel> kernels = {
      {.name = "cpu-simd",
       .title = "Flash attention on the CPU in fp32",
       .summary = "Runs on the CPU of this machine and is not a simulation: its speed is that of this machine, and its "
                  "bits are those of no GPU. Online softmax over tiles of keys, all arithmetic in fp32 with the "
                  "SIMD instructions that there are; a kernel of its own for up to 4 query rows. The second witness "
                  "of verify.",
       .source = "reference/cpu_attention.h; arXiv 2307.08691 (FlashAttention-2)",
       .formats = {Format::kFp32, Format::kFp16, Format::kBf16},
       .run = reference::CpuAttention,
       .arithmetic = reference::CpuAttentionArithmetic},
      {.name = "cpu-amx-bf16",
       .title = "Flash attention on the CPU's tile unit (AMX), bf16",
       .summary =
           "Runs on the CPU of this machine and is not a simulation. bf16 products and fp32 sums in AMX tiles, P "
           "rounded to bf16 as GPU kernels do, exponentials with AVX-512; a kernel of its own for up to 4 query rows. "
           "Needs a processor with AMX and an "
           "operating system that lets it be used.",
       .source = "reference/amx_attention.h; Intel SDM volume 1, chapter 18 (Intel AMX)",
       .formats = {Format::kBf16},
       .run = [](const data::Attention& attention, const reference::CpuAttentionInputs& inputs,
                 const reference::CpuAttentionOutputs& outputs,
                 int threads) { reference::AmxAttention(attention, inputs, outputs, {.threads = threads}); },
       .arithmetic = reference::AmxAttentionArithmetic,
       .unavailable = [] { return reference::AmxSupport(); }}};
  return kernels;
}

const CpuKernel* FindCpuKernel(std::string_view name) {
  const std::span<const CpuKernel> kernels = CpuKernels();
  const auto found = std::ranges::find(kernels, name, &CpuKernel::name);
  return found == kernels.end() ? nullptr : &*found;
}

void RequireTaken(const CpuKernel& kernel, const data::Attention& a) {
  const std::string name(kernel.name);
  if (const std::string why = kernel.unavailable(); !why.empty()) throw data::UndecidedError(name + ": " + why);
  if (std::ranges::find(kernel.formats, a.format) == kernel.formats.end()) {
    throw data::UndecidedError(name + " takes " + FormatNames(kernel) + ", not " + std::string(data::Name(a.format)));
  }
}

Outputs RunCpuKernel(const CpuKernel& kernel, const Problem& p) {
  Validate(p);
  RequireTaken(kernel, p.attention);
  if (!p.sinks.empty()) throw data::UndecidedError(std::string(kernel.name) + " has no attention sinks");
  data::Attention a = p.attention;
  a.softmax_scale = a.scale() * p.q_scale * p.k_scale;
  const Format format = p.v_scale == 1 ? a.format : Format::kFp32;  // O is rounded once, after it was scaled
  Outputs outputs{data::Tensor::Zeros(format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
                  data::Tensor::Zeros(Format::kFp32, {a.batch, a.heads_q, a.seqlen_q})};
  const auto operand = [&](const data::Tensor& tensor) {
    return reference::CpuOperand{.format = a.format, .bytes = tensor.ContiguousBytes().span(), .strides = {}};
  };
  const reference::CpuAttentionInputs inputs{.Q = operand(p.q),
                                             .K = operand(p.k),
                                             .V = a.v_is_in_k ? reference::CpuOperand{} : operand(p.v),
                                             .seqlens_q = p.seqlens_q,
                                             .seqlens_k = p.seqlens_k,
                                             .paged = {}};
  kernel.run(
      a, inputs,
      {.format = format, .O = outputs.o.ContiguousBytes().span(), .strides = {}, .LSE = outputs.lse->Elements<float>()},
      0);
  if (p.v_scale == 1) return outputs;
  std::vector<float> o = ToFloats(outputs.o);
  for (float& x : o) x *= static_cast<float>(p.v_scale);
  outputs.o = FromFloats(o, a.format, outputs.o.shape());
  return outputs;
}

}  // namespace bitflash::verify
