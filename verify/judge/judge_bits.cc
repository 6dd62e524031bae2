#include "verify/judge/judge_bits.h"

#include "data/error.h"
#include "verify/identify/identify.h"

namespace bitflash::verify {
namespace {

void Accumulate(std::optional<Difference>& into, const Difference& more) {
  if (!into) {
    into = more;
    return;
  }
  into->elements += more.elements;
  into->a_nan += more.a_nan;
  into->b_nan += more.b_nan;
  into->kind_differs += more.kind_differs;
  if (into->bits_differ == 0) into->first = more.first;
  into->bits_differ += more.bits_differ;
  if (more.max_ulps > into->max_ulps) into->max_ulps = more.max_ulps, into->worst_ulps = more.worst_ulps;
  if (more.max_abs > into->max_abs) into->max_abs = more.max_abs, into->worst_abs = more.worst_abs;
}

// Indices of the whole problem in place of those of a part.
void Shift(ElementPair& pair, const Part& part) {
  if (pair.index.empty()) return;
  pair.index[0] += part.sequence;
  pair.index[1] += part.heads.begin;
  pair.index[2] += part.rows.begin;
}

void Shift(Difference& d, const Part& part) {
  for (ElementPair* pair : {&d.first_kind, &d.first, &d.worst_ulps, &d.worst_abs, &d.worst_rel}) Shift(*pair, part);
}

}  // namespace

std::string KernelText(const SimulatedKernel& kernel) {
  return std::string(kernel.kernel->name) + " (" + ToString(kernel.tiling) + ", " + kernel.arch + ")";
}

void AddAgreement(BitAgreement& agreement, std::optional<Difference>& o, const Part& part, const Outputs& mine,
                  const Outputs& simulated) {
  Difference difference = Compare(mine.o, simulated.o);
  agreement.elements += difference.elements;
  agreement.differ += difference.bits_differ;
  Shift(difference, part);
  Accumulate(o, difference);
  if (!mine.lse || !simulated.lse) return;
  Difference lse = Compare(*mine.lse, *simulated.lse);
  agreement.elements += lse.elements;
  agreement.differ += lse.bits_differ;
  Shift(lse, part);
  Accumulate(agreement.lse, lse);
}

bool KeepsBits(const SimulatedKernel& kernel, const Problem& whole, const Part& part, const Problem& cut) {
  return kernel.tiling.splits == 1 || cut.attention.seqlen_k == whole.keys(part.sequence);
}

std::optional<BitAgreement> FindVariant(const Problem& p, const Outputs& outputs, const JudgeOptions& options) try {
  IdentifyOptions search;
  search.work = options.variant_work;
  const Identification found = Identify(p, outputs, search);
  if (found.verdict != Identification::Verdict::kExact) return std::nullopt;
  BitAgreement agreement;
  agreement.kernel = found.named.empty() ? "a recipe of the text of " + std::string(found.recipe.kernel.name) + " (" +
                                               ToString(found.recipe.tiling) + ", " + found.recipe.arch + ")"
                                         : found.named.front();
  agreement.elements = found.elements + found.lse_rows;
  agreement.differ = agreement.elements - found.equal - found.lse_equal;
  if (found.rows < found.all_rows) {
    agreement.reason = std::to_string(found.rows) + " of " + std::to_string(found.all_rows) + " rows were compared";
  }
  return agreement;
} catch (const data::UndecidedError&) {
  return std::nullopt;  // not modelled to the bit
}

}  // namespace bitflash::verify
