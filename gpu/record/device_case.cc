#include "gpu/record/device_case.h"

#include <cuda_runtime.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "data/convert_simd.h"
#include "data/error.h"
#include "data/random.h"

namespace bitflash::gpu {
namespace {

constexpr int64_t kGuardBytes = 4096;  // behind the workspace, and on both sides of LSE
constexpr uint16_t kPoison = 0xFFFF;   // a NaN of fp16 and of bf16
// Beyond it a case is contiguous: what guards would cost in copies is better spent on more elements.
constexpr int64_t kMostGuardedElements = 4'000'000;

Layout LayoutOf(const RecordCase& c) {
  const data::Attention& a = c.attention;
  const int64_t elements = a.batch * (a.heads_q * a.seqlen_q + a.heads_kv * a.seqlen_k) * a.head_dim;
  if (c.profile || elements > kMostGuardedElements) return Layout::kContiguous;
  return c.line % 2 ? Layout::kHeadMajor : Layout::kTokenMajor;
}

// One head of a tensor: [rows, columns] elements of the stream of `seed` from element `first` on.
std::vector<uint16_t> Matrix(data::Format format, uint64_t seed, int64_t first, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  data::FillHashNormal(seed, static_cast<uint64_t>(first), values);
  std::vector<uint16_t> bits(static_cast<size_t>(count));
  data::FromFloat(format, values.data(), bits.data(), count);
  return bits;
}

std::string Demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

std::array<int64_t, 3> Extents(const dim3& d) { return {d.x, d.y, d.z}; }

}  // namespace

DeviceCase::DeviceCase(const RecordCase& c, const Kernel& kernel, Stream& stream)
    : c_(c), kernel_(kernel), stream_(stream) {
  const data::Attention& a = c.attention;
  const Layout layout = LayoutOf(c);
  const int64_t page = c.options.page_size;
  int64_t matrices = a.batch, rows = a.seqlen_k;  // of K and V
  if (page > 0) {
    pages_per_sequence_ = (a.seqlen_k + page - 1) / page;
    matrices = 3;  // that belong to nobody
    for (int64_t b = 0; b < a.batch; ++b) matrices += (c.keys(b) + page - 1) / page;
    rows = page;
  }
  q_ = MakeGuarded(a.batch, a.heads_q, a.seqlen_q, a.head_dim, layout);
  o_ = MakeGuarded(a.batch, a.heads_q, a.seqlen_q, a.head_dim, layout);
  k_ = MakeGuarded(matrices, a.heads_kv, rows, a.head_dim, layout);
  v_ = MakeGuarded(matrices, a.heads_kv, rows, a.head_dim, layout);

  const std::string refusal = kernel.Refusal(a, c.options);
  if (!refusal.empty()) throw data::UsageError(c.kernel + ": " + c.name + ": " + refusal);
  workspace_bytes_ = kernel.WorkspaceBytes(a, c.options);
  workspace_ = Buffer(workspace_bytes_ + kGuardBytes);
  o_buffer_ = Buffer(o_.bytes());
  lse_buffer_ = Buffer(a.lse_bytes() + 2 * kGuardBytes);

  if (page > 0) {  // shuffled, so that neighbours in a sequence are none in memory
    std::vector<int32_t> order(static_cast<size_t>(matrices));
    std::iota(order.begin(), order.end(), 0);
    for (size_t n = order.size(); n > 1; --n) std::swap(order[n - 1], order[data::HashBits(c.seed, n) % n]);
    // Entries that must not be read lead far outside the cache.
    table_.assign(static_cast<size_t>(a.batch * pages_per_sequence_), INT32_MAX);
    size_t next = 0;
    for (int64_t b = 0; b < a.batch; ++b) {
      for (int64_t n = 0; n * page < c.keys(b); ++n) table_[b * pages_per_sequence_ + n] = order[next++];
    }
    table_buffer_ = Buffer(static_cast<int64_t>(table_.size()) * 4);
    stream.ToDevice(table_buffer_, table_.data(), table_buffer_.bytes());
  }
  if (!c.lengths.empty()) {
    const std::vector<int32_t> lengths(c.lengths.begin(), c.lengths.end());
    lengths_buffer_ = Buffer(static_cast<int64_t>(lengths.size()) * 4);
    stream.ToDevice(lengths_buffer_, lengths.data(), lengths_buffer_.bytes());
  }
  Upload();
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
              .pages_per_sequence = pages_per_sequence_};
}

