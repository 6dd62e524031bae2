#include "verify/cases/case_input.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <set>

#include "data/error.h"
#include "data/text.h"
#include "verify/cases/case_names.h"
#include "verify/judge/compare.h"

namespace bitflash::verify {
namespace {

using data::ElementType;
using data::Format;
using data::InputError;
using data::Quoted;
using data::Tensor;
using data::TensorFile;

// A number as {:a} or decimals write it, all of the text. Does not depend on the locale, as strtod does.
std::optional<double> ParseDouble(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  std::chars_format format = std::chars_format::general;
  if (text.starts_with("0x")) {
    text.remove_prefix(2);
    format = std::chars_format::hex;
  }
  double value = 0;
  if (text.starts_with('-')) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, format);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negative ? -value : value;
}

class Reader {
 public:
  Reader(const TensorFile& file, std::string_view origin, const CaseHints& hints)
      : file_(file), origin_(origin), hints_(hints) {}

  CaseInput Run() {
    LaidOut laid_out = TakeTensors();
    const Reading reading =
        FindReading(laid_out, TakeLayout("layout", hints_.layout), TakeLayout("kv_layout", hints_.kv_layout), origin_);
    if (!reading.reason.empty()) Assume(reading.reason);
    result_.alternatives = reading.alternatives;
    Arranged arranged = Arrange(laid_out, reading, origin_);
    for (std::string& assumption : arranged.assumptions) Assume(std::move(assumption));

    Problem& p = result_.saved.problem;
    data::Attention& a = p.attention;
    a.format = *laid_out.q.type().format();
    p.q = arranged.q;
    p.k = arranged.k;
    if (arranged.v) p.v = *arranged.v;
    a.batch = p.q.shape()[0];
    a.heads_q = p.q.shape()[1];
    a.seqlen_q = p.q.shape()[2];
    a.head_dim = p.q.shape()[3];
    a.heads_kv = p.k.shape()[1];
    a.seqlen_k = p.k.shape()[2];
    a.v_is_in_k = !arranged.v;
    a.head_dim_v = arranged.v ? p.v.shape()[3] : *v_in_k_;
    p.seqlens_q = arranged.seqlens_q;
    p.seqlens_k = arranged.seqlens_k;
    TakeNumbers();
    Refine([&] { Validate(p); });
    if (arranged.o) {
      if (arranged.o->shape()[3] != a.head_dim_v) {
        Fail(fmt::format("o has head_dim {}: expected {}", arranged.o->shape()[3], a.head_dim_v));
      }
      result_.saved.observed = Outputs{*arranged.o, arranged.lse};
    }
    for (const auto& [key, value] : file_.metadata) {
      if (!IsCaseField(key)) result_.saved.notes.emplace(key, value);
    }
    for (const auto& [name, tensor] : file_.tensors) {
      if (!used_.contains(name)) Assume(fmt::format("tensor {} is not looked at", Quoted(name)));
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const { throw InputError(fmt::format("{}: {}", origin_, what)); }
  void Assume(std::string what) { result_.assumptions.push_back(std::move(what)); }

  // What the file gave is wrong, so what the checks of data/ and problem.h throw is an error of the file.
  template <typename Check>
  auto Refine(Check check) const -> decltype(check()) {
    try {
      return check();
    } catch (const data::UsageError& error) {
      Fail(error.what());
    }
  }

  const Tensor* Find(const Synonyms& synonyms) {
    const Tensor* found = nullptr;
    std::string_view found_name;
    for (const std::string& name : synonyms.names) {
      const auto at = file_.tensors.find(name);
      if (at == file_.tensors.end()) continue;
      used_.insert(name);
      if (found)
        Fail(fmt::format("tensors '{}' and '{}' are names of the same: expected one of them", found_name, name));
      found = &at->second;
      found_name = name;
    }
    if (found && found_name != synonyms.names.front()) {
      Assume(fmt::format("tensor '{}' is {}", found_name, synonyms.names.front()));
    }
    return found;
  }

  const Tensor& Require(const Synonyms& synonyms) {
    if (const Tensor* found = Find(synonyms)) return *found;
    std::string names;
    size_t shown = 0;
    for (const auto& entry : file_.tensors) {
      if (++shown > 20) break;
      names += (names.empty() ? "" : ", ") + Quoted(entry.first);
    }
    Fail(fmt::format("no tensor '{}'; it holds {}", synonyms.names.front(), names.empty() ? "none" : names));
  }

  const std::string* Metadata(const std::string& key) const {
    const auto found = file_.metadata.find(key);
    return found == file_.metadata.end() ? nullptr : &found->second;
  }

  // A string of the metadata as a number, a layout, ...; `parse` throws UsageError.
  template <typename Parse>
  auto ParseMetadata(const std::string& key, Parse parse) const -> std::optional<decltype(parse(std::string()))> {
    const std::string* text = Metadata(key);
    if (!text) return std::nullopt;
    try {
      // A hostile string must not reach the message unquoted, as those of ParseMask would.
      return parse(*text);
    } catch (const data::UsageError&) {
      Fail(fmt::format("__metadata__ '{}' is {}: expected {}", key, Quoted(*text), Accepted(key)));
    }
  }

  static std::string_view Accepted(std::string_view key) {
    if (key == "layout" || key == "kv_layout") return "bhsd, bshd or thd";
    if (key == "mask") return "full, causal, causal-top-left or window(LEFT,RIGHT), where -1 is no limit";
    if (key == "v_in_k") return "a number of columns, 1 or more";
    if (key == "dtype" || key == "o_dtype") return "fp32, tf32, fp16, bf16, e4m3 or e5m2";
    return "a number, as 0.125 or 0x1p-3";
  }

  std::optional<CaseLayout> TakeLayout(const char* key, const std::optional<CaseLayout>& hint) const {
    if (hint) return hint;
    return ParseMetadata(key, [](const std::string& text) { return ParseCaseLayout(text); });
  }

  // Bit patterns become what the hint or the metadata says they are.
  Tensor AsFormat(const char* name, const Tensor& tensor, const char* key, std::optional<Format> said,
                  std::optional<Format> fallback) {
    const auto stated = said ? said : ParseMetadata(key, [](const std::string& t) { return data::ParseFormat(t); });
    std::optional<Format> format = stated;
    const std::optional<Format> own = tensor.type().format();
    if (own && (!format || *format == *own)) {
      format = own;
    } else if (own) {
      // tf32 is kept in fp32 tensors.
      const bool view = *own == Format::kFp32 && *format == Format::kTf32;
      if (!view) Fail(fmt::format("{} holds {}: expected {}, as said", name, data::Name(*own), data::Name(*format)));
    } else if (!format && fallback && data::StorageBytes(*fallback) == tensor.type().bytes()) {
      format = fallback;
      Assume(fmt::format("{} holds bit patterns of {} bits, read as {}", name, 8 * tensor.type().bytes(),
                         data::Name(*format)));
    }
    if (!format) {
      Fail(fmt::format("{} holds {}, bit patterns or integers: expected that the format is said ({})", name,
                       Name(tensor.type()),
                       tensor.type().bytes() == 1   ? "e4m3 or e5m2"
                       : tensor.type().bytes() == 2 ? "fp16 or bf16"
                                                    : "there is none of this size but fp32 and tf32"));
    }
    if (*format == Format::kFp64) Fail(fmt::format("{} holds fp64: expected fp32, fp16, bf16, e4m3 or e5m2", name));
    if (tensor.type().bytes() != data::StorageBytes(*format)) {
      Fail(fmt::format("{} holds {}: expected {}, as said", name, Name(tensor.type()), data::Name(*format)));
    }
    return Refine([&] { return tensor.View(*format); });
  }

  std::optional<std::vector<int64_t>> TakeIntegers(const Synonyms& synonyms, size_t least) {
    const Tensor* tensor = Find(synonyms);
    if (!tensor) return std::nullopt;
    const std::string& name = synonyms.names.front();
    if (!tensor->type().IsInteger() || tensor->dimensions() != 1 || tensor->count() < static_cast<int64_t>(least)) {
      Fail(fmt::format("{} has the shape {} of {}: expected a list of {} integers or more", name,
                       data::ShapeString(tensor->shape()), Name(tensor->type()), least));
    }
    return Refine([&] { return data::ToIntegers(*tensor); });
  }

  LaidOut TakeTensors() {
    LaidOut result;
    result.q = AsFormat("q", Require(kQ), "dtype", hints_.format, std::nullopt);
    const Format format = *result.q.type().format();
    const auto like_q = [&](const char* name, const Tensor& tensor) {
      Tensor t = AsFormat(name, tensor, "dtype", hints_.format, format);
      if (t.type() == result.q.type()) return t;
      Fail(fmt::format("{} holds {} and q {}: expected one format", name, Name(t.type()), data::Name(format)));
    };
    result.k = like_q("k", Require(kK));
    v_in_k_ = hints_.v_in_k ? hints_.v_in_k : ParseMetadata("v_in_k", [](const std::string& text) {
      int64_t columns = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), columns);
      if (error != std::errc() || end != text.data() + text.size()) throw data::UsageError("v_in_k");
      return columns;
    });
    if (v_in_k_) {
      if (Find(kV)) Fail("there is a tensor v, but v_in_k says that V is part of K: expected one of them");
    } else {
      result.v = like_q("v", Require(kV));
    }
    if (const Tensor* o = Find(kO)) result.o = AsFormat("o", *o, "o_dtype", hints_.output_format, format);
    if (const Tensor* lse = Find(kLse)) {
      if (!result.o) Fail("there is lse but no o: expected both, or o alone");
      if (lse->type() != ElementType(Format::kFp32)) {
        Fail(fmt::format("lse holds {}: expected fp32", Name(lse->type())));
      }
      result.lse = *lse;
    }
    result.cu_seqlens_q = TakeIntegers(kCuQ, 2);
    result.cu_seqlens_k = TakeIntegers(kCuK, 2);
    result.seqlens_q = TakeIntegers(kSeqlensQ, 1);
    result.seqlens_k = TakeIntegers(kSeqlensK, 1);
    if (const Tensor* table = Find(kBlockTable)) {
      if (!table->type().IsInteger() || table->dimensions() != 2 || table->count() < 1) {
        Fail(fmt::format("block_table has the shape {} of {}: expected [batch, pages a sequence] of integers",
                         data::ShapeString(table->shape()), Name(table->type())));
      }
      result.block_table = *table;
    }
    if (const Tensor* sinks = Find(kSinks)) {
      if (sinks->type().IsInteger() || sinks->dimensions() != 1) {
        Fail(fmt::format("sinks has the shape {} of {}: expected [heads_q] of a float format",
                         data::ShapeString(sinks->shape()), Name(sinks->type())));
      }
      std::vector<double>& values = result_.saved.problem.sinks;
      for (int64_t h = 0; h < sinks->count(); ++h) values.push_back(verify::ValueOf(sinks->type(), sinks->Bits({h})));
      result.sinks = sinks->count();
    }
    return result;
  }

