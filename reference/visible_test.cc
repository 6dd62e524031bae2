#include "reference/visible.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

namespace bitflash::reference {
namespace {

using data::Mask;

TEST_CASE("the predicate draws the pictures that FlashAttention documents") {
  // flash_attn_interface.py (FlashAttention 2.1 and later): causal with seqlen_q 2, seqlen_k 5 and with 5, 2.
  const auto picture = [](const Mask& mask, int64_t seqlen_q, int64_t seqlen_k) {
    std::string text;
    for (int64_t i = 0; i < seqlen_q; ++i) {
      for (int64_t j = 0; j < seqlen_k; ++j) text += Visible(mask, seqlen_q, seqlen_k, i, j) ? '1' : '0';
      text += ' ';
    }
    return text;
  };
  CHECK(picture(Mask::Causal(), 2, 5) == "11110 11111 ");
  CHECK(picture(Mask::Causal(), 5, 2) == "00 00 00 10 11 ");
  CHECK(picture(Mask::CausalTopLeft(), 2, 5) == "10000 11000 ");
  CHECK(picture(Mask::CausalTopLeft(), 5, 2) == "10 11 11 11 11 ");
  CHECK(picture(Mask::Window(1, 0), 3, 3) == "100 110 011 ");
  CHECK(picture(Mask::Window(0, 1), 2, 4) == "0011 0001 ");
  CHECK(picture(Mask::Window(1, 0), 4, 2) == "00 00 10 11 ");
  CHECK(picture(Mask::Window(Mask::kUnlimited, 0), 3, 4) == "1100 1110 1111 ");
  CHECK(picture(Mask::Full(), 2, 3) == "111 111 ");
}

TEST_CASE("the interval holds exactly the visible keys and its ends never decrease") {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  std::vector<Mask> masks = {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft()};
  for (const int64_t left : {int64_t{-1}, int64_t{0}, int64_t{1}, int64_t{3}, int64_t{12}, kHuge}) {
    for (const int64_t right : {int64_t{-1}, int64_t{0}, int64_t{2}, kHuge}) masks.push_back(Mask::Window(left, right));
  }
  for (const Mask& mask : masks) {
    for (int64_t seqlen_q = 1; seqlen_q <= 9; ++seqlen_q) {
      for (int64_t seqlen_k = 0; seqlen_k <= 9; ++seqlen_k) {
        KeyRange previous;
        for (int64_t i = 0; i < seqlen_q; ++i) {
          INFO(ToString(mask) << ", " << seqlen_q << " x " << seqlen_k << ", row " << i);
          const KeyRange keys = VisibleKeys(mask, seqlen_q, seqlen_k, i);
          bool same = true;
          for (int64_t j = 0; j < seqlen_k; ++j) {
            same = same && Visible(mask, seqlen_q, seqlen_k, i, j) == (keys.begin <= j && j < keys.end);
          }
          CHECK(same);
          CHECK((previous.begin <= keys.begin && previous.end <= keys.end && keys.end <= seqlen_k));
          previous = keys;
        }
      }
    }
  }
}

}  // namespace
}  // namespace bitflash::reference
