// Which bytes of shared memory the lanes of a warp touch in the experiments of bank_conflict_probe.
//
// Addresses are written out here in their own way and recorded with the counters, so that sim/shared_layout.cc, which
// computes them again, is held against something that it has no part in.
#ifndef BITFLASH_GPU_PROBES_BANK_CONFLICT_PATTERNS_H_
#define BITFLASH_GPU_PROBES_BANK_CONFLICT_PATTERNS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/hash.h"

namespace bitflash::gpu::probe {

inline constexpr int kLanes = 32;
inline constexpr int kSharedBytes = 32 << 10;

struct Pattern {
  std::string instruction;  // "ld.shared.b64"
  std::string layout;       // "row-major", "padded-16", "swizzle-128"; empty: addresses of no tile
  std::string access;       // "along-row", "down-column", "fragment", "matrix"; else what is special about the lanes
  int rows = 0, columns = 0, element_bytes = 0;  // of the tile
  int row = 0, column = 0;                       // where in the tile the access begins
  std::array<int, kLanes> offsets{};             // bytes; -1: the lane takes no part
};

struct Instruction {
  const char* name;
  int piece_bytes;  // of a lane; 16 for those of whole matrices, whose rows have 16 bytes
  int addresses;    // lanes whose address counts: 8 for each matrix
};
inline constexpr Instruction kInstructions[] = {
    {"ld.shared.b16", 2, 32}, {"ld.shared.b32", 4, 32}, {"ld.shared.b64", 8, 32}, {"ld.shared.b128", 16, 32},
    {"st.shared.b16", 2, 32}, {"st.shared.b32", 4, 32}, {"st.shared.b64", 8, 32}, {"st.shared.b128", 16, 32},
    {"ldmatrix.x1", 16, 8},   {"ldmatrix.x2", 16, 16},  {"ldmatrix.x4", 16, 32},  {"ldmatrix.trans.x4", 16, 32},
    {"stmatrix.x1", 16, 8},   {"stmatrix.x2", 16, 16},  {"stmatrix.x4", 16, 32},  {"cp.async.b128", 16, 32},
};

inline bool OfMatrices(const Instruction& i) { return std::string(i.name).find("matrix") != std::string::npos; }

// Where byte `at` of row `row` lies. The swizzles are those of TMA's images: columns are cut into chunks of W bytes
// (32, 64, 128), whose rows follow one another, and the 16-byte units of a 128-byte line of a chunk are permuted by the
// exclusive or of their number, modulo W / 16, with the line's. Each line holds 128 / W rows. (CUDA Driver API,
// CU_TENSOR_MAP_SWIZZLE_*; CUTLASS: Swizzle<log2(W / 16), 4, 3> on byte addresses.)
inline int Offset(const std::string& layout, int rows, int row_bytes, int row, int at) {
  if (layout == "row-major") return row * row_bytes + at;
  if (layout == "padded-16") return row * (row_bytes + 16) + at;
  const int width = std::stoi(layout.substr(layout.find('-') + 1));
  const int linear = row * width + at % width, line = linear / 128, unit = linear / 16 % 8;
  const int swizzled = unit ^ line % (width / 16);
  return at / width * rows * width + line * 128 + swizzled * 16 + linear % 16;
}

// The lanes of an access that begins at `p.row`, `p.column`: row and byte of each.
inline void PlaceOnTile(const Instruction& instruction, Pattern& p) {
  const int piece = instruction.piece_bytes, row_bytes = p.columns * p.element_bytes;
  for (int lane = 0; lane < kLanes; ++lane) {
    int row = p.row, at = p.column * p.element_bytes;
    if (p.access == "along-row") {  // the pieces of a row, then those of the next
      row += (at + lane * piece) / row_bytes;
      at = (at + lane * piece) % row_bytes;
    } else if (p.access == "down-column") {  // a row for each lane
      row += lane;
    } else if (p.access == "fragment") {  // four neighbours in a row, eight rows: how mma.sync wants A, B and C
      row += lane / 4;
      at += lane % 4 * piece;
    } else {  // "matrix": eight rows each; the second eight below, the third and fourth beside them
      row += lane % 16;
      at += lane / 16 * 16;
    }
    p.offsets[lane] = lane < instruction.addresses ? Offset(p.layout, p.rows, row_bytes, row, at) : 0;
  }
}

inline void AddTilePatterns(const Instruction& instruction, std::vector<Pattern>& patterns) {
  const char* const kLayouts[] = {"row-major", "padded-16", "swizzle-32", "swizzle-64", "swizzle-128"};
  struct Tile {
    int rows, columns, element_bytes, row, column;
  };
  const Tile kTiles[] = {{64, 64, 2, 0, 0}, {48, 128, 2, 16, 40}};
  const bool matrices = OfMatrices(instruction);
  for (const Tile& tile : kTiles) {
    for (const char* layout : kLayouts) {
      for (const char* access : {"along-row", "down-column", "fragment", "matrix"}) {
        if (matrices != (access == std::string("matrix"))) continue;
        Pattern p{instruction.name, layout, access, tile.rows, tile.columns, tile.element_bytes, tile.row, tile.column};
        PlaceOnTile(instruction, p);
        patterns.push_back(p);
      }
    }
  }
}

// Pseudo-random whole numbers below `end`.
class Random {
 public:
  explicit Random(uint32_t seed) : seed_(seed) {}
  int operator()(int end) { return static_cast<int>(data::HashPair(seed_, ++count_) % static_cast<uint64_t>(end)); }

