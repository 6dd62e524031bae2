#include "verify/subjects/plugin.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "data/error.h"
#include "data/text.h"
#include "verify/plugin_host/call.h"
#include "verify/plugin_host/process.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::Tensor;
using data::UsageError;
using Kind = PluginError::Kind;

constexpr size_t kMostInitJson = 64 << 10;
constexpr int64_t kMostRowPadding = 4096;

void RequireInside(const char* name, int64_t value, int64_t least, int64_t most) {
  if (least <= value && value <= most) return;
  throw UsageError(fmt::format("{} is {}: expected {} to {}", name, value, least, most));
}

void Validate(const PluginOptions& options) {
  if (options.path.empty()) throw UsageError("the path of the plug-in is empty: expected a shared library");
  if (options.path.find('\0') != std::string::npos) throw UsageError("the path of the plug-in contains a NUL");
  if (options.init_json.size() > kMostInitJson || options.init_json.find('\0') != std::string::npos) {
    throw UsageError(fmt::format("the text for init() has {} bytes or contains a NUL: expected at most {} and none",
                                 options.init_json.size(), kMostInitJson));
  }
  if (!(options.timeout_s > 0)) {
    throw UsageError(fmt::format("timeout_s is {}: expected a number above 0", options.timeout_s));
  }
  RequireInside("memory_limit_bytes", options.memory_limit_bytes, 0, INT64_MAX);
  RequireInside("row_padding", options.row_padding, 0, kMostRowPadding);
  RequireInside("alignment_bytes", options.alignment_bytes, 16, 4096);
  if (!std::has_single_bit(static_cast<uint64_t>(options.alignment_bytes))) {
    throw UsageError(fmt::format("alignment_bytes is {}: expected a power of two", options.alignment_bytes));
  }
  RequireInside("num_splits", options.num_splits, 0, INT32_MAX);

  const auto refuse = [&](const char* why) {
    throw data::InputError("plug-in " + data::Quoted(options.path) + ": " + why);
  };
  struct stat status {};
  if (stat(options.path.c_str(), &status) != 0) refuse(std::strerror(errno));
  // A FIFO or a device would make dlopen wait or worse.
  if (!S_ISREG(status.st_mode)) refuse("not a regular file: expected a shared library");
  if (access(options.path.c_str(), R_OK) != 0) refuse(std::strerror(errno));
}

// Elements of `part` of each sequence's own rows: of all others the outputs say nothing.
template <typename F>
void ForEachValid(const Problem& problem, const Tensor& tensor, F&& element) {
  const int64_t heads = tensor.shape()[1], rows = tensor.shape()[2];
  const int64_t columns = tensor.dimensions() == 4 ? tensor.shape()[3] : 1;
  for (int64_t pair = 0; pair < tensor.shape()[0] * heads; ++pair) {
    const int64_t begin = pair * rows * columns;
    for (int64_t i = begin; i < begin + problem.queries(pair / heads) * columns; ++i) element(i);
  }
}

// f(elements): with a span of unsigned integers as wide as the elements.
template <typename F>
auto WithBits(const Tensor& tensor, F&& f) {
  switch (tensor.type().bytes()) {
    case 1:
      return f(tensor.Elements<uint8_t>());
    case 2:
      return f(tensor.Elements<uint16_t>());
    default:
      return f(tensor.Elements<uint32_t>());
  }
}

// Elements at which pick(bits of a, bits of b) is true.
template <typename F>
int64_t Count(const Problem& problem, const Tensor& a, const Tensor& b, F&& pick) {
  return WithBits(a, [&](auto as) {
    const auto bs = b.Elements<std::remove_cv_t<typename decltype(as)::element_type>>();
    int64_t count = 0;
    ForEachValid(problem, a, [&](int64_t i) { count += pick(uint32_t{as[i]}, uint32_t{bs[i]}); });
    return count;
  });
}

uint32_t SignBit(const Tensor& tensor) { return 1u << (8 * tensor.type().bytes() - 1); }

