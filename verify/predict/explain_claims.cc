#include "verify/predict/explain_claims.h"

#include <algorithm>
#include <cmath>

#include "data/error.h"
#include "sim/splits.h"
#include "verify/predict/explain_contrast.h"
#include "verify/predict/explain_on_chip.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using sim::TensorId;

double Number(int64_t value) { return static_cast<double>(value); }

int64_t RequestedRead(const KernelCost& side, TensorId tensor) {
  return sim::At(side.count.total.l2_to_sm, tensor).read;
}
int64_t CompulsoryRead(const KernelCost& side, TensorId tensor) {
  return sim::At(side.count.total.hbm_compulsory, tensor).read;
}

KernelChoice ChoiceOf(const KernelCost& side) { return {&sim::FindKernel(side.kernel), side.tiling, false}; }

// "FlashAttention is faster because it does fewer FLOPs."
Claim FewerFlops(const Explanation& e) {
  const Contrast& c = e.asked();
  Claim claim{"fewer-flops"};
  const int64_t standard = c.standard.count.total.matrix_flops;
  const int64_t flash = c.flash.count.total.matrix_flops;
  claim.numbers = {{"standard_flops", Number(standard)},
                   {"flash_flops", Number(flash)},
                   {"useful_flops", Number(c.useful_flops)},
                   {"standard_fp32_ops", Number(c.standard.count.total.fp32_ops)},
                   {"flash_fp32_ops", Number(c.flash.count.total.fp32_ops)}};
  // A kernel may execute fewer operations on padding and masked positions; 10 % is where that begins to be a reason.
  claim.verdict = Number(flash) < 0.9 * Number(standard) ? ClaimVerdict::kDepends : ClaimVerdict::kRefuted;
  return claim;
}

// "It is just kernel fusion." Fusing the three kernels with an ordinary softmax would need complete rows of S on chip.
Claim OnlyFusion(const Explanation& e) {
  Claim claim{"only-fusion"};
  const int64_t limit = e.input.gpu.shared_bytes_per_block;
  const int64_t row_bytes = e.on_chip.full_row_bytes / std::max<int64_t>(1, e.on_chip.full_row_rows);
  claim.numbers = {{"rows", Number(e.on_chip.full_row_rows)},
                   {"row_bytes", Number(row_bytes)},
                   {"rows_bytes", Number(e.on_chip.full_row_bytes)},
                   {"shared_limit_bytes", Number(limit)},
                   {"longest_row_keys", Number(limit / (4 * std::max<int64_t>(1, e.on_chip.full_row_rows)))}};
  claim.verdict = e.on_chip.full_row_bytes > limit ? ClaimVerdict::kRefuted : ClaimVerdict::kDepends;
  return claim;
}

// "FlashAttention makes memory linear in the sequence length": the footprint yes, the traffic of tiles no.
Claim LinearMemory(const Explanation& e) {
  Claim claim{"linear-memory"};
  const Contrast& c = e.prefill;
  Attention twice = c.attention;
  twice.seqlen_q *= 2;
  twice.seqlen_k *= 2;
  const Contrast d = CountContrast(twice, e.input.gpu, e.input.fp32_scores);
  int64_t row_state_bytes = 0;
  for (const TensorId tensor : {TensorId::kLse, TensorId::kM, TensorId::kL}) {
    row_state_bytes += sim::At(c.flash.count.total.hbm_compulsory, tensor).write;
  }
  const auto reads = [](const Contrast& x) { return Number(sim::Sum(x.flash.count.total.l2_to_sm).read); };
  claim.numbers = {{"standard_stored_bytes", Number(c.standard.stored_bytes)},
                   {"standard_stored_growth", Number(d.standard.stored_bytes) / Number(c.standard.stored_bytes)},
                   {"flash_stored_bytes", Number(row_state_bytes)},
                   {"flash_hbm_growth", Number(d.flash.hbm.compulsory) / Number(c.flash.hbm.compulsory)},
                   {"requested_growth", reads(d) / reads(c)}};
  // 10 % over the factor two that linear growth has.
  claim.verdict = reads(d) / reads(c) > 2.2 ? ClaimVerdict::kDepends : ClaimVerdict::kSupported;
  return claim;
}

