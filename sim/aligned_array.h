// An array on cache-line boundaries that grows and is reused, for operands that vectors load from.
#ifndef BITFLASH_SIM_ALIGNED_ARRAY_H_
#define BITFLASH_SIM_ALIGNED_ARRAY_H_

#include <cstdint>
#include <memory>
#include <new>

namespace bitflash::sim {

template <typename T>
class AlignedArray {
 public:
  static constexpr std::align_val_t kAlignment{64};

  // Makes room for `count` elements; the content is undefined afterwards.
  void Resize(int64_t count) {
    if (count > capacity_) {
      data_.reset(static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kAlignment)));
      capacity_ = count;
    }
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<T[], Free> data_;
  int64_t capacity_ = 0;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_ALIGNED_ARRAY_H_
