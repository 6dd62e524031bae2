// A saved case: a problem, what a kernel gave for it, and what is known of how. One safetensors file, so that every
// framework can read it, replay it, and attach it to a report.
//
// Tensors, as bitflash writes them (other layouts are read too, see case_input.h):
//   q [batch, heads_q, seqlen_q, head_dim], k [batch, heads_kv, seqlen_k, head_dim], v [..., head_dim_v]
//   o [batch, heads_q, seqlen_q, head_dim_v], lse [batch, heads_q, seqlen_q] fp32     if a kernel ran
//   seqlens_q, seqlens_k [batch] i64                                                  if sequences differ in length
//   sinks [heads_q] fp64                                                              if there are sinks
// __metadata__, strings:
//   version "bitflash.case/1", layout "bhsd", mask as data::ToString, scale (of the softmax), softcap, q_scale,
//   k_scale, v_scale as hexadecimal floats, v_in_k (head_dim_v, when V is the first columns of K and there is no tensor
//   v); and any others, the notes: kernel, tile, splits, seed, producer, gpu, driver, cuda, ...
#ifndef BITFLASH_VERIFY_CASES_CASE_H_
#define BITFLASH_VERIFY_CASES_CASE_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "data/byte_source.h"
#include "data/tensor_map.h"
#include "verify/cases/problem.h"

namespace bitflash::verify {

inline constexpr std::string_view kCaseVersion = "bitflash.case/1";

struct Case {
  Problem problem;
  std::optional<Outputs> observed;           // what some kernel gave
  std::map<std::string, std::string> notes;  // "kernel", "tile", "splits", "seed", "producer", "gpu", ...
};

// The tensors and strings of the file. softmax_scale is written even where it has its default. Throws UsageError for
// an invalid problem, outputs of another shape, and a note with one of the names above.
data::TensorFile ToTensorFile(const Case& saved);

// Writes the file atomically, whatever its extension. Throws as ToTensorFile; InputError when it cannot be written.
void WriteCase(const std::string& path, const Case& saved);

// A file that says it is a case (version above) and in which layout. Throws InputError that names the file and the
// tensor or string that is missing or wrong, its value and what was expected. ReadCaseInput (case_input.h) reads these
// and everything else.
Case ReadCase(const std::string& path);

// The same from the bytes of a file; `source.origin()` stands for the path.
Case ParseCase(const data::ByteSource& source);

// True for the names of __metadata__ that say what the problem is and hence cannot be notes.
bool IsCaseField(std::string_view key);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_CASE_H_
