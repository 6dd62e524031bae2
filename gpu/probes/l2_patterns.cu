// Question: which lines does the L2 keep, and which dirty lines does it write back before a kernel ends?
//
// Each launch runs a few phases, every block waiting for all others between two of them, so the order of the lines is
// known: whole-buffer streams of reads (again by the same SM, or by the SM that is `shift` blocks further), streams of
// writes, and reads and writes mixed. DRAM bytes counted by Nsight Compute per launch say what stayed.
//
//   l2_patterns [PREFIX]   prints one JSON line per launch: to be run under a profiler (data/golden/record_l2.py does
//                          it); PREFIX: only patterns whose names begin so
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "gpu/device.h"
#include "gpu/probes/memory_kernels.cuh"

namespace bitflash::gpu::probe {
namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int kMostPhases = 48;

// Units of 16 bytes; a turn is what a block moves at once, 128 KiB. Turn t of a stream is block (t + shift)'s.
struct Phase {
  int64_t read_begin = 0, read_units = 0;
  int64_t write_begin = 0, write_units = 0;
  int reads = 1, writes = 0;  // turns of each kind that alternate
  int shift = 0;
};

struct Program {
  Phase phases[kMostPhases];
  int count = 0;
};

__global__ void __launch_bounds__(kL2Threads, 1)
    RunPhases(const __grid_constant__ Program program, uint4* buffer, unsigned* arrived, uint32_t* sink) {
  uint32_t folded = 0;
  for (int n = 0; n < program.count; ++n) {
    const Phase p = program.phases[n];
    const int64_t turn = static_cast<int64_t>(kL2Turn);
    const int block = (static_cast<int>(blockIdx.x) + p.shift) % static_cast<int>(gridDim.x);
    int64_t r = block, w = block;  // turns
    const int64_t last_read = p.read_units / turn, last_write = p.write_units / turn;
    while (r < last_read || w < last_write) {
      for (int k = 0; k < p.reads && r < last_read; ++k, r += gridDim.x) {
        uint4 x[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          x[u] = LoadL2(buffer + p.read_begin + r * turn + u * kL2Threads + threadIdx.x);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) folded ^= Fold(x[u]);
      }
      for (int k = 0; k < p.writes && w < last_write; ++k, w += gridDim.x) {
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          buffer[p.write_begin + w * turn + u * kL2Threads + threadIdx.x] = make_uint4(1, 2, 3, 4);
        }
      }
    }
    WaitForAllBlocks(arrived, static_cast<unsigned>(n + 1));
  }
  if (folded == 0x12345678u) *sink = folded;  // never: keeps the loads
}

struct Launch {
  std::string name;
  std::vector<Phase> phases;
};

constexpr int64_t Units(int64_t mib) { return mib * kMiB / 16; }

Phase Read(int64_t begin_mib, int64_t mib, int shift = 0) { return {Units(begin_mib), Units(mib), 0, 0, 1, 0, shift}; }
Phase Write(int64_t begin_mib, int64_t mib, int shift = 0) { return {0, 0, Units(begin_mib), Units(mib), 0, 1, shift}; }

