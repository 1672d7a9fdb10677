#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: PLAIN_ONLY TIMEOUT=240
"""Runs what the pages tell a reader to do: README.md and docs/*.md, block by block, as a reader would type it.

A fenced block says after its language what it is:
    c file=NAME, python file=NAME, proto file=NAME, cmake file=NAME   is saved under that name
    sh test       is run by bash, from top to bottom of the page, in one folder per page; must succeed
    text output   is what the block above it printed (the lines must appear in this order)
    sh exists     names scripts of this repository that are too long to run here; each must be there and executable
    sh usage      names CMake presets; each must be there
A block of these languages without such a tag is an error. The folder holds a link to messages/, the library is installed
in a prefix that pkg-config finds, and the port 5555 of the pages is replaced by a free one.
"""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

SOURCE = os.environ["SLUICE_SOURCE"]
BUILD = os.environ["SLUICE_BUILD"]
RUNNABLE = {"c", "cpp", "python", "sh", "bash", "proto", "cmake"}
SECONDS = 60


class Page:
    """One page, its folder, and the processes it started."""

    def __init__(self, path, work, environment):
        self.path, self.environment = path, environment
        self.name = os.path.relpath(path, SOURCE)
        self.folder = os.path.join(work, self.name.replace("/", "_"))
        os.mkdir(self.folder)
        os.symlink(f"{SOURCE}/messages", f"{self.folder}/messages")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.groups = []
        self.printed = ""
        self.problems = []
        self.n_blocks = 0

    def blocks(self):
        """Line number, words after the fence, text."""
        with open(self.path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        start = None
        for number, line in enumerate(lines, 1):
            if not line.startswith("```"):
                continue
            if start is None:
                start = number
            else:
                yield start, lines[start - 1][3:].split(), "\n".join(lines[start:number - 1]) + "\n"
                start = None
        if start is not None:
            self.problem(start, "a fence that is not closed")

    def problem(self, number, text):
        self.problems.append(f"{self.name}:{number}: {text}")

    def check(self):
        for number, words, text in self.blocks():
            self.n_blocks += 1
            language, tag = (words + ["", ""])[:2]
            text = text.replace("5555", str(self.port))
            if tag.startswith("file="):
                with open(os.path.join(self.folder, os.path.basename(tag[5:])), "w", encoding="utf-8") as file:
                    file.write(text)
            elif (language, tag) == ("sh", "test"):
                self.run(number, text)
            elif (language, tag) == ("text", "output"):
                self.compare(number, text)
            elif (language, tag) == ("sh", "exists"):
                self.check_scripts(number, text)
            elif (language, tag) == ("sh", "usage"):
                self.check_presets(number, text)
            elif language in RUNNABLE:
                self.problem(number, f"a block of {language} that no test runs")
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def run(self, number, text):
        log = os.path.join(self.folder, f"output-{number}")
        with open(log, "w", encoding="utf-8") as out:
            shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", text], cwd=self.folder, env=self.environment,
                                     stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                     start_new_session=True)
            self.groups.append(shell.pid)
            try:
                status = shell.wait(SECONDS)
            except subprocess.TimeoutExpired:
                status = f"nothing within {SECONDS} s"
        with open(log, encoding="utf-8") as out:
            self.printed = out.read()
        if status != 0:
            for kept in sorted(glob.glob(f"{self.folder}/*.log")):
                with open(kept, encoding="utf-8") as file:
                    self.printed += f"--- {os.path.basename(kept)}:\n{file.read()[-4000:]}"
            self.problem(number, f"ended with {status}\n{text}--- printed:\n{self.printed}")

    def compare(self, number, text):
        printed = iter(self.printed.splitlines())
        for line in text.splitlines():
            if not any(line == seen for seen in printed):
                self.problem(number, f"the line '{line}' was not printed, in this order:\n{self.printed}")
                return

    def check_scripts(self, number, text):
        for line in filter(None, (line.split("#")[0].strip() for line in text.splitlines())):
            script = os.path.join(SOURCE, line.split()[0])
            if not os.access(script, os.X_OK):
                self.problem(number, f"{line.split()[0]} is not there, or not executable")

    def check_presets(self, number, text):
        with open(f"{SOURCE}/CMakePresets.json", encoding="utf-8") as file:
            presets = json.load(file)
        known = {preset["name"] for preset in presets["configurePresets"] if not preset.get("hidden")}
        for preset in re.findall(r"--preset (\S+)", text):
            if preset not in known:
                self.problem(number, f"no preset {preset}")


def main():
    work = tempfile.mkdtemp(prefix="readme-", dir=os.getcwd())
    try:
        prefix = os.path.join(work, "prefix")
        subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
        tools = os.path.join(work, "path")
        os.mkdir(tools)
        os.symlink("/usr/bin/python3", f"{tools}/python3")  # Debian's, which has zmq and protobuf
        library = os.path.dirname(glob.glob(f"{prefix}/lib*/**/libsluice.so", recursive=True)[0])
        environment = dict(os.environ, PATH=f"{tools}:{prefix}/bin:{os.environ['PATH']}",
                           PKG_CONFIG_PATH=f"{library}/pkgconfig", LD_LIBRARY_PATH=library,
                           CMAKE_PREFIX_PATH=prefix)
        problems, n_blocks = [], 0
        for path in [f"{SOURCE}/README.md", *sorted(glob.glob(f"{SOURCE}/docs/*.md"))]:
            page = Page(path, work, environment)
            page.check()
            problems += page.problems
            n_blocks += page.n_blocks
        for text in problems:
            print("FAIL " + text)
        print(f"{n_blocks} blocks, {len(problems)} problems")
        return 1 if problems or n_blocks == 0 else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
