// Which keys a query row sees: data/mask.h's definition, as a predicate and as an interval.
// sim/ has its own; the two share nothing, so that a wrong mask cannot hide in shared code.
#ifndef BITFLASH_REFERENCE_VISIBLE_H_
#define BITFLASH_REFERENCE_VISIBLE_H_

#include <cstdint>

#include "data/mask.h"

namespace bitflash::reference {

// True when row i of seqlen_q sees key j of seqlen_k. This is the definition; everything else is checked against it.
bool Visible(const data::Mask& mask, int64_t seqlen_q, int64_t seqlen_k, int64_t i, int64_t j);

// Keys begin, begin + 1, ..., end - 1; none when begin == end.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;

  bool operator==(const KeyRange&) const = default;
};

// The keys that row i sees: under every mask they are consecutive. Both ends lie in [0, seqlen_k] and never decrease
// as i grows, so that the ranges of a block's first and last row bound those of all its rows.
KeyRange VisibleKeys(const data::Mask& mask, int64_t seqlen_q, int64_t seqlen_k, int64_t i);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_VISIBLE_H_