  // The value of a scalar tensor or of a string of the metadata; the hint wins.
  std::optional<double> TakeNumber(const Synonyms& synonyms, const char* key, std::optional<double> hint) {
    const std::string& name = synonyms.names.front();
    std::optional<double> value = ParseMetadata(key, [](const std::string& text) {
      const std::optional<double> number = ParseDouble(text);
      if (!number || !std::isfinite(*number)) throw data::UsageError("number");
      return *number;
    });
    if (const Tensor* tensor = Find(synonyms)) {
      if (tensor->count() < 1 || tensor->type().IsInteger()) {
        Fail(fmt::format("{} has the shape {} of {}: expected one number of a float format", name,
                         data::ShapeString(tensor->shape()), Name(tensor->type())));
      }
      // FlashAttention-3 takes one a sequence and head, which often are all the same.
      const Tensor numbers = tensor->Reshaped({tensor->count()});
      const double number = verify::ValueOf(tensor->type(), numbers.Bits({0}));
      for (int64_t i = 1; i < numbers.count(); ++i) {
        if (numbers.Bits({i}) == numbers.Bits({0})) continue;
        throw data::UndecidedError(
            fmt::format("{}: {} has the shape {} and unequal numbers: only one a tensor is modelled", origin_, name,
                        data::ShapeString(tensor->shape())));
      }
      if (value && *value != number) Fail(fmt::format("{} is {} and in __metadata__ {}", name, number, *value));
      value = number;
    }
    if (hint && value && *hint != *value)
      Assume(fmt::format("{} is {}, as given; the file says {}", name, *hint, *value));
    return hint ? hint : value;
  }

