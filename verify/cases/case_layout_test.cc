#include "verify/cases/case_layout.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "data/error.h"
#include "verify/cases/case_testing.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::InputError;
using data::Tensor;
using Shape = std::vector<int64_t>;
using Lengths = std::vector<int64_t>;

LaidOut Shapes(const Shape& q, const Shape& kv, const std::optional<Shape>& lse = std::nullopt) {
  LaidOut t;
  t.q = Tensor::Zeros(Format::kBf16, q);
  t.k = Tensor::Zeros(Format::kBf16, kv);
  t.v = t.k;
  t.o = t.q;
  if (lse) t.lse = Tensor::Zeros(Format::kFp32, *lse);
  return t;
}

Tensor Table(const std::vector<int64_t>& entries, Shape shape) {
  Tensor table = Tensor::Zeros(data::ElementType::Signed(8), std::move(shape));
  std::copy(entries.begin(), entries.end(), table.Elements<int64_t>().begin());
  return table;
}

std::string Message(const LaidOut& t, std::optional<CaseLayout> q = {}, std::optional<CaseLayout> kv = {}) {
  try {
    Arrange(t, FindReading(t, q, kv, "FILE"), "FILE");
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("a layout is found where only one fits") {
  // 12 is no multiple of 8; 16 of 4 keys is fine.
  const Reading reading = FindReading(Shapes({2, 12, 16, 8}, {2, 8, 4, 8}), {}, {}, "FILE");
  CHECK(reading.q == CaseLayout::kBshd);
  CHECK(reading.kv == CaseLayout::kBshd);
  CHECK(reading.alternatives.empty());
  CHECK(
      reading.reason ==
      "layout bshd: q is (2, 12, 16, 8) and k (2, 8, 4, 8); as bhsd, 12 query heads are not a multiple of 8 KV heads");
  CHECK(FindReading(Shapes({2, 16, 12, 8}, {2, 4, 8, 8}), {}, {}, "FILE").q == CaseLayout::kBhsd);
}

TEST_CASE("where both fit, lse, lengths and the likelier numbers decide, and the other is named") {
  const auto find = [](const LaidOut& t) { return FindReading(t, {}, {}, "FILE"); };
  Reading reading = find(Shapes({2, 1000, 32, 8}, {2, 1000, 8, 8}));
  CHECK(reading.q == CaseLayout::kBshd);
  CHECK(reading.alternatives == std::vector{CaseLayout::kBhsd});
  CHECK(reading.reason ==
        "layout bshd: q is (2, 1000, 32, 8) and k (2, 1000, 8, 8), which fit other readings too; in another reading "
        "there would be more than 256 query heads");
  reading = find(Shapes({2, 128, 32, 8}, {2, 128, 8, 8}));
  CHECK(reading.q == CaseLayout::kBshd);
  CHECK(reading.reason.ends_with("in another reading there would be more queries than keys"));
  reading = find(Shapes({2, 64, 128, 8}, {2, 64, 128, 8}));
  CHECK(reading.q == CaseLayout::kBhsd);
  CHECK(reading.reason.ends_with("in another reading there would be more KV heads than keys"));
  reading = find(Shapes({2, 64, 128, 8}, {2, 64, 128, 8}, Shape{2, 128, 64}));
  CHECK(reading.q == CaseLayout::kBshd);
  CHECK(reading.reason.ends_with("lse has its heads before its rows only in the reading taken"));
  LaidOut lengths = Shapes({2, 64, 128, 8}, {2, 64, 128, 8});
  lengths.seqlens_k = Lengths{64, 3};
  CHECK(find(lengths).q == CaseLayout::kBshd);
  lengths.seqlens_k = Lengths{65, 3};
  CHECK(find(lengths).alternatives.empty());  // only 128 keys are enough

  reading = find(Shapes({2, 32, 32, 8}, {2, 32, 32, 8}));
  CHECK(reading.q == CaseLayout::kBhsd);
  CHECK(reading.alternatives == std::vector{CaseLayout::kBshd});
  CHECK(reading.reason ==
        "layout bhsd: q is (2, 32, 32, 8) and k (2, 32, 32, 8), which nothing tells from bshd: say which it is");
  // Said: no assumption.
  reading = FindReading(Shapes({2, 32, 32, 8}, {2, 32, 32, 8}), CaseLayout::kBshd, {}, "FILE");
  CHECK(reading.q == CaseLayout::kBshd);
  CHECK(reading.reason.empty());
}

// The same problem in every layout, with random extents, lengths and bits, comes back as it was.
TEST_CASE("packed, transposed and paged tensors become the padded ones") {
  std::mt19937_64 rng(7);
  const auto pick = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(rng() % (high - low + 1)); };
  for (int round = 0; round < 400; ++round) {
    CAPTURE(round);
    const int64_t batch = pick(1, 4), heads_kv = pick(1, 3), heads_q = heads_kv * pick(1, 3), dim = pick(1, 5);
    const int64_t dim_v = pick(1, 5);
    Lengths queries, keys;
    for (int64_t b = 0; b < batch; ++b) {
      queries.push_back(pick(0, 6));
      keys.push_back(pick(0, 9));
    }
    queries[pick(0, batch - 1)] += 1;
    const int64_t longest_q = *std::max_element(queries.begin(), queries.end());
    const int64_t longest_k = *std::max_element(keys.begin(), keys.end());

    // The padded form, zeros behind each sequence.
    const auto padded = [&](Format format, int64_t heads, int64_t longest, int64_t columns, const Lengths& lengths) {
      Tensor tensor = RandomBits(format, {batch, heads, longest, columns}, rng());
      for (int64_t b = 0; b < batch; ++b) {
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t s = lengths[b]; s < longest; ++s) {
            for (int64_t c = 0; c < columns; ++c) tensor.SetBits({b, h, s, c}, 0);
          }
        }
      }
      return tensor;
    };
    const Tensor q = padded(Format::kBf16, heads_q, longest_q, dim, queries);
    const Tensor k = padded(Format::kBf16, heads_kv, longest_k, dim, keys);
    const Tensor v = padded(Format::kBf16, heads_kv, longest_k, dim_v, keys);
    const Tensor o = padded(Format::kFp32, heads_q, longest_q, dim_v, queries);
    const Tensor lse4 = padded(Format::kFp32, heads_q, longest_q, 1, queries);
    const Tensor lse = lse4.Reshaped({batch, heads_q, longest_q});

    // Rows [total, heads, columns], with `spare` rows between the sequences that are in nobody's use.
    const auto starts = [&](const Lengths& lengths, int64_t spare) {
      Lengths cu = {0};
      for (const int64_t length : lengths) cu.push_back(cu.back() + length + spare);
      return cu;
    };
    const auto packed = [&](const Tensor& tensor, const Lengths& cu, const Lengths& lengths) {
      const int64_t heads = tensor.shape()[1], columns = tensor.shape()[3];
      Tensor result = RandomBits(tensor.type(), {cu.back(), heads, columns}, rng());
      for (int64_t b = 0; b < batch; ++b) {
        for (int64_t s = 0; s < lengths[b]; ++s) {
          for (int64_t h = 0; h < heads; ++h) {
            for (int64_t c = 0; c < columns; ++c) result.SetBits({cu[b] + s, h, c}, tensor.Bits({b, h, s, c}));
          }
        }
      }
      return result;
    };

    LaidOut t;
    std::optional<CaseLayout> layout, kv_layout;
    const int64_t form_q = pick(0, 2), form_k = pick(0, 4);
    if (form_q < 2) {  // as it is, or bshd
      layout = form_q == 0 ? CaseLayout::kBhsd : CaseLayout::kBshd;
      const data::Layout to = form_q == 0 ? data::Layout::kBhsd : data::Layout::kBshd;
      t.q = q.ToLayout(data::Layout::kBhsd, to);
      t.o = o.ToLayout(data::Layout::kBhsd, to);
      t.lse = lse;
      if (heads_q != longest_q && pick(0, 1) == 1) t.lse = lse.Permuted({0, 2, 1});
      t.seqlens_q = queries;
    } else {
      layout = CaseLayout::kThd;
      const int64_t spare = pick(0, 1);
      const Lengths cu = starts(queries, spare);
      t.cu_seqlens_q = cu;
      if (spare > 0) t.seqlens_q = queries;
      t.q = packed(q, cu, queries);
      t.o = packed(o, cu, queries);
      const Tensor rows = packed(lse4, cu, queries).Reshaped({cu.back(), heads_q});
      t.lse = heads_q == cu.back() || pick(0, 1) == 0 ? rows.Permuted({1, 0}) : rows;
      if (pick(0, 2) == 0) t.lse = lse;
      if (t.lse->dimensions() == 3 && pick(0, 1) == 0) t.lse = lse.Contiguous();
    }
    if (form_k < 2) {
      kv_layout = form_k == 0 ? CaseLayout::kBhsd : CaseLayout::kBshd;
      const data::Layout to = form_k == 0 ? data::Layout::kBhsd : data::Layout::kBshd;
      t.k = k.ToLayout(data::Layout::kBhsd, to);
      t.v = v.ToLayout(data::Layout::kBhsd, to);
      t.seqlens_k = keys;
    } else if (form_k == 2) {
      kv_layout = CaseLayout::kThd;
      const int64_t spare = pick(0, 1);
      const Lengths cu = starts(keys, spare);
      t.cu_seqlens_k = cu;
      if (spare > 0) t.seqlens_k = keys;
      t.k = packed(k, cu, keys);
      t.v = packed(v, cu, keys);
    } else {
      kv_layout = form_k == 3 ? CaseLayout::kBhsd : CaseLayout::kBshd;
      const int64_t page_size = pick(1, 4), width = std::max<int64_t>(1, (longest_k + page_size - 1) / page_size);
      const int64_t pages = batch * width + 2;
      Lengths order(static_cast<size_t>(pages));
      for (int64_t i = 0; i < pages; ++i) order[i] = i;
      std::shuffle(order.begin(), order.end(), rng);
      Lengths table(static_cast<size_t>(batch * width), -1);  // what is behind the last page is anything
      Tensor k_pages = RandomBits(Format::kBf16, {pages, heads_kv, page_size, dim}, rng());
      Tensor v_pages = RandomBits(Format::kBf16, {pages, heads_kv, page_size, dim_v}, rng());
      for (int64_t b = 0; b < batch; ++b) {
        for (int64_t s = 0; s < keys[b]; ++s) {
          const int64_t slot = b * width + s / page_size;
          table[slot] = order[slot];
          for (int64_t h = 0; h < heads_kv; ++h) {
            for (int64_t c = 0; c < dim; ++c) {
              k_pages.SetBits({table[slot], h, s % page_size, c}, k.Bits({b, h, s, c}));
            }
            for (int64_t c = 0; c < dim_v; ++c) {
              v_pages.SetBits({table[slot], h, s % page_size, c}, v.Bits({b, h, s, c}));
            }
          }
        }
      }
      const data::Layout to = form_k == 3 ? data::Layout::kBhsd : data::Layout::kBshd;
      t.k = k_pages.ToLayout(data::Layout::kBhsd, to);
      t.v = v_pages.ToLayout(data::Layout::kBhsd, to);
      t.block_table = Table(table, {batch, width});
      t.seqlens_k = keys;
    }

    const Arranged arranged = Arrange(t, FindReading(t, layout, kv_layout, "FILE"), "FILE");
    CAPTURE(form_q);
    CAPTURE(form_k);
    CHECK(arranged.q == q);
    CHECK(arranged.k == k);
    REQUIRE(arranged.v);
    CHECK(*arranged.v == v);
    REQUIRE(arranged.o);
    CHECK(*arranged.o == o);
    REQUIRE(arranged.lse);
    CHECK(*arranged.lse == lse);
    const auto lengths = [&](const Lengths& given, int64_t extent) {
      return given.empty() ? Lengths(static_cast<size_t>(batch), extent) : given;
    };
    CHECK(lengths(arranged.seqlens_q, longest_q) == queries);
    CHECK(lengths(arranged.seqlens_k, longest_k) == keys);
  }
}

