// bitflash mma and sfu as their users see them.
#include <doctest/doctest.h>

#include <bit>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "data/hash.h"
#include "sim/special_functions.h"
#include "sim/tensor_core_scalar.h"
#include "verify/cli/shell.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;

std::string Answer(const std::string& input, const std::string& command) {
  const TemporaryFolder folder;
  WriteText(folder.path() + "/in", input);
  const Finished finished = Shell("bitflash " + command + " < in", folder);
  CAPTURE(command);
  CAPTURE(finished.err);
  CHECK(finished.exit_code == 0);
  return finished.out;
}

std::string Repeat(const std::string& word, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += word + " ";
  return text;
}

TEST_CASE("sfu: known values") {
  // Powers of two are exact; the rest is PTX ISA's table of special results for each function.
  CHECK(Answer("3f800000\n40000000\n00000000\nff800000\n7f800000\n7fc00000\n", "sfu ex2") ==
        "40000000\n40800000\n3f800000\n00000000\n7f800000\n7fffffff\n");
  CHECK(Answer("40000000\n80000000\n7F800000\n0x00000001", "sfu rcp -") == "3f000000\nff800000\n00000000\n7f800000\n");
  CHECK(Answer("40800000\nbf800000\n0\n", "sfu rsqrt") == "3f000000\n7fffffff\n7f800000\n");
  CHECK(Answer("\t40800000 \r\n0\r\nbf800000\r\n", "sfu lg2") == "40000000\nff800000\n7fffffff\n");
  // exp2f keeps the subnormal 2^-128, ex2.approx.ftz flushes it.
  CHECK(Answer("c3000000\n", "sfu exp2f") == "00200000\n");
  CHECK(Answer("c3000000\n", "sfu ex2") == "00000000\n");
  CHECK(Answer("3f800000\n", "sfu logf") == "00000000\n");
  CHECK(Answer("", "sfu logf").empty());
}

TEST_CASE("mma: known values") {
  const std::string sixteen = Repeat("1980", 16);                                                    // 2^-76
  CHECK(Answer(sixteen + sixteen + "0\n", "mma --arch sm90 --in bf16 --out fp32") == "00000002\n");  // 16 * 2^-152
  CHECK(Answer("3f80 3f80 3f800000\n", "mma --arch sm90 --in bf16") == "40000000\n");
  CHECK(Answer("3c00 3c00 0000\n", "mma --arch sm80 --in fp16 --out fp16") == "3c00\n");
  CHECK(Answer("3f800000 3f801fff 0\n", "mma --arch sm100 --in tf32") == "3f800000\n");  // the low 13 bits are dropped
  CHECK(Answer("38 38 3f800000\n", "mma --arch sm89 --in e4m3") == "40000000\n");
  CHECK(Answer("7f80 0 0\n7f80 3f80 0\n", "mma --arch sm90 --in bf16") == "7fffffff\n7f800000\n");
  // 2^24 and, in k = 8..11, four times 1 or 1/2. Beside 2^24 the alignment keeps multiples of 1/2 on sm90 (F = 25),
  // of 1 on sm80 (24) and of 2 on sm70 (23, and steps of 4 products).
  const std::string a = "6c00 " + Repeat("0", 7) + Repeat("3c00", 4) + Repeat("0", 4);
  const std::string halves = "6c00 " + Repeat("0", 7) + Repeat("3800", 4) + Repeat("0", 4);
  CHECK(Answer(a + a + "0\n" + a + halves + "0\n", "mma --arch sm90 --in fp16") == "4b800002\n4b800001\n");
  CHECK(Answer(a + a + "0\n" + a + halves + "0\n", "mma --arch sm80 --in fp16") == "4b800002\n4b800000\n");
  CHECK(Answer(a + a + "0\n" + a + halves + "0\n", "mma --arch sm70 --in fp16") == "4b800000\n4b800000\n");
}

TEST_CASE("mma: an instruction fixes k and chooses the arithmetic") {
  CHECK(Answer(Repeat("3f80", 32) + "0\n", "mma --arch sm90 --in bf16 --instruction wgmma") == "41800000\n");
  CHECK(Answer(Repeat("3f80", 16) + "0\n", "mma --arch sm90 --in bf16 --instruction mma.sync.m16n8k8") == "41000000\n");
  CHECK(Answer(Repeat("38", 64) + "0\n", "mma --arch sm90 --in e4m3 --instruction mma.sync") == "42000000\n");
}

