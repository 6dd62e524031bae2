// Parts 5 and 6: the comparison, and when FlashAttention does not help.
#include <algorithm>
#include <array>
#include <string_view>

#include "verify/cli/explain_writer.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

// Waves of blocks: how often every SM is filled.
std::string Waves(double waves) { return Prefixed(waves); }

// The message that names what an estimated time goes to.
std::string_view LimitId(sim::Limit limit) {
  constexpr std::array<std::string_view, sim::kLimitCount> kIds = {"limit.tensor", "limit.special",  "limit.fp32",
                                                                   "limit.shared", "limit.l2",       "limit.hbm",
                                                                   "limit.stalls", "limit.idle_sms", "limit.launch"};
  return kIds[static_cast<size_t>(limit)];
}

std::string Intensity(double intensity) { return Prefixed(intensity) + " FLOP/B"; }

}  // namespace

DocumentPart ExplainWriter::Comparison() const {
  const Contrast& c = e_.asked();
  const KernelCost& s = c.standard;
  const KernelCost& f = c.flash;
  DocumentPart part = Part("5", "p5.title");
  DocumentTable table;
  table.columns = {{"", Align::kLeft}, {s.kernel, Align::kRight}, {f.kernel, Align::kRight}};
  const auto row = [&](std::string label, std::string standard, std::string flash) {
    table.rows.push_back({std::move(label), std::move(standard), std::move(flash)});
  };
  const auto bytes_row = [&](std::string label, int64_t standard, int64_t flash) {
    row(std::move(label), Amount(standard), Amount(flash));
  };
  bytes_row(Say("row.stored"), s.stored_bytes, f.stored_bytes);
  row(Say("row.launches"), Grouped(static_cast<int64_t>(s.count.launches.size())),
      Grouped(static_cast<int64_t>(f.count.launches.size())));
  table.rows.push_back({});
  bytes_row(Say("row.hbm"), s.hbm.compulsory, f.hbm.compulsory);
  bytes_row("  " + Say("row.scores"), s.score_bytes, f.score_bytes);
  bytes_row("  " + Say("row.operands"), s.operand_bytes, f.operand_bytes);
  bytes_row("  " + Say("row.lse"), s.lse_bytes, f.lse_bytes);
  if (s.other_bytes + f.other_bytes > 0) bytes_row("  " + Say("row.other"), s.other_bytes, f.other_bytes);
  if (s.hbm.predicted && f.hbm.predicted) bytes_row(Say("row.predicted"), *s.hbm.predicted, *f.hbm.predicted);
  bytes_row(Say("row.requested"), s.hbm.requested, f.hbm.requested);
  table.rows.push_back({});
  row(Say("row.flops"), Flop(static_cast<double>(s.count.total.matrix_flops)),
      Flop(static_cast<double>(f.count.total.matrix_flops)));
  row(Say("row.special"), Prefixed(static_cast<double>(s.count.total.special_ops)),
      Prefixed(static_cast<double>(f.count.total.special_ops)));
  row(Say("row.intensity"), Intensity(s.intensity), Intensity(f.intensity));
  table.rows.push_back({});
  row(Say("row.floor.hbm"), Seconds(s.floors.hbm), Seconds(f.floors.hbm));
  row(Say("row.floor.tensor"), Seconds(s.floors.tensor), Seconds(f.floors.tensor));
  row(Say("row.floor.special"), Seconds(s.floors.special), Seconds(f.floors.special));
  row(Say("row.floor.total"), Seconds(s.floors.total), Seconds(f.floors.total));
  if (s.floors.l2 && f.floors.l2) row(Say("row.l2"), Seconds(*s.floors.l2), Seconds(*f.floors.l2));
  row(Say("row.bottleneck"), Limiter(s.bottleneck), Limiter(f.bottleneck));
  if (s.time && f.time) {
    table.rows.push_back({});
    row(Say("row.estimate"), Seconds(s.time->seconds), Seconds(f.time->seconds));
    row(Say("row.estimate_limit"), Say(LimitId(s.time->bottleneck)), Say(LimitId(f.time->bottleneck)));
  }
  part.Add(std::move(table));
  if (s.time && f.time) {
    part.Paragraph(Say(s.time->calibrated && f.time->calibrated ? "p5.estimate" : "p5.estimate_far",
                       {{"ratio", Ratio(s.time->seconds / std::max(1e-12, f.time->seconds))}}));
  }

  const data::Gpu& gpu = e_.input.gpu;
  part.Paragraph(Say("p5.ridge", {{"gpu", gpu.title},
                                  {"peak", FlopPerSecond(e_.tensor_flops)},
                                  {"bandwidth", BytesPerSecond(gpu.hbm_bytes_per_second)},
                                  {"ridge", Prefixed(e_.ridge)},
                                  {"standard", Prefixed(s.intensity)},
                                  {"flash", Prefixed(f.intensity)}}));
  // Reads of the same tiles again and again, by half more than need be, and not Q, K, V and O are then the limit.
  const bool again = 2 * f.hbm.predicted.value_or(0) > 3 * f.hbm.compulsory;
  part.Paragraph(Say(
      f.bottleneck != Bottleneck::kHbm ? "p5.ratios.other"
      : again                          ? "p5.ratios.again"
                                       : "p5.ratios.hbm",
      {{"bytes", Ratio(c.byte_ratio())}, {"floors", Ratio(c.floor_ratio())}, {"flash_limit", Limiter(f.bottleneck)}}));
  const double absorbed =
      1 - static_cast<double>(f.hbm.compulsory) / static_cast<double>(std::max<int64_t>(1, f.hbm.requested));
  part.Paragraph(
      Say("p5.model", {{"requested", Amount(f.hbm.requested)}, {"absorbed", Percent(std::max(0.0, absorbed))}}) +
      Say("space") + Predicted());
  AddGroups(part);
  return part;
}

