// libFuzzer target of data/npy.h. Seeds: data/testdata/npy.
#include <cstddef>

#include "data/fuzz/round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bitflash::data::FuzzNpy({data, size});
  return 0;
}
