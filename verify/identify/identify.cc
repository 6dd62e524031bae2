#include "verify/identify/identify.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "data/error.h"
#include "verify/identify/identify_hints.h"
#include "verify/identify/identify_race.h"
#include "verify/identify/identify_space.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::UndecidedError;

constexpr int64_t kSampleRows = 16;   // of a block of the sample
constexpr int64_t kVerifyRows = 128;  // of a block of the verification
constexpr int64_t kMostSample = 32;   // blocks
constexpr int64_t kSampleBytes = int64_t{512} << 20;
constexpr size_t kContradictions = 12;                               // blocks that join the sample after a verification
constexpr int kMostRounds = 8;                                       // of verifying, weighing and moving
constexpr size_t kStructures = 8, kArithmetics = 8, kFinalists = 4;  // that a race leaves

void RequireModelled(const Problem& p, const Outputs& outputs) {
  const Attention& a = p.attention;
  Validate(p);
  const auto undecided = [](const std::string& what) { throw UndecidedError(what + ": no recipe was searched"); };
  if (a.format != data::Format::kFp16 && a.format != data::Format::kBf16) {
    undecided("inputs of " + std::string(data::Name(a.format)) + " are not modelled to the bit (fp16 and bf16 are)");
  }
  if (a.softcap > 0) undecided("softcap needs tanh.approx, whose bits are not modelled");
  if (!p.sinks.empty()) undecided("attention sinks are not part of any recipe");
  if (p.q_scale != 1 || p.k_scale != 1 || p.v_scale != 1) undecided("scales of tensors are not part of any recipe");
  if (a.seqlen_k == 0) undecided("there are no keys, so that nothing shows in the bits");
  if (outputs.o.type() != data::ElementType(a.format)) {
    undecided("O of " + Name(outputs.o.type()) + " from inputs of " + std::string(data::Name(a.format)) +
              " is not modelled (the same format is)");
  }
  const auto require = [](const char* name, const data::Tensor& tensor, const std::vector<int64_t>& shape) {
    if (tensor.shape() == shape) return;
    throw data::UsageError(std::string(name) + " has the shape " + data::ShapeString(tensor.shape()) + ": expected " +
                           data::ShapeString(shape));
  };
  require("o", outputs.o, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v});
  if (!outputs.lse) return;
  require("lse", *outputs.lse, {a.batch, a.heads_q, a.seqlen_q});
  if (outputs.lse->type() != data::ElementType(data::Format::kFp32)) {
    throw data::UsageError("lse holds " + Name(outputs.lse->type()) + ": expected fp32");
  }
}

class Search {
 public:
  Search(const Problem& problem, const Outputs& outputs, const IdentifyOptions& options)
      : problem_(problem),
        a_(problem.attention),
        options_(options),
        has_lse_(outputs.lse.has_value()),
        small_(problem, outputs, kSampleRows),
        large_(problem, outputs, kVerifyRows),
        architectures_(DistinctArchitectures(a_.format)) {
    lab_.work = options.work;
    if (!options.arch) return;
    std::string accepted;
    for (const std::string_view arch : architectures_) {
      accepted += (accepted.empty() ? "" : ", ") + LikeArchitectures(arch, a_.format);
      const std::string like = ", " + LikeArchitectures(arch, a_.format) + ",";
      if (like.find(", " + *options.arch + ",") == like.npos) continue;
      architectures_ = {arch};
      return;
    }
    throw data::UsageError("no tensor core is modelled for the architecture '" + *options.arch + "': expected one of " +
                           accepted);
  }

  Identification Run() {
    ChooseSample();
    Candidate winner = FindCandidate();
    Settle(winner);
    return Report(winner);
  }

 private:
  struct Finalist {
    Candidate candidate;
    int64_t differ = 0;  // of O, on the whole sample
    bool lse = false;
    bool exact = false;
  };

  void Step(const char* name, double begin, double end) {
    if (!options_.progress) return;
    lab_.progress = [this, name, begin, end](double share) {
      options_.progress(name, begin + std::clamp(share, 0.0, 1.0) * (end - begin));
    };
    lab_.progress(0);
  }

