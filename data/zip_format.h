// Records of a zip archive as APPNOTE.TXT 6.3.10 lays them out; shared by zip_read.cc and zip_write.cc.
#ifndef BITFLASH_DATA_ZIP_FORMAT_H_
#define BITFLASH_DATA_ZIP_FORMAT_H_

#include <cstdint>

namespace bitflash::data::zip {

inline constexpr uint32_t kLocalSignature = 0x04034b50;         // section 4.3.7
inline constexpr uint32_t kDescriptorSignature = 0x08074b50;    // section 4.3.9.3
inline constexpr uint32_t kCentralSignature = 0x02014b50;       // section 4.3.12
inline constexpr uint32_t kEnd64Signature = 0x06064b50;         // section 4.3.14
inline constexpr uint32_t kEnd64LocatorSignature = 0x07064b50;  // section 4.3.15
inline constexpr uint32_t kEndSignature = 0x06054b50;           // section 4.3.16

// Bytes of each record without its variable fields.
inline constexpr int64_t kLocalBytes = 30;
inline constexpr int64_t kCentralBytes = 46;
inline constexpr int64_t kEnd64Bytes = 56;
inline constexpr int64_t kEnd64LocatorBytes = 20;
inline constexpr int64_t kEndBytes = 22;

inline constexpr uint16_t kZip64Extra = 0x0001;  // section 4.5.3
inline constexpr uint32_t kIn64 = 0xFFFFFFFF;    // a 32-bit field whose value is in the zip64 record
inline constexpr uint16_t kIn64Short = 0xFFFF;   // the same, 16-bit

inline constexpr uint16_t kFlagEncrypted = 1 << 0;  // section 4.4.4
inline constexpr uint16_t kFlagDeflateLevel = 3 << 1;
inline constexpr uint16_t kFlagDescriptor = 1 << 3;  // CRC and sizes follow the data
inline constexpr uint16_t kFlagUtf8 = 1 << 11;       // the name is UTF-8

inline constexpr uint16_t kMethodStored = 0;  // section 4.4.5
inline constexpr uint16_t kMethodDeflated = 8;

}  // namespace bitflash::data::zip

#endif  // BITFLASH_DATA_ZIP_FORMAT_H_
