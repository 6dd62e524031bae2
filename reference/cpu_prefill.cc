#include <omp.h>

#include <algorithm>
#include <vector>

#include "data/convert_simd.h"
#include "reference/aligned_array.h"
#include "reference/cpu_job.h"

namespace bitflash::reference {
namespace {

// Rows of a task, of all its heads together: the state of 96 rows with 128 columns takes 48 KiB of the second-level
// cache, and each tile that is read serves that many rows.
constexpr int64_t kTaskRows = 96;

// K and V are packed for as many KV heads at a time as fit here, at least one: 64 MiB.
constexpr int64_t kPackedFloats = int64_t{1} << 24;

// One KV head of one sequence.
struct Head {
  int64_t n, h_kv;
  int64_t first_tile, tiles;
  int64_t k_offset, v_offset;  // of its packed tiles, in floats
};

// Rows [first_row, first_row + rows) of all query heads of a KV head.
struct Task {
  int64_t head;  // of the wave
  int64_t first_row, rows;
};

// KV heads that are packed at the same time, and what is done with them.
struct Wave {
  std::vector<Head> heads;
  std::vector<std::pair<int64_t, int64_t>> packs;  // head of the wave, tile from its first
  std::vector<Task> tasks;
  int64_t k_floats = 0, v_floats = 0;
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
        visible(rows) {
    std::fill_n(Q.get(), a.group() * rows * RoundUp(a.head_dim, kRowPadding), 0.0f);
  }
  int64_t rows;
  AlignedFloats Q, O, LSE, scratch, converted;
  std::vector<KeyRange> visible;
};

// Rows of each head in a task: whole strips, and enough tasks for the threads. Bits do not depend on it.
int64_t RowsPerTask(const CpuJob& job) {
  const data::Attention& a = job.a;
  int64_t rows = std::max(kStripRows, kTaskRows / a.group() / kStripRows * kStripRows);
  rows = std::min(rows, RoundUp(a.seqlen_q, kStripRows));
  const auto tasks = [&] { return a.batch * a.heads_kv * ((a.seqlen_q + rows - 1) / rows); };
  while (rows * a.group() > kTaskRows / 4 && rows > kStripRows && tasks() < 4 * job.threads) {
    rows = RoundUp(rows / 2, kStripRows);
  }
  return rows;
}

std::vector<Wave> Plan(const CpuJob& job, int64_t rows_per_task) {
  const data::Attention& a = job.a;
  std::vector<Wave> waves(1);
  for (int64_t n = 0; n < a.batch; ++n) {
    const KeyRange seen = job.VisibleToAll(n);
    const int64_t first = seen.begin / kTileKeys;
    const int64_t tiles = seen.begin < seen.end ? (seen.end + kTileKeys - 1) / kTileKeys - first : 0;
    for (int64_t h_kv = 0; h_kv < a.heads_kv; ++h_kv) {
      const int64_t k_floats = tiles * PackedKeyFloats(a.head_dim), v_floats = tiles * PackedValueFloats(a.head_dim_v);
      if (!waves.back().heads.empty() &&
          waves.back().k_floats + waves.back().v_floats + k_floats + v_floats > kPackedFloats) {
        waves.emplace_back();
      }
      Wave& w = waves.back();
      const int64_t head = static_cast<int64_t>(w.heads.size());
      w.heads.push_back({n, h_kv, first, tiles, w.k_floats, w.v_floats});
      w.k_floats += k_floats;
      w.v_floats += v_floats;
      for (int64_t tile = 0; tile < tiles; ++tile) w.packs.emplace_back(head, tile);
      // The last rows see the most keys under causal masks: long tasks first.
      const int64_t blocks = (job.queries(n) + rows_per_task - 1) / rows_per_task;
      for (int64_t block = blocks - 1; block >= 0; --block) {
        const int64_t first_row = block * rows_per_task;
        w.tasks.push_back({head, first_row, std::min(rows_per_task, job.queries(n) - first_row)});
      }
    }
  }
  return waves;
}

void Pack(const CpuJob& job, const Head& head, int64_t tile, float* K, float* V, Workspace& w) {
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
  PackKeys(rows, keys, a.head_dim, K + head.k_offset + tile * PackedKeyFloats(a.head_dim));
  read(job.V, a.head_dim_v);
  PackValues(rows, keys, a.head_dim_v, V + head.v_offset + tile * PackedValueFloats(a.head_dim_v));
}

void Run(const CpuJob& job, const Head& head, const Task& task, const float* K, const float* V, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t padded_rows = RoundUp(task.rows, kStripRows), q_row = RoundUp(a.head_dim, kRowPadding);
  const int64_t group = a.group(), columns = RoundUp(a.head_dim_v, kRowPadding);
  for (int64_t i = 0; i < task.rows; ++i) w.visible[i] = job.Visible(head.n, task.first_row + i);
  for (int64_t g = 0; g < group; ++g) {
    for (int64_t i = 0; i < task.rows; ++i) {
      job.LoadQuery(head.n, head.h_kv * group + g, task.first_row + i, w.Q.get() + (g * padded_rows + i) * q_row);
    }
  }
  RunPrefill({.rule = job.rule,
              .head_dim = a.head_dim,
              .head_dim_v = a.head_dim_v,
              .heads = group,
              .rows = task.rows,
              .visible = w.visible.data(),
              .Q = w.Q.get(),
              .packed = {head.first_tile, K + head.k_offset, V + head.v_offset},
              .scratch = w.scratch.get(),
              .O = w.O.get(),
              .LSE = w.LSE.get()});
  for (int64_t g = 0; g < group; ++g) {
    for (int64_t i = 0; i < task.rows; ++i) {
      const int64_t row = g * task.rows + i;
      job.StoreRow(head.n, head.h_kv * group + g, task.first_row + i, w.O.get() + row * columns, w.LSE.get()[row]);
    }
  }
}

}  // namespace

void RunPrefillJob(const CpuJob& job) {
  const int64_t rows_per_task = RowsPerTask(job);
  const std::vector<Wave> waves = Plan(job, rows_per_task);
  int64_t k_floats = 0, v_floats = 0, most_tasks = 1;
  for (const Wave& w : waves) {
    k_floats = std::max(k_floats, w.k_floats);
    v_floats = std::max(v_floats, w.v_floats);
    most_tasks = std::max(most_tasks, static_cast<int64_t>(w.tasks.size()));
  }
  const int threads = static_cast<int>(std::min<int64_t>(job.threads, most_tasks));
  const AlignedFloats K(k_floats), V(v_floats);
  std::vector<Workspace> workspaces;  // allocated here: an exception must not leave a parallel region
  workspaces.reserve(threads);
  for (int thread = 0; thread < threads; ++thread) workspaces.emplace_back(job.a, rows_per_task);
#pragma omp parallel num_threads(threads)
  {
    Workspace& w = workspaces[omp_get_thread_num()];
    for (const Wave& wave : waves) {
#pragma omp for schedule(dynamic)
      for (size_t p = 0; p < wave.packs.size(); ++p) {
        const auto [head, tile] = wave.packs[p];
        Pack(job, wave.heads[head], tile, K.get(), V.get(), w);
      }
#pragma omp for schedule(dynamic)
      for (size_t t = 0; t < wave.tasks.size(); ++t) {
        Run(job, wave.heads[wave.tasks[t].head], wave.tasks[t], K.get(), V.get(), w);
      }
    }
  }
}

}  // namespace bitflash::reference
