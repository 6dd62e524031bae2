#include "verify/device/device_plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "data/error.h"
#include "gpu/block_table.h"
#include "sim/ceil_div.h"
#include "sim/splits.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Tensor;
using data::UsageError;
using sim::CeilDiv;

// "128x64 tiles, 4 warps, 1 stage".
std::string ToString(const gpu::Tile& tile) {
  const auto count = [](int64_t n, const char* what) {
    return ", " + std::to_string(n) + " " + what + (n == 1 ? "" : "s");
  };
  return "tiles of " + std::to_string(tile.Br) + "x" + std::to_string(tile.Bc) + count(tile.warps, "warp") +
         count(tile.stages, "stage");
}

// Calls body(row of a sequence of `rows` among those of all heads of a padded tensor, row among packed ones).
template <class Body>
void EachPackedRow(const std::vector<int64_t>& lengths, int64_t heads, int64_t rows, const Body& body) {
  int64_t start = 0;
  for (size_t b = 0; b < lengths.size(); start += lengths[b++]) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t r = 0; r < lengths[b]; ++r)
        body((static_cast<int64_t>(b) * heads + h) * rows + r, (start + r) * heads + h);
    }
  }
}

}  // namespace

const gpu::Kernel& FindTwin(const std::vector<gpu::Kernel>& kernels, std::string_view name) {
  if (kernels.empty()) throw data::UndecidedError("gpu/ of this build has no CUDA kernels: nothing was run");
  std::string names;
  for (const gpu::Kernel& kernel : kernels) {
    if (kernel.name == name) return kernel;
    names += (names.empty() ? "" : ", ") + std::string(kernel.name);
  }
  throw UsageError("kernel " + std::string(name) + " has no CUDA twin in gpu/ (those that have one: " + names + ")");
}

void RequireTaken(const gpu::Kernel& kernel, const Attention& a) {
  if (const std::string why = kernel.Refusal(a, {}); !why.empty()) {
    throw UsageError("CUDA kernel " + std::string(kernel.name) + ": " + why);
  }
}

int64_t PartKeysOf(const Attention& a, const sim::Tiling& t) {
  return std::max(t.Bc, sim::KeysPerPart(a, t));  // a part has a tile even where there are no keys
}

DevicePlan PlanDevice(const gpu::Kernel& kernel, const sim::Kernel& twin, const Attention& a, const data::Gpu& gpu,
                      const sim::TilingChoice& choice) {
  RequireTaken(kernel, a);
  const std::string name(kernel.name);
  const gpu::Tile tile = kernel.TileOf(a);
  sim::TilingChoice built = choice;
  const auto require = [&](std::optional<int64_t>& chosen, int64_t value, const char* what) {
    if (chosen && *chosen != value) {
      throw UsageError(std::string(what) + " is " + std::to_string(*chosen) + ": the CUDA kernel " + name +
                       " is built for " + ToString(tile) + " at head_dim " + std::to_string(a.head_dim));
    }
    chosen = value;
  };
  require(built.Br, tile.Br, "Br");
  require(built.Bc, tile.Bc, "Bc");
  require(built.warps, tile.warps, "warps");
  require(built.stages, tile.stages, "stages");
  if (choice.pack_gqa) {
    throw UsageError("packed query heads are a choice of the simulated kernels only: the CUDA kernel " + name +
                     " decides by itself which heads share a tile, which changes no bit");
  }

  DevicePlan plan{.kernel = &kernel, .attention = a, .tiling = sim::ResolveTiling(twin, a, gpu, built)};
  plan.options.fp32_scores = plan.tiling.fp32_scores;
  plan.options.page_size = plan.tiling.page_size;
  if (twin.splits_keys) plan.options.chunk = PartKeysOf(a, plan.tiling);
  if (const std::string why = kernel.Refusal(a, plan.options); !why.empty()) {
    throw UsageError("CUDA kernel " + name + ": " + why);
  }
  return plan;
}

void RequireRaggedTaken(const gpu::Kernel& kernel, const Attention& a, const std::vector<int64_t>& queries) {
  if (kernel.packs_sequences) return;
  const bool of_one_length = std::ranges::all_of(queries, [&](int64_t rows) { return rows == a.seqlen_q; });
  if (kernel.takes_key_lengths && of_one_length) return;
  throw UsageError("CUDA kernel " + std::string(kernel.name) +
                   ": sequences of several lengths are taken by fa3, and where only their keys differ by split-kv");
}

