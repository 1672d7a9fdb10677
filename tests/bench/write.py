#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes, in one run: Sluice beside stock SQLite, PostgreSQL 15 and Redis 7 (figures W1 to W9).

Ratios only, from interleaved rounds. Disk and scheduler drift by a factor within minutes, so each round runs all sides
of a comparison one after the other, the order turned by one each round, and gives one ratio; printed are minimum,
median and maximum of the rounds' ratios beside what is asked and what is aimed at. Everything is synchronous and
durable; receipts are off unless said; SQLite's memory statistics are at their default in every baseline.

A time never fails the run. Exit code 1: something was lost, doubled or refused, or a side could not run; 2: usage.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import peers

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("SLUICE_BIN", os.path.join(SOURCE, "build", "release", "bin"))

# Sides by name: what `sluice bench` is given. Those of a peer are made in Sides.run.
BENCH = {
    "ours-32": "write --transport inproc --clients 32",
    "own-32": "write --transport direct --clients 32",
    "own-32-processes": "write --transport direct --clients 32 --processes",
    "ipc-32": "write --transport ipc --clients 32",
    "tcp-32": "write --transport tcp --clients 32",
    "raw-32": "write --transport direct --clients 1 --rows 32",
    "ours-8x16": "write --transport inproc --clients 8 --pipeline 16",
    "own-8": "write --transport direct --clients 8",
    "receipts-8x16": "write --transport inproc --clients 8 --pipeline 16 --receipts on",
    "ours-100": "write --transport inproc --clients 16 --rows 100",
    "ours-100-statements": "write --transport inproc --clients 16 --rows 100 --shape statements",
    "raw-100": "write --transport direct --clients 1 --rows 100",
    "ours-100000": "write --transport inproc --clients 1 --rows 100000",
    "raw-100000": "write --transport direct --clients 1 --rows 100000",
    "ours-1": "write --transport inproc --clients 1",
    "raw-1": "write --transport direct --clients 1",
    "update-8x16": "update --transport inproc --clients 8 --pipeline 16",
    "update-own-8": "update --transport direct --clients 8",
    "update-raw-128": "update --transport direct --clients 1 --rows 128",
}
PEERS = {"postgres-32": "pgbench -M prepared -c 32 -j 2", "redis-8x16": "redis-benchmark -t set -d 100 -c 8 -P 16"}

# Run side by side, one group after the other within a round.
GROUPS = [
    ["ours-32", "own-32", "own-32-processes", "ipc-32", "tcp-32", "raw-32", "postgres-32"],
    ["ours-8x16", "receipts-8x16", "redis-8x16", "own-8"],
    ["ours-100", "raw-100", "ours-100-statements"],
    ["ours-100000", "raw-100000"],
    ["ours-1", "raw-1"],
    ["update-8x16", "update-own-8", "update-raw-128"],
]

MB = 1e6


def rate(a, b):
    return a["rows_per_s"] / b["rows_per_s"]


def field(name):
    return lambda a, b: a[name] / max(1e-9, b[name])