std::vector<Launch> Launches() {
  std::vector<Launch> launches;
  const auto add = [&](const std::string& name, std::vector<Phase> phases) {
    launches.push_back({name, std::move(phases)});
  };
  const auto mib = [](int64_t size) { return std::to_string(size); };
  for (const int64_t size : {16, 20, 24, 26, 28, 30, 32, 34, 36, 38, 40, 44, 48, 52, 60}) {
    // Five passes; every line again by the SM that read it, or by others.
    add("own_" + mib(size), std::vector<Phase>(5, Read(0, size)));
    std::vector<Phase> moved;
    for (int pass = 0; pass < 5; ++pass) moved.push_back(Read(0, size, 37 * pass));
    add("moved_" + mib(size), moved);
  }
  for (const int64_t size : {1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128}) {
    add("write_" + mib(size), {Write(0, size)});
    add("write_again_" + mib(size), {Write(0, size), Write(0, size, 37)});
  }
  for (const int64_t size : {8, 16, 20, 24, 28, 32, 40, 48}) {
    add("write_read_own_" + mib(size), {Write(0, size), Read(0, size)});
    add("write_read_moved_" + mib(size), {Write(0, size), Read(0, size, 37)});
  }
  // Are lines that were read twice kept longer than lines that were read once? A stream of `size` between.
  for (const int64_t size : {8, 16, 20, 24, 28, 32, 40, 64}) {
    add("once_stream_again_" + mib(size), {Read(0, 8), Read(128, size), Read(0, 8)});
    add("twice_stream_again_" + mib(size), {Read(0, 8), Read(0, 8), Read(128, size), Read(0, 8)});
    add("write_stream_again_" + mib(size), {Write(0, 8), Read(128, size), Read(0, 8)});
    add("read_streamwrite_again_" + mib(size), {Read(0, 8), Write(128, size), Read(0, 8)});
  }
  // Dirty lines behind a stream of reads: written first, and mixed.
  for (const int64_t size : {8, 16, 32, 64, 128}) {
    add("write8_then_read_" + mib(size), {Write(0, 8), Read(128, size)});
    add("write24_then_read_" + mib(size), {Write(0, 24), Read(128, size)});
  }
  for (const int reads : {1, 2, 4, 8, 16}) {
    for (const int64_t size : {8, 16, 32, 64}) {
      const int64_t read = std::min<int64_t>(256, size * reads);
      add("mixed_" + mib(reads) + "_" + mib(read / reads) + "w",
          {{Units(128), Units(read), 0, Units(read / reads), reads, 1, 0}});
    }
  }
  // Are lines that are written again and again, as registers that are spilled are, ever written back while other lines
  // pass? 24 rounds; what passes is new every time, or the same.
  for (const int64_t hot : {1, 3}) {
    for (const int64_t size : {1, 2, 4, 8, 10}) {
      std::vector<Phase> phases;
      for (int round = 0; round < 24; ++round) {
        phases.push_back(Write(0, hot));
        phases.push_back(Read(128 + round * size, size));
      }
      add("rewrite_" + mib(hot) + "_stream_" + mib(size), phases);
    }
    for (const int64_t size : {8, 16, 20, 24, 28, 32, 36, 40, 48}) {
      std::vector<Phase> phases;
      for (int round = 0; round < 24; ++round) {
        phases.push_back(Write(0, hot));
        phases.push_back(Read(128, size, 37 * round));
      }
      add("rewrite_" + mib(hot) + "_same_" + mib(size), phases);
    }
  }
  return launches;
}

int Main(const std::string& prefix) {
  const Device device = CurrentDevice();
  Stream stream;
  const Buffer buffer(384 * kMiB), arrived(256), sink(256);
  stream.Fill(buffer, 0);
  for (const Launch& launch : Launches()) {
    if (!launch.name.starts_with(prefix)) continue;
    Program program;
    for (const Phase& phase : launch.phases) program.phases[program.count++] = phase;
    stream.Fill(arrived, 0);
    uint4* data = buffer.as<uint4>();
    unsigned* count = arrived.as<unsigned>();
    uint32_t* result = sink.as<uint32_t>();
    void* arguments[] = {&program, &data, &count, &result};
    Check(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(RunPhases), dim3(static_cast<unsigned>(device.sms)),
                                      dim3(kL2Threads), arguments, 0, stream.get()),
          "RunPhases");
    stream.Synchronize();
    int64_t read = 0, written = 0;
    for (const Phase& phase : launch.phases) read += 16 * phase.read_units, written += 16 * phase.write_units;
    std::printf("{\"pattern\": \"%s\", \"read_bytes\": %lld, \"written_bytes\": %lld}\n", launch.name.c_str(),
                static_cast<long long>(read), static_cast<long long>(written));
  }
  return 0;
}

}  // namespace
}  // namespace bitflash::gpu::probe

int main(int argc, char** argv) {
  try {
    return bitflash::gpu::probe::Main(argc > 1 ? argv[1] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "l2_patterns: %s\n", error.what());
    return 1;
  }
}
