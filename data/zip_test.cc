#include "data/zip.h"

#include <zlib.h>

#include <map>
#include <optional>

#include "data/deflate.h"
#include "data/file_testing.h"

namespace bitflash::data {
namespace {

using Contents = std::map<std::string, std::string>;

constexpr auto kRead = [](std::span<const std::byte> bytes, std::string_view origin) {
  Contents contents;
  ReadZip(MemorySource(Buffer::CopyOf(bytes), std::string(origin)),
          [&](const std::string& name, Buffer content) { contents[name] = AsText(content); });
  return contents;
};

Contents Read(std::string_view bytes) { return kRead(AsBytes(bytes), "FILE"); }

uint64_t Crc(std::string_view text) {
  return crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
}

// One entry written by hand, so that each field can lie. Fields of the local header are those of the central one
// unless they are given.
struct RawEntry {
  std::string name = "a.npy";
  std::string data = "hello";
  uint64_t flags = 0, method = 0;
  uint64_t crc = Crc("hello"), compressed_bytes = 5, bytes = 5;
  std::string extra;  // of the central header
  std::string after;  // the data: a descriptor
  uint64_t disk = 0;
  std::optional<std::string> local_name, local_extra;
  std::optional<uint64_t> local_flags, local_method, local_crc, local_compressed_bytes, local_bytes, offset;
};

struct RawZip {
  std::vector<RawEntry> entries;
  std::string before, gap, end64;  // before the first entry, before the directory, before the end record
  std::optional<uint64_t> count, directory_bytes, directory_offset, comment_bytes, disk;
};

std::string Bytes(const RawZip& zip) {
  std::string all = zip.before, directory;
  for (const RawEntry& e : zip.entries) {
    const uint64_t offset = e.offset.value_or(all.size());
    const std::string name = e.local_name.value_or(e.name), extra = e.local_extra.value_or("");
    all += "PK\3\4" + LittleEndian(20, 2) + LittleEndian(e.local_flags.value_or(e.flags), 2) +
           LittleEndian(e.local_method.value_or(e.method), 2) + LittleEndian(0, 4) +
           LittleEndian(e.local_crc.value_or(e.crc), 4) +
           LittleEndian(e.local_compressed_bytes.value_or(e.compressed_bytes), 4) +
           LittleEndian(e.local_bytes.value_or(e.bytes), 4) + LittleEndian(name.size(), 2) +
           LittleEndian(extra.size(), 2) + name + extra + e.data + e.after;
    directory += "PK\1\2" + LittleEndian(20, 2) + LittleEndian(20, 2) + LittleEndian(e.flags, 2) +
                 LittleEndian(e.method, 2) + LittleEndian(0, 4) + LittleEndian(e.crc, 4) +
                 LittleEndian(e.compressed_bytes, 4) + LittleEndian(e.bytes, 4) + LittleEndian(e.name.size(), 2) +
                 LittleEndian(e.extra.size(), 2) + LittleEndian(0, 2) + LittleEndian(e.disk, 2) + LittleEndian(0, 6) +
                 LittleEndian(offset, 4) + e.name + e.extra;
  }
  all += zip.gap;
  const uint64_t directory_offset = zip.directory_offset.value_or(all.size()),
                 count = zip.count.value_or(zip.entries.size());
  return all + directory + zip.end64 + "PK\5\6" + LittleEndian(zip.disk.value_or(0), 2) + LittleEndian(0, 2) +
         LittleEndian(count, 2) + LittleEndian(count, 2) +
         LittleEndian(zip.directory_bytes.value_or(directory.size()), 4) + LittleEndian(directory_offset, 4) +
         LittleEndian(zip.comment_bytes.value_or(0), 2);
}

std::string Bytes(const RawEntry& entry) { return Bytes(RawZip{.entries = {entry}}); }

std::string Deflated(std::string_view text) { return AsText(Concatenated(Deflate({Buffer::CopyOf(text)}))); }

RawEntry DeflatedEntry(std::string_view text) {
  const std::string data = Deflated(text);
  return {.data = data, .method = 8, .crc = Crc(text), .compressed_bytes = data.size(), .bytes = text.size()};
}

std::string Zip64Extra(const std::string& numbers) {
  return LittleEndian(1, 2) + LittleEndian(numbers.size(), 2) + numbers;
}

// The zip64 end record and its locator for a directory of one entry.
std::string End64(uint64_t directory_bytes, uint64_t directory_offset, uint64_t disks = 1) {
  return "PK\6\6" + LittleEndian(44, 8) + LittleEndian(45, 2) + LittleEndian(45, 2) + LittleEndian(0, 8) +
         LittleEndian(1, 8) + LittleEndian(1, 8) + LittleEndian(directory_bytes, 8) +
         LittleEndian(directory_offset, 8) + "PK\6\7" + LittleEndian(0, 4) +
         LittleEndian(directory_offset + directory_bytes, 8) + LittleEndian(disks, 4);
}

TEST_CASE("archives written by hand are read") {
  CHECK(Read(Bytes(RawEntry{})) == Contents{{"a.npy", "hello"}});
  CHECK(Read(Bytes(RawZip{})).empty());
  CHECK(Read(Bytes(DeflatedEntry(std::string(5000, 'x')))) == Contents{{"a.npy", std::string(5000, 'x')}});
  CHECK(Read(Bytes(DeflatedEntry(""))) == Contents{{"a.npy", ""}});
  CHECK(Read(Bytes(RawEntry{.data = "", .crc = 0, .compressed_bytes = 0, .bytes = 0})) == Contents{{"a.npy", ""}});
  CHECK(Read(Bytes(RawEntry{.extra = LittleEndian(0x5455, 2) + LittleEndian(1, 2) + "t"})).size() == 1);  // a timestamp
  // A data descriptor, with and without signature, in 4 and in 8 bytes.
  for (const int width : {4, 8}) {
    for (const char* signature : {"", "PK\7\10"}) {
      const std::string descriptor =
          signature + LittleEndian(Crc("hello"), 4) + LittleEndian(5, width) + LittleEndian(5, width);
      CHECK(Read(Bytes(RawEntry{
                     .flags = 8, .after = descriptor, .local_crc = 0, .local_compressed_bytes = 0, .local_bytes = 0}))
                .size() == 1);
    }
  }
  // zip64: sizes and offset, and the end record.
  CHECK(Read(Bytes(RawEntry{.compressed_bytes = 0xFFFFFFFF,
                            .bytes = 0xFFFFFFFF,
                            .extra = Zip64Extra(LittleEndian(5, 8) + LittleEndian(5, 8) + LittleEndian(0, 8)),
                            .local_compressed_bytes = 5,
                            .local_bytes = 5,
                            .offset = 0xFFFFFFFF})) == Contents{{"a.npy", "hello"}});
  // Python's zipfile adds zip64 records before it needs them; the end record then holds the same numbers.
  const std::string plain = Bytes(RawEntry{});
  const uint64_t offset = 30 + 5 + 5, bytes = 46 + 5;
  CHECK(Read(Bytes(RawZip{.entries = {{}}, .end64 = End64(bytes, offset)})).size() == 1);
  CHECK(Read(Bytes(RawZip{.entries = {{}},
                          .end64 = End64(bytes, offset),
                          .count = 0xFFFF,
                          .directory_bytes = 0xFFFFFFFF,
                          .directory_offset = 0xFFFFFFFF}))
            .size() == 1);
}

TEST_CASE("hostile zip: end records") {
  const auto refused = [](const RawZip& zip, const char* what) { CheckRefused(kRead, Bytes(zip), what); };
  const std::vector<RawEntry> one = {{}};
  const std::string good = Bytes(RawEntry{});
  CheckRefused(kRead, "", "shorter than an end record");
  CheckRefused(kRead, good + "x", "the last 22 bytes are not the end record");
  CheckRefused(kRead, good.substr(1), "but the end records start at");
  refused({.entries = one, .comment_bytes = 3}, "comment of 3 bytes");
  refused({.entries = one, .disk = 1}, "several disks");
  refused({.entries = one, .count = 2}, "2 entries in 51 bytes");
  refused({.entries = one, .count = 60000}, "60000 entries in 51 bytes");
  refused({.entries = one, .count = 0}, "51 bytes after the last entry");
  refused({.entries = one, .directory_bytes = 50}, "50 bytes from byte 40, but the end records start at byte 91");
  refused({.entries = one, .directory_offset = 39}, "51 bytes from byte 39");
  refused({.entries = one, .directory_bytes = 0xFFFFFFFE, .directory_offset = 0xFFFFFFFE}, "4294967294 bytes");
  refused({.entries = one, .directory_offset = 0xFFFFFFFF}, "zip64 end record and its locator are not");
  refused({.entries = one, .count = 0xFFFF}, "zip64 end record and its locator are not");
  CheckRefused(kRead,
               "PK\5\6" + LittleEndian(0, 4) + LittleEndian(0xFFFF, 2) + LittleEndian(0xFFFF, 2) + LittleEndian(0, 10),
               "the zip64 end record is missing");
  refused({.entries = one, .end64 = End64(51, 40), .directory_bytes = 50},
          "end record and the zip64 end record disagree");
  refused({.entries = one, .end64 = End64(51, 40, 2)}, "several disks");
  refused({.entries = one, .end64 = End64(52, 39), .directory_bytes = 0xFFFFFFFF, .directory_offset = 0xFFFFFFFF},
          "lacks its signature");
  refused({.entries = one, .end64 = End64(~uint64_t{0} - 39 + 51, 40), .directory_bytes = 0xFFFFFFFF},
          "locator are not");
}

TEST_CASE("hostile zip: entries that overlap, leave holes or lie about where they are") {
  const auto refused = [](const RawZip& zip, const char* what) { CheckRefused(kRead, Bytes(zip), what); };
  refused({.entries = {{}}, .before = "MZ"}, "2 bytes before the first entry");
  refused({.entries = {{}}, .gap = "x"}, "1 bytes after its data that belong to no entry");
  refused({.entries = {{}, {.name = "b.npy", .offset = 0}}}, "overlaps another entry");
  refused({.entries = {{}, {.name = "b.npy", .offset = 10}}}, "its local header is cut off");
  refused({.entries = {{}, {.name = "b.npy", .offset = 38}}}, "said to have 5 bytes, but");
  refused({.entries = {{}, {}}}, "the name occurs twice");
  refused({.entries = {{.offset = 5000}}}, "begin after the data of the archive");
  refused({.entries = {{.offset = 0xFFFFFFFE}}}, "begin after the data of the archive");
  refused({.entries = {{.extra = Zip64Extra(LittleEndian(~uint64_t{0}, 8)), .offset = 0xFFFFFFFF}}},
          "begin after the data");
  refused({.entries = {{.data = "hello world", .after = ""}}}, "6 bytes after its data");
  refused({.entries = {{.data = "hell"}}}, "said to have 5 bytes, but the next entry or the directory begins after 4");
  // The first entry's data holds a second local header, which the directory lists too.
  const std::string inner = Bytes(RawEntry{.name = "b.npy"}).substr(0, 40);
  refused({.entries = {{.data = inner, .crc = Crc(inner), .compressed_bytes = 40, .bytes = 40},
                       {.name = "b.npy", .data = "", .offset = 35}}},
          "said to have 40 bytes, but");
}

TEST_CASE("hostile zip: headers") {
  const auto refused = [](const RawEntry& entry, const char* what) { CheckRefused(kRead, Bytes(entry), what); };
  refused({.crc = 1}, "its CRC-32 is");
  refused({.flags = 1}, "encrypted");
  refused({.flags = 1 << 13}, "unknown flags 8192");
  refused({.flags = 1 << 5}, "unknown flags 32");
  refused({.method = 14}, "compression method 14");
  refused({.bytes = 6}, "stored, but its two sizes differ");
  refused({.disk = 1}, "several disks");
  refused({.local_name = "b.npy"}, "disagree on the name");
  refused({.local_flags = 2}, "disagree on the flags");
  refused({.local_method = 8}, "disagree on the method");
  refused({.local_crc = 0}, "disagree on the CRC");
  refused({.local_compressed_bytes = 4}, "disagree on the compressed size");
  refused({.local_bytes = 4}, "disagree on the size");
  refused({.extra = "abc"}, "an extra field is cut off");
  refused({.extra = LittleEndian(9, 2) + LittleEndian(100, 2)}, "an extra field is cut off");
  refused({.local_extra = "abc"}, "an extra field is cut off");
  refused({.extra = Zip64Extra(LittleEndian(5, 8))}, "zip64 extra field is too long");
  refused({.bytes = 0xFFFFFFFF, .extra = Zip64Extra("1234567")}, "zip64 extra field is too short");
  refused({.extra = Zip64Extra("") + Zip64Extra("")}, "two zip64 extra fields");
  refused({.compressed_bytes = 0xFFFFFFFF,
           .bytes = 0xFFFFFFFF,
           .extra = Zip64Extra(LittleEndian(~uint64_t{0}, 8) + LittleEndian(~uint64_t{0}, 8))},
          "zip bomb");
  refused({.flags = 8, .after = "123456789012"}, "data descriptor and its central header disagree");
  refused({.flags = 8, .after = "12345"}, "5 bytes after its data");
  refused({.flags = 8}, "0 bytes after its data");
  refused({.flags = 8, .after = LittleEndian(Crc("hello"), 4) + LittleEndian(5, 4) + LittleEndian(6, 4)},
          "data descriptor");
  std::string bytes = Bytes(RawEntry{});
  bytes[0] = 'Q';
  CheckRefused(kRead, bytes, "its local header lacks its signature");
  bytes = Bytes(RawEntry{});
  bytes[40] = 'Q';
  CheckRefused(kRead, bytes, "entry 0 of the central directory lacks its signature");
  bytes = Bytes(RawEntry{});
  bytes[40 + 28] = 6;  // the name's length
  CheckRefused(kRead, bytes, "entry 0 of the central directory is cut off");
  bytes = Bytes(RawEntry{});
  bytes[27] = 1;  // the local name's length, high byte
  CheckRefused(kRead, bytes, "its local header is cut off");
}

TEST_CASE("hostile zip: names") {
  const auto refused = [](const std::string& name, const char* what) {
    CheckRefused(kRead, Bytes(RawEntry{.name = name, .flags = 1 << 11}), what);
  };
  refused("", "is empty");
  refused("/etc/passwd", "has the component ''");
  refused("../a.npy", "has the component '..'");
  refused("a/../../b.npy", "has the component '..'");
  refused("./a.npy", "has the component '.'");
  refused("a//b.npy", "has the component ''");
  refused("folder/", "has the component ''");
  refused("..\\a.npy", "contains a backslash");
  refused("C:a.npy", "drive letter");
  refused(std::string("a\0.npy", 6), "control character");
  refused("a\n.npy", "control character");
  refused("\xFF.npy", "is not UTF-8");
  refused("\xED\xA0\x80.npy", "is not UTF-8");
  CheckRefused(kRead, Bytes(RawEntry{.name = "\xC3\xA4.npy"}), "not marked as UTF-8");
  CHECK(Read(Bytes(RawEntry{.name = "\xC3\xA4/..a.npy", .flags = 1 << 11})).size() == 1);
  CHECK_THROWS_WITH_AS(SerializeZip({{"../a", {}}}, Compression::kStored), doctest::Contains("component '..'"),
                       UsageError);
  CHECK_THROWS_WITH_AS(SerializeZip({{"a", {}}, {"a", {}}}, Compression::kStored), doctest::Contains("two entries"),
                       UsageError);
}

TEST_CASE("hostile zip: deflate streams and bombs") {
  const auto refused = [](const RawEntry& entry, const char* what) { CheckRefused(kRead, Bytes(entry), what); };
  const std::string text(5000, 'x');
  RawEntry entry = DeflatedEntry(text);
  entry.bytes = 4999;
  refused(entry, "decompresses to more than the 4999 bytes");
  entry.bytes = 5001;
  refused(entry, "decompresses to 5000 instead of the 5001 bytes");
  entry.bytes = 0xFFFFFFFE;
  refused(entry, "deflate expands at most 1032 times");
  entry = DeflatedEntry(text);
  entry.data.pop_back(), --entry.compressed_bytes;
  refused(entry, "compressed data is cut off");
  entry = DeflatedEntry(text);
  entry.data += "xy", entry.compressed_bytes += 2;
  refused(entry, "2 bytes after the end of its compressed data");
  refused({.data = "\xFF\xFF\xFF\xFF\xFF", .method = 8}, "compressed data is invalid");
  refused({.data = "", .method = 8, .compressed_bytes = 0, .bytes = 0}, "compressed data is cut off");
  // Each of the 1100 entries is said to hold 4 MiB, which deflate could do; together that is beyond the archive's
  // limit.
  RawZip bomb;
  const std::string zeros = Deflated(std::string(4 << 20, '\0'));
  for (int i = 0; i < 1100; ++i) {
    bomb.entries.push_back({.name = std::to_string(i),
                            .data = i == 0 ? zeros : "",
                            .method = 8,
                            .compressed_bytes = zeros.size(),
                            .bytes = 4 << 20});
  }
  CheckRefused(kRead, Bytes(bomb), "the archive decompresses to more than 4294967296 bytes: refused as a zip bomb");
}

TEST_CASE("archives are written and read back, also with zip64 everywhere") {
  const std::string text = "some text, some text, some text";
  const std::vector<ZipEntry> entries = {{"a", {Buffer::CopyOf(text), Buffer(), Buffer::CopyOf(text)}},
                                         {"dir/\xC3\xA4", {}},
                                         {"c", {Buffer::Zeros(3 << 20)}}};
  const Contents contents = {{"a", text + text}, {"dir/\xC3\xA4", ""}, {"c", std::string(3 << 20, '\0')}};
  for (const Compression compression : {Compression::kStored, Compression::kDeflated}) {
    for (const uint64_t zip64_from : {0, 1, 3, 100, 0x7FFFFFFF}) {
      CAPTURE(zip64_from);
      CHECK(Read(AsText(Concatenated(SerializeZip(entries, compression, zip64_from)))) == contents);
    }
  }
  CHECK(Concatenated(SerializeZip(entries, Compression::kDeflated)).bytes() < 5000);
}

TEST_CASE("every truncation of an archive is refused") {
  CheckTruncationsRefused(kRead, Bytes(RawZip{.entries = {{}, {.name = "b.npy"}}}));
  const std::vector<ZipEntry> entries = {{"a", {Buffer::CopyOf("text")}}};
  CheckTruncationsRefused(kRead, AsText(Concatenated(SerializeZip(entries, Compression::kDeflated, 0))));
}

TEST_CASE("an archive of 65536 entries needs zip64" * doctest::test_suite("slow")) {
  std::vector<ZipEntry> entries;
  for (int i = 0; i < 65536; ++i) entries.push_back({std::to_string(i), {}});
  CHECK(Read(AsText(Concatenated(SerializeZip(entries, Compression::kStored)))).size() == 65536);
}

}  // namespace
}  // namespace bitflash::data
