// Attention by ggml's GGML_OP_FLASH_ATTN_EXT on its CPU backend: K and V in fp32, precision F32; a causal mask is a
// tensor of fp16, made beforehand.
#include "reference/bench/peer.h"

#ifdef BITFLASH_PEER_GGML
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace bitflash::reference {
namespace {

class Ggml : public Peer {
 public:
  ~Ggml() override { ggml_free(context_); }
  std::string name() const override { return std::string("ggml-") + ggml_version(); }

  bool Prepare(const PeerCase& c, const PeerInputs& inputs) override {
    if (c.bf16()) return false;
    const data::Attention& a = c.a;
    case_ = c;
    ggml_free(context_);
    context_ = ggml_init({.mem_size = ggml_tensor_overhead() * 16 + ggml_graph_overhead() + 4096,
                          .mem_buffer = nullptr,
                          .no_alloc = true});
    const auto tensor = [&](ggml_type type, int64_t columns, int64_t rows, int64_t heads, const void* data) {
      ggml_tensor* t = ggml_new_tensor_4d(context_, type, columns, rows, heads, 1);
      t->data = const_cast<void*>(data);
      return t;
    };
    ggml_tensor* mask = nullptr;
    if (c.causal()) {
      mask_ = HugeArray(a.seqlen_q * a.seqlen_k * 2);
      const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
      for (int64_t i = 0; i < a.seqlen_q; ++i) {
        ggml_fp16_t* row = mask_.as<ggml_fp16_t>() + i * a.seqlen_k;
        for (int64_t j = i + a.seqlen_k - a.seqlen_q + 1; j < a.seqlen_k; ++j) row[j] = hidden;
      }
      mask = tensor(GGML_TYPE_F16, a.seqlen_k, a.seqlen_q, 1, mask_.as<void>());
    }
    ggml_tensor* o = ggml_flash_attn_ext(context_, tensor(GGML_TYPE_F32, a.head_dim, a.seqlen_q, a.heads_q, inputs.Q),
                                         tensor(GGML_TYPE_F32, a.head_dim, a.seqlen_k, a.heads_kv, inputs.K),
                                         tensor(GGML_TYPE_F32, a.head_dim, a.seqlen_k, a.heads_kv, inputs.V), mask,
                                         static_cast<float>(a.scale()), 0, 0);
    ggml_flash_attn_ext_set_prec(o, GGML_PREC_F32);
    O_ = HugeArray(a.heads_q * a.seqlen_q * a.head_dim * 4);
    o->data = O_.as<void>();
    graph_ = ggml_new_graph(context_);
    ggml_build_forward_expand(graph_, o);
    plan_ = ggml_graph_plan(graph_, c.threads, nullptr);
    work_ = HugeArray(static_cast<int64_t>(plan_.work_size) + 64);
    plan_.work_data = work_.as<uint8_t>();
    return true;
  }

  void Run() override { ggml_graph_compute(graph_, &plan_); }

  void Row(int64_t head, int64_t row, float* out) const override {  // [rows, heads, columns]
    std::copy_n(O_.as<float>() + (row * case_.a.heads_q + head) * case_.a.head_dim, case_.a.head_dim, out);
  }

 private:
  PeerCase case_;
  ggml_context* context_ = nullptr;
  ggml_cgraph* graph_ = nullptr;
  ggml_cplan plan_ = {};
  HugeArray mask_, O_, work_;
};

}  // namespace

std::unique_ptr<Peer> GgmlPeer() {
  ggml_cpu_init();
  return std::make_unique<Ggml>();
}

}  // namespace bitflash::reference

#else

#include <cstdio>

namespace bitflash::reference {

std::unique_ptr<Peer> GgmlPeer() {
  std::fputs("ggml is left out: peers.py --ggml PREFIX builds it in, or -DBITFLASH_GGML=PREFIX\n", stderr);
  return nullptr;
}

}  // namespace bitflash::reference

#endif