// "K and V are read only once."
Claim ReadOnce(const Explanation& e) {
  Claim claim{"kv-read-once"};
  const Contrast& c = e.asked();
  const int64_t requested = RequestedRead(c.flash, TensorId::kK) + RequestedRead(c.flash, TensorId::kV);
  const int64_t once = CompulsoryRead(c.flash, TensorId::kK) + CompulsoryRead(c.flash, TensorId::kV);
  const int64_t head_bytes = once / (c.attention.batch * c.attention.heads_kv);
  claim.numbers = {{"requested_bytes", Number(requested)},
                   {"once_bytes", Number(once)},
                   {"times", once > 0 ? Number(requested) / Number(once) : 1},
                   {"kv_head_bytes", Number(head_bytes)},
                   {"l2_bytes", Number(e.l2_bytes)},
                   {"heads_in_l2", Number(e.l2_bytes / std::max<int64_t>(1, head_bytes))}};
  // All reads from HBM, for the model of the L2 does not tell tensors apart.
  const double all = Number(sim::Sum(c.flash.count.total.hbm_compulsory).read);
  const double from_hbm = std::max(1.0, Number(c.flash.hbm.predicted_read - c.flash.hbm.overhead) / all);
  claim.numbers["hbm_read_times"] = from_hbm;
  const bool once_from_l2 = Number(requested) <= 1.01 * Number(once);
  claim.verdict = once_from_l2      ? ClaimVerdict::kSupported
                  : from_hbm <= 1.1 ? ClaimVerdict::kDepends  // as a tenth elsewhere
                                    : ClaimVerdict::kRefuted;
  return claim;
}

// "Bigger tiles always help": twice the prefill tile, on the side that saves traffic.
Claim BiggerTiles(const Explanation& e) {
  Claim claim{"bigger-tiles"};
  const KernelCost& now = e.prefill.flash;
  const data::Gpu& gpu = e.input.gpu;
  KernelChoice choice = ChoiceOf(now);
  // fa1 streams Q and O past a tile of keys: there the keys of a tile decide the traffic.
  (now.kernel == "fa1" ? choice.tiling.Bc : choice.tiling.Br) *= 2;
  choice.tiling.warps *= 2;  // the same rows a warp, so the same registers a thread
  const bool fits = sim::Infeasible(*choice.kernel, e.prefill.attention, choice.tiling, gpu).empty();
  const Anyway bigger = CountAnyway(choice, e.prefill.attention);
  claim.numbers = {{"Br", Number(now.tiling.Br)},
                   {"Bc", Number(now.tiling.Bc)},
                   {"bigger_Br", Number(choice.tiling.Br)},
                   {"bigger_Bc", Number(choice.tiling.Bc)},
                   {"requested_bytes", Number(sim::Sum(now.count.total.l2_to_sm).read)},
                   {"bigger_requested_bytes", Number(sim::Sum(bigger.total.l2_to_sm).read)},
                   {"fits", fits ? 1.0 : 0.0},
                   {"shared_bytes", Number(bigger.resources.shared_bytes)},
                   {"shared_limit_bytes", Number(gpu.shared_bytes_per_block)},
                   {"registers", Number(bigger.resources.registers_needed)},
                   {"registers_limit", Number(std::min(bigger.resources.registers_limit, gpu.registers_per_thread))},
                   {"threads", Number(bigger.resources.threads)},
                   {"threads_limit", Number(gpu.threads_per_block)},
                   {"blocks_per_sm", Number(now.count.launches[now.main_launch].occupancy.blocks_per_sm)},
                   {"bigger_blocks_per_sm", Number(fits ? sim::Occupy(bigger.resources, gpu).blocks_per_sm : 0)}};
  claim.verdict = fits ? ClaimVerdict::kDepends : ClaimVerdict::kRefuted;
  return claim;
}

// "FlashAttention changes the result": the same function, other roundings.
Claim ChangesResult(const Explanation& e) {
  Claim claim{"changes-result"};
  const data::FormatInfo& format = data::Info(e.asked().attention.format);
  claim.numbers = {
      {"rescalings", Number(std::max<int64_t>(0, e.loop.Tc - 1))},
      {"key_tiles", Number(e.loop.Tc)},
      // Half a unit in the last place: what one rounding to the input format costs, relative.
      {"score_rounding", e.input.fp32_scores ? std::ldexp(1.0, -24) : std::ldexp(1.0, -format.fraction_bits - 1)},
      {"fp32_rounding", std::ldexp(1.0, -24)}};
  claim.verdict = ClaimVerdict::kRefuted;
  return claim;
}

// "Attention is memory-bound."
Claim MemoryBound(const Explanation& e) {
  Claim claim{"memory-bound"};
  claim.numbers = {{"ridge", e.ridge},
                   {"standard_prefill_intensity", e.prefill.standard.intensity},
                   {"flash_prefill_intensity", e.prefill.flash.intensity},
                   {"decode_intensity", e.decode.flash.intensity}};
  const bool prefill = e.prefill.flash.bottleneck == Bottleneck::kHbm;
  const bool decode = e.decode.flash.bottleneck == Bottleneck::kHbm;
  claim.verdict = prefill && decode ? ClaimVerdict::kSupported : ClaimVerdict::kDepends;
  return claim;
}

