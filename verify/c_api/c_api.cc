// The C interface: versions, lists, executing and comparing. c_api_count.cc counts.
#include "verify/c_api.h"

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/convert_simd.h"
#include "data/error.h"
#include "data/tensor.h"
#include "reference/golden.h"
#include "sim/count.h"
#include "verify/c_api/c_api_arguments.h"
#include "verify/c_api/c_api_guard.h"
#include "verify/judge/compare.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Tensor;
using data::UsageError;

// Calls the caller's function and turns its wish to stop into an exception.
std::function<void(double)> Progress(const bitflash_execution& execution) {
  if (execution.progress == nullptr) return {};
  return [progress = execution.progress, user = execution.user](double share) {
    if (progress(share, user) != 0) throw Cancelled();
  };
}

std::vector<float> Decoded(Format format, const void* bits, uint64_t bytes) {
  std::vector<float> values(bytes / data::StorageBytes(format));
  data::ToFloat(format, bits, values.data(), static_cast<int64_t>(values.size()));
  return values;
}

// fp64 O and LSE of all heads, some at a time: so that progress can be told, and that little memory is needed beside
// the caller's. The bits do not depend on the parts.
void Golden(const Attention& a, const bitflash_inputs& in, const bitflash_outputs& out,
            const bitflash_execution& execution) {
  constexpr int64_t kPart = 64;
  const std::vector<float> q = Decoded(a.format, in.q, in.q_bytes), k = Decoded(a.format, in.k, in.k_bytes),
                           v = Decoded(a.format, in.v, in.v_bytes);
  const reference::GoldenInputs inputs{{std::span(q), {}}, {std::span(k), {}}, {std::span(v), {}}, {}};
  const auto progress = Progress(execution);
  const int64_t heads = a.batch * a.heads_q;
  double *o = static_cast<double*>(out.o), *lse = static_cast<double*>(out.lse);
  for (int64_t begin = 0; begin < heads; begin += kPart) {
    const int64_t end = std::min(heads, begin + kPart);
    const reference::Golden part =
        reference::GoldenAttention(a, inputs, {reference::Range{begin, end}, {}}, {execution.threads, {}});
    o = std::copy(part.O.begin(), part.O.end(), o);
    if (lse) lse = std::copy(part.LSE.begin(), part.LSE.end(), lse);
    if (progress) progress(static_cast<double>(end) / static_cast<double>(heads));
  }
}

// The caller's elements, not copied. Nobody writes to them.
Tensor Borrowed(Format format, const void* data, int64_t elements) {
  auto* bytes = static_cast<std::byte*>(const_cast<void*>(data));
  return Tensor::FromBuffer(format, {elements},
                            data::Buffer::Borrow({bytes, static_cast<size_t>(elements * data::StorageBytes(format))}));
}

bitflash_pair PairOf(Format format, const ElementPair& pair, bool exists) {
  if (!exists) return {-1, 0, 0, 0, 0};
  return {pair.index.front(), pair.a_bits, pair.b_bits, ValueOf(format, pair.a_bits), ValueOf(format, pair.b_bits)};
}

bitflash_difference DifferenceOf(Format format, const Difference& d) {
  bitflash_difference out{};
  out.elements = d.elements;
  out.bits_differ = d.bits_differ;
  out.kind_differs = d.kind_differs;
  out.nan_bits_differ = d.nan_bits_differ;
  out.zero_sign_differs = d.zero_sign_differs;
  out.a_nan = d.a_nan;
  out.a_infinite = d.a_infinite;
  out.b_nan = d.b_nan;
  out.b_infinite = d.b_infinite;
  out.first = PairOf(format, d.first, d.bits_differ > 0);
  out.first_kind = PairOf(format, d.first_kind, d.kind_differs > 0);
  out.max_ulps = d.max_ulps;
  out.max_abs = d.max_abs;
  out.max_rel = d.max_rel;
  out.worst_ulps = PairOf(format, d.worst_ulps, d.max_ulps > 0);
  out.worst_abs = PairOf(format, d.worst_abs, d.max_abs > 0);
  out.worst_rel = PairOf(format, d.worst_rel, d.max_rel > 0);
  return out;
}

// Strings that C can read, made once.
struct KernelStrings {
  std::string name, title, source;
};
const std::vector<KernelStrings>& KernelList() {
  static const std::vector<KernelStrings> list = [] {
    std::vector<KernelStrings> strings;
    for (const sim::Kernel& kernel : sim::Kernels())
      strings.push_back({std::string(kernel.name), std::string(kernel.title), std::string(kernel.source)});
    return strings;
  }();
  return list;
}

const std::vector<data::Gpu>& GpuList() {
  static const std::vector<data::Gpu> list = [] {
    std::vector<data::Gpu> gpus;
    for (const std::string& name : data::GpuNames()) gpus.push_back(data::LoadGpu(name));
    return gpus;
  }();
  return list;
}

