#include "verify/identify/identify_race.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <tuple>

#include "data/format.h"

namespace bitflash::verify {
namespace {

constexpr size_t kMostUnexplained = 64;
constexpr size_t kStaleBlocks = 4;  // a race that drops nobody for so long ends
constexpr size_t kBatch = 4;        // blocks that are weighed together, so that few alternatives still fill the threads

// Calls body(i) for i in [0, count) on all threads. The first exception, by time, is thrown again.
template <typename Body>
void Parallel(int64_t count, const Body& body) {
  std::mutex mutex;
  std::exception_ptr error;
  std::atomic<bool> failed = false;
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < count; ++i) {
    if (failed) continue;
    try {
      body(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
      failed = true;
    }
  }
  if (error) std::rethrow_exception(error);
}

int64_t Differ(const BlockBits& bits, const Block& block, bool lse) {
  return CountDifferent(bits.o, block.o) + (lse ? CountDifferent(bits.lse, block.lse) : 0);
}

// Worse than the best by more than this: out. What the best itself does not explain troubles all alike.
int64_t Margin(int64_t best) { return 4 + best / 4; }

template <typename T>
void Tally(const std::vector<T>& observed, const std::vector<T>& mine, const std::vector<T>& other, Weighed& weighed) {
  for (size_t i = 0; i < observed.size(); ++i) {
    if (mine[i] == other[i]) continue;
    weighed.same = false;
    weighed.better += mine[i] == observed[i];
    weighed.worse += other[i] == observed[i];
  }
}

bool Decided(const Weighed& weighed) { return std::abs(weighed.better - weighed.worse) >= kEnoughElements; }

// Representable numbers from one to the other; -1 when one is not finite.
int64_t Ulps(uint32_t a, uint32_t b, int bits, uint32_t infinity) {
  const uint32_t sign = uint32_t{1} << (bits - 1);
  if ((a & ~sign) >= infinity || (b & ~sign) >= infinity) return -1;
  const auto position = [&](uint32_t x) {
    const int64_t magnitude = x & ~sign;
    return x & sign ? -magnitude : magnitude;
  };
  return std::abs(position(a) - position(b));
}

// What one block adds to the verification.
Verification Compare(const BlockBits& bits, const Block& block, data::Format format, bool lse) {
  Verification found;
  const int64_t rows = block.part.rows.size(), columns = block.problem.attention.head_dim_v;
  const uint32_t infinity = format == data::Format::kFp16 ? 0x7c00 : 0x7f80;
  found.rows = block.rows();
  found.elements = static_cast<int64_t>(block.o.size());
  for (int64_t n = 0; n < block.rows(); ++n) {
    DifferentRow row{block.part.sequence, block.part.heads.begin + n / rows, block.part.rows.begin + n % rows, 0,
                     false};
    for (int64_t c = 0; c < columns; ++c) {
      const uint16_t observed = block.o[n * columns + c], simulated = bits.o[n * columns + c];
      if (observed == simulated) continue;
      ++row.elements;
      if (found.unexplained.size() < kMostUnexplained) {
        found.unexplained.push_back(
            {false, row.sequence, row.head, row.row, c, observed, simulated, Ulps(observed, simulated, 16, infinity)});
      }
    }
    if (lse && block.lse[n] != bits.lse[n]) {
      row.lse = true;
      if (found.unexplained.size() < kMostUnexplained) {
        found.unexplained.push_back({true, row.sequence, row.head, row.row, 0, block.lse[n], bits.lse[n],
                                     Ulps(block.lse[n], bits.lse[n], 32, 0x7f800000)});
      }
    }
    found.equal += columns - row.elements;
    if (lse) ++found.lse_rows, found.lse_equal += !row.lse;
    if (row.elements > 0 || row.lse) found.different.push_back(row);
  }
  return found;
}

}  // namespace

std::vector<Scored> Race(const std::vector<Candidate>& candidates, std::span<const Block> blocks, size_t keep,
                         size_t least_blocks, Lab& lab) {
  std::vector<Scored> field;
  for (const Candidate& candidate : candidates) field.push_back({candidate, 0});
  double used = 0;
  size_t last_drop = 0;
  for (size_t b = 0; b < blocks.size(); ++b) {
    Parallel(static_cast<int64_t>(field.size()), [&](int64_t i) {
      field[i].differ += Differ(Simulate(field[i].candidate, blocks[b]), blocks[b], lab.lse);
    });
    lab.simulations += static_cast<int64_t>(field.size());
    used += static_cast<double>(field.size()) * static_cast<double>(blocks[b].work);
    std::ranges::stable_sort(field, {}, &Scored::differ);
    const int64_t most = field.front().differ + Margin(field.front().differ);
    if (std::erase_if(field, [&](const Scored& scored) { return scored.differ > most; }) > 0) last_drop = b;
    if (lab.progress) lab.progress(static_cast<double>(b + 1) / static_cast<double>(blocks.size()));
    // What no block tells apart may give the same bits everywhere.
    const bool settled = field.size() <= keep || b >= last_drop + kStaleBlocks;
    if (b + 1 >= least_blocks && (settled || used > lab.work)) break;
  }
  if (field.size() > keep) field.resize(keep);
  return field;
}

std::vector<Weighed> Weigh(const Candidate& candidate, const std::vector<Alternative>& alternatives,
                           std::span<const Block> blocks, const Blocks& more, std::span<const int64_t> numbers,
                           Lab& lab) {
  std::vector<Weighed> all;
  for (const Alternative& alternative : alternatives) all.push_back({alternative});
  double used = 0;
  const size_t total = blocks.size() + numbers.size();
  for (size_t begin = 0; begin < total && used < lab.work; begin += kBatch) {
    std::vector<size_t> active;
    for (size_t n = 0; n < all.size(); ++n) {
      if (!Decided(all[n])) active.push_back(n);
    }
    if (active.empty()) break;
    const size_t batch = std::min(kBatch, total - begin);
    std::vector<Block> made(batch);
    std::vector<const Block*> at(batch);
    for (size_t b = 0; b < batch; ++b) {
      const size_t n = begin + b;
      if (n >= blocks.size()) made[b] = more.Make(numbers[n - blocks.size()]);
      at[b] = n < blocks.size() ? &blocks[n] : &made[b];
      used += static_cast<double>(at[b]->work) * static_cast<double>(active.size() + 1);
    }
    const size_t runs = active.size() + 1;
    std::vector<BlockBits> bits(batch * runs);
    Parallel(static_cast<int64_t>(bits.size()), [&](int64_t i) {
      const size_t run = i % runs;
      const Candidate& which = run == 0 ? candidate : all[active[run - 1]].alternative.candidate;
      bits[i] = Simulate(which, *at[i / runs]);
    });
    lab.simulations += static_cast<int64_t>(bits.size());
    for (size_t i = 0; i < bits.size(); ++i) {
      if (i % runs == 0) continue;
      const BlockBits& mine = bits[i / runs * runs];
      Weighed& weighed = all[active[i % runs - 1]];
      Tally(at[i / runs]->o, mine.o, bits[i].o, weighed);
      if (lab.lse) Tally(at[i / runs]->lse, mine.lse, bits[i].lse, weighed);
    }
    if (lab.progress) {
      lab.progress(std::max(used / lab.work, static_cast<double>(begin + batch) / static_cast<double>(total)));
    }
  }
  return all;
}

Verification Verify(const Candidate& candidate, const Blocks& blocks, std::span<const int64_t> numbers,
                    data::Format format, Lab& lab) {
  std::vector<Verification> parts(numbers.size());
  std::atomic<int64_t> done = 0;
  std::mutex mutex;
  Parallel(static_cast<int64_t>(numbers.size()), [&](int64_t i) {
    const Block block = blocks.Make(numbers[i]);
    parts[i] = Compare(Simulate(candidate, block), block, format, lab.lse);
    const int64_t finished = ++done;
    if (lab.progress) {
      const std::lock_guard lock(mutex);
      lab.progress(static_cast<double>(finished) / static_cast<double>(numbers.size()));
    }
  });
  lab.simulations += static_cast<int64_t>(numbers.size());
  Verification all;
  for (const Verification& part : parts) {
    all.rows += part.rows, all.elements += part.elements, all.equal += part.equal;
    all.lse_rows += part.lse_rows, all.lse_equal += part.lse_equal;
    all.different.insert(all.different.end(), part.different.begin(), part.different.end());
    all.unexplained.insert(all.unexplained.end(), part.unexplained.begin(), part.unexplained.end());
  }
  std::ranges::sort(all.different, {}, [](const DifferentRow& r) { return std::tuple(r.sequence, r.head, r.row); });
  std::ranges::sort(all.unexplained, {},
                    [](const Unexplained& u) { return std::tuple(u.sequence, u.head, u.row, u.lse, u.column); });
  if (all.unexplained.size() > kMostUnexplained) all.unexplained.resize(kMostUnexplained);
  return all;
}

}  // namespace bitflash::verify
