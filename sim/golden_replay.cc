#include "sim/golden_replay.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstdio>

#include "data/convert_simd.h"
#include "data/random.h"
#include "sim/execute.h"

namespace bitflash::sim {
namespace {

std::vector<uint16_t> Generate(const Attention& a, uint64_t seed, int64_t bytes) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  const int64_t count = bytes / data::StorageBytes(a.format);
  std::vector<uint16_t> bits(count);
  std::vector<float> values;
  for (int64_t first = 0; first < count; first += kPiece) {
    values.resize(std::min(kPiece, count - first));
    data::FillHashNormal(seed, first, values);
    data::FromFloat(a.format, values.data(), bits.data() + first, static_cast<int64_t>(values.size()));
  }
  return bits;
}

}  // namespace

std::vector<data::GoldenCase> GoldenCases(const std::string& name) {
  return data::LoadGolden(std::string(BITFLASH_SOURCE_DIR) + "/data/golden/" + name + ".json");
}

double Work(const Attention& a) {
  return static_cast<double>(a.batch * a.heads_q) * static_cast<double>(a.seqlen_q * a.seqlen_k) *
         static_cast<double>(a.head_dim + a.head_dim_v);
}

void ReplayCase(const data::GoldenCase& golden, const Kernel& kernel, const Tiling& tiling, const std::string& arch,
                Replay& replay) {
  const Attention& a = golden.attention;
  CAPTURE(golden.backend);
  CAPTURE(golden.name);
  CAPTURE(ToString(tiling));
  const std::vector<uint16_t> q = Generate(a, golden.seed, a.q_bytes());
  const std::vector<uint16_t> k = Generate(a, golden.seed + 1, a.k_bytes());
  const std::vector<uint16_t> v = Generate(a, golden.seed + 2, a.v_bytes());
  std::vector<uint16_t> o(a.o_bytes() / 2);
  std::vector<float> lse(a.lse_bytes() / 4);
  Execute(kernel, a, tiling, arch, {q.data(), k.data(), v.data()}, {o.data(), lse.data()});

  ++replay.cases;
  const int64_t head_elements = a.seqlen_q * a.head_dim_v;
  for (size_t head = 0; head < golden.heads.size(); ++head) {
    CAPTURE(head);
    std::vector<uint32_t> lse_bits;
    for (int64_t row = 0; row < a.seqlen_q; ++row)
      lse_bits.push_back(std::bit_cast<uint32_t>(lse[head * a.seqlen_q + row]));
    const bool same_o = golden.heads[head].HasO(
        data::HashElements({o.data() + head * head_elements, static_cast<size_t>(head_elements)}));
    const bool same_lse = golden.heads[head].HasLse(data::HashElements(lse_bits));
    CHECK(same_o);
    CHECK(same_lse);
    ++replay.heads;
    replay.elements += head_elements;
    replay.heads_o_differ += !same_o;
    replay.heads_lse_differ += !same_lse;
  }
  for (const data::GoldenRow& row : golden.rows) {
    const uint16_t* mine = o.data() + (row.head * a.seqlen_q + row.row) * a.head_dim_v;
    CHECK(std::equal(row.o.begin(), row.o.end(), mine));
    CHECK(std::bit_cast<uint32_t>(lse[row.head * a.seqlen_q + row.row]) == row.lse);
  }
}

void Print(const std::string& name, const Replay& replay) {
  std::printf(
      "%-28s %3lld cases, %lld not covered; %lld heads, %lld elements of O; O differs in %lld heads, LSE in %lld\n",
      name.c_str(), static_cast<long long>(replay.cases), static_cast<long long>(replay.skipped),
      static_cast<long long>(replay.heads), static_cast<long long>(replay.elements),
      static_cast<long long>(replay.heads_o_differ), static_cast<long long>(replay.heads_lse_differ));
}

}  // namespace bitflash::sim
