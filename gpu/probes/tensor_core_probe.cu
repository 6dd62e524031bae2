// Question: which rule does every matrix instruction of this GPU follow, bit for bit?
//
// Asked of each instruction in matrix_instructions.cuh that the device and this build have. Its outputs are compared
// with the known rule (tensor_core_rules.h), evaluated by ordinary integer code (fdpa.h), on operands made to show
// every part of it (operands.cuh). Structured experiments (experiments.h) measure the parts of the rule one by one.
//
// 0 mismatches: the row of that architecture and instruction in sim/tensor_core.cc stands, with this run as evidence.
// Mismatches: the rule that fits is searched for and printed as `fits: L=.., F=.., out=..`; the row has to change.
// `fits: none`: the instruction does something that no candidate describes; the experiments and the first mismatch of
// each setting say where to look. Mismatches in "small integers", which every rule gets right, mean that the probe
// itself is wrong about where operands lie. `alternatives` are rules one change away: those with 0 mismatches the
// operands cannot tell apart.
//
//   tensor_core_probe [--json] [--outputs N] [--only PART OF A NAME]
#include "gpu/probes/report.h"
#include "gpu/probes/tensor_core_bench.cuh"
#include "gpu/probes/tensor_core_rules.h"

namespace bitflash::gpu::probe {
namespace {

struct Found {
  Rule rule;
  uint64_t mismatches;  // on the sample
};

// The best rule on the sample, in two stages.
Found Search(Bench& bench, const Structure& structure, const Subject& s) {
  const std::vector<Rule> rules = Candidates(structure, s.fp16, s.K);
  const std::vector<uint64_t> counts = bench.CountOnSample(rules);
  std::vector<size_t> rank(rules.size());
  for (size_t i = 0; i < rank.size(); ++i) rank[i] = i;
  std::ranges::stable_sort(rank, [&](size_t x, size_t y) { return counts[x] < counts[y]; });
  std::vector<Rule> finer;
  for (size_t i = 0; i < std::min<size_t>(12, rank.size()); ++i) {
    for (const Rule& rule : SmallPrint(rules[rank[i]])) finer.push_back(rule);
  }
  const std::vector<uint64_t> fine = bench.CountOnSample(finer);
  const size_t best = static_cast<size_t>(std::ranges::min_element(fine) - fine.begin());
  return {finer[best], fine[best]};
}

// Text and JSON of one instruction. Returns the mismatches under the known rule.
uint64_t Report(const Subject& s, int capability, int64_t outputs, Stream& stream, FILE* text, Json& json) {
  Bench bench(s, stream);
  const std::vector<Setting> settings = Settings(s.input, s.fp16);
  const Rule known = Known(capability, s.input, s.fp16, s.wgmma);
  std::fprintf(text, "\n%s\n  known:     %s\n", s.name, Text(known, s.K).c_str());
  json.Begin('{');
  json.Add("instruction", s.name);
  json.Add("known", Text(known, s.K));

  const Structure found(s.input, s.fp16, s.K, [&](const auto& experiments) { return bench.Run(experiments); });
  const Structure said(s.input, s.fp16, s.K, [&](const auto& experiments) {
    std::vector<uint32_t> d;
    for (const Experiment& e : experiments) d.push_back(Evaluate(known, s.input, e.a.data(), e.b.data(), s.K, e.c));
    return d;
  });
  const auto describe = [&](const char* key, const Structure& structure) {
    std::fprintf(text, "  %-10s steps %s%s; F %d (products), %d (c below), %d (below c); c joins: %s%s\n", key,
                 structure.StepsText().c_str(), structure.L > 0 ? Format(" (L=%d)", structure.L).c_str() : "",
                 structure.F, structure.F_c, structure.F_below_c, structure.c_joins.c_str(),
                 structure.least_unit != 0 ? Format("; least unit 2^%d", structure.least_unit).c_str() : "");
    json.Begin(key, '{');
    json.Add("steps", structure.StepsText());
    json.Add("L", structure.L);
    json.Add("F", structure.F);
    json.Add("F_c", structure.F_c);
    json.Add("F_below_c", structure.F_below_c);
    json.Add("c_joins", structure.c_joins);
    if (structure.least_unit != 0) json.Add("least_unit_exponent", structure.least_unit);
    json.End('}');
  };
  describe("measured", found);
  describe("expected", said);
  if (bench.uneven() != 0) std::fprintf(text, "  WARNING: equal rows or columns gave unequal results\n");
  json.Add("uneven_outputs", bench.uneven());

  const auto compare_all = [&](const char* key, const Rule& rule) {
    uint64_t mismatches = 0;
    json.Begin(key, '[');
    for (const Setting& setting : settings) {
      const Row row = bench.Compare(setting, rule, outputs);
      mismatches += row.mismatches;
      std::fprintf(text, "  %-24s %12" PRId64 " outputs %12" PRIu64 " mismatches%s%s\n", setting.name, row.outputs,
                   row.mismatches, row.first.empty() ? "" : "  first: ", row.first.c_str());
      json.Begin('{');
      json.Add("setting", setting.name);
      json.Add("asks", setting.why);
      json.Add("outputs", row.outputs);
      json.Add("mismatches", static_cast<int64_t>(row.mismatches));
      if (!row.first.empty()) json.Add("first", row.first);
      json.End('}');
    }
    json.End(']');
    return mismatches;
  };
  const uint64_t mismatches = compare_all("settings", known);

  Found best{known, 0};
  const int64_t sample = bench.DrawSample(settings);
  uint64_t left = mismatches;
  if (mismatches != 0) {
    best = Search(bench, found, s);
    std::fprintf(text, "  the best of the candidates: %s (%" PRIu64 " mismatches in a sample of %" PRId64 ")\n",
                 Text(best.rule, s.K).c_str(), best.mismatches, sample);
    left = compare_all("settings_of_best", best.rule);
    bench.DrawSample(settings);
  }
  json.Add("best", Text(best.rule, s.K));
  json.Add("best_mismatches", static_cast<int64_t>(left));
  json.Add("fits", left == 0 ? Text(best.rule, s.K) : std::string("none"));
  std::fprintf(text, "  fits: %s\n", left == 0 ? Text(best.rule, s.K).c_str() : "none");

  const std::vector<Rule> neighbours = Neighbours(best.rule, s.input, s.fp16, s.K);
  const std::vector<uint64_t> counts = bench.CountOnSample(neighbours);
  std::fprintf(text, "  alternatives, mismatches of %" PRId64 ":", sample);
  json.Begin("alternatives", '[');
  for (size_t i = 0; i < neighbours.size(); ++i) {
    const std::string change = Difference(neighbours[i], best.rule);
    std::fprintf(text, "%s %s: %" PRIu64 "%s", i == 0 ? "" : ";", change.c_str(), counts[i],
                 counts[i] == 0 ? " (CANNOT BE TOLD APART)" : "");
    json.Begin('{');
    json.Add("change", change);
    json.Add("outputs", sample);
    json.Add("mismatches", static_cast<int64_t>(counts[i]));
    json.End('}');
  }
  std::fprintf(text, "\n");
  json.End(']');

  const std::vector<Experiment> corners = Corners(found, s.input, s.fp16, s.K);
  const std::vector<uint32_t> d = bench.Run(corners);
  size_t as_ruled = 0;
  json.Begin("corners", '[');
  for (size_t i = 0; i < corners.size(); ++i) {
    const Experiment& e = corners[i];
    const uint32_t expected = Evaluate(best.rule, s.input, e.a.data(), e.b.data(), s.K, e.c);
    const int digits = s.fp16 ? 4 : 8;
    as_ruled += d[i] == expected;
    if (d[i] != expected) {
      std::fprintf(text, "  corner \"%s\": hardware %s, the rule says %s\n", e.label.c_str(), Hex(d[i], digits).c_str(),
                   Hex(expected, digits).c_str());
    }
    json.Begin('{');
    json.Add("case", e.label);
    json.Add("hardware", Hex(d[i], digits));
    json.Add("rule", Hex(expected, digits));
    json.End('}');
  }
  std::fprintf(text, "  corners: %zu of %zu as the rule says\n", as_ruled, corners.size());
  json.End(']');
  json.End('}');
  std::fflush(text);
  return mismatches;
}

int Run(int argc, char** argv) {
  bool as_json = false;
  int64_t outputs = int64_t{1} << 25;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--json") {
      as_json = true;
    } else if (option == "--outputs" && i + 1 < argc && std::atoll(argv[i + 1]) > 0) {
      outputs = std::atoll(argv[++i]);
    } else if (option == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else {
      std::fprintf(stderr, "usage: tensor_core_probe [--json] [--outputs N] [--only PART OF A NAME]\n");
      return 2;
    }
  }
  const Device device = CurrentDevice();
  const int capability = device.major * 10 + device.minor;
  FILE* text = as_json ? stderr : stdout;
  Stream stream;
  int target[2] = {0, 0};
  Buffer target_buffer(sizeof(target));
  ReportTarget<<<1, 1, 0, stream.get()>>>(target_buffer.as<int>());
  CheckLaunch("ReportTarget");
  stream.ToHost(target, target_buffer, sizeof(target));

