// Blocks of rows: what a search for a recipe simulates and compares at a time, and which of them tell most.
#ifndef BITFLASH_VERIFY_IDENTIFY_IDENTIFY_BLOCK_H_
#define BITFLASH_VERIFY_IDENTIFY_IDENTIFY_BLOCK_H_

#include <cstdint>
#include <vector>

#include "sim/kernels/kernels.h"
#include "verify/cases/problem.h"

namespace bitflash::verify {

// A recipe in the making: one point of the space that is searched.
struct Candidate {
  const sim::Kernel* text = nullptr;  // whose text runs; its own recipe is not looked at
  sim::Tiling tiling;                 // of the whole problem: Bc, splits or part_keys, fp32_scores decide bits
  std::string_view arch;              // whose tensor core multiplies
  sim::Recipe recipe;
};

// Some rows of one head, or of a whole group of heads where there are few rows, as a problem of their own, and the bits
// that were observed for them.
struct Block {
  Part part;
  Problem problem;            // Extract(whole problem, part)
  int64_t head_begin = 0;     // of `problem`: the first of the heads compared
  int64_t sequence_keys = 0;  // of the whole sequence: splits are counted on it
  bool pack = false;          // heads of the group are rows of one tile, where the text can
  std::vector<uint16_t> o;    // [heads, rows, head_dim_v] observed
  std::vector<uint32_t> lse;  // [heads, rows], or empty
  int64_t work = 0;           // multiply-adds and what packing K and V costs in their place
  int64_t rows() const { return part.heads.size() * part.rows.size(); }
};

// What a candidate makes of a block.
struct BlockBits {
  std::vector<uint16_t> o;
  std::vector<uint32_t> lse;
};

// The blocks of a problem, numbered: all of them together are all rows of all heads.
class Blocks {
 public:
  // `rows_of_block` query rows each, of one head; of whole groups of heads where a sequence has fewer rows. The problem
  // and the outputs must outlive this.
  Blocks(const Problem& problem, const Outputs& outputs, int64_t rows_of_block);

  int64_t count() const { return static_cast<int64_t>(parts_.size()); }
  Block Make(int64_t number) const;
  Block Make(const Part& part) const;
  int64_t Work(int64_t number) const;  // Make(number).work, without making it
  int64_t Rows(int64_t number) const { return parts_[number].heads.size() * parts_[number].rows.size(); }

  // Numbers of blocks in an order that is spread over the whole problem, the same for every call.
  std::vector<int64_t> Spread(int64_t most) const;

 private:
  const Problem& problem_;
  const Outputs& outputs_;
  std::vector<Part> parts_;
};

// How often the running maximum of a row grows from one group of 16 keys to the next, in both directions, summed over
// the rows: where it does, the keys of a tile and their order show in the bits. Scores are taken in fp32.
int64_t Information(const Block& block);

// The candidate's bits for the block, as if its kernel had run on the whole problem. One thread.
BlockBits Simulate(const Candidate& candidate, const Block& block);

// The elements of O, and of LSE, whose bits are not the observed ones.
int64_t CountDifferent(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b);
int64_t CountDifferent(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_IDENTIFY_IDENTIFY_BLOCK_H_
