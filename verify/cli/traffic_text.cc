// The tables of `traffic`.
#include <fmt/format.h>

#include "verify/cases/tensor_letter.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/time_result.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

using sim::Ledger;
using sim::PerTensor;
using sim::TensorId;
using sim::Traffic;

std::string Number(double value) { return fmt::format("{:.{}f}", value, value < 10 ? 2 : value < 100 ? 1 : 0); }

// A zero is a dash, so that the eye finds what moves.
std::string Cell(int64_t bytes) { return bytes == 0 ? "-" : Bytes(bytes); }

// "  L2: K and V in flight are 0.45 of it; 9.4 MB of the writes are still in it at the end".
std::string L2Line(const sim::l2::Prediction* l2) {
  if (l2 == nullptr) return "";
  std::string text;
  if (l2->working_set > 0) text = fmt::format("K and V in flight are {} of it", Number(l2->working_set));
  if (l2->dirty_at_end.value > 0) {
    text += fmt::format("{}{} of the writes are still in it at the end", text.empty() ? "" : "; ",
                        Bytes(l2->dirty_at_end.value));
  }
  if (l2->in_knee()) {
    text += fmt::format("{}near its capacity: predicted reads {} to {}", text.empty() ? "" : "; ",
                        Bytes(l2->dram_read.low), Bytes(l2->dram_read.high));
  }
  return text.empty() ? "" : fmt::format("  L2: {}\n", text);
}

std::string LedgerTable(const Ledger& ledger, const sim::l2::Prediction* l2, bool total, bool color) {
  struct Row {
    const char* level;
    const char* what;
    const PerTensor* traffic;
    int64_t Traffic::*side;
  };
  const Row rows[] = {{"HBM read", "compulsory", &ledger.hbm_compulsory, &Traffic::read},
                      {"", "predicted", nullptr, nullptr},
                      {"", "requested", &ledger.l2_to_sm, &Traffic::read},
                      {"HBM write", "compulsory", &ledger.hbm_compulsory, &Traffic::write},
                      {"", "predicted", nullptr, nullptr},
                      {"", "requested", &ledger.l2_to_sm, &Traffic::write},
                      {"L2 to SM", "read", &ledger.l2_to_sm, &Traffic::read},
                      {"", "write", &ledger.l2_to_sm, &Traffic::write},
                      {"shared", "read", &ledger.shared, &Traffic::read},
                      {"", "write", &ledger.shared, &Traffic::write},
                      {"register", "read", &ledger.registers, &Traffic::read}};
  std::vector<TensorId> tensors;
  std::vector<Table::Column> columns = {{"level", Align::kLeft}, {"", Align::kLeft}};
  for (int t = 0; t < sim::kTensorCount; ++t) {
    const auto tensor = static_cast<TensorId>(t);
    bool occurs = false;
    for (const Row& row : rows) occurs |= row.traffic != nullptr && At(*row.traffic, tensor).*row.side != 0;
    if (!occurs) continue;
    tensors.push_back(tensor);
    columns.push_back({std::string(Letter(tensor)), Align::kRight});
  }
  columns.push_back({"all", Align::kRight});

  Table table(columns);
  for (const Row& row : rows) {
    std::vector<std::string> cells = {row.level, row.what};
    for (const TensorId tensor : tensors) {
      cells.push_back(row.traffic == nullptr ? "-" : Cell(At(*row.traffic, tensor).*row.side));
    }
    if (row.traffic != nullptr) {
      cells.push_back(Cell(Sum(*row.traffic).*row.side));
    } else if (l2 == nullptr) {
      cells.push_back("-");
    } else {  // "0 B" where nothing reaches HBM: a dash says that nobody predicted it
      cells.push_back(Bytes(&row == &rows[1] ? l2->dram_read.value : WrittenBehindL2(*l2, total)));
    }
    table.Row(cells);
  }
  return table.ToString(color, 2) + L2Line(l2);
}

std::string OperationsLine(const Ledger& ledger) {
  return fmt::format("  matrix {}, special functions {}, fp32 operations {}\n",
                     Flop(static_cast<double>(ledger.matrix_flops)), Prefixed(static_cast<double>(ledger.special_ops)),
                     Prefixed(static_cast<double>(ledger.fp32_ops)));
}

int64_t Both(const Traffic& traffic) { return traffic.read + traffic.write; }

// "64.2 MiB"; near the L2's capacity, where one number would say too much, "64.2 MiB to 101.5 MiB".
std::string PredictedCell(const sim::l2::Prediction& l2) {
  const int64_t rest = l2.hbm_bytes() - l2.dram_read.value;
  const std::string low = Bytes(rest + l2.dram_read.low), high = Bytes(rest + l2.dram_read.high);
  return l2.in_knee() && low != high ? fmt::format("{} to {}", low, high) : Bytes(l2.hbm_bytes());
}

std::string IntensityLine(const Ledger& ledger, const sim::l2::Prediction* l2) {
  const auto flops = static_cast<double>(ledger.matrix_flops);
  const int64_t floor = Both(Sum(ledger.hbm_compulsory)), requested = Both(Sum(ledger.l2_to_sm));
  if (floor == 0 || requested == 0) return "";
  std::string predicted;
  if (l2 != nullptr) {
    const int64_t bytes = l2->hbm_bytes();
    if (bytes > 0) predicted = fmt::format("{} predicted, ", Number(flops / static_cast<double>(bytes)));
  }
  return fmt::format("  matrix FLOP per byte of HBM: {} compulsory, {}{} requested\n",
                     Number(flops / static_cast<double>(floor)), predicted,
                     Number(flops / static_cast<double>(requested)));
}

