#include "verify/cases/case_input.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "data/convert.h"
#include "data/error.h"
#include "data/tensor_file.h"
#include "verify/cases/case_testing.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::InputError;
using data::Tensor;
using data::TensorFile;

TensorFile Plain(data::ElementType type = Format::kBf16) {
  TensorFile file;
  file.tensors = {{"q", RandomBits(type, {2, 4, 3, 8}, 1)},
                  {"k", RandomBits(type, {2, 2, 5, 8}, 2)},
                  {"v", RandomBits(type, {2, 2, 5, 6}, 3)}};
  return file;
}

std::string Message(const TensorFile& file, const CaseHints& hints = {}) {
  try {
    CaseFromTensors(file, "FILE", hints);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

bool Says(const CaseInput& input, std::string_view what) {
  for (const std::string& assumption : input.assumptions) {
    if (assumption == what) return true;
  }
  return false;
}

TEST_CASE("what nothing says is assumed, and said") {
  const CaseInput input = CaseFromTensors(Plain(), "FILE");
  CHECK(input.saved.problem.attention.heads_q == 4);
  CHECK(input.saved.problem.attention.head_dim_v == 6);
  CHECK_FALSE(input.saved.observed);
  CHECK(Says(input, "mask full: nothing says which"));
  CHECK(Says(input, "scale 0.353553, 1 / sqrt(head_dim): nothing says which"));

  CaseHints hints;
  hints.mask = data::Mask::Causal();
  hints.softmax_scale = 0.5;
  hints.layout = CaseLayout::kBhsd;
  const CaseInput said = CaseFromTensors(Plain(), "FILE", hints);
  CHECK(said.assumptions.empty());
  CHECK(said.saved.problem.attention.mask == data::Mask::Causal());
  CHECK(said.saved.problem.attention.scale() == 0.5);

  TensorFile file = Plain();
  file.metadata = {{"mask", "full"}, {"scale", "0x1p-2"}, {"layout", "bhsd"}, {"seed", "7"}};
  const CaseInput both = CaseFromTensors(file, "FILE", hints);
  CHECK(Says(both, "mask is causal, as given; the file says full"));
  CHECK(Says(both, "softmax_scale is 0.5, as given; the file says 0.25"));
  CHECK(both.saved.notes == std::map<std::string, std::string>{{"seed", "7"}});
}

TEST_CASE("names that other libraries use are taken and said, twice the same is refused") {
  TensorFile file = Plain();
  file.tensors["key"] = file.tensors["k"];
  CHECK(Message(file) == "FILE: tensors 'k' and 'key' are names of the same: expected one of them");
  file.tensors.erase("k");
  file.tensors["bias"] = Tensor::Zeros(Format::kFp32, {1});
  const CaseInput input = CaseFromTensors(file, "FILE");
  CHECK(Says(input, "tensor 'key' is k"));
  CHECK(Says(input, "tensor 'bias' is not looked at"));
  file.tensors.erase("v");
  CHECK(Message(file) == "FILE: no tensor 'v'; it holds 'bias', 'key', 'q'");
}

TEST_CASE("bit patterns need their format said") {
  CHECK(Message(Plain(data::ElementType::Unsigned(2))) ==
        "FILE: q holds u16, bit patterns or integers: expected that the format is said (fp16 or bf16)");
  CaseHints hints;
  hints.format = Format::kBf16;
  for (const auto type : {data::ElementType::Unsigned(2), data::ElementType::Signed(2)}) {
    const CaseInput input = CaseFromTensors(Plain(type), "FILE", hints);
    CHECK(input.saved.problem.attention.format == Format::kBf16);
    CHECK(input.saved.problem.q.type() == data::ElementType(Format::kBf16));
  }
  CHECK(Message(Plain(Format::kFp16), hints) == "FILE: q holds fp16: expected bf16, as said");
  CHECK(Message(Plain(data::ElementType::Unsigned(1)), hints) == "FILE: q holds u8: expected bf16, as said");
  CHECK(Message(Plain(Format::kFp64)).find("q holds fp64: expected fp32") != std::string::npos);

  TensorFile file = Plain(data::ElementType::Unsigned(1));
  file.metadata["dtype"] = "e5m2";
  file.tensors["o"] = RandomBits(data::ElementType::Unsigned(2), {2, 4, 3, 6}, 9);
  CHECK(Message(file).find("o holds u16, bit patterns") != std::string::npos);
  file.metadata["o_dtype"] = "fp16";
  const CaseInput input = CaseFromTensors(file, "FILE");
  CHECK(input.saved.problem.attention.format == Format::kE5m2);
  CHECK(input.saved.observed->o.type() == data::ElementType(Format::kFp16));
  file = Plain();
  file.tensors["k"] = RandomBits(Format::kFp16, {2, 2, 5, 8}, 2);
  CHECK(Message(file) == "FILE: k holds fp16 and q bf16: expected one format");
}

TEST_CASE("numbers come from scalar tensors, metadata or the caller") {
  const auto fp32 = [](float value) {
    return Tensor::FromBits(Format::kFp32, {1}, {data::Encode(Format::kFp32, value)});
  };
  TensorFile file = Plain(Format::kE4m3);
  file.tensors["q_descale"] = fp32(0.5f);
  file.tensors["softmax_scale"] = fp32(0.25f).Reshaped({});
  file.metadata["v_scale"] = "0x1.8p+0";
  CaseHints hints;
  hints.k_scale = 3;
  const Problem p = CaseFromTensors(file, "FILE", hints).saved.problem;
  CHECK(p.q_scale == 0.5);
  CHECK(p.k_scale == 3);
  CHECK(p.v_scale == 1.5);
  CHECK(p.attention.scale() == 0.25);
  file.tensors["q_descale"] = Tensor::FromBits(Format::kFp32, {2, 2}, {0x40000000, 0x40000000, 0x40000000, 0x40000000});
  CHECK(CaseFromTensors(file, "FILE").saved.problem.q_scale == 2);
  file.tensors["q_descale"].SetBits({1, 0}, 0x3F800000);
  CHECK_THROWS_WITH_AS(CaseFromTensors(file, "FILE"),
                       "FILE: q_scale has the shape (2, 2) and unequal numbers: only one a tensor is modelled",
                       data::UndecidedError);
  file.tensors["q_descale"] = Tensor::Zeros(Format::kFp32, {0, 2});
  CHECK(Message(file) == "FILE: q_scale has the shape (0, 2) of fp32: expected one number of a float format");
  file.tensors["q_descale"] = fp32(0);
  CHECK(Message(file) == "FILE: q_scale is 0.000000: expected a finite number above 0");
}

TEST_CASE("latent attention has no tensor v") {
  TensorFile file = Plain();
  file.metadata["v_in_k"] = "4";
  CHECK(Message(file) == "FILE: there is a tensor v, but v_in_k says that V is part of K: expected one of them");
  file.tensors.erase("v");
  const Problem p = CaseFromTensors(file, "FILE").saved.problem;
  CHECK(p.attention.v_is_in_k);
  CHECK(p.attention.head_dim_v == 4);
  file.metadata["v_in_k"] = "9";
  CHECK(Message(file).find("head_dim_v is 9: expected at most head_dim") != std::string::npos);
}

TEST_CASE("malformed companions are refused") {
  TensorFile file = Plain();
  file.tensors["lse"] = RandomBits(Format::kFp32, {2, 4, 3}, 4);
  CHECK(Message(file) == "FILE: there is lse but no o: expected both, or o alone");
  file.tensors["o"] = RandomBits(Format::kBf16, {2, 4, 3, 6}, 4);
  CHECK(Message(file) == "accepted");
  file.tensors["lse"] = RandomBits(Format::kFp64, {2, 4, 3}, 4);
  CHECK(Message(file) == "FILE: lse holds fp64: expected fp32");
  file = Plain();
  file.tensors["seqlens_k"] = Tensor::Zeros(Format::kFp32, {2});
  CHECK(Message(file) == "FILE: seqlens_k has the shape (2,) of fp32: expected a list of 1 integers or more");
  file = Plain();
  file.tensors["seqlens_k"] = Tensor::FromBits(data::ElementType::Unsigned(8), {2}, {UINT64_MAX, 1});
  CHECK(Message(file).starts_with("FILE: "));
  file = Plain();
  file.tensors["block_table"] = Tensor::Zeros(data::ElementType::Signed(4), {2});
  CHECK(Message(file).find("expected [batch, pages a sequence] of integers") != std::string::npos);
  file = Plain();
  file.tensors["sinks"] = Tensor::Zeros(Format::kBf16, {3});
  CHECK(Message(file).find("there are 3 sinks for 4 query heads") != std::string::npos);
}

TEST_CASE("tensors of several files, and one that replaces that of a file") {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "bitflash_case_input_test";
  std::filesystem::create_directories(folder);
  const auto path = [&](const char* name) { return (folder / name).string(); };
  const TensorFile file = Plain();
  Tensor old_o = RandomBits(Format::kBf16, {2, 4, 3, 6}, 4), new_o = RandomBits(Format::kBf16, {2, 4, 3, 6}, 5);
  for (const auto& [name, tensor] : file.tensors) {
    data::WriteTensors(path((name + ".npy").c_str()), {{{name, tensor}}, {}});
  }
  data::WriteTensors(path("other.npy"), {{{"other", new_o}}, {}});
  TensorFile archive = file;
  archive.tensors["out"] = old_o;
  archive.tensors["lse"] = RandomBits(Format::kFp32, {2, 4, 3}, 6);
  data::WriteTensors(path("all.npz"), archive);

  CaseHints hints;
  hints.format = Format::kBf16;
  const CaseInput parts = ReadCaseInput(
      {{"q", path("q.npy")}, {"k", path("k.npy")}, {"v", path("v.npy")}, {"o", path("other.npy")}}, hints);
  CHECK(parts.saved.problem.v == file.tensors.at("v"));
  CHECK(parts.saved.observed->o == new_o);
  const CaseInput one = ReadCaseInput({{"", path("all.npz")}}, hints);
  CHECK(one.saved.problem.k == file.tensors.at("k"));
  CHECK(one.saved.observed->o == old_o);
  CHECK(one.saved.observed->lse);
  const CaseInput replaced = ReadCaseInput({{"o", path("other.npy")}, {"", path("all.npz")}}, hints);
  CHECK(replaced.saved.observed->o == new_o);
  CHECK_FALSE(replaced.saved.observed->lse);
  CHECK(Says(replaced, "lse is left out: it came with the o that was replaced"));
  CHECK_THROWS_AS(ReadCaseInput({{"", path("all.npz")}, {"", path("all.npz")}}, hints), InputError);
  CHECK_THROWS_AS(ReadCaseInput({{"", path("none.npz")}}, hints), InputError);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace bitflash::verify
