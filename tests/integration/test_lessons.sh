#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# each_lesson_is_short_runs_alone_and_prints_what_it_says
# Runs every lesson in an empty directory and compares what it prints with examples/lessons/expected/.
set -uo pipefail
lessons=$SLUICE_SOURCE/examples/lessons
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

number=0
for source in "$lessons"/0*.c; do
    number=$((number + 1))
    name=$(basename "$source" .c)
    [ "$(wc -l <"$source")" -lt 100 ] || fail "$name has 100 lines or more"
    mkdir "$work/$name"
    (cd "$work/$name" && timeout 60 "$SLUICE_BIN/examples/$name" >stdout 2>stderr)
    code=$?
    [ "$code" -eq 0 ] || fail "$name ended with $code"
    diff -u "$lessons/expected/$name.txt" "$work/$name/stdout" || fail "$name printed something else"
    if [ -s "$work/$name/stderr" ]; then
        cat "$work/$name/stderr"
        fail "$name wrote to stderr"
    fi
    echo "ran $name"
done
[ "$number" -eq 5 ] || fail "there are $number lessons"
exit "$failed"
