#include "sim/count_stream.h"

#include <algorithm>

namespace bitflash::sim {
namespace {

// Adds what the blocks of the launch moved together: the span of each shared matrix, once per matrix.
bool AddSpans(PerTensor& compulsory, const std::array<Block::Span, kTensorCount>& spans, int64_t Traffic::*direction) {
  bool overflowed = false;
  for (int tensor = 0; tensor < kTensorCount; ++tensor) {
    const Block::Span& span = spans[tensor];
    if (span.row_begin >= span.row_end) continue;
    int64_t bytes = data::StorageBytes(span.matrix.format);
    for (const int64_t extent : {span.row_end - span.row_begin, span.col_end - span.col_begin, span.matrix.matrices}) {
      overflowed |= __builtin_mul_overflow(bytes, extent, &bytes);
    }
    int64_t& counter = compulsory[tensor].*direction;
    overflowed |= __builtin_add_overflow(counter, bytes, &counter);
  }
  return overflowed;
}

void KeepMost(Resources& most, const Resources& r) {
  most.threads = std::max(most.threads, r.threads);
  most.registers_per_thread = std::max(most.registers_per_thread, r.registers_per_thread);
  most.registers_needed = std::max(most.registers_needed, r.registers_needed);
  most.registers_limit = r.registers_limit;
  most.shared_bytes = std::max(most.shared_bytes, r.shared_bytes);
}

}  // namespace

void CountStream::Launch(const LaunchSpec& spec, const Body& body) {
  Launched& launch = launched_.emplace_back(Launched{std::string(spec.name), spec.grid, spec.persistent, {}, {}});
  Block::Spans spans;
  const auto run_block = [&](const BlockIndex& index, const KeyRuns& keys, int64_t blocks) {
    Block block(spec.block, launch.ledger, spans, spec.heads, blocks, loops_);
    body(block, index, keys);
    KeepMost(launch.resources, block.resources());
    overflowed_ |= block.overflowed();
  };
  const auto keys_of = [&](const BlockIndex& index) { return spec.keys ? spec.keys(index) : KeyRuns(); };
  for (const BlockRun& run : spec.blocks) {
    if (loops_ == Loops::kByTile) {
      for (int64_t n = 0; n < run.count; ++n) run_block(run.at(n), keys_of(run.at(n)), 1);
      continue;
    }
    run_block(run.first, run.keys, run.count);
    // The span of a shared matrix needs the far end of the run as well. What blocks see moves one way only, so the last
    // block has it. Launches without key tiles share no matrix between blocks.
    if (run.count > 1 && spec.keys) run_block(run.at(run.count - 1), keys_of(run.at(run.count - 1)), 0);
  }
  overflowed_ |= AddSpans(launch.ledger.hbm_compulsory, spans.read, &Traffic::read);
  overflowed_ |= AddSpans(launch.ledger.hbm_compulsory, spans.write, &Traffic::write);
}

}  // namespace bitflash::sim
