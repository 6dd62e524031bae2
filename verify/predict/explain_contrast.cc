#include "verify/predict/explain_contrast.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "data/error.h"
#include "sim/count_stream.h"
#include "sim/l2/predict.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Gpu;
using sim::TensorId;

// Halves the key tile, then the query tile, until the block fits: fewer keys a tile cost no traffic, fewer query rows
// do. Empty when not even 16 x 16, the smallest tile of the matrix instructions, fits.
std::optional<KernelChoice> FirstFeasible(const sim::Kernel& kernel, const Attention& attention, const Gpu& gpu) {
  KernelChoice choice{&kernel, kernel.DefaultTiling(attention, gpu), false};
  while (!sim::Infeasible(kernel, attention, choice.tiling, gpu).empty()) {
    sim::Tiling& t = choice.tiling;
    if (t.Bc > 16) {
      t.Bc = std::max<int64_t>(16, t.Bc / 32 * 16);
    } else if (t.Br > 16) {
      t.Br = std::max<int64_t>(16, t.Br / 32 * 16);
      t.warps = std::min(t.warps, t.Br / 16);
    } else {
      return std::nullopt;
    }
    choice.reduced = true;
  }
  return choice;
}

// Padded rows and masked positions are work that another tile would not have, so a floor leaves them out: the launches
// share `useful_flops` in the proportion of what they execute. `hbm_bytes` are of each launch.
Floors FloorsOf(const sim::Count& count, const std::vector<int64_t>& hbm_bytes, const Gpu& gpu, double useful_flops,
                double tensor_flops) {
  Floors floors;
  const double useful = useful_flops / std::max(1.0, static_cast<double>(count.total.matrix_flops));
  int64_t requested_read = 0;
  const double special_per_second = gpu.mufu_per_clock_sm * static_cast<double>(gpu.sms) * gpu.clock_mhz * 1e6;
  for (size_t n = 0; n < count.launches.size(); ++n) {
    const sim::LaunchCount& launch = count.launches[n];
    const double hbm = static_cast<double>(hbm_bytes[n]) / gpu.hbm_bytes_per_second;
    const double tensor = useful * static_cast<double>(launch.ledger.matrix_flops) / tensor_flops;
    const double special = static_cast<double>(launch.ledger.special_ops) / special_per_second;
    floors.hbm += hbm;
    floors.tensor += tensor;
    floors.special += special;
    floors.total += std::max({hbm, tensor, special});
    requested_read += sim::Sum(launch.ledger.l2_to_sm).read;
  }
  if (gpu.l2_read_bytes_per_second) floors.l2 = static_cast<double>(requested_read) / *gpu.l2_read_bytes_per_second;
  return floors;
}

Bottleneck LargestOf(const Floors& floors) {
  if (floors.hbm >= floors.tensor && floors.hbm >= floors.special) return Bottleneck::kHbm;
  return floors.tensor >= floors.special ? Bottleneck::kTensor : Bottleneck::kSpecial;
}

double Ratio(double a, double b) { return b > 0 ? a / b : 1; }

// Sum over n rows of clamp(first + i, 0, cap): how many keys lie before a border that moves one key a row.
int64_t SumClamped(int64_t first, int64_t n, int64_t cap) {
  const int64_t zero_rows = std::clamp<int64_t>(-first, 0, n);
  const int64_t capped_from = std::clamp<int64_t>(cap - first, zero_rows, n);
  const int64_t rising = capped_from - zero_rows;
  const int64_t start = first + zero_rows;
  return rising * start + rising * (rising - 1) / 2 + (n - capped_from) * cap;
}

}  // namespace

int64_t VisiblePairs(const Attention& a) {
  const int64_t offset = a.mask.kind == data::Mask::Kind::kCausalTopLeft ? 0 : a.seqlen_k - a.seqlen_q;
  int64_t left = data::Mask::kUnlimited;
  int64_t right = data::Mask::kUnlimited;
  switch (a.mask.kind) {
    case data::Mask::Kind::kFull:
      break;
    case data::Mask::Kind::kCausal:
    case data::Mask::Kind::kCausalTopLeft:
      right = 0;
      break;
    case data::Mask::Kind::kWindow:
      left = a.mask.left, right = a.mask.right;
      break;
  }
  const int64_t before_end = right == data::Mask::kUnlimited ? a.seqlen_q * a.seqlen_k
                                                             : SumClamped(offset + right + 1, a.seqlen_q, a.seqlen_k);
  const int64_t before_begin = left == data::Mask::kUnlimited ? 0 : SumClamped(offset - left, a.seqlen_q, a.seqlen_k);
  return before_end - before_begin;
}

int64_t UsefulFlops(const Attention& a) {
  return 2 * (a.head_dim + a.head_dim_v) * VisiblePairs(a) * a.batch * a.heads_q;
}

