// Question: which bits do the GPU's special functions and conversions return, for every input there is?
//
// For each function below, over all 2^32 fp32 bit patterns x: the sum modulo 2^64 of HashPair(x, result bits)
// (data/hash.h). The same sum over a simulated function (sim/special_functions.h, data/convert.h) is equal exactly if
// no result differs, up to a chance of 2^-64. data/golden/sfu_hashes.json is this program's output on one GPU.
//
// Equal on another GPU: it computes these functions with the same tables, and every recipe built on them holds there.
// Different: the tables of that unit, or the library code named, need a row of their own.
//
//   sfu_probe [--golden data/golden/sfu_hashes.json]
//   nvcc -std=c++17 -arch=sm_90a --expt-relaxed-constexpr -I. gpu/probes/sfu_probe.cu -o sfu_probe
//
// The JSON goes to stdout. With --golden each function is judged as well: "equal" or "different" from that file, or
// "not in the file"; in the JSON under "verdicts", and in words on stderr.
//
// Without --use_fast_math, which would replace exp2f, logf and the division by other functions.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "data/hash.h"

namespace {

// NAME: what the function is called in the output; SINCE: the smallest compute capability that has it, times 10.
#define FUNCTION(TYPE, NAME, SINCE, BODY)                 \
  struct TYPE {                                           \
    static constexpr const char* kName = NAME;            \
    static constexpr int kSince = SINCE;                  \
    static __device__ uint32_t Evaluate(float x) { BODY } \
  };

// One instruction, from a float to a float, to 16 or 32 bits, or to the low byte of a pair. Two inputs make a pair; the
// second one goes to the low byte (PTX ISA, "cvt").
#define PTX_FLOAT(INSTRUCTION)                    \
  float y;                                        \
  asm(INSTRUCTION " %0, %1;" : "=f"(y) : "f"(x)); \
  return __float_as_uint(y);
#define PTX_BITS16(INSTRUCTION)                   \
  uint16_t y;                                     \
  asm(INSTRUCTION " %0, %1;" : "=h"(y) : "f"(x)); \
  return y;
#define PTX_BITS32(INSTRUCTION)                   \
  uint32_t y;                                     \
  asm(INSTRUCTION " %0, %1;" : "=r"(y) : "f"(x)); \
  return y;
#define PTX_LOW_BYTE(INSTRUCTION)                                \
  uint16_t y;                                                    \
  asm(INSTRUCTION " %0, %1, %2;" : "=h"(y) : "f"(0.0f), "f"(x)); \
  return y & 0xFF;

// The assembler refuses an instruction that the target lacks, so code for such a target must not contain it.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
#define SINCE_89(BODY) BODY
#else
#define SINCE_89(BODY) __trap();
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define SINCE_90(BODY) BODY
#else
#define SINCE_90(BODY) __trap();
#endif

FUNCTION(Ex2, "ex2.approx.ftz.f32", 80, PTX_FLOAT("ex2.approx.ftz.f32"))
FUNCTION(Rcp, "rcp.approx.ftz.f32", 80, PTX_FLOAT("rcp.approx.ftz.f32"))
FUNCTION(Rsqrt, "rsqrt.approx.ftz.f32", 80, PTX_FLOAT("rsqrt.approx.ftz.f32"))
FUNCTION(Lg2, "lg2.approx.ftz.f32", 80, PTX_FLOAT("lg2.approx.ftz.f32"))
FUNCTION(Exp2f, "exp2f", 80, return __float_as_uint(exp2f(x));)
FUNCTION(Logf, "logf", 80, return __float_as_uint(logf(x));)
FUNCTION(Reciprocal, "1.0f/x", 80, return __float_as_uint(1.0f / x);)
FUNCTION(Fp16, "cvt.rn.f16.f32", 80, PTX_BITS16("cvt.rn.f16.f32"))
FUNCTION(Bf16, "cvt.rn.bf16.f32", 80, PTX_BITS16("cvt.rn.bf16.f32"))
FUNCTION(Fp16Truncated, "cvt.rz.f16.f32", 80, PTX_BITS16("cvt.rz.f16.f32"))
FUNCTION(Bf16Truncated, "cvt.rz.bf16.f32", 80, PTX_BITS16("cvt.rz.bf16.f32"))
FUNCTION(Tf32Away, "cvt.rna.tf32.f32", 80, PTX_BITS32("cvt.rna.tf32.f32"))
FUNCTION(Tf32Even, "cvt.rn.tf32.f32", 90, SINCE_90(PTX_BITS32("cvt.rn.tf32.f32")))
FUNCTION(E4m3, "cvt.rn.satfinite.e4m3x2.f32", 89, SINCE_89(PTX_LOW_BYTE("cvt.rn.satfinite.e4m3x2.f32")))
FUNCTION(E5m2, "cvt.rn.satfinite.e5m2x2.f32", 89, SINCE_89(PTX_LOW_BYTE("cvt.rn.satfinite.e5m2x2.f32")))

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "sfu_probe: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class Function>
__global__ void AddPairs(unsigned long long* sum) {
  const uint64_t threads = static_cast<uint64_t>(gridDim.x) * blockDim.x;
  uint64_t part = 0;
  for (uint64_t x = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; x < uint64_t{1} << 32; x += threads) {
    const uint32_t bits = static_cast<uint32_t>(x);
    part += bitflash::data::HashPair(bits, Function::Evaluate(__uint_as_float(bits)));
  }
  atomicAdd(sum, static_cast<unsigned long long>(part));
}

// The release of the driver, which no CUDA call tells; empty where this file does not exist.
std::string DriverRelease() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != std::string::npos) return word;
  }
  return "";
}

