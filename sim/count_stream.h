// The counting machine: evaluates one block of every run and multiplies.
#ifndef BITFLASH_SIM_COUNT_STREAM_H_
#define BITFLASH_SIM_COUNT_STREAM_H_

#include <string>
#include <vector>

#include "sim/stream.h"

namespace bitflash::sim {

class CountStream : public Stream {
 public:
  struct Launched {
    std::string name;
    Grid grid;
    bool persistent = false;
    Resources resources;  // of the block that needs most
    Ledger ledger;
  };

  // Loops::kByTile visits every tile of every block instead: slow, and what the fast way is tested against.
  explicit CountStream(Loops loops = Loops::kByRun) : loops_(loops) {}

  void Launch(const LaunchSpec& spec, const Body& body) override;

  const std::vector<Launched>& launched() const { return launched_; }
  bool overflowed() const { return overflowed_; }

 private:
  const Loops loops_;
  std::vector<Launched> launched_;
  bool overflowed_ = false;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_COUNT_STREAM_H_
