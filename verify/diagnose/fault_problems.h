// Problems as a kernel with a mistake of masks, scales or addresses reads them: the kernel itself is then right.
#ifndef BITFLASH_VERIFY_DIAGNOSE_FAULT_PROBLEMS_H_
#define BITFLASH_VERIFY_DIAGNOSE_FAULT_PROBLEMS_H_

#include <functional>

#include "verify/cases/problem.h"

namespace bitflash::verify {

Problem WithMask(Problem problem, const data::Mask& mask);

// The softmax scale, as the problem's scales of Q and K leave it.
Problem WithScale(Problem problem, double scale);

// Row i of every sequence sees keys j <= i + diagonal, whatever the mask was. Of sequences of one length only: keys
// past the last row's are cut off.
Problem WithDiagonal(const Problem& problem, int64_t diagonal);

// The diagonal of a causal mask, moved by `keys`: bottom-right for any lengths, top-left for sequences of one length.
Problem WithDiagonalMoved(const Problem& problem, int64_t keys);

// Columns [begin, head_dim) of Q are 0: Q K^T then has the bits of a product that ends at `begin`.
Problem WithColumnsCut(const Problem& problem, int64_t begin);

// Row r of head h of sequence b of K and V is that of row source(b, h, r) of the tensor as a list of rows.
using RowSource = std::function<int64_t(int64_t sequence, int64_t head, int64_t row)>;
Problem WithKeyRows(const Problem& problem, const RowSource& source);

// Query head h reads KV head map(h): K and V with one head for every query head.
Problem WithHeadMap(const Problem& problem, const std::function<int64_t(int64_t)>& map);

// Element e of K and V is element e mod 2^n, 2^n being the largest power of two below the number of elements: what an
// offset of 32 bits does to tensors of more than 2^32 elements, on a tensor of any size.
Problem WithOffsetsWrapped(const Problem& problem);

// Q, K and V read as [batch, seqlen, heads, head_dim].
Problem ReadAsBshd(const Problem& problem);

// Q, K and V as rows of one packed tensor [batch, heads, seqlen, 3, head_dim] read without its row stride. All three
// must have the same shape.
Problem ReadPackedWithoutStride(const Problem& problem);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_FAULT_PROBLEMS_H_
