#include "sim/bank_conflicts.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "data/error.h"
#include "data/strict_json.h"
#include "sim/nsight_csv.h"

namespace bitflash::sim {
namespace {

using data::Format;

struct Recorded {
  LaneAddresses addresses;
  std::string instruction;
  bool matrix = false;
};

Recorded AddressesOf(const NsightRow& row) {
  Recorded recorded{{}, row.at("instruction"), row.at("instruction").find("matrix") != std::string::npos};
  // Which way a matrix is read does not change where it lies.
  if (recorded.instruction == "ldmatrix.trans.x4") recorded.instruction = "ldmatrix.x4";
  std::istringstream pieces(row.at("pieces"));
  size_t lane = 0;
  for (std::string piece; pieces >> piece; ++lane) {
    REQUIRE(lane < recorded.addresses.size());
    recorded.addresses[lane] = piece == "." ? -1 : std::stoll(piece) * Number(row, "piece_bytes");
  }
  CHECK(lane == recorded.addresses.size());
  return recorded;
}

std::vector<std::string> Recordings() {
  const auto manifest = nlohmann::json::parse(
      data::ReadTextFile(std::string(BITFLASH_SOURCE_DIR) + "/data/golden/bank_conflicts/manifest.json"));
  std::vector<std::string> names;
  for (const auto& entry : manifest.at("files").items()) names.push_back("bank_conflicts/" + entry.key());
  return names;
}

TEST_CASE("wavefronts and conflicts of every recorded pattern are those that Nsight Compute counted") {
  for (const std::string& name : Recordings()) {
    CAPTURE(name);
    int compared = 0, placed = 0, not_modelled = 0;
    for (const NsightRow& row : ReadNsight(name)) {
      if (row.at("instruction").starts_with("cp.async")) {
        ++not_modelled;
        continue;
      }
      const Recorded recorded = AddressesOf(row);
      const SharedInstruction& instruction = FindSharedInstruction(recorded.instruction);
      CAPTURE(recorded.instruction);
      CAPTURE(row.at("layout"));
      CAPTURE(row.at("access"));
      CAPTURE(row.at("pieces"));
      const int64_t executions = Number(row, "executions");
      const BankCount count = CountBanks(instruction, recorded.addresses);
      const char* side = instruction.store ? "store" : "load";
      CHECK(count.wavefronts * executions == Number(row, side + std::string("_wavefronts")));
      CHECK(count.conflicts() * executions == Number(row, side + std::string("_conflicts")));
      CHECK(count.conflicts() * executions == Number(row, "conflicts"));
      if (recorded.matrix) {  // these have counters of their own, which agree
        const std::string sass = instruction.store ? "sass_stsm_" : "sass_ldsm_";
        CHECK(count.wavefronts * executions == Number(row, sass + "wavefronts"));
        CHECK(count.conflicts() * executions == Number(row, sass + "conflicts"));
      }
      ++compared;
      if (row.at("layout").empty()) continue;
      // The probe computed these addresses in its own way.
      const SharedTile tile(ParseSharedLayout(row.at("layout")), Number(row, "rows"), Number(row, "columns"),
                            Number(row, "element_bytes") == 2 ? Format::kBf16 : Format::kFp32);
      const LaneAddresses ours = PlaceOnTile(tile, instruction, ParseWarpPattern(row.at("access")), Number(row, "row"),
                                             Number(row, "column") * Number(row, "element_bytes"));
      const int lanes = instruction.matrices ? 8 * instruction.matrices : kLanes;
      for (int lane = 0; lane < lanes; ++lane) CHECK(ours[lane] == recorded.addresses[lane]);
      ++placed;
    }
    CHECK(compared == 870);
    CHECK(placed == 310);
    CHECK(not_modelled == 78);
  }
}

TEST_CASE("cp.async: most recorded patterns, and all of tiles that begin on a line") {
  for (const std::string& name : Recordings()) {
    int exact = 0, all = 0, tiles = 0;
    for (const NsightRow& row : ReadNsight(name)) {
      if (!row.at("instruction").starts_with("cp.async")) continue;
      CAPTURE(row.at("pieces"));
      const int64_t counted = Number(row, "sass_ldgsts_wavefronts") / Number(row, "executions");
      const int64_t ruled = CountBanks(FindSharedInstruction("cp.async.b128"), AddressesOf(row).addresses).wavefronts;
      ++all;
      exact += ruled == counted;
      CHECK(std::abs(ruled - counted) * 3 <= counted);
      if (row.at("layout").empty() || row.at("layout").starts_with("padded") || Number(row, "column") != 0) continue;
      CHECK(ruled == counted);
      ++tiles;
    }
    CHECK(all == 78);
    CHECK(exact == 65);
    CHECK(tiles == 12);
  }
}

BankCount Pass(const char* layout, const char* instruction, WarpPattern pattern, int64_t rows = 64,
               int64_t columns = 128, Format format = Format::kBf16) {
  return CountTile(SharedTile(ParseSharedLayout(layout), rows, columns, format), FindSharedInstruction(instruction),
                   pattern)
      .total;
}

TEST_CASE("a tile of 64 x 128 in bf16: what every text about bank conflicts says") {
  // 4 x 8 instructions of ldmatrix.x4, each 16 rows x 32 bytes. Rows of 256 bytes all begin in bank 0.
  CHECK(Pass("row-major", "ldmatrix.x4", WarpPattern::kMatrix) == BankCount{32, 32 * 32, 32 * 4});
  CHECK(Pass("padded-16", "ldmatrix.x4", WarpPattern::kMatrix) == BankCount{32, 32 * 4, 32 * 4});
  CHECK(Pass("swizzle-128", "ldmatrix.x4", WarpPattern::kMatrix) == BankCount{32, 32 * 4, 32 * 4});
  CHECK(Pass("swizzle-64", "ldmatrix.x4", WarpPattern::kMatrix) == BankCount{32, 32 * 4, 32 * 4});
  CHECK(Pass("swizzle-32", "ldmatrix.x4", WarpPattern::kMatrix) == BankCount{32, 32 * 4, 32 * 4});
  // Copies do not conflict in any of them.
  for (const char* layout : {"row-major", "padded-16", "swizzle-128"}) {
    const BankCount copy = Pass(layout, "st.shared.b128", WarpPattern::kAlongRow);
    CHECK(copy.instructions == 32);
    CHECK(copy.conflicts() == 0);
  }
  // A column of 4-byte words: 32-way, unless rows are one word longer.
  CHECK(Pass("row-major", "ld.shared.b32", WarpPattern::kDownColumn, 32, 32, Format::kFp32) ==
        BankCount{32, 32 * 32, 32});
  CHECK(Pass("padded-4", "ld.shared.b32", WarpPattern::kDownColumn, 32, 32, Format::kFp32) == BankCount{32, 32, 32});
}

TEST_CASE("the worst instruction of a tile, and lanes beyond its end") {
  const SharedTile tile(ParseSharedLayout("row-major"), 40, 32, Format::kFp32);
  const TilePass pass = CountTile(tile, FindSharedInstruction("st.shared.b32"), WarpPattern::kDownColumn);
  CHECK(pass.total.instructions == 2 * 32);
  CHECK(pass.total.wavefronts == 32 * (32 + 8));  // the second one has 8 rows
  CHECK(pass.worst == BankCount{1, 32, 1});
  CHECK(pass.worst_row == 0);
  const LaneAddresses last = PlaceOnTile(tile, FindSharedInstruction("ld.shared.b32"), WarpPattern::kDownColumn, 32, 0);
  CHECK(last[7] == 39 * 128);
  CHECK(last[8] == -1);
}

TEST_CASE("parts: which lanes are served together") {
  LaneAddresses addresses;
  for (int lane = 0; lane < kLanes; ++lane) addresses[lane] = lane / 2 * 16;
  const auto parts = [&](const char* name) { return Parts(FindSharedInstruction(name), addresses).size(); };
  CHECK(parts("ld.shared.b128") == 2);  // neighbours agree
  CHECK(parts("st.shared.b128") == 4);
  CHECK(parts("ld.shared.b64") == 1);
  CHECK(parts("ld.shared.b16") == 1);
  CHECK(parts("ldmatrix.x2") == 2);
  addresses[5] = 0;
  CHECK(parts("ld.shared.b128") == 4);  // one pair does not
  for (int lane = 0; lane < 8; ++lane) addresses[lane] = -1;
  CHECK(parts("st.shared.b128") == 3);
  CHECK(Parts(FindSharedInstruction("st.shared.b128"), addresses)[0].lanes.front() == 8);
}

TEST_CASE("instructions and patterns that do not go together are refused") {
  const SharedTile tile(ParseSharedLayout("padded-4"), 60, 30, Format::kBf16);
  const auto refuse = [&](const char* instruction, WarpPattern pattern, const char* what) {
    CHECK_THROWS_WITH_AS(CountTile(tile, FindSharedInstruction(instruction), pattern), doctest::Contains(what),
                         data::UsageError);
  };
  refuse("ldmatrix.x4", WarpPattern::kAlongRow, "does not go with the pattern along-row");
  refuse("ld.shared.b32", WarpPattern::kMatrix, "does not go with the pattern matrix");
  refuse("ld.shared.b64", WarpPattern::kAlongRow, "rows of 60 bytes are no multiple");
  const SharedTile padded(ParseSharedLayout("padded-4"), 60, 32, Format::kBf16);
  CHECK_THROWS_WITH_AS(CountTile(padded, FindSharedInstruction("ld.shared.b64"), WarpPattern::kAlongRow),
                       doctest::Contains("padded-4 misaligns ld.shared.b64"), data::UsageError);
  const SharedTile ragged(ParseSharedLayout("row-major"), 60, 32, Format::kBf16);
  CHECK_THROWS_WITH_AS(CountTile(ragged, FindSharedInstruction("ldmatrix.x4"), WarpPattern::kMatrix),
                       doctest::Contains("takes 16 rows of 32 bytes"), data::UsageError);
  CHECK_THROWS_WITH_AS(FindSharedInstruction("lds"), doctest::Contains("ldmatrix.x4"), data::UsageError);
  CHECK_THROWS_WITH_AS(ParseWarpPattern("row"), doctest::Contains("along-row, down-column"), data::UsageError);
}

}  // namespace
}  // namespace bitflash::sim
