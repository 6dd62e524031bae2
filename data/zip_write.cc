#include <zlib.h>

#include <algorithm>
#include <cassert>
#include <set>

#include "data/deflate.h"
#include "data/text.h"
#include "data/zip.h"
#include "data/zip_format.h"

namespace bitflash::data {
namespace {

constexpr uint16_t kVersion = 45;                // needed for zip64 (section 4.4.3)
constexpr uint16_t kMadeBy = 3 << 8 | kVersion;  // Unix, so that the attributes below are file modes
constexpr uint32_t kAttributes = 0100644u << 16;
constexpr uint32_t kDate = 0x00210000;  // 1980-01-01 00:00:00, the format's first (section 4.4.6)

// A record under construction: numbers, little-endian.
class Record {
 public:
  Record& U16(uint64_t value) { return Append(value, 2); }
  Record& U32(uint64_t value) { return Append(value, 4); }
  Record& U64(uint64_t value) { return Append(value, 8); }
  Record& Text(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  Record& Append(uint64_t value, int count) {
    assert(count == 8 || value >> (8 * count) == 0);
    for (int i = 0; i < count; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xFF);
    return *this;
  }

  std::string bytes_;
};

int64_t TotalBytes(const std::vector<Buffer>& pieces) {
  int64_t bytes = 0;
  for (const Buffer& piece : pieces) bytes += piece.bytes();
  return bytes;
}

class ZipWriter {
 public:
  ZipWriter(Compression compression, uint64_t zip64_from) : compression_(compression), zip64_from_(zip64_from) {}

  void Add(const ZipEntry& entry) {
    if (const std::string problem = ZipNameProblem(entry.name); !problem.empty()) {
      throw UsageError("the name " + Quoted(entry.name) + " of an archive's entry " + problem);
    }
    if (!names_.insert(entry.name).second) throw UsageError("two entries of an archive named " + Quoted(entry.name));
    uLong crc = 0;
    for (const Buffer& piece : entry.content) {
      // zlib takes a null pointer as the request for the initial value.
      if (piece.bytes() == 0) continue;
      crc = crc32_z(crc, reinterpret_cast<const Bytef*>(piece.data()), static_cast<size_t>(piece.bytes()));
    }
    const bool deflated = compression_ == Compression::kDeflated;
    const std::vector<Buffer> data = deflated ? Deflate(entry.content) : entry.content;
    const auto bytes = static_cast<uint64_t>(TotalBytes(entry.content));
    const auto compressed_bytes = static_cast<uint64_t>(TotalBytes(data));
    const uint16_t method = deflated ? zip::kMethodDeflated : zip::kMethodStored;
    const bool ascii = std::all_of(entry.name.begin(), entry.name.end(), [](char c) { return c >= 0; });
    const uint16_t flags = ascii ? 0 : zip::kFlagUtf8;

    const uint64_t offset = end_;
    Append(Record()
               .U32(zip::kLocalSignature)
               .U16(kVersion)
               .U16(flags)
               .U16(method)
               .U32(kDate)
               .U32(crc)
               .U32(zip::kIn64)
               .U32(zip::kIn64)
               .U16(entry.name.size())
               .U16(20)
               .Text(entry.name)
               .U16(zip::kZip64Extra)
               .U16(16)
               .U64(bytes)
               .U64(compressed_bytes));
    for (const Buffer& piece : data) Append(piece);

    Record extra;
    const auto narrow = [&](uint64_t value) {
      if (value < zip64_from_) return value;
      extra.U64(value);
      return uint64_t{zip::kIn64};
    };
    const uint64_t bytes32 = narrow(bytes), compressed32 = narrow(compressed_bytes), offset32 = narrow(offset);
    const size_t wide = extra.bytes().size();
    directory_.U32(zip::kCentralSignature)
        .U16(kMadeBy)
        .U16(kVersion)
        .U16(flags)
        .U16(method)
        .U32(kDate)
        .U32(crc)
        .U32(compressed32)
        .U32(bytes32)
        .U16(entry.name.size())
        .U16(wide == 0 ? 0 : wide + 4)
        .U16(0)
        .U16(0)
        .U16(0)
        .U32(kAttributes)
        .U32(offset32)
        .Text(entry.name);
    if (wide != 0) directory_.U16(zip::kZip64Extra).U16(wide).Text(extra.bytes());
  }

  std::vector<Buffer> Finish() {
    const uint64_t offset = end_, bytes = directory_.bytes().size(), entries = names_.size();
    Append(directory_);
    const uint64_t short_from = std::min<uint64_t>(zip64_from_, zip::kIn64Short);
    const auto narrow = [&](uint64_t value) { return value < zip64_from_ ? value : zip::kIn64; };
    if (entries >= short_from || bytes >= zip64_from_ || offset >= zip64_from_) {
      const uint64_t record_offset = end_;
      Append(Record()
                 .U32(zip::kEnd64Signature)
                 .U64(zip::kEnd64Bytes - 12)
                 .U16(kMadeBy)
                 .U16(kVersion)
                 .U32(0)
                 .U32(0)
                 .U64(entries)
                 .U64(entries)
                 .U64(bytes)
                 .U64(offset));
      Append(Record().U32(zip::kEnd64LocatorSignature).U32(0).U64(record_offset).U32(1));
    }
    const uint64_t entries16 = entries < short_from ? entries : zip::kIn64Short;
    Append(Record()
               .U32(zip::kEndSignature)
               .U16(0)
               .U16(0)
               .U16(entries16)
               .U16(entries16)
               .U32(narrow(bytes))
               .U32(narrow(offset))
               .U16(0));
    return std::move(pieces_);
  }

 private:
  void Append(const Record& record) { Append(Buffer::CopyOf(record.bytes())); }
  void Append(const Buffer& piece) {
    end_ += static_cast<uint64_t>(piece.bytes());
    pieces_.push_back(piece);
  }

  Compression compression_;
  uint64_t zip64_from_;
  std::set<std::string> names_;
  std::vector<Buffer> pieces_;
  uint64_t end_ = 0;
  Record directory_;
};

}  // namespace

std::vector<Buffer> SerializeZip(const std::vector<ZipEntry>& entries, Compression compression, uint64_t zip64_from) {
  ZipWriter writer(compression, zip64_from);
  for (const ZipEntry& entry : entries) writer.Add(entry);
  return writer.Finish();
}

std::string ZipNameProblem(std::string_view name) {
  if (name.empty() || name.size() > 0xFFFF) return "is empty or has more than 65535 bytes";
  if (!IsUtf8(name)) return "is not UTF-8";
  for (const char c : name) {
    if ((c >= 0 && c < 0x20) || c == 0x7F) return "contains a control character";
    if (c == '\\') return "contains a backslash";
  }
  if (name.size() >= 2 && name[1] == ':') return "starts with a drive letter";
  for (size_t start = 0; start <= name.size();) {
    const size_t slash = std::min(name.find('/', start), name.size());
    const std::string_view component = name.substr(start, slash - start);
    if (component.empty() || component == "." || component == "..") return "has the component " + Quoted(component);
    start = slash + 1;
  }
  return "";
}

}  // namespace bitflash::data
