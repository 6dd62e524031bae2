// bitflash verify on tensors and on mistakes, as its users see it.
#include <doctest/doctest.h>

#include <filesystem>

#include "data/convert.h"
#include "data/tensor_file.h"
#include "verify/cli/verdict_testing.h"

namespace bitflash::verify {
namespace {

using data::ElementType;
using data::Format;
using data::Layout;
using data::Tensor;
using Json = nlohmann::json;

constexpr const char* kShape =
    " --batch 2 --heads-q 4 --heads-kv 2 --head-dim 32 --seqlen-q 20 --seqlen-k 40 --causal ";

// What FlashAttention-2 makes of a small problem: in.safetensors (q, k, v; mask and scale), o.npy, lse.npy.
struct Kernel {
  explicit Kernel(const std::string& shape = kShape) {
    const std::string gen = "bitflash gen --quiet --seed 3 -o in.safetensors" + shape;
    const Finished made =
        Shell(gen + " && bitflash run --quiet --kernel fa2 --in in.safetensors --out o.npy --lse lse.npy", folder);
    REQUIRE(made.err == "");
    inputs = data::ReadTensors(File("in.safetensors")).tensors;
    o = data::ReadTensor(File("o.npy")).View(Format::kBf16);
    lse = data::ReadTensor(File("lse.npy"));
  }
  std::string File(const std::string& name) const { return folder.path() + "/" + name; }
  void Write(const std::string& name, data::TensorMap tensors, std::map<std::string, std::string> metadata = {}) {
    data::WriteTensors(File(name), {std::move(tensors), std::move(metadata)});
  }
  Tensor Input(const std::string& name, Layout layout) const {
    return inputs.at(name).ToLayout(Layout::kBhsd, layout).Contiguous();
  }

