// Few query rows on many keys that are read where they are. amx_kernel-inl.h includes this and says what must be
// defined before. No include guard, on purpose.
//
// Nothing of K and V is rearranged. Rows of K are the first factor of S^T = K Q^T as they lie. Rows of V are the second
// factor of O = P V, which TDPBF16PS wants with two keys in each word; words hold two columns of one key instead. So V
// is multiplied twice: by P in the lower halves of words that are 0 above, which gives the even columns, and by P in
// the upper halves, which gives the odd ones. The tile unit has the time: memory is slower still.
//
// Scores of a block of keys alternate with P V of the block before, so that K and V are read all the time. With every
// tile of a stream that is read, as many of its lines are asked for, some tiles ahead.
namespace bitflash::reference {
namespace {

// The rows of K or of V, in the order of the keys, line by line, to be asked for.
class LinesAhead {
 public:
  LinesAhead(const AmxRows* rows, int64_t columns) : next_(rows), bytes_(2 * columns) { NextRows(); }

  // As many lines as a tile has rows.
  AMX_INLINE void Ask() {
    if (step_ == bytes_) {  // no gaps
      for (int64_t line = 0; line < 16; ++line) AskFor(at_ + line * 64);
      at_ += 1024;
      asked_ += 1024;
    } else {
      for (int64_t line = 0; line < 16; ++line) {
        AskFor(at_ + byte_);
        byte_ += 64;
        if (byte_ >= bytes_) at_ += step_, byte_ = 0;
      }
      asked_ += 1024;
    }
    if (asked_ == 16 * bytes_) NextRows();
  }

 private:
  AMX_INLINE void NextRows() {
    at_ = reinterpret_cast<const char*>(next_->first);
    step_ = next_->step;
    ++next_;
    byte_ = asked_ = 0;
  }

  const AmxRows* next_;
  int64_t bytes_, step_ = 0, byte_ = 0, asked_ = 0;
  const char* at_ = nullptr;
};

class DecodeBlocks {
 public:
  explicit DecodeBlocks(const AmxDecodePart& part)
      : p_(part),
        row_tiles_((part.rows + 15) / 16),
        k_chunks_(RoundUp(part.head_dim, kAmxColumns) / 32),
        v_chunks_(RoundUp(part.head_dim_v, kAmxColumns) / 32),
        S_(static_cast<float*>(part.scratch)),
        by_row_(S_ + row_tiles_ * kBlockTiles * kTileFloats),
        O_(by_row_ + kBlockTiles * kTileFloats),
        P_(reinterpret_cast<uint16_t*>(O_ + row_tiles_ * OFloats())),
        Q_(P_ + row_tiles_ * kBlockTiles * 2 * kTileBf16),
        V_(Q_ + row_tiles_ * k_chunks_ * kTileBf16) {}

  // `careful`: elements of V that are infinite or NaN are multiplied one by one, by the weights of those who see them.
  // Otherwise they end up in O as something that is not finite. Returns whether O is finite.
  bool Run(bool careful) {
    const int64_t begin = Start(careful);
    LinesAhead k_ahead(p_.K + begin * kBlockTiles + kAmxTilesAhead, 32 * k_chunks_);
    LinesAhead v_ahead(p_.V + begin * kBlockTiles + kAmxTilesAhead, 32 * v_chunks_);
    for (int64_t block = begin; block < end_block_; ++block) {
      const AmxRows* K = p_.K + block * kBlockTiles;
      for (int64_t tile = 0; tile < row_tiles_; ++tile) Scores(tile, K, tile == 0, k_ahead);
      if (block > begin) Values(block - 1, careful, v_ahead);
      for (int64_t tile = 0; tile < row_tiles_; ++tile) Weigh(tile, block * kAmxDecodeKeys);
    }
    if (begin < end_block_) Values(end_block_ - 1, careful, v_ahead);
    return Finish();
  }

 private:
  static constexpr int64_t kBlockTiles = kAmxDecodeKeys / 16;
  static_assert(kBlockTiles == 4);

  // O of one tile of rows: [columns / 32][even columns, odd columns][16 rows][16 columns].
  int64_t OFloats() const { return v_chunks_ * 2 * kTileFloats; }
  float* ORow(int64_t row, int64_t chunk, int64_t odd) const {
    return O_ + row / 16 * OFloats() + (chunk * 2 + odd) * kTileFloats + row % 16 * 16;
  }

