#include "verify/predict/nsight_kernels.h"

#include <algorithm>

namespace bitflash::verify {

const std::vector<KernelPattern>& KernelPatterns() {
  static const std::vector<KernelPattern> patterns = {
      // gpu/
      {"fa2_forward", "fa2", "fa2_forward"},
      {"fa2_forward", "pytorch-fa2", "fa2_forward"},
      {"fa3_forward", "fa3", "fa3_forward"},
      {"fa3_reset", "", "the launch that resets fa3's tile counter"},
      {"standard_scores", "standard", "standard_scores"},
      {"standard_softmax", "standard", "standard_softmax"},
      {"standard_output", "standard", "standard_output"},
      {"split_kv_decode", "split-kv", "split_kv_decode"},
      {"split_kv_combine", "split-kv", "split_kv_combine"},
      // FlashAttention-2, in PyTorch (namespace pytorch_flash) and by itself (flash)
      {"flash_fwd_splitkv_combine_kernel", "pytorch-fa2", "fa2_splitkv_combine"},
      {"flash_fwd_splitkv_combine_kernel", "split-kv", "split_kv_combine"},
      {"flash_fwd_splitkv_kernel", "pytorch-fa2", "fa2_splitkv"},
      {"flash_fwd_splitkv_kernel", "split-kv", "split_kv_decode"},
      {"flash_fwd_kernel", "pytorch-fa2", "fa2_forward"},
      {"flash_fwd_kernel", "fa2", "fa2_forward"},
      // FlashAttention-3
      {"FlashAttnFwdSm90", "fa3", "fa3_forward"},
      // cuDNN: cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1
      {"sm90_flash_fprop_wgmma", "cudnn-9.19-sm90", "fa3_forward"},
      {"sm90_flash_fprop_wgmma", "fa3", "fa3_forward"},
      {"sm80_flash_fprop_wmma", "", "cuDNN's decode kernel"},
      {"fmha_cutlassF", "", "PyTorch's memory-efficient attention"},
      {"flash_bwd", "", "the backward pass"},
      {"fmha_cutlassB", "", "the backward pass"},
  };
  return patterns;
}

std::string SimulatedKernelOf(std::string_view name) {
  for (const KernelPattern& pattern : KernelPatterns()) {
    if (name.find(pattern.part) != std::string_view::npos) return pattern.kernel;
  }
  return "";
}

std::string LaunchOf(std::string_view name, std::string_view kernel) {
  for (const KernelPattern& pattern : KernelPatterns()) {
    if (pattern.kernel == kernel && name.find(pattern.part) != std::string_view::npos) return pattern.launch;
  }
  return "";
}

std::string WhyNotSimulated(std::string_view name) {
  for (const KernelPattern& pattern : KernelPatterns()) {
    if (pattern.kernel.empty() && name.find(pattern.part) != std::string_view::npos)
      return pattern.launch + " is not simulated";
  }
  return "";
}

std::string KernelNameFilter(const std::vector<std::string>& kernels, const std::vector<std::string>& also) {
  std::vector<std::string> parts = also;
  for (const KernelPattern& pattern : KernelPatterns()) {
    if (std::find(kernels.begin(), kernels.end(), pattern.kernel) != kernels.end()) parts.push_back(pattern.part);
  }
  std::string filter;
  for (size_t n = 0; n < parts.size(); ++n) {
    if (std::find(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(n), parts[n]) !=
        parts.begin() + static_cast<std::ptrdiff_t>(n))
      continue;
    filter += (filter.empty() ? "regex:" : "|") + parts[n];
  }
  return filter;
}

}  // namespace bitflash::verify
