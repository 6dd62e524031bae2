/* bitflash from C, and from every language that can call C: counting, simulating, the fp64 truth, comparing.
 *
 * Link libbitflash.so: find_package(bitflash COMPONENTS c) and bitflash::c, or pkg-config bitflash. A complete program
 * is verify/examples/c_api_example.c.
 *
 * Structs. Each begins with struct_size, which the caller sets to sizeof the struct; every other field may be left 0
 * and then has the default that stands beside it: `bitflash_problem p = {.struct_size = sizeof p};`. A struct that is
 * shorter than the library's comes from an older header: the fields that it lacks count as 0, and are not written. A
 * longer one is taken as long as what the library does not know is 0.
 *
 * Errors. Functions that can fail return a bitflash_status; then bitflash_last_error() says, for this thread, which
 * value is wrong, what was expected and which values are accepted. A failed call writes nothing to its results, except
 * that *count becomes NULL and that O and LSE may be written in part. The library never throws, prints or exits; NULL
 * where something is needed is BITFLASH_USAGE.
 *
 * Threads. Every function may be called by several threads at once; a bitflash_count is read-only once it is made.
 * Rounding mode and flush-to-zero of the calling program decide no bit, and are left as they were.
 */
#ifndef BITFLASH_VERIFY_C_API_H_
#define BITFLASH_VERIFY_C_API_H_

#include <stdint.h>

/* The version of this interface, which is not the library's. The major number grows when a compiled client would break
 * (and with it the name libbitflash.so.<major>), the minor one when something is added. */
#define BITFLASH_ABI_MAJOR 1
#define BITFLASH_ABI_MINOR 0
#define BITFLASH_ABI_VERSION (BITFLASH_ABI_MAJOR * 1000 + BITFLASH_ABI_MINOR)

#if defined(__GNUC__)
#define BITFLASH_API __attribute__((visibility("default")))
#else
#define BITFLASH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Versions and errors ---------------------------------------------------------------------------------------- */

/* The numbers 2 to 6 are those of the command line's exit codes. */
typedef enum bitflash_status {
  BITFLASH_OK = 0,
  BITFLASH_USAGE = 2,         /* an argument is wrong */
  BITFLASH_INPUT = 3,         /* a file (of a GPU) cannot be read or its content is invalid */
  BITFLASH_UNDECIDED = 5,     /* well-formed, but not modelled to the bit: nothing was simulated */
  BITFLASH_INTERNAL = 6,      /* a defect of bitflash */
  BITFLASH_OUT_OF_MEMORY = 7, /* also: more memory than an address can name */
  BITFLASH_CANCELLED = 8      /* the progress callback asked for it */
} bitflash_status;

/* BITFLASH_ABI_VERSION of the library that is loaded. */
BITFLASH_API int bitflash_abi_version(void);

/* "0.1.0": the library's version. Simulated bits and counted bytes may change from one to the next (CHANGELOG.md). */
BITFLASH_API const char* bitflash_version(void);

/* The message of this thread's last call that failed; "" before the first. Valid until this thread's next failure. At
 * most 2047 bytes; a longer message ends in "...". */
BITFLASH_API const char* bitflash_last_error(void);

/* ---- The problem ------------------------------------------------------------------------------------------------ */

typedef enum bitflash_format {
  BITFLASH_BF16 = 0,
  BITFLASH_FP16 = 1,
  BITFLASH_FP32 = 2,
  BITFLASH_TF32 = 3, /* 4 bytes, the low 13 bits are zero */
  BITFLASH_FP64 = 4, /* bitflash_compare and bitflash_value only */
  BITFLASH_E4M3 = 5,
  BITFLASH_E5M2 = 6
} bitflash_format;

