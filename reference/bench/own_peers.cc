// CpuAttention, AmxAttention, and Eigen, not fused.
#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <span>

#include "data/convert_simd.h"
#include "hwy/targets.h"
#include "reference/amx_attention.h"
#include "reference/bench/eigen_attention.h"
#include "reference/bench/peer.h"
#include "reference/cpu_attention.h"

namespace bitflash::reference {
namespace {

// Ours: O in the format of the inputs, LSE too.
class OwnPeer : public Peer {
 public:
  explicit OwnPeer(bool amx) : amx_(amx) {}
  std::string name() const override { return amx_ ? "cpu-amx-bf16" : "cpu-simd"; }

  bool Prepare(const PeerCase& c, const PeerInputs& inputs) override {
    if (amx_ && !c.bf16()) return false;
    case_ = c;
    const int64_t rows = c.a.heads_q * c.a.seqlen_q;
    O_ = HugeArray(rows * c.a.head_dim * data::StorageBytes(c.a.format));
    LSE_.resize(rows);
    const int64_t q = rows * c.a.head_dim, kv = c.a.heads_kv * c.a.seqlen_k * c.a.head_dim;
    const auto view = [&](const float* fp32, const uint16_t* bf16, int64_t count) {
      const auto n = static_cast<size_t>(count);
      return c.bf16() ? AsOperand(data::Format::kBf16, std::span(bf16, n)) : AsOperand(std::span(fp32, n));
    };
    inputs_ = {.Q = view(inputs.Q, inputs.Q_bf16, q),
               .K = view(inputs.K, inputs.K_bf16, kv),
               .V = view(inputs.V, inputs.V_bf16, kv),
               .seqlens_q = {},
               .seqlens_k = {},
               .paged = {}};
    return true;
  }

  void Run() override {
    const size_t bytes = LSE_.size() * static_cast<size_t>(case_.a.head_dim * data::StorageBytes(case_.a.format));
    const CpuAttentionOutputs outputs = {
        .format = case_.a.format, .O = std::span(O_.as<std::byte>(), bytes), .strides = {}, .LSE = LSE_};
    if (amx_) {
      AmxAttention(case_.a, inputs_, outputs, {.threads = case_.threads});
    } else {
      CpuAttention(case_.a, inputs_, outputs, case_.threads);
    }
  }

  void Row(int64_t head, int64_t row, float* out) const override {
    const int64_t at = (head * case_.a.seqlen_q + row) * case_.a.head_dim * data::StorageBytes(case_.a.format);
    data::ToFloat(case_.a.format, O_.as<std::byte>() + at, out, case_.a.head_dim);
  }

 private:
  bool amx_;
  PeerCase case_;
  CpuAttentionInputs inputs_;
  HugeArray O_;
  std::vector<float> LSE_;
};

class EigenPeer : public Peer {
 public:
  std::string name() const override { return "Eigen"; }

  bool Prepare(const PeerCase& c, const PeerInputs& inputs) override {
    if (c.bf16() || c.a.seqlen_q != c.a.seqlen_k || c.a.group() != 1) return false;
    case_ = c;
    inputs_ = inputs;
    avx512_ = (hwy::SupportedTargets() & HWY_AVX3) != 0;
    S_ = HugeArray(c.threads * c.a.seqlen_k * c.a.seqlen_k * 4);
    O_ = HugeArray(c.a.heads_q * c.a.seqlen_q * c.a.head_dim * 4);
    return true;
  }

  void Run() override {
    const data::Attention& a = case_.a;
#pragma omp parallel for num_threads(case_.threads) schedule(dynamic)
    for (int64_t h = 0; h < a.heads_q; ++h) {
      const int64_t offset = h * a.seqlen_q * a.head_dim;
      const EigenHead head = {a.seqlen_q,
                              a.head_dim,
                              case_.causal(),
                              inputs_.Q + offset,
                              inputs_.K + offset,
                              inputs_.V + offset,
                              S_.as<float>() + omp_get_thread_num() * a.seqlen_k * a.seqlen_k,
                              O_.as<float>() + offset};
      avx512_ ? EigenHead_avx512(head) : EigenHead_avx2(head);
    }
  }

  void Row(int64_t head, int64_t row, float* out) const override {
    std::copy_n(O_.as<float>() + (head * case_.a.seqlen_q + row) * case_.a.head_dim, case_.a.head_dim, out);
  }

 private:
  PeerCase case_;
  PeerInputs inputs_{};
  bool avx512_ = false;
  HugeArray S_, O_;
};

}  // namespace

std::vector<std::unique_ptr<Peer>> OwnPeers() {
  std::vector<std::unique_ptr<Peer>> peers;
  peers.push_back(std::make_unique<OwnPeer>(false));
  if (AmxSupport().empty()) {
    peers.push_back(std::make_unique<OwnPeer>(true));
  } else {
    std::fprintf(stderr, "cpu-amx-bf16 is left out: %s\n", AmxSupport().c_str());
  }
  peers.push_back(std::make_unique<EigenPeer>());
  return peers;
}

}  // namespace bitflash::reference
