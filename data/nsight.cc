#include "data/nsight.h"

#include <algorithm>
#include <utility>

#include "data/byte_source.h"
#include "data/csv.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

// Far above any profile; a hundred bytes are kept for every number of two.
constexpr int64_t kMostBytes = int64_t{64} << 20;

void RequireSize(int64_t bytes, std::string_view origin) {
  if (bytes <= kMostBytes) return;
  throw InputError(std::string(origin) + ": has " + std::to_string(bytes) + " bytes: expected at most " +
                   std::to_string(kMostBytes) + "; export fewer launches or metrics");
}

bool IsNumber(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "dram__bytes_read.sum [Mbyte]", as exported by the graphical interface, has its unit in the header.
std::pair<std::string, std::string> NameAndUnit(const std::string& header) {
  const size_t open = header.rfind(" [");
  if (open == std::string::npos || !header.ends_with(']')) return {header, ""};
  return {header.substr(0, open), header.substr(open + 2, header.size() - open - 3)};
}

// The columns of a table, -1 where it has none.
struct Columns {
  size_t count = 0;
  int id = -1, kernel = -1, block = -1, grid = -1, process = -1;
  int name = -1, unit = -1, value = -1;                   // one metric a row
  std::vector<std::pair<std::string, std::string>> wide;  // column -> metric and its unit; empty name: no metric

  bool is_long() const { return name >= 0; }
};

class Parser {
 public:
  Parser(std::string_view text, std::string_view origin) : reader_(text, origin) { table_.origin = origin; }

  NsightTable Parse() {
    while (!reader_.at_end()) {
      const std::string_view line = reader_.PeekLine();
      if (SeparatorOfHeader(line) != '\0') {
        ReadHeader(SeparatorOfHeader(line));
      } else if (columns_.count > 0 && LooksLikeRow(line)) {
        ReadRow(reader_.Read());
      } else {
        if (line.find_first_not_of(" \t") != std::string_view::npos) ++table_.skipped_lines;
        reader_.SkipLine();
      }
    }
    if (columns_.count == 0) {
      throw CsvError(reader_.origin(), 1, 1,
                     "no table of Nsight Compute: expected a line with the columns \"ID\" and \"Kernel Name\", as "
                     "`ncu --csv` prints");
    }
    table_.style = evidence_.style();
    return std::move(table_);
  }

 private:
  // The separator of a header line, or '\0'. The program's output is not taken for one: its first field is ID.
  static char SeparatorOfHeader(std::string_view line) {
    if (line.find("Kernel Name") == std::string_view::npos) return '\0';
    for (const std::string_view id : {"\"ID\"", "ID", "\"Process ID\"", "Process ID"}) {
      if (!line.starts_with(id) || line.size() == id.size()) continue;
      const char next = line[id.size()];
      if (next == ',' || next == ';' || next == '\t') return next;
    }
    return '\0';
  }

  // A row begins with the number of its launch, that of units with an empty field.
  bool LooksLikeRow(std::string_view line) const {
    if (line.starts_with('"')) line.remove_prefix(1);
    const size_t end = line.find_first_not_of("0123456789");
    if (end == std::string_view::npos || (end == 0 && !units_expected_)) return false;
    line.remove_prefix(end);
    if (line.starts_with('"')) line.remove_prefix(1);
    return line.starts_with(separator_);
  }

  void ReadHeader(char separator) {
    separator_ = separator;
    reader_.set_separator(separator);
    const CsvRecord header = reader_.Read();
    columns_ = Columns{.count = header.fields.size()};
    for (size_t n = 0; n < header.fields.size(); ++n) {
      const std::string& name = header.fields[n].text;
      const struct {
        const char* name;
        int* column;
      } known[] = {{"ID", &columns_.id},
                   {"Kernel Name", &columns_.kernel},
                   {"Block Size", &columns_.block},
                   {"Grid Size", &columns_.grid},
                   {"Process ID", &columns_.process},
                   {"Metric Name", &columns_.name},
                   {"Metric Unit", &columns_.unit},
                   {"Metric Value", &columns_.value}};
      for (const auto& entry : known) {
        if (name == entry.name) *entry.column = static_cast<int>(n);
      }
      columns_.wide.push_back(name.find("__") == std::string::npos ? std::pair<std::string, std::string>()
                                                                   : NameAndUnit(name));
    }
    const auto refuse = [&](const std::string& what) { throw CsvError(reader_.origin(), header.line, 1, what); };
    if (columns_.id < 0) {
      refuse(
          "this table has no column \"ID\", so it is a summary of several launches (--print-summary): expected "
          "one launch or one metric a row");
    }
    if (columns_.kernel < 0) refuse("this table has no column \"Kernel Name\"");
    if (columns_.is_long() && columns_.value < 0) {
      refuse("this table has a column \"Metric Name\" but none \"Metric Value\"");
    }
    units_expected_ = !columns_.is_long();
    first_of_table_ = table_.launches.size();
  }

  void ReadRow(const CsvRecord& row) {
    // Where the header has columns of rules, rows of metrics end before them, and rows of rules have one field more.
    const auto needed =
        static_cast<size_t>(std::max({columns_.id, columns_.kernel, columns_.unit, columns_.value})) + 1;
    if (columns_.is_long() ? row.fields.size() < needed : row.fields.size() != columns_.count) {
      throw CsvError(reader_.origin(), row.line, row.fields.back().column,
                     Counted(static_cast<int64_t>(row.fields.size()), "field") + " in this row: expected " +
                         (columns_.is_long() ? "at least " + std::to_string(needed) : std::to_string(columns_.count)) +
                         ", as in its header");
    }
    if (std::exchange(units_expected_, false) && Text(row, columns_.id).empty()) return ReadUnits(row);
    if (!IsNumber(Text(row, columns_.id))) {
      throw CsvError(reader_.origin(), row.line, row.fields[static_cast<size_t>(columns_.id)].column,
                     "ID is " + Quoted(Text(row, columns_.id)) + ": expected a whole number");
    }
    NsightLaunch& launch = LaunchOf(row);
    if (columns_.is_long()) {
      const std::string& name = Text(row, columns_.name);
      if (!name.empty()) Add(launch, row, name, columns_.unit < 0 ? "" : Text(row, columns_.unit), columns_.value);
      return;
    }
    for (size_t n = 0; n < row.fields.size(); ++n) {
      const auto& [name, unit] = columns_.wide[n];
      if (!name.empty()) Add(launch, row, name, unit, static_cast<int>(n));
    }
  }

  void ReadUnits(const CsvRecord& row) {
    for (size_t n = 0; n < row.fields.size(); ++n) {
      if (!columns_.wide[n].first.empty() && !row.fields[n].text.empty()) columns_.wide[n].second = row.fields[n].text;
    }
  }

  // The launch of a row: in the long form that of the row before, unless the ID or the process is another.
  NsightLaunch& LaunchOf(const CsvRecord& row) {
    const std::string process = columns_.process < 0 ? "" : Text(row, columns_.process);
    const bool same = columns_.is_long() && table_.launches.size() > first_of_table_ && process == process_ &&
                      table_.launches.back().id == Text(row, columns_.id) &&
                      table_.launches.back().kernel == Text(row, columns_.kernel);
    process_ = process;
    if (same) return table_.launches.back();
    const auto text = [&](int column) { return column < 0 ? std::string() : Text(row, column); };
    table_.launches.push_back(
        {Text(row, columns_.id), Text(row, columns_.kernel), text(columns_.block), text(columns_.grid), row.line, {}});
    return table_.launches.back();
  }

  void Add(NsightLaunch& launch, const CsvRecord& row, const std::string& name, const std::string& unit, int column) {
    const CsvField& field = row.fields[static_cast<size_t>(column)];
    if (!evidence_.Add(field.text)) {
      throw CsvError(reader_.origin(), row.line, field.column,
                     Quoted(field.text) + " contradicts the numbers above, where '" + evidence_.style().decimal +
                         "' separates decimals: expected one locale in a file");
    }
    // A section may show a metric again; the value is the same.
    launch.metrics.try_emplace(name, NsightMetric{field.text, unit, row.line, field.column});
  }

  static const std::string& Text(const CsvRecord& row, int column) {
    return row.fields[static_cast<size_t>(column)].text;
  }

  CsvReader reader_;
  NsightTable table_;
  StyleEvidence evidence_;
  Columns columns_;
  char separator_ = ',';
  std::string process_;
  bool units_expected_ = false;
  size_t first_of_table_ = 0;
};

bool IsNoValue(std::string_view text) {
  for (const std::string_view none : {"", "n/a", "N/A", "(!) n/a", "nan", "-nan", "inf", "no data"}) {
    if (text == none) return true;
  }
  return false;
}

}  // namespace