// "In decode FlashAttention gains mainly by removing S and P."
Claim DecodeFromScores(const Explanation& e) {
  Claim claim{"decode-from-scores"};
  const Contrast& c = e.decode;
  const Attention& a = c.attention;
  claim.numbers = {
      {"score_bytes", Number(c.standard.score_bytes)},
      {"kv_bytes", Number(CompulsoryRead(c.standard, TensorId::kK) + CompulsoryRead(c.standard, TensorId::kV))},
      {"share", c.score_share()},
      {"stored_bytes", Number(c.standard.stored_bytes)},
      {"l2_bytes", Number(e.l2_bytes)},
      {"group", Number(a.group())},
      {"in_hbm_bytes", Number(c.scores_in_hbm())},
      {"in_hbm_share", c.scores_in_hbm_share()},
      {"floor_ratio", c.floor_ratio()}};
  // The same layer with one query head a KV head, for the effect of grouping; latent attention has no such twin.
  if (a.group() > 1 && !a.v_is_in_k) {
    Attention multi_head = a;
    multi_head.heads_kv = a.heads_q;
    claim.numbers["multi_head_share"] = CountContrast(multi_head, e.input.gpu, e.input.fp32_scores).score_share();
  }
  // Below a tenth it cannot be the main gain; a third is a gain that a measurement would show.
  claim.verdict = c.scores_in_hbm_share() < 0.10   ? ClaimVerdict::kRefuted
                  : c.scores_in_hbm_share() < 0.33 ? ClaimVerdict::kDepends
                                                   : ClaimVerdict::kSupported;
  return claim;
}

// "Split-KV reduces bytes": the decode problem with and without splits.
Claim SplitBytes(const Explanation& e) {
  Claim claim{"split-kv-bytes"};
  const Attention& a = e.decode.attention;
  const sim::Kernel& kernel = sim::FindKernel("split-kv");
  KernelChoice choice{&kernel, kernel.DefaultTiling(a, e.input.gpu), false};
  if (e.decode.flash.kernel == "split-kv") choice.tiling = e.decode.flash.tiling;
  const auto equal_parts = [&](int64_t parts) {
    choice.tiling.splits = parts;
    choice.tiling.part_keys = 0;
  };
  const int64_t key_tiles = (a.seqlen_k + choice.tiling.Bc - 1) / choice.tiling.Bc;
  if (sim::SplitParts(a, choice.tiling) < 2) equal_parts(std::clamp<int64_t>(key_tiles, 1, 8));
  // The statement is about the algorithm, so it is counted even where the kernel itself cannot run.
  const auto bytes = [](const sim::Ledger& ledger) {
    const sim::Traffic traffic = sim::Sum(ledger.hbm_compulsory);
    return Number(traffic.read + traffic.write);
  };
  const auto partial_bytes = [](const sim::Ledger& ledger) {
    sim::Traffic traffic = sim::At(ledger.hbm_compulsory, TensorId::kOPartial);
    traffic += sim::At(ledger.hbm_compulsory, TensorId::kM);
    traffic += sim::At(ledger.hbm_compulsory, TensorId::kL);
    return Number(traffic.read + traffic.write);
  };
  const Anyway split = CountAnyway(choice, a);
  const int64_t splits = sim::SplitParts(a, choice.tiling);
  equal_parts(1);
  const Anyway whole = CountAnyway(choice, a);
  claim.numbers = {{"splits", Number(splits)},
                   {"split_bytes", bytes(split.total)},
                   {"whole_bytes", bytes(whole.total)},
                   {"partial_bytes", partial_bytes(split.total)},
                   {"whole_partial_bytes", partial_bytes(whole.total)},
                   {"split_blocks", Number(split.blocks)},
                   {"whole_blocks", Number(whole.blocks)},
                   {"sms", Number(e.input.gpu.sms)}};
  claim.verdict = ClaimVerdict::kRefuted;
  return claim;
}

// "FlashAttention helps at every length."
Claim EveryLength(const Explanation& e) {
  Claim claim{"every-length"};
  const SweepPoint& shortest = e.sweep.points.front();
  const SweepPoint& longest = e.sweep.points.back();
  claim.numbers = {
      {"shortest", Number(shortest.seqlen)},          {"shortest_stored_bytes", Number(shortest.stored_bytes)},
      {"shortest_floor_ratio", shortest.floor_ratio}, {"longest", Number(longest.seqlen)},
      {"longest_floor_ratio", longest.floor_ratio},   {"shortest_in_hbm_bytes", Number(shortest.scores_in_hbm)}};
  if (e.sweep.scores_reach_hbm) claim.numbers["reaches_hbm_at"] = Number(*e.sweep.scores_reach_hbm);
  if (e.sweep.blocks_fill_sms) claim.numbers["fills_sms_at"] = Number(*e.sweep.blocks_fill_sms);
  claim.verdict = shortest.scores_stay_in_l2 ? ClaimVerdict::kRefuted : ClaimVerdict::kDepends;
  return claim;
}

}  // namespace

std::vector<Claim> CheckClaims(const Explanation& e) {
  return {FewerFlops(e),    OnlyFusion(e),  LinearMemory(e), ReadOnce(e),         BiggerTiles(e),
          ChangesResult(e), MemoryBound(e), EveryLength(e),  DecodeFromScores(e), SplitBytes(e)};
}

}  // namespace bitflash::verify