# (figure, what, A, B or None, ratio, at least, aim, is less better?)
FIGURES = [
    ("W1", "32 clients, one outstanding each / the same 32 threads on own connections",
     "ours-32", "own-32", rate, 10, 14, False),
    ("W1", "the same / 32 processes on own connections",
     "ours-32", "own-32-processes", rate, None, None, False),
    ("W1", "32 processes over ipc / 32 processes on own connections",
     "ipc-32", "own-32-processes", rate, None, None, False),
    ("W1", "32 processes over tcp / 32 processes on own connections",
     "tcp-32", "own-32-processes", rate, None, None, False),
    ("W2", "32 in-process clients / a raw loop of 32 rows per transaction on one thread",
     "ours-32", "raw-32", rate, 0.55, 0.65, False),
    ("W3", "32 in-process clients / PostgreSQL 15, 32 clients",
     "ours-32", "postgres-32", rate, 3, 4, False),
    ("W4", "8 clients x 16 outstanding / 8 threads on own connections",
     "ours-8x16", "own-8", rate, 30, 50, False),
    ("W4", "the same / Redis 7 appendfsync always, 8 x 16",
     "ours-8x16", "redis-8x16", rate, 1.5, 2, False),
    ("W5", "100-row atomic writes, 16 clients, by columns / one direct writer doing the same",
     "ours-100", "raw-100", rate, 0.9, 1.2, False),
    ("W5", "the same as 100 statements / one direct writer doing the same",
     "ours-100-statements", "raw-100", rate, None, None, False),
    ("W5", "columnar insert of 100000 rows / a prepared loop in one transaction (median times)",
     "raw-100000", "ours-100000", field("p50_us"), 0.8, 1, False),
    ("W6", "32 clients: slowest / fastest",
     "ours-32", None, lambda a, _: a["client_ops_min"] / max(1, a["client_ops_max"]), 0.9, 0.95, False),
    ("W6", "32 clients: longest wait / p50",
     "ours-32", None, lambda a, _: a["max_us"] / a["p50_us"], 60, 30, True),
    ("W6", "32 clients: BUSY seen",
     "ours-32", None, lambda a, _: a["busy"], 0, 0, True),
    ("W7", "one idle client / a raw one-row transaction",
     "ours-1", "raw-1", rate, 0.75, 0.95, False),
    ("W7", "the same, median times",
     "raw-1", "ours-1", field("p50_us"), None, None, False),
    ("W8", "random UPDATEs 8 x 16: COMMIT p99 / one raw thread, 128 per transaction, autocheckpoint",
     "update-8x16", "update-raw-128", field("commit_p99_us"), 0.25, 0.15, True),
    ("W8", "client p99 / the same (there: one transaction's p99)",
     "update-8x16", "update-raw-128", field("p99_us"), 1, 0.8, True),
    ("W8", "throughput / the same",
     "update-8x16", "update-raw-128", rate, 1.2, 1.3, False),
    ("W8", "COMMIT p99 / 8 threads on own connections, autocheckpoint",
     "update-8x16", "update-own-8", field("commit_p99_us"), None, None, True),
    ("W8", "client p99 / 8 threads on own connections",
     "update-8x16", "update-own-8", field("p99_us"), None, None, True),
    ("W8", "throughput / 8 threads on own connections",
     "update-8x16", "update-own-8", rate, None, None, False),
    ("W8", "WAL size, MB",
     "update-8x16", None, lambda a, _: a["wal_file_bytes"] / MB, 16, 8, True),
    ("W9", "receipts on / off, 8 x 16",
     "receipts-8x16", "ours-8x16", rate, 0.75, 0.9, False),
]


class Broken(Exception):
    pass


class Sides:
    """Runs a side by its name and keeps every result."""

    def __init__(self, directory, seconds):
        self.directory, self.seconds = directory, seconds
        self.results, self.postgres, self.redis, self.skipped = {}, None, None, {}

    def start_peers(self):
        for side, make in (("postgres-32", peers.Postgres), ("redis-8x16", peers.Redis)):
            try:
                peer = make(self.directory)
                setattr(self, "postgres" if side == "postgres-32" else "redis", peer)
                peer.start()
            except (peers.PeerError, KeyError, OSError) as why:
                self.skipped[side] = str(why)

    def stop_peers(self):
        for peer in (self.postgres, self.redis):
            if peer:
                peer.stop()

    def bench(self, arguments):
        command = [os.path.join(BIN, "sluice"), "bench", *arguments.split(), "--seconds", str(self.seconds), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=self.directory, check=False)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise Broken(f"{' '.join(command)}: exit code {done.returncode}, no result") from None
        # Stock SQLite may well answer BUSY; of ours nothing may go wrong.
        ours = found["transport"] != "direct"
        if done.returncode or found["lost"] or found["doubled"] or (ours and found["errors"]):
            raise Broken(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}")
        return found

    def run(self, side):
        if side in self.skipped:
            return
        if side == "postgres-32":
            found = self.postgres.bench(32, self.seconds)
        elif side == "redis-8x16":
            found = self.redis.bench(8, 16, self.seconds)
        else:
            found = self.bench(BENCH[side])
        self.results.setdefault(side, []).append(found)


def ratios_of(figure, results):
    _, _, a, b, ratio = figure[:5]
    return [ratio(one, other) for one, other in zip(results.get(a, []), results.get(b or a, []))]


def verdict(value, least, aim, less):
    if least is None:
        return ""
    if value <= aim if less else value >= aim:
        return "aim"
    return "ok" if (value <= least if less else value >= least) else "BEHIND"


