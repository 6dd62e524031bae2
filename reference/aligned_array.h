// Memory for the operands of BlockSteps and of the SIMD kernels.
#ifndef BITFLASH_REFERENCE_ALIGNED_ARRAY_H_
#define BITFLASH_REFERENCE_ALIGNED_ARRAY_H_

#include <cstdint>
#include <new>
#include <utility>

namespace bitflash::reference {

// Not initialised.
template <class T>
class AlignedArray {
 public:
  static constexpr int64_t kAlignment = 64;  // bytes; BlockSteps and cpu_kernels.h ask for it

  explicit AlignedArray(int64_t count)
      : data_(static_cast<T*>(::operator new (sizeof(T) * count, std::align_val_t{kAlignment}))) {}
  AlignedArray(AlignedArray&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  ~AlignedArray() { ::operator delete (data_, std::align_val_t{kAlignment}); }
  T* get() const { return data_; }

 private:
  T* data_;
};

using AlignedDoubles = AlignedArray<double>;
using AlignedFloats = AlignedArray<float>;

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_ALIGNED_ARRAY_H_
