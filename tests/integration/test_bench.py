#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: RUN_SERIAL TIMEOUT=240
"""`sluice bench` for a second each: every transport runs, says what it must, loses and doubles nothing, cleans up.

How fast it is decides nothing here; tests/bench/ compares.
"""
import glob
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from daemon import PATIENCE, SLUICE, command, holds, one_line, run, same, test  # noqa: E402

NEEDED = ["ops", "ops_per_s", "p50_us", "p99_us", "p999_us", "max_us", "errors", "lost", "doubled"]
TRANSPORTS = ["direct", "inproc", "ipc", "tcp"]


def bench(directory, *args):
    ended = command("bench", *args, "--seconds", "1", "--json", cwd=directory)
    same((ended.code, ended.err), (0, ""), f"{args}: {ended!r}")
    found = json.loads(one_line(ended.out))
    for name in NEEDED:
        holds(name in found, f"{args}: no {name} in {found}")
    same((found["errors"], found["lost"], found["doubled"], found["phantoms"]), (0, 0, 0, 0), f"{args}: {found}")
    holds(found["ops"] > 0 and found["ops_per_s"] > 0, f"{args}: {found}")
    holds(0 <= found["p50_us"] <= found["p99_us"] <= found["p999_us"] <= found["max_us"], f"{args}: {found}")
    same(os.listdir(directory), [], f"{args}: files left behind")
    return found


@test
def write_runs_on_every_transport_and_every_acknowledged_row_is_there_once(directory):
    for transport in TRANSPORTS:
        found = bench(directory, "write", "--transport", transport, "--clients", "4")
        holds(found["acknowledged"] >= found["ops"], found)
        if transport != "direct":
            same(found["store"]["writes"], found["acknowledged"], "the store's own count")
            holds(1 <= found["group_mean"] <= 4.01, found)


@test
def pipelined_writes_make_larger_groups(directory):
    for transport in TRANSPORTS[1:]:
        found = bench(directory, "write", "--transport", transport, "--clients", "2", "--pipeline", "16")
        holds(found["group_mean"] > 2, found)


@test
def read_and_mixed_run_on_every_transport(directory):
    for transport in TRANSPORTS:
        found = bench(directory, "read", "--transport", transport, "--clients", "2")
        same(found["acknowledged"], 0, "reads acknowledge nothing")
        found = bench(directory, "mixed", "--transport", transport, "--clients", "2")
        holds(0 < found["acknowledged"] < found["ops"], found)
    for work in "read", "mixed":
        found = bench(directory, work, "--clients", "2", "--local-lease")
        holds(found["store"]["reads_leased"] > found["store"]["reads"] * 0.9, found)


@test
def receipts_threads_processes_and_synchronous_normal_are_choices(directory):
    bench(directory, "write", "--transport", "ipc", "--clients", "2", "--receipts", "on", "--pipeline", "4")
    bench(directory, "write", "--transport", "ipc", "--clients", "2", "--threads")
    bench(directory, "write", "--transport", "direct", "--clients", "2", "--processes")
    bench(directory, "write", "--transport", "inproc", "--clients", "2", "--synchronous", "normal")


@test
def an_op_may_write_several_rows_and_updates_are_counted_by_the_rows(directory):
    for transport in TRANSPORTS:
        found = bench(directory, "write", "--transport", transport, "--clients", "2", "--rows", "7")
        same((found["rows"], found["acknowledged"] % 7), (7, 0), found)
        holds(found["acknowledged"] >= 7 * found["ops"], found)
        found = bench(directory, "update", "--transport", transport, "--clients", "2", "--rows", "3")
        holds(found["acknowledged"] >= 3 * found["ops"] and found["commit_p99_us"] > 0, found)
        holds(found["wal_file_bytes"] > 0, found)
    bench(directory, "write", "--clients", "2", "--rows", "5", "--shape", "statements", "--pipeline", "3")
    bench(directory, "update", "--clients", "1", "--spin", "50")


@test
def a_chosen_file_is_kept_and_a_second_run_judges_only_its_own_rows(directory):
    path = os.path.join(directory, "chosen.db")
    for _ in range(2):
        ended = command("bench", "write", "--clients", "2", "--seconds", "1", "--json", "--db", path, cwd=directory)
        same(ended.code, 0, repr(ended))
        found = json.loads(ended.out)
        same((found["lost"], found["doubled"], found["phantoms"]), (0, 0, 0), found)
    holds(os.path.exists(path), "kept")


@test
def actors_pass_messages_without_losing_one(directory):
    for work in ["pingpong", "ring", "count"]:
        bench(directory, work)
        bench(directory, work, "--clients", "3", "--pipeline", "5")


@test
def an_interrupted_run_ends_with_1_and_leaves_no_file_or_process(directory):
    for transport in TRANSPORTS:
        args = [SLUICE, "bench", "write", "--transport", transport, "--seconds", "600", "--clients", "2"]
        process = subprocess.Popen(args, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True)
        end = time.monotonic() + PATIENCE
        while not glob.glob(directory + "/*/bench.db-wal") and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=PATIENCE)
        same((process.returncode, out), (1, ""), f"{transport}: {err!r}")
        holds("interrupted" in one_line(err), err)
        same(os.listdir(directory), [], "files left behind")
        try:
            os.killpg(process.pid, 0)
            raise AssertionError(f"{transport}: processes left behind")
        except ProcessLookupError:
            pass


@test
def a_file_that_cannot_be_used_ends_with_1(directory):
    for transport in TRANSPORTS:
        ended = command("bench", "write", "--transport", transport, "--db", os.path.join(directory, "missing", "a.db"),
                        "--seconds", "1", cwd=directory)
        same((ended.code, ended.out), (1, ""), repr(ended))
        one_line(ended.err)
        same(os.listdir(directory), [], "files left behind")


run()
