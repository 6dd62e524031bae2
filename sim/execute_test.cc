#include "sim/execute.h"

#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "data/convert.h"
#include "data/random.h"
#include "sim/count_stream.h"
#include "sim/random_problem.h"

namespace bitflash::sim {
namespace {

struct Buffers {
  std::vector<std::byte> q, k, v, o;
  std::vector<float> lse;
  ExactInputs in;
  ExactOutputs out;

  Buffers(const Attention& a, uint64_t seed) {
    const auto fill = [&](std::vector<std::byte>& to, int64_t elements, uint64_t s) {
      const int64_t bytes = data::StorageBytes(a.format);
      to.resize(elements * bytes);
      for (int64_t i = 0; i < elements; ++i) {
        const uint32_t bits = static_cast<uint32_t>(data::Encode(a.format, data::HashNormal(s, i)));
        std::memcpy(to.data() + i * bytes, &bits, bytes);
      }
    };
    fill(q, a.batch * a.heads_q * a.seqlen_q * a.head_dim, seed);
    fill(k, a.batch * a.heads_kv * a.seqlen_k * a.head_dim, seed + 1);
    fill(v, a.batch * a.heads_kv * a.seqlen_k * a.head_dim_v, seed + 2);
    o.assign(a.o_bytes(), std::byte{0xEE});
    lse.assign(a.batch * a.heads_q * a.seqlen_q, 12345);
    in = {q.data(), k.data(), v.data()};
    out = {o.data(), lse.data()};
  }
};

bool Runs(const Kernel& kernel, const Attention& a) {
  return a.softcap == 0 && data::StorageBytes(a.format) == 2 && kernel.name != "";
}

TEST_CASE("the ledger of an execution equals that of the count") {
  std::mt19937_64 rng(5);
  int ran = 0;
  for (int trial = 0; trial < 400; ++trial) {
    const Kernel& kernel = Kernels()[trial % Kernels().size()];
    RandomProblem p = MakeRandomProblem(rng, kernel, 200);
    p.attention.softcap = 0;
    if (!Runs(kernel, p.attention)) continue;
    ++ran;
    CAPTURE(kernel.name);
    CAPTURE(data::ToString(p.attention));
    CAPTURE(ToString(p.tiling));
    CountStream counted;
    kernel.Run(counted, p.attention, p.tiling, kernel.recipe);
    Buffers buffers(p.attention, trial);
    const Executed executed = Execute(kernel, p.attention, p.tiling, "sm90", buffers.in, buffers.out, {.threads = 2});
    REQUIRE(executed.launches.size() == counted.launched().size());
    for (size_t n = 0; n < executed.launches.size(); ++n) {
      CAPTURE(executed.launches[n].name);
      REQUIRE(executed.launches[n].ledger == counted.launched()[n].ledger);
    }
  }
  CHECK(ran > 200);
}

}  // namespace
}  // namespace bitflash::sim