// The capability that this code was compiled for: a newer GPU runs it, but without what came later.
int CodeCapability() {
  cudaFuncAttributes attributes;
  Check(cudaFuncGetAttributes(&attributes, AddPairs<Ex2>), "cudaFuncGetAttributes");
  return attributes.ptxVersion;
}

using Hashes = std::vector<std::pair<std::string, std::string>>;  // of each function, in order

template <class... Functions>
Hashes ComputeHashes(int capability) {
  Hashes hashes;
  unsigned long long* sum;
  Check(cudaMalloc(&sum, sizeof(*sum)), "cudaMalloc");
  const auto compute_one = [&](auto function) {
    using Function = decltype(function);
    if (capability < Function::kSince) return;
    unsigned long long hash = 0;
    Check(cudaMemcpy(sum, &hash, sizeof(hash), cudaMemcpyHostToDevice), "cudaMemcpy");
    AddPairs<Function><<<2048, 256>>>(sum);
    Check(cudaGetLastError(), Function::kName);
    Check(cudaMemcpy(&hash, sum, sizeof(hash), cudaMemcpyDeviceToHost), Function::kName);
    char text[19];
    std::snprintf(text, sizeof(text), "0x%016llX", hash);
    hashes.emplace_back(Function::kName, text);
  };
  (compute_one(Functions{}), ...);
  Check(cudaFree(sum), "cudaFree");
  return hashes;
}

// One verdict for each function: its hash in `golden`, the text of a file that this program has printed.
Hashes Judge(const Hashes& hashes, const std::string& golden) {
  Hashes verdicts;
  for (const auto& [name, hash] : hashes) {
    const std::string key = "\"" + name + "\": \"0x";
    const size_t at = golden.find(key);
    const char* verdict = "not in the file";
    if (at != golden.npos)
      verdict = golden.compare(at + key.size() - 2, hash.size(), hash) == 0 ? "equal" : "different";
    verdicts.emplace_back(name, verdict);
    std::fprintf(stderr, "  %-30s %s  %s\n", name.c_str(), hash.c_str(), verdict);
  }
  return verdicts;
}

void PrintMembers(const char* name, const Hashes& members, const char* end) {
  std::printf("  \"%s\": {", name);
  const char* separator = "\n";
  for (const auto& [key, value] : members) {
    std::printf("%s    \"%s\": \"%s\"", separator, key.c_str(), value.c_str());
    separator = ",\n";
  }
  std::printf("\n  }%s\n", end);
}

}  // namespace

int main(int argc, char** argv) {
  const bool judge = argc == 3 && std::string(argv[1]) == "--golden";
  if (argc != 1 && !judge) {
    std::fprintf(stderr, "usage: sfu_probe [--golden data/golden/sfu_hashes.json]\n");
    return 2;
  }
  std::stringstream golden;
  if (judge) {
    std::ifstream file(argv[2]);
    if (!file) {
      std::fprintf(stderr, "sfu_probe: %s cannot be read\n", argv[2]);
      return 3;
    }
    golden << file.rdbuf();
  }
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "sfu_probe: no CUDA device: %s\n", cudaGetErrorString(error));
    return 5;
  }
  cudaDeviceProp gpu;
  Check(cudaGetDeviceProperties(&gpu, 0), "cudaGetDeviceProperties");
  int driver = 0, runtime = 0;
  Check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  Check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  char date[11];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof(date), "%Y-%m-%d", std::gmtime(&now));

  std::printf("{\n  \"schema\": 1,\n  \"probe\": \"gpu/probes/sfu_probe.cu\",\n  \"date\": \"%s\",\n", date);
  std::printf("  \"gpu\": \"%s\",\n  \"compute_capability\": \"%d.%d\",\n", gpu.name, gpu.major, gpu.minor);
  std::printf("  \"driver\": \"%s\",\n  \"driver_cuda\": \"%d.%d\",\n  \"cuda_runtime\": \"%d.%d\",\n",
              DriverRelease().c_str(), driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  std::printf("  \"nvcc\": \"%d.%d.%d\",\n", __CUDACC_VER_MAJOR__, __CUDACC_VER_MINOR__, __CUDACC_VER_BUILD__);
  std::printf("  \"inputs\": 4294967296,\n");
  std::printf("  \"hash\": \"sum over all fp32 bit patterns of HashPair(input bits, output bits) modulo 2^64\",\n");
  const Hashes hashes = ComputeHashes<Ex2, Rcp, Rsqrt, Lg2, Exp2f, Logf, Reciprocal, Fp16, Bf16, Fp16Truncated,
                                      Bf16Truncated, Tf32Away, Tf32Even, E4m3, E5m2>(CodeCapability());
  PrintMembers("hashes", hashes, judge ? "," : "");
  if (judge) {
    std::fprintf(stderr, "sfu_probe: %s, all 2^32 inputs of each function, against %s\n", gpu.name, argv[2]);
    PrintMembers("verdicts", Judge(hashes, golden.str()), "");
  }
  std::printf("}\n");
}
