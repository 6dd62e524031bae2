// The tile unit's part of amx_kernel-inl.h, which includes this and says what must be defined before. No include guard,
// on purpose.
namespace bitflash::reference {
namespace {

constexpr int64_t kTileFloats = 256, kTileBf16 = 512, kUnitFloats = 4 * kTileFloats;

// Where the parts of a group lie in its scratch memory.
struct Scratch {
  float* S[2];     // of a block: [unit][2 tiles of keys][2 tiles of rows]; one is written while the other is read
  uint16_t* P[2];  // of a block: [unit][2 tiles of rows] in pairs of keys; as S
  float* O;        // O^T: [columns / 32][2 tiles of columns][2 tiles of rows]
  uint16_t* Q;     // Q^T in pairs of columns: [columns / 32][2 tiles of rows]
  uint16_t* V;     // units of V cleaned of infinity and NaN

  Scratch(void* memory, int64_t head_dim, int64_t head_dim_v) {
    S[0] = static_cast<float*>(memory);
    S[1] = S[0] + kAmxBlockUnits * kUnitFloats;
    P[0] = reinterpret_cast<uint16_t*>(S[1] + kAmxBlockUnits * kUnitFloats);
    P[1] = P[0] + kAmxBlockUnits * 2 * kTileBf16;
    O = reinterpret_cast<float*>(P[1] + kAmxBlockUnits * 2 * kTileBf16);
    Q = reinterpret_cast<uint16_t*>(O + kAmxLanes * RoundUp(head_dim_v, kAmxColumns));
    V = Q + kAmxLanes * RoundUp(head_dim, kAmxColumns);
  }
};

struct Block {
  int64_t first_unit = 0, units = 0;
};

// The tile products of one turn of the pipeline: S^T = K Q^T of one block, then O^T += V^T P^T of another. In this
// order what the next turn's softmax reads first, and what this turn's products do, was stored long before.
class TileWork {
 public:
  TileWork(const AmxGroup& g, const Scratch& scratch)
      : K_(g.K),
        Q_(scratch.Q),
        O_(scratch.O),
        k_chunks_(RoundUp(g.head_dim, kAmxColumns) / 32),
        v_chunks_(RoundUp(g.head_dim_v, kAmxColumns) / 32) {}

  // V: the units of `weights`.
  // `fresh`: O is 0, whatever it holds.
  void Start(Block weights, const uint16_t* P, const uint16_t* const* V, Block scores, float* S, bool fresh = false) {
    fresh_ = fresh;
    weights_ = weights;
    scores_ = scores;
    P_ = P;
    V_ = V;
    S_ = S;
    unit_ = chunk_ = 0;
    in_scores_ = scores.units > 0;
    steps_ = weights.units * v_chunks_ + scores.units * k_chunks_;
    left_ = steps_;
    credit_ = 0;
  }

  // Does its share of the work when called `portions` times.
  AMX_INLINE void Advance(int64_t portions) {
    credit_ += steps_;
    while (credit_ >= portions) {
      credit_ -= portions;
      Step();
    }
  }
  AMX_INLINE void Finish() {
    while (left_ > 0) Step();
  }

 private:
  AMX_INLINE void Step() {
    if (left_ == 0) return;
    --left_;
    in_scores_ ? ScoreStep() : ValueStep();
  }

  AMX_INLINE void ValueStep() {
    float* O = O_ + chunk_ * 4 * kTileFloats;
    if (unit_ == 0 && fresh_) {
      ZeroSums();
    } else if (unit_ == 0) {
      tiles_.Load<0>(O);
      tiles_.Load<1>(O + kTileFloats);
      tiles_.Load<2>(O + 2 * kTileFloats);
      tiles_.Load<3>(O + 3 * kTileFloats);
    }
    const uint16_t* V = V_[unit_] + 2 * chunk_ * kTileBf16;
    const uint16_t* P = P_ + unit_ * 2 * kTileBf16;
    tiles_.Load<4>(V);
    tiles_.Load<6>(P);
    tiles_.Multiply<0, 4, 6>();
    tiles_.Load<7>(P + kTileBf16);
    tiles_.Multiply<1, 4, 7>();
    tiles_.Load<5>(V + kTileBf16);
    tiles_.Multiply<2, 5, 6>();
    tiles_.Multiply<3, 5, 7>();
    if (++unit_ < weights_.units) return;
    StoreSums(O);
    unit_ = 0;
    ++chunk_;
  }

  AMX_INLINE void ScoreStep() {
    if (chunk_ == 0) ZeroSums();
    const uint16_t* K = K_ + ((scores_.first_unit + unit_) * 2 * k_chunks_ + chunk_) * kTileBf16;
    const uint16_t* Q = Q_ + 2 * chunk_ * kTileBf16;
    tiles_.Load<4>(K);
    tiles_.Load<6>(Q);
    tiles_.Multiply<0, 4, 6>();
    tiles_.Load<7>(Q + kTileBf16);
    tiles_.Multiply<1, 4, 7>();
    tiles_.Load<5>(K + k_chunks_ * kTileBf16);
    tiles_.Multiply<2, 5, 6>();
    tiles_.Multiply<3, 5, 7>();
    if (++chunk_ < k_chunks_) return;
    StoreSums(S_ + unit_ * kUnitFloats);
    chunk_ = 0;
    if (++unit_ < scores_.units) return;
    unit_ = 0;
    in_scores_ = false;
  }

  AMX_INLINE void ZeroSums() {
    tiles_.Zero<0>();
    tiles_.Zero<1>();
    tiles_.Zero<2>();
    tiles_.Zero<3>();
  }

  AMX_INLINE void StoreSums(float* to) {
    tiles_.Store<0>(to);
    tiles_.Store<1>(to + kTileFloats);
    tiles_.Store<2>(to + 2 * kTileFloats);
    tiles_.Store<3>(to + 3 * kTileFloats);
  }

  Tiles tiles_;
  const uint16_t *K_, *Q_;
  float* O_;
  int64_t k_chunks_, v_chunks_;
  Block weights_, scores_;
  const uint16_t* P_ = nullptr;
  const uint16_t* const* V_ = nullptr;
  float* S_ = nullptr;
  int64_t unit_ = 0, chunk_ = 0, steps_ = 0, left_ = 0, credit_ = 0;
  bool in_scores_ = false, fresh_ = false;
};

}  // namespace
}  // namespace bitflash::reference
