// The contestants of bench/peers.py that are compiled: ours, and other libraries where this build found them.
#ifndef BITFLASH_REFERENCE_BENCH_PEER_H_
#define BITFLASH_REFERENCE_BENCH_PEER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/attention.h"

namespace bitflash::reference {

struct PeerCase {
  data::Attention a;  // batch 1, head_dim_v = head_dim, the mask full or causal, the format fp32 or bf16
  int threads = 1;

  bool bf16() const { return a.format == data::Format::kBf16; }
  bool causal() const { return a.mask != data::Mask::Full(); }
};

// Row-major [heads, rows, head_dim]. In a bf16 case the fp32 values are those of the bf16 elements.
struct PeerInputs {
  const float *Q, *K, *V;
  const uint16_t *Q_bf16, *K_bf16, *V_bf16;
};

class Peer {
 public:
  virtual ~Peer() = default;
  virtual std::string name() const = 0;  // no spaces
  // Whatever a user would do once for a shape and a place of the tensors; not timed. False: cannot take this case.
  virtual bool Prepare(const PeerCase& peer_case, const PeerInputs& inputs) = 0;
  virtual void Run() = 0;  // timed
  // One row of the output of the last run, [head_dim].
  virtual void Row(int64_t head, int64_t row, float* out) const = 0;
};

// Those that can run on this machine; the others say why on stderr.
std::vector<std::unique_ptr<Peer>> OwnPeers();
std::unique_ptr<Peer> OneDnnPeer();
std::unique_ptr<Peer> GgmlPeer();

// Bytes on huge pages, zeros: translation misses are not what is compared.
class HugeArray {
 public:
  HugeArray() = default;
  explicit HugeArray(int64_t bytes);
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_BENCH_PEER_H_
