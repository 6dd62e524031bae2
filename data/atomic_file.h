// Writing a file so that its path never names half of it.
#ifndef BITFLASH_DATA_ATOMIC_FILE_H_
#define BITFLASH_DATA_ATOMIC_FILE_H_

#include <string>
#include <string_view>
#include <vector>

#include "data/buffer.h"

namespace bitflash::data {

// Writes the pieces in order to a temporary file beside `path`, syncs it to disk and renames it to `path`, so that a
// reader sees the old content or the new one. An existing file keeps its permissions; a symbolic link is followed.
// Throws InputError that names the path and the cause; then `path` is what it was and the temporary file is gone.
// Only regular files are replaced: /dev/null and named pipes are refused.
void WriteFileAtomically(const std::string& path, const std::vector<Buffer>& pieces);
void WriteFileAtomically(const std::string& path, std::string_view text);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_ATOMIC_FILE_H_
