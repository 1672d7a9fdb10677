#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: TIMEOUT=240
"""sluiced and sluice as a user meets them: what they print, how they end, what they refuse and how they say so."""
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from daemon import PATIENCE, SLUICED, Daemon, Skip, command, holds, one_line, run, same, test  # noqa: E402


def sluice(url, *args):
    return command("--connect", url, *args)


def ok(url, *args):
    ended = sluice(url, *args)
    same(ended.code, 0, repr(ended))
    return ended.out


# ---- usage ----

@test
def a_command_line_that_makes_no_sense_ends_with_2(_):
    cases = [
        (SLUICED,), (SLUICED, "--no-such-option"), (SLUICED, "--db"), (SLUICED, "--db", ""),
        (SLUICED, "--db", "x", "stray"), (SLUICED, "--db", "x", "--readers", "0"),
        (SLUICED, "--db", "x", "--readers", "65"), (SLUICED, "--db", "x", "--readers", "2x"),
        (SLUICED, "--db", "x", "--synchronous", "off"), (SLUICED, "--db", "x", "--file-mode", "private"),
        (SLUICED, "--db", "x", "--listen", "udp://127.0.0.1:1"), (SLUICED, "--db", "x", "--status-interval", "0"),
        (SLUICED, "--db", "x", "--keys", "k", "--allow-plain"),
        (None, "--connect", "tcp://127.0.0.1:1", "--key", "k", "ping"),
        (None, "--connect", "tcp://127.0.0.1:1", "--server-key", "k", "ping"),
        (None, "--connect", "ipc:///tmp/x", "--key", "k", "--server-key", "k", "ping"),
        (None, "bench", "write", "--curve", "on"), (None, "keygen", "--rights", "all", "k"),
        (None,), (None, "--no-such-option"), (None, "dance"), (None, "exec"), (None, "query"),
        (None, "query", "SELECT 1"), (None, "--connect", "http://x", "query", "SELECT 1"),
        (None, "--connect", "ipc:///tmp/x", "--timeout", "0", "ping"),
        (None, "--connect", "ipc:///tmp/x", "--timeout", "soon", "ping"), (None, "status", "stray"),
        (None, "--connect", "ipc:///tmp/x", "query", "SELECT ?", "int:x"),
        (None, "--connect", "ipc:///tmp/x", "query", "SELECT ?", "blob:0"),
        (None, "keygen"), (None, "keygen", "a", "b"),
        (None, "bench"), (None, "bench", "juggle"), (None, "bench", "write", "read"),
        (None, "bench", "write", "--transport", "pigeon"), (None, "bench", "write", "--clients", "0"),
        (None, "bench", "write", "--seconds", "-1"), (None, "bench", "write", "--processes", "--threads"),
        (None, "bench", "write", "--transport", "inproc", "--processes"), (None, "bench", "ring", "--transport", "tcp"),
        (None, "bench", "write", "--transport", "direct", "--receipts", "on"),
        (None, "--connect", "ipc:///x", "bench", "write"),
    ]
    for binary, *args in cases:
        ended = command(*args, **({"binary": binary} if binary else {}))
        same(ended.code, 2, f"{binary or 'sluice'} {args}: {ended!r}")
        same(ended.out, "", f"{args}: stdout")
        holds(ended.err.startswith("sluice"), f"{args}: stderr names the program: {ended.err!r}")
    holds(not os.path.exists("x"), "a refused command line must not make a file")


@test
def what_this_build_lacks_is_refused_by_name(_):
    for binary, *args in [
        (None, "bench", "write", "--relay"),
    ]:
        ended = command(*args, **({"binary": binary} if binary else {}))
        same(ended.code, 2, repr(ended))
        holds("unsupported" in ended.err and "this build has no" in ended.err, repr(ended))


