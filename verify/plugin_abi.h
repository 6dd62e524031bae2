/* The interface between bitflash and a kernel that is to be judged: a shared library that exports one function,
 * bitflash_plugin_entry. This header is all it needs; it is C99 and C++, and knows nothing of CUDA: a plug-in whose
 * kernel runs on a GPU copies its inputs there and its outputs back.
 *
 * Process. bitflash never loads a plug-in into itself. A small process of its own, bitflash-plugin-host, loads it and
 * calls entry, init once, then supports and forward for every problem, and destroy at the end, when it ends in order.
 * All calls come from one thread of it, the same one, one at a time. The plug-in may start threads and processes; all
 * are killed at the end. A crash, exit() or a call that takes too long ends that process and is reported; the next
 * problem gets a fresh one. What the plug-in prints is captured and quoted in error messages.
 *
 * Memory. Pointers are valid during the call they are given to, not afterwards. Inputs (q, k, v, the lengths, sinks)
 * are mapped read-only and cannot be made writable. Every tensor has a mapping of its own between inaccessible pages,
 * so that an access beyond it crashes; the few bytes that alignment leaves there and gaps between rows are checked.
 * Outputs come filled with NaNs: what is left unwritten is seen. Inputs are NaN where no result may depend on them.
 *
 * Floating point. The control word (MXCSR and the x87's, FPCR) is the default of a new process before every call:
 * nearest even, subnormals kept. A change that a call leaves behind is undone and reported.
 *
 * Versions. A major version changes the meaning of something; the entry function may serve several. A minor version
 * appends members to structs. Each struct begins with, or holds, its size: read a member only when struct_size, which
 * the side that made the struct sets to its sizeof, covers it. */
#ifndef BITFLASH_VERIFY_PLUGIN_ABI_H_
#define BITFLASH_VERIFY_PLUGIN_ABI_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BITFLASH_PLUGIN_ABI_MAJOR 1u
#define BITFLASH_PLUGIN_MAX_DIMS 6

/* What init, supports and forward return. Any other positive number is taken for an error, too. */
#define BITFLASH_PLUGIN_OK 0
#define BITFLASH_PLUGIN_UNSUPPORTED 1 /* not a failure: the problem is skipped, counted and shown */
#define BITFLASH_PLUGIN_ERROR (-1)    /* or any negative number; last_error may say more */

/* Element types. Little-endian; 2 bytes for fp16 and bf16, 1 for e4m3 (OCP "fn", no infinities) and e5m2. */
enum {
  BITFLASH_DTYPE_FP32 = 1,
  BITFLASH_DTYPE_FP16 = 2,
  BITFLASH_DTYPE_BF16 = 3,
  BITFLASH_DTYPE_E4M3 = 4,
  BITFLASH_DTYPE_E5M2 = 5
};

/* Bits of bitflash_tensor.flags. Ignore bits that you do not know. */
enum {
  BITFLASH_TENSOR_READ_ONLY = 1 /* data is mapped read-only */
};

/* Elements in memory. The plug-in never writes this struct, and writes what data points at only for outputs. */
typedef struct bitflash_tensor {
  uint32_t struct_size;
  uint16_t dtype; /* BITFLASH_DTYPE_... */
  uint16_t ndim;  /* used entries of shape and stride: 4 for q, k, v, o and 3 for lse */
  uint32_t flags;
  uint32_t reserved; /* 0 */
  /* Element (0, 0, ...), in host memory, aligned to 16 bytes or more. Rows are aligned to what the strides make of
   * that. Not to be dereferenced when an extent is 0. */
  void* data;
  /* q [batch, heads_q, seqlen_q, head_dim]        k [batch, heads_kv, seqlen_k, head_dim]
   * o [batch, heads_q, seqlen_q, head_dim_v]      v [batch, heads_kv, seqlen_k, head_dim_v]
   * lse [batch, heads_q, seqlen_q], fp32
   * The order of the indices is always this one; where the sequence comes before the heads in memory, strides say so.
   * heads_q is a multiple of heads_kv, and query head h reads KV head h / (heads_q / heads_kv). Extents are at least
   * 1, but seqlen_k may be 0. */
  int64_t shape[BITFLASH_PLUGIN_MAX_DIMS];
  /* In elements. That of the last dimension is 1, the others are positive; there may be gaps between rows. */
  int64_t stride[BITFLASH_PLUGIN_MAX_DIMS];
} bitflash_tensor;

