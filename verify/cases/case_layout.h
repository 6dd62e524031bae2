// The layouts in which attention libraries keep Q, K, V, O and LSE, told apart by the shapes of the tensors, and
// brought into the one that Problem has.
#ifndef BITFLASH_VERIFY_CASES_CASE_LAYOUT_H_
#define BITFLASH_VERIFY_CASES_CASE_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tensor.h"

namespace bitflash::verify {

enum class CaseLayout : uint8_t {
  kBhsd,  // [batch, heads, seqlen, head_dim]; of a page: [pages, heads, page_size, head_dim] (FlashInfer's HND)
  kBshd,  // [batch, seqlen, heads, head_dim]; of a page: [pages, page_size, heads, head_dim] (NHD)
  kThd,   // [total, heads, head_dim], sequences one after the other; cu_seqlens says where each starts
};

// "bhsd", "bshd", "thd"; ParseCaseLayout throws UsageError with the accepted names.
std::string_view Name(CaseLayout layout);
CaseLayout ParseCaseLayout(std::string_view name);

// Tensors in the layout of their file.
struct LaidOut {
  data::Tensor q, k;
  std::optional<data::Tensor> v, o, lse;
  std::optional<std::vector<int64_t>> cu_seqlens_q, cu_seqlens_k, seqlens_q, seqlens_k;
  std::optional<data::Tensor> block_table;  // integers: k and v are pages
  std::optional<int64_t> sinks;             // their number, which is heads_q
};

// How they are to be read.
struct Reading {
  CaseLayout q = CaseLayout::kBhsd;      // of q and o
  CaseLayout kv = CaseLayout::kBhsd;     // of k and v
  std::string reason;                    // "layout bshd: q is (2, 1000, 32, 128), ...": a sentence for the user
  std::vector<CaseLayout> alternatives;  // other layouts of q that fit as well
};

// The reading that the layouts said and the shapes allow: heads_q a multiple of heads_kv, the same sequences in all
// tensors, o and lse as large as q. Where several fit, the likelier one, by the form of lse, by lengths that fill the
// tensors, by the number of heads; bhsd where nothing distinguishes. Throws InputError with the tensors and shapes that
// contradict each other when none fits; `origin` begins the message.
Reading FindReading(const LaidOut& tensors, std::optional<CaseLayout> q, std::optional<CaseLayout> kv,
                    std::string_view origin);

// Contiguous: q, o [batch, heads_q, seqlen_q, ...], k, v [batch, heads_kv, seqlen_k, ...], lse [batch, heads_q,
// seqlen_q]; sequences of thd and of pages are padded with zeros to the longest.
struct Arranged {
  data::Tensor q, k;
  std::optional<data::Tensor> v, o, lse;
  std::vector<int64_t> seqlens_q, seqlens_k;  // empty where all are as long as the tensor
  std::vector<std::string> assumptions;
};

// Throws InputError: lengths and starts that do not fit the tensors, pages that do not exist, a padded form of more
// than 2^36 bytes.
Arranged Arrange(const LaidOut& tensors, const Reading& reading, std::string_view origin);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_CASE_LAYOUT_H_