TEST_CASE("pages of their own layout are told from the queries'") {
  LaidOut t = Shapes({2, 1, 8, 4}, {9, 16, 3, 4});  // as bhsd pages: 16 KV heads
  t.q = t.o.emplace(Tensor::Zeros(Format::kBf16, {2, 6, 5, 4}));
  t.block_table = Table({0, 1, 2, 3}, {2, 2});
  t.seqlens_k = Lengths{20, 32};
  const Reading reading = FindReading(t, {}, {}, "FILE");
  CHECK(reading.kv == CaseLayout::kBshd);
  CHECK(reading.q == CaseLayout::kBhsd);
}

TEST_CASE("a decoding step of packed queries needs no cu_seqlens") {
  LaidOut t = Shapes({3, 6, 4}, {9, 16, 2, 4});
  t.block_table = Table({0, 1, 2, 3, 4, 5}, {3, 2});
  t.seqlens_k = Lengths{20, 32, 1};
  const Arranged arranged = Arrange(t, FindReading(t, {}, {}, "FILE"), "FILE");
  CHECK(arranged.q.shape() == Shape{3, 6, 1, 4});
  CHECK(arranged.k.shape() == Shape{3, 2, 32, 4});
  CHECK(arranged.assumptions == std::vector<std::string>{"one query row a sequence: there is no cu_seqlens_q"});
}