// What HBM sees behind the L2, as far as it can be known.
std::string ExplainWriter::Predicted() const {
  const Contrast& c = e_.asked();
  const HbmBytes& s = c.standard.hbm;
  const HbmBytes& f = c.flash.hbm;
  if (!s.predicted || !f.predicted) return "";
  std::string text = Say("p5.predicted", {{"standard", Amount(*s.predicted)}, {"flash", Amount(*f.predicted)}});
  if (f.near_capacity) {
    text +=
        Say("space") + Say("p5.near_capacity", {{"low", Amount(f.predicted_low)}, {"high", Amount(f.predicted_high)}});
  }
  const int64_t seen = c.scores_in_hbm(), all = c.standard.score_bytes;
  constexpr double kMost = 0.9;  // of S and P: then L2 absorbs nothing worth naming
  if (static_cast<double>(seen) < kMost * static_cast<double>(all)) {
    text += Say("space") + Say("p5.stays", {{"score_bytes", Amount(all)}, {"seen", Amount(seen)}});
  }
  return text;
}

void ExplainWriter::AddGroups(DocumentPart& part) const {
  if (!e_.input.model) return;
  const data::Model& model = *e_.input.model;
  if (e_.groups.empty()) {
    const int64_t layers = model.groups[e_.input.group].layers;
    part.Paragraph(Say("p5.whole", {{"layers", text_.Count("count.layers", layers)},
                                    {"standard", Amount(e_.asked().standard.hbm.compulsory * layers)},
                                    {"flash", Amount(e_.asked().flash.hbm.compulsory * layers)}}));
    return;
  }
  part.Paragraph(Say("p5.groups", {{"model", model.title}}));
  DocumentTable table;
  table.columns = {{Say("table.group"), Align::kLeft},   {Say("table.layers"), Align::kRight},
                   {Say("table.scores"), Align::kRight}, {Say("table.standard"), Align::kRight},
                   {Say("table.flash"), Align::kRight},  {Say("table.floors"), Align::kRight}};
  int64_t layers = 0, standard = 0, flash = 0;
  for (const GroupSummary& group : e_.groups) {
    const Contrast& c = group.problem;
    if (group.chosen) table.emphasised = static_cast<int>(table.rows.size());
    table.rows.push_back({group.name, Grouped(group.layers), Amount(c.standard.score_bytes),
                          Amount(c.standard.hbm.compulsory), Amount(c.flash.hbm.compulsory), Times(c.floor_ratio())});
    layers += group.layers;
    standard += group.layers * c.standard.hbm.compulsory;
    flash += group.layers * c.flash.hbm.compulsory;
  }
  table.rows.push_back({});
  table.rows.push_back({Say("table.whole"), Grouped(layers), "", Amount(standard), Amount(flash), ""});
  part.Add(std::move(table));
}

