// Mistakes of masks (M), and of the ends of tiles, sequences and heads (P).
#include <cmath>

#include "sim/operands.h"
#include "verify/diagnose/fault_list.h"
#include "verify/diagnose/fault_outputs.h"
#include "verify/diagnose/fault_problems.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;
using sim::MachineFault;
using Kernel = SimulatedKernel;

// --- What the kernel reads instead of the mask ---------------------------------------------------------------------

bool OtherKeys(const Problem& p, const Mask& mask) {
  return AnySequence(p, [&](const Attention& a) { return ShowsOtherKeys(a, mask); });
}
bool IsCausal(const Problem& p) {
  return p.attention.mask.kind == Mask::Kind::kCausal || p.attention.mask.kind == Mask::Kind::kCausalTopLeft;
}
bool IsWindow(const Problem& p) { return p.attention.mask.kind == Mask::Kind::kWindow; }

bool TopLeftShows(const Kernel&, const Problem& p) {
  return p.attention.mask.kind == Mask::Kind::kCausal && OtherKeys(p, Mask::CausalTopLeft());
}
Outputs TopLeft(const Kernel& k, const Problem& p) { return RunSimulated(k, WithMask(p, Mask::CausalTopLeft())); }

bool BottomRightShows(const Kernel&, const Problem& p) {
  return p.attention.mask.kind == Mask::Kind::kCausalTopLeft && OtherKeys(p, Mask::Causal());
}
Outputs BottomRight(const Kernel& k, const Problem& p) { return RunSimulated(k, WithMask(p, Mask::Causal())); }

// The key that the diagonal loses or gains, 0 or 1 past it, must be one that some row could see.
bool DiagonalShows(const Problem& p, int64_t past) {
  if (!IsCausal(p)) return false;
  const bool top_left = p.attention.mask.kind == Mask::Kind::kCausalTopLeft;
  if (top_left && p.ragged()) return false;
  return AnySequence(p, [&](const Attention& a) {
    const int64_t first = (top_left ? 0 : a.seqlen_k - a.seqlen_q) + past, last = first + a.seqlen_q - 1;
    return last >= 0 && first < a.seqlen_k;
  });
}
bool DiagonalLostShows(const Kernel&, const Problem& p) { return DiagonalShows(p, 0); }
Outputs DiagonalLost(const Kernel& k, const Problem& p) { return RunSimulated(k, WithDiagonalMoved(p, -1)); }
bool FutureKeyShows(const Kernel&, const Problem& p) { return DiagonalShows(p, 1); }
Outputs FutureKey(const Kernel& k, const Problem& p) { return RunSimulated(k, WithDiagonalMoved(p, 1)); }

bool MaskShows(const Kernel&, const Problem& p) { return OtherKeys(p, Mask::Full()); }
Outputs NoMask(const Kernel& k, const Problem& p) { return RunSimulated(k, WithMask(p, Mask::Full())); }

bool UnmaskedTileShows(const Kernel& k, const Problem& p) { return !Splits(k, p) && HidesInsideTile(k, p); }
bool UnmaskedPartShows(const Kernel& k, const Problem& p) { return Splits(k, p) && HidesInsideTile(k, p); }

Mask Left(const Problem& p, int64_t more) { return Mask::Window(p.attention.mask.left + more, p.attention.mask.right); }
bool HasLeft(const Problem& p) { return IsWindow(p) && p.attention.mask.left != Mask::kUnlimited; }
bool WindowWiderShows(const Kernel&, const Problem& p) { return HasLeft(p) && OtherKeys(p, Left(p, 1)); }
Outputs WindowWider(const Kernel& k, const Problem& p) { return RunSimulated(k, WithMask(p, Left(p, 1))); }
bool WindowNarrowerShows(const Kernel&, const Problem& p) {
  return HasLeft(p) && p.attention.mask.left > 0 && OtherKeys(p, Left(p, -1));
}
Outputs WindowNarrower(const Kernel& k, const Problem& p) { return RunSimulated(k, WithMask(p, Left(p, -1))); }

Mask Symmetric(const Problem& p) { return Mask::Window(p.attention.mask.left, p.attention.mask.left); }
bool SymmetricShows(const Kernel&, const Problem& p) { return HasLeft(p) && OtherKeys(p, Symmetric(p)); }
Outputs SymmetricWindow(const Kernel& k, const Problem& p) { return RunSimulated(k, WithMask(p, Symmetric(p))); }

Mask Swapped(const Problem& p) { return Mask::Window(p.attention.mask.right, p.attention.mask.left); }
bool SwappedShows(const Kernel&, const Problem& p) { return IsWindow(p) && OtherKeys(p, Swapped(p)); }
Outputs SwappedWindow(const Kernel& k, const Problem& p) { return RunSimulated(k, WithMask(p, Swapped(p))); }

