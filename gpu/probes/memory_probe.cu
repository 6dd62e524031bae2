// Question: how fast are the parts of this GPU that the time and traffic models speak of?
//
// Asked: DRAM read, write and copy (buffers far larger than L2), and cudaMemcpy's copy; L2 reads over working sets of
// 1/15 to 8/3 of the L2, read by all SMs in lock step ("shared") and each SM its own part ("own"); shared memory,
// special functions, fp32 and matrix instructions per clock and SM; the SM clock under those loads; kernel launches.
//
// The answers are fields of a GPU fact file (data/gpus/README.md; run_all.py writes it): hbm_read_bytes_per_second,
// l2_read_bytes_per_second (the plateau of "shared"), tensor_16bit_flops, mufu_per_clock_sm and so on. How much the L2
// holds cannot be seen in these times: a line that all SMs read together comes from DRAM once for all of them, which
// costs next to nothing. The counters say it: --working-sets.
//
// Every number is the median of several launches. Rates per second depend on power and temperature; rates per clock do
// not.
//
//   memory_probe [--json]
//   memory_probe --working-sets MIB,MIB,...   launches ReadSharedSet once per set and prints what it asked for: to be
//                                             run under a profiler (l2_counters.py)
#include <cuda_runtime.h>

#include <chrono>

#include "gpu/probes/memory_kernels.cuh"
#include "gpu/probes/report.h"

namespace bitflash::gpu::probe {
namespace {

constexpr int64_t kMiB = 1 << 20;

struct Point {  // of a curve
  int64_t bytes;
  double bytes_per_second;
};

struct Rate {
  double per_clock_sm = NAN;  // of whatever is counted
  double per_second = NAN;    // of the whole GPU
  double clock_hz = NAN;      // of the SMs meanwhile
};

class Prober {
 public:
  Prober(const Device& device, Stream& stream)
      : device_(device),
        stream_(stream),
        sink_(256),
        arrived_(256),
        times_(device.sms * static_cast<int64_t>(sizeof(BlockTime))) {}

  // Median seconds of `repetitions` launches after one that does not count.
  template <class Launch>
  double Seconds(int repetitions, Launch launch) {
    std::vector<double> seconds;
    launch();
    for (int i = 0; i < repetitions; ++i) {
      Event start, end;
      start.Record(stream_);
      launch();
      end.Record(stream_);
      seconds.push_back(end.MillisecondsSince(start) / 1e3);
    }
    return Median(seconds);
  }

  double DramRead(const Buffer& from) {
    const int64_t n = from.bytes() / 16;
    return static_cast<double>(from.bytes()) / Seconds(7, [&] {
             ReadAll<<<DramBlocks(), kCopyThreads, 0, stream_.get()>>>(from.as<uint4>(), n, sink_.as<uint32_t>());
             CheckLaunch("ReadAll");
           });
  }
  double DramWrite(const Buffer& to) {
    const int64_t n = to.bytes() / 16;
    return static_cast<double>(to.bytes()) / Seconds(7, [&] {
             WriteAll<<<DramBlocks(), kCopyThreads, 0, stream_.get()>>>(to.as<uint4>(), n, 1);
             CheckLaunch("WriteAll");
           });
  }
  // Bytes read and written per second.
  double DramCopy(const Buffer& both) {
    const int64_t half = both.bytes() / 2, n = half / 16;
    return 2.0 * static_cast<double>(half) / Seconds(7, [&] {
             CopyAll<<<DramBlocks(), kCopyThreads, 0, stream_.get()>>>(both.as<uint4>() + n, both.as<uint4>(), n);
             CheckLaunch("CopyAll");
           });
  }
  double DramMemcpy(const Buffer& both) {
    const int64_t half = both.bytes() / 2;
    char* to = both.as<char>();
    return 2.0 * static_cast<double>(half) / Seconds(7, [&] {
             Check(cudaMemcpyAsync(to, to + half, static_cast<size_t>(half), cudaMemcpyDeviceToDevice, stream_.get()),
                   "cudaMemcpyAsync within the device");
           });
  }
  int DramBlocks() const { return static_cast<int>(device_.sms) * 2; }
  // What the grid of those kernels takes in one turn.
  int64_t DramTurnBytes() const { return int64_t{DramBlocks()} * kCopyThreads * kUnroll * 16; }

