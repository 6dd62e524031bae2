// What a thread block of a simulated kernel keeps on chip: read off the kernel's own text by a block that watches.
#ifndef BITFLASH_VERIFY_PREDICT_EXPLAIN_ON_CHIP_H_
#define BITFLASH_VERIFY_PREDICT_EXPLAIN_ON_CHIP_H_

#include "data/attention.h"
#include "verify/predict/explain.h"

namespace bitflash::verify {

// Of the main launch of `side`, which is a FlashAttention kernel.
OnChip WatchOnChip(const KernelCost& side, const data::Attention& attention);

// How many tiles the kernel visits, by the same ranges that the kernel loops over.
TileLoop CountLoop(const KernelCost& side, const data::Attention& attention);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_EXPLAIN_ON_CHIP_H_