Problem WithVNegated(const Problem& problem) {
  Problem result = problem;
  result.v = problem.v.Clone();
  const uint32_t sign = SignBit(result.v);
  const auto negate = [sign](auto elements) {
    for (auto& element : elements) element = static_cast<std::remove_reference_t<decltype(element)>>(element ^ sign);
  };
  switch (result.v.type().bytes()) {
    case 1:
      negate(result.v.Elements<uint8_t>());
      break;
    case 2:
      negate(result.v.Elements<uint16_t>());
      break;
    default:
      negate(result.v.Elements<uint32_t>());
  }
  return result;
}

// Neither zero nor NaN: the exponent and fraction of an IEEE-like format above those of its infinity, or e4m3's NaN.
bool HasSign(Format format, uint32_t bits) {
  const data::FormatInfo& info = data::Info(format);
  const uint32_t magnitude = bits & ((1u << (info.exponent_bits + info.fraction_bits)) - 1);
  const uint32_t infinity = ((1u << info.exponent_bits) - 1) << info.fraction_bits;
  return magnitude != 0 && (info.has_infinity ? magnitude <= infinity : magnitude < (infinity | 7));
}

std::string FpControlNote(const wire::Report& report, const char* when) {
#if defined(__x86_64__)
  return fmt::format("{}: MXCSR 0x{:04x} became 0x{:04x}, x87 control word 0x{:03x} became 0x{:03x}", when,
                     report.fp_expected & 0xffffffff, report.fp_found & 0xffffffff, report.fp_expected >> 32,
                     report.fp_found >> 32);
#else
  return fmt::format("{}: the control word 0x{:x} became 0x{:x}", when, report.fp_expected, report.fp_found);
#endif
}

}  // namespace

std::string_view Name(Kind kind) {
  switch (kind) {
    case Kind::kHost:
      return "host";
    case Kind::kLoad:
      return "load";
    case Kind::kAbi:
      return "abi";
    case Kind::kErrorCode:
      return "error-code";
    case Kind::kCrash:
      return "crash";
    case Kind::kExit:
      return "exit";
    case Kind::kTimeout:
      return "timeout";
    case Kind::kGuardPage:
      return "guard-page";
    case Kind::kWroteOutside:
      break;
  }
  return "wrote-outside";
}

class PluginSubject::Impl {
 public:
  explicit Impl(PluginOptions options) : options_(std::move(options)) {
    Validate(options_);
    options_.path = std::filesystem::absolute(options_.path).string();  // dlopen would search for a bare name
  }

  const PluginOptions& options() const { return options_; }

  // The process that is alive, or a new one.
  HostProcess& Host() {
    if (!host_) {
      printed_while_loading_.clear();
      host_ = std::make_unique<HostProcess>(options_);
      printed_while_loading_ = host_->TakePrinted();
    }
    return *host_;
  }

  // The outputs as they are, LSE included if all of it is unwritten.
  PluginRun Call(const Problem& problem, Variant variant);
  void Close();

 private:
  PluginOptions options_;
  std::unique_ptr<HostProcess> host_;
  std::string printed_while_loading_;
};

PluginRun PluginSubject::Impl::Call(const Problem& problem, Variant variant) {
  Validate(problem);
  PluginCall call(problem, options_, variant);
  wire::Report report;
  try {
    report = Host().Call(call.request(), call.inputs(), call.outputs());
    const std::string why = report.text[0] ? ": " + data::Quoted(report.text) : "";
    const char* stage = report.stage == wire::Stage::kSupports ? "supports()" : "forward()";
    switch (report.outcome) {
      case wire::Outcome::kOk:
        break;
      case wire::Outcome::kUnsupported:
        throw data::UndecidedError(fmt::format("{} says in {} that it does not take this problem ({}){}",
                                               data::Quoted(options_.path), stage, ToString(problem.attention), why));
      case wire::Outcome::kErrorCode:
        host_->Fail(Kind::kErrorCode, fmt::format("returned {} from {}{}", report.code, stage, why));
      default:
        host_->Fail(Kind::kHost, "could not be called" + why);
    }
    const std::string outside = call.Outside();
    if (!outside.empty()) host_->Fail(Kind::kWroteOutside, outside);
  } catch (const data::UndecidedError&) {
    throw;
  } catch (...) {
    host_.reset();
    throw;
  }

  PluginRun run;
  run.outputs = {call.O(), call.Lse()};
  run.seconds = report.seconds;
  run.stderr_tail = std::exchange(printed_while_loading_, "") + host_->TakePrinted();
  const wire::Report& loaded = host_->loaded();
  run.changed_fp_control = loaded.fp_changed || report.fp_changed;
  if (loaded.fp_changed) run.fp_control_note = FpControlNote(loaded, "loading");
  if (report.fp_changed) {
    run.fp_control_note += (run.fp_control_note.empty() ? "" : "; ") + FpControlNote(report, "the call");
  }
  return run;
}

