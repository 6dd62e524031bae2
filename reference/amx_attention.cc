#include "reference/amx_attention.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "data/error.h"
#include "reference/aligned_array.h"
#include "reference/amx_rounding.h"
#include "reference/amx_steps.h"
#include "reference/cpu_job.h"
#include "reference/fast_log.h"

namespace bitflash::reference {
namespace {

// Groups of a task: K and V come from the second-level cache or beyond, and what one group has read the next finds.
constexpr int64_t kTaskGroups = 4;

// K and V are packed for as many KV heads at a time as fit here, at least one. One thread: 256 KiB, still in
// the second-level cache when they are read. More: 64 MiB, because threads wait for one another after each.
constexpr int64_t kPackedAlone = int64_t{1} << 17, kPackedTogether = int64_t{1} << 25;

// One KV head of one sequence.
struct Head {
  int64_t n, h_kv;
  int64_t first_unit, units;
  int64_t packed_unit;  // of the wave, its first
};

// Rows [first, first + rows) of those of all query heads of a KV head, counted row by row: row f is row f / group of
// query head f % group. So 32 neighbours see nearly the same keys.
struct Task {
  int64_t head;
  int64_t first, rows;
};

// KV heads that are packed at the same time, and what is done with them.
struct Wave {
  std::vector<Head> heads;
  std::vector<std::pair<int64_t, int64_t>> packs;  // head of the wave, unit from its first
  std::vector<Task> tasks;
  int64_t units = 0;
};

struct Workspace {
  explicit Workspace(const data::Attention& a)
      : scratch(AmxScratchBytes(a.head_dim, a.head_dim_v)),
        Q(kAmxLanes * a.head_dim),
        keys(kAmxUnitKeys * std::max(a.head_dim, a.head_dim_v) * 2),
        row(std::max(a.head_dim, a.head_dim_v)),
        O(kAmxLanes * RoundUp(a.head_dim_v, kAmxColumns)) {}
  AlignedArray<std::byte> scratch;
  AlignedArray<uint16_t> Q, keys;  // rounded inputs
  AlignedFloats row, O;
};

std::vector<Wave> Plan(const CpuJob& job) {
  const data::Attention& a = job.a;
  int64_t groups = 0;
  for (int64_t n = 0; n < a.batch; ++n) {
    groups += a.heads_kv * (RoundUp(job.queries(n) * a.group(), kAmxLanes) / kAmxLanes);
  }
  // Bits do not depend on it.
  const int64_t task_rows = kAmxLanes * std::clamp<int64_t>(groups / (4 * job.threads), 1, kTaskGroups);
  const int64_t most_elements = job.threads == 1 ? kPackedAlone : kPackedTogether;
  const int64_t most_units =
      std::max<int64_t>(1, most_elements / (AmxUnitElements(a.head_dim) + AmxUnitElements(a.head_dim_v)));
  std::vector<Wave> waves(1);
  for (int64_t n = 0; n < a.batch; ++n) {
    const KeyRange seen = job.VisibleToAll(n);
    const int64_t first = seen.begin / kAmxUnitKeys;
    const int64_t units = seen.begin < seen.end ? (seen.end + kAmxUnitKeys - 1) / kAmxUnitKeys - first : 0;
    for (int64_t h_kv = 0; h_kv < a.heads_kv; ++h_kv) {
      if (!waves.back().heads.empty() && waves.back().units + units > most_units) waves.emplace_back();
      Wave& w = waves.back();
      const int64_t head = static_cast<int64_t>(w.heads.size());
      w.heads.push_back({n, h_kv, first, units, w.units});
      w.units += units;
      for (int64_t unit = 0; unit < units; ++unit) w.packs.emplace_back(head, unit);
      // The last rows see the most keys under causal masks: long tasks first.
      const int64_t rows = job.queries(n) * a.group();
      for (int64_t task = (rows + task_rows - 1) / task_rows - 1; task >= 0; --task) {
        w.tasks.push_back({head, task * task_rows, std::min(task_rows, rows - task * task_rows)});
      }
    }
  }
  return waves;
}

// Packed K and V of a wave.
struct Packed {
  explicit Packed(const data::Attention& a, int64_t units)
      : k_elements(AmxUnitElements(a.head_dim)),
        v_elements(AmxUnitElements(a.head_dim_v)),
        K(units * k_elements),
        V(units * v_elements),
        finite(units) {}
  int64_t k_elements, v_elements;  // of a unit
  AlignedArray<uint16_t> K, V;
  std::vector<uint8_t> finite;
};

// Asks for what the next unit's rows hold, while this unit is packed: it comes from memory, and only once.
void AskForNextUnit(const CpuJob& job, const CpuTensor& tensor, const Head& head, int64_t first_key, int64_t columns) {
  if (job.paged.page_size != 0) return;
  constexpr int64_t kLine = 64;  // bytes
  const int64_t end = std::min(job.keys(head.n), first_key + 2 * kAmxUnitKeys);
  for (int64_t j = first_key + kAmxUnitKeys; j < end; ++j) {
    const std::byte* row = tensor.Row(head.n, head.h_kv, j);
    for (int64_t byte = 0; byte < columns * tensor.element_bytes; byte += kLine) __builtin_prefetch(row + byte);
  }
}

void Pack(const AmxSteps& steps, const CpuJob& job, const Head& head, int64_t unit, Packed& packed, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t first_key = (head.first_unit + unit) * kAmxUnitKeys, at = head.packed_unit + unit;
  AmxUnit u = {.keys = std::min(kAmxUnitKeys, job.keys(head.n) - first_key),
               .head_dim = a.head_dim,
               .head_dim_v = a.head_dim_v,
               .packed_K = packed.K.get() + at * packed.k_elements,
               .packed_V = packed.V.get() + at * packed.v_elements};
  uint16_t* rounded = w.keys.get();
  const auto read = [&](const CpuTensor& tensor, int64_t columns, const uint16_t** rows) {
    const void* stored[kAmxUnitKeys];
    job.KeyRows(tensor, head.n, head.h_kv, first_key, u.keys, stored);
    AskForNextUnit(job, tensor, head, first_key, columns);
    for (int64_t j = 0; j < u.keys; ++j, rounded += columns) {
      rows[j] = AsBf16(tensor.format, stored[j], columns, w.row.get(), rounded);
    }
  };
  read(job.K, a.head_dim, u.K);
  read(job.V, a.head_dim_v, u.V);
  packed.finite[at] = steps.pack(u) ? 1 : 0;
}

// LSE of kAmxLanes rows.
void StoreLse(const ScoreRule& rule, const float* m, const float* l, float* lse) {
  for (int64_t lane = 0; lane < kAmxLanes; ++lane) {
    lse[lane] = static_cast<float>(static_cast<double>(m[lane]) * rule.lse_factor + NormalLog(l[lane]));
  }
  for (int64_t lane = 0; lane < kAmxLanes; ++lane) {
    if (HasNormalLog(l[lane]) && std::abs(m[lane]) <= std::numeric_limits<float>::max()) continue;
    if (std::isinf(m[lane])) {  // all scores are NaN; or inf, whose sum is NaN
      lse[lane] = m[lane] < 0 && std::isnan(l[lane]) ? l[lane] : m[lane];
    } else {
      lse[lane] = static_cast<float>(static_cast<double>(m[lane]) * rule.lse_factor + FastLog(l[lane]));
    }
  }
}

void Run(const AmxSteps& steps, const CpuJob& job, const Head& head, const Task& task, const Packed& packed,
         Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t group = a.group(), columns = RoundUp(a.head_dim_v, kAmxColumns);
  const bool direct = job.O.format == data::Format::kBf16;
  alignas(64) float m[kAmxLanes], l[kAmxLanes], lse[kAmxLanes];
  uint16_t* bf16_rows[kAmxLanes] = {};
  AmxGroup g = {.rule = job.rule,
                .head_dim = a.head_dim,
                .head_dim_v = a.head_dim_v,
                .K = packed.K.get() + head.packed_unit * packed.k_elements,
                .V = packed.V.get() + head.packed_unit * packed.v_elements,
                .finite = packed.finite.data() + head.packed_unit,
                .scratch = w.scratch.get(),
                .O = w.O.get(),
                .O_bf16 = direct ? bf16_rows : nullptr,
                .m = m,
                .l = l};
  const int64_t first_key = head.first_unit * kAmxUnitKeys, first_head = head.h_kv * group;
  for (int64_t first = task.first; first < task.first + task.rows; first += kAmxLanes) {
    const int64_t rows = std::min(kAmxLanes, task.first + task.rows - first);
    // Calls function(lane, row, head) for every lane without a division for each.
    const auto for_lanes = [&](const auto& function) {
      int64_t i = first / group, h = first % group;
      for (int64_t lane = 0; lane < rows; ++lane) {
        function(lane, i, first_head + h);
        if (++h == group) h = 0, ++i;
      }
    };
    for_lanes([&](int64_t lane, int64_t i, int64_t h) {
      g.Q[lane] = AsBf16(job.Q.format, job.Q.Row(head.n, h, i), a.head_dim, w.row.get(), w.Q.get() + lane * a.head_dim);
      if (direct) bf16_rows[lane] = reinterpret_cast<uint16_t*>(job.OutputRow(head.n, h, i));
      const KeyRange seen = job.Visible(head.n, i);
      const bool sees = seen.begin < seen.end;  // otherwise [0, 0)
      g.begin[lane] = sees ? static_cast<int32_t>(seen.begin - first_key) : 0;
      g.end[lane] = sees ? static_cast<int32_t>(seen.end - first_key) : 0;
    });
    for (int64_t lane = rows; lane < kAmxLanes; ++lane) {  // only a task's last group has such lanes
      g.Q[lane] = nullptr;
      bf16_rows[lane] = nullptr;
      g.begin[lane] = g.end[lane] = 0;
    }
    steps.run(&g, 1);
    StoreLse(job.rule, m, l, lse);
    for_lanes([&](int64_t lane, int64_t i, int64_t h) {
      const bool sees = g.begin[lane] < g.end[lane];
      float* O = w.O.get() + lane * columns;
      if (direct && sees) return job.StoreLse(head.n, h, i, lse[lane]);
      if (!sees) std::fill_n(O, columns, 0.0f);
      job.StoreRow(head.n, h, i, O, sees ? lse[lane] : -std::numeric_limits<float>::infinity());
    });
  }
}

void CheckFormats(const CpuJob& job) {
  for (const auto& [name, tensor] : {std::pair{"Q", &job.Q}, {"K", &job.K}, {"V", &job.V}}) {
    if (tensor->format == data::Format::kBf16) continue;
    throw data::UsageError("tensor " + std::string(name) + " is " + std::string(data::Name(tensor->format)) +
                           ": AMX multiplies bf16; expected bf16, or AmxOptions::round_inputs to round it");
  }
}

}  // namespace

int64_t AmxScratchBytes(int64_t head_dim, int64_t head_dim_v) {
  const int64_t q = RoundUp(head_dim, kAmxColumns), v = RoundUp(head_dim_v, kAmxColumns);
  const int64_t scores = 2 * kAmxBlockUnits * kAmxUnitKeys * kAmxLanes;  // as Scratch of amx_tile_work-inl.h
  return scores * (4 + 2) + kAmxLanes * v * 4 + (kAmxLanes * q + kAmxBlockUnits * kAmxUnitKeys * v) * 2;
}

void RunAmxAttention(const AmxSteps& steps, const data::Attention& attention, const CpuAttentionInputs& inputs,
                     const CpuAttentionOutputs& outputs, const AmxOptions& options) {
  const CpuJob job(attention, inputs, outputs, options.threads);
  if (!options.round_inputs) CheckFormats(job);
  if (attention.seqlen_k > std::numeric_limits<int32_t>::max() - kAmxUnitKeys) {
    throw data::UsageError("seqlen_k is " + std::to_string(attention.seqlen_k) + ": expected less than 2^31 with AMX");
  }
  job.ClearUnusedRows();
  if (attention.seqlen_q <= kDecodeQueries) return RunAmxDecode(steps, job);
  const std::vector<Wave> waves = Plan(job);
  int64_t units = 0, most_tasks = 1;
  for (const Wave& w : waves) {
    units = std::max(units, w.units);
    most_tasks = std::max(most_tasks, static_cast<int64_t>(w.tasks.size()));
  }
  const int threads = static_cast<int>(std::min<int64_t>(job.threads, most_tasks));
  Packed packed(job.a, units);
  std::vector<Workspace> workspaces;  // allocated here: an exception must not leave a parallel region
  workspaces.reserve(threads);
  for (int thread = 0; thread < threads; ++thread) workspaces.emplace_back(job.a);
#pragma omp parallel num_threads(threads)
  {
    Workspace& w = workspaces[omp_get_thread_num()];
    for (const Wave& wave : waves) {
#pragma omp for schedule(static)
      for (size_t p = 0; p < wave.packs.size(); ++p) {
        const auto [head, unit] = wave.packs[p];
        Pack(steps, job, wave.heads[head], unit, packed, w);
      }
#pragma omp for schedule(dynamic)
      for (size_t t = 0; t < wave.tasks.size(); ++t) {
        Run(steps, job, wave.heads[wave.tasks[t].head], wave.tasks[t], packed, w);
      }
    }
  }
}

void AmxAttention(const data::Attention& attention, const CpuAttentionInputs& inputs,
                  const CpuAttentionOutputs& outputs, const AmxOptions& options) {
  if (!AmxSupport().empty()) {
    throw data::UsageError("attention with AMX cannot run here: " + AmxSupport() +
                           "; expected an Intel Xeon of the generation Sapphire Rapids or later, or CpuAttention");
  }
  RunAmxAttention(*MachineAmxSteps(), attention, inputs, outputs, options);
}

const AmxSteps* MachineAmxSteps() {
#ifdef BITFLASH_AMX
  if (AmxSupport().empty()) return &TileUnitSteps();
#endif
  return nullptr;
}

Arithmetic AmxAttentionArithmetic(const data::Attention& a, data::Format output) {
  // Sums of exact products: one rounding for each, whatever their order. (TDPBF16PS adds 16 even and 16 odd products,
  // then both to the accumulator: at most 18.)
  Arithmetic r = Arithmetic::ForFormat(data::Format::kFp32);
  r.p_unit = 0x1p-8;
  // What the tile unit takes for 0: operands below 2^-126, and products and sums below, an error of 2^-126 for each key
  // whose |V| counts as 2^-60 or more.
  r.operand_floor = 0x1p-60;
  r.p_floor = 0x1p-64;
  r.p_operand_floor = 0x1p-126;
  if (a.seqlen_q <= kDecodeQueries) {
    const int64_t parts = (a.seqlen_k + kDecodePartKeys - 1) / kDecodePartKeys;
    const int64_t blocks = (a.seqlen_k + kAmxDecodeKeys - 1) / kAmxDecodeKeys + 1;
    r.rescales = blocks + 1 + parts;
    r.keys_per_sum = 5 * blocks + parts;
  } else {
    const int64_t block_keys = kAmxBlockUnits * kAmxUnitKeys, blocks = (a.seqlen_k + block_keys - 1) / block_keys + 1;
    r.rescales = blocks + 1;
    r.keys_per_sum = block_keys / 2 + 2 * blocks;
  }
  r.score_roundings = a.softcap > 0 ? 6 : 4;
  // 1.5e-7 of the polynomial, and the rounding of an exponent that the lag makes up to 8 larger: 8 ln 2 2^-24.
  r.exponential_error = 0x1p-20;
  r.tanh_unit = 0x1p-21;
  r.SetOutput(output);
  return r;
}

}  // namespace bitflash::reference
