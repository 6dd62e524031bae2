#include "data/npz.h"

#include <optional>

#include "data/file_testing.h"
#include "data/npy.h"

namespace bitflash::data {
namespace {

constexpr auto kParse = [](std::span<const std::byte> bytes, std::string_view origin) {
  return ParseNpz(bytes, origin);
};

TensorMap Parse(std::string_view bytes) { return ParseNpz(AsBytes(bytes), "FILE"); }

Tensor Q() { return Tensor::FromBits(Format::kFp16, {2, 3}, {0, 0x3C00, 0x4000, 0x4200, 0x4400, 0x4500}); }
Tensor K() {
  return Tensor::FromBits(Format::kFp32, {2, 3}, {0, 0x3F800000, 0x40000000, 0x40400000, 0x40800000, 0x40A00000});
}

std::string Archive(std::vector<ZipEntry> entries) {
  return AsText(Concatenated(SerializeZip(entries, Compression::kStored)));
}

TEST_CASE(".npz files that NumPy wrote are read") {
  for (const char* name : {"stored", "deflated"}) {
    CHECK(Parse(Testdata("npz/" + std::string(name) + ".npz")) == TensorMap{{"q", Q()}, {"k", K()}});
  }
  // zipfile on a stream that cannot seek: data descriptors, with and without zip64.
  for (const char* name : {"streamed", "streamed_deflated"}) {
    CHECK(Parse(Testdata("npz/" + std::string(name) + ".npz")) ==
          TensorMap{{"q0", Q()}, {"q1", Q()}, {"k0", K()}, {"k1", K()}});
  }
  const TensorMap names = Parse(Testdata("npz/names.npz"));
  CHECK(names.at("a/b").shape() == std::vector<int64_t>{3});
  CHECK(names.at("\xC3\xA4|1").shape() == std::vector<int64_t>{2});
  CHECK(Parse(Testdata("npz/none.npz")).empty());
}

TEST_CASE(".npz files are written and read back") {
  const TensorMap tensors = {{"q", Q()}, {"k/0", K().Permuted({1, 0})}, {"none", Tensor::Zeros(Format::kFp64, {0})}};
  for (const Compression compression : {Compression::kStored, Compression::kDeflated}) {
    CHECK(Parse(AsText(Concatenated(SerializeNpz(tensors, compression)))) == tensors);
  }
  CHECK(Parse(AsText(Concatenated(SerializeNpz({})))).empty());
  CHECK_THROWS_WITH_AS(SerializeNpz({{"", Q()}}), doctest::Contains("without a name"), UsageError);
  CHECK_THROWS_WITH_AS(SerializeNpz({{"../q", Q()}}), doctest::Contains("component '..'"), UsageError);
}

TEST_CASE("what is wrong with an entry is said with its name") {
  const std::string npy = AsText(Concatenated(SerializeNpy(Q())));
  CheckRefused(kParse, Archive({{"q.npy", {Buffer::CopyOf(npy.substr(0, npy.size() - 1))}}}),
               "FILE: entry 'q.npy': header says shape (2, 3) of <f2 (12 bytes), but 11 bytes follow");
  CheckRefused(kParse, Archive({{"q.npy", {}}}), "FILE: entry 'q.npy': the .npy magic");
  CheckRefused(kParse, Archive({{"q.txt", {}}}), "entry 'q.txt': expected only entries named NAME.npy");
  CheckRefused(kParse, Archive({{".npy", {}}}), "entry '.npy': expected only");
  CheckRefused(kParse, Archive({{"archive/data.pkl", {}}, {"archive/data/0", {}}}), "a torch.save file");
}

TEST_CASE("every truncation and every changed bit of a .npz file is refused or harmless") {
  for (const char* name : {"stored", "deflated", "streamed_deflated"}) {
    const std::string good = Testdata("npz/" + std::string(name) + ".npz");
    CheckTruncationsRefused(kParse, good);
    const TensorMap tensors = Parse(good);
    for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
      CAPTURE(bit);
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
      std::optional<TensorMap> parsed;
      try {
        parsed = Parse(bad);
      } catch (const InputError&) {
      }
      if (parsed) CHECK(*parsed == tensors);  // dates, versions and attributes mean nothing
    }
  }
}

}  // namespace
}  // namespace bitflash::data
