// libFuzzer target of data/safetensors.h. Seeds: data/testdata/safetensors.
#include <cstddef>

#include "data/fuzz/round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bitflash::data::FuzzSafetensors({data, size});
  return 0;
}
