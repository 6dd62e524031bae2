// The C interface: counting.
#include <memory>
#include <string>
#include <vector>

#include "data/error.h"
#include "sim/count.h"
#include "verify/c_api/c_api_arguments.h"
#include "verify/c_api/c_api_guard.h"

using bitflash::data::UsageError;
using bitflash::sim::At;
using bitflash::sim::Ledger;
using bitflash::sim::PerTensor;
using bitflash::sim::TensorId;
using bitflash::verify::Guarded;
using bitflash::verify::KernelChoice;
using bitflash::verify::RequireNotNull;
using bitflash::verify::RequireWritable;
using bitflash::verify::WriteStruct;

namespace {

struct Level {
  const char* name;
  PerTensor Ledger::*bytes;
};
constexpr Level kLevels[] = {{"hbm_compulsory", &Ledger::hbm_compulsory},
                             {"l2_to_sm", &Ledger::l2_to_sm},
                             {"shared", &Ledger::shared},
                             {"register", &Ledger::registers}};

struct Entry {
  std::string tensor;
  const char* level;
  bitflash::sim::Traffic bytes;
};

std::vector<Entry> Entries(const Ledger& ledger) {
  std::vector<Entry> entries;
  for (int t = 0; t < bitflash::sim::kTensorCount; ++t) {
    const auto tensor = static_cast<TensorId>(t);
    for (const Level& level : kLevels) {
      const bitflash::sim::Traffic& bytes = At(ledger.*level.bytes, tensor);
      if (bytes != bitflash::sim::Traffic{}) entries.push_back({std::string(Name(tensor)), level.name, bytes});
    }
  }
  return entries;
}

// `index` below `size`, or UsageError.
size_t CheckedIndex(const char* name, int64_t index, size_t size) {
  if (index >= 0 && index < static_cast<int64_t>(size)) return static_cast<size_t>(index);
  throw UsageError(std::string(name) + " is " + std::to_string(index) + ": expected 0 or more, below " +
                   std::to_string(size));
}

}  // namespace

struct bitflash_count {
  std::string kernel, gpu;  // names with a NUL behind them
  bitflash::sim::Tiling tiling;
  bitflash::sim::Count count;
  std::vector<std::vector<Entry>> entries;  // of each launch; last: of all

  size_t LaunchOrAll(int64_t launch) const {
    if (launch == BITFLASH_ALL_LAUNCHES) return count.launches.size();
    return CheckedIndex("launch (-1: all)", launch, count.launches.size());
  }
  const Ledger& LedgerOf(int64_t launch) const {
    const size_t n = LaunchOrAll(launch);
    return n < count.launches.size() ? count.launches[n].ledger : count.total;
  }
};

