#include "verify/plugin_host/call.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::Tensor;
using wire::Region;
using wire::RegionPlace;

constexpr int kUnused = 0xFF;  // around and between rows of inputs: NaN in every format
constexpr int kCanary = 0xA5;  // around and between rows of outputs
constexpr int64_t kVectorAlignment = 16;

uint16_t DtypeOf(Format format) {
  switch (format) {
    case Format::kFp32:
      return BITFLASH_DTYPE_FP32;
    case Format::kFp16:
      return BITFLASH_DTYPE_FP16;
    case Format::kBf16:
      return BITFLASH_DTYPE_BF16;
    case Format::kE4m3:
      return BITFLASH_DTYPE_E4M3;
    case Format::kE5m2:
      return BITFLASH_DTYPE_E5M2;
    case Format::kFp64:
    case Format::kTf32:
      break;
  }
  throw data::UndecidedError("a plug-in cannot be given " + std::string(data::Name(format)) +
                             ": the interface has fp32, fp16, bf16, e4m3 and e5m2");
}

Format OutputFormat(const Problem& problem, const PluginOptions& options) {
  if (options.output_format) return *options.output_format;
  const Format format = problem.attention.format;
  return data::StorageBytes(format) == 1 ? Format::kBf16 : format;
}

int64_t ElementBytes(const bitflash_tensor& tensor) {
  switch (tensor.dtype) {
    case BITFLASH_DTYPE_FP32:
      return 4;
    case BITFLASH_DTYPE_FP16:
    case BITFLASH_DTYPE_BF16:
      return 2;
    default:
      return 1;
  }
}

// Calls row(index, offset, number) for every row of the last dimension in the order of memory: the index of its first
// element, that element's offset from (0, 0, ...) in elements, and the row's number in row-major order.
template <typename F>
void ForEachRow(const bitflash_tensor& tensor, F&& row) {
  const int outer = tensor.ndim - 1;
  std::array<int, BITFLASH_PLUGIN_MAX_DIMS> order{};
  std::iota(order.begin(), order.begin() + outer, 0);
  std::stable_sort(order.begin(), order.begin() + outer,
                   [&](int a, int b) { return tensor.stride[a] > tensor.stride[b]; });
  for (int d = 0; d < outer; ++d) {
    if (tensor.shape[d] == 0) return;
  }
  int64_t index[BITFLASH_PLUGIN_MAX_DIMS] = {};
  for (;;) {
    int64_t offset = 0, number = 0;
    for (int d = 0; d < outer; ++d) {
      offset += index[d] * tensor.stride[d];
      number = number * tensor.shape[d] + index[d];
    }
    row(static_cast<const int64_t*>(index), offset, number);
    int d = outer - 1;
    for (; d >= 0 && ++index[order[d]] == tensor.shape[order[d]]; --d) index[order[d]] = 0;
    if (d < 0) return;
  }
}

int64_t PageBytes() {
  static const int64_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

PluginCall::PluginCall(const Problem& problem, const PluginOptions& options, Variant variant)
    : problem_(problem), options_(options), variant_(variant), output_format_(OutputFormat(problem, options)) {
  const data::Attention& a = problem.attention;
  request_.kind = wire::RequestKind::kCall;
  request_.v_is_in_k = a.v_is_in_k;

  int64_t input_bytes = 0, output_bytes = 0;
  PlaceTensor(wire::kQ, a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim}, input_bytes);
  PlaceTensor(wire::kK, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim}, input_bytes);
  if (a.v_is_in_k) {
    request_.tensors[wire::kV] = request_.tensors[wire::kK];
    request_.tensors[wire::kV].shape[3] = a.head_dim_v;
  } else {
    PlaceTensor(wire::kV, a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v}, input_bytes);
  }
  PlaceTensor(wire::kO, output_format_, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}, output_bytes);
  if (options.wants_lse) PlaceTensor(wire::kLse, Format::kFp32, {a.batch, a.heads_q, a.seqlen_q}, output_bytes);
  const auto vector_bytes = [](const auto& v) { return static_cast<int64_t>(v.size() * sizeof(v[0])); };
  Place(wire::kSeqlensQ, vector_bytes(problem.seqlens_q), input_bytes);
  Place(wire::kSeqlensK, vector_bytes(problem.seqlens_k), input_bytes);
  Place(wire::kSinks, vector_bytes(problem.sinks), input_bytes);

  bitflash_attention& call = request_.attention;
  call.struct_size = sizeof(call);
  switch (a.mask.kind) {
    case data::Mask::Kind::kFull:
    case data::Mask::Kind::kWindow:
      call.mask = BITFLASH_MASK_NONE;
      break;
    case data::Mask::Kind::kCausal:
      call.mask = BITFLASH_MASK_CAUSAL;
      break;
    case data::Mask::Kind::kCausalTopLeft:
      call.mask = BITFLASH_MASK_CAUSAL_TOP_LEFT;
      break;
  }
  const bool window = a.mask.kind == data::Mask::Kind::kWindow;
  call.window_left = window ? a.mask.left : -1;
  call.window_right = window ? a.mask.right : -1;
  call.scale = a.scale();
  call.softcap = a.softcap;
  call.q_scale = problem.q_scale;
  call.k_scale = problem.k_scale;
  call.v_scale = problem.v_scale;
  call.seed = options.seed;
  call.num_splits = options.num_splits;

  MemoryFile inputs(input_bytes);
  WriteInput(wire::kQ, problem.q, inputs);
  WriteInput(wire::kK, problem.k, inputs);
  WriteInput(wire::kV, problem.v, inputs);
  WriteVector(wire::kSeqlensQ, problem.seqlens_q.data(), inputs);
  WriteVector(wire::kSeqlensK, problem.seqlens_k.data(), inputs);
  WriteVector(wire::kSinks, problem.sinks.data(), inputs);
  inputs_ = inputs.SealReadOnly();

  outputs_.emplace(output_bytes);
  WriteOutput(wire::kO, *outputs_);
  WriteOutput(wire::kLse, *outputs_);
  outputs_->Flush();
}

