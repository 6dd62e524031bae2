#include "verify/cli/run_cpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "reference/visible.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"
#include "verify/stopwatch.h"

namespace bitflash::verify {
namespace {

constexpr double kEnoughSeconds = 1;  // of runs, the first not counted: it also makes the threads
constexpr int kMostRuns = 10;

int64_t VisiblePairs(const data::Attention& a) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < a.seqlen_q; ++i) {
    const reference::KeyRange seen = reference::VisibleKeys(a.mask, a.seqlen_q, a.seqlen_k, i);
    pairs += seen.end - seen.begin;
  }
  return a.batch * a.heads_q * pairs;
}

double PerSecond(const CpuRunResult& r) { return r.seconds > 0 ? static_cast<double>(r.multiply_adds) / r.seconds : 0; }

}  // namespace

void RunOnCpu(CpuRunResult& r, const KernelInputs& inputs) {
  const Problem problem = ProblemOf(r.heads.attention, inputs, r.lengths);
  Outputs outputs;
  r.seconds = std::numeric_limits<double>::infinity();
  double spent = 0;
  for (int run = 0; run < kMostRuns && (run < 2 || spent < kEnoughSeconds); ++run) {
    const Stopwatch watch;
    outputs = RunCpuKernel(r.kernel, problem);
    const double seconds = watch.seconds();
    r.seconds = std::min(r.seconds, seconds);
    if (run > 0) spent += seconds;
    if (run == 0 && seconds > kEnoughSeconds) break;
  }
  const int64_t first = r.heads.begin - r.heads.q_begin, last = r.heads.end - r.heads.q_begin;
  r.o = outputs.o.Slice(1, first, last).Contiguous();
  r.lse = outputs.lse->Slice(1, first, last).Contiguous();
  r.hashes = HashHeads(r.o, r.lse, r.heads.begin);
  // As simulated kernels write it: patterns.
  if (r.o.type().bytes() == 2) r.o = r.o.View(data::ElementType::Unsigned(2));
  const data::Attention& whole = problem.attention;
  r.multiply_adds = r.kv_bytes = 0;
  for (int64_t b = 0; b < whole.batch; ++b) {
    const data::Attention one = SequenceOf(whole, r.lengths, b);
    r.multiply_adds += VisiblePairs(one) * (whole.head_dim + whole.head_dim_v);
    r.kv_bytes += one.k_bytes() + one.v_bytes();
  }
}

Json RunJson(const CpuRunResult& r) {
  Json json = {{"schema", "bitflash.run/1"},
               {"version", BITFLASH_VERSION},
               {"device",
                {{"kind", "cpu"},
                 {"name", "the CPU of this machine"},
                 {"arch", nullptr},
                 {"driver", nullptr},
                 {"driver_cuda", nullptr},
                 {"runtime_cuda", nullptr}}},
               {"gpu", nullptr},
               {"kernel", {{"name", r.kernel.name}, {"title", r.kernel.title}, {"source", r.kernel.source}}},
               {"recipe", nullptr},
               {"tensor_core", nullptr},
               {"problem", ProblemJson(r.workload.attention())},
               {"lengths", LengthsJson(r.workload.attention(), r.lengths)},
               {"tiling", nullptr},
               {"inputs", r.inputs},
               {"assumed", r.workload.assumed},
               {"notes", r.workload.notes},
               {"launches", {r.kernel.name}},
               {"heads", {{"begin", r.heads.begin}, {"end", r.heads.end}}},
               {"hashes", HashesJson(r.hashes, true)},
               {"multiply_adds", r.multiply_adds},
               {"kv_bytes", r.kv_bytes},
               {"seconds", r.seconds},
               {"multiply_adds_per_second", PerSecond(r)},
               {"threads", r.threads},
               {"files", FilesJson(r.files)}};
  return json;
}

std::string RunText(const CpuRunResult& r, bool color) {
  std::string text = fmt::format("{} on the CPU of this machine, not simulated: {}\n",
                                 Paint(r.kernel.name, Colour::kBold, color), r.kernel.title);
  text += fmt::format("problem      {}\n", data::ToString(r.workload.attention()));
  if (r.lengths.ragged()) text += fmt::format("sequences    {}\n", LengthsText(r.workload.attention(), r.lengths));
  text += fmt::format("inputs       {}\n", Printable(r.inputs));
  for (const std::string& assumed : r.workload.assumed) text += fmt::format("assumed      {}\n", Printable(assumed));
  text += HashesText(r.hashes, true, color);
  text +=
      fmt::format("{} multiply-adds (visible pairs) in {}: {:.2f} billion per second, {:.1f} GFLOP/s, on {} thread{}\n",
                  Prefixed(static_cast<double>(r.multiply_adds)), Seconds(r.seconds), PerSecond(r) / 1e9,
                  2 * PerSecond(r) / 1e9, r.threads, r.threads == 1 ? "" : "s");
  // Decode is bound by what it reads.
  if (r.workload.attention().seqlen_q <= reference::kDecodeQueries && r.seconds > 0) {
    text += fmt::format("K and V, {}, once in that time: {}\n", Bytes(r.kv_bytes),
                        BytesPerSecond(static_cast<double>(r.kv_bytes) / r.seconds));
  }
  return text + FilesText(r.files);
}

}  // namespace bitflash::verify
