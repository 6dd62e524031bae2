// Memory for the operands of BlockSteps and of the SIMD kernels.
#ifndef BITFLASH_REFERENCE_ALIGNED_ARRAY_H_
#define BITFLASH_REFERENCE_ALIGNED_ARRAY_H_

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace bitflash::reference {

// Not initialised; on huge pages when it fills some.
template <class T>
class AlignedArray {
 public:
  static constexpr int64_t kAlignment = 64;  // bytes; BlockSteps and cpu_kernels.h ask for it

  explicit AlignedArray(int64_t count)
      : alignment_(sizeof(T) * count >= kHugePage ? kHugePage : kAlignment),
        data_(static_cast<T*>(::operator new (sizeof(T) * count, std::align_val_t{alignment_}))) {
#ifdef MADV_HUGEPAGE
    // The kernels go through what is larger again and again: with pages of 4 KiB they miss the translation buffers.
    if (alignment_ == kHugePage) madvise(data_, sizeof(T) * count / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  }
  AlignedArray(AlignedArray&& other) noexcept
      : alignment_(other.alignment_), data_(std::exchange(other.data_, nullptr)) {}
  ~AlignedArray() { ::operator delete (data_, std::align_val_t{alignment_}); }
  T* get() const { return data_; }

 private:
  static constexpr size_t kHugePage = size_t{1} << 21;

  size_t alignment_;
  T* data_;
};

using AlignedDoubles = AlignedArray<double>;
using AlignedFloats = AlignedArray<float>;

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_ALIGNED_ARRAY_H_
