#include "data/golden.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <set>
#include <utility>

#include "data/error.h"
#include "data/hash.h"
#include "data/strict_json.h"

namespace bitflash::data {
namespace {

using nlohmann::json;

constexpr int64_t kMostExtent = int64_t{1} << 40;  // products that overflow are left to Validate
constexpr int64_t kMostSeed = int64_t{1} << 53;    // what every JSON reader keeps exactly

// An object or a list of a golden file, and how errors call it.
class Node {
 public:
  Node(const json& value, std::string where) : value_(value), where_(std::move(where)) {}

  [[noreturn]] void Fail(const std::string& what) const { throw InputError(where_ + " " + what); }
  [[noreturn]] void Expected(const std::string& expected) const {
    Fail("is " + DescribeJson(value_) + ": expected " + expected);
  }

  // Exactly these keys. All are read, so a missing one is found here too.
  const Node& Keys(std::initializer_list<const char*> keys) const {
    if (!value_.is_object()) Expected("an object");
    for (const auto& [key, unused] : value_.items()) {
      if (std::ranges::find(keys, key) == keys.end()) Fail("has the unknown field " + ShortJson(key));
    }
    for (const char* key : keys) {
      if (!value_.contains(key)) Fail(std::string("has no field \"") + key + "\"");
    }
    return *this;
  }

  Node operator[](const char* key) const { return {value_.at(key), where_ + "." + key}; }
  Node Named(const std::string& name) const { return {value_, where_ + " (" + name + ")"}; }

  std::vector<Node> List() const {
    if (!value_.is_array()) Expected("a list");
    std::vector<Node> nodes;
    nodes.reserve(value_.size());
    for (size_t i = 0; i < value_.size(); ++i) nodes.emplace_back(value_[i], where_ + "[" + std::to_string(i) + "]");
    return nodes;
  }

  int64_t Integer(int64_t least, int64_t most) const {
    const std::string expected = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value_.is_number_integer()) Expected(expected);
    // Above int64 nlohmann keeps an unsigned number.
    if (value_.is_number_unsigned() && value_.get<uint64_t>() > static_cast<uint64_t>(most)) Expected(expected);
    const int64_t number = value_.get<int64_t>();
    if (number < least || number > most) Expected(expected);
    return number;
  }

  std::optional<double> NumberOrNull() const {
    if (value_.is_null()) return std::nullopt;
    if (!value_.is_number()) Expected("a number or null");
    return value_.get<double>();
  }

  bool Flag() const {
    if (!value_.is_boolean()) Expected("true or false");
    return value_.get<bool>();
  }

  std::string Text() const {
    if (!value_.is_string() || value_.get_ref<const std::string&>().empty()) Expected("a string that is not empty");
    return value_.get<std::string>();
  }

  std::string OneOf(std::initializer_list<const char*> accepted) const {
    std::string names;
    for (const char* name : accepted) {
      if (value_ == name) return name;
      names += (names.empty() ? "\"" : ", \"") + std::string(name) + "\"";
    }
    Expected("one of " + names);
  }

  // `count` numbers of `digits` hexadecimal digits each, one after the other, the highest digit first.
  std::vector<uint64_t> Hex(int64_t count, int digits) const {
    const std::string text = value_.is_string() ? value_.get<std::string>() : "";
    const std::string expected = std::to_string(count) + " x " + std::to_string(digits) + " hexadecimal digits";
    if (static_cast<int64_t>(text.size()) != count * digits) Expected(expected);
    std::vector<uint64_t> numbers(static_cast<size_t>(count));
    const char* digit = text.data();
    for (uint64_t& number : numbers) {
      const auto [end, error] = std::from_chars(digit, digit + digits, number, 16);
      if (error != std::errc() || end != digit + digits) Expected(expected);
      digit = end;
    }
    return numbers;
  }

