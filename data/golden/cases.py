"""What is recorded: one problem per line.

Columns: batch, heads_q/heads_kv, seqlen_q x seqlen_k, head_dim, format, mask ("causal" or "full"), then the softmax
scale if it is not 1/sqrt(head_dim). Case n of a list has the seeds first_seed + 10 n (Q), + 1 (K), + 2 (V).

On a GPU of 132 SMs PyTorch's FlashAttention splits the keys when batch * heads_q * ceil(seqlen_q / 64) < 212 and there
is more than one key tile (for one query row it counts heads_kv, the group's heads being its rows).
"""

from collections import namedtuple

Case = namedtuple("Case", "name batch heads_q heads_kv seqlen_q seqlen_k head_dim format mask softmax_scale seed "
                          "full_bits")

# Every head_dim class, both formats, both masks; enough query tiles that no kernel needs to split.
UNSPLIT = """
1 32/8  512x512   32  bf16 causal
1 32/8  512x512   32  fp16 full
1 32/8  500x500   40  fp16 causal
1 32/8  512x512   64  bf16 full
1 32/8  500x500   64  fp16 causal
1 32/8  500x500   72  bf16 causal
1 32/8  512x512   80  fp16 full
1 32/8  512x512   96  bf16 full
1 32/8  500x500   96  fp16 causal
1 32/8  500x500   112 fp16 full
1 32/8  512x512   128 bf16 causal
1 32/8  500x500   128 bf16 full
1 32/8  500x500   128 fp16 causal
1 32/8  512x512   128 fp16 full
1 32/8  500x500   160 bf16 full
1 32/8  512x512   192 fp16 causal
1 32/8  500x500   192 bf16 full
1 32/8  500x500   224 bf16 causal
1 32/8  512x512   256 bf16 full
1 32/8  500x500   256 fp16 causal
1 64/8  256x256   128 bf16 full
1 64/8  256x1000  96  bf16 full
1 16/4  1000x1000 128 bf16 causal
1 16/16 1000x3000 128 bf16 full
1 16/2  1000x3000 64  fp16 full
1 8/1   2048x2048 128 bf16 causal
1 8/1   2048x2048 64  fp16 full
3 8/1   1000x1000 64  bf16 causal
2 32/8  256x256   128 fp16 causal
1 32/8  512x512   128 bf16 causal 0.05
1 64/8  256x256   128 fp16 full   0.2
1 32/8  500x500   64  bf16 full   0.2
1 32/8  500x500   256 fp16 causal 0.05
1 32/8  512x1000  128 bf16 causal
"""

# Few query tiles: kernels that split the keys and combine.
SPLIT = """
1 8/1   512x512   128 bf16 causal
1 2/2   1000x1000 64  fp16 full
1 2/1   2048x2048 128 fp16 causal
1 1/1   1000x3000 256 bf16 full
1 4/4   500x500   40  bf16 full
1 4/2   128x1000  96  fp16 full
2 4/4   100x1000  128 bf16 full
1 8/8   16x4096   128 bf16 full
1 8/2   64x2048   192 fp16 full
1 8/8   100x500   64  bf16 causal
1 32/8  16x1000   128 bf16 causal
1 4/1   256x2048  128 fp16 full   0.2
"""

# Decode: one query row.
DECODE = """
1 8/1   1x17      128 bf16 full
1 32/8  1x512     128 bf16 full
1 32/8  1x1000    64  fp16 full
1 64/8  1x4096    128 bf16 full
1 32/8  1x8192    128 fp16 full
1 8/8   1x1000    256 bf16 full
1 8/1   1x131072  128 bf16 full
3 32/8  1x1000    128 fp16 full
1 32/32 1x4096    64  bf16 full
1 32/8  1x4096    128 bf16 full   0.2
1 8/2   1x512     96  bf16 full
1 8/8   1x1000    40  fp16 full
1 8/4   1x4096    192 bf16 full
"""

# Every bit of O and LSE is kept.
SMALL = """
1 2/2   64x64     64  bf16 causal
1 2/1   100x100   32  fp16 full
1 2/2   128x128   128 bf16 causal
1 2/1   100x100   128 fp16 full
1 2/2   16x256    128 bf16 full
1 2/1   1x17      64  bf16 full
1 2/2   1x256     128 fp16 full
1 2/2   100x200   40  fp16 full
1 2/2   60x60     256 bf16 causal
1 2/1   33x250    96  bf16 full
1 2/2   250x250   64  fp16 causal
1 2/2   64x256    192 bf16 full
1 2/2   128x128   72  bf16 causal
1 2/2   128x256   128 bf16 full   0.2
"""

# Not to be looked at while a recipe is being written: other seeds, shapes and scales, for the final comparison.
HELD_OUT = """
1 24/4  640x640   128 bf16 causal
1 48/8  320x320   64  fp16 full
1 40/8  333x777   128 fp16 full
1 28/4  600x600   80  bf16 causal
1 24/8  601x601   104 fp16 causal 0.11
1 24/8  580x1111  136 bf16 full
1 24/4  640x640   176 fp16 full
1 24/4  577x577   208 fp16 causal
1 48/8  300x300   240 bf16 full
2 12/4  700x700   256 bf16 causal 0.03
1 24/4  640x640   48  bf16 full   0.3
4 6/2   577x640   96  fp16 full
1 12/2  1536x1536 128 fp16 causal
1 6/2   333x2222  128 bf16 full
1 5/1   777x777   64  fp16 causal
1 3/3   190x900   160 bf16 full
1 12/4  7x3001    128 fp16 full
1 40/8  1x3001    128 bf16 full
1 24/8  1x16384   128 fp16 full
2 16/2  1x777     64  bf16 full   0.15
1 14/2  1x5000    256 fp16 full
1 96/8  1x2500    112 bf16 full
"""


def _parse(table, first_seed, full_bits):
    for n, line in enumerate(table.strip().splitlines()):
        batch, heads, seqlens, head_dim, fmt, mask, *scale = line.split()
        heads_q, heads_kv = map(int, heads.split("/"))
        seqlen_q, seqlen_k = map(int, seqlens.split("x"))
        name = f"b{batch}_h{heads_q}-{heads_kv}_s{seqlens}_d{head_dim}_{fmt}_{mask}"
        name += "".join(f"_scale{s}" for s in scale)
        yield Case(name, int(batch), heads_q, heads_kv, seqlen_q, seqlen_k, int(head_dim), fmt, mask,
                   float(scale[0]) if scale else None, first_seed + 10 * n, full_bits)


RECORDED = [*_parse(SMALL, 1000, True), *_parse(UNSPLIT, 2000, False), *_parse(SPLIT, 3000, False),
            *_parse(DECODE, 4000, False)]
HELD_OUT = [*_parse(HELD_OUT, 700000, False)]
