#include "verify/c_api/c_api_arguments.h"

#include <iterator>
#include <optional>
#include <utility>

#include "data/error.h"
#include "sim/count.h"
#include "verify/c_api/c_api_guard.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;
using data::UsageError;

// In the order of bitflash_format.
constexpr Format kFormats[] = {Format::kBf16, Format::kFp16, Format::kFp32, Format::kTf32,
                               Format::kFp64, Format::kE4m3, Format::kE5m2};
static_assert(kFormats[BITFLASH_TF32] == Format::kTf32 && kFormats[BITFLASH_E5M2] == Format::kE5m2);

constexpr int64_t kMost = int64_t{1} << 40;  // of any extent; data/attention.cc has the same

[[noreturn]] void Refuse(const std::string& name, int64_t value, const std::string& expected) {
  throw UsageError(name + " is " + std::to_string(value) + ": expected " + expected);
}

void RequireZero(const std::string& name, int64_t value) {
  if (value != 0) Refuse(name, value, "0");
}

int64_t WindowSide(const std::string& name, int64_t keys) {
  if (keys < Mask::kUnlimited || keys > kMost) Refuse(name, keys, "0 to 2^40, or -1 for no limit");
  return keys;
}

Mask MaskOf(const bitflash_problem& p) {
  switch (p.mask) {
    case BITFLASH_MASK_FULL:
      return Mask::Full();
    case BITFLASH_MASK_CAUSAL:
      return Mask::Causal();
    case BITFLASH_MASK_CAUSAL_TOP_LEFT:
      return Mask::CausalTopLeft();
    case BITFLASH_MASK_WINDOW:
      return Mask::Window(WindowSide("problem.window_left", p.window_left),
                          WindowSide("problem.window_right", p.window_right));
    default:
      Refuse("problem.mask", p.mask, "a bitflash_mask: 0 full, 1 causal, 2 causal-top-left, 3 window");
  }
}

// 0: not chosen. Limited so that no product of two overflows; sim::CountKernel knows the real limits.
std::optional<int64_t> Chosen(const char* field, int64_t value) {
  if (value < 0 || value > kMost) {
    Refuse(std::string("kernel.") + field, value, "1 to 2^40, or 0 for the published kernel's choice");
  }
  return value == 0 ? std::nullopt : std::optional(value);
}

std::optional<bool> Answer(const char* field, int32_t value) {
  if (value < -1 || value > 1)
    Refuse(std::string("kernel.") + field, value, "1 (yes), -1 (no) or 0 for the published kernel's choice");
  return value == 0 ? std::nullopt : std::optional(value > 0);
}

bool Overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return x < y + static_cast<uint64_t>(b_bytes) && y < x + static_cast<uint64_t>(a_bytes);
}

void RequireInput(const std::string& name, const void* data, uint64_t bytes, int64_t expected, int64_t element_bytes) {
  if (bytes != static_cast<uint64_t>(expected)) {
    throw UsageError(name + "_bytes is " + std::to_string(bytes) + ": expected " + std::to_string(expected) +
                     ", the bytes of the problem's tensor");
  }
  if (bytes > 0) RequireNotNull(data, name, std::to_string(bytes) + " bytes");
  RequireAligned(data, name, element_bytes);
}

void RequireOutput(const std::string& name, const void* data, uint64_t bytes, int64_t expected, int64_t element_bytes) {
  RequireNotNull(data, name, "a buffer of " + std::to_string(expected) + " bytes");
  if (bytes < static_cast<uint64_t>(expected)) {
    throw UsageError(name + "_bytes is " + std::to_string(bytes) + ": expected " + std::to_string(expected) +
                     " or more, the bytes of the tensor");
  }
  RequireAligned(data, name, element_bytes);
}

}  // namespace

Format FormatOf(int32_t format) {
  if (format < 0 || format >= static_cast<int32_t>(std::size(kFormats))) {
    std::string names;
    for (size_t i = 0; i < std::size(kFormats); ++i)
      names += (i ? ", " : "") + std::to_string(i) + " " + std::string(data::Name(kFormats[i]));
    Refuse("format", format, "a bitflash_format: " + names);
  }
  return kFormats[format];
}

Attention AttentionOf(const bitflash_problem* problem) {
  const bitflash_problem p = ReadStruct(problem, "problem", offsetof(bitflash_problem, head_dim_v));
  const auto or_default = [](int64_t value, int64_t otherwise) { return value == 0 ? otherwise : value; };
  Attention a;
  a.batch = or_default(p.batch, 1);
  a.heads_q = p.heads_q;
  a.heads_kv = or_default(p.heads_kv, p.heads_q);
  a.seqlen_q = p.seqlen_q;
  a.seqlen_k = p.seqlen_k;
  a.head_dim = p.head_dim;
  a.head_dim_v = or_default(p.head_dim_v, p.head_dim);
  a.mask = MaskOf(p);
  if (p.softmax_scale != 0) a.softmax_scale = p.softmax_scale;
  a.softcap = p.softcap;
  a.format = FormatOf(p.format);
  if (p.v_is_in_k != 0 && p.v_is_in_k != 1) Refuse("problem.v_is_in_k", p.v_is_in_k, "0 or 1");
  a.v_is_in_k = p.v_is_in_k == 1;
  RequireZero("problem.reserved", p.reserved);
  data::Validate(a);
  return a;
}

