#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and tests everything: installs what is missing, then runs the suite in three builds (release with asserts,
# AddressSanitizer with UBSan, ThreadSanitizer), compiles it with a second compiler and runs the fuzz targets.
#
# Usage: tests/run.sh [--release-only | --release --asan --tsan --clang --fuzz] [--long] [-R REGEX] [-j JOBS]
#   --release-only  the release build alone; the same as --release
#   --release, --asan, --tsan, --clang, --fuzz
#                   only the parts named; any number of them
#   --long          counts times ten, and the tests that take minutes (SLUICE_LONG=1)
#   -R REGEX        only the tests whose name matches, as ctest -R does
#   -j JOBS         tests at once; default: the number of CPUs
# SLUICE_FUZZ_SECONDS: how long each fuzz target runs; default 20.
# Logs: build/PRESET/tests.log. The last lines are ctest's own closing lines, build by build.
# Exit code: 0 all passed; 1 something failed; 2 usage.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
exec </dev/null

usage() {
    sed -n '/^# Usage/,/^# Exit code/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

parts=()
regex=.
jobs=$(nproc)
while [ $# -gt 0 ]; do
    case "$1" in
        --release-only | --release) parts+=(release) ;;
        --asan | --tsan | --clang | --fuzz) parts+=("${1#--}") ;;
        --long) export SLUICE_LONG=1 ;;
        -R) [ $# -ge 2 ] || usage; regex=$2; shift ;;
        -j) [ $# -ge 2 ] || usage; jobs=$2; shift ;;
        *) usage ;;
    esac
    shift
done
[ "${#parts[@]}" -gt 0 ] || parts=(clang fuzz release asan tsan)

tools/install-packages.sh tests || exit 1

failed=()
closing=()
started=$SECONDS

say() { printf '\n=== %s (%d s) ===\n' "$*" $((SECONDS - started)); }

# Configures and builds a preset; its output is shown only if it fails.
build() {
    local log=build/$1/build.log
    mkdir -p "build/$1"
    say "build $1"
    if ! { cmake --preset "$1" && cmake --build --preset "$1"; } >"$log" 2>&1; then
        grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking|Generating)' "$log"
        failed+=("build $1")
        return 1
    fi
}

# Runs ctest in a built preset and keeps its closing lines for the end.
run_tests() {
    local log=build/$1/tests.log status
    local -a prefix=()
    # ThreadSanitizer of gcc 12 cannot map its shadow where the kernel randomises addresses by more than 28 bits.
    if [ "$1" = tsan ] && [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)" -gt 28 ] &&
        setarch "$(uname -m)" -R true 2>/dev/null; then
        prefix=(setarch "$(uname -m)" -R)
    fi
    say "test $1"
    "${prefix[@]}" ctest --test-dir "build/$1" -j "$jobs" -R "$regex" --output-on-failure --no-tests=error 2>&1 |
        tee "$log"
    status=${PIPESTATUS[0]}
    [ "$status" -eq 0 ] || failed+=("test $1")
    closing+=("$(printf -- '--- ctest, build %s ---\n' "$1"; sed -n '/^[0-9]*% tests passed/,$p' "$log")")
}

# Runs every libFuzzer target of the fuzz build from its seed corpus.
run_fuzz() {
    local target name seeds
    for target in build/fuzz/tests/fuzz_*; do
        [ -x "$target" ] || continue
        name=$(basename "$target")
        say "fuzz $name, ${SLUICE_FUZZ_SECONDS:-20} s"
        mkdir -p "build/fuzz/corpus/$name" "build/fuzz/crashes"
        seeds=tests/fuzz/corpus/$name
        [ -d "$seeds" ] || seeds=
        # shellcheck disable=SC2086 # no seeds: no argument
        if ! UBSAN_OPTIONS=print_stacktrace=1 \
            "$target" -max_total_time="${SLUICE_FUZZ_SECONDS:-20}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix=build/fuzz/crashes/ "build/fuzz/corpus/$name" $seeds >"build/fuzz/$name.log" 2>&1; then
            tail -40 "build/fuzz/$name.log"
            failed+=("$name")
        fi
        grep -E 'number_of_executed_units|ERROR' "build/fuzz/$name.log"
    done
}

for part in "${parts[@]}"; do
    build "$part" || continue
    case "$part" in
        clang) ;;
        fuzz) run_fuzz ;;
        *) run_tests "$part" ;;
    esac
done

say "done"
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
else
    echo "All parts passed: ${parts[*]}"
fi
[ "${#closing[@]}" -eq 0 ] || printf '%s\n' "${closing[@]}"
[ "${#failed[@]}" -eq 0 ]
