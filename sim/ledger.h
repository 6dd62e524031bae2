// What crossed which boundary, per tensor, and which operations were executed. Ledgers add and compare.
#ifndef BITFLASH_SIM_LEDGER_H_
#define BITFLASH_SIM_LEDGER_H_

#include <array>
#include <cstdint>

#include "sim/tile.h"

namespace bitflash::sim {

struct Traffic {
  int64_t read = 0;   // bytes towards the arithmetic
  int64_t write = 0;  // bytes away from it
  Traffic& operator+=(const Traffic& other);
  bool operator==(const Traffic&) const = default;
};

using PerTensor = std::array<Traffic, kTensorCount>;

// All counts are bytes or operations of a whole launch (or of all launches of a kernel), int64.
struct Ledger {
  // Bytes that a launch must move between HBM and chip: every byte it uses read once, every byte it leaves behind
  // written once. The floor of HBM traffic when a launch starts with nothing in L2.
  PerTensor hbm_compulsory{};

  // Bytes that the SMs request from and send to L2: tile traffic. Nsight Compute: l1tex__m_xbar2l1tex_read_bytes.sum
  // and l1tex__m_l1tex2xbar_write_bytes.sum. Without an L2 every one of them would be HBM traffic, but for the zeros of
  // TMA and the rest of sectors that are moved for a part of them (Crossing in sim/tile.h).
  PerTensor l2_to_sm{};

  // Bytes written to and read from shared memory: asynchronous copies (zero fill of ragged tiles included), fragment
  // loads, operands that wgmma reads in place, staging of outputs.
  PerTensor shared{};

  // Register-file bytes that matrix instructions read: operands A and B when they come from registers, and the
  // accumulator, once per instruction (m16n8k16 reads 16x16 + 16x8 elements and 16x8 fp32; wgmma m64nNk16 reads its
  // accumulator, and A when it is in registers). `write` stays 0.
  PerTensor registers{};

  int64_t matrix_flops = 0;  // executed by the tensor cores, 2 a multiply-add, padding and masked positions included
  int64_t special_ops = 0;   // results of the special-function unit (ex2, rcp, lg2), every lane counted
  int64_t fp32_ops = 0;      // fp32 instructions (add, mul, fma, max, convert, select), every lane counted

  Ledger& operator+=(const Ledger& other);
  bool operator==(const Ledger&) const = default;
};

// Sum over the tensors.
Traffic Sum(const PerTensor& traffic);

inline Traffic& At(PerTensor& traffic, TensorId tensor) { return traffic[static_cast<int>(tensor)]; }
inline const Traffic& At(const PerTensor& traffic, TensorId tensor) { return traffic[static_cast<int>(tensor)]; }

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_LEDGER_H_
