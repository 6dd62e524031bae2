// Where the parts of split keys begin and end, and what the default of split-kv is.
#include "sim/splits.h"

#include <doctest/doctest.h>

#include "data/convert_simd.h"
#include "data/random.h"
#include "sim/count.h"
#include "sim/execute.h"

namespace bitflash::sim {
namespace {

std::vector<Range> Parts(const Attention& a, const Tiling& t) {
  std::vector<Range> parts;
  for (int64_t part = 0; part < SplitParts(a, t); ++part) {
    const Range keys = PartKeys(a, t, {.split = part}, Order::kAscending).keys();
    parts.push_back({keys.begin, keys.count});
  }
  return parts;
}

TEST_CASE("parts of a given number of keys are counted from key 0, whatever the mask hides; the last one is ragged") {
  Attention a{.seqlen_q = 1, .seqlen_k = 2100};
  Tiling t{.Br = 16, .Bc = 64, .warps = 1, .part_keys = 1024};
  CHECK(Parts(a, t) == std::vector<Range>{{0, 1024}, {1024, 1024}, {2048, 52}});
  a.mask = data::Mask::Window(1000, 0);  // keys 1099 to 2099: whole tiles from 1088 on
  CHECK(Parts(a, t) == std::vector<Range>{{0, 0}, {1088, 960}, {2048, 52}});
  a.mask = data::Mask::Full();
  a.seqlen_k = 1024;
  CHECK(Parts(a, t) == std::vector<Range>{{0, 1024}});
  a.seqlen_k = 0;
  CHECK(SplitParts(a, t) == 0);
  // Equal parts of the same keys: two of nine tiles.
  a.seqlen_k = 1100;
  CHECK(Parts(a, {.Br = 16, .Bc = 64, .warps = 1, .splits = 2}) == std::vector<Range>{{0, 576}, {576, 524}});
}

TEST_CASE("split-kv by default: a warp of 16 rows or a warpgroup of 64, parts of 1024 keys, longer ones if they must") {
  const data::Gpu h200 = data::LoadGpu("h200");
  const Kernel& kernel = FindKernel("split-kv");
  const auto tiling = [&](int64_t head_dim, int64_t group, int64_t seqlen_q, int64_t seqlen_k = 8192) {
    return kernel.DefaultTiling({.heads_q = 8 * group,
                                 .heads_kv = 8,
                                 .seqlen_q = seqlen_q,
                                 .seqlen_k = seqlen_k,
                                 .head_dim = head_dim,
                                 .head_dim_v = head_dim},
                                h200);
  };
  const Tiling decode{.Br = 16, .Bc = 64, .warps = 1, .part_keys = 1024, .row_blocks = 4, .tma = true};
  CHECK(tiling(128, 1, 1) == decode);
  CHECK(ToString(decode) == "16x64, 1 warp, parts of 1024 keys");
  CHECK(tiling(128, 4, 4).Br == 16);  // 16 packed rows
  CHECK(ToString(tiling(128, 8, 4)) == "64x64, 4 warps, parts of 1024 keys, packed heads");
  CHECK(tiling(64, 8, 16).Br == 64);
  CHECK(tiling(96, 8, 4).Br == 32);  // no TMA
  CHECK_FALSE(tiling(96, 8, 4).tma);
  const Attention speculative{.heads_q = 64, .heads_kv = 8, .seqlen_q = 4, .seqlen_k = 8192};
  CHECK(kernel.DefaultTiling(speculative, data::LoadGpu("a100-80gb")).Br == 32);
  CHECK(tiling(96, 8, 1).row_blocks == 3);
  CHECK(tiling(64, 66, 1).row_blocks == 1);  // 528 rows keep 132 SMs busy
  CHECK(tiling(256, 8, 4).Br == 64);
  CHECK(tiling(256, 8, 2).Br == 16);
  CHECK(tiling(128, 1, 1, 29 << 20).part_keys == 2048);
  CHECK(ResolveTiling(kernel, {.seqlen_k = 1100}, h200, {.splits = 2}).part_keys == 0);
  CHECK(ResolveTiling(kernel, {.seqlen_k = 1100}, h200, {.part_keys = 512}).splits == 1);
  CHECK(ResolveTiling(kernel, {.seqlen_k = 1100}, h200, {.Br = 16, .Bc = 96}).part_keys == 1056);
  // What the CUDA kernel asks for: Q, and K and V of one tile.
  const Attention a{.heads_q = 32, .heads_kv = 8, .seqlen_q = 1, .seqlen_k = 8192};
  CHECK(CountKernel(kernel, a, kernel.DefaultTiling(a, h200), h200).launches[0].resources.shared_bytes ==
        (16 + 2 * 64) * 128 * 2);
}

TEST_CASE("TMA brings whole slices of keys: 64, 32 beyond 128 columns, of small pages one page") {
  const Kernel& kernel = FindKernel("split-kv");
  const data::Gpu h200 = data::LoadGpu("h200");
  const auto keys = [&](int64_t head_dim, int64_t seqlen_k, int64_t page_size, int64_t group = 1) {
    const Attention a{.heads_q = group,
                      .seqlen_q = 1,
                      .seqlen_k = seqlen_k,
                      .head_dim = head_dim,
                      .head_dim_v = head_dim,
                      .format = Format::kBf16};
    Tiling t = kernel.DefaultTiling(a, h200);
    t.page_size = page_size;
    const LaunchCount launch = CountKernel(kernel, a, t, h200).launches[0];
    CHECK(At(launch.ledger.hbm_compulsory, TensorId::kK).read == seqlen_k * head_dim * 2);
    return At(launch.ledger.l2_to_sm, TensorId::kK).read / (head_dim * 2);
  };
  CHECK(keys(128, 1000, 0) == 1024);
  CHECK(keys(128, 2048, 0) == 2048);
  CHECK(keys(96, 1000, 0) == 1000);
  CHECK(keys(256, 1025, 0) == 1056);
  CHECK(keys(256, 1025, 0, 32) == 1088);  // a warpgroup
  CHECK(keys(128, 1001, 16) == 1008);
  CHECK(keys(128, 1001, 128) == 1024);
}

TEST_CASE("a sequence of one part has one launch, with the bits of two") {
  const Kernel& kernel = FindKernel("split-kv");
  const data::Gpu h200 = data::LoadGpu("h200");
  const Attention a{.heads_q = 8, .heads_kv = 2, .seqlen_q = 2, .seqlen_k = 1000};
  const Count one = CountKernel(kernel, a, kernel.DefaultTiling(a, h200), h200);
  REQUIRE(one.launches.size() == 1);
  CHECK(Sum(one.launches[0].ledger.hbm_compulsory).write == a.o_bytes() + a.lse_bytes());
  Tiling two = kernel.DefaultTiling(a, h200);
  two.part_keys = 512;
  CHECK(CountKernel(kernel, a, two, h200).launches.size() == 2);
  // Of two parts, no row sees a key of the second: the combine launch then works on one.
  Attention b{.heads_q = 2, .seqlen_q = 3, .seqlen_k = 128, .head_dim = 64, .head_dim_v = 64};
  b.mask = data::Mask::CausalTopLeft();
  std::vector<uint16_t> q(b.q_bytes() / 2), k(b.k_bytes() / 2), v(b.v_bytes() / 2);
  uint64_t seed = 1;
  for (auto* x : {&q, &k, &v}) {
    std::vector<float> values(x->size());
    data::FillHashNormal(seed++, 0, values);
    data::FromFloat(b.format, values.data(), x->data(), static_cast<int64_t>(x->size()));
  }
  const auto bits = [&](int64_t part_keys) {
    std::vector<uint16_t> o(b.o_bytes() / 2);
    std::vector<float> lse(b.lse_bytes() / 4);
    Execute(kernel, b, {.Br = 16, .Bc = 64, .warps = 1, .part_keys = part_keys}, "sm90", {q.data(), k.data(), v.data()},
            {o.data(), lse.data()});
    return std::pair(o, lse);
  };
  CHECK(bits(64) == bits(128));
}

TEST_CASE("the length of the parts decides bits; who asked for it, pages and packing do not") {
  const Attention a{.heads_q = 2, .seqlen_q = 1, .seqlen_k = 640, .head_dim = 64, .head_dim_v = 64};
  const auto tensor = [](uint64_t seed, int64_t bytes) {
    std::vector<float> values(bytes / 2);
    data::FillHashNormal(seed, 0, values);
    std::vector<uint16_t> bits(bytes / 2);
    data::FromFloat(Format::kBf16, values.data(), bits.data(), bytes / 2);
    return bits;
  };
  const auto q = tensor(1, a.q_bytes()), k = tensor(2, a.k_bytes()), v = tensor(3, a.v_bytes());
  const auto bits = [&](const Tiling& t) {
    std::vector<uint16_t> o(a.o_bytes() / 2);
    std::vector<float> lse(2);
    Execute(FindKernel("split-kv"), a, t, "sm90", {q.data(), k.data(), v.data()}, {o.data(), lse.data()});
    return std::pair(o, lse);
  };
  const auto parts_of_128 = bits({.Br = 16, .Bc = 64, .warps = 1, .part_keys = 128});
  CHECK(bits({.Br = 16, .Bc = 64, .warps = 1, .splits = 5}) == parts_of_128);
  CHECK(bits({.Br = 64, .Bc = 64, .part_keys = 128, .page_size = 16, .pack_gqa = true}) == parts_of_128);
  CHECK(bits({.Br = 16, .Bc = 64, .warps = 1, .part_keys = 64}) != parts_of_128);
}

}  // namespace
}  // namespace bitflash::sim