extern "C" {

bitflash_status bitflash_count_create(const bitflash_problem* problem, const bitflash_kernel* kernel,
                                      bitflash_count** count) {
  return Guarded([&] {
    RequireNotNull(count, "count", "where to put the handle");
    *count = nullptr;
    const bitflash::data::Attention attention = bitflash::verify::AttentionOf(problem);
    const KernelChoice choice = bitflash::verify::KernelOf(kernel, attention);
    auto result = std::make_unique<bitflash_count>();
    result->kernel = choice.kernel.name;
    result->gpu = choice.gpu_name;
    result->tiling = choice.tiling;
    result->count = bitflash::sim::CountKernel(choice.kernel, attention, choice.tiling, choice.gpu);
    for (const auto& launch : result->count.launches) result->entries.push_back(Entries(launch.ledger));
    result->entries.push_back(Entries(result->count.total));
    *count = result.release();
  });
}

void bitflash_count_destroy(bitflash_count* count) { delete count; }

bitflash_status bitflash_count_kernel(const bitflash_count* count, bitflash_kernel* kernel) {
  return Guarded([&] {
    RequireNotNull(count, "count", "a handle of bitflash_count_create");
    RequireWritable(kernel, "kernel");
    const bitflash::sim::Tiling& t = count->tiling;
    bitflash_kernel k{};
    k.name = count->kernel.c_str();
    k.gpu = count->gpu.c_str();
    k.Br = t.Br;
    k.Bc = t.Bc;
    k.warps = t.warps;
    k.stages = t.stages;
    k.splits = t.splits;
    k.part_keys = t.part_keys;
    k.page_size = t.page_size;
    k.pack_gqa = t.pack_gqa ? 1 : -1;
    k.fp32_scores = t.fp32_scores ? 1 : -1;
    WriteStruct(kernel, k);
  });
}

bitflash_status bitflash_count_launches(const bitflash_count* count, int64_t* launches) {
  return Guarded([&] {
    RequireNotNull(count, "count", "a handle of bitflash_count_create");
    RequireNotNull(launches, "launches", "where to put the number");
    *launches = static_cast<int64_t>(count->count.launches.size());
  });
}

bitflash_status bitflash_count_launch(const bitflash_count* count, int64_t index, bitflash_launch* launch) {
  return Guarded([&] {
    RequireNotNull(count, "count", "a handle of bitflash_count_create");
    RequireWritable(launch, "launch");
    const auto& l = count->count.launches[CheckedIndex("index", index, count->count.launches.size())];
    bitflash_launch out{};
    out.name = l.name.c_str();
    out.grid_x = l.grid.x;
    out.grid_y = l.grid.y;
    out.grid_z = l.grid.z;
    out.threads_per_block = l.resources.threads;
    out.registers_per_thread = l.resources.registers_per_thread;
    out.shared_bytes_per_block = l.resources.shared_bytes;
    out.blocks_per_sm = l.occupancy.blocks_per_sm;
    out.occupancy_limit = l.occupancy.limit.c_str();
    out.waves = l.waves;
    WriteStruct(launch, out);
  });
}

bitflash_status bitflash_count_totals(const bitflash_count* count, int64_t launch, bitflash_totals* totals) {
  return Guarded([&] {
    RequireNotNull(count, "count", "a handle of bitflash_count_create");
    RequireWritable(totals, "totals");
    const Ledger& ledger = count->LedgerOf(launch);
    const auto hbm = Sum(ledger.hbm_compulsory), l2 = Sum(ledger.l2_to_sm), shared = Sum(ledger.shared);
    bitflash_totals out{};
    out.hbm_compulsory_read = hbm.read;
    out.hbm_compulsory_write = hbm.write;
    out.l2_to_sm_read = l2.read;
    out.l2_to_sm_write = l2.write;
    out.shared_read = shared.read;
    out.shared_write = shared.write;
    out.register_read = Sum(ledger.registers).read;
    out.matrix_flops = ledger.matrix_flops;
    out.special_ops = ledger.special_ops;
    out.fp32_ops = ledger.fp32_ops;
    WriteStruct(totals, out);
  });
}

bitflash_status bitflash_count_entries(const bitflash_count* count, int64_t launch, int64_t* entries) {
  return Guarded([&] {
    RequireNotNull(count, "count", "a handle of bitflash_count_create");
    RequireNotNull(entries, "entries", "where to put the number");
    *entries = static_cast<int64_t>(count->entries[count->LaunchOrAll(launch)].size());
  });
}

bitflash_status bitflash_count_entry(const bitflash_count* count, int64_t launch, int64_t index,
                                     bitflash_traffic* traffic) {
  return Guarded([&] {
    RequireNotNull(count, "count", "a handle of bitflash_count_create");
    RequireWritable(traffic, "traffic");
    const std::vector<Entry>& entries = count->entries[count->LaunchOrAll(launch)];
    const Entry& entry = entries[CheckedIndex("index", index, entries.size())];
    bitflash_traffic out{};
    out.tensor = entry.tensor.c_str();
    out.level = entry.level;
    out.read = entry.bytes.read;
    out.write = entry.bytes.write;
    WriteStruct(traffic, out);
  });
}

}  // extern "C"
