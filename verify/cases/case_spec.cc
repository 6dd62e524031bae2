#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/error.h"
#include "data/random.h"
#include "data/text.h"
#include "verify/cases/case_generator.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {
namespace {

using data::Mask;
using data::SplitMix64;
using data::UsageError;

std::string MaskName(const Mask& mask) {
  if (mask.kind != Mask::Kind::kWindow) return data::ToString(mask);
  const auto side = [](int64_t keys) { return keys == Mask::kUnlimited ? "u" : std::to_string(keys); };
  return fmt::format("window-{}-{}", side(mask.left), side(mask.right));
}

class NameParser {
 public:
  explicit NameParser(std::string_view name) : name_(name) {
    for (size_t begin = 0; begin <= name.size();) {
      const size_t end = std::min(name.find('_', begin), name.size());
      parts_.push_back(name.substr(begin, end - begin));
      begin = end + 1;
    }
  }

  CaseSpec Run() {
    CaseSpec spec;
    data::Attention& a = spec.attention;
    a.batch = Numbers("b", '-', 1, 1)[0];
    const std::vector<int64_t> heads = Numbers("h", '-', 2, 2), lengths = Numbers("s", 'x', 2, 2),
                               dims = Numbers("d", '-', 1, 2);
    a.heads_q = heads[0];
    a.heads_kv = heads[1];
    a.seqlen_q = lengths[0];
    a.seqlen_k = lengths[1];
    a.head_dim = dims[0];
    a.head_dim_v = dims.back();
    a.format = data::ParseFormat(Next("a format, bf16"));
    a.mask = ParseMask(Next("a mask, causal or window-255-0"));
    if (Peek().starts_with("softcap")) a.softcap = static_cast<double>(Numbers("softcap", '-', 1, 1)[0]);
    spec.ragged = Take("ragged");
    spec.sinks = Take("learned-sinks");
    spec.distribution = data::ParseDistribution(Next("a distribution, hash-normal"));
    spec.seed = Seed(Next("a seed, seed7"));
    if (at_ < parts_.size()) Fail(parts_[at_], "nothing more");
    if (Name(spec) != name_) Fail(name_, fmt::format("it written as {}", Name(spec)));
    data::Validate(a);
    return spec;
  }

 private:
  [[noreturn]] void Fail(std::string_view part, std::string_view expected) const {
    throw UsageError(
        fmt::format("{} is no name of a case at {}: expected {}", data::Quoted(name_), data::Quoted(part), expected));
  }
  std::string_view Peek() const { return at_ < parts_.size() ? parts_[at_] : std::string_view(); }
  std::string_view Next(std::string_view expected) {
    if (at_ == parts_.size()) Fail("", expected);
    return parts_[at_++];
  }
  bool Take(std::string_view word) {
    if (Peek() != word) return false;
    ++at_;
    return true;
  }

  // "b2": one to `most` numbers behind the letters.
  std::vector<int64_t> Numbers(std::string_view letters, char separator, size_t least, size_t most) {
    const std::string expected = fmt::format("{}N{}", letters, most > 1 ? std::string(1, separator) + "N" : "");
    const std::string_view part = Next(expected);
    if (!part.starts_with(letters)) Fail(part, expected);
    std::vector<int64_t> numbers;
    const char* begin = part.data() + letters.size();
    const char* const end = part.data() + part.size();
    while (true) {
      int64_t number = 0;
      const auto [rest, error] = std::from_chars(begin, end, number);
      if (error != std::errc() || number < 0) Fail(part, expected);
      numbers.push_back(number);
      if (rest == end) break;
      if (*rest != separator || numbers.size() == most) Fail(part, expected);
      begin = rest + 1;
    }
    if (numbers.size() < least) Fail(part, expected);
    return numbers;
  }

  Mask ParseMask(std::string_view part) const {
    if (!part.starts_with("window-")) return data::ParseMask(part);
    const std::string_view sides = part.substr(7);
    const size_t dash = sides.find('-');
    if (dash == std::string_view::npos) Fail(part, "window-LEFT-RIGHT");
    const auto side = [&](std::string_view text) {
      return text == "u" ? std::string("-1") : text.starts_with('-') ? std::string("?") : std::string(text);
    };
    return data::ParseMask(fmt::format("window({},{})", side(sides.substr(0, dash)), side(sides.substr(dash + 1))));
  }

