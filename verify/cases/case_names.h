// What the tensors of a case are called in files.
#ifndef BITFLASH_VERIFY_CASES_CASE_NAMES_H_
#define BITFLASH_VERIFY_CASES_CASE_NAMES_H_

#include <string>
#include <vector>

namespace bitflash::verify {

// The names of one tensor, ours first.
struct Synonyms {
  std::vector<std::string> names;
};
inline const Synonyms kQ{{"q", "query"}};
inline const Synonyms kK{{"k", "key", "k_cache", "key_cache"}};
inline const Synonyms kV{{"v", "value", "v_cache", "value_cache"}};
inline const Synonyms kO{{"o", "out", "output"}};
inline const Synonyms kLse{{"lse", "softmax_lse"}};
inline const Synonyms kCuQ{{"cu_seqlens_q"}};
inline const Synonyms kCuK{{"cu_seqlens_k"}};
inline const Synonyms kSeqlensQ{{"seqlens_q", "seqused_q"}};
inline const Synonyms kSeqlensK{{"seqlens_k", "seqused_k", "cache_seqlens", "seq_lens"}};
inline const Synonyms kBlockTable{{"block_table", "block_tables", "page_table"}};
inline const Synonyms kSinks{{"sinks", "s_aux"}};
inline const Synonyms kScale{{"softmax_scale", "scale"}};
inline const Synonyms kSoftcap{{"softcap"}};
inline const Synonyms kQScale{{"q_scale", "q_descale"}};
inline const Synonyms kKScale{{"k_scale", "k_descale"}};
inline const Synonyms kVScale{{"v_scale", "v_descale"}};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_CASE_NAMES_H_
