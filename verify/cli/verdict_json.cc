#include <cmath>
#include <nlohmann/json.hpp>

#include "verify/cli/verdict_text.h"

namespace bitflash::verify {
namespace {

// JSON has no NaN and no infinity: they are strings.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(Shortest(value)); }

Json ElementJson(const TensorEvidence& e, const std::optional<Element>& x, bool lse) {
  if (!x) return nullptr;
  Json index = {x->index[0], x->index[1], x->index[2]};
  if (!lse) index.push_back(x->index[3]);
  return {{"index", index},
          {"bits", HexBits(e.type, x->bits)},
          {"got", Number(x->got)},
          {"truth", Number(x->truth)},
          {"bound", Number(x->bound)},
          {"score", Number(x->score())}};
}

Json TensorJson(const char* name, const TensorEvidence& e, bool lse) {
  Json histogram = Json::array();
  for (size_t n = 0; n < e.by_score.size(); ++n) {
    histogram.push_back(
        {{"up_to", n < e.kScoreSteps.size() ? Json(e.kScoreSteps[n]) : Json(nullptr)}, {"elements", e.by_score[n]}});
  }
  return {{"name", name},
          {"dtype", Name(e.type)},
          {"elements", e.elements},
          {"nan", e.nan},
          {"infinite", e.infinite},
          {"all_ones", e.all_ones},
          {"empty_rows_plus_infinity", e.plus_infinity},
          {"kind_differs", e.kind_differs},
          {"beyond", e.beyond},
          {"first_kind", ElementJson(e, e.first_kind, lse)},
          {"first_beyond", ElementJson(e, e.first_beyond, lse)},
          {"worst", ElementJson(e, e.worst, lse)},
          {"largest_error", ElementJson(e, e.farthest, lse)},
          {"largest_bound", Number(e.largest_bound)},
          {"sum_squared_error", Number(e.sum_squared_error)},
          {"sum_squared_truth", Number(e.sum_squared_truth)},
          {"mean_signed_score", Number(e.sum_signed_score / static_cast<double>(std::max<int64_t>(1, e.elements)))},
          {"by_score", histogram}};
}

Json AgreementJson(const std::optional<BitAgreement>& b) {
  if (!b) return nullptr;
  Json json = {{"kernel", b->kernel}, {"elements", b->elements},
               {"differ", b->differ}, {"reason", b->reason.empty() ? Json(nullptr) : Json(b->reason)},
               {"first", nullptr},    {"max_ulps", nullptr}};
  if (b->differ == 0) return json;
  const bool in_o = b->o.bits_differ > 0;
  const Difference& d = in_o ? b->o : *b->lse;
  json["first"] = {{"tensor", in_o ? "o" : "lse"},
                   {"index", d.first.index},
                   {"got", HexBits(d.type, d.first.a_bits)},
                   {"simulated", HexBits(d.type, d.first.b_bits)}};
  json["max_ulps"] = d.max_ulps;
  return json;
}

Json WitnessJson(const std::optional<WitnessReport>& w) {
  if (!w) return nullptr;
  return {{"kernel", w->kernel},
          {"used", w->used},
          {"reason", w->reason.empty() ? Json(nullptr) : Json(w->reason)},
          {"check",
           {{"rows", w->check.rows},
            {"elements", w->check.elements},
            {"beyond", w->check.beyond},
            {"worst", Number(w->check.worst)}}},
          {"rows", w->rows},
          {"beyond", w->beyond},
          {"open", w->open},
          {"seconds", w->seconds}};
}

Json JudgementJson(const Judgement& j) {
  Json json = {{"rung", Name(j.rung)},
               {"reason", j.reason},
               {"sampled", j.sampled},
               {"parts", j.parts.size()},
               {"fp64_rows", j.fp64_rows},
               {"witness", WitnessJson(j.witness)},
               {"tensors", Json::array()},
               {"named_kernel", AgreementJson(j.named)},
               {"variant", AgreementJson(j.variant)},
               {"score_practice", j.practice ? Json(j.practice->practice->id) : Json(nullptr)},
               {"flash_rule", nullptr},
               {"truth_seconds", j.truth_seconds},
               {"simulation_seconds", j.simulation_seconds}};
  json["tensors"].push_back(TensorJson("o", j.evidence.o(), false));
  if (j.evidence.lse()) json["tensors"].push_back(TensorJson("lse", *j.evidence.lse(), true));
  if (j.flash_rule) {
    json["flash_rule"] = {{"passes", j.flash_rule->passes()},     {"error", Number(j.flash_rule->error)},
                          {"limit", Number(j.flash_rule->limit)}, {"blind_rows", j.flash_rule->blind_rows},
                          {"rows", j.flash_rule->rows},           {"sampled", j.flash_rule->sampled}};
  }
  return json;
}

Json PlacesJson(const ErrorPlaces& p, const Locality& locality) {
  return {{"statements", locality.statements},
          {"heads_per_cell", p.heads_per_cell},
          {"rows_per_cell", p.rows_per_cell},
          {"beyond", p.by_cell},
          {"judged", p.judged_by_cell}};
}

Json DiagnosisJson(const Diagnosis& d) {
  Json json = {{"finding", d.finding() ? Json(d.finding()->id) : Json(nullptr)},
               {"tried", d.tried},
               {"left_out", d.left_out},
               {"hypotheses", Json::array()}};
  for (const Hypothesis& h : d.hypotheses) {
    json["hypotheses"].push_back({{"id", h.id},
                                  {"code", h.fault ? Json(h.fault->code) : Json(nullptr)},
                                  {"reading", h.reading},
                                  {"kernel", h.kernel.empty() ? Json(nullptr) : Json(h.kernel)},
                                  {"tiles", h.tiles.empty() ? Json(nullptr) : Json(h.tiles)},
                                  {"same", h.same},
                                  {"identical", h.identical()},
                                  {"elements", h.elements},
                                  {"equal", h.equal},
                                  {"explained", Number(h.explained)}});
  }
  return json;
}

Json CallsJson(const CallFacts& c) {
  return {{"unwritten_o", c.unwritten_o},
          {"unwritten_lse", c.unwritten_lse},
          {"differing_o", c.differing_o},
          {"differing_lse", c.differing_lse},
          {"stale_o", c.stale_o},
          {"fp_control", c.fp_control_note.empty() ? Json(nullptr) : Json(c.fp_control_note)},
          {"printed", c.printed},
          {"seconds", c.seconds}};
}

Json CaseJson(const CaseReport& c) {
  const auto text = [](const std::string& value) { return value.empty() ? Json(nullptr) : Json(value); };
  Json json = {{"name", c.name},
               {"problem", c.problem},
               {"outcome", Name(c.outcome)},
               {"reason", c.reason},
               {"assumed", c.assumed},
               {"judgement", c.judgement ? JudgementJson(*c.judgement) : Json(nullptr)},
               {"calls", c.calls ? CallsJson(*c.calls) : Json(nullptr)},
               {"relations", Json::array()},
               {"places", c.locality ? PlacesJson(c.judgement->evidence.places(), *c.locality) : Json(nullptr)},
               {"diagnosis", c.diagnosis ? DiagnosisJson(*c.diagnosis) : Json(nullptr)},
               {"advice", c.advice},
               {"saved", text(c.saved)},
               {"saved_problem", text(c.saved_problem)},
               {"command", text(c.command)},
               {"seconds", c.seconds}};
  for (const MetamorphicResult& check : c.metamorphic) {
    json["relations"].push_back({{"id", check.id},
                                 {"name", check.name},
                                 {"outcome", check.status == MetamorphicStatus::kPassed   ? "pass"
                                             : check.status == MetamorphicStatus::kFailed ? "fail"
                                                                                          : "does-not-apply"},
                                 {"text", RelationText(check)}});
  }
  return json;
}

}  // namespace

Json ReportJson(const Report& r) {
  Json json = {{"schema", "bitflash.verdict/1"},
               {"version", BITFLASH_VERSION},
               {"subject", r.subject},
               {"cases", Json::array()},
               {"result",
                {{"pass", r.Count(Outcome::kPass)},
                 {"fail", r.Count(Outcome::kFail)},
                 {"undecided", r.Count(Outcome::kUndecided)},
                 {"broken", r.Count(Outcome::kBroken)}}}};
  for (const CaseReport& c : r.cases) json["cases"].push_back(CaseJson(c));
  return json;
}

}  // namespace bitflash::verify
