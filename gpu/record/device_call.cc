#include "gpu/record/device_call.h"

#include <cuda_runtime.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "data/error.h"

namespace bitflash::gpu {
namespace {

constexpr int64_t kGuardBytes = 4096;  // behind the workspace, and on both sides of LSE
constexpr uint16_t kPoison = 0xFFFF;   // a NaN of fp16 and of bf16
constexpr int64_t kUnusedPages = 3;

const Kernel& KernelOf(const Call& call) {
  const Kernel* kernel = FindKernel(call.kernel);
  if (!kernel) throw data::UsageError(call.kernel + ": there is no such CUDA kernel");
  if (const std::string refusal = kernel->Refusal(call.attention, call.options); !refusal.empty())
    throw data::UsageError(call.kernel + ": " + refusal);
  if (const std::string refusal = DeviceRefusal(*kernel, CurrentDevice()); !refusal.empty())
    throw data::UsageError(refusal);
  return *kernel;
}

std::string Demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

std::array<int64_t, 3> Extents(const dim3& d) { return {d.x, d.y, d.z}; }

template <class T>
Buffer Upload(Stream& stream, const std::vector<T>& values) {
  Buffer buffer(static_cast<int64_t>(values.size() * sizeof(T)));
  stream.ToDevice(buffer, values.data(), buffer.bytes());
  return buffer;
}

// Where each sequence starts, and the end of the last.
std::vector<int32_t> Starts(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> starts = {0};
  for (const int64_t length : lengths) starts.push_back(starts.back() + static_cast<int32_t>(length));
  return starts;
}

}  // namespace

DeviceCall::DeviceCall(const Call& call, const Inputs& inputs, Stream& stream)
    : call_(call), kernel_(KernelOf(call)), stream_(stream) {
  const data::Attention& a = call.attention;
  const int64_t page = call.options.page_size;
  int64_t matrices = a.batch, rows = a.seqlen_k;  // of K and V
  if (page > 0) {
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < a.batch; ++b) lengths.push_back(call.keys(b));
    table_ = ScatterPages(lengths, a.seqlen_k, page, kUnusedPages);
    table_buffer_ = gpu::Upload(stream, table_.pages);
    matrices = table_.pool;
    rows = page;
  }
  if (call.packed()) {
    starts_q_ = Starts(call.queries);
    starts_k_ = Starts(call.lengths);
    starts_q_buffer_ = gpu::Upload(stream, starts_q_);
    starts_k_buffer_ = gpu::Upload(stream, starts_k_);
    matrices = 1;
    rows = starts_k_.back();
  } else if (!call.lengths.empty()) {
    lengths_buffer_ = gpu::Upload(stream, std::vector<int32_t>(call.lengths.begin(), call.lengths.end()));
  }
  q_ = call.packed() ? MakeGuarded(1, a.heads_q, starts_q_.back(), a.head_dim, call.layout)
                     : MakeGuarded(a.batch, a.heads_q, a.seqlen_q, a.head_dim, call.layout);
  o_ = q_;
  k_ = MakeGuarded(matrices, a.heads_kv, rows, a.head_dim, call.layout);
  v_ = k_;
  q_buffer_ = Upload(q_, inputs.q, false);
  k_buffer_ = Upload(k_, inputs.k, true);
  v_buffer_ = Upload(v_, inputs.v, true);
  o_buffer_ = Buffer(o_.bytes());
  lse_buffer_ = Buffer(a.lse_bytes() + 2 * kGuardBytes);
  workspace_bytes_ = kernel_.WorkspaceBytes(a, call.options);
  workspace_ = Buffer(workspace_bytes_ + kGuardBytes);
  tensors_ = {.q = q_buffer_.as<uint16_t>() + q_.offset,
              .k = k_buffer_.as<uint16_t>() + k_.offset,
              .v = v_buffer_.as<uint16_t>() + v_.offset,
              .o = o_buffer_.as<uint16_t>() + o_.offset,
              .q_strides = q_.strides,
              .k_strides = k_.strides,
              .v_strides = v_.strides,
              .o_strides = o_.strides,
              .seqlens_k = lengths_buffer_.as<int32_t>(),
              .block_table = table_buffer_.as<int32_t>(),
              .pages_per_sequence = table_.pages_per_sequence,
              .cu_seqlens_q = starts_q_buffer_.as<int32_t>(),
              .cu_seqlens_k = starts_k_buffer_.as<int32_t>()};
}

