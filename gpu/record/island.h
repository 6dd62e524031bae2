// Device memory with nothing mapped beside it: who reads or writes one byte in front of it or behind faults, whatever
// the allocator does.
#ifndef BITFLASH_GPU_RECORD_ISLAND_H_
#define BITFLASH_GPU_RECORD_ISLAND_H_

#include <cstdint>

namespace bitflash::gpu {

// Memory is mapped in whole granules (2 MiB): only one end of the bytes can lie at an unmapped address.
enum class Shore : uint8_t { kFront, kBack };

class Island {
 public:
  // `bytes`, from 1 on, a multiple of 16 for TMA. A fault loses the context of the process.
  Island(int64_t bytes, Shore shore);
  ~Island();
  Island(const Island&) = delete;
  Island& operator=(const Island&) = delete;

  void* data() const { return reinterpret_cast<void*>(data_); }
  // All bytes, after everything that was launched.
  void FromHost(const void* from) const;
  void ToHost(void* to) const;

 private:
  int64_t bytes_;
  unsigned long long reserved_ = 0, reserved_bytes_ = 0, mapped_ = 0, mapped_bytes_ = 0, memory_ = 0, data_ = 0;
};

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_ISLAND_H_
