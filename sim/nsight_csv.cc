#include "sim/nsight_csv.h"

#include "data/csv.h"
#include "data/strict_json.h"

namespace bitflash::sim {

std::vector<NsightRow> ReadCsv(const std::string& path) {
  const std::string text = data::ReadTextFile(path);
  data::CsvReader reader(text, path);
  const data::CsvRecord header = reader.Read();
  std::vector<NsightRow> rows;
  while (!reader.at_end()) {
    const data::CsvRecord record = reader.Read();
    if (record.fields.size() != header.fields.size()) {
      throw data::CsvError(path, record.line, 1,
                           "expected a field for every one of the " + std::to_string(header.fields.size()) +
                               " columns, got " + std::to_string(record.fields.size()));
    }
    NsightRow& row = rows.emplace_back();
    for (size_t n = 0; n < record.fields.size(); ++n) row[header.fields[n].text] = record.fields[n].text;
  }
  return rows;
}

std::vector<NsightRow> ReadNsight(const std::string& name) {
  return ReadCsv(std::string(BITFLASH_SOURCE_DIR) + "/data/golden/" + name);
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
