// Few query rows on many keys that are read where they are. amx_kernel-inl.h includes this and says what must be
// defined before. No include guard, on purpose.
//
// Nothing of K and V is rearranged. Rows of K are the first factor of S^T = K Q^T as they lie. Rows of V are the second
// factor of O = P V, which TDPBF16PS wants with two keys in each word; words hold two columns of one key instead. So P
// stands in the first factor twice: eight rows with P in the lower halves of words that are 0 above, which give the
// even columns of O, and eight rows with P in the upper halves, which give the odd ones.
//
// Scores of a block of keys alternate with P V of the block before, so that K and V are read all the time. Meanwhile
// lines that come later are asked for, at an even pace: the processor has few requests to memory under way at a time.
namespace bitflash::reference {
namespace {

// The lines of K and V, 16 keys of the one and 16 of the other in turn, to be asked for: from memory for the
// second-level cache, where more requests can be under way than to the first, and later from there for the first.
class LinesAhead {
 public:
  LinesAhead(const AmxRows* K, int64_t k_bytes, const AmxRows* V, int64_t v_bytes)
      : K_(K), V_(V), k_bytes_(k_bytes), v_bytes_(v_bytes) {
    NextTile();
  }

  // From now on, until it is called again, `lines` are asked for by `calls` of Ask.
  void Plan(int64_t lines, int64_t calls) {
    left_ = lines;
    share_ = (lines + calls - 1) / calls;
  }
  AMX_INLINE void Ask() {
    int64_t count = share_ < left_ ? share_ : left_;
    left_ -= count;
    while (count > 0) {
      int64_t run = (end_ - at_ + 63) / 64;
      run = run < count ? run : count;
      count -= run;
      for (; run > 0; --run, at_ += 64) AskFor(at_), AskFarFor(at_ + to_far_);
      if (at_ >= end_) NextRow();
    }
  }

 private:
  AMX_INLINE void NextRow() {
    if (--rows_ <= 0) return NextTile();
    row_ += step_;
    at_ = row_;
    end_ = row_ + bytes_;
  }
  void NextTile() {
    const AmxRows* tile = in_V_ ? V_++ : K_++;
    bytes_ = in_V_ ? v_bytes_ : k_bytes_;
    in_V_ = !in_V_;
    step_ = tile->step;
    rows_ = 16;
    if (step_ == bytes_) bytes_ *= 16, rows_ = 1;  // no gaps
    row_ = at_ = reinterpret_cast<const char*>(tile->first);
    to_far_ = reinterpret_cast<const char*>(tile[kAmxTilesFar - kAmxTilesAhead].first) - at_;
    end_ = at_ + bytes_;
  }

  const AmxRows *K_, *V_;
  int64_t k_bytes_, v_bytes_;
  bool in_V_ = false;
  const char *row_ = nullptr, *at_ = nullptr, *end_ = nullptr;
  int64_t bytes_ = 0, step_ = 0, rows_ = 0, to_far_ = 0, left_ = 0, share_ = 0;
};

class DecodeBlocks {
 public:
  explicit DecodeBlocks(const AmxDecodePart& part)
      : p_(part),
        row_tiles_((part.rows + 15) / 16),
        value_tiles_((part.rows + kValueRows - 1) / kValueRows),
        k_chunks_(RoundUp(part.head_dim, kAmxColumns) / 32),
        v_chunks_(RoundUp(part.head_dim_v, kAmxColumns) / 32),
        S_(static_cast<float*>(part.scratch)),
        by_row_(S_ + row_tiles_ * kBlockTiles * kTileFloats),
        O_(by_row_ + kBlockTiles * kTileFloats),
        P_(reinterpret_cast<uint16_t*>(O_ + value_tiles_ * OFloats())),
        Q_(P_ + value_tiles_ * kBlockTiles * kTileBf16),
        V_(Q_ + row_tiles_ * k_chunks_ * kTileBf16) {}

  // `careful`: elements of V that are infinite or NaN are multiplied one by one, by the weights of those who see them.
  // Otherwise they end up in O as something that is not finite. Returns whether O is finite.
  bool Run(bool careful) {
    const int64_t begin = Start(careful);
    const int64_t first = begin * kBlockTiles + kAmxTilesAhead;
    LinesAhead ahead(p_.K + first, 64 * k_chunks_, p_.V + first, 64 * v_chunks_);
    const int64_t tile_steps = kBlockTiles * (k_chunks_ + v_chunks_);
    for (int64_t block = begin; block < end_block_; ++block) {
      ahead.Plan(16 * tile_steps, tile_steps + p_.rows);
      const AmxRows* K = p_.K + block * kBlockTiles;
      for (int64_t tile = 0; tile < row_tiles_; ++tile) Scores(tile, K, ahead);
      if (block > begin) Values(block - 1, careful, ahead);
      for (int64_t tile = 0; tile < row_tiles_; ++tile) Weigh(tile, block * kAmxDecodeKeys, ahead);
    }
    ahead.Plan(0, 1);
    if (begin < end_block_) Values(end_block_ - 1, careful, ahead);
    return Finish();
  }

 private:
  static constexpr int64_t kBlockTiles = kAmxDecodeKeys / 16;
  static_assert(kBlockTiles == 1 || kBlockTiles == 2);
  static constexpr int64_t kValueRows = 8;  // query rows of a tile of P or O