// The diagonal of the padded problem in every sequence of a ragged one.
bool PaddedDiagonalShows(const Kernel&, const Problem& p) {
  if (p.attention.mask.kind != Mask::Kind::kCausal) return false;
  return AnySequence(p, [&](const Attention& a) {
    const int64_t moved = (p.attention.seqlen_k - p.attention.seqlen_q) - (a.seqlen_k - a.seqlen_q);
    if (moved < 0) return true;  // the last row loses keys
    return ShowsOtherKeys(a, Mask::Window(Mask::kUnlimited, moved));
  });
}
Outputs PaddedDiagonal(const Kernel& k, const Problem& p) {
  const int64_t diagonal = p.attention.seqlen_k - p.attention.seqlen_q;
  return RunBySequence(
      p, [&](const Problem& sequence, int64_t) { return RunSimulated(k, WithDiagonal(sequence, diagonal)); });
}

// --- Rows that see no key ------------------------------------------------------------------------------------------

bool SentinelShows1e4(const Kernel& k, const Problem& p) { return SentinelShows(k, p, 1e4); }
bool SentinelShows5e4(const Kernel& k, const Problem& p) { return SentinelShows(k, p, 5e4); }

bool EmptyRowsOfKeys(const Kernel&, const Problem& p) {
  return HasEmptyRow(p) && AnySequence(p, [](const Attention&) { return true; });
}
Outputs EmptyRowMean(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  MeanOfValues(outputs, p, /*only_empty_rows=*/true);
  return outputs;
}

bool EmptyRowsWithLse(const Kernel& k, const Problem& p) { return WritesLse(k) && HasEmptyRow(p); }
Outputs EmptyRowLseZero(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  ChangeLse(outputs, [](float lse, int64_t, int64_t, int64_t) { return std::isinf(lse) ? 0 : lse; });
  return outputs;
}
Outputs EmptyRowLseSign(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  ChangeLse(outputs, [](float lse, int64_t, int64_t, int64_t) { return std::isinf(lse) ? -lse : lse; });
  return outputs;
}

// --- Tails ---------------------------------------------------------------------------------------------------------

bool OnlineTail(const Kernel& k, const Problem& p) { return IsOnline(k) && VisitsPartialTile(k, p); }
bool BeyondColumn64(const Kernel&, const Problem& p) { return p.attention.head_dim > 64 && SeesKeys(p); }
Outputs First64Columns(const Kernel& k, const Problem& p) { return RunSimulated(k, WithColumnsCut(p, 64)); }

// fp8 runs as fp16: a step of the tensor core takes 16 columns.
int64_t LastStep(const Problem& p) { return sim::PaddedDim(p.attention.head_dim, data::Format::kFp16) - 16; }
Outputs LastStepSkipped(const Kernel& k, const Problem& p) { return RunSimulated(k, WithColumnsCut(p, LastStep(p))); }

bool PaddingOfKeys(const Kernel&, const Problem& p) {
  return AnySequence(p, [&](const Attention& a) { return a.seqlen_k < p.attention.seqlen_k; });
}
// Every sequence has the padded number of keys, its own rows, and a mask aligned to both.
Outputs LengthsIgnored(const Kernel& k, const Problem& p) {
  Problem other = p;
  other.seqlens_k.clear();
  return RunSimulated(k, other);
}

}  // namespace

