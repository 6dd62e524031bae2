// Which recipe made these bits? A search over what decides the bits of an attention kernel: its tiles and splits, its
// tensor core, and every choice of sim::Recipe.
//
// The method is racing: many candidates on a few rows, those that match best on more rows, and so on. What remains is
// verified on the whole problem; rows that contradict it join the sample. At the end every choice is changed alone, to
// see how many elements decide it: a choice that shows in no element is reported as open, never as found.
#ifndef BITFLASH_VERIFY_IDENTIFY_IDENTIFY_H_
#define BITFLASH_VERIFY_IDENTIFY_IDENTIFY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/identify/recipe_file.h"

namespace bitflash::verify {

struct IdentifyOptions {
  std::optional<std::string> arch;  // the only tensor core to consider; empty: all that differ
  // Multiply-adds, roughly, that each of the steps may take: structures, arithmetic, verification, evidence. What is
  // left out is reported.
  double work = 6e10;
  // What is being done, and the share of the whole search that is behind it, 0 to 1.
  std::function<void(std::string_view step, double share)> progress;
};

// One choice and what the data say about it. Elements are of O and of LSE.
struct ChoiceEvidence {
  std::string choice, value, meaning;  // {"exponent", "unfused", "p = exp(sub(mul(S, cs), mul(m, cs)))"}
  // Against the alternative that comes nearest: elements that this value explains and that one does not, and the other
  // way round. Counting stops once an alternative is plainly worse (kEnoughElements).
  std::string nearest;
  int64_t decided_by = 0, against = 0;
  std::vector<std::string> same;  // values that gave the same bits wherever they were compared
  bool open() const { return !same.empty(); }
};
inline constexpr int64_t kEnoughElements = 32;

// One element that the recipe does not explain.
struct Unexplained {
  bool lse = false;
  int64_t sequence = 0, head = 0, row = 0;
  int64_t column = 0;  // of O
  uint32_t observed = 0, simulated = 0;
  int64_t ulps = 0;  // representable numbers from one to the other; -1: one is not finite
};

// A key whose probability, rounded the other way, explains what differs in a row: the residual of the row is that
// key's row of V.
struct KeyHint {
  int64_t sequence = 0, head = 0, row = 0;
  int64_t key = 0, tile = 0;
  double correlation = 0;  // of the residual with the row of V; 1: all of it
};

struct Identification {
  enum class Verdict { kExact, kPartial };
  Verdict verdict = Verdict::kPartial;

  RecipeFile recipe;               // of the best candidate
  std::vector<std::string> named;  // built-in kernels that give the same bits on the rows sampled, with their own tile
  std::string like;                // when none does: a built-in recipe with the same choices; empty: none
  std::vector<ChoiceEvidence> choices;
  bool lse_modelled = true;  // false: the observed LSE has none of the known forms, and took no part in the search

  // Of the verification.
  int64_t elements = 0, equal = 0;  // of O
  int64_t lse_rows = 0, lse_equal = 0;
  int64_t rows = 0, all_rows = 0;                // verified, and of the problem
  std::vector<Unexplained> unexplained;          // the first ones
  int64_t rows_differ = 0, rows_one_or_two = 0;  // rows with elements that differ; with one or two of them
  std::vector<KeyHint> hints;
  std::vector<std::string> suggestions;  // what the differences point to, in words

  int64_t simulations = 0;           // of a candidate on a block of rows
  int64_t structures_not_tried = 0;  // for want of work: see IdentifyOptions
};

// Throws UsageError for a problem or outputs that do not fit together, or an unknown architecture; UndecidedError for
// what is not modelled to the bit: softcap, sinks, scales, formats other than fp16 and bf16, outputs of another format
// than the inputs, no keys. The same result for every number of threads.
Identification Identify(const Problem& problem, const Outputs& outputs, const IdentifyOptions& options = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_IDENTIFY_IDENTIFY_H_
