// What the probes share on the host: their options, JSON, and the device in words.
//
// Every probe prints a text for people on stdout. With --json, the JSON that run_all.py reads goes to stdout and the
// text to stderr. Exit codes: 0, it ran, whatever it found; 5, there is no GPU; 2, wrong options; 1, CUDA failed.
#ifndef BITFLASH_GPU_PROBES_REPORT_H_
#define BITFLASH_GPU_PROBES_REPORT_H_

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "data/error.h"
#include "gpu/device.h"

namespace bitflash::gpu::probe {

inline std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));
inline std::string Format(const char* format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  std::string text(static_cast<size_t>(std::vsnprintf(nullptr, 0, format, arguments)), '\0');
  va_end(arguments);
  std::vsnprintf(text.data(), text.size() + 1, format, again);
  va_end(again);
  return text;
}

inline std::string Hex(uint32_t pattern, int digits = 8) { return Format("0x%0*X", digits, pattern); }

// Appends to one JSON text, one member a line.
class Json {
 public:
  void Begin(char bracket) { Open(), text_ += bracket, first_ = true, ++depth_; }
  void Begin(std::string_view key, char bracket) { Key(key), text_ += bracket, first_ = true, ++depth_; }
  void End(char bracket) {
    --depth_;
    if (!first_) NewLine();
    text_ += bracket, first_ = false;
  }
  void Add(std::string_view key, std::string_view value) { Key(key), text_ += Quoted(value); }
  void Add(std::string_view key, const char* value) { Add(key, std::string_view(value)); }
  void Add(std::string_view key, bool value) { Key(key), text_ += value ? "true" : "false"; }
  void Add(std::string_view key, int64_t value) { Key(key), text_ += std::to_string(value); }
  void Add(std::string_view key, int value) { Add(key, static_cast<int64_t>(value)); }
  void Add(std::string_view key, double value) {
    Key(key), text_ += std::isfinite(value) ? Format("%.10g", value) : "null";
  }
  const std::string& text() const { return text_; }

  static std::string Quoted(std::string_view value) {
    std::string quoted = "\"";
    for (const char c : value) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
    return quoted + '"';
  }

 private:
  void NewLine() { text_ += '\n', text_.append(static_cast<size_t>(2 * depth_), ' '); }
  void Open() {
    if (depth_ == 0) return;
    if (!first_) text_ += ',';
    NewLine(), first_ = false;
  }
  void Key(std::string_view key) { Open(), text_ += Quoted(key) + ": "; }

  std::string text_;
  bool first_ = true;
  int depth_ = 0;
};

inline std::string Today() {
  char date[11];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof(date), "%Y-%m-%d", std::gmtime(&now));
  return date;
}

// The members that head every probe's JSON.
inline void AddDevice(Json& json, const char* probe, const Device& device) {
  json.Add("schema", 1);
  json.Add("probe", Format("gpu/probes/%s", probe));
  json.Add("date", Today());
  json.Add("gpu", device.name);
  json.Add("compute_capability", Format("%d.%d", device.major, device.minor));
  json.Add("driver", device.driver);
  json.Add("driver_cuda", device.driver_cuda);
  json.Add("cuda_runtime", device.runtime_cuda);
}

inline double Median(std::vector<double> values) {
  if (values.empty()) return NAN;
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Runs a probe's body with the exit codes above.
template <class Body>
int Main(const char* probe, Body body) {
  try {
    return body();
  } catch (const data::UndecidedError& error) {
    std::fprintf(stderr, "%s: %s\n", probe, error.what());
    return 5;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", probe, error.what());
    return 1;
  }
}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_REPORT_H_
