#include "data/fuzz/round_trip.h"

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "data/deflate.h"
#include "data/error.h"
#include "data/npy.h"
#include "data/npz.h"
#include "data/safetensors.h"

namespace bitflash::data {
namespace {

constexpr std::string_view kOrigin = "fuzz-input";

void Require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

// What `parse` returns; empty when it refuses its input properly.
template <typename Parse>
auto Parsed(Parse parse) -> std::optional<decltype(parse())> {
  try {
    return parse();
  } catch (const InputError& error) {
    const std::string_view message = error.what();
    Require(message.starts_with(kOrigin), "the message does not name the origin");
    Require(message.size() > kOrigin.size() + 2, "the message does not say what is wrong");
    Require(message.find('\n') == std::string_view::npos, "the message quotes a newline");
    return std::nullopt;
  }
}

bool SameBytes(const Buffer& a, std::span<const std::byte> b) {
  return a.span().size() == b.size() && (b.empty() || std::memcmp(a.data(), b.data(), b.size()) == 0);
}

}  // namespace

void FuzzNpy(std::span<const uint8_t> bytes) {
  const auto tensor = Parsed([&] { return ParseNpy(std::as_bytes(bytes), kOrigin); });
  if (!tensor) return;
  Require(ParseNpy(Concatenated(SerializeNpy(*tensor)).span(), kOrigin) == *tensor, ".npy does not read back equal");
}

void FuzzNpz(std::span<const uint8_t> input) {
  const std::span<const std::byte> bytes = std::as_bytes(input);
  const Buffer content = Buffer::CopyOf(bytes);
  for (const Compression compression : {Compression::kStored, Compression::kDeflated}) {
    if (const auto tensors = Parsed([&] { return ParseNpz(bytes, kOrigin); })) {
      const Buffer written = Concatenated(SerializeNpz(*tensors, compression));
      Require(ParseNpz(written.span(), kOrigin) == *tensors, ".npz does not read back equal");
    }
    const uint64_t zip64_from = bytes.size() % 2 == 0 ? 0 : 0xFFFFFFFF;
    const Buffer wrapped = Concatenated(SerializeZip({{"a.npy", {content}}}, compression, zip64_from));
    const auto tensor = Parsed([&] { return ParseNpy(bytes, kOrigin); });
    const auto entry = Parsed([&] { return ParseNpz(wrapped.span(), kOrigin); });
    Require(tensor.has_value() == entry.has_value(), "a .npy file is accepted alone or in an archive, but not both");
    if (tensor) Require(entry->at("a") == *tensor, "a .npy file differs in an archive");
  }
  const Buffer deflated = Concatenated(Deflate({content}));
  Require(SameBytes(Inflate(deflated, bytes.size()), bytes), "deflate does not decompress to what it compressed");
  try {
    Inflate(content, 4 * bytes.size());
  } catch (const InputError&) {
  }
}

void FuzzSafetensors(std::span<const uint8_t> bytes) {
  const auto file = Parsed([&] { return ParseSafetensors(std::as_bytes(bytes), kOrigin); });
  if (!file) return;
  const Buffer written = Concatenated(SerializeSafetensors(*file));
  Require(ParseSafetensors(written.span(), kOrigin) == *file, ".safetensors does not read back equal");
}

}  // namespace bitflash::data
