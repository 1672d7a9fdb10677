#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs the Debian packages that building, testing and the examples need, if any is missing. Runs apt-get only then.
#
# Usage: tools/install-packages.sh build|examples|tests|bench
#   build     what the library and the tools are built from
#   examples  build, and what examples/run.sh runs
#   tests     all of it, with a second compiler, fuzzing and the test scripts' needs
#   bench     the databases that tests/bench/write.sh compares with
# Exit code: 0 everything is there; 1 something is missing and could not be installed; 2 usage.
set -euo pipefail

build=(gcc libc6-dev cmake ninja-build pkg-config libzmq3-dev libsqlite3-dev libprotobuf-c-dev protobuf-c-compiler
    protobuf-compiler libjansson-dev libmicrohttpd-dev libsmartcols-dev)
examples=(curl sqlite3)
tests=(g++ libcmocka-dev clang libclang-rt-14-dev python3 python3-zmq python3-protobuf strace)
bench=(postgresql-15 redis-server python3)

case "${1:-}" in
    build) wanted=("${build[@]}") ;;
    examples) wanted=("${build[@]}" "${examples[@]}") ;;
    tests) wanted=("${build[@]}" "${examples[@]}" "${tests[@]}") ;;
    bench) wanted=("${bench[@]}") ;;
    *)
        echo "usage: $0 build|examples|tests|bench" >&2
        exit 2
        ;;
esac

# Which of the wanted packages are not installed, one per line.
missing_packages() {
    local package
    for package in "${wanted[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || echo "$package"
    done
}

if ! command -v dpkg-query >/dev/null; then
    echo "$0: this is not a Debian system; install by hand: ${wanted[*]}" >&2
    exit 1
fi
mapfile -t missing < <(missing_packages)
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "$0: missing packages, and neither root nor sudo: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "Installing: ${missing[*]}" >&2
run_apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q "$@" </dev/null >&2
}
# The package lists of a fresh machine are empty; those of an old one may name files that are gone.
run_apt update
run_apt install -y --no-install-recommends "${missing[@]}"

mapfile -t missing < <(missing_packages)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "$0: could not install: ${missing[*]}" >&2
    exit 1
fi
