#include "verify/cli/line_filter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <omp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <vector>

#include "data/error.h"
#include "verify/cli/hex.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::InputError;

constexpr int64_t kBlock = 4 << 20;   // characters that are read before they are filtered
constexpr int64_t kPiece = 64 << 10;  // characters of one thread at a time

class InputFile {
 public:
  explicit InputFile(const std::string& path) : name_(path == "-" ? "standard input" : Printable(path)) {
    descriptor_ = path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) Fail();
  }
  ~InputFile() {
    if (descriptor_ > STDERR_FILENO) close(descriptor_);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& name() const { return name_; }

  // The number of characters read, 0 at the end.
  int64_t Read(char* to, int64_t most) const {
    for (;;) {
      const ssize_t got = read(descriptor_, to, static_cast<size_t>(most));
      if (got >= 0) return got;
      if (errno != EINTR) Fail();
    }
  }

  // True when Read would return at once.
  bool HasMore() const {
    pollfd waiting{descriptor_, POLLIN, 0};
    return poll(&waiting, 1, 0) > 0;
  }

 private:
  [[noreturn]] void Fail() const { throw InputError(fmt::format("cannot read {}: {}", name_, std::strerror(errno))); }

  std::string name_;
  int descriptor_;
};

struct Piece {
  std::string_view lines;
  int64_t first = 0;  // line
  int64_t count = 0;
  FilteredLines results;
  std::optional<BadLine> bad;
  std::exception_ptr failure;  // anything else, such as too little memory
};

BadLine TooLong(int64_t line) { return {line, fmt::format("has more than {} characters", kLongestLine)}; }

// Whole lines, cut at line ends into pieces of about kPiece. Only the last line of a piece can be too long.
std::vector<Piece> Cut(std::string_view lines, int64_t first) {
  std::vector<Piece> pieces;
  while (!lines.empty()) {
    const size_t end = lines.find('\n', std::min<size_t>(kPiece, lines.size()) - 1) + 1;
    Piece piece{lines.substr(0, end), first, 0, {}, {}, {}};
    piece.count = std::count(piece.lines.begin(), piece.lines.end(), '\n');
    const size_t last = end < 2 ? 0 : lines.rfind('\n', end - 2) + 1;
    if (end - 1 - last > static_cast<size_t>(kLongestLine)) {
      piece.bad = TooLong(first + piece.count);
      piece.lines = piece.lines.substr(0, last);
    }
    first += piece.count;
    pieces.push_back(std::move(piece));
    lines.remove_prefix(end);
  }
  return pieces;
}

void FilterPieces(std::vector<Piece>& pieces, const LineFilter& filter) {
  const int64_t count = std::ssize(pieces);
  const int threads = static_cast<int>(std::min<int64_t>(count, omp_get_max_threads()));
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t i = 0; i < count; ++i) {
    try {
      filter(pieces[i].lines, pieces[i].first, pieces[i].results);
    } catch (const BadLine& bad) {
      pieces[i].bad = bad;
    } catch (...) {
      pieces[i].failure = std::current_exception();
    }
  }
}

}  // namespace

FilteredInput FilterLines(const std::string& path, const LineFilter& filter,
                          const std::function<void(std::string_view)>& write) {
  const InputFile input(path);
  std::vector<char> buffer(kBlock + 1 + kHexSlack);  // room for a missing '\n', too
  FilteredInput total;
  int64_t filled = 0;
  for (bool at_end = false; !at_end;) {
    const auto last_line_end = [&] {
      const void* found = memrchr(buffer.data(), '\n', static_cast<size_t>(filled));
      return found ? static_cast<const char*>(found) - buffer.data() + 1 : 0;
    };
    while (filled < kBlock && !at_end) {
      const int64_t got = input.Read(buffer.data() + filled, kBlock - filled);
      filled += got;
      at_end = got == 0;
      if (!at_end && last_line_end() > 0 && !input.HasMore()) break;
    }
    if (at_end && filled > 0 && buffer[filled - 1] != '\n') buffer[filled++] = '\n';
    const int64_t end = last_line_end();
    std::vector<Piece> pieces = Cut({buffer.data(), static_cast<size_t>(end)}, total.lines);
    FilterPieces(pieces, filter);
    const auto refuse = [&input](const BadLine& bad) {
      throw InputError(fmt::format("{}, line {}: {}", input.name(), bad.line, bad.what));
    };
    for (Piece& piece : pieces) {
      if (piece.failure) std::rethrow_exception(piece.failure);
      write(piece.results.text);
      total.hash += piece.results.hash;
      if (piece.bad) refuse(*piece.bad);
      total.lines += piece.count;
    }
    filled -= end;
    std::memmove(buffer.data(), buffer.data() + end, static_cast<size_t>(filled));
    if (filled > kLongestLine) refuse(TooLong(total.lines + 1));
  }
  return total;
}

}  // namespace bitflash::verify
