// How a decode job is divided among threads, and how the results of its parts are merged: the same for every kernel.
// Internal.
#ifndef BITFLASH_REFERENCE_CPU_DECODE_PLAN_H_
#define BITFLASH_REFERENCE_CPU_DECODE_PLAN_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "reference/cpu_job.h"

namespace bitflash::reference {

// Some keys of a KV head of a sequence, which one thread takes with all query rows that see the head: a part of
// kDecodePartKeys keys or the last ones. `end` is first_key where no row sees a key.
struct DecodeSpan {
  int64_t n, h_kv;
  int64_t first_key;  // a multiple of kDecodePartKeys
  int64_t end;
};

class DecodePlan {
 public:
  explicit DecodePlan(const CpuJob& job);

  int threads() const { return threads_; }
  // Calls run(thread, span, state) for every span, thread below threads(): writes the whole state, whose row
  // i * group + g is query i of the KV head's query head g. Then merges a head's states in the order of the keys and
  // stores O and LSE. `run` must not throw.
  void Run(const std::function<void(int thread, const DecodeSpan& span, const RowState& state)>& run) const;

 private:
  const CpuJob& job_;
  std::vector<DecodeSpan> spans_;
  std::vector<int64_t> first_span_;  // of every KV head, and the end
  int threads_;
};

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_CPU_DECODE_PLAN_H_
