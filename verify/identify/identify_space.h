// The space of recipes that is searched: tiles and splits, tensor cores, and every choice of sim::Recipe.
#ifndef BITFLASH_VERIFY_IDENTIFY_IDENTIFY_SPACE_H_
#define BITFLASH_VERIFY_IDENTIFY_IDENTIFY_SPACE_H_

#include <string>
#include <string_view>
#include <vector>

#include "verify/identify/identify_block.h"

namespace bitflash::verify {

// Architectures whose tensor cores give different bits for the format, the most common first; those that give the same
// as an earlier one are left out.
std::vector<std::string_view> DistinctArchitectures(data::Format format);

// "sm90, sm100": all architectures whose mma.sync computes as this one's does.
std::string LikeArchitectures(std::string_view arch, data::Format format);

// The texts that go over the keys in one pass, with every tile that can show in the bits and both orders of tiles; the
// arithmetic is `arch` and the default recipe. What published kernels do comes first.
std::vector<Candidate> OnePassStructures(const data::Attention& attention, std::string_view arch);

// The texts that split the keys between blocks and combine the parts.
std::vector<Candidate> SplitStructures(const data::Attention& attention, std::string_view arch);

// The candidates with every combination of values of the named choices ("arch" among them, over `architectures`).
// Values that cannot differ for the problem stand once.
std::vector<Candidate> Expand(const std::vector<Candidate>& candidates, const data::Attention& attention,
                              const std::vector<std::string_view>& choices,
                              const std::vector<std::string_view>& architectures);

// A candidate with one choice changed.
struct Alternative {
  std::string choice, value;  // "exponent", "fused"; "tile_keys", "64"
  Candidate candidate;
};
std::vector<Alternative> Alternatives(const Candidate& candidate, const std::vector<std::string_view>& architectures);

// What the candidate chooses: "one pass" or the text's name, the tile, the tensor core, the recipe; the order of the
// report. The choices that Alternatives changes are among them, under the same names.
struct ChosenValue {
  std::string choice, value, meaning;
};
std::vector<ChosenValue> Describe(const Candidate& candidate, const data::Attention& attention);

// Named kernels that could have run the problem on the architecture, with the tile that they would take.
std::vector<Candidate> NamedCandidates(const data::Attention& attention, std::string_view arch);

// The candidate's tiling with query rows, warps and stages that its kernel can run with on a GPU of the architecture.
sim::Tiling RunnableTiling(const Candidate& candidate, const data::Attention& attention);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_IDENTIFY_IDENTIFY_SPACE_H_
