#include "data/safetensors.h"

#include <bit>

#include "data/file_testing.h"

namespace bitflash::data {
namespace {

constexpr auto kParse = [](std::span<const std::byte> bytes, std::string_view origin) {
  return ParseSafetensors(bytes, origin);
};

TensorFile Parse(std::string_view bytes) { return ParseSafetensors(AsBytes(bytes), "FILE"); }

std::string File(const std::string& json, const std::string& data = "") {
  return LittleEndian(json.size(), 8) + json + data;
}

std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

TEST_CASE("the file that the safetensors package wrote is read, and written back byte for byte") {
  const std::string bytes = Testdata("safetensors/mixed.safetensors");
  const TensorFile file = Parse(bytes);
  CHECK(file.metadata == std::map<std::string, std::string>{{"scale", "0x1p-3 \"\xC3\xA4\""}});
  CHECK(file.tensors.size() == 15);
  const auto check = [&](const char* name, ElementType type, std::vector<int64_t> shape, std::vector<uint64_t> bits) {
    CAPTURE(name);
    CHECK(file.tensors.at(name) == Tensor::FromBits(type, std::move(shape), bits));
  };
  check("q", Format::kFp16, {2, 3}, {0, 0x3C00, 0x4000, 0x4200, 0x4400, 0x4500});
  check("k", Format::kFp32, {2, 3}, {0, 0x3F800000, 0x40000000, 0x40400000, 0x40800000, 0x40A00000});
  check("bf16", Format::kBf16, {2, 3}, {0, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0});
  check("e4m3", Format::kE4m3, {2, 3}, {0, 0x38, 0x40, 0x44, 0x48, 0x4A});
  check("e5m2", Format::kE5m2, {2, 3}, {0, 0x3C, 0x40, 0x42, 0x44, 0x45});
  check("cu_seqlens_q", ElementType::Signed(4), {3}, {0, 1, 2});
  check("block_table", ElementType::Unsigned(1), {3}, {0, 1, 2});
  check("none", Format::kFp32, {0, 4}, {});
  check("scale", Format::kFp64, {}, {0});
  check("i8", ElementType::Signed(8), {2}, {0, 1});
  check("u8", ElementType::Unsigned(8), {2}, {0, 1});
  check("i2", ElementType::Signed(2), {2}, {0, 1});
  check("u2", ElementType::Unsigned(2), {2}, {0, 1});
  check("u4", ElementType::Unsigned(4), {2}, {0, 1});
  check("i1", ElementType::Signed(1), {2}, {0, 1});
  CHECK(AsText(Concatenated(SerializeSafetensors(file))) == bytes);
  const std::string none = Testdata("safetensors/none.safetensors");
  CHECK(AsText(Concatenated(SerializeSafetensors(Parse(none)))) == none);
}

TEST_CASE("what other writers may do is read: order, holes of no bytes, escapes, spaces, odd alignment") {
  const TensorFile file =
      Parse(File("{ " + Entry("b\\u0000\\u00e4", "U16", "[1]", "[1,3]") + ",\n" + Entry("a", "I8", "[1]", "[0, 1]") +
                     "," + Entry("none", "F32", "[0]", "[1,1]") + "}  \n",
                 "xyz"));
  CHECK(file.tensors.at(std::string("b\0\xC3\xA4", 4)).Bits({0}) == 0x7A79);
  CHECK(file.tensors.at(std::string("b\0\xC3\xA4", 4)).Elements<uint16_t>()[0] == 0x7A79);
  CHECK(Parse(AsText(Concatenated(SerializeSafetensors(file)))) == file);
}

TEST_CASE("views are written as what they show; names that cannot be are refused") {
  const Tensor t = Tensor::FromBits(Format::kBf16, {2, 2}, {1, 2, 3, 4});
  const TensorFile file{{{"t", t.Permuted({1, 0})}, {"slice", t.Slice(1, 1, 2)}}, {{"version", "1"}}};
  CHECK(Parse(AsText(Concatenated(SerializeSafetensors(file)))) == file);
  CHECK(Parse(AsText(Concatenated(SerializeSafetensors({{{"t", Tensor::Zeros(Format::kTf32, {2})}}, {}}))))
            .tensors.at("t")
            .type() == Format::kFp32);
  CHECK_THROWS_WITH_AS(SerializeSafetensors({{{"__metadata__", t}}, {}}), doctest::Contains("__metadata__"),
                       UsageError);
  CHECK_THROWS_WITH_AS(SerializeSafetensors({{{"\xFF", t}}, {}}), doctest::Contains("not UTF-8"), UsageError);
  CHECK_THROWS_WITH_AS(SerializeSafetensors({{}, {{"a", "\xFF"}}}), doctest::Contains("not UTF-8"), UsageError);
}

TEST_CASE("hostile safetensors: lengths and JSON") {
  CheckRefused(kParse, "", "the header length");
  CheckRefused(kParse, LittleEndian(3, 8) + "{}", "the header (3 bytes from byte 8)");
  CheckRefused(kParse, LittleEndian(~uint64_t{0}, 8) + "{}", "a header of 18446744073709551615 bytes");
  CheckRefused(kParse, LittleEndian(100'000'001, 8) + "{}", "a header of 100000001 bytes");
  CheckRefused(kParse, LittleEndian(100'000'000, 8) + "{}", "the header (100000000 bytes from byte 8)");
  CheckRefused(kParse, LittleEndian(uint64_t{1} << 63, 8) + "{}", "a header of 9223372036854775808 bytes");
  const auto refused = [](const std::string& json, const char* what) { CheckRefused(kParse, File(json), what); };
  refused("", "expected '{'");
  refused(" {}", "expected '{'");
  refused("[]", "expected '{'");
  refused("null", "expected '{'");
  refused("{", "not valid JSON");
  refused("{}{}", "not valid JSON");
  refused("{} x", "not valid JSON");
  refused(std::string("{}\0", 3), "not valid JSON");
  refused(std::string("{}\0hidden", 9), "not valid JSON");
  refused("{\"a\"}", "not valid JSON");
  refused("{\"a\":}", "not valid JSON");
  refused("{,}", "not valid JSON");
  refused("{\"\xFF\":{}}", "not valid JSON");
  refused("{\"\xC0\xAF\":{}}", "not valid JSON");
  refused("{\"\xED\xA0\x80\":{}}", "not valid JSON");
  refused("{\"\\ud800\":{}}", "not valid JSON");
  refused("{\"a\n\":{}}", "not valid JSON");
  refused("{/**/}", "not valid JSON");
  refused("{\"a\":NaN}", "not valid JSON");
}

TEST_CASE("hostile safetensors: structure of the header") {
  const auto refused = [](const std::string& json, const char* what) { CheckRefused(kParse, File(json, "ab"), what); };
  const auto tensor = [&](const std::string& dtype, const std::string& shape, const std::string& offsets,
                          const char* what) { refused("{" + Entry("a", dtype, shape, offsets) + "}", what); };
  refused("{\"a\":1}", "the value of 'a' is or contains a number: expected an object");
  refused("{\"a\":null}", "null: expected an object");
  refused("{\"a\":[]}", "an array: expected an object");
  refused("{\"a\":\"F32\"}", "a string: expected an object");
  refused("{\"a\":{}}", "tensor 'a': expected the keys dtype, shape and data_offsets");
  refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2]}}", "expected the keys");
  refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2],\"strides\":[1]}}",
          "unknown key 'strides' of tensor 'a'");
  refused("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
          "the key 'dtype' occurs twice of tensor 'a'");
  refused("{" + Entry("a", "U8", "[1]", "[0,1]") + "," + Entry("a", "U8", "[1]", "[1,2]") + "}",
          "the key 'a' occurs twice");
  refused("{" + Entry("a", "U8", "[1]", "[0,1]") + "," + Entry("\\u0061", "U8", "[1]", "[1,2]") + "}",
          "the key 'a' occurs twice");
  refused("{\"__metadata__\":{},\"__metadata__\":{}}", "the key '__metadata__' occurs twice");
  refused("{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"}}", "the key 'x' occurs twice in __metadata__");
  refused("{\"__metadata__\":{\"x\":1}}",
          "the value of 'x' in __metadata__ is or contains a number: expected a string");
  refused("{\"__metadata__\":{\"x\":{}}}", "an object: expected a string");
  refused("{\"__metadata__\":[]}", "expected an object");
  refused("{\"a\":{\"dtype\":1}}", "the value of 'dtype' of tensor 'a' is or contains a number: expected a string");
  refused("{\"a\":{\"shape\":\"x\"}}", "expected an array of integers");
  refused("{\"a\":{\"shape\":{}}}", "an object: expected an array of integers");
  tensor("U8", "[-2]", "[0,2]", "a negative number");
  tensor("U8", "[-0]", "[0,2]", "a negative number");
  tensor("U8", "[2.0]", "[0,2]", "the number '2.0'");
  tensor("U8", "[2e0]", "[0,2]", "the number '2e0'");
  tensor("U8", "[\"2\"]", "[0,2]", "a string: expected an array of at most 64 integers");
  tensor("U8", "[true]", "[0,2]", "a truth value");
  tensor("U8", "[[2]]", "[0,2]", "an array: expected an array of at most 64 integers");
  tensor("U8", "[18446744073709551616]", "[0,2]", "the number '18446744073709551616'");
  tensor("U8", "[2]", "[0]", "fewer than 2 numbers");
  tensor("U8", "[2]", "[0,1,2]", "more than 2 numbers");
  tensor("U8", "[2]", "2", "expected an array of 2 integers");
  std::string ones = "[1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  tensor("U8", ones + "]", "[0,1]", "more than 64 numbers");
  refused("{\"a\":" + std::string(1'000'000, '['), "expected an object");
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
  refused(deep, "unknown key 'a' of tensor 'a'");
  refused("{\"a\":{\"dtype\":" + deep, "an object: expected a string");
}