  TemporaryFolder folder;
  data::TensorMap inputs;
  Tensor o, lse;
};

TEST_CASE("verify: exact, exact-variant, bounded, wrong, and their exit codes") {
  Kernel kernel;
  const std::string outputs = "--in in.safetensors --o o.npy --lse lse.npy ";
  const Judged exact = RunVerify(outputs + "--kernel fa2", kernel.folder);
  CHECK(exact.exit_code == 0);
  CHECK(exact.rung() == "exact");
  CHECK(exact.only()["judgement"]["named_kernel"]["differ"] == 0);
  const Judged variant = RunVerify(outputs, kernel.folder);
  CHECK(variant.rung() == "exact-variant");
  CHECK(variant.exit_code == 0);

  // The last bit of some elements.
  Tensor near = kernel.o.Clone();
  for (size_t i = 0; i < near.Elements<uint16_t>().size(); i += 500) near.Elements<uint16_t>()[i] ^= 1;
  kernel.Write("near.npy", {{"o", near}});
  const Judged bounded = RunVerify("--in in.safetensors --o near.npy --lse lse.npy --dtype bf16", kernel.folder);
  CHECK(bounded.rung() == "bounded");
  CHECK(bounded.exit_code == 0);

  kernel.Write("zeros.npy", {{"o", Tensor::Zeros(Format::kBf16, kernel.o.shape())}});
  const Judged wrong = RunVerify("--in in.safetensors --o zeros.npy --kernel fa2", kernel.folder);
  CHECK(wrong.rung() == "wrong");
  CHECK(wrong.exit_code == 1);
  bool zeros = false;
  for (const Json& h : wrong.only()["diagnosis"]["hypotheses"]) zeros |= h["id"] == "zeros" && h["identical"];
  CHECK(zeros);
  CHECK(wrong.text.find("looks like") != std::string::npos);
  CHECK(wrong.only()["diagnosis"]["tried"] > 0);
  CHECK(RunVerify("--in in.safetensors --o zeros.npy --no-diagnosis", kernel.folder).only()["diagnosis"].is_null());

  // Nothing can be judged: a file without o, a file that is cut.
  CHECK(Shell("bitflash verify --in in.safetensors", kernel.folder).exit_code == 3);
  const Finished cut =
      Shell("head -c 100 o.npy > cut.npy; bitflash verify --in in.safetensors --o cut.npy", kernel.folder);
  CHECK(cut.exit_code == 3);
  CHECK(cut.err.find("cut.npy") != std::string::npos);
}

TEST_CASE("verify: .npy, .npz and .safetensors; bhsd, bshd and thd; bit patterns") {
  Kernel kernel;
  data::TensorMap whole = kernel.inputs;
  whole["o"] = kernel.o;
  whole["lse"] = kernel.lse;
  kernel.Write("all.safetensors", whole);
  data::TensorMap patterns, bshd, thd;
  for (const auto& [name, tensor] : whole) {
    if (name == "lse") continue;
    patterns[name] = tensor.View(ElementType::Unsigned(2));
    bshd[name] = tensor.ToLayout(Layout::kBhsd, Layout::kBshd).Contiguous();
    const auto& shape = bshd[name].shape();
    thd[name] = bshd[name].Reshaped({shape[0] * shape[1], shape[2], shape[3]});
    kernel.Write(name + ".npy", {{name, patterns[name]}});
  }
  kernel.Write("all.npz", patterns);
  kernel.Write("bshd.safetensors", bshd);
  const auto starts = [](uint64_t rows) { return Tensor::FromBits(ElementType::Signed(4), {3}, {0, rows, 2 * rows}); };
  thd["cu_seqlens_q"] = starts(20);
  thd["cu_seqlens_k"] = starts(40);
  kernel.Write("thd.safetensors", thd);

  for (const char* files : {"--in all.safetensors", "--in all.npz --dtype bf16", "--in bshd.safetensors",
                            "--in bshd.safetensors --layout bshd", "--in thd.safetensors",
                            "--q q.npy --k k.npy --v v.npy --o o.npy --dtype bf16",
                            "--q q.npy --k k.npy --v v.npy --o o.npy --lse lse.npy --dtype bf16 --layout bhsd"}) {
    const Judged judged = RunVerify(std::string(files) + " --causal --kernel fa2", kernel.folder);
    CHECK(judged.rung() == "exact");
    CHECK(judged.exit_code == 0);
    CHECK(judged.only()["problem"] ==
          RunVerify("--in in.safetensors --o o.npy --kernel fa2", kernel.folder).only()["problem"]);
  }
  // Nothing says that it is causal, so it is judged as if it were not, and that is said.
  const Judged full = RunVerify("--in all.safetensors --no-diagnosis", kernel.folder);
  CHECK(full.exit_code == 1);
  CHECK(full.text.find("mask full: nothing says which") != std::string::npos);
  // Two bytes an element and no format.
  CHECK(Shell("bitflash verify --in all.npz", kernel.folder).exit_code == 3);
}

TEST_CASE("verify: where another layout fits as well, it is tried before a kernel is blamed") {
  Kernel kernel(" --heads-q 4 --heads-kv 4 --head-dim 32 --seqlen 4 --causal ");
  data::TensorMap swapped;
  for (const char* name : {"q", "k", "v"}) swapped[name] = kernel.Input(name, Layout::kBshd);
  swapped["o"] = kernel.o.ToLayout(Layout::kBhsd, Layout::kBshd).Contiguous();
  kernel.Write("swapped.safetensors", swapped);
  const Judged judged = RunVerify("--in swapped.safetensors --causal --no-diagnosis", kernel.folder);
  CHECK(judged.exit_code == 1);
  CHECK(judged.only()["advice"][0] == "as bshd it is bounded: --layout bshd");
  CHECK(RunVerify("--in swapped.safetensors --causal --layout bshd", kernel.folder).exit_code == 0);
  swapped["o"] = Tensor::Zeros(Format::kBf16, kernel.o.shape());
  kernel.Write("wrong.safetensors", swapped);
  CHECK(RunVerify("--in wrong.safetensors --causal --no-diagnosis", kernel.folder).only()["advice"][0] ==
        "as bshd it is wrong");
}

TEST_CASE("verify: a recipe file is the kernel that is named; so is a file's note, where bitflash knows the kernel") {
  Kernel kernel;
  const std::string outputs = "--in in.safetensors --o o.npy --lse lse.npy ";
  REQUIRE(Shell("bitflash identify --quiet --out-recipe r.json " + outputs, kernel.folder).exit_code == 0);
  const Judged recipe = RunVerify(outputs + "--recipe r.json", kernel.folder);
  CHECK(recipe.rung() == "exact");
  CHECK(Shell("bitflash verify --recipe r.json --kernel fa2 " + outputs, kernel.folder).exit_code == 2);
  CHECK(Shell("bitflash verify --recipe r.json --gpu a100-80gb " + outputs, kernel.folder).exit_code == 2);
  CHECK(Shell("bitflash verify --recipe none.json " + outputs, kernel.folder).exit_code == 3);

  data::TensorMap whole = kernel.inputs;
  whole["o"] = kernel.o;
  kernel.Write("known.safetensors", whole, {{"kernel", "fa2"}, {"mask", "causal"}});
  const Judged known = RunVerify("--in known.safetensors", kernel.folder);
  CHECK(known.rung() == "exact");
  CHECK(known.text.find("kernel fa2: the file says so") != std::string::npos);
  kernel.Write("unknown.safetensors", whole, {{"kernel", "my\nkernel"}, {"mask", "causal"}});
  const Judged unknown = RunVerify("--in unknown.safetensors", kernel.folder);
  CHECK(unknown.exit_code == 0);
  CHECK(unknown.text.find("no kernel: the file says my\\nkernel") != std::string::npos);
}

TEST_CASE("verify: what --save writes of wrong tensors is smaller and as wrong") {
  Kernel kernel;
  Tensor o = kernel.o.Clone();
  o.SetBits({1, 3, 7, 5}, 0x7FC0);
  kernel.Write("o.npy", {{"o", o}});
  const Judged wrong =
      RunVerify("--in in.safetensors --o o.npy --lse lse.npy --dtype bf16 --save cases --no-diagnosis", kernel.folder);
  CHECK(wrong.exit_code == 1);
  CHECK(wrong.only()["saved"] == "cases/in-minimal.safetensors");
  CHECK(wrong.only()["saved_problem"] == "batch 1, heads 2/1, seqlen 20 x 40, head_dim 32, bf16, causal");
  CHECK(wrong.only()["command"] == "bitflash verify --no-diagnosis --case cases/in-minimal.safetensors");
  const std::string replay = wrong.only()["command"];
  const Judged again = RunVerify(replay.substr(std::string("bitflash verify ").size()), kernel.folder);
  CHECK(again.rung() == "wrong");
  CHECK(again.only()["judgement"]["tensors"][0]["beyond"] == 1);
  CHECK(again.only()["judgement"]["tensors"][0]["first_kind"]["index"] == Json({0, 1, 7, 5}));

  // Neither what passes nor what is not asked for is saved.
  std::filesystem::remove_all(kernel.File("cases"));
  CHECK(RunVerify("--in in.safetensors --o o.npy --lse lse.npy --save none --no-diagnosis", kernel.folder)
            .only()["saved"]
            .is_null());
  CHECK(RunVerify("--in in.safetensors --o o.npy --no-diagnosis", kernel.folder).only()["saved"].is_null());
  kernel.Write("o.npy", {{"o", kernel.o}});
  CHECK(RunVerify("--in in.safetensors --o o.npy --save cases --kernel fa2", kernel.folder).only()["saved"].is_null());
  CHECK_FALSE(std::filesystem::exists(kernel.File("cases")));
}

TEST_CASE("verify --fault: the mistake is named, the smallest case replays it") {
  const TemporaryFolder folder;
  const std::string fault = "--kernel fa2 --fault mask-top-left ";
  const Judged judged = RunVerify(
      fault + "--heads-q 2 --head-dim 32 --seqlen-q 12 --seqlen-k 30 --causal --no-relations --save cases", folder);
  CHECK(judged.exit_code == 1);
  CHECK(judged.only()["diagnosis"]["finding"] == "mask-top-left");
  CHECK(judged.only()["diagnosis"]["hypotheses"][0]["code"] == "M01");
  CHECK(judged.only()["diagnosis"]["hypotheses"][0]["identical"] == true);
  CHECK(judged.text.find("looks like   a top-left causal mask: identical") != std::string::npos);
  CHECK(judged.only()["saved_problem"].get<std::string>().find("heads 1/1, seqlen 1 x 2") != std::string::npos);
  const std::string command = judged.only()["command"], saved = judged.only()["saved"];
  CHECK(command == "bitflash verify " + fault + "--no-relations --case " + saved);
  const Judged again = RunVerify(command.substr(std::string("bitflash verify ").size()), folder);
  CHECK(again.rung() == "wrong");
  CHECK(again.only()["diagnosis"]["finding"] == "mask-top-left");

  // A tile of the flags is that of the kernel; a mistake that cannot show decides nothing.
  const std::string shape = "--heads-q 1 --head-dim 32 --seqlen 40 --no-relations --no-diagnosis ";
  CHECK(RunVerify("--fault o-not-rescaled " + shape, folder).exit_code == 5);
  CHECK(RunVerify("--fault o-not-rescaled --tile 64x16 " + shape, folder).exit_code == 1);
}

TEST_CASE("verify: the same bytes for every number of threads") {
  Kernel kernel;
  kernel.Write("zeros.npy", {{"o", Tensor::Zeros(Format::kBf16, kernel.o.shape())}});
  const std::string options = "--quiet --in in.safetensors --o zeros.npy --lse lse.npy --kernel fa2 ";
  Judged one = RunVerify(options + "-j 1", kernel.folder), two = RunVerify(options + "-j 2", kernel.folder);
  CHECK(one.err == "");
  one.json["cases"][0]["command"] = two.json["cases"][0]["command"] = "";
  CHECK(WithoutTimes(one.json).dump() == WithoutTimes(two.json).dump());
}

TEST_CASE("verify: hostile names of files are harmless everywhere") {
  Kernel kernel;
  const std::string name = "$(printf 'a\\n\\033[31m\\377<&\"|%%::,b').safetensors";
  REQUIRE(Shell("cp in.safetensors \"" + name + "\"", kernel.folder).exit_code == 0);
  kernel.Write("zeros.npy", {{"o", Tensor::Zeros(Format::kBf16, kernel.o.shape())}});
  const Judged judged = RunVerify("--in \"" + name + "\" --o zeros.npy --github --save . --no-diagnosis",
                                  kernel.folder);  // checks text and JUnit
  CHECK(judged.exit_code == 1);
  CHECK(judged.text.find("a\\n\\x1b[31m\\xff<&\"|%::,b.safetensors") != std::string::npos);
  CHECK(judged.err.find("::error title=bitflash verify%3A a\\n\\x1b[31m\\xff<&\"|%25%3A%3A%2Cb.safetensors") == 0);
  CHECK(judged.only()["saved"] == "./a___31m_________b-minimal.safetensors");
}

}  // namespace
}  // namespace bitflash::verify
