#include "verify/device/device_verify.h"

#include <span>

namespace bitflash::verify {
namespace {

using data::Tensor;

template <class Word>
int64_t Different(std::span<const Word> a, std::span<const Word> b) {
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += a[i] != b[i];
  return count;
}

// Elements that differ and have all bits set on the device.
template <class Word>
int64_t NotWritten(std::span<const Word> device, std::span<const Word> twin) {
  int64_t count = 0;
  for (size_t i = 0; i < device.size(); ++i) count += device[i] != twin[i] && device[i] == static_cast<Word>(-1);
  return count;
}

// Indices of a part of the heads become those of the whole tensor.
void CountFromHead(Difference& d, int64_t first_head) {
  for (ElementPair* pair : {&d.first_kind, &d.first, &d.worst_ulps, &d.worst_abs, &d.worst_rel}) {
    if (pair->index.size() > 1) pair->index[1] += first_head;
  }
}

}  // namespace

Agreement CompareOutputs(const OutputPair& device, const OutputPair& twin, data::Format format, int64_t first_head,
                         bool has_lse) {
  Agreement agreement{.o = Compare(device.o.View(format), twin.o.View(format))};
  CountFromHead(agreement.o, first_head);
  if (has_lse) {
    agreement.lse = Compare(device.lse, twin.lse);
    CountFromHead(*agreement.lse, first_head);
  }
  const Tensor device_o = device.o.Contiguous(), device_lse = device.lse.Contiguous();
  const auto a = device_o.Elements<uint16_t>(), b = twin.o.Elements<uint16_t>();
  const auto a_lse = device_lse.Elements<uint32_t>(), b_lse = twin.lse.Elements<uint32_t>();
  const int64_t heads = twin.o.shape()[1], rows = twin.o.shape()[2], of_head = rows * twin.o.shape()[3];
  agreement.heads = twin.o.shape()[0] * heads;
  if (agreement.identical()) return agreement;
  for (int64_t n = 0; n < agreement.heads; ++n) {
    HeadDifference head{n / heads, first_head + n % heads};
    head.o = Different(a.subspan(n * of_head, of_head), b.subspan(n * of_head, of_head));
    if (has_lse) head.lse = Different(a_lse.subspan(n * rows, rows), b_lse.subspan(n * rows, rows));
    if (head.o + head.lse > 0) agreement.differ.push_back(head);
  }
  agreement.not_written = NotWritten(a, b) + (has_lse ? NotWritten(a_lse, b_lse) : 0);
  return agreement;
}

int64_t CountDifferent(const OutputPair& a, const OutputPair& b) {
  return Different(a.o.Elements<uint16_t>(), b.o.Elements<uint16_t>()) +
         Different(a.lse.Elements<uint32_t>(), b.lse.Elements<uint32_t>());
}

}  // namespace bitflash::verify
