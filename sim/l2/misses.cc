#include "sim/l2/misses.h"

#include <cmath>
#include <cstdio>

#include "sim/l2/builds.h"
#include "sim/l2/parameters.h"

namespace bitflash::sim::l2 {
namespace {

template <class... Values>
std::string Text(const char* format, Values... values) {
  char text[320];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

double Megabytes(double bytes) { return bytes / 1e6; }

// K and V of one head, once.
double HeadBytes(const Attention& a) {
  return static_cast<double>(a.seqlen_k * (a.head_dim + a.head_dim_v) * data::StorageBytes(a.format));
}

double Capacity(const Compared& c) { return static_cast<double>(ParametersOf(c.gpu).bytes); }

// What another launch of the same call leaves is missed by as much as what it left.
std::string Chained(const Compared& c) {
  return c.start == Start::kFlushed ? "" : ", and what the launches before it left in L2 is predicted too";
}

std::string InKnee(const Compared& c) {
  return Text("K and V in flight take %.2f of the L2's capacity: its own hashes decide which lines stay",
              c.predicted.working_set);
}

}  // namespace

bool ReadIsMissed(const Compared& c) { return !c.read_within() && !(c.in_knee && std::abs(c.read_error()) <= 0.15); }

bool WriteIsMissed(const Compared& c) { return !c.write_within(); }

std::string ReasonOfRead(const Compared& c) {
  if (!ReadIsMissed(c)) return "";
  const Attention& a = c.attention;
  const double head = Megabytes(HeadBytes(a));
  if (c.in_knee) return InKnee(c);
  if (c.launch == "standard_scores") {
    return Text(
        "K of a head, %.0f MB, is read again by SMs of now one, now the other side of the L2, while S passes; streams "
        "of such reads, all SMs in step, keep more of it%s",
        head / 2, Chained(c).c_str());
  }
  if (c.launch == "standard_output") {
    const double p = Megabytes(static_cast<double>(c.predicted.compulsory_read)) -
                     head / 2 * static_cast<double>(a.batch * a.heads_kv);
    const double more = Megabytes(static_cast<double>(c.counted.dram_read - c.predicted.dram_read.value));
    if (more > p) return Text("%.1f MB are read that are neither P nor V: not understood%s", more, Chained(c).c_str());
    return Text("%.0f MB of P are read to go first: such lines have few places, and some are read from HBM twice%s", p,
                Chained(c).c_str());
  }
  if (c.start != Start::kFlushed) {
    return Text(
        "%.0f MB that are read and written, and their copies, are about what the L2 keeps until they are read again",
        Megabytes(static_cast<double>(c.predicted.compulsory_read + c.predicted.compulsory_write)));
  }
  if (a.mask.kind != data::Mask::Kind::kFull) {
    return Text(
        "blocks of different lengths stand at different keys of a head of %.0f MB: how far apart they "
        "drift decides what they share",
        head);
  }
  if (c.launch.find("splitkv") != std::string::npos) {
    return "the blocks that read one part of the keys for different rows drift apart";
  }
  return Text("K and V in flight take %.2f of the L2's capacity, and the blocks of an SM are not quite in step",
              c.predicted.working_set);
}

std::string ReasonOfWrite(const Compared& c) {
  if (!WriteIsMissed(c)) return "";
  const Build build = BuildOf(*c.kernel, c.launch, c.attention, c.tiling, c.gpu);
  if (build.spilled_per_tile + build.spilled_per_block > 0) {
    return Text(
        "the build spills registers, %d bytes a thread for every key tile and %d more once: how long such "
        "lines stay dirty is fitted, not known",
        static_cast<int>(build.spilled_per_tile), static_cast<int>(build.spilled_per_block));
  }
  if (c.launch.starts_with("standard_")) {
    return Text(
        "%.0f MB are written, of which at most %.1f MB stay dirty: how evenly they fill the sets, and "
        "which go first, depends on the order of %s%s",
        Megabytes(static_cast<double>(c.predicted.compulsory_write)),
        Megabytes(static_cast<double>(ParametersOf(c.gpu).dirty_bytes)),
        c.launch == "standard_softmax" ? "many rows at once" : "what is read beside them", Chained(c).c_str());
  }
  if (c.in_knee) return InKnee(c);
  return Text(
      "O is %.2f of the L2's capacity, and which of its lines are old when the launch ends depends on the "
      "order in which blocks end%s",
      static_cast<double>(c.predicted.compulsory_write) / Capacity(c), Chained(c).c_str());
}

}  // namespace bitflash::sim::l2
