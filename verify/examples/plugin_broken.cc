// Libraries that are no plug-in, or not quite: each definition BROKEN_... makes another one. For the tests.
#include <cstddef>
#include <cstdlib>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "verify/examples/naive_attention.h"
#include "verify/plugin_abi.h"

#if !defined(BROKEN_NO_ENTRY)
namespace {

[[maybe_unused]] int Init(void**, const char*) { return BITFLASH_PLUGIN_OK; }

[[maybe_unused]] int Forward(void*, const bitflash_attention* attention, const bitflash_tensor* q,
                             const bitflash_tensor* k, const bitflash_tensor* v, const bitflash_tensor* o,
                             const bitflash_tensor* lse) {
  naive::Attention(*attention, *q, *k, *v, *o, lse);
  return BITFLASH_PLUGIN_OK;
}

#if defined(BROKEN_CRASH_ON_LOAD)
__attribute__((constructor)) void OnLoad() { std::abort(); }
#elif defined(BROKEN_FLUSH_ON_LOAD) && defined(__x86_64__)
// What gcc before 13 links into every library that is built with -ffast-math (crtfastmath.o).
__attribute__((constructor)) void OnLoad() { _mm_setcsr(_mm_getcsr() | 0x8040); }
#endif

// What is behind the members that this version knows.
struct NewerPlugin {
  bitflash_plugin table;
  void* unknown[4];
};

constexpr uint32_t kMajor =
#if defined(BROKEN_OTHER_MAJOR)
    BITFLASH_PLUGIN_ABI_MAJOR + 1;
#else
    BITFLASH_PLUGIN_ABI_MAJOR;
#endif

constexpr uint32_t kSize =
#if defined(BROKEN_OLDER_MINOR)
    offsetof(bitflash_plugin, supports);
#elif defined(BROKEN_TOO_SMALL)
    offsetof(bitflash_plugin, forward);
#else
        sizeof(NewerPlugin);
#endif

// A host that reads a member beyond struct_size calls this.
[[maybe_unused]] const char* Unreadable(void*) { std::abort(); }
[[maybe_unused]] int Unsupported(void*, const bitflash_attention*, const bitflash_tensor*, const bitflash_tensor*,
                                 const bitflash_tensor*, const bitflash_tensor*, const bitflash_tensor*) {
  std::abort();
}

}  // namespace

#if defined(BROKEN_UNRESOLVED)
extern "C" int bitflash_test_defined_nowhere();
#endif

const bitflash_plugin* bitflash_plugin_entry(uint32_t) {
#if defined(BROKEN_UNRESOLVED)
  if (bitflash_test_defined_nowhere()) return nullptr;
#endif
#if defined(BROKEN_NULL_TABLE)
  return nullptr;
#elif defined(BROKEN_OLDER_MINOR)
  static const bitflash_plugin table = {kMajor, kSize, "older", "0.9", Init, Forward, Unsupported, Unreadable, nullptr};
  return &table;
#else
  static const NewerPlugin newer = {{kMajor, kSize, "newer", "9", Init,
#if defined(BROKEN_NO_FORWARD)
                                     nullptr,
#else
                                     Forward,
#endif
                                     nullptr, nullptr, nullptr},
                                    {}};
  return &newer.table;
#endif
}
#endif
