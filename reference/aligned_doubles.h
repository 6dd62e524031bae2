// Memory for the operands of BlockSteps.
#ifndef BITFLASH_REFERENCE_ALIGNED_DOUBLES_H_
#define BITFLASH_REFERENCE_ALIGNED_DOUBLES_H_

#include <cstdint>
#include <new>
#include <utility>

namespace bitflash::reference {

class AlignedDoubles {
 public:
  static constexpr int64_t kAlignment = 64;  // bytes; BlockSteps asks for it

  explicit AlignedDoubles(int64_t count)
      : data_(static_cast<double*>(::operator new (sizeof(double) * count, std::align_val_t{kAlignment}))) {}
  AlignedDoubles(AlignedDoubles&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  ~AlignedDoubles() { ::operator delete (data_, std::align_val_t{kAlignment}); }
  double* get() const { return data_; }

 private:
  double* data_;
};

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_ALIGNED_DOUBLES_H_