@test
def help_and_version_end_with_0(_):
    for args in [("--help",), ("--version",), ("query", "--help"), ("exec", "--help"), ("bench", "--help")]:
        ended = command(*args)
        same((ended.code, ended.err), (0, ""), repr(ended))
        holds(ended.out, "something is printed")
    same(command("--help", binary=SLUICED).code, 0)


# ---- starting ----

def refused(directory, *args, code=1):
    """Starts sluiced, which must end by itself with one line on stderr. Returns the line."""
    ended = command(*args, binary=SLUICED, cwd=directory)
    same((ended.code, ended.out), (code, ""), repr(ended))
    line = one_line(ended.err) if code == 1 else ended.err
    holds(line.startswith("sluiced: "), line)
    return line


@test
def the_ready_line_names_pid_endpoints_and_file(directory):
    path = os.path.join(directory, "with space.db")
    with Daemon(path, "--listen", f"ipc://{directory}/s", "--listen", "tcp://127.0.0.1:*", "--allow-plain") as daemon:
        same(daemon.ready.split(" ")[1], f"pid={daemon.pid}", daemon.ready)
        same(len(daemon.endpoints), 2, daemon.ready)
        same(daemon.endpoints[0], f"ipc://{directory}/s", daemon.ready)
        holds(re.fullmatch(r"tcp://127\.0\.0\.1:\d+", daemon.endpoints[1]), daemon.ready)
        holds(daemon.ready.endswith(" db=" + os.path.realpath(path)), daemon.ready)
        same(daemon.stop(signal.SIGTERM), (0, "", ""), "a quiet end")


@test
def the_default_socket_lies_beside_the_file_in_a_directory_of_its_own(directory):
    path = os.path.join(directory, "a.db")
    with Daemon(path) as daemon:
        same(daemon.endpoints, [f"ipc://{os.path.realpath(path)}.sluice.d/s"])
        same(stat.S_IMODE(os.stat(path + ".sluice.d").st_mode), 0o700, "mode of the directory")
        ok(daemon.endpoints[0], "ping")


@test
def a_path_too_long_for_a_socket_is_refused_before_the_file_is_made(directory):
    deep = os.path.join(directory, "d" * 90)
    os.mkdir(deep)
    line = refused(directory, "--db", os.path.join(deep, "a.db"))
    holds("100" in line and "--listen" in line, line)
    same(os.listdir(deep), [], "nothing was made")
    refused(directory, "--db", "a.db", "--listen", "ipc:///tmp/" + "x" * 100, code=2)


@test
def plain_tcp_must_be_allowed_and_stays_on_loopback(directory):
    line = refused(directory, "--db", "a.db", "--listen", "tcp://127.0.0.1:*", code=2)
    holds("--allow-plain" in line, line)
    same(os.listdir(directory), [], "nothing was made")
    line = refused(directory, "--db", "a.db", "--allow-plain", "--listen", "tcp://0.0.0.0:*")
    holds("loopback" in line, line)


@test
def a_file_that_cannot_be_opened_is_refused_with_the_reason(directory):
    refused(directory, "--db", os.path.join(directory, "missing", "a.db"))
    line = refused(directory, "--db", directory, "--listen", f"ipc://{directory}/s1")
    holds("directory" in line, line)
    # Nobody, root included, makes files in /proc.
    refused(directory, "--db", "/proc/sluice.db", "--listen", f"ipc://{directory}/s2")


@test
def a_file_in_a_read_only_directory_is_refused(directory):
    if os.geteuid() == 0:
        raise Skip("root may write anywhere")
    os.chmod(directory, 0o555)
    try:
        refused(directory, "--db", "a.db")
    finally:
        os.chmod(directory, 0o755)


@test
def a_file_that_is_not_a_database_is_refused_and_left_alone(directory):
    path = os.path.join(directory, "letter.txt")
    text = b"Dear reader, this is not an SQLite database but a letter.\n" * 100
    with open(path, "wb") as file:
        file.write(text)
    line = refused(directory, "--db", path)
    holds("not" in line and "database" in line, line)
    with open(path, "rb") as file:
        same(file.read(), text, "the file")