/* Row i of seqlen_q sees key j of seqlen_k, with d = i + seqlen_k - seqlen_q: */
typedef enum bitflash_mask {
  BITFLASH_MASK_FULL = 0,            /* always */
  BITFLASH_MASK_CAUSAL = 1,          /* j <= d: bottom-right aligned, as FlashAttention from 2.1 on */
  BITFLASH_MASK_CAUSAL_TOP_LEFT = 2, /* j <= i */
  BITFLASH_MASK_WINDOW = 3           /* d - window_left <= j <= d + window_right; -1: no limit on that side */
} bitflash_mask;

/* O = softmax(mask(softmax_scale * Q K^T)) V. All tensors are contiguous, the last dimension running fastest:
 *   Q [batch, heads_q, seqlen_q, head_dim]      K [batch, heads_kv, seqlen_k, head_dim]
 *   O [batch, heads_q, seqlen_q, head_dim_v]    V [batch, heads_kv, seqlen_k, head_dim_v]
 *   LSE [batch, heads_q, seqlen_q]: log of the row's sum of exponentials; -inf for a row that sees no key. */
typedef struct bitflash_problem {
  uint64_t struct_size;
  int64_t batch;        /* 0: 1 */
  int64_t heads_q;      /* 1 or more */
  int64_t heads_kv;     /* divides heads_q; 0: heads_q */
  int64_t seqlen_q;     /* 1 or more */
  int64_t seqlen_k;     /* 0 or more */
  int64_t head_dim;     /* 1 or more */
  int64_t head_dim_v;   /* 0: head_dim */
  int32_t format;       /* bitflash_format of Q, K, V and O */
  int32_t mask;         /* bitflash_mask */
  int64_t window_left;  /* keys; BITFLASH_MASK_WINDOW only */
  int64_t window_right; /* keys; BITFLASH_MASK_WINDOW only */
  double softmax_scale; /* 0: 1 / sqrt(head_dim) */
  double softcap;       /* above 0: scores become softcap * tanh(score / softcap) before the mask */
  int32_t v_is_in_k;    /* 1: V is the first head_dim_v columns of K (latent attention); no V is read */
  int32_t reserved;     /* 0 */
} bitflash_problem;

/* A kernel, the GPU that it runs on, and its free choices, each 0 for that of the published kernel. */
typedef struct bitflash_kernel {
  uint64_t struct_size;
  const char* name;    /* one of bitflash_kernel_info; NULL: "fa2" */
  const char* gpu;     /* one of bitflash_gpu_info, or a .json file; NULL: "h200". Its architecture decides bits */
  int64_t Br;          /* query rows of a tile */
  int64_t Bc;          /* keys of a tile */
  int64_t warps;       /* that issue matrix instructions */
  int64_t stages;      /* tiles of K and V in flight */
  int64_t splits;      /* equal parts of the keys that separate blocks work on */
  int64_t part_keys;   /* or parts of this many keys */
  int64_t page_size;   /* keys of a page of a paged KV cache */
  int32_t pack_gqa;    /* query heads of a KV head are rows of one tile: 1 yes, -1 no */
  int32_t fp32_scores; /* `standard` stores its scores as fp32: 1 yes, -1 no */
} bitflash_kernel;

/* ---- Counting --------------------------------------------------------------------------------------------------- */

/* The bytes and operations of a kernel, launch by launch. */
typedef struct bitflash_count bitflash_count;

/* In place of the index of a launch: the sum over all of them. */
#define BITFLASH_ALL_LAUNCHES (-1)

/* One tensor at one memory level. */
typedef struct bitflash_traffic {
  uint64_t struct_size;
  const char* tensor; /* "q" "k" "v" "s" "p" "o" "lse" "m" "l" "o_partial" "block_table" */
  const char* level;  /* "hbm_compulsory": every byte used read once and every byte left behind written once;
                         "l2_to_sm": requested by the SMs (what HBM would see without an L2);
                         "shared"; "register": read by matrix instructions */
  int64_t read;       /* bytes towards the arithmetic */
  int64_t write;      /* bytes away from it */
} bitflash_traffic;

