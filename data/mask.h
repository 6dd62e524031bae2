// Which keys a query may see: the name and the numbers of a mask. What they mean is computed independently by
// reference/ and by sim/ on purpose, so that a wrong mask cannot hide in shared code.
#ifndef BITFLASH_DATA_MASK_H_
#define BITFLASH_DATA_MASK_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace bitflash::data {

// Query row i (0-based) of seqlen_q sees key j (0-based) of seqlen_k:
//   kFull           always
//   kCausal         j <= i + seqlen_k - seqlen_q   (bottom-right aligned: FlashAttention 2.1 on, PyTorch's lower-right)
//   kCausalTopLeft  j <= i
//   kWindow         i + seqlen_k - seqlen_q - left <= j <= i + seqlen_k - seqlen_q + right;
//                   a side that is kUnlimited does not limit. (FlashAttention's window_size, bottom-right aligned.)
struct Mask {
  enum class Kind : uint8_t { kFull, kCausal, kCausalTopLeft, kWindow };
  static constexpr int64_t kUnlimited = -1;

  Kind kind = Kind::kFull;
  int64_t left = kUnlimited;   // keys; kWindow only
  int64_t right = kUnlimited;  // keys; kWindow only

  static Mask Full() { return {}; }
  static Mask Causal() { return {Kind::kCausal}; }
  static Mask CausalTopLeft() { return {Kind::kCausalTopLeft}; }
  static Mask Window(int64_t left, int64_t right) { return {Kind::kWindow, left, right}; }

  bool operator==(const Mask&) const = default;
};

// "full", "causal", "causal-top-left", "window(255,0)".
std::string ToString(const Mask& mask);

// The inverse of ToString; spaces after the comma are allowed. Throws UsageError with the accepted forms.
Mask ParseMask(std::string_view text);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_MASK_H_
