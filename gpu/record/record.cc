// Records what the CUDA kernels give on this machine's GPU: gpu_record CASES --out FOLDER. CASES is
// data/golden/own_cases.txt; a file for each kernel is written, in the format of data/golden. Every case runs three
// times, and once without LSE, with 0xFF over O, LSE and the workspace before each run and NaN around Q, K, V and O.
// data/golden/record_own.py runs this and Nsight Compute, and says what was recorded where.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/strict_json.h"
#include "gpu/record/golden_json.h"

namespace bitflash::gpu {
namespace {

constexpr int kRuns = 3;

struct Arguments {
  std::string cases, out, only;
  bool profile = false, device = false;
};

struct Totals {
  int64_t cases = 0, sequences = 0, heads = 0, elements = 0, failed = 0;
};

// Records one case; appends its lines.
void Record(const RecordCase& c, const Kernel& kernel, Stream& stream, std::vector<std::string>& lines, Totals& totals,
            std::vector<std::string>& problems) {
  const data::Attention& a = c.attention;
  const size_t before = problems.size();
  const auto report = [&](const std::string& problem) {
    problems.push_back(c.kernel + ": " + c.name + ": " + problem);
  };
  DeviceCall call(c, Generate(c), stream);
  const Runs runs = call.Run(kRuns), without_lse = call.Run(1, false);
  for (const Runs* r : {&runs, &without_lse}) std::ranges::for_each(r->problems, report);
  const Outputs& outputs = runs.outputs.front();
  if (without_lse.outputs.front().o != outputs.o) report("another O without LSE");
  // Poison that nobody wrote over, or NaN that somebody read: an exponent of ones. Inputs are finite, so is O.
  const uint16_t exponent = a.format == data::Format::kFp16 ? 0x7C00 : 0x7F80;
  if (std::ranges::any_of(outputs.o, [&](uint16_t bits) { return (bits & exponent) == exponent; }))
    report("O is not finite everywhere");
  for (std::string& line : CaseLines(c, kernel, call.Launches(), runs.outputs)) {
    lines.push_back(std::move(line));
    ++totals.sequences;
  }
  ++totals.cases;
  totals.heads += a.batch * a.heads_q;
  for (int64_t b = 0; b < a.batch; ++b) totals.elements += c.query_rows(b) * a.heads_q * a.head_dim;
  totals.failed += problems.size() > before;
}

int RecordAll(const std::vector<RecordCase>& cases, const Arguments& arguments) {
  Stream stream;
  std::vector<std::string> problems;
  for (const Kernel& kernel : Kernels()) {
    if (const std::string why = DeviceRefusal(kernel, CurrentDevice()); !why.empty()) {
      std::fprintf(stderr, "not recorded: %s\n", why.c_str());
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::string> lines;
    Totals totals;
    for (const RecordCase& c : cases) {
      if (c.kernel != kernel.name || (!arguments.only.empty() && c.name != arguments.only)) continue;
      try {
        Record(c, kernel, stream, lines, totals, problems);
      } catch (const data::UsageError& error) {
        problems.push_back(c.kernel + ": " + c.name + ": " + error.what());
      } catch (const CudaError& error) {  // the context may be lost: nothing after it counts
        std::fprintf(stderr, "%s: %s: %s\n", c.kernel.c_str(), c.name.c_str(), error.what());
        throw;
      }
    }
    if (lines.empty()) continue;
    const std::string path = arguments.out + "/" + std::string(kernel.name) + ".json";
    data::WriteFileAtomically(path, GoldenFile(kernel, lines));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::fprintf(stderr,
                 "%-9s %3lld cases (%lld replays), %lld heads, %lld elements of O, %d runs each: %lld failed; "
                 "%.1f s; %s\n",
                 std::string(kernel.name).c_str(), static_cast<long long>(totals.cases),
                 static_cast<long long>(totals.sequences), static_cast<long long>(totals.heads),
                 static_cast<long long>(totals.elements), kRuns, static_cast<long long>(totals.failed), seconds,
                 path.c_str());
  }
  for (const RecordCase& c : cases) {
    if (!FindKernel(c.kernel)) std::fprintf(stderr, "not built: %s: %s\n", c.kernel.c_str(), c.name.c_str());
  }
  for (const std::string& problem : problems) std::fprintf(stderr, "PROBLEM %s\n", problem.c_str());
  return problems.empty() ? 0 : 1;
}

// One call of each case that is to be profiled, and what it launches, for who matches the profiler's list.
int Profile(const std::vector<RecordCase>& cases, const Arguments& arguments) {
  Stream stream;
  for (const RecordCase& c : cases) {
    const Kernel* kernel = FindKernel(c.kernel);
    const bool wanted = arguments.only.empty() ? c.profile : c.name == arguments.only;
    if (!kernel || !wanted || !DeviceRefusal(*kernel, CurrentDevice()).empty()) continue;
    DeviceCall call(c, Generate(c), stream);
    call.Launch();
    stream.Synchronize();
    std::vector<std::string> launched;
    for (const LaunchFacts& launch : call.Launches()) launched.push_back(launch.name);
    const data::Attention& a = c.attention;
    const Tile tile = kernel->TileOf(a);
    const nlohmann::ordered_json line = {{"kernel", c.kernel},
                                         {"case", c.name},
                                         {"batch", a.batch},
                                         {"heads_q", a.heads_q},
                                         {"heads_kv", a.heads_kv},
                                         {"seqlen_q", a.seqlen_q},
                                         {"seqlen_k", a.seqlen_k},
                                         {"head_dim", a.head_dim},
                                         {"dtype", data::Name(a.format)},
                                         {"mask", data::ToString(a.mask)},
                                         {"br", tile.Br},
                                         {"bc", tile.Bc},
                                         {"warps", tile.warps},
                                         {"stages", tile.stages},
                                         {"chunk", c.kernel == "split-kv" ? c.options.chunk : 0},
                                         {"page_size", c.options.page_size},
                                         {"fp32_scores", c.options.fp32_scores},
                                         {"launches", launched}};
    std::printf("profiled %s\n", line.dump().c_str());
  }
  return 0;
}

void PrintDevice() {
  const Device d = CurrentDevice();
  std::printf("%s\n",
              nlohmann::ordered_json({{"name", d.name},
                                      {"compute_capability", std::to_string(d.major) + "." + std::to_string(d.minor)},
                                      {"multiprocessors", d.sms},
                                      {"memory_bytes", d.memory_bytes},
                                      {"driver", d.driver},
                                      {"driver_cuda", d.driver_cuda},
                                      {"runtime_cuda", d.runtime_cuda}})
                  .dump()
                  .c_str());
}

constexpr const char* kUsage =
    "usage: gpu_record CASES --out FOLDER [--case NAME]   record all cases, or one, of every kernel that is built\n"
    "       gpu_record CASES --profile [--case NAME]      launch each profiled case once and say what was launched\n"
    "       gpu_record --device                           the GPU, as JSON\n"
    "CASES: data/golden/own_cases.txt\n";

std::optional<Arguments> Parse(int count, char** words) {
  Arguments arguments;
  for (int n = 1; n < count; ++n) {
    const std::string word = words[n];
    if (word == "--profile") {
      arguments.profile = true;
    } else if (word == "--device") {
      arguments.device = true;
    } else if ((word == "--out" || word == "--case") && n + 1 < count) {
      (word == "--out" ? arguments.out : arguments.only) = words[++n];
    } else if (word.starts_with("-") || !arguments.cases.empty()) {
      return std::nullopt;
    } else {
      arguments.cases = word;
    }
  }
  const bool records = !arguments.out.empty(), reads = !arguments.cases.empty();
  const bool valid =
      arguments.device ? !reads && !records && !arguments.profile : reads && records != arguments.profile;
  return valid ? std::optional(arguments) : std::nullopt;
}

int Run(int count, char** words) {
  const std::optional<Arguments> arguments = Parse(count, words);
  if (!arguments) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (arguments->device) {
    PrintDevice();
    return 0;
  }
  const std::vector<RecordCase> cases = ParseCases(data::ReadTextFile(arguments->cases), arguments->cases);
  CurrentDevice();  // says why there is none
  return arguments->profile ? Profile(cases, *arguments) : RecordAll(cases, *arguments);
}

}  // namespace
}  // namespace bitflash::gpu

int main(int count, char** words) {
  try {
    return bitflash::gpu::Run(count, words);
  } catch (const bitflash::data::UndecidedError& error) {
    std::fprintf(stderr, "gpu_record: %s\n", error.what());
    return 5;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_record: %s\n", error.what());
    return 1;
  }
}
