#include <vector>

#include "reference/aligned_array.h"
#include "reference/cpu_decode_plan.h"
#include "reference/cpu_job.h"

namespace bitflash::reference {
namespace {

// What one thread works in.
struct Workspace {
  explicit Workspace(const data::Attention& a)
      : Q(a.group() * a.seqlen_q * RoundUp(a.head_dim, kRowPadding)),
        scratch(DecodeScratchFloats(a.group() * a.seqlen_q, a.head_dim, a.head_dim_v)),
        k_rows(kDecodePartKeys + kDecodeKeysAhead),
        v_rows(kDecodePartKeys + kDecodeKeysAhead),
        visible(a.seqlen_q) {}
  AlignedFloats Q, scratch;
  std::vector<const void*> k_rows, v_rows;
  std::vector<KeyRange> visible;
};

void Run(const CpuJob& job, const DecodeSpan& span, const RowState& state, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t queries = job.queries(span.n), group = a.group(), q_row = RoundUp(a.head_dim, kRowPadding);
  for (int64_t i = 0; i < queries; ++i) {
    w.visible[i] = job.Visible(span.n, i);
    for (int64_t g = 0; g < group; ++g) {
      job.LoadQuery(span.n, span.h_kv * group + g, i, w.Q.get() + (i * group + g) * q_row);
    }
  }
  const int64_t keys = span.end - span.first_key;
  const auto rows = [&](const CpuTensor& tensor, std::vector<const void*>& table) {
    KeyRows in = {.format = tensor.format, .first = nullptr, .step = 0, .table = nullptr, .listed = 0};
    if (job.paged.page_size == 0) {
      in.first = tensor.Row(span.n, span.h_kv, span.first_key);
      in.step = tensor.strides.row * tensor.element_bytes;
    } else {
      in.listed = std::min(keys + kDecodeKeysAhead, job.keys(span.n) - span.first_key);
      job.KeyRows(tensor, span.n, span.h_kv, span.first_key, in.listed, table.data());
      in.table = table.data();
    }
    return in;
  };
  RunDecode({.rule = job.rule,
             .head_dim = a.head_dim,
             .head_dim_v = a.head_dim_v,
             .heads = group,
             .queries = queries,
             .visible = w.visible.data(),
             .Q = w.Q.get(),
             .first_key = span.first_key,
             .keys = keys,
             .K = rows(job.K, w.k_rows),
             .V = rows(job.V, w.v_rows),
             .scratch = w.scratch.get(),
             .state = state});
}

}  // namespace

void RunDecodeJob(const CpuJob& job) {
  const DecodePlan plan(job);
  std::vector<Workspace> workspaces;  // allocated here: an exception must not leave a parallel region
  workspaces.reserve(plan.threads());
  for (int thread = 0; thread < plan.threads(); ++thread) workspaces.emplace_back(job.a);
  plan.Run(
      [&](int thread, const DecodeSpan& span, const RowState& state) { Run(job, span, state, workspaces[thread]); });
}

}  // namespace bitflash::reference
