// A GPU's JSON file from an untrusted hand: it is refused with InputError, or what was read survives writing and
// reading again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/error.h"
#include "data/gpu.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace bitflash::data;
  Gpu gpu;
  try {
    gpu = ParseGpu({reinterpret_cast<const char*>(bytes), size}, "fuzz.json");
  } catch (const InputError&) {
    return 0;
  }
  const std::string text = ToJson(gpu);
  if (ToJson(ParseGpu(text, "again.json")) != text) std::abort();
  if (Describe(gpu).size() != GpuFields().size()) std::abort();
  return 0;
}
