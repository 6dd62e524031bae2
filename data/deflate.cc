#include "data/deflate.h"

#include <zlib.h>

#include <algorithm>
#include <cassert>
#include <new>
#include <string>

#include "data/error.h"

namespace bitflash::data {
namespace {

constexpr int kRaw = -MAX_WBITS;              // negative: no zlib header or checksum (zlib.h, inflateInit2)
constexpr int64_t kSlice = int64_t{1} << 30;  // zlib counts in 32 bits, so that both sides are fed in slices

uInt SliceOf(int64_t bytes) { return static_cast<uInt>(std::min(bytes, kSlice)); }

Buffer Allocate(uint64_t bytes) {
  try {
    return Buffer::Uninitialized(static_cast<int64_t>(bytes));
  } catch (const std::bad_alloc&) {
    throw InputError("needs " + std::to_string(bytes) + " bytes of memory, which are not available");
  }
}

}  // namespace

Buffer Inflate(const Buffer& compressed, uint64_t bytes) {
  constexpr uint64_t kMostExpansion = 1032;
  const auto compressed_bytes = static_cast<uint64_t>(compressed.bytes());
  if (bytes / kMostExpansion > compressed_bytes) {
    throw InputError("said to decompress from " + std::to_string(compressed_bytes) + " to " + std::to_string(bytes) +
                     " bytes, but deflate expands at most 1032 times");
  }
  Buffer content = Allocate(bytes);
  z_stream stream{};
  if (inflateInit2(&stream, kRaw) != Z_OK) throw InputError("zlib cannot start to decompress");
  // zlib refuses null pointers even where there is nothing to read or write.
  Bytef nothing = 0;
  stream.next_in = compressed.bytes() == 0 ? &nothing : reinterpret_cast<Bytef*>(compressed.data());
  stream.next_out = content.bytes() == 0 ? &nothing : reinterpret_cast<Bytef*>(content.data());
  int64_t in_left = compressed.bytes(), out_left = content.bytes();
  int status = Z_OK;
  while (status == Z_OK) {  // until the stream ends, is invalid, or one side has nothing left (Z_BUF_ERROR)
    const uInt in = SliceOf(in_left), out = SliceOf(out_left);
    stream.avail_in = in;
    stream.avail_out = out;
    status = inflate(&stream, Z_NO_FLUSH);
    in_left -= in - stream.avail_in;
    out_left -= out - stream.avail_out;
  }
  const std::string message = stream.msg == nullptr ? "" : std::string(": ") + stream.msg;
  inflateEnd(&stream);
  const std::string declared = "the " + std::to_string(bytes) + " bytes that the archive says";
  if (status == Z_MEM_ERROR) throw InputError("not enough memory to decompress");
  if (status == Z_BUF_ERROR && in_left == 0) throw InputError("its compressed data is cut off");
  if (status == Z_BUF_ERROR) throw InputError("decompresses to more than " + declared);
  if (status != Z_STREAM_END) throw InputError("its compressed data is invalid" + message);
  if (out_left != 0) {
    throw InputError("decompresses to " + std::to_string(content.bytes() - out_left) + " instead of " + declared);
  }
  if (in_left != 0) throw InputError(std::to_string(in_left) + " bytes after the end of its compressed data");
  return content;
}

std::vector<Buffer> Deflate(const std::vector<Buffer>& pieces) {
  z_stream stream{};
  constexpr int kDefaultMemory = 8;
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kRaw, kDefaultMemory, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  // Ends the stream also when an allocation below throws.
  const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, deflateEnd);
  constexpr int64_t kPieceBytes = 1 << 16;
  std::vector<Buffer> compressed;
  const auto run = [&](int flush) {
    int status = Z_OK;
    do {
      Buffer piece = Buffer::Uninitialized(kPieceBytes);
      stream.next_out = reinterpret_cast<Bytef*>(piece.data());
      stream.avail_out = static_cast<uInt>(kPieceBytes);
      status = deflate(&stream, flush);
      assert(status != Z_STREAM_ERROR);
      const int64_t written = kPieceBytes - stream.avail_out;
      // A piece that is mostly empty must not keep its whole allocation.
      if (written > 0) compressed.push_back(Buffer::CopyOf(piece.span().first(static_cast<size_t>(written))));
    } while (stream.avail_out == 0 || (flush == Z_FINISH && status != Z_STREAM_END));
  };
  for (const Buffer& piece : pieces) {
    for (int64_t offset = 0; offset < piece.bytes(); offset += kSlice) {
      stream.next_in = reinterpret_cast<Bytef*>(piece.data() + offset);
      stream.avail_in = SliceOf(piece.bytes() - offset);
      run(Z_NO_FLUSH);
    }
  }
  run(Z_FINISH);
  return compressed;
}

}  // namespace bitflash::data