TEST_CASE("mma and sfu: many lines, every architecture, the definition's bits, the hash and any number of threads") {
  std::mt19937_64 rng(11);
  for (const sim::TensorCore& core : sim::AllTensorCores()) {
    if (core.instruction == "mma.sync" && (core.arch == "sm90" || core.arch == "sm100")) continue;  // not preferred
    const int bits = static_cast<int>(8 * data::StorageBytes(core.input));
    const int c_bits = static_cast<int>(8 * data::StorageBytes(core.accumulator));
    std::string input;
    std::ostringstream expected;
    uint64_t hash = 0;
    constexpr int kLines = 600;
    for (int line = 0; line < kLines; ++line) {
      const size_t k = 1 + rng() % 40;
      std::vector<uint32_t> a(k), b(k);
      const uint32_t c = static_cast<uint32_t>(rng() >> (64 - c_bits));
      for (auto* side : {&a, &b}) {
        for (uint32_t& x : *side) x = static_cast<uint32_t>(rng() >> (64 - bits));
      }
      std::ostringstream text;
      text << std::hex;
      for (const uint32_t x : a) text << x << ' ';
      for (const uint32_t x : b) text << std::uppercase << x << ' ';
      text << "0x" << c << '\n';
      input += text.str();
      const uint32_t d = sim::DotProductAdd(core, a, b, c);
      hash += data::HashPair(line, d);
      expected.width(c_bits / 4);
      expected.fill('0');
      expected << std::hex << d << '\n';
    }
    const std::string command = "mma --arch " + std::string(core.arch) + " --in " +
                                std::string(data::Name(core.input)) + " --out " +
                                std::string(data::Name(core.accumulator));
    for (const char* threads : {" -j 1", " -j 2", " -j 3"}) CHECK(Answer(input, command + threads) == expected.str());
    const Json json = Json::parse(Answer(input, command + " --json"));
    CHECK(CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/mma.schema.json").empty());
    CHECK(json["lines"] == kLines);
    CHECK(std::stoull(json["hash"].get<std::string>(), nullptr, 16) == hash);
  }
  std::ostringstream in, out;
  for (int line = 0; line < 100000; ++line) {
    const uint32_t x = static_cast<uint32_t>(rng());
    in << std::hex << x << '\n';
    out.width(8);
    out.fill('0');
    out << std::hex << std::bit_cast<uint32_t>(sim::Evaluate(sim::Function::kEx2, std::bit_cast<float>(x))) << '\n';
  }
  for (const char* threads : {" -j 1", " -j 3"}) CHECK(Answer(in.str(), std::string("sfu ex2") + threads) == out.str());
  const Json json = Json::parse(Answer(in.str(), "sfu ex2 --json"));
  CHECK(CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/sfu.schema.json").empty());
  CHECK(json["lines"] == 100000);
}

TEST_CASE("sfu: the results of the lines before a bad one are written, and the error names the line") {
  const TemporaryFolder folder;
  std::string input;
  for (int line = 0; line < 30000; ++line) input += line == 20000 ? "3f80000g\n" : "3f800000\n";
  WriteText(folder.path() + "/in", input);
  const Finished finished = Shell("bitflash sfu ex2 in", folder);
  CHECK(finished.exit_code == 3);
  CHECK(finished.out == [] {
    std::string text;
    for (int line = 0; line < 20000; ++line) text += "40000000\n";
    return text;
  }());
  CHECK(finished.err ==
        "bitflash sfu: in, line 20001: '3f80000g': expected an fp32 bit pattern of 1 to 8 hexadecimal digits\n");
}

TEST_CASE("sfu: what has arrived on a pipe is answered before more is waited for") {
  const TemporaryFolder folder;
  const Finished finished = Shell(
      "mkfifo to; (echo 3f800000; while [ ! -s out ]; do sleep 0.05; done; echo 40000000) > to & "
      "bitflash sfu ex2 < to > out; cat out",
      folder);
  CHECK(finished.out == "40000000\n40800000\n");
}

}  // namespace
}  // namespace bitflash::verify
