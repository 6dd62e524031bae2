// Attention by oneDNN 2, not fused: a product of all heads, a softmax, a product. Scores are fp32, weights have the
// type of the inputs. No causal case: there is no fused mask.
#include "reference/bench/peer.h"

#ifdef BITFLASH_PEER_ONEDNN
#include <omp.h>

#include <cmath>
#include <dnnl.hpp>

#include "data/convert_simd.h"

namespace bitflash::reference {
namespace {

class OneDnn : public Peer {
 public:
  std::string name() const override {
    const dnnl_version_t* v = dnnl_version();
    return "oneDNN-" + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }

  bool Prepare(const PeerCase& c, const PeerInputs& inputs) override {
    using dnnl::memory;
    if (c.causal() || c.a.seqlen_q != c.a.seqlen_k || c.a.group() != 1) return false;
    omp_set_num_threads(c.threads);
    case_ = c;
    const int64_t H = c.a.heads_q, S = c.a.seqlen_k, d = c.a.head_dim, bytes = c.bf16() ? 2 : 4;
    const memory::data_type type = c.bf16() ? memory::data_type::bf16 : memory::data_type::f32;
    const memory::desc rows({H, S, d}, type, memory::format_tag::abc);
    const memory::desc k_transposed({H, d, S}, type, memory::dims{S * d, 1, d});
    const memory::desc scores({H, S, S}, memory::data_type::f32, memory::format_tag::abc);
    const memory::desc weights({H, S, S}, type, memory::format_tag::abc);
    S_ = HugeArray(H * S * S * 4);
    P_ = c.bf16() ? HugeArray(H * S * S * 2) : HugeArray();
    O_ = HugeArray(H * S * d * bytes);
    const auto bind = [&](const memory::desc& desc, const float* fp32, const uint16_t* bf16) {
      const void* data = c.bf16() ? static_cast<const void*>(bf16) : fp32;
      return memory(desc, engine_, const_cast<void*>(data));
    };
    const memory q = bind(rows, inputs.Q, inputs.Q_bf16), k = bind(k_transposed, inputs.K, inputs.K_bf16),
                 v = bind(rows, inputs.V, inputs.V_bf16), s(scores, engine_, S_.as<float>()),
                 p(weights, engine_, c.bf16() ? P_.as<void>() : S_.as<void>()), o(rows, engine_, O_.as<void>());
    dnnl::primitive_attr scaled;
    scaled.set_output_scales(0, {1 / std::sqrt(static_cast<float>(d))});
    try {
      steps_.clear();
      steps_.push_back({dnnl::matmul({dnnl::matmul::desc(rows, k_transposed, scores), scaled, engine_}),
                        {{DNNL_ARG_SRC, q}, {DNNL_ARG_WEIGHTS, k}, {DNNL_ARG_DST, s}}});
      steps_.push_back(
          {dnnl::softmax_v2_forward(
               {{dnnl::prop_kind::forward_inference, dnnl::algorithm::softmax_accurate, scores, weights, 2}, engine_}),
           {{DNNL_ARG_SRC, s}, {DNNL_ARG_DST, p}}});
      steps_.push_back({dnnl::matmul({dnnl::matmul::desc(weights, rows, rows), engine_}),
                        {{DNNL_ARG_SRC, p}, {DNNL_ARG_WEIGHTS, v}, {DNNL_ARG_DST, o}}});
    } catch (const dnnl::error&) {
      return false;  // bf16 on a processor without it
    }
    return true;
  }

  void Run() override {
    omp_set_num_threads(case_.threads);
    for (const Step& step : steps_) step.primitive.execute(stream_, step.arguments);
    stream_.wait();
  }

  void Row(int64_t head, int64_t row, float* out) const override {
    const int64_t at = (head * case_.a.seqlen_q + row) * case_.a.head_dim * (case_.bf16() ? 2 : 4);
    data::ToFloat(case_.a.format, O_.as<std::byte>() + at, out, case_.a.head_dim);
  }

 private:
  struct Step {
    dnnl::primitive primitive;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  PeerCase case_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  mutable dnnl::stream stream_{engine_};
  std::vector<Step> steps_;
  HugeArray S_, P_, O_;
};

}  // namespace

std::unique_ptr<Peer> OneDnnPeer() { return std::make_unique<OneDnn>(); }

}  // namespace bitflash::reference

#else

#include <cstdio>

namespace bitflash::reference {

std::unique_ptr<Peer> OneDnnPeer() {
  std::fputs("oneDNN is left out: this build did not find version 2 (Debian 12: libdnnl-dev)\n", stderr);
  return nullptr;
}

}  // namespace bitflash::reference

#endif
