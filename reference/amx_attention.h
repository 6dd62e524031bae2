// Flash attention on the CPU in bf16, with the tile products of AMX (Intel Xeon from Sapphire Rapids on): several times
// the speed of cpu_attention.h for inputs that are bf16 anyway, at the accuracy of a GPU kernel. A kernel of its own:
// nothing chooses it by itself, and where it cannot run it says so instead of computing something else.
//
// O, P and LSE as in cpu_attention.h, in this arithmetic (AmxAttentionArithmetic states it for BoundAttention):
//   scores       Q K^T by TDPBF16PS: exact products, sums in fp32, numbers below 2^-126 count as 0
//   P            2^x in fp32 within 2^-22.7, rounded to bf16 (nearest even) for P V; the row sums take it unrounded
//   maximum      the reference that is subtracted lags behind the row's maximum by up to 8 (log2 units), so that O is
//                rescaled rarely; weights below 2^-126 of the reference count as 0
//   O            fp32 sums, multiplied by 1 / row sum, rounded once to the format asked for
//
// Special values as in cpu_attention.h: keys that a row does not see never reach it; a row that sees no key has O = 0
// and LSE = -inf; what it sees acts as IEEE 754 says.
//
// Up to 4 queries (decode): K and V are read where they are, contiguous or in pages, once for all query heads that
// share them, in parts of 1024 keys that are merged in order. More (prefill): K and V are packed.
//
// Bits. The same for every number of threads and every run, and for pages as for contiguous keys. Which of the two ways
// computes a problem, and which rows lie in one group of 32, depends on the shape alone.
#ifndef BITFLASH_REFERENCE_AMX_ATTENTION_H_
#define BITFLASH_REFERENCE_AMX_ATTENTION_H_

#include <string>

#include "data/attention.h"
#include "data/format.h"
#include "reference/cpu_attention.h"
#include "reference/error_bound.h"

namespace bitflash::reference {

// Why AmxAttention cannot run here, for a person: what is missing of compiler, processor, operating system and
// permission. Empty: it can. The first call asks Linux for the permission to use tiles, for the whole process.
const std::string& AmxSupport();

struct AmxOptions {
  int threads = 0;            // 0: OpenMP's choice
  bool round_inputs = false;  // fp32 and fp16 inputs are rounded to bf16 (nearest even); otherwise they are refused
};

// Fast for head dimensions that are multiples of 32; others are padded with zeros. So are, in decode, pages of a
// multiple of 16 keys; K and V in other pages, padded or rounded are copied first, a part at a time.
//
// Throws data::UsageError: AmxSupport() is not empty, inputs that are not bf16 (see round_inputs), what CpuAttention
// refuses, 2^31 keys or more.
void AmxAttention(const data::Attention& attention, const CpuAttentionInputs& inputs,
                  const CpuAttentionOutputs& outputs, const AmxOptions& options = {});

// The roundings of AmxAttention on bf16 inputs, for BoundAttention. Where inputs are rounded, the bound is one for the
// rounded inputs.
Arithmetic AmxAttentionArithmetic(const data::Attention& attention, data::Format output);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_AMX_ATTENTION_H_
