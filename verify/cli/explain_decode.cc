// Part 4: decode, one token against a long KV cache.
#include <algorithm>

#include "sim/splits.h"
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

  if (a.v_is_in_k) part.Paragraph(Say("p4.latent", {{"kv_bytes", Amount(kv)}, {"standard_kv", Amount(standard_kv)}}));

  const auto launches = [&](const KernelCost& cost) {
    return text_.Count("count.launches", static_cast<int64_t>(cost.count.launches.size()));
  };
  const int64_t parts = std::max<int64_t>(1, sim::SplitParts(a, c.flash.tiling));
  const int64_t unsplit = c.flash.blocks / parts;
  std::vector<Argument> gains = {{"launches_standard", launches(c.standard)},
                                 {"launches_flash", launches(c.flash)},
                                 {"sms", Grouped(e_.input.gpu.sms)}};
  if (parts > 1) {
    gains.push_back({"splits", text_.Count("count.parts", parts)});
    gains.push_back({"unsplit", text_.Count("count.blocks", unsplit)});
    gains.push_back({"blocks", Grouped(c.flash.blocks)});
    part.Paragraph(Say("p4.gains", gains));
  } else {
    gains.push_back({"blocks", text_.Count("count.blocks", c.flash.blocks)});
    part.Paragraph(Say("p4.gains.whole", gains));
  }
  if (a.group() > 1 && c.flash.tiling.pack_gqa) {
    const sim::PerTensor& l2 = c.flash.count.total.l2_to_sm;
    const int64_t requested = sim::At(l2, sim::TensorId::kK).read + sim::At(l2, sim::TensorId::kV).read;
    part.Paragraph(Say("p4.packed", {{"group", Grouped(a.group())},
                                     {"passes", text_.Count("count.passes", requested / std::max<int64_t>(1, kv))}}));
  } else if (a.group() > 1) {
    part.Paragraph(Say("p4.group", {{"group", Grouped(a.group())}}));
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
