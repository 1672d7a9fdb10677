#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds Sluice, and runs the microservices against one file, with a stock-SQLite control group
# beside them: an HTTP order service that owns the file, catalog workers that index this machine's packages over TCP, and
# as many processes that do the same writes straight on a SQLite file of their own. One line per second; a table at the
# end.
#
# Usage: examples/run.sh [--seconds N] [--workers N] [--buyers N] [--busy-timeout MS] [--serve] [--keep] [--bin DIR]
#   --seconds N        how long it runs, installing and building apart (default: 40)
#   --workers N        catalog workers, and as many processes in the control group (default: 4)
#   --buyers N         concurrent HTTP clients (default: 16)
#   --busy-timeout MS  of the control group (default: 5000)
#   --serve            when the time is up, go on serving and print the URL and commands to try, until Ctrl-C
#   --keep             leave the databases and logs where they are, and say where
#   --bin DIR          the programs have been built already, into DIR: neither install nor build
# Exit code: 0 nothing lost, nothing doubled, no BUSY, and the catalog equals dpkg-query; 1 otherwise; 2 usage;
# 130 after Ctrl-C.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    sed -n '/^# Usage/,/^# 130/s/^# \{0,1\}//p' "$root/examples/run.sh"
}

keep=false
bin=
show=()
while [ $# -gt 0 ]; do
    case "$1" in
        --seconds | --workers | --buyers | --busy-timeout)
            if ! [[ "${2:-}" =~ ^[0-9]+$ ]]; then
                usage >&2
                exit 2
            fi
            show+=("$1" "$2")
            shift
            ;;
        --serve) show+=("$1") ;;
        --keep) keep=true ;;
        --bin)
            bin=$(realpath -e "${2:-}") || exit 2
            [ -x "$bin/showcase" ] || { echo "$0: there is no showcase in '$bin'" >&2; exit 2; }
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done

cd "$root"
if [ -z "$bin" ]; then
    tools/install-packages.sh examples
    mkdir -p build
    echo "Building; the log is build/examples.log."
    # The tests stay out: tests/run.sh builds them, and needs more packages for it.
    if ! { cmake --preset release -DSLUICE_TESTS=OFF && cmake --build --preset release; } \
        >build/examples.log 2>&1 </dev/null; then
        tail -40 build/examples.log >&2
        exit 1
    fi
    bin=build/release/bin/examples
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-examples.XXXXXX")
child=
# shellcheck disable=SC2317 # called by the trap
finish() {
    # Only after a signal to this script alone; at Ctrl-C the show has it too. It ends its programs in order.
    if [ -n "$child" ] && kill -0 "$child" 2>/dev/null; then
        kill -TERM "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    if $keep; then
        echo "The databases and logs are in $work."
    else
        rm -rf "$work"
    fi
}
trap finish EXIT
trap : INT TERM # wait returns, the loop below sees whether the show has ended

set -m # a process group of its own: its end is ours to ask for
"$bin/showcase" --directory "$work" ${show[@]+"${show[@]}"} </dev/null &
child=$!
set +m
code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not the show
    kill -TERM "$child" 2>/dev/null || true
    code=0
    wait "$child" || code=$?
done
child=
exit "$code"