  // A list of hashes.
  std::vector<uint64_t> Hashes() const {
    std::vector<uint64_t> hashes;
    for (const Node& hash : List()) hashes.push_back(hash.Hex(1, 16)[0]);
    return hashes;
  }

 private:
  const json& value_;
  std::string where_;
};

Attention ReadAttention(const Node& node) {
  Attention attention;
  attention.batch = node["batch"].Integer(1, kMostExtent);
  attention.heads_q = node["heads_q"].Integer(1, kMostExtent);
  attention.heads_kv = node["heads_kv"].Integer(1, kMostExtent);
  attention.seqlen_q = node["seqlen_q"].Integer(1, kMostExtent);
  attention.seqlen_k = node["seqlen_k"].Integer(0, kMostExtent);
  attention.head_dim = attention.head_dim_v = node["head_dim"].Integer(1, kMostExtent);
  attention.format = ParseFormat(node["format"].OneOf({"bf16", "fp16"}));
  const std::string mask = node["mask"].Text();
  attention.softmax_scale = node["softmax_scale"].NumberOrNull();
  try {
    attention.mask = ParseMask(mask);
    Validate(attention);
  } catch (const UsageError& error) {
    node.Fail(std::string("is no valid problem: ") + error.what());
  }
  return attention;
}

std::array<int64_t, 3> ReadExtents(const Node& node) {
  const std::vector<Node> list = node.List();
  if (list.size() != 3) node.Expected("a list of 3 integers");
  return {list[0].Integer(1, kMostExtent), list[1].Integer(1, kMostExtent), list[2].Integer(1, kMostExtent)};
}

std::vector<GoldenLaunch> ReadLaunches(const Node& node, const std::vector<std::string>& kernels) {
  std::vector<GoldenLaunch> launches;
  for (const Node& launch : node.List()) {
    const std::vector<Node> fields = launch.List();
    if (fields.size() != 3) launch.Expected("a list of kernel, grid and block");
    const int64_t kernel = fields[0].Integer(0, static_cast<int64_t>(kernels.size()) - 1);
    launches.push_back({kernels[static_cast<size_t>(kernel)], ReadExtents(fields[1]), ReadExtents(fields[2])});
  }
  if (launches.empty()) node.Expected("at least one launch");
  return launches;
}

std::vector<GoldenHead> ReadHeads(const Node& node, int64_t count) {
  const std::vector<uint64_t> o = node["o_hashes"].Hashes(), lse = node["lse_hashes"].Hashes();
  for (const auto& [key, hashes] : {std::pair{"o_hashes", &o}, std::pair{"lse_hashes", &lse}}) {
    if (static_cast<int64_t>(hashes->size()) != count) {
      node[key].Fail("has " + std::to_string(hashes->size()) +
                     " hashes: expected batch * heads_q = " + std::to_string(count));
    }
  }
  std::vector<GoldenHead> heads(o.size());
  for (size_t i = 0; i < heads.size(); ++i) heads[i] = {o[i], lse[i], {}, {}};
  for (const Node& variant : node["variants"].List()) {
    variant.Keys({"head", "o_hashes", "lse_hashes"});
    GoldenHead& head = heads[static_cast<size_t>(variant["head"].Integer(0, count - 1))];
    if (!head.o_variants.empty() || !head.lse_variants.empty()) variant["head"].Expected("each head once");
    head.o_variants = variant["o_hashes"].Hashes();
    head.lse_variants = variant["lse_hashes"].Hashes();
    if (head.o_variants.empty() && head.lse_variants.empty()) variant.Fail("has no hash: expected at least one");
  }
  return heads;
}

std::vector<GoldenRow> ReadRows(const Node& node, const Attention& attention) {
  std::vector<GoldenRow> rows;
  for (const Node& row : node.List()) {
    row.Keys({"head", "row", "o", "lse"});
    GoldenRow& read = rows.emplace_back();
    read.head = row["head"].Integer(0, attention.batch * attention.heads_q - 1);
    read.row = row["row"].Integer(0, attention.seqlen_q - 1);
    const std::vector<uint64_t> o = row["o"].Hex(attention.head_dim_v, 4);
    read.o.assign(o.begin(), o.end());
    read.lse = static_cast<uint32_t>(row["lse"].Hex(1, 8)[0]);
  }
  return rows;
}

GoldenOptions ReadOptions(const Node& node) {
  const std::vector<Node> tile = node["tile"].List();
  if (tile.size() != 4) node["tile"].Expected("a list of Br, Bc, warps and stages");
  GoldenOptions options;
  int64_t* const numbers[] = {&options.Br, &options.Bc, &options.warps, &options.stages};
  for (size_t i = 0; i < 4; ++i) *numbers[i] = tile[i].Integer(1, 1024);
  options.chunk = node["chunk"].Integer(0, kMostExtent);
  options.page_size = node["page_size"].Integer(0, kMostExtent);
  options.fp32_scores = node["fp32_scores"].Flag();
  return options;
}

// A case of a kernel of this repository.
GoldenCase ReadOwnCase(const Node& unnamed, const std::vector<std::string>& kernels) {
  unnamed.Keys({"name",        "batch",    "heads_q",       "heads_kv", "seqlen_q",   "seqlen_k", "head_dim",
                "format",      "mask",     "softmax_scale", "seed",     "tile",       "chunk",    "page_size",
                "fp32_scores", "launches", "runs",          "o_hashes", "lse_hashes", "variants", "rows"});
  GoldenCase golden;
  golden.name = unnamed["name"].Text();
  const Node node = unnamed.Named(golden.name);
  golden.attention = ReadAttention(node);
  golden.seed = static_cast<uint64_t>(node["seed"].Integer(0, kMostSeed));
  golden.options = ReadOptions(node);
  golden.runs = node["runs"].Integer(1, kMostExtent);
  golden.launches = ReadLaunches(node["launches"], kernels);
  golden.heads = ReadHeads(node, golden.attention.batch * golden.attention.heads_q);
  golden.rows = ReadRows(node["rows"], golden.attention);
  return golden;
}

GoldenCase ReadCase(const Node& unnamed, const std::vector<std::string>& kernels) {
  unnamed.Keys({"name",       "batch",    "heads_q",  "heads_kv",         "seqlen_q", "seqlen_k",
                "head_dim",   "format",   "mask",     "softmax_scale",    "seed",     "full_bits",
                "kv_heads",   "sdpa",     "launches", "same_without_lse", "runs",     "o_hashes",
                "lse_hashes", "variants", "rows",     "failed_attempts"});
  GoldenCase golden;
  golden.name = unnamed["name"].Text();
  const Node node = unnamed.Named(golden.name);
  golden.attention = ReadAttention(node);
  golden.seed = static_cast<uint64_t>(node["seed"].Integer(0, kMostSeed));
  golden.full_bits = node["full_bits"].Flag();
  golden.kv_heads_expanded = node["kv_heads"].OneOf({"equal", "native", "expanded"}) == "expanded";
  golden.runs = node["runs"].Integer(1, kMostExtent);
  golden.launches = ReadLaunches(node["launches"], kernels);
  golden.heads = ReadHeads(node, golden.attention.batch * golden.attention.heads_q);
  golden.rows = ReadRows(node["rows"], golden.attention);
  // Facts about the recording that no comparison needs; checked all the same.
  node["sdpa"].OneOf({"same", "different", "refused"});
  node["same_without_lse"].Flag();
  for (const Node& attempt : node["failed_attempts"].List()) attempt.Text();
  return golden;
}

Tensor RequireTensor(const TensorMap& npz, const std::string& name, ElementType type, const std::vector<int64_t>& shape,
                     std::string_view origin) {
  const auto found = npz.find(name);
  if (found == npz.end()) throw InputError(std::string(origin) + ": has no tensor \"" + name + "\"");
  const Tensor& tensor = found->second;
  if (tensor.shape() != shape || tensor.type() != type) {
    throw InputError(std::string(origin) + ": " + name + " has the shape " + ShapeString(tensor.shape()) + " of " +
                     Name(tensor.type()) + ": expected " + ShapeString(shape) + " of " + Name(type));
  }
  return tensor;
}

template <typename T>
uint64_t Hash(std::span<const T> elements) {
  assert(elements.size() <= size_t{1} << 32);
  uint64_t sum = 0;
  for (size_t i = 0; i < elements.size(); ++i) sum += HashPair(static_cast<uint32_t>(i), elements[i]);
  return sum;
}

bool Contains(const std::vector<uint64_t>& hashes, uint64_t hash) {
  return std::ranges::find(hashes, hash) != hashes.end();
}

}  // namespace

