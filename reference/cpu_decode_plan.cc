#include "reference/cpu_decode_plan.h"

#include <omp.h>

#include <algorithm>
#include <limits>

#include "reference/aligned_array.h"

namespace bitflash::reference {
namespace {

// What the rows of a KV head know after each of its spans; they lie one behind the other.
class States {
 public:
  States(const data::Attention& a, int64_t spans)
      : rows_(a.group() * a.seqlen_q),
        columns_(RoundUp(a.head_dim_v, kRowPadding)),
        m_(spans * rows_),
        l_(spans * rows_ * kPartialSums),
        O_(spans * rows_ * columns_) {}

  RowState Of(int64_t span) const {
    return {m_.get() + span * rows_, l_.get() + span * rows_ * kPartialSums, O_.get() + span * rows_ * columns_};
  }

 private:
  int64_t rows_, columns_;
  AlignedFloats m_, l_, O_;
};

// Merges the states of a KV head into the first, in order, and stores its rows.
void Finish(const CpuJob& job, int64_t n, int64_t h_kv, int64_t first, int64_t spans, const States& states) {
  const data::Attention& a = job.a;
  const int64_t rows = a.group() * job.queries(n), columns = RoundUp(a.head_dim_v, kRowPadding);
  const RowState state = states.Of(first);
  for (int64_t span = 1; span < spans; ++span) {
    MergeStates(job.rule, rows, a.head_dim_v, state, states.Of(first + span));
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t i = row / a.group(), h = h_kv * a.group() + row % a.group();
    const KeyRange seen = job.Visible(n, i);
    float* O = state.O + row * columns;
    float lse = -std::numeric_limits<float>::infinity();
    if (seen.begin == seen.end) {
      std::fill_n(O, columns, 0.0f);
    } else {
      lse = FinishRow(job.rule, a.head_dim_v, state.m[row], state.l + row * kPartialSums, O);
    }
    job.StoreRow(n, h, i, O, lse);
  }
}

}  // namespace

DecodePlan::DecodePlan(const CpuJob& job) : job_(job) {
  const data::Attention& a = job.a;
  for (int64_t n = 0; n < a.batch; ++n) {
    const KeyRange seen = job.VisibleToAll(n);
    for (int64_t h_kv = 0; h_kv < a.heads_kv; ++h_kv) {
      first_span_.push_back(static_cast<int64_t>(spans_.size()));
      int64_t key = seen.begin / kDecodePartKeys * kDecodePartKeys;
      do {  // one at least, for the rows that see nothing
        spans_.push_back({n, h_kv, key, std::min(key + kDecodePartKeys, seen.end)});
        key += kDecodePartKeys;
      } while (key < seen.end);
    }
  }
  const int64_t spans = static_cast<int64_t>(spans_.size());
  first_span_.push_back(spans);
  threads_ = static_cast<int>(std::min<int64_t>(job.threads, spans));
}

void DecodePlan::Run(const std::function<void(int thread, const DecodeSpan& span, const RowState& state)>& run) const {
  const int64_t heads = static_cast<int64_t>(first_span_.size()) - 1, spans = static_cast<int64_t>(spans_.size());
  const States states(job_.a, spans);
#pragma omp parallel num_threads(threads_)
  {
    const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic)
    for (int64_t span = 0; span < spans; ++span) run(thread, spans_[span], states.Of(span));
#pragma omp for schedule(dynamic)
    for (int64_t head = 0; head < heads; ++head) {
      Finish(job_, head / job_.a.heads_kv, head % job_.a.heads_kv, first_span_[head],
             first_span_[head + 1] - first_span_[head], states);
    }
  }
}

}  // namespace bitflash::reference
