// Wall-clock time since it was made.
#ifndef BITFLASH_VERIFY_STOPWATCH_H_
#define BITFLASH_VERIFY_STOPWATCH_H_

#include <chrono>

namespace bitflash::verify {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_STOPWATCH_H_
