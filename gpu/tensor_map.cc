#include "gpu/tensor_map.h"

#include <array>
#include <string>

#include "data/error.h"
#include "gpu/driver.h"

namespace bitflash::gpu {
namespace {

// A dimension behind the first.
struct Dimension {
  const char* name;        // in errors; null: not the caller's
  int64_t extent, stride;  // stride in elements
  int box;
  int64_t stride_end = int64_t{1} << 40;  // bytes: strides must be below
};

// Of a dimension of one, the stride is never used. 0 is a stride like others: all read the same.
void CheckStride(const MappedTensor& t, const Dimension& d) {
  const int64_t unit = 16 / t.element_bytes, end = d.stride_end / t.element_bytes;
  if (d.name == nullptr || d.extent <= 1 || (d.stride >= 0 && d.stride < end && d.stride % unit == 0)) return;
  throw data::UsageError(std::string(t.name) + " has a stride of " + std::to_string(d.stride) + " elements from one " +
                         d.name + " to the next: TMA takes multiples of " + std::to_string(unit) + " from 0 to " +
                         std::to_string(end - unit));
}

template <size_t N>
CUtensorMap Encode(const MappedTensor& t, const std::array<Dimension, N>& dimensions, Promotion promotion,
                   int64_t columns) {
  static const auto encode = DriverFunction<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  constexpr uint32_t kRank = N + 1;
  std::array<cuuint64_t, kRank> extents{static_cast<cuuint64_t>(columns)};
  std::array<cuuint64_t, N> strides{};
  std::array<cuuint32_t, kRank> box{static_cast<cuuint32_t>(128 / t.element_bytes)}, steps{1};
  for (size_t n = 0; n < N; ++n) {
    const Dimension& d = dimensions[n];
    CheckStride(t, d);
    extents[n + 1] = static_cast<cuuint64_t>(d.extent);
    // What is never used the driver checks all the same.
    strides[n] = static_cast<cuuint64_t>(d.extent > 1 ? d.stride * t.element_bytes : 16);
    box[n + 1] = static_cast<cuuint32_t>(d.box);
    steps[n + 1] = 1;
  }
  CUtensorMap map;
  // Bits are moved, not numbers: the type only gives the size.
  const CUresult result =
      encode(&map, t.element_bytes == 4 ? CU_TENSOR_MAP_DATA_TYPE_UINT32 : CU_TENSOR_MAP_DATA_TYPE_UINT16, kRank,
             const_cast<void*>(t.address), extents.data(), strides.data(), box.data(), steps.data(),
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             promotion == Promotion::k256 ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B : CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    const auto text = [](int64_t n) { return std::to_string(n); };
    throw CudaError(std::string("cuTensorMapEncodeTiled of ") + t.name + ", " + text(t.batch) + " x " + text(t.heads) +
                        " x " + text(t.rows) + " x " + text(t.columns) + " with strides " + text(t.strides.batch) +
                        ", " + text(t.strides.head) + ", " + text(t.strides.row) + " elements: CUresult " +
                        text(result),
                    cudaErrorInvalidValue);
  }
  return map;
}

}  // namespace

CUtensorMap MakeTensorMap(const MappedTensor& t, int box_rows, Promotion promotion) {
  return Encode<3>(t,
                   {{{"row", t.rows, t.strides.row, box_rows},
                     {"head", t.heads, t.strides.head, 1},
                     {"sequence", t.batch, t.strides.batch, 1}}},
                   promotion, t.columns);
}

CUtensorMap MakeUnpackedMap(const MappedTensor& t, int box_rows) {
  return Encode<4>(t,
                   {{{"row", t.rows, t.strides.row, box_rows},
                     {"head", t.heads, t.strides.head, 1},
                     {"sequence", t.batch, t.strides.batch, 1},
                     {nullptr, 1, 0, 1}}},
                   Promotion::k128, t.columns);
}

CUtensorMap MakePackedMap(const MappedTensor& t, int box_rows) {
  // The ends of sequences: cu_seqlens are 32 bits. Whose they are is not known here, so all are within bounds.
  constexpr int64_t kEnds = int64_t{1} << 31, kTurn = int64_t{1} << 35;
  // One row of one sequence: any stride will do.
  const int64_t row = t.batch * t.rows <= 1 ? 16 / t.element_bytes : t.strides.row;
  return Encode<4>(t,
                   {{{"row", kPackedRows, row, box_rows, kTurn},
                     {"head", t.heads, t.strides.head, 1},
                     {nullptr, kEnds, row, 1},
                     {nullptr, kPackedTurns + 1, kTurn / t.element_bytes - row, 1}}},
                   Promotion::k128, t.columns);
}

CUtensorMap MakeRowsMap(const MappedTensor& t, int box_rows, Promotion promotion) {
  const int line = 128 / t.element_bytes, lines = static_cast<int>(t.columns / line);
  return Encode<4>(t,
                   {{{nullptr, lines, line, lines},
                     {"row", t.rows, t.strides.row, box_rows},
                     {"head", t.heads, t.strides.head, 1},
                     {"sequence", t.batch, t.strides.batch, 1}}},
                   promotion, line);
}

}  // namespace bitflash::gpu
