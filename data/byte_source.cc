#include "data/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace bitflash::data {

InputError ByteSource::Error(std::string_view what) const { return InputError(origin_ + ": " + std::string(what)); }

Buffer ByteSource::Load(int64_t offset, int64_t bytes, std::string_view what) const {
  if (offset < 0 || bytes < 0 || offset > bytes_ || bytes > bytes_ - offset) {
    throw Error(std::string(what) + " (" + std::to_string(bytes) + " bytes from byte " + std::to_string(offset) +
                ") ends after the last of the " + std::to_string(bytes_) + " bytes");
  }
  try {
    return DoLoad(offset, bytes);
  } catch (const std::bad_alloc&) {
    throw Error(std::string(what) + " needs " + std::to_string(bytes) + " bytes of memory, which are not available");
  }
}

Buffer MemorySource::DoLoad(int64_t offset, int64_t bytes) const {
  Buffer part = buffer_.Part(offset, bytes);
  return reinterpret_cast<uintptr_t>(part.data()) % 8 == 0 ? part : Buffer::CopyOf(part.span());
}

FileSource::Opened FileSource::Open(const std::string& path) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer; it has no effect on a regular file.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw InputError(path + ": cannot be opened: " + std::strerror(errno));
  struct stat status;
  const bool known = fstat(descriptor, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    close(descriptor);
    throw InputError(path + ": not a regular file");
  }
  return {descriptor, status.st_size};
}

FileSource::~FileSource() { close(descriptor_); }

Buffer FileSource::DoLoad(int64_t offset, int64_t bytes) const {
  Buffer buffer = Buffer::Uninitialized(bytes);
  for (int64_t done = 0; done < bytes;) {
    // Linux transfers at most 0x7ffff000 bytes a call (read(2)).
    const size_t wanted = static_cast<size_t>(std::min<int64_t>(bytes - done, 1 << 30));
    const ssize_t got = pread(descriptor_, buffer.data() + done, wanted, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) throw Error("became shorter while it was read");
    done += got;
  }
  return buffer;
}

}  // namespace bitflash::data
