#include "verify/plugin_host/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace bitflash::verify {
namespace {

constexpr int64_t kPendingBytes = 256 << 10;

[[noreturn]] void Fail(const char* what) {
  if (errno == ENOMEM || errno == ENOSPC) throw std::bad_alloc();
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

void Descriptor::Reset() {
  if (number_ >= 0) close(number_);
  number_ = -1;
}

MemoryFile::MemoryFile(int64_t bytes) : bytes_(bytes), pending_(std::min(bytes, kPendingBytes)) {
  file_ = Descriptor(memfd_create("bitflash-plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file_.get() < 0) Fail("memfd_create");
  // The length stays, so that nobody can take pages away from under a mapping.
  if (ftruncate(file_.get(), bytes) != 0) Fail("ftruncate");
  if (fcntl(file_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) Fail("F_ADD_SEALS");
}

MemoryFile::~MemoryFile() {
  if (mapped_ != nullptr) munmap(mapped_, bytes_);
}

void MemoryFile::Append(const void* bytes, int64_t size) {
  for (auto from = static_cast<const std::byte*>(bytes); size > 0;) {
    if (used_ == pending_.size()) Flush();
    const int64_t part = std::min<int64_t>(size, pending_.size() - used_);
    std::memcpy(&pending_[used_], from, part);
    used_ += part;
    from += part;
    size -= part;
  }
}

void MemoryFile::Fill(int byte, int64_t size) {
  while (size > 0) {
    if (used_ == pending_.size()) Flush();
    const int64_t part = std::min<int64_t>(size, pending_.size() - used_);
    std::memset(&pending_[used_], byte, part);
    used_ += part;
    size -= part;
  }
}

void MemoryFile::Flush() {
  for (size_t written = 0; written < used_;) {
    const ssize_t part = write(file_.get(), &pending_[written], used_ - written);
    if (part < 0 && errno != EINTR) Fail("writing a memory file");
    if (part > 0) written += part;
  }
  used_ = 0;
}

const std::byte* MemoryFile::Map() {
  if (mapped_ == nullptr) {
    void* mapped = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED | MAP_POPULATE, file_.get(), 0);
    if (mapped == MAP_FAILED) Fail("mmap");
    mapped_ = mapped;
  }
  return static_cast<const std::byte*>(mapped_);
}

Descriptor MemoryFile::SealReadOnly() {
  Flush();
  if (fcntl(file_.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) != 0) Fail("F_SEAL_WRITE");
  // A read-only descriptor besides the seal: before Linux 6.7 a sealed file cannot be mapped MAP_SHARED through a
  // writable one, and mprotect() refuses to make a mapping of this one writable.
  Descriptor reader(open(("/proc/self/fd/" + std::to_string(file_.get())).c_str(), O_RDONLY | O_CLOEXEC));
  if (reader.get() < 0) Fail("reopening a memory file");
  return reader;
}

}  // namespace bitflash::verify
