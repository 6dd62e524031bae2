#include "verify/cases/case_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "data/error.h"
#include "data/random.h"

namespace bitflash::verify {
namespace {

using data::Mask;
using data::UsageError;

enum Axis : size_t {
  kBatch,
  kGroup,
  kHeadsKv,
  kSeqlenQ,
  kSeqlenK,
  kHeadDim,
  kFormat,
  kMask,
  kDistribution,
  kRagged,
  kSinks,
  kSoftcap,
  kAxes
};

// The index of a value of each axis.
using Choice = std::vector<size_t>;

struct Axes {
  std::vector<int64_t> batches = {1, 2, 3};
  std::vector<int64_t> groups = {1, 2, 3, 4, 7, 8};
  std::vector<int64_t> heads_kv = {1, 2, 3};
  std::vector<int64_t> seqlens_q, seqlens_k, head_dims;
  std::vector<data::Format> formats;
  std::vector<Mask> masks;
  std::vector<data::Distribution> distributions;
  std::vector<bool> ragged = {false}, sinks = {false}, softcap = {false};

  size_t count(size_t axis) const {
    const size_t counts[] = {batches.size(),       groups.size(),    heads_kv.size(), seqlens_q.size(),
                             seqlens_k.size(),     head_dims.size(), formats.size(),  masks.size(),
                             distributions.size(), ragged.size(),    sinks.size(),    softcap.size()};
    return counts[axis];
  }
};

// One row or key, the edges of the first and second tile, a prime.
std::vector<int64_t> Lengths(int64_t tile) {
  constexpr int64_t kPrimes[] = {3, 5, 11, 23, 47, 97, 193, 389, 769, 1543};
  std::vector<int64_t> lengths = {1, tile - 1, tile, tile + 1, 2 * tile + 1, 3 * tile};
  for (const int64_t prime : kPrimes) {
    if (prime > tile) {
      lengths.push_back(prime);
      break;
    }
  }
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  if (lengths.front() == 0) lengths.erase(lengths.begin());
  return lengths;
}

Axes AxesOf(const CaseOptions& o) {
  const auto require = [](const char* name, int64_t value) {
    if (value < 1) throw UsageError(fmt::format("{} is {}: expected at least 1", name, value));
  };
  require("budget", o.budget);
  require("max_elements", o.max_elements);
  require("tile_q", o.tile_q);
  require("tile_k", o.tile_k);
  for (const int64_t head_dim : o.head_dims) require("head_dim", head_dim);
  if (o.formats.empty() || o.head_dims.empty() || o.masks.empty()) {
    throw UsageError("formats, head_dims, masks: expected one of each at least");
  }
  Axes axes;
  axes.seqlens_q = Lengths(o.tile_q);
  axes.seqlens_k = Lengths(o.tile_k);
  axes.head_dims = o.head_dims;
  axes.formats = o.formats;
  for (const Mask::Kind kind : o.masks) {
    if (kind != Mask::Kind::kWindow) {
      axes.masks.push_back({kind});
      continue;
    }
    axes.masks.push_back(Mask::Window(0, 0));
    axes.masks.push_back(Mask::Window(o.tile_k - 1, 0));
    axes.masks.push_back(Mask::Window(o.tile_k + 1, 3));
    axes.masks.push_back(Mask::Window(Mask::kUnlimited, 2));
    axes.masks.push_back(Mask::Window(5, Mask::kUnlimited));
  }
  for (const data::DistributionInfo& info : data::AllDistributions()) {
    const bool needs_padding = info.distribution == data::Distribution::kNanPadding;
    if (!needs_padding || o.ragged) axes.distributions.push_back(info.distribution);
  }
  if (o.ragged) axes.ragged.push_back(true);
  if (o.sinks) axes.sinks.push_back(true);
  if (o.softcap) axes.softcap.push_back(true);
  return axes;
}

// Which values have met.
class Pairs {
 public:
  explicit Pairs(const Axes& axes) {
    for (size_t axis = 0; axis < kAxes; ++axis) {
      first_.push_back(values_);
      values_ += axes.count(axis);
    }
    met_.assign(values_ * values_, false);
    for (size_t a = 0; a < kAxes; ++a) {
      for (size_t b = a + 1; b < kAxes; ++b) left_ += axes.count(a) * axes.count(b);
    }
  }

  bool Met(size_t a, size_t value_a, size_t b, size_t value_b) const { return met_[At(a, value_a, b, value_b)]; }
  void Meet(size_t a, size_t value_a, size_t b, size_t value_b) {
    if (!met_[At(a, value_a, b, value_b)]) --left_;
    met_[At(a, value_a, b, value_b)] = true;
  }
  size_t left() const { return left_; }

 private:
  size_t At(size_t a, size_t value_a, size_t b, size_t value_b) const {
    size_t x = first_[a] + value_a, y = first_[b] + value_b;
    if (x > y) std::swap(x, y);
    return x * values_ + y;
  }

  size_t values_ = 0, left_ = 0;
  std::vector<size_t> first_;
  std::vector<bool> met_;
};

int64_t Elements(const data::Attention& a) {
  return a.batch * a.heads_q * (a.seqlen_q * (a.head_dim + a.head_dim_v) + a.seqlen_q * a.seqlen_k) +
         a.batch * a.heads_kv * a.seqlen_k * (a.head_dim + a.head_dim_v);
}

class Generator {
 public:
  explicit Generator(const CaseOptions& options) : o_(options), axes_(AxesOf(options)), pairs_(axes_) {}