double TensorPeak(const Gpu& gpu, data::Format format) {
  if (data::StorageBytes(format) == 1 && gpu.tensor_8bit_flops) return *gpu.tensor_8bit_flops;
  return gpu.tensor_16bit_flops;
}

int64_t UsableL2(const Gpu& gpu) { return gpu.l2_bytes_effective.value_or(gpu.l2_bytes); }

Anyway CountAnyway(const KernelChoice& choice, const Attention& attention) {
  sim::CountStream stream;
  choice.kernel->Run(stream, attention, choice.tiling, choice.kernel->recipe);
  Anyway result;
  const auto main =
      std::max_element(stream.launched().begin(), stream.launched().end(),
                       [](const auto& a, const auto& b) { return a.ledger.matrix_flops < b.ledger.matrix_flops; });
  result.resources = main->resources;
  result.blocks = main->grid.blocks();
  for (const sim::CountStream::Launched& launch : stream.launched()) result.total += launch.ledger;
  return result;
}

Attention AtLength(const Attention& attention, data::Phase phase, int64_t seqlen) {
  Attention a = attention;
  a.seqlen_k = seqlen;
  a.seqlen_q = phase == data::Phase::kPrefill ? seqlen : 1;
  // One query of a top-left causal mask would see one key; a decoding token sees the whole cache.
  if (phase == data::Phase::kDecode && a.mask.kind == data::Mask::Kind::kCausalTopLeft) a.mask = data::Mask::Causal();
  return a;
}

KernelChoice ChooseFlash(const Attention& attention, const Gpu& gpu) {
  std::vector<std::string_view> names;
  if (attention.seqlen_q == 1) names.push_back("split-kv");
  if (data::HasWgmma(gpu)) names.push_back("fa3");
  names.push_back("fa2");
  names.push_back("fa1");
  std::string why;
  for (const std::string_view name : names) {
    const sim::Kernel& kernel = sim::FindKernel(name);
    if (const auto choice = FirstFeasible(kernel, attention, gpu)) return *choice;
    why = sim::Infeasible(kernel, attention, kernel.DefaultTiling(attention, gpu), gpu);
  }
  throw data::UsageError("no FlashAttention kernel of the list takes " + data::ToString(attention) + " on " + gpu.name +
                         ": " + why);
}

KernelChoice ChooseStandard(const Attention& attention, const Gpu& gpu, bool fp32_scores) {
  const sim::Kernel& kernel = sim::FindKernel("standard");
  auto choice = FirstFeasible(kernel, attention, gpu);
  if (!choice) {
    throw data::UsageError("the standard kernels do not take " + data::ToString(attention) + " on " + gpu.name + ": " +
                           sim::Infeasible(kernel, attention, kernel.DefaultTiling(attention, gpu), gpu));
  }
  sim::Tiling& t = choice->tiling;
  // No library multiplies a single query with a 128-row tile: taller tiles than the problem would charge the baseline
  // with padding that it does not have.
  t.Br = std::min(t.Br, (attention.seqlen_q + 15) / 16 * 16);
  t.warps = std::min(t.warps, t.Br / 16);
  t.fp32_scores = fp32_scores;
  return *choice;
}

KernelCost CountCost(const KernelChoice& choice, const Attention& attention, const Gpu& gpu) {
  KernelCost side;
  side.kernel = choice.kernel->name;
  side.title = choice.kernel->title;
  side.tiling = choice.tiling;
  side.count = sim::CountKernel(*choice.kernel, attention, choice.tiling, gpu);
  const auto& launches = side.count.launches;
  const auto main = std::max_element(launches.begin(), launches.end(), [](const auto& a, const auto& b) {
    return a.ledger.matrix_flops < b.ledger.matrix_flops;
  });
  side.main_launch = static_cast<size_t>(main - launches.begin());
  side.blocks = std::llround(main->waves * static_cast<double>(gpu.sms * main->occupancy.blocks_per_sm));
  const sim::Ledger& total = side.count.total;
  for (int i = 0; i < sim::kTensorCount; ++i) {
    const sim::Traffic traffic = total.hbm_compulsory[i];
    const int64_t bytes = traffic.read + traffic.write;
    side.hbm.compulsory += bytes;
    switch (static_cast<TensorId>(i)) {
      case TensorId::kQ:
      case TensorId::kK:
      case TensorId::kV:
      case TensorId::kO:
        side.operand_bytes += bytes;
        break;
      case TensorId::kS:
      case TensorId::kP:
        side.score_bytes += bytes;
        side.stored_bytes += traffic.write;
        break;
      case TensorId::kLse:
        side.lse_bytes += bytes;
        break;
      default:
        side.other_bytes += bytes;
    }
  }
  const auto useful = static_cast<double>(UsefulFlops(attention));
  const sim::Traffic requested = sim::Sum(total.l2_to_sm);
  side.hbm.requested = requested.read + requested.write;
  std::vector<int64_t> compulsory;
  for (const sim::LaunchCount& launch : launches) {
    const sim::Traffic bytes = sim::Sum(launch.ledger.hbm_compulsory);
    compulsory.push_back(bytes.read + bytes.write);
  }
  side.floors = FloorsOf(side.count, compulsory, gpu, useful, TensorPeak(gpu, attention.format));
  side.intensity = Ratio(useful, static_cast<double>(side.hbm.compulsory));
  side.bottleneck = LargestOf(side.floors);
  return side;
}

