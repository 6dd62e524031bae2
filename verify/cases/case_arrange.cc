#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "data/error.h"
#include "verify/cases/case_extents.h"
#include "verify/cases/case_layout.h"

namespace bitflash::verify {
namespace {

using data::InputError;
using data::Tensor;

// Sequences of a packed tensor: where each begins, and how many rows of it are used.
struct Sequences {
  std::vector<int64_t> begin, length;

  int64_t longest() const { return length.empty() ? 0 : *std::max_element(length.begin(), length.end()); }
};

class Arranger {
 public:
  Arranger(const LaidOut& tensors, const Reading& reading, std::string_view origin)
      : t_(tensors), reading_(reading), origin_(origin), batch_(BatchOf(tensors, reading.q, reading.kv)) {}

  Arranged Run() {
    if (t_.seqlens_q) RequireLengths("seqlens_q", *t_.seqlens_q);
    if (t_.seqlens_k) RequireLengths("seqlens_k", *t_.seqlens_k);
    ArrangeQueries();
    ArrangeKeys();
    if (t_.lse) ArrangeLse();
    // Lengths that are all the tensor's say nothing.
    const auto drop = [](std::vector<int64_t>& lengths, int64_t extent) {
      if (std::all_of(lengths.begin(), lengths.end(), [&](int64_t x) { return x == extent; })) lengths.clear();
    };
    drop(result_.seqlens_q, result_.q.shape()[2]);
    drop(result_.seqlens_k, result_.k.shape()[2]);
    return result_;
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const { throw InputError(fmt::format("{}: {}", origin_, what)); }

  void RequireLengths(const char* name, const std::vector<int64_t>& lengths) const {
    for (const int64_t length : lengths) {
      if (length < 0) Fail(fmt::format("{} has an entry {}: expected 0 or more", name, length));
    }
  }

  // The sequences of a packed tensor with `total` rows.
  Sequences SequencesOf(char which, int64_t total, const std::optional<std::vector<int64_t>>& starts,
                        const std::optional<std::vector<int64_t>>& used) {
    std::vector<int64_t> cu;
    if (starts) {
      cu = *starts;
    } else if (which == 'q' && batch_ == total) {
      for (int64_t b = 0; b <= batch_; ++b) cu.push_back(b);
      if (batch_ > 1) result_.assumptions.push_back("one query row a sequence: there is no cu_seqlens_q");
    } else if (batch_ == 1) {
      cu = {0, total};
      result_.assumptions.push_back(fmt::format("one sequence: there is no cu_seqlens_{}", which));
    } else {
      Fail(fmt::format("{} holds {} rows of {} sequences one after the other: expected cu_seqlens_{}", which, total,
                       batch_, which));
    }
    const std::string name = fmt::format("cu_seqlens_{}", which);
    if (cu.front() != 0) Fail(fmt::format("{} begins with {}: expected 0", name, cu.front()));
    Sequences result;
    for (size_t b = 0; b + 1 < cu.size(); ++b) {
      if (cu[b + 1] < cu[b]) {
        Fail(fmt::format("{} falls from {} to {} at entry {}: expected that it never falls", name, cu[b], cu[b + 1],
                         b + 1));
      }
      if (cu[b + 1] > total) {
        Fail(fmt::format("{} has an entry {}: expected at most {}, the rows of {}", name, cu[b + 1], total, which));
      }
      result.begin.push_back(cu[b]);
      result.length.push_back(cu[b + 1] - cu[b]);
      if (!used) continue;
      if ((*used)[b] > result.length.back()) {
        Fail(fmt::format("seqlens_{} has an entry {}: expected at most {}, the rows of sequence {} by {}", which,
                         (*used)[b], result.length.back(), b, name));
      }
      result.length.back() = (*used)[b];
    }
    if (cu.back() < total) {
      result_.assumptions.push_back(fmt::format("the last {} rows of {} belong to no sequence: {} ends with {}",
                                                total - cu.back(), which, name, cu.back()));
    }
    return result;
  }

  Tensor Padded(const char* name, const Tensor& like, int64_t heads, int64_t longest, int64_t dim) const {
    constexpr int64_t kMostBytes = int64_t{1} << 36;
    const int64_t row = heads * dim * like.type().bytes();  // of a tensor that exists
    if (longest > 0 && batch_ > kMostBytes / row / longest) {
      Fail(fmt::format("{} would need more than 2^36 bytes as [{}, {}, {}, {}]: expected a smaller problem", name,
                       batch_, heads, longest, dim));
    }
    return Tensor::Zeros(like.type(), {batch_, heads, longest, dim});
  }

  // [total, heads, dim] -> [batch, heads, longest, dim].
  Tensor Unpacked(const char* name, const Tensor& packed, const Sequences& sequences) const {
    const Tensor from = packed.Contiguous();
    const int64_t heads = packed.shape()[1], dim = packed.shape()[2], bytes = dim * packed.type().bytes();
    const int64_t longest = sequences.longest();
    Tensor to = Padded(name, packed, heads, longest, dim);
    const std::byte* in = from.ContiguousBytes().data();
    std::byte* out = to.ContiguousBytes().data();
    for (int64_t b = 0; b < batch_; ++b) {
      for (int64_t s = 0; s < sequences.length[b]; ++s) {
        for (int64_t h = 0; h < heads; ++h) {
          std::memcpy(out + ((b * heads + h) * longest + s) * bytes,
                      in + ((sequences.begin[b] + s) * heads + h) * bytes, bytes);
        }
      }
    }
    return to;
  }

  static Tensor ToBhsd(const Tensor& tensor, CaseLayout layout) {
    const data::Layout from = layout == CaseLayout::kBhsd ? data::Layout::kBhsd : data::Layout::kBshd;
    return tensor.ToLayout(from, data::Layout::kBhsd).Contiguous();
  }

  void ArrangeQueries() {
    if (reading_.q != CaseLayout::kThd) {
      if (t_.cu_seqlens_q) {
        Fail(fmt::format("cu_seqlens_q goes with q of [total, heads, head_dim], but q has the shape {}",
                         data::ShapeString(t_.q.shape())));
      }
      result_.q = ToBhsd(t_.q, reading_.q);
      if (t_.o) result_.o = ToBhsd(*t_.o, reading_.q);
      if (t_.seqlens_q) result_.seqlens_q = *t_.seqlens_q;
      return;
    }
    packed_q_ = SequencesOf('q', t_.q.shape()[0], t_.cu_seqlens_q, t_.seqlens_q);
    if (packed_q_.longest() == 0) Fail("no sequence has a query: expected a row at least");
    result_.q = Unpacked("q", t_.q, packed_q_);
    if (t_.o) result_.o = Unpacked("o", *t_.o, packed_q_);
    result_.seqlens_q = packed_q_.length;
  }

  void ArrangeKeys() {
    if (t_.block_table) return GatherPages();
    if (reading_.kv != CaseLayout::kThd) {
      if (t_.cu_seqlens_k) {
        Fail(fmt::format("cu_seqlens_k goes with k of [total, heads, head_dim], but k has the shape {}",
                         data::ShapeString(t_.k.shape())));
      }
      result_.k = ToBhsd(t_.k, reading_.kv);
      if (t_.v) result_.v = ToBhsd(*t_.v, reading_.kv);
      if (t_.seqlens_k) result_.seqlens_k = *t_.seqlens_k;
      return;
    }
    auto starts = t_.cu_seqlens_k;
    const int64_t total = t_.k.shape()[0];
    if (!starts && batch_ > 1 && t_.cu_seqlens_q && t_.q.shape()[0] == total) {
      starts = t_.cu_seqlens_q;
      result_.assumptions.push_back("cu_seqlens_k is cu_seqlens_q: q and k have equally many rows");
    }
    const Sequences sequences = SequencesOf('k', total, starts, t_.seqlens_k);
    result_.k = Unpacked("k", t_.k, sequences);
    if (t_.v) result_.v = Unpacked("v", *t_.v, sequences);
    result_.seqlens_k = sequences.length;
  }

  void GatherPages() {
    if (!t_.seqlens_k) Fail("block_table is given but not seqlens_k: expected how many keys each sequence has");
    const std::vector<int64_t> table = data::ToIntegers(*t_.block_table);
    result_.seqlens_k = *t_.seqlens_k;
    result_.k = Gathered("k", t_.k, table);
    if (t_.v) result_.v = Gathered("v", *t_.v, table);
  }

  // Pages -> [batch, heads, longest, dim]. Entries of the table behind a sequence's last page are not looked at.
  Tensor Gathered(const char* name, const Tensor& pages, const std::vector<int64_t>& table) const {
    const Tensor from = ToBhsd(pages, reading_.kv);  // [pages, heads, page_size, dim]
    const int64_t count = from.shape()[0], heads = from.shape()[1], page_size = from.shape()[2], dim = from.shape()[3];
    const int64_t bytes = dim * from.type().bytes(), width = t_.block_table->shape()[1];
    const std::vector<int64_t>& lengths = result_.seqlens_k;
    const int64_t longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
    Tensor to = Padded(name, from, heads, longest, dim);
    const std::byte* in = from.ContiguousBytes().data();
    std::byte* out = to.ContiguousBytes().data();
    for (int64_t b = 0; b < batch_; ++b) {
      for (int64_t first = 0; first < lengths[b]; first += page_size) {
        const int64_t slot = first / page_size, page = table[b * width + slot];
        if (page < 0 || page >= count) {
          Fail(fmt::format("block_table has the entry {} at {}: expected a page of {} from 0 to {}", page,
                           data::ShapeString(std::vector<int64_t>{b, slot}), name, count - 1));
        }
        const int64_t rows = std::min(page_size, lengths[b] - first);
        for (int64_t h = 0; h < heads; ++h) {
          std::memcpy(out + ((b * heads + h) * longest + first) * bytes, in + (page * heads + h) * page_size * bytes,
                      rows * bytes);
        }
      }
    }
    return to;
  }

  void ArrangeLse() {
    const LseForm form = *FindLseForm(t_, reading_.q, batch_);
    if (reading_.q != CaseLayout::kThd) {
      result_.lse = form == LseForm::kRowsFirst ? t_.lse->Permuted({0, 2, 1}).Contiguous() : t_.lse->Contiguous();
      return;
    }
    const int64_t heads = t_.q.shape()[1], longest = packed_q_.longest();
    if (form == LseForm::kPadded) {
      if (t_.lse->shape()[2] < longest) {
        Fail(fmt::format("lse has the shape {}: expected {} rows or more, the longest sequence",
                         data::ShapeString(t_.lse->shape()), longest));
      }
      result_.lse = t_.lse->Slice(2, 0, longest).Contiguous();
      return;
    }
    const Tensor rows_first = form == LseForm::kHeadsFirst ? t_.lse->Permuted({1, 0}) : *t_.lse;
    const Tensor packed = rows_first.Contiguous().Reshaped({t_.q.shape()[0], heads, 1});
    result_.lse = Unpacked("lse", packed, packed_q_).Reshaped({batch_, heads, longest});
  }

  const LaidOut& t_;
  const Reading& reading_;
  std::string_view origin_;
  int64_t batch_;
  Sequences packed_q_;  // of kThd
  Arranged result_;
};

}  // namespace

Arranged Arrange(const LaidOut& tensors, const Reading& reading, std::string_view origin) {
  return Arranger(tensors, reading, origin).Run();
}

}  // namespace bitflash::verify
