#include "sim/tiling.h"

namespace bitflash::sim {

std::string ToString(const Tiling& t) {
  std::string text = std::to_string(t.Br) + "x" + std::to_string(t.Bc) + ", " + std::to_string(t.warps) +
                     (t.warps == 1 ? " warp" : " warps");
  if (t.stages > 1) text += ", " + std::to_string(t.stages) + " stages";
  if (t.splits > 1) text += ", " + std::to_string(t.splits) + " splits";
  if (t.part_keys > 0) text += ", parts of " + std::to_string(t.part_keys) + " keys";
  if (t.page_size > 0) text += ", pages of " + std::to_string(t.page_size);
  if (t.pack_gqa) text += ", packed heads";
  if (t.fp32_scores) text += ", fp32 scores";
  return text;
}

}  // namespace bitflash::sim
