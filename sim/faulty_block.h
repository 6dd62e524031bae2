// A thread block that computes every bit and makes one mistake.
#ifndef BITFLASH_SIM_FAULTY_BLOCK_H_
#define BITFLASH_SIM_FAULTY_BLOCK_H_

#include <vector>

#include "data/convert.h"
#include "sim/exact_block.h"
#include "sim/machine_fault.h"

namespace bitflash::sim {

// What a mistake has to know about its block.
struct FaultPlace {
  bool combine = false;  // the launch combines parts of split keys
  Range keys;            // the keys that the block visits
};

// Charges what ExactBlock charges: a mistake of arithmetic moves the same bytes.
class FaultyBlock final : public ExactBlock {
 public:
  template <class... ExactBlockArguments>
  FaultyBlock(MachineFault fault, const FaultPlace& place, ExactBlockArguments&&... arguments)
      : ExactBlock(std::forward<ExactBlockArguments>(arguments)...), fault_(fault), place_(place) {}

 private:
  void DoMakeTile(const Tile& tile) override;
  using ExactBlock::DoCopy;
  void DoCopy(const Tile& to, const GlobalTile& from) override;
  void DoCopy(const GlobalTile& to, const Tile& from) override;
  using ExactBlock::DoCopyConvert;
  void DoCopyConvert(const GlobalTile& to, const Tile& from) override;
  void DoMma(const Tile& D, const Tile& A, const Tile& B, bool transposed, bool accumulate) override;
  void DoMask(const Tile& S, const QueryTile& queries, const KeyTile& keys) override;
  void DoRowMax(const Tile& out, const Tile& S, const Tile& m) override;
  void DoFiniteOrZero(const Tile& out, const Tile& m) override;
  using ExactBlock::DoMul;
  void DoMul(const Tile& out, const Tile& a, const Tile& b) override;
  void DoMulRows(const Tile& x, const Tile& r) override;
  void DoInvert(const Tile& out, const Tile& l, const Recipe& recipe) override;
  void DoFmaRows(const Tile& x, float scale, const Tile& addend) override;
  void DoSubRows(const Tile& x, const Tile& r) override;
  void DoAddColumn(const Tile& x, const Tile& w, int64_t column) override;
  void DoFmaColumn(const Tile& x, const Tile& y, const Tile& w, int64_t column) override;
  void DoExp2(const Tile& out, const Tile& a, const Recipe& recipe) override;
  void DoFmaVector(const Tile& out, const Tile& a, const Tile& b, const Tile& c) override;
  void DoRescaleAndAddToLanes(const Tile& l, const Tile& r, const Tile& P) override;
  void DoAddToLanes(const Tile& l, const Tile& P) override;
  void DoSumQuad(const Tile& l, const Recipe& recipe) override;
  void DoSumLanes(const Tile& l) override;
  void DoAdd(const Tile& x, const Tile& y) override;
  void DoConvert(const Tile& out, const Tile& in) override;
  void DoCombineLogSumExp(const Tile& lse, const Tile& w, int64_t threads) override;
  void DoLogSumExp(const Tile& out, const Tile& m, const Tile& l, float scale, const Recipe& recipe) override;

  // What a row vector holds, as far as it matters: kernels reuse them.
  enum class Role : uint8_t { kOther, kRescale, kInverse };

  bool Is(MachineFault fault) const { return fault_ == fault; }
  bool SkipsTile(int64_t tile_keys) const;
  // The fp32 tile through `format` and back.
  void Round(const Tile& tile, int64_t rows, data::Format format, data::Rounding rounding);
  void RoundBeforeStore(TensorId tensor, data::Format format, const Tile& from, int64_t rows);
  void FillRows(const Tile& tile, float value);
  // Calls `add` with P rounded to the input format, and puts P back.
  template <class Sum>
  void WithRounded(const Tile& P, const Sum& add);
  void RestoreSum(const Tile& l);

  const MachineFault fault_;
  const FaultPlace place_;
  std::vector<Role> roles_;       // by tile id
  Range loaded_keys_;             // of the K tile in shared memory
  std::vector<std::byte> stage_;  // what the stale stage holds next
  std::vector<float> maximum_;    // raw, as the last FiniteOrZero gave it
  std::vector<float> unscaled_;   // the row sum before it was rescaled
  int32_t unscaled_id_ = -1;      // and the tile it was in
  Tile sum_;                      // the last row sum that was reduced
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_FAULTY_BLOCK_H_
