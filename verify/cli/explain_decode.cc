// Part 4: decode, one token against a long KV cache.
#include "verify/cli/explain_writer.h"
#include "verify/cli/units.h"

namespace bitflash::verify {

DocumentPart ExplainWriter::Decode() const {
  const Contrast& c = e_.decode;
  const data::Attention& a = c.attention;
  const int64_t kv = KvBytes(c.flash);
  const int64_t standard_kv = KvBytes(c.standard);
  DocumentPart part = Part("4", "p4.title");
  part.Paragraph(Say("p4.bytes", {{"tokens", text_.Count("count.sequences", a.batch)},
                                  {"keys", text_.Count("count.cached", a.seqlen_k)},
                                  {"kv_bytes", Amount(kv)},
                                  {"qo_bytes", Amount(c.flash.operand_bytes - kv)},
                                  {"score_bytes", Amount(c.standard.score_bytes)},
                                  {"share", Percent(c.score_share())}}));
  part.Paragraph(Say("p4.intensity", {{"flops", Flop(static_cast<double>(c.useful_flops))},
                                      {"bytes", Amount(c.flash.hbm.compulsory)},
                                      {"intensity", Prefixed(c.flash.intensity)},
                                      {"ridge", Prefixed(e_.ridge)},
                                      {"gpu", e_.input.gpu.title},
                                      {"limiter", Limiter(c.flash.bottleneck)},
                                      {"floor", Seconds(c.flash.floors.total)}}));

  const std::vector<Argument> gain = {{"score_bytes", Amount(c.standard.score_bytes)},
                                      {"kv_bytes", Amount(standard_kv)},
                                      {"before", Seconds(c.standard.floors.total)},
                                      {"after", Seconds(c.flash.floors.total)},
                                      {"ratio", Ratio(c.floor_ratio())}};
  // The same border as the claim "decode-from-scores" draws.
  const bool minor = e_.claim("decode-from-scores").verdict == ClaimVerdict::kRefuted;
  part.Paragraph((minor ? Say("p4.not_here", gain) : Say("p4.some_here", gain)) + Say("space") + ScoresAtRest(c));

  const int64_t unsplit = c.flash.blocks / c.flash.tiling.splits;
  part.Paragraph(
      Say("p4.gains",
          {{"launches_standard", text_.Count("count.launches", static_cast<int64_t>(c.standard.count.launches.size()))},
           {"launches_flash", text_.Count("count.launches", static_cast<int64_t>(c.flash.count.launches.size()))},
           {"splits", text_.Count("count.parts", c.flash.tiling.splits)},
           {"unsplit", text_.Count("count.blocks", unsplit)},
           {"blocks", Grouped(c.flash.blocks)},
           {"sms", Grouped(e_.input.gpu.sms)}}));
  if (a.group() > 1) {
    part.Paragraph(c.flash.tiling.pack_gqa ? Say("p4.packed", {{"group", Grouped(a.group())}})
                                           : Say("p4.group", {{"group", Grouped(a.group())}}));
  }
  part.Paragraph(Say("p4.fewer_bytes"));
  if (e_.input.model) {
    const int64_t layers = e_.input.model->groups[e_.input.group].layers;
    part.Paragraph(Say("p4.model", {{"layers", text_.Count("count.layers", layers)},
                                    {"bytes", Amount(kv * layers)},
                                    {"time", Seconds(c.flash.floors.total * static_cast<double>(layers))}}));
  }
  return part;
}

}  // namespace bitflash::verify
