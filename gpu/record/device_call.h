// A call on the device: its inputs with NaN wherever the kernel must not read, guarded outputs, and the launch.
#ifndef BITFLASH_GPU_RECORD_DEVICE_CALL_H_
#define BITFLASH_GPU_RECORD_DEVICE_CALL_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gpu/block_table.h"
#include "gpu/device.h"
#include "gpu/record/call.h"

namespace bitflash::gpu {

// A kernel that the call launches.
struct LaunchFacts {
  std::string name;  // "split_kv_decode"
  std::array<int64_t, 3> grid{}, block{};
};

// What several runs of a call gave, and what was wrong with them: a guard that changed, an LSE that is NaN (that nobody
// wrote, or for which NaN was read), an LSE that was written but not wanted or belongs to no row, runs that differ.
struct Runs {
  std::vector<Outputs> outputs;
  std::vector<std::string> problems;
};

class DeviceCall {
 public:
  // Throws UsageError: what the kernel refuses, and a device that it does not run on. Pages are scattered over a cache
  // that has three more.
  DeviceCall(const Call& call, const Inputs& inputs, Stream& stream);

  Runs Run(int count, bool with_lse = true);
  // One call over poison. Does not wait.
  void Launch(bool with_lse = true);
  // Of one call, in order; nothing is executed.
  std::vector<LaunchFacts> Launches();

 private:
  int64_t QueryAt(const Guarded& layout, int64_t sequence, int64_t head, int64_t row) const;
  int64_t KeyAt(const Guarded& layout, int64_t sequence, int64_t head, int64_t row) const;
  Buffer Upload(const Guarded& layout, const std::vector<uint16_t>& elements, bool keys);
  void Poison();
  void Enqueue(bool with_lse);
  Outputs Read(bool with_lse, std::vector<std::string>& problems);

  const Call& call_;
  const Kernel& kernel_;
  Stream& stream_;
  BlockTable table_;
  std::vector<int32_t> starts_q_, starts_k_;  // of packed sequences, and the end
  Guarded q_, k_, v_, o_;
  Buffer q_buffer_, k_buffer_, v_buffer_, o_buffer_, lse_buffer_, workspace_, lengths_buffer_, table_buffer_,
      starts_q_buffer_, starts_k_buffer_;
  int64_t workspace_bytes_ = 0;
  Tensors tensors_;
};

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_DEVICE_CALL_H_