TEST_CASE("what does not fit is named with its shape and what was expected") {
  CHECK(Message(Shapes({2, 12, 16, 8}, {2, 8, 5, 8})) ==
        "FILE: q is (2, 12, 16, 8) and k (2, 8, 5, 8): as bhsd, 12 query heads are not a multiple of 8 KV heads; as "
        "bshd, 16 query heads are not a multiple of 5 KV heads");
  CHECK(Message(Shapes({2, 4, 4, 8}, {3, 4, 4, 8})).find("of different numbers of sequences") != std::string::npos);
  CHECK(Message(Shapes({2, 4, 4, 8}, {2, 4, 4, 16})).find("q has head_dim 8 and k has 16: expected the same") !=
        std::string::npos);
  CHECK(Message(Shapes({4, 8}, {4, 4, 8})).starts_with("FILE: q has the shape (4, 8): expected [batch, heads"));
  CHECK(Message(Shapes({2, 0, 4, 8}, {2, 4, 4, 8})) ==
        "FILE: q has the shape (2, 0, 4, 8): expected extents of at least 1");
  CHECK(Message(Shapes({2, 4, 4, 8}, {2, 0, 0, 8})) ==
        "FILE: k has the shape (2, 0, 0, 8): expected extents of at least 1");
  CHECK(Message(Shapes({7, 4, 8}, {7, 4, 8})).find("expected 4 dimensions, or cu_seqlens_q") != std::string::npos);
  CHECK(Message(Shapes({7, 4, 8}, {7, 4, 8}), CaseLayout::kThd) == "accepted");
  CHECK(Message(Shapes({7, 4, 8}, {7, 4, 8}), CaseLayout::kBhsd) ==
        "FILE: q is (7, 4, 8) and k (7, 4, 8): not of the layout bhsd");
  CHECK(Message(Shapes({2, 4, 5, 8}, {2, 4, 5, 8}, Shape{2, 4, 6})).find("lse is (2, 4, 6): expected (2, 4, 5)") !=
        std::string::npos);
  LaidOut t = Shapes({2, 4, 5, 8}, {2, 4, 5, 8});
  t.o = Tensor::Zeros(Format::kBf16, {2, 5, 4, 8});
  CHECK(Message(t).find("o is (2, 5, 4, 8) and q is (2, 4, 5, 8)") != std::string::npos);
  t = Shapes({2, 4, 5, 8}, {2, 4, 5, 8});
  t.v = Tensor::Zeros(Format::kBf16, {2, 4, 6, 8});
  CHECK(Message(t).find("v is (2, 4, 6, 8) and k is (2, 4, 5, 8)") != std::string::npos);
  t = Shapes({2, 4, 5, 8}, {2, 4, 5, 8});
  t.sinks = 3;
  CHECK(Message(t).find("there are 3 sinks for 4 query heads") != std::string::npos);
}

