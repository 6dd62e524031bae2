// A config.json from an untrusted hand: it is refused with InputError or UndecidedError, or every group of layers gives
// a problem that Validate accepts.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/error.h"
#include "data/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace bitflash::data;
  Model model;
  try {
    model = ParseModelConfig({reinterpret_cast<const char*>(bytes), size}, "fuzz.json");
  } catch (const InputError&) {
    return 0;
  } catch (const UndecidedError&) {
    return 0;
  }
  if (model.groups.empty() || model.groups.size() > 2) std::abort();
  for (const LayerGroup& group : model.groups) {
    if (group.layers < 1) std::abort();
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) ToAttention(model, group, phase, 2, 1000);
  }
  return 0;
}
