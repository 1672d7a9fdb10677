# SPDX-License-Identifier: MIT
"""For tests that run the built tools: a sluiced that is ended whatever happens, running sluice, named checks.

A test is a function marked @test whose name is a sentence; run() calls them all, in order, and exits 1 if one failed.
"""
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ.get("SLUICE_BUILD", os.path.abspath("build/release"))
BIN = os.environ.get("SLUICE_BIN", os.path.join(BUILD, "bin"))
SLUICE = os.path.join(BIN, "sluice")
SLUICED = os.path.join(BIN, "sluiced")
# Sanitizers slow everything down; a deadline that is there to fail a hang may be generous.
PATIENCE = 60 if os.environ.get("SLUICE_SCALE", "1") == "1" else 180

_tests = []


class Skip(Exception):
    pass


def test(function):
    _tests.append(function)
    return function


def same(found, wanted, what=""):
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r}, wanted {wanted!r}")


def holds(condition, what):
    if not condition:
        raise AssertionError(what)


def run(argv=None):
    names = (argv if argv is not None else sys.argv)[1:]
    failed = 0
    for function in _tests:
        if names and function.__name__ not in names:
            continue
        started = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="sluice-") as directory:  # short, so that sockets fit
                function(directory)
            verdict = "OK"
        except Skip as why:
            verdict = f"SKIPPED: {why}"
        except Exception:
            traceback.print_exc(file=sys.stdout)
            verdict = "FAILED"
            failed += 1
        print(f"[{verdict}] {function.__name__} ({time.monotonic() - started:.1f} s)", flush=True)
    sys.exit(1 if failed else 0)


class Ended:
    """How a command ended."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self):
        return f"exit {self.code}, stdout {self.out!r}, stderr {self.err!r}"


def command(*args, cwd=None, binary=SLUICE):
    done = subprocess.run([binary, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd,
                          timeout=PATIENCE)
    return Ended(done)


def one_line(text):
    """The only line of text."""
    lines = text.splitlines()
    same(len(lines), 1, f"number of lines in {text!r}")
    return lines[0]


class Daemon:
    """A sluiced that serves. Ends by SIGKILL when left, unless it was stopped before."""

    def __init__(self, db, *args):
        self.process = subprocess.Popen([SLUICED, "--db", db, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        try:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            holds(ready, "sluiced said nothing")
            self.ready = self.process.stdout.readline().rstrip("\n")
            if not self.ready.startswith("ready "):
                raise AssertionError(f"sluiced did not serve: {self.ready!r}, {self.process.communicate()[1]!r}")
        except BaseException:
            self.end()
            raise
        self.pid = self.process.pid
        self.endpoints = re.findall(r" endpoint=(\S+)", self.ready)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def endpoint(self, scheme):
        return next(url for url in self.endpoints if url.startswith(scheme))

    def stop(self, *signals):
        """Sends the signals and returns (exit code, what it wrote to stdout after ready, stderr)."""
        for number in signals:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def scratch_copy(path, directory):
    """Copies a database with its WAL, to be looked at by stock SQLite."""
    copy = os.path.join(directory, "copy.db")
    for suffix in ("", "-wal"):
        if os.path.exists(path + suffix):
            shutil.copyfile(path + suffix, copy + suffix)
    return copy
