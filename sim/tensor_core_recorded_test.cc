// Outputs of an NVIDIA H100 80GB HBM3 (driver 580.159.04, 2026-11-25) that decided the rule:
// gpu/probes/tensor_core_probe found them where a simpler rule, without the floor of emax or with all k in ascending
// order, gives other bits.
#include <doctest/doctest.h>

#include <sstream>
#include <vector>

#include "sim/tensor_core_scalar.h"

namespace bitflash::sim {
namespace {

using data::Format;

struct Recorded {
  const char* instruction;
  Format input, accumulator;
  uint32_t c, d, simpler_rule;
  const char* products;  // "a*b a*b ...", patterns in hexadecimal
};

const std::vector<Recorded> kRecorded = {
    // clang-format off
    {"mma.sync", Format::kFp16, Format::kFp16, 0x8000, 0x0000, 0x0001,
     "8251*85D2 060C*8892 0616*06D6 8919*85FF 09EF*0244 8000*855A 849F*836D 00A0*82AC 889B*84CB 0A1C*85D5 "
     "8123*0000 03EE*05A4 0241*02CE 0000*8138 02D1*0571 00FF*08AC"},
    {"mma.sync", Format::kBf16, Format::kFp32, 0x00000000, 0x800034CC, 0x800034CB,
     "8000*0000 8000*68B1 1EF0*107A 8000*8000 8000*8453 8000*4A94 0000*0000 B95A*01F8 8000*0000 8000*0000 "
     "0000*0000 0000*0000 0000*0000 0000*8000 AF63*0000 961C*0000"},
    {"mma.sync", Format::kBf16, Format::kFp32, 0x80000000, 0x8000007C, 0x8000007D,
     "9BDD*99AA 9C6F*1B4E 9982*9C67 9982*1C67 98DA*99A0 1A84*9944 9BF2*1ACC 1C2A*98E9 999A*1C7F 998D*1955 "
     "9B64*1A53 9B64*9A53 99D9*9C37 1CCF*9902 9BB1*1CF7 9BB1*9CF7"},
    {"mma.sync", Format::kTf32, Format::kFp32, 0x00000000, 0x8000042A, 0x80000429,
     "000002C4*000013C7 800019B8*000000B2 311D4BA2*07A1E84C 80001850*BDC9653C 800016D9*80000B62 "
     "7644ECE9*80000136 000011C5*800006E8 B1BD4C22*07F79CED"},
    {"mma.sync", Format::kTf32, Format::kFp32, 0x80000000, 0x800000B1, 0x800000B2,
     "99F8B686*1CB6502D 98ADE8A7*188B2282 19471B54*9AF032A5 99669ED7*1B54F902 9938B30E*1CB70AD7 "
     "99218E40*9CCF2AFA 9C25B6A9*1BE0C0EE 1BC2FE6E*9A2B7173"},
    {"mma.sync", Format::kE4m3, Format::kFp32, 0xA35AA23D, 0xC5F01CD6, 0xC5F01CD7,
     "C5*A9 97*F4 2D*BD D0*9B D8*F0 8D*C6 D2*ED 43*63 2C*EF 5C*44 6F*39 0E*C9 B8*71 31*61 AA*73 AE*0A "
     "46*86 75*8C 3D*6E 4E*65 DE*A7 EF*6C 45*36 9A*82 76*32 20*EF 2E*E7 21*70 D4*43 01*27 04*F9 8B*A8"},
    {"mma.sync", Format::kE4m3, Format::kFp32, 0x00000000, 0xC46B31C9, 0xC46B31C8,
     "D7*D3 CE*1B 21*91 DE*41 E7*96 A4*CB 27*AD 3D*46 32*1D D2*B4 66*E0 A5*AF BE*3A A6*BC DF*96 93*41 "
     "36*1C 24*4B 3B*E3 27*90 E7*C9 E1*D3 1B*C1 E1*41 5F*16 57*2A 25*C5 D8*99 B3*46 67*43 2C*C5 5C*3D"},
    {"mma.sync", Format::kE4m3, Format::kFp32, 0xB955CF5A, 0xC1901E5B, 0xC1901E4B,
     "A8*97 00*E0 AD*D8 B4*29 00*C3 5B*A0 C5*1D 17*15 A8*17 A4*5E AD*58 B4*A9 00*43 5B*20 B6*65 B1*00 "
     "14*2E 52*4E D2*43 28*5D 24*C1 9F*80 E4*E7 CC*93 14*AE 41*00 C9*A6 28*DD CA*40 9F*00 E4*67 CC*13"},
    {"mma.sync", Format::kE5m2, Format::kFp32, 0xA516F91E, 0x4CECE0C9, 0x4CECE0CA,
     "90*BF F1*91 0B*C3 EC*4A F3*61 E3*64 A9*2B F2*20 88*9E 2D*C0 92*38 0F*F2 02*73 BA*E9 09*2A 68*56 "
     "D9*63 6C*78 68*05 61*9E 18*A7 0E*3B E2*B1 91*AC 01*DC 2A*6D 9D*76 4C*CF B8*96 4A*6B 3A*76 9C*10"},
    {"mma.sync", Format::kE5m2, Format::kFp32, 0x3A000000, 0x46868F73, 0x46868F72,
     "80*CC 2C*28 40*A4 80*B8 B4*D4 58*58 3C*80 3C*48 D8*B4 38*00 D4*24 00*B0 28*28 4C*54 00*00 30*BC "
     "44*40 AC*20 C8*BC 48*3C 80*B8 BC*3C 80*BC AC*AC A4*50 C0*AC 34*3C 30*C8 A8*58 D8*40 D8*20 00*38"},
    {"mma.sync", Format::kE5m2, Format::kFp32, 0x80000000, 0x44638544, 0x44638540,
     "A8*CF A8*4F CB*A4 CB*24 B3*D4 47*58 29*B8 29*38 30*B5 30*35 B2*25 BF*B0 52*28 52*A8 B5*00 B5*80 "
     "41*43 41*C3 28*BF AD*3C C4*BA C4*3A A6*BD A6*3D D1*50 D1*D0 BD*3E BD*BE 58*5A 58*DA 4E*22 4E*A2"},
    {"wgmma", Format::kFp16, Format::kFp16, 0x0000, 0x8001, 0x0000,
     "87A2*832F 0958*822A 8AE9*8105 08A0*046C 8828*8609 884F*03A4 042A*842F 8821*09DC 89A2*06DE 8614*0A3F "
     "8355*89B7 015E*0193 84F3*84FF 88AD*0000 85E7*0013 0000*04D4"},
    {"wgmma", Format::kBf16, Format::kFp32, 0x80000000, 0x80004377, 0x80004376,
     "8000*0000 8000*7F72 ABAB*0FCA 8000*0000 22C3*0D0F 0000*0000 0000*8000 EE61*8000 0000*A229 0000*0000 "
     "852D*8000 8000*0000 0000*0000 8F01*8000 3101*0000 0000*8000"},
    {"wgmma", Format::kBf16, Format::kFp32, 0x00000000, 0x0000003C, 0x0000003B,
     "1BCF*1B8D 1B0F*9B0F 9C07*9AE5 9AFB*1A0E 99A8*9B2B 1C2C*1992 1C86*0000 1C45*995E 9B62*9AB8 9B4D*198A "
     "9C07*1AE5 9AFB*9A0E 99A8*1B2B 1A1F*9B3A 1C86*8000 9BEA*9A01"},
    {"wgmma", Format::kTf32, Format::kFp32, 0x00000000, 0x00002A15, 0x00002A14,
     "800009A1*8000181C 000010C2*80000DEF 1E600B40*1CC066E6 80000C99*00001635 8041204F*2EEA4E28 "
     "800012BE*2457394B 0000059F*00001150 00001064*00000551"},
    {"wgmma", Format::kTf32, Format::kFp32, 0x00000000, 0x000000F9, 0x000000FA,
     "1C52C824*1C153BB0 9B557A64*99FE8C4D 1CD6A44C*80000050 1C1C8F4D*000004D8 196FA6DC*1B1E1F82 "
     "9C4D34B0*8000176B 1CF8F51D*9B7DB2F7 1CF8F51D*1B7DB2F7"},
    // clang-format on
};

TEST_CASE("the H100's bits near 2^-149 and 2^-25, and of 8-bit formats through mma.sync") {
  for (const Recorded& r : kRecorded) {
    CAPTURE(r.instruction);
    CAPTURE(r.products);
    std::vector<uint32_t> a, b;
    std::istringstream products(r.products);
    char star;
    for (uint32_t x, y; products >> std::hex >> x >> star >> y;) a.push_back(x), b.push_back(y);
    TensorCore core = FindTensorCore("sm90", r.input, r.accumulator, r.instruction);
    CHECK(a.size() == static_cast<size_t>(core.instruction_k));
    const auto d = [&] { return DotProductAdd(core, std::span<const uint32_t>(a), std::span<const uint32_t>(b), r.c); };
    CHECK(d() == r.d);
    core.emax_floor = kNoEmaxFloor, core.step_order = StepOrder::kAscending;
    CHECK(d() == r.simpler_rule);
  }
}

TEST_CASE("the last unit that an H100 keeps is 2^-158, of fp16 accumulators 2^-46") {
  // 2^-149 - 2^-u is cut to zero while the second term is seen. (2^-149 = 2^-74 2^-75.)
  const auto bf16 = [](int exponent) { return static_cast<uint32_t>(exponent + 127) << 7; };
  const auto fp16 = [](int exponent) {
    return exponent >= -14 ? static_cast<uint32_t>(exponent + 15) << 10 : 1u << (exponent + 24);
  };
  for (const char* instruction : {"wgmma", "mma.sync"}) {
    CAPTURE(instruction);
    const TensorCore& wide = FindTensorCore("sm90", Format::kBf16, Format::kFp32, instruction);
    const TensorCore& narrow = FindTensorCore("sm90", Format::kFp16, Format::kFp16, instruction);
    for (int u = 150; u <= 170; ++u) {
      const std::vector<uint32_t> a = {bf16(-74), bf16(-u + 75) | 0x8000}, b = {bf16(-75), bf16(-75)};
      CHECK(DotProductAdd(wide, std::span<const uint32_t>(a), std::span<const uint32_t>(b), 0) == (u <= 158 ? 0u : 1u));
    }
    // 2^-25 is a tie, and zero is even; with 2^-u beside it the result is 2^-24 while that is seen.
    for (int u = 26; u <= 48; ++u) {
      const std::vector<uint32_t> a = {fp16(-12), fp16(-u + u / 2)}, b = {fp16(-13), fp16(-(u / 2))};
      CHECK(DotProductAdd(narrow, std::span<const uint32_t>(a), std::span<const uint32_t>(b), 0) ==
            (u <= 46 ? 1u : 0u));
    }
  }
}

}  // namespace
}  // namespace bitflash::sim
