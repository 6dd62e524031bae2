#include "data/tensor.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "data/error.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

static_assert(std::endian::native == std::endian::little, "bits are stored little-endian, as GPUs do");

using Extents = std::vector<int64_t>;

uint64_t LoadBits(const std::byte* from, int64_t bytes) {
  uint64_t bits = 0;
  std::memcpy(&bits, from, static_cast<size_t>(bytes));
  return bits;
}

bool Fits(uint64_t bits, int64_t bytes) { return bytes == 8 || bits >> (8 * bytes) == 0; }

// Strides of a shape that is laid out without gaps, its last or its first dimension fastest. Extents of 0 count as 1.
Extents DenseStrides(const Extents& shape, Tensor::Order order) {
  Extents strides(shape.size());
  int64_t stride = 1;
  for (size_t k = 0; k < shape.size(); ++k) {
    const size_t i = order == Tensor::Order::kRowMajor ? shape.size() - 1 - k : k;
    strides[i] = stride;
    stride *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

// Number of trailing dimensions that lie in row-major order without gaps.
size_t DenseTail(const Extents& shape, const Extents& strides) {
  int64_t stride = 1;
  size_t tail = 0;
  while (tail < shape.size()) {
    const size_t i = shape.size() - 1 - tail;
    if (shape[i] != 1 && strides[i] != stride) break;
    stride *= shape[i];
    ++tail;
  }
  return tail;
}

// Copies the elements from dimension `d` on to `to` in row-major order; returns the end of what it wrote. No extent is
// 0. The last `dense` dimensions are copied as one block.
std::byte* CopyDense(const Tensor& t, size_t dense, size_t d, const std::byte* from, std::byte* to) {
  const int64_t bytes = t.type().bytes();
  if (d + dense == t.shape().size()) {
    const int64_t block =
        std::accumulate(t.shape().begin() + static_cast<ptrdiff_t>(d), t.shape().end(), bytes, std::multiplies<>());
    std::memcpy(to, from, static_cast<size_t>(block));
    return to + block;
  }
  for (int64_t i = 0; i < t.shape()[d]; ++i) to = CopyDense(t, dense, d + 1, from + i * t.strides()[d] * bytes, to);
  return to;
}

}  // namespace

std::string Name(const ElementType& type) {
  if (type.format()) return std::string(Name(*type.format()));
  return (type.IsSigned() ? "i" : "u") + std::to_string(8 * type.bytes());
}

std::string_view Name(Layout layout) { return layout == Layout::kBhsd ? "bhsd" : "bshd"; }

Layout ParseLayout(std::string_view name) {
  if (name == "bhsd") return Layout::kBhsd;
  if (name == "bshd") return Layout::kBshd;
  throw UsageError("unknown layout " + Quoted(name) + ": expected bhsd or bshd");
}

std::string ShapeString(std::span<const int64_t> extents) {
  std::string text = "(";
  for (size_t i = 0; i < extents.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(extents[i]);
  return text + (extents.size() == 1 ? ",)" : ")");
}

int64_t ElementCount(const Extents& shape, int64_t element_bytes) {
  if (shape.size() > Tensor::kMaxDimensions) {
    throw UsageError("a shape has " + std::to_string(shape.size()) + " dimensions: expected at most " +
                     std::to_string(Tensor::kMaxDimensions));
  }
  constexpr int64_t kMost = int64_t{1} << 62;
  int64_t bytes = element_bytes;
  bool empty = false;
  for (const int64_t extent : shape) {
    if (extent < 0) throw UsageError("shape " + ShapeString(shape) + " has a negative extent");
    if (extent == 0) {
      empty = true;
      continue;
    }
    if (bytes > kMost / extent) throw UsageError("shape " + ShapeString(shape) + " has more than 2^62 bytes");
    bytes *= extent;
  }
  return empty ? 0 : bytes / element_bytes;
}

Tensor Tensor::Zeros(ElementType type, Extents shape) {
  const int64_t count = ElementCount(shape, type.bytes());
  Extents strides = DenseStrides(shape, Order::kRowMajor);
  return {type, std::move(shape), std::move(strides), count, Buffer::Zeros(count * type.bytes())};
}

Tensor Tensor::FromBits(ElementType type, Extents shape, std::span<const uint64_t> bits) {
  const int64_t count = ElementCount(shape, type.bytes());
  if (static_cast<size_t>(count) != bits.size()) {
    throw UsageError("shape " + ShapeString(shape) + " has " + std::to_string(count) + " elements, but " +
                     std::to_string(bits.size()) + " are given");
  }
  Tensor tensor = Zeros(type, std::move(shape));
  std::byte* to = tensor.buffer_.data();
  for (const uint64_t value : bits) {
    if (!Fits(value, type.bytes()))
      throw UsageError(std::to_string(value) + " does not fit an element of " + Name(type));
    std::memcpy(to, &value, static_cast<size_t>(type.bytes()));
    to += type.bytes();
  }
  return tensor;
}

Tensor Tensor::FromBuffer(ElementType type, Extents shape, Buffer buffer, Order order) {
  const int64_t count = ElementCount(shape, type.bytes());
  if (count * type.bytes() != buffer.bytes()) {
    throw UsageError("shape " + ShapeString(shape) + " of " + Name(type) + " has " +
                     std::to_string(count * type.bytes()) + " bytes, but the buffer has " +
                     std::to_string(buffer.bytes()));
  }
  Extents strides = DenseStrides(shape, order);
  return {type, std::move(shape), std::move(strides), count, std::move(buffer)};
}

std::byte* Tensor::Address(std::span<const int64_t> index) const {
  bool inside = index.size() == shape_.size();
  int64_t offset = 0;
  for (size_t i = 0; inside && i < index.size(); ++i) {
    inside = index[i] >= 0 && index[i] < shape_[i];
    if (inside) offset += index[i] * strides_[i];
  }
  if (!inside) throw UsageError("index " + ShapeString(index) + " is outside of shape " + ShapeString(shape_));
  return buffer_.data() + offset * type_.bytes();
}

uint64_t Tensor::Bits(std::span<const int64_t> index) const { return LoadBits(Address(index), type_.bytes()); }

void Tensor::SetBits(std::span<const int64_t> index, uint64_t bits) {
  if (!Fits(bits, type_.bytes())) throw UsageError(std::to_string(bits) + " does not fit an element of " + Name(type_));
  std::memcpy(Address(index), &bits, static_cast<size_t>(type_.bytes()));
}

bool Tensor::IsContiguous() const { return count_ == 0 || DenseTail(shape_, strides_) == shape_.size(); }

Buffer Tensor::ContiguousBytes() const {
  assert(IsContiguous());
  return buffer_.Part(0, bytes());
}

Tensor Tensor::Contiguous() const { return IsContiguous() ? *this : Clone(); }

Tensor Tensor::Clone() const {
  Buffer copy = Buffer::Uninitialized(bytes());
  if (count_ > 0) CopyDense(*this, DenseTail(shape_, strides_), 0, buffer_.data(), copy.data());
  return {type_, shape_, DenseStrides(shape_, Order::kRowMajor), count_, std::move(copy)};
}

Tensor Tensor::View(ElementType type) const {
  if (type.bytes() != type_.bytes()) {
    throw UsageError("elements of " + Name(type_) + " (" + std::to_string(type_.bytes()) +
                     " bytes) cannot be viewed as " + Name(type) + " (" + std::to_string(type.bytes()) + " bytes)");
  }
  const bool tf32 = type_ == Format::kFp32 && type == Format::kTf32;  // a tf32 number is an fp32 number
  if (!type_.IsInteger() && !type.IsInteger() && type != type_ && !tf32) {
    throw UsageError("elements of " + Name(type_) + " cannot be viewed as " + Name(type) +
                     ": expected integers of the same size, or the same format");
  }
  Tensor view = *this;
  view.type_ = type;
  return view;
}

void Tensor::RequireDimension(int64_t dimension) const {
  if (dimension < 0 || dimension >= dimensions()) {
    throw UsageError("dimension " + std::to_string(dimension) + " is not one of shape " + ShapeString(shape_));
  }
}

Tensor Tensor::Slice(int64_t dimension, int64_t begin, int64_t end) const {
  RequireDimension(dimension);
  const auto d = static_cast<size_t>(dimension);
  if (begin < 0 || end < begin || end > shape_[d]) {
    throw UsageError("slice " + std::to_string(begin) + ":" + std::to_string(end) + " of dimension " +
                     std::to_string(dimension) + " is outside of shape " + ShapeString(shape_));
  }
  Tensor slice = *this;
  slice.shape_[d] = end - begin;
  slice.count_ = ElementCount(slice.shape_, type_.bytes());
  // An empty slice may begin where the storage ends.
  const int64_t offset = slice.count_ == 0 ? 0 : begin * strides_[d] * type_.bytes();
  slice.buffer_ = buffer_.Part(offset, buffer_.bytes() - offset);
  return slice;
}

Tensor Tensor::Select(int64_t dimension, int64_t index) const {
  RequireDimension(dimension);
  const auto d = static_cast<size_t>(dimension);
  if (index < 0 || index >= shape_[d]) {
    throw UsageError("index " + std::to_string(index) + " of dimension " + std::to_string(dimension) +
                     " is outside of shape " + ShapeString(shape_));
  }
  Tensor selected = Slice(dimension, index, index + 1);
  selected.shape_.erase(selected.shape_.begin() + dimension);
  selected.strides_.erase(selected.strides_.begin() + dimension);
  return selected;
}

Tensor Tensor::Permuted(const Extents& order) const {
  Extents sorted = order, identity(shape_.size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(identity.begin(), identity.end(), 0);
  if (sorted != identity) {
    throw UsageError("order " + ShapeString(order) + " is not a permutation of the dimensions of shape " +
                     ShapeString(shape_));
  }
  Tensor permuted = *this;
  for (size_t i = 0; i < order.size(); ++i) {
    permuted.shape_[i] = shape_[static_cast<size_t>(order[i])];
    permuted.strides_[i] = strides_[static_cast<size_t>(order[i])];
  }
  return permuted;
}

Tensor Tensor::ToLayout(Layout from, Layout to) const {
  if (dimensions() != 4) {
    throw UsageError("a tensor of shape " + ShapeString(shape_) + " has no layout " + std::string(Name(from)) +
                     ": expected 4 dimensions");
  }
  return from == to ? *this : Permuted({0, 2, 1, 3});
}

Tensor Tensor::Reshaped(Extents shape) const {
  if (ElementCount(shape, type_.bytes()) != count_) {
    throw UsageError("shape " + ShapeString(shape_) + " cannot become " + ShapeString(shape) +
                     ": expected the same number of elements");
  }
  return FromBuffer(type_, std::move(shape), Contiguous().ContiguousBytes());
}

bool operator==(const Tensor& a, const Tensor& b) {
  if (a.type() != b.type() || a.shape() != b.shape()) return false;
  if (a.count() == 0) return true;
  const Buffer x = a.Contiguous().ContiguousBytes(), y = b.Contiguous().ContiguousBytes();
  return std::memcmp(x.data(), y.data(), static_cast<size_t>(x.bytes())) == 0;
}

std::vector<int64_t> ToIntegers(const Tensor& tensor) {
  if (!tensor.type().IsInteger()) throw UsageError("expected integers, but the elements are " + Name(tensor.type()));
  const Buffer buffer = tensor.Contiguous().ContiguousBytes();
  const int64_t bytes = tensor.type().bytes();
  std::vector<int64_t> integers(static_cast<size_t>(tensor.count()));
  for (size_t i = 0; i < integers.size(); ++i) {
    const uint64_t bits = LoadBits(buffer.data() + static_cast<int64_t>(i) * bytes, bytes);
    const int unused = static_cast<int>(64 - 8 * bytes);
    const int64_t value = static_cast<int64_t>(bits << unused) >> unused;  // sign-extended
    integers[i] = tensor.type().IsSigned() ? value : static_cast<int64_t>(bits);
    if (!tensor.type().IsSigned() && integers[i] < 0) throw UsageError(std::to_string(bits) + " does not fit int64");
  }
  return integers;
}

}  // namespace bitflash::data
