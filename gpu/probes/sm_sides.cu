// Question: which SMs are on the same side of the L2, and in which order do the blocks of a grid fill them?
//
// An atomic operation is done at the home of its line, so its latency says whether the home is on the SM's own side.
// SMs that agree about all lines are on one side.
//
// And which SMs get a block fewer where a grid does not fill all?
//
//   sm_sides    prints CSV: for grids of one and two blocks an SM, and such that leave places empty, the SM of every
//               block and that SM's side
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <utility>
#include <vector>

#include "gpu/device.h"
#include "gpu/probes/memory_kernels.cuh"

namespace bitflash::gpu::probe {
namespace {

constexpr int kLines = 128;
constexpr int kLineStep = 5152;  // 4-byte elements, no multiple of a power of two above 32
constexpr int kTries = 4;        // the fastest counts, but not the first

__device__ __forceinline__ unsigned SmId() {
  unsigned id;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
  return id;
}

// Block `turn` measures, all others end at once.
__global__ void AtomicLatency(unsigned* lines, int turn, unsigned* sm, int* latency) {
  if (static_cast<int>(blockIdx.x) != turn || threadIdx.x != 0) return;
  *sm = SmId();
  unsigned folded = 0;
  for (int n = 0; n < kLines; ++n) {
    int best = 1 << 30;
    for (int k = 0; k < kTries; ++k) {
      const long long begin = Clock();
      folded ^= atomicAdd(lines + static_cast<int64_t>(n) * kLineStep, folded & 0u);
      asm volatile("" ::"r"(folded) : "memory");
      const int took = static_cast<int>(Clock() - begin);
      if (k > 0) best = min(best, took);
    }
    latency[n] = best;
  }
  if (folded == 0x12345678u) *sm = 0;  // never: keeps the loads
}

// Every block stays until all that fit have started.
__global__ void Place(int* sm, int ns) {
  if (threadIdx.x == 0) sm[blockIdx.x] = static_cast<int>(SmId());
  const unsigned long long start = Nanoseconds();
  while (Nanoseconds() - start < static_cast<unsigned long long>(ns)) {
  }
}

int Main() {
  const Device device = CurrentDevice();
  const int sms = static_cast<int>(device.sms);
  Stream stream;
  const Buffer lines(int64_t{4} * kLines * kLineStep), out(4 * kLines), id(4), placed(4 * 2 * sms);
  stream.Fill(lines, 0);
  std::vector<std::vector<int>> latency(static_cast<size_t>(sms), std::vector<int>(kLines));
  std::vector<int> all;
  for (int turn = 0; turn < sms; ++turn) {
    AtomicLatency<<<sms, 32, 0, stream.get()>>>(lines.as<unsigned>(), turn, id.as<unsigned>(), out.as<int>());
    CheckLaunch("AtomicLatency");
    stream.Synchronize();
    unsigned sm = 0;
    stream.ToHost(&sm, id, 4);
    stream.ToHost(latency.at(sm).data(), out, 4 * kLines);
    all.insert(all.end(), latency[sm].begin(), latency[sm].end());
  }
  std::ranges::sort(all);
  const int middle = (all[all.size() / 10] + all[all.size() * 9 / 10]) / 2;  // between the near and the far ones
  std::vector<int> side(static_cast<size_t>(sms)), agree(static_cast<size_t>(sms));
  for (size_t sm = 0; sm < side.size(); ++sm) {
    for (size_t n = 0; n < kLines; ++n) agree[sm] += (latency[sm][n] < middle) == (latency[0][n] < middle);
    side[sm] = agree[sm] * 2 < kLines;
  }
  std::printf("blocks_per_sm,blocks,block,sm,side,agrees\n");
  for (const auto& [per_sm, blocks] : {std::pair{1, sms}, {2, 2 * sms}, {2, 2 * sms - 8}, {2, 3 * sms / 2}}) {
    Check(cudaFuncSetAttribute(reinterpret_cast<const void*>(Place), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(device.shared_bytes_per_block)),
          "cudaFuncSetAttribute");
    const auto shared = static_cast<size_t>(device.shared_bytes_per_sm / per_sm - 4096);
    Place<<<blocks, 128, shared, stream.get()>>>(placed.as<int>(), 200'000);
    CheckLaunch("Place");
    stream.Synchronize();
    std::vector<int> sm(static_cast<size_t>(blocks));
    stream.ToHost(sm.data(), placed, static_cast<int64_t>(4 * sm.size()));
    for (size_t block = 0; block < sm.size(); ++block) {
      const auto s = static_cast<size_t>(sm[block]);
      std::printf("%d,%d,%zu,%d,%d,%.2f\n", per_sm, blocks, block, sm[block], side[s],
                  std::max(agree[s], kLines - agree[s]) / static_cast<double>(kLines));
    }
  }
  return 0;
}

}  // namespace
}  // namespace bitflash::gpu::probe

int main() {
  try {
    return bitflash::gpu::probe::Main();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sm_sides: %s\n", error.what());
    return 1;
  }
}
