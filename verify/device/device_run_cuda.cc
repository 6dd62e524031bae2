#include <cstring>
#include <numeric>
#include <string>

#include "data/error.h"
#include "verify/device/device_run.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Tensor;

// NaNs behind every input: what is read beyond the last row shows in the output.
constexpr int64_t kGuardBytes = 1 << 16;

// driver_types.h. Of what can go wrong on a device, these say that it is the wrong device, not that the kernel is.
constexpr int kErrorMemoryAllocation = 2;
constexpr int kErrorNoKernelImageForDevice = 209;

gpu::Buffer Upload(gpu::Stream& stream, const void* data, int64_t bytes) {
  gpu::Buffer buffer(bytes + kGuardBytes);
  stream.Fill(buffer, 0xFF);
  stream.ToDevice(buffer, data, bytes);
  return buffer;
}

gpu::Buffer Upload(gpu::Stream& stream, const Tensor& tensor) {
  return Upload(stream, tensor.ContiguousBytes().data(), tensor.bytes());
}

// Where each sequence starts, and the end of the last.
std::vector<int32_t> Starts(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> starts = {0};
  for (const int64_t length : lengths) starts.push_back(starts.back() + static_cast<int32_t>(length));
  return starts;
}

gpu::Strides PackedStrides(int64_t heads, int64_t columns) { return {.head = columns, .row = heads * columns}; }

// [batch, heads_q, seqlen_q]: zeros where a sequence has no row.
void ClearPadding(Tensor& lse, const std::vector<int64_t>& queries) {
  const int64_t heads = lse.shape()[1], rows = lse.shape()[2];
  const data::Buffer bytes = lse.ContiguousBytes();
  for (int64_t n = 0; n < static_cast<int64_t>(queries.size()) * heads; ++n) {
    const int64_t length = queries[static_cast<size_t>(n / heads)];
    std::memset(bytes.data() + (n * rows + length) * 4, 0, static_cast<size_t>(rows - length) * 4);
  }
}

void Run(const DevicePlan& plan, const KernelInputs& inputs, int64_t times,
         const std::function<void(DeviceOutputs)>& take) {
  const Attention& a = plan.attention;
  const gpu::Options& options = plan.options;
  gpu::Stream stream;
  const bool packed = plan.packed();
  const gpu::Buffer o(a.o_bytes()), lse(a.lse_bytes()), workspace(plan.kernel->WorkspaceBytes(a, options));
  const gpu::Buffer q = Upload(stream, packed ? Pack(inputs.q, plan.queries) : inputs.q);
  gpu::Buffer k, v, block_table, starts_q, starts_k, lengths;
  gpu::Tensors tensors = gpu::ContiguousTensors(a, q.data(), nullptr, nullptr, o.data(), lse.as<float>());
  if (packed) {
    const std::vector<int32_t> of_q = Starts(plan.queries), of_k = Starts(plan.keys);
    starts_q = Upload(stream, of_q.data(), static_cast<int64_t>(4 * of_q.size()));
    starts_k = Upload(stream, of_k.data(), static_cast<int64_t>(4 * of_k.size()));
    k = Upload(stream, Pack(inputs.k, plan.keys));
    v = Upload(stream, Pack(inputs.v, plan.keys));
    tensors.cu_seqlens_q = starts_q.as<int32_t>();
    tensors.cu_seqlens_k = starts_k.as<int32_t>();
    tensors.q_strides = tensors.o_strides = PackedStrides(a.heads_q, a.head_dim);
    tensors.k_strides = tensors.v_strides = PackedStrides(a.heads_kv, a.head_dim);
  } else if (options.page_size > 0) {
    const PagedCache cache = Paginate(a, inputs, options.page_size, plan.keys);
    k = Upload(stream, cache.k);
    v = Upload(stream, cache.v);
    block_table = Upload(stream, cache.block_table.data(), static_cast<int64_t>(4 * cache.block_table.size()));
    tensors.k_strides = gpu::ContiguousStrides(a.heads_kv, options.page_size, a.head_dim);
    tensors.v_strides = gpu::ContiguousStrides(a.heads_kv, options.page_size, a.head_dim_v);
    tensors.block_table = block_table.as<int32_t>();
    tensors.pages_per_sequence = cache.pages_per_sequence;
  } else {
    k = Upload(stream, plan.keys.empty() ? inputs.k : PoisonPadding(inputs.k, plan.keys));
    v = Upload(stream, plan.keys.empty() ? inputs.v : PoisonPadding(inputs.v, plan.keys));
  }
  if (!packed && !plan.keys.empty()) {
    const std::vector<int32_t> keys(plan.keys.begin(), plan.keys.end());
    lengths = Upload(stream, keys.data(), static_cast<int64_t>(4 * keys.size()));
    tensors.seqlens_k = lengths.as<int32_t>();
  }
  tensors.k = k.data();
  tensors.v = v.data();

  gpu::Event before, after;
  for (int64_t n = 0; n < times; ++n) {
    for (const gpu::Buffer* buffer : {&o, &lse, &workspace}) stream.Fill(*buffer, 0xFF);
    before.Record(stream);
    plan.kernel->Launch(a, options, tensors, workspace.data(), stream);
    after.Record(stream);
    stream.Synchronize();
    DeviceOutputs outputs{
        .o = Tensor::Zeros(data::ElementType::Unsigned(2), {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
        .lse = Tensor::Zeros(data::Format::kFp32, {a.batch, a.heads_q, a.seqlen_q}),
        .seconds = after.MillisecondsSince(before) * 1e-3};
    if (packed) {
      const int64_t rows = std::accumulate(plan.queries.begin(), plan.queries.end(), int64_t{0});
      const Tensor rows_of_all = Tensor::Zeros(data::ElementType::Unsigned(2), {rows, a.heads_q, a.head_dim_v});
      stream.ToHost(rows_of_all.ContiguousBytes().data(), o, rows_of_all.bytes());
      outputs.o = Unpack(rows_of_all, plan.queries, a.seqlen_q);
    } else {
      stream.ToHost(outputs.o.ContiguousBytes().data(), o, o.bytes());
    }
    stream.ToHost(outputs.lse.ContiguousBytes().data(), lse, lse.bytes());
    if (packed) ClearPadding(outputs.lse, plan.queries);
    take(std::move(outputs));
  }
}

}  // namespace

bool GpuIsBuilt() { return true; }

const std::vector<gpu::Kernel>& CudaKernels() { return gpu::Kernels(); }

gpu::Device CurrentCudaDevice() { return gpu::CurrentDevice(); }

void RunOnDevice(const DevicePlan& plan, const KernelInputs& inputs, int64_t times,
                 const std::function<void(DeviceOutputs)>& take) try {
  Run(plan, inputs, times, take);
} catch (const gpu::CudaError& error) {
  if (error.code == kErrorMemoryAllocation || error.code == kErrorNoKernelImageForDevice) {
    throw data::UndecidedError(error.what());
  }
  throw;
}

}  // namespace bitflash::verify
