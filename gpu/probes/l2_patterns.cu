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

// What an access asks of the L2 (PTX ISA, "Cache Eviction Priority Hints"); kPlain carries no policy.
enum class Priority : int { kPlain, kFirst, kLast };

// Units of 16 bytes; a turn is what a block moves at once, 128 KiB. Turn t of a stream is block (t + shift)'s.
struct Phase {
  int64_t read_begin = 0, read_units = 0;
  int64_t write_begin = 0, write_units = 0;
  int reads = 1, writes = 0;  // turns of each kind that alternate
  int shift = 0;
  Priority read = Priority::kPlain, write = Priority::kPlain;
  bool all_read = false;  // every block reads every turn
  int others = 0;         // so many blocks, the last ones, read from others_begin instead
  int64_t others_begin = 0;
  int turn_ns = 0;  // from the start of a block's turn to that of its next; 0: as fast as it can
};

struct Program {
  Phase phases[kMostPhases];
  int count = 0;
};

__device__ __forceinline__ uint64_t PolicyOf(Priority priority) {
  uint64_t policy;
  if (priority == Priority::kFirst) {
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  } else {
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  }
  return policy;
}

__device__ __forceinline__ uint4 LoadAs(Priority priority, uint64_t policy, const uint4* from) {
  if (priority == Priority::kPlain) return LoadL2(from);
  uint4 x;
  asm volatile("ld.global.cg.L2::cache_hint.v4.u32 {%0,%1,%2,%3}, [%4], %5;"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from), "l"(policy));
  return x;
}

__device__ __forceinline__ void StoreAs(Priority priority, uint64_t policy, uint4* to) {
  if (priority == Priority::kPlain) {
    *to = make_uint4(1, 2, 3, 4);
    return;
  }
  asm volatile("st.global.L2::cache_hint.v4.u32 [%0], {%1,%2,%3,%4}, %5;" ::"l"(to), "r"(1), "r"(2), "r"(3), "r"(4),
               "l"(policy)
               : "memory");
}

// Until `turns` turns after `start`, and a part of a turn that differs from block to block.
__device__ __forceinline__ void WaitForTurn(unsigned long long start, int turns, int turn_ns) {
  const unsigned blocks = gridDim.x, place = blockIdx.x * 37 % blocks;
  const unsigned long long until = start + static_cast<unsigned long long>(turn_ns) * turns +
                                   static_cast<unsigned long long>(turn_ns) * place / blocks;
  while (Nanoseconds() < until) {
  }
}

