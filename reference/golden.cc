#include "reference/golden.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "data/error.h"
#include "reference/aligned_array.h"
#include "reference/golden_block.h"
#include "reference/golden_isa.h"
#include "reference/golden_magnitudes.h"
#include "reference/golden_operand.h"
#include "reference/visible.h"

namespace bitflash::reference {
namespace {

// Scores of 64 x 256 in fp64 take 128 KiB and a block of K with 128 columns 256 KiB: together they fit an L2 cache of
// 512 KiB. Blocks of rows start at multiples of kBlockRows whatever part is asked for.
constexpr int64_t kBlockRows = 64;
constexpr int64_t kBlockKeys = 256;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

int64_t PaddedKeys(int64_t keys) { return (keys + 7) / 8 * 8; }

// What one thread works in; the letters are Block's.
struct Workspace {
  Workspace(const data::Attention& a, bool with_magnitudes)
      : rows(std::min(kBlockRows, a.seqlen_q)),
        keys(std::min(kBlockKeys, a.seqlen_k)),
        Q(rows * a.head_dim),
        K(keys * a.head_dim),
        V(keys * a.head_dim_v),
        S(rows * PaddedKeys(keys)),
        m(rows),
        l(rows),
        O(rows * a.head_dim_v) {
    if (with_magnitudes) magnitudes.emplace(a, rows, keys, PaddedKeys(keys));
  }
  int64_t rows, keys;  // of the largest block
  AlignedDoubles Q, K, V, S, m, l, O;
  std::optional<MagnitudeBlock> magnitudes;
};

// One call of GoldenAttention, checked.
struct Job {
  const data::Attention& a;
  const BlockSteps& steps;
  Tensor Q, K, V;
  std::span<const int64_t> seqlens_k;
  Range heads, rows;
  Golden* golden;
  Magnitudes* magnitudes;  // or null
};

// Hides the scores that rows [i0, ...) do not see of keys [j0, ...), and the padding: their weight will be exactly 0.
void MaskScores(const data::Attention& a, int64_t seqlen_k, int64_t i0, int64_t j0, const Block& b) {
  for (int64_t i = 0; i < b.rows; ++i) {
    for (int64_t j = 0; j < b.keys_padded; ++j) {
      const bool visible = j < b.keys && Visible(a.mask, a.seqlen_q, seqlen_k, i0 + i, j0 + j);
      if (!visible) b.S[i * b.keys_padded + j] = -kInfinity;
    }
  }
}

// O += P V over visible pairs only: the product would multiply an invisible NaN or infinity by its weight 0 and get
// NaN.
void AccumulateVisible(const data::Attention& a, int64_t seqlen_k, int64_t i0, int64_t j0, const Block& b) {
  for (int64_t i = 0; i < b.rows; ++i) {
    for (int64_t j = 0; j < b.keys; ++j) {
      if (!Visible(a.mask, a.seqlen_q, seqlen_k, i0 + i, j0 + j)) continue;
      const double P = b.S[i * b.keys_padded + j];
      for (int64_t c = 0; c < b.head_dim_v; ++c) b.O[i * b.head_dim_v + c] += P * b.V[j * b.head_dim_v + c];
    }
  }
}

bool AllFinite(const double* x, int64_t count) {
  return std::all_of(x, x + count, [](double value) { return std::isfinite(value); });
}

// Rows [i0, i0 + b.rows) of head h of sequence n, into the block's m, l and O.
void RowBlock(const Job& job, int64_t n, int64_t h, int64_t i0, Block& b, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t h_kv = h / a.group();
  const int64_t seqlen_k = job.seqlens_k.empty() ? a.seqlen_k : job.seqlens_k[n];
  const KeyRange first = VisibleKeys(a.mask, a.seqlen_q, seqlen_k, i0);
  const KeyRange last = VisibleKeys(a.mask, a.seqlen_q, seqlen_k, i0 + b.rows - 1);

  job.Q.Load(n, h, i0, b.rows, a.head_dim, w.Q.get());
  std::fill_n(b.m, b.rows, -kInfinity);
  std::fill_n(b.l, b.rows, 0.0);
  std::fill_n(b.O, b.rows * a.head_dim_v, 0.0);
  if (w.magnitudes) w.magnitudes->StartRows(b, job.magnitudes->operand_floor);
  for (int64_t j0 = first.begin; j0 < last.end; j0 += kBlockKeys) {
    b.keys = std::min(kBlockKeys, last.end - j0);
    b.keys_padded = PaddedKeys(b.keys);
    const bool all_visible = last.begin <= j0 && j0 + b.keys <= first.end;
    job.K.Load(n, h_kv, j0, b.keys, a.head_dim, w.K.get());
    job.V.Load(n, h_kv, j0, b.keys, a.head_dim_v, w.V.get());
    job.steps.scores(b);
    if (!all_visible || b.keys != b.keys_padded) MaskScores(a, seqlen_k, i0, j0, b);
    if (w.magnitudes) {
      w.magnitudes->AddScores(b, job.steps);
      w.magnitudes->KeepMaxima(b);
    }
    job.steps.softmax(b);
    const bool whole = all_visible || AllFinite(b.V, b.keys * b.head_dim_v);
    const auto accumulate = [&](const Block& block) {
      whole ? job.steps.accumulate(block) : AccumulateVisible(a, seqlen_k, i0, j0, block);
    };
    accumulate(b);
    if (w.magnitudes) {
      w.magnitudes->AddValues(b, accumulate, [&](int64_t i) -> KeyRange {
        const KeyRange keys = VisibleKeys(a.mask, a.seqlen_q, seqlen_k, i0 + i);
        return {std::max<int64_t>(0, keys.begin - j0), std::min(b.keys, keys.end - j0)};
      });
    }
  }
  for (int64_t i = 0; i < b.rows; ++i) {
    const KeyRange keys = VisibleKeys(a.mask, a.seqlen_q, seqlen_k, i0 + i);
    if (keys.begin == keys.end) continue;  // O is 0 and m is -inf
    for (int64_t c = 0; c < b.head_dim_v; ++c) b.O[i * b.head_dim_v + c] /= b.l[i];
    if (!std::isinf(b.m[i])) b.m[i] += std::log(b.l[i]);  // at infinity m is the LSE, and inf + log(NaN) is not
  }
}

// One unit of work: the rows asked for inside one block of rows of one head.
void RunTask(const Job& job, int64_t pair, int64_t row_block, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t i0 = std::max(job.rows.begin, row_block * kBlockRows);
  const int64_t i1 = std::min(job.rows.end, (row_block + 1) * kBlockRows);
  Block b = {.rows = i1 - i0,
             .head_dim = a.head_dim,
             .head_dim_v = a.head_dim_v,
             .scale = a.scale(),
             .softcap = a.softcap,
             .Q = w.Q.get(),
             .K = w.K.get(),
             .V = w.V.get(),
             .S = w.S.get(),
             .m = w.m.get(),
             .l = w.l.get(),
             .O = w.O.get()};
  RowBlock(job, pair / a.heads_q, pair % a.heads_q, i0, b, w);
  const int64_t out = (pair - job.heads.begin) * job.rows.size() + i0 - job.rows.begin;
  std::copy_n(b.O, b.rows * a.head_dim_v, job.golden->O.data() + out * a.head_dim_v);
  std::copy_n(b.m, b.rows, job.golden->LSE.data() + out);
  if (w.magnitudes) w.magnitudes->WriteRows(b, out, job.magnitudes);
}

Range CheckedRange(const char* name, const std::optional<Range>& range, int64_t extent) {
  if (!range) return {0, extent};
  if (0 <= range->begin && range->begin <= range->end && range->end <= extent) return *range;
  throw data::UsageError(std::string(name) + " are [" + std::to_string(range->begin) + ", " +
                         std::to_string(range->end) + "): expected a range inside [0, " + std::to_string(extent) + ")");
}

void CheckSeqlens(std::span<const int64_t> seqlens_k, const data::Attention& a) {
  if (seqlens_k.empty()) return;
  if (static_cast<int64_t>(seqlens_k.size()) != a.batch) {
    throw data::UsageError("seqlens_k has " + std::to_string(seqlens_k.size()) + " entries: expected batch, which is " +
                           std::to_string(a.batch) + ", or none");
  }
  for (const int64_t keys : seqlens_k) {
    if (keys >= 0 && keys <= a.seqlen_k) continue;
    throw data::UsageError("seqlens_k has an entry " + std::to_string(keys) + ": expected 0 to seqlen_k, which is " +
                           std::to_string(a.seqlen_k));
  }
}

}  // namespace

Golden GoldenAttention(const data::Attention& a, const GoldenInputs& inputs, const GoldenPart& part,
                       const GoldenExecution& execution, Magnitudes* magnitudes) {
  data::Validate(a);
  CheckSeqlens(inputs.seqlens_k, a);
  if (execution.threads < 0) {
    throw data::UsageError("threads is " + std::to_string(execution.threads) + ": expected 0 (automatic) or more");
  }
  Golden golden;
  const Job job = {.a = a,
                   .steps = ChooseBlockSteps(execution.isa),
                   .Q = Tensor("Q", inputs.Q, a.batch, a.heads_q, a.seqlen_q, a.head_dim),
                   .K = Tensor("K", inputs.K, a.batch, a.heads_kv, a.seqlen_k, a.head_dim),
                   .V = a.v_is_in_k ? Tensor("K", inputs.K, a.batch, a.heads_kv, a.seqlen_k, a.head_dim)
                                    : Tensor("V", inputs.V, a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v),
                   .seqlens_k = inputs.seqlens_k,
                   .heads = CheckedRange("heads", part.heads, a.batch * a.heads_q),
                   .rows = CheckedRange("rows", part.rows, a.seqlen_q),
                   .golden = &golden,
                   .magnitudes = magnitudes};
  golden.LSE.resize(job.heads.size() * job.rows.size());
  golden.O.resize(golden.LSE.size() * a.head_dim_v);
  if (magnitudes) {
    for (auto* of_rows : {&magnitudes->qk, &magnitudes->score_max, &magnitudes->score_abs}) {
      of_rows->assign(golden.LSE.size(), 0);
    }
    for (auto* as_o : {&magnitudes->pv, &magnitudes->p2v2, &magnitudes->v}) as_o->assign(golden.O.size(), 0);
  }
  if (golden.LSE.empty()) return golden;

  const int64_t first_block = job.rows.begin / kBlockRows;
  const int64_t blocks = (job.rows.end + kBlockRows - 1) / kBlockRows - first_block;
  const int64_t tasks = job.heads.size() * blocks;
  const int64_t wanted = execution.threads > 0 ? execution.threads : omp_get_max_threads();
  const int threads = static_cast<int>(std::min(wanted, tasks));
  std::vector<Workspace> workspaces;  // allocated here: an exception must not leave a parallel region
  for (int thread = 0; thread < threads; ++thread) workspaces.emplace_back(a, magnitudes != nullptr);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t task = 0; task < tasks; ++task) {
    RunTask(job, job.heads.begin + task / blocks, first_block + task % blocks, workspaces[omp_get_thread_num()]);
  }
  return golden;
}

}  // namespace bitflash::reference
