#include "verify/cli/difference_text.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "verify/cli/text.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

std::string Decimal(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : fmt::format("{:g}", value);
}

// JSON has no NaN and no infinity: they are strings.
Json NumberJson(double value) { return std::isfinite(value) ? Json(value) : Json(Decimal(value)); }

std::string PairText(const Difference& d, const SideNames& sides, const ElementPair& pair) {
  return fmt::format("{}: {} {} = {}, {} {} = {}", data::ShapeString(pair.index), sides.a, HexBits(d.type, pair.a_bits),
                     Decimal(ValueOf(d.type, pair.a_bits)), sides.b, HexBits(d.type, pair.b_bits),
                     Decimal(ValueOf(d.type, pair.b_bits)));
}

Json PairJson(const Difference& d, const ElementPair& pair) {
  const auto side = [&](uint64_t bits) {
    return Json{{"bits", HexBits(d.type, bits)}, {"value", NumberJson(ValueOf(d.type, bits))}};
  };
  return {{"index", pair.index}, {"a", side(pair.a_bits)}, {"b", side(pair.b_bits)}};
}

}  // namespace

std::string DifferenceText(const NamedDifference& named, const SideNames& sides, bool color) {
  const Difference& d = named.difference;
  std::string text =
      fmt::format("{}  {} {}, {} elements: {}\n", Paint(named.name, Colour::kBold, color), Name(d.type),
                  data::ShapeString(d.shape), Grouped(d.elements),
                  d.identical() ? Paint("identical", Colour::kGreen, color) : Paint("different", Colour::kRed, color));
  if (d.a_nan + d.b_nan + d.a_infinite + d.b_infinite > 0) {
    text += fmt::format("  non-finite   {} {} NaN, {} inf; {} {} NaN, {} inf\n", sides.a, Grouped(d.a_nan),
                        Grouped(d.a_infinite), sides.b, Grouped(d.b_nan), Grouped(d.b_infinite));
  }
  if (d.kind_differs > 0) {
    text += fmt::format("               at {} positions only one is, or another; first {}\n", Grouped(d.kind_differs),
                        PairText(d, sides, d.first_kind));
  }
  if (d.identical()) return text;
  text += fmt::format(
      "  bits         {} of {} elements differ ({}); first {}\n", Grouped(d.bits_differ), Grouped(d.elements),
      Percent(static_cast<double>(d.bits_differ) / static_cast<double>(d.elements)), PairText(d, sides, d.first));
  if (d.nan_bits_differ > 0) text += fmt::format("  NaN bits     {} differ\n", Grouped(d.nan_bits_differ));
  if (d.zero_sign_differs > 0)
    text += fmt::format("  zeros        {} of the other sign\n", Grouped(d.zero_sign_differs));
  if (d.max_ulps > 0) {
    text += fmt::format("  most ulps    {} at {}\n", d.max_ulps, PairText(d, sides, d.worst_ulps));
    text += fmt::format("  absolute     {} at {}\n", Decimal(d.max_abs), PairText(d, sides, d.worst_abs));
    text +=
        fmt::format("  relative     {} (to {}) at {}\n", Decimal(d.max_rel), sides.b, PairText(d, sides, d.worst_rel));
  }
  return text;
}

Json DifferenceJson(const NamedDifference& named) {
  const Difference& d = named.difference;
  const auto worst = [&](Json value, const ElementPair& pair) {
    return d.max_ulps > 0 ? Json{{"value", std::move(value)}, {"at", PairJson(d, pair)}} : Json(nullptr);
  };
  return {{"name", named.name},
          {"dtype", Name(d.type)},
          {"shape", d.shape},
          {"elements", d.elements},
          {"identical", d.identical()},
          {"non_finite",
           {{"a", {{"nan", d.a_nan}, {"inf", d.a_infinite}}},
            {"b", {{"nan", d.b_nan}, {"inf", d.b_infinite}}},
            {"positions_differ", d.kind_differs},
            {"first", d.kind_differs > 0 ? PairJson(d, d.first_kind) : Json(nullptr)}}},
          {"bits_differ", d.bits_differ},
          {"first", d.bits_differ > 0 ? PairJson(d, d.first) : Json(nullptr)},
          {"nan_bits_differ", d.nan_bits_differ},
          {"zero_sign_differs", d.zero_sign_differs},
          {"max_ulps", worst(d.max_ulps, d.worst_ulps)},
          {"max_abs", worst(NumberJson(d.max_abs), d.worst_abs)},
          {"max_rel", worst(NumberJson(d.max_rel), d.worst_rel)}};
}

}  // namespace bitflash::verify