// A vector without entries has no region; a tensor without elements has an empty one, whose address is a guard's.
void PluginCall::Place(Region region, int64_t extent_bytes, int64_t& file_bytes) {
  if (extent_bytes == 0 && region > wire::kLse) return;
  const int64_t alignment = region > wire::kLse ? kVectorAlignment : options_.alignment_bytes;
  RegionPlace& place = request_.regions[region];
  place.present = 1;
  place.extent_bytes = extent_bytes;
  place.bytes = RoundUp(std::max<int64_t>(extent_bytes, 1), PageBytes());
  const bool end = variant_ == Variant::kEndAtGuard || extent_bytes == 0;
  place.data_offset = end ? (place.bytes - extent_bytes) / alignment * alignment : 0;
  place.file_offset = file_bytes;
  file_bytes += place.bytes;
}

void PluginCall::PlaceTensor(Region region, Format format, const std::vector<int64_t>& shape, int64_t& file_bytes) {
  bitflash_tensor& tensor = request_.tensors[region];
  tensor.struct_size = sizeof(tensor);
  tensor.dtype = DtypeOf(format);
  tensor.ndim = static_cast<uint16_t>(shape.size());
  tensor.flags = wire::IsOutput(region) ? 0 : BITFLASH_TENSOR_READ_ONLY;
  std::copy(shape.begin(), shape.end(), tensor.shape);
  if (shape.size() == 3) {
    tensor.stride[0] = shape[1] * shape[2];
    tensor.stride[1] = shape[2];
    tensor.stride[2] = 1;
  } else {
    // Extents of 0 would make strides of 0, which the interface excludes.
    const int64_t row = shape[3] + options_.row_padding, heads = shape[1], rows = std::max<int64_t>(shape[2], 1);
    const bool sequence_first = options_.layout == data::Layout::kBshd;
    tensor.stride[0] = heads * rows * row;
    tensor.stride[1] = sequence_first ? row : rows * row;
    tensor.stride[2] = sequence_first ? heads * row : row;
    tensor.stride[3] = 1;
  }
  int64_t extent = 1;  // one past the offset of the last element
  bool empty = false;
  for (int d = 0; d < tensor.ndim; ++d) {
    extent += (tensor.shape[d] - 1) * tensor.stride[d];
    empty = empty || tensor.shape[d] == 0;
  }
  Place(region, empty ? 0 : extent * data::StorageBytes(format), file_bytes);
}

// Elements of a row that are no padding.
int64_t PluginCall::Valid(Region region, const int64_t* index) const {
  const bitflash_tensor& tensor = request_.tensors[region];
  const bool keys = region == wire::kK || region == wire::kV;
  const int64_t length = keys ? problem_.keys(index[0]) : problem_.queries(index[0]);
  if (tensor.ndim == 3) return length;
  return index[2] < length ? tensor.shape[3] : 0;
}

template <typename Row>
void PluginCall::WriteTensor(Region region, int around, MemoryFile& file, Row&& row) const {
  const RegionPlace& place = request_.regions[region];
  if (!place.present) return;
  const bitflash_tensor& tensor = request_.tensors[region];
  const int64_t element = ElementBytes(tensor), row_bytes = tensor.shape[tensor.ndim - 1] * element;
  int64_t at = 0;  // in the region
  ForEachRow(tensor, [&](const int64_t* index, int64_t offset, int64_t number) {
    const int64_t begin = place.data_offset + offset * element;
    file.Fill(around, begin - at);
    row(index, number, row_bytes);
    at = begin + row_bytes;
  });
  file.Fill(around, place.bytes - at);
}

