// A golden file from an untrusted hand: it is refused with InputError, or every case is a valid problem with the hashes
// of its heads and rows inside it.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/error.h"
#include "data/golden.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace bitflash::data;
  std::vector<GoldenCase> cases;
  try {
    cases = ParseGolden({reinterpret_cast<const char*>(bytes), size}, "fuzz.json");
  } catch (const InputError&) {
    return 0;
  }
  for (const GoldenCase& golden : cases) {
    const Attention& a = golden.attention;
    Validate(a);
    const int64_t heads = a.batch * a.heads_q;
    if (static_cast<int64_t>(golden.heads.size()) != heads || golden.launches.empty()) std::abort();
    for (const GoldenRow& row : golden.rows) {
      if (row.head >= heads || row.row >= a.seqlen_q) std::abort();
      if (static_cast<int64_t>(row.o.size()) != a.head_dim_v) std::abort();
    }
  }
  return 0;
}
