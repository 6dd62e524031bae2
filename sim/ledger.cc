#include "sim/ledger.h"

namespace bitflash::sim {
namespace {

void Add(PerTensor& sum, const PerTensor& other) {
  for (int t = 0; t < kTensorCount; ++t) sum[t] += other[t];
}

}  // namespace

Traffic& Traffic::operator+=(const Traffic& other) {
  read += other.read;
  write += other.write;
  return *this;
}

Ledger& Ledger::operator+=(const Ledger& other) {
  Add(hbm_compulsory, other.hbm_compulsory);
  Add(l2_to_sm, other.l2_to_sm);
  Add(shared, other.shared);
  Add(registers, other.registers);
  matrix_flops += other.matrix_flops;
  special_ops += other.special_ops;
  fp32_ops += other.fp32_ops;
  return *this;
}

Traffic Sum(const PerTensor& traffic) {
  Traffic sum;
  for (const Traffic& t : traffic) sum += t;
  return sum;
}

}  // namespace bitflash::sim
