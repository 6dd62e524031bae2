#include "reference/cpu_attention.h"

#include <omp.h>

#include <algorithm>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "data/convert_simd.h"
#include "data/error.h"
#include "reference/cpu_job.h"

namespace bitflash::reference {
namespace {

std::string Text(int64_t number) { return std::to_string(number); }

struct Shape {
  int64_t batch, heads, rows, columns;
};

// Throws UsageError that names the tensor unless `bytes` hold the shape. `written`: no two rows may share elements.
CpuTensor Checked(const char* name, data::Format format, std::span<const std::byte> bytes,
                  const std::optional<Strides>& strides, const Shape& shape, bool written = false) {
  using data::Format;
  if (format != Format::kFp32 && format != Format::kFp16 && format != Format::kBf16) {
    throw data::UsageError("tensor " + std::string(name) + " is " + std::string(data::Name(format)) +
                           ": expected fp32, fp16 or bf16");
  }
  const CpuTensor tensor = {.format = format,
                            .data = bytes.data(),
                            .strides = strides.value_or(Strides{shape.heads * shape.rows * shape.columns,
                                                                shape.rows * shape.columns, shape.columns}),
                            .element_bytes = data::StorageBytes(format)};
  if (reinterpret_cast<uintptr_t>(bytes.data()) % static_cast<uintptr_t>(tensor.element_bytes) != 0) {
    throw data::UsageError("tensor " + std::string(name) + " is not aligned to its elements of " +
                           Text(tensor.element_bytes) + " bytes");
  }
  if (shape.batch == 0 || shape.heads == 0 || shape.rows == 0) return tensor;  // nothing will be touched
  const int64_t elements = static_cast<int64_t>(bytes.size()) / tensor.element_bytes;
  const int64_t least = written ? shape.columns : 0;
  // Elements that may still lie beyond the last one reached; subtracting cannot overflow where multiplying could.
  int64_t beyond = elements - shape.columns;
  const auto step = [&](int64_t extent, int64_t stride) {
    if (extent == 1 || beyond < 0) return;
    beyond = stride >= least && stride <= beyond / (extent - 1) ? beyond - stride * (extent - 1) : -1;
  };
  step(shape.batch, tensor.strides.batch);
  step(shape.heads, tensor.strides.head);
  step(shape.rows, tensor.strides.row);
  if (beyond >= 0) return tensor;
  throw data::UsageError("tensor " + std::string(name) + " has " + Text(elements) + " elements and strides " +
                         Text(tensor.strides.batch) + ", " + Text(tensor.strides.head) + ", " +
                         Text(tensor.strides.row) + ", 1: expected strides of " + Text(least) +
                         " or more that keep the shape " + Text(shape.batch) + " x " + Text(shape.heads) + " x " +
                         Text(shape.rows) + " x " + Text(shape.columns) + " inside the elements");
}

void CheckLengths(const char* name, const char* extent_name, std::span<const int64_t> lengths, int64_t batch,
                  int64_t extent) {
  if (lengths.empty()) return;
  if (static_cast<int64_t>(lengths.size()) != batch) {
    throw data::UsageError(std::string(name) + " has " + Text(static_cast<int64_t>(lengths.size())) +
                           " entries: expected batch, which is " + Text(batch) + ", or none");
  }
  for (const int64_t length : lengths) {
    if (length >= 0 && length <= extent) continue;
    throw data::UsageError(std::string(name) + " has an entry " + Text(length) + ": expected 0 to " + extent_name +
                           ", which is " + Text(extent));
  }
}

void CheckPages(const PagedCache& paged, const CpuJob& job) {
  if (paged.page_size < 1 || paged.pages < 0 || paged.pages_per_sequence < 0) {
    throw data::UsageError("the paged cache has pages of " + Text(paged.page_size) + " keys, " + Text(paged.pages) +
                           " in all and " + Text(paged.pages_per_sequence) +
                           " per sequence: expected 1 or more, 0 or more, 0 or more");
  }
  const int64_t entries = static_cast<int64_t>(paged.block_table.size());
  if (paged.pages_per_sequence > 0 && entries / paged.pages_per_sequence < job.a.batch) {
    throw data::UsageError("block_table has " + Text(entries) + " entries: expected " + Text(job.a.batch) + " x " +
                           Text(paged.pages_per_sequence));
  }
  for (int64_t n = 0; n < job.a.batch; ++n) {
    const int64_t used = (job.keys(n) + paged.page_size - 1) / paged.page_size;
    if (used > paged.pages_per_sequence) {
      throw data::UsageError("sequence " + Text(n) + " has " + Text(job.keys(n)) + " keys: expected at most " +
                             Text(paged.pages_per_sequence) + " pages of " + Text(paged.page_size));
    }
    for (int64_t page = 0; page < used; ++page) {
      const int64_t entry = paged.block_table[n * paged.pages_per_sequence + page];
      if (entry >= 0 && entry < paged.pages) continue;
      throw data::UsageError("block_table names page " + Text(entry) + " for sequence " + Text(n) + ": expected 0 to " +
                             Text(paged.pages - 1));
    }
  }
}

ScoreRule RuleOf(const data::Attention& a) {
  if (a.softcap > 0) {
    return {.exponent_factor = std::numbers::log2e_v<float>,
            .softcap = static_cast<float>(a.softcap),
            .cap_factor = static_cast<float>(a.scale() / a.softcap),
            .lse_factor = 1,
            .least_difference = -125 / std::numbers::log2e_v<float>};
  }
  const float factor = static_cast<float>(a.scale() * std::numbers::log2e);
  return {.exponent_factor = factor,
          .softcap = 0,
          .cap_factor = 0,
          .lse_factor = a.scale(),
          .least_difference = -125 / factor};
}

}  // namespace

CpuJob::CpuJob(const data::Attention& attention, const CpuAttentionInputs& inputs, const CpuAttentionOutputs& outputs,
               int wanted_threads)
    : a(attention),
      o_data(outputs.O.data()),
      LSE(outputs.LSE),
      seqlens_q(inputs.seqlens_q),
      seqlens_k(inputs.seqlens_k),
      paged(inputs.paged.value_or(PagedCache{})),
      rule(RuleOf(attention)),
      threads(wanted_threads > 0 ? wanted_threads : omp_get_max_threads()) {
  data::Validate(a);
  if (wanted_threads < 0) {
    throw data::UsageError("threads is " + Text(wanted_threads) + ": expected 0 (automatic) or more");
  }
  CheckLengths("seqlens_q", "seqlen_q", seqlens_q, a.batch, a.seqlen_q);
  CheckLengths("seqlens_k", "seqlen_k", seqlens_k, a.batch, a.seqlen_k);
  if (inputs.paged) CheckPages(paged, *this);
  const Shape keys = inputs.paged ? Shape{paged.pages, a.heads_kv, paged.page_size, a.head_dim}
                                  : Shape{a.batch, a.heads_kv, a.seqlen_k, a.head_dim};
  Q = Checked("Q", inputs.Q.format, inputs.Q.bytes, inputs.Q.strides, {a.batch, a.heads_q, a.seqlen_q, a.head_dim});
  K = Checked("K", inputs.K.format, inputs.K.bytes, inputs.K.strides, keys);
  V = a.v_is_in_k ? K
                  : Checked("V", inputs.V.format, inputs.V.bytes, inputs.V.strides,
                            {keys.batch, keys.heads, keys.rows, a.head_dim_v});
  O = Checked("O", outputs.format, outputs.O, outputs.strides, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}, true);
  const int64_t rows = a.batch * a.heads_q * a.seqlen_q;
  if (!LSE.empty() && static_cast<int64_t>(LSE.size()) != rows) {
    throw data::UsageError("LSE has " + Text(static_cast<int64_t>(LSE.size())) + " elements: expected " + Text(rows) +
                           ", or none");
  }
}

