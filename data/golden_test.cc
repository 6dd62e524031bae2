#include "data/golden.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "data/convert.h"
#include "data/error.h"
#include "data/random.h"
#include "data/strict_json.h"
#include "data/tensor_file.h"

namespace bitflash::data {
namespace {

using nlohmann::json;

const std::string kFolder = BITFLASH_SOURCE_DIR "/data/golden/";
const std::string kBackends[] = {"pytorch-fa2", "cudnn-9.19-sm90", "pytorch-memeff"};

// Those of our kernels that are recorded: fa3 needs a GPU that not every recording was made on.
std::vector<std::string> OwnKernels() {
  std::vector<std::string> kernels = {"fa2", "standard", "split-kv"};
  if (std::filesystem::exists(kFolder + "own/fa3.json")) kernels.emplace_back("fa3");
  return kernels;
}

TEST_CASE("fingerprints equal values computed with Python's integers") {
  CHECK(HashElements(std::vector<uint16_t>{}) == 0);
  CHECK(HashElements(std::vector<uint16_t>{0}) == 0xE220A8397B1DCDAF);
  CHECK(HashElements(std::vector<uint16_t>{0x3F80, 0, 0xFFFF}) == 0x970C7762B6D16B63);
  CHECK(HashElements(std::vector<uint32_t>{0x3F80, 0, 0xFFFF}) == 0x970C7762B6D16B63);
}

json SmallFile() {
  return json::parse(R"({
    "schema": 1, "backend": "some-kernel", "part": "held-out", "kernels": ["main", "combine"],
    "cases": [{
      "name": "one", "batch": 1, "heads_q": 2, "heads_kv": 1, "seqlen_q": 3, "seqlen_k": 5, "head_dim": 2,
      "format": "fp16", "mask": "causal-top-left", "softmax_scale": 0.25, "seed": 40, "full_bits": false,
      "kv_heads": "expanded", "sdpa": "refused", "launches": [[1, [1, 2, 3], [4, 5, 6]], [0, [1, 1, 1], [32, 1, 1]]],
      "same_without_lse": true, "runs": 4, "o_hashes": ["0000000000000001", "fffffffffffffffe"],
      "lse_hashes": ["0000000000000003", "0000000000000004"],
      "variants": [{"head": 1, "o_hashes": [], "lse_hashes": ["0000000000000005", "0000000000000006"]}],
      "rows": [{"head": 1, "row": 2, "o": "3c00abcd", "lse": "3f800000"}], "failed_attempts": ["why"]}],
    "not_recorded": [{"name": "two", "failed_attempts": ["refused"]}]})");
}

TEST_CASE("a file is read as written") {
  const std::vector<GoldenCase> cases = ParseGolden(SmallFile().dump(), "FILE");
  REQUIRE(cases.size() == 1);
  const GoldenCase& golden = cases[0];
  CHECK(golden.name == "one");
  CHECK(golden.backend == "some-kernel");
  CHECK(golden.held_out);
  const Attention expected{.heads_q = 2,
                           .seqlen_q = 3,
                           .seqlen_k = 5,
                           .head_dim = 2,
                           .head_dim_v = 2,
                           .mask = Mask::CausalTopLeft(),
                           .softmax_scale = 0.25,
                           .format = Format::kFp16};
  CHECK(golden.attention == expected);
  CHECK(golden.seed == 40);
  CHECK(golden.kv_heads_expanded);
  CHECK(golden.runs == 4);
  REQUIRE(golden.launches.size() == 2);
  CHECK(golden.launches[0].kernel == "combine");
  CHECK(golden.launches[0].grid == std::array<int64_t, 3>{1, 2, 3});
  CHECK(golden.launches[0].block == std::array<int64_t, 3>{4, 5, 6});
  CHECK(golden.launches[1].kernel == "main");
  REQUIRE(golden.heads.size() == 2);
  CHECK(golden.heads[0].HasO(1));
  CHECK_FALSE(golden.heads[0].HasO(2));
  CHECK(golden.heads[1].o_hash == 0xFFFFFFFFFFFFFFFE);
  for (const uint64_t hash : {4, 5, 6}) CHECK(golden.heads[1].HasLse(hash));
  CHECK_FALSE(golden.heads[1].HasLse(3));
  CHECK_FALSE(golden.IsRepeatable());
  REQUIRE(golden.rows.size() == 1);
  CHECK(golden.rows[0].head == 1);
  CHECK(golden.rows[0].row == 2);
  CHECK(golden.rows[0].o == std::vector<uint16_t>{0x3C00, 0xABCD});
  CHECK(golden.rows[0].lse == 0x3F800000);
  CHECK_FALSE(golden.full_bits);
}

json OwnFile() {
  json file = SmallFile();
  file["schema"] = 2;
  for (const char* key : {"part", "not_recorded"}) file.erase(key);
  json& one = file["cases"][0];
  for (const char* key : {"full_bits", "kv_heads", "sdpa", "same_without_lse", "failed_attempts"}) one.erase(key);
  one["mask"] = "window(7,-1)";
  one["tile"] = {16, 64, 1, 2};
  one["chunk"] = 1024;
  one["page_size"] = 8;
  one["fp32_scores"] = false;
  return file;
}

TEST_CASE("recordings of this repository's kernels also say how they were built and called") {
  const std::vector<GoldenCase> cases = ParseGolden(OwnFile().dump(), "FILE");
  REQUIRE(cases.size() == 1);
  CHECK(cases[0].attention.mask == Mask::Window(7, Mask::kUnlimited));
  REQUIRE(cases[0].options);
  const GoldenOptions& options = *cases[0].options;
  CHECK(std::vector<int64_t>{options.Br, options.Bc, options.warps, options.stages} ==
        std::vector<int64_t>{16, 64, 1, 2});
  CHECK(options.chunk == 1024);
  CHECK(options.page_size == 8);
  CHECK_FALSE(options.fp32_scores);
  CHECK_FALSE(ParseGolden(SmallFile().dump(), "FILE")[0].options);
  const auto refused = [](const char* pointer, const json& value, const char* message) {
    json file = OwnFile();
    file[json::json_pointer(pointer)] = value;
    CHECK_THROWS_WITH_AS(ParseGolden(file.dump(), "FILE"), doctest::Contains(message), InputError);
  };
  refused("/part", "recorded", "has the unknown field \"part\"");
  refused("/cases/0/tile", {16, 64}, "expected a list of Br, Bc, warps and stages");
  refused("/cases/0/tile/0", 0, "expected an integer from 1 to 1024");
  refused("/cases/0/chunk", -1, "expected an integer from 0");
  refused("/cases/0/sdpa", "same", "has the unknown field \"sdpa\"");
  const json whole = OwnFile();
  for (const auto& [key, unused] : whole["cases"][0].items()) {
    json file = OwnFile();
    file["cases"][0].erase(key);
    CHECK_THROWS_AS(ParseGolden(file.dump(), "FILE"), InputError);
  }
}

TEST_CASE("what is wrong with a file is named") {
  const struct {
    const char* pointer;  // RFC 6901, into SmallFile()
    json value;
    const char* message;
  } rows[] = {
      {"/schema", 3, "FILE: file.schema is 3: expected an integer from 1 to 2"},
      {"/schema", 2, "FILE: file has the unknown field \"not_recorded\""},
      {"/extra", 1, "FILE: file has the unknown field \"extra\""},
      {"/part", "other", "expected one of \"recorded\", \"held-out\""},
      {"/kernels", "main", "file.kernels is the string \"main\": expected a list"},
      {"/kernels/0", "", "expected a string that is not empty"},
      {"/cases/0/batch", 0, "file.cases[0] (one).batch is 0: expected an integer from 1"},
      {"/cases/0/batch", 1.0, "(one).batch is 1.0: expected an integer from 1"},
      {"/cases/0/seed", -1, "(one).seed is -1: expected an integer from 0"},
      {"/cases/0/seed", UINT64_MAX, "(one).seed is 18446744073709551615: expected an integer from 0"},
      {"/cases/0/heads_kv", 3, "(one) is no valid problem: "},
      {"/cases/0/heads_q", int64_t{1} << 40, "expected batch * heads_q = 1099511627776"},
      {"/cases/0/softmax_scale", "1", "expected a number or null"},
      {"/cases/0/softmax_scale", -1, "(one) is no valid problem: "},
      {"/cases/0/format", "fp8", "expected one of \"bf16\", \"fp16\""},
      {"/cases/0/mask", "windowed", "(one) is no valid problem: "},
      {"/cases/0/full_bits", 0, "expected true or false"},
      {"/cases/0/launches", json::array(), "expected at least one launch"},
      {"/cases/0/launches/0/0", 2, "expected an integer from 0 to 1"},
      {"/cases/0/launches/0/1", {1, 2}, "expected a list of 3 integers"},
      {"/cases/0/launches/0", {1, 2}, "expected a list of kernel, grid and block"},
      {"/cases/0/o_hashes", {"0000000000000001"}, "has 1 hashes: expected batch * heads_q = 2"},
      {"/cases/0/o_hashes/0", "000000000000001", "expected 1 x 16 hexadecimal digits"},
      {"/cases/0/lse_hashes/1", "-000000000000001", "expected 1 x 16 hexadecimal digits"},
      {"/cases/0/variants/0/head", 2, "expected an integer from 0 to 1"},
      {"/cases/0/variants/0/lse_hashes", json::array(), "has no hash: expected at least one"},
      {"/cases/0/rows/0/head", 2, "expected an integer from 0 to 1"},
      {"/cases/0/rows/0/row", 3, "expected an integer from 0 to 2"},
      {"/cases/0/rows/0/o", "3c00abc", "expected 2 x 4 hexadecimal digits"},
      {"/cases/0/rows/0/o", "3c00abcg", "expected 2 x 4 hexadecimal digits"},
      {"/cases/0/rows/0/lse", 1, "expected 1 x 8 hexadecimal digits"},
      {"/not_recorded/0/failed_attempts/0", 1, "expected a string that is not empty"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.pointer);
    json file = SmallFile();
    file[json::json_pointer(row.pointer)] = row.value;
    CHECK_THROWS_WITH_AS(ParseGolden(file.dump(), "FILE"), doctest::Contains(row.message), InputError);
  }
  const json whole = SmallFile();
  for (const auto& [key, unused] : whole["cases"][0].items()) {
    json file = SmallFile();
    file["cases"][0].erase(key);
    const std::string message = "has no field \"" + key + "\"";
    CHECK_THROWS_WITH_AS(ParseGolden(file.dump(), "FILE"), doctest::Contains(message.c_str()), InputError);
  }
  json twice = SmallFile();
  twice["cases"].push_back(twice["cases"][0]);
  CHECK_THROWS_WITH_AS(ParseGolden(twice.dump(), "FILE"), doctest::Contains("expected each name once"), InputError);
  CHECK_THROWS_AS(ParseGolden("{", "FILE"), InputError);
  CHECK_THROWS_AS(ParseGolden("[]", "FILE"), InputError);
  CHECK_THROWS_AS(LoadGolden(kFolder + "no-such-file.json"), InputError);
}

TEST_CASE("full bits must be there, of the problem's shape") {
  json file = SmallFile();
  GoldenCase golden = ParseGolden(file.dump(), "FILE")[0];
  CHECK_THROWS_AS(FullBits(golden, {}, "FILE"), UsageError);
  golden.full_bits = true;
  TensorMap npz = {{"one.o", Tensor::Zeros(ElementType::Unsigned(2), {1, 2, 3, 2})},
                   {"one.lse", Tensor::Zeros(ElementType::Unsigned(4), {1, 2, 3})}};
  CHECK(FullBits(golden, npz, "FILE").o.type() == ElementType(Format::kFp16));
  CHECK(FullBits(golden, npz, "FILE").lse.type() == ElementType(Format::kFp32));
  npz.at("one.lse") = Tensor::Zeros(ElementType::Unsigned(4), {1, 3, 2});
  CHECK_THROWS_WITH_AS(FullBits(golden, npz, "FILE"), doctest::Contains("expected (1, 2, 3) of u32"), InputError);
  npz.erase("one.lse");
  CHECK_THROWS_WITH_AS(FullBits(golden, npz, "FILE"), doctest::Contains("has no tensor \"one.lse\""), InputError);
}

TEST_CASE("the recorded files hold what data/golden/README.md says") {
  for (const std::string& backend : kBackends) {
    CAPTURE(backend);
    const std::vector<GoldenCase> recorded = LoadGolden(kFolder + backend + ".json");
    const std::vector<GoldenCase> held_out = LoadGolden(kFolder + backend + ".held-out.json");
    CHECK(recorded.size() == 73);
    CHECK(held_out.size() == 22);
    // What is kept for the final comparison has nothing in common with what recipes are tuned on.
    std::set<uint64_t> seeds;
    std::set<std::string> names;
    for (const GoldenCase& golden : recorded) {
      CHECK_FALSE(golden.held_out);
      CHECK(golden.backend == backend);
      CHECK(seeds.insert(golden.seed).second);
      names.insert(golden.name);
    }
    for (const GoldenCase& golden : held_out) {
      CHECK(golden.held_out);
      CHECK(seeds.insert(golden.seed).second);
      CHECK(names.insert(golden.name).second);
    }
    // Only cuDNN's decode kernels were seen to vary.
    for (const auto* list : {&recorded, &held_out}) {
      for (const GoldenCase& golden : *list) {
        const bool may_vary = backend.starts_with("cudnn") && golden.attention.seqlen_q == 1;
        CHECK_MESSAGE((golden.IsRepeatable() || may_vary), golden.name);
      }
    }
  }
}

TEST_CASE("so do those of this repository's kernels") {
  const std::map<std::string, size_t> expected = {{"fa2", 77}, {"standard", 80}, {"split-kv", 85}, {"fa3", 139}};
  for (const std::string& kernel : OwnKernels()) {
    CAPTURE(kernel);
    size_t cases = 0;
    std::set<uint64_t> seeds;
    for (const GoldenCase& golden : LoadGolden(kFolder + "own/" + kernel + ".json")) {
      CHECK(golden.backend == "bitflash-" + kernel);
      CHECK(seeds.insert(golden.seed).second);
      CHECK(golden.options);
      CHECK(golden.runs == 3);
      CHECK_MESSAGE(golden.IsRepeatable(), golden.name);
      CHECK((golden.options->chunk > 0) == (kernel == "split-kv"));
      ++cases;
    }
    CHECK(cases == expected.at(kernel));
  }
}

TEST_CASE("full bits have the fingerprints of their heads") {
  for (const std::string& backend : kBackends) {
    const std::string path = kFolder + backend + ".npz";
    const TensorMap npz = ReadTensors(path).tensors;
    size_t used = 0;
    for (const GoldenCase& golden : LoadGolden(kFolder + backend + ".json")) {
      if (!golden.full_bits) continue;
      CAPTURE(golden.name);
      used += 2;
      const GoldenBits bits = FullBits(golden, npz, path);
      const auto o = bits.o.Elements<uint16_t>();
      const auto lse = bits.lse.Elements<uint32_t>();
      const size_t rows = static_cast<size_t>(golden.attention.seqlen_q), heads = golden.heads.size();
      const size_t columns = o.size() / heads / rows;
      for (size_t h = 0; h < heads; ++h) {
        CHECK(HashElements(o.subspan(h * rows * columns, rows * columns)) == golden.heads[h].o_hash);
        CHECK(HashElements(lse.subspan(h * rows, rows)) == golden.heads[h].lse_hash);
      }
    }
    CHECK(used == npz.size());
  }
}

// Row `row` of K (tensor 1) or V (tensor 2) of a KV head, or of Q (tensor 0) of a query head, as the kernel got it.
std::vector<double> InputRow(const GoldenCase& golden, int tensor, int64_t heads, int64_t head, int64_t rows,
                             int64_t row) {
  const Attention& a = golden.attention;
  const int64_t b = head / a.heads_q, h = head % a.heads_q / (a.heads_q / heads);
  const int64_t first = ((b * heads + h) * rows + row) * a.head_dim;
  std::vector<double> values(static_cast<size_t>(a.head_dim));
  for (size_t d = 0; d < values.size(); ++d) {
    const float x = HashNormal(golden.seed + static_cast<uint64_t>(tensor), static_cast<uint64_t>(first) + d);
    values[d] = Decode(a.format, Encode(a.format, x));
  }
  return values;
}

// Keys that a query row sees.
struct Visible {
  int64_t begin = 0, end = 0;
};
Visible VisibleKeys(const Attention& a, int64_t row) {
  const int64_t diagonal = row + a.seqlen_k - a.seqlen_q;
  Visible keys{0, a.seqlen_k};
  switch (a.mask.kind) {
    case Mask::Kind::kFull:
      break;
    case Mask::Kind::kCausal:
      keys.end = diagonal + 1;
      break;
    case Mask::Kind::kCausalTopLeft:
      keys.end = row + 1;
      break;
    case Mask::Kind::kWindow:
      if (a.mask.left != Mask::kUnlimited) keys.begin = diagonal - a.mask.left;
      if (a.mask.right != Mask::kUnlimited) keys.end = diagonal + a.mask.right + 1;
      break;
  }
  return {std::max<int64_t>(keys.begin, 0), std::min(keys.end, a.seqlen_k)};
}

// Checks one recorded row against the textbook formula in fp64, from inputs made here.
void CheckIsAttention(const GoldenCase& golden, const GoldenRow& row) {
  const Attention& a = golden.attention;
  const std::vector<double> q = InputRow(golden, 0, a.heads_q, row.head, a.seqlen_q, row.row);
  double sum = 0, largest = 0;  // of |score|
  std::vector<double> o(q.size()), magnitude(q.size());
  const Visible keys = VisibleKeys(a, row.row);
  for (int64_t j = keys.begin; j < keys.end; ++j) {
    const std::vector<double> k = InputRow(golden, 1, a.heads_kv, row.head, a.seqlen_k, j);
    const std::vector<double> v = InputRow(golden, 2, a.heads_kv, row.head, a.seqlen_k, j);
    double s = 0;
    for (size_t d = 0; d < q.size(); ++d) s += q[d] * k[d];
    s *= a.scale();
    const double p = std::exp(s);  // no need of the maximum: the scores' standard deviation is at most 4
    largest = std::max(largest, std::abs(s));
    sum += p;
    for (size_t d = 0; d < q.size(); ++d) {
      o[d] += p * v[d];
      magnitude[d] += p * std::abs(v[d]);
    }
  }
  const float lse = std::bit_cast<float>(row.lse);
  bool close = true;
  if (keys.begin >= keys.end) {
    close = lse == -INFINITY && std::ranges::all_of(row.o, [](uint16_t bits) { return bits == 0; });
  } else {
    // P and O are rounded once each to the 16-bit format; as much again for everything in fp32. Standard attention
    // rounds the scores too, unless they are fp32.
    const double unit_roundoff = a.format == Format::kBf16 ? 0x1p-8 : 0x1p-11;
    const bool rounds_scores = golden.backend == "bitflash-standard" && !golden.options->fp32_scores;
    const double score_error = rounds_scores ? unit_roundoff * largest : 0;
    close = std::abs(lse - std::log(sum)) < 1e-3 + score_error;
    for (size_t d = 0; d < q.size(); ++d) {
      close &= std::abs(Decode(a.format, row.o[d]) - o[d] / sum) <=
               (4 * unit_roundoff + 2 * score_error) * magnitude[d] / sum;
    }
  }
  CHECK_MESSAGE(close, golden.backend << " " << golden.name << " head " << row.head << " row " << row.row);
}

void CheckRows(const std::string& file, int64_t most_keys) {
  int64_t checked = 0;
  for (const GoldenCase& golden : LoadGolden(kFolder + file + ".json")) {
    if (golden.attention.seqlen_k > most_keys) continue;
    for (const GoldenRow& row : golden.rows) CheckIsAttention(golden, row);
    checked += static_cast<int64_t>(golden.rows.size());
  }
  CHECK(checked > 0);
}

void CheckRows(int64_t most_keys) {
  for (const std::string& backend : kBackends) {
    for (const char* part : {"", ".held-out"}) CheckRows(backend + part, most_keys);
  }
  for (const std::string& kernel : OwnKernels()) CheckRows("own/" + kernel, most_keys);
}

TEST_CASE("recorded rows of short problems are attention on the seeds' inputs") { CheckRows(320); }

TEST_CASE("all recorded rows are attention on the seeds' inputs" * doctest::test_suite("slow")) {
  CheckRows(int64_t{1} << 20);
}

}  // namespace
}  // namespace bitflash::data