  // Returns the first block that anybody sees; end_block_ is behind the last.
  int64_t Start(bool careful) {
    int64_t begin = INT32_MAX, end = 0;
    for (int64_t row = 0; row < p_.rows; ++row) {
      Store(Set(0.0f), p_.state.l + row * 16);
      p_.state.m[row] = kMinusInfinity;
      if (p_.begin[row] >= p_.end[row]) continue;
      begin = p_.begin[row] < begin ? p_.begin[row] : begin;
      end = p_.end[row] > end ? p_.end[row] : end;
    }
    if (begin >= end) begin = end = 0;
    begin /= kAmxDecodeKeys;
    end_block_ = (end + kAmxDecodeKeys - 1) / kAmxDecodeKeys;
    fresh_ = begin < end_block_ && !careful;  // O is 0, whatever it holds
    if (!fresh_) {
      for (int64_t i = 0; i < row_tiles_ * OFloats(); i += 16) Store(Set(0.0f), O_ + i);
    }
    for (int64_t i = 0; i < row_tiles_ * kBlockTiles * 2 * kTileBf16; i += 32) {  // weights of rows that are not there
      Store(Set(0.0f), reinterpret_cast<float*>(P_ + i));
    }
    for (int64_t tile = 0; tile < row_tiles_; ++tile) PackQueries(tile);
    return begin;
  }

  // Q^T in pairs of columns: a transposition of words.
  void PackQueries(int64_t tile) {
    for (int64_t chunk = 0; chunk < k_chunks_; ++chunk) {
      F words[16];
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t row = tile * 16 + i;
        words[i] = row < p_.rows ? LoadBf16(p_.Q[row] + chunk * 32, p_.head_dim - chunk * 32) : Set(0.0f);
      }
      Transpose(words);
      float* to = reinterpret_cast<float*>(Q_ + (tile * k_chunks_ + chunk) * kTileBf16);
      for (int64_t i = 0; i < 16; ++i) Store(words[i], to + i * 16);
    }
  }

  AMX_INLINE void Scores(int64_t tile, const AmxRows* K, bool ask, LinesAhead& ahead) {
    tiles_.Zero<0>();
    tiles_.Zero<1>();
    tiles_.Zero<2>();
    tiles_.Zero<3>();
    for (int64_t chunk = 0; chunk < k_chunks_; ++chunk) {
      tiles_.Load<6>(Q_ + (tile * k_chunks_ + chunk) * kTileBf16);
      ScoreStep<0, 4>(K[0], chunk, ask, ahead);
      ScoreStep<1, 5>(K[1], chunk, ask, ahead);
      ScoreStep<2, 4>(K[2], chunk, ask, ahead);
      ScoreStep<3, 5>(K[3], chunk, ask, ahead);
    }
    float* S = S_ + tile * kBlockTiles * kTileFloats;
    tiles_.Store<0>(S);
    tiles_.Store<1>(S + kTileFloats);
    tiles_.Store<2>(S + 2 * kTileFloats);
    tiles_.Store<3>(S + 3 * kTileFloats);
  }

  template <int sums, int keys>
  AMX_INLINE void ScoreStep(const AmxRows& K, int64_t chunk, bool ask, LinesAhead& ahead) {
    if (ask) ahead.Ask();
    tiles_.Load<keys>(K.first + chunk * 32, K.step);
    tiles_.Multiply<sums, keys, 6>();
  }

  // Scores of a tile of rows become weights; O is rescaled where a maximum has grown.
  void Weigh(int64_t tile, int64_t first_key) {
    const float* S = S_ + tile * kBlockTiles * kTileFloats;
    const int64_t rows = p_.rows - tile * 16 < 16 ? p_.rows - tile * 16 : 16;
    for (int64_t i = 0; i < rows; i += 4) {
      for (int64_t keys = 0; keys < kBlockTiles; ++keys) {
        F x[4];
        LoadColumns(S + keys * kTileFloats + i, x);
        for (int64_t n = 0; n < 4; ++n) Store(x[n], by_row_ + (i + n) * kAmxDecodeKeys + keys * 16);
      }
    }
    for (int64_t i = 0; i < rows; ++i) WeighRow(tile * 16 + i, first_key, by_row_ + i * kAmxDecodeKeys);
  }

