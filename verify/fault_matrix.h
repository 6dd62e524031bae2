// Which criterion sees which mistake, on which inputs, and whether the diagnosis names it: the test of the verifier,
// and the table that it publishes.
#ifndef BITFLASH_VERIFY_FAULT_MATRIX_H_
#define BITFLASH_VERIFY_FAULT_MATRIX_H_

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "data/distribution.h"
#include "verify/faults.h"

namespace bitflash::verify {

// Criteria other than the verdict, as their users have them (criteria.h).
enum class Criterion : uint8_t { kFlashAttention2, kAllClose, kNmse };
inline constexpr int kCriteria = 3;
std::string_view Name(Criterion criterion);  // "FA's rule", "allclose 1e-2", "NMSE 5e-4"

// One mistake on inputs of one family.
struct MatrixCell {
  int64_t applied = 0;  // problems on which the mistake can show
  int64_t within = 0;   // on which every element stayed within the bound of a correct kernel: nobody can tell
  int64_t outside = 0;  // on which some did not
  // Of those outside:
  int64_t wrong = 0;                       // the verdict says so
  std::array<int64_t, kCriteria> asked{};  // on which the criterion is defined
  std::array<int64_t, kCriteria> seen{};   // and fails, as it should
  int64_t diagnosed = 0;                   // were diagnosed, with the kernel known; a part of `outside`
  int64_t named = 0;                       // the mistake comes first, or its bits are those of the one that does
  int64_t diagnosed_unknown = 0, named_unknown = 0;  // the same without being told which kernel it is; one a cell
  std::string confused_with;                         // what came first instead, the last time
};

struct FaultMatrix {
  std::vector<data::Distribution> families;
  std::vector<std::vector<MatrixCell>> cells;  // [fault][family]

  MatrixCell Total() const;
};

struct FaultMatrixOptions {
  std::vector<data::Distribution> families;
  std::vector<std::string> faults;  // ids; empty: all
  int64_t most_diagnosed = 2;       // of each cell
  bool unknown = true;              // diagnose without the kernel, too
  std::function<void(double)> progress;
};

// Every fault on every shape that it needs, for each family of inputs.
FaultMatrix RunFaultMatrix(const FaultMatrixOptions& options);

// Markdown. A cell has a letter for each that sees the mistake: V the verdict, F FA's rule, A allclose, N NMSE; a star
// where the diagnosis names it every time; "in" where it stays within the bound, blank where it cannot show.
std::string ToMarkdown(const FaultMatrix& matrix);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_FAULT_MATRIX_H_