@test
def a_second_owner_is_refused_with_the_pid_of_the_first(directory):
    path = os.path.join(directory, "a.db")
    with Daemon(path) as daemon:
        line = refused(directory, "--db", path)
        holds(str(daemon.pid) in line, line)
        ok(daemon.endpoints[0], "ping")
        # Under another name of the same file, too.
        os.symlink(path, os.path.join(directory, "b.db"))
        line = refused(directory, "--db", os.path.join(directory, "b.db"))
        holds(str(daemon.pid) in line, line)
        ok(daemon.endpoints[0], "ping")
        same(daemon.stop(signal.SIGTERM)[0], 0)
    with Daemon(path):
        pass  # free again


# ---- statements ----

@test
def exec_and_query_go_round_over_ipc_and_tcp(directory):
    path = os.path.join(directory, "a.db")
    with Daemon(path, "--listen", f"ipc://{directory}/s", "--listen", "tcp://127.0.0.1:*", "--allow-plain") as daemon:
        for url in daemon.endpoints:
            table = "t" + url[:3]
            ok(url, "exec", f"CREATE TABLE {table}(i INTEGER, r, t, b, n)")
            out = ok(url, "exec", f"INSERT INTO {table} VALUES(?, ?, ?, ?, ?)", "-5", "2.5", "ta\tb", "blob:00ff",
                     "null:")
            holds(out.startswith("changes 1, last rowid 1, commit "), out)
            same(ok(url, "query", f"SELECT *, typeof(i), typeof(r) FROM {table}"),
                 "-5\t2.5\tta\\tb\tx'00FF'\t\\N\tinteger\treal\n", "tab-separated")
            found = json.loads(ok(url, "--json", "query", f"SELECT i, r, t, b, n FROM {table}"))
            same(found["columns"], ["i", "r", "t", "b", "n"])
            same(found["rows"], [[-5, 2.5, "ta\tb", {"hex": "00FF"}, None]])
            holds(found["commit_number"] > 0, "a read names its commit")
            done = json.loads(ok(url, "exec", "--json", f"UPDATE {table} SET i = i + 1"))
            same((done["changes"], done["replayed"]), (1, False))
            done = json.loads(ok(url, "--json", "exec", f"INSERT INTO {table}(i) VALUES(7) RETURNING i, rowid"))
            same((done["rows"], done["last_rowid"]), ([[7, 2]], 2))
            same(ok(url, "query", f"SELECT i FROM {table} WHERE i = ?", "int:7"), "7\n")
            same(ok(url, "query", f"SELECT i FROM {table} WHERE 0"), "")
        same(daemon.stop(signal.SIGINT), (0, "", ""), "a quiet end")
    same(sqlite3.connect(path).execute("SELECT i FROM tipc").fetchall(), [(-4,), (7,)], "as stock SQLite reads it")


@test
def a_failed_statement_ends_with_1_and_says_why(directory):
    with Daemon(os.path.join(directory, "a.db")) as daemon:
        url = daemon.endpoints[0]
        ok(url, "exec", "CREATE TABLE t(i INTEGER PRIMARY KEY)")
        ok(url, "exec", "INSERT INTO t VALUES(1)")
        for kind, sql, name in [
            ("exec", "INSRT INTO t VALUES(2)", "syntax"), ("exec", "INSERT INTO t VALUES(1)", "constraint"),
            ("query", "INSERT INTO t VALUES(3)", "read_only"), ("query", "SELECT * FROM missing", "missing"),
            ("exec", "BEGIN", "forbidden"), ("exec", "INSERT INTO t VALUES(4); INSERT INTO t VALUES(5)", ""),
            ("exec", "", ""), ("exec", "INSERT INTO t VALUES(?)", ""),
        ]:
            ended = sluice(url, kind, sql)
            same((ended.code, ended.out), (1, ""), f"{sql}: {ended!r}")
            holds(name in one_line(ended.err), repr(ended))
            ended = sluice(url, "--json", kind, sql)
            same(ended.code, 1, f"{sql}: {ended!r}")
            same(json.loads(ended.out)["error"]["applied"], "no", f"{sql}: {ended!r}")
        same(ok(url, "query", "SELECT * FROM t"), "1\n", "none of them had an effect")


