#include "data/attention.h"

#include <doctest/doctest.h>

#include "data/error.h"

namespace bitflash::data {
namespace {

TEST_CASE("masks print and parse back") {
  for (const Mask& mask : {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(4095, 0),
                           Mask::Window(Mask::kUnlimited, 7)}) {
    CHECK(ParseMask(ToString(mask)) == mask);
  }
  CHECK(ParseMask("window(3, 4)") == Mask::Window(3, 4));
}

TEST_CASE("a wrong mask is refused with the accepted forms") {
  for (const char* text : {"", "Causal", "window", "window()", "window(1)", "window(1,2,3)", "window(-2,0)",
                           "window(a,b)", "window(1,2", "window(99999999999999999999,0)"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(ParseMask(text), doctest::Contains("expected full, causal"), UsageError);
  }
}

TEST_CASE("a problem that cannot be is refused by the field's name") {
  Attention a;
  CHECK_NOTHROW(Validate(a));
  const auto refused = [](Attention problem, const char* what) {
    CHECK_THROWS_WITH_AS(Validate(problem), doctest::Contains(what), UsageError);
  };
  a.heads_q = 6, a.heads_kv = 4;
  refused(a, "heads_q is 6: expected a multiple of heads_kv, which is 4");
  a = {.seqlen_q = 0};
  refused(a, "seqlen_q is 0");
  a = {.batch = int64_t{1} << 40, .heads_q = int64_t{1} << 20, .seqlen_k = int64_t{1} << 20};
  refused(a, "2^60 bytes");
  a = {.softmax_scale = -1.0};
  refused(a, "softmax_scale");
  a = {.head_dim = 64, .head_dim_v = 128, .v_is_in_k = true};
  refused(a, "head_dim_v is 128");
  a = {.format = Format::kFp64};
  refused(a, "fp64");
}

}  // namespace
}  // namespace bitflash::data
