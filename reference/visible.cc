#include "reference/visible.h"

#include <algorithm>

namespace bitflash::reference {

using data::Mask;

bool Visible(const Mask& mask, int64_t seqlen_q, int64_t seqlen_k, int64_t i, int64_t j) {
  const int64_t diagonal = i + seqlen_k - seqlen_q;  // bottom-right aligned
  switch (mask.kind) {
    case Mask::Kind::kFull:
      return true;
    case Mask::Kind::kCausal:
      return j <= diagonal;
    case Mask::Kind::kCausalTopLeft:
      return j <= i;
    case Mask::Kind::kWindow:
      break;
  }
  return (mask.left == Mask::kUnlimited || diagonal - j <= mask.left) &&
         (mask.right == Mask::kUnlimited || j - diagonal <= mask.right);
}

KeyRange VisibleKeys(const Mask& mask, int64_t seqlen_q, int64_t seqlen_k, int64_t i) {
  const int64_t diagonal = i + seqlen_k - seqlen_q;
  const int64_t farthest = seqlen_q + seqlen_k;  // a wider window limits nothing, and adding it cannot overflow
  int64_t begin = 0;
  int64_t end = seqlen_k;
  switch (mask.kind) {
    case Mask::Kind::kFull:
      break;
    case Mask::Kind::kCausal:
      end = diagonal + 1;
      break;
    case Mask::Kind::kCausalTopLeft:
      end = i + 1;
      break;
    case Mask::Kind::kWindow:
      if (mask.left != Mask::kUnlimited) begin = diagonal - std::min(mask.left, farthest);
      if (mask.right != Mask::kUnlimited) end = diagonal + std::min(mask.right, farthest) + 1;
      break;
  }
  begin = std::clamp<int64_t>(begin, 0, seqlen_k);
  return {begin, std::clamp<int64_t>(end, begin, seqlen_k)};
}

}  // namespace bitflash::reference
