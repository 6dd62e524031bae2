// Launches of standard attention's matrix products on compute capability 9.0.
#include <cuda_runtime.h>

#include "gpu/launch.h"
#include "gpu/standard_launch.h"
#include "gpu/standard_output_hopper.cuh"
#include "gpu/standard_scores_hopper.cuh"
#include "gpu/tensor_map.h"

namespace bitflash::gpu {
namespace {

// S or P: one matrix a query head, whatever its sequence.
MappedTensor ScoreMatrix(const char* name, const StandardProblem& p, const void* address, int element_bytes) {
  return {.name = name,
          .address = address,
          .element_bytes = element_bytes,
          .batch = 1,
          .heads = p.heads,
          .rows = p.seqlen_q,
          .columns = p.padded_keys(),
          .strides = {.head = p.seqlen_q * p.pitch, .row = p.pitch}};
}

MappedTensor QueryMatrix(const char* name, const StandardProblem& p, const void* address, const Strides& strides) {
  return {name, address, 2, p.heads / p.heads_q, p.heads_q, p.seqlen_q, p.head_dim, strides};
}

MappedTensor KeyMatrix(const char* name, const StandardProblem& p, const void* address, const Strides& strides) {
  return {name, address, 2, p.heads / p.heads_q, p.heads_q / p.group, p.seqlen_k, p.head_dim, strides};
}

template <class Kernel>
void LaunchBlocks(const char* name, Kernel kernel, int64_t blocks, int shared_bytes, const StandardProblem& p,
                  const CUtensorMap& a, const CUtensorMap& b, const CUtensorMap& c, CUstream_st* stream) {
  Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), name);
  kernel<<<static_cast<unsigned>(blocks), kHopperThreads, shared_bytes, stream>>>(p, a, b, c);
  CheckLaunch(name);
}

template <class T, int kColumns>
void LaunchOutput(const StandardProblem& p, const StandardTensors& t, CUstream_st* stream) {
  const int64_t slices = (p.head_dim + kColumns - 1) / kColumns;
  LaunchBlocks("standard_output", hopper::standard_output<T, kColumns, kHopperRows>, slices * p.query_tiles * p.heads,
               OutputShared<kColumns, kHopperRows>::kBytes, p,
               MakeTensorMap(ScoreMatrix("P", p, t.p, 2), kHopperRows, Promotion::k256),
               MakeTensorMap(KeyMatrix("V", p, t.v, p.v_strides), OutputShared<kColumns, kHopperRows>::kKeys),
               MakeTensorMap(QueryMatrix("O", p, t.o, p.o_strides), 16), stream);
}

}  // namespace

template <class T, class S>
void LaunchHopperScores(const StandardProblem& p, const StandardTensors& t, CUstream_st* stream) {
  LaunchBlocks("standard_scores", hopper::standard_scores<T, S, kHopperRows>,
               DeviceAttribute(cudaDevAttrMultiProcessorCount), ScoresShared<S, kHopperRows>::kBytes, p,
               MakeTensorMap(QueryMatrix("Q", p, t.q, p.q_strides), kHopperRows),
               MakeTensorMap(KeyMatrix("K", p, t.k, p.k_strides), kKeysPerTile),
               MakeTensorMap(ScoreMatrix("S", p, t.s, sizeof(S)), 16), stream);
}

template <class T>
void LaunchHopperOutput(const StandardProblem& p, const StandardTensors& t, CUstream_st* stream) {
  p.head_dim == 64 ? LaunchOutput<T, 64>(p, t, stream) : LaunchOutput<T, 128>(p, t, stream);
}

template void LaunchHopperScores<__half, __half>(const StandardProblem&, const StandardTensors&, CUstream_st*);
template void LaunchHopperScores<__half, float>(const StandardProblem&, const StandardTensors&, CUstream_st*);
template void LaunchHopperScores<__nv_bfloat16, __nv_bfloat16>(const StandardProblem&, const StandardTensors&,
                                                               CUstream_st*);
template void LaunchHopperScores<__nv_bfloat16, float>(const StandardProblem&, const StandardTensors&, CUstream_st*);
template void LaunchHopperOutput<__half>(const StandardProblem&, const StandardTensors&, CUstream_st*);
template void LaunchHopperOutput<__nv_bfloat16>(const StandardProblem&, const StandardTensors&, CUstream_st*);

}  // namespace bitflash::gpu
