#include "verify/cases/case.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "data/error.h"
#include "data/safetensors.h"
#include "verify/cases/case_testing.h"
#include "verify/fuzz/case_round_trip.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::InputError;
using data::Tensor;

std::string TemporaryPath(const char* name) { return (std::filesystem::temp_directory_path() / name).string(); }

Case Everything() {
  Case saved;
  saved.problem = RandomProblem({.batch = 2,
                                 .heads_q = 6,
                                 .heads_kv = 2,
                                 .seqlen_q = 5,
                                 .seqlen_k = 7,
                                 .head_dim = 4,
                                 .head_dim_v = 3,
                                 .mask = data::Mask::Window(3, 1),
                                 .softmax_scale = 0.1,
                                 .softcap = 30,
                                 .format = Format::kE4m3},
                                1);
  saved.problem.seqlens_q = {5, 0};
  saved.problem.seqlens_k = {0, 7};
  saved.problem.sinks = {0, 1.5, -2, 1e-300, 3, 4};
  saved.problem.q_scale = 0.3;
  saved.problem.v_scale = 7;
  saved.observed = Outputs{RandomBits(Format::kBf16, {2, 6, 5, 3}, 4), RandomBits(Format::kFp32, {2, 6, 5}, 5)};
  saved.notes = {{"kernel", "fa3"}, {"tile", "128x176"}, {"producer", "a test"}};
  return saved;
}

TEST_CASE("a saved case reads back as it was written") {
  const std::string path = TemporaryPath("bitflash_case_test.safetensors");
  for (const bool v_in_k : {false, true}) {
    Case saved = Everything();
    if (v_in_k) {
      saved.problem.attention.v_is_in_k = true;
      saved.problem.v = Tensor();
    }
    WriteCase(path, saved);
    const Case read = ReadCase(path);
    CHECK(read.problem.attention == saved.problem.attention);
    CHECK(read.problem.q == saved.problem.q);
    CHECK(read.problem.k == saved.problem.k);
    CHECK(read.problem.v == saved.problem.v);
    CHECK(read.problem.seqlens_q == saved.problem.seqlens_q);
    CHECK(read.problem.seqlens_k == saved.problem.seqlens_k);
    CHECK(read.problem.sinks == saved.problem.sinks);
    CHECK(read.problem.q_scale == saved.problem.q_scale);
    CHECK(read.problem.k_scale == 1);
    CHECK(read.problem.v_scale == saved.problem.v_scale);
    REQUIRE(read.observed);
    CHECK(read.observed->o == saved.observed->o);
    REQUIRE(read.observed->lse);
    CHECK(*read.observed->lse == *saved.observed->lse);
    CHECK(read.notes == saved.notes);
  }
  std::filesystem::remove(path);
}

TEST_CASE("a case without keys, and one of tf32") {
  Case saved;
  saved.problem = RandomProblem({.heads_q = 2, .seqlen_q = 3, .seqlen_k = 0, .head_dim = 4, .head_dim_v = 4}, 1);
  CHECK(RoundTrip(saved).problem.attention.seqlen_k == 0);
  saved.problem = RandomProblem(
      {.heads_q = 2, .seqlen_q = 3, .seqlen_k = 2, .head_dim = 4, .head_dim_v = 4, .format = Format::kTf32}, 1);
  CHECK(RoundTrip(saved).problem.attention.format == Format::kTf32);
}

TEST_CASE("what cannot be saved is refused") {
  Case saved = Everything();
  saved.notes["scale"] = "1";
  CHECK_THROWS_WITH_AS(ToTensorFile(saved), "a note may not be called 'scale': it describes the problem",
                       data::UsageError);
  saved = Everything();
  saved.observed->o = RandomBits(Format::kBf16, {2, 6, 5, 4}, 4);
  CHECK_THROWS_WITH_AS(ToTensorFile(saved), "o has the shape (2, 6, 5, 4): expected (2, 6, 5, 3)", data::UsageError);
}

TEST_CASE("a file that does not say it is a case, or what is in it, is refused") {
  const auto message = [](const std::string& key, const std::optional<std::string>& value) {
    data::TensorFile file = ToTensorFile(Everything());
    if (value) file.metadata[key] = *value;
    if (!value) file.metadata.erase(key);
    try {
      ParseCase(data::MemorySource(Concatenated(data::SerializeSafetensors(file)), "FILE"));
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK(message("version", std::nullopt) == "FILE: not a saved case: __metadata__ has no 'version'");
  CHECK(message("version", "bitflash.case/2") == "FILE: version is 'bitflash.case/2': expected 'bitflash.case/1'");
  CHECK(message("layout", "sbhd") == "FILE: __metadata__ 'layout' is 'sbhd': expected bhsd, bshd or thd");
  CHECK(message("mask", "bottom\n") ==
        "FILE: __metadata__ 'mask' is 'bottom\\x0a': expected full, causal, causal-top-left or window(LEFT,RIGHT), "
        "where -1 is no limit");
  for (const char* number : {"", "0x", "1x", "nan", "inf", "0x1p99999", " 1", "--1", "1e999"}) {
    CAPTURE(number);
    CHECK(message("scale", number).find("expected a number, as 0.125 or 0x1p-3") != std::string::npos);
  }
  CHECK(message("scale", "-0x1p-3") == "FILE: softmax_scale is -0.125000: expected a finite number above 0");
  CHECK(message("q_scale", "0") == "FILE: q_scale is 0.000000: expected a finite number above 0");
  CHECK(message("scale", "0.125") == "accepted");
}

// As data/fuzz/fuzz_smoke_test.cc: the engine's values are fixed by the standard, so every machine tries the same.
TEST_CASE("random changes of files are refused properly or are cases that read back") {
  std::mt19937_64 random(20240711);
  const auto seeds = CaseSeeds();
  for (const auto& seed : seeds) REQUIRE(FuzzCase(seed));
  FuzzCase({});
  constexpr uint8_t kTelling[] = {0, 1, 2, 0x7F, 0x80, 0xFF, '0', '1', '3', '9', '"', '[', ',', 'x'};
  int64_t cases = 0;
  for (int round = 0; round < 6000; ++round) {
    CAPTURE(round);
    std::vector<uint8_t> bytes = seeds[static_cast<size_t>(round) % seeds.size()];
    for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      uint8_t& byte = bytes[random() % bytes.size()];
      byte = random() % 2 == 0 ? kTelling[random() % std::size(kTelling)] : static_cast<uint8_t>(random());
    }
    bool is_case = false;
    CHECK_NOTHROW(is_case = FuzzCase(bytes));
    cases += is_case;
  }
  CHECK(cases > 300);   // changes of values
  CHECK(cases < 5700);  // changes of the header
}

}  // namespace
}  // namespace bitflash::verify
