#include "sim/bank_conflicts.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>

#include "data/error.h"
#include "data/text.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kWord = 4;
constexpr int kRowsOfMatrix = 8;

template <class Range, class NameOf>
[[noreturn]] void ThrowUnknown(const std::string& kind, std::string_view name, const Range& all, NameOf name_of) {
  std::string accepted;
  for (const auto& one : all) accepted += (accepted.empty() ? "" : ", ") + std::string(name_of(one));
  throw data::UsageError("unknown " + kind + " " + data::Quoted(name) + ": expected one of " + accepted);
}

// True when lanes n and n xor `distance` never have different addresses.
bool NeighboursAgree(const LaneAddresses& addresses, int distance) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int64_t mine = addresses[lane], other = addresses[lane ^ distance];
    if (mine >= 0 && other >= 0 && mine != other) return false;
  }
  return true;
}

int LanesOfPart(const SharedInstruction& instruction, const LaneAddresses& addresses) {
  if (instruction.matrices) return kRowsOfMatrix;
  const int parts = static_cast<int>(std::max<int64_t>(1, instruction.piece_bytes / kWord));
  const bool joined =
      parts > 1 && !instruction.store && (NeighboursAgree(addresses, 1) || NeighboursAgree(addresses, 2));
  return kLanes / parts * (joined ? 2 : 1);
}

WarpPart PartOf(const SharedInstruction& instruction, const LaneAddresses& addresses, int first, int count) {
  WarpPart part;
  for (int lane = first; lane < first + count; ++lane) {
    const int64_t address = addresses[lane];
    if (address < 0) continue;
    part.lanes.push_back(lane);
    for (int64_t at = 0; at < instruction.piece_bytes; at += kWord) {
      const int64_t word = (address + at) / kWord;
      std::vector<int64_t>& words = part.words[word % kBanks];
      if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
    }
  }
  return part;
}

// Of cp.async (bank_conflicts.h). Of lanes that write the same piece the last counts.
BankCount CountAsync(const LaneAddresses& addresses) {
  constexpr int64_t kPiece = 16, kPieces = 8;  // of a line
  std::map<int64_t, int64_t> writers;
  std::set<int64_t> parts;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t address = addresses[static_cast<size_t>(lane)];
    if (address < 0) continue;
    writers[address / kPiece] = lane;
    parts.insert(lane / kPieces);
  }
  std::set<std::array<int64_t, 3>> wavefronts;
  for (const auto& [piece, lane] : writers) {
    wavefronts.insert({lane / kPieces, (lane ^ piece) % kPieces, piece / kPieces});
  }
  // Fewer than parts only where lanes overwrite one another.
  const auto count = static_cast<int64_t>(wavefronts.size());
  return {.instructions = 1, .wavefronts = count, .ideal = std::min(count, static_cast<int64_t>(parts.size()))};
}

}  // namespace

const std::vector<SharedInstruction>& SharedInstructions() {
  static const std::vector<SharedInstruction> instructions = {
      {"ld.shared.b16", 2},
      {"ld.shared.b32", 4},
      {"ld.shared.b64", 8},
      {"ld.shared.b128", 16},
      {"st.shared.b16", 2, 0, true},
      {"st.shared.b32", 4, 0, true},
      {"st.shared.b64", 8, 0, true},
      {"st.shared.b128", 16, 0, true},
      {"ldmatrix.x1", 16, 1},
      {"ldmatrix.x2", 16, 2},
      {"ldmatrix.x4", 16, 4},
      {"stmatrix.x1", 16, 1, true},
      {"stmatrix.x2", 16, 2, true},
      {"stmatrix.x4", 16, 4, true},
      {"cp.async.b128", 16, 0, true, true},
  };
  return instructions;
}

const SharedInstruction& FindSharedInstruction(std::string_view name) {
  for (const SharedInstruction& instruction : SharedInstructions()) {
    if (instruction.name == name) return instruction;
  }
  ThrowUnknown("instruction", name, SharedInstructions(), [](const SharedInstruction& i) { return i.name; });
}

int64_t WarpPart::wavefronts() const {
  size_t most = 0;
  for (const auto& bank : words) most = std::max(most, bank.size());
  return static_cast<int64_t>(most);
}

std::vector<WarpPart> Parts(const SharedInstruction& instruction, const LaneAddresses& addresses) {
  const int count = LanesOfPart(instruction, addresses);
  const int lanes = instruction.matrices ? kRowsOfMatrix * instruction.matrices : kLanes;
  std::vector<WarpPart> parts;
  for (int first = 0; first < lanes; first += count) {
    WarpPart part = PartOf(instruction, addresses, first, count);
    if (!part.lanes.empty()) parts.push_back(std::move(part));
  }
  return parts;
}

