// Zip archives of named byte strings, as far as .npz files need them (PKWARE APPNOTE.TXT 6.3.10).
#ifndef BITFLASH_DATA_ZIP_H_
#define BITFLASH_DATA_ZIP_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_source.h"

namespace bitflash::data {

enum class Compression : uint8_t { kStored, kDeflated };

// All of an archive may decompress to 4 GiB or 100 times its own size, whichever is more, and one entry to 1032 times
// its compressed size, deflate's own limit (zlib FAQ, "maximum compression factor"). Archives beyond are zip bombs.
inline constexpr int64_t kZipExpansion = 100;
inline constexpr int64_t kZipExpansionFloor = int64_t{1} << 32;

// Calls `visit` with every entry of the archive, in the order of its directory; the content's CRC has been checked.
// Stricter than the format: entries fill the file from its first byte to the central directory without overlap or gap,
// local and central header agree, names are relative paths in UTF-8 without "." or ".." and are unique, and there is no
// archive comment. Stored and deflated entries, data descriptors and zip64 are read; encryption, other methods and
// several disks are refused. Throws InputError that names the origin, the entry and what is wrong.
void ReadZip(const ByteSource& source, const std::function<void(const std::string& name, Buffer content)>& visit);

struct ZipEntry {
  std::string name;             // as ReadZip wants it
  std::vector<Buffer> content;  // in pieces
};

// The bytes of an archive, in pieces that share stored contents. Sizes in local headers are zip64 as NumPy writes them;
// the directory uses zip64 where a number reaches `zip64_from` (fewer than the format's 2^32 - 1 is for tests). Dates
// are 1980-01-01, so that equal contents give equal archives. Throws UsageError for a name that ReadZip refuses.
std::vector<Buffer> SerializeZip(const std::vector<ZipEntry>& entries, Compression compression,
                                 uint64_t zip64_from = 0xFFFFFFFF);

// Empty when the name can be an entry's, else what is wrong with it: "has the component '..'".
std::string ZipNameProblem(std::string_view name);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_ZIP_H_
