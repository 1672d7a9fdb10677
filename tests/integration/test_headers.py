#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: PLAIN_ONLY
"""Every header compiles alone: the installed ones as strict C11 and C++ with gcc and clang, the inside ones as GNU C11
with only the include directories that their folder has, so that a wrong dependency does not compile."""
import concurrent.futures
import glob
import os
import shutil
import subprocess
import sys

SOURCE = os.environ["SLUICE_SOURCE"]
BUILD = os.environ["SLUICE_BUILD"]
INSIDE = {
    "messages": ["messages"],
    "runtime": ["runtime", "messages"],
    "actors": ["actors", "runtime", "messages"],
    "client": ["client", "runtime", "messages"],
}
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-fsyntax-only"]
LANGUAGES = [
    (["gcc", "clang"], ["-x", "c", "-std=c11", "-pedantic-errors", "-Wstrict-prototypes"]),
    (["g++", "clang++"], ["-x", "c++", "-std=c++11", "-pedantic-errors"]),
    (["g++", "clang++"], ["-x", "c++", "-std=c++20", "-pedantic-errors"]),
]


def compile_alone(compiler, flags, header, include):
    """Includes the header twice and nothing else; returns what the compiler has to say."""
    text = f"#include {include}\n#include {include}\ntypedef int not_empty;\n"
    out = subprocess.run([compiler, *flags, *WARNINGS, "-"], input=text, capture_output=True, text=True)
    return None if out.returncode == 0 else f"{header} with {compiler} {' '.join(flags)}:\n{out.stderr}"


def jobs():
    for header in sorted(glob.glob(f"{SOURCE}/include/sluice/*.h")):
        include = "<sluice/" + os.path.basename(header) + ">"
        for compilers, flags in LANGUAGES:
            for compiler in filter(shutil.which, compilers):
                yield compiler, [*flags, f"-I{SOURCE}/include"], header, include
    for folder, below in INSIDE.items():
        directories = [f"-I{SOURCE}/{name}" for name in below]
        directories += [f"-I{SOURCE}/include", f"-I{BUILD}/messages/generated"]
        for header in sorted(glob.glob(f"{SOURCE}/{folder}/*.h")):
            flags = ["-x", "c", "-std=c11", "-D_GNU_SOURCE", *directories]
            yield "gcc", flags, header, '"' + os.path.basename(header) + '"'


def main():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: compile_alone(*job), jobs()))
    bad = [text for text in results if text]
    print("\n".join(bad))
    print(f"{len(results)} compilations, {len(bad)} failed")
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
