// Which criterion sees which mistake, on which inputs, and whether the diagnosis names it: the test of the verifier,
// and the table that it publishes.
#ifndef BITFLASH_VERIFY_DIAGNOSE_FAULT_MATRIX_H_
#define BITFLASH_VERIFY_DIAGNOSE_FAULT_MATRIX_H_

#include <array>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "data/distribution.h"
#include "verify/diagnose/faults.h"

namespace bitflash::verify {

// Criteria other than the verdict, as their users have them (criteria.h).
enum class Criterion : uint8_t { kFlashAttention2, kAllClose, kNmse };
inline constexpr int kCriteria = 3;
std::string_view Name(Criterion criterion);  // "FA's rule", "allclose 1e-2", "NMSE 5e-4"

// How often a diagnosis named the mistake.
struct Naming {
  int64_t diagnosed = 0;
  int64_t named = 0;          // the mistake comes first, or its bits are those of the one that does
  int64_t misled = 0;         // another mistake is not only first, but given as the answer (Diagnosis::finding)
  std::string confused_with;  // what came first instead, the last time

  void Add(const Naming& other);
};

// One mistake on inputs of one family.
struct MatrixCell {
  int64_t applied = 0;  // problems on which the mistake can show
  int64_t within = 0;   // on which every element stayed within the bound of a correct kernel: nobody can tell
  int64_t outside = 0;  // on which some did not
  // Of those outside:
  int64_t wrong = 0;                       // the verdict says so
  std::array<int64_t, kCriteria> asked{};  // on which the criterion is defined
  std::array<int64_t, kCriteria> seen{};   // and fails, as it should
  Naming known;                            // told which kernel it is; a part of `outside`
  Naming unknown;                          // without being told; one problem a cell
  // Without being told, and the kernel rounds as none that bitflash knows: no hypothesis gives its bits; one problem a
  // cell. Not part of the counts above.
  Naming foreign;
};

struct FaultMatrix {
  std::vector<data::Distribution> families;
  std::vector<std::vector<MatrixCell>> cells;  // [fault][family]

  MatrixCell Total() const;
};

struct FaultMatrixOptions {
  std::vector<data::Distribution> families;
  std::vector<std::string> faults;                             // ids; empty: all
  int64_t most_outside = std::numeric_limits<int64_t>::max();  // of each cell: then it is full
  int64_t most_diagnosed = 2;                                  // of each cell, with the kernel known
  bool unknown = true;  // diagnose without the kernel, too, and kernels that nobody knows
  std::function<void(double)> progress;
};

// Every fault on every shape that it needs, for each family of inputs.
FaultMatrix RunFaultMatrix(const FaultMatrixOptions& options);

// Markdown. A cell has a letter for each that sees the mistake: V the verdict, F FA's rule, A allclose, N NMSE; a star
// where the diagnosis names it every time; "in" where it stays within the bound, blank where it cannot show.
std::string ToMarkdown(const FaultMatrix& matrix);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_FAULT_MATRIX_H_
