// Parts 7 and 8 and what follows them: the summary, two questions, the claims, the verdict.
#include <cmath>

#include "verify/cli/explain_writer.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

// What the closing sentences are made of; each sentence takes what it needs.
class Facts {
 public:
  explicit Facts(const Explanation& e) : p_(e.prefill), d_(e.decode), e_(e) {}

  Argument operator()(std::string_view name) const { return {name, Value(name)}; }
  std::vector<Argument> operator()(std::initializer_list<std::string_view> names) const {
    std::vector<Argument> arguments;
    for (const std::string_view name : names) arguments.push_back((*this)(name));
    return arguments;
  }

 private:
  std::string Value(std::string_view name) const {
    const Contrast& c = e_.asked();
    if (name == "score_bytes") return Amount(c.standard.score_bytes);
    if (name == "operand_bytes") return Amount(c.standard.operand_bytes);
    if (name == "standard_bytes") return Amount(c.standard.hbm.compulsory);
    if (name == "flash_bytes") return Amount(c.flash.hbm.compulsory);
    if (name == "requested_bytes") return Amount(c.flash.hbm.requested);
    if (name == "share") return Percent(c.score_share());
    if (name == "seen") return Amount(c.scores_in_hbm());
    if (name == "standard_predicted") return Amount(c.standard.hbm.predicted.value());
    if (name == "flash_predicted") return Amount(c.flash.hbm.predicted.value());
    if (name == "before") return Seconds(c.standard.floors.total);
    if (name == "after") return Seconds(c.flash.floors.total);
    if (name == "ratio") return Ratio(c.floor_ratio());
    if (name == "standard_intensity") return Prefixed(c.standard.intensity);
    if (name == "flash_intensity") return Prefixed(c.flash.intensity);
    if (name == "ridge") return Prefixed(e_.ridge);
    if (name == "prefill_tokens") return Grouped(p_.attention.seqlen_k);
    if (name == "prefill_score_bytes") return Amount(p_.standard.score_bytes);
    if (name == "prefill_share") return Percent(p_.score_share());
    if (name == "prefill_standard_intensity") return Prefixed(p_.standard.intensity);
    if (name == "prefill_flash_intensity") return Prefixed(p_.flash.intensity);
    if (name == "prefill_seen") return Amount(p_.scores_in_hbm());
    if (name == "prefill_standard_predicted") return Amount(p_.standard.hbm.predicted.value());
    if (name == "prefill_flash_predicted") return Amount(p_.flash.hbm.predicted.value());
    if (name == "prefill_ratio") return Ratio(p_.floor_ratio());
    if (name == "prefill_before") return Seconds(p_.standard.floors.total);
    if (name == "prefill_after") return Seconds(p_.flash.floors.total);
    if (name == "decode_score_bytes") return Amount(d_.standard.score_bytes);
    if (name == "decode_kv_bytes") return Amount(KvBytes(d_.standard));
    if (name == "decode_share") return Percent(d_.score_share());
    if (name == "decode_seen") return Amount(d_.scores_in_hbm());
    if (name == "decode_ratio") return Ratio(d_.floor_ratio());
    if (name == "decode_intensity") return Prefixed(d_.flash.intensity);
    if (name == "decode_before") return Seconds(d_.standard.floors.total);
    if (name == "decode_after") return Seconds(d_.flash.floors.total);
    if (name == "gpu") return e_.input.gpu.title;
    if (name == "kernel") return c.flash.kernel;
    if (name == "row_keys") return Grouped(c.attention.seqlen_k);
    throw std::logic_error("no fact is called " + std::string(name));
  }

  const Contrast& p_;
  const Contrast& d_;
  const Explanation& e_;
};

}  // namespace

