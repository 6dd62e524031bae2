#include "gpu/check.h"

#include <array>
#include <cstdint>
#include <cstdio>

#include "data/error.h"

namespace bitflash::gpu {
namespace {

std::string Address(const void* address) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%p", address);
  return text.data();
}

}  // namespace

std::string CommonRefusal(const data::Attention& a) {
  if (a.format != data::Format::kFp16 && a.format != data::Format::kBf16) {
    return "type " + std::string(data::Name(a.format)) + ": the CUDA kernels take fp16 and bf16";
  }
  if (a.head_dim != a.head_dim_v || a.v_is_in_k) {
    return "head_dim " + std::to_string(a.head_dim) + " and head_dim_v " + std::to_string(a.head_dim_v) +
           (a.v_is_in_k ? ", V in K" : "") + ": the CUDA kernels take equal ones, K and V apart";
  }
  constexpr std::array<int64_t, 5> kHeadDims = {64, 96, 128, 192, 256};
  for (const int64_t d : kHeadDims) {
    if (a.head_dim != d) continue;
    return a.softcap > 0 ? "softcap: the CUDA kernels have none" : "";
  }
  return "head_dim " + std::to_string(a.head_dim) + ": the CUDA kernels take 64, 96, 128, 192 and 256";
}

std::string LengthRefusal(const data::Attention& a) {
  constexpr int64_t kMost = 1 << 30;
  if (a.seqlen_q <= kMost && a.seqlen_k <= kMost) return "";
  return "seqlen " + std::to_string(a.seqlen_q) + " x " + std::to_string(a.seqlen_k) + ": at most 2^30 each";
}

void Validate(const Kernel& kernel, const data::Attention& a, const Options& options, const Tensors& t) {
  const auto refuse = [&](const std::string& why) { throw data::UsageError(std::string(kernel.name) + ": " + why); };
  data::Validate(a);
  if (const std::string why = kernel.Refusal(a, options); !why.empty()) refuse(why);
  if (!kernel.packs_sequences && (t.cu_seqlens_q != nullptr || t.cu_seqlens_k != nullptr)) {
    refuse("cu_seqlens: sequences of several lengths in one tensor are taken by fa3 only");
  }
  if (!kernel.takes_key_lengths && t.seqlens_k != nullptr) {
    refuse("seqlens_k is at " + Address(t.seqlens_k) + ": padded sequences of fewer keys are taken by split-kv only" +
           (kernel.packs_sequences ? ", packed ones by cu_seqlens_q and cu_seqlens_k" : ""));
  }
  if (!kernel.takes_pages && options.page_size != 0) {
    refuse("page_size is " + std::to_string(options.page_size) + ": pages of keys are taken by split-kv only");
  }
  if (options.page_size == 0 && t.block_table != nullptr) {
    refuse("block_table is at " + Address(t.block_table) + ", but page_size is 0: expected the keys of a page");
  }
  if ((t.cu_seqlens_q == nullptr) != (t.cu_seqlens_k == nullptr)) {
    refuse("cu_seqlens_q and cu_seqlens_k are needed together");
  }
  if (t.seqlens_k != nullptr && t.cu_seqlens_k != nullptr) refuse("seqlens_k and cu_seqlens_k contradict each other");
  // Sequences (or pages), heads and rows: how many there are and from where to where. Packed rows are of all sequences.
  const bool packed = t.cu_seqlens_q != nullptr;
  const auto check = [&](const char* tensor, const void* address, const Strides& strides, int64_t heads, int64_t rows,
                         int64_t pages, bool written) {
    if (a.batch * heads * rows == 0) return;
    if (address == nullptr) refuse(std::string(tensor) + " has no address");
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
      refuse(std::string(tensor) + " is at " + Address(address) + ": a multiple of 16 bytes is needed");
    }
    const auto check_stride = [&](const char* dimension, int64_t count, int64_t stride, bool is_used = false) {
      if (count <= 1 && !is_used) return;
      const std::string which = std::string(tensor) + " has a stride of " + std::to_string(stride) +
                                " elements from one " + dimension + " to the next: ";
      if (stride % 8 != 0) refuse(which + "a multiple of 8 (16 bytes) is needed");
      if (written && stride == 0) refuse(which + "what is written may not overlap");
    };
    check_stride(pages > 0 ? "page" : "sequence", packed ? 1 : pages > 0 ? 2 : a.batch, strides.batch);
    check_stride("head", heads, strides.head);
    // Without TMA, addresses are also computed for rows that are not there.
    check_stride("row",
                 pages > 0 ? options.page_size
                 : packed  ? a.batch * rows
                           : rows,
                 strides.row, !kernel.hopper_only && !written);
  };
  const int64_t pages = options.page_size > 0 ? t.pages_per_sequence : 0;
  check("Q", t.q, t.q_strides, a.heads_q, a.seqlen_q, 0, false);
  check("K", t.k, t.k_strides, a.heads_kv, a.seqlen_k, pages, false);
  check("V", t.v, t.v_strides, a.heads_kv, a.seqlen_k, pages, false);
  check("O", t.o, t.o_strides, a.heads_q, a.seqlen_q, 0, true);
  if (options.page_size != 0 && t.block_table == nullptr && a.seqlen_k > 0) {
    refuse("pages of " + std::to_string(options.page_size) + " keys, but no block table");
  }
  if (t.block_table != nullptr && t.pages_per_sequence * options.page_size < a.seqlen_k) {
    refuse(std::to_string(t.pages_per_sequence) + " pages of " + std::to_string(options.page_size) +
           " keys a sequence: " + std::to_string(a.seqlen_k) + " keys do not fit");
  }
}

}  // namespace bitflash::gpu