  std::vector<CaseSpec> Run() {
    std::vector<CaseSpec> specs;
    std::set<std::string> seen;
    // Once all pairs have met, further cases are random combinations; where there are no more, the loop ends.
    for (int64_t misses = 0; static_cast<int64_t>(specs.size()) < o_.budget && misses < 100;) {
      CaseSpec spec = SpecOf(Next(random_++));
      const std::string shape = Name(spec);  // all have seed 0 here
      if (!seen.insert(shape).second) {
        ++misses;
        continue;
      }
      spec.seed = o_.seed + specs.size();
      specs.push_back(spec);
    }
    return specs;
  }

 private:
  // A choice that lets many pairs meet for the first time: of several begun at random, the best; each axis in turn
  // takes the value with most new pairs among those already chosen.
  Choice Next(uint64_t round) {
    constexpr uint64_t kTries = 8;
    Choice best;
    int64_t best_new = -1;
    for (uint64_t attempt = 0; attempt < kTries; ++attempt) {
      const uint64_t state = data::SplitMix64(o_.seed) + (round * kTries + attempt) * 64;
      Choice choice(kAxes);
      std::vector<size_t> order(kAxes);
      for (size_t i = 0; i < kAxes; ++i) order[i] = i;
      for (size_t i = kAxes - 1; i > 0; --i) std::swap(order[i], order[data::SplitMix64(state + i) % (i + 1)]);
      int64_t all_new = 0;
      for (size_t i = 0; i < kAxes; ++i) {
        const size_t axis = order[i], count = axes_.count(axis), start = data::SplitMix64(state + 20 + i) % count;
        int64_t most = -1;
        for (size_t k = 0; k < count; ++k) {
          const size_t value = (start + k) % count;
          int64_t fresh = 0;
          for (size_t j = 0; j < i; ++j) fresh += !pairs_.Met(axis, value, order[j], choice[order[j]]);
          if (i == 0) fresh = Unmet(axis, value);  // begin with what has met least
          if (fresh > most) {
            most = fresh;
            choice[axis] = value;
          }
        }
        if (i > 0) all_new += most;
      }
      if (all_new > best_new) {
        best_new = all_new;
        best = choice;
      }
    }
    for (size_t a = 0; a < kAxes; ++a) {
      for (size_t b = a + 1; b < kAxes; ++b) pairs_.Meet(a, best[a], b, best[b]);
    }
    return best;
  }

  int64_t Unmet(size_t axis, size_t value) const {
    int64_t unmet = 0;
    for (size_t other = 0; other < kAxes; ++other) {
      if (other == axis) continue;
      for (size_t k = 0; k < axes_.count(other); ++k) unmet += !pairs_.Met(axis, value, other, k);
    }
    return unmet;
  }

  CaseSpec SpecOf(const Choice& c) const {
    CaseSpec spec;
    data::Attention& a = spec.attention;
    a.batch = axes_.batches[c[kBatch]];
    a.heads_kv = axes_.heads_kv[c[kHeadsKv]];
    a.heads_q = a.heads_kv * axes_.groups[c[kGroup]];
    a.seqlen_q = axes_.seqlens_q[c[kSeqlenQ]];
    a.seqlen_k = axes_.seqlens_k[c[kSeqlenK]];
    a.head_dim = a.head_dim_v = axes_.head_dims[c[kHeadDim]];
    a.format = axes_.formats[c[kFormat]];
    a.mask = axes_.masks[c[kMask]];
    a.softcap = axes_.softcap[c[kSoftcap]] ? 30 : 0;
    spec.distribution = axes_.distributions[c[kDistribution]];
    spec.sinks = axes_.sinks[c[kSinks]];
    spec.ragged = axes_.ragged[c[kRagged]] || spec.distribution == data::Distribution::kNanPadding;
    if (spec.ragged) a.batch = std::max<int64_t>(a.batch, 2);  // one sequence is as long as the tensors
    // What is too large gives up sequences, groups of heads, and last the lengths.
    const int64_t group = a.group(), least_batch = spec.ragged ? 2 : 1;
    while (Elements(a) > o_.max_elements && a.batch > least_batch) --a.batch;
    while (Elements(a) > o_.max_elements && a.heads_kv > 1) a.heads_q = --a.heads_kv * group;
    while (Elements(a) > o_.max_elements && a.heads_q > 1) a.heads_q = a.heads_kv * std::max<int64_t>(1, a.heads_q / 2);
    while (Elements(a) > o_.max_elements && std::max(a.seqlen_q, a.seqlen_k) > 1) {
      int64_t& longer = a.seqlen_q > a.seqlen_k ? a.seqlen_q : a.seqlen_k;
      longer = (longer + 1) / 2;
    }
    return spec;
  }

  const CaseOptions& o_;
  Axes axes_;
  Pairs pairs_;
  uint64_t random_ = 0;
};

}  // namespace

std::vector<CaseSpec> GenerateCases(const CaseOptions& options) { return Generator(options).Run(); }

}  // namespace bitflash::verify
