#include "data/fuzz/round_trip.h"

#include <cstring>
#include <string_view>

#include "data/deflate.h"
#include "data/error.h"
#include "data/fuzz/refusal.h"
#include "data/npy.h"
#include "data/npz.h"
#include "data/nsight.h"
#include "data/safetensors.h"

namespace bitflash::data {
namespace {

constexpr std::string_view kOrigin = "fuzz-input";

template <class Parse>
auto Parsed(Parse parse) {
  return Parsed<InputError>(kOrigin, parse);
}

bool SameBytes(const Buffer& a, std::span<const std::byte> b) {
  return a.span().size() == b.size() && (b.empty() || std::memcmp(a.data(), b.data(), b.size()) == 0);
}

std::string CsvQuoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

// One table with one metric a row; a launch without metrics has a row without one.
std::string AsTable(const NsightLaunch& launch) {
  std::string text =
      "\"ID\",\"Kernel Name\",\"Block Size\",\"Grid Size\",\"Metric Name\",\"Metric Unit\",\"Metric Value\"\n";
  const std::string begin = CsvQuoted(launch.id) + ',' + CsvQuoted(launch.kernel) + ',' + CsvQuoted(launch.block) +
                            ',' + CsvQuoted(launch.grid) + ',';
  if (launch.metrics.empty()) text += begin + ",,\n";
  for (const auto& [name, metric] : launch.metrics) {
    text += begin + CsvQuoted(name) + ',' + CsvQuoted(metric.unit) + ',' + CsvQuoted(metric.text) + '\n';
  }
  return text;
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

void FuzzNsight(std::span<const uint8_t> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto table = Parsed([&] { return ParseNsight(text, kOrigin); });
  if (!table) return;
  std::string written;
  for (const NsightLaunch& launch : table->launches) {
    for (const auto& entry : launch.metrics) {
      const std::string& name = entry.first;
      for (const char* dimension : {"byte", "second", "%"}) {
        const auto value = Parsed([&] { return FindMetric(*table, launch, {"no metric", name}, dimension); });
        if (value && *value) Require((*value)->metric == name && (*value)->rounding >= 0, "another metric is found");
      }
    }
    written += AsTable(launch);
  }
  if (table->launches.empty()) return;
  const NsightTable again = ParseNsight(written, kOrigin);
  Require(again.launches.size() == table->launches.size() && again.skipped_lines == 0, "launches do not read back");
  for (size_t n = 0; n < again.launches.size(); ++n) {
    Require(AsTable(again.launches[n]) == AsTable(table->launches[n]), "a launch does not read back equal");
  }
}

}  // namespace bitflash::data
