// Where the elements of a tile lie in shared memory: one row after the other, padded, or swizzled.
#ifndef BITFLASH_SIM_SHARED_LAYOUT_H_
#define BITFLASH_SIM_SHARED_LAYOUT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/format.h"

namespace bitflash::sim {

// How rows follow one another.
//   row-major    each row directly behind the one before
//   padded-N     N more bytes behind each row
//   swizzle-W    W is 32, 64 or 128: columns are cut into chunks of W bytes, each chunk's rows follow one another, and
//                the 16-byte units of every 128-byte line are permuted by the exclusive or of their number with the
//                line's, modulo W / 16. What TMA writes and wgmma reads (CUDA Driver API, CU_TENSOR_MAP_SWIZZLE_32B,
//                _64B, _128B), and CUTLASS's Swizzle<1,4,3>, <2,4,3>, <3,4,3> of byte addresses.
struct SharedLayout {
  int64_t pad_bytes = 0;      // N
  int64_t swizzle_bytes = 0;  // W; 0: none
  bool operator==(const SharedLayout&) const = default;
};

// "row-major", "padded-16", "swizzle-128". Throws UsageError with the accepted names.
SharedLayout ParseSharedLayout(std::string_view name);
std::string ToString(const SharedLayout& layout);

// A tile of a layout, at an address that is a multiple of 1024.
class SharedTile {
 public:
  // Throws UsageError: rows or columns below 1, more bytes than kMostBytes, a row that is no multiple of the swizzle's
  // width, padding that is no multiple of an element.
  SharedTile(const SharedLayout& layout, int64_t rows, int64_t columns, data::Format format);

  // The most that a block of any GPU can have (sm90: 227 KiB), rounded up.
  static constexpr int64_t kMostBytes = 256 << 10;

  const SharedLayout& layout() const { return layout_; }
  int64_t rows() const { return rows_; }
  int64_t row_bytes() const { return row_bytes_; }  // of elements, without padding
  data::Format format() const { return format_; }
  int64_t bytes() const { return rows_ * (row_bytes_ + layout_.pad_bytes); }

  // The byte at which byte `at` of row `row` lies. A piece of up to 16 bytes that begins at a multiple of its size
  // stays in one piece, if padding is a multiple of its size too.
  int64_t Offset(int64_t row, int64_t at) const;

 private:
  SharedLayout layout_;
  int64_t rows_, row_bytes_;
  data::Format format_;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_SHARED_LAYOUT_H_
