#include <fmt/format.h>

#include <algorithm>

#include "data/error.h"
#include "data/tensor_file.h"
#include "data/text.h"
#include "verify/cases/case_input.h"
#include "verify/cases/case_names.h"

namespace bitflash::verify {
namespace {

using data::InputError;
using data::Quoted;
using data::Tensor;
using data::TensorFile;

bool IsNameOf(const Synonyms& synonyms, const std::string& name) {
  return std::find(synonyms.names.begin(), synonyms.names.end(), name) != synonyms.names.end();
}

// All names of the tensor that one of its names means; only itself when it is none of ours.
std::vector<std::string> AllNames(const std::string& name) {
  for (const Synonyms* synonyms : {&kQ, &kK, &kV, &kO, &kLse, &kCuQ, &kCuK, &kSeqlensQ, &kSeqlensK, &kBlockTable,
                                   &kSinks, &kScale, &kSoftcap, &kQScale, &kKScale, &kVScale}) {
    if (IsNameOf(*synonyms, name)) return synonyms->names;
  }
  return {name};
}

}  // namespace

CaseInput ReadCaseInput(const std::vector<NamedFile>& files, const CaseHints& hints) {
  TensorFile all;
  std::string origin;
  std::vector<std::string> replaced;
  // Whole files first, so that a named tensor replaces theirs wherever it stands.
  for (const bool named : {false, true}) {
    for (const NamedFile& file : files) {
      if (named != !file.tensor.empty()) continue;
      origin += (origin.empty() ? "" : ", ") + file.path;
      if (named) {
        Tensor tensor = data::ReadTensor(file.path);
        bool replaces = false;
        for (const std::string& name : AllNames(file.tensor)) replaces |= all.tensors.erase(name) > 0;
        if (replaces) replaced.push_back(file.tensor);
        all.tensors.emplace(file.tensor, std::move(tensor));
        continue;
      }
      TensorFile content = data::ReadTensors(file.path);
      for (auto& [name, tensor] : content.tensors) {
        if (!all.tensors.emplace(name, std::move(tensor)).second) {
          throw InputError(
              fmt::format("{}: tensor {} is in an earlier file too: expected it once", file.path, Quoted(name)));
        }
      }
      all.metadata.merge(content.metadata);
    }
  }
  const auto was_named = [&](const Synonyms& synonyms) {
    return std::any_of(files.begin(), files.end(), [&](const NamedFile& f) { return IsNameOf(synonyms, f.tensor); });
  };
  const bool other_o =
      std::any_of(replaced.begin(), replaced.end(), [](const auto& name) { return IsNameOf(kO, name); });
  bool left_out = false;
  if (other_o && !was_named(kLse)) {
    for (const std::string& name : kLse.names) left_out |= all.tensors.erase(name) > 0;
  }
  CaseInput input = CaseFromTensors(all, origin, hints);
  for (const std::string& name : replaced) {
    input.assumptions.push_back(fmt::format("{} is that of its own file instead of the one among the others", name));
  }
  if (left_out) input.assumptions.push_back("lse is left out: it came with the o that was replaced");
  return input;
}

}  // namespace bitflash::verify
