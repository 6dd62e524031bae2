#include "gpu/record/cases.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>
#include <tuple>

#include "data/convert_simd.h"
#include "data/error.h"
#include "data/random.h"

namespace bitflash::gpu {
namespace {

constexpr uint64_t kFirstSeed = 900000, kSeedsPerLine = 100;
constexpr size_t kMostSequences = 32;  // three seeds each
// Beyond it a case is contiguous: what guards would cost in copies is better spent on more elements.
constexpr int64_t kMostGuardedElements = 4'000'000;

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

class LineParser {
 public:
  explicit LineParser(std::string where) : where_(std::move(where)) {}

  [[noreturn]] void Fail(const std::string& what) const { throw data::InputError(where_ + ": " + what); }

  int64_t Number(const std::string& text, const char* what) const {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < 0)
      Fail(std::string(what) + " is '" + text + "': expected a whole number");
    return number;
  }

  std::pair<int64_t, int64_t> Numbers(const std::string& text, char separator, const char* what) const {
    const std::vector<std::string> parts = Split(text, separator);
    if (parts.size() != 2) Fail(std::string(what) + " is '" + text + "': expected two numbers with " + separator);
    return {Number(parts[0], what), Number(parts[1], what)};
  }

  // The problem without the kernel; the columns of the table.
  RecordCase Problem(const std::vector<std::string>& words) const {
    if (words.size() < 7)
      Fail("expected kernels, batch, heads, lengths, head_dim, format, mask and perhaps options, got " +
           std::to_string(words.size()) + " words");
    RecordCase c;
    data::Attention& a = c.attention;
    try {
      a.batch = Number(words[1], "batch");
      std::tie(a.heads_q, a.heads_kv) = Numbers(words[2], '/', "heads");
      std::tie(a.seqlen_q, a.seqlen_k) = Numbers(words[3], 'x', "lengths");
      a.head_dim = a.head_dim_v = Number(words[4], "head_dim");
      a.format = data::ParseFormat(words[5]);
      a.mask = data::ParseMask(words[6]);
      c.name = "b" + words[1] + "_h" + words[2] + "_s" + words[3] + "_d" + words[4] + "_" + words[5] + "_" + words[6];
      for (size_t n = 7; n < words.size(); ++n) {
        Option(words[n], c);
        if (words[n] != "profile") c.name += "_" + words[n];
      }
      data::Validate(a);
    } catch (const data::UsageError& error) {
      Fail(error.what());
    }
    for (char& letter : c.name) letter = letter == '/' || letter == '(' || letter == ',' ? '-' : letter;
    std::erase_if(c.name, [](char letter) { return letter == ')' || letter == '='; });
    return c;
  }

 private:
  void Option(const std::string& word, RecordCase& c) const {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals), value = equals == word.npos ? "" : word.substr(equals + 1);
    if (name == "profile") {
      c.profile = true;
    } else if (name == "fp32") {
      c.options.fp32_scores = true;
    } else if (name == "chunk") {
      c.options.chunk = Number(value, "chunk");
    } else if (name == "page") {
      c.options.page_size = Number(value, "page");
    } else if (name == "scale") {
      double scale = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), scale);
      if (error != std::errc() || end != value.data() + value.size())
        Fail("scale is '" + value + "': expected a number");
      c.attention.softmax_scale = scale;
    } else if (name == "keys") {
      c.lengths = Lengths(word, value, c.attention.batch, c.attention.seqlen_k);
    } else if (name == "queries") {
      c.queries = Lengths(word, value, c.attention.batch, c.attention.seqlen_q);
    } else {
      Fail("'" + word + "': expected scale=X, fp32, chunk=N, page=N, keys=N,N,..., queries=N,N,... or profile");
    }
  }

  // Of each sequence, at most `most`.
  std::vector<int64_t> Lengths(const std::string& word, const std::string& value, int64_t batch, int64_t most) const {
    std::vector<int64_t> lengths;
    for (const std::string& length : Split(value, ',')) lengths.push_back(Number(length, "a length"));
    if (static_cast<int64_t>(lengths.size()) != batch || lengths.size() > kMostSequences)
      Fail(word + ": expected as many lengths as the batch has sequences, at most " + std::to_string(kMostSequences));
    if (*std::max_element(lengths.begin(), lengths.end()) > most)
      Fail(word + ": expected at most " + std::to_string(most));
    return lengths;
  }

  std::string where_;
};

Layout LayoutOf(const RecordCase& c, int64_t line) {
  const data::Attention& a = c.attention;
  const int64_t elements = a.batch * (a.heads_q * a.seqlen_q + a.heads_kv * a.seqlen_k) * a.head_dim;
  if (c.profile || elements > kMostGuardedElements) return Layout::kContiguous;
  return line % 2 ? Layout::kHeadMajor : Layout::kTokenMajor;
}

}  // namespace

std::vector<RecordCase> ParseCases(std::string_view text, std::string_view origin) {
  std::vector<RecordCase> cases;
  std::set<std::string> names;
  std::istringstream stream{std::string(text)};
  int64_t line_number = 0;
  uint64_t seed = kFirstSeed;
  for (std::string line; std::getline(stream, line);) {
    ++line_number;
    std::istringstream in(line.substr(0, line.find('#')));
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    if (words.empty()) continue;
    const LineParser parser(std::string(origin) + ":" + std::to_string(line_number));
    RecordCase problem = parser.Problem(words);
    problem.seed = seed;
    problem.layout = LayoutOf(problem, line_number);
    seed += kSeedsPerLine;
    for (const std::string& kernel : Split(words[0], ',')) {
      RecordCase& c = cases.emplace_back(problem);
      c.kernel = kernel;
      const bool split = kernel == "split-kv", packs = kernel == "fa3";
      if (!split && (c.options.page_size > 0 || c.options.chunk != Options().chunk))
        parser.Fail(kernel + " has neither chunks nor pages");
      if (!split && !packs && !c.lengths.empty()) parser.Fail(kernel + " has no lengths");
      if (!packs && c.packed()) parser.Fail(kernel + " takes no packed queries");
      if (packs && !c.lengths.empty() != c.packed()) parser.Fail(kernel + " takes queries= and keys= together");
      if (!names.insert(kernel + " " + c.name).second) parser.Fail(c.name + ": each problem of a kernel once");
    }
  }
  return cases;
}

Inputs Generate(const RecordCase& c) {
  const data::Attention& a = c.attention;
  const auto generate = [&](uint64_t which, int64_t heads, bool keys) {
    const int64_t head_elements = (keys ? a.seqlen_k : a.seqlen_q) * a.head_dim;  // from head to head
    std::vector<uint16_t> bits(static_cast<size_t>(a.batch * heads * head_elements));
    std::vector<float> values;
    for (int64_t n = 0; n < a.batch * heads; ++n) {
      const int64_t b = n / heads, count = (keys ? c.keys(b) : c.query_rows(b)) * a.head_dim;
      const int64_t first = (c.lengths.empty() ? n : n % heads) * count;
      values.resize(static_cast<size_t>(count));
      data::FillHashNormal(c.SeedOf(b) + which, static_cast<uint64_t>(first), values);
      data::FromFloat(a.format, values.data(), bits.data() + n * head_elements, count);
    }
    return bits;
  };
  return {generate(0, a.heads_q, false), generate(1, a.heads_kv, true), generate(2, a.heads_kv, true)};
}

}  // namespace bitflash::gpu