__global__ void __launch_bounds__(kL2Threads, 1)
    RunPhases(const __grid_constant__ Program program, uint4* buffer, unsigned* arrived, uint32_t* sink) {
  uint32_t folded = 0;
  for (int n = 0; n < program.count; ++n) {
    const Phase p = program.phases[n];
    const int64_t turn = static_cast<int64_t>(kL2Turn);
    const int block = (static_cast<int>(blockIdx.x) + p.shift) % static_cast<int>(gridDim.x);
    int64_t r = p.all_read ? 0 : block, w = block;  // turns
    const int64_t read_step = p.all_read ? 1 : gridDim.x;
    const bool other = static_cast<int>(blockIdx.x) >= static_cast<int>(gridDim.x) - p.others;
    const int64_t read_begin = other ? p.others_begin : p.read_begin;
    const int64_t last_read = p.read_units / turn, last_write = p.write_units / turn;
    const uint64_t read_policy = PolicyOf(p.read), write_policy = PolicyOf(p.write);
    const unsigned long long start = Nanoseconds();
    for (int turns = 0; r < last_read || w < last_write; ++turns) {
      if (p.turn_ns > 0) WaitForTurn(start, turns, p.turn_ns);
      for (int k = 0; k < p.reads && r < last_read; ++k, r += read_step) {
        uint4 x[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          x[u] = LoadAs(p.read, read_policy, buffer + read_begin + r * turn + u * kL2Threads + threadIdx.x);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) folded ^= Fold(x[u]);
      }
      for (int k = 0; k < p.writes && w < last_write; ++k, w += gridDim.x) {
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          StoreAs(p.write, write_policy, buffer + p.write_begin + w * turn + u * kL2Threads + threadIdx.x);
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

constexpr int kSlowNs = 20'000;  // 0.87 TB/s on 132 SMs: DRAM has time
Phase Slow(Phase p) {
  p.turn_ns = kSlowNs;
  return p;
}
Phase With(Phase p, Priority read, Priority write) {
  p.read = read, p.write = write;
  return p;
}
Phase ByAll(Phase p) {
  p.all_read = true;
  return p;
}

// How lines are replaced: what the README of sim/l2 says of priorities, of dirty lines and of a DRAM that has time.
template <class Add>
void AddReplacement(Add add) {
  constexpr Priority kPlain = Priority::kPlain, kFirst = Priority::kFirst, kLast = Priority::kLast;
  const auto mib = [](int64_t size) { return std::to_string(size); };
  const auto hint = [](Priority read, Priority write) {
    return std::string(read == kFirst ? "_rfirst" : "") + (write == kFirst ? "_wfirst" : "");
  };
  // Is it time that cleans a dirty line, or an access? Reads of the same lines, and of 2 MiB.
  for (const int64_t size : {12, 16, 20, 24, 28}) {
    add("dirty_" + mib(size) + "_readsame", {Write(0, size), Read(0, size), Read(0, size)});
    add("dirty_" + mib(size) + "_read2", {Write(0, size), Read(128, 2), Read(128, 2)});
  }
  for (const int64_t size : {16, 24, 32}) {
    for (const int64_t read : {8, 16, 32, 64}) {
      add("dirty_" + mib(size) + "_read_" + mib(read), {Write(0, size), Read(128, read)});
      add("dirty_" + mib(size) + "_slowread_" + mib(read), {Write(0, size), Slow(Read(128, read))});
    }
  }
  for (const int64_t size : {30, 34, 36, 38, 40, 44}) {
    std::vector<Phase> moved;
    for (int pass = 0; pass < 5; ++pass) moved.push_back(Slow(Read(0, size, 37 * pass)));
    add("slow_own_" + mib(size), std::vector<Phase>(5, Slow(Read(0, size))));
    add("slow_moved_" + mib(size), moved);
  }
  for (const Priority write : {kPlain, kFirst}) {
    for (const int64_t hot : {4, 16}) {
      for (const int64_t size : {2, 4, 8}) {
        std::vector<Phase> phases;
        for (int round = 0; round < 24; ++round) {
          phases.push_back(ByAll(Read(0, hot)));
          phases.push_back(With(Write(64 + round * size, size), kPlain, write));
        }
        add("hot_" + mib(hot) + "_write_" + mib(size) + hint(kPlain, write), phases);
      }
    }
  }
  for (const int64_t size : {4, 8, 16, 24, 32}) {
    add("last_" + mib(size) + "_read_64_again", {With(Read(0, size), kLast, kPlain), Read(128, 64), Read(0, size)});
  }
  for (const int64_t size : {16, 24}) {
    for (const int64_t read : {8, 16}) {
      add("first_" + mib(size) + "_read_" + mib(read) + "_again",
          {With(Read(0, size), kFirst, kPlain), Read(128, read), Read(0, size)});
    }
  }
  for (const Priority read : {kPlain, kFirst}) {
    for (const Priority write : {kPlain, kFirst}) {
      // One stream of reads beside one of writes, and a second kernel that reads what a first wrote and writes as much.
      for (const int reads : {1, 2, 4}) {
        for (const int64_t size : {32, 64}) {
          const int64_t all = std::min<int64_t>(256, size * reads);
          add("beside_" + mib(reads) + "_" + mib(all / reads) + hint(read, write),
              {With({Units(64), Units(all), 0, Units(all / reads), reads, 1, 0}, read, write)});
        }
      }
      for (const int64_t size : {16, 24, 32, 40}) {
        add("chain_" + mib(size) + hint(read, write),
            {With(Write(0, size), kPlain, write),
             With({0, Units(size), Units(64), Units(size), 1, 1, 0}, read, write)});
      }
    }
  }
}

// What all SMs read, as the blocks of an attention kernel read the keys of a head: one set again and again, and two of
// which the second takes the place of the first, at once or a part of the blocks before the others.
template <class Add>
void AddShared(Add add) {
  constexpr int kTurnNs = 6000;  // 2.9 TB/s
  const auto all = [](int64_t begin, int64_t mib, int ns) {
    Phase p = ByAll(Read(begin, mib));
    p.turn_ns = ns;
    return p;
  };
  for (const int64_t size : {18, 20, 22, 23, 24, 25, 26, 27, 28, 30, 32}) {
    add("all_" + std::to_string(size), std::vector<Phase>(5, all(0, size, kTurnNs)));
  }
  for (const int ns : {kTurnNs, 0}) {
    for (const int64_t size : {14, 16}) {
      for (const int others : {0, 28, 66, 104}) {
        std::vector<Phase> phases(3, all(0, size, ns));
        Phase both = all(0, size, ns);
        both.others = others, both.others_begin = Units(128);
        if (others > 0) phases.push_back(both);
        phases.insert(phases.end(), 3, all(128, size, ns));
        add((ns > 0 ? "" : "fast_") + ("switch_" + std::to_string(size)) + "_" + std::to_string(others), phases);
      }
    }
  }
}

// How long evict_last protects: against how much of what passes, read or written to go first, and for whom; and what
// it does to passes over more than it protects.
template <class Add>
void AddLast(Add add) {
  constexpr Priority kPlain = Priority::kPlain, kFirst = Priority::kFirst, kLast = Priority::kLast;
  const auto mib = [](int64_t size) { return std::to_string(size); };
  for (const int64_t size : {4, 8}) {
    for (const int64_t passing : {32, 64, 128, 192}) {
      for (const int shift : {0, 66}) {
        const std::string to = shift == 0 ? "" : "_moved";
        add(mib(size) + "_read_" + mib(passing) + to,
            {With(Read(0, size), kLast, kPlain), Read(128, passing), With(Read(0, size, shift), kLast, kPlain)});
        add(mib(size) + "_wfirst_" + mib(passing) + to,
            {With(Read(0, size), kLast, kPlain), With(Write(128, passing), kPlain, kFirst),
             With(Read(0, size, shift), kLast, kPlain)});
        add(mib(size) + "_plain_wfirst_" + mib(passing) + to,
            {Read(0, size), With(Write(128, passing), kPlain, kFirst), Read(0, size, shift)});
      }
    }
  }
  for (const int64_t size : {20, 24, 28, 32, 36}) {
    for (const Priority read : {kPlain, kLast}) {
      for (const bool slow : {false, true}) {
        std::vector<Phase> passes;
        for (int pass = 0; pass < 4; ++pass) {
          passes.push_back(With(Read(0, size, 32 * pass), read, kPlain));
          if (slow) passes.back() = Slow(passes.back());
        }
        add(std::string(slow ? "slow_" : "") + (read == kLast ? "moved_" : "plain_moved_") + mib(size), passes);
      }
    }
  }
}

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
  AddShared([&](const std::string& name, std::vector<Phase> phases) { add("shared_" + name, std::move(phases)); });
  AddLast([&](const std::string& name, std::vector<Phase> phases) { add("last_" + name, std::move(phases)); });
  AddReplacement(
      [&](const std::string& name, std::vector<Phase> phases) { add("replace_" + name, std::move(phases)); });
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
