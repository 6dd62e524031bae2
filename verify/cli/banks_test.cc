// `bitflash banks` as its users see it.
#include <doctest/doctest.h>

#include <string>

#include "verify/cli/command_testing.h"

namespace bitflash::verify {
namespace {

TEST_CASE("banks: what attention kernels do, in five layouts, and a sentence for each") {
  const Json json = ValidJson("bitflash banks --tile 64x128 --json", "banks");
  CHECK(json["tile"]["row_bytes"] == 256);
  REQUIRE(json["results"].size() == 20);
  CHECK(json["results"][5]["layout"] == "row-major");
  CHECK(json["results"][5]["instruction"] == "ldmatrix.x4");
  CHECK(json["results"][5]["pass"]["wavefronts"] == 1024);
  CHECK(json["results"][9]["layout"] == "swizzle-128");
  CHECK(json["results"][9]["pass"]["conflicts"] == 0);
  REQUIRE(json["advice"].size() == 4);
  CHECK(json["advice"][0] == "st.shared.b128 along-row: row-major has no bank conflicts.");
  CHECK(
      json["advice"][1] ==
      "ldmatrix.x4 matrix: row-major takes 1,024 wavefronts where 128 would do. To have no conflicts, use swizzle-128 "
      "or swizzle-64 or swizzle-32, or pad each row by 16 bytes (1.0 KiB more).");
}

TEST_CASE("banks: the map of one layout under one instruction") {
  const Finished text = Run("bitflash banks --tile 64x128 --instruction ldmatrix.x4 --layout row-major");
  CHECK(text.exit_code == 0);
  CHECK(text.out.find("The worst instruction begins at row 0, byte 0: 32 wavefronts, 4 without conflicts.") !=
        std::string::npos);
  CHECK(text.out.find("  16-23       ....8888........................           8\n") != std::string::npos);
  const Json json = ValidJson(
      "bitflash banks --tile 32x32 --dtype fp32 --pattern down-column --layout row-major,padded-4 --json", "banks");
  CHECK(json["results"][0]["worst"]["parts"][0]["words_by_bank"][0] == 32);
  CHECK(json["results"][0]["worst"]["parts"][0]["words_by_bank"][1] == 0);
  CHECK(json["results"][1]["pass"]["conflicts"] == 0);
}

TEST_CASE("banks: cp.async, of which only the number of wavefronts is modelled, has no map") {
  const Json json = ValidJson("bitflash banks --tile 64x128 --instruction cp.async.b128 --json", "banks");
  for (const Json& result : json["results"]) CHECK(result["worst"]["parts"].empty());
  CHECK(Run("bitflash banks --tile 64").err.find("'64' is not a tile of rows x columns such as 64x128") !=
        std::string::npos);
}

TEST_CASE("banks: a layout that cannot hold the tile is a row with its reason; if none can, a usage error") {
  const Json json = ValidJson("bitflash banks --tile 64x32 --instruction ld.shared.b64 --json", "banks");
  int infeasible = 0;
  for (const Json& result : json["results"]) {
    if (result["infeasible"].is_null()) continue;
    ++infeasible;
    CHECK(result["layout"] == "swizzle-128");
    CHECK(result["pass"].is_null());
  }
  CHECK(infeasible == 3);
  struct Case {
    const char* arguments;
    const char* message;
  };
  for (const Case& c :
       {Case{"", "which tile? Give --tile RxC"}, Case{"--tile 64", "--tile: '64'"},
        Case{"--tile 64x32 --layout swizzle-128", "swizzle-128 needs rows of a multiple of 128 bytes"},
        Case{"--tile 64x32 --layout swizzel", "unknown layout 'swizzel': expected row-major"},
        Case{"--tile 64x32 --instruction ldmatrix.x3", "did you mean 'ldmatrix.x1'?"},
        Case{"--tile 64x32 --pattern column", "accepted: along-row, down-column, fragment, matrix"},
        Case{"--tile 64x32 --dtype bf61", "did you mean 'bf16'?"},
        Case{"--tile 64x32 --pattern along-row --instruction stmatrix.x2", "does not go with the pattern"},
        Case{"--tile 9999x9999", "expected at most 262144"}}) {
    CAPTURE(c.arguments);
    const Finished finished = Run(std::string("bitflash banks ") + c.arguments);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(finished.err.find(c.message) != std::string::npos);
  }
}

}  // namespace
}  // namespace bitflash::verify