@test
def status_and_ping_answer(directory):
    with Daemon(os.path.join(directory, "a.db")) as daemon:
        url = daemon.endpoints[0]
        holds(ok(url, "ping").startswith("pong after "), "pong")
        holds(json.loads(ok(url, "ping", "--json"))["us"] > 0, "microseconds")
        ok(url, "exec", "CREATE TABLE t(i)")
        ok(url, "exec", "INSERT INTO t VALUES(1)")
        ok(url, "query", "SELECT * FROM t")
        found = json.loads(ok(url, "status", "--json"))
        same(found["path"], os.path.realpath(os.path.join(directory, "a.db")))
        holds(found["store"]["writes"] >= 2 and found["store"]["groups"] >= 2 and found["store"]["reads"] >= 1, found)
        holds(found["gateway"]["connections"] >= 4 and found["gateway"]["connections_open"] >= 1, found)
        lines = ok(url, "status").splitlines()
        same(len(lines), 1 + len(found["store"]) + len(found["gateway"]), "one line per counter and one for the path")
        holds(any(line.startswith("store.wal_bytes ") for line in lines), lines)


# ---- no connection, no answer ----

@test
def nobody_there_ends_with_3_by_the_deadline(directory):
    for url in [f"ipc://{directory}/nobody", "tcp://127.0.0.1:1"]:
        for args in [("ping",), ("query", "SELECT 1"), ("exec", "DELETE FROM t"), ("status",)]:
            started = time.monotonic()
            ended = command("--connect", url, "--timeout", "300", *args)
            took = time.monotonic() - started
            same((ended.code, ended.out), (3, ""), f"{url} {args}: {ended!r}")
            one_line(ended.err)
            holds(0.25 < took < PATIENCE / 2, f"took {took:.2f} s")


class Proxy:
    """Passes TCP on, until a client's bytes hold `mark`: from then on nothing comes back."""

    def __init__(self, port, mark):
        self.port_behind, self.mark = port, mark
        self.cut = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.port_behind))
            threading.Thread(target=self.forth, args=(near, far), daemon=True).start()
            threading.Thread(target=self.back, args=(far, near), daemon=True).start()

    def forth(self, near, far):
        seen = b""
        while data := near.recv(65536):
            seen += data
            if self.mark in seen:
                self.cut.set()
            far.sendall(data)

    def back(self, far, near):
        try:
            while data := far.recv(65536):
                if not self.cut.is_set():
                    near.sendall(data)
        except OSError:
            pass


@test
def a_lost_answer_ends_with_4_for_a_write_and_3_for_a_read(directory):
    path = os.path.join(directory, "a.db")
    with Daemon(path, "--listen", "tcp://127.0.0.1:*", "--allow-plain") as daemon:
        url = daemon.endpoint("tcp")
        ok(url, "exec", "CREATE TABLE t(i)")
        for args, code in [(("exec", "INSERT INTO t VALUES(42)"), 4), (("query", "SELECT i FROM t"), 3)]:
            proxy = Proxy(int(url.rsplit(":", 1)[1]), args[1].encode())
            ended = sluice(f"tcp://127.0.0.1:{proxy.port}", "--timeout", "1500", *args)
            holds(proxy.cut.is_set(), f"the statement went out: {ended!r}")
            same((ended.code, ended.out), (code, ""), repr(ended))
            one_line(ended.err)
        same(ok(url, "query", "SELECT i FROM t"), "42\n", "it was applied, once")


# ---- stopping ----