  // Blocks whose rows tell most, spread over the problem.
  void ChooseSample() {
    const double work_of_one = static_cast<double>(small_.Work(small_.count() - 1));
    const auto looked_at = static_cast<int64_t>(std::clamp(0.05 * options_.work / work_of_one, 8.0, 96.0));
    std::vector<int64_t> numbers = small_.Spread(looked_at);
    const int64_t bytes_of_one = a_.seqlen_k * (a_.head_dim + a_.head_dim_v) * 2;
    const int64_t most = std::clamp<int64_t>(kSampleBytes / bytes_of_one, 1, kMostSample);
    std::vector<int64_t> information(numbers.size());
#pragma omp parallel for schedule(dynamic)
    for (size_t n = 0; n < numbers.size(); ++n) information[n] = Information(small_.Make(numbers[n]));
    std::vector<size_t> order(numbers.size());
    for (size_t n = 0; n < order.size(); ++n) order[n] = n;
    std::ranges::stable_sort(order, [&](size_t x, size_t y) { return information[x] > information[y]; });
    for (const size_t n : order) {
      if (static_cast<int64_t>(sample_.size()) < most) sample_.push_back(small_.Make(numbers[n]));
    }
  }

  // As many of the structures as the work allows on two blocks, the first ones.
  std::vector<Candidate> Affordable(std::vector<Candidate> all) {
    const auto most = static_cast<size_t>(std::max(24.0, options_.work / static_cast<double>(sample_[0].work)));
    if (all.size() > most) {
      not_tried_ += static_cast<int64_t>(all.size() - most);
      all.resize(most);
    }
    return all;
  }

  static std::vector<Candidate> Candidates(const std::vector<Scored>& field) {
    std::vector<Candidate> all;
    for (const Scored& scored : field) all.push_back(scored.candidate);
    return all;
  }

  // From structures to one recipe. LSE is sharp: it shows most roundings of a row in one number, but only when every
  // choice that it depends on is right, so all of them are combined at once. Without it, first what shows in many
  // elements of O, then the end of a row.
  Finalist Arithmetic(const std::vector<Candidate>& all_structures) {
    lab_.lse = false;
    const std::vector<Candidate> structures = Candidates(Race(all_structures, sample_, kStructures, 2, lab_));
    const std::vector<std::string_view> early = {"arch", "exponent", "rescale", "exponential", "scale_log2"};
    std::vector<Scored> field;
    if (has_lse_) {
      std::vector<std::string_view> choices = early;
      for (const char* choice : {"row_sum", "quad_sum", "log_sum_exp"}) choices.emplace_back(choice);
      const auto combinations = static_cast<double>(Expand({structures.front()}, a_, choices, architectures_).size());
      const auto most = static_cast<size_t>(
          std::max(1.0, options_.work / (combinations * static_cast<double>(sample_.front().work))));
      const std::vector<Candidate> some(structures.begin(),
                                        structures.begin() + static_cast<int64_t>(std::min(most, structures.size())));
      lab_.lse = true;
      field = Race(Expand(some, a_, choices, architectures_), sample_, kArithmetics, 2, lab_);
      lab_.lse = ExplainsLse(field.front().candidate);
      field = Race(Expand(Candidates(field), a_, {"reciprocal"}, architectures_), sample_, kFinalists, 2, lab_);
    }
    if (!lab_.lse) {
      field = Race(Expand(structures, a_, early, architectures_), sample_, kArithmetics, 2, lab_);
      field = Race(Expand(Candidates(field), a_, {"row_sum", "quad_sum", "reciprocal"}, architectures_), sample_,
                   kFinalists, 2, lab_);
    }
    Finalist finalist{field.front().candidate, 0, lab_.lse, field.front().differ == 0};
    for (const Block& block : sample_) {
      finalist.differ += CountDifferent(Simulate(finalist.candidate, block).o, block.o);
    }
    return finalist;
  }

  // More than half of the rows: else the form of LSE is none that is modelled, or the structure is wrong.
  bool ExplainsLse(const Candidate& candidate) {
    int64_t rows = 0, differ = 0;
    for (const Block& block : sample_) {
      const BlockBits bits = Simulate(candidate, block);
      rows += block.rows();
      differ += CountDifferent(bits.lse, block.lse);
      if (rows >= 4 * kSampleRows) break;
    }
    return 2 * differ <= rows;
  }

