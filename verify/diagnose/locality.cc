#include "verify/diagnose/locality.h"

#include <algorithm>
#include <numeric>

namespace bitflash::verify {
namespace {

int64_t Total(const std::vector<int64_t>& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

// "3", "3 and 5", "0 to 7", "0, 4 and 9"; empty when they are too many to say.
std::string Numbers(const std::vector<int64_t>& numbers) {
  if (numbers.empty()) return "";
  if (numbers.size() == 1) return std::to_string(numbers[0]);
  if (numbers.back() - numbers.front() + 1 == static_cast<int64_t>(numbers.size())) {
    return std::to_string(numbers.front()) + " to " + std::to_string(numbers.back());
  }
  if (numbers.size() > 6) return "";
  std::string text;
  for (size_t n = 0; n < numbers.size(); ++n) {
    if (n > 0) text += n + 1 == numbers.size() ? " and " : ", ";
    text += std::to_string(numbers[n]);
  }
  return text;
}

std::vector<int64_t> Where(const std::vector<int64_t>& counts) {
  std::vector<int64_t> places;
  for (size_t n = 0; n < counts.size(); ++n) {
    if (counts[n] > 0) places.push_back(static_cast<int64_t>(n));
  }
  return places;
}

// Every step-th place from the same offset on, for the usual sizes of tiles: "63 of every 64".
std::string Period(const std::vector<int64_t>& places, int64_t extent) {
  std::string best;
  size_t fewest = SIZE_MAX;
  for (const int64_t step : {256, 192, 128, 96, 64, 48, 32, 16, 8, 4, 2}) {
    if (step * 2 > extent) continue;
    std::vector<int64_t> residues;
    for (const int64_t place : places) residues.push_back(place % step);
    std::ranges::sort(residues);
    residues.erase(std::unique(residues.begin(), residues.end()), residues.end());
    const auto expected = static_cast<int64_t>(residues.size()) * (extent / step);
    // Few residues, most of whose places are wrong.
    const bool few = static_cast<int64_t>(residues.size()) * 4 <= step || residues.size() == 1;
    if (!few || static_cast<int64_t>(places.size()) * 4 < expected * 3 || residues.size() >= fewest) continue;
    const std::string numbers = Numbers(residues);
    if (numbers.empty()) continue;
    fewest = residues.size();
    best = numbers + " of every " + std::to_string(step);
  }
  return best;
}

void SayRows(const ErrorPlaces& p, std::vector<std::string>& out) {
  const std::vector<int64_t> rows = Where(p.by_row);
  std::vector<int64_t> judged = Where(p.judged_by_row);
  if (rows.empty() || p.rows == 1) return;
  if (rows.size() == judged.size()) {
    out.push_back(p.rows == static_cast<int64_t>(rows.size()) ? "every row" : "every row of the sample");
    return;
  }
  const auto first = std::ranges::lower_bound(judged, rows.front());
  const auto last = std::ranges::upper_bound(judged, rows.back());
  const bool dense = last - first == static_cast<int64_t>(rows.size());
  if (dense && last == judged.end()) {
    out.push_back("every row from " + std::to_string(rows.front()) + " on");
  } else if (dense && first == judged.begin()) {
    out.push_back("rows 0 to " + std::to_string(rows.back()) + " of " + std::to_string(p.rows));
  } else if (const std::string period = Period(rows, p.rows); !period.empty() && judged.size() == p.by_row.size()) {
    out.push_back(
        (period.find(" and ") == std::string::npos && period.find(" to ") == std::string::npos ? "row " : "rows ") +
        period);
  } else if (const std::string numbers = Numbers(rows); !numbers.empty()) {
    out.push_back((rows.size() == 1 ? "only row " : "only rows ") + numbers + " of " + std::to_string(p.rows));
  } else {
    out.push_back(std::to_string(rows.size()) + " of " + std::to_string(judged.size()) + " rows, from " +
                  std::to_string(rows.front()) + " to " + std::to_string(rows.back()));
  }
}

void SayHeads(const data::Attention& a, const ErrorPlaces& p, std::vector<std::string>& out) {
  std::vector<int64_t> by_head(p.heads), by_sequence(p.batch), in_group(a.group());
  for (int64_t n = 0; n < p.batch * p.heads; ++n) {
    by_head[n % p.heads] += p.by_head[n];
    by_sequence[n / p.heads] += p.by_head[n];
    in_group[n % p.heads % a.group()] += p.by_head[n];
  }
  const std::vector<int64_t> sequences = Where(by_sequence), heads = Where(by_head), members = Where(in_group);
  if (static_cast<int64_t>(heads.size()) < p.heads) {
    const std::string numbers = Numbers(heads);
    if (static_cast<int64_t>(members.size()) < a.group() && heads.size() == members.size() * a.heads_kv) {
      out.push_back((members.size() == 1 ? "query head " : "query heads ") + Numbers(members) + " of every group of " +
                    std::to_string(a.group()));
    } else if (!numbers.empty()) {
      out.push_back((heads.size() == 1 ? "only head " : "only heads ") + numbers + " of " + std::to_string(p.heads));
    } else {
      out.push_back(std::to_string(heads.size()) + " of " + std::to_string(p.heads) + " heads");
    }
  } else if (p.heads > 1) {
    out.push_back("every head");
  }
  if (static_cast<int64_t>(sequences.size()) < p.batch) {
    const std::string numbers = Numbers(sequences);
    out.push_back(numbers.empty() ? std::to_string(sequences.size()) + " of " + std::to_string(p.batch) + " sequences"
                                  : (sequences.size() == 1 ? "only sequence " : "only sequences ") + numbers + " of " +
                                        std::to_string(p.batch));
  }
}

void SayColumns(const ErrorPlaces& p, std::vector<std::string>& out) {
  const std::vector<int64_t> columns = Where(p.by_column);
  if (static_cast<int64_t>(columns.size()) == p.columns || columns.empty()) return;
  std::string numbers = Numbers(columns);
  if (numbers.empty()) numbers = Period(columns, p.columns);
  // A handful of scattered columns among few errors is chance.
  if (!numbers.empty() && Total(p.by_column) >= 4 * static_cast<int64_t>(columns.size())) {
    out.push_back((columns.size() == 1 ? "only column " : "only columns ") + numbers + " of " +
                  std::to_string(p.columns));
  }
}

}  // namespace

Locality Locate(const data::Attention& a, const Evidence& evidence) {
  const ErrorPlaces& p = evidence.places();
  Locality locality;
  if (evidence.o().beyond == 0) {
    if (evidence.lse() && evidence.lse()->beyond > 0) locality.statements.push_back("LSE only: O is right");
    return locality;
  }
  SayRows(p, locality.statements);
  SayHeads(a, p, locality.statements);
  SayColumns(p, locality.statements);
  return locality;
}

}  // namespace bitflash::verify
