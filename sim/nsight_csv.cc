#include "sim/nsight_csv.h"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

namespace bitflash::sim {
namespace {

std::vector<std::string> SplitText(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

}  // namespace

std::vector<NsightRow> ReadNsight(const std::string& name) {
  std::ifstream file(std::string(BITFLASH_SOURCE_DIR) + "/data/golden/" + name);
  REQUIRE_MESSAGE(file.good(), name);
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> columns = SplitText(line, ',');
  std::vector<NsightRow> rows;
  while (std::getline(file, line)) {
    const std::vector<std::string> cells = SplitText(line, ',');
    REQUIRE(cells.size() == columns.size());
    for (size_t n = 0; n < cells.size(); ++n) (n == 0 ? rows.emplace_back() : rows.back())[columns[n]] = cells[n];
  }
  return rows;
}

int64_t Number(const NsightRow& row, const std::string& column) { return std::stoll(row.at(column)); }

Attention ProblemOf(const NsightRow& row, const data::Mask& mask) {
  return {.batch = Number(row, "batch"),
          .heads_q = Number(row, "heads_q"),
          .heads_kv = Number(row, "heads_kv"),
          .seqlen_q = Number(row, "seqlen_q"),
          .seqlen_k = Number(row, "seqlen_k"),
          .head_dim = Number(row, "head_dim"),
          .head_dim_v = Number(row, "head_dim"),
          .mask = mask,
          .format = data::ParseFormat(row.at("dtype"))};
}

std::string Dimensions(const Grid& g) {
  return std::to_string(g.x) + "x" + std::to_string(g.y) + "x" + std::to_string(g.z);
}

double Percent(int64_t measured, int64_t counted) {
  return 100.0 * static_cast<double>(measured - counted) / static_cast<double>(counted);
}

}  // namespace bitflash::sim
