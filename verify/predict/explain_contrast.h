// One attention problem counted twice: as the standard kernels and as the FlashAttention kernel that fits the GPU.
#ifndef BITFLASH_VERIFY_PREDICT_EXPLAIN_CONTRAST_H_
#define BITFLASH_VERIFY_PREDICT_EXPLAIN_CONTRAST_H_

#include <optional>

#include "data/attention.h"
#include "data/gpu.h"
#include "sim/count.h"
#include "verify/predict/explain.h"

namespace bitflash::verify {

struct KernelChoice {
  const sim::Kernel* kernel = nullptr;
  sim::Tiling tiling;
  bool reduced = false;  // the kernel's own tile did not fit: this is the largest halving of it that does
};

// The newest forward kernel (one query: the split-KV kernel) that takes the problem on the GPU: fa3 where there is
// wgmma, fa2 from sm80 on, fa1 elsewhere. Throws UsageError with the last kernel's reason when none does.
KernelChoice ChooseFlash(const data::Attention& attention, const data::Gpu& gpu);

// The baseline, three kernels; throws UsageError when it does not take the problem.
KernelChoice ChooseStandard(const data::Attention& attention, const data::Gpu& gpu, bool fp32_scores);

// Counts one kernel and derives what the explanation says about it.
KernelCost CountCost(const KernelChoice& choice, const data::Attention& attention, const data::Gpu& gpu);

// 2 (head_dim + head_dim_v) a visible pair, all heads.
int64_t UsefulFlops(const data::Attention& attention);

Contrast CountContrast(const data::Attention& attention, const data::Gpu& gpu, bool fp32_scores);

// Fills in HbmBytes::predicted: replayed up to `most_replayed` of sim::l2::ExactCost, in closed form beyond; floors and
// bottleneck are then those of the predicted bytes.
void PredictHbm(KernelCost& cost, const data::Attention& attention, const data::Gpu& gpu, int64_t most_replayed);
void PredictHbm(Contrast& contrast, const data::Gpu& gpu, int64_t most_replayed);
// Adds KernelCost::time on both sides.
void EstimateTimes(Contrast& contrast, const data::Gpu& gpu);

// Peak of the tensor cores for the format, dense, in FLOP/s.
double TensorPeak(const data::Gpu& gpu, data::Format format);

// What the fits-L2 statements compare with: the probed usable capacity when there is one.
int64_t UsableL2(const data::Gpu& gpu);

// A count of a tiling whether or not any GPU could run it, to say what it would need.
struct Anyway {
  sim::Ledger total;
  sim::Resources resources;  // of the first launch
  int64_t blocks = 0;        // of the first launch
};
Anyway CountAnyway(const KernelChoice& choice, const data::Attention& attention);

// The same layer with `seqlen` keys, and as many queries (prefill) or one (decode).
data::Attention AtLength(const data::Attention& attention, data::Phase phase, int64_t seqlen);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_EXPLAIN_CONTRAST_H_