  Candidate FindCandidate() {
    Step("one pass over the keys", 0, 0.25);
    Finalist best = Arithmetic(Affordable(OnePassStructures(a_, architectures_.front())));
    if (!best.exact) {
      Step("split keys", 0.25, 0.5);
      const std::vector<Candidate> structures = Affordable(SplitStructures(a_, architectures_.front()));
      if (!structures.empty()) {
        const Finalist split = Arithmetic(structures);
        if (split.differ < best.differ) best = split;
      }
    }
    lab_.lse = best.lse;
    lse_modelled_ = !has_lse_ || best.lse;
    return best.candidate;
  }

  // Blocks of the verification: all of them, or as many as the work allows.
  std::vector<int64_t> VerifyNumbers() const {
    std::vector<int64_t> numbers;
    double used = 0;
    for (const int64_t number : large_.Spread(large_.count())) {
      used += static_cast<double>(large_.Work(number));
      if (!numbers.empty() && used > options_.work) break;
      numbers.push_back(number);
    }
    return numbers;
  }

  // Rows that contradict the candidate, as blocks at the front of the sample.
  bool AddContradictions() {
    std::map<std::tuple<int64_t, int64_t, int64_t>, Part> fresh;
    for (const DifferentRow& row : verification_.different) {
      const int64_t begin = row.row / kSampleRows * kSampleRows;
      const int64_t end = std::min(begin + kSampleRows, problem_.queries(row.sequence));
      const std::tuple key(row.sequence, row.head, begin);
      if (!contradictions_.count(key)) fresh[key] = {row.sequence, {row.head, row.head + 1}, {begin, end}};
    }
    // Spread over the problem, when there are many.
    std::vector<Block> blocks;
    const size_t step = fresh.size() / kContradictions + 1;
    size_t n = 0;
    for (const auto& [key, part] : fresh) {
      if (n++ % step != 0) continue;
      contradictions_.insert(key);
      blocks.push_back(small_.Make(part));
    }
    sample_.insert(sample_.begin(), blocks.begin(), blocks.end());
    return !blocks.empty();
  }

  // The alternative that explains most more than the candidate does; null: none does.
  static const Weighed* Better(const std::vector<Weighed>& weighed) {
    const Weighed* best = nullptr;
    for (const Weighed& one : weighed) {
      if (one.worse > one.better && (!best || one.worse - one.better > best->worse - best->better)) best = &one;
    }
    return best;
  }

  bool SameOnSample(const Candidate& candidate, const std::vector<BlockBits>& bits) const {
    for (size_t n = 0; n < sample_.size(); ++n) {
      const BlockBits other = Simulate(candidate, sample_[n]);
      if (other.o != bits[n].o || (lab_.lse && other.lse != bits[n].lse)) return false;
    }
    return true;
  }

  // What cannot be told apart on the sample gets the values of a named kernel: one that gives the same bits with its
  // own tile, or one whose choices do with the tile that was found.
  void PreferNamed(Candidate& winner) {
    std::vector<BlockBits> bits;
    for (const Block& block : sample_) bits.push_back(Simulate(winner, block));
    named_.clear();
    like_.clear();
    const std::vector<Candidate> all = NamedCandidates(a_, winner.arch);
    for (const Candidate& named : all) {
      if (!refuted_.count(std::string(named.text->name)) && SameOnSample(named, bits)) named_.push_back(named);
    }
    for (size_t n = 0; named_.empty() && like_.empty() && n < all.size(); ++n) {
      Candidate other = winner;
      other.recipe = all[n].recipe;
      if (refuted_.count(other.recipe.name) || !SameOnSample(other, bits)) continue;
      like_ = other.recipe.name;
      winner = other;
    }
    if (named_.empty()) return;
    const Candidate& first = named_.front();
    winner.recipe = first.recipe;
    winner.tiling = first.tiling;
    const bool splits = first.tiling.splits > 1 || first.tiling.part_keys > 0;
    if (!splits && first.text->name != "standard" && first.text->name != "fa1") {
      winner.text = &sim::FindKernel("fa2");  // the same operations in the same order
    } else {
      winner.text = first.text;
    }
  }