  AMX_INLINE void WeighRow(int64_t row, int64_t first_key, const float* scores) {
    const ScoreRule& rule = p_.rule;
    const int64_t begin = p_.begin[row] - first_key, end = p_.end[row] - first_key;
    F s[kBlockTiles], most = Set(kMinusInfinity);
    for (int64_t n = 0; n < kBlockTiles; ++n) {
      s[n] = Load(scores + n * 16);
      if (rule.softcap > 0) s[n] = Mul(Set(rule.softcap), Tanh(Mul(s[n], Set(rule.cap_factor))));
      if (begin > n * 16 || end < n * 16 + 16) {
        s[n] = Select(Inside(begin - n * 16, end - n * 16), s[n], Set(kMinusInfinity));
      }
      most = Max(s[n], most);  // a NaN is no maximum
    }
    const float c = rule.exponent_factor, greatest = Greatest(most);
    float& m = p_.state.m[row];
    float* l = p_.state.l + row * 16;
    F sum = Load(l);
    if ((greatest - m) * c > static_cast<float>(kAmxLag)) {  // inf - inf is not
      const F r = Exp2(Set((m - greatest) * c));
      m = greatest;
      sum = Mul(sum, r);
      if (!fresh_) Rescale(row, r);
    }
    const float reference = m > kMinusInfinity ? m : 0;  // no key so far: P = 0, not NaN
    const float product = reference * c;
    F p[kBlockTiles];
    if (product > 0x1p15f || product < -0x1p15f) {  // its rounding would count
      for (int64_t n = 0; n < kBlockTiles; ++n) p[n] = Exp2(Mul(Sub(s[n], Set(reference)), Set(c)));
    } else {
      for (int64_t n = 0; n < kBlockTiles; ++n) p[n] = Exp2(MulAdd(s[n], Set(c), Set(0 - product)));
    }
    Store(Add(sum, Add(Add(p[0], p[1]), Add(p[2], p[3]))), l);
    uint16_t* P = P_ + row / 16 * kBlockTiles * 2 * kTileBf16 + row % 16 * 32;
    for (int64_t n = 0; n < kBlockTiles; ++n) StoreHalves(p[n], P + 2 * n * kTileBf16, P + (2 * n + 1) * kTileBf16);
  }

  AMX_INLINE void Rescale(int64_t row, F r) {
    for (int64_t chunk = 0; chunk < v_chunks_; ++chunk) {
      for (int64_t odd = 0; odd < 2; ++odd) {
        float* at = ORow(row, chunk, odd);
        Store(Mul(Load(at), r), at);
      }
    }
  }

  // O += P V for the block's keys.
  AMX_INLINE void Values(int64_t block, bool careful, LinesAhead& ahead) {
    const AmxRows* V = p_.V + block * kBlockTiles;
    AmxRows cleaned[kBlockTiles];
    if (careful) Clean(block, V, cleaned), V = cleaned;
    for (int64_t tile = 0; tile < row_tiles_; ++tile) {
      const uint16_t* P = P_ + tile * kBlockTiles * 2 * kTileBf16;
      float* O = O_ + tile * OFloats();
      int64_t chunk = 0;
      for (; chunk + 2 <= v_chunks_; chunk += 2, O += 4 * kTileFloats) {
        AddValues<true>(P, V, chunk, O, tile == 0, ahead);
      }
      if (chunk < v_chunks_) AddValues<false>(P, V, chunk, O, tile == 0, ahead);
    }
    fresh_ = false;
  }

