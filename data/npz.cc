#include "data/npz.h"

#include <string>

#include "data/npy.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

constexpr std::string_view kExtension = ".npy";

}  // namespace

TensorMap ParseNpz(const ByteSource& source) {
  TensorMap tensors;
  ReadZip(source, [&](const std::string& name, Buffer content) {
    const std::string entry = "entry " + Quoted(name);
    if (name.ends_with("/data.pkl")) {
      throw source.Error(
          "a torch.save file; loading its pickle would run code. Save the tensors with "
          "safetensors.torch.save_file, or with torch.load(..., weights_only=True) first");
    }
    if (!name.ends_with(kExtension) || name.size() == kExtension.size()) {
      throw source.Error(entry + ": expected only entries named NAME.npy");
    }
    const MemorySource npy(std::move(content), source.origin() + ": " + entry);
    tensors.emplace(name.substr(0, name.size() - kExtension.size()), ParseNpy(npy));
  });
  return tensors;
}

TensorMap ParseNpz(std::span<const std::byte> bytes, std::string_view origin) {
  return ParseNpz(MemorySource(Buffer::CopyOf(bytes), std::string(origin)));
}

std::vector<Buffer> SerializeNpz(const TensorMap& tensors, Compression compression) {
  std::vector<ZipEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    if (name.empty())
      throw UsageError("a tensor without a name: expected one, because .npz entries are named NAME.npy");
    entries.push_back({name + std::string(kExtension), SerializeNpy(tensor)});
  }
  return SerializeZip(entries, compression);
}

}  // namespace bitflash::data
