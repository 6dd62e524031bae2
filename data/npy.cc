#include "data/npy.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "data/npy_header.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr int64_t kPrefixBytes = 8;           // magic, major and minor version
constexpr int64_t kMaxHeaderBytes = 1 << 16;  // 64 dimensions of 19 digits need 1.4 KB; NumPy itself stops at 10,000

// What makes up the file before the data.
struct Prologue {
  std::string header;
  int64_t data_offset;
};

Prologue ReadPrologue(const ByteSource& source) {
  const Buffer prefix = source.Load(0, kPrefixBytes, "the .npy magic and version");
  const auto* bytes = reinterpret_cast<const unsigned char*>(prefix.data());
  if (std::memcmp(bytes, kMagic.data(), kMagic.size()) != 0) throw source.Error("not a .npy file: no \\x93NUMPY magic");
  const int major = bytes[6], minor = bytes[7];
  if (major < 1 || major > 3 || minor != 0) {
    throw source.Error("version " + std::to_string(major) + "." + std::to_string(minor) +
                       " of .npy: expected 1.0, 2.0 or 3.0");
  }
  const int64_t length_bytes = major == 1 ? 2 : 4;
  const Buffer length_field = source.Load(kPrefixBytes, length_bytes, "the header length");
  uint32_t length = 0;
  std::memcpy(&length, length_field.data(), static_cast<size_t>(length_bytes));
  if (length > kMaxHeaderBytes) {
    throw source.Error("a header of " + std::to_string(length) + " bytes: expected at most " +
                       std::to_string(kMaxHeaderBytes));
  }
  const int64_t header_offset = kPrefixBytes + length_bytes;
  const Buffer header = source.Load(header_offset, length, "the header");
  return {std::string(reinterpret_cast<const char*>(header.data()), length), header_offset + length};
}

struct Description {
  NpyHeader header;
  ElementType type;
  int64_t bytes;  // of all elements
};

// What the header says about the `follows` bytes after it; throws without an origin.
Description Describe(std::string_view header_text, int64_t follows) {
  NpyHeader header = ParseNpyHeader(header_text);
  const ElementType type = ParseNpyType(header.descr);
  int64_t bytes = 0;
  try {
    bytes = ElementCount(header.shape, type.bytes()) * type.bytes();
  } catch (const UsageError& error) {  // here the file chose the shape
    throw InputError(std::string("header says ") + error.what());
  }
  if (bytes != follows) {
    throw InputError("header says shape " + ShapeString(header.shape) + " of " + header.descr + " (" +
                     std::to_string(bytes) + " bytes), but " + std::to_string(follows) + " bytes follow");
  }
  return {std::move(header), type, bytes};
}

}  // namespace

Tensor ParseNpy(const ByteSource& source) {
  const Prologue prologue = ReadPrologue(source);
  Description description = [&] {
    try {
      return Describe(prologue.header, source.bytes() - prologue.data_offset);
    } catch (const InputError& error) {
      throw source.Error(error.what());
    }
  }();
  const auto order = description.header.fortran_order ? Tensor::Order::kColumnMajor : Tensor::Order::kRowMajor;
  return Tensor::FromBuffer(description.type, std::move(description.header.shape),
                            source.Load(prologue.data_offset, description.bytes, "the data"), order);
}

Tensor ParseNpy(std::span<const std::byte> bytes, std::string_view origin) {
  return ParseNpy(MemorySource(Buffer::CopyOf(bytes), std::string(origin)));
}

std::vector<Buffer> SerializeNpy(const Tensor& tensor) {
  std::string dictionary = "{'descr': '" + NpyType(tensor.type()) +
                           "', 'fortran_order': False, 'shape': " + ShapeString(tensor.shape()) + ", }";
  // The data starts on a multiple of 64 bytes (numpy/lib/format.py, ARRAY_ALIGN), the header ends in a newline.
  const size_t unpadded = kPrefixBytes + 2 + dictionary.size() + 1;
  dictionary.append((64 - unpadded % 64) % 64, ' ');
  dictionary += '\n';
  std::string prologue(kMagic);
  prologue += {'\1', '\0', static_cast<char>(dictionary.size() & 0xFF), static_cast<char>(dictionary.size() >> 8)};
  return {Buffer::CopyOf(prologue + dictionary), tensor.Contiguous().ContiguousBytes()};
}

}  // namespace bitflash::data
