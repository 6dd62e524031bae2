#include "gpu/kernels.h"

#include "gpu/entries.h"

namespace bitflash::gpu {

const std::vector<Kernel>& Kernels() {
  static const std::vector<Kernel> kernels = {StandardForward(), Fa2Forward(), Fa3Forward(), SplitKvDecode()};
  return kernels;
}

const Kernel* FindKernel(std::string_view name) {
  for (const Kernel& kernel : Kernels()) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

std::string DeviceRefusal(const Kernel& kernel, const Device& device) {
  const bool hopper = device.major == 9 && device.minor == 0;
  if (!kernel.hopper_only || hopper) return "";
  return std::string(kernel.name) + " needs compute capability 9.0 (wgmma and TMA of sm_90a); " + device.name +
         " has " + std::to_string(device.major) + "." + std::to_string(device.minor);
}

Strides ContiguousStrides(int64_t heads, int64_t rows, int64_t columns) {
  return {heads * rows * columns, rows * columns, columns};
}

Tensors ContiguousTensors(const data::Attention& a, const void* q, const void* k, const void* v, void* o, float* lse) {
  return {.q = q,
          .k = k,
          .v = v,
          .o = o,
          .lse = lse,
          .q_strides = ContiguousStrides(a.heads_q, a.seqlen_q, a.head_dim),
          .k_strides = ContiguousStrides(a.heads_kv, a.seqlen_k, a.head_dim),
          .v_strides = ContiguousStrides(a.heads_kv, a.seqlen_k, a.head_dim_v),
          .o_strides = ContiguousStrides(a.heads_q, a.seqlen_q, a.head_dim_v)};
}

}  // namespace bitflash::gpu
