// For tests: the fingerprint of a function of an fp32 number over all inputs, as gpu/probes/sfu_probe.cu adds it up on
// a GPU, and the ones that it recorded.
#ifndef BITFLASH_DATA_FINGERPRINT_TESTING_H_
#define BITFLASH_DATA_FINGERPRINT_TESTING_H_

#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <map>
#include <span>
#include <stdexcept>
#include <string>

#include "data/hash.h"
#include "data/strict_json.h"

namespace bitflash::data {

// The fingerprints of data/golden/sfu_hashes.json by the name of the instruction or function.
inline std::map<std::string, uint64_t> RecordedFingerprints() {
  const std::string path = BITFLASH_SOURCE_DIR "/data/golden/sfu_hashes.json";
  const nlohmann::json file = ParseStrictJson(ReadTextFile(path), path);
  std::map<std::string, uint64_t> fingerprints;
  for (const auto& [name, value] : file.at("hashes").items()) {
    const std::string text = value.get<std::string>();  // "0x0123456789ABCDEF"
    const char* end = text.data() + text.size();
    const bool is_hex = text.size() == 18 && text.starts_with("0x");
    if (!is_hex || std::from_chars(text.data() + 2, end, fingerprints[name], 16).ptr != end) {
      throw std::runtime_error(path + ": " + name + " is " + text + ": expected 0x and 16 hexadecimal digits");
    }
  }
  return fingerprints;
}

// The 2^32 inputs in chunks of neighbours. All of them, or about two million: four chunks in every binade of either
// sign, whose fractions differ from binade to binade.
inline constexpr int64_t kChunkInputs = 1 << 10;
enum class Inputs : int64_t { kAll = 1, kSample = 2047 };  // every chunk, or every 2047th; 8192 make a binade

// The sum of HashPair(bits(x), y) over the inputs x, where evaluate(std::span<const float> x, std::span<uint32_t> y)
// computes the result bits of a chunk; threads call it at the same time.
template <class Evaluate>
uint64_t Fingerprint(Inputs inputs, const Evaluate& evaluate) {
  const int64_t step = static_cast<int64_t>(inputs);
  uint64_t sum = 0;
#pragma omp parallel for schedule(dynamic, 16) reduction(+ : sum)
  for (int64_t first = 0; first < int64_t{1} << 32; first += step * kChunkInputs) {
    std::array<float, kChunkInputs> x;
    std::array<uint32_t, kChunkInputs> y;
    for (uint32_t i = 0; i < kChunkInputs; ++i) x[i] = std::bit_cast<float>(static_cast<uint32_t>(first) + i);
    evaluate(std::span<const float>(x), std::span<uint32_t>(y));
    for (uint32_t i = 0; i < kChunkInputs; ++i) sum += HashPair(static_cast<uint32_t>(first) + i, y[i]);
  }
  return sum;
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_FINGERPRINT_TESTING_H_
