// Bytes that are shared and never move: the storage of tensors and the content of files.
#ifndef BITFLASH_DATA_BUFFER_H_
#define BITFLASH_DATA_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace bitflash::data {

// A range of bytes and a share in whoever owns them. Copies refer to the same bytes, as with std::shared_ptr.
class Buffer {
 public:
  // Owned buffers start on this boundary: a cache line, and the widest SIMD vector.
  static constexpr size_t kAlignment = 64;

  Buffer() = default;

  // Owned, with unspecified content. Throws std::bad_alloc.
  static Buffer Uninitialized(int64_t bytes);
  static Buffer Zeros(int64_t bytes);
  static Buffer CopyOf(std::span<const std::byte> bytes);
  static Buffer CopyOf(std::string_view bytes);
  // Not owned: the caller keeps the bytes alive for as long as any copy of the buffer.
  static Buffer Borrow(std::span<std::byte> bytes);

  // The bytes [offset, offset + bytes), which must lie inside; shares ownership.
  Buffer Part(int64_t offset, int64_t bytes) const;

  std::byte* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }
  std::span<std::byte> span() const { return {data(), static_cast<size_t>(bytes_)}; }

 private:
  Buffer(std::shared_ptr<std::byte> data, int64_t bytes) : data_(std::move(data)), bytes_(bytes) {}

  std::shared_ptr<std::byte> data_;  // points at the first byte, owns the whole allocation
  int64_t bytes_ = 0;
};

// One owned buffer with the bytes of all pieces in order.
Buffer Concatenated(const std::vector<Buffer>& pieces);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_BUFFER_H_
