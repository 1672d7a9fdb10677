#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Compares `sluice bench` runs with each other: ratios only, from interleaved rounds (A B A B ...).

Disk and scheduler drift by a factor within minutes, so no time means anything alone: each round runs both sides, one
after the other, and gives one ratio; minimum, median and maximum of the rounds' ratios are printed. A slow result
never fails; a run that loses or doubles a row does.

Usage: compare.py read [--rounds N] [--seconds S] [--only NAME]... [--json]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("SLUICE_BIN", os.path.join(SOURCE, "build", "release", "bin"))


def ops(a, b):
    return a["ops_per_s"] / b["ops_per_s"]


def p999(a, b):
    return a["p999_us"] / b["p999_us"]


def p99(a, b):
    return a["p99_us"] / b["p99_us"]


# name: (what is compared, A's arguments, B's arguments, [(title, ratio)])
SUITES = {
    "read": {
        "lease-1": ("1 thread with a local lease / 1 thread on an own connection",
                    ["read", "--transport", "inproc", "--clients", "1", "--local-lease"],
                    ["read", "--transport", "direct", "--clients", "1"], [("throughput A/B", ops)]),
        "lease-2": ("2 threads with local leases / 2 threads on own connections",
                    ["read", "--transport", "inproc", "--clients", "2", "--local-lease"],
                    ["read", "--transport", "direct", "--clients", "2"], [("throughput A/B", ops)]),
        "inproc-8x16": ("8 clients x 16 outstanding, in process, by message / 2 threads on own connections",
                        ["read", "--transport", "inproc", "--clients", "8", "--pipeline", "16"],
                        ["read", "--transport", "direct", "--clients", "2"], [("throughput A/B", ops)]),
        "inproc-8x1": ("8 clients, one outstanding each, in process, by message / 8 threads on own connections",
                       ["read", "--transport", "inproc", "--clients", "8"],
                       ["read", "--transport", "direct", "--clients", "8"],
                       [("throughput A/B", ops), ("p99 A/B", p99)]),
        "ipc-8x16": ("8 processes x 16 outstanding over ipc / 8 processes on own connections",
                     ["read", "--transport", "ipc", "--clients", "8", "--pipeline", "16"],
                     ["read", "--transport", "direct", "--clients", "8", "--processes"], [("throughput A/B", ops)]),
        "mixed-8": ("one write in five, 8 clients, in process / 8 threads on own connections",
                    ["mixed", "--transport", "inproc", "--clients", "8"],
                    ["mixed", "--transport", "direct", "--clients", "8"],
                    [("throughput A/B", ops), ("p99.9 A/B", p999)]),
    },
}


def bench(arguments, seconds):
    done = subprocess.run([os.path.join(BIN, "sluice"), "bench", *arguments, "--seconds", str(seconds), "--json"],
                          stdout=subprocess.PIPE, text=True)
    if not done.stdout.strip():
        sys.exit(f"compare: sluice bench {' '.join(arguments)}: exit code {done.returncode}, no result")
    found = json.loads(done.stdout)
    if done.returncode or found["lost"] or found["doubled"]:
        sys.exit(f"compare: sluice bench {' '.join(arguments)}: exit code {done.returncode}: {done.stdout}")
    return found


def compare(name, case, rounds, seconds, as_json):
    what, a_arguments, b_arguments, ratios = case
    values = {title: [] for title, _ in ratios}
    sides = {"A": [], "B": []}
    for _ in range(rounds):
        a, b = bench(a_arguments, seconds), bench(b_arguments, seconds)
        sides["A"].append(a)
        sides["B"].append(b)
        for title, ratio in ratios:
            values[title].append(ratio(a, b))
    table = {title: (min(v), statistics.median(v), max(v)) for title, v in values.items()}
    if as_json:
        print(json.dumps({"name": name, "what": what, "ratios": table, "runs": sides}), flush=True)
        return
    print(f"{name}: {what}")
    for side, runs in sides.items():
        middle = statistics.median(run["ops_per_s"] for run in runs)
        errors, busy = sum(run["errors"] for run in runs), sum(run["busy"] for run in runs)
        print(f"  {side}: {middle:10.0f} ops/s, errors {errors}, busy {busy}"
              + (f", group {statistics.median(r['group_mean'] for r in runs):.1f}" if "group_mean" in runs[0] else ""))
    for title, (low, middle, high) in table.items():
        print(f"  {title:28} min {low:8.3f}  median {middle:8.3f}  max {high:8.3f}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description="Ratios of interleaved bench runs.")
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    suite = SUITES[options.suite]
    for name in options.only or suite:
        if name not in suite:
            parser.error(f"--only {name}: one of {', '.join(suite)}")
        compare(name, suite[name], options.rounds, options.seconds, options.json)


main()