int64_t DeviceCall::QueryAt(const Guarded& layout, int64_t b, int64_t h, int64_t r) const {
  return call_.packed() ? layout.At(0, h, starts_q_[b] + r) : layout.At(b, h, r);
}

int64_t DeviceCall::KeyAt(const Guarded& layout, int64_t b, int64_t h, int64_t r) const {
  if (call_.packed()) return layout.At(0, h, starts_k_[b] + r);
  const int64_t page = call_.options.page_size;
  return page > 0 ? layout.At(table_.pages[b * table_.pages_per_sequence + r / page], h, r % page) : layout.At(b, h, r);
}

Buffer DeviceCall::Upload(const Guarded& layout, const std::vector<uint16_t>& elements, bool keys) {
  const data::Attention& a = call_.attention;
  const int64_t heads = keys ? a.heads_kv : a.heads_q, rows = keys ? a.seqlen_k : a.seqlen_q;
  std::vector<uint16_t> host(static_cast<size_t>(layout.elements), kPoison);
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const uint16_t* from = elements.data() + (b * heads + h) * rows * a.head_dim;
      for (int64_t r = 0; r < (keys ? call_.keys(b) : call_.query_rows(b)); ++r, from += a.head_dim) {
        const int64_t at = keys ? KeyAt(layout, b, h, r) : QueryAt(layout, b, h, r);
        std::copy_n(from, a.head_dim, host.data() + at);
      }
    }
  }
  return gpu::Upload(stream_, host);
}

void DeviceCall::Poison() {
  for (const Buffer* buffer : {&o_buffer_, &lse_buffer_, &workspace_}) stream_.Fill(*buffer, 0xFF);
}

void DeviceCall::Enqueue(bool with_lse) {
  Tensors tensors = tensors_;
  if (with_lse) tensors.lse = reinterpret_cast<float*>(lse_buffer_.as<uint8_t>() + kGuardBytes);
  kernel_.Launch(call_.attention, call_.options, tensors, workspace_.data(), stream_);
}

void DeviceCall::Launch(bool with_lse) {
  Poison();
  Enqueue(with_lse);
}

Runs DeviceCall::Run(int count, bool with_lse) {
  Runs runs;
  for (int n = 0; n < count; ++n) {
    Launch(with_lse);
    runs.outputs.push_back(Read(with_lse, runs.problems));
    if (runs.outputs.back() != runs.outputs.front())
      runs.problems.push_back("run " + std::to_string(n + 1) + " gave other bits than the first");
  }
  return runs;
}

