#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "data/convert_simd.h"
#include "reference/aligned_array.h"
#include "reference/cpu_job.h"

namespace bitflash::reference {
namespace {

// Rows of a task, of all its heads together: the state of 192 rows with 128 columns takes 96 KiB of the second-level
// cache, and each tile that is read serves that many rows.
constexpr int64_t kTaskRows = 192;

// One KV head of one sequence, and its packed tiles.
struct Head {
  int64_t n, h_kv;
  int64_t first_tile, tiles;
  int64_t tasks;
  const float* V;  // of the first tile where it lies, if that is packed; else null
};

// Whether the rows of one head are floats that lie together.
bool Adjacent(const CpuJob& job, const CpuTensor& tensor, int64_t columns) {
  return tensor.format == data::Format::kFp32 && tensor.strides.row == columns && job.paged.page_size == 0;
}

const float* PackedValues(const CpuJob& job, int64_t n, int64_t h_kv, int64_t first_key) {
  if (!Adjacent(job, job.V, job.a.head_dim_v) || !ValuesArePacked(job.a.head_dim_v)) return nullptr;
  const std::byte* V = job.V.Row(n, h_kv, first_key);
  return reinterpret_cast<uintptr_t>(V) % AlignedFloats::kAlignment == 0 ? reinterpret_cast<const float*>(V) : nullptr;
}

// A step of the plan: packs a tile, or runs rows [first_row, first_row + rows) of all query heads of a KV head.
struct Step {
  int64_t head;
  int64_t tile;  // from the head's first, or -1: run
  int64_t first_row = 0, rows = 0;
};

// What one thread works in.
struct Workspace {
  Workspace(const data::Attention& a, int64_t task_rows)
      : rows(RoundUp(task_rows, kStripRows)),
        Q(a.group() * rows * RoundUp(a.head_dim, kRowPadding)),
        O(a.group() * rows * RoundUp(a.head_dim_v, kRowPadding)),
        LSE(a.group() * rows),
        scratch(PrefillScratchFloats(a.group(), rows, a.head_dim_v)),
        converted(kTileKeys * std::max(a.head_dim, a.head_dim_v)),
        visible(rows),
        outputs(a.group() * rows) {
    std::fill_n(Q.get(), a.group() * rows * RoundUp(a.head_dim, kRowPadding), 0.0f);
  }
  int64_t rows;
  AlignedFloats Q, O, LSE, scratch, converted;
  std::vector<KeyRange> visible;
  std::vector<float*> outputs;
};

// Rows of each head in a task: whole strips, and enough tasks for the threads, so that they end at the same time. Bits
// do not depend on it.
int64_t RowsPerTask(const CpuJob& job) {
  const data::Attention& a = job.a;
  int64_t rows = std::max(kStripRows, kTaskRows / a.group() / kStripRows * kStripRows);
  rows = std::min(rows, RoundUp(a.seqlen_q, kStripRows));
  const auto tasks = [&] { return a.batch * a.heads_kv * ((a.seqlen_q + rows - 1) / rows); };
  // Half as many rows cost 3 % (head_dim 64, 1024 tokens), as much as threads lose that end one long task apart.
  const auto wanted = [&](int64_t heads_rows) { return (heads_rows > kTaskRows / 2 ? 24 : 4) * int64_t{job.threads}; };
  while (rows * a.group() > kTaskRows / 4 && rows > kStripRows && tasks() < wanted(rows * a.group())) {
    rows = RoundUp(rows / 2, kStripRows);
  }
  const int64_t tasks_per_head = std::max<int64_t>((a.seqlen_q + rows - 1) / rows, 1);  // as long as each other
  return RoundUp((a.seqlen_q + tasks_per_head - 1) / tasks_per_head, kStripRows);
}

// KV heads whose packed K and V take more floats than that, 2 MiB, do not stay in a core's second-level cache, and a
// thread gains nothing by having them for itself.
constexpr int64_t kOwnFloats = int64_t{1} << 19;

// How many KV heads one thread each packs and reads, with all their tasks. The rest, at least as many as there are
// threads, is shared, so that all threads end at the same time. Bits do not depend on it.
int64_t WholeHeads(const CpuJob& job) {
  const data::Attention& a = job.a;
  const int64_t heads = a.batch * a.heads_kv, threads = job.threads;
  if (threads == 1) return heads;
  const int64_t tiles = (a.seqlen_k + kTileKeys - 1) / kTileKeys;
  if (tiles * (PackedKeyFloats(a.head_dim) + PackedValueFloats(a.head_dim_v)) > kOwnFloats) return 0;
  return std::max<int64_t>(heads / threads - 1, 0) * threads;
}

// Steps in the order in which threads take them. A KV head's tiles are packed, its tasks run, then the next one's
// follow: what was packed is still near.
struct Plan {
  std::vector<Head> heads;
  std::vector<Step> steps;
  std::vector<int64_t> turns;  // the first step of each, and the number of steps
  int64_t whole_heads = 0;     // each is one turn, and they come first; then every step is
  int64_t most_tiles = 0, most_tasks = 1;
  bool packs_values = false;  // of some head