  void TakeNumbers() {
    Problem& p = result_.saved.problem;
    data::Attention& a = p.attention;
    const auto mask = ParseMetadata("mask", [](const std::string& text) { return data::ParseMask(text); });
    if (hints_.mask && mask && *mask != *hints_.mask) {
      Assume(
          fmt::format("mask is {}, as given; the file says {}", data::ToString(*hints_.mask), data::ToString(*mask)));
    }
    if (!hints_.mask && !mask) Assume("mask full: nothing says which");
    a.mask = hints_.mask ? *hints_.mask : mask.value_or(data::Mask::Full());
    a.softmax_scale = TakeNumber(kScale, "scale", hints_.softmax_scale);
    if (!a.softmax_scale) Assume(fmt::format("scale {:.6g}, 1 / sqrt(head_dim): nothing says which", a.scale()));
    a.softcap = TakeNumber(kSoftcap, "softcap", hints_.softcap).value_or(0);
    p.q_scale = TakeNumber(kQScale, "q_scale", hints_.q_scale).value_or(1);
    p.k_scale = TakeNumber(kKScale, "k_scale", hints_.k_scale).value_or(1);
    p.v_scale = TakeNumber(kVScale, "v_scale", hints_.v_scale).value_or(1);
  }

  const TensorFile& file_;
  std::string_view origin_;
  const CaseHints& hints_;
  std::set<std::string> used_;
  std::optional<int64_t> v_in_k_;
  CaseInput result_;
};

}  // namespace

CaseInput CaseFromTensors(const TensorFile& file, std::string_view origin, const CaseHints& hints) {
  return Reader(file, origin, hints).Run();
}

}  // namespace bitflash::verify