uint64_t HashElements(std::span<const uint16_t> elements) { return Hash(elements); }
uint64_t HashElements(std::span<const uint32_t> elements) { return Hash(elements); }

bool GoldenHead::HasO(uint64_t hash) const { return hash == o_hash || Contains(o_variants, hash); }
bool GoldenHead::HasLse(uint64_t hash) const { return hash == lse_hash || Contains(lse_variants, hash); }

bool GoldenCase::IsRepeatable() const {
  return std::ranges::all_of(heads, [](const GoldenHead& h) { return h.o_variants.empty() && h.lse_variants.empty(); });
}

std::vector<GoldenCase> ParseGolden(std::string_view text, std::string_view origin) {
  const json value = ParseStrictJson(text, origin);
  const Node file(value, std::string(origin) + ": file");
  // 1: kernels of others, by data/golden/record_pytorch.py; 2: kernels of this repository, by gpu/record/.
  const bool own = value.is_object() && value.contains("schema") && value["schema"] == 2;
  if (own) {
    file.Keys({"schema", "backend", "kernels", "cases"});
  } else {
    file.Keys({"schema", "backend", "part", "kernels", "cases", "not_recorded"});
    file["schema"].Integer(1, 2);
  }
  const std::string backend = file["backend"].Text();
  const bool held_out = !own && file["part"].OneOf({"recorded", "held-out"}) == "held-out";
  std::vector<std::string> kernels;
  for (const Node& kernel : file["kernels"].List()) kernels.push_back(kernel.Text());

  std::vector<GoldenCase> cases;
  std::set<std::string> names;
  for (const Node& node : file["cases"].List()) {
    GoldenCase& golden = cases.emplace_back(own ? ReadOwnCase(node, kernels) : ReadCase(node, kernels));
    golden.backend = backend;
    golden.held_out = held_out;
    if (!names.insert(golden.name).second) node["name"].Expected("each name once");
  }
  if (own) return cases;
  for (const Node& missing : file["not_recorded"].List()) {
    missing.Keys({"name", "failed_attempts"});
    missing["name"].Text();
    for (const Node& attempt : missing["failed_attempts"].List()) attempt.Text();
  }
  return cases;
}

std::vector<GoldenCase> LoadGolden(const std::string& path) { return ParseGolden(ReadTextFile(path), path); }

GoldenBits FullBits(const GoldenCase& golden, const TensorMap& npz, std::string_view origin) {
  if (!golden.full_bits) throw UsageError(golden.name + ": has no full bits, expected a case whose full_bits is true");
  const Attention& a = golden.attention;
  const ElementType u16 = ElementType::Unsigned(2), u32 = ElementType::Unsigned(4);
  const Tensor o = RequireTensor(npz, golden.name + ".o", u16, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}, origin);
  const Tensor lse = RequireTensor(npz, golden.name + ".lse", u32, {a.batch, a.heads_q, a.seqlen_q}, origin);
  return {o.View(a.format), lse.View(Format::kFp32)};
}

}  // namespace bitflash::data