void SetLengths(DevicePlan& plan, const std::vector<int64_t>& queries, const std::vector<int64_t>& keys) {
  const Attention& a = plan.attention;
  RequireRaggedTaken(*plan.kernel, a, queries);
  plan.keys = keys.empty() ? std::vector<int64_t>(static_cast<size_t>(a.batch), a.seqlen_k) : keys;
  if (plan.kernel->packs_sequences) {
    plan.queries = queries.empty() ? std::vector<int64_t>(static_cast<size_t>(a.batch), a.seqlen_q) : queries;
  } else {
    // Parts of so many keys in every sequence, however long: equal parts of each would be others.
    plan.tiling.part_keys = plan.options.chunk;
    plan.tiling.splits = 1;
  }
}

Tensor Pack(const Tensor& padded, const std::vector<int64_t>& lengths) {
  const int64_t heads = padded.shape()[1], columns = padded.shape()[3];
  Tensor packed =
      Tensor::Zeros(padded.type(), {std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), heads, columns});
  const data::Buffer to = packed.ContiguousBytes(), from = padded.ContiguousBytes();
  const int64_t bytes = columns * padded.type().bytes();
  EachPackedRow(lengths, heads, padded.shape()[2], [&](int64_t in_padded, int64_t in_packed) {
    std::memcpy(to.data() + in_packed * bytes, from.data() + in_padded * bytes, static_cast<size_t>(bytes));
  });
  return packed;
}

Tensor Unpack(const Tensor& packed, const std::vector<int64_t>& lengths, int64_t rows) {
  const int64_t heads = packed.shape()[1], columns = packed.shape()[2];
  Tensor padded = Tensor::Zeros(packed.type(), {static_cast<int64_t>(lengths.size()), heads, rows, columns});
  const data::Buffer to = padded.ContiguousBytes(), from = packed.ContiguousBytes();
  const int64_t bytes = columns * packed.type().bytes();
  EachPackedRow(lengths, heads, rows, [&](int64_t in_padded, int64_t in_packed) {
    std::memcpy(to.data() + in_padded * bytes, from.data() + in_packed * bytes, static_cast<size_t>(bytes));
  });
  return padded;
}

Tensor PoisonPadding(const Tensor& padded, const std::vector<int64_t>& lengths) {
  Tensor poisoned = Tensor::Zeros(padded.type(), padded.shape());
  const data::Buffer to = poisoned.ContiguousBytes(), from = padded.ContiguousBytes();
  if (to.bytes() == 0) return poisoned;
  std::memcpy(to.data(), from.data(), to.bytes());
  const int64_t heads = padded.shape()[1], rows = padded.shape()[2];
  const int64_t row_bytes = padded.shape()[3] * padded.type().bytes();
  for (int64_t n = 0; n < padded.shape()[0] * heads; ++n) {
    const int64_t own = lengths[static_cast<size_t>(n / heads)];
    std::memset(to.data() + (n * rows + own) * row_bytes, 0xFF, static_cast<size_t>((rows - own) * row_bytes));
  }
  return poisoned;
}

PagedCache Paginate(const Attention& a, const KernelInputs& inputs, int64_t page_size,
                    const std::vector<int64_t>& lengths_or_none) {
  PagedCache cache;
  const std::vector<int64_t> lengths =
      lengths_or_none.empty() ? std::vector<int64_t>(static_cast<size_t>(a.batch), a.seqlen_k) : lengths_or_none;
  gpu::BlockTable table = gpu::ScatterPages(lengths, a.seqlen_k, page_size);
  const int64_t pages = table.pool;
  cache.pages_per_sequence = table.pages_per_sequence;
  cache.block_table = std::move(table.pages);
  const auto scatter = [&](const Tensor& from, int64_t head_dim) {
    Tensor to = Tensor::Zeros(a.format, {pages, a.heads_kv, page_size, head_dim});
    const data::Buffer target = to.ContiguousBytes(), source = from.ContiguousBytes();
    if (target.bytes() == 0) return to;
    std::memset(target.data(), 0xFF, target.bytes());
    const int64_t row_bytes = head_dim * data::StorageBytes(a.format);
    for (int64_t n = 0; n < static_cast<int64_t>(cache.block_table.size()); ++n) {
      const int64_t sequence = n / cache.pages_per_sequence, key = n % cache.pages_per_sequence * page_size;
      const int64_t rows = std::min(page_size, lengths[static_cast<size_t>(sequence)] - key);
      if (rows <= 0) continue;
      for (int64_t head = 0; head < a.heads_kv; ++head) {
        const int64_t from_row = (sequence * a.heads_kv + head) * a.seqlen_k + key;
        const int64_t to_row = (cache.block_table[n] * a.heads_kv + head) * page_size;
        std::memcpy(target.data() + to_row * row_bytes, source.data() + from_row * row_bytes, rows * row_bytes);
      }
    }
    return to;
  };
  cache.k = scatter(inputs.k, a.head_dim);
  cache.v = scatter(inputs.v, a.head_dim_v);
  return cache;
}

}  // namespace bitflash::verify