KeyRange CpuJob::VisibleToAll(int64_t n) const {
  if (queries(n) == 0) return {};
  KeyRange all = {keys(n), 0};
  // The first and the last row that see something bound the rest; rows that see nothing lie before or after them.
  for (int64_t i = 0; i < queries(n); ++i) {
    const KeyRange seen = Visible(n, i);
    if (seen.begin == seen.end) continue;
    all.begin = seen.begin;
    break;
  }
  for (int64_t i = queries(n) - 1; i >= 0; --i) {
    const KeyRange seen = Visible(n, i);
    if (seen.begin == seen.end) continue;
    all.end = seen.end;
    break;
  }
  return all.begin < all.end ? all : KeyRange{};
}

void CpuJob::KeyRows(const CpuTensor& tensor, int64_t n, int64_t h_kv, int64_t first, int64_t count,
                     const void** rows) const {
  const int64_t step = tensor.strides.row * tensor.element_bytes;
  // As many at a time as lie at equal distances.
  for (int64_t j = 0; j < count;) {
    const int64_t key = first + j;
    const std::byte* row;
    int64_t run = count - j;
    if (paged.page_size == 0) {
      row = tensor.Row(n, h_kv, key);
    } else {
      const int64_t page = paged.block_table[n * paged.pages_per_sequence + key / paged.page_size];
      row = tensor.Row(page, h_kv, key % paged.page_size);
      run = std::min(run, paged.page_size - key % paged.page_size);
    }
    for (int64_t i = 0; i < run; ++i) rows[j + i] = row + i * step;
    j += run;
  }
}

