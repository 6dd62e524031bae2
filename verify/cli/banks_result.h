// What `banks` found, and its forms.
#ifndef BITFLASH_VERIFY_CLI_BANKS_RESULT_H_
#define BITFLASH_VERIFY_CLI_BANKS_RESULT_H_

#include <optional>
#include <string>
#include <vector>

#include "sim/bank_conflicts.h"
#include "verify/cli/output.h"

namespace bitflash::verify {

// An instruction and how its lanes go over the tile.
struct BankAccess {
  const sim::SharedInstruction* instruction = nullptr;
  sim::WarpPattern pattern = sim::WarpPattern::kAlongRow;
};

// One layout under one access.
struct BankResult {
  sim::SharedLayout layout;
  BankAccess access;
  std::optional<sim::SharedTile> tile;
  std::optional<sim::TilePass> pass;
  std::string infeasible;  // why there is no pass
};

struct BanksResult {
  int64_t rows = 0, columns = 0;
  data::Format format = data::Format::kBf16;
  std::vector<BankResult> results;  // access by access
  std::vector<std::string> advice;  // a sentence for each access
};

// Counts a layout under an access; a combination that is not possible has its reason.
BankResult CountLayout(const sim::SharedLayout& layout, int64_t rows, int64_t columns, data::Format format,
                       const BankAccess& access);

// What to do about the conflicts of `result`: the layouts with fewest, those without more bytes first.
std::string Advice(const BankResult& result, int64_t rows, int64_t columns, data::Format format);

Json BanksJson(const BanksResult& result);  // verify/schemas/banks.schema.json
std::string BanksText(const BanksResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_BANKS_RESULT_H_