std::vector<Fault> MaskFaults() {
  constexpr FaultFamily kMask = FaultFamily::kMask, kTail = FaultFamily::kTail;
  return {
      {"mask-top-left", "M01", kMask, "the causal mask is aligned top-left instead of bottom-right",
       "a top-left causal mask", "https://github.com/Dao-AILab/flash-attention/issues/282", When<TopLeftShows>,
       TopLeft},
      {"mask-bottom-right", "M01", kMask, "the causal mask is aligned bottom-right instead of top-left",
       "a bottom-right causal mask", "https://github.com/Dao-AILab/flash-attention/issues/517", When<BottomRightShows>,
       BottomRight},
      {"mask-diagonal-lost", "M02", kMask, "the causal mask hides the key on the diagonal",
       "a causal mask without its diagonal", "", When<DiagonalLostShows>, DiagonalLost},
      {"mask-future-key", "M02", kMask, "the causal mask shows one key past the diagonal",
       "a causal mask that shows one future key", "", When<FutureKeyShows>, FutureKey},
      {"mask-ignored", "M03", kMask, "the mask is ignored", "no mask",
       "https://github.com/triton-lang/triton/issues/4541", When<MaskShows>, NoMask},
      {"mask-tile-unmasked", "M03", kMask,
       "hidden tiles are skipped, but the tiles on the edge of the mask are not masked",
       "a mask that only skips whole tiles", "https://github.com/facebookresearch/xformers/pull/104",
       When<UnmaskedTileShows>, OnMachine<MachineFault::kOnlyTailMasked>},
      {"hidden-tile-nan", "M04", kMask, "a row that sees no key of its first tile subtracts -inf from -inf",
       "-inf minus -inf in rows without a visible key", "https://github.com/pytorch/pytorch/issues/103749",
       When<FirstTileIsHidden>, OnMachine<MachineFault::kHiddenTileNan>},
      {"empty-row-mean", "M05", kMask, "a row that sees no key gets the mean of V",
       "the mean of V in rows without a visible key", "https://github.com/NVIDIA/apex/issues/1390",
       When<EmptyRowsOfKeys>, EmptyRowMean},
      {"empty-row-lse-zero", "M06", kMask, "a row that sees no key gets a finite LSE, 0",
       "a finite LSE in rows without a visible key", "https://github.com/flashinfer-ai/flashinfer/issues/4452",
       When<EmptyRowsWithLse>, EmptyRowLseZero},
      {"empty-row-lse-sign", "M06", kMask, "a row that sees no key gets an infinite LSE of the other sign",
       "the other sign in the LSE of rows without a visible key",
       "https://github.com/Dao-AILab/flash-attention/issues/1778", When<EmptyRowsWithLse>, EmptyRowLseSign},
      {"mask-sentinel-1e4", "M07", kMask, "hidden scores are -1e4 instead of -inf", "-1e4 in place of -inf",
       "https://github.com/ohdearquant/lattice/issues/361", When<SentinelShows1e4>,
       OnMachine<MachineFault::kSentinel1e4>},
      {"mask-sentinel-5e4", "M07", kMask, "hidden scores are -5e4 instead of -inf", "-5e4 in place of -inf",
       "https://github.com/flashinfer-ai/flashinfer/issues/4267", When<SentinelShows5e4>,
       OnMachine<MachineFault::kSentinel5e4>},
      {"mask-zero", "M07", kMask, "hidden scores are 0 instead of -inf", "0 in place of -inf under the mask", "",
       When<HidesInsideTile>, OnMachine<MachineFault::kHiddenScoresZero>},
      {"window-wider", "M08", kMask, "the sliding window reaches one key further left",
       "a window one key wider on the left", "https://github.com/huggingface/transformers/issues/39408",
       When<WindowWiderShows>, WindowWider},
      {"window-narrower", "M08", kMask, "the sliding window ends one key earlier on the left",
       "a window one key narrower on the left", "https://github.com/Dao-AILab/flash-attention/issues/1133",
       When<WindowNarrowerShows>, WindowNarrower},
      {"window-symmetric", "M09", kMask, "the right side of the window is as long as the left", "a symmetric window",
       "", When<SymmetricShows>, SymmetricWindow},
      {"window-swapped", "M09", kMask, "the sides of the window are swapped", "a window with its sides swapped", "",
       When<SwappedShows>, SwappedWindow},
      {"mask-padded-diagonal", "M10", kMask,
       "the causal mask is aligned to the padded lengths instead of a sequence's own",
       "a causal mask aligned to the padded lengths", "https://github.com/NVIDIA/TensorRT-LLM/issues/10102",
       When<PaddedDiagonalShows>, PaddedDiagonal},
      {"tail-scores-zero", "M11", kMask, "columns past the last key score 0 instead of -inf",
       "zeros in the tail of the last key tile", "https://github.com/pytorch/pytorch/issues/196678", When<OnlineTail>,
       OnMachine<MachineFault::kTailScoresZero>},
      {"split-mask-skipped", "M12", kMask, "the mask is not applied once the keys are split",
       "no mask inside the tiles of split keys", "https://github.com/tracel-ai/cubecl/pull/1027",
       When<UnmaskedPartShows>, OnMachine<MachineFault::kOnlyTailMasked>},
      {"v-tail-not-cleared", "P01", kTail, "rows of V past the last key are not cleared: 0 times NaN",
       "NaN from V past the last key", "https://github.com/Dao-AILab/flash-attention/issues/1745",
       When<VisitsPartialTile>, OnMachine<MachineFault::kTailValuesNotCleared>},
      {"qk-first-64-columns", "P03", kTail, "only the first 64 columns of Q and K are multiplied",
       "Q K^T of the first 64 columns", "https://github.com/triton-lang/triton/issues/621", When<BeyondColumn64>,
       First64Columns},
      {"qk-last-step-skipped", "P03", kTail, "the last 16 columns of Q and K are not multiplied",
       "Q K^T without its last 16 columns", "", When<AnyKeys>, LastStepSkipped},
      {"partial-tile-skipped", "P08", kTail, "a last key tile that is not full is skipped",
       "the keys of the partial last tile missing", "", When<VisitsPartialTile>,
       OnMachine<MachineFault::kPartialTileSkipped>},
      {"lengths-ignored", "P09", kTail, "the lengths of the sequences are ignored: padding is attended to",
       "padding keys attended to", "", When<PaddingOfKeys>, LengthsIgnored},
  };
}

}  // namespace bitflash::verify
