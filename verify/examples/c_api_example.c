/* bitflash from C: what a kernel moves, what it computes, and how far that is from the truth.
 *   cc -std=c99 c_api_example.c $(pkg-config --cflags --libs bitflash) */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "verify/c_api.h"

/* Ends the program when a call fails, with what the library says about it. */
static void require(bitflash_status status) {
  if (status == BITFLASH_OK) return;
  fprintf(stderr, "bitflash: %s\n", bitflash_last_error());
  exit((int)status);
}

/* FlashAttention-2 on one layer of Llama 3 8B, 8192 tokens: every tensor at every memory level. */
static void print_traffic(void) {
  const bitflash_problem problem = {.struct_size = sizeof problem,
                                    .heads_q = 32,
                                    .heads_kv = 8,
                                    .seqlen_q = 8192,
                                    .seqlen_k = 8192,
                                    .head_dim = 128,
                                    .mask = BITFLASH_MASK_CAUSAL};
  const bitflash_kernel kernel = {.struct_size = sizeof kernel, .name = "fa2", .gpu = "h200"};
  bitflash_launch launch = {.struct_size = sizeof launch};
  bitflash_totals totals = {.struct_size = sizeof totals};
  bitflash_count* count;
  require(bitflash_count_create(&problem, &kernel, &count));

  require(bitflash_count_launch(count, 0, &launch));
  printf("%s: %" PRId64 " blocks of %" PRId64 " threads, %" PRId64 " per SM (limited by %s), %.2f waves\n", launch.name,
         launch.grid_x * launch.grid_y * launch.grid_z, launch.threads_per_block, launch.blocks_per_sm,
         launch.occupancy_limit, launch.waves);
  int64_t entries;
  require(bitflash_count_entries(count, BITFLASH_ALL_LAUNCHES, &entries));
  for (int64_t i = 0; i < entries; ++i) {
    bitflash_traffic t = {.struct_size = sizeof t};
    require(bitflash_count_entry(count, BITFLASH_ALL_LAUNCHES, i, &t));
    printf("  %-4s %-15s %15" PRId64 " B read %15" PRId64 " B written\n", t.tensor, t.level, t.read, t.write);
  }
  require(bitflash_count_totals(count, BITFLASH_ALL_LAUNCHES, &totals));
  printf("  %.3g FLOP in the tensor cores\n", (double)totals.matrix_flops);
  bitflash_count_destroy(count);
}

/* Two query heads on one KV head; Q and K are 0, so every key has the same weight. */
enum { kHeads = 2, kRows = 32, kKeys = 64, kColumns = 16, kOutputs = kHeads * kRows * kColumns };
static uint16_t q[kOutputs], k[kKeys * kColumns], v[kKeys * kColumns];
static uint16_t o[kOutputs], expected[kOutputs];
static float lse[kHeads * kRows];
static double true_o[kOutputs], true_lse[kHeads * kRows];

/* Returns whether the simulated kernel and the fp64 truth both say that O is the mean of V. */
static int simulate(void) {
  static const uint16_t one = 0x3C00, two = 0x4000;                    /* fp16 */
  for (int i = 0; i < kKeys * kColumns; ++i) v[i] = i % 2 ? two : one; /* a column holds one number */
  for (int i = 0; i < kOutputs; ++i) expected[i] = i % 2 ? two : one;

  const bitflash_problem problem = {.struct_size = sizeof problem,
                                    .heads_q = kHeads,
                                    .heads_kv = 1,
                                    .seqlen_q = kRows,
                                    .seqlen_k = kKeys,
                                    .head_dim = kColumns,
                                    .format = BITFLASH_FP16};
  const bitflash_kernel kernel = {.struct_size = sizeof kernel, .gpu = "a100-80gb", .Br = 32, .Bc = 32};
  const bitflash_inputs inputs = {.struct_size = sizeof inputs,
                                  .q = q,
                                  .q_bytes = sizeof q,
                                  .k = k,
                                  .k_bytes = sizeof k,
                                  .v = v,
                                  .v_bytes = sizeof v};
  const bitflash_outputs outputs = {
      .struct_size = sizeof outputs, .o = o, .o_bytes = sizeof o, .lse = lse, .lse_bytes = sizeof lse};
  bitflash_difference difference = {.struct_size = sizeof difference};
  require(bitflash_simulate(&problem, &kernel, &inputs, &outputs, NULL));
  require(bitflash_compare(BITFLASH_FP16, o, expected, kOutputs, &difference));
  printf("simulated on %s: %" PRId64 " of %" PRId64 " elements of O differ from the mean of V; LSE %.7g\n", kernel.gpu,
         difference.bits_differ, difference.elements, lse[0]);
  if (difference.bits_differ > 0) {
    printf("  first at %" PRId64 ": %g, expected %g\n", difference.first.index, difference.first.a, difference.first.b);
  }

  const bitflash_outputs truth = {.struct_size = sizeof truth,
                                  .o = true_o,
                                  .o_bytes = sizeof true_o,
                                  .lse = true_lse,
                                  .lse_bytes = sizeof true_lse};
  require(bitflash_golden(&problem, &inputs, &truth, NULL));
  printf("in fp64: O %.17g %.17g, LSE %.17g\n", true_o[0], true_o[1], true_lse[0]);
  int right = difference.bits_differ == 0;
  for (int i = 0; i < kOutputs; ++i) right = right && true_o[i] == (i % 2 ? 2 : 1);
  const double log64 = 4.1588830833596715, lse_error = lse[0] - log64, true_lse_error = true_lse[0] - log64;
  return right && lse_error * lse_error < 1e-12 && true_lse_error * true_lse_error < 1e-28;
}

int main(void) {
  printf("bitflash %s, C interface %d\n", bitflash_version(), bitflash_abi_version());
  if (bitflash_abi_version() / 1000 != BITFLASH_ABI_MAJOR) return EXIT_FAILURE; /* another libbitflash.so */
  print_traffic();
  return simulate() ? EXIT_SUCCESS : EXIT_FAILURE;
}
