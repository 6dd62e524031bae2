// The kernels as C functions, for benchmarks in other languages: whoever times a kernel beside others launches it from
// the same process.
#include <cstdio>
#include <exception>
#include <memory>

#include "gpu/kernels.h"

namespace {

using bitflash::data::Attention;
using bitflash::data::Format;

// Lengths, then strides of Q, K, V, O (batch, head, row). Mirrored by the ctypes structure in library.py.
struct Problem {
  int64_t batch, heads_q, heads_kv, seqlen_q, seqlen_k, head_dim;
  int64_t causal, bf16, fp32_scores, chunk, page_size, pages_per_sequence;
  int64_t strides[12];
  const void *q, *k, *v;
  void *o, *lse, *workspace;
  const void *seqlens_k, *block_table;
  const void *cu_seqlens_q, *cu_seqlens_k;
};

Attention AttentionOf(const Problem& p) {
  return {.batch = p.batch,
          .heads_q = p.heads_q,
          .heads_kv = p.heads_kv,
          .seqlen_q = p.seqlen_q,
          .seqlen_k = p.seqlen_k,
          .head_dim = p.head_dim,
          .head_dim_v = p.head_dim,
          .mask = p.causal ? bitflash::data::Mask::Causal() : bitflash::data::Mask::Full(),
          .format = p.bf16 ? Format::kBf16 : Format::kFp16};
}

bitflash::gpu::Options OptionsOf(const Problem& p) { return {p.fp32_scores != 0, p.chunk, p.page_size}; }

bitflash::gpu::Stream& BenchStream() {
  static bitflash::gpu::Stream stream;
  return stream;
}

}  // namespace

extern "C" {

// The stream that launches go to, a cudaStream_t.
void* bitflash_bench_stream() { return BenchStream().get(); }

int64_t bitflash_bench_workspace_bytes(const char* kernel, const Problem* p) {
  const bitflash::gpu::Kernel* k = bitflash::gpu::FindKernel(kernel);
  return k ? k->WorkspaceBytes(AttentionOf(*p), OptionsOf(*p)) : -1;
}

// 0, or 1 with the reason on stderr.
int bitflash_bench_launch(const char* kernel, const Problem* p) try {
  const bitflash::gpu::Kernel* k = bitflash::gpu::FindKernel(kernel);
  if (k == nullptr) return std::fprintf(stderr, "no kernel %s\n", kernel), 1;
  const auto strides = [&](int n) {
    return bitflash::gpu::Strides{p->strides[3 * n], p->strides[3 * n + 1], p->strides[3 * n + 2]};
  };
  k->Launch(AttentionOf(*p), OptionsOf(*p),
            {.q = p->q,
             .k = p->k,
             .v = p->v,
             .o = p->o,
             .lse = static_cast<float*>(p->lse),
             .q_strides = strides(0),
             .k_strides = strides(1),
             .v_strides = strides(2),
             .o_strides = strides(3),
             .seqlens_k = static_cast<const int32_t*>(p->seqlens_k),
             .block_table = static_cast<const int32_t*>(p->block_table),
             .pages_per_sequence = p->pages_per_sequence,
             .cu_seqlens_q = static_cast<const int32_t*>(p->cu_seqlens_q),
             .cu_seqlens_k = static_cast<const int32_t*>(p->cu_seqlens_k)},
            p->workspace, BenchStream());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

}  // extern "C"
