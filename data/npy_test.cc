#include "data/npy.h"

#include <bit>
#include <string>

#include "data/file_testing.h"

namespace bitflash::data {
namespace {

Tensor Parse(std::string_view bytes) { return ParseNpy(AsBytes(bytes), "FILE"); }

constexpr auto kParse = [](std::span<const std::byte> bytes, std::string_view origin) {
  return ParseNpy(bytes, origin);
};

std::string Npy(const std::string& header, const std::string& data, int version = 1) {
  return std::string("\x93NUMPY") + static_cast<char>(version) + '\0' +
         LittleEndian(header.size(), version == 1 ? 2 : 4) + header + data;
}

std::string Header(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

TEST_CASE(".npy files that NumPy wrote are read, and written back byte for byte") {
  const struct {
    const char* name;
    ElementType type;
    std::vector<uint64_t> bits;  // of 0 to 5
  } kFiles[] = {
      {"f2", Format::kFp16, {0, 0x3C00, 0x4000, 0x4200, 0x4400, 0x4500}},
      {"f4", Format::kFp32, {0, 0x3F800000, 0x40000000, 0x40400000, 0x40800000, 0x40A00000}},
      {"f8",
       Format::kFp64,
       {0, 0x3FF0000000000000, 0x4000000000000000, 0x4008000000000000, 0x4010000000000000, 0x4014000000000000}},
      {"i1", ElementType::Signed(1), {0, 1, 2, 3, 4, 5}},
      {"i2", ElementType::Signed(2), {0, 1, 2, 3, 4, 5}},
      {"i4", ElementType::Signed(4), {0, 1, 2, 3, 4, 5}},
      {"i8", ElementType::Signed(8), {0, 1, 2, 3, 4, 5}},
      {"u1", ElementType::Unsigned(1), {0, 1, 2, 3, 4, 5}},
      {"u2", ElementType::Unsigned(2), {0, 1, 2, 3, 4, 5}},
      {"u4", ElementType::Unsigned(4), {0, 1, 2, 3, 4, 5}},
      {"u8", ElementType::Unsigned(8), {0, 1, 2, 3, 4, 5}},
  };
  for (const auto& file : kFiles) {
    CAPTURE(file.name);
    const std::string bytes = Testdata("npy/" + std::string(file.name) + ".npy");
    CHECK(Parse(bytes) == Tensor::FromBits(file.type, {2, 3}, file.bits));
    CHECK(AsText(Concatenated(SerializeNpy(Parse(bytes)))) == bytes);
  }
}

TEST_CASE("bf16 and fp8, which NumPy has no names for, arrive as raw bits") {
  const Tensor bf16 = Tensor::FromBits(Format::kBf16, {2, 3}, {0, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0});
  const Tensor e4m3 = Tensor::FromBits(Format::kE4m3, {2, 3}, {0, 0x38, 0x40, 0x44, 0x48, 0x4A});
  const Tensor e5m2 = Tensor::FromBits(Format::kE5m2, {2, 3}, {0, 0x3C, 0x40, 0x42, 0x44, 0x45});
  CHECK(Parse(Testdata("npy/bf16.npy")).type() == ElementType::Unsigned(2));
  CHECK(Parse(Testdata("npy/bf16.npy")).View(Format::kBf16) == bf16);
  CHECK(Parse(Testdata("npy/e4m3.npy")).View(Format::kE4m3) == e4m3);
  CHECK(Parse(Testdata("npy/e5m2.npy")).View(Format::kE5m2) == e5m2);  // ml_dtypes calls it <f1
  CHECK(AsText(Concatenated(SerializeNpy(bf16))) == Testdata("npy/bf16.npy"));
  CHECK(AsText(Concatenated(SerializeNpy(e4m3))) == Testdata("npy/e4m3.npy"));
}

TEST_CASE("shapes, orders and versions of .npy") {
  const Tensor f4 = Parse(Testdata("npy/f4.npy"));
  CHECK(Parse(Testdata("npy/version2.npy")) == f4);
  CHECK(Parse(Testdata("npy/version3.npy")) == f4);
  CHECK(Parse(Testdata("npy/scalar.npy")).shape().empty());
  CHECK(Parse(Testdata("npy/vector.npy")).shape() == std::vector<int64_t>{3});
  CHECK(Parse(Testdata("npy/empty.npy")).shape() == std::vector<int64_t>{0, 4});
  const Tensor fortran = Parse(Testdata("npy/fortran.npy"));
  CHECK(fortran.strides() == std::vector<int64_t>{1, 2, 6});
  CHECK_FALSE(fortran.IsContiguous());
  for (int64_t i = 0; i < 24; ++i) {
    CHECK(fortran.Bits({i / 12, i / 4 % 3, i % 4}) == std::bit_cast<uint32_t>(static_cast<float>(i)));
  }
  for (const char* name : {"scalar", "vector", "empty"}) {
    const std::string bytes = Testdata("npy/" + std::string(name) + ".npy");
    CHECK(AsText(Concatenated(SerializeNpy(Parse(bytes)))) == bytes);
  }
  CHECK(Parse(AsText(Concatenated(SerializeNpy(fortran)))) == fortran);
  // Other writers: double quotes, other order of keys, no spaces, no last comma, 1-byte types with an order.
  CHECK(Parse(Npy("{\"shape\":(2,),\"fortran_order\":True,\"descr\":\"<u1\"}\n", "ab")).Bits({1}) == 'b');
  CHECK(Parse(Npy(Header("'|V2'", "(1, 1, )"), "ab")).Bits({0, 0}) == 0x6261);
  CHECK(Parse(Npy(Header("'|f1'", "(1,)"), "a")).type() == ElementType::Unsigned(1));
}

TEST_CASE("tf32 is written as <f4, its bits unchanged") {
  const Tensor tf32 = Tensor::FromBits(Format::kTf32, {1}, {0x3F802000});
  CHECK(Parse(AsText(Concatenated(SerializeNpy(tf32)))) == tf32.View(ElementType::Unsigned(4)).View(Format::kFp32));
}

TEST_CASE("a shape of the most dimensions and digits is written and read") {
  std::vector<int64_t> shape(Tensor::kMaxDimensions, 1);
  shape[0] = 0, shape[1] = int64_t{1} << 61;
  const Tensor tensor = Tensor::Zeros(ElementType::Unsigned(1), shape);
  CHECK(Parse(AsText(Concatenated(SerializeNpy(tensor)))) == tensor);
}

TEST_CASE("the message about sizes names shape, type and both sizes") {
  CheckRefused(kParse, Npy(Header("'<f2'", "(3, 4)"), std::string(20, 'x')),
               "header says shape (3, 4) of <f2 (24 bytes), but 20 bytes follow");
}

TEST_CASE("hostile .npy: magic, version, lengths") {
  const std::string good = Npy(Header("'<f2'", "(1,)"), "ab");
  CHECK_NOTHROW(Parse(good));
  CheckRefused(kParse, "", "the .npy magic and version");
  CheckRefused(kParse, "\x92NUMPY" + good.substr(6), "not a .npy file");
  CheckRefused(kParse, Npy(Header("'<f2'", "(1,)"), "ab", 4), "version 4.0");
  CheckRefused(kParse, Npy(Header("'<f2'", "(1,)"), "ab", 0), "version 0.0");
  CheckRefused(kParse, good.substr(0, 7) + '\1' + good.substr(8), "version 1.1");
  CheckRefused(kParse, good.substr(0, 8) + "\xFF\xFF" + good.substr(10), "the header (65535 bytes");
  CheckRefused(kParse, std::string("\x93NUMPY\2\0\xFF\xFF\xFF\xFF", 12), "a header of 4294967295 bytes");
  CheckRefused(kParse, std::string("\x93NUMPY\2\0\0\0\1\0", 12), "the header (65536 bytes");
  CheckRefused(kParse, std::string("\x93NUMPY\1\0\0\0", 10), "expected '{'");
  CheckRefused(kParse, good + "x", "3 bytes follow");
  CheckRefused(kParse, good.substr(0, good.size() - 1), "1 bytes follow");
}

TEST_CASE("hostile .npy: header") {
  const auto refused = [](const std::string& header, const char* what) {
    CheckRefused(kParse, Npy(header, "ab"), what);
  };
  const auto shape = [&](const std::string& text, const char* what) { refused(Header("'<f2'", text), what); };
  refused("[]\n", "expected '{'");
  refused("{}\n", "lacks the key 'descr'");
  refused("{'descr': '<f2', 'shape': (1,)}\n", "lacks the key 'fortran_order'");
  refused("{'descr': '<f2', 'fortran_order': False}\n", "lacks the key 'shape'");
  refused("{'descr': '<f2', 'descr': '<f2', 'fortran_order': False, 'shape': (1,)}\n", "repeated key 'descr'");
  refused("{'descr': '<f2', 'fortran_order': False, 'shape': (1,), 'x': 1}\n", "unknown key 'x'");
  refused("{'descr': '<f2' 'fortran_order': False, 'shape': (1,)}\n", "expected '}'");
  refused("{'descr' '<f2'}\n", "expected ':'");
  refused("{,}\n", "expected a quoted string");
  refused("{'descr': '<f2', , }\n", "expected a quoted string");
  refused(Header("'<f2'", "(1,)") + "\n", "one newline");
  refused("{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }", "one newline");
  refused("{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }\t\n", "one newline");
  refused("{'descr': '<f2', 'fortran_order': False, 'shape': (1,), } or evil()\n", "one newline");
  refused("{'descr': '<f2", "without its closing quote");
  refused("{'descr': '<f2\"}\n", "unexpected character in a string");
  refused("{'de\\x73cr': '<f2'}\n", "unexpected character in a string");
  refused("{'\xC3\xA4': '<f2'}\n", "unexpected character in a string");
  refused(std::string("{'de\0scr': 1}\n", 14), "unexpected character in a string");
  refused(Header("__import__('os').system('true')", "(1,)"), "expected a quoted string");
  refused(Header("'<f2'", "(1,)", "0"), "expected True or False");
  refused(Header("'<f2'", "(1,)", "Falsehood"), "expected '}'");
  shape("(1)", "expected ',' after the only extent");
  shape("(,)", "expected an extent");
  shape("(1,,)", "expected an extent");
  shape("(-1,)", "expected an extent");
  shape("(+1,)", "expected an extent");
  shape("(01,)", "expected an extent");
  shape("(1.0,)", "expected ','");
  shape("(1L,)", "expected ','");
  shape("(0x1,)", "expected ','");
  shape("(1, 2", "expected an extent");
  shape("(1, 2 3)", "expected ')'");
  shape("[1]", "expected '('");
  shape("((((((((1,),),),),),),),)", "expected an extent");
  shape("(9223372036854775808,)", "does not fit 64 bits");
  shape("(9223372036854775807,)", "more than 2^62 bytes");
  shape("(4294967296, 4294967296)", "more than 2^62 bytes");
  shape("(0, 4294967296, 4294967296)", "more than 2^62 bytes");
  shape("(1000000000000,)", "(2000000000000 bytes), but 2 bytes follow");
  std::string many = "(";
  for (int i = 0; i < 65; ++i) many += "1, ";
  shape(many + ")", "more than 64 dimensions");
}

TEST_CASE("hostile .npy: element types") {
  const auto refused = [](const std::string& descr, const char* what) {
    CheckRefused(kParse, Npy(Header(descr, "(1,)"), "ab"), what);
  };
  refused("'|O'", "pickles");
  refused("'O'", "pickles");
  refused("'>f2'", "big-endian");
  refused("'=f2'", "expected one of");
  refused("'|f2'", "expected one of");
  refused("'f2'", "expected one of");
  refused("'<f3'", "expected one of");
  refused("'<c8'", "expected one of");
  refused("'|b1'", "expected one of");
  refused("'<U1'", "expected one of");
  refused("'<V0'", "expected one of");
  refused("'<V16'", "expected one of");
  refused("'<M8[ns]'", "expected one of");
  refused("''", "expected one of");
  refused("'<'", "expected one of");
  refused("[('a', '<f2')]", "structured dtype");
}

TEST_CASE("every truncation of a .npy file is refused") {
  CheckTruncationsRefused(kParse, Testdata("npy/fortran.npy"));
  CheckTruncationsRefused(kParse, Testdata("npy/version2.npy"));
}

}  // namespace
}  // namespace bitflash::data
