// Writing a file so that its path never names half of it.
#ifndef BITFLASH_DATA_ATOMIC_FILE_H_
#define BITFLASH_DATA_ATOMIC_FILE_H_

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/buffer.h"

namespace bitflash::data {

// A file that takes the place of `path` once it is complete: written piece by piece to a temporary file beside it, for
// what is too long to be held in memory. Without Commit nothing happens to `path`, and the temporary file is removed.
// Every function throws InputError that names the path and the cause. Only regular files are replaced: /dev/null and
// named pipes are refused. An existing file keeps its permissions; a symbolic link is followed.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();

  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text);
  // Syncs to disk and renames: a reader sees the old content or the new one.
  void Commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Writes the pieces in order, as AtomicFile does.
void WriteFileAtomically(const std::string& path, const std::vector<Buffer>& pieces);
void WriteFileAtomically(const std::string& path, std::string_view text);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_ATOMIC_FILE_H_
