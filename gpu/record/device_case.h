// A case on the device: its inputs, guarded outputs, and the launch.
#ifndef BITFLASH_GPU_RECORD_DEVICE_CASE_H_
#define BITFLASH_GPU_RECORD_DEVICE_CASE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gpu/device.h"
#include "gpu/record/cases.h"
#include "gpu/record/guarded.h"

namespace bitflash::gpu {

// Contiguous, as ContiguousStrides.
struct Outputs {
  std::vector<uint16_t> o;    // [batch, heads_q, seqlen_q, head_dim]
  std::vector<uint32_t> lse;  // [batch, heads_q, seqlen_q]
  bool operator==(const Outputs&) const = default;
};

// A kernel that the call launches.
struct LaunchFacts {
  std::string name;  // "split_kv_decode"
  std::array<int64_t, 3> grid{}, block{};
};

class DeviceCase {
 public:
  DeviceCase(const RecordCase& c, const Kernel& kernel, Stream& stream);

  // 0xFF over O, LSE, the workspace and their guards.
  void Poison();
  void Launch(bool with_lse = true);
  // Waits. Adds to `problems` what was written beside O, LSE and the workspace.
  Outputs Read(std::vector<std::string>& problems);
  // Of one call, in order; nothing is executed.
  std::vector<LaunchFacts> Launches();

 private:
  void Upload();
  void UploadPages(int64_t table_entries);

  const RecordCase& c_;
  const Kernel& kernel_;
  Stream& stream_;
  int64_t pages_per_sequence_ = 0;
  std::vector<int32_t> table_;  // block table: [batch, pages_per_sequence]
  Guarded q_, k_, v_, o_;
  Buffer q_buffer_, k_buffer_, v_buffer_, o_buffer_, lse_buffer_, workspace_, lengths_buffer_, table_buffer_;
  int64_t workspace_bytes_ = 0;
  Tensors tensors_;
};

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_DEVICE_CASE_H_
