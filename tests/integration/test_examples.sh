#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# CTest: TIMEOUT=240 RUN_SERIAL
# the_show_loses_nothing_and_the_catalog_equals_dpkg_query
# the_catalog_reads_odd_packages_as_dpkg_does
# a_dead_or_stopped_worker_is_replaced_and_cannot_write_later
# the_judge_and_the_check_see_planted_faults
# Short forms of what examples/run.sh does, and proof that its checkers can say no.
set -uo pipefail
bin=$SLUICE_BIN/examples
work=$(mktemp -d)
pids=()
failed=0

# shellcheck disable=SC2317 # called by the trap
finish() {
    local pid
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap finish EXIT

fail() {
    echo "FAILED: $*"
    failed=1
}

# expect CODE COMMAND...: runs it and compares the exit code.
expect() {
    local wanted=$1 code
    shift
    "$@" >"$work/last" 2>&1
    code=$?
    if [ "$code" -ne "$wanted" ]; then
        cat "$work/last"
        fail "exit code $code instead of $wanted: $*"
        return 1
    fi
}

# until_true SECONDS COMMAND...: repeats it until it succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# ---- a dpkg directory with one of each kind ----
root=$work/dpkg
mkdir -p "$root/info" "$root/updates" "$root/triggers"
echo 1 >"$root/info/format"
: >"$root/available"
printf 'amd64\ni386\n' >"$root/arch"
cat >"$root/status" <<'STATUS'
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22
Pre-Depends: libsame (>= 1), tar:any (>= 1.28-1)
Description: the package manager
 with a second line
Maintainer: Nobody <nobody@example.org>

Package: libsame
Status: install ok installed
Multi-Arch: same
Architecture: amd64
Version: 2:1.0-1
Depends: libother (= 1) | libthird (<< 2) | virtual-thing, dpkg
Description: the same on two architectures
Maintainer: Nobody <nobody@example.org>

Package: libsame
Status: install ok installed
Multi-Arch: same
Architecture: i386
Version: 2:1.0-1
Depends: libother:any (>> 0.5~rc1)
Description: the same on two architectures
Maintainer: Nobody <nobody@example.org>

Package: foreign
Status: install ok installed
Architecture: i386
Version: 3
Depends: libsame
Description: of another architecture
Maintainer: Nobody <nobody@example.org>

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
Conffiles:
 /etc/removed.conf d41d8cd98f00b204e9800998ecf8427e
Description: only its configuration is left
Maintainer: Nobody <nobody@example.org>

Package: nofiles
Status: install ok installed
Architecture: all
Version: 0.1
Depends: dpkg, dpkg (>= 1)
Description: has no list worth the name
Maintainer: Nobody <nobody@example.org>

STATUS
printf '/.\n/usr\n/usr/bin\n/usr/bin/dpkg\n/usr/share/a file with blanks: and a colon\n' >"$root/info/dpkg.list"
printf '/.\n/usr\n/usr/lib/x86/libsame.so\n' >"$root/info/libsame:amd64.list"
printf '/.\n/usr\n/usr/lib/x32/libsame.so\n/usr/share/\303\251t\303\251\n/usr/share/\377\376\n' >"$root/info/libsame:i386.list"
printf '/.\n/usr\n/usr/bin/foreign\n' >"$root/info/foreign.list"
printf '/etc/removed.conf\n' >"$root/info/removed.list"
: >"$root/info/nofiles.list"
expect 0 dpkg-query --admindir="$root" -W || exit 1
[ "$(wc -l <"$work/last")" -eq 6 ] || fail "dpkg-query itself does not understand the made-up directory"

# ---- the show on that directory ----
mkdir "$work/small"
expect 0 "$bin/showcase" --directory "$work/small" --dpkg "$root" --seconds 3 --workers 2 --buyers 4
grep -q 'installed packages  5, dpkg-query 5' "$work/last" || fail "not five packages are installed"
grep -q 'the catalog equals dpkg-query' "$work/last" || fail "the small catalog differs"

# ---- the checkers can say no ----
small=$work/small
expect 0 "$bin/judge" --db "$small/sluice.db" catalog "$small/catalog.log"
{ cat "$small/catalog.log"; printf 'nobody.1.1\t1\n'; } >"$work/one-too-many"
expect 1 "$bin/judge" --db "$small/sluice.db" catalog "$work/one-too-many"
grep -q ' lost=1 doubled=0 ' "$work/last" || fail "the judge did not miss the write that was never made"
expect 0 "$bin/judge" --db "$small/sluice.db" orders "$small/orders.log"
if command -v sqlite3 >/dev/null; then
    cp "$small/sluice.db" "$work/tampered.db"
    sqlite3 "$work/tampered.db" 'INSERT INTO ledger SELECT * FROM ledger LIMIT 1;
        INSERT INTO movement SELECT * FROM movement LIMIT 1;
        UPDATE package SET n_files = n_files + 1 WHERE name = '\''dpkg'\'';'
    expect 1 "$bin/judge" --db "$work/tampered.db" catalog "$small/catalog.log"
    grep -Eq ' doubled=1 wrong=1 ' "$work/last" || fail "the judge did not see a doubled write and half a package"
    expect 1 "$bin/judge" --db "$work/tampered.db" orders "$small/orders.log"
    grep -q ' doubled=1 wrong=1 ' "$work/last" || fail "the judge did not see a doubled order and its stock"
else
    echo "no sqlite3 command: the tampered copies are left out"
fi
expect 0 "$bin/catalog-check" --db "$small/sluice.db" --dpkg "$root"
echo /usr/bin/new >>"$root/info/foreign.list"
expect 1 "$bin/catalog-check" --db "$small/sluice.db" --dpkg "$root"
grep -q 'files of foreign:i386: 3, dpkg-query 4' "$work/last" || fail "the check did not name the file list that differs"

# ---- workers that stop and die ----
mkfifo "$work/ready"
"$bin/orders" --db "$work/workers.db" --gateway 'tcp://127.0.0.1:*' >"$work/ready" &
orders=$!
pids+=("$orders")
read -r -t 60 _ _ gateway <"$work/ready" || fail "orders did not become ready"
gateway=${gateway#gateway=}
# shellcheck disable=SC2317 # called by until_true
lines() { [ -e "$work/ack.$1" ] && [ "$(wc -l <"$work/ack.$1")" -ge "$2" ]; }
for name in stopped killed; do
    "$bin/catalog-worker" --connect "$gateway" --worker "$name" --dpkg "$root" --lease 2 --log "$work/ack.$name" \
        >"$work/out.$name" 2>&1 &
    pids+=("$!")
    until_true 60 lines "$name" 10 || fail "worker $name acknowledged nothing"
    if [ "$name" = stopped ]; then kill -STOP "${pids[-1]}"; else kill -KILL "${pids[-1]}"; fi
done
rounds=$("$bin/catalog-query" --connect "$gateway" summary | sed 's/.*\t\([0-9]*\) rounds complete/\1/')
expect 0 timeout 120 "$bin/catalog-worker" --connect "$gateway" --worker heir --dpkg "$root" --lease 2 \
    --rounds $((rounds + 2)) --log "$work/ack.heir"
kill -CONT "${pids[1]}"
lines_now=$(wc -l <"$work/ack.stopped")
until_true 60 lines stopped $((lines_now + 10)) || fail "the worker that was stopped did not go on"
kill -TERM "${pids[1]}"
wait "${pids[1]}" || fail "the worker that was stopped ended with $?"
expect 0 "$bin/catalog-check" --connect "$gateway" --dpkg "$root"
expect 0 "$bin/catalog-query" --connect "$gateway" owner /usr/bin/new
grep -qx 'foreign:i386' "$work/last" || fail "catalog-query does not know the owner"
expect 0 "$bin/catalog-query" --connect "$gateway" needed-by libother
expect 1 "$bin/catalog-query" --connect "$gateway" needed-by nothing-of-the-kind
# A slice is taken from a worker's hands again and again: its writes must begin to be refused.
"$bin/catalog-worker" --connect "$gateway" --worker victim --dpkg "$root" --lease 1 --pipeline 1 \
    --log "$work/ack.victim" >"$work/out.victim" 2>&1 &
victim=$!
pids+=("$victim")
# shellcheck disable=SC2317 # called by until_true
robbed() {
    "$SLUICE_BIN/sluice" --connect "$gateway" exec \
        "UPDATE slice SET owner = 'thief' WHERE owner LIKE 'victim.%'" >/dev/null || return 1
    tail -1 "$work/out.victim" | grep -q ' refused=[1-9]'
}
until_true 90 robbed || fail "the worker went on writing to slices that were no longer its own"
kill -TERM "$victim"
wait "$victim" || fail "the robbed worker ended with $?"
expect 0 "$bin/catalog-check" --connect "$gateway" --dpkg "$root"
kill -TERM "$orders"
wait "$orders" || fail "orders ended with $?"
expect 0 "$bin/judge" --db "$work/workers.db" catalog "$work"/ack.*

# ---- the whole show, as the README's first command runs it ----
if [ "${SLUICE_SCALE:-1}" -eq 1 ]; then
    expect 0 "$SLUICE_SOURCE/examples/run.sh" --bin "$bin" --seconds 6 --workers 2 --buyers 8
    grep -E '^ +(lost|doubled|BUSY|found|acknowledged|slowest)|dpkg-query|catalog reads' "$work/last"
fi
expect 2 "$SLUICE_SOURCE/examples/run.sh" --bogus
exit "$failed"