  // Of one chunk of 32 columns, or two.
  template <bool two>
  AMX_INLINE void AddValues(const uint16_t* P, const AmxRows* V, int64_t chunk, float* O, bool ask, LinesAhead& ahead) {
    StartSums<0>(O);
    StartSums<1>(O + kTileFloats);
    if constexpr (two) {
      StartSums<2>(O + 2 * kTileFloats);
      StartSums<3>(O + 3 * kTileFloats);
    }
    for (int64_t n = 0; n < kBlockTiles; ++n) {
      if (ask) ahead.Ask();
      tiles_.Load<4>(V[n].first + chunk * 32, V[n].step);
      tiles_.Load<6>(P + 2 * n * kTileBf16);
      tiles_.Multiply<0, 6, 4>();
      tiles_.Load<7>(P + (2 * n + 1) * kTileBf16);
      tiles_.Multiply<1, 7, 4>();
      if constexpr (two) {
        if (ask) ahead.Ask();
        tiles_.Load<5>(V[n].first + (chunk + 1) * 32, V[n].step);
        tiles_.Multiply<2, 6, 5>();
        tiles_.Multiply<3, 7, 5>();
      }
    }
    tiles_.Store<0>(O);
    tiles_.Store<1>(O + kTileFloats);
    if constexpr (two) {
      tiles_.Store<2>(O + 2 * kTileFloats);
      tiles_.Store<3>(O + 3 * kTileFloats);
    }
  }

  template <int sums>
  AMX_INLINE void StartSums(const float* O) {
    if (fresh_) {
      tiles_.Zero<sums>();
    } else {
      tiles_.Load<sums>(O);
    }
  }

  // A copy of the block's V with 0 for what is infinite or NaN, whose products are added here.
  void Clean(int64_t block, const AmxRows* V, AmxRows* cleaned) {
    const int64_t columns = 32 * v_chunks_;
    for (int64_t key = 0; key < kAmxDecodeKeys; ++key) {
      const uint16_t* from = reinterpret_cast<const uint16_t*>(reinterpret_cast<const char*>(V[key / 16].first) +
                                                               key % 16 * V[key / 16].step);
      uint16_t* to = V_ + key * columns;
      if (key % 16 == 0) cleaned[key / 16] = {to, columns * 2};
      for (int64_t column = 0; column < columns; ++column) {
        const bool finite = (from[column] & 0x7F80) != 0x7F80;
        to[column] = finite ? from[column] : 0;
        if (!finite && column < p_.head_dim_v) AddProducts(block, key, column, Widen(from[column]));
      }
    }
  }
  void AddProducts(int64_t block, int64_t key, int64_t column, float v) {
    const int64_t number = block * kAmxDecodeKeys + key;
    for (int64_t row = 0; row < p_.rows; ++row) {
      if (number < p_.begin[row] || number >= p_.end[row]) continue;
      const uint16_t* P = P_ + (row / 16 * kBlockTiles + key / 16) * 2 * kTileBf16;  // in the lower halves of words
      ORow(row, column / 32, column % 2)[column % 32 / 2] += Widen(P[row % 16 * 32 + key % 16 * 2]) * v;
    }
  }

  // Writes O as rows.
  bool Finish() {
    bool finite = true;
    const int64_t columns = RoundUp(p_.head_dim_v, kRowPadding);
    for (int64_t row = 0; row < p_.rows; ++row) {
      for (int64_t column = 0; column < columns; column += 16) {
        const int64_t from = column % 32 / 2;
        const float* even = ORow(row, column / 32, 0) + from;
        const float* odd = ORow(row, column / 32, 1) + from;
        float* to = p_.state.O + row * columns + column;
        for (int64_t i = 0; i < 8; ++i) {
          to[2 * i] = even[i];
          to[2 * i + 1] = odd[i];
          finite = finite && even[i] - even[i] == 0 && odd[i] - odd[i] == 0;
        }
      }
      float l = 0;
      for (int64_t i = 0; i < 16; ++i) l += p_.state.l[row * 16 + i];
      if (l != l && p_.state.m[row] == kMinusInfinity) p_.state.m[row] = 0;  // all scores are NaN, and so is the LSE
    }
    return finite;
  }

  const AmxDecodePart& p_;
  int64_t row_tiles_, k_chunks_, v_chunks_;
  float *S_, *by_row_, *O_;
  uint16_t *P_, *Q_, *V_;
  int64_t end_block_ = 0;
  bool fresh_ = true;
  Tiles tiles_;
};

void RunDecodePart(const AmxDecodePart& part) {
  const TileScope scope;
  if (!DecodeBlocks(part).Run(false)) DecodeBlocks(part).Run(true);
}

}  // namespace
}  // namespace bitflash::reference
