#include "verify/cases/case.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/safetensors.h"
#include "data/tensor_file.h"
#include "data/text.h"
#include "verify/cases/case_input.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::Tensor;
using data::UsageError;

Tensor Integers(const std::vector<int64_t>& values) {
  Tensor tensor = Tensor::Zeros(data::ElementType::Signed(8), {static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.Elements<int64_t>().begin());
  return tensor;
}

Tensor Doubles(const std::vector<double>& values) {
  Tensor tensor = Tensor::Zeros(Format::kFp64, {static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.Elements<double>().begin());
  return tensor;
}

void RequireShape(const char* name, const Tensor& tensor, const std::vector<int64_t>& shape) {
  if (tensor.shape() == shape) return;
  throw UsageError(fmt::format("{} has the shape {}: expected {}", name, data::ShapeString(tensor.shape()),
                               data::ShapeString(shape)));
}

}  // namespace

bool IsCaseField(std::string_view key) {
  constexpr std::array<std::string_view, 12> kFields = {"version", "layout",  "kv_layout", "dtype",
                                                        "o_dtype", "mask",    "scale",     "softcap",
                                                        "q_scale", "k_scale", "v_scale",   "v_in_k"};
  return std::find(kFields.begin(), kFields.end(), key) != kFields.end();
}

data::TensorFile ToTensorFile(const Case& saved) {
  const Problem& p = saved.problem;
  const data::Attention& a = p.attention;
  Validate(p);
  data::TensorFile file;
  file.tensors.emplace("q", p.q);
  file.tensors.emplace("k", p.k);
  if (!a.v_is_in_k) file.tensors.emplace("v", p.v);
  if (!p.seqlens_q.empty()) file.tensors.emplace("seqlens_q", Integers(p.seqlens_q));
  if (!p.seqlens_k.empty()) file.tensors.emplace("seqlens_k", Integers(p.seqlens_k));
  if (!p.sinks.empty()) file.tensors.emplace("sinks", Doubles(p.sinks));
  if (saved.observed) {
    RequireShape("o", saved.observed->o, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v});
    file.tensors.emplace("o", saved.observed->o);
    if (saved.observed->lse) {
      RequireShape("lse", *saved.observed->lse, {a.batch, a.heads_q, a.seqlen_q});
      file.tensors.emplace("lse", *saved.observed->lse);
    }
  }

  for (const auto& [key, value] : saved.notes) {
    if (IsCaseField(key)) throw UsageError(fmt::format("a note may not be called '{}': it describes the problem", key));
    file.metadata.emplace(key, value);
  }
  file.metadata["version"] = kCaseVersion;
  file.metadata["layout"] = "bhsd";
  file.metadata["mask"] = data::ToString(a.mask);
  file.metadata["scale"] = fmt::format("{:a}", a.scale());
  if (a.format == Format::kTf32) file.metadata["dtype"] = "tf32";  // the tensors say fp32
  if (a.softcap != 0) file.metadata["softcap"] = fmt::format("{:a}", a.softcap);
  if (a.v_is_in_k) file.metadata["v_in_k"] = fmt::format("{}", a.head_dim_v);
  if (p.q_scale != 1) file.metadata["q_scale"] = fmt::format("{:a}", p.q_scale);
  if (p.k_scale != 1) file.metadata["k_scale"] = fmt::format("{:a}", p.k_scale);
  if (p.v_scale != 1) file.metadata["v_scale"] = fmt::format("{:a}", p.v_scale);
  return file;
}

void WriteCase(const std::string& path, const Case& saved) {
  data::WriteFileAtomically(path, data::SerializeSafetensors(ToTensorFile(saved)));
}

Case ReadCase(const std::string& path) { return ParseCase(data::FileSource(path)); }

Case ParseCase(const data::ByteSource& source) {
  const data::TensorFile file = data::ParseTensors(source);
  for (const char* key : {"version", "layout"}) {
    if (!file.metadata.contains(key)) {
      throw source.Error(fmt::format("not a saved case: __metadata__ has no '{}'", key));
    }
  }
  if (file.metadata.at("version") != kCaseVersion) {
    throw source.Error(
        fmt::format("version is {}: expected '{}'", data::Quoted(file.metadata.at("version")), kCaseVersion));
  }
  return CaseFromTensors(file, source.origin()).saved;
}

}  // namespace bitflash::verify