DocumentPart ExplainWriter::Summary() const {
  const Facts facts(e_);
  DocumentPart part = Part("7", "p7.title");
  switch (e_.conclusion) {
    case Conclusion::kRemovesHbm:
      part.Paragraph(Say("p7.removes", facts({"score_bytes", "share", "standard_bytes", "flash_bytes", "before",
                                              "after", "gpu", "standard_intensity", "flash_intensity", "ridge"})));
      break;
    case Conclusion::kScoresInL2:
      part.Paragraph(Say("p7.in_l2", facts({"score_bytes", "share", "seen", "gpu", "standard_bytes", "flash_bytes"})));
      break;
    case Conclusion::kSmallGain:
      part.Paragraph(e_.asked().floor_ratio() < 1
                         ? Say("p7.more", facts({"score_bytes", "share", "before", "after", "gpu", "flash_predicted",
                                                 "standard_predicted"}))
                         : Say("p7.small", facts({"score_bytes", "share", "before", "after", "gpu", "ratio"})));
      break;
    case Conclusion::kDecodeElsewhere:
    case Conclusion::kDecodeShare:
      part.Paragraph(Say(e_.conclusion == Conclusion::kDecodeElsewhere ? "p7.decode" : "p7.decode_share",
                         facts({"row_keys", "decode_kv_bytes", "decode_score_bytes", "decode_share", "decode_intensity",
                                "ridge", "gpu", "decode_before", "decode_after"})));
      break;
    case Conclusion::kDecodeInL2:
      part.Paragraph(Say("p7.decode_in_l2", facts({"row_keys", "decode_kv_bytes", "decode_score_bytes", "decode_share",
                                                   "decode_seen", "gpu", "decode_before", "decode_after"})));
      break;
  }
  return part;
}

DocumentPart ExplainWriter::Questions() const {
  const Facts facts(e_);
  DocumentPart part = Part("8", "p8.title");
  part.Paragraph(Say("p8.q1"));
  part.Paragraph(Say("p8.a1", facts({"score_bytes", "operand_bytes", "row_keys", "requested_bytes"})));
  part.Paragraph(Say("p8.q2"));
  const std::string prefill =
      e_.prefill.scores_stay_in_l2()
          ? Say("p8.a2.prefill_l2", facts({"prefill_tokens", "prefill_score_bytes", "prefill_seen"}))
      : e_.prefill.floor_ratio() < 1
          ? Say("p8.a2.prefill_more", facts({"prefill_tokens", "prefill_score_bytes", "prefill_flash_predicted",
                                             "prefill_standard_predicted"}))
          : Say("p8.a2.prefill",
                facts({"prefill_tokens", "prefill_score_bytes", "prefill_share", "prefill_standard_intensity",
                       "prefill_flash_intensity", "ridge", "prefill_before", "prefill_after"}));
  const bool minor = e_.claim("decode-from-scores").verdict == ClaimVerdict::kRefuted;
  const std::string decode =
      Say(minor ? "p8.a2.decode" : "p8.a2.decode_share",
          facts({"decode_score_bytes", "decode_kv_bytes", "decode_share", "decode_before", "decode_after"}));
  part.Paragraph(prefill);
  part.Paragraph(decode);
  return part;
}

std::string ExplainWriter::ClaimWord(ClaimVerdict verdict) const {
  switch (verdict) {
    case ClaimVerdict::kSupported:
      return Say("word.supported");
    case ClaimVerdict::kRefuted:
      return Say("word.refuted");
    case ClaimVerdict::kDepends:
      return Say("word.depends");
  }
  return "";
}

DocumentPart ExplainWriter::Claims() const {
  DocumentPart part{"claims", Say("claims.title"), {}};
  for (const Claim& claim : e_.claims) {
    part.Item("-", Say("claims.item", {{"claim", ClaimTitle(claim)},
                                       {"verdict", ClaimWord(claim.verdict)},
                                       {"reason", ClaimReason(claim)}}));
  }
  return part;
}

std::string ExplainWriter::VerdictSentence() const {
  const Facts facts(e_);
  switch (e_.conclusion) {
    case Conclusion::kRemovesHbm:
      return Say("verdict.removes", facts({"seen", "standard_predicted", "before", "after", "ratio"}));
    case Conclusion::kScoresInL2:
      return Say("verdict.in_l2", facts({"score_bytes", "seen"}));
    case Conclusion::kDecodeInL2:
      return Say("verdict.decode_in_l2",
                 facts({"decode_score_bytes", "decode_kv_bytes", "decode_share", "decode_seen"}));
    case Conclusion::kSmallGain:
      if (e_.asked().floor_ratio() < 1) {
        return Say("verdict.more", facts({"before", "after", "flash_predicted", "standard_predicted"}));
      }
      return Say("verdict.small", facts({"before", "after"}));
    case Conclusion::kDecodeElsewhere:
      return Say("verdict.decode", facts({"decode_score_bytes", "decode_kv_bytes", "decode_share"}));
    case Conclusion::kDecodeShare:
      return Say("verdict.decode_share",
                 facts({"decode_score_bytes", "decode_kv_bytes", "decode_share", "decode_seen"}));
  }
  return "";
}

DocumentPart ExplainWriter::Verdict() const {
  DocumentPart part{"verdict", Say("verdict.title"), {}};
  part.Paragraph(VerdictSentence());
  return part;
}

}  // namespace bitflash::verify
