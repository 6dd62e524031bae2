// Tensors as users have them, made a case: any file format that data/ reads, any of the layouts that attention
// libraries use, found out from the shapes where nobody says which.
//
// Names (synonyms in brackets), in one file or one file each:
//   q [query], k [key, k_cache, key_cache], v [value, v_cache, value_cache], o [out, output], lse [softmax_lse]
//   cu_seqlens_q, cu_seqlens_k   [batch + 1], integers: where each sequence starts in q [total_q, heads, head_dim]
//   seqlens_q [seqused_q], seqlens_k [seqused_k, cache_seqlens, seq_lens]   [batch], integers: the rows and keys in use
//   block_table [block_tables, page_table]   [batch, pages a sequence], integers: the pages of k and v, in order
//   sinks [s_aux]   [heads_q]
//   softmax_scale [scale], softcap, q_scale [q_descale], k_scale [...], v_scale [...]   one number each, or all the
//   same
// __metadata__ of a .safetensors file may hold what case.h lists, and layout, kv_layout, dtype, o_dtype.
#ifndef BITFLASH_VERIFY_CASES_CASE_INPUT_H_
#define BITFLASH_VERIFY_CASES_CASE_INPUT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/cases/case.h"
#include "verify/cases/case_layout.h"

namespace bitflash::verify {

// What the user says of the tensors. It wins over what a file says.
struct CaseHints {
  std::optional<CaseLayout> layout;           // of q and o, and of k and v unless kv_layout is given
  std::optional<CaseLayout> kv_layout;        // of k and v; with a block_table that of one page
  std::optional<data::Format> format;         // of q, k and v, where files hold bit patterns (u8, u16, NumPy's V2)
  std::optional<data::Format> output_format;  // of o, likewise
  std::optional<data::Mask> mask;
  std::optional<double> softmax_scale, softcap, q_scale, k_scale, v_scale;
  std::optional<int64_t> v_in_k;  // V is the first so many columns of K (latent attention)
};

struct CaseInput {
  Case saved;
  // What was not said, and the value taken: "mask full: nothing says which". Sentences for the user.
  std::vector<std::string> assumptions;
  // The layouts of q in which the tensors would fit together as well; empty where there is only the one taken.
  std::vector<CaseLayout> alternatives;
};

// The problem in bhsd, padded, and the outputs likewise. Throws InputError that begins with `origin` and names the
// tensor, its shape and what was expected; UndecidedError for scales that differ within a tensor.
CaseInput CaseFromTensors(const data::TensorFile& file, std::string_view origin, const CaseHints& hints = {});

// A file, and which of its tensors is meant.
struct NamedFile {
  std::string tensor;  // "q": the file's only tensor is this one; "": all tensors of the file, by their names
  std::string path;
};

// The tensors of all files together. A named one replaces that of a file read as a whole, and where o is replaced the
// file's lse, which came with the old o, is left out. Throws InputError.
CaseInput ReadCaseInput(const std::vector<NamedFile>& files, const CaseHints& hints = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_CASE_INPUT_H_
