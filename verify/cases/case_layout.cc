#include "verify/cases/case_layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/error.h"
#include "data/text.h"
#include "verify/cases/case_extents.h"

namespace bitflash::verify {
namespace {

using data::InputError;
using data::ShapeString;
using data::Tensor;

struct Candidate {
  CaseLayout q, kv;
};

std::string Shape(const Tensor& tensor) { return ShapeString(tensor.shape()); }

// Why an extent of 0 is no problem, or nothing: only a sequence of keys may be empty.
void RequireExtents(const LaidOut& t, std::string_view origin) {
  const auto require = [&](const char* name, const Tensor& tensor, std::vector<int64_t> may_be_empty) {
    if (tensor.dimensions() != 3 && tensor.dimensions() != 4) {
      throw InputError(fmt::format(
          "{}: {} has the shape {}: expected [batch, heads, seqlen, head_dim], [batch, seqlen, heads, head_dim], or "
          "[total, heads, head_dim] with cu_seqlens",
          origin, name, Shape(tensor)));
    }
    int64_t empty = 0;
    for (int64_t i = 0; i < tensor.dimensions(); ++i) {
      if (tensor.shape()[i] != 0) continue;
      ++empty;
      if (std::find(may_be_empty.begin(), may_be_empty.end(), i) != may_be_empty.end()) continue;
      empty = 2;
    }
    if (empty > 1) {
      throw InputError(
          fmt::format("{}: {} has the shape {}: expected extents of at least 1", origin, name, Shape(tensor)));
    }
  };
  const std::vector<int64_t> keys = t.block_table           ? std::vector<int64_t>{}
                                    : t.k.dimensions() == 3 ? std::vector<int64_t>{0}
                                                            : std::vector<int64_t>{1, 2};
  require("q", t.q, {});
  require("k", t.k, keys);
  if (t.v) require("v", *t.v, keys);
  if (t.o) require("o", *t.o, {});
}

std::vector<Candidate> Candidates(const LaidOut& t, std::optional<CaseLayout> q, std::optional<CaseLayout> kv) {
  const auto fits = [](CaseLayout layout, const Tensor& tensor) {
    return tensor.dimensions() == (layout == CaseLayout::kThd ? 3 : 4);
  };
  std::vector<Candidate> candidates;
  constexpr CaseLayout kAll[] = {CaseLayout::kBhsd, CaseLayout::kBshd, CaseLayout::kThd};
  // Pages of packed queries are [pages, page_size, heads, head_dim] in FlashAttention and vLLM.
  constexpr CaseLayout kAllForThd[] = {CaseLayout::kThd, CaseLayout::kBshd, CaseLayout::kBhsd};
  for (const CaseLayout of_q : kAll) {
    if ((q && *q != of_q) || !fits(of_q, t.q)) continue;
    for (const CaseLayout of_kv : of_q == CaseLayout::kThd ? kAllForThd : kAll) {
      if ((kv && *kv != of_kv) || !fits(of_kv, t.k)) continue;
      const bool both_4d = of_q != CaseLayout::kThd && of_kv != CaseLayout::kThd;
      // One framework made both tensors; only a cache may have a layout of its own.
      const bool may_differ = kv || (t.block_table && !q);
      if (both_4d && of_q != of_kv && !may_differ) continue;
      candidates.push_back({of_q, of_kv});
    }
  }
  // Those of one layout first.
  std::stable_partition(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.q == c.kv; });
  return candidates;
}

// Why the tensors do not fit together in these layouts; "" when they do.
std::string Contradiction(const LaidOut& t, const Candidate& c) {
  const Extents q = ExtentsOf(t.q, c.q), k = ExtentsOf(t.k, c.kv);
  if (k.heads < 1) return "k would have no heads";
  if (t.v) {
    if (t.v->dimensions() != t.k.dimensions()) {
      return fmt::format("v is {} and k is {}: expected equally many dimensions", Shape(*t.v), Shape(t.k));
    }
    const Extents v = ExtentsOf(*t.v, c.kv);
    if (v.batch != k.batch || v.heads != k.heads || v.seqlen != k.seqlen) {
      return fmt::format("v is {} and k is {}: expected the same extents but for head_dim", Shape(*t.v), Shape(t.k));
    }
  }
  if (q.dim != k.dim) return fmt::format("q has head_dim {} and k has {}: expected the same", q.dim, k.dim);
  if (q.heads % k.heads != 0) {
    return fmt::format("{} query heads are not a multiple of {} KV heads", q.heads, k.heads);
  }
  const int64_t batch = BatchOf(t, c.q, c.kv);
  if (batch < 0) return "q, k, cu_seqlens, seqlens and block_table are of different numbers of sequences";
  if (t.o) {
    const std::vector<int64_t>& shape = t.o->shape();
    if (t.o->dimensions() != t.q.dimensions() || !std::equal(shape.begin(), shape.end() - 1, t.q.shape().begin())) {
      return fmt::format("o is {} and q is {}: expected the same extents but for head_dim", Shape(*t.o), Shape(t.q));
    }
    if (t.v && shape.back() != t.v->shape().back()) {
      return fmt::format("o has head_dim {} and v has {}: expected the same", shape.back(), t.v->shape().back());
    }
  }
  if (t.lse && !FindLseForm(t, c.q, batch)) {
    return fmt::format("lse is {}: expected {}", Shape(*t.lse), ExpectedLse(t, c.q));
  }
  if (t.sinks && *t.sinks != q.heads) {
    return fmt::format("there are {} sinks for {} query heads: expected one a head", *t.sinks, q.heads);
  }
  const auto longest = [](const std::optional<std::vector<int64_t>>& lengths) {
    return lengths && !lengths->empty() ? *std::max_element(lengths->begin(), lengths->end()) : 0;
  };
  if (c.q != CaseLayout::kThd && longest(t.seqlens_q) > q.seqlen) {
    return fmt::format("seqlens_q has an entry {} and q has {} rows", longest(t.seqlens_q), q.seqlen);
  }
  if (c.kv != CaseLayout::kThd && t.seqlens_k) {
    const int64_t keys = longest(t.seqlens_k);
    if (!t.block_table && keys > k.seqlen)
      return fmt::format("seqlens_k has an entry {} and k has {} keys", keys, k.seqlen);
    if (t.block_table && keys > 0 && (keys - 1) / k.seqlen >= t.block_table->shape()[1]) {
      return fmt::format("seqlens_k has an entry {}, and block_table has {} pages of {} keys a sequence", keys,
                         t.block_table->shape()[1], k.seqlen);
    }
  }
  return "";
}

// What speaks for one reading when several fit, strongest first.
struct Evidence {
  bool (*holds)(const LaidOut& tensors, const Candidate& candidate);
  const char* text;
};

constexpr Evidence kEvidence[] = {
    {[](const LaidOut& t, const Candidate& c) {
       return !t.lse || FindLseForm(t, c.q, BatchOf(t, c.q, c.kv)) == LseForm::kHeadsFirst;
     },
     "lse has its heads before its rows only in the reading taken"},
    {[](const LaidOut& t, const Candidate& c) {
       const auto fills = [](const std::optional<std::vector<int64_t>>& lengths, int64_t extent) {
         return !lengths || lengths->empty() || *std::max_element(lengths->begin(), lengths->end()) == extent;
       };
       return (c.q == CaseLayout::kThd || fills(t.seqlens_q, ExtentsOf(t.q, c.q).seqlen)) &&
              (c.kv == CaseLayout::kThd || t.block_table || fills(t.seqlens_k, ExtentsOf(t.k, c.kv).seqlen));
     },
     "the longest sequence fills the tensors only in the reading taken"},
    // Published models have 128 at most (DeepSeek-V3, data/models/deepseek-v3.json).
    {[](const LaidOut& t, const Candidate& c) { return ExtentsOf(t.q, c.q).heads <= 256; },
     "in another reading there would be more than 256 query heads"},
    {[](const LaidOut& t, const Candidate& c) {
       return c.q == CaseLayout::kThd || c.kv == CaseLayout::kThd || t.block_table ||
              ExtentsOf(t.q, c.q).seqlen <= ExtentsOf(t.k, c.kv).seqlen;
     },
     "in another reading there would be more queries than keys"},
    {[](const LaidOut& t, const Candidate& c) {
       const Extents k = ExtentsOf(t.k, c.kv);
       return c.kv == CaseLayout::kThd || k.heads <= k.seqlen;
     },
     "in another reading there would be more KV heads than keys"},
};

std::string Describe(const Candidate& c, bool paged) {
  if (c.q == c.kv) return std::string(Name(c.q));
  return fmt::format("{} with {} {}", Name(c.q), paged ? "pages" : "k and v", Name(c.kv));
}

}  // namespace

