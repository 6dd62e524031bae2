#include "verify/plugin_host/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace bitflash::verify {
namespace {

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

MemoryFile::MemoryFile(int64_t bytes) : bytes_(bytes) {
  file_ = Descriptor(memfd_create("bitflash-plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file_.get() < 0) Fail("memfd_create");
  // The length stays, so that nobody can take pages away from under a mapping.
  if (ftruncate(file_.get(), bytes) != 0) Fail("ftruncate");
  if (fcntl(file_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) Fail("F_ADD_SEALS");
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (data == MAP_FAILED) Fail("mmap");
  data_ = static_cast<std::byte*>(data);
}

MemoryFile::~MemoryFile() { Unmap(); }

void MemoryFile::Unmap() {
  if (data_ != nullptr) munmap(data_, bytes_);
  data_ = nullptr;
}

Descriptor MemoryFile::SealReadOnly() {
  Unmap();
  if (fcntl(file_.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) != 0) Fail("F_SEAL_WRITE");
  // A read-only descriptor besides the seal: before Linux 6.7 a sealed file cannot be mapped MAP_SHARED through a
  // writable one, and mprotect() refuses to make a mapping of this one writable.
  Descriptor reader(open(("/proc/self/fd/" + std::to_string(file_.get())).c_str(), O_RDONLY | O_CLOEXEC));
  if (reader.get() < 0) Fail("reopening a memory file");
  return reader;
}

}  // namespace bitflash::verify
