#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: PLAIN_ONLY
"""The pages say what is so: links lead somewhere, tests they name exist, tables of counters, errors and exit codes equal
the headers they come from, every option of tests/run.sh that a page names is there.

`tests/integration/test_docs.py --write` puts the tables of the headers into docs/operations.md, and the tests that are named
after a hostile input (bad_input_NN_...) into docs/bad-inputs.md."""
import glob
import os
import re
import sys

SOURCE = os.environ.get("SLUICE_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
problems = []


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return file.read()


def pages():
    found = glob.glob(f"{SOURCE}/*.md") + glob.glob(f"{SOURCE}/*/*.md") + glob.glob(f"{SOURCE}/examples/*/*.md")
    return sorted(os.path.relpath(path, SOURCE) for path in found if not path.startswith(f"{SOURCE}/build"))


def tables(text):
    """Each table as (cells of the head, rows of cells)."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.M):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        if len(rows) > 2:
            yield rows[0], rows[2:]


def check_equal(page, what, written, true):
    if written == true:
        return
    if "--write" in sys.argv:
        lines = ["".join(f"| {' | '.join(row)} |\n" for row in rows) for rows in (written, true)]
        text = read(page).replace(*lines)
        with open(os.path.join(SOURCE, page), "w", encoding="utf-8") as file:
            file.write(text)
        return
    problems.append(f"{page}: table of {what} differs from the header")
    for row in [row for row in true if row not in written]:
        problems.append(f"    missing: | {' | '.join(row)} |")
    for row in [row for row in written if row not in true]:
        problems.append(f"    too much: | {' | '.join(row)} |")


def x_macro(header, macro):
    text = read(header)
    body = re.match(r"(?:.*\\\n)*.*", text[text.index("#define " + macro + "(X)"):]).group(0)
    return [list(pair) for pair in re.findall(r'X\((\w+), "(.*?)"\)', body)]


def check_operations():
    page = "docs/operations.md"
    heads = {}
    for head, rows in tables(read(page)):
        heads.setdefault(tuple(head), []).append(rows)
    counters = heads[("Counter", "Meaning")]
    check_equal(page, "store counters", counters[0], x_macro("include/sluice/store.h", "SLUICE_STORE_STATS_MAP"))
    check_equal(page, "gateway counters", counters[1], x_macro("include/sluice/gateway.h", "SLUICE_GATEWAY_STATS_MAP"))
    errors = re.findall(r'X\(\w+, (\d+), "(\w+)", (true|false), (YES|NO|UNKNOWN),\s*"(.*?)"\)',
                        read("include/sluice/base.h"))
    check_equal(page, "errors", heads[("Number", "Name", "Again?", "Applied?", "Meaning")][0],
                [[number, name, "yes" if again == "true" else "no", applied.lower(), text]
                 for number, name, again, applied, text in errors])
    codes = re.findall(r"(SLUICE_EXIT_\w+) = (\d+),?\s*/\* (.*?) \*/", read("include/sluice/store.h"))
    check_equal(page, "exit codes", heads[("Exit code", "Name", "Meaning")][0],
                [[code, name, meaning] for name, code, meaning in codes])


def check_bad_inputs(sources):
    """Every test named bad_input_NN_... stands in row NN."""
    page = "docs/bad-inputs.md"
    text = read(page)
    found = sorted({name for body in sources.values() for name in re.findall(r"\bbad_input_\d\d_\w+", body)})
    for name in found:
        number = int(name.split("_")[2])
        row = re.search(rf"^\| {number} \|.*$", text, flags=re.M)
        if row and f"`{name}`" in row.group(0):
            continue
        if row and "--write" in sys.argv:
            cells = row.group(0).rstrip("| ").rsplit("| ", 1)
            tests = [] if cells[1] == "open" else [cells[1]]
            text = text.replace(row.group(0), f"{cells[0]}| {', '.join([*tests, f'`{name}`'])} |")
        else:
            problems.append(f"{page}: row {number} does not name {name}")
    if "--write" in sys.argv:
        with open(os.path.join(SOURCE, page), "w", encoding="utf-8") as file:
            file.write(text)


def check_links(page, text):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" in target:
            continue
        if not os.path.exists(os.path.join(SOURCE, os.path.dirname(page), target)):
            problems.append(f"{page}: link to {target}, which is not there")


def check_tests(page, text, sources):
    """A cell below the head "Test" (or "Tests") names tests in backticks: a file, or a function in one."""
    for head, rows in tables(text):
        for column in [i for i, cell in enumerate(head) if cell in ("Test", "Tests")]:
            for row in rows:
                for name in re.findall(r"`([^`]+)`", row[column] if column < len(row) else ""):
                    if name in sources:
                        continue
                    if not any(re.search(r"\b" + re.escape(name) + r"\b", body) for body in sources.values()):
                        problems.append(f"{page}: no test {name}")


def check_options(page, text):
    script = read("tests/run.sh")
    for option in re.findall(r"tests/run\.sh((?: --?[\w-]+)+)", text):
        for word in option.split():
            if not re.search(r"(^|[\s|(])" + re.escape(word) + r"[\s|)]", script, flags=re.M):
                problems.append(f"{page}: tests/run.sh has no option {word}")


def main():
    sources = {}
    for path in glob.glob(f"{SOURCE}/tests/*/*"):
        if os.path.isfile(path) and re.search(r"\.(c|py|sh)$", path) and not path.endswith("test_docs.py"):
            with open(path, encoding="utf-8") as file:
                sources[os.path.basename(path)] = file.read()
    found = pages()
    for page in found:
        text = read(page)
        check_links(page, text)
        check_tests(page, text, sources)
        check_options(page, text)
        for word in re.findall(r"\b(?:CHECK|PROMISE)_[A-Z_]+", text):
            problems.append(f"{page}: {word} is not a name of anything")
    check_operations()
    check_bad_inputs(sources)
    for text in problems:
        print("FAIL " + text)
    print(f"{len(found)} pages, {len(problems)} problems")
    return 1 if problems or not found else 0


if __name__ == "__main__":
    sys.exit(main())
