// The properties of the fuzz targets on the seeds and on deterministic mutations of them, for builds without libFuzzer.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "data/fuzz/round_trip.h"

namespace bitflash::data {
namespace {

using Bytes = std::vector<uint8_t>;

// The files of data/testdata/FOLDER, in the order of their names so that every machine makes the same mutations.
std::vector<Bytes> Seeds(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(BITFLASH_SOURCE_DIR "/data/testdata/" + folder)) {
    if (entry.path().extension() != ".md") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> seeds;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}

// One to four changes of a byte, of a length field, or of the order and number of parts. The engine's values are fixed
// by the C++ standard; distributions are not, so there are none here.
Bytes Mutated(Bytes bytes, const std::vector<Bytes>& seeds, std::mt19937_64& random) {
  constexpr std::array<uint8_t, 12> kTelling = {0, 1, 0x7F, 0x80, 0xFF, '0', '9', '"', '[', '{', ',', ' '};
  for (uint64_t changes = 1 + random() % 4; changes > 0 && !bytes.empty(); --changes) {
    const auto at = static_cast<ptrdiff_t>(random() % bytes.size());
    const auto length =
        static_cast<ptrdiff_t>(std::min<uint64_t>(random() % 16, bytes.size() - static_cast<uint64_t>(at)));
    const auto begin = bytes.begin() + at, end = begin + length;
    switch (random() % 6) {
      case 0:
        *begin ^= static_cast<uint8_t>(1u << random() % 8);
        break;
      case 1:
        *begin = kTelling[random() % kTelling.size()];
        break;
      case 2:
        std::fill(begin, end, kTelling[random() % kTelling.size()]);
        break;
      case 3:
        bytes.erase(begin, end);
        break;
      case 4: {
        const Bytes part(begin, end);
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(random() % bytes.size()), part.begin(), part.end());
        break;
      }
      case 5: {
        const Bytes& other = seeds[random() % seeds.size()];
        bytes.resize(static_cast<size_t>(at));
        bytes.insert(bytes.end(), other.begin() + std::min<ptrdiff_t>(at, std::ssize(other)), other.end());
        break;
      }
    }
  }
  return bytes;
}

void Smoke(const std::string& folder, void (*target)(std::span<const uint8_t>), int mutations) {
  const std::vector<Bytes> seeds = Seeds(folder);
  REQUIRE(seeds.size() >= 2);
  target({});
  for (const Bytes& seed : seeds) target(seed);
  std::mt19937_64 random(20240711);
  for (int i = 0; i < mutations; ++i) {
    CAPTURE(i);
    const Bytes bytes = Mutated(seeds[static_cast<size_t>(i) % seeds.size()], seeds, random);
    CHECK_NOTHROW(target(bytes));
  }
}

TEST_CASE("fuzz_smoke: .npy") { Smoke("npy", FuzzNpy, 5000); }
TEST_CASE("fuzz_smoke: .npz") { Smoke("npz", FuzzNpz, 3000); }
TEST_CASE("fuzz_smoke: Nsight Compute's CSV") { Smoke("nsight", FuzzNsight, 1000); }
TEST_CASE("fuzz_smoke: .safetensors") { Smoke("safetensors", FuzzSafetensors, 5000); }

}  // namespace
}  // namespace bitflash::data
