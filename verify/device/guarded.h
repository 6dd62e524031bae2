// Tensors on the device between guards of NaN: what reads or writes outside its tensor shows.
#ifndef BITFLASH_VERIFY_DEVICE_GUARDED_H_
#define BITFLASH_VERIFY_DEVICE_GUARDED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/attention.h"
#include "data/distribution.h"
#include "gpu/kernels.h"

namespace bitflash::verify {

// A matrix of rows for each (batch, head) of 16-bit elements inside a larger buffer whose other bytes are 0xFF, NaN in
// both formats: a row before and after each head or token, eight columns after each row.
class GuardedTensor {
 public:
  enum class Layout : uint8_t { kHeadsFirst, kTokensFirst };  // bhsd, bshd

  GuardedTensor(int64_t batch, int64_t heads, int64_t rows, int64_t columns, Layout layout);

  // From and to contiguous [batch, heads, rows, columns].
  void Write(gpu::Stream& stream, const std::vector<uint16_t>& elements);
  void Poison(gpu::Stream& stream);
  // Throws std::runtime_error when a guard has changed.
  std::vector<uint16_t> Read(gpu::Stream& stream) const;

  uint16_t* data() const { return buffer_.as<uint16_t>() + origin_; }
  const gpu::Strides& strides() const { return strides_; }

 private:
  template <class Visit>
  void ForEachRow(const Visit& visit) const;

  int64_t batch_, heads_, rows_, columns_;
  gpu::Strides strides_;
  int64_t origin_ = 0, elements_ = 0;
  gpu::Buffer buffer_;
};

// A problem with everything that a kernel may be asked beside it.
struct DeviceCase {
  std::string kernel;
  data::Attention attention;
  gpu::Options options = {};
  GuardedTensor::Layout layout = GuardedTensor::Layout::kHeadsFirst;
  std::vector<int64_t> seqlens_k = {};  // split-kv: keys of each sequence; empty: all
  data::Distribution distribution = data::Distribution::kHashNormal;
  uint64_t seed = 1;
};

std::string ToString(const DeviceCase& device_case);

// Q, K and V as bits, contiguous [batch, heads, rows, columns].
struct HostInputs {
  std::vector<uint16_t> q, k, v;
};
HostInputs Generate(const DeviceCase& device_case);

struct HostOutputs {
  std::vector<uint16_t> o;
  std::vector<uint32_t> lse;
  bool operator==(const HostOutputs&) const = default;
};

// Launches the kernel `runs` times with poisoned outputs and workspace. K and V beyond a sequence's length are NaN,
// pages are shuffled and their unused rest is NaN. Throws std::runtime_error: a changed guard, runs that differ, an LSE
// that was not written.
HostOutputs RunOnDevice(const DeviceCase& device_case, const HostInputs& inputs, int runs = 2);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DEVICE_GUARDED_H_