KernelChoice KernelOf(const bitflash_kernel* kernel, const Attention& attention) {
  const bitflash_kernel k = kernel ? ReadStruct(kernel, "kernel") : bitflash_kernel{};
  const sim::Kernel& found = sim::FindKernel(k.name ? k.name : "fa2");
  std::string gpu_name = k.gpu ? k.gpu : "h200";
  data::Gpu gpu = data::LoadGpu(gpu_name);
  sim::TilingChoice choice;
  choice.Br = Chosen("Br", k.Br);
  choice.Bc = Chosen("Bc", k.Bc);
  choice.warps = Chosen("warps", k.warps);
  choice.stages = Chosen("stages", k.stages);
  choice.splits = Chosen("splits", k.splits);
  choice.part_keys = Chosen("part_keys", k.part_keys);
  choice.page_size = Chosen("page_size", k.page_size);
  choice.pack_gqa = Answer("pack_gqa", k.pack_gqa);
  choice.fp32_scores = Answer("fp32_scores", k.fp32_scores);
  sim::Tiling tiling = sim::ResolveTiling(found, attention, gpu, choice);
  return {found, std::move(gpu_name), std::move(gpu), tiling};
}

bitflash_inputs InputsOf(const bitflash_inputs* inputs, const Attention& a) {
  bitflash_inputs in = ReadStruct(inputs, "inputs", sizeof(bitflash_inputs));
  const int64_t element = data::StorageBytes(a.format);
  RequireInput("inputs.q", in.q, in.q_bytes, a.q_bytes(), element);
  RequireInput("inputs.k", in.k, in.k_bytes, a.k_bytes(), element);
  if (a.v_is_in_k) {
    in.v = nullptr;
    in.v_bytes = 0;
  } else {
    RequireInput("inputs.v", in.v, in.v_bytes, a.v_bytes(), element);
  }
  return in;
}

bitflash_outputs OutputsOf(const bitflash_outputs* outputs, const Attention& a, int64_t o_element_bytes,
                           int64_t lse_element_bytes, const bitflash_inputs& in) {
  const bitflash_outputs out = ReadStruct(outputs, "outputs", offsetof(bitflash_outputs, lse));
  const int64_t rows = a.batch * a.heads_q * a.seqlen_q;
  const int64_t o_bytes = rows * a.head_dim_v * o_element_bytes, lse_bytes = rows * lse_element_bytes;
  RequireOutput("outputs.o", out.o, out.o_bytes, o_bytes, o_element_bytes);
  if (out.lse) RequireOutput("outputs.lse", out.lse, out.lse_bytes, lse_bytes, lse_element_bytes);

  struct Written {
    const char* name;
    const void* data;
    int64_t bytes;
  };
  const Written o{"outputs.o", out.o, o_bytes}, lse{"outputs.lse", out.lse, out.lse ? lse_bytes : 0};
  const Written read[] = {{"inputs.q", in.q, static_cast<int64_t>(in.q_bytes)},
                          {"inputs.k", in.k, static_cast<int64_t>(in.k_bytes)},
                          {"inputs.v", in.v, static_cast<int64_t>(in.v_bytes)}};
  const auto refuse_overlap = [](const Written& x, const Written& y) {
    if (x.bytes == 0 || y.bytes == 0 || !Overlap(x.data, x.bytes, y.data, y.bytes)) return;
    throw UsageError(std::string(x.name) + " overlaps " + y.name + ": expected buffers of their own");
  };
  refuse_overlap(o, lse);
  for (const Written& input : read) {
    refuse_overlap(o, input);
    refuse_overlap(lse, input);
  }
  return out;
}

bitflash_execution ExecutionOf(const bitflash_execution* execution) {
  if (execution == nullptr) return {};
  constexpr int32_t kMostThreads = 1 << 16;
  const bitflash_execution e = ReadStruct(execution, "execution");
  if (e.threads < 0 || e.threads > kMostThreads) Refuse("execution.threads", e.threads, "0 (all) to 65536");
  RequireZero("execution.reserved", e.reserved);
  return e;
}

void RequireAligned(const void* pointer, const std::string& name, int64_t element_bytes) {
  if (reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(element_bytes) == 0) return;
  throw UsageError(name + " is at an odd address: expected a multiple of " + std::to_string(element_bytes) +
                   ", the bytes of one element");
}

}  // namespace bitflash::verify