Contrast CountContrast(const Attention& attention, const Gpu& gpu, bool fp32_scores) {
  Contrast result;
  result.attention = attention;
  result.standard = CountCost(ChooseStandard(attention, gpu, fp32_scores), attention, gpu);
  result.flash = CountCost(ChooseFlash(attention, gpu), attention, gpu);
  // After the counts, which refuse a problem whose operations do not fit 63 bits.
  result.visible_pairs = VisiblePairs(attention);
  result.useful_flops = UsefulFlops(attention);
  return result;
}

void PredictHbm(KernelCost& cost, const Attention& attention, const Gpu& gpu, int64_t most_replayed) {
  sim::l2::PredictOptions options;
  const sim::Kernel& kernel = sim::FindKernel(cost.kernel);
  if (sim::l2::ExactCost(cost.count) > most_replayed) {
    options.mode = sim::l2::Mode::kClosedForm;
    options.rereads = &cost.rereads.emplace(sim::l2::RereadsOf(kernel, attention, cost.tiling, gpu, cost.count));
  }
  const sim::l2::Predicted prediction = Predict(kernel, attention, cost.tiling, gpu, cost.count, options);
  const sim::l2::Prediction& total = prediction.total;
  const auto& compulsory = cost.count.total.hbm_compulsory;
  const int64_t output = At(compulsory, TensorId::kO).write + At(compulsory, TensorId::kLse).write;
  const int64_t left = std::min(total.dirty_at_end.value, output);
  const int64_t written = total.dram_write.value - total.earlier_write + left;
  cost.hbm.predicted = total.dram_read.value + written;
  cost.hbm.predicted_low = total.dram_read.low + written;
  cost.hbm.predicted_high = total.dram_read.high + written;
  cost.hbm.predicted_read = total.dram_read.value;
  cost.hbm.overhead = gpu.launch_dram_bytes.value_or(0) * static_cast<int64_t>(cost.count.launches.size());
  cost.hbm.near_capacity = total.in_knee();

  std::vector<int64_t> bytes;
  for (const sim::l2::Prediction& launch : prediction.launches) {
    bytes.push_back(launch.dram_read.value + launch.dram_write.value - launch.earlier_write);
  }
  bytes.back() += left;
  cost.floors =
      FloorsOf(cost.count, bytes, gpu, static_cast<double>(UsefulFlops(attention)), TensorPeak(gpu, attention.format));
  cost.bottleneck = LargestOf(cost.floors);
}

void PredictHbm(Contrast& contrast, const Gpu& gpu, int64_t most_replayed) {
  for (KernelCost* side : {&contrast.standard, &contrast.flash}) {
    PredictHbm(*side, contrast.attention, gpu, most_replayed);
  }
}

void EstimateTimes(Contrast& contrast, const Gpu& gpu) {
  for (KernelCost* side : {&contrast.standard, &contrast.flash}) {
    side->time = sim::EstimateTime(sim::FindKernel(side->kernel), contrast.attention, side->tiling, gpu, side->count,
                                   side->rereads ? &*side->rereads : nullptr);
  }
}

int64_t Contrast::scores_in_hbm() const {
  if (!standard.hbm.predicted) return standard.score_bytes;
  const int64_t others = standard.hbm.compulsory - standard.score_bytes + standard.hbm.overhead;
  return std::clamp<int64_t>(*standard.hbm.predicted - others, 0, standard.score_bytes);
}

double Contrast::scores_in_hbm_share() const {
  const int64_t bytes = standard.hbm.predicted.value_or(standard.hbm.compulsory);
  return bytes > 0 ? static_cast<double>(scores_in_hbm()) / static_cast<double>(bytes) : 0;
}

bool Contrast::scores_stay_in_l2() const { return 2 * scores_in_hbm() <= standard.score_bytes; }

double Contrast::score_share() const {
  return Ratio(static_cast<double>(standard.score_bytes), static_cast<double>(standard.hbm.compulsory));
}

double Contrast::byte_ratio() const {
  return Ratio(static_cast<double>(standard.hbm.compulsory), static_cast<double>(flash.hbm.compulsory));
}

double Contrast::floor_ratio() const { return Ratio(standard.floors.total, flash.floors.total); }

}  // namespace bitflash::verify