DocumentPart ExplainWriter::Limits() const {
  const Contrast& c = e_.asked();
  DocumentPart part = Part("6", "p6.title");
  const std::string bytes = Amount(c.standard.score_bytes), operands = Amount(c.standard.operand_bytes);
  if (e_.sweep.scores_exceed_operands) {
    part.Item("-", Say("p6.short", {{"tokens", text_.Count("count.tokens", *e_.sweep.scores_exceed_operands)},
                                    {"score_bytes", bytes},
                                    {"operand_bytes", operands}}));
  } else {
    part.Item("-", Say("p6.never_exceed", {{"score_bytes", bytes}, {"operand_bytes", operands}}));
  }
  std::vector<Argument> in_l2 = {{"l2", Amount(e_.l2_bytes)},
                                 {"stored", Amount(c.standard.stored_bytes)},
                                 {"score_bytes", bytes},
                                 {"seen", Amount(c.scores_in_hbm())}};
  const bool some_reach = e_.sweep.scores_reach_hbm.has_value();
  if (some_reach) in_l2.push_back({"tokens", text_.Count("count.tokens", *e_.sweep.scores_reach_hbm)});
  std::string fits = Say(some_reach ? "p6.l2" : "p6.always_l2", in_l2);
  fits += Say("space") + (e_.l2_is_effective ? Say("p6.l2_probed") : Say("p6.l2_reported"));
  part.Item("-", fits);

  const sim::LaunchCount& launch = c.flash.count.launches[c.flash.main_launch];
  const std::vector<Argument> grid = {{"kernel", c.flash.kernel},
                                      {"blocks", text_.Count("count.blocks", c.flash.blocks)},
                                      {"sms", Grouped(e_.input.gpu.sms)},
                                      {"waves", Waves(launch.waves)}};
  std::string parallel = c.flash.blocks < e_.input.gpu.sms ? Say("p6.idle", grid) : Say("p6.busy", grid);
  if (e_.sweep.blocks_fill_sms && *e_.sweep.blocks_fill_sms > 1) {
    parallel += Say("space") + Say("p6.fill", {{"tokens", text_.Count("count.tokens", *e_.sweep.blocks_fill_sms)}});
  }
  part.Item("-", parallel);
  const Contrast& d = e_.decode;
  part.Item("-", Say("p6.decode", {{"heads_q", text_.Count("count.heads_q", d.attention.heads_q)},
                                   {"heads_kv", text_.Count("count.heads_kv", d.attention.heads_kv)},
                                   {"share", Percent(d.score_share())},
                                   {"ratio", Ratio(d.floor_ratio())}}));
  AddSweep(part);
  return part;
}

void ExplainWriter::AddSweep(DocumentPart& part) const {
  part.Paragraph(decode() ? Say("p6.sweep.decode") : Say("p6.sweep.prefill"));
  DocumentTable table;
  table.columns = {{Say("table.length"), Align::kRight}, {Say("table.scores"), Align::kRight},
                   {Say("table.share"), Align::kRight},  {Say("table.standard"), Align::kRight},
                   {Say("table.flash"), Align::kRight},  {Say("table.in_hbm"), Align::kRight},
                   {Say("table.blocks"), Align::kRight}, {Say("table.floors"), Align::kRight}};
  for (const SweepPoint& point : e_.sweep.points) {
    const bool asked = point.seqlen == e_.asked().attention.seqlen_k;
    if (asked) table.emphasised = static_cast<int>(table.rows.size());
    table.rows.push_back({(asked ? "> " : "") + Grouped(point.seqlen), Amount(point.score_bytes),
                          Percent(point.score_share), Amount(point.standard_bytes), Amount(point.flash_bytes),
                          Amount(point.scores_in_hbm), Grouped(point.blocks), Times(point.floor_ratio)});
  }
  part.Add(std::move(table));
  part.Paragraph(Say("p6.floors"));
}

}  // namespace bitflash::verify
