// Every flag with a bad value: the exit code, one line on standard error that says why, nothing on standard output.
#include <doctest/doctest.h>

#include <algorithm>

#include "verify/cli/shell.h"

namespace bitflash::verify {
namespace {

struct Case {
  const char* command;
  int exit_code;
  const char* says;
};

// H: a complete problem by heads; M: by a model.
#define H "--heads-q 8 --head-dim 64 --seqlen 256 "
#define M "--model llama-3-8b --seqlen 256 "

constexpr Case kCases[] = {
    {"bitflash", 2, "bitflash: no command"},
    {"bitflash trafic", 2, "did you mean 'traffic'?"},
    {"bitflash frobnicate", 2, "(accepted: explain, traffic, "},
    {"bitflash ''", 2, "unknown command ''"},
    {"bitflash --frobnicate", 2, "unknown option '--frobnicate'"},
    {"bitflash help trafic", 2, "did you mean 'traffic'?"},
    {"bitflash \"$(printf 'a\\nb')\"", 2, "unknown command 'a\\nb'"},
    {"bitflash traffic " H "--dtype \"$(printf '\\377\\302\\23331m')\"", 2, "unknown dtype '\\xff\\u009b31m'"},
    {"bitflash traffic " H "--tile \"$(head -c 100000 /dev/zero | tr '\\0' 9)\"", 2,
     "9' is not a tile of query rows x keys such as 128x64"},
    // the problem
    {"bitflash traffic", 2, "which attention? Give --model NAME, or --heads-q N and --head-dim N"},
    {"bitflash traffic --head-dim 64 --seqlen 8", 2, "--heads-q is missing"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --seqlen 8,16 --tile 100x64", 2,
     "none of the 2 points is feasible; kernel fa2, seqlen 8: kernel fa2: Br is 100"},
    {"bitflash traffic --heads-q 8 --seqlen 8", 2, "--head-dim is missing"},
    {"bitflash traffic --heads-q 8 --head-dim 64", 2, "how long are the sequences?"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --phase decode", 2, "--phase needs --seqlen"},
    {"bitflash traffic --heads-q 0 --head-dim 64 --seqlen 8", 2, "--heads-q: '0' is not a whole number from 1 to"},
    {"bitflash traffic --heads-q -8 --head-dim 64 --seqlen 8", 2, "--heads-q: '-8'"},
    {"bitflash traffic --heads-q 8.5 --head-dim 64 --seqlen 8", 2, "--heads-q: '8.5'"},
    {"bitflash traffic --heads-q x --head-dim 64 --seqlen 8", 2, "--heads-q: 'x'"},
    {"bitflash traffic --heads-q 99999999999999999999 --head-dim 64 --seqlen 8", 2,
     "--heads-q: '99999999999999999999'"},
    {"bitflash traffic --heads-q '' --head-dim 64 --seqlen 8", 2, "--heads-q: ''"},
    {"bitflash traffic --heads-q --head-dim 64 --seqlen 8", 2, "--heads-q needs a value, but --head-dim follows"},
    {"bitflash traffic --heads-q 8 --heads-q 8 --head-dim 64 --seqlen 8", 2, "--heads-q"},
    {"bitflash traffic " H "--heads-kv 3", 2, "--heads-q 8 is not a multiple of --heads-kv 3"},
    {"bitflash traffic " H "--heads-kv 0", 2, "--heads-kv: '0'"},
    {"bitflash traffic --heads-q 8 --head-dim 0 --seqlen 8", 2, "--head-dim: '0'"},
    {"bitflash traffic --heads-q 8 --head-dim 70000 --seqlen 8", 2, "--head-dim: '70000'"},
    {"bitflash traffic " H "--head-dim-v 0", 2, "--head-dim-v: '0'"},
    {"bitflash traffic " H "--batch 0", 2, "--batch: '0'"},
    {"bitflash traffic " H "--batch 1:2", 2, "--batch: '1:2' is not a sweep (accepted: a number"},
    {"bitflash traffic " H "--batch 8:1:x2", 2, "--batch: '8:1:x2' starts above its end"},
    {"bitflash traffic " H "--batch 1:8:x1", 2, "needs a step of x2 or more"},
    {"bitflash traffic " H "--batch 1:5000:+1", 2, "more than 4096 values"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --seqlen 0", 2, "--seqlen: '0'"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --seqlen 1k", 2, "--seqlen: '1k' is not a sweep"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --seqlen 8 --seqlen-q 8", 2, "--seqlen-q contradicts --seqlen"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --phase decode --seqlen-k 8", 2, "--seqlen-k contradicts --phase"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --seqlen-q 0", 2, "--seqlen-q: '0'"},
    {"bitflash traffic --heads-q 8 --head-dim 64 --seqlen-k -1", 2, "--seqlen-k: '-1'"},
    {"bitflash traffic --heads-q 1000000 --head-dim 64 --seqlen 1000000000000", 2, "bytes"},
    {"bitflash traffic " H "--phase prefil", 2, "unknown phase 'prefil'; did you mean 'prefill'?"},
    {"bitflash traffic " H "--causal --mask full", 2, "--causal contradicts --mask full"},
    {"bitflash traffic " H "--mask cousal", 2, "cousal"},
    {"bitflash traffic " H "--mask 'window(1)'", 2, "window(1)"},
    {"bitflash traffic " H "--mask 'window(-2,0)'", 2, "window(-2,0)"},
    {"bitflash traffic " H "--causal=yes", 2, "--causal takes no value"},
    {"bitflash traffic " H "--softmax-scale 0", 2, "--softmax-scale: '0' is not a finite number greater than 0"},
    {"bitflash traffic " H "--softmax-scale nan", 2, "--softmax-scale: 'nan'"},
    {"bitflash traffic " H "--softmax-scale x", 2, "--softmax-scale: 'x'"},
    {"bitflash traffic " H "--dtype bf17", 2, "unknown dtype 'bf17'; did you mean 'bf16'?"},
    {"bitflash traffic " H "--dtype fp64", 2, "unknown dtype 'fp64'"},
    {"bitflash traffic " H "--dtype fp32", 2, "fa2 does not take fp32"},
    // models
    {"bitflash traffic --model lama-3-8b --seqlen 8", 2, "unknown model 'lama-3-8b'; did you mean 'llama-3-8b'?"},
    {"bitflash traffic --model '' --seqlen 8", 2, "unknown model ''"},
    {"bitflash traffic --model none.json --seqlen 8", 3, "none.json"},
    {"bitflash traffic --model ./ --seqlen 8", 3, "./"},
    {"echo '{' > bad.json; bitflash traffic --model bad.json --seqlen 8", 3, "bad.json"},
    {"echo '{}' > empty.json; bitflash traffic --model empty.json --seqlen 8", 3, "empty.json"},
    {"echo '{\"model_type\": \"mamba\", \"hidden_size\": 8}' > m.json; bitflash traffic --model m.json --seqlen 8", 5,
     "mamba"},
    {"bitflash traffic " M "--heads-q 8", 2, "--heads-q contradicts --model"},
    {"bitflash traffic " M "--heads-kv 8", 2, "--heads-kv contradicts --model"},
    {"bitflash traffic " M "--head-dim 8", 2, "--head-dim contradicts --model"},
    {"bitflash traffic " M "--head-dim-v 8", 2, "--head-dim-v contradicts --model"},
    {"bitflash traffic " M "--layers slidin", 2, "unknown layers of llama-3-8b: 'slidin'"},
    {"bitflash traffic " H "--layers global", 2, "--layers contradicts the missing --model"},
    {"bitflash traffic --model llama-3-8b", 2, "how long are the sequences?"},
    // the GPU
    {"bitflash traffic " H "--gpu h20", 2, "unknown GPU 'h20'; did you mean 'h200'?"},
    {"bitflash traffic " H "--gpu none.json", 3, "none.json"},
    {"ln -s b.json a.json; ln -s a.json b.json; bitflash traffic " H "--gpu a.json", 3, "a.json"},
    {"printf '{\"name\": \"a\\0b\"}' > nul.json; bitflash traffic " H "--gpu nul.json", 3, "nul.json"},
    {"bitflash traffic " H "--gpu /dev/zero", 3, "/dev/zero"},
    {"echo '[]' > gpu.json; bitflash traffic " H "--gpu gpu.json", 3, "gpu.json"},
    {"bitflash traffic " H "--arch sm91", 2, "unknown architecture 'sm91'; did you mean 'sm90'?"},
    {"bitflash traffic " H "--arch sm90 --gpu a100-80gb", 2,
     "--arch sm90 contradicts --gpu a100-80gb: that GPU is sm80"},
    {"bitflash traffic " H "--gpu t4", 2, "needs sm80 or newer, t4 is sm75"},
    // the kernel
    {"bitflash traffic " H "--kernel fa4", 2, "unknown kernel 'fa4'; did you mean 'fa1'?"},
    {"bitflash traffic " H "--kernel ''", 2, "unknown kernel ''"},
    {"bitflash traffic " H "--kernel fa2,", 2, "unknown kernel ''"},
    {"bitflash traffic " H "--kernel fa2,fa2", 2, "--kernel names 'fa2' twice"},
    {"bitflash traffic " H "--kernel fa3 --gpu a100-80gb", 2, "fa3 needs sm90"},
    {"bitflash traffic " H "--tile 128", 2, "--tile: '128' is not a tile of query rows x keys such as 128x64"},
    {"bitflash traffic " H "--tile 0x64", 2, "--tile: '0x64'"},
    {"bitflash traffic " H "--tile 100x64", 2, "Br is 100: expected a multiple of 16"},
    {"bitflash traffic " H "--tile 128x1000", 2, "Bc is 1000"},
    {"bitflash traffic --heads-q 8 --head-dim 128 --seqlen 256 --tile 512x512", 2, "512x512"},
    {"bitflash traffic " H "--warps 0", 2, "--warps: '0' is not a whole number from 1 to 32"},
    {"bitflash traffic " H "--warps 33", 2, "--warps: '33'"},
    {"bitflash traffic " H "--stages 0", 2, "--stages: '0'"},
    {"bitflash traffic " H "--stages 17", 2, "stages is 17"},
    {"bitflash traffic " H "--splits 0", 2, "--splits: '0'"},
    {"bitflash traffic " H "--splits 4", 2, "--splits means something only with --kernel split-kv, pytorch-fa2"},
    {"bitflash traffic " H "--page-size x", 2, "--page-size: 'x'"},
    {"bitflash traffic " H "--page-size 16", 2, "--page-size means something only with --kernel split-kv"},
    {"bitflash traffic " H "--kernel split-kv --page-size 48", 2, "page_size is 48"},
    {"bitflash traffic " H "--kernel standard --pack-gqa", 2,
     "--pack-gqa means something only with --kernel fa2, fa3, split-kv, pytorch-fa2"},
    {"bitflash traffic " H "--fp32-scores", 2, "--fp32-scores means something only with --kernel standard"},
    {"bitflash traffic " H "--seed 1", 2, "unknown option '--seed'"},
    // assertions
    {"bitflash traffic " H "--assert", 2, "--assert"},
    {"bitflash traffic " H "--assert hbm.read", 2, "has no operator"},
    {"bitflash traffic " H "--assert 'hbm.read<=lots'", 2, "compares with no number"},
    {"bitflash traffic " H "--assert 'hbm.read<=1XB'", 2, "has the unknown unit 'XB'"},
    {"bitflash traffic " H "--assert 'hbm.reed<=1GB'", 2, "unknown field 'hbm.reed'; did you mean 'hbm.read'?"},
    {"bitflash traffic " H "--assert 'hbm.read.predicted<=1GB'", 2, "is not known for this kernel"},
    // output
    {"bitflash traffic " H "--json --csv", 2, "--json and --csv cannot both go to standard output"},
    {"bitflash traffic " H "--json=", 2, "--json= needs a file name"},
    {"bitflash traffic " H "--json x.json", 2, "unexpected argument 'x.json'"},
    {"bitflash traffic " H "--color sometimes", 2, "(accepted: auto, always, never)"},
    {"bitflash traffic " H "--color always --no-color", 2, "--no-color contradicts --color always"},
    {"bitflash traffic " H "-j 0", 2, "-j: '0' is not a whole number from 1 to"},
    {"bitflash traffic " H "-j many", 2, "-j: 'many'"},
    {"bitflash traffic " H "--lang zh", 2, "unknown option '--lang'"},
    {"bitflash traffic " H "--jsn", 2, "unknown option '--jsn'; did you mean '--json'?"},
    {"bitflash traffic " H "--seqlen_q 8", 2, "unknown option '--seqlen_q'; did you mean '--seqlen-q'?"},
    {"bitflash traffic " H "surprise", 2, "unexpected argument 'surprise'"},
    {"bitflash traffic " H "--json=no/such/folder/x.json", 6, "no/such/folder/x.json: cannot be written"},
    {"mkdir d; bitflash traffic " H "--csv=d", 6, "d: cannot be written: Is a directory"},
    {"bitflash traffic " H "> /dev/full", 6, "standard output: cannot be written: No space left on device"},
    {"ln -s b a; ln -s a b; bitflash traffic " H "--json=a", 6, "a: cannot be written"},
    {"bitflash traffic " H "--json=/dev/full", 6, "/dev/full: cannot be written"},
    {"bitflash list >&-", 6, "standard output: cannot be written: Bad file descriptor"},
    {"bitflash --help > /dev/full", 6, "standard output: cannot be written"},
    {"bitflash traffic --help > /dev/full", 6, "standard output: cannot be written"},
    // list, doctor
    {"bitflash list gpu", 2, "unknown topic 'gpu'; did you mean 'gpus'?"},
    {"bitflash list gpus models", 2, "unexpected argument 'models'"},
    {"bitflash doctor --csv", 2, "unknown option '--csv'"},
    {"bitflash doctor now", 2, "unexpected argument 'now'"},
    // gen
    {"bitflash gen " H, 2, "--out is missing"},
    {"bitflash gen " H "-o x.bin", 2, "'x.bin' is not a .npz or .safetensors file nor a directory"},
    {"bitflash gen " H "-o x.npz --distribution spikey", 2, "unknown distribution 'spikey'; did you mean 'spiky'?"},
    {"bitflash gen " H "-o x.npz --seed -1", 2, "--seed: '-1'"},
    {"bitflash gen " H "-o x.npz --seed 18446744073709551616", 2, "--seed: '18446744073709551616'"},
    {"bitflash gen --heads-q 8 --head-dim 64 --seqlen 1,2 -o x.npz", 2, "--seqlen: '1,2' is not a whole number"},
    {"bitflash gen --heads-q 8 --head-dim 64 --seqlen-q 8 --seqlen-k 0 -o x.npz", 2, "there are no keys to generate"},
    {"bitflash gen " H "-o x.npz --gpu h200", 2, "unknown option '--gpu'"},
    {"bitflash gen " H "-o no/such/x.npz", 6, "no/such/x.npz"},
    {"bitflash gen " H "-o no/such/", 6, "no/such/"},
    // diff
    {"bitflash diff", 2, "two files are needed"},
    {"bitflash diff a.npy", 2, "two files are needed"},
    {"bitflash diff a.npy b.npy", 3, "a.npy"},
    {"echo x > a.npy; bitflash diff a.npy a.npy", 3, "a.npy"},
    {"bitflash diff a.npy b.npy --tensor-b o", 2, "--tensor-b needs --tensor"},
    {"bitflash diff a.npy b.npy --dtype bf17", 2, "bf17"},
    {"bitflash diff a.npy b.npy c.npy", 2, "unexpected argument 'c.npy'"},
    {"bitflash gen " H "-o x.npz --quiet >/dev/null && bitflash diff x.npz x.npz --tensor o", 2, "unknown tensor 'o'"},
    {"bitflash gen " H "-o d/ >/dev/null && bitflash gen " H "-o x.npz >/dev/null && bitflash diff d/q.npy x.npz", 3,
     "tensor 'k' is in x.npz but not in d/q.npy"},
    {"bitflash gen " H "-o d/ >/dev/null && bitflash gen --heads-q 8 --head-dim 64 --seqlen 8 -o e/ >/dev/null && "
     "bitflash diff d/q.npy e/q.npy",
     3, "the shapes differ"},
    // run
    {"bitflash run", 2, "which attention? Give --model NAME"},
    {"bitflash run " H "--kernel fa2,fa3", 2, "run takes one kernel at a time"},
    {"bitflash run " H "--kernel fa9", 2, "unknown kernel 'fa9'"},
    {"bitflash run " H "--out ''", 2, "--out: '' is not the name of a .npy file"},
    {"bitflash run " H "--out x.bin", 2, "--out: 'x.bin' is not the name of a .npy file"},
    {"bitflash run " H "--lse x", 2, "--lse: 'x' is not the name of a .npy file"},
    {"bitflash run " H "--out x.npy --lse x.npy", 2, "--out and --lse name the same file, x.npy"},
    {"bitflash run " H "--out no/such/x.npy", 6, "cannot write no/such/x.npy: there is no folder no/such"},
    {"mkdir x.npy; bitflash run --heads-q 1 --head-dim 16 --seqlen 8 --out x.npy", 6, "x.npy"},
    {"bitflash run " H "--kernel fa1 --lse x.npy", 2, "kernel fa1 keeps the maximum and the sum of each row"},
    {"bitflash run " H "--heads 3", 2, "--heads: '3' is not a range of query heads such as 0:4"},
    {"bitflash run " H "--heads 4:4", 2, "--heads: '4' is not a whole number from 0 to 3"},
    {"bitflash run " H "--heads 0:9", 2, "--heads: '9' is not a whole number from 1 to 8"},
    {"bitflash run " H "--heads :2", 2, "--heads: ''"},
    {"bitflash run " H "--kernel fa3 --arch sm80", 2, "fa3 needs sm90 or newer"},
    {"bitflash run " H "--arch sm86", 2, "unknown architecture 'sm86'"},
    {"bitflash run " H "--kernel cudnn-9.19-sm90 --arch sm100", 2, "needs wgmma, which only sm90 has"},
    {"bitflash run " H "--tile 128x100", 2, "Bc is 100"},
    {"bitflash run " H "--kernel fa2 --splits 2", 2,
     "--splits means something only with --kernel split-kv, pytorch-fa2"},
    {"bitflash run " H "--dtype fp32", 2, "fa2 does not take fp32"},
    {"bitflash run " H "--kernel fa3 --dtype e4m3", 5,
     "e4m3 is counted (bitflash traffic) but not modelled to the bit"},
    {"bitflash run --kernel cudnn-9.19-sm90 --heads-q 8 --head-dim 64 --phase decode --seqlen 9", 5,
     "answers 1 query row with another kernel whose recipe is not known"},
    {"bitflash run --model gemma-2-9b --seqlen 64 --quiet", 5, "softcap"},
    {"bitflash run " H "--distribution spikey", 2, "spikey"},
    {"bitflash run " H "--seed -1", 2, "--seed: '-1'"},
    {"bitflash run --in none.npz", 3, "none.npz"},
    {"bitflash run --in ''", 2, "'' is no file name"},
    {"bitflash run --q q.npy", 2, "--q, --k and --v go together"},
    {"bitflash run --in a.npz --q q.npy", 2, "--in contradicts --q, --k and --v"},
    {"bitflash run --in a.npz --seed 1", 2, "--seed contradicts input files"},
    {"bitflash run --in a.npz --distribution sinks", 2, "--distribution contradicts input files"},
    {"bitflash gen " H "-o d/ >/dev/null && bitflash run --in d/q.npy", 3, "has no tensor 'k'; it has q"},
    {"bitflash gen " H "-o d/ >/dev/null && bitflash run --q d/q.npy --k d/k.npy", 3, "no tensor v"},
    {"bitflash gen " H "-o x.npz >/dev/null && bitflash run --in x.npz --heads-q 16", 3,
     "q has the shape (1, 8, 256, 64): expected (1, 16, 256, 64)"},
    {"bitflash gen " H "--dtype fp16 -o x.npz >/dev/null && bitflash run --in x.npz --dtype bf16", 3,
     "q holds fp16: expected bf16"},
    // mma
    {"bitflash mma", 2, "--arch is missing: one of sm70"},
    {"bitflash mma --arch sm90", 2, "--in is missing"},
    {"bitflash mma --arch sm91 --in bf16", 2, "'sm91': expected one of sm70, sm75"},
    {"bitflash mma --arch sm90 --in bf17", 2, "bf17"},
    {"bitflash mma --arch sm70 --in bf16", 2, "no tensor core is modelled for sm70 and the input format 'bf16'"},
    {"bitflash mma --arch sm90 --in bf16 --out fp16", 2, "accumulator format 'fp16': expected one of fp32"},
    {"bitflash mma --arch sm80 --in bf16 --instruction wgmma", 2, "sm80 and the instruction 'wgmma'"},
    {"bitflash mma --arch sm90 --in bf16 --instruction ''", 2, "--instruction: '' names no instruction"},
    {"bitflash mma --arch sm90 --in bf16 --instruction wgmma.m64n8k8", 2, "has no k of 8 (accepted: 16)"},
    {"bitflash mma --arch sm90 --in bf16 none.txt", 3, "cannot read none.txt: No such file"},
    {"bitflash mma --arch sm90 --in bf16 .", 3, "cannot read .: Is a directory"},
    {"bitflash mma --arch sm90 --in bf16 ''", 2, "'' is no file name"},
    {"echo 0 0 | bitflash mma --arch sm90 --in bf16", 3, "line 1: 2 tokens: expected an odd number from 3"},
    {"echo 0 | bitflash mma --arch sm90 --in bf16", 3, "line 1: 1 tokens"},
    {"echo | bitflash mma --arch sm90 --in bf16", 3, "line 1: 0 tokens"},
    {"echo 0 x 0 | bitflash mma --arch sm90 --in bf16", 3, "line 1: token 2, 'x': expected a bit pattern"},
    {"echo 0 0x 0 | bitflash mma --arch sm90 --in bf16", 3, "token 2, '0x'"},
    {"echo 0 -1 0 | bitflash mma --arch sm90 --in bf16", 3, "token 2, '-1'"},
    {"echo 0 12345 0 | bitflash mma --arch sm90 --in bf16", 3,
     "token 2, '12345': expected the bits of an operand (bf16), 1 to 4 digits"},
    {"echo 0 0 123456789 | bitflash mma --arch sm90 --in bf16", 3, "token 3, '123456789'"},
    {"echo 0 0 12345 | bitflash mma --arch sm90 --in fp16 --out fp16", 3, "the bits of c (fp16), 1 to 4 digits"},
    {"echo 0 0 0 | bitflash mma --arch sm90 --in bf16 --instruction wgmma", 3, "expected 33 tokens, since k is 16"},
    // sfu
    {"bitflash sfu", 2, "which function? One of ex2, rcp"},
    {"bitflash sfu ex3", 2, "unknown function 'ex3'; did you mean 'ex2'?"},
    {"bitflash sfu ex2 none.txt", 3, "cannot read none.txt"},
    {"echo | bitflash sfu ex2", 3, "line 1: is empty"},
    {"echo 0 0 | bitflash sfu ex2", 3, "line 1: has more than one token"},
    {"echo 123456789 | bitflash sfu ex2", 3, "'123456789': expected an fp32 bit pattern of 1 to 8 hexadecimal digits"},
    {"printf '\\033[31m' | bitflash sfu ex2", 3, "\\x1b[31m"},
    {"head -c 2000000 /dev/zero | tr '\\0' 0 | bitflash sfu ex2", 3, "line 1: has more than 1048576 characters"},
    {"head -c 1048577 /dev/zero | tr '\\0' ' ' | bitflash sfu ex2", 3, "line 1: has more than 1048576 characters"},
    {"head -c 1048576 /dev/zero | tr '\\0' ' ' | bitflash sfu ex2", 3, "line 1: is empty"},
    {"head -c 5000000 /dev/zero | tr '\\0' 0 | bitflash sfu ex2", 3, "line 1: has more than 1048576 characters"},
    {"echo 0 | bitflash sfu ex2 > /dev/full", 6, "standard output: cannot be written: No space left on device"},
    {"bitflash gen " H "--dtype fp32 -o d/ >/dev/null && bitflash gen " H "--dtype fp16 -o e/ >/dev/null && "
     "bitflash diff d/q.npy e/q.npy",
     3, "the element types differ"},
};

#undef H
#undef M

TEST_CASE("bad input: the documented exit code, one line that says why, nothing on standard output") {
  for (const Case& c : kCases) {
    CAPTURE(c.command);
    const TemporaryFolder folder;
    const Finished finished = Shell(c.command, folder);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == c.exit_code);
    CHECK(finished.out.empty());
    CHECK(std::count(finished.err.begin(), finished.err.end(), '\n') == 1);
    CHECK(finished.err.rfind("bitflash", 0) == 0);
    CHECK(finished.err.find(c.says) != std::string::npos);
  }
  CHECK(std::size(kCases) >= 80);
}

}  // namespace
}  // namespace bitflash::verify