/* Values of bitflash_attention.mask. Row i of a sequence with n_q queries sees key j of its n_k keys: */
enum {
  BITFLASH_MASK_NONE = 0,           /* always */
  BITFLASH_MASK_CAUSAL = 1,         /* j <= i + n_k - n_q: bottom-right, as FlashAttention 2.1 and later */
  BITFLASH_MASK_CAUSAL_TOP_LEFT = 2 /* j <= i */
};

/* What to compute:
 *   s(i,j) = scale * q_scale * k_scale * sum_c q(i,c) k(j,c), then softcap * tanh(s / softcap) when softcap > 0
 *   o(i,:) = v_scale * sum_j exp(s(i,j)) v(j,:) / z(i)     lse(i) = log z(i)     z(i) = sum_j exp(s(i,j)) [+ exp(sink)]
 * over the keys j that row i sees. A row that sees no key has o = 0 and lse = -inf (with a sink: lse = sink). */
typedef struct bitflash_attention {
  uint32_t struct_size;
  uint32_t mask; /* BITFLASH_MASK_... */
  /* In keys; -1: this side does not limit. Row i sees only i + n_k - n_q - window_left <= j <= i + n_k - n_q +
   * window_right, besides what mask says. */
  int64_t window_left;
  int64_t window_right;
  double scale;   /* finite and positive */
  double softcap; /* 0: none */
  double q_scale; /* the value of an element is its bits' value times this; 1 except for fp8 */
  double k_scale;
  double v_scale;
  /* Queries and keys of each sequence, [batch], or null: all have seqlen_q, seqlen_k. What lies beyond in q, k and v is
   * padding and holds NaNs; rows beyond in o and lse may be written or not. */
  const int64_t* seqlens_q;
  const int64_t* seqlens_k;
  const double* sinks; /* [heads_q], natural-log units, one a query head; or null */
  /* A paged cache: k and v are [pages, heads_kv, page_size, head_dim], and key j of sequence b lies in page
   * block_table[b * block_table_columns + j / page_size], row j % page_size. This version always passes null, 0, 0. */
  const int32_t* block_table;
  int64_t block_table_columns;
  int64_t page_size;
  uint64_t seed;      /* for kernels with random choices: the same seed must give the same bits */
  int64_t num_splits; /* parts of a split-KV kernel; 0: the plug-in's choice */
} bitflash_attention;

/* A plug-in. The table and its strings stay valid and unchanged until the process ends. Members up to forward are
 * needed; the later ones may be null, or lie beyond struct_size. */
typedef struct bitflash_plugin {
  uint32_t abi_major; /* the BITFLASH_PLUGIN_ABI_MAJOR that the plug-in speaks */
  uint32_t struct_size;
  const char* name;    /* UTF-8, for people: "my-attention" */
  const char* version; /* "1.2.0" */

  /* Called once, first. Whatever *self is set to is handed to the other functions; it is null before. json: the text
   * that the user gave, "{}" when none; the plug-in reads it as it likes. UNSUPPORTED: not on this machine (no GPU). */
  int (*init)(void** self, const char* json);

  /* Computes o, and lse unless that is null. A plug-in that has no lse leaves all of it unwritten. o has the dtype that
   * the user asked for. Outputs are read as soon as the function returns: synchronise before. */
  int (*forward)(void* self, const bitflash_attention* attention, const bitflash_tensor* q, const bitflash_tensor* k,
                 const bitflash_tensor* v, const bitflash_tensor* o, const bitflash_tensor* lse);

  /* Optional; called before forward with the same arguments. OK or UNSUPPORTED, by types, shapes, strides and
   * attention alone, never by what the tensors hold. */
  int (*supports)(void* self, const bitflash_attention* attention, const bitflash_tensor* q, const bitflash_tensor* k,
                  const bitflash_tensor* v, const bitflash_tensor* o, const bitflash_tensor* lse);

  /* Optional; called after a function returned something else than OK: one line that says why, UTF-8, or null. Valid
   * until the next call. self is null when init failed without setting it. */
  const char* (*last_error)(void* self);

  /* Optional; called once, last, when the process ends in order and init returned OK. */
  void (*destroy)(void* self);
} bitflash_plugin;

#define BITFLASH_PLUGIN_EXPORT __attribute__((visibility("default")))

/* What the library exports. host_abi_major is BITFLASH_PLUGIN_ABI_MAJOR of bitflash; null: this plug-in cannot serve
 * it. Must not throw; nor may any function above. */
BITFLASH_PLUGIN_EXPORT const bitflash_plugin* bitflash_plugin_entry(uint32_t host_abi_major);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BITFLASH_VERIFY_PLUGIN_ABI_H_ */