void PluginCall::WriteInput(Region region, const Tensor& values, MemoryFile& file) const {
  const int64_t element = ElementBytes(request_.tensors[region]);
  const data::Buffer from = values.ContiguousBytes();
  WriteTensor(region, kUnused, file, [&](const int64_t* index, int64_t number, int64_t bytes) {
    const int64_t valid = Valid(region, index) * element;
    file.Append(from.data() + number * bytes, valid);
    file.Fill(kUnused, bytes - valid);
  });
}

void PluginCall::WriteVector(Region region, const void* values, MemoryFile& file) const {
  const RegionPlace& place = request_.regions[region];
  if (!place.present) return;
  file.Fill(kUnused, place.data_offset);
  file.Append(values, place.extent_bytes);
  file.Fill(kUnused, place.bytes - place.data_offset - place.extent_bytes);
}

uint32_t PluginCall::Poison(Format format, Variant variant) {
  if (variant == Variant::kEndAtGuard) return 0xFFFFFFFFu >> (32 - 8 * data::StorageBytes(format));
  switch (format) {
    case Format::kFp16:
    case Format::kBf16:
      return 0x7FE5;
    case Format::kE4m3:  // has no other NaN but for the sign
      return 0x7F;
    case Format::kE5m2:
      return 0x7D;
    default:
      return 0x7FE5A5C3;
  }
}

Format PluginCall::FormatOf(Region region) const { return region == wire::kLse ? Format::kFp32 : output_format_; }

void PluginCall::WriteOutput(Region region, MemoryFile& file) const {
  const bitflash_tensor& tensor = request_.tensors[region];
  if (!request_.regions[region].present) return;
  const int64_t element = ElementBytes(tensor), elements = tensor.shape[tensor.ndim - 1];
  const uint32_t poison = Poison(FormatOf(region), variant_);
  std::vector<std::byte> row(elements * element);
  for (int64_t i = 0; i < elements; ++i) std::memcpy(&row[i * element], &poison, element);
  WriteTensor(region, kCanary, file, [&](const int64_t*, int64_t, int64_t bytes) { file.Append(row.data(), bytes); });
}

Tensor PluginCall::Gather(Region region) {
  const bitflash_tensor& tensor = request_.tensors[region];
  const int64_t element = ElementBytes(tensor), row_bytes = tensor.shape[tensor.ndim - 1] * element;
  Tensor result = Tensor::Zeros(FormatOf(region), {tensor.shape, tensor.shape + tensor.ndim});
  const data::Buffer to = result.ContiguousBytes();
  const RegionPlace& place = request_.regions[region];
  const std::byte* from = outputs_->Map() + place.file_offset + place.data_offset;
  ForEachRow(tensor, [&](const int64_t* index, int64_t offset, int64_t number) {
    std::memcpy(to.data() + number * row_bytes, from + offset * element, Valid(region, index) * element);
  });
  return result;
}

std::optional<Tensor> PluginCall::Lse() {
  if (!request_.regions[wire::kLse].present) return std::nullopt;
  return Gather(wire::kLse);
}

std::string PluginCall::Outside() {
  for (const Region region : {wire::kO, wire::kLse}) {
    const RegionPlace& place = request_.regions[region];
    if (!place.present) continue;
    const bitflash_tensor& tensor = request_.tensors[region];
    const int64_t element = ElementBytes(tensor), row_bytes = tensor.shape[tensor.ndim - 1] * element;
    const std::byte* bytes = outputs_->Map() + place.file_offset;
    int64_t changed = 0, first = 0, at = 0;
    const auto check_until = [&](int64_t end) {
      for (; at < end; ++at) {
        if (bytes[at] != std::byte{kCanary} && changed++ == 0) first = at - place.data_offset;
      }
    };
    ForEachRow(tensor, [&](const int64_t*, int64_t offset, int64_t) {
      check_until(place.data_offset + offset * element);
      at += row_bytes;
    });
    check_until(place.bytes);
    if (changed == 0) continue;
    const char* name = wire::kRegionNames[region];
    const std::string where = first < 0                     ? fmt::format("{} bytes before its start", -first)
                              : first == place.extent_bytes ? "right behind its end"
                              : first > place.extent_bytes
                                  ? fmt::format("{} bytes behind its end", first - place.extent_bytes)
                                  : fmt::format("at byte {} of it, between its rows (strides {}, {}, {})", first,
                                                tensor.stride[0], tensor.stride[1], tensor.stride[2]);
    return fmt::format("changed {} bytes that do not belong to {}, the first {}", changed, name, where);
  }
  return "";
}

}  // namespace bitflash::verify