void PluginSubject::Impl::Close() {
  const std::unique_ptr<HostProcess> host = std::move(host_);
  if (host) host->Close();
}

PluginSubject::PluginSubject(PluginOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

PluginSubject::~PluginSubject() {
  try {
    Close();
  } catch (const std::exception&) {  // the outputs are in; what the plug-in does at its end changes nothing
  }
}

std::string PluginSubject::name() const { return std::filesystem::path(impl_->options().path).filename().string(); }

std::string PluginSubject::description() {
  const wire::Report& loaded = impl_->Host().loaded();
  return std::string(loaded.name) + (loaded.version[0] ? " " : "") + loaded.version;
}

namespace {

// Counts what is unwritten in both of two calls (or in one), and drops an LSE that the plug-in does not compute.
void CountUnwritten(const Problem& problem, const PluginRun& second, Variant second_variant, PluginRun& first) {
  const auto count = [&](const Tensor& a, const Tensor& b) {
    const uint32_t a_poison = PluginCall::Poison(*a.type().format(), Variant::kEndAtGuard);
    const uint32_t b_poison = PluginCall::Poison(*b.type().format(), second_variant);
    return Count(problem, a, b, [=](uint32_t x, uint32_t y) { return x == a_poison && y == b_poison; });
  };
  first.unwritten_o = count(first.outputs.o, second.outputs.o);
  if (!first.outputs.lse) return;
  first.unwritten_lse = count(*first.outputs.lse, *second.outputs.lse);
  int64_t elements = 0;
  ForEachValid(problem, *first.outputs.lse, [&](int64_t) { ++elements; });
  if (elements > 0 && first.unwritten_lse == elements) first.outputs.lse.reset();
}

int64_t CountDiffering(const Problem& problem, const Tensor& a, const Tensor& b) {
  const uint32_t a_poison = PluginCall::Poison(*a.type().format(), Variant::kEndAtGuard);
  const uint32_t b_poison = PluginCall::Poison(*a.type().format(), Variant::kStartAtGuard);
  return Count(problem, a, b, [=](uint32_t x, uint32_t y) { return x != y && !(x == a_poison && y == b_poison); });
}

}  // namespace

Outputs PluginSubject::Run(const Problem& problem) { return RunOnce(problem).outputs; }

PluginRun PluginSubject::RunOnce(const Problem& problem) {
  PluginRun run = impl_->Call(problem, Variant::kEndAtGuard);
  CountUnwritten(problem, run, Variant::kEndAtGuard, run);
  return run;
}

PluginRun PluginSubject::RunChecked(const Problem& problem) {
  PluginRun first = impl_->Call(problem, Variant::kEndAtGuard);
  if (!problem.attention.v_is_in_k) {
    const PluginRun negated = impl_->Call(WithVNegated(problem), Variant::kStartAtGuard);
    const Format format = *first.outputs.o.type().format();
    first.stale_o = Count(problem, first.outputs.o, negated.outputs.o,
                          [=](uint32_t x, uint32_t y) { return x == y && HasSign(format, x); });
  }
  const PluginRun second = impl_->Call(problem, Variant::kStartAtGuard);
  first.differing_o = CountDiffering(problem, first.outputs.o, second.outputs.o);
  if (first.outputs.lse) {
    first.differing_lse = CountDiffering(problem, *first.outputs.lse, *second.outputs.lse);
  }
  first.changed_fp_control = first.changed_fp_control || second.changed_fp_control;
  CountUnwritten(problem, second, Variant::kStartAtGuard, first);
  return first;
}

void PluginSubject::Close() { impl_->Close(); }

}  // namespace bitflash::verify