void DeviceCase::Upload() {
  const data::Attention& a = c_.attention;
  const int64_t page = c_.options.page_size;
  const auto upload = [&](Buffer& buffer, const Guarded& tensor, int64_t which, int64_t heads, bool keys) {
    std::vector<uint16_t> host(static_cast<size_t>(tensor.elements), kPoison);
    for (int64_t b = 0; b < a.batch; ++b) {
      const int64_t rows = keys ? c_.keys(b) : a.seqlen_q;
      // Elements count through [batch, heads, rows, head_dim], or through each sequence alone.
      const int64_t first = c_.lengths.empty() ? b * heads * rows * a.head_dim : 0;
      for (int64_t h = 0; h < heads; ++h) {
        const std::vector<uint16_t> bits = Matrix(a.format, c_.SeedOf(b) + static_cast<uint64_t>(which),
                                                  first + h * rows * a.head_dim, rows * a.head_dim);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t at = keys && page > 0 ? tensor.At(table_[b * pages_per_sequence_ + r / page], h, r % page)
                                              : tensor.At(b, h, r);
          std::memcpy(host.data() + at, bits.data() + r * a.head_dim, static_cast<size_t>(a.head_dim * 2));
        }
      }
    }
    buffer = Buffer(tensor.bytes());
    stream_.ToDevice(buffer, host.data(), buffer.bytes());
  };
  upload(q_buffer_, q_, 0, a.heads_q, false);
  upload(k_buffer_, k_, 1, a.heads_kv, true);
  upload(v_buffer_, v_, 2, a.heads_kv, true);
}

void DeviceCase::Poison() {
  for (const Buffer* buffer : {&o_buffer_, &lse_buffer_, &workspace_}) stream_.Fill(*buffer, 0xFF);
}

void DeviceCase::Launch(bool with_lse) {
  Tensors tensors = tensors_;
  if (with_lse) tensors.lse = reinterpret_cast<float*>(lse_buffer_.as<uint8_t>() + kGuardBytes);
  kernel_.Launch(c_.attention, c_.options, tensors, workspace_.data(), stream_);
}

Outputs DeviceCase::Read(std::vector<std::string>& problems) {
  stream_.Synchronize();
  const data::Attention& a = c_.attention;
  const auto is_poison = [](uint8_t byte) { return byte == 0xFF; };
  Outputs outputs;

  std::vector<uint16_t> o(static_cast<size_t>(o_.elements));
  stream_.ToHost(o.data(), o_buffer_, o_.bytes());
  outputs.o.resize(static_cast<size_t>(a.o_bytes() / 2));
  uint16_t* to = outputs.o.data();
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t r = 0; r < a.seqlen_q; ++r, to += a.head_dim) {
        uint16_t* const from = o.data() + o_.At(b, h, r);
        std::copy_n(from, a.head_dim, to);
        std::fill_n(from, a.head_dim, kPoison);  // what remains must be poison
      }
    }
  }
  if (std::ranges::any_of(o, [](uint16_t element) { return element != kPoison; }))
    problems.push_back(c_.kernel + ": " + c_.name + ": wrote beside O");

  std::vector<uint8_t> lse(static_cast<size_t>(lse_buffer_.bytes()));
  stream_.ToHost(lse.data(), lse_buffer_, lse_buffer_.bytes());
  outputs.lse.resize(static_cast<size_t>(a.lse_bytes() / 4));
  std::memcpy(outputs.lse.data(), lse.data() + kGuardBytes, static_cast<size_t>(a.lse_bytes()));
  if (!std::all_of(lse.begin(), lse.begin() + kGuardBytes, is_poison) ||
      !std::all_of(lse.end() - kGuardBytes, lse.end(), is_poison))
    problems.push_back(c_.kernel + ": " + c_.name + ": wrote beside LSE");

  std::vector<uint8_t> behind(kGuardBytes);
  stream_.ToHost(behind.data(), workspace_, kGuardBytes, workspace_bytes_);
  if (!std::ranges::all_of(behind, is_poison))
    problems.push_back(c_.kernel + ": " + c_.name + ": wrote behind the workspace");
  return outputs;
}

std::vector<LaunchFacts> DeviceCase::Launches() {
  // A captured call executes nothing, and its graph has every launch.
  Check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  Launch();
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
      throw data::InputError(c_.kernel + " launches " + name + ", which it does not list");
    launches[static_cast<size_t>(found - kernel_.launches.begin())] = {std::string(*found), Extents(parameters.gridDim),
                                                                       Extents(parameters.blockDim)};
  }
  Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  std::erase_if(launches, [](const LaunchFacts& launch) { return launch.name.empty(); });
  return launches;
}

}  // namespace bitflash::gpu