/* Sums over the tensors, in bytes, and operations. */
typedef struct bitflash_totals {
  uint64_t struct_size;
  int64_t hbm_compulsory_read, hbm_compulsory_write;
  int64_t l2_to_sm_read, l2_to_sm_write;
  int64_t shared_read, shared_write;
  int64_t register_read;
  int64_t matrix_flops; /* of the tensor cores, 2 a multiply-add, padding and masked positions included */
  int64_t special_ops;  /* results of the special-function unit */
  int64_t fp32_ops;     /* fp32 instructions, every lane counted */
} bitflash_totals;

typedef struct bitflash_launch {
  uint64_t struct_size;
  const char* name;
  int64_t grid_x, grid_y, grid_z; /* blocks */
  int64_t threads_per_block;
  int64_t registers_per_thread;
  int64_t shared_bytes_per_block;
  int64_t blocks_per_sm;       /* occupancy */
  const char* occupancy_limit; /* "shared memory", "registers", "threads" or "blocks" */
  double waves;                /* blocks / (SMs * blocks_per_sm) */
} bitflash_launch;

/* Microseconds to milliseconds, whatever the size of the problem. `kernel` may be NULL. BITFLASH_USAGE also when the
 * kernel does not take the problem or the GPU has no room for the tile. Free *count with bitflash_count_destroy. */
BITFLASH_API bitflash_status bitflash_count_create(const bitflash_problem* problem, const bitflash_kernel* kernel,
                                                   bitflash_count** count);
BITFLASH_API void bitflash_count_destroy(bitflash_count* count); /* NULL: nothing happens */

/* Strings in what these fill belong to `count` and live as long as it does. */

/* What was counted, with every choice filled in where it is not 0: bitflash_simulate takes it. */
BITFLASH_API bitflash_status bitflash_count_kernel(const bitflash_count* count, bitflash_kernel* kernel);
BITFLASH_API bitflash_status bitflash_count_launches(const bitflash_count* count, int64_t* launches);
BITFLASH_API bitflash_status bitflash_count_launch(const bitflash_count* count, int64_t index, bitflash_launch* launch);
BITFLASH_API bitflash_status bitflash_count_totals(const bitflash_count* count, int64_t launch,
                                                   bitflash_totals* totals);

/* The tensors and levels with traffic, tensor by tensor. */
BITFLASH_API bitflash_status bitflash_count_entries(const bitflash_count* count, int64_t launch, int64_t* entries);
BITFLASH_API bitflash_status bitflash_count_entry(const bitflash_count* count, int64_t launch, int64_t index,
                                                  bitflash_traffic* traffic);

/* ---- Executing -------------------------------------------------------------------------------------------------- */

/* Bit patterns of the problem's format, aligned to one element. The numbers of bytes must be exactly those of the
 * tensors, so that a buffer of another shape or format is found out. */
typedef struct bitflash_inputs {
  uint64_t struct_size;
  const void* q;
  uint64_t q_bytes;
  const void* k;
  uint64_t k_bytes;
  const void* v; /* not looked at when v_is_in_k */
  uint64_t v_bytes;
} bitflash_inputs;

/* Buffers of the caller, at least as large as the tensor, aligned to one element, overlapping neither each other nor
 * the inputs. */
typedef struct bitflash_outputs {
  uint64_t struct_size;
  void* o;
  uint64_t o_bytes;
  void* lse; /* NULL: not wanted */
  uint64_t lse_bytes;
} bitflash_outputs;

/* Called now and then by the calling thread with the share that is done, 0 to 1 (each launch of a simulation counts
 * from 0). Anything but 0 cancels. It must not throw, and must not leave by longjmp. */
typedef int (*bitflash_progress)(double share, void* user);

typedef struct bitflash_execution {
  uint64_t struct_size;
  int32_t threads;            /* 0: all, as OMP_NUM_THREADS says. The bits do not depend on it */
  int32_t reserved;           /* 0 */
  bitflash_progress progress; /* NULL: none */
  void* user;                 /* handed to `progress` */
} bitflash_execution;

