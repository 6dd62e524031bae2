// Anonymous memory that is handed to the plug-in's process: no name anywhere, gone with its last descriptor.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_FILE_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_FILE_H_

#include <cstddef>
#include <cstdint>

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

// A memory file of fixed length, zeros at first, mapped here for reading and writing. Throws std::system_error, or
// std::bad_alloc when there is no room.
class MemoryFile {
 public:
  explicit MemoryFile(int64_t bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::byte* data() const { return data_; }
  int descriptor() const { return file_.get(); }

  // Unmaps it here, seals the content for everyone, and returns a descriptor that can only read.
  Descriptor SealReadOnly();

 private:
  void Unmap();

  Descriptor file_;
  std::byte* data_ = nullptr;
  int64_t bytes_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_FILE_H_