  // O of one tile of P: [columns / 32][even columns, odd columns][kValueRows][16 columns].
  int64_t OFloats() const { return v_chunks_ * kTileFloats; }
  float* ORow(int64_t row, int64_t chunk, int64_t odd) const {
    return O_ + row / kValueRows * OFloats() + chunk * kTileFloats + (odd * kValueRows + row % kValueRows) * 16;
  }
  // P of 16 keys, lower halves of words; upper halves are kValueRows * 32 behind.
  uint16_t* PRow(int64_t row, int64_t keys) const {
    return P_ + (row / kValueRows * kBlockTiles + keys) * kTileBf16 + row % kValueRows * 32;
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
      for (int64_t i = 0; i < value_tiles_ * OFloats(); i += 16) Store(Set(0.0f), O_ + i);
    }
    for (int64_t i = 0; i < value_tiles_ * kBlockTiles * kTileBf16; i += 32) {  // weights of rows that are not there
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

  AMX_INLINE void Scores(int64_t tile, const AmxRows* K, LinesAhead& ahead) {
    tiles_.Zero<0>();
    if constexpr (kBlockTiles > 1) tiles_.Zero<1>();
    for (int64_t chunk = 0; chunk < k_chunks_; ++chunk) {
      tiles_.Load<6>(Q_ + (tile * k_chunks_ + chunk) * kTileBf16);
      ScoreStep<0, 4>(K[0], chunk, ahead);
      if constexpr (kBlockTiles > 1) ScoreStep<1, 5>(K[1], chunk, ahead);
    }
    float* S = S_ + tile * kBlockTiles * kTileFloats;
    tiles_.Store<0>(S);
    if constexpr (kBlockTiles > 1) tiles_.Store<1>(S + kTileFloats);
  }

  template <int sums, int keys>
  AMX_INLINE void ScoreStep(const AmxRows& K, int64_t chunk, LinesAhead& ahead) {
    ahead.Ask();
    tiles_.Load<keys>(K.first + chunk * 32, K.step);
    tiles_.Multiply<sums, keys, 6>();
  }

  // Scores of a tile of rows become weights; O is rescaled where a maximum has grown.
  void Weigh(int64_t tile, int64_t first_key, LinesAhead& ahead) {
    const float* S = S_ + tile * kBlockTiles * kTileFloats;
    const int64_t rows = p_.rows - tile * 16 < 16 ? p_.rows - tile * 16 : 16;
    for (int64_t i = 0; i < rows; i += 4) {
      for (int64_t keys = 0; keys < kBlockTiles; ++keys) {
        F x[4];
        LoadColumns(S + keys * kTileFloats + i, x);
        for (int64_t n = 0; n < 4; ++n) Store(x[n], by_row_ + (i + n) * kAmxDecodeKeys + keys * 16);
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      ahead.Ask();
      WeighRow(tile * 16 + i, first_key, by_row_ + i * kAmxDecodeKeys);
    }
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
    for (int64_t n = 0; n < kBlockTiles; ++n) sum = Add(sum, p[n]);
    Store(sum, l);
    for (int64_t n = 0; n < kBlockTiles; ++n) {
      uint16_t* P = PRow(row, n);
      StoreHalves(p[n], P, P + kValueRows * 32);
    }
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
    for (int64_t tile = 0; tile < value_tiles_; ++tile) {
      const uint16_t* P = P_ + tile * kBlockTiles * kTileBf16;
      float* O = O_ + tile * OFloats();
      int64_t chunk = 0;
      for (; chunk + 4 <= v_chunks_; chunk += 4) AddValues<4>(P, V, chunk, O + chunk * kTileFloats, ahead);
      for (; chunk + 2 <= v_chunks_; chunk += 2) AddValues<2>(P, V, chunk, O + chunk * kTileFloats, ahead);
      if (chunk < v_chunks_) AddValues<1>(P, V, chunk, O + chunk * kTileFloats, ahead);
    }
    fresh_ = false;
  }

  // Of 32 columns, 64 or 128.
  template <int chunks>
  AMX_INLINE void AddValues(const uint16_t* P, const AmxRows* V, int64_t chunk, float* O, LinesAhead& ahead) {
    StartSums<0>(O);
    if constexpr (chunks > 1) StartSums<1>(O + kTileFloats);
    if constexpr (chunks > 2) StartSums<2>(O + 2 * kTileFloats), StartSums<3>(O + 3 * kTileFloats);
    for (int64_t n = 0; n < kBlockTiles; ++n) {
      tiles_.Load<6>(P + n * kTileBf16);
      ValueStep<0, 4>(V[n], chunk, ahead);
      if constexpr (chunks > 1) ValueStep<1, 5>(V[n], chunk + 1, ahead);
      if constexpr (chunks > 2) ValueStep<2, 4>(V[n], chunk + 2, ahead), ValueStep<3, 5>(V[n], chunk + 3, ahead);
    }
    tiles_.Store<0>(O);
    if constexpr (chunks > 1) tiles_.Store<1>(O + kTileFloats);
    if constexpr (chunks > 2) tiles_.Store<2>(O + 2 * kTileFloats), tiles_.Store<3>(O + 3 * kTileFloats);
  }

  template <int sums, int values>
  AMX_INLINE void ValueStep(const AmxRows& V, int64_t chunk, LinesAhead& ahead) {
    ahead.Ask();
    tiles_.Load<values>(V.first + chunk * 32, V.step);
    tiles_.Multiply<sums, 6, values>();
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
      ORow(row, column / 32, column % 2)[column % 32 / 2] += Widen(PRow(row, key / 16)[key % 16 * 2]) * v;
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
  int64_t row_tiles_, value_tiles_;  // 16 rows of Q and S; kValueRows rows of P and O
  int64_t k_chunks_, v_chunks_;
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
