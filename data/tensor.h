// Tensors of raw bits: what files hold, simulated kernels write and comparisons read.
#ifndef BITFLASH_DATA_TENSOR_H_
#define BITFLASH_DATA_TENSOR_H_

#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/buffer.h"
#include "data/element_type.h"

namespace bitflash::data {

// Order of the four dimensions of Q, K, V and O: batch, sequence, heads, head_dim. FlashAttention takes bshd, PyTorch's
// scaled_dot_product_attention and bitflash's kernels take bhsd.
enum class Layout : uint8_t { kBhsd, kBshd };

// "bhsd" or "bshd"; ParseLayout throws UsageError with the accepted names.
std::string_view Name(Layout layout);
Layout ParseLayout(std::string_view name);

// Elements of a shape. Throws UsageError when an extent is negative, there are more than Tensor::kMaxDimensions, or the
// bytes of the extents other than 0 pass 2^62 (so that neither a stride nor an offset overflows).
int64_t ElementCount(const std::vector<int64_t>& shape, int64_t element_bytes);

// "(3, 4)", "(3,)", "()": a shape or an index as NumPy prints it.
std::string ShapeString(std::span<const int64_t> extents);

// Elements of one type in a box of any number of dimensions, one stride each. Copies and views share the elements, as
// copies of std::shared_ptr do. Values are bits here; what they mean is data/convert.h's business. Little-endian.
class Tensor {
 public:
  // NumPy's limit since 2.0 (NPY_MAXDIMS).
  static constexpr size_t kMaxDimensions = 64;

  // Shape (0,) of fp32.
  Tensor() : Tensor(Zeros(Format::kFp32, {0})) {}

  // Owned elements in row-major order, all bits zero. This and the next two throw UsageError where ElementCount does.
  static Tensor Zeros(ElementType type, std::vector<int64_t> shape);

  // Owned elements in row-major order, one number of `bits` each, which must fit the type; UsageError otherwise.
  static Tensor FromBits(ElementType type, std::vector<int64_t> shape, std::span<const uint64_t> bits);
  static Tensor FromBits(ElementType type, std::vector<int64_t> shape, std::initializer_list<uint64_t> bits) {
    return FromBits(type, std::move(shape), std::span(bits.begin(), bits.size()));
  }

  // The buffer's bytes, shared, as elements in row-major or in column-major order (the first index runs fastest).
  // Throws UsageError when the buffer does not have exactly the bytes of the shape.
  enum class Order : uint8_t { kRowMajor, kColumnMajor };
  static Tensor FromBuffer(ElementType type, std::vector<int64_t> shape, Buffer buffer, Order order = Order::kRowMajor);

  const ElementType& type() const { return type_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  const std::vector<int64_t>& strides() const { return strides_; }  // in elements
  int64_t dimensions() const { return static_cast<int64_t>(shape_.size()); }
  int64_t count() const { return count_; }                  // elements
  int64_t bytes() const { return count_ * type_.bytes(); }  // of the elements, not of the storage

  // The bits of one element, in the low bits. Throws UsageError unless there is an index for every dimension and it is
  // inside the shape.
  uint64_t Bits(std::span<const int64_t> index) const;
  uint64_t Bits(std::initializer_list<int64_t> index) const { return Bits(std::span(index.begin(), index.size())); }
  void SetBits(std::span<const int64_t> index, uint64_t bits);
  void SetBits(std::initializer_list<int64_t> index, uint64_t bits) {
    SetBits(std::span(index.begin(), index.size()), bits);
  }

  // True when the elements lie in row-major order without gaps.
  bool IsContiguous() const;

  // All elements in row-major order, for tight loops. Requires IsContiguous(), sizeof(T) == type().bytes(), and that a
  // buffer given to FromBuffer was aligned for T (those of files and of this class are).
  template <typename T>
  std::span<const T> Elements() const {
    assert(IsContiguous() && static_cast<int64_t>(sizeof(T)) == type_.bytes());
    assert(reinterpret_cast<uintptr_t>(buffer_.data()) % alignof(T) == 0);
    return {reinterpret_cast<const T*>(buffer_.data()), static_cast<size_t>(count_)};
  }
  template <typename T>
  std::span<T> Elements() {
    const std::span<const T> elements = std::as_const(*this).template Elements<T>();
    return {const_cast<T*>(elements.data()), elements.size()};
  }

  // The bytes of a contiguous tensor; shared.
  Buffer ContiguousBytes() const;

  // This tensor when it is contiguous, else a row-major copy.
  Tensor Contiguous() const;

  // A row-major copy that shares nothing.
  Tensor Clone() const;

  // The same bits as another type of the same size: u16 or i16 as bf16, u8 as e4m3, fp16 as u16, fp32 as tf32.
  // Throws UsageError when the sizes differ, and when one format would silently be read as another (fp16 as bf16).
  Tensor View(ElementType type) const;

  // The elements begin <= index < end of one dimension. Throws UsageError unless 0 <= begin <= end <= extent.
  Tensor Slice(int64_t dimension, int64_t begin, int64_t end) const;

  // The elements at one index of a dimension, which disappears. Throws UsageError.
  Tensor Select(int64_t dimension, int64_t index) const;

  // Dimension i of the result is dimension order[i] of this. Throws UsageError unless `order` is a permutation.
  Tensor Permuted(const std::vector<int64_t>& order) const;

  // A tensor of 4 dimensions in `from` seen in `to`. Throws UsageError for other numbers of dimensions.
  Tensor ToLayout(Layout from, Layout to) const;

  // The elements in row-major order under another shape of the same count; shared when contiguous, else a copy.
  // Throws UsageError when the counts differ.
  Tensor Reshaped(std::vector<int64_t> shape) const;

 private:
  Tensor(ElementType type, std::vector<int64_t> shape, std::vector<int64_t> strides, int64_t count, Buffer buffer)
      : type_(type), shape_(std::move(shape)), strides_(std::move(strides)), count_(count), buffer_(buffer) {}
  void RequireDimension(int64_t dimension) const;
  std::byte* Address(std::span<const int64_t> index) const;

  ElementType type_;
  std::vector<int64_t> shape_;
  std::vector<int64_t> strides_;
  int64_t count_;
  Buffer buffer_;  // starts at the element of index (0, ..., 0)
};

// Same type, same shape, same bits; strides may differ. A NaN equals itself, +0 differs from -0.
bool operator==(const Tensor& a, const Tensor& b);

// The elements in row-major order. Throws UsageError unless the type is an integer and every value fits int64.
std::vector<int64_t> ToIntegers(const Tensor& tensor);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_TENSOR_H_
