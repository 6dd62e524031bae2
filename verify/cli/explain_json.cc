#include "verify/cli/explain_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "verify/cli/explain_writer.h"
#include "verify/cli/time_result.h"

namespace bitflash::verify {
namespace {

template <class T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// Counts as integers, ratios as they are.
Json NumberJson(double value) {
  if (value == std::floor(value) && std::fabs(value) < 0x1p53) return static_cast<int64_t>(value);
  return value;
}

Json ProblemJson(const data::Attention& a) {
  return {{"batch", a.batch},
          {"heads_q", a.heads_q},
          {"heads_kv", a.heads_kv},
          {"seqlen_q", a.seqlen_q},
          {"seqlen_k", a.seqlen_k},
          {"head_dim", a.head_dim},
          {"head_dim_v", a.head_dim_v},
          {"v_is_in_k", a.v_is_in_k},
          {"format", std::string(data::Name(a.format))},
          {"mask", data::ToString(a.mask)}};
}

Json TensorsJson(const sim::PerTensor& traffic) {
  Json json = Json::object();
  for (int i = 0; i < sim::kTensorCount; ++i) {
    if (traffic[i] == sim::Traffic{}) continue;
    json[std::string(sim::Name(static_cast<sim::TensorId>(i)))] = {{"read", traffic[i].read},
                                                                   {"write", traffic[i].write}};
  }
  return json;
}

Json CostJson(const KernelCost& side) {
  Json launches = Json::array();
  for (const sim::LaunchCount& launch : side.count.launches) {
    launches.push_back({{"name", launch.name},
                        {"blocks", launch.grid.blocks()},
                        {"hbm_compulsory", TensorsJson(launch.ledger.hbm_compulsory)},
                        {"l2_to_sm", TensorsJson(launch.ledger.l2_to_sm)}});
  }
  const sim::Traffic requested = sim::Sum(side.count.total.l2_to_sm);
  return {{"kernel", side.kernel},
          {"tile",
           {{"Br", side.tiling.Br},
            {"Bc", side.tiling.Bc},
            {"splits", side.tiling.splits},
            {"part_keys", side.tiling.part_keys}}},
          {"blocks", side.blocks},
          {"hbm",
           {{"compulsory", side.hbm.compulsory},
            {"predicted", OrNull(side.hbm.predicted)},
            {"predicted_low", side.hbm.predicted ? Json(side.hbm.predicted_low) : Json(nullptr)},
            {"predicted_high", side.hbm.predicted ? Json(side.hbm.predicted_high) : Json(nullptr)},
            {"requested", side.hbm.requested}}},
          {"l2_to_sm", {{"read", requested.read}, {"write", requested.write}}},
          {"operand_bytes", side.operand_bytes},
          {"score_bytes", side.score_bytes},
          {"lse_bytes", side.lse_bytes},
          {"other_bytes", side.other_bytes},
          {"stored_bytes", side.stored_bytes},
          {"matrix_flops", side.count.total.matrix_flops},
          {"special_ops", side.count.total.special_ops},
          {"intensity", side.intensity},
          {"floors_s",
           {{"hbm", side.floors.hbm},
            {"tensor", side.floors.tensor},
            {"special", side.floors.special},
            {"total", side.floors.total},
            {"l2", OrNull(side.floors.l2)}}},
          {"bottleneck", std::string(Name(side.bottleneck))},
          {"time", side.time ? TimeJson(*side.time) : Json(nullptr)},
          {"launches", std::move(launches)}};
}

Json ContrastJson(const Contrast& c) {
  return {{"problem", ProblemJson(c.attention)}, {"useful_flops", c.useful_flops}, {"score_share", c.score_share()},
          {"byte_ratio", c.byte_ratio()},        {"floor_ratio", c.floor_ratio()}, {"scores_in_hbm", c.scores_in_hbm()},
          {"standard", CostJson(c.standard)},    {"flash", CostJson(c.flash)}};
}

Json OnChipJson(const OnChip& on_chip) {
  Json tiles = Json::array();
  for (const OnChipTile& tile : on_chip.tiles) {
    tiles.push_back({{"tensor", std::string(tile.tensor)},
                     {"space", tile.space == sim::Space::kShared ? "shared" : "register"},
                     {"format", std::string(data::Name(tile.format))},
                     {"rows", tile.rows},
                     {"cols", tile.cols},
                     {"copies", tile.copies},
                     {"bytes", tile.bytes}});
  }
  return {{"tiles", std::move(tiles)},
          {"shared_bytes", on_chip.shared_bytes},
          {"register_bytes", on_chip.register_bytes},
          {"blocks_per_sm", on_chip.occupancy.blocks_per_sm},
          {"limited_by", on_chip.occupancy.limit}};
}

Json SweepJson(const LengthSweep& sweep) {
  Json points = Json::array();
  for (const SweepPoint& p : sweep.points) {
    points.push_back({{"seqlen", p.seqlen},
                      {"standard_bytes", p.standard_bytes},
                      {"flash_bytes", p.flash_bytes},
                      {"score_bytes", p.score_bytes},
                      {"stored_bytes", p.stored_bytes},
                      {"scores_fit_l2", p.scores_fit_l2},
                      {"scores_in_hbm", p.scores_in_hbm},
                      {"score_share", p.score_share},
                      {"floor_ratio", p.floor_ratio},
                      {"blocks", p.blocks}});
  }
  return {{"points", std::move(points)},
          {"scores_exceed_operands_at", OrNull(sweep.scores_exceed_operands)},
          {"scores_leave_l2_at", OrNull(sweep.scores_leave_l2)},
          {"scores_reach_hbm_at", OrNull(sweep.scores_reach_hbm)},
          {"blocks_fill_sms_at", OrNull(sweep.blocks_fill_sms)}};
}

Json PartsJson(const Document& document) {
  Json parts = Json::array();
  for (const DocumentPart& part : document.parts) {
    Json text = Json::array();
    for (const DocumentBlock& block : part.blocks) {
      if (block.kind != DocumentBlock::Kind::kTable) text.push_back(block.text);
    }
    parts.push_back({{"id", part.id}, {"heading", part.heading}, {"text", std::move(text)}});
  }
  return parts;
}

}  // namespace

Json ExplanationJson(const Explanation& e, const Document& document, const Catalogue& catalogue) {
  const ExplainWriter writer(e, catalogue);
  Json groups = Json::array();
  for (const GroupSummary& group : e.groups) {
    groups.push_back({{"name", group.name},
                      {"layers", group.layers},
                      {"explained", group.chosen},
                      {"standard_bytes", group.problem.standard.hbm.compulsory},
                      {"flash_bytes", group.problem.flash.hbm.compulsory},
                      {"score_bytes", group.problem.standard.score_bytes}});
  }
  Json claims = Json::array();
  for (const Claim& claim : e.claims) {
    Json numbers = Json::object();
    for (const auto& [name, value] : claim.numbers) numbers[name] = NumberJson(value);
    claims.push_back({{"id", std::string(claim.id)},
                      {"verdict", std::string(Name(claim.verdict))},
                      {"claim", writer.ClaimTitle(claim)},
                      {"reason", writer.ClaimReason(claim)},
                      {"numbers", std::move(numbers)}});
  }
  const data::Gpu& gpu = e.input.gpu;
  Json model = nullptr;
  if (e.input.model) {
    const data::LayerGroup& group = e.input.model->groups[e.input.group];
    model = {
        {"name", e.input.model->name}, {"group", group.name}, {"group_layers", group.layers}, {"layers", e.layers()}};
  }
  return {{"schema", "bitflash.explain/1"},
          {"language", std::string(Name(catalogue.language()))},
          {"title", document.title},
          {"model", std::move(model)},
          {"phase", e.phase == data::Phase::kDecode ? "decode" : "prefill"},
          {"fp32_scores", e.input.fp32_scores},
          {"gpu",
           {{"name", gpu.name},
            {"sms", gpu.sms},
            {"hbm_bytes_per_second", gpu.hbm_bytes_per_second},
            {"tensor_flops", e.tensor_flops},
            {"ridge", e.ridge},
            {"l2_bytes", e.l2_bytes}}},
          {"prefill", ContrastJson(e.prefill)},
          {"decode", ContrastJson(e.decode)},
          {"on_chip", OnChipJson(e.on_chip)},
          {"loop",
           {{"query_tiles", e.loop.Tr},
            {"key_tiles", e.loop.Tc},
            {"tile_steps", e.loop.tiles},
            {"tile_steps_unmasked", e.loop.tiles_full}}},
          {"sweep", SweepJson(e.sweep)},
          {"groups", std::move(groups)},
          {"claims", std::move(claims)},
          {"conclusion", std::string(Name(e.conclusion))},
          {"verdict", writer.VerdictSentence()},
          {"parts", PartsJson(document)}};
}

}  // namespace bitflash::verify