  Plan(const CpuJob& job, int64_t rows_per_task) : whole_heads(WholeHeads(job)) {
    const data::Attention& a = job.a;
    for (int64_t n = 0; n < a.batch; ++n) {
      const KeyRange seen = job.VisibleToAll(n);
      const int64_t first = seen.begin / kTileKeys;
      const int64_t tiles = seen.begin < seen.end ? (seen.end + kTileKeys - 1) / kTileKeys - first : 0;
      const int64_t tasks = (job.queries(n) + rows_per_task - 1) / rows_per_task;
      most_tiles = std::max(most_tiles, tiles);
      most_tasks = std::max(most_tasks, tasks);
      for (int64_t h_kv = 0; h_kv < a.heads_kv; ++h_kv) {
        const int64_t head = static_cast<int64_t>(heads.size());
        heads.push_back({n, h_kv, first, tiles, tasks, PackedValues(job, n, h_kv, first * kTileKeys)});
        packs_values = packs_values || heads.back().V == nullptr;
        const int64_t first_step = static_cast<int64_t>(steps.size());
        for (int64_t tile = 0; tile < tiles; ++tile) steps.push_back({.head = head, .tile = tile});
        // The last rows see the most keys under causal masks: long tasks first.
        for (int64_t task = tasks - 1; task >= 0; --task) {
          const int64_t row = task * rows_per_task;
          steps.push_back(
              {.head = head, .tile = -1, .first_row = row, .rows = std::min(rows_per_task, job.queries(n) - row)});
        }
        const int64_t end = head < whole_heads ? first_step + 1 : static_cast<int64_t>(steps.size());
        for (int64_t step = first_step; step < end; ++step) turns.push_back(step);
      }
    }
    turns.push_back(static_cast<int64_t>(steps.size()));
  }
};

// Floats at keys [first, first + kTileKeys) of K or V that lie together, or null.
const float* AdjacentRows(const CpuJob& job, const CpuTensor& tensor, const Head& head, int64_t first,
                          int64_t columns) {
  return Adjacent(job, tensor, columns) && first + kTileKeys <= job.keys(head.n)
             ? reinterpret_cast<const float*>(tensor.Row(head.n, head.h_kv, first))
             : nullptr;
}

// A KV head's packed tiles, and room for them.
struct Slot {
  float *K, *V, *key_squares, *v_most;
};

void Pack(const CpuJob& job, const Head& head, int64_t tile, const Slot& slot, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t first_key = (head.first_tile + tile) * kTileKeys;
  const int64_t keys = std::min(kTileKeys, job.keys(head.n) - first_key);
  const float* rows[kTileKeys] = {};
  const auto read = [&](const CpuTensor& tensor, int64_t columns) {
    const void* stored[kTileKeys];
    job.KeyRows(tensor, head.n, head.h_kv, first_key, keys, stored);
    for (int64_t j = 0; j < keys; ++j) {
      if (tensor.format == data::Format::kFp32) {
        rows[j] = static_cast<const float*>(stored[j]);
      } else {
        float* converted = w.converted.get() + j * columns;
        data::ToFloat(tensor.format, stored[j], converted, columns);
        rows[j] = converted;
      }
    }
  };
  read(job.K, a.head_dim);
  slot.key_squares[tile] = PackKeys(rows, keys, a.head_dim, slot.K + tile * PackedKeyFloats(a.head_dim));
  if (head.V != nullptr) {
    slot.v_most[tile] = LargestValue(head.V + tile * PackedValueFloats(a.head_dim_v), keys * a.head_dim_v);
    return;
  }
  read(job.V, a.head_dim_v);
  slot.v_most[tile] = PackValues(rows, keys, a.head_dim_v, slot.V + tile * PackedValueFloats(a.head_dim_v));
}

// Where a task finds its rows of Q: [first, first + q_head, ...], q_row floats apart.
struct Queries {
  const float* first;
  int64_t head, row;
};

// Rows of Q where they lie, if they are whole strips of fp32 near each other; else copies.
Queries LoadQueries(const CpuJob& job, const Head& head, const Step& task, Workspace& w) {
  constexpr int64_t kFarthest = 512;  // floats: rows farther apart would need a page each
  const int64_t group = job.a.group(), first_head = head.h_kv * group;
  if (job.Q.format == data::Format::kFp32 && task.rows % kStripRows == 0 && job.Q.strides.row <= kFarthest) {
    return {reinterpret_cast<const float*>(job.Q.Row(head.n, first_head, task.first_row)), job.Q.strides.head,
            job.Q.strides.row};
  }
  const int64_t padded_rows = RoundUp(task.rows, kStripRows), q_row = RoundUp(job.a.head_dim, kRowPadding);
  for (int64_t g = 0; g < group; ++g) {
    for (int64_t i = 0; i < task.rows; ++i) {
      job.LoadQuery(head.n, first_head + g, task.first_row + i, w.Q.get() + (g * padded_rows + i) * q_row);
    }
  }
  return {w.Q.get(), padded_rows * q_row, q_row};
}

void Run(const CpuJob& job, const Head& head, const Step& task, const Slot& slot, const Head* next, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t group = a.group(), columns = RoundUp(a.head_dim_v, kRowPadding);
  if (a.mask.kind == data::Mask::Kind::kFull) {
    std::fill_n(w.visible.begin(), task.rows, job.Visible(head.n, task.first_row));
  } else {
    for (int64_t i = 0; i < task.rows; ++i) w.visible[i] = job.Visible(head.n, task.first_row + i);
  }
  const Queries queries = LoadQueries(job, head, task, w);
  const bool in_place = job.O.format == data::Format::kFp32 && columns == a.head_dim_v;
  const auto for_rows = [&](const auto& function) {
    for (int64_t g = 0; g < group; ++g) {
      for (int64_t i = 0; i < task.rows; ++i) function(g * task.rows + i, head.h_kv * group + g, task.first_row + i);
    }
  };
  for_rows([&](int64_t n, int64_t h, int64_t i) {
    w.outputs[n] = in_place ? reinterpret_cast<float*>(job.OutputRow(head.n, h, i)) : w.O.get() + n * columns;
  });
  // Each task asks for another tile of the next head.
  const int64_t next_key =
      next == nullptr || next->tiles == 0
          ? 0
          : (next->first_tile + task.first_row / std::max<int64_t>(task.rows, 1) % next->tiles) * kTileKeys;
  RunPrefill({.rule = job.rule,
              .head_dim = a.head_dim,
              .head_dim_v = a.head_dim_v,
              .heads = group,
              .rows = task.rows,
              .visible = w.visible.data(),
              .Q = queries.first,
              .q_head = queries.head,
              .q_row = queries.row,
              .packed = {head.first_tile, head.tiles, slot.K, head.V != nullptr ? head.V : slot.V, slot.key_squares,
                         slot.v_most},
              .next_K = next == nullptr ? nullptr : AdjacentRows(job, job.K, *next, next_key, a.head_dim),
              .next_V = next == nullptr ? nullptr : AdjacentRows(job, job.V, *next, next_key, a.head_dim_v),
              .scratch = w.scratch.get(),
              .O = w.outputs.data(),
              .LSE = w.LSE.get()});
  for_rows([&](int64_t n, int64_t h, int64_t i) {
    if (in_place) return job.StoreLse(head.n, h, i, w.LSE.get()[n]);
    job.StoreRow(head.n, h, i, w.outputs[n], w.LSE.get()[n]);
  });
}

// How far each KV head has come. Threads take steps in order, so what a step waits for was taken by a thread that
// works on it: no deadlock.
class Progress {
 public:
  explicit Progress(int64_t heads) : packed_(heads), done_(heads) {}