BankCount& BankCount::operator+=(const BankCount& other) {
  instructions += other.instructions;
  wavefronts += other.wavefronts;
  ideal += other.ideal;
  return *this;
}

BankCount CountBanks(const SharedInstruction& instruction, const LaneAddresses& addresses) {
  if (instruction.async) return CountAsync(addresses);
  BankCount count{.instructions = 1};
  for (const WarpPart& part : Parts(instruction, addresses)) {
    count.wavefronts += part.wavefronts();
    ++count.ideal;
  }
  return count;
}

std::string_view Name(WarpPattern pattern) {
  constexpr std::string_view kNames[] = {"along-row", "down-column", "fragment", "matrix"};
  return kNames[static_cast<int>(pattern)];
}

WarpPattern ParseWarpPattern(std::string_view name) {
  for (const WarpPattern pattern : kWarpPatterns) {
    if (Name(pattern) == name) return pattern;
  }
  ThrowUnknown("pattern", name, kWarpPatterns, [](WarpPattern pattern) { return Name(pattern); });
}

LaneAddresses PlaceOnTile(const SharedTile& tile, const SharedInstruction& instruction, WarpPattern pattern,
                          int64_t row, int64_t at) {
  const int64_t piece = instruction.piece_bytes, row_bytes = tile.row_bytes();
  LaneAddresses addresses;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    int64_t r = row, b = at;
    switch (pattern) {
      case WarpPattern::kAlongRow:
        r += (at + lane * piece) / row_bytes;
        b = (at + lane * piece) % row_bytes;
        break;
      case WarpPattern::kDownColumn:
        r += lane;
        break;
      case WarpPattern::kFragment:
        r += lane / 4;
        b += lane % 4 * piece;
        break;
      case WarpPattern::kMatrix:
        r += lane % 16;
        b += lane / 16 * piece;
        break;
    }
    const bool counts = instruction.matrices == 0 || lane < kRowsOfMatrix * instruction.matrices;
    const bool inside = r < tile.rows() && b + piece <= row_bytes;
    addresses[lane] = counts && inside ? tile.Offset(r, b) : -1;
  }
  return addresses;
}

TilePass CountTile(const SharedTile& tile, const SharedInstruction& instruction, WarpPattern pattern) {
  const std::string name(instruction.name);
  const int64_t piece = instruction.piece_bytes;
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw data::UsageError(what);
  };
  require((pattern == WarpPattern::kMatrix) == (instruction.matrices > 0),
          name + " does not go with the pattern " + std::string(Name(pattern)) +
              ": ldmatrix and stmatrix have the pattern matrix, the others along-row, down-column or fragment");
  require(tile.row_bytes() % piece == 0, name + " moves " + std::to_string(piece) + " bytes a lane: rows of " +
                                             std::to_string(tile.row_bytes()) + " bytes are no multiple of it");
  require(tile.layout().pad_bytes % piece == 0, ToString(tile.layout()) + " misaligns " + name +
                                                    ": expected padding of a multiple of " + std::to_string(piece) +
                                                    " bytes");
  // What one instruction covers: rows and bytes of each.
  int64_t rows = 1, bytes = kLanes * piece;
  if (pattern == WarpPattern::kDownColumn) rows = kLanes, bytes = piece;
  if (pattern == WarpPattern::kFragment) rows = 8, bytes = 4 * piece;
  if (pattern == WarpPattern::kMatrix) {
    rows = kRowsOfMatrix * std::min(instruction.matrices, 2);
    bytes = piece * std::max(1, instruction.matrices / 2);
    require(tile.rows() % rows == 0 && tile.row_bytes() % bytes == 0,
            name + " takes " + std::to_string(rows) + " rows of " + std::to_string(bytes) + " bytes: a tile of " +
                std::to_string(tile.rows()) + " rows of " + std::to_string(tile.row_bytes()) +
                " bytes is no multiple of it");
  }
  TilePass pass;
  const auto count = [&](int64_t row, int64_t at) {
    const BankCount one = CountBanks(instruction, PlaceOnTile(tile, instruction, pattern, row, at));
    if (pass.total.instructions == 0 || one.conflicts() > pass.worst.conflicts()) {
      pass.worst = one;
      pass.worst_row = row;
      pass.worst_at = at;
    }
    pass.total += one;
  };
  if (pattern == WarpPattern::kAlongRow) {  // across the ends of rows
    for (int64_t at = 0; at < tile.rows() * tile.row_bytes(); at += bytes) {
      count(at / tile.row_bytes(), at % tile.row_bytes());
    }
    return pass;
  }
  for (int64_t row = 0; row < tile.rows(); row += rows) {
    for (int64_t at = 0; at < tile.row_bytes(); at += bytes) count(row, at);
  }
  return pass;
}

}  // namespace bitflash::sim