template <class Entry>
const Entry& EntryAt(const std::vector<Entry>& list, int64_t index) {
  if (index >= 0 && index < static_cast<int64_t>(list.size())) return list[static_cast<size_t>(index)];
  throw UsageError("index is " + std::to_string(index) + ": expected 0 to " + std::to_string(list.size() - 1));
}

// 0 when the list cannot be made; bitflash_last_error says why.
template <class MakeList>
int64_t Length(MakeList&& make_list) {
  int64_t length = 0;
  Guarded([&] { length = static_cast<int64_t>(make_list().size()); });
  return length;
}

}  // namespace
}  // namespace bitflash::verify

using namespace bitflash::verify;  // NOLINT: entry points only

extern "C" {

int bitflash_abi_version(void) { return BITFLASH_ABI_VERSION; }

const char* bitflash_version(void) { return BITFLASH_VERSION; }

bitflash_status bitflash_simulate(const bitflash_problem* problem, const bitflash_kernel* kernel,
                                  const bitflash_inputs* inputs, const bitflash_outputs* outputs,
                                  const bitflash_execution* execution) {
  return Guarded([&] {
    const Attention a = AttentionOf(problem);
    const KernelChoice choice = KernelOf(kernel, a);
    const bitflash_execution e = ExecutionOf(execution);
    // Refuses what the kernel does not take or the GPU has no room for.
    const bitflash::sim::Count count = bitflash::sim::CountKernel(choice.kernel, a, choice.tiling, choice.gpu);
    RequireModelled(choice.kernel, a);
    const bitflash_inputs in = InputsOf(inputs, a);
    const bitflash_outputs out = OutputsOf(outputs, a, bitflash::data::StorageBytes(a.format), sizeof(float), in);
    if (out.lse && !WritesLse(count)) {
      throw UsageError("outputs.lse is not NULL: kernel " + std::string(choice.kernel.name) +
                       " keeps the maximum and the sum of each row and writes no LSE");
    }
    const DefaultFloatTeam default_float(e.threads);
    bitflash::sim::ExecuteOptions options;
    options.threads = e.threads;
    options.progress = Progress(e);
    bitflash::sim::Execute(choice.kernel, a, choice.tiling, choice.gpu.arch, {in.q, in.k, in.v},
                           {out.o, static_cast<float*>(out.lse)}, options);
  });
}

bitflash_status bitflash_golden(const bitflash_problem* problem, const bitflash_inputs* inputs,
                                const bitflash_outputs* outputs, const bitflash_execution* execution) {
  return Guarded([&] {
    const Attention a = AttentionOf(problem);
    const bitflash_execution e = ExecutionOf(execution);
    const bitflash_inputs in = InputsOf(inputs, a);
    const bitflash_outputs out = OutputsOf(outputs, a, sizeof(double), sizeof(double), in);
    const DefaultFloatTeam default_float(e.threads);
    Golden(a, in, out, e);
  });
}

bitflash_status bitflash_compare(int32_t format, const void* a, const void* b, int64_t elements,
                                 bitflash_difference* difference) {
  return Guarded([&] {
    const Format f = FormatOf(format);
    if (elements < 0) throw UsageError("elements is " + std::to_string(elements) + ": expected 0 or more");
    bitflash::data::ElementCount({elements}, bitflash::data::StorageBytes(f));  // refuses what overflows
    if (elements > 0) {
      RequireNotNull(a, "a", "a buffer");
      RequireNotNull(b, "b", "a buffer");
    }
    RequireAligned(a, "a", bitflash::data::StorageBytes(f));
    RequireAligned(b, "b", bitflash::data::StorageBytes(f));
    RequireWritable(difference, "difference");
    WriteStruct(difference, DifferenceOf(f, Compare(Borrowed(f, a, elements), Borrowed(f, b, elements))));
  });
}

bitflash_status bitflash_value(int32_t format, uint64_t bits, double* value) {
  return Guarded([&] {
    const Format f = FormatOf(format);
    RequireNotNull(value, "value", "where to put the number");
    const int64_t width = 8 * bitflash::data::StorageBytes(f);
    *value = ValueOf(f, width == 64 ? bits : bits & ((uint64_t{1} << width) - 1));
  });
}

int64_t bitflash_kernels(void) { return Length(KernelList); }

int64_t bitflash_gpus(void) { return Length(GpuList); }

bitflash_status bitflash_kernel_at(int64_t index, bitflash_kernel_info* kernel) {
  return Guarded([&] {
    RequireWritable(kernel, "kernel");
    const KernelStrings& k = EntryAt(KernelList(), index);
    WriteStruct(kernel, bitflash_kernel_info{0, k.name.c_str(), k.title.c_str(), k.source.c_str()});
  });
}

bitflash_status bitflash_gpu_at(int64_t index, bitflash_gpu_info* gpu) {
  return Guarded([&] {
    RequireWritable(gpu, "gpu");
    const bitflash::data::Gpu& g = EntryAt(GpuList(), index);
    WriteStruct(gpu, bitflash_gpu_info{0, g.name.c_str(), g.title.c_str(), g.arch.c_str()});
  });
}

}  // extern "C"
