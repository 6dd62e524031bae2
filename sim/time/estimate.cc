#include "sim/time/estimate.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "sim/ceil_div.h"
#include "sim/operands.h"
#include "sim/runs.h"
#include "sim/splits.h"
#include "sim/time/hbm_bytes.h"

namespace bitflash::sim {
namespace {

// FLOP of a data sheet at its clock; both 8-bit formats alike.
double TensorRate(const Kernel& kernel, const Attention& a, const Tiling& t, const Gpu& gpu) {
  double rate = gpu.tensor_16bit_flops;
  if (data::StorageBytes(a.format) == 1 && gpu.tensor_8bit_flops) rate = *gpu.tensor_8bit_flops;
  if (data::StorageBytes(a.format) == 4) rate /= 2;  // tf32, and fp32 as tf32 instructions
  // Where it loads by TMA, standard attention multiplies with wgmma, which its text does not show.
  const bool wgmma = kernel.mma == MmaInstruction::kWgmma || (kernel.stores_scores ? t.tma : MultipliesByWarpgroup(t));
  return data::HasWgmma(gpu) && !wgmma ? rate * kMmaSyncShareOnSm90 : rate;
}

// Of the shared-memory bytes that eight warps with mma.sync move for 256 x 128 tiles, what wgmma moves: B is read for
// every 64 rows instead of every 32. A written and read, B written and read: 2 x 32 + 16 + 4 x 16 KiB of 2 x 32 + 16 +
// 8 x 16 for 64 columns.
constexpr double kWgmmaShareOfShared = 144.0 / 208;

// What an SM gets from L2 where nobody measured it: 32 bytes a clock, as on an H100 (7.5 TB/s over 132 SMs).
double L2Rate(const Gpu& gpu) {
  return gpu.l2_read_bytes_per_second.value_or(32 * static_cast<double>(gpu.sms) * gpu.clock_mhz * 1e6);
}

// Where nobody measured it: the share of the data sheet's bandwidth that reads attain on an H100, 3.105 of 3.352 TB/s.
double HbmRate(const Gpu& gpu) { return gpu.hbm_read_bytes_per_second.value_or(0.926 * gpu.hbm_bytes_per_second); }

double Bytes(const Traffic& traffic) { return static_cast<double>(traffic.read + traffic.write); }

int64_t BlocksPerSm(const Calibration& c, const Attention& a, const Tiling& t, const LaunchCount& launch) {
  // Each block of split_kv_decode asks for so much shared memory that no more fit (gpu/split_kv_hopper.cu).
  if (c.tma && MultipliesByWarpgroup(t)) return a.head_dim <= 128 ? 2 : 1;
  if (c.tma) return t.page_size > 0 ? 4 : a.head_dim <= 128 ? 2 : 3;
  int64_t most = std::max<int64_t>(1, launch.occupancy.blocks_per_sm);
  const int64_t own = t.fp32_scores && c.blocks_per_sm_fp32_scores > 0 ? c.blocks_per_sm_fp32_scores : c.blocks_per_sm;
  if (own > 0) most = std::min(most, own);
  if (c.kib_in_flight > 0) {
    const int64_t ring = t.stages * t.Bc * (a.head_dim + a.head_dim_v) * data::StorageBytes(a.format);
    most = std::min(most, std::max<int64_t>(1, c.kib_in_flight * 1024 / ring));
  }
  return most;
}

// Tiles of Q with fewer rows than Br: the rest comes from L2 all the same (the counters between L2 and the SMs have
// it), and where few rows of few heads are in flight, all SMs ask for the same lines. Of a tile, in slices of 64
// columns that wait for lines which everybody wants.
double CrowdedSlices(const Attention& a, const Tiling& t, const Gpu& gpu, const LaunchWork& work) {
  constexpr double kLines = 4;  // rows in flight that halve the wait
  const auto rows = static_cast<double>(std::min(QueryRows(a, t), t.Br));
  const double tiles_per_head = static_cast<double>(work.tiles()) / static_cast<double>(Heads(a, t));
  const double in_flight = rows * std::max(1.0, static_cast<double>(gpu.sms) / std::max(1.0, tiles_per_head));
  return static_cast<double>(CeilDiv(a.head_dim, 64) - 1) * (1 - rows / static_cast<double>(t.Br)) /
         (1 + in_flight / kLines);
}

// Units this close to the slowest are as good a name for what limits.
constexpr double kClose = 0.95;

Limit SlowestUnit(const std::array<double, kLimitCount>& part) {
  const double most = *std::max_element(part.begin(), part.begin() + kUnitCount);
  const auto first = std::find_if(part.begin(), part.end(), [&](double seconds) { return seconds >= kClose * most; });
  return static_cast<Limit>(first - part.begin());
}

Limit Bottleneck(const std::array<double, kLimitCount>& part) {
  Limit most = SlowestUnit(part);
  for (const Limit limit : {Limit::kStalls, Limit::kIdleSms, Limit::kLaunch}) {
    if (part[static_cast<size_t>(limit)] > part[static_cast<size_t>(most)]) most = limit;
  }
  return most;
}

}  // namespace

std::string_view Name(Limit limit) {
  constexpr std::array<std::string_view, kLimitCount> kNames = {"tensor", "special", "fp32",     "shared", "l2",
                                                                "hbm",    "stalls",  "idle_sms", "launch"};
  return kNames[static_cast<size_t>(limit)];
}

std::string_view Title(Limit limit) {
  constexpr std::array<std::string_view, kLimitCount> kTitles = {
      "tensor cores", "special functions", "CUDA cores", "shared memory", "L2", "HBM", "stalls", "idle SMs", "launch"};
  return kTitles[static_cast<size_t>(limit)];
}

Limit LaunchTime::slowest_unit() const { return SlowestUnit(part); }

LaunchModel ModelOf(const Calibration& c, const Kernel& kernel, const Attention& a, const Tiling& t, const Gpu& gpu,
                    const LaunchCount& launch, const Traffic& hbm, LaunchWork work) {
  const Ledger& ledger = launch.ledger;
  LaunchModel model{std::move(work), {}, &c, {}, gpu.clock_mhz * 1e6, hbm};
  const auto sms = static_cast<double>(gpu.sms);
  const double sm_clocks = sms * model.clock_hz;  // of all SMs a second
  const Traffic l2 = Sum(ledger.l2_to_sm);
  auto& unit = model.unit_seconds;
  unit[0] = static_cast<double>(ledger.matrix_flops) / TensorRate(kernel, a, t, gpu);
  unit[1] = static_cast<double>(ledger.special_ops) / (gpu.mufu_per_clock_sm * sm_clocks);
  unit[2] = static_cast<double>(ledger.fp32_ops) / (gpu.fp32_flops / 2);
  const bool unseen_wgmma = t.tma && kernel.stores_scores;  // as in TensorRate
  unit[3] = (unseen_wgmma ? kWgmmaShareOfShared : 1) * Bytes(Sum(ledger.shared)) /
            (gpu.shared_bytes_per_clock_sm * sm_clocks);
  unit[4] = Bytes(l2) / (c.l2_share * L2Rate(gpu));
  unit[5] = Bytes(hbm) / (c.hbm_share * HbmRate(gpu));

  // Everything per tile, in clocks of an SM.
  const auto tiles = static_cast<double>(std::max<int64_t>(1, model.work.tiles()));
  const double per_tile = sm_clocks / tiles;
  const double visible = c.tensor * unit[0] + c.special * unit[1] + c.fp32 * unit[2] + c.shared * unit[3];
  const double busy = per_tile * std::max({visible, unit[0], unit[1], unit[2], unit[3]});
  const auto width = [&](int64_t columns) { return std::has_single_bit(static_cast<uint64_t>(columns)); };
  const double copy = c.copy_cycles_per_kib +
                      (width(a.head_dim) && width(a.head_dim_v) ? 0 : c.odd_row_cycles_per_kib) +
                      (t.page_size > 0 ? c.page_cycles_per_kib : 0);
  const bool walks = c.walked_row_cycles > 0 && a.mask.kind != data::Mask::Kind::kFull;
  // Every block passes all rows on its way from its first tile to its last.
  const double walked_rows =
      walks ? std::min(sms, tiles) * static_cast<double>(QueryTileCount(a, t) * Heads(a, t)) / tiles : 0;
  const double stall = c.stall_cycles + c.walked_row_cycles * walked_rows + (t.stages == 1 ? c.one_stage_cycles : 0) +
                       copy * static_cast<double>(l2.read) / 1024 / tiles +
                       (t.page_size > 0 ? c.page_cycles * static_cast<double>(CeilDiv(t.Bc, t.page_size)) : 0) +
                       (std::max(a.head_dim, a.head_dim_v) > 192 ? c.wide_cycles : 0) +
                       (c.crowded_cycles > 0 ? c.crowded_cycles * CrowdedSlices(a, t, gpu, model.work) : 0) +
                       c.part_cycles * static_cast<double>(SplitParts(a, t));
  // An SM has four schedulers, each with a quarter of every unit. Blocks of fewer warps leave some without work until
  // others have come; only then do blocks hide one another's stalls.
  const double fill = std::max(1.0, 4 * 32.0 / static_cast<double>(std::max<int64_t>(32, launch.resources.threads)));
  const int64_t slots = BlocksPerSm(c, a, t, launch);
  for (int64_t blocks = 1; blocks <= slots; ++blocks) {
    const auto r = static_cast<double>(blocks);
    model.sm.tile_cycles.push_back(busy * std::max(1.0, fill / r) +
                                   stall / std::min(r, fill) / std::pow(std::max(1.0, r / fill), c.hiding));
  }
  model.sm.sms = gpu.sms;
  model.sm.block_tiles = c.block_cycles / std::max(1.0, busy + stall);
  model.sm.masked_tiles = c.masked_tile;
  // The launch's bytes, over everything that is charged.
  const double units = tiles + model.sm.masked_tiles * static_cast<double>(model.work.masked_tiles()) +
                       model.sm.block_tiles * static_cast<double>(model.work.blocks());
  model.sm.l2_cycles = unit[4] * model.clock_hz / units;
  model.sm.hbm_cycles = unit[5] * model.clock_hz / units;
  return model;
}

std::vector<LaunchModel> ModelsOf(const Kernel& kernel, const Attention& a, const Tiling& t, const Gpu& gpu,
                                  const Count& count, const l2::Rereads* rereads) {
  std::vector<LaunchModel> models;
  std::vector<LaunchWork> works = WorkOf(kernel, a, t);
  const std::vector<Traffic> hbm = HbmWhileRunning(kernel, a, t, gpu, count, rereads);
  for (size_t n = 0; n < works.size(); ++n) {
    const LaunchCount& launch = count.launches.at(n);
    models.push_back(ModelOf(CalibrationOf(kernel.name, launch.name, LoadsByTma(launch.name, t)), kernel, a, t, gpu,
                             launch, hbm.at(n), std::move(works[n])));
  }
  return models;
}

LaunchTime TimeOf(const LaunchModel& model) {
  const Schedule schedule = Simulate(model.work, model.sm);
  const double running = schedule.cycles / model.clock_hz, full = schedule.full / model.clock_hz;
  LaunchTime time;
  std::ranges::copy(model.unit_seconds, time.part.begin());
  const double slowest = *std::ranges::max_element(model.unit_seconds);
  const double launch = model.work.blocks() == 0 ? 0 : model.calibration->fixed_us * 1e-6;
  time.seconds = launch + std::max(running, slowest);
  time.part[static_cast<size_t>(Limit::kLaunch)] = launch;
  time.part[static_cast<size_t>(Limit::kIdleSms)] = std::max(0.0, time.seconds - launch - std::max(full, slowest));
  time.part[static_cast<size_t>(Limit::kStalls)] =
      std::max(0.0, time.seconds - launch - slowest - time.of(Limit::kIdleSms));
  time.bottleneck = Bottleneck(time.part);
  return time;
}

TimeEstimate EstimateTime(const Kernel& kernel, const Attention& a, const Tiling& t, const Gpu& gpu, const Count& count,
                          const l2::Rereads* rereads) {
  TimeEstimate estimate;
  estimate.calibrated = data::HasWgmma(gpu);
  std::array<double, kLimitCount> total{};
  for (const LaunchModel& model : ModelsOf(kernel, a, t, gpu, count, rereads)) {
    const LaunchTime& launch = estimate.launches.emplace_back(TimeOf(model));
    estimate.seconds += launch.seconds;
    for (int n = 0; n < kLimitCount; ++n) total[static_cast<size_t>(n)] += launch.part[static_cast<size_t>(n)];
    estimate.calibrated &= model.calibration->kernel == kernel.name && !model.calibration->fitted_to.empty();
  }
  estimate.bottleneck = Bottleneck(total);
  return estimate;
}

}  // namespace bitflash::sim
