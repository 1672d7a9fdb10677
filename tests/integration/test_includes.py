#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: PLAIN_ONLY
"""The folder tree is the architecture: who may include what, parsed from every #include line of the sources.

Checks, each named as a sentence below:
  includes go one way: tools, examples -> client, actors -> runtime -> messages
  sqlite3.h is actors' alone (tests, and the stock-SQLite controls of examples, may have it); zmq.h is runtime's alone
  an installed header includes installed headers and the C library, nothing else
  header basenames are unique, because the include directories are flat
  every source starts with its licence, and no file outgrows a reader
"""
import os
import re
import subprocess
import sys

SOURCE = os.environ.get("SLUICE_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Folder -> folders whose inside headers it may include. Every folder may include its own and the installed ones.
ALLOWED = {
    "messages": set(),
    "runtime": {"messages"},
    "actors": {"runtime", "messages"},
    "client": {"runtime", "messages"},
    "tools": set(),
    "examples": set(),
    "include": set(),
}
# What a folder may take from another one beyond that, header by header.
EXCEPTIONS = {("tools", "direct.h"), ("tools", "sqlite_settings.h"), ("tools", "keys.h")}
# Headers of libraries -> the folders that may include them.
LIBRARIES = {
    "sqlite3.h": {"actors", "tests", "examples"},
    "zmq.h": {"runtime", "tests"},
    "protobuf-c/protobuf-c.h": {"messages", "runtime", "actors", "client", "tools", "examples", "tests"},
    "pthread.h": {"runtime", "actors", "client", "tools", "examples", "tests"},
}
# The generated code of the wire is the product's inside; users see <sluice/...> only.
GENERATED = re.compile(r"^sluice/v1/\w+\.pb-c\.h$")
GENERATED_FOR = {"messages", "runtime", "actors", "client", "tools", "tests"}
STANDARD = {
    "stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "string.h", "stdio.h", "stdlib.h",
}
SPDX = "SPDX-License-Identifier: MIT"
LICENSED = re.compile(r"(\.(c|h|cc|cpp|proto|py|sh|cmake|in|supp|map)|CMakeLists\.txt|/run)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
MOST_LINES, TOO_MANY_LINES = 700, 800

problems = []


def problem(text):
    problems.append(text)
    print("FAIL " + text)


def project_files():
    """Files under version control, and new ones not yet added."""
    out = subprocess.run(["git", "-C", SOURCE, "ls-files", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True)
    if out.returncode == 0 and out.stdout:
        names = out.stdout.split("\n")
    else:  # a source archive without .git
        names = []
        for folder, folders, found in os.walk(SOURCE):
            folders[:] = [name for name in folders if name not in ("build", ".git")]
            names += [os.path.relpath(os.path.join(folder, name), SOURCE) for name in found]
    return sorted({name for name in names if name and os.path.isfile(os.path.join(SOURCE, name))})


def lines_of(name):
    with open(os.path.join(SOURCE, name), encoding="utf-8") as file:
        return file.read().split("\n")


def folder_of(name):
    return name.split("/")[0]


def check_includes(files):
    headers = {}  # basename -> path, of inside headers
    for name in files:
        if name.endswith(".h") and folder_of(name) in ALLOWED and folder_of(name) != "include":
            base = os.path.basename(name)
            if base in headers and "examples" not in (folder_of(name), folder_of(headers[base])):
                problem(f"{name}: header of the same name as {headers[base]}; include directories are flat")
            headers[base] = name
    installed = {name[len("include/"):] for name in files if name.startswith("include/")}
    for name in files:
        if not re.search(r"\.(c|h|cc|cpp)$", name):
            continue
        folder = folder_of(name)
        for number, line in enumerate(lines_of(name), 1):
            match = INCLUDE.match(line)
            if match:
                check_include(f"{name}:{number}", folder, match.group(1), match.group(2), headers, installed)


def check_include(where, folder, bracket, target, headers, installed):
    if target in LIBRARIES and folder not in LIBRARIES[target]:
        return problem(f"{where}: {target} is not for {folder}/")
    if GENERATED.match(target):
        if folder not in GENERATED_FOR:
            problem(f"{where}: generated header {target} is not for {folder}/")
        return None
    if target.startswith("sluice/"):
        if target not in installed:
            problem(f"{where}: {target} is not an installed header")
        elif bracket != "<":
            problem(f"{where}: installed headers are included as <{target}>")
        return None
    if folder == "include":
        if target not in STANDARD:
            problem(f"{where}: an installed header includes {target}")
        return None
    if folder == "tests" or bracket == "<":
        return None
    base = os.path.basename(target)
    owner = folder_of(headers[base]) if base in headers else None
    if owner is None or owner == folder or owner in ALLOWED.get(folder, set()) or (folder, base) in EXCEPTIONS:
        return None
    return problem(f"{where}: {folder}/ must not include {headers[base]}")


def check_shape(files):
    for name in files:
        if LICENSED.search("/" + name) and SPDX not in "\n".join(lines_of(name)[:3]):
            problem(f"{name}: no SPDX line at the top")
        if re.search(r"\.(c|h|py|sh|proto)$", name):
            count = len(lines_of(name)) - 1
            if count > TOO_MANY_LINES:
                problem(f"{name}: {count} lines; a file has one reason to change")
            elif count > MOST_LINES:
                print(f"warning: {name}: {count} lines")


def main():
    files = project_files()
    for folder in ALLOWED:
        if not any(name.startswith(folder + "/") for name in files):
            problem(f"no files in {folder}/: is SLUICE_SOURCE right? ({SOURCE})")
    check_includes(files)
    check_shape(files)
    print(f"{len(files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
