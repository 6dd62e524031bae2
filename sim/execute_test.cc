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

TEST_CASE("V inside K gives the bits of V as a copy of K's first columns, in every kernel") {
  std::mt19937_64 rng(7);
  int ran = 0;
  for (int trial = 0; trial < 140; ++trial) {
    const Kernel& kernel = Kernels()[trial % Kernels().size()];
    RandomProblem p = MakeRandomProblem(rng, kernel, 150);
    Attention& a = p.attention;
    a.softcap = 0;
    a.head_dim_v = std::min(a.head_dim, a.head_dim_v);
    if (!Runs(kernel, a) || a.seqlen_k == 0) continue;
    CAPTURE(kernel.name);
    CAPTURE(data::ToString(a));
    CAPTURE(ToString(p.tiling));
    a.v_is_in_k = false;
    Buffers apart(a, trial);
    for (int64_t row = 0; row < a.batch * a.heads_kv * a.seqlen_k; ++row) {
      std::memcpy(apart.v.data() + row * a.head_dim_v * 2, apart.k.data() + row * a.head_dim * 2, a.head_dim_v * 2);
    }
    Execute(kernel, a, p.tiling, "sm90", apart.in, apart.out);
    a.v_is_in_k = true;
    Buffers inside(a, trial);
    inside.in.v = nullptr;
    Execute(kernel, a, p.tiling, "sm90", inside.in, inside.out);
    REQUIRE(inside.o == apart.o);
    REQUIRE(inside.lse == apart.lse);
    ++ran;
  }
  CHECK(ran > 80);
}

TEST_CASE("what the progress callback throws ends an execution of any number of threads") {
  const Kernel& kernel = FindKernel("fa2");
  const Attention a{
      .batch = 2, .heads_q = 3, .heads_kv = 3, .seqlen_q = 40, .seqlen_k = 40, .head_dim = 32, .head_dim_v = 32};
  Buffers buffers(a, 1);
  struct Stop {};
  for (const int threads : {1, 2, 5}) {
    int calls = 0;
    ExecuteOptions options{.threads = threads};
    options.progress = [&](double) {
      ++calls;
      throw Stop();
    };
    bool stopped = false;
    try {
      Execute(kernel, a, {.Br = 16, .Bc = 16, .warps = 1}, "sm90", buffers.in, buffers.out, options);
    } catch (const Stop&) {
      stopped = true;
    }
    // With other threads the calling one may get no block, and then has nothing to tell.
    CHECK(stopped == (calls == 1));
    CHECK(calls <= 1);
    if (threads == 1) CHECK(stopped);
  }
}

}  // namespace
}  // namespace bitflash::sim
