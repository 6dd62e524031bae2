#include "verify/c_api/c_api_guard.h"

#include <exception>
#include <new>
#include <stdexcept>

#include "data/error.h"

namespace bitflash::verify {
namespace {

// A fixed array, so that storing a message cannot fail when memory has run out.
constexpr size_t kMessageBytes = 2048;
thread_local char message[kMessageBytes] = "";

// No struct of this interface comes near; an uninitialised struct_size usually does.
constexpr uint64_t kMostStructBytes = 4096;

bitflash_status Report(bitflash_status status, std::string_view text) noexcept {
  size_t length = text.size();
  if (length >= kMessageBytes) {
    constexpr std::string_view kCut = "...";
    length = kMessageBytes - 1 - kCut.size();
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;  // whole UTF-8 characters
    std::memcpy(message + length, kCut.data(), kCut.size());
    message[length + kCut.size()] = '\0';
  } else {
    message[length] = '\0';
  }
  std::memcpy(message, text.data(), length);
  return status;
}

}  // namespace

bitflash_status ReportException() noexcept {
  try {
    throw;
  } catch (const data::UsageError& error) {
    return Report(BITFLASH_USAGE, error.what());
  } catch (const data::InputError& error) {
    return Report(BITFLASH_INPUT, error.what());
  } catch (const data::UndecidedError& error) {
    return Report(BITFLASH_UNDECIDED, error.what());
  } catch (const Cancelled&) {
    return Report(BITFLASH_CANCELLED, "cancelled by the progress callback");
  } catch (const std::bad_alloc&) {
    return Report(BITFLASH_OUT_OF_MEMORY, "out of memory");
  } catch (const std::length_error&) {  // what std::vector throws for more than an address can name
    return Report(BITFLASH_OUT_OF_MEMORY, "out of memory: the problem needs more than can be addressed");
  } catch (const std::exception& error) {
    return Report(BITFLASH_INTERNAL, error.what());
  } catch (...) {
    return Report(BITFLASH_INTERNAL, "an exception of an unknown type");
  }
}

void RequireNotNull(const void* pointer, std::string_view name, std::string_view what) {
  if (pointer != nullptr) return;
  throw data::UsageError(std::string(name) + " is NULL: expected " + std::string(what));
}

uint64_t CheckedStructSize(const void* given, std::string_view name, uint64_t least, uint64_t known, bool written) {
  uint64_t size = 0;
  std::memcpy(&size, given, sizeof size);
  if (size < least || size > kMostStructBytes) {
    throw data::UsageError(std::string(name) + ".struct_size is " + std::to_string(size) +
                           ": expected the sizeof of the struct, which is " + std::to_string(known) + " here (" +
                           std::to_string(least) + " or more of an older header, " + std::to_string(kMostStructBytes) +
                           " or less of a newer one)");
  }
  const auto* bytes = static_cast<const unsigned char*>(given);
  if (!written && size > known && std::any_of(bytes + known, bytes + size, [](unsigned char b) { return b != 0; })) {
    throw data::UsageError(std::string(name) + ".struct_size is " + std::to_string(size) + ", and a field beyond the " +
                           std::to_string(known) + " bytes that this library knows is not 0: expected a library of " +
                           "the header's version");
  }
  return size;
}

}  // namespace bitflash::verify

extern "C" const char* bitflash_last_error(void) { return bitflash::verify::message; }
