// The arithmetic of every modelled tensor core, as data: one row per architecture, instruction and formats.
//
// All of them compute the same operation, the fused dot-product-add FDPA(L, F, result). One step takes L products and
// the accumulator c and rounds once:
//   1. Operands decode to sign, integer significand, exponent. Subnormals are kept, with the format's least exponent.
//   2. A product has the exact product of the significands, not normalised, and the sum of the exponents.
//   3. emax is the largest exponent of the products and c; a term whose significand is zero takes no part.
//      No term left: the result is +0. emax is at least emax_floor, which shows only in sums below the accumulator's
//      normal numbers: of bf16 and tf32 near 2^-149, of fp16 accumulators near 2^-25.
//   4. Every term's magnitude, c's included, is truncated to a multiple of 2^(emax - F).
//   5. The truncated terms are added exactly.
//   6. The sum is rounded once (see ResultRounding). An exact zero is +0, whatever the signs; a sum that rounds to zero
//      is +0 too (gpu/probes/tensor_core_probe: "-0 from underflow" does not fit).
//   7. A NaN operand, infinity times zero, or both infinities among the terms: the canonical NaN (all bits but the sign
//      set). Otherwise an infinity among the terms is the result.
// Steps chain in ascending k (but see StepOrder), the rounded output of one being c of the next.
#ifndef BITFLASH_SIM_TENSOR_CORE_H_
#define BITFLASH_SIM_TENSOR_CORE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "data/format.h"

namespace bitflash::sim {

enum class ResultRounding : uint8_t {
  kTruncateFp32,      // toward zero to 24 significant bits, subnormals kept; overflow is infinity even so
  kTruncateFp32To13,  // the same, then the low 10 of the 23 fraction bits are cleared
  kNearestFp16,       // to nearest, ties to even
};

enum class AccumulatorAdd : uint8_t {
  kInEveryStep,       // c takes part in the alignment of every step
  kAfterInstruction,  // the products of one instruction chain from zero; c is added last, to nearest even
};

enum class StepOrder : uint8_t {
  kAscending,
  // Of an instruction's operands the pairs 0 1, 4 5, 8 9, ... first, then 2 3, 6 7, ...: four 8-bit operands share a
  // register, and its lower halves make the first fp16 instruction.
  kEvenPairsFirst,
};

constexpr int kNoEmaxFloor = -9999;  // below every exponent

enum class Evidence : uint8_t {
  kMeasured,   // compared with a GPU, output by output, without a difference; see `source` for how many
  kPublished,  // taken from the source named
};

struct TensorCore {
  std::string_view arch;         // "sm90"
  std::string_view instruction;  // "wgmma", "mma.sync", "tcgen05.mma"
  data::Format input;            // of A and B
  data::Format accumulator;      // of C and D: fp32 or fp16
  int products;                  // L: products fused in one step
  int alignment_bits;            // F: fraction bits that survive alignment, relative to 2^emax
  ResultRounding rounding;
  AccumulatorAdd accumulator_add;
  int instruction_k;  // k of one instruction; only AccumulatorAdd::kAfterInstruction lets it show in the bits
  Evidence evidence;
  std::string_view source;
  int emax_floor = kNoEmaxFloor;  // kNoEmaxFloor also where no operands could show one
  StepOrder step_order = StepOrder::kAscending;
};

// Every row, the preferred instruction of an architecture first.
std::span<const TensorCore> AllTensorCores();

// The row for these formats. Without an instruction: the architecture's preferred one that takes the formats (wgmma on
// sm90, tcgen05.mma on sm100). Throws UsageError that names what is accepted.
const TensorCore& FindTensorCore(std::string_view arch, data::Format input,
                                 data::Format accumulator = data::Format::kFp32, std::string_view instruction = "");

// "sm90 wgmma bf16 -> fp32: L 16, F 25, emax >= -133".
std::string ToString(const TensorCore& core);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TENSOR_CORE_H_
