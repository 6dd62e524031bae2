// libFuzzer target of verify/cases/case.h and verify/cases/case_input.h. It needs no seeds: every input is tried as a
// file, and as a list of changes of a small valid file (the first byte says which; then offset, offset / 256, new
// byte).
#include <cstddef>

#include "verify/fuzz/case_round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bitflash::verify::FuzzCase({data, size});
  if (size == 0) return 0;
  static const auto seeds = bitflash::verify::CaseSeeds();
  std::vector<uint8_t> file = seeds[data[0] % seeds.size()];
  for (size_t i = 1; i + 2 < size; i += 3) file[(data[i] + size_t{256} * data[i + 1]) % file.size()] = data[i + 2];
  bitflash::verify::FuzzCase(file);
  return 0;
}