  std::fprintf(text, "tensor_core_probe: %s, compute capability %d.%d (code for sm_%d%s), driver %s, CUDA %s\n",
               device.name.c_str(), device.major, device.minor, target[0], target[1] ? "a" : "", device.driver.c_str(),
               device.runtime_cuda.c_str());
  Json json;
  json.Begin('{');
  AddDevice(json, "tensor_core_probe", device);
  json.Add("code_for", Format("sm_%d%s", target[0], target[1] ? "a" : ""));
  json.Begin("instructions", '[');
  std::vector<std::string> different, skipped;
  uint64_t mismatches = 0;
  int64_t asked = 0;
  for (const Subject& s :
       MakeSubjects<MmaFp16, MmaFp16ToFp16, MmaBf16, MmaTf32, MmaE4m3, MmaE5m2, WgmmaFp16, WgmmaFp16ToFp16, WgmmaBf16,
                    WgmmaTf32, WgmmaE4m3, WgmmaE5m2, WgmmaE4m3ToFp16, WgmmaE5m2ToFp16>()) {
    if (!only.empty() && std::string_view(s.name).find(only) == std::string_view::npos) continue;
    if (target[0] < s.since || (s.wgmma && !target[1])) {
      skipped.push_back(std::string(s.name) +
                        (s.wgmma ? ": needs code for sm_90a" : Format(": needs code for sm_%d or newer", s.since)));
      continue;
    }
    const uint64_t here = Report(s, capability, outputs, stream, text, json);
    mismatches += here, ++asked;
    if (here != 0) different.push_back(s.name);
  }
  json.End(']');
  json.Begin("skipped", '{');
  std::fprintf(text, "\n");
  for (const std::string& what : skipped) {
    std::fprintf(text, "not asked: %s (this build is for sm_%d; CMAKE_CUDA_ARCHITECTURES)\n", what.c_str(), target[0]);
    json.Add(what.substr(0, what.find(':')), what.substr(what.find(':') + 2));
  }
  json.End('}');
  json.Add("instructions_asked", asked);
  json.Add("mismatches_with_known", static_cast<int64_t>(mismatches));
  json.End('}');
  std::fprintf(text, "%" PRId64 " instructions asked, %zu differ from the known rule", asked, different.size());
  for (size_t i = 0; i < different.size(); ++i) std::fprintf(text, "%s%s", i == 0 ? ": " : ", ", different[i].c_str());
  std::fprintf(text, "\n");
  if (as_json) std::printf("%s\n", json.text().c_str());
  return 0;
}

}  // namespace
}  // namespace bitflash::gpu::probe

int main(int argc, char** argv) {
  return bitflash::gpu::probe::Main("tensor_core_probe", [&] { return bitflash::gpu::probe::Run(argc, argv); });
}
