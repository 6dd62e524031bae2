// What FlashAttention changes for one workload on one GPU: the analysis behind `bitflash explain`, as data.
// Every traffic number is a count of a simulated kernel (sim::CountKernel); closed forms only test it.
#ifndef BITFLASH_VERIFY_PREDICT_EXPLAIN_H_
#define BITFLASH_VERIFY_PREDICT_EXPLAIN_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/attention.h"
#include "data/gpu.h"
#include "data/model_config.h"
#include "sim/count.h"
#include "sim/l2/drift.h"
#include "sim/time/estimate.h"

namespace bitflash::verify {

struct ExplainInput {
  data::Attention attention;         // one layer
  std::optional<data::Phase> phase;  // empty: one query is decode, more are prefill
  data::Gpu gpu;
  bool fp32_scores = false;          // the baseline stores S as fp32 instead of the input format
  std::optional<data::Model> model;  // the layer's model and group, when there is one
  size_t group = 0;                  // index into model->groups; `attention` describes a layer of it
  std::optional<data::Mask> mask;    // the user's own choice, which replaces every group's mask
  // HBM is predicted by a replay up to so much work (sim::l2::ExactCost), in closed form beyond: some milliseconds.
  int64_t most_replayed = 50'000;
};

// Bytes between HBM and chip, three ways; never to be mixed.
struct HbmBytes {
  int64_t compulsory = 0;  // every operand of every launch once: the floor
  // Behind a model of the L2 (sim/l2), launches one after the other; without S and P that are still in L2 at the end,
  // which the next layer overwrites there. Empty where it was not asked.
  std::optional<int64_t> predicted;
  int64_t predicted_low = 0, predicted_high = 0;  // its range; equal far from the L2's capacity
  int64_t predicted_read = 0;                     // the reads in it
  int64_t overhead = 0;                           // in it, what launches read beside their tensors
  bool near_capacity = false;                     // K and V in flight: from 0.7 to 1.3 of the L2
  int64_t requested = 0;                          // what the SMs ask of L2: HBM traffic if there were no L2
};

// Lower bounds on time, in seconds. A launch cannot be faster than the largest of its floors, so `total` adds the
// largest floor of each launch. No latency, launch overhead, or imperfect overlap is in them.
struct Floors {
  double hbm = 0;      // predicted bytes, without a prediction the compulsory ones, over the data sheet's bandwidth
  double tensor = 0;   // useful matrix operations (no padding) over the dense tensor peak of the format
  double special = 0;  // exponentials over the special-function units
  double total = 0;
  std::optional<double> l2;  // requested reads over the L2 bandwidth that was measured; not part of `total`
};

enum class Bottleneck : uint8_t { kHbm, kTensor, kSpecial };

// "hbm", "tensor", "special": the word in JSON.
std::string_view Name(Bottleneck bottleneck);

// A kernel on a problem on a GPU.
struct KernelCost {
  std::string kernel;  // "fa3"
  std::string title;   // "FlashAttention-3 forward"
  sim::Tiling tiling;
  sim::Count count;
  size_t main_launch = 0;  // index of the launch with the most matrix operations
  int64_t blocks = 0;      // of the main launch; of a persistent one, the tiles that its blocks share out
  HbmBytes hbm;
  int64_t operand_bytes = 0;  // Q, K, V and O in hbm.compulsory
  int64_t score_bytes = 0;    // S and P in hbm.compulsory
  int64_t lse_bytes = 0;      // LSE in hbm.compulsory
  int64_t other_bytes = 0;    // the rest: row state, partial results, block table
  int64_t stored_bytes = 0;   // S and P as they lie in HBM: capacity, not traffic
  double intensity = 0;       // useful FLOP a compulsory HBM byte
  Floors floors;
  Bottleneck bottleneck = Bottleneck::kHbm;
  // Of the closed form, where it was asked: the time model asks for the same.
  std::optional<sim::l2::Rereads> rereads;
  // What the time model expects (sim/time): neither floor nor measurement. Of the two explained problems only.
  std::optional<sim::TimeEstimate> time;
};

// One problem, by the standard kernels and by a FlashAttention kernel.
struct Contrast {
  data::Attention attention;
  int64_t visible_pairs = 0;  // (query, key) pairs that the mask admits, in one head
  int64_t useful_flops = 0;   // 2 (head_dim + head_dim_v) a visible pair, all heads
  KernelCost standard;
  KernelCost flash;