  void Packed(int64_t head) { Add(packed_[head]); }
  void Done(int64_t head) { Add(done_[head]); }
  void AwaitPacked(int64_t head, int64_t tiles) const { Await(packed_[head], tiles); }
  void AwaitDone(int64_t head, int64_t tasks) const { Await(done_[head], tasks); }

 private:
  using Count = std::atomic<int64_t>;

  static void Add(Count& count) {
    count.fetch_add(1, std::memory_order_acq_rel);
    count.notify_all();
  }
  static void Await(const Count& count, int64_t target) {
    for (int64_t now; (now = count.load(std::memory_order_acquire)) < target;) count.wait(now);
  }

  std::vector<Count> packed_, done_;
};

}  // namespace

void RunPrefillJob(const CpuJob& job) {
  const int64_t rows_per_task = RowsPerTask(job);
  const Plan plan(job, rows_per_task);
  const int64_t turns = static_cast<int64_t>(plan.turns.size()) - 1, heads = static_cast<int64_t>(plan.heads.size());
  const int threads = static_cast<int>(std::min(int64_t{job.threads}, std::max<int64_t>(turns, 1)));
  // Packed heads at a time: each thread's own, and of those whose steps are taken one by one the one in use, and as
  // many as the threads may run ahead into.
  const int64_t own = plan.whole_heads > 0 ? threads : 0;
  const int64_t shared =
      std::min(heads - plan.whole_heads, 1 + (2 * int64_t{threads} - 2 + plan.most_tasks - 1) / plan.most_tasks);
  const int64_t k_floats = plan.most_tiles * PackedKeyFloats(job.a.head_dim);
  const int64_t v_floats = plan.packs_values ? plan.most_tiles * PackedValueFloats(job.a.head_dim_v) : 0;
  const int64_t slots = own + shared;
  const AlignedFloats K(slots * k_floats), V(slots * v_floats), limits(2 * slots * plan.most_tiles);
  std::vector<Workspace> workspaces;  // allocated here: an exception must not leave a parallel region
  workspaces.reserve(threads);
  for (int thread = 0; thread < threads; ++thread) workspaces.emplace_back(job.a, rows_per_task);
  Progress progress(heads);
  std::atomic<int64_t> next = 0;
#pragma omp parallel num_threads(threads)
  {
    Workspace& w = workspaces[omp_get_thread_num()];
    const auto run = [&](const Step& step) {
      const Head& head = plan.heads[step.head];
      const bool whole = step.head < plan.whole_heads;
      const int64_t at = whole ? omp_get_thread_num() : own + (step.head - plan.whole_heads) % shared;
      const Slot slot = {K.get() + at * k_floats, V.get() + at * v_floats, limits.get() + 2 * at * plan.most_tiles,
                         limits.get() + (2 * at + 1) * plan.most_tiles};
      if (step.tile >= 0) {
        const int64_t before = step.head - shared;  // that was packed here
        if (!whole && before >= plan.whole_heads) progress.AwaitDone(before, plan.heads[before].tasks);
        Pack(job, head, step.tile, slot, w);
        progress.Packed(step.head);
      } else {
        progress.AwaitPacked(step.head, head.tiles);
        const int64_t later = step.head + (whole ? threads : 1);
        Run(job, head, step, slot, later < heads ? &plan.heads[later] : nullptr, w);
        progress.Done(step.head);
      }
    };
    for (int64_t turn; (turn = next.fetch_add(1, std::memory_order_relaxed)) < turns;) {
      for (int64_t i = plan.turns[turn]; i < plan.turns[turn + 1]; ++i) run(plan.steps[i]);
    }
  }
}

}  // namespace bitflash::reference
