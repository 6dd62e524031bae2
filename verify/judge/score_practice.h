// Correct kernels that round the query or the scores to the inputs' 16-bit format, which kernels of one launch
// (truth.h) do not. A worst case over such roundings is of no use: with logits of 5 in bf16 it allows 15 % of sum p
// |V|, and a row of zeros would pass. So each practice is followed instead. The scores are rounded where the practice
// rounds them; where the errors of fp32 before a rounding decide which way it goes, both ways count. What remains is a
// bound as tight as that of truth.h around a truth of its own.
#ifndef BITFLASH_VERIFY_JUDGE_SCORE_PRACTICE_H_
#define BITFLASH_VERIFY_JUDGE_SCORE_PRACTICE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {

// R is rounding to the format of the inputs.
struct ScorePractice {
  enum class Query : uint8_t {
    kAsIs,
    kScaled,      // R(scale Q)
    kScaledLog2,  // R(scale log2(e) Q), for exponentials to base 2
  };
  enum class Scores : uint8_t {
    kFp32,
    kProduct,    // R(Q K^T)
    kScaled,     // R(scale Q K^T)
    kEveryStep,  // R(scale R(Q K^T)); a softcap rounds three times more, R(cap R(tanh R(s / cap)))
  };
  std::string_view id;       // "product"
  std::string_view text;     // "rounds Q K^T to {} before it is scaled", {}: the format
  std::string_view seen_in;  // who does it
  Query query;
  Scores scores;
};

// In the order in which they are tried.
const std::vector<ScorePractice>& ScorePractices();

// "rounds Q K^T to bf16 before it is scaled".
std::string Text(const ScorePractice& practice, data::Format format);

// A row of a query head.
struct HeadRow {
  int64_t sequence = 0, head = 0, row = 0;
};

// The rows of the part with an element of O or LSE beyond its bound, added to `rows`; `outputs` and `truth` are the
// part's own, as for Evidence::Add.
void AddRowsBeyond(const Part& part, const Outputs& outputs, const Truth& truth, std::vector<HeadRow>* rows);

struct PracticeMatch {
  const ScorePractice* practice = nullptr;
  int64_t rows = 0, examined = 0;  // beyond the bounds of ArithmeticOf, and those of them that were held against it
};

// The first practice within whose bounds all these rows are. Nothing without one, or where the format is not of 16
// bits. Scores that overflow the format are not excused. Of very many rows a spread sample is looked at, about 8 10^9
// multiply-adds: some seconds. `rows` is not empty. On all threads.
std::optional<PracticeMatch> FindScorePractice(const Problem& problem, const Outputs& outputs,
                                               const std::vector<HeadRow>& rows);

// The same for all rows that are beyond the bounds of ArithmeticOf; nothing also where there are none.
std::optional<PracticeMatch> FindScorePractice(const Problem& problem, const Outputs& outputs);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_SCORE_PRACTICE_H_