/* The kernel, bit by bit, as the GPU would run it: O in the problem's format (fp16 or bf16), LSE in fp32. `kernel` and
 * `execution` may be NULL. BITFLASH_USAGE as for counting, and when LSE is wanted of a kernel that writes none;
 * BITFLASH_UNDECIDED for what is counted but not modelled to the bit (8-bit and fp32 formats, softcap). */
BITFLASH_API bitflash_status bitflash_simulate(const bitflash_problem* problem, const bitflash_kernel* kernel,
                                               const bitflash_inputs* inputs, const bitflash_outputs* outputs,
                                               const bitflash_execution* execution);

/* The truth: the same formula in fp64 throughout; O and LSE are doubles. The same bits for every number of threads, not
 * on every instruction set. `execution` may be NULL. */
BITFLASH_API bitflash_status bitflash_golden(const bitflash_problem* problem, const bitflash_inputs* inputs,
                                             const bitflash_outputs* outputs, const bitflash_execution* execution);

/* ---- Comparing -------------------------------------------------------------------------------------------------- */

/* One element of both buffers. */
typedef struct bitflash_pair {
  int64_t index; /* in elements; -1: there is no such element, and the rest is 0 */
  uint64_t a_bits, b_bits;
  double a, b; /* the values of the bits */
} bitflash_pair;

/* Facts, no judgement. A NaN is equal to one of the same bits only. */
typedef struct bitflash_difference {
  uint64_t struct_size;
  int64_t elements;
  int64_t bits_differ;  /* elements whose bits differ, all of those below included */
  int64_t kind_differs; /* where one is NaN, +inf or -inf and the other is not the same */
  int64_t nan_bits_differ;
  int64_t zero_sign_differs;
  int64_t a_nan, a_infinite;
  int64_t b_nan, b_infinite;
  bitflash_pair first;      /* the first whose bits differ */
  bitflash_pair first_kind; /* the first whose kind differs */
  /* Over the elements that are finite in both. */
  uint64_t max_ulps;        /* representable numbers from one to the other; -0 and +0 are one number */
  double max_abs;           /* |a - b| */
  double max_rel;           /* |a - b| / |b|; infinite where b is 0 and a is not */
  bitflash_pair worst_ulps; /* the first with max_ulps, when that is above 0; so below */
  bitflash_pair worst_abs;
  bitflash_pair worst_rel;
} bitflash_difference;

/* Both buffers hold `elements` elements of the bitflash_format, aligned to one. */
BITFLASH_API bitflash_status bitflash_compare(int32_t format, const void* a, const void* b, int64_t elements,
                                              bitflash_difference* difference);

/* The number that the low bits of `bits` are. */
BITFLASH_API bitflash_status bitflash_value(int32_t format, uint64_t bits, double* value);

/* ---- Lists ------------------------------------------------------------------------------------------------------ */

/* Strings live as long as the library is loaded. */
typedef struct bitflash_kernel_info {
  uint64_t struct_size;
  const char* name;   /* "fa2"; what bitflash_kernel.name takes */
  const char* title;  /* "FlashAttention-2 forward" */
  const char* source; /* paper and algorithm, or the shipped kernel */
} bitflash_kernel_info;

typedef struct bitflash_gpu_info {
  uint64_t struct_size;
  const char* name;  /* "h200"; what bitflash_kernel.gpu takes */
  const char* title; /* "NVIDIA H200 SXM 141GB" */
  const char* arch;  /* "sm90" */
} bitflash_gpu_info;

/* The number of entries; indices run from 0. */
BITFLASH_API int64_t bitflash_kernels(void);
BITFLASH_API int64_t bitflash_gpus(void);
BITFLASH_API bitflash_status bitflash_kernel_at(int64_t index, bitflash_kernel_info* kernel);
BITFLASH_API bitflash_status bitflash_gpu_at(int64_t index, bitflash_gpu_info* gpu);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BITFLASH_VERIFY_C_API_H_ */
