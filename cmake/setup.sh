# shellcheck shell=bash
# Sourced by run.sh, test.sh and .ci/run: installs what is missing, configures, builds. Debian 12 and anything like it.
# Quiet unless something has to be done; the output of cmake is shown only when it fails.
#   BITFLASH_JOBS=N         compile jobs (default: one per processor and 2 GiB of free memory)
#   BITFLASH_NO_INSTALL=1   never install packages

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)

note() { printf 'bitflash: %s\n' "$*" >&2; }
die() {
  note "$@"
  exit 1
}

# job_count: how many compilers may run at once. A translation unit full of templates takes up to 2 GiB.
job_count() {
  local processors kib limit
  [[ ${BITFLASH_JOBS:-} =~ ^[1-9][0-9]*$ ]] && { echo "$BITFLASH_JOBS"; return; }
  processors=$(nproc 2>/dev/null || echo 1)
  kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null)
  kib=${kib:-2097152}
  for limit in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do  # the container's own limit
    limit=$(cat "$limit" 2>/dev/null || true)
    if [[ $limit =~ ^[0-9]{1,15}$ ]] && ((limit / 1024 < kib)); then kib=$((limit / 1024)); fi
  done
  awk -v p="$processors" -v k="$kib" 'BEGIN {n = int(k / 2097152); if (n > p) n = p; print n < 1 ? 1 : n}'
}

# as_root COMMAND...: runs it as root; false when there is no way to.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null && [[ -t 0 && -z ${CI:-} ]]; then
    sudo "$@"  # may ask for the password
  else
    sudo -n "$@"
  fi
}

can_be_root() {
  [[ $(id -u) == 0 ]] && return
  command -v sudo >/dev/null || return
  [[ -t 0 && -z ${CI:-} ]] || sudo -n true 2>/dev/null
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# missing PACKAGE...: those that are not there. A program counts wherever it comes from.
missing() {
  local package program
  for package in "$@"; do
    program=$package
    case $package in
      ninja-build) program=ninja ;;
      clang) program=clang++ ;;
      binutils) program=c++filt ;;
    esac
    command -v "$program" >/dev/null && continue
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] && continue
    echo "$package"
  done
}

# require PACKAGE...: makes them present if it can and says what it cannot. Never fails: configuring decides whether
# what is there is enough (cmake/dependencies.cmake fetches most libraries when there is a network).
require() {
  local package missing_tools log="$root/build/packages.log"
  local -a wanted
  if ! command -v dpkg-query >/dev/null; then
    missing_tools=$(missing g++ cmake ninja-build | tr '\n' ' ')
    [[ -f $root/build/cpu/build.ninja ]] ||
      note "this is not Debian, so nothing is installed. Needed are the equivalents of: $*"
    [[ -z $missing_tools ]] || die "not found: $missing_tools"
    return
  fi
  read -ra wanted <<<"$(missing "$@" | tr '\n' ' ')"
  ((${#wanted[@]})) || return 0
  if [[ -n ${BITFLASH_NO_INSTALL:-} ]] || ! can_be_root; then
    note "missing packages: ${wanted[*]}"
    note "they cannot be installed from here (neither root nor sudo without a password); ask an administrator to run"
    note "  apt-get install ${wanted[*]}"
    note "going on with what is there"
    return 0
  fi
  note "installing ${wanted[*]}"
  mkdir -p "$root/build"
  apt_get update >"$log" 2>&1 || note "apt-get update failed (see $log); trying with the package lists that are there"
  if ! apt_get install --no-install-recommends "${wanted[@]}" >>"$log" 2>&1; then
    for package in "${wanted[@]}"; do  # one by one, to get what can be had and to name what cannot
      apt_get install --no-install-recommends "$package" >>"$log" 2>&1 || true
    done
  fi
  read -ra wanted <<<"$(missing "$@" | tr '\n' ' ')"
  if ((${#wanted[@]})); then
    note "apt-get could not install: ${wanted[*]} (the whole output is in $log)"
    grep -E '^(E|Err)[: ]' "$log" | sort -u | head -n 10 >&2 || true
    note "check the network and the sources of apt (main is enough), then run: apt-get install ${wanted[*]}"
    note "going on with what is there"
  fi
}

# logged LOG COMMAND...: its output goes to LOG and, if it fails, to the terminal.
logged() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null && return
  tail -n 60 "$log" >&2
  note "failed: $*"
  die "the whole output is in $log"
}

# build PRESET [TARGET]: configures and builds, TARGET or everything.
build() (
  preset=$1
  dir=$root/build/$preset
  configure=(cmake --preset "$preset")
  command -v cmake >/dev/null || die "cmake is not installed (Debian: apt-get install cmake)"
  command -v ninja >/dev/null || die "ninja is not installed (Debian: apt-get install ninja-build)"
  version=$(cmake --version | sed -n 's/^cmake version //p')
  printf '%s\n' 3.25 "$version" | sort -V -C || die "cmake 3.25 or newer is needed; this is $version"
  mkdir -p "$dir"
  # A copied or moved tree: what was configured for the old place is worth nothing.
  if [[ -f $dir/CMakeCache.txt ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$dir/CMakeCache.txt"; then
    configure+=(--fresh)
  fi
  # Given anew each time, because a launcher that was removed since must not stay in the cache.
  configure+=("-DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER-$(command -v ccache || true)}")
  cd -- "$root" || exit
  logged "$dir/configure.log" "${configure[@]}"
  n=$(job_count)
  compile=(cmake --build --preset "$preset" -j "$n" ${2:+--target "$2"})
  if ! "${compile[@]}" -- -n 2>/dev/null | grep 'no work to do' >/dev/null; then
    note "building (preset $preset, $n jobs; the log is $dir/build.log)"
    logged "$dir/build.log" "${compile[@]}"
  fi
)

# prepare: the packages of every build.
prepare() {
  require g++ cmake ninja-build nlohmann-json3-dev zlib1g-dev libhwy-dev libeigen3-dev libfmt-dev libcli11-dev doctest-dev
}
