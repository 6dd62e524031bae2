#include "data/tensor_file.h"

#include <algorithm>
#include <filesystem>

#include "data/atomic_file.h"
#include "data/npy.h"
#include "data/npz.h"
#include "data/safetensors.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

constexpr std::string_view kAccepted = "expected .npy, .npz or .safetensors";

// The first bytes, at most 9: enough for every magic.
std::string FirstBytes(const ByteSource& source) {
  const Buffer start = source.Load(0, std::min<int64_t>(source.bytes(), 9), "the first bytes");
  return {reinterpret_cast<const char*>(start.data()), static_cast<size_t>(start.bytes())};
}

std::string Names(const TensorMap& tensors) {
  constexpr size_t kMost = 20;
  std::string names;
  size_t shown = 0;
  for (const auto& [name, tensor] : tensors) {
    if (++shown > kMost) return names + " and " + std::to_string(tensors.size() - kMost) + " more";
    names += (shown == 1 ? "" : ", ") + Quoted(name);
  }
  return names.empty() ? "none" : names;
}

}  // namespace

TensorFile ParseTensors(const ByteSource& source) {
  const std::string start = FirstBytes(source);
  if (start.starts_with("\x93NUMPY")) {
    TensorFile file;
    file.tensors.emplace(std::filesystem::path(source.origin()).stem().string(), ParseNpy(source));
    return file;
  }
  // A local header, or the end record of an empty archive (APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.16).
  if (start.starts_with("PK\3\4") || start.starts_with("PK\5\6")) return {.tensors = ParseNpz(source)};
  if (start.size() == 9 && start[8] == '{') return ParseSafetensors(source);
  if (start.starts_with('\x80')) {  // PROTO, how every pickle of protocol 2 or later starts
    throw source.Error(
        "a pickle; loading it would run code. Save the tensors with safetensors.torch.save_file or "
        "numpy.savez instead");
  }
  throw source.Error("neither a .npy, a .npz nor a .safetensors file: it starts with " + Quoted(start));
}

TensorFile ReadTensors(const std::string& path) { return ParseTensors(FileSource(path)); }

Tensor ReadTensor(const std::string& path, std::string_view name) {
  const TensorFile file = ReadTensors(path);
  if (name.empty() && file.tensors.size() == 1) return file.tensors.begin()->second;
  const auto found = file.tensors.find(std::string(name));
  if (!name.empty() && found != file.tensors.end()) return found->second;
  throw InputError(path + ": " + (name.empty() ? "expected exactly one tensor" : "no tensor " + Quoted(name)) +
                   "; it holds " + Names(file.tensors));
}

void WriteTensors(const std::string& path, const TensorFile& file) {
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".safetensors") return WriteFileAtomically(path, SerializeSafetensors(file));
  if (extension != ".npy" && extension != ".npz") {
    throw UsageError("cannot tell the format of " + Quoted(path) + " from its extension: " + std::string(kAccepted));
  }
  if (!file.metadata.empty()) {
    throw UsageError(path + ": " + extension + " files hold no metadata; expected .safetensors");
  }
  if (extension == ".npz") return WriteFileAtomically(path, SerializeNpz(file.tensors));
  if (file.tensors.size() != 1) {
    throw UsageError(path + ": a .npy file holds exactly one tensor, but there are " +
                     std::to_string(file.tensors.size()) + "; expected .npz or .safetensors");
  }
  WriteFileAtomically(path, SerializeNpy(file.tensors.begin()->second));
}

}  // namespace bitflash::data