Outputs DeviceCall::Read(bool with_lse, std::vector<std::string>& problems) {
  stream_.Synchronize();
  const data::Attention& a = call_.attention;
  const auto is_poison = [](uint8_t byte) { return byte == 0xFF; };
  Outputs outputs;

  std::vector<uint16_t> o(static_cast<size_t>(o_.elements));
  stream_.ToHost(o.data(), o_buffer_, o_.bytes());
  outputs.o.resize(static_cast<size_t>(a.o_bytes() / 2));
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      uint16_t* to = outputs.o.data() + (b * a.heads_q + h) * a.seqlen_q * a.head_dim;
      for (int64_t r = 0; r < call_.query_rows(b); ++r, to += a.head_dim) {
        uint16_t* const from = o.data() + QueryAt(o_, b, h, r);
        std::copy_n(from, a.head_dim, to);
        std::fill_n(from, a.head_dim, kPoison);  // what remains must be poison
      }
    }
  }
  if (std::ranges::any_of(o, [](uint16_t element) { return element != kPoison; })) problems.push_back("wrote beside O");

  std::vector<uint8_t> lse(static_cast<size_t>(lse_buffer_.bytes()));
  stream_.ToHost(lse.data(), lse_buffer_, lse_buffer_.bytes());
  outputs.lse.resize(static_cast<size_t>(a.lse_bytes() / 4));
  std::memcpy(outputs.lse.data(), lse.data() + kGuardBytes, static_cast<size_t>(a.lse_bytes()));
  if (!std::all_of(lse.begin(), lse.begin() + kGuardBytes, is_poison) ||
      !std::all_of(lse.end() - kGuardBytes, lse.end(), is_poison))
    problems.push_back("wrote beside LSE");
  for (int64_t head = 0; call_.packed() && head < a.batch * a.heads_q; ++head) {
    const auto row = outputs.lse.begin() + head * a.seqlen_q;
    const auto beyond = row + call_.query_rows(head / a.heads_q);
    if (!std::all_of(beyond, row + a.seqlen_q, [](uint32_t bits) { return bits == 0xFFFFFFFF; }))
      problems.push_back("wrote LSE beyond a sequence");
    std::fill(beyond, row + a.seqlen_q, 0);
  }
  const auto is_nan = [](uint32_t bits) { return (bits & 0x7FFFFFFF) > 0x7F800000; };
  if (with_lse && std::ranges::any_of(outputs.lse, is_nan)) problems.push_back("LSE has NaN");
  if (!with_lse && !std::ranges::all_of(lse, is_poison)) problems.push_back("wrote LSE that nobody wanted");

  std::vector<uint8_t> behind(kGuardBytes);
  stream_.ToHost(behind.data(), workspace_, kGuardBytes, workspace_bytes_);
  if (!std::ranges::all_of(behind, is_poison)) problems.push_back("wrote behind the workspace");
  return outputs;
}

std::vector<LaunchFacts> DeviceCall::Launches() {
  // A captured call executes nothing, and its graph has every launch.
  Check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  Enqueue(true);
  cudaGraph_t graph;
  Check(cudaStreamEndCapture(stream_.get(), &graph), "cudaStreamEndCapture");
  size_t count = 0;
  Check(cudaGraphGetNodes(graph, nullptr, &count), "cudaGraphGetNodes");
  std::vector<cudaGraphNode_t> nodes(count);
  Check(cudaGraphGetNodes(graph, nodes.data(), &count), "cudaGraphGetNodes");
  std::vector<LaunchFacts> launches(kernel_.launches.size());
  for (cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type;
    Check(cudaGraphNodeGetType(node, &type), "cudaGraphNodeGetType");
    if (type != cudaGraphNodeTypeKernel) continue;
    cudaKernelNodeParams parameters{};
    Check(cudaGraphKernelNodeGetParams(node, &parameters), "cudaGraphKernelNodeGetParams");
    const char* mangled = nullptr;
    Check(cudaFuncGetName(&mangled, parameters.func), "cudaFuncGetName");
    const std::string name = Demangled(mangled);  // with template arguments
    // The graph does not promise an order; the kernel's list has one.
    const auto found =
        std::ranges::find_if(kernel_.launches, [&](std::string_view launch) { return name.find(launch) != name.npos; });
    if (found == kernel_.launches.end())
      throw data::InputError(call_.kernel + " launches " + name + ", which it does not list");
    launches[static_cast<size_t>(found - kernel_.launches.begin())] = {std::string(*found), Extents(parameters.gridDim),
                                                                       Extents(parameters.blockDim)};
  }
  Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  std::erase_if(launches, [](const LaunchFacts& launch) { return launch.name.empty(); });
  return launches;
}

}  // namespace bitflash::gpu
