#!/usr/bin/env bash
# Installs what is missing, builds and runs tests; see usage below.
set -euo pipefail

usage() {
  cat <<'END'
usage: ./test.sh [fast] [CTEST OPTION ...]   the fast tests (minutes); for example ./test.sh fast -R data
       ./test.sh slow [CTEST OPTION ...]     the slow tests (exhaustive, up to hours)
       ./test.sh asan [CTEST OPTION ...]     the fast tests under the address and undefined-behaviour sanitizers
       ./test.sh fuzz [SECONDS]              every fuzz target for SECONDS (default 60), with clang

The first run installs missing Debian packages (as root or with sudo).
BITFLASH_JOBS=N limits the compile jobs, BITFLASH_NO_INSTALL=1 never installs.
END
}

# shellcheck source=cmake/setup.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/cmake/setup.sh"

# Runs each fuzzer in build/cpu-fuzz/fuzz; found inputs and crashes stay below build/cpu-fuzz for the next run.
fuzz() {
  local seconds=$1 dir=$root/build/cpu-fuzz fuzzer name failed=0 found=0
  [[ $seconds =~ ^[1-9][0-9]*$ ]] || die "fuzz takes a number of seconds, not \"$seconds\""
  prepare
  require clang libomp-dev
  command -v clang++ >/dev/null || die "the fuzz targets need clang++ (Debian: apt-get install clang)"
  if ! clang++ -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null \
      <<<'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'; then
    require "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev"
  fi
  build cpu-fuzz
  for fuzzer in "$dir"/fuzz/*; do
    [[ -f $fuzzer && -x $fuzzer ]] || continue
    found=1
    name=$(basename -- "$fuzzer")
    mkdir -p "$dir/corpus/$name"
    note "$name for $seconds s"
    if ! "$fuzzer" -max_total_time="$seconds" -artifact_prefix="$dir/$name-" "$dir/corpus/$name" \
        >"$dir/$name.log" 2>&1 </dev/null; then
      tail -n 40 "$dir/$name.log" >&2
      note "$name FAILED; the input is in $dir, the log is $dir/$name.log"
      failed=1
    fi
  done
  ((found)) || die "there is no fuzz target"
  return $failed
}

mode=fast
case ${1:-} in
  -h | --help)
    usage
    exit
    ;;
  fast | slow | asan | fuzz)
    mode=$1
    shift
    ;;
  '' | -*) ;;
  *)
    usage >&2
    exit 2
    ;;
esac

case $mode in
  fast) build_preset=cpu test_preset=cpu ;;
  slow) build_preset=cpu test_preset=slow ;;
  asan) build_preset=cpu-asan test_preset=cpu-asan ;;
  fuzz)
    [[ $# -le 1 ]] || die "fuzz takes one number of seconds"
    fuzz "${1:-60}"
    exit
    ;;
esac
prepare
build "$build_preset"
cd -- "$root"
exec ctest --preset "$test_preset" -j "$(job_count)" --no-tests=error "$@" </dev/null
