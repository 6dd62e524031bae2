// bitflash explain: what FlashAttention changes for a workload, in words and in numbers.
#include "verify/predict/explain.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cli/commands.h"
#include "verify/cli/explain_json.h"
#include "verify/cli/explain_writer.h"
#include "verify/cli/numbers.h"
#include "verify/cli/output.h"
#include "verify/cli/suggest.h"
#include "verify/cli/units.h"
#include "verify/cli/workload.h"

namespace bitflash::verify {
namespace {

// The terminal's width, within what reads well; 100 columns when standard output is not a terminal.
int TextWidth() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 100;
  return std::clamp<int>(size.ws_col, 60, 120);
}

// "1,5", "claims".
std::vector<std::string> ParseParts(std::string_view text) {
  std::vector<std::string> accepted = {"1", "2", "3", "4", "5", "6", "7", "8", "claims", "verdict"};
  std::vector<std::string> parts;
  while (true) {
    const size_t comma = text.find(',');
    std::string part(text.substr(0, comma));
    if (std::find(accepted.begin(), accepted.end(), part) == accepted.end()) {
      throw data::UsageError("--part: " + UnknownName("part", Printable(part), accepted));
    }
    parts.push_back(std::move(part));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

ExplainInput MakeInput(const Workload& workload, bool fp32_scores) {
  ExplainInput input{workload.attention(), workload.phase, workload.gpu, fp32_scores, workload.model, 0, {}};
  input.most_replayed = 2'000'000;  // a tenth of a second
  if (workload.model) {
    const std::vector<data::LayerGroup>& groups = workload.model->groups;
    while (groups[input.group].name != workload.group->name) ++input.group;
  }
  return input;
}

// The notes of the workload in the reader's language. What a model leaves out is said by data/ in English; the
// catalogues hold those sentences, and one that they do not hold stays as it is.
void WriteNotes(const Output& output, const Workload& workload, const Catalogue& text) {
  if (!workload.model) return;
  constexpr const char* kOmissions[] = {"omission.projections", "omission.rotary", "omission.cache_formats",
                                        "omission.vision"};
  const Catalogue& english = Catalogue::For(Language::kEnglish);
  for (std::string what : workload.model->not_modelled) {
    for (const char* id : kOmissions) {
      if (english.Say(id) != what) continue;
      what = text.Say(id);
      break;
    }
    output.Note(text.Say("note.omission", {{"what", what}}));
  }
  const int64_t longest = std::max(workload.attention().seqlen_q, workload.attention().seqlen_k);
  if (workload.model->max_seqlen > 0 && longest > workload.model->max_seqlen) {
    output.Note(text.Say("note.positions", {{"model", workload.model->title},
                                            {"positions", Grouped(workload.model->max_seqlen)},
                                            {"longest", Grouped(longest)}}));
  }
}

}  // namespace

ExitCode Explain(const Arguments& arguments) {
  CommandLine line(
      "explain",
      "Explains what FlashAttention changes for a workload on a GPU: which memory traffic disappears, in which step,\n"
      "whether it matters there, and why. Every number is counted for the workload; common claims are checked with it.",
      {{"bitflash explain --model llama-3-8b --gpu h200 --seqlen 8192", "prefill, with the model's causal mask"},
       {"bitflash explain --model llama-3-8b --gpu h200 --phase prefill --seqlen 8192 --mask full",
        "prefill without a mask"},
       {"bitflash explain --model llama-3-8b --gpu h200 --phase decode --seqlen 8192 --lang zh", "decode, in Chinese"},
       {"bitflash explain --model deepseek-v3 --phase decode --seqlen 32768 --brief",
        "only the comparison, the claims and the verdict"}});
  WorkloadFlags workload_flags;
  OutputFlags output_flags;
  std::optional<std::string> part;
  bool brief = false;
  const WorkloadFeatures features{.kernel = false};
  AddWorkloadFlags(line, workload_flags, features);
  line.Group("Explanation");
  line.AddFlag("--fp32-scores", workload_flags.fp32_scores,
               "The baseline stores S in fp32 instead of the input format");
  line.AddOption("--part", part, "N[,N]", "Only these parts: 1 to 8, claims, verdict");
  line.AddFlag("--brief", brief, "Short for --part 5,claims,verdict");
  line.Group("Output");
  AddOutputFlags(line, output_flags, {.lang = true});
  line.Parse(arguments);

  Output output("explain", output_flags);
  if (brief && part) throw data::UsageError("--brief contradicts --part: give one of them");
  std::vector<std::string> parts;
  if (brief) parts = {"5", "claims", "verdict"};
  if (part) parts = ParseParts(*part);
  const Workload workload = ResolveWorkload(workload_flags, features);
  WriteNotes(output, workload, Catalogue::For(output.language()));

  ExplainInput input = MakeInput(workload, workload_flags.fp32_scores);
  if (workload_flags.mask || workload_flags.causal) input.mask = input.attention.mask;
  const Explanation explanation = Explain(input);
  const Document document = WriteExplanation(explanation, Catalogue::For(output.language()), parts);
  if (output.wants_json()) {
    output.JsonResult(ExplanationJson(explanation, document, Catalogue::For(output.language())));
  }
  if (output.wants_text()) output.Text(Layout(document, TextWidth(), output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
