#include "data/safetensors.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "data/safetensors_header.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // safetensors/src/tensor.rs, MAX_HEADER_SIZE
constexpr int64_t kLengthBytes = 8;

std::string ReadHeader(const ByteSource& source) {
  const Buffer field = source.Load(0, kLengthBytes, "the header length");
  uint64_t length = 0;
  std::memcpy(&length, field.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    throw source.Error("a header of " + std::to_string(length) + " bytes: expected at most " +
                       std::to_string(kMaxHeaderBytes));
  }
  const Buffer header = source.Load(kLengthBytes, static_cast<int64_t>(length), "the header");
  return {reinterpret_cast<const char*>(header.data()), length};
}

ElementType TypeNamed(std::string_view name) {
  std::string accepted;
  for (const SafetensorsType& type : SafetensorsTypes()) {
    if (type.name == name) return type.type;
    accepted += " " + std::string(type.name);
  }
  throw InputError("dtype " + Quoted(name) + ": expected one of" + accepted);
}

// What the header says about a tensor, after its own checks.
struct Placed {
  std::string name;
  ElementType type;
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

// Throws InputError without an origin or name.
Placed Place(const SafetensorsEntry& entry, uint64_t data_bytes) {
  const ElementType type = TypeNamed(entry.dtype);
  std::vector<int64_t> shape;
  for (const uint64_t extent : entry.shape) {
    if (extent >> 62 != 0) throw InputError("an extent of " + std::to_string(extent) + " in its shape");
    shape.push_back(static_cast<int64_t>(extent));
  }
  uint64_t bytes = 0;
  try {
    bytes = static_cast<uint64_t>(ElementCount(shape, type.bytes()) * type.bytes());
  } catch (const UsageError& error) {  // here the file chose the shape
    throw InputError(error.what());
  }
  const uint64_t begin = entry.data_offsets[0], end = entry.data_offsets[1];
  if (begin > end || end > data_bytes) {
    throw InputError("data_offsets " + std::to_string(begin) + " to " + std::to_string(end) + " are not inside the " +
                     std::to_string(data_bytes) + " bytes of data");
  }
  if (end - begin != bytes) {
    throw InputError("shape " + ShapeString(shape) + " of " + entry.dtype + " has " + std::to_string(bytes) +
                     " bytes, but its data_offsets span " + std::to_string(end - begin));
  }
  return {entry.name, type, std::move(shape), begin, end};
}

// The tensors in the order of their data, which they must fill.
std::vector<Placed> PlaceAll(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes) {
  std::vector<Placed> placed;
  for (const SafetensorsEntry& entry : entries) {
    try {
      placed.push_back(Place(entry, data_bytes));
    } catch (const InputError& error) {
      throw InputError("tensor " + Quoted(entry.name) + ": " + error.what());
    }
  }
  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  uint64_t filled = 0;
  for (const Placed& tensor : placed) {
    if (tensor.begin != filled) {
      throw InputError("tensor " + Quoted(tensor.name) + ": its data begins at " + std::to_string(tensor.begin) +
                       (tensor.begin < filled ? ", inside of another tensor's" : ", after a hole") + "; expected " +
                       std::to_string(filled));
    }
    filled = tensor.end;
  }
  if (filled != data_bytes) throw InputError(std::to_string(data_bytes - filled) + " bytes after the last tensor");
  return placed;
}

// Position in SafetensorsTypes().
size_t TypeRank(ElementType type) {
  if (type == Format::kTf32) type = Format::kFp32;
  const auto& types = SafetensorsTypes();
  const auto found = std::find_if(types.begin(), types.end(), [&](const auto& t) { return t.type == type; });
  assert(found != types.end());
  return static_cast<size_t>(found - types.begin());
}

}  // namespace

TensorFile ParseSafetensors(const ByteSource& source) {
  const std::string json = ReadHeader(source);
  const int64_t data_offset = kLengthBytes + static_cast<int64_t>(json.size());
  TensorFile file;
  std::vector<Placed> placed;
  try {
    SafetensorsHeader header = ParseSafetensorsHeader(json);
    placed = PlaceAll(header.entries, static_cast<uint64_t>(source.bytes() - data_offset));
    file.metadata = std::move(header.metadata);
  } catch (const InputError& error) {
    throw source.Error(error.what());
  }
  for (Placed& tensor : placed) {
    Buffer data = source.Load(data_offset + static_cast<int64_t>(tensor.begin),
                              static_cast<int64_t>(tensor.end - tensor.begin), "a tensor's data");
    file.tensors.emplace(tensor.name, Tensor::FromBuffer(tensor.type, std::move(tensor.shape), std::move(data)));
  }
  return file;
}

TensorFile ParseSafetensors(std::span<const std::byte> bytes, std::string_view origin) {
  return ParseSafetensors(MemorySource(Buffer::CopyOf(bytes), std::string(origin)));
}

std::vector<Buffer> SerializeSafetensors(const TensorFile& file) {
  struct Named {
    size_t rank;
    const std::string* name;
    const Tensor* tensor;
  };
  std::vector<Named> order;
  for (const auto& [name, tensor] : file.tensors) {
    if (name == "__metadata__") throw UsageError("a tensor cannot be named __metadata__ in a safetensors file");
    order.push_back({TypeRank(tensor.type()), &name, &tensor});
  }
  // Stable: the map already sorts by name.
  std::stable_sort(order.begin(), order.end(), [](const Named& a, const Named& b) { return a.rank > b.rank; });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  std::vector<Buffer> pieces(1);  // the first is the header's place
  int64_t offset = 0;
  for (const Named& entry : order) {
    const int64_t end = offset + entry.tensor->bytes();
    header[*entry.name] = {{"dtype", SafetensorsTypes()[entry.rank].name},
                           {"shape", entry.tensor->shape()},
                           {"data_offsets", {offset, end}}};
    pieces.push_back(entry.tensor->Contiguous().ContiguousBytes());
    offset = end;
  }
  std::string json;
  try {
    json = header.dump();
  } catch (const nlohmann::json::type_error& error) {
    throw UsageError(std::string("a name or metadata string is not UTF-8: ") + error.what());
  }
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kMaxHeaderBytes) {
    throw UsageError("the header has " + std::to_string(json.size()) + " bytes: a safetensors file allows " +
                     std::to_string(kMaxHeaderBytes));
  }
  const uint64_t length = json.size();
  std::string prefix(kLengthBytes, '\0');
  std::memcpy(prefix.data(), &length, kLengthBytes);
  pieces[0] = Buffer::CopyOf(prefix + json);
  return pieces;
}

}  // namespace bitflash::data
