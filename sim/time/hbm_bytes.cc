#include "sim/time/hbm_bytes.h"

#include <algorithm>

namespace bitflash::sim {

Traffic HbmWhileRunning(const Ledger& ledger, const data::Gpu& gpu) {
  Traffic bytes = Sum(ledger.hbm_compulsory);
  if (bytes.write == 0) return bytes;
  // 28 MB and 31 MB of the 50 MiB that the rule was found with.
  const double l2 = static_cast<double>(gpu.l2_bytes) / (50 * 1024 * 1024);
  const double share = static_cast<double>(bytes.write) / static_cast<double>(bytes.read + bytes.write);
  const double left = std::min({static_cast<double>(bytes.write), l2 * 28e6, l2 * 31e6 * share});
  bytes.write -= static_cast<int64_t>(left);
  return bytes;
}

}  // namespace bitflash::sim
