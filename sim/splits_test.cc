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

TEST_CASE("split-kv by default: one warp, 16 or 32 rows, parts of 1024 keys, longer ones only where they do not fit") {
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
  const Tiling decode{.Br = 16, .Bc = 64, .warps = 1, .part_keys = 1024, .row_blocks = 4};
  CHECK(tiling(128, 1, 1) == decode);
  CHECK(ToString(decode) == "16x64, 1 warp, parts of 1024 keys");
  CHECK(tiling(128, 4, 4).Br == 16);  // 16 packed rows
  CHECK(tiling(128, 8, 4).Br == 32);
  CHECK(tiling(64, 8, 16).Br == 32);
  CHECK(tiling(96, 8, 1).row_blocks == 3);
  CHECK(tiling(64, 66, 1).row_blocks == 1);  // 528 rows keep 132 SMs busy
  CHECK(tiling(256, 8, 4).Br == 16);
  CHECK(tiling(128, 1, 1, 29 << 20).part_keys == 2048);
  CHECK(ResolveTiling(kernel, {.seqlen_k = 1100}, h200, {.splits = 2}).part_keys == 0);
  CHECK(ResolveTiling(kernel, {.seqlen_k = 1100}, h200, {.part_keys = 512}).splits == 1);
  CHECK(ResolveTiling(kernel, {.seqlen_k = 1100}, h200, {.Br = 16, .Bc = 96}).part_keys == 1056);
  // What the CUDA kernel asks for: Q, and K and V of one tile.
  const Attention a{.heads_q = 32, .heads_kv = 8, .seqlen_q = 1, .seqlen_k = 8192};
  CHECK(CountKernel(kernel, a, kernel.DefaultTiling(a, h200), h200).launches[0].resources.shared_bytes ==
        (16 + 2 * 64) * 128 * 2);
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
