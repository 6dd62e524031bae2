#include "verify/cli/suggest.h"

#include <doctest/doctest.h>

namespace bitflash::verify {
namespace {

TEST_CASE("edit distance counts insertions, deletions, substitutions and swaps") {
  CHECK(EditDistance("", "") == 0);
  CHECK(EditDistance("abc", "") == 3);
  CHECK(EditDistance("kitten", "sitting") == 3);
  CHECK(EditDistance("traffic", "trafic") == 1);
  CHECK(EditDistance("traffic", "trafifc") == 1);  // a swap
  CHECK(EditDistance("H200", "h200") == 0);
}

TEST_CASE("only a near word is suggested") {
  CHECK(DidYouMean("trafic", {"list", "traffic"}) == "; did you mean 'traffic'?");
  CHECK(DidYouMean("zzz", {"list", "traffic"}).empty());
  CHECK(DidYouMean("", {"list"}).empty());
  CHECK(DidYouMean(std::string(1000, 'x'), {"list"}).empty());
  CHECK(DidYouMean("x", {}).empty());
  CHECK(UnknownName("GPU", "h20", {"a100", "h200"}) ==
        "unknown GPU 'h20'; did you mean 'h200'? (accepted: a100, h200)");
}

}  // namespace
}  // namespace bitflash::verify