  uint64_t Seed(std::string_view part) const {
    uint64_t seed = 0;
    if (!part.starts_with("seed")) Fail(part, "seedN");
    const auto [rest, error] = std::from_chars(part.data() + 4, part.data() + part.size(), seed);
    if (error != std::errc() || rest != part.data() + part.size()) Fail(part, "seedN");
    return seed;
  }

  std::string_view name_;
  std::vector<std::string_view> parts_;
  size_t at_ = 0;
};

// One sequence as long as the tensor, the others at edges.
std::vector<int64_t> RaggedLengths(int64_t batch, int64_t longest, uint64_t seed) {
  std::vector<int64_t> lengths;
  const int64_t full = static_cast<int64_t>(SplitMix64(seed) % static_cast<uint64_t>(batch));
  for (int64_t b = 0; b < batch; ++b) {
    const uint64_t choice = SplitMix64(seed + 1 + static_cast<uint64_t>(b));
    const int64_t any = static_cast<int64_t>((choice >> 8) % static_cast<uint64_t>(longest + 1));
    const int64_t edges[] = {0, std::min<int64_t>(1, longest), std::max<int64_t>(0, longest - 1), any};
    lengths.push_back(b == full ? longest : edges[choice % 4]);
  }
  return lengths;
}

}  // namespace

std::string Name(const CaseSpec& spec) {
  const data::Attention& a = spec.attention;
  const std::string dim_v = a.head_dim_v == a.head_dim ? "" : fmt::format("-{}", a.head_dim_v);
  return fmt::format("b{}_h{}-{}_s{}x{}_d{}{}_{}_{}{}{}{}_{}_seed{}", a.batch, a.heads_q, a.heads_kv, a.seqlen_q,
                     a.seqlen_k, a.head_dim, dim_v, data::Name(a.format), MaskName(a.mask),
                     a.softcap > 0 ? fmt::format("_softcap{}", std::llround(a.softcap)) : "",
                     spec.ragged ? "_ragged" : "", spec.sinks ? "_learned-sinks" : "", data::Name(spec.distribution),
                     spec.seed);
}

CaseSpec ParseCaseSpec(std::string_view name) { return NameParser(name).Run(); }

Problem Materialize(const CaseSpec& spec) {
  Problem p;
  p.attention = spec.attention;
  const data::Attention& a = p.attention;
  data::Validate(a);
  if (spec.ragged) {
    p.seqlens_q = RaggedLengths(a.batch, a.seqlen_q, SplitMix64(spec.seed ^ 0x51));
    p.seqlens_k = RaggedLengths(a.batch, a.seqlen_k, SplitMix64(spec.seed ^ 0x4B));
  }
  const auto generate = [&](data::Role role, int64_t heads, int64_t seqlen, int64_t dim,
                            const std::vector<int64_t>& lengths) {
    data::Tensor tensor = data::Tensor::Zeros(a.format, {a.batch, heads, seqlen, dim});
    if (tensor.count() == 0) return tensor;
    data::InputTensor input{spec.distribution, role, spec.seed, a.batch, heads, seqlen, dim, {}};
    if (spec.distribution == data::Distribution::kNanPadding) {
      input.valid_seqlen = lengths;
      if (lengths.empty()) input.valid_seqlen.assign(a.batch, seqlen);
    }
    GenerateParallel(input, a.format, 0, tensor.count(), tensor.ContiguousBytes().data());
    return tensor;
  };
  p.q = generate(data::Role::kQ, a.heads_q, a.seqlen_q, a.head_dim, p.seqlens_q);
  p.k = generate(data::Role::kK, a.heads_kv, a.seqlen_k, a.head_dim, p.seqlens_k);
  if (!a.v_is_in_k) p.v = generate(data::Role::kV, a.heads_kv, a.seqlen_k, a.head_dim_v, p.seqlens_k);
  for (int64_t h = 0; spec.sinks && h < a.heads_q; ++h) {
    const uint64_t bits = SplitMix64(SplitMix64(spec.seed ^ 0x53) + static_cast<uint64_t>(h));
    p.sinks.push_back(static_cast<double>(bits % 129) / 16 - 4);
  }
  Validate(p);
  return p;
}

}  // namespace bitflash::verify
