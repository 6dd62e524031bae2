// The floating-point control word of the calling thread: rounding, flush to zero, denormals are zero, trap masks.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_FLOATING_POINT_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_FLOATING_POINT_H_

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bitflash::verify {

// x86-64: MXCSR without its sticky flags in the low half, the x87 control word above (Intel SDM volume 1, 10.2.3 and
// 8.1.5); System V ABI, 3.4.1: 0x1f80 and 0x37f in a new process. AArch64: FPCR, 0 in a new process.
#if defined(__x86_64__)
inline constexpr uint64_t kDefaultFpControl = 0x1f80 | uint64_t{0x37f} << 32;
inline uint64_t FpControl() {
  uint16_t x87;
  __asm__ volatile("fnstcw %0" : "=m"(x87));
  return (_mm_getcsr() & ~0x3fu) | uint64_t{x87} << 32;
}
inline void SetFpControl(uint64_t control) {
  const uint16_t x87 = static_cast<uint16_t>(control >> 32);
  __asm__ volatile("fldcw %0" : : "m"(x87));
  _mm_setcsr(static_cast<uint32_t>(control));
}
#elif defined(__aarch64__)
inline constexpr uint64_t kDefaultFpControl = 0;
inline uint64_t FpControl() {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  return control;
}
inline void SetFpControl(uint64_t control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }
#else
inline constexpr uint64_t kDefaultFpControl = 0;
inline uint64_t FpControl() { return 0; }
inline void SetFpControl(uint64_t) {}
#endif

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_FLOATING_POINT_H_