  // A working set that all SMs read, one block on each.
  struct SharedSet {
    int length;  // in units of 16 bytes
    int passes;
    int64_t bytes() const { return int64_t{length} * 16; }
  };
  SharedSet MakeSharedSet(int64_t bytes, int passes) const {
    return {static_cast<int>(std::max<int64_t>(bytes / 16 / kL2Turn, 1) * kL2Turn), passes};
  }
  int64_t RequestedBytes(const SharedSet& set) const { return set.bytes() * set.passes * device_.sms; }
  void ReadShared(const Buffer& from, const SharedSet& set) {
    Check(cudaMemsetAsync(arrived_.as<void>(), 0, static_cast<size_t>(arrived_.bytes()), stream_.get()),
          "cudaMemsetAsync");
    const uint4* units = from.as<uint4>();
    int length = set.length, passes = set.passes;
    unsigned* arrived = arrived_.as<unsigned>();
    uint32_t* sink = sink_.as<uint32_t>();
    void* arguments[] = {&units, &length, &passes, &arrived, &sink};
    Check(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(&ReadSharedSet),
                                      dim3(static_cast<unsigned>(device_.sms)), dim3(kL2Threads), arguments, 0,
                                      stream_.get()),
          "ReadSharedSet");
  }
  Point L2ReadShared(const Buffer& from, int64_t bytes) {
    SharedSet set = MakeSharedSet(bytes, 1);
    set.passes = static_cast<int>(std::max<int64_t>(2, 8192 * kMiB / RequestedBytes(set)));
    const double seconds = Seconds(5, [&] { ReadShared(from, set); });
    return {set.bytes(), static_cast<double>(RequestedBytes(set)) / seconds};
  }

  // Every SM reads its own part of `bytes`, together 8 GiB.
  Point L2ReadOwn(const Buffer& from, int64_t bytes) {
    const int64_t length = bytes / 512 / device_.sms * 32;  // units of 16 bytes, whole rows of a warp
    const int64_t steps = std::max(8192 * kMiB / 16 / device_.sms, length) / kL2Turn + 1;
    const double seconds = Seconds(5, [&] {
      ReadOwnSets<<<static_cast<int>(device_.sms), kL2Threads, 0, stream_.get()>>>(
          from.as<uint4>(), static_cast<int>(length), static_cast<int>(steps), sink_.as<uint32_t>());
      CheckLaunch("ReadOwnSets");
    });
    return {length * device_.sms * 16, static_cast<double>(steps * kL2Turn * 16 * device_.sms) / seconds};
  }

  // A kernel that times itself: `work` is what a block does per turn.
  template <class Kernel, class Sink>
  Rate PerClock(Kernel kernel, int threads, int turns, double work, Sink* sink) {
    std::vector<double> clocks, hertz;
    const double seconds = Seconds(5, [&] {
      kernel<<<static_cast<int>(device_.sms), threads, 0, stream_.get()>>>(turns, times_.as<BlockTime>(), sink);
      CheckLaunch("a kernel that times itself");
    });
    std::vector<BlockTime> times(static_cast<size_t>(device_.sms));
    stream_.ToHost(times.data(), times_, times_.bytes());
    for (const BlockTime& t : times) {
      clocks.push_back(static_cast<double>(t.clocks));
      if (t.nanoseconds > 0) hertz.push_back(static_cast<double>(t.clocks) / static_cast<double>(t.nanoseconds) * 1e9);
    }
    const double done = work * turns;
    return {done / Median(clocks), done * static_cast<double>(device_.sms) / seconds, Median(hertz)};
  }
  template <class T>
  T* sink() {
    return sink_.as<T>();
  }

  bool CodeHasWgmma() {
    int has = 0;
    HasWgmma<<<1, 1, 0, stream_.get()>>>(sink_.as<int>());
    CheckLaunch("HasWgmma");
    stream_.ToHost(&has, sink_, sizeof(has));
    return has != 0;
  }