NsightTable ParseNsight(std::string_view text, std::string_view origin) {
  RequireSize(static_cast<int64_t>(text.size()), origin);
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    throw CsvError(origin, 1, 1, "this file is UTF-16, as PowerShell's > writes: expected UTF-8 (ncu --log-file FILE)");
  }
  return Parser(text, origin).Parse();
}

NsightTable ReadNsight(const std::string& path) {
  const FileSource file(path);
  RequireSize(file.bytes(), path);
  const Buffer bytes = file.Load(0, file.bytes(), "the table");
  return ParseNsight({reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(bytes.bytes())}, path);
}

std::optional<NsightValue> FindMetric(const NsightTable& table, const NsightLaunch& launch,
                                      const std::vector<std::string>& names, std::string_view dimension) {
  for (const std::string& name : names) {
    const auto found = launch.metrics.find(name);
    if (found == launch.metrics.end() || IsNoValue(found->second.text)) continue;
    const NsightMetric& metric = found->second;
    const auto fail = [&](const std::string& what) {
      throw CsvError(table.origin, metric.line, metric.column, Quoted(name) + " " + what);
    };
    const std::optional<ParsedNumber> number = ParseNumber(metric.text, table.style);
    if (!number) fail("is " + Quoted(metric.text) + ": expected a number");
    const std::optional<double> factor = UnitFactor(metric.unit, dimension);
    if (!factor) {
      fail("has the unit " + Quoted(metric.unit) + ": expected " + std::string(dimension) +
           " or a multiple of it (K is 1000)");
    }
    // What is counted is whole, so that a step of one is none.
    const double rounding = number->step * *factor / 2;
    const bool exact = dimension != "second" && rounding <= 0.5;
    return NsightValue{number->value * *factor, exact ? 0 : rounding, name};
  }
  return {};
}

}  // namespace bitflash::data
