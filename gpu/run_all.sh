#!/usr/bin/env bash
# Everything that README.md claims of the CUDA kernels, on the GPU of this machine; see usage below.
set -uo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)
root=$(dirname -- "$here")
all=(device verify large memcheck racecheck record probes bench)

usage() {
  cat <<END
usage: gpu/run_all.sh [--build FOLDER] [--out FOLDER] [STEP ...]

Steps (default: all, in this order; about five minutes):
  device     device_test: every element within its bound of fp64, guards, repeats, layouts, packed sequences
  verify     verify_device_test: every kernel against its simulated twin, bit for bit
  large      device_test: tensors with more than 2^31 elements (40 GB of memory)
  memcheck   device_test's sanitizer case under compute-sanitizer
  racecheck  likewise
  record     record_own.py: bits and, with Nsight Compute, counters, into OUT/own
  probes     run_all.py: what the hardware does, into OUT/facts
  bench      bench.py --sustained, where PyTorch is installed: OUT/bench.json and OUT/bench.md

--build is a build of the preset gpu (default: build/gpu), --out takes results and a log a step (default: BUILD/final).
What is not installed is skipped. Exit code 0: all that ran passed; 1: something failed; 5: there is no GPU.
END
}

build=$root/build/gpu out='' steps=()
while (($#)); do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --build | --out)
      (($# > 1)) || { usage >&2 && exit 2; }
      [[ $1 == --build ]] && build=$2 || out=$2
      shift ;;
    *)
      [[ " ${all[*]} " == *" $1 "* ]] || { usage >&2 && exit 2; }
      steps+=("$1") ;;
  esac
  shift
done
((${#steps[@]})) || steps=("${all[@]}")
build=$(cd -- "$build" && pwd -P) || exit 2
out=${out:-$build/final}
mkdir -p "$out" || exit 2
out=$(cd -- "$out" && pwd -P)
cd -- "$root" || exit 2

gpu=$("$build/gpu/gpu_record" --device) || exit $?
echo "$gpu"

# tool NAME: its path, in PATH or in the toolkit.
tool() {
  command -v "$1" || { [[ -x ${CUDA_PATH:-/usr/local/cuda}/bin/$1 ]] && echo "${CUDA_PATH:-/usr/local/cuda}/bin/$1"; }
}

sanitize() {
  local sanitizer
  sanitizer=$(tool compute-sanitizer) || return 77
  timeout 300 "$sanitizer" --tool "$1" --error-exitcode 1 "$build/verify/device_test" -tc='*sanitizer*'
}

# One step; 77: skipped.
run() {
  case $1 in
    device) timeout 300 "$build/verify/device_test" --test-suite-exclude=large ;;
    verify) timeout 600 "$build/verify/verify_device_test" ;;
    large) timeout 300 "$build/verify/device_test" --test-suite=large ;;
    memcheck | racecheck) sanitize "$1" ;;
    record)
      timeout 600 python3 -B data/golden/record_own.py --gpu-record "$build/gpu/gpu_record" --out "$out/own" ;;
    probes) timeout 600 python3 -B gpu/probes/run_all.py --build "$build" --out "$out/facts" --record "$out/probes" ;;
    bench)
      python3 -c 'import torch' 2>/dev/null || return 77
      timeout 600 python3 -B gpu/bench/bench.py --library "$build/gpu/libbitflash_gpu_bench.so" --sustained \
        --json "$out/bench.json" --markdown "$out/bench.md" ;;
  esac
}

# What is worth a line on the terminal.
summary='cases:|assertions:|of [0-9]+ problems|elements of O|launches of|PROBLEM|FAILED|WRONG|ERROR SUMMARY|RACECHECK SUMMARY|differ|wrote|TFLOP/s|ms \(TB/s|^[0-9]+ .* x .*head_dim'
failed=()
for step in "${steps[@]}"; do
  SECONDS=0
  run "$step" >"$out/$step.log" 2>&1
  code=$?
  grep -E "$summary" "$out/$step.log" | cut -c -240
  case $code in
    0) echo "== $step: passed, $SECONDS s" ;;
    77) echo "== $step: skipped" ;;
    *)
      failed+=("$step")
      tail -n 5 "$out/$step.log" | cut -c -240  # 124: out of time
      echo "== $step: FAILED with exit code $code, $SECONDS s; the log is $out/$step.log" ;;
  esac
done
((${#failed[@]} == 0)) || { echo "failed: ${failed[*]}" && exit 1; }
echo "all passed: ${steps[*]}; results in $out"
