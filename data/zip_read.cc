#include <zlib.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "data/deflate.h"
#include "data/text.h"
#include "data/zip.h"
#include "data/zip_format.h"

namespace bitflash::data {
namespace {

// Reads little-endian numbers one after the other from bytes whose length the caller has checked.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T Take() {
    T value;
    std::memcpy(&value, Take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::span<const std::byte> Take(size_t bytes) {
    assert(bytes <= bytes_.size());
    const auto taken = bytes_.first(bytes);
    bytes_ = bytes_.subspan(bytes);
    return taken;
  }
  std::string TakeText(size_t bytes) {
    const auto taken = Take(bytes);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  size_t left() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
};

// What a local or a central header says about an entry.
struct Header {
  std::string name;
  uint16_t flags = 0;
  uint16_t method = 0;
  uint32_t crc = 0;
  uint64_t compressed_bytes = 0;
  uint64_t bytes = 0;         // decompressed
  uint64_t local_offset = 0;  // central only
};

struct Directory {
  uint64_t entries;
  uint64_t bytes;
  uint64_t offset;
  int64_t end;  // where the records after the directory begin
};

class ZipReader {
 public:
  explicit ZipReader(const ByteSource& source) : source_(source) {}

  void Read(const std::function<void(const std::string&, Buffer)>& visit) {
    const Directory directory = ReadEnd();
    const std::vector<Header> headers = ReadDirectory(directory);
    const std::vector<int64_t> ends = EntryEnds(headers, static_cast<int64_t>(directory.offset));
    RequireModestExpansion(headers);
    for (size_t i = 0; i < headers.size(); ++i) visit(headers[i].name, ReadEntry(headers[i], ends[i]));
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const { throw source_.Error(what); }
  [[noreturn]] void Fail(const Header& entry, const std::string& what) const {
    throw source_.Error("entry " + Quoted(entry.name) + ": " + what);
  }

  // The end record and, where it points to them, the zip64 records before it.
  Directory ReadEnd() const {
    if (source_.bytes() < zip::kEndBytes) Fail("not a zip archive: shorter than an end record");
    int64_t end = source_.bytes() - zip::kEndBytes;
    const Buffer record = source_.Load(end, zip::kEndBytes, "the end record");
    Cursor cursor(record.span());
    if (cursor.Take<uint32_t>() != zip::kEndSignature) {
      Fail(
          "the last 22 bytes are not the end record of a zip archive (cut off, or an archive comment, which is "
          "refused)");
    }
    const auto disk = cursor.Take<uint16_t>(), directory_disk = cursor.Take<uint16_t>();
    const auto entries_here = cursor.Take<uint16_t>(), entries = cursor.Take<uint16_t>();
    const auto bytes = cursor.Take<uint32_t>(), offset = cursor.Take<uint32_t>();
    const auto comment = cursor.Take<uint16_t>();
    if (comment != 0) Fail("the end record announces a comment of " + std::to_string(comment) + " bytes after the end");
    Directory directory{entries, bytes, offset, end};
    bool one_disk = disk == 0 && directory_disk == 0 && entries_here == entries;
    // Python's zipfile writes zip64 records from 2 GiB on (ZIP64_LIMIT) but escapes numbers only from 4 GiB on, so the
    // locator decides as well.
    const bool escaped = entries == zip::kIn64Short || bytes == zip::kIn64 || offset == zip::kIn64;
    if (escaped || HasEnd64Locator(end)) one_disk = ReadEnd64(directory) && one_disk;
    if (!one_disk) Fail("an archive of several disks");
    if (directory.offset > static_cast<uint64_t>(directory.end) ||
        directory.bytes != static_cast<uint64_t>(directory.end) - directory.offset) {
      Fail("the central directory is said to have " + std::to_string(directory.bytes) + " bytes from byte " +
           std::to_string(directory.offset) + ", but the end records start at byte " + std::to_string(directory.end));
    }
    if (directory.entries > directory.bytes / zip::kCentralBytes) {
      Fail("the central directory is said to have " + std::to_string(directory.entries) + " entries in " +
           std::to_string(directory.bytes) + " bytes");
    }
    return directory;
  }

  bool HasEnd64Locator(int64_t end) const {
    if (end < zip::kEnd64LocatorBytes) return false;
    const Buffer locator = source_.Load(end - zip::kEnd64LocatorBytes, 4, "the zip64 locator");
    return Cursor(locator.span()).Take<uint32_t>() == zip::kEnd64LocatorSignature;
  }

  // Reads the zip64 end record and its locator; false for an archive of several disks.
  bool ReadEnd64(Directory& directory) const {
    const int64_t locator_at = directory.end - zip::kEnd64LocatorBytes;
    const int64_t record_at = locator_at - zip::kEnd64Bytes;
    if (record_at < 0) Fail("the zip64 end record is missing");
    const Buffer records = source_.Load(record_at, zip::kEnd64Bytes + zip::kEnd64LocatorBytes, "the zip64 end record");
    Cursor cursor(records.span());
    const auto signature = cursor.Take<uint32_t>();
    const auto record_bytes = cursor.Take<uint64_t>();  // without the signature and this field
    cursor.Take<uint32_t>();                            // versions
    const auto disk = cursor.Take<uint32_t>(), directory_disk = cursor.Take<uint32_t>();
    const auto entries_here = cursor.Take<uint64_t>(), entries = cursor.Take<uint64_t>();
    const auto bytes = cursor.Take<uint64_t>(), offset = cursor.Take<uint64_t>();
    const auto locator_signature = cursor.Take<uint32_t>();
    const auto locator_disk = cursor.Take<uint32_t>();
    const auto record_offset = cursor.Take<uint64_t>();
    const auto disks = cursor.Take<uint32_t>();
    if (signature != zip::kEnd64Signature || locator_signature != zip::kEnd64LocatorSignature ||
        record_bytes != zip::kEnd64Bytes - 12 || record_offset != static_cast<uint64_t>(record_at)) {
      Fail("the zip64 end record and its locator are not directly before the end record");
    }
    const auto agrees = [](uint64_t narrow, uint64_t escape, uint64_t wide) {
      return narrow == escape || narrow == wide;
    };
    if (!agrees(directory.entries, zip::kIn64Short, entries) || !agrees(directory.bytes, zip::kIn64, bytes) ||
        !agrees(directory.offset, zip::kIn64, offset)) {
      Fail("the end record and the zip64 end record disagree");
    }
    directory = {entries, bytes, offset, record_at};
    return disk == 0 && directory_disk == 0 && entries_here == entries && locator_disk == 0 && disks <= 1;
  }

  std::vector<Header> ReadDirectory(const Directory& directory) const {
    const Buffer bytes = source_.Load(static_cast<int64_t>(directory.offset), static_cast<int64_t>(directory.bytes),
                                      "the central directory");
    Cursor cursor(bytes.span());
    std::vector<Header> headers;
    std::set<std::string> names;
    for (uint64_t i = 0; i < directory.entries; ++i) {
      headers.push_back(ReadCentral(cursor, i));
      const Header& entry = headers.back();
      if (!names.insert(entry.name).second) Fail(entry, "the name occurs twice");
      if (entry.local_offset >= directory.offset)
        Fail(entry, "its data is said to begin after the data of the archive");
    }
    if (cursor.left() != 0)
      Fail(std::to_string(cursor.left()) + " bytes after the last entry of the central directory");
    return headers;
  }

  Header ReadCentral(Cursor& cursor, uint64_t index) const {
    const std::string which = "entry " + std::to_string(index) + " of the central directory";
    if (cursor.left() < zip::kCentralBytes) Fail(which + " is cut off");
    if (cursor.Take<uint32_t>() != zip::kCentralSignature) Fail(which + " lacks its signature");
    cursor.Take<uint32_t>();  // versions
    Header header;
    header.flags = cursor.Take<uint16_t>();
    header.method = cursor.Take<uint16_t>();
    cursor.Take<uint32_t>();  // date
    header.crc = cursor.Take<uint32_t>();
    header.compressed_bytes = cursor.Take<uint32_t>();
    header.bytes = cursor.Take<uint32_t>();
    const auto name_bytes = cursor.Take<uint16_t>(), extra_bytes = cursor.Take<uint16_t>();
    const auto comment_bytes = cursor.Take<uint16_t>(), disk = cursor.Take<uint16_t>();
    cursor.Take(6);  // attributes
    header.local_offset = cursor.Take<uint32_t>();
    if (cursor.left() < size_t{name_bytes} + extra_bytes + comment_bytes) Fail(which + " is cut off");
    header.name = cursor.TakeText(name_bytes);
    const auto extra = cursor.Take(extra_bytes);
    cursor.Take(comment_bytes);
    if (const std::string problem = ZipNameProblem(header.name); !problem.empty()) Fail(header, "the name " + problem);
    if (disk != 0) Fail(header, "an archive of several disks");
    if ((header.flags & zip::kFlagEncrypted) != 0) Fail(header, "encrypted");
    constexpr unsigned kKnown = zip::kFlagDeflateLevel | zip::kFlagDescriptor | zip::kFlagUtf8;
    if ((header.flags & ~kKnown) != 0) Fail(header, "unknown flags " + std::to_string(header.flags));
    const bool ascii = std::all_of(header.name.begin(), header.name.end(), [](char c) { return c >= 0; });
    if (!ascii && (header.flags & zip::kFlagUtf8) == 0) Fail(header, "the name is not ASCII and not marked as UTF-8");
    if (header.method != zip::kMethodStored && header.method != zip::kMethodDeflated) {
      Fail(header, "compression method " + std::to_string(header.method) + ": expected 0 (stored) or 8 (deflated)");
    }
    Widen(header, extra);
    if (header.method == zip::kMethodStored && header.compressed_bytes != header.bytes) {
      Fail(header, "stored, but its two sizes differ");
    }
    return header;
  }

  // Replaces the 32-bit fields that the zip64 extra field holds (section 4.5.3: only those, in this order).
  void Widen(Header& header, std::span<const std::byte> extra) const {
    Cursor cursor(extra);
    bool seen = false;
    while (cursor.left() != 0) {
      if (cursor.left() < 4) Fail(header, "an extra field is cut off");
      const auto id = cursor.Take<uint16_t>(), bytes = cursor.Take<uint16_t>();
      if (cursor.left() < bytes) Fail(header, "an extra field is cut off");
      Cursor field(cursor.Take(bytes));
      if (id != zip::kZip64Extra) continue;
      if (std::exchange(seen, true)) Fail(header, "two zip64 extra fields");
      for (uint64_t* value : {&header.bytes, &header.compressed_bytes, &header.local_offset}) {
        if (*value != zip::kIn64) continue;
        if (field.left() < 8) Fail(header, "its zip64 extra field is too short");
        *value = field.Take<uint64_t>();
      }
      if (field.left() != 0) Fail(header, "its zip64 extra field is too long");
    }
  }

  // Where each entry ends: at the local header of the next in the file, the last at the directory. Throws unless the
  // first starts at byte 0 and no two start at the same byte.
  std::vector<int64_t> EntryEnds(const std::vector<Header>& headers, int64_t directory_offset) const {
    std::vector<size_t> order(headers.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    const auto offset = [&](size_t i) { return static_cast<int64_t>(headers[i].local_offset); };
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return offset(a) < offset(b); });
    const int64_t first = order.empty() ? directory_offset : offset(order[0]);
    if (first != 0) Fail(std::to_string(first) + " bytes before the first entry");
    std::vector<int64_t> ends(headers.size());
    for (size_t k = 0; k < order.size(); ++k) {
      ends[order[k]] = k + 1 < order.size() ? offset(order[k + 1]) : directory_offset;
      if (ends[order[k]] == offset(order[k])) Fail(headers[order[k]], "overlaps another entry");
    }
    return ends;
  }

  void RequireModestExpansion(const std::vector<Header>& headers) const {
    const uint64_t most = static_cast<uint64_t>(
        std::max(kZipExpansionFloor,
                 kZipExpansion * std::min(source_.bytes(), std::numeric_limits<int64_t>::max() / kZipExpansion)));
    uint64_t left = most;
    for (const Header& entry : headers) {
      if (entry.bytes > left) {
        Fail(entry, "the archive decompresses to more than " + std::to_string(most) + " bytes: refused as a zip bomb");
      }
      left -= entry.bytes;
    }
  }

  Buffer ReadEntry(const Header& entry, int64_t end) const {
    const int64_t start = static_cast<int64_t>(entry.local_offset);
    if (end - start < zip::kLocalBytes) Fail(entry, "its local header is cut off");
    const Buffer fixed = source_.Load(start, zip::kLocalBytes, "a local header");
    Cursor cursor(fixed.span());
    if (cursor.Take<uint32_t>() != zip::kLocalSignature) Fail(entry, "its local header lacks its signature");
    cursor.Take<uint16_t>();  // version
    Header local;
    local.flags = cursor.Take<uint16_t>();
    local.method = cursor.Take<uint16_t>();
    cursor.Take<uint32_t>();  // date
    local.crc = cursor.Take<uint32_t>();
    local.compressed_bytes = cursor.Take<uint32_t>();
    local.bytes = cursor.Take<uint32_t>();
    const auto name_bytes = cursor.Take<uint16_t>(), extra_bytes = cursor.Take<uint16_t>();
    const int64_t variable_bytes = int64_t{name_bytes} + extra_bytes;
    if (variable_bytes > end - start - zip::kLocalBytes) Fail(entry, "its local header is cut off");
    const Buffer variable = source_.Load(start + zip::kLocalBytes, variable_bytes, "a local header");
    Cursor text(variable.span());
    local.name = text.TakeText(name_bytes);
    Widen(local, text.Take(extra_bytes));
    RequireAgreement(entry, local);

    const int64_t data = start + zip::kLocalBytes + variable_bytes;
    const uint64_t room = static_cast<uint64_t>(end - data);
    if (entry.compressed_bytes > room) {
      Fail(entry, "said to have " + std::to_string(entry.compressed_bytes) +
                      " bytes, but the next entry or the directory begins after " + std::to_string(room));
    }
    const int64_t data_end = data + static_cast<int64_t>(entry.compressed_bytes);
    RequireDescriptor(entry, data_end, end);
    const Buffer compressed = source_.Load(data, static_cast<int64_t>(entry.compressed_bytes), "an entry's data");
    Buffer content = entry.method == zip::kMethodStored ? compressed : Inflated(entry, compressed);
    const uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<size_t>(content.bytes()));
    if (crc != entry.crc)
      Fail(entry, "its CRC-32 is " + std::to_string(crc) + ", the archive says " + std::to_string(entry.crc));
    return content;
  }

  // With a data descriptor the local header may leave CRC and sizes 0 (section 4.4.4, bit 3).
  void RequireAgreement(const Header& entry, const Header& local) const {
    const bool later = (entry.flags & zip::kFlagDescriptor) != 0;
    const auto agrees = [&](uint64_t here, uint64_t there) { return here == there || (later && here == 0); };
    const char* field = local.name != entry.name                                  ? "name"
                        : local.flags != entry.flags                              ? "flags"
                        : local.method != entry.method                            ? "method"
                        : !agrees(local.crc, entry.crc)                           ? "CRC"
                        : !agrees(local.compressed_bytes, entry.compressed_bytes) ? "compressed size"
                        : !agrees(local.bytes, entry.bytes)                       ? "size"
                                                                                  : nullptr;
    if (field != nullptr) Fail(entry, std::string("its local and its central header disagree on the ") + field);
  }

  // What is between the data and `end` must be exactly the data descriptor, with or without signature, its sizes in 4
  // or 8 bytes (section 4.3.9); nothing when the entry has none.
  void RequireDescriptor(const Header& entry, int64_t data_end, int64_t end) const {
    const int64_t bytes = end - data_end;
    const bool has_descriptor = (entry.flags & zip::kFlagDescriptor) != 0;
    if (!has_descriptor && bytes == 0) return;
    if (!has_descriptor || (bytes != 12 && bytes != 16 && bytes != 20 && bytes != 24)) {
      Fail(entry, std::to_string(bytes) + " bytes after its data that belong to no entry");
    }
    const Buffer descriptor = source_.Load(data_end, bytes, "a data descriptor");
    Cursor cursor(descriptor.span());
    const bool is_signed = bytes % 8 == 0;  // 16 and 24
    const bool wide = bytes >= 20;
    const bool signature_agrees = !is_signed || cursor.Take<uint32_t>() == zip::kDescriptorSignature;
    const auto crc = cursor.Take<uint32_t>();
    const uint64_t compressed_bytes = wide ? cursor.Take<uint64_t>() : cursor.Take<uint32_t>();
    const uint64_t content_bytes = wide ? cursor.Take<uint64_t>() : cursor.Take<uint32_t>();
    if (!signature_agrees || crc != entry.crc || compressed_bytes != entry.compressed_bytes ||
        content_bytes != entry.bytes) {
      Fail(entry, "its data descriptor and its central header disagree");
    }
  }

  Buffer Inflated(const Header& entry, const Buffer& compressed) const {
    try {
      return Inflate(compressed, entry.bytes);
    } catch (const InputError& error) {
      Fail(entry, error.what());
    }
  }

  const ByteSource& source_;
};

}  // namespace

void ReadZip(const ByteSource& source, const std::function<void(const std::string& name, Buffer content)>& visit) {
  ZipReader(source).Read(visit);
}

}  // namespace bitflash::data
