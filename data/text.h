// Text from files that nobody vouches for.
#ifndef BITFLASH_DATA_TEXT_H_
#define BITFLASH_DATA_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace bitflash::data {

// True when the bytes are well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no overlong forms).
bool IsUtf8(std::string_view bytes);

// 'text' in single quotes for a message: bytes that are not printable ASCII or well-formed UTF-8 become \xNN, and the
// middle of a text of more than 120 bytes becomes "...", so that a hostile name cannot drive a terminal or flood a log.
std::string Quoted(std::string_view text);

// "1 element", "3 elements".
std::string Counted(int64_t n, std::string_view what);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_TEXT_H_
