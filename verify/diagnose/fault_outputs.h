// What kernels hand back that do not compute, or that compute right and write wrong.
#ifndef BITFLASH_VERIFY_DIAGNOSE_FAULT_OUTPUTS_H_
#define BITFLASH_VERIFY_DIAGNOSE_FAULT_OUTPUTS_H_

#include <cstdint>
#include <functional>

#include "verify/cases/problem.h"

namespace bitflash::verify {

// Every element is what `change` makes of it: of LSE, and of the row's place [sequence, head, row].
using LseChange = std::function<float(float lse, int64_t sequence, int64_t head, int64_t row)>;
void ChangeLse(Outputs& outputs, const LseChange& change);

// All bits one, a NaN: rows [begin, seqlen_q) of heads [first_head, heads) of sequences [first_sequence, batch).
void LeaveUnwritten(data::Tensor& tensor, int64_t first_sequence, int64_t first_head, int64_t begin);

// Row r of O in head h of sequence b becomes row r' of V in the head's KV head.
void CopyValues(Outputs& outputs, const Problem& problem);

// O becomes the mean of the sequence's V, in all rows or in those that see no key.
void MeanOfValues(Outputs& outputs, const Problem& problem, bool only_empty_rows);

// O written as [batch, seqlen_q, heads, head_dim_v].
void WriteAsBshd(Outputs& outputs);

// Sequence b gets what belongs to sequence b - 1.
void ShiftSequences(Outputs& outputs);

// O and LSE of a kernel that adds `counts(head)` times the problem's sink to the row sums. `outputs` are without.
void AddSinks(Outputs& outputs, const Problem& problem, const std::function<double(int64_t head)>& counts);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_FAULT_OUTPUTS_H_
