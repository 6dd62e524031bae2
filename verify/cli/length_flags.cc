#include "verify/cli/length_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/error.h"
#include "verify/cli/numbers.h"
#include "verify/cli/text.h"
#include "verify/diagnose/faults.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::UsageError;

constexpr int64_t kMostLength = int64_t{1} << 40;  // as --seqlen

// "200,1,129,0".
std::vector<int64_t> ParseList(const char* flag, std::string_view text) {
  std::vector<int64_t> lengths;
  for (std::string_view rest = text;;) {
    const size_t comma = rest.find(',');
    lengths.push_back(ParseCount(flag, rest.substr(0, comma), 0, kMostLength));
    if (comma == rest.npos) return lengths;
    rest.remove_prefix(comma + 1);
  }
}

// What the list says about the problem. A flag beside it may name more rows, which are then padding, but not fewer.
void Fill(const char* flag, const std::vector<int64_t>& lengths, std::optional<std::string>& batch,
          std::optional<std::string>& longest) {
  if (!batch) batch = fmt::format("{}", lengths.size());
  if (!longest) longest = fmt::format("{}", std::ranges::max(lengths));
  const auto sequences = static_cast<int64_t>(lengths.size());
  if (const int64_t said = ParseCount("--batch", *batch, 0, kMostLength); said != sequences) {
    throw UsageError(fmt::format("{} has {} lengths, but there are {} sequences", flag, sequences, said));
  }
}

void RequireFitting(const char* flag, const char* dimension, const std::vector<int64_t>& lengths, int64_t batch,
                    int64_t most) {
  if (lengths.empty()) return;
  if (static_cast<int64_t>(lengths.size()) != batch) {
    throw UsageError(fmt::format("{} has {} lengths: expected {}, one for each sequence", flag, lengths.size(), batch));
  }
  const int64_t longest = std::ranges::max(lengths);
  if (longest > most) {
    throw UsageError(
        fmt::format("{} has a length of {}: expected at most {}, which is {}", flag, longest, most, dimension));
  }
}

int64_t At(const std::vector<int64_t>& lengths, int64_t sequence, int64_t of_all) {
  return lengths.empty() ? of_all : lengths[static_cast<size_t>(sequence)];
}

}  // namespace

void AddLengthFlags(CommandLine& line, LengthFlags& flags) {
  line.Group("Attention");
  line.AddOption("--seqlens-q", flags.q, "N,N,...",
                 "Query rows of each sequence, for sequences of several lengths (says --batch and --seqlen-q)");
  line.AddOption("--seqlens-k", flags.k, "N,N,...", "Keys of each sequence (says --batch and --seqlen-k)");
  line.Group("Output");
}

Lengths ParseLengths(const LengthFlags& flags, WorkloadFlags& workload) {
  Lengths lengths;
  if (!flags.any()) return lengths;
  if (workload.phase || workload.seqlen) {
    throw UsageError(fmt::format("{} contradicts {}: give the longest of the other length as {}",
                                 flags.q ? "--seqlens-q" : "--seqlens-k", workload.phase ? "--phase" : "--seqlen",
                                 flags.q ? "--seqlen-k" : "--seqlen-q"));
  }
  if (flags.q) {
    lengths.queries = ParseList("--seqlens-q", *flags.q);
    Fill("--seqlens-q", lengths.queries, workload.batch, workload.seqlen_q);
  }
  if (flags.k) {
    lengths.keys = ParseList("--seqlens-k", *flags.k);
    Fill("--seqlens-k", lengths.keys, workload.batch, workload.seqlen_k);
  }
  return lengths;
}

void RequireFitting(const Lengths& lengths, const Attention& a) {
  RequireFitting("--seqlens-q", "seqlen_q", lengths.queries, a.batch, a.seqlen_q);
  RequireFitting("--seqlens-k", "seqlen_k", lengths.keys, a.batch, a.seqlen_k);
}

Problem ProblemOf(const Attention& a, const KernelInputs& inputs, const Lengths& lengths) {
  Problem problem;
  problem.attention = a;
  problem.q = inputs.q.Contiguous();
  problem.k = inputs.k.Contiguous();
  if (!a.v_is_in_k) problem.v = inputs.v.Contiguous();
  problem.seqlens_q = lengths.queries;
  problem.seqlens_k = lengths.keys;
  return problem;
}

OutputPair SimulateSequences(const sim::Kernel& kernel, const HeadSubset& heads, const sim::Tiling& tiling,
                             const std::string& arch, const KernelInputs& inputs, const Lengths& lengths) {
  const Attention& a = heads.attention;
  const Outputs outputs = RunSimulated({&kernel, tiling, arch}, ProblemOf(a, inputs, lengths));
  const int64_t begin = heads.begin - heads.q_begin, end = heads.end - heads.q_begin;
  const data::Tensor lse =
      outputs.lse.value_or(data::Tensor::Zeros(data::Format::kFp32, {a.batch, a.heads_q, a.seqlen_q}));
  return {outputs.o.View(data::ElementType::Unsigned(2)).Slice(1, begin, end).Contiguous(),
          lse.Slice(1, begin, end).Contiguous()};
}

Attention SequenceOf(const Attention& a, const Lengths& lengths, int64_t sequence) {
  Attention one = a;
  one.batch = 1;
  one.seqlen_q = At(lengths.queries, sequence, a.seqlen_q);
  one.seqlen_k = At(lengths.keys, sequence, a.seqlen_k);
  return one;
}

std::string LengthsText(const Attention& a, const Lengths& lengths) {
  constexpr int64_t kShown = 6;
  std::string text;
  for (int64_t b = 0; b < std::min(kShown, a.batch); ++b) {
    const Attention one = SequenceOf(a, lengths, b);
    text += fmt::format("{}{} x {}", b == 0 ? "" : ", ", one.seqlen_q, one.seqlen_k);
  }
  if (a.batch > kShown) text += fmt::format(" and {} more", a.batch - kShown);
  return text;
}

Json LengthsJson(const Attention& a, const Lengths& lengths) {
  if (!lengths.ragged()) return nullptr;
  Json queries = Json::array(), keys = Json::array();
  for (int64_t b = 0; b < a.batch; ++b) {
    const Attention one = SequenceOf(a, lengths, b);
    queries.push_back(one.seqlen_q);
    keys.push_back(one.seqlen_k);
  }
  return {{"queries", queries}, {"keys", keys}};
}

}  // namespace bitflash::verify
