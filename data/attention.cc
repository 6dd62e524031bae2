#include "data/attention.h"

#include <cmath>
#include <sstream>

#include "data/error.h"

namespace bitflash::data {
namespace {

void RequireExtent(const char* name, int64_t value, int64_t least) {
  // No extent of a real problem comes near 2^40; beyond it the checks below could overflow.
  constexpr int64_t kMost = int64_t{1} << 40;
  if (value < least || value > kMost) {
    throw UsageError(std::string(name) + " is " + std::to_string(value) + ": expected an integer from " +
                     std::to_string(least) + " to 2^40");
  }
}

// a * b, or UsageError when it passes 2^60.
int64_t CheckedProduct(const char* tensor, std::initializer_list<int64_t> extents) {
  constexpr int64_t kMost = int64_t{1} << 60;
  int64_t product = 1;
  for (const int64_t extent : extents) {
    if (extent != 0 && product > kMost / extent) {
      throw UsageError(std::string("tensor ") + tensor + " has more than 2^60 bytes: expected a smaller problem");
    }
    product *= extent;
  }
  return product;
}

}  // namespace

double Attention::scale() const { return softmax_scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim))); }

void Validate(const Attention& a) {
  RequireExtent("batch", a.batch, 1);
  RequireExtent("heads_q", a.heads_q, 1);
  RequireExtent("heads_kv", a.heads_kv, 1);
  RequireExtent("seqlen_q", a.seqlen_q, 1);
  RequireExtent("seqlen_k", a.seqlen_k, 0);
  RequireExtent("head_dim", a.head_dim, 1);
  RequireExtent("head_dim_v", a.head_dim_v, 1);
  if (a.heads_q % a.heads_kv != 0) {
    throw UsageError("heads_q is " + std::to_string(a.heads_q) + ": expected a multiple of heads_kv, which is " +
                     std::to_string(a.heads_kv));
  }
  if (a.softmax_scale && !(std::isfinite(*a.softmax_scale) && *a.softmax_scale > 0)) {
    throw UsageError("softmax_scale is " + std::to_string(*a.softmax_scale) + ": expected a finite number above 0");
  }
  if (!(std::isfinite(a.softcap) && a.softcap >= 0)) {
    throw UsageError("softcap is " + std::to_string(a.softcap) + ": expected a finite number, 0 (none) or more");
  }
  if (a.format == Format::kFp64) {
    throw UsageError(
        "format is fp64: expected a format that GPU attention kernels take, "
        "fp32, tf32, fp16, bf16, e4m3 or e5m2");
  }
  if (a.v_is_in_k && a.head_dim_v > a.head_dim) {
    throw UsageError("head_dim_v is " + std::to_string(a.head_dim_v) + ": expected at most head_dim, which is " +
                     std::to_string(a.head_dim) + ", because V is part of K");
  }
  // 4 bytes an element covers fp32 scores of the unfused baseline as well.
  CheckedProduct("Q", {a.batch, a.heads_q, a.seqlen_q, a.head_dim, 4});
  CheckedProduct("O", {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v, 4});
  CheckedProduct("K", {a.batch, a.heads_kv, a.seqlen_k, a.head_dim, 4});
  CheckedProduct("V", {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v, 4});
  CheckedProduct("S", {a.batch, a.heads_q, a.seqlen_q, a.seqlen_k, 4});
}

std::string ToString(const Attention& a) {
  std::string text = "batch " + std::to_string(a.batch) + ", heads " + std::to_string(a.heads_q) + "/" +
                     std::to_string(a.heads_kv) + ", seqlen " + std::to_string(a.seqlen_q) + " x " +
                     std::to_string(a.seqlen_k) + ", head_dim " + std::to_string(a.head_dim);
  if (a.head_dim_v != a.head_dim) text.append("/").append(std::to_string(a.head_dim_v));
  text += ", " + std::string(Name(a.format)) + ", " + ToString(a.mask);
  if (a.softcap > 0) {
    std::ostringstream softcap;
    softcap << ", softcap " << a.softcap;
    text += softcap.str();
  }
  return text;
}

}  // namespace bitflash::data
