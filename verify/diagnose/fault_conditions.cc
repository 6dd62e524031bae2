#include "verify/diagnose/fault_conditions.h"

#include <cmath>
#include <vector>

#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using sim::KeyRuns;
using sim::QueryTile;
using sim::Range;

// The parts of the keys that blocks of their own visit: one unless the kernel splits.
int64_t Parts(const SimulatedKernel& kernel, const Attention& a) {
  return kernel.kernel->splits_keys ? sim::SplitParts(a, kernel.tiling) : 1;
}

KeyRuns KeysOf(const SimulatedKernel& kernel, const Attention& a, const QueryTile& queries, int64_t part) {
  // split-kv, fa1 and `standard` ascend whatever their recipe says.
  const sim::Kernel& k = *kernel.kernel;
  const bool ascends = k.keys_outside || k.stores_scores || k.fixed_parts;
  const sim::Order order = ascends ? sim::Order::kAscending : k.recipe.key_order;
  if (!kernel.kernel->splits_keys) return sim::KeyTiles(a, kernel.tiling, queries, order);
  return sim::PartKeys(a, kernel.tiling, {.i = queries.i, .split = part}, order);
}

// True when `condition(a, queries, keys)` is for the tiles of some block.
template <class Condition>
bool AnyBlock(const SimulatedKernel& kernel, const Problem& problem, const Condition& condition) {
  return AnySequence(problem, [&](const Attention& a) {
    const int64_t parts = Parts(kernel, a);
    for (int64_t i = 0; i < sim::QueryTileCount(a, kernel.tiling); ++i) {
      const QueryTile queries = sim::QueryTileAt(a, kernel.tiling, i);
      for (int64_t part = 0; part < parts; ++part) {
        if (condition(a, queries, KeysOf(kernel, a, queries, part))) return true;
      }
    }
    return false;
  });
}

// True when some row of the tile sees none of the keys.
bool SomeRowSeesNone(const Attention& a, const QueryTile& queries, Range keys) {
  for (int64_t token = queries.tokens.begin; token < queries.tokens.end(); ++token) {
    const Range visible = sim::VisibleKeys(a, token);
    if (std::max(visible.begin, keys.begin) >= std::min(visible.end(), keys.end())) return true;
  }
  return false;
}

double LargestNorm(const data::Tensor& tensor) {
  const int64_t columns = tensor.shape()[3];
  const std::vector<float> values = ToFloats(tensor);
  double largest = 0;
  for (int64_t begin = 0; begin < tensor.count(); begin += columns) {
    double sum = 0;
    for (int64_t c = 0; c < columns; ++c) sum += double{values[begin + c]} * values[begin + c];
    largest = std::max(largest, sum);
  }
  return std::sqrt(largest);
}

}  // namespace

Attention SequenceOf(const Problem& problem, int64_t sequence) {
  Attention a = problem.attention;
  a.batch = 1;
  a.seqlen_q = problem.queries(sequence);
  a.seqlen_k = problem.keys(sequence);
  return a;
}

bool SeesKeys(const Problem& problem) {
  return AnySequence(problem, [](const Attention& a) {
    for (int64_t token = 0; token < a.seqlen_q; ++token) {
      if (sim::VisibleKeys(a, token).count > 0) return true;
    }
    return false;
  });
}

bool ShowsOtherKeys(const Attention& sequence, const data::Mask& mask) {
  Attention other = sequence;
  other.mask = mask;
  for (int64_t token = 0; token < sequence.seqlen_q; ++token) {
    const Range is = sim::VisibleKeys(sequence, token), becomes = sim::VisibleKeys(other, token);
    if (is.count != becomes.count || (is.count > 0 && is.begin != becomes.begin)) return true;
  }
  return false;
}

bool Splits(const SimulatedKernel& kernel, const Problem& problem) {
  return SeesKeys(problem) && AnySequence(problem, [&](const Attention& a) { return Parts(kernel, a) > 1; });
}

bool SeveralTiles(const SimulatedKernel& kernel, const Problem& problem) {
  return AnyBlock(kernel, problem,
                  [](const Attention&, const QueryTile&, const KeyRuns& keys) { return keys.tiles() > 1; });
}

bool HasEmptyRow(const Problem& problem) {
  for (int64_t b = 0; b < problem.attention.batch; ++b) {
    const Attention a = SequenceOf(problem, b);
    for (int64_t token = 0; token < a.seqlen_q; ++token) {
      if (sim::VisibleKeys(a, token).count == 0) return true;
    }
  }
  return false;
}

bool FirstTileIsHidden(const SimulatedKernel& kernel, const Problem& problem) {
  return AnyBlock(kernel, problem, [&](const Attention& a, const QueryTile& queries, const KeyRuns& keys) {
    if (keys.tiles() == 0) return false;
    // The softmax of `standard` sees all keys of the row together.
    if (kernel.kernel->stores_scores) return SomeRowSeesNone(a, queries, keys.keys());
    return SomeRowSeesNone(a, queries, keys.begin()->first.rows);
  });
}

bool HasEmptyPart(const SimulatedKernel& kernel, const Problem& problem) {
  if (!Splits(kernel, problem)) return false;
  return AnyBlock(kernel, problem, [](const Attention& a, const QueryTile& queries, const KeyRuns& keys) {
    return keys.tiles() == 0 || SomeRowSeesNone(a, queries, keys.keys());
  });
}

bool HidesInsideTile(const SimulatedKernel& kernel, const Problem& problem) {
  return AnyBlock(kernel, problem, [](const Attention& a, const QueryTile& queries, const KeyRuns& keys) {
    if (keys.tiles() == 0) return false;
    const Range visited = keys.keys();
    const Range top = sim::VisibleKeys(a, queries.tokens.begin);
    const Range bottom = sim::VisibleKeys(a, queries.tokens.end() - 1);
    return top.end() < visited.end() || bottom.begin > visited.begin;
  });
}

bool VisitsPartialTile(const SimulatedKernel& kernel, const Problem& problem) {
  return AnyBlock(kernel, problem, [&](const Attention& a, const QueryTile&, const KeyRuns& keys) {
    return a.seqlen_k % kernel.tiling.Bc != 0 && keys.tiles() > 0 && keys.keys().end() == a.seqlen_k;
  });
}

double LargestScore(const Problem& problem) { return LargestNorm(problem.q) * LargestNorm(problem.k); }

bool SentinelShows(const SimulatedKernel& kernel, const Problem& problem, double sentinel) {
  // Unmasked tiles hold no sentinels, and `standard` does not store the columns past the last key.
  const bool hides = HidesInsideTile(kernel, problem);
  if (!hides && (kernel.kernel->stores_scores || !VisitsPartialTile(kernel, problem))) return false;
  const bool empty = AnyBlock(kernel, problem, [](const Attention& a, const QueryTile& queries, const KeyRuns& keys) {
    return keys.tiles() > 0 && SomeRowSeesNone(a, queries, {0, a.seqlen_k});
  });
  // 2^-25 of the row's largest weight is lost in fp32 sums: 18 in the exponent.
  const double scale = problem.attention.scale() * problem.q_scale * problem.k_scale;
  return empty || LargestScore(problem) >= std::abs(sentinel) - 18 / scale;
}

}  // namespace bitflash::verify
