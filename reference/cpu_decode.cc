#include <omp.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "reference/aligned_array.h"
#include "reference/cpu_job.h"

namespace bitflash::reference {
namespace {

// All rows of a KV head of a sequence on keys [begin, end) of one part.
struct Part {
  int64_t n, h_kv;
  int64_t first_key;  // a multiple of kDecodePartKeys
  int64_t end;
};

// What the rows of a KV head know after each of its parts; they lie one behind the other.
class States {
 public:
  States(const data::Attention& a, int64_t parts)
      : rows_(a.group() * a.seqlen_q),
        columns_(RoundUp(a.head_dim_v, kRowPadding)),
        m_(parts * rows_),
        l_(parts * rows_ * kPartialSums),
        O_(parts * rows_ * columns_) {}

  RowState Of(int64_t part) const {
    return {m_.get() + part * rows_, l_.get() + part * rows_ * kPartialSums, O_.get() + part * rows_ * columns_};
  }

 private:
  int64_t rows_, columns_;
  AlignedFloats m_, l_, O_;
};

// What one thread works in.
struct Workspace {
  explicit Workspace(const data::Attention& a)
      : Q(a.group() * a.seqlen_q * RoundUp(a.head_dim, kRowPadding)),
        scratch(DecodeScratchFloats(a.group() * a.seqlen_q, a.head_dim, a.head_dim_v)),
        k_rows(kDecodePartKeys),
        v_rows(kDecodePartKeys),
        visible(a.seqlen_q) {}
  AlignedFloats Q, scratch;
  std::vector<const void*> k_rows, v_rows;
  std::vector<KeyRange> visible;
};

void Run(const CpuJob& job, const Part& part, const RowState& state, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t queries = job.queries(part.n), group = a.group(), q_row = RoundUp(a.head_dim, kRowPadding);
  for (int64_t i = 0; i < queries; ++i) {
    w.visible[i] = job.Visible(part.n, i);
    for (int64_t g = 0; g < group; ++g) {
      job.LoadQuery(part.n, part.h_kv * group + g, i, w.Q.get() + (i * group + g) * q_row);
    }
  }
  const int64_t keys = part.end - part.first_key;
  const auto rows = [&](const CpuTensor& tensor, std::vector<const void*>& table) {
    KeyRows in = {.format = tensor.format, .first = nullptr, .step = 0, .table = nullptr};
    if (job.paged.page_size == 0) {
      in.first = tensor.Row(part.n, part.h_kv, part.first_key);
      in.step = tensor.strides.row * tensor.element_bytes;
    } else {
      job.KeyRows(tensor, part.n, part.h_kv, part.first_key, keys, table.data());
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
             .first_key = part.first_key,
             .keys = keys,
             .K = rows(job.K, w.k_rows),
             .V = rows(job.V, w.v_rows),
             .scratch = w.scratch.get(),
             .state = state});
}

// Merges the parts of a KV head into the first, in order, and stores its rows.
void Finish(const CpuJob& job, int64_t n, int64_t h_kv, int64_t first_part, int64_t parts, const States& states) {
  const data::Attention& a = job.a;
  const int64_t rows = a.group() * job.queries(n), columns = RoundUp(a.head_dim_v, kRowPadding);
  const RowState state = states.Of(first_part);
  for (int64_t part = 1; part < parts; ++part) {
    MergeStates(job.rule, rows, a.head_dim_v, state, states.Of(first_part + part));
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t i = row / a.group(), h = h_kv * a.group() + row % a.group();
    const KeyRange seen = job.Visible(n, i);
    float* O = state.O + row * columns;
    float lse = -std::numeric_limits<float>::infinity();
    if (parts == 0 || seen.begin == seen.end) {
      std::fill_n(O, columns, 0.0f);
    } else {
      lse = FinishRow(job.rule, a.head_dim_v, state.m[row], state.l + row * kPartialSums, O);
    }
    job.StoreRow(n, h, i, O, lse);
  }
}

}  // namespace

void RunDecodeJob(const CpuJob& job) {
  const data::Attention& a = job.a;
  std::vector<Part> parts;
  std::vector<int64_t> first_part;  // of every KV head, and the end
  for (int64_t n = 0; n < a.batch; ++n) {
    const KeyRange seen = job.VisibleToAll(n);
    for (int64_t h_kv = 0; h_kv < a.heads_kv; ++h_kv) {
      first_part.push_back(static_cast<int64_t>(parts.size()));
      int64_t key = seen.begin / kDecodePartKeys * kDecodePartKeys;
      do {  // one at least, for the rows that see nothing
        parts.push_back({n, h_kv, key, std::min(key + kDecodePartKeys, seen.end)});
        key += kDecodePartKeys;
      } while (key < seen.end);
    }
  }
  const int64_t heads = static_cast<int64_t>(first_part.size()), tasks = static_cast<int64_t>(parts.size());
  first_part.push_back(tasks);
  const int threads = static_cast<int>(std::min<int64_t>(job.threads, tasks));
  const States states(a, tasks);
  std::vector<Workspace> workspaces;  // allocated here: an exception must not leave a parallel region
  workspaces.reserve(threads);
  for (int thread = 0; thread < threads; ++thread) workspaces.emplace_back(a);
#pragma omp parallel num_threads(threads)
  {
    Workspace& w = workspaces[omp_get_thread_num()];
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) Run(job, parts[task], states.Of(task), w);
#pragma omp for schedule(dynamic)
    for (int64_t head = 0; head < heads; ++head) {
      Finish(job, head / a.heads_kv, head % a.heads_kv, first_part[head], first_part[head + 1] - first_part[head],
             states);
    }
  }
}

}  // namespace bitflash::reference
