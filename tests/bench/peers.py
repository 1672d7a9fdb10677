# SPDX-License-Identifier: MIT
"""The other databases of the write comparison, each a server of its own in a directory of its own, gone afterwards.

PostgreSQL: initdb in the directory, as an unprivileged user, on a Unix socket; fsync and synchronous_commit on, the
rest as Debian ships it. Redis: appendonly with appendfsync always, on a Unix socket, no snapshots and no rewrites of
the log, which would only slow it down.
"""
import glob
import os
import pwd
import re
import shutil
import subprocess
import time

BODY_SIZE = 100
READY_S = 30


class PeerError(Exception):
    pass


def output_of(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        raise PeerError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout.strip()[-400:]}")
    return done.stdout


class Postgres:
    """One row of a bigint and 100 bytes of text per transaction, by prepared statement."""
    name = "PostgreSQL 15"
    script = ("\\set id random(1, 1000000000000)\n"
              "INSERT INTO bench_write(id, body) VALUES (:id, lpad(:id::text, 100, 'x'));\n")

    def __init__(self, directory):
        found = glob.glob("/usr/lib/postgresql/15/bin")
        if not found:
            raise PeerError("PostgreSQL 15 is not installed")
        self.bin = found[0]
        self.directory = os.path.join(directory, "postgres")
        self.data = os.path.join(self.directory, "data")
        self.running = False
        os.mkdir(self.directory, 0o700)
        self.user = []
        if os.geteuid() == 0:  # the server refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self.user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def run(self, program, *args):
        return output_of([*self.user, os.path.join(self.bin, program), *args], cwd=self.directory)

    def start(self):
        self.run("initdb", "-D", self.data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C")
        options = (f"-c listen_addresses='' -c unix_socket_directories='{self.directory}' "
                   "-c synchronous_commit=on -c fsync=on")
        self.run("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(self.directory, "log"), "-o", options, "start")
        self.running = True
        self.run("psql", "-h", self.directory, "-U", "bench", "-d", "postgres", "-c",
                 "CREATE TABLE bench_write(id bigint NOT NULL, body text NOT NULL)")
        script = os.path.join(self.directory, "insert.sql")
        with open(script, "w", encoding="ascii") as file:
            file.write(self.script)
        os.chmod(script, 0o644)

    def command(self, clients, seconds):
        return ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(seconds),
                "-f", "insert.sql", "-h", self.directory, "-U", "bench", "postgres"]

    def bench(self, clients, seconds):
        command = self.command(clients, seconds)
        text = self.run(*command)
        found = re.search(r"^tps = ([0-9.]+) \(without initial", text, re.M)
        failed = re.search(r"number of failed transactions: ([0-9]+)", text)
        if not found or (failed and int(failed.group(1))):
            raise PeerError(f"pgbench: {text[-400:]}")
        return {"rows_per_s": float(found.group(1))}

    def stop(self):
        if self.running:
            self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")
        shutil.rmtree(self.directory, ignore_errors=True)


class Redis:
    """SET of a random key to 100 bytes."""
    name = "Redis 7"

    def __init__(self, directory):
        if not shutil.which("redis-server") or not shutil.which("redis-benchmark"):
            raise PeerError("Redis is not installed")
        self.directory = os.path.join(directory, "redis")
        self.socket = os.path.join(self.directory, "s")
        self.server = None
        self.rate = 20000.0
        os.mkdir(self.directory, 0o700)

    def start(self):
        options = {"--port": "0", "--unixsocket": self.socket, "--dir": self.directory, "--appendonly": "yes",
                   "--appendfsync": "always", "--save": "", "--auto-aof-rewrite-percentage": "0", "--daemonize": "no"}
        command = ["redis-server", *(word for pair in options.items() for word in pair)]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + READY_S
        while subprocess.run(["redis-cli", "-s", self.socket, "ping"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, check=False).returncode != 0:
            if self.server.poll() is not None or time.monotonic() > end:
                raise PeerError("redis-server did not start")
            time.sleep(0.05)

    def command(self, clients, pipeline, n):
        return ["redis-benchmark", "-s", self.socket, "-c", str(clients), "-P", str(pipeline), "-n", str(n),
                "-t", "set", "-d", str(BODY_SIZE), "-r", "1000000", "--csv"]

    def bench(self, clients, pipeline, seconds):
        """redis-benchmark counts requests, not seconds: their number follows from the rate of the run before."""
        n = max(2000, int(self.rate * seconds))
        found = re.search(r'^"SET","([0-9.]+)"', output_of(self.command(clients, pipeline, n)), re.M)
        if not found:
            raise PeerError("redis-benchmark: no figure for SET")
        self.rate = float(found.group(1))
        return {"rows_per_s": self.rate}

    def stop(self):
        if self.server:
            self.server.kill()
            self.server.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
