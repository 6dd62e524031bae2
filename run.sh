#!/usr/bin/env bash
# The main job: what traffic FlashAttention saves for a model on a GPU. Installs, builds and runs; see usage below.
set -euo pipefail

usage() {
  cat <<'END'
usage: ./run.sh                          explain Llama 3 8B on an H200: prefill of 8192 tokens, then decode
       ./run.sh COMMAND [ARGUMENT ...]   any bitflash command, for example
                                           ./run.sh traffic --model llama-3-8b --gpu h200 --seqlen-k 512:131072:x2
                                           ./run.sh --help

The first run installs missing Debian packages (as root or with sudo) and builds; later ones start at once.
BITFLASH_JOBS=N limits the compile jobs, BITFLASH_NO_INSTALL=1 never installs.
END
}

# shellcheck source=cmake/setup.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/cmake/setup.sh"

if [[ $# == 1 && ($1 == -h || $1 == --help) ]]; then
  usage
  [[ -x $root/build/cpu/verify/bitflash ]] || exit 0  # --help builds nothing
  echo
  exec "$root/build/cpu/verify/bitflash" --help
fi

prepare
build cpu bitflash
bitflash=$root/build/cpu/verify/bitflash

if (($#)); then
  exec "$bitflash" "$@"
fi
for phase in prefill decode; do
  "$bitflash" explain --model llama-3-8b --gpu h200 --phase "$phase" --seqlen 8192 --mask full
done
