// "did you mean": the nearest accepted word to a mistyped one.
#ifndef BITFLASH_VERIFY_CLI_SUGGEST_H_
#define BITFLASH_VERIFY_CLI_SUGGEST_H_

#include <string>
#include <string_view>
#include <vector>

namespace bitflash::verify {

// Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other (optimal string
// alignment; bytes, ASCII letters compared without case).
int EditDistance(std::string_view a, std::string_view b);

// "; did you mean 'traffic'?" for the nearest candidate, or "" when none is near enough to be a slip of the finger:
// more than a third of the word would have to change.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

// "unknown GPU 'h20'; did you mean 'h200'? (accepted: a100, h100, ...)".
std::string UnknownName(std::string_view kind, std::string_view word, const std::vector<std::string>& accepted);

// The words with ", " between them.
std::string Join(const std::vector<std::string>& words, std::string_view separator = ", ");

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_SUGGEST_H_
