// The arguments of the C interface as the library's own types, checked.
#ifndef BITFLASH_VERIFY_C_API_C_API_ARGUMENTS_H_
#define BITFLASH_VERIFY_C_API_C_API_ARGUMENTS_H_

#include <cstdint>
#include <string>

#include "data/attention.h"
#include "data/format.h"
#include "data/gpu.h"
#include "sim/kernels/kernels.h"
#include "sim/tiling.h"
#include "verify/c_api.h"

namespace bitflash::verify {

// Throws UsageError for a number that is no bitflash_format.
data::Format FormatOf(int32_t format);

// The problem with its defaults filled in, which data::Validate accepts. Throws UsageError.
data::Attention AttentionOf(const bitflash_problem* problem);

// What a bitflash_kernel chooses, resolved for a problem.
struct KernelChoice {
  const sim::Kernel& kernel;
  std::string gpu_name;  // as given: a file's path
  data::Gpu gpu;
  sim::Tiling tiling;
};

// `kernel` may be null. Throws UsageError, and InputError for a GPU's file. Whether the GPU has room for the tile is
// for sim::CountKernel to say.
KernelChoice KernelOf(const bitflash_kernel* kernel, const data::Attention& attention);

// Throws UsageError for a buffer that is null, of another size than its tensor
// (outputs: smaller), not aligned to an element, or overlapping an output.
bitflash_inputs InputsOf(const bitflash_inputs* inputs, const data::Attention& attention);
bitflash_outputs OutputsOf(const bitflash_outputs* outputs, const data::Attention& attention, int64_t o_element_bytes,
                           int64_t lse_element_bytes, const bitflash_inputs& inputs);

// `execution` may be null. Throws UsageError.
bitflash_execution ExecutionOf(const bitflash_execution* execution);

// Throws UsageError unless `pointer` is a multiple of the element's bytes.
void RequireAligned(const void* pointer, const std::string& name, int64_t element_bytes);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_C_API_C_API_ARGUMENTS_H_
