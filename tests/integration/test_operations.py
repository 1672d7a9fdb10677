#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: TIMEOUT=240
"""What an operator does with a running sluiced: see what its readers run, have its log and its database copied,
and bring a copy back."""
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from daemon import PATIENCE, SLUICE, Daemon, command, holds, run, same, test  # noqa: E402

RUNAWAY = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


def sluice(url, *args):
    return command("--connect", url, *args)


def ok(url, *args):
    ended = sluice(url, *args)
    same(ended.code, 0, repr(ended))
    return ended.out


@test
def report_readers_shows_the_statement_its_age_and_who_asked(directory):
    with Daemon(os.path.join(directory, "a.db"), "--readers", "2") as daemon:
        url = daemon.endpoints[0]
        ok(url, "exec", "CREATE TABLE t(a)")
        found = json.loads(ok(url, "--json", "report", "readers"))
        same([(r["number"], r["kind"], r["busy"]) for r in found["readers"]],
             [(0, "reader", False), (1, "reader", False)])
        same(found["commit_number"], 1)
        with subprocess.Popen([SLUICE, "--connect", url, "--timeout", "3000", "query", RUNAWAY],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as runaway:
            until = time.monotonic() + PATIENCE
            busy = []
            while not busy or busy[0]["age_ms"] < 100:
                holds(time.monotonic() < until and runaway.poll() is None, found)
                found = json.loads(ok(url, "--json", "report", "readers"))
                busy = [r for r in found["readers"] if r["busy"]]
            same(len(busy), 1, found)
            same((busy[0]["statement"], busy[0]["statement_size"]), (RUNAWAY, len(RUNAWAY)))
            same((busy[0]["asker_name"], busy[0]["commit_number"]), ("gateway", 1))
            holds(busy[0]["request"] != 0, busy)
            table = ok(url, "report", "readers")
            holds("STATEMENT" in table and RUNAWAY in table and "gateway" in table and "idle" in table, table)
            same(runaway.wait(PATIENCE), 1, "it ended at its deadline")
        found = json.loads(ok(url, "--json", "report", "readers"))
        same([r["busy"] for r in found["readers"]], [False, False])
        same(json.loads(ok(url, "--json", "status"))["store"]["snapshots_old"], 1)
        same(sluice(url, "report", "writers").code, 2)
        same(sluice(url, "report").code, 2)


@test
def checkpoint_copies_the_log_and_truncate_cuts_its_file(directory):
    path = os.path.join(directory, "a.db")
    with Daemon(path, "--checkpoint", "manual") as daemon:
        url = daemon.endpoints[0]
        ok(url, "exec", "CREATE TABLE t(v)")
        ok(url, "exec", "INSERT INTO t VALUES(zeroblob(1000000))")
        holds(os.path.getsize(path + "-wal") > 1000000, "the log holds it")
        holds(os.path.getsize(path) < 1000000, "the file does not yet")
        found = json.loads(ok(url, "--json", "checkpoint"))
        holds(found["frames"] * 4096 > 1000000 and found["wal_file_bytes"] == os.path.getsize(path + "-wal"), found)
        holds(os.path.getsize(path) > 1000000, "now it does")
        same(json.loads(ok(url, "--json", "checkpoint", "--truncate"))["wal_file_bytes"], 0)
        same(os.path.getsize(path + "-wal"), 0)
        holds("0 frames" in ok(url, "checkpoint"), "nothing is left to do")
        same(json.loads(ok(url, "--json", "status"))["store"]["checkpoint_commands"], 3)
        same(sluice(url, "checkpoint", "now").code, 2)


@test
def a_backup_taken_while_others_write_comes_back_by_restore(directory):
    path, copy = os.path.join(directory, "a.db"), os.path.join(directory, "copy.db")
    with Daemon(path) as daemon:
        url = daemon.endpoints[0]
        ok(url, "exec", "CREATE TABLE t(v)")
        stop = threading.Event()

        def write():
            while not stop.is_set():
                ok(url, "exec", "INSERT INTO t VALUES(randomblob(20000))")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(5):
                before = int(ok(url, "query", "SELECT count(*) FROM t"))
                ended = command("--connect", url, "--json", "backup", "copy.db", cwd=directory)
                same(ended.code, 0, repr(ended))
                found = json.loads(ended.out)
                same((found["path"], found["bytes"], found["restarts"]), (copy, os.path.getsize(copy), 0))
                after = int(ok(url, "query", "SELECT count(*) FROM t"))
                with contextlib.closing(sqlite3.connect(copy)) as db:
                    same(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
                    n = db.execute("SELECT count(*) FROM t").fetchone()[0]
                    same(db.execute("PRAGMA page_count").fetchone()[0], found["pages"])
                holds(before <= n <= after, (before, n, after))
        finally:
            stop.set()
            writer.join()
        ended = command("restore", copy, "--db", path)
        same(ended.code, 1, repr(ended))
        holds(str(daemon.pid) in ended.err, ended.err)
        ended = sluice(url, "backup", path)
        same(ended.code, 1, repr(ended))
        holds("own" in ended.err, ended.err)
        same(daemon.stop(signal.SIGTERM)[0], 0)
    same(json.loads(command("restore", copy, "--db", path, "--json").out), {"pages": found["pages"]})
    with Daemon(path) as daemon:
        same(int(ok(daemon.endpoints[0], "query", "SELECT count(*) FROM t")), n)
        ok(daemon.endpoints[0], "exec", "INSERT INTO t VALUES(1)")
    new = os.path.join(directory, "new.db")
    same(command("restore", copy, "--db", new).code, 0, "to a place where nothing was")
    for args in ("restore",), ("restore", copy), ("restore", "--db", new), ("backup",):
        same(command("--connect", "ipc:///nowhere", *args).code, 2, args)
    same(command("restore", "/nowhere/copy.db", "--db", new).code, 1)


if __name__ == "__main__":
    run()
