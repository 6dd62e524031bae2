// The border of the C interface: exceptions become status codes and messages, structs of other versions become ours.
#ifndef BITFLASH_VERIFY_C_API_C_API_GUARD_H_
#define BITFLASH_VERIFY_C_API_C_API_GUARD_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "verify/c_api.h"
#include "verify/c_api/c_api_float.h"

namespace bitflash::verify {

// What a progress callback's wish to stop becomes between the callback and the border.
struct Cancelled {};

// Inside a catch block: stores the message of the exception for bitflash_last_error and returns its status.
bitflash_status ReportException() noexcept;

// Runs the body of an entry point, with floating point as C defines it.
template <class Body>
bitflash_status Guarded(Body&& body) noexcept {
  try {
    const DefaultFloat default_float;
    body();
    return BITFLASH_OK;
  } catch (...) {
    return ReportException();
  }
}

// Throws UsageError "<name> is NULL: expected <what>".
void RequireNotNull(const void* pointer, std::string_view name, std::string_view what);

// The struct_size at the start of a caller's struct. Throws UsageError when it is below `least` or cannot be a size,
// and when bytes beyond the `known` ones are not 0 (unless the struct is to be written).
uint64_t CheckedStructSize(const void* given, std::string_view name, uint64_t least, uint64_t known, bool written);

// A caller's struct, whatever version of the header it was compiled with: fields that it lacks are 0. `least` is the
// size up to the last field without a default.
template <class Struct>
Struct ReadStruct(const Struct* given, std::string_view name, uint64_t least = sizeof(uint64_t)) {
  static_assert(std::is_trivially_copyable_v<Struct> && offsetof(Struct, struct_size) == 0);
  RequireNotNull(given, name, "a struct");
  const uint64_t size = CheckedStructSize(given, name, least, sizeof(Struct), false);
  Struct result{};
  std::memcpy(&result, given, std::min<uint64_t>(size, sizeof(Struct)));
  return result;
}

// Checks a struct that WriteStruct will fill, before the work is done.
template <class Struct>
void RequireWritable(const Struct* given, std::string_view name) {
  RequireNotNull(given, name, "a struct to fill");
  CheckedStructSize(given, name, sizeof(uint64_t), sizeof(Struct), true);
}

// Fills as much of the caller's struct as it has. Fields that are newer than this library become 0.
template <class Struct>
void WriteStruct(Struct* given, Struct value) {
  static_assert(std::is_trivially_copyable_v<Struct> && offsetof(Struct, struct_size) == 0);
  const uint64_t size = given->struct_size;
  value.struct_size = size;
  std::memcpy(given, &value, std::min<uint64_t>(size, sizeof(Struct)));
  if (size > sizeof(Struct)) std::memset(reinterpret_cast<char*>(given) + sizeof(Struct), 0, size - sizeof(Struct));
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_C_API_C_API_GUARD_H_
