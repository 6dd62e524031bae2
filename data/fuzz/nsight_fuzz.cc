// libFuzzer target of data/nsight.h. Seeds: data/testdata/nsight.
#include <cstddef>

#include "data/fuzz/round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bitflash::data::FuzzNsight({data, size});
  return 0;
}
