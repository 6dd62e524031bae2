#include "verify/cli/suggest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace bitflash::verify {
namespace {

char Lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

}  // namespace

int EditDistance(std::string_view a, std::string_view b) {
  // Rows i-2, i-1 and i of the table; a swap of neighbours looks two rows back.
  std::vector<int> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int differs = Lower(a[i - 1]) != Lower(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + differs});
      if (i > 1 && j > 1 && Lower(a[i - 1]) == Lower(b[j - 2]) && Lower(a[i - 2]) == Lower(b[j - 1])) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t kLongestWord = 64;  // nobody mistypes a longer one; keeps the table small on hostile input
  if (word.empty() || word.size() > kLongestWord) return "";
  const std::string* best = nullptr;
  int best_distance = 0;
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(word, candidate);
    if (best == nullptr || distance < best_distance) {
      best = &candidate;
      best_distance = distance;
    }
  }
  if (best == nullptr) return "";
  const int limit = std::max<int>(1, static_cast<int>(std::max(word.size(), best->size())) / 3);
  if (best_distance >= static_cast<int>(word.size())) return "";  // not a letter in common
  return best_distance <= limit ? fmt::format("; did you mean '{}'?", *best) : "";
}

std::string UnknownName(std::string_view kind, std::string_view word, const std::vector<std::string>& accepted) {
  return fmt::format("unknown {} '{}'{} (accepted: {})", kind, word, DidYouMean(word, accepted), Join(accepted));
}

std::string Join(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

}  // namespace bitflash::verify
