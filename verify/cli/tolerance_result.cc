#include "verify/cli/tolerance_result.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

// JSON has no infinity and no NaN.
Json Number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

Json JudgementJson(const CriterionResult& judgement) {
  return {{"passes", judgement.passes},
          {"measured", Number(judgement.measured)},
          {"limit", Number(judgement.limit)},
          {"failures", judgement.failures}};
}

template <class T>
Json Optional(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json CriteriaJson(const FaultAudit& fault) {
  const auto optional = [](const std::optional<CriterionResult>& j) { return j ? JudgementJson(*j) : Json(nullptr); };
  return {{"allclose_o", JudgementJson(fault.o)},     {"allclose_lse", optional(fault.lse)},
          {"nmse", JudgementJson(fault.nmse)},        {"flash_attention_2", optional(fault.fa2)},
          {"flash_attention_3", optional(fault.fa3)}, {"beyond_bound", fault.beyond_bound},
          {"worst_ratio", Number(fault.worst_ratio)}};
}

std::string Passes(bool passes, bool wrong, bool color) {
  if (!passes) return "caught";
  return wrong ? Paint("passes", Colour::kRed, color) : "passes";
}

std::string Passes(const std::optional<CriterionResult>& judgement, bool wrong, bool color) {
  return judgement ? Passes(judgement->passes, wrong, color) : "-";
}

std::string Ratio(double ratio) { return std::isfinite(ratio) ? fmt::format("{:.3g}", ratio) : "inf"; }

std::string Rows(int64_t blind, int64_t rows) {
  return fmt::format("{} of {} rows ({})", Grouped(blind), Grouped(rows),
                     Percent(rows > 0 ? static_cast<double>(blind) / static_cast<double>(rows) : 0));
}

}  // namespace

Json ToleranceJson(const ToleranceResult& r) {
  const ToleranceAudit& a = r.audit;
  Json faults = Json::array();
  for (const FaultAudit& fault : a.faults) {
    Json json = {{"id", fault.fault->id},
                 {"code", fault.fault->code},
                 {"mistake", fault.fault->mistake},
                 {"passes", fault.passes_tolerance()},
                 {"escapes", fault.escapes()}};
    json.update(CriteriaJson(fault));
    faults.push_back(json);
  }
  return {{"schema", "bitflash.tolerance/1"},
          {"version", BITFLASH_VERSION},
          {"gpu", GpuJson(r.workload.gpu)},
          {"kernel", r.kernel.kernel->name},
          {"problem", ProblemJson(r.workload.attention())},
          {"tiling", TilingJson(r.kernel.tiling)},
          {"inputs", r.inputs},
          {"assumed", r.workload.assumed},
          {"notes", r.workload.notes},
          {"tolerance", {{"atol", a.tolerance.atol}, {"rtol", a.tolerance.rtol}}},
          {"bound",
           {{"largest", Number(a.largest_bound)},
            {"median", Number(a.median_bound)},
            {"tightest_atol", Number(a.tightest_atol)}}},
          {"rows", a.rows},
          {"blind_rows",
           {{"tolerance", a.blind_rows},
            {"flash_attention_2", Optional(a.fa2_blind_rows)},
            {"flash_attention_3", Optional(a.fa3_blind_rows)}}},
          {"right", a.right ? CriteriaJson(*a.right) : Json(nullptr)},
          {"applicable", a.faults.size()},
          {"not_applicable", a.not_applicable},
          {"escaped", a.escaped()},
          {"harmless", a.harmless()},
          {"faults", faults}};
}

std::string ToleranceText(const ToleranceResult& r, bool color) {
  const ToleranceAudit& a = r.audit;
  std::string text = fmt::format("{} on {} ({})\n", Paint(r.kernel.kernel->name, Colour::kBold, color),
                                 r.workload.gpu.title, r.workload.gpu.arch);
  text += fmt::format("problem      {}\n", data::ToString(r.workload.attention()));
  text += fmt::format("tile         {}\n", ToString(r.kernel.tiling));
  text += fmt::format("inputs       {}\n", Printable(r.inputs));
  for (const std::string& assumed : r.workload.assumed) text += fmt::format("assumed      {}\n", Printable(assumed));
  text +=
      fmt::format("tolerance    |x - exact| <= {:g} + {:g} |exact|, O and LSE\n\n", a.tolerance.atol, a.tolerance.rtol);

  Table table({{"mistake"},
               {"tolerance"},
               {"NMSE 5e-4"},
               {"FA-2 rule"},
               {"FA-3 rule"},
               {"error / bound", Align::kRight},
               {""}});
  const auto row = [&](const std::string& name, const FaultAudit& fault) {
    const bool wrong = fault.beyond_bound > 0;
    table.Row({name, Passes(fault.passes_tolerance(), wrong, color), Passes(fault.nmse.passes, wrong, color),
               Passes(fault.fa2, wrong, color), Passes(fault.fa3, wrong, color), Ratio(fault.worst_ratio),
               wrong ? "" : "within the bound"});
  };
  if (a.right) row("(none)", *a.right);
  for (const FaultAudit& fault : a.faults) row(std::string(fault.fault->id), fault);
  text += table.ToString(color);

  const int64_t wrong = static_cast<int64_t>(a.faults.size()) - a.harmless();
  text += fmt::format("\n{} of {} wrong kernels pass this tolerance", a.escaped(), wrong);
  text +=
      fmt::format("; {} more stay within every bound, {} mistakes do not apply here\n", a.harmless(), a.not_applicable);
  text += fmt::format("bound of O   largest {:.3g}, median {:.3g}: what no correct kernel of this type exceeds\n",
                      a.largest_bound, a.median_bound);
  text += fmt::format("tightest     --atol {:.3g} --rtol {:g} is met by every correct kernel here\n", a.tightest_atol,
                      a.tolerance.rtol);
  text += fmt::format("blind        {} could be zeros and pass this tolerance\n", Rows(a.blind_rows, a.rows));
  if (a.fa3_blind_rows) {
    text +=
        fmt::format("             {} by FlashAttention-2's rule (limit {:.3g}), {} by FlashAttention-3's ({:.3g})\n",
                    Rows(*a.fa2_blind_rows, a.rows), *a.fa2_limit, Rows(*a.fa3_blind_rows, a.rows), *a.fa3_limit);
  }
  return text;
}

}  // namespace bitflash::verify
