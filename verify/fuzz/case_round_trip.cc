#include "verify/fuzz/case_round_trip.h"

#include <optional>

#include "data/error.h"
#include "data/fuzz/refusal.h"
#include "data/safetensors.h"
#include "verify/cases/case_input.h"

namespace bitflash::verify {
namespace {

using data::Buffer;
using data::Require;
using data::Tensor;

constexpr const char* kOrigin = "fuzz-input";

// What `parse` returns; empty when it refuses its input properly, or does not decide.
template <class Parse>
auto Parsed(Parse parse) -> std::optional<decltype(parse())> {
  try {
    return data::Parsed<data::InputError>(kOrigin, parse);
  } catch (const data::UndecidedError&) {
    return std::nullopt;
  }
}

Tensor Pattern(data::ElementType type, std::vector<int64_t> shape) {
  Tensor tensor = Tensor::Zeros(type, std::move(shape));
  std::byte* bytes = tensor.ContiguousBytes().data();
  for (int64_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<std::byte>(i * 37 % 61);
  return tensor;
}

Tensor Integers(const std::vector<int32_t>& values, std::vector<int64_t> shape) {
  std::vector<uint64_t> bits;
  for (const int32_t value : values) bits.push_back(static_cast<uint32_t>(value));
  return Tensor::FromBits(data::ElementType::Signed(4), std::move(shape), bits);
}

}  // namespace

bool FuzzCase(std::span<const uint8_t> input) {
  const Buffer bytes = Buffer::CopyOf(std::as_bytes(input));
  const data::MemorySource source(bytes, kOrigin);
  const auto strict = Parsed([&] { return ParseCase(source); });
  const auto file = Parsed([&] { return data::ParseSafetensors(source); });
  const auto any = file ? Parsed([&] { return CaseFromTensors(*file, kOrigin); }) : std::nullopt;
  Require(!strict || any, "a case is refused as tensors");
  if (!any) return false;
  Validate(any->saved.problem);
  const data::TensorFile written = ToTensorFile(any->saved);
  const Buffer again = Concatenated(data::SerializeSafetensors(written));
  Require(ToTensorFile(ParseCase(data::MemorySource(again, kOrigin))) == written, "a case does not read back equal");
  return true;
}

std::vector<std::vector<uint8_t>> CaseSeeds() {
  using data::Format;
  const std::map<std::string, std::string> strings = {
      {"version", std::string(kCaseVersion)}, {"layout", "bhsd"}, {"mask", "causal"}, {"scale", "0x1p-1"}};
  std::vector<data::TensorFile> files(5);
  for (data::TensorFile& file : files) file.metadata = strings;

  files[0].tensors = {{"q", Pattern(Format::kBf16, {1, 2, 3, 4})}, {"k", Pattern(Format::kBf16, {1, 1, 5, 4})},
                      {"v", Pattern(Format::kBf16, {1, 1, 5, 2})}, {"o", Pattern(Format::kFp32, {1, 2, 3, 2})},
                      {"lse", Pattern(Format::kFp32, {1, 2, 3})},  {"sinks", Pattern(Format::kFp32, {2})}};
  files[0].metadata["softcap"] = "50";

  files[1].tensors = {{"q", Pattern(Format::kFp16, {2, 3, 2, 4})},
                      {"k", Pattern(Format::kFp16, {2, 3, 1, 4})},
                      {"v", Pattern(Format::kFp16, {2, 3, 1, 4})},
                      {"seqlens_k", Integers({3, 0}, {2})}};
  files[1].metadata["layout"] = "bshd";
  files[1].metadata["mask"] = "window(2,0)";

  files[2].tensors = {{"q", Pattern(Format::kBf16, {5, 2, 2})},  {"k", Pattern(Format::kBf16, {6, 2, 2})},
                      {"v", Pattern(Format::kBf16, {6, 2, 2})},  {"o", Pattern(Format::kBf16, {5, 2, 2})},
                      {"lse", Pattern(Format::kFp32, {2, 5})},   {"cu_seqlens_q", Integers({0, 3, 5}, {3})},
                      {"cu_seqlens_k", Integers({0, 2, 6}, {3})}};
  files[2].metadata["layout"] = "thd";

  files[3].tensors = {{"q", Pattern(data::ElementType::Unsigned(1), {2, 1, 2, 4})},
                      {"k_cache", Pattern(data::ElementType::Unsigned(1), {3, 2, 1, 4})},
                      {"v_cache", Pattern(data::ElementType::Unsigned(1), {3, 2, 1, 4})},
                      {"block_table", Integers({2, 0, 1, -1}, {2, 2})},
                      {"cache_seqlens", Integers({3, 1}, {2})}};
  files[3].metadata["layout"] = "bshd";
  files[3].metadata["dtype"] = "e4m3";
  files[3].metadata["k_scale"] = "0x1.8p+1";

  files[4].tensors = {{"q", Pattern(Format::kBf16, {1, 2, 1, 4})}, {"k", Pattern(Format::kBf16, {1, 1, 3, 4})}};
  files[4].metadata["v_in_k"] = "3";

  std::vector<std::vector<uint8_t>> seeds;
  for (const data::TensorFile& file : files) {
    const Buffer bytes = Concatenated(data::SerializeSafetensors(file));
    const auto* begin = reinterpret_cast<const uint8_t*>(bytes.data());
    seeds.emplace_back(begin, begin + bytes.bytes());
  }
  return seeds;
}

}  // namespace bitflash::verify
