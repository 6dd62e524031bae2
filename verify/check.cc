#include "verify/check.h"

#include <algorithm>

#include "data/error.h"
#include "data/text.h"
#include "verify/stopwatch.h"

namespace bitflash::verify {
namespace {

// "3 to 17" of lengths that differ, "5" otherwise.
std::string Span(const std::vector<int64_t>& lengths) {
  const auto [least, most] = std::ranges::minmax(lengths);
  return least == most ? std::to_string(least) : std::to_string(least) + " to " + std::to_string(most);
}

void Fail(CaseReport& report, const std::string& reason) {
  if (report.outcome == Outcome::kFail) return;  // the first reason is the strongest
  report.outcome = Outcome::kFail;
  report.reason = reason;
}

void Advise(CaseReport& report) {
  const Judgement& j = *report.judgement;
  const bool unwritten = report.calls && report.calls->unwritten_o + report.calls->unwritten_lse > 0;
  if (unwritten) {
    report.advice.push_back("elements that were never written: look at the blocks and rows of the last tile first");
  } else if (j.rung == Rung::kWrong && report.diagnosis && !report.diagnosis->finding()) {
    report.advice.push_back(
        "no single known mistake explains it: shrink the case (fewer heads, rows, keys) until one part is wrong alone");
  }
  if (j.rung == Rung::kWrong && j.evidence.lse() && j.evidence.o().beyond == 0) {
    report.advice.push_back("O is right, so scores, maximum and sum are: look at the last line that writes LSE");
  }
  if (j.named && j.named->differ > 0 && j.rung == Rung::kBounded) {
    report.advice.push_back("which recipe made these bits: bitflash identify with the same tensors");
  }
  if (report.calls && report.calls->differing_o > 0) {
    report.advice.push_back("bits change from call to call: compute-sanitizer --tool racecheck, initcheck");
  }
}

void JudgeInto(CaseReport& report, const Problem& problem, const Outputs& outputs, const CheckOptions& options) {
  JudgeOptions judge = options.judge;
  if (options.progress) judge.progress = [&](double share) { options.progress("judging", share); };
  report.judgement = Judge(problem, outputs, judge);
  const Judgement& j = *report.judgement;
  report.outcome = Passes(j.rung) ? Outcome::kPass : j.rung == Rung::kUndecided ? Outcome::kUndecided : Outcome::kFail;
  report.reason = j.reason;
  if (j.evidence.beyond() == 0 || Passes(j.rung)) return;
  report.locality = Locate(problem.attention, j.evidence);
  if (!options.diagnose) return;
  DiagnoseOptions diagnose;
  if (judge.named) diagnose.kernels = {*judge.named};
  if (options.progress) diagnose.progress = [&](double share) { options.progress("diagnosing", share); };
  report.diagnosis = Diagnose(problem, outputs, j.evidence, diagnose);
  // The named kernel explains nothing: perhaps another one does.
  if (judge.named && !report.diagnosis->finding()) {
    diagnose.kernels.clear();
    Diagnosis wider = Diagnose(problem, outputs, j.evidence, diagnose);
    wider.tried += report.diagnosis->tried;
    report.diagnosis = std::move(wider);
  }
}

void AddCalls(CaseReport& report, const PluginRun& run) {
  report.calls = CallFacts{.unwritten_o = run.unwritten_o,
                           .unwritten_lse = run.unwritten_lse,
                           .differing_o = run.differing_o,
                           .differing_lse = run.differing_lse,
                           .stale_o = run.stale_o,
                           .fp_control_note = run.fp_control_note,
                           .printed = run.stderr_tail,
                           .seconds = run.seconds};
  const auto elements = [](int64_t o, int64_t lse) {
    return data::Counted(o, "element") + " of O and " + std::to_string(lse) + " of LSE";
  };
  if (run.unwritten_o + run.unwritten_lse > 0) {
    Fail(report, elements(run.unwritten_o, run.unwritten_lse) + " were never written");
  }
  if (run.stale_o > 0) Fail(report, data::Counted(run.stale_o, "element") + " of O did not change when V was negated");
  if (run.differing_o + run.differing_lse > 0) {
    Fail(report, elements(run.differing_o, run.differing_lse) + " changed from one call to the next");
  }
}

}  // namespace

std::string Describe(const Problem& p) {
  std::string text = data::ToString(p.attention);
  if (!p.seqlens_q.empty()) text += ", rows of a sequence " + Span(p.seqlens_q);
  if (!p.seqlens_k.empty()) text += ", keys of a sequence " + Span(p.seqlens_k);
  if (!p.sinks.empty()) text += ", sinks";
  if (p.q_scale != 1 || p.k_scale != 1 || p.v_scale != 1) text += ", scaled";
  return text;
}

CaseReport CheckOutputs(const std::string& name, const Problem& problem, const Outputs& outputs,
                        const CheckOptions& options) {
  const Stopwatch watch;
  CaseReport report{.name = name, .problem = Describe(problem)};
  JudgeInto(report, problem, outputs, options);
  Advise(report);
  report.seconds = watch.seconds();
  return report;
}

CaseReport CheckSubject(const std::string& name, const Problem& problem, Subject& subject,
                        const CheckOptions& options) {
  const Stopwatch watch;
  CaseReport report{.name = name, .problem = Describe(problem)};
  try {
    // Outputs are copied before anything that is expected of them is computed.
    if (auto* plugin = dynamic_cast<PluginSubject*>(&subject)) {
      const PluginRun run = plugin->RunChecked(problem);
      JudgeInto(report, problem, run.outputs, options);
      AddCalls(report, run);
    } else {
      JudgeInto(report, problem, subject.Run(problem), options);
    }
    if (options.metamorphic) {
      if (options.progress) options.progress("checking relations", 0);
      report.metamorphic = RunMetamorphic(subject, problem);
      for (const MetamorphicResult& check : report.metamorphic) {
        if (check.status == MetamorphicStatus::kFailed) Fail(report, check.name + ": " + RelationText(check));
      }
    }
    Advise(report);
  } catch (const PluginError& error) {
    report.outcome = Outcome::kBroken;
    report.reason = error.what();
    if (!error.stderr_tail.empty()) report.calls.emplace().printed = error.stderr_tail;
  } catch (const data::UndecidedError& error) {
    report.outcome = Outcome::kUndecided;
    report.reason = error.what();
  }
  report.seconds = watch.seconds();
  return report;
}

}  // namespace bitflash::verify
