// The explanation in words: turns the analysis (verify/predict/explain.h) and a catalogue into a document.
#ifndef BITFLASH_VERIFY_CLI_EXPLAIN_WRITER_H_
#define BITFLASH_VERIFY_CLI_EXPLAIN_WRITER_H_

#include <string>
#include <string_view>
#include <vector>

#include "verify/cli/catalogue.h"
#include "verify/cli/document.h"
#include "verify/predict/explain.h"

namespace bitflash::verify {

// Bytes in a unit that lets neighbouring numbers be compared: MiB from 1 MiB to 100,000 MiB, KiB and B below, GiB and
// TiB above; "16,384 MiB", "2.0 MiB", "32 MiB".
std::string Amount(int64_t bytes);

// "3.25", "103": a factor in a sentence that says what it is a factor of.
std::string Ratio(double factor);

// K and V in the compulsory HBM reads.
int64_t KvBytes(const KernelCost& cost);

// What every part needs. The parts are methods, grouped by file: explain_kernels.cc (1 to 3), explain_decode.cc (4),
// explain_compare.cc (5, 6), explain_closing.cc (7, 8, claims, verdict).
class ExplainWriter {
 public:
  ExplainWriter(const Explanation& explanation, const Catalogue& catalogue) : e_(explanation), text_(catalogue) {}

  std::string Title() const;
  DocumentPart Introduction() const;
  DocumentPart Standard() const;    // 1
  DocumentPart OnChipPart() const;  // 2
  DocumentPart LoopPart() const;    // 3
  DocumentPart Decode() const;      // 4
  DocumentPart Comparison() const;  // 5
  DocumentPart Limits() const;      // 6
  DocumentPart Summary() const;     // 7
  DocumentPart Questions() const;   // 8
  DocumentPart Claims() const;
  DocumentPart Verdict() const;

  std::string ClaimTitle(const Claim& claim) const;
  std::string ClaimReason(const Claim& claim) const;
  std::string ClaimWord(ClaimVerdict verdict) const;
  std::string VerdictSentence() const;

 private:
  std::string Say(std::string_view id, const std::vector<Argument>& arguments = {}) const {
    return text_.Say(id, arguments);
  }
  DocumentPart Part(std::string id, std::string_view heading) const;
  bool decode() const { return e_.phase == data::Phase::kDecode; }
  std::string Times(double factor) const { return Say("times", {{"n", Ratio(factor)}}); }
  std::string Limiter(Bottleneck bottleneck) const;
  std::string ScoresAtRest(const Contrast& c) const;
  std::string Predicted() const;
  void AddGroups(DocumentPart& part) const;
  void AddSweep(DocumentPart& part) const;

  const Explanation& e_;
  const Catalogue& text_;
};

// The parts whose ids are in `parts` ("1" ... "8", "claims", "verdict"), all when it is empty, in order.
Document WriteExplanation(const Explanation& explanation, const Catalogue& catalogue,
                          const std::vector<std::string>& parts = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_EXPLAIN_WRITER_H_
