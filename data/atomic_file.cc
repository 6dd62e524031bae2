#include "data/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "data/error.h"

namespace bitflash::data {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Fail(const std::string& path, int error) {
  throw InputError(path + ": cannot be written: " + std::strerror(error));
}

constexpr mode_t kMode = 0666;  // the process's umask decides, as for any file that a program writes

// A new file in the target's folder, gone on destruction unless it was renamed to the target. Where the file system
// can, it has no name until it is complete, so that a process that is interrupted leaves nothing behind.
class TemporaryFile {
 public:
  explicit TemporaryFile(const fs::path& target) : target_(target) {
    if (access("/proc/self/fd", X_OK) == 0) {  // where an open file gets its name from
      descriptor_ = open(target.parent_path().c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, kMode);
    }
    if (descriptor_ >= 0) return;
    Name([&] { return descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode); });
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) close(descriptor_);
    if (!path_.empty() && !renamed_) unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = write(descriptor_, bytes.data(), std::min<size_t>(bytes.size(), 1 << 30));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) Fail(target_, errno);
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }

  void Publish(std::optional<mode_t> mode) {
    if (mode && fchmod(descriptor_, *mode) != 0) Fail(target_, errno);
    if (fsync(descriptor_) != 0) Fail(target_, errno);
    if (path_.empty()) {
      const std::string open_file = "/proc/self/fd/" + std::to_string(descriptor_);
      Name([&] { return linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW); });
    }
    if (close(std::exchange(descriptor_, -1)) != 0) Fail(target_, errno);
    if (rename(path_.c_str(), target_.c_str()) != 0) Fail(target_, errno);
    renamed_ = true;
  }

 private:
  // The first name that `create` finds free; it returns a negative number and sets errno where it cannot.
  template <typename Create>
  void Name(const Create& create) {
    const fs::path folder = target_.parent_path();
    for (int attempt = 0;; ++attempt) {
      path_ = folder / (".bitflash-" + std::to_string(getpid()) + "-" + std::to_string(attempt) + ".tmp");
      if (create() >= 0) return;
      if (errno == EEXIST && attempt < 9999) continue;
      path_.clear();  // not ours to remove
      Fail(target_, errno);
    }
  }

  fs::path target_;
  fs::path path_;  // empty: no name yet
  int descriptor_ = -1;
  bool renamed_ = false;
};

// The rename itself survives a power failure only once the folder is synced. The data is safe either way, and some
// file systems refuse to sync a folder, so this is not an error.
void SyncFolder(const fs::path& folder) {
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  close(descriptor);
}

// Where the file will stand, and the permissions of the one that stands there.
struct Target {
  fs::path path;
  std::optional<mode_t> mode;
};

Target TargetOf(const std::string& path) {
  std::error_code error;
  Target target{fs::weakly_canonical(fs::absolute(path, error), error), {}};
  if (error) Fail(path, error.value());
  struct stat status;
  if (stat(target.path.c_str(), &status) == 0) {
    if (!S_ISREG(status.st_mode)) throw InputError(path + ": cannot be written: it exists and is not a regular file");
    target.mode = status.st_mode & 07777;
  }
  return target;
}

}  // namespace

struct AtomicFile::State {
  explicit State(const std::string& path) : target(TargetOf(path)), file(target.path) {}
  Target target;
  TemporaryFile file;
};

AtomicFile::AtomicFile(const std::string& path) : state_(std::make_unique<State>(path)) {}
AtomicFile::~AtomicFile() = default;

void AtomicFile::Write(std::span<const std::byte> bytes) { state_->file.Write(bytes); }
void AtomicFile::Write(std::string_view text) { Write(std::as_bytes(std::span(text))); }

void AtomicFile::Commit() {
  state_->file.Publish(state_->target.mode);
  SyncFolder(state_->target.path.parent_path());
}

void WriteFileAtomically(const std::string& path, const std::vector<Buffer>& pieces) {
  AtomicFile file(path);
  for (const Buffer& piece : pieces) file.Write(piece.span());
  file.Commit();
}

void WriteFileAtomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.Write(text);
  file.Commit();
}

}  // namespace bitflash::data
