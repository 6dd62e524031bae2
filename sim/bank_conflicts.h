// What an instruction of a warp costs in shared memory: wavefronts, and how many of them are bank conflicts.
//
// Shared memory has 32 banks of 4 bytes; word w is in bank w mod 32. An instruction is served part by part, and a part
// takes as many wavefronts (passes) as the bank with most different words has; lanes that want the same word share it.
// Nsight Compute counts both: l1tex__data_pipe_lsu_wavefronts_mem_shared_op_{ld,st}.sum and
// l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_{ld,st}.sum, which is wavefronts minus parts.
//
// The rule of parts below was found by gpu/probes/bank_conflict_probe and holds for each of its 870 patterns of these
// instructions on an H100 (data/golden/bank_conflicts):
//   - 16- and 32-bit pieces: the warp is one part. Two lanes that store halves of one word do not conflict.
//   - 64-bit: halves of the warp. 128-bit: quarters. Parts in which no lane is active cost nothing.
//   - Loads, not stores, take twice as many lanes in a part if of each two neighbours (lanes n and n xor 1) that are
//     active both have the same address; or if this holds for second neighbours (n xor 2). It must hold for one of the
//     two throughout the warp.
//   - ldmatrix and stmatrix: a part for each 8x8 matrix, of its eight rows of 16 bytes. .trans changes nothing.
// cp.async of 16 bytes a lane follows another rule, because data arrive as lines of global memory: 8 lanes that read a
// line take a wavefront for each way of permuting its pieces (lane xor place of the piece in its 128-byte line) and
// each line that they write. So 65 of the 78 recorded patterns say, with global addresses in the order of lanes, among
// them all of tiles that begin on a line. Where pieces in order cross lines, the hardware needs up to a quarter fewer:
// one fewer for each 8 lanes whose pieces lie in two lines or three, but not always, by a rule that nobody has found.
// So it is a model (SharedInstruction::async), not a measured rule. TMA and wgmma are not modelled: these counters do
// not see their accesses.
#ifndef BITFLASH_SIM_BANK_CONFLICTS_H_
#define BITFLASH_SIM_BANK_CONFLICTS_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/shared_layout.h"

namespace bitflash::sim {

inline constexpr int kLanes = 32;
inline constexpr int kBanks = 32;

struct SharedInstruction {
  std::string_view name;  // by its PTX name: "ld.shared.b64", "ldmatrix.x4"
  int64_t piece_bytes;    // that each lane moves; of a matrix: 16, one of its rows
  int matrices = 0;       // of ldmatrix and stmatrix; 0: every lane has an address
  bool store = false;
  bool async = false;  // cp.async: its counts are a model's, which is right for most recorded patterns
};

const std::vector<SharedInstruction>& SharedInstructions();
// Throws UsageError with the accepted names.
const SharedInstruction& FindSharedInstruction(std::string_view name);

// The byte address of each lane; -1: the lane is not active. Of ldmatrix.x1 the first 8 lanes count, of .x2 16.
using LaneAddresses = std::array<int64_t, kLanes>;

// One part of an instruction: its words in each bank, each once.
struct WarpPart {
  std::vector<int> lanes;  // the active ones
  std::array<std::vector<int64_t>, kBanks> words;
  int64_t wavefronts() const;
};

// Addresses must be multiples of the pieces' size.
std::vector<WarpPart> Parts(const SharedInstruction& instruction, const LaneAddresses& addresses);

struct BankCount {
  int64_t instructions = 0;
  int64_t wavefronts = 0;
  int64_t ideal = 0;  // wavefronts without conflicts: one for each part
  int64_t conflicts() const { return wavefronts - ideal; }
  BankCount& operator+=(const BankCount& other);
  bool operator==(const BankCount&) const = default;
};

BankCount CountBanks(const SharedInstruction& instruction, const LaneAddresses& addresses);

// How the lanes of a warp go over a tile.
enum class WarpPattern {
  kAlongRow,    // pieces side by side, row after row: how tiles are copied
  kDownColumn,  // a row for each lane, the same column: how a naive kernel walks K
  kFragment,    // lane n has row n / 4 and the piece n mod 4: fragments of mma.sync m16n8k16, loaded or stored singly
  kMatrix,      // the rows of 8x8 matrices of 16-bit elements: ldmatrix and stmatrix; no other instruction
};
inline constexpr WarpPattern kWarpPatterns[] = {WarpPattern::kAlongRow, WarpPattern::kDownColumn,
                                                WarpPattern::kFragment, WarpPattern::kMatrix};
std::string_view Name(WarpPattern pattern);  // "along-row", "down-column", "fragment", "matrix"
// Throws UsageError with the accepted names.
WarpPattern ParseWarpPattern(std::string_view name);

// The addresses of an instruction that begins at `row` and byte `at` of a row. Lanes outside the tile are not active.
LaneAddresses PlaceOnTile(const SharedTile& tile, const SharedInstruction& instruction, WarpPattern pattern,
                          int64_t row, int64_t at);

// One pass of a warp over a whole tile.
struct TilePass {
  BankCount total;
  BankCount worst;  // of one instruction, the first with most conflicts
  int64_t worst_row = 0, worst_at = 0;
};

// Throws UsageError: pattern and instruction do not go together; pieces that the layout cuts or misaligns; a tile that
// matrices do not fill.
TilePass CountTile(const SharedTile& tile, const SharedInstruction& instruction, WarpPattern pattern);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_BANK_CONFLICTS_H_
