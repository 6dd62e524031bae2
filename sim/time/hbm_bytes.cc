#include "sim/time/hbm_bytes.h"

#include "sim/l2/predict.h"

namespace bitflash::sim {

std::vector<Traffic> HbmWhileRunning(const Kernel& kernel, const Attention& attention, const Tiling& tiling,
                                     const data::Gpu& gpu, const Count& count, const l2::Rereads* rereads) {
  const l2::PredictOptions options{
      .mode = l2::Mode::kClosedForm, .start = l2::Start::kFlushed, .seeds = 1, .observer = {}, .rereads = rereads};
  std::vector<Traffic> bytes;
  for (const l2::Prediction& launch : l2::Predict(kernel, attention, tiling, gpu, count, options).launches) {
    bytes.push_back({.read = launch.dram_read.value, .write = launch.dram_write.value});
  }
  return bytes;
}

}  // namespace bitflash::sim
