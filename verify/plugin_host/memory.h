// The tensors of one call as the plug-in sees them, and who touched what must not be touched. Part of the host.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_H_

#include <string>

#include "verify/plugin_host/wire.h"

namespace bitflash::verify {

// Maps the regions of a request between guards and takes them away again at the end. One at a time.
class CallMemory {
 public:
  CallMemory() = default;
  ~CallMemory();
  CallMemory(const CallMemory&) = delete;
  CallMemory& operator=(const CallMemory&) = delete;

  // False with the reason in `error`.
  bool Map(const wire::Request& request, int inputs, int outputs, std::string& error);

  const bitflash_attention* attention() const { return &attention_; }
  const bitflash_tensor* tensor(wire::Region region) const { return &tensors_[region]; }
  const bitflash_tensor* lse() const { return tensors_[wire::kLse].data ? &tensors_[wire::kLse] : nullptr; }

 private:
  bitflash_attention attention_{};
  bitflash_tensor tensors_[wire::kLse + 1]{};
};

// Makes SIGSEGV and SIGBUS leave a record of the place before they end the process as they always do. `record` must
// outlive the process: the supervisor reads it.
void RecordFaults(wire::Fault* record);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_MEMORY_H_