std::string_view Name(CaseLayout layout) {
  switch (layout) {
    case CaseLayout::kBhsd:
      return "bhsd";
    case CaseLayout::kBshd:
      return "bshd";
    case CaseLayout::kThd:
      break;
  }
  return "thd";
}

CaseLayout ParseCaseLayout(std::string_view name) {
  for (const CaseLayout layout : {CaseLayout::kBhsd, CaseLayout::kBshd, CaseLayout::kThd}) {
    if (name == Name(layout)) return layout;
  }
  throw data::UsageError(fmt::format("unknown layout {}: expected bhsd, bshd or thd", data::Quoted(name)));
}

Reading FindReading(const LaidOut& t, std::optional<CaseLayout> q, std::optional<CaseLayout> kv,
                    std::string_view origin) {
  RequireExtents(t, origin);
  // A cache of pages or a packed tensor has its own form; only among 4-dimensional tensors one layout means both.
  if (q && !kv && t.k.dimensions() == 4 && *q != CaseLayout::kThd) kv = q;
  const std::string shapes = fmt::format("q is {} and k {}", Shape(t.q), Shape(t.k));
  const std::vector<Candidate> candidates = Candidates(t, q, kv);
  if (candidates.empty()) {
    throw InputError(fmt::format(
        "{}: {}: not of the layout {}", origin, shapes,
        kv && q && *kv != *q ? fmt::format("{} with k and v {}", Name(*q), Name(*kv)) : Name(q ? *q : *kv)));
  }
  if (t.q.dimensions() == 3 && t.k.dimensions() == 3 && !q && !t.cu_seqlens_q && !t.seqlens_k) {
    throw InputError(fmt::format(
        "{}: q has the shape {}: expected 4 dimensions, or cu_seqlens_q with [total, heads, head_dim], or that the "
        "layout is said to be thd, which then is one sequence",
        origin, Shape(t.q)));
  }

  std::vector<Candidate> fitting;
  std::string contradictions;
  for (const Candidate& c : candidates) {
    const std::string why = Contradiction(t, c);
    if (why.empty()) {
      fitting.push_back(c);
    } else {
      contradictions +=
          fmt::format("{}as {}, {}", contradictions.empty() ? "" : "; ", Describe(c, t.block_table.has_value()), why);
    }
  }
  if (fitting.empty()) throw InputError(fmt::format("{}: {}: {}", origin, shapes, contradictions));

  std::vector<Candidate> left = fitting;
  std::string evidence;
  for (const Evidence& e : kEvidence) {
    if (left.size() == 1) break;
    std::vector<Candidate> kept;
    std::copy_if(left.begin(), left.end(), std::back_inserter(kept), [&](const Candidate& c) { return e.holds(t, c); });
    if (kept.empty() || kept.size() == left.size()) continue;
    left = kept;
    evidence = e.text;
  }

  Reading reading{left.front().q, left.front().kv, "", {}};
  for (const Candidate& c : fitting) {
    const bool known = c.q == reading.q || std::find(reading.alternatives.begin(), reading.alternatives.end(), c.q) !=
                                               reading.alternatives.end();
    if (!known) reading.alternatives.push_back(c.q);
  }
  if (candidates.size() == 1) {
    if (!q) reading.reason = fmt::format("layout {}: {}", Describe(left.front(), t.block_table.has_value()), shapes);
    return reading;
  }
  const std::string taken = fmt::format("layout {}: {}", Describe(left.front(), t.block_table.has_value()), shapes);
  if (fitting.size() == 1) {
    reading.reason = fmt::format("{}; {}", taken, contradictions);
  } else if (left.size() == 1) {
    reading.reason = fmt::format("{}, which fit other readings too; {}", taken, evidence);
  } else {
    reading.reason = fmt::format("{}, which nothing tells from {}: say which it is", taken,
                                 Describe(left[1], t.block_table.has_value()));
  }
  return reading;
}

}  // namespace bitflash::verify
