// What the machine must offer for amx_kernel_tile.cc: the processor's words (CPUID), the operating system's (XCR0), and
// the permission that Linux gives a process to use the 8 KiB of tile registers.
#include <string>

#include "reference/amx_attention.h"

#if defined(BITFLASH_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace bitflash::reference {
namespace {

#if defined(BITFLASH_AMX) && defined(__linux__)

struct Cpuid {
  unsigned a = 0, b = 0, c = 0, d = 0;
  Cpuid(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d); }
};

bool Bit(unsigned word, int bit) { return (word >> bit & 1) != 0; }

uint64_t EnabledStates() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID; volume 1, section 13 for the states.
std::string Missing() {
  const Cpuid basic(1, 0), extended(7, 0), more(7, 1);
  std::string missing;
  const auto need = [&](bool present, const char* name) {
    if (!present) missing += (missing.empty() ? "" : ", ") + std::string(name);
  };
  need(Bit(extended.b, 16), "AVX-512 F");
  need(Bit(extended.b, 17), "AVX-512 DQ");
  need(Bit(extended.b, 30), "AVX-512 BW");
  need(Bit(extended.b, 31), "AVX-512 VL");
  need(Bit(more.a, 5), "AVX-512 BF16");
  need(Bit(extended.d, 24), "AMX-TILE");
  need(Bit(extended.d, 22), "AMX-BF16");
  if (!missing.empty()) return "this processor lacks " + missing;

  constexpr uint64_t kVectors = 0xE6, kTiles = uint64_t{3} << 17;  // SSE, AVX, opmask, ZMM; XTILECFG, XTILEDATA
  const uint64_t enabled = Bit(basic.c, 27) ? EnabledStates() : 0;
  if ((enabled & kVectors) != kVectors) return "the operating system has not enabled AVX-512 (XCR0)";
  if ((enabled & kTiles) != kTiles) return "the operating system has not enabled AMX (XCR0); Linux does since 5.16";

  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM (Linux, asm/prctl.h), XTILEDATA
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) {
    return std::string("Linux refuses the permission to use AMX (arch_prctl ARCH_REQ_XCOMP_PERM): ") +
           std::strerror(errno);
  }
  return "";
}

#elif defined(BITFLASH_AMX)

std::string Missing() { return "how to ask this operating system for AMX is known for Linux only"; }

#else

std::string Missing() { return "this build has no AMX code: it is for x86-64 and a compiler with -mamx-bf16"; }

#endif

}  // namespace

const std::string& AmxSupport() {
  static const std::string missing = Missing();
  return missing;
}

}  // namespace bitflash::reference
