// Anonymous memory that is handed to the plug-in's process: no name anywhere, gone with its last descriptor.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_FILE_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_FILE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bitflash::verify {

// A descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { Reset(); }
  Descriptor(Descriptor&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const { return number_; }
  void Reset();

 private:
  int number_ = -1;
};

// A memory file of fixed length. It is written in order with write(), which costs a fraction of the page faults that
// filling a new mapping does. Throws std::system_error, or std::bad_alloc when there is no room.
class MemoryFile {
 public:
  explicit MemoryFile(int64_t bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int descriptor() const { return file_.get(); }

  // What comes next.
  void Append(const void* bytes, int64_t size);
  void Fill(int byte, int64_t size);
  // Call it when all has been appended.
  void Flush();

  // The content as it is now, mapped for reading until this goes.
  const std::byte* Map();

  // Flushes, seals the content for everyone, and returns a descriptor that can only read.
  Descriptor SealReadOnly();

 private:
  Descriptor file_;
  int64_t bytes_;
  std::vector<std::byte> pending_;
  size_t used_ = 0;  // of pending_
  void* mapped_ = nullptr;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_FILE_H_