  // Seconds from one launch of an empty kernel to the next, and from a launch to the end of waiting for it.
  std::pair<double, double> Launches() {
    constexpr int kLaunches = 1000;
    const double back_to_back = Seconds(5, [&] {
      for (int i = 0; i < kLaunches; ++i) Nothing<<<1, 32, 0, stream_.get()>>>();
      CheckLaunch("Nothing");
    });
    std::vector<double> round_trips;
    for (int i = 0; i < 200; ++i) {
      const auto start = std::chrono::steady_clock::now();
      Nothing<<<1, 32, 0, stream_.get()>>>();
      stream_.Synchronize();
      round_trips.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return {back_to_back / kLaunches, Median(round_trips)};
  }

 private:
  const Device& device_;
  Stream& stream_;
  Buffer sink_, arrived_, times_;
};

// Working sets: multiples of 1/15 of the L2 (4 MiB where it has 60) to 4/3, then four larger ones.
std::vector<int64_t> WorkingSets(int64_t l2_bytes) {
  std::vector<int64_t> sets;
  for (const int fifteenths : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 24, 28, 32, 40}) {
    sets.push_back(l2_bytes * fifteenths / 15);
  }
  return sets;
}

// Of the points from 2/15 to 7/15 of the L2: small enough to fit twice, large enough that all slices take part.
double Plateau(const std::vector<Point>& curve) {
  std::vector<double> rates;
  for (size_t i = 1; i < 7; ++i) rates.push_back(curve[i].bytes_per_second);
  return Median(rates);
}

int64_t LargestAbove(const std::vector<Point>& curve, double least) {
  int64_t largest = 0;
  for (const Point& point : curve) {
    if (point.bytes_per_second < least) break;
    largest = point.bytes;
  }
  return largest;
}

constexpr int kProfiledPasses = 5;

int WorkingSetsUnderProfiler(const std::string& list, Prober& prober, Stream& stream) {
  std::vector<int64_t> sets;
  for (size_t at = 0; at < list.size(); at = std::min(list.find(',', at), list.size() - 1) + 1) {
    sets.push_back(std::atoll(list.c_str() + at) * kMiB);
  }
  if (sets.empty() || *std::ranges::min_element(sets) <= 0) {
    std::fprintf(stderr, "--working-sets is \"%s\": expected sizes in MiB such as 10,20,160\n", list.c_str());
    return 2;
  }
  const Buffer buffer(*std::ranges::max_element(sets));
  stream.Fill(buffer, 0);
  stream.Synchronize();
  Json json;
  json.Begin('{');
  json.Begin("launches", '[');
  for (const int64_t bytes : sets) {
    const Prober::SharedSet set = prober.MakeSharedSet(bytes, kProfiledPasses);
    prober.ReadShared(buffer, set);
    stream.Synchronize();
    json.Begin('{');
    json.Add("set_bytes", set.bytes());
    json.Add("passes", set.passes);
    json.Add("requested_bytes", prober.RequestedBytes(set));
    json.End('}');
  }
  json.End(']');
  json.End('}');
  std::printf("%s\n", json.text().c_str());
  return 0;
}

int Run(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  const bool as_json = argc == 2 && option == "--json", profiler = argc == 3 && option == "--working-sets";
  if (argc > 1 && !as_json && !profiler) {
    std::fprintf(stderr, "usage: memory_probe [--json | --working-sets MIB,MIB,...]\n");
    return 2;
  }
  const Device device = CurrentDevice();
  Stream stream;
  Prober prober(device, stream);
  if (profiler) return WorkingSetsUnderProfiler(argv[2], prober, stream);

  FILE* text = as_json ? stderr : stdout;
  std::fprintf(text, "memory_probe: %s, driver %s, CUDA %s\n", device.name.c_str(), device.driver.c_str(),
               device.runtime_cuda.c_str());
  Json json;
  json.Begin('{');
  AddDevice(json, "memory_probe", device);
  const auto add = [&](const char* key, double value, double shown, const char* unit) {
    json.Add(key, value);
    std::fprintf(text, "  %-36s %10.1f %s\n", key, shown, unit);
  };

  size_t free_bytes = 0, total_bytes = 0;
  Check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  const int64_t turn = prober.DramTurnBytes();
  const int64_t wanted = std::max<int64_t>(2048 * kMiB, 32 * device.l2_bytes);
  const int64_t dram_bytes = std::min<int64_t>(wanted, static_cast<int64_t>(free_bytes) / 2) / (2 * turn) * (2 * turn);
  {
    const Buffer buffer(dram_bytes);
    stream.Fill(buffer, 0x5A);
    const double read = prober.DramRead(buffer), write = prober.DramWrite(buffer), copy = prober.DramCopy(buffer);
    json.Add("dram_buffer_bytes", dram_bytes);
    add("dram_read_bytes_per_second", read, read / 1e9, "GB/s");
    add("dram_write_bytes_per_second", write, write / 1e9, "GB/s");
    add("dram_copy_bytes_per_second", copy, copy / 1e9, "GB/s (read + written)");
    const double memcpy_rate = prober.DramMemcpy(buffer);
    add("dram_memcpy_bytes_per_second", memcpy_rate, memcpy_rate / 1e9, "GB/s (read + written by cudaMemcpy)");
  }
  {
    const std::vector<int64_t> sets = WorkingSets(device.l2_bytes);
    const Buffer buffer(sets.back());
    stream.Fill(buffer, 0x5A);
    std::vector<Point> shared, own;
    for (const int64_t bytes : sets) {
      shared.push_back(prober.L2ReadShared(buffer, bytes));
      own.push_back(prober.L2ReadOwn(buffer, bytes));
    }
    std::fprintf(text, "  L2 reads, GB/s:   working set MiB     shared        own\n");
    for (size_t i = 0; i < sets.size(); ++i) {
      std::fprintf(text, "                    %15.1f %10.0f %10.0f\n", static_cast<double>(shared[i].bytes) / kMiB,
                   shared[i].bytes_per_second / 1e9, own[i].bytes_per_second / 1e9);
    }
    for (const auto& [name, curve] : {std::pair{"l2_shared", &shared}, std::pair{"l2_own", &own}}) {
      const double plateau = Plateau(*curve), asymptote = curve->back().bytes_per_second;
      const int64_t knee = LargestAbove(*curve, 0.9 * plateau);
      json.Begin(name, '{');
      json.Add("plateau_bytes_per_second", plateau);
      json.Add("asymptote_bytes_per_second", asymptote);
      json.Add("largest_set_at_90_percent_bytes", knee);
      json.Begin("curve", '[');
      for (const Point& point : *curve) {
        json.Begin('{');
        json.Add("set_bytes", point.bytes);
        json.Add("bytes_per_second", point.bytes_per_second);
        json.End('}');
      }
      json.End(']');
      json.End('}');
      std::fprintf(text, "  %-36s plateau %.0f GB/s, asymptote %.0f GB/s, 90 %% of the plateau up to %.1f MiB\n", name,
                   plateau / 1e9, asymptote / 1e9, static_cast<double>(knee) / kMiB);
    }
  }
  const auto per_clock = [&](const char* key, const Rate& rate, const char* unit) {
    json.Begin(key, '{');
    json.Add("per_clock_sm", rate.per_clock_sm);
    json.Add("per_second", rate.per_second);
    json.Add("clock_hz", rate.clock_hz);
    json.End('}');
    std::fprintf(text, "  %-28s %8.2f %s/clock/SM, %.4g %s/s, SM clock %.0f MHz\n", key, rate.per_clock_sm, unit,
                 rate.per_second, unit, rate.clock_hz / 1e6);
  };
  per_clock(
      "shared_memory",
      prober.PerClock(ReadShared, kUnitThreads, 1000, 16.0 * kSharedLoads * kUnitThreads, prober.sink<uint32_t>()),
      "B");
  per_clock("special_functions",
            prober.PerClock(SpecialFunctions, kUnitThreads, 4000, 1.0 * kChains * kUnitThreads, prober.sink<float>()),
            "ex2");
  per_clock("fp32",
            prober.PerClock(MultiplyAdds, kUnitThreads, 20000, 2.0 * kChains * kUnitThreads, prober.sink<float>()),
            "FLOP");
  per_clock("mma_sync_bf16", prober.PerClock(MmaSync, kMmaThreads, 5000, kMmaFlops, prober.sink<float>()), "FLOP");
  if (prober.CodeHasWgmma()) {
    per_clock("wgmma_bf16", prober.PerClock(Wgmma<false>, kWgmmaThreads, 2000, kWgmmaFlops, prober.sink<float>()),
              "FLOP");
    per_clock("wgmma_e4m3", prober.PerClock(Wgmma<true>, kWgmmaThreads, 2000, 2 * kWgmmaFlops, prober.sink<float>()),
              "FLOP");
  } else {
    std::fprintf(text, "  wgmma: not in this code (it needs code for sm_90a)\n");
  }
  const auto [back_to_back, round_trip] = prober.Launches();
  add("launch_back_to_back_seconds", back_to_back, back_to_back * 1e6, "us");
  add("launch_and_wait_seconds", round_trip, round_trip * 1e6, "us");
  json.End('}');
  if (as_json) std::printf("%s\n", json.text().c_str());
  return 0;
}

}  // namespace
}  // namespace bitflash::gpu::probe

int main(int argc, char** argv) {
  return bitflash::gpu::probe::Main("memory_probe", [&] { return bitflash::gpu::probe::Run(argc, argv); });
}
