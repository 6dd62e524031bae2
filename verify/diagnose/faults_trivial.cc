// Stale stages of shared memory (C), and kernels that hardly compute (T).
#include <cstring>

#include "verify/diagnose/fault_list.h"
#include "verify/diagnose/fault_outputs.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using sim::MachineFault;
using Kernel = SimulatedKernel;

bool SeparateTiles(const Kernel& k, const Problem& p) { return SeveralTiles(k, p); }

void Clear(data::Tensor& tensor) { std::memset(tensor.ContiguousBytes().data(), 0, tensor.bytes()); }

Outputs Zeros(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  Clear(outputs.o);
  if (outputs.lse) Clear(*outputs.lse);
  return outputs;
}
bool LseOfKeys(const Kernel& k, const Problem& p) { return WritesLse(k) && SeesKeys(p); }
Outputs LseZeros(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  Clear(*outputs.lse);
  return outputs;
}

// Nothing, LSE, the last head of the last sequence, or the rows of the last query tile are not written.
bool Anything(const Kernel&, const Problem& p) {
  for (int64_t b = 0; b < p.attention.batch; ++b) {
    if (p.queries(b) > 0) return true;
  }
  return false;
}
Outputs Unwritten(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  LeaveUnwritten(outputs.o, 0, 0, 0);
  if (outputs.lse) LeaveUnwritten(*outputs.lse, 0, 0, 0);
  return outputs;
}
bool AnyLse(const Kernel& k, const Problem& p) { return WritesLse(k) && Anything(k, p); }
Outputs LseUnwritten(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  LeaveUnwritten(*outputs.lse, 0, 0, 0);
  return outputs;
}
bool LastSequence(const Kernel&, const Problem& p) { return p.queries(p.attention.batch - 1) > 0; }
Outputs HeadUnwritten(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  const int64_t sequence = p.attention.batch - 1, head = p.attention.heads_q - 1;
  LeaveUnwritten(outputs.o, sequence, head, 0);
  if (outputs.lse) LeaveUnwritten(*outputs.lse, sequence, head, 0);
  return outputs;
}
bool LongestSequence(const Kernel&, const Problem& p) {
  for (int64_t b = 0; b < p.attention.batch; ++b) {
    if (p.queries(b) == p.attention.seqlen_q) return true;
  }
  return false;
}
Outputs LastTileUnwritten(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  const int64_t tiles = sim::QueryTileCount(p.attention, k.tiling);
  const int64_t begin = sim::QueryTileAt(p.attention, k.tiling, tiles - 1).tokens.begin;
  LeaveUnwritten(outputs.o, 0, 0, begin);
  if (outputs.lse) LeaveUnwritten(*outputs.lse, 0, 0, begin);
  return outputs;
}
bool SeveralSequences(const Kernel&, const Problem& p) { return p.attention.batch > 1 && SeesKeys(p); }
Outputs StaleSequence(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  ShiftSequences(outputs);
  return outputs;
}

// With a single key O is V.
bool SeveralKeys(const Kernel&, const Problem& p) {
  return AnySequence(p, [](const Attention& a) { return a.seqlen_k > 1; });
}
Outputs ValuesCopied(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  CopyValues(outputs, p);
  return outputs;
}
Outputs ValuesMean(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  MeanOfValues(outputs, p, /*only_empty_rows=*/false);
  return outputs;
}

}  // namespace

std::vector<Fault> TrivialFaults() {
  constexpr FaultFamily kTrivial = FaultFamily::kTrivial;
  return {
      {"k-stage-stale", "C01", kTrivial, "from the second tile on, K is that of the tile before: a missing barrier",
       "K of the previous tile", "https://github.com/ggml-org/llama.cpp/pull/13438", When<SeparateTiles>,
       OnMachine<MachineFault::kStaleKeys>},
      {"v-stage-stale", "C01", kTrivial, "from the second tile on, V is that of the tile before: a missing barrier",
       "V of the previous tile", "https://github.com/ggml-org/llama.cpp/pull/13438", When<SeparateTiles>,
       OnMachine<MachineFault::kStaleValues>},
      {"zeros", "T01", kTrivial, "O and LSE are all zeros", "all zeros",
       "https://github.com/ScalingIntelligence/KernelBench/issues/165", When<AnyKeys>, Zeros},
      {"lse-zeros", "T01", kTrivial, "LSE is all zeros", "an LSE of zeros", "", When<LseOfKeys>, LseZeros},
      {"unwritten", "T02", kTrivial, "nothing is written", "outputs left unwritten",
       "https://github.com/gpu-mode/pygpubench/pull/7", When<Anything>, Unwritten},
      {"lse-unwritten", "T02", kTrivial, "LSE is not written", "LSE left unwritten", "", When<AnyLse>, LseUnwritten},
      {"head-unwritten", "T02", kTrivial, "the last head of the last sequence is not written", "a head left unwritten",
       "", When<LastSequence>, HeadUnwritten},
      {"last-rows-unwritten", "T02", kTrivial, "the rows of the last query tile are not written",
       "the last query tile left unwritten", "", When<LongestSequence>, LastTileUnwritten},
      {"sequence-stale", "T02", kTrivial, "every sequence but the first gets the outputs of the one before",
       "outputs of another sequence", "https://github.com/gpu-mode/reference-kernels/issues/162",
       When<SeveralSequences>, StaleSequence},
      {"v-copied", "T03", kTrivial, "row i of O is row i of V", "a copy of V", "", When<SeveralKeys>, ValuesCopied},
      {"v-mean", "T03", kTrivial, "every row of O is the mean of V", "the mean of V", "", When<SeveralKeys>,
       ValuesMean},
      {"last-tile-skipped", "T05", kTrivial, "the last key tile is always skipped", "the last key tile missing", "",
       When<AnyKeys>, OnMachine<MachineFault::kLastTileSkipped>},
      {"first-tile-skipped", "T05", kTrivial, "the first key tile is always skipped", "the first key tile missing", "",
       When<AnyKeys>, OnMachine<MachineFault::kFirstTileSkipped>},
  };
}

}  // namespace bitflash::verify
