#include "sim/l2/program.h"

namespace bitflash::sim::l2 {
namespace {

class RecordingBlock final : public Block {
 public:
  RecordingBlock(const LaunchSpec& spec, const Tiling& tiling, Ledger& ledger, Spans& spans, Program& program)
      : Block(spec.block, ledger, spans, 1, 1, Loops::kByTile), t_(tiling), ledger_(ledger), program_(program) {}

 private:
  void DoCopy(const Tile&, const GlobalTile& from) override { Add(from, false); }
  void DoCopy(const GlobalTile& to, const Tile&) override { Add(to, true); }
  void DoCopyConvert(const Tile&, const GlobalTile& from) override { Add(from, false); }
  void DoCopyConvert(const GlobalTile& to, const Tile&) override { Add(to, true); }

  void Add(const GlobalTile& tile, bool write) {
    const auto narrow = [](int64_t n) { return static_cast<int32_t>(n); };  // CountKernel refused what does not fit
    if (tile.matrix.tensor == TensorId::kK && t_.page_size > 0) {  // its page numbers (Block::LoadIndices has no hook)
      const Range pages = Pages(t_, tile.rows);
      program_.moves.push_back(
          {ledger_.matrix_flops, narrow(pages.begin), narrow(pages.count), 0, 1, TensorId::kBlockTable, false});
    }
    program_.moves.push_back({ledger_.matrix_flops, narrow(tile.rows.begin), narrow(tile.rows.count),
                              narrow(tile.cols.begin), narrow(tile.cols.count), tile.matrix.tensor, write});
  }

  const Tiling& t_;
  const Ledger& ledger_;
  Program& program_;
};

}  // namespace

Program Record(const LaunchSpec& spec, const Stream::Body& body, const Tiling& tiling, const BlockIndex& index) {
  Program program;
  Ledger ledger;
  Block::Spans spans;
  RecordingBlock block(spec, tiling, ledger, spans, program);
  body(block, index, spec.keys ? spec.keys(index) : KeyRuns());
  program.flops = ledger.matrix_flops;
  for (size_t n = 0; n < program.moves.size(); ++n) {
    if (program.moves[n].write) program.after_writes.push_back(n + 1);
  }
  return program;
}

}  // namespace bitflash::sim::l2