void CpuJob::LoadQuery(int64_t n, int64_t h, int64_t i, float* out) const {
  data::ToFloat(Q.format, Q.Row(n, h, i), out, a.head_dim);
  std::fill(out + a.head_dim, out + RoundUp(a.head_dim, kRowPadding), 0.0f);
}

void CpuJob::StoreRow(int64_t n, int64_t h, int64_t i, const float* row, float lse) const {
  data::FromFloat(O.format, row, OutputRow(n, h, i), a.head_dim_v);
  StoreLse(n, h, i, lse);
}

void CpuJob::ClearUnusedRows() const {
  const std::vector<float> zeros(a.head_dim_v);
  for (int64_t n = 0; n < a.batch; ++n) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t i = queries(n); i < a.seqlen_q; ++i) {
        StoreRow(n, h, i, zeros.data(), -std::numeric_limits<float>::infinity());
      }
    }
  }
}

void CpuAttention(const data::Attention& attention, const CpuAttentionInputs& inputs,
                  const CpuAttentionOutputs& outputs, int threads) {
  const CpuJob job(attention, inputs, outputs, threads);
  job.ClearUnusedRows();
  attention.seqlen_q <= kDecodeQueries ? RunDecodeJob(job) : RunPrefillJob(job);
}

Arithmetic CpuAttentionArithmetic(const data::Attention& a, data::Format output) {
  Arithmetic r = Arithmetic::ForFormat(data::Format::kFp32);
  r.input_unit = 0x1p-24;  // the product's own rounding where there is no fused multiply-add
  r.p_floor = 0x1p-124;    // weights that count as 0
  const int64_t tile = a.seqlen_q <= kDecodeQueries ? kDecodeTileKeys : kTileKeys;
  const int64_t tiles = (a.seqlen_k + tile - 1) / tile;
  r.rescales = tiles + 1 + (a.seqlen_k + kDecodePartKeys - 1) / kDecodePartKeys;
  r.keys_per_sum = tiles * (tile / kPartialSums + 1) + 4;
  r.score_roundings = a.softcap > 0 ? 5 : 3;
  r.exponential_error = 1.4 * 0x1p-23;
  r.tanh_unit = 0x1p-22;
  r.SetOutput(output);
  return r;
}

}  // namespace bitflash::reference