def command_of(side):
    return f"sluice bench {BENCH[side]}" if side in BENCH else PEERS[side]


def table(results, skipped):
    rows = []
    for figure in FIGURES:
        number, what, a, b, _, least, aim, less = figure
        values = ratios_of(figure, results)
        row = {"figure": number, "what": what, "at_least": least, "aim": aim, "less_is_better": less,
               "commands": [command_of(side) for side in (a, b) if side]}
        if values:
            row.update(min=min(values), median=statistics.median(values), max=max(values), rounds=values)
            row["verdict"] = verdict(row["median"], least, aim, less)
        elif a in skipped or b in skipped:
            row["skipped"] = skipped.get(a) or skipped.get(b)
        else:
            continue
        rows.append(row)
    return rows


def number(value):
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def show(rows, results):
    print(f"\n{'':3} {'what':88} {'min':>7} {'median':>7} {'max':>7} {'asked':>6} {'aim':>6}")
    for row in rows:
        if "skipped" in row:
            print(f"{row['figure']:3} {row['what']:88} skipped: {row['skipped']}")
            continue
        sign = "<=" if row["less_is_better"] and row["at_least"] is not None else ""
        print(f"{row['figure']:3} {row['what']:88} {number(row['min']):>7} {number(row['median']):>7} "
              f"{number(row['max']):>7} {sign + number(row['at_least']):>6} {sign + number(row['aim']):>6} "
              f"{row['verdict']}")
    print("\nRows/s of each side (they drift with the disk; only the ratios above mean anything), and how to run it:")
    for side, runs in results.items():
        rates = [run["rows_per_s"] for run in runs]
        print(f"  {side:20} min {min(rates):9.0f}  median {statistics.median(rates):9.0f}  max {max(rates):9.0f}   "
              f"{command_of(side)}")


def groups_wanted(only):
    if not only:
        return GROUPS
    needed = {side for figure in FIGURES if figure[0] in only for side in figure[2:4] if side}
    groups = [[side for side in group if side in needed] for group in GROUPS]
    return [group for group in groups if group]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="at least 1; default 5")
    parser.add_argument("--seconds", type=int, default=2, help="of each side in each round; default 2")
    parser.add_argument("--only", action="append", metavar="W", choices=sorted({figure[0] for figure in FIGURES}),
                        help="only this figure; may be given several times")
    parser.add_argument("--json", metavar="FILE", default=os.path.join(SOURCE, "build", "bench-write.json"),
                        help="where every result goes; default build/bench-write.json")
    parser.add_argument("--directory", default="/var/tmp", help="where the databases are made; default /var/tmp")
    parser.add_argument("--no-peers", action="store_true", help="without PostgreSQL and Redis")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return options


def measure(options, sides):
    for round_number in range(options.rounds):
        for group in groups_wanted(options.only):
            turn = round_number % len(group)
            for side in group[turn:] + group[:turn]:
                sides.run(side)
        print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr, flush=True)


def main():
    options = parse()
    if not os.access(os.path.join(BIN, "sluice"), os.X_OK):
        sys.exit(f"write.py: {BIN}/sluice is not there; build the preset release first")
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=options.directory) as directory:
        os.chmod(directory, 0o755)  # PostgreSQL runs as another user
        sides = Sides(directory, options.seconds)
        try:
            if options.no_peers:
                sides.skipped = {side: "--no-peers" for side in PEERS}
            else:
                sides.start_peers()
            measure(options, sides)
        except (Broken, peers.PeerError) as why:
            sys.exit(f"write.py: {why}")
        finally:
            sides.stop_peers()
    rows = table(sides.results, sides.skipped)
    rows = [row for row in rows if not options.only or row["figure"] in options.only]
    show(rows, sides.results)
    load_after = os.getloadavg()[0]
    print(f"\n{options.rounds} rounds of {options.seconds} s; {os.cpu_count()} CPUs; load {load_before:.1f} before, "
          f"{load_after:.1f} after" + ("; THE MACHINE WAS BUSY" if load_before > 0.5 else ""))
    os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump({"rounds": options.rounds, "seconds": options.seconds, "cpus": os.cpu_count(),
                   "load": [load_before, load_after], "figures": rows, "runs": sides.results}, file, indent=1)
    print(f"Every result: {options.json}")


if __name__ == "__main__":
    main()
