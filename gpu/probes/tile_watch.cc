// Question: in which order do the tiles of a kernel whose source nobody has end, and how fast is each?
//
// A kernel that writes a log-sum-exp for every row shows it: the buffer is memory of the host that the GPU writes to
// (cudaHostAlloc), full of words that no kernel writes, and threads of the CPU look at one word of every tile until it
// changes. Nothing of the GPU is taken away: a watching kernel would need an SM of a launch that fills them all. A look
// at a thousand tiles takes a microsecond, a tile of a long launch 200 to 1000.
//
// A shared library for data/golden/record_tiles.py, which runs PyTorch: PyTorch's operators allocate the log-sum-exps
// themselves, so tile_watch_allocate stands in for its allocator, and memory of the size that tile_watch_size names is
// the host's. A later tile of a persistent block is seen like a first one; on which SM it ran is not.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace bitflash::gpu::probe {
namespace {

constexpr uint32_t kUnwritten = 0xFFFFFFFF;  // a NaN, but not the one that arithmetic makes
constexpr ptrdiff_t kLine = 64 / sizeof(uint32_t);
constexpr int64_t kMarks = 2;  // before and after the launch

class Watch {
 public:
  void* Allocate(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& free = free_[bytes];
    void* memory = nullptr;
    if (!free.empty()) {
      memory = free.back();
      free.pop_back();
    } else if (bytes == watched_bytes_) {
      if (cudaHostAlloc(&memory, static_cast<size_t>(bytes), cudaHostAllocMapped) != cudaSuccess) return nullptr;
      hosts_.insert(memory);
    } else if (cudaMalloc(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1))) != cudaSuccess) {
      return nullptr;
    }
    if (bytes == watched_bytes_) watched_ = static_cast<uint32_t*>(memory);
    return memory;
  }

  // Work that uses it may still be in its stream: kept for the next of its size, which comes after it there.
  void Free(void* memory, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes == watched_bytes_ && !hosts_.contains(memory)) return;  // older than the size: lost
    free_[bytes].push_back(memory);
  }

  // Gives back what Free kept, and watches memory of another size from now on.
  int SetSize(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (const int error = cudaDeviceSynchronize(); error != cudaSuccess) return error;
    for (auto& entry : free_) {
      for (void* memory : entry.second) hosts_.erase(memory) > 0 ? cudaFreeHost(memory) : cudaFree(memory);
      entry.second.clear();
    }
    watched_bytes_ = bytes;
    watched_ = nullptr;
    if (marks_ != nullptr) return cudaSuccess;
    void* marks = nullptr;
    const int error = cudaHostAlloc(&marks, 2 * kMarks * kLine * sizeof(uint32_t), cudaHostAllocMapped);
    marks_ = static_cast<uint32_t*>(marks);
    return error;
  }

  bool Begin(const int64_t* words, int64_t tiles, int threads) {
    if (watched_ == nullptr || marks_ == nullptr || !threads_.empty()) return false;
    std::fill(watched_, watched_ + watched_bytes_ / static_cast<int64_t>(sizeof(uint32_t)), kUnwritten);
    std::fill(marks_, marks_ + kMarks * kLine, kUnwritten);
    seen_.assign(static_cast<size_t>(tiles + kMarks), 0);
    stop_ = false;
    begin_ = std::chrono::steady_clock::now();
    std::vector<const volatile uint32_t*> places;
    for (int64_t n = 0; n < tiles; ++n) places.push_back(watched_ + words[n]);
    for (int64_t n = 0; n < kMarks; ++n) places.push_back(marks_ + n * kLine);
    for (int t = 0; t < threads; ++t) {
      std::vector<size_t> mine;
      for (auto n = static_cast<size_t>(t); n < places.size(); n += static_cast<size_t>(threads)) mine.push_back(n);
      threads_.emplace_back([this, places, mine] { Look(places, mine); });
    }
    return true;
  }

  int Mark(int64_t n, cudaStream_t stream) { return cudaMemsetAsync(marks_ + n * kLine, 0, sizeof(uint32_t), stream); }

  void End(int64_t* nanoseconds) {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    std::ranges::copy(seen_, nanoseconds);
  }

 private:
  void Look(const std::vector<const volatile uint32_t*>& places, std::vector<size_t> left) {
    while (!left.empty() && !stop_) {
      std::erase_if(left, [&](size_t n) {
        if (*places[n] == kUnwritten) return false;
        seen_[n] = std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin_).count();
        return true;
      });
    }
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;  // by size
  std::set<void*> hosts_;
  int64_t watched_bytes_ = -1;
  uint32_t* watched_ = nullptr;
  uint32_t* marks_ = nullptr;
  std::chrono::steady_clock::time_point begin_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
  std::vector<int64_t> seen_;  // nanoseconds, every element one thread's
};

Watch& TheWatch() {
  static auto* const watch = new Watch;  // PyTorch frees memory while the process ends
  return *watch;
}

}  // namespace
}  // namespace bitflash::gpu::probe

using bitflash::gpu::probe::TheWatch;

extern "C" {

// As torch.cuda.memory.CUDAPluggableAllocator wants them.
void* tile_watch_allocate(ptrdiff_t bytes, int, cudaStream_t) { return TheWatch().Allocate(bytes); }
void tile_watch_free(void* memory, ptrdiff_t bytes, int, cudaStream_t) { TheWatch().Free(memory, bytes); }

// Memory of so many bytes is the host's, and the last that was allocated is watched. A cudaError_t.
int tile_watch_size(int64_t bytes) { return TheWatch().SetSize(bytes); }
// Looks at so many words of 4 bytes, with `threads` threads; 0 when no memory of the size was allocated.
int tile_watch_begin(const int64_t* words, int64_t tiles, int threads) {
  return TheWatch().Begin(words, tiles, threads);
}
// Mark 0 or 1, seen when the stream comes to it. A cudaError_t.
int tile_watch_mark(int64_t n, cudaStream_t stream) { return TheWatch().Mark(n, stream); }
// Nanoseconds since tile_watch_begin of every tile and of the two marks; 0: not seen.
void tile_watch_end(int64_t* nanoseconds) { TheWatch().End(nanoseconds); }

}  // extern "C"
