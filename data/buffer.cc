#include "data/buffer.h"

#include <cassert>
#include <cstring>
#include <new>

namespace bitflash::data {

Buffer Buffer::Uninitialized(int64_t bytes) {
  assert(bytes >= 0);
  constexpr std::align_val_t kAlign{kAlignment};
  auto* data = static_cast<std::byte*>(::operator new(static_cast<size_t>(bytes), kAlign));
  return {std::shared_ptr<std::byte>(data, [](std::byte* p) { ::operator delete(p, kAlign); }), bytes};
}

Buffer Buffer::Zeros(int64_t bytes) {
  Buffer buffer = Uninitialized(bytes);
  std::memset(buffer.data(), 0, static_cast<size_t>(bytes));
  return buffer;
}

Buffer Buffer::CopyOf(std::span<const std::byte> bytes) {
  Buffer buffer = Uninitialized(static_cast<int64_t>(bytes.size()));
  if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return buffer;
}

Buffer Buffer::CopyOf(std::string_view bytes) { return CopyOf(std::as_bytes(std::span(bytes.data(), bytes.size()))); }

Buffer Buffer::Borrow(std::span<std::byte> bytes) {
  return {std::shared_ptr<std::byte>(std::shared_ptr<void>(), bytes.data()), static_cast<int64_t>(bytes.size())};
}

Buffer Buffer::Part(int64_t offset, int64_t bytes) const {
  assert(offset >= 0 && bytes >= 0 && offset <= bytes_ && bytes <= bytes_ - offset);
  return {std::shared_ptr<std::byte>(data_, data_.get() + offset), bytes};
}

Buffer Concatenated(const std::vector<Buffer>& pieces) {
  int64_t bytes = 0;
  for (const Buffer& piece : pieces) bytes += piece.bytes();
  Buffer all = Buffer::Uninitialized(bytes);
  int64_t offset = 0;
  for (const Buffer& piece : pieces) {
    if (piece.bytes() > 0) std::memcpy(all.data() + offset, piece.data(), static_cast<size_t>(piece.bytes()));
    offset += piece.bytes();
  }
  return all;
}

}  // namespace bitflash::data