std::string Where(const Workload& workload) {
  std::string text = fmt::format("{} ({}, {} SMs)", workload.gpu.title, workload.gpu.arch, workload.gpu.sms);
  if (workload.model) {
    text += fmt::format("; one layer of {}, which has {} such layers", workload.model->title, workload.group->layers);
    if (workload.model->groups.size() > 1) text += fmt::format(" ({})", workload.group->name);
  }
  return Printable(text);  // titles come from users' files
}

std::string Assumptions(const Workload& workload) {
  std::string text;
  for (const std::string& assumed : workload.assumed) text += fmt::format("assumed: {}\n", Printable(assumed));
  return text;
}

}  // namespace

std::string TrafficTables(const Workload& workload, const TrafficResult& result, bool color) {
  const auto bold = [&](std::string_view text) { return Paint(text, Colour::kBold, color); };
  std::string text = fmt::format("{}  {}\n", bold(result.kernel->name), result.kernel->title);
  text += fmt::format("problem  {}\n", data::ToString(result.attention));
  text += fmt::format("tiling   {}\n", sim::ToString(result.tiling));
  text += fmt::format("GPU      {}\n", Where(workload));
  text += Assumptions(workload);
  const sim::l2::Prediction* const total = result.l2 ? &result.l2->total : nullptr;
  for (size_t n = 0; n < result.count.launches.size(); ++n) {
    const sim::LaunchCount& launch = result.count.launches[n];
    const sim::l2::Prediction* const l2 = result.l2 ? &result.l2->launches[n] : nullptr;
    text += fmt::format("\n{}  grid {} x {} x {} = {} blocks of {} threads\n", bold(launch.name), launch.grid.x,
                        launch.grid.y, launch.grid.z, Grouped(launch.grid.blocks()), launch.resources.threads);
    text +=
        fmt::format("  {} shared memory per block, {} registers per thread; blocks per SM: {} (limit: {}); {} waves\n",
                    Bytes(launch.resources.shared_bytes), launch.resources.registers_per_thread,
                    launch.occupancy.blocks_per_sm, launch.occupancy.limit, Number(launch.waves));
    text += LedgerTable(launch.ledger, l2, false, color) + OperationsLine(launch.ledger);
    if (result.count.launches.size() == 1) text += IntensityLine(launch.ledger, l2);
    text += TimeLine(result.time.launches.at(n));
  }
  if (result.count.launches.size() > 1) {
    text += fmt::format("\n{}  {} launches\n", bold("total"), result.count.launches.size());
    text += LedgerTable(result.count.total, total, true, color) + OperationsLine(result.count.total);
    text += IntensityLine(result.count.total, total) + TimeLine(result.time);
  }
  if (const std::string caveat = TimeCaveat(result.time); !caveat.empty()) text += fmt::format("  {}\n", caveat);
  return text;
}

std::string TrafficSweepTable(const Workload& workload, const std::vector<TrafficResult>& results, bool color) {
  std::string text = fmt::format("GPU      {}\n", Where(workload)) + Assumptions(workload) + "\n";
  Table table({{"batch", Align::kRight},
               {"seqlen_q", Align::kRight},
               {"seqlen_k", Align::kRight},
               {"kernel", Align::kLeft},
               {"tile", Align::kLeft},
               {"HBM compulsory", Align::kRight},
               {"predicted", Align::kRight},
               {"requested", Align::kRight},
               {"shared", Align::kRight},
               {"register", Align::kRight},
               {"matrix", Align::kRight},
               {"waves", Align::kRight},
               {"time, est.", Align::kRight},
               {"bottleneck", Align::kLeft},
               {"", Align::kLeft}});
  for (const TrafficResult& result : results) {
    if (!result.infeasible.empty()) {
      table.Row({Grouped(result.attention.batch), Grouped(result.attention.seqlen_q),
                 Grouped(result.attention.seqlen_k), std::string(result.kernel->name),
                 fmt::format("{}x{}", result.tiling.Br, result.tiling.Bc), "-", "-", "-", "-", "-", "-", "-", "-", "-",
                 fmt::format("infeasible: {}", Printable(result.infeasible))});
      continue;
    }
    const Ledger& ledger = result.count.total;
    double waves = 0;
    for (const sim::LaunchCount& launch : result.count.launches) waves += launch.waves;
    table.Row({Grouped(result.attention.batch), Grouped(result.attention.seqlen_q), Grouped(result.attention.seqlen_k),
               std::string(result.kernel->name), fmt::format("{}x{}", result.tiling.Br, result.tiling.Bc),
               Bytes(Both(Sum(ledger.hbm_compulsory))), result.l2 ? PredictedCell(result.l2->total) : "-",
               Bytes(Both(Sum(ledger.l2_to_sm))), Bytes(Both(Sum(ledger.shared))), Bytes(Sum(ledger.registers).read),
               Flop(static_cast<double>(ledger.matrix_flops)), Number(waves), Seconds(result.time.seconds),
               std::string(sim::Title(result.time.bottleneck))});
  }
  return text + table.ToString(color) + "bytes are reads plus writes of all launches; waves are summed over launches\n";
}

std::string AssertionLines(const std::vector<Assertion>& assertions, const TrafficResult& result, bool color) {
  std::string text;
  for (size_t i = 0; i < assertions.size(); ++i) {
    if (!result.infeasible.empty()) {
      text += fmt::format("assert {}: {} (infeasible)\n", Printable(assertions[i].text),
                          Paint("FAILS", Colour::kRed, color));
      continue;
    }
    const Outcome& outcome = result.outcomes[i];
    text += fmt::format("assert {}: {} ({} = {})\n", Printable(assertions[i].text),
                        outcome.holds ? Paint("holds", Colour::kGreen, color) : Paint("FAILS", Colour::kRed, color),
                        outcome.field, Grouped(outcome.value));
  }
  return text;
}

}  // namespace bitflash::verify
