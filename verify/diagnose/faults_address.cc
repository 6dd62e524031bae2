// Mistakes of heads, layouts and addresses (A).
#include "verify/diagnose/fault_list.h"
#include "verify/diagnose/fault_outputs.h"
#include "verify/diagnose/fault_problems.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using Kernel = SimulatedKernel;

// --- Heads ---------------------------------------------------------------------------------------------------------

int64_t Modulo(const Attention& a, int64_t head) { return head % a.heads_kv; }
int64_t First(const Attention&, int64_t) { return 0; }
int64_t Early(const Attention& a, int64_t head) { return std::min((head + 1) / a.group(), a.heads_kv - 1); }

template <int64_t (*map)(const Attention&, int64_t)>
bool MapShows(const Kernel&, const Problem& p) {
  if (!SeesKeys(p)) return false;
  for (int64_t h = 0; h < p.attention.heads_q; ++h) {
    if (map(p.attention, h) != h / p.attention.group()) return true;
  }
  return false;
}
template <int64_t (*map)(const Attention&, int64_t)>
Outputs WithMap(const Kernel& k, const Problem& p) {
  return RunSimulated(k, WithHeadMap(p, [&](int64_t h) { return map(p.attention, h); }));
}

// --- Layouts and strides -------------------------------------------------------------------------------------------

bool WrapShows(const Kernel&, const Problem& p) { return p.k.count() > p.attention.head_dim && SeesKeys(p); }
Outputs OffsetsWrap(const Kernel& k, const Problem& p) { return RunSimulated(k, WithOffsetsWrapped(p)); }

bool PackedShows(const Kernel&, const Problem& p) {
  const Attention& a = p.attention;
  return SeesKeys(p) && !a.v_is_in_k && a.heads_q == a.heads_kv && a.seqlen_q == a.seqlen_k && a.seqlen_q > 1 &&
         a.head_dim == a.head_dim_v;
}
Outputs PackedStrides(const Kernel& k, const Problem& p) { return RunSimulated(k, ReadPackedWithoutStride(p)); }

bool LayoutShows(const Kernel&, const Problem& p) {
  const Attention& a = p.attention;
  return SeesKeys(p) && ((a.heads_q > 1 && a.seqlen_q > 1) || (a.heads_kv > 1 && a.seqlen_k > 1));
}
Outputs ReadsBshd(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, ReadAsBshd(p));
  WriteAsBshd(outputs);
  return outputs;
}
bool OutputLayoutShows(const Kernel&, const Problem& p) {
  return SeesKeys(p) && p.attention.heads_q > 1 && p.attention.seqlen_q > 1;
}
Outputs WritesBshd(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  WriteAsBshd(outputs);
  return outputs;
}

// --- Pages ---------------------------------------------------------------------------------------------------------

using PageRow = int64_t (*)(int64_t row, int64_t page, int64_t rows);
int64_t SwappedPages(int64_t row, int64_t page, int64_t rows) {
  const int64_t other = (row / page ^ 1) * page + row % page;
  return other < rows ? other : row;
}
int64_t RepeatedPage(int64_t row, int64_t page, int64_t) { return row < page ? row : row - page; }
int64_t HalfPageStride(int64_t row, int64_t page, int64_t) { return row / page * (page / 2) + row % page; }

bool SeveralPages(const Kernel& k, const Problem& p) {
  const int64_t page = k.tiling.page_size;
  return k.kernel->pages && page > 1 && AnySequence(p, [&](const Attention& a) {
           return a.seqlen_k >= page + 1 && sim::VisibleKeys(a, a.seqlen_q - 1).count > 0;
         });
}
bool WholePages(const Kernel& k, const Problem& p) {
  return SeveralPages(k, p) && AnySequence(p, [&](const Attention& a) { return a.seqlen_k >= 2 * k.tiling.page_size; });
}
template <PageRow source>
Outputs WithPages(const Kernel& k, const Problem& p) {
  const Attention& a = p.attention;
  return RunSimulated(k, WithKeyRows(p, [&](int64_t b, int64_t h, int64_t r) {
                        return (b * a.heads_kv + h) * a.seqlen_k + source(r, k.tiling.page_size, a.seqlen_k);
                      }));
}

// --- The wrong tensor ----------------------------------------------------------------------------------------------

bool KeysFitValues(const Kernel&, const Problem& p) {
  return !p.attention.v_is_in_k && p.attention.head_dim == p.attention.head_dim_v && SeesKeys(p);
}
Outputs KeysAsValues(const Kernel& k, const Problem& p) {
  Problem other = p;
  other.v = p.k;
  return RunSimulated(k, other);
}

}  // namespace

std::vector<Fault> AddressFaults() {
  constexpr FaultFamily kAddress = FaultFamily::kAddress;
  return {
      {"head-modulo", "A01", kAddress, "query head h reads KV head h mod heads_kv instead of h / group",
       "KV heads taken modulo", "https://github.com/flashinfer-ai/flashinfer/pull/1148", When<MapShows<Modulo>>,
       WithMap<Modulo>},
      {"head-first", "A02", kAddress, "every query head reads the first KV head", "the first KV head for all",
       "https://github.com/PSAL-POSTECH/ONNXim/pull/34", When<MapShows<First>>, WithMap<First>},
      {"head-group-early", "A03", kAddress, "the last query head of a group reads the next group's KV head",
       "groups of heads that begin one head early", "", When<MapShows<Early>>, WithMap<Early>},
      {"offsets-wrap", "A05", kAddress,
       "offsets into K and V overflow; simulated modulo the largest power of two below the number of elements",
       "offsets that wrap around", "https://github.com/Dao-AILab/flash-attention/issues/2611", When<WrapShows>,
       OffsetsWrap},
      {"strides-ignored", "A06", kAddress, "Q, K and V of one packed tensor are read as if they were contiguous",
       "the row stride of packed QKV ignored", "https://github.com/pytorch/pytorch/issues/112577", When<PackedShows>,
       PackedStrides},
      {"layout-bshd", "A07", kAddress,
       "[batch, heads, seqlen, head_dim] is read and written as [batch, seqlen, heads, head_dim]",
       "tensors taken as bshd", "https://github.com/Dao-AILab/flash-attention/issues/1391", When<LayoutShows>,
       ReadsBshd},
      {"o-layout-bshd", "A07", kAddress, "O is written as [batch, seqlen, heads, head_dim]", "O written as bshd",
       "https://github.com/InternLM/lmdeploy/issues/2957", When<OutputLayoutShows>, WritesBshd},
      {"page-order", "A09", kAddress, "neighbouring pages of the KV cache are swapped", "pages in the wrong order",
       "https://github.com/vllm-project/vllm/pull/27547", When<WholePages>, WithPages<SwappedPages>},
      {"page-stride", "A09", kAddress, "pages of the KV cache lie half as far apart as they should",
       "half the stride between pages", "https://github.com/flashinfer-ai/flashinfer/pull/527", When<SeveralPages>,
       WithPages<HalfPageStride>},
      {"page-repeated", "A10", kAddress, "the page number lags one page behind", "every page read one page late",
       "https://github.com/NVIDIA/TensorRT-LLM/pull/18244", When<SeveralPages>, WithPages<RepeatedPage>},
      {"k-as-v", "A11", kAddress, "K is read in place of V", "K in place of V", "", When<KeysFitValues>, KeysAsValues},
  };
}

}  // namespace bitflash::verify