  // Verifies, lets contradicting rows and all others weigh the alternatives, moves to a better one, until none is.
  void Settle(Candidate& winner) {
    const std::vector<int64_t> numbers = VerifyNumbers();
    for (int round = 0; round < kMostRounds; ++round) {
      Step("verification", 0.5, 0.7);
      verification_ = Verify(winner, large_, numbers, a_.format, lab_);
      if (!verification_.different.empty() && AddContradictions()) {
        Step("contradictions", 0.7, 0.75);
        const std::vector<Weighed> weighed =
            Weigh(winner, Alternatives(winner, architectures_), sample_, large_, {}, lab_);
        if (const Weighed* better = Better(weighed)) {
          winner = better->alternative.candidate;
          continue;
        }
      }
      PreferNamed(winner);
      Step("evidence", 0.75, 1);
      weighed_ = Weigh(winner, Alternatives(winner, architectures_), sample_, large_, numbers, lab_);
      const Weighed* better = Better(weighed_);
      if (better == nullptr) break;
      // Rows outside the sample have spoken against it.
      if (!named_.empty()) refuted_.insert(std::string(named_.front().text->name));
      if (!like_.empty()) refuted_.insert(like_);
      winner = better->alternative.candidate;
    }
    // The last move, or a named recipe, has not been verified yet.
    Step("verification", 1, 1);
    verification_ = Verify(winner, large_, numbers, a_.format, lab_);
  }

  std::vector<ChoiceEvidence> Evidence(const Candidate& winner) const {
    std::vector<ChoiceEvidence> all;
    for (const ChosenValue& chosen : Describe(winner, a_)) {
      ChoiceEvidence evidence{chosen.choice, chosen.value, chosen.meaning, "", 0, 0, {}};
      const Weighed* nearest = nullptr;
      for (const Weighed& weighed : weighed_) {
        if (weighed.alternative.choice != chosen.choice) continue;
        if (weighed.same) {
          evidence.same.push_back(weighed.alternative.value);
        } else if (!nearest || weighed.better - weighed.worse < nearest->better - nearest->worse) {
          nearest = &weighed;
        }
      }
      if (nearest) {
        evidence.nearest = nearest->alternative.value;
        evidence.decided_by = nearest->better;
        evidence.against = nearest->worse;
      }
      all.push_back(std::move(evidence));
    }
    return all;
  }

  Identification Report(const Candidate& winner) {
    Identification result;
    const Verification& v = verification_;
    result.verdict =
        v.different.empty() && lse_modelled_ ? Identification::Verdict::kExact : Identification::Verdict::kPartial;
    // The recipe file runs a named kernel's own text and tile where there is one.
    const Candidate& shown = named_.empty() ? winner : named_.front();
    result.recipe = {*shown.text, named_.empty() ? RunnableTiling(winner, a_) : shown.tiling, std::string(winner.arch)};
    result.recipe.kernel.recipe = winner.recipe;
    result.recipe.kernel.recipe.name = !named_.empty() ? std::string(shown.text->name)
                                       : like_.empty() ? "identified"
                                                       : like_;
    for (const Candidate& named : named_) result.named.emplace_back(named.text->name);
    result.like = like_;
    result.choices = Evidence(winner);
    result.lse_modelled = lse_modelled_;
    result.elements = v.elements, result.equal = v.equal;
    result.lse_rows = v.lse_rows, result.lse_equal = v.lse_equal;
    result.rows = v.rows;
    for (int64_t n = 0; n < large_.count(); ++n) result.all_rows += large_.Rows(n);
    result.unexplained = v.unexplained;
    result.rows_differ = static_cast<int64_t>(v.different.size());
    result.rows_one_or_two = std::ranges::count_if(
        v.different, [](const DifferentRow& row) { return row.elements == 1 || row.elements == 2; });
    result.hints = FindKeyHints(winner, large_, v);
    result.suggestions = Suggest(v, result.hints);
    result.simulations = lab_.simulations;
    result.structures_not_tried = not_tried_;
    return result;
  }

  const Problem& problem_;
  const Attention a_;
  const IdentifyOptions& options_;
  const bool has_lse_;
  const Blocks small_, large_;
  std::vector<std::string_view> architectures_;
  Lab lab_;
  std::vector<Block> sample_;
  std::set<std::tuple<int64_t, int64_t, int64_t>> contradictions_;
  Verification verification_;
  std::vector<Weighed> weighed_;
  std::vector<Candidate> named_;
  std::string like_;
  std::set<std::string> refuted_;
  bool lse_modelled_ = true;
  int64_t not_tried_ = 0;
};

}  // namespace

Identification Identify(const Problem& problem, const Outputs& outputs, const IdentifyOptions& options) {
  RequireModelled(problem, outputs);
  return Search(problem, outputs, options).Run();
}

}  // namespace bitflash::verify
