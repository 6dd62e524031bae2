// The ledger of a kernel once more, the obvious way: every (batch, head), every query tile, every key tile, every
// (row, key) pair asked whether it is visible, every touched element marked in a map of its tensor. Written from the
// conventions that the public headers state; it shares no loop, no mask and no kernel text with the machine under test.
// For tests: minutes for what the machine counts in microseconds.
#ifndef BITFLASH_SIM_ENUMERATION_H_
#define BITFLASH_SIM_ENUMERATION_H_

#include <map>
#include <tuple>
#include <vector>

#include "sim/kernels/kernels.h"
#include "sim/ledger.h"

namespace bitflash::sim {

enum class Direction : uint8_t { kRead, kWrite };

// What one launch moved and executed. fp32_ops stays 0: it counts the instructions of the text, which only the text
// has.
class EnumeratedLaunch {
 public:
  // `cols` elements of one row of matrix number `matrix` of the tensor, `bytes` each, between L2 and an SM.
  void Move(TensorId tensor, Direction direction, int64_t matrix, int64_t row, int64_t col, int64_t cols,
            int64_t bytes);
  // The same where L2 handles the sectors that hold these elements for nobody else; rows begin on sectors.
  void MoveSectors(TensorId tensor, Direction direction, int64_t matrix, int64_t row, int64_t col, int64_t cols,
                   int64_t bytes);
  // Elements that are used, and what the crossbar carries, apart.
  void Use(TensorId tensor, Direction direction, int64_t matrix, int64_t row, int64_t col, int64_t cols, int64_t bytes);
  void Cross(TensorId tensor, Direction direction, int64_t bytes);
  void SharedWrite(TensorId tensor, int64_t bytes) { At(ledger_.shared, tensor).write += bytes; }
  void SharedRead(TensorId tensor, int64_t bytes) { At(ledger_.shared, tensor).read += bytes; }
  void RegisterRead(TensorId tensor, int64_t bytes) { At(ledger_.registers, tensor).read += bytes; }
  void Flops(int64_t flops) { ledger_.matrix_flops += flops; }
  void Special(int64_t results) { ledger_.special_ops += results; }

  // The totals, with the compulsory bytes: every marked element once.
  Ledger Finish() const;

 private:
  struct Touched {
    int64_t bytes = 0;                             // of an element
    std::map<int64_t, std::vector<uint8_t>> rows;  // row -> which columns
  };
  Ledger ledger_;
  std::map<std::tuple<TensorId, Direction, int64_t>, Touched> touched_;
};

// The launches of the kernel in order.
std::vector<Ledger> Enumerate(const Kernel& kernel, const Attention& attention, const Tiling& tiling);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_ENUMERATION_H_