TEST_CASE("hostile lengths, starts and pages are refused") {
  const auto packed = [](const Lengths& cu_q, const Lengths& cu_k) {
    LaidOut t = Shapes({6, 2, 4}, {8, 2, 4});
    t.cu_seqlens_q = cu_q;
    t.cu_seqlens_k = cu_k;
    return t;
  };
  CHECK(Message(packed({0, 2, 6}, {0, 8, 8})) == "accepted");
  CHECK(Message(packed({1, 2, 6}, {0, 8, 8})) == "FILE: cu_seqlens_q begins with 1: expected 0");
  CHECK(Message(packed({0, 3, 2}, {0, 8, 8})) ==
        "FILE: cu_seqlens_q falls from 3 to 2 at entry 2: expected that it never falls");
  CHECK(Message(packed({0, 2, 6}, {0, 8, 9})) ==
        "FILE: cu_seqlens_k has an entry 9: expected at most 8, the rows of k");
  CHECK(Message(packed({0, 2, 6}, {0, INT64_MAX, INT64_MAX})).find("expected at most 8") != std::string::npos);
  CHECK(Message(packed({0, INT64_MIN, 6}, {0, 8, 8})).find("falls from 0") != std::string::npos);
  CHECK(Message(packed({0, 0, 0}, {0, 8, 8})) == "FILE: no sequence has a query: expected a row at least");
  CHECK(Message(packed({0, 2, 6}, {0, 8})).find("of different numbers of sequences") != std::string::npos);
  LaidOut t = packed({0, 2, 6}, {0, 8, 8});
  t.seqlens_k = Lengths{8, 1};
  CHECK(Message(t) == "FILE: seqlens_k has an entry 1: expected at most 0, the rows of sequence 1 by cu_seqlens_k");
  t = packed({0, 2, 5}, {0, 8, 8});
  CHECK(Arrange(t, FindReading(t, {}, {}, "FILE"), "FILE").assumptions ==
        std::vector<std::string>{"the last 1 rows of q belong to no sequence: cu_seqlens_q ends with 5"});

  const auto paged = [](const std::vector<int64_t>& table, const std::optional<Lengths>& lengths) {
    LaidOut paged_tensors = Shapes({2, 1, 2, 4}, {3, 5, 1, 4});
    paged_tensors.block_table = Table(table, {2, 2});
    paged_tensors.seqlens_k = lengths;
    return paged_tensors;
  };
  const auto bshd = CaseLayout::kBshd;
  CHECK(Message(paged({0, 1, 2, 7}, Lengths{10, 5}), bshd) == "accepted");
  CHECK(Message(paged({0, 1, 2, 7}, Lengths{10, 6}), bshd) ==
        "FILE: block_table has the entry 7 at (1, 1): expected a page of k from 0 to 2");
  CHECK(Message(paged({0, -1, 2, 7}, Lengths{10, 5}), bshd).find("has the entry -1 at (0, 1)") != std::string::npos);
  CHECK(Message(paged({0, 1, 2, 0}, Lengths{11, 5}), bshd)
            .find("seqlens_k has an entry 11, and block_table has 2 pages of 5 keys a sequence") != std::string::npos);
  CHECK(Message(paged({0, 1, 2, 0}, Lengths{INT64_MAX, 5}), bshd).find("has an entry 9223372036854775807") !=
        std::string::npos);
  CHECK(Message(paged({0, 1, 2, 0}, Lengths{-3, 5}), bshd) == "FILE: seqlens_k has an entry -3: expected 0 or more");
  CHECK(Message(paged({0, 1, 2, 0}, std::nullopt), bshd).find("block_table is given but not seqlens_k") !=
        std::string::npos);
  t = Shapes({2, 4, 5, 8}, {2, 4, 5, 8});
  t.seqlens_q = Lengths{6, 1};
  CHECK(Message(t, CaseLayout::kBhsd).find("seqlens_q has an entry 6 and q has 5 rows") != std::string::npos);
}

TEST_CASE("a padded form beyond all memory is refused before it is made") {
  // 2^17 sequences, one of which has all 2^20 rows: 2^37 elements.
  LaidOut t;
  t.q = t.k = Tensor::Zeros(Format::kE4m3, {1 << 20, 1, 1});
  t.v = t.k;
  Lengths cu((1 << 17) + 1, 1 << 20);
  cu[0] = 0;
  t.cu_seqlens_q = t.cu_seqlens_k = cu;
  CHECK(Message(t).find("q would need more than 2^36 bytes as [131072, 1, 1048576, 1]") != std::string::npos);
}

}  // namespace
}  // namespace bitflash::verify