def write_until_told(url, directory, name, told, acknowledged):
    n = 0
    while not told.is_set():
        ended = sluice(url, "--timeout", "2000", "exec", "INSERT INTO t VALUES(?)", f"text:{name}-{n}")
        if ended.code == 0:
            acknowledged.add(f"{name}-{n}")
        n += 1


def stop_under_load(directory, *signals):
    path = os.path.join(directory, "a.db")
    told, acknowledged = threading.Event(), set()
    with Daemon(path) as daemon:
        url = daemon.endpoints[0]
        ok(url, "exec", "CREATE TABLE t(id TEXT)")
        writers = [threading.Thread(target=write_until_told, args=(url, directory, f"w{i}", told, acknowledged))
                   for i in range(3)]
        for writer in writers:
            writer.start()
        end = time.monotonic() + PATIENCE
        while len(acknowledged) < 20 and time.monotonic() < end:
            time.sleep(0.005)  # the writers are processes; there is no descriptor to wait for
        code, out, err = daemon.stop(*signals)
        told.set()
        for writer in writers:
            writer.join()
    same((code, out), (0, ""), f"stderr {err!r}")
    holds(len(acknowledged) >= 20, f"{len(acknowledged)} acknowledged")
    wal = path + "-wal"
    holds(not os.path.exists(wal) or os.path.getsize(wal) == 0, "the log was copied into the file")
    db = sqlite3.connect(path)
    rows = [row[0] for row in db.execute("SELECT id FROM t")]
    same(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
    same(len(rows), len(set(rows)), "no row is there twice")
    same(acknowledged - set(rows), set(), "every acknowledged row is there")


@test
def term_under_load_ends_with_0_and_loses_nothing(directory):
    stop_under_load(directory, signal.SIGTERM)


@test
def a_second_term_changes_nothing(directory):
    stop_under_load(directory, signal.SIGTERM, signal.SIGTERM, signal.SIGINT)


@test
def what_was_written_is_there_after_a_restart(directory):
    path = os.path.join(directory, "a.db")
    for n in range(3):
        with Daemon(path) as daemon:
            ok(daemon.endpoints[0], "exec", "CREATE TABLE IF NOT EXISTS t(i)")
            ok(daemon.endpoints[0], "exec", "INSERT INTO t VALUES(?)", n)
            same(ok(daemon.endpoints[0], "query", "SELECT count(*) FROM t"), f"{n + 1}\n")
            same(daemon.stop(signal.SIGTERM)[0], 0)


@test
def a_status_interval_writes_counters_to_stderr_only(directory):
    with Daemon(os.path.join(directory, "a.db"), "--status-interval", "1") as daemon:
        line = daemon.process.stderr.readline()
        holds(line.startswith("sluiced: status: writes="), line)
        code, out, _ = daemon.stop(signal.SIGTERM)
        same((code, out), (0, ""))


# ---- keys ----

@test
def keygen_makes_a_pair_that_only_the_owner_reads_and_overwrites_nothing(directory):
    path = os.path.join(directory, "me")
    os.umask(0)
    ended = command("keygen", path)
    os.umask(0o022)
    same(ended.code, 0, repr(ended))
    same(stat.S_IMODE(os.stat(path + ".key_secret").st_mode), 0o600)
    public, secret = open(path + ".key").read(), open(path + ".key_secret").read()
    key = one_line(ended.out)
    same(len(key), 40, "Z85")
    holds(f'    public-key = "{key}"\n' in public and f'    public-key = "{key}"\n' in secret, "ZPL")
    holds("secret-key" in secret and "secret-key" not in public, "the secret is in one file only")
    again = command("keygen", path)
    same(again.code, 1, repr(again))
    same((open(path + ".key").read(), open(path + ".key_secret").read()), (public, secret), "unchanged")
    # If the public file is in the way, no secret one is left over.
    os.rename(path + ".key_secret", path + ".old")
    same(command("keygen", path).code, 1)
    holds(not os.path.exists(path + ".key_secret"), "half a pair")
    same(command("keygen", os.path.join(directory, "missing", "me")).code, 1)


run()
