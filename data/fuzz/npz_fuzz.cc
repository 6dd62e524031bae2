// libFuzzer target of data/npz.h. Seeds: data/testdata/npz.
#include <cstddef>

#include "data/fuzz/round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bitflash::data::FuzzNpz({data, size});
  return 0;
}
