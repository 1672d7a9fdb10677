#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: PLAIN_ONLY
"""libsluice.so shows exactly what the installed headers declare: every declared function is there, and nothing else is
(no sl_ name, no generated protobuf code, no name of a library we link)."""
import glob
import os
import re
import subprocess
import sys

SOURCE = os.environ["SLUICE_SOURCE"]
BUILD = os.environ["SLUICE_BUILD"]


def exported():
    """Names defined and visible in the shared library."""
    out = subprocess.run(["nm", "-D", "--defined-only", f"{BUILD}/lib/libsluice.so"], check=True, capture_output=True,
                         text=True)
    return {line.split()[-1].split("@")[0] for line in out.stdout.splitlines()}


def declared():
    """Functions declared with SLUICE_API, read from the headers with comments and preprocessor lines gone."""
    names = set()
    for header in glob.glob(f"{SOURCE}/include/sluice/*.h"):
        with open(header, encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", " ", file.read(), flags=re.S)
        text = re.sub(r"^\s*#.*(\\\n.*)*$", "", text, flags=re.M)
        found = re.findall(r"SLUICE_API\b[^;{]*?\b(\w+)\s*\(", text)
        if any(not name.startswith("sluice_") for name in found):
            print(f"FAIL {header}: installed names start with sluice_: {found}")
            sys.exit(1)
        names.update(found)
        # A prototype without SLUICE_API would be hidden, so nobody could link it.
        for name in re.findall(r"^(?!typedef)[\w \*]*?\b(sluice_\w+)\s*\((?!\*)[^;{]*\)\s*;", text, flags=re.M):
            names.add(name)
    return names


def main():
    shown, promised = exported(), declared()
    missing, surplus = sorted(promised - shown), sorted(shown - promised)
    for name in missing:
        print(f"FAIL declared in an installed header, not in libsluice.so: {name}")
    for name in surplus:
        print(f"FAIL in libsluice.so, not declared in an installed header: {name}")
    print(f"{len(shown)} exported, {len(promised)} declared")
    return 1 if missing or surplus or not promised else 0


if __name__ == "__main__":
    sys.exit(main())