TEST_CASE("hostile safetensors: types, shapes and offsets") {
  const auto tensor = [](const std::string& dtype, const std::string& shape, const std::string& offsets,
                         const char* what) {
    CheckRefused(kParse, File("{" + Entry("a", dtype, shape, offsets) + "}", "abcd"), what);
  };
  CHECK_NOTHROW(Parse(File("{" + Entry("a", "U8", "[4]", "[0,4]") + "}", "abcd")));
  for (const char* dtype : {"BOOL", "f32", "", "F8_E8M0", "C64", "F4"})
    tensor(dtype, "[4]", "[0,4]", "expected one of U8 I8");
  tensor("F32", "[2]", "[0,4]", "shape (2,) of F32 has 8 bytes, but its data_offsets span 4");
  tensor("F32", "[]", "[0,3]", "shape () of F32 has 4 bytes");
  tensor("U8", "[4]", "[4,0]", "data_offsets 4 to 0");
  tensor("U8", "[5]", "[0,5]", "data_offsets 0 to 5 are not inside the 4 bytes of data");
  tensor("U8", "[4]", "[18446744073709551612,18446744073709551615]", "are not inside");
  tensor("U8", "[0]", "[5,5]", "data_offsets 5 to 5 are not inside");
  tensor("U8", "[3]", "[0,3]", "1 bytes after the last tensor");
  tensor("U8", "[3]", "[1,4]", "begins at 1, after a hole; expected 0");
  tensor("U8", "[0]", "[0,0]", "4 bytes after the last tensor");
  tensor("F32", "[4611686018427387904]", "[0,4]", "an extent of 4611686018427387904");
  tensor("F32", "[18446744073709551615]", "[0,4]", "an extent of 18446744073709551615");
  tensor("F32", "[4294967296,4294967296]", "[0,4]", "more than 2^62 bytes");
  tensor("U8", "[4294967296,4294967296,4]", "[0,4]", "more than 2^62 bytes");
  tensor("F32", "[0,4294967296,4294967296]", "[0,0]", "more than 2^62 bytes");
  tensor("F64", "[2305843009213693952]", "[0,0]", "more than 2^62 bytes");
  tensor("F32", "[1000000000000]", "[0,4000000000000]", "are not inside the 4 bytes of data");
  const auto two = [](const std::string& first, const std::string& second, const char* what) {
    CheckRefused(
        kParse, File("{" + Entry("a", "U8", "[2]", first) + "," + Entry("b", "U8", "[2]", second) + "}", "abcd"), what);
  };
  two("[0,2]", "[0,2]", "tensor 'b': its data begins at 0, inside of another tensor's; expected 2");
  two("[0,2]", "[1,3]", "tensor 'b': its data begins at 1, inside of another tensor's");
  two("[2,4]", "[1,3]", "tensor 'b': its data begins at 1, after a hole");
  CHECK_NOTHROW(
      Parse(File("{" + Entry("a", "U8", "[2]", "[2,4]") + "," + Entry("b", "U8", "[2]", "[0,2]") + "}", "abcd")));
}

TEST_CASE("messages do not repeat what could drive a terminal") {
  try {
    Parse(File("{\"\\u001b[2J\":1}"));
    FAIL("accepted");
  } catch (const InputError& error) {
    CHECK(std::string_view(error.what()).find('\x1B') == std::string_view::npos);
  }
}

TEST_CASE("every truncation of a safetensors file is refused") {
  CheckTruncationsRefused(kParse, Testdata("safetensors/mixed.safetensors"));
}

}  // namespace
}  // namespace bitflash::data
