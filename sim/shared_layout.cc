#include "sim/shared_layout.h"

#include <charconv>

#include "data/error.h"
#include "data/text.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kLine = 128, kUnit = 16;
constexpr int64_t kMostPadding = 1024;

// The number behind "padded-", or -1.
int64_t NumberBehind(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return -1;
  name.remove_prefix(prefix.size());
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end == name.data() + name.size() ? number : -1;
}

}  // namespace

SharedLayout ParseSharedLayout(std::string_view name) {
  if (name == "row-major") return {};
  const int64_t pad = NumberBehind(name, "padded-"), width = NumberBehind(name, "swizzle-");
  if (pad >= 1 && pad <= kMostPadding) return {.pad_bytes = pad};
  if (width == 32 || width == 64 || width == 128) return {.swizzle_bytes = width};
  throw data::UsageError("unknown layout " + data::Quoted(name) +
                         ": expected row-major, padded-N (N bytes behind each row, 1 to " +
                         std::to_string(kMostPadding) + "), swizzle-32, swizzle-64 or swizzle-128");
}

std::string ToString(const SharedLayout& layout) {
  if (layout.swizzle_bytes) return "swizzle-" + std::to_string(layout.swizzle_bytes);
  return layout.pad_bytes ? "padded-" + std::to_string(layout.pad_bytes) : "row-major";
}

SharedTile::SharedTile(const SharedLayout& layout, int64_t rows, int64_t columns, data::Format format)
    : layout_(layout), rows_(rows), row_bytes_(0), format_(format) {
  const int64_t element = data::StorageBytes(format);
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw data::UsageError(what);
  };
  const std::string tile = "a tile of " + std::to_string(rows) + "x" + std::to_string(columns) + " elements of " +
                           std::string(data::Name(format));
  require(rows >= 1 && rows <= kMostBytes && columns >= 1 && columns <= kMostBytes,
          tile + ": expected at least 1x1 and at most " + std::to_string(kMostBytes) + " bytes");
  row_bytes_ = columns * element;
  require(bytes() <= kMostBytes, tile + " has " + std::to_string(bytes()) + " bytes as " + ToString(layout) +
                                     ": expected at most " + std::to_string(kMostBytes));
  require(layout.pad_bytes % element == 0, ToString(layout) + ": expected a multiple of an element of " +
                                               std::string(data::Name(format)) + ", " + std::to_string(element) +
                                               " bytes");
  require(layout.swizzle_bytes == 0 || row_bytes_ % layout.swizzle_bytes == 0,
          ToString(layout) + " needs rows of a multiple of " + std::to_string(layout.swizzle_bytes) + " bytes; " +
              tile + " has rows of " + std::to_string(row_bytes_));
}

int64_t SharedTile::Offset(int64_t row, int64_t at) const {
  const int64_t width = layout_.swizzle_bytes;
  if (width == 0) return row * (row_bytes_ + layout_.pad_bytes) + at;
  const int64_t chunk = at / width * (rows_ * width);
  const int64_t offset = chunk + row * width + at % width;
  // A chunk of few rows may begin in the middle of a line; the hardware permutes by bits of the address.
  const int64_t line = offset / kLine % (width / kUnit);
  return offset ^ line * kUnit;
}

}  // namespace bitflash::sim
