#include "data/tensor_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "data/atomic_file.h"
#include "data/file_testing.h"

namespace bitflash::data {
namespace {

namespace fs = std::filesystem;

// A new empty folder, removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "bitflash_test_XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  int64_t files() const { return std::distance(fs::directory_iterator(path_), fs::directory_iterator()); }

 private:
  fs::path path_;
};

std::string Content(const std::string& path) {
  const FileSource source(path);
  return AsText(source.Load(0, source.bytes(), "the file"));
}

TensorFile Example() {
  return {{{"k", Tensor::FromBits(Format::kFp32, {2}, {1, 2})}, {"q", Tensor::FromBits(Format::kFp16, {1, 2}, {3, 4})}},
          {}};
}

TEST_CASE("every format is written by its extension and recognized by its content") {
  const TemporaryFolder folder;
  TensorFile file = Example();
  for (const char* name : {"a.npz", "a.safetensors"}) {
    WriteTensors(folder / name, file);
    CHECK(ReadTensors(folder / name) == file);
    fs::rename(folder / name, folder / "a.bin");
    CHECK(ReadTensors(folder / "a.bin") == file);
  }
  WriteTensors(folder / "empty.npz", {});
  CHECK(ReadTensors(folder / "empty.npz") == TensorFile{});
  WriteTensors(folder / "q.npy", {{{"any name", file.tensors.at("q")}}, {}});
  CHECK(ReadTensors(folder / "q.npy").tensors == TensorMap{{"q", file.tensors.at("q")}});
  file.metadata["seed"] = "7";
  WriteTensors(folder / "b.safetensors", file);
  CHECK(ReadTensors(folder / "b.safetensors") == file);
}

TEST_CASE("one tensor of a file") {
  const TemporaryFolder folder;
  WriteTensors(folder / "a.npz", Example());
  WriteTensors(folder / "q.npy", {{{"", Example().tensors.at("q")}}, {}});
  CHECK(ReadTensor(folder / "a.npz", "q") == Example().tensors.at("q"));
  CHECK(ReadTensor(folder / "q.npy") == Example().tensors.at("q"));
  CHECK_THROWS_WITH_AS(ReadTensor(folder / "a.npz"),
                       doctest::Contains("expected exactly one tensor; it holds 'k', 'q'"), InputError);
  CHECK_THROWS_WITH_AS(ReadTensor(folder / "a.npz", "v"), doctest::Contains("no tensor 'v'; it holds 'k', 'q'"),
                       InputError);
}

TEST_CASE("what cannot be written is refused before anything is") {
  const TemporaryFolder folder;
  const auto refused = [&](const char* name, const TensorFile& file, const char* what) {
    CHECK_THROWS_WITH_AS(WriteTensors(folder / name, file), doctest::Contains(what), UsageError);
  };
  refused("a.pt", Example(), "expected .npy, .npz or .safetensors");
  refused("a", Example(), "expected .npy, .npz or .safetensors");
  refused("a.npy", Example(), "exactly one tensor, but there are 2");
  refused("a.npz", {Example().tensors, {{"a", "b"}}}, "no metadata");
  refused("a.npz", {{{"../q", Tensor()}}, {}}, "component '..'");
  CHECK(folder.files() == 0);
}

TEST_CASE("files that are something else are refused by name, with what to do about it") {
  const auto parse = [](std::span<const std::byte> bytes, std::string_view origin) {
    return ParseTensors(MemorySource(Buffer::CopyOf(bytes), std::string(origin)));
  };
  CheckRefused(parse, "", "neither a .npy, a .npz nor a .safetensors file");
  CheckRefused(parse, "\x89HDF\r\n\x1A\n", "it starts with '\\x89HDF\\x0d\\x0a\\x1a\\x0a'");
  CheckRefused(parse, "\x80\x02}q", "a pickle; loading it would run code");
  CheckRefused(parse, "PK\3\4", "shorter than an end record");
  CheckRefused(parse, "\x93NUMPY", "the .npy magic and version");
  CheckRefused(parse, std::string("\0\0\0\0\0\0\0\0{", 9), "expected '{'");
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(ReadTensors(folder / "none.npy"), doctest::Contains("none.npy: cannot be opened: No such file"),
                       InputError);
  CHECK_THROWS_WITH_AS(ReadTensors(folder / "."), doctest::Contains("not a regular file"), InputError);
  CHECK_THROWS_WITH_AS(ReadTensors("/dev/zero"), doctest::Contains("not a regular file"), InputError);
  REQUIRE(mkfifo((folder / "pipe.npy").c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(ReadTensors(folder / "pipe.npy"), doctest::Contains("not a regular file"), InputError);
  std::ofstream(folder / "cut.npy") << Testdata("npy/f2.npy").substr(0, 139);
  CHECK_THROWS_WITH_AS(ReadTensors(folder / "cut.npy"),
                       doctest::Contains("cut.npy: header says shape (2, 3) of <f2 (12 bytes), but 11 bytes follow"),
                       InputError);
}

TEST_CASE("a file that shrinks while it is read is an error") {
  const TemporaryFolder folder;
  WriteFileAtomically(folder / "a", std::string(1000, 'x'));
  const FileSource source(folder / "a");
  CHECK(source.Load(990, 10, "the end").bytes() == 10);
  fs::resize_file(folder / "a", 500);
  CHECK_THROWS_WITH_AS(source.Load(400, 200, "the data"), doctest::Contains("became shorter while it was read"),
                       InputError);
}

TEST_CASE("files are replaced whole, keep their permissions, and links stay links") {
  const TemporaryFolder folder;
  WriteFileAtomically(folder / "a", "old");
  const mode_t mask = umask(0);
  umask(mask);
  struct stat status;
  REQUIRE(stat((folder / "a").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == (0666 & ~mask));
  fs::permissions(folder / "a", fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink(folder / "a", folder / "link");
  WriteFileAtomically(folder / "link", "new");
  CHECK(Content(folder / "a") == "new");
  CHECK(fs::is_symlink(folder / "link"));
  REQUIRE(stat((folder / "a").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  CHECK(folder.files() == 2);
}

TEST_CASE("a failed write leaves the old file and nothing else") {
  const TemporaryFolder folder;
  WriteFileAtomically(folder / "a", "old");
  CHECK_THROWS_WITH_AS(WriteFileAtomically(folder / "none/a", "new"), doctest::Contains("none/a: cannot be written"),
                       InputError);
  CHECK_THROWS_WITH_AS(WriteFileAtomically(folder / "", "new"), doctest::Contains("not a regular file"), InputError);
  CHECK_THROWS_WITH_AS(WriteFileAtomically("/dev/null", "new"), doctest::Contains("not a regular file"), InputError);
  // A limit on the size of files stands in for a full disk: the write fails half-way.
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlim_t soft = std::exchange(limit.rlim_cur, 4096);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  std::string message;
  try {
    WriteFileAtomically(folder / "a", std::string(100'000, 'x'));
  } catch (const InputError& error) {
    message = error.what();
  }
  limit.rlim_cur = soft;
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  CHECK(message == folder / "a" + ": cannot be written: File too large");
  CHECK(Content(folder / "a") == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("a process that dies while it writes leaves nothing, not even a temporary file") {
  const TemporaryFolder folder;
  if (const int probe = open((folder / "").c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600); probe >= 0) {
    close(probe);
  } else {
    MESSAGE("skipped: this file system has no files without a name");
    return;
  }
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    AtomicFile file(folder / "a");
    file.Write("half of it");
    _exit(7);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
  CHECK(folder.files() == 0);
}

TEST_CASE("a huge declared size in a tiny file is refused without allocating it") {
  const TemporaryFolder folder;
  const std::string json = R"({"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}})";
  WriteFileAtomically(folder / "a.safetensors", LittleEndian(json.size(), 8) + json);
  CHECK_THROWS_WITH_AS(ReadTensors(folder / "a.safetensors"), doctest::Contains("not inside the 0 bytes of data"),
                       InputError);
}

TEST_CASE("tensors and offsets beyond 4 GiB are written and read" * doctest::test_suite("slow")) {
  const TemporaryFolder folder;
  const int64_t bytes = (int64_t{1} << 32) + 5;
  for (const char* name : {"a.npz", "a.safetensors"}) {
    CAPTURE(name);
    {
      TensorFile file;
      file.tensors["a"] = Tensor::Zeros(ElementType::Unsigned(1), {bytes});
      file.tensors["a"].SetBits({bytes - 1}, 7);
      file.tensors["b"] = Tensor::FromBits(ElementType::Unsigned(1), {3}, {1, 2, 3});
      WriteTensors(folder / name, file);
    }
    const TensorFile file = ReadTensors(folder / name);
    CHECK(file.tensors.at("a").shape() == std::vector<int64_t>{bytes});
    CHECK(file.tensors.at("a").Bits({bytes - 1}) == 7);
    CHECK(file.tensors.at("a").Bits({int64_t{1} << 32}) == 0);
    CHECK(file.tensors.at("b").Bits({2}) == 3);
    fs::remove(folder / name);
  }
}

}  // namespace
}  // namespace bitflash::data
