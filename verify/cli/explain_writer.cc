#include "verify/cli/explain_writer.h"

#include <algorithm>
#include <cmath>

#include "verify/cli/units.h"

namespace bitflash::verify {

std::string Amount(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  // Mebibytes hold on for long, so that neighbouring numbers keep one unit.
  while (unit < 5 && value >= (unit < 2 ? 1024 : 100'000)) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return Grouped(bytes) + " B";
  const bool whole = value >= 10 && std::fabs(value - std::round(value)) < 1e-9;
  const int decimals = whole || value >= 100 ? 0 : 1;
  const double scale = decimals ? 10 : 1;
  const double rounded = std::round(value * scale) / scale;
  const auto integer = static_cast<int64_t>(rounded);
  std::string text = Grouped(integer);
  if (decimals)
    text += "." + std::to_string(static_cast<int64_t>(std::llround((rounded - static_cast<double>(integer)) * 10)));
  return text + " " + kUnits[unit];
}

int64_t KvBytes(const KernelCost& cost) {
  const sim::PerTensor& hbm = cost.count.total.hbm_compulsory;
  return sim::At(hbm, sim::TensorId::kK).read + sim::At(hbm, sim::TensorId::kV).read;
}

std::string Ratio(double factor) {
  const std::string text = Factor(factor);
  return text.substr(0, text.size() - 2);  // without the " x" of tables
}

DocumentPart ExplainWriter::Part(std::string id, std::string_view heading) const {
  return {id, id.size() == 1 ? id + ". " + Say(heading) : Say(heading), {}};
}

std::string ExplainWriter::Title() const {
  const data::Attention& a = e_.asked().attention;
  const std::string seqlen_q = Grouped(a.seqlen_q), seqlen_k = Grouped(a.seqlen_k);
  std::string phase;
  if (decode()) {
    phase = text_.Count("phase.decode", a.seqlen_k);
  } else if (a.seqlen_q == a.seqlen_k) {
    phase = text_.Count("phase.prefill", a.seqlen_k);
  } else {
    phase = Say("phase.chunk", {{"seqlen_q", seqlen_q}, {"seqlen_k", seqlen_k}});
  }
  const std::string subject = e_.input.model ? e_.input.model->title : Say("title.subject");
  return Say("title", {{"subject", subject}, {"gpu", e_.input.gpu.title}, {"phase", phase}});
}

DocumentPart ExplainWriter::Introduction() const {
  const data::Attention& a = e_.asked().attention;
  const KernelCost& flash = e_.asked().flash;
  DocumentPart part{"introduction", "", {}};
  part.Paragraph(Say("intro.problem",
                     {{"heads_q", text_.Count("count.heads_q", a.heads_q)},
                      {"heads_kv", text_.Count("count.heads_kv", a.heads_kv)},
                      {"head_dim", a.head_dim == a.head_dim_v ? Grouped(a.head_dim)
                                                              : Grouped(a.head_dim) + "/" + Grouped(a.head_dim_v)},
                      {"batch", Grouped(a.batch)},
                      {"format", std::string(data::Name(a.format))},
                      {"mask", data::ToString(a.mask)}}));
  if (e_.input.model) {
    const data::LayerGroup& group = e_.input.model->groups[e_.input.group];
    if (e_.input.model->groups.size() > 1) {
      part.Paragraph(
          Say("intro.group", {{"name", group.name}, {"layers", Grouped(group.layers)}, {"all", Grouped(e_.layers())}}));
    } else {
      part.Paragraph(Say("intro.layers", {{"layers", Grouped(group.layers)}}));
    }
  }
  part.Paragraph(Say("intro.baseline", {{"s_format", e_.input.fp32_scores ? "fp32" : std::string(data::Name(a.format))},
                                        {"p_format", std::string(data::Name(a.format))},
                                        {"kernel", flash.kernel},
                                        {"kernel_title", flash.title},
                                        {"Br", Grouped(flash.tiling.Br)},
                                        {"Bc", Grouped(flash.tiling.Bc)}}));
  part.Paragraph(Say("intro.legend"));
  for (const ExplainNote note : e_.notes) {
    switch (note) {
      case ExplainNote::kBf16AsFp16:
        part.Item("-", Say("note.bf16", {{"gpu", e_.input.gpu.title}}));
        break;
      case ExplainNote::kTileReduced:
        part.Item("-", Say("note.tile", {{"kernel", flash.kernel}}));
        break;
      case ExplainNote::kNoBlackwell:
        part.Item("-", Say("note.blackwell", {{"gpu", e_.input.gpu.title}, {"kernel", flash.kernel}}));
        break;
      case ExplainNote::kSoftcap:
        part.Item("-", Say("note.softcap"));
        break;
    }
  }
  return part;
}

std::string ExplainWriter::Limiter(Bottleneck bottleneck) const {
  switch (bottleneck) {
    case Bottleneck::kHbm:
      return Say("limit.hbm");
    case Bottleneck::kTensor:
      return Say("limit.tensor");
    case Bottleneck::kSpecial:
      return Say("limit.special");
  }
  return "";
}

Document WriteExplanation(const Explanation& explanation, const Catalogue& catalogue,
                          const std::vector<std::string>& parts) {
  const ExplainWriter writer(explanation, catalogue);
  Document document{writer.Title(), {}};
  for (DocumentPart part : {writer.Introduction(), writer.Standard(), writer.OnChipPart(), writer.LoopPart(),
                            writer.Decode(), writer.Comparison(), writer.Limits(), writer.Summary(), writer.Questions(),
                            writer.Claims(), writer.Verdict()}) {
    const bool wanted =
        parts.empty() || part.id == "introduction" || std::find(parts.begin(), parts.end(), part.id) != parts.end();
    if (wanted) document.parts.push_back(std::move(part));
  }
  return document;
}

}  // namespace bitflash::verify
