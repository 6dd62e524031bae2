// Where a reader takes its bytes from: a file, part by part, or memory.
#ifndef BITFLASH_DATA_BYTE_SOURCE_H_
#define BITFLASH_DATA_BYTE_SOURCE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "data/buffer.h"
#include "data/error.h"

namespace bitflash::data {

// Readers take what they need with Load, each tensor once, so that reading a file needs its size in memory and not
// twice that, and a file that shrinks meanwhile is an error (of a mapped file it would be a SIGBUS).
class ByteSource {
 public:
  ByteSource(int64_t bytes, std::string origin) : bytes_(bytes), origin_(std::move(origin)) {}
  virtual ~ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  int64_t bytes() const { return bytes_; }

  // What errors call it: the file's path, or "FILE: entry 'q.npy'".
  const std::string& origin() const { return origin_; }

  // The bytes [offset, offset + bytes), aligned to 8 bytes or better. Throws InputError when the source has fewer
  // (before anything is allocated) or cannot be read; `what` names them in the message: "the header".
  Buffer Load(int64_t offset, int64_t bytes, std::string_view what) const;

  // The exception "ORIGIN: WHAT".
  InputError Error(std::string_view what) const;

 private:
  virtual Buffer DoLoad(int64_t offset, int64_t bytes) const = 0;

  int64_t bytes_;
  std::string origin_;
};

// Bytes in memory. Parts that are aligned are shared, others copied.
class MemorySource : public ByteSource {
 public:
  MemorySource(Buffer buffer, std::string origin) : ByteSource(buffer.bytes(), std::move(origin)), buffer_(buffer) {}

 private:
  Buffer DoLoad(int64_t offset, int64_t bytes) const override;

  Buffer buffer_;
};

// A regular file, opened for reading.
class FileSource : public ByteSource {
 public:
  // Throws InputError when the file cannot be opened or is not a regular file.
  explicit FileSource(const std::string& path) : FileSource(path, Open(path)) {}
  ~FileSource() override;

 private:
  struct Opened {
    int descriptor;
    int64_t bytes;
  };
  static Opened Open(const std::string& path);
  FileSource(const std::string& path, Opened opened) : ByteSource(opened.bytes, path), descriptor_(opened.descriptor) {}
  Buffer DoLoad(int64_t offset, int64_t bytes) const override;

  int descriptor_;
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_BYTE_SOURCE_H_
