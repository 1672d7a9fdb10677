#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: TIMEOUT=180
"""Keys as a user meets them: keygen, sluiced --keys, sluice --key, HUP, bench --curve, and a Python client without Sluice."""
import json
import os
import re
import signal
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from daemon import PATIENCE, SLUICED, Daemon, Skip, command, holds, one_line, run, same, test  # noqa: E402


def keygen(path, *options):
    ended = command("keygen", *options, path)
    same(ended.code, 0, repr(ended))
    return one_line(ended.out)


class House:
    """A directory of keys with an admin, a writer, a reader and a stranger, and a daemon that knows the first three."""

    def __init__(self, directory):
        self.directory = directory
        self.keys = os.path.join(directory, "keys")
        os.makedirs(os.path.join(self.keys, "clients"), mode=0o700)
        self.server_key = keygen(os.path.join(self.keys, "server"))
        self.daemon = None
        for name, options in (("admin", ()), ("writer", ("--rights", "write")), ("reader", ("--rights", "read")),
                              ("stranger", ())):
            keygen(self.secret(name)[:-len(".key_secret")], *options)
            if name != "stranger":
                self.list(name)

    def secret(self, name):
        return os.path.join(self.directory, name + ".key_secret")

    def listed(self, name):
        return os.path.join(self.keys, "clients", name + ".key")

    def list(self, name):
        with open(self.secret(name).replace(".key_secret", ".key"), encoding="ascii") as file:
            text = file.read()
        with open(self.listed(name), "w", encoding="ascii") as file:
            file.write(text)

    def __enter__(self):
        self.daemon = Daemon(os.path.join(self.directory, "a.db"), "--keys", self.keys, "--listen", "tcp://127.0.0.1:*",
                             "--listen", "ipc://" + os.path.join(self.directory, "door", "s"))
        self.tcp = self.daemon.endpoint("tcp:")
        return self

    def __exit__(self, *_):
        self.daemon.end()

    def as_(self, name, *args, server_key=None, timeout=PATIENCE * 1000):
        return command("--connect", self.tcp, "--key", self.secret(name), "--server-key", server_key or self.server_key,
                       "--timeout", timeout, *args)

    def counters(self):
        ended = command("--connect", self.daemon.endpoint("ipc:"), "--json", "status")
        same(ended.code, 0, repr(ended))
        return json.loads(ended.out)["gateway"]


@test
def keys_decide_who_may_do_what_over_tcp(directory):
    with House(directory) as house:
        same(house.as_("admin", "exec", "CREATE TABLE t(a)").code, 0)
        same(house.as_("writer", "exec", "INSERT INTO t VALUES(1)").code, 0)
        found = house.as_("reader", "query", "SELECT a FROM t", server_key=os.path.join(house.keys, "server.key"))
        same((found.code, found.out), (0, "1\n"), repr(found))
        for name, *args in (("reader", "exec", "INSERT INTO t VALUES(2)"), ("writer", "exec", "DROP TABLE t")):
            ended = house.as_(name, *args)
            same(ended.code, 1, repr(ended))
            holds("forbidden" in ended.err and "right" in ended.err, repr(ended))
        same(house.as_("admin", "ping").code, 0)
        same(house.as_("reader", "status").code, 0)
        # Beside it, ipc needs no key.
        same(command("--connect", house.daemon.endpoint("ipc:"), "exec", "INSERT INTO t VALUES(3)").code, 0)


@test
def who_is_not_let_in_is_told_and_counted(directory):
    with House(directory) as house:
        refused = house.as_("stranger", "--json", "exec", "CREATE TABLE t(a)", timeout=1000)
        same(refused.code, 3, repr(refused))
        holds("refused this client's key" in refused.err, repr(refused))
        same(json.loads(refused.out)["error"]["applied"], "no", repr(refused))
        wrong = house.as_("admin", "ping", server_key=keygen(os.path.join(directory, "another")), timeout=1000)
        same(wrong.code, 3, repr(wrong))
        plain = command("--connect", house.tcp, "--timeout", "1000", "ping")
        same(plain.code, 3, repr(plain))
        holds("CURVE" in plain.err, repr(plain))
        counters = house.counters()
        holds(counters["refused_key"] >= 1 and counters["refused_server_key"] >= 1, counters)
        holds(counters["refused_plain"] + counters["dropped_handshake"] >= 1, counters)
        same((counters["requests"], counters["cut_keys"]), (0, 0), counters)


@test
def hup_bars_and_lists_keys_while_it_serves(directory):
    with House(directory) as house:
        same(house.as_("writer", "ping").code, 0)
        os.remove(house.listed("writer"))
        house.list("stranger")
        house.daemon.process.send_signal(signal.SIGHUP)
        line = house.daemon.process.stderr.readline()
        holds("keys were read again" in line, line)
        same(house.as_("writer", "ping", timeout=1000).code, 3)
        same(house.as_("stranger", "ping").code, 0)
        with open(house.listed("reader"), "a", encoding="ascii") as file:
            file.write("!")
        house.daemon.process.send_signal(signal.SIGHUP)
        line = house.daemon.process.stderr.readline()
        holds("reader.key" in line and "line " in line, line)
        same(house.as_("reader", "ping", timeout=1000).code, 3)
        same(house.as_("admin", "ping").code, 0)
        same(house.daemon.stop(signal.SIGTERM)[0], 0)


