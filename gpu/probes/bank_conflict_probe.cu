// Question: how many passes through shared memory (wavefronts) does an instruction of a warp take, given the addresses
// of its lanes?
//
// Every pattern of bank_conflict_patterns.h is one launch of one warp that executes one instruction kExecutions times.
// Nothing is timed: Nsight Compute counts wavefronts and bank conflicts of each launch. The answer of a memory of 32
// banks of 4 bytes would be that as many wavefronts are needed as the bank with most different words has, in each part
// of the warp that is served at once; which parts those are, for pieces of 8 and 16 bytes and for matrices, and when
// the hardware joins them, is what the patterns ask. sim/bank_conflicts.cc is the rule that was found.
//
// data/golden/record_bank_conflicts.py runs this under ncu. --list prints the patterns as JSON lines, in the order of
// the launches, and needs no GPU.
#include <cstring>
#include <stdexcept>

#include "gpu/probes/bank_conflict_patterns.h"
#include "gpu/probes/report.h"

using namespace bitflash::gpu;

namespace {

constexpr int kExecutions = 16;

// The assembler refuses an instruction that the target lacks, so code for such a target must not contain it.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define SINCE_90(BODY) BODY
#else
#define SINCE_90(BODY) __trap();
#endif

// One struct for each instruction. `address` is one in shared memory, `global` is for cp.async to read. What is loaded
// is returned, or the compiler would not load.
#define INSTRUCTION(NAME, BODY)                                                                \
  struct NAME {                                                                                \
    static __device__ __forceinline__ uint32_t Execute(uint32_t address, const char* global) { \
      [[maybe_unused]] uint32_t a = 1, b = 2, c = 3, d = 4;                                    \
      [[maybe_unused]] uint16_t h = 5;                                                         \
      BODY return a ^ b ^ c ^ d ^ h;                                                           \
    }                                                                                          \
  };
#define LOAD(TEXT, ...) asm volatile(TEXT:__VA_ARGS__ : "r"(address) : "memory");
#define STORE(TEXT, ...) asm volatile(TEXT ::"r"(address), __VA_ARGS__ : "memory");

INSTRUCTION(LdB16, LOAD("ld.shared.b16 %0, [%1];", "=h"(h)))
INSTRUCTION(LdB32, LOAD("ld.shared.b32 %0, [%1];", "=r"(a)))
INSTRUCTION(LdB64, LOAD("ld.shared.v2.b32 {%0, %1}, [%2];", "=r"(a), "=r"(b)))
INSTRUCTION(LdB128, LOAD("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];", "=r"(a), "=r"(b), "=r"(c), "=r"(d)))
INSTRUCTION(StB16, STORE("st.shared.b16 [%0], %1;", "h"(h)))
INSTRUCTION(StB32, STORE("st.shared.b32 [%0], %1;", "r"(a)))
INSTRUCTION(StB64, STORE("st.shared.v2.b32 [%0], {%1, %2};", "r"(a), "r"(b)))
INSTRUCTION(StB128, STORE("st.shared.v4.b32 [%0], {%1, %2, %3, %4};", "r"(a), "r"(b), "r"(c), "r"(d)))
INSTRUCTION(LdMatrixX1, LOAD("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];", "=r"(a)))
INSTRUCTION(LdMatrixX2, LOAD("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];", "=r"(a), "=r"(b)))
INSTRUCTION(LdMatrixX4, LOAD("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];", "=r"(a), "=r"(b),
                             "=r"(c), "=r"(d)))
INSTRUCTION(LdMatrixTransX4, LOAD("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];", "=r"(a),
                                  "=r"(b), "=r"(c), "=r"(d)))
INSTRUCTION(StMatrixX1, SINCE_90(STORE("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};", "r"(a))))
INSTRUCTION(StMatrixX2, SINCE_90(STORE("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};", "r"(a), "r"(b))))
INSTRUCTION(StMatrixX4, SINCE_90(STORE("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};", "r"(a),
                                       "r"(b), "r"(c), "r"(d))))
INSTRUCTION(CpAsyncB128, STORE("cp.async.cg.shared.global [%0], [%1], 16;", "l"(global)))

// `zero` is 0, which the compiler does not know: it must not find that every execution does the same.
template <class Instruction>
__global__ void AccessShared(const int* offsets, const char* global, uint32_t zero, uint32_t* sink) {
  __shared__ __align__(1024) char shared[probe::kSharedBytes];
  const int offset = offsets[threadIdx.x];
  if (offset < 0) return;
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) + static_cast<uint32_t>(offset);
  uint32_t sum = 0;
  for (uint32_t n = 0; n < kExecutions; ++n) {
    sum = sum * 3 + Instruction::Execute(address + n * zero, global + threadIdx.x * 16);
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  if (sum == 0x9E3779B9) *sink = sum;
}

using Launch = void (*)(const int*, const char*, uint32_t, uint32_t*);

// In the order of kInstructions.
constexpr Launch kKernels[] = {
    AccessShared<LdB16>,      AccessShared<LdB32>,      AccessShared<LdB64>,      AccessShared<LdB128>,
    AccessShared<StB16>,      AccessShared<StB32>,      AccessShared<StB64>,      AccessShared<StB128>,
    AccessShared<LdMatrixX1>, AccessShared<LdMatrixX2>, AccessShared<LdMatrixX4>, AccessShared<LdMatrixTransX4>,
    AccessShared<StMatrixX1>, AccessShared<StMatrixX2>, AccessShared<StMatrixX4>, AccessShared<CpAsyncB128>,
};
static_assert(std::size(kKernels) == std::size(probe::kInstructions));

size_t IndexOf(const std::string& instruction) {
  size_t n = 0;
  while (instruction != probe::kInstructions[n].name) ++n;
  return n;
}

void PrintPattern(const probe::Pattern& p) {
  std::printf(
      "{\"instruction\": \"%s\", \"layout\": \"%s\", \"access\": \"%s\", \"rows\": %d, \"columns\": %d, "
      "\"element_bytes\": %d, \"row\": %d, \"column\": %d, \"executions\": %d, \"piece_bytes\": %d, \"offsets\": [",
      p.instruction.c_str(), p.layout.c_str(), p.access.c_str(), p.rows, p.columns, p.element_bytes, p.row, p.column,
      kExecutions, probe::kInstructions[IndexOf(p.instruction)].piece_bytes);
  for (int lane = 0; lane < probe::kLanes; ++lane) std::printf("%s%d", lane ? ", " : "", p.offsets[lane]);
  std::printf("]}\n");
}

int Run(bool list) {
  const std::vector<probe::Pattern> patterns = probe::Patterns();
  for (const probe::Pattern& p : patterns) {
    for (const int offset : p.offsets) {
      if (offset > probe::kSharedBytes - 16) throw std::logic_error("outside shared memory: " + p.access);
    }
  }
  if (list) {
    for (const probe::Pattern& p : patterns) PrintPattern(p);
    return 0;
  }
  const Device device = CurrentDevice();
  const Buffer offsets(static_cast<int64_t>(sizeof(probe::Pattern::offsets))), global(kExecutions * 1024);
  Stream stream;
  int launches = 0;
  for (const probe::Pattern& p : patterns) {
    if (p.instruction.starts_with("stmatrix") && device.major < 9) continue;
    stream.ToDevice(offsets, p.offsets.data(), offsets.bytes());
    kKernels[IndexOf(p.instruction)]<<<1, probe::kLanes, 0, stream.get()>>>(offsets.as<int>(), global.as<char>(), 0,
                                                                            global.as<uint32_t>());
    CheckLaunch(p.instruction.c_str());
    ++launches;
  }
  stream.Synchronize();
  std::printf("%s (%s): %d launches; what they cost is counted by Nsight Compute\n", device.name.c_str(),
              device.arch().c_str(), launches);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool list = argc == 2 && std::strcmp(argv[1], "--list") == 0;
  if (argc > 1 && !list) {
    std::fprintf(stderr, "usage: bank_conflict_probe [--list]\n");
    return 2;
  }
  return probe::Main("bank_conflict_probe", [list] { return Run(list); });
}
