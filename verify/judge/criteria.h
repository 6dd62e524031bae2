// The acceptance criteria that people test attention kernels with, as they are used: to say what a criterion would have
// let through, never to judge with. None of them ignores a NaN.
#ifndef BITFLASH_VERIFY_JUDGE_CRITERIA_H_
#define BITFLASH_VERIFY_JUDGE_CRITERIA_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "verify/cases/problem.h"

namespace bitflash::verify {

// What a criterion says of one tensor. A value that is not a number, where a number is expected, fails every criterion,
// and `measured` is then NaN.
struct CriterionResult {
  bool passes = false;
  double measured = 0;   // what the criterion computes: the largest excess, a ratio
  double limit = 0;      // what it may be at most
  int64_t failures = 0;  // elements that fail by themselves; criteria of the whole tensor count those not finite
};

// |out - expected| <= atol + rtol |expected| for every element (torch.allclose, numpy.allclose). Equal infinities
// agree. `measured` is the largest |out - expected| - rtol |expected|, the limit atol.
CriterionResult AllClose(std::span<const double> out, std::span<const double> expected, double atol, double rtol);

// The largest |out - expected|.
CriterionResult MaxAbs(std::span<const double> out, std::span<const double> expected, double limit);

// sum (out - expected)^2 / sum expected^2: llama.cpp's test of FLASH_ATTN_EXT allows 5e-4.
CriterionResult Nmse(std::span<const double> out, std::span<const double> expected, double limit = 5e-4);

// FlashAttention's tests (tests/test_flash_attn.py): max |out - ref| <= 2 max |pt - ref|, where ref is attention in
// fp32 rounded to the type of the inputs and pt the same in that type throughout. FlashAttention-3's (hopper/
// test_flash_attn.py) add fwd_atol = 2 max |((ref + 0.3) - 0.3) - ref| in that type.
struct FlashAttentionRule {
  std::vector<float> ref;          // [batch, heads_q, seqlen_q, head_dim_v]
  double low_precision_error = 0;  // max |pt - ref|
  double fwd_atol = 0;

  double limit_fa2() const { return 2 * low_precision_error; }
  double limit_fa3() const { return 2 * low_precision_error + fwd_atol; }
};

// False for formats other than fp16 and bf16, scales and sinks: the rule is not defined there.
bool HasFlashAttentionRule(const Problem& problem);

// `exact_o` is O in exact arithmetic, of the shape of Outputs::o. Throws UndecidedError unless it has
// the rule. On all threads.
FlashAttentionRule MakeFlashAttentionRule(const Problem& problem, std::span<const double> exact_o);

// pt: the scale is applied to Q; Q, the scores, P and O are rounded to the problem's format, sums are fp32. O, as
// floats.
std::vector<float> LowPrecisionAttention(const Problem& problem);

// Rows of `exact_o`, of `columns` each, all of whose elements could be 0 within atol + rtol |o|.
int64_t BlindRows(std::span<const double> exact_o, int64_t columns, double atol, double rtol);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_CRITERIA_H_