 private:
  uint32_t seed_, count_ = 0;
};

// Addresses of no tile: strides, and pieces by chance with what may let the hardware join lanes (equal addresses of
// neighbours, of halves, of quarters; lanes that take no part).
inline void AddFreePatterns(const Instruction& instruction, std::vector<Pattern>& patterns) {
  const int piece = instruction.piece_bytes;
  const auto add = [&](const std::string& access, auto piece_of) {
    Pattern p{instruction.name, "", access};
    for (int lane = 0; lane < kLanes; ++lane) {
      const int n = lane < instruction.addresses ? piece_of(lane) : 0;
      p.offsets[lane] = n < 0 ? -1 : n * piece;
    }
    patterns.push_back(p);
  };
  for (const int stride : {0, 2, 3, 4, 8, 9, 16, 32}) {
    add("stride-" + std::to_string(stride), [&](int lane) { return lane * stride; });
  }
  const bool matrices = OfMatrices(instruction);
  const uint32_t seeds = matrices && instruction.addresses < 32 ? 1 : 2;
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    Random random(seed);
    std::array<int, kLanes> any{}, few{};
    for (int& n : any) n = random(128);
    for (int& n : few) n = random(8);
    add("any", [&](int lane) { return any[lane]; });
    add("few", [&](int lane) { return few[lane]; });
    add("equal-pairs", [&](int lane) { return any[lane & ~1]; });
    add("equal-second-neighbours", [&](int lane) { return any[lane & ~2]; });
    add("equal-fours", [&](int lane) { return any[lane & ~3]; });
    add("equal-halves", [&](int lane) { return any[lane & 15]; });
    add("equal-quarters", [&](int lane) { return any[lane & 7]; });
    add("pairs-then-second-neighbours", [&](int lane) { return any[lane < 16 ? lane & ~1 : lane & ~2]; });
    add("pairs-and-second-neighbours-by-eights", [&](int lane) { return any[lane & 8 ? lane & ~1 : lane & ~2]; });
    add("pairs-but-one", [&](int lane) { return any[lane == 13 ? 13 : lane & ~1]; });
    add("one-run-in-order", [&](int lane) { return (lane + any[0]) % 128; });
    add("neighbours-in-order", [&](int lane) { return lane / 2 * (1 + static_cast<int>(seed)); });
    if (matrices) continue;  // their lanes may not be idle
    add("even-lanes", [&](int lane) { return lane % 2 ? -1 : any[lane]; });
    add("even-lanes-in-order", [&](int lane) { return lane % 2 ? -1 : lane / 2; });
    add("first-half", [&](int lane) { return lane < 16 ? any[lane] : -1; });
    add("first-quarter-in-order", [&](int lane) { return lane < 8 ? lane : -1; });
    add("one-quarter-each-half", [&](int lane) { return lane % 16 < 8 ? lane : -1; });
    add("three-of-four", [&](int lane) { return lane % 4 == 3 ? -1 : any[lane]; });
    add("pairs-some-idle", [&](int lane) { return few[lane] < 3 ? -1 : any[lane & ~1]; });
    add("any-some-idle", [&](int lane) { return few[lane] < 3 ? -1 : any[lane]; });
  }
}

inline std::vector<Pattern> Patterns() {
  std::vector<Pattern> patterns;
  for (const Instruction& instruction : kInstructions) {
    AddTilePatterns(instruction, patterns);
    AddFreePatterns(instruction, patterns);
  }
  return patterns;
}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_BANK_CONFLICT_PATTERNS_H_