@test
def without_keys_hup_stops_as_term_does(directory):
    with Daemon(os.path.join(directory, "a.db")) as daemon:
        code, out, err = daemon.stop(signal.SIGHUP)
        same((code, out, err), (0, "", ""))


@test
def unsafe_keys_are_refused_on_both_sides(directory):
    house = House(directory)
    server = os.path.join(house.keys, "server.key_secret")

    def start():
        return command("--db", os.path.join(directory, "a.db"), "--keys", house.keys, "--listen", "tcp://127.0.0.1:*",
                       binary=SLUICED)

    os.chmod(server, 0o644)
    ended = start()
    same(ended.code, 1, repr(ended))
    holds("chmod 600" in ended.err, repr(ended))
    os.chmod(server, 0o600)
    os.chmod(os.path.join(house.keys, "clients"), 0o777)
    ended = start()
    same(ended.code, 1, repr(ended))
    holds("written by other users" in ended.err, repr(ended))
    os.chmod(os.path.join(house.keys, "clients"), 0o700)
    os.remove(server)
    ended = start()
    same(ended.code, 1, repr(ended))
    holds("sluice keygen" in ended.err, repr(ended))
    os.chmod(house.secret("admin"), 0o640)
    ended = command("--connect", "tcp://127.0.0.1:1", "--key", house.secret("admin"), "--server-key", house.server_key, "ping")
    same(ended.code, 1, repr(ended))
    holds("chmod 600" in ended.err, repr(ended))
    ended = command("--connect", "tcp://127.0.0.1:1", "--key", house.secret("writer"), "--server-key", "short", "ping")
    same(ended.code, 1, repr(ended))
    holds("server's key" in ended.err, repr(ended))


@test
def keygen_says_the_fingerprint_and_writes_the_rights(directory):
    path = os.path.join(directory, "me")
    ended = command("keygen", "--rights", "read", path)
    same(ended.code, 0, repr(ended))
    holds(re.fullmatch(r"fingerprint [0-9a-f]{32}\n", ended.err), repr(ended))
    with open(path + ".key", encoding="ascii") as file:
        holds('metadata\n    rights = "read"\ncurve\n' in file.read(), "rights")
    same(stat.S_IMODE(os.stat(path + ".key_secret").st_mode), 0o600)


PYTHON = """
import sys, zmq, zmq.auth
url, server_key, secret_file = sys.argv[1:]
public, secret = zmq.auth.load_certificate(secret_file)
socket = zmq.Context().socket(zmq.DEALER)
socket.linger = 0
socket.curve_serverkey = server_key.encode()
socket.curve_publickey, socket.curve_secretkey = public, secret
socket.connect(url)
# An Envelope and a Ping, packed by hand: version 1, type, to, correlation 7, kind ASK.
def text(number, value): return bytes([number << 3 | 2, len(value)]) + value
ENVELOPE
if not socket.poll(20000):
    sys.exit("no answer")
print(b"sluice.v1.Pong" in socket.recv_multipart()[0])
"""


@test
def a_python_client_comes_in_with_its_own_or_our_key_files(directory):
    if subprocess.run([sys.executable, "-c", "import zmq, zmq.auth"], capture_output=True, check=False).returncode:
        raise Skip("python3-zmq is not there")
    from pathlib import Path
    proto = Path(os.environ.get("SLUICE_SOURCE", "."), "messages", "sluice", "v1", "envelope.proto").read_text("utf-8")

    def number(field):
        return re.search(rf"\b{field} = (\d+);", proto).group(1)

    ask = re.search(r"KIND_ASK = (\d+)", proto).group(1)
    envelope = (f"envelope = bytes([{number('version')} << 3, 1]) + text({number('type')}, b'sluice.v1.Ping') + "
                f"text({number('to')}, b'gateway') + bytes([{number('kind')} << 3, {ask}])\n"
                "socket.send_multipart([envelope, b''])")
    script = os.path.join(directory, "client.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(PYTHON.replace("ENVELOPE", envelope))
    house = House(directory)
    # One that pyzmq made, without a line of rights.
    made = subprocess.run([sys.executable, "-c", "import sys, zmq.auth; zmq.auth.create_certificates(sys.argv[1], 'py')",
                           directory], capture_output=True, text=True, check=False)
    same(made.returncode, 0, made.stderr)
    os.replace(os.path.join(directory, "py.key"), house.listed("py"))
    os.chmod(os.path.join(directory, "py.key_secret"), 0o600)
    with house:
        for name in ("reader", "py"):
            done = subprocess.run([sys.executable, script, house.tcp, house.server_key, house.secret(name)],
                                  capture_output=True, text=True, timeout=PATIENCE, check=False)
            same((done.returncode, done.stdout), (0, "True\n"), done.stderr)
        same(house.as_("py", "exec", "CREATE TABLE t(a)").code, 0)


@test
def bench_runs_with_curve_and_loses_nothing(directory):
    for work in ("write", "read"):
        ended = command("bench", work, "--transport", "tcp", "--curve", "on", "--receipts", "on", "--clients", "2",
                        "--pipeline", "8", "--seconds", "1", "--json", cwd=directory)
        same((ended.code, ended.err), (0, ""), repr(ended))
        found = json.loads(one_line(ended.out))
        same((found["curve"], found["errors"], found["lost"], found["doubled"]), (True, 0, 0, 0), found)
        holds(found["ops"] > 0, found)
    same(os.listdir(directory), [], "files left behind")


run()