  double score_share() const;  // S and P in the standard kernels' compulsory bytes
  double byte_ratio() const;   // standard over flash, compulsory HBM bytes
  double floor_ratio() const;  // standard over flash, Floors::total
  // S and P in the standard kernels' predicted HBM bytes: what L2 does not absorb between the launches. All of
  // score_bytes without a prediction.
  int64_t scores_in_hbm() const;
  double scores_in_hbm_share() const;  // of the standard kernels' predicted bytes
  bool scores_stay_in_l2() const;      // at least half of them never reach HBM
};

// A tile of one thread block of the FlashAttention kernel.
struct OnChipTile {
  std::string_view tensor;  // "Q", "K", "V", "S", "P", "O", "m, l"
  sim::Space space = sim::Space::kShared;
  data::Format format = data::Format::kFp32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t copies = 1;  // stages of K and V
  int64_t bytes = 0;   // all copies
};

// What a thread block keeps on chip, and against which limits of the GPU.
struct OnChip {
  std::vector<OnChipTile> tiles;
  int64_t shared_bytes = 0;    // one block, as the simulated kernel allocates it
  int64_t register_bytes = 0;  // one block: threads x registers a thread x 4, estimated
  sim::Occupancy occupancy;
  // A softmax that waits for the complete score row would keep these rows of S on chip, in fp32.
  int64_t full_row_rows = 0;
  int64_t full_row_bytes = 0;
};

// The loop of the FlashAttention kernel, in the papers' letters; rows of a head are packed as its tiling says.
struct TileLoop {
  int64_t Tr = 0;          // query tiles
  int64_t Tc = 0;          // key tiles of the longest row of tiles, over all splits
  int64_t tiles = 0;       // (query tile, key tile) pairs that are computed, all heads
  int64_t tiles_full = 0;  // the same without a mask
};

struct SweepPoint {
  int64_t seqlen = 0;
  int64_t standard_bytes = 0;  // compulsory HBM
  int64_t flash_bytes = 0;
  int64_t score_bytes = 0;
  int64_t stored_bytes = 0;  // S and P at rest
  bool scores_fit_l2 = false;
  int64_t scores_in_hbm = 0;       // S and P behind a model of the L2
  bool scores_stay_in_l2 = false;  // at least half of them
  double score_share = 0;
  double floor_ratio = 0;
  int64_t blocks = 0;  // of the FlashAttention kernel
};

// Over the sequence length, everything else as given. Prefill: queries and keys; decode: keys.
struct LengthSweep {
  std::vector<SweepPoint> points;
  // The shortest lengths, exact to one token, from which on ...; empty: at no length up to kLongest.
  std::optional<int64_t> scores_exceed_operands;  // S and P move more bytes than Q, K, V and O
  std::optional<int64_t> scores_leave_l2;         // S and P at rest no longer fit L2
  std::optional<int64_t> scores_reach_hbm;        // more than half of what S and P move reaches HBM, as predicted
  std::optional<int64_t> blocks_fill_sms;         // there is a thread block for every SM
  static constexpr int64_t kLongest = int64_t{1} << 20;
};

// Another layer group of the same model.
struct GroupSummary {
  std::string name;
  int64_t layers = 0;
  bool chosen = false;
  Contrast problem;  // the phase that is being explained
};

enum class ClaimVerdict : uint8_t { kSupported, kRefuted, kDepends };
std::string_view Name(ClaimVerdict verdict);

// A common claim, held against this workload. `numbers` are the evidence, by name.
struct Claim {
  std::string_view id;  // "fewer-flops"
  ClaimVerdict verdict = ClaimVerdict::kDepends;
  std::map<std::string, double, std::less<>> numbers;
};

// What the whole explanation comes down to.
enum class Conclusion : uint8_t {
  kRemovesHbm,       // prefill: S and P dominate HBM traffic, and the floors fall
  kScoresInL2,       // prefill: L2 absorbs most of S and P, so the saving is mostly on paper
  kSmallGain,        // prefill: the floors hardly fall, or rise
  kDecodeElsewhere,  // decode: S and P are a small share of the bytes
  kDecodeShare,      // decode: S and P are a share worth naming
  kDecodeInL2,       // decode: they would be, did they not stay in L2
};
std::string_view Name(Conclusion conclusion);

// Facts about how the analysis was made that the reader must know.
enum class ExplainNote : uint8_t {
  kBf16AsFp16,   // the GPU's tensor cores have no bf16: counted as fp16, the same bytes
  kTileReduced,  // the published tile does not fit this GPU or head size: a smaller one was taken
  kNoBlackwell,  // no kernel of the GPU's own generation is modelled yet
  kSoftcap,      // softcap costs arithmetic that is not counted; bytes do not change
};

struct Explanation {
  ExplainInput input;
  data::Phase phase = data::Phase::kPrefill;  // which of the two problems was asked about
  Contrast prefill;
  Contrast decode;
  int64_t l2_bytes = 0;          // that the fits-L2 statements use
  bool l2_is_effective = false;  // true: probed usable capacity; false: what the device reports
  double tensor_flops = 0;       // the peak of the format
  double ridge = 0;              // FLOP a byte: tensor peak over HBM bandwidth
  OnChip on_chip;                // of the asked problem's FlashAttention kernel
  TileLoop loop;
  int64_t unmasked_score_bytes = 0;  // S and P of the baseline if it computed every tile; equal without a mask
  LengthSweep sweep;
  std::vector<GroupSummary> groups;  // empty when the model has one group, or there is no model
  std::vector<Claim> claims;
  Conclusion conclusion = Conclusion::kRemovesHbm;
  std::vector<ExplainNote> notes;

  const Contrast& asked() const { return phase == data::Phase::kPrefill ? prefill : decode; }
  const Claim& claim(std::string_view id) const;  // asserts that it exists
  int64_t layers() const;                         // of the model; 1 without one
};

// Throws UsageError (a problem that no kernel of the list takes, an empty key sequence), and what CountKernel throws.
Explanation Explain(const ExplainInput& input);

// (query, key) pairs of one head that the mask admits, in closed form.
int64_t VisiblePairs(const data::Attention& attention);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_EXPLAIN_H_
