// What the host asks of an SM for every instance of a kernel with wgmma: threads and shared memory, which the compiler
// does not print. Nothing runs on a GPU; check_build.py joins this with what ptxas says.
//
// Prints one line an instance: kernel, launch, format, head_dim, fp32_scores, Br, Bc, threads, consumer_registers
// (setmaxnreg), dynamic_shared, and the instance's name, tab-separated. head_dim is one of those that the instance is
// for.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <typeinfo>

#include "gpu/fa3_forward.cuh"
#include "gpu/launch.h"
#include "gpu/standard_launch.h"
#include "gpu/standard_output_hopper.cuh"
#include "gpu/standard_scores_hopper.cuh"

namespace bitflash::gpu {
namespace {

template <auto kFunction>
struct Name {};

// "void bitflash::gpu::hopper::standard_output<__half, 64, 256>(...)", as the demangled symbol begins.
template <auto kFunction>
std::string InstanceName() {
  int status = 0;
  char* const text = abi::__cxa_demangle(typeid(Name<kFunction>).name(), nullptr, nullptr, &status);
  const std::string name = status == 0 ? text : "";
  std::free(text);
  return name;
}

struct Instance {
  const char* kernel;
  const char* launch;
  int head_dim = 0;
  bool fp32_scores = false;
  int Br = 0, Bc = 0, threads = 0, consumer_registers = 0, shared_bytes = 0;
};

template <auto kFunction, class T>
void Print(const Instance& i) {
  std::printf("%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", i.kernel, i.launch,
              std::is_same_v<T, __half> ? "fp16" : "bf16", i.head_dim, i.fp32_scores, i.Br, i.Bc, i.threads,
              i.consumer_registers, i.shared_bytes, InstanceName<kFunction>().c_str());
}

template <class T, class S>
void PrintScores() {
  Print<&hopper::standard_scores<T, S, kHopperRows>, T>({"standard", "standard_scores", 128, sizeof(S) == 4,
                                                         kHopperRows, kKeysPerTile, kHopperThreads, kConsumerRegisters,
                                                         ScoresShared<S, kHopperRows>::kBytes});
}

template <class T, int kColumns>
void PrintOutput() {
  Print<&hopper::standard_output<T, kColumns, kHopperRows>, T>(
      {"standard", "standard_output", kColumns, false, kHopperRows, kKeysPerTile, kHopperThreads, kConsumerRegisters,
       OutputShared<kColumns, kHopperRows>::kBytes});
}

template <class T, int D>
void PrintFa3() {
  using C = fa3::Config<T, D>;
  Print<&fa3::fa3_forward<C>, T>({"fa3", "fa3_forward", D, false, C::Br, C::Bc, C::kThreads,
                                  C::kShape.consumer_registers, fa3::Shared<C>::kBytes});
}

template <class T>
void PrintType() {
  PrintFa3<T, 64>();
  PrintFa3<T, 96>();
  PrintFa3<T, 128>();
  PrintFa3<T, 192>();
  PrintFa3<T, 256>();
  PrintScores<T, T>();
  PrintScores<T, float>();
  PrintOutput<T, 64>();
  PrintOutput<T, 128>();
}

}  // namespace
}  // namespace bitflash::gpu

int main() {
  bitflash::gpu::PrintType<__half>();
  bitflash::gpu::PrintType<__nv_bfloat16>();
}
