#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# CTest: PLAIN_ONLY TIMEOUT=300
"""Each checker finds the bug it is there for: a bug is planted into a copy of a source file, and the test must go red.

The copy is compiled as the build compiles the file, and linked in front of the library, so that the planted object
takes the place of the library's. The product has no switches for this, and the source tree is not touched. When an
edit no longer fits, because the code has changed, this test fails: then the edit is to be brought up to date.
"""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from daemon import BUILD, Skip, holds, run, test  # noqa: E402

SOURCE = os.environ.get("SLUICE_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARIES = ["libzmq", "sqlite3", "libprotobuf-c", "cmocka"]
PATIENCE = 120

ACK_BEFORE_COMMIT = {"actors/group.c": [
    ("    int rc = patiently(self, self->commit);\n    uint64_t us",
     "    sl_group_answer_all(self);\n    int rc = patiently(self, self->commit);\n    uint64_t us"),
]}
RECEIPT_OUTSIDE_THE_SAVEPOINT = {"actors/request.c": [
    ("    if (err == SLUICE_OK && slot->session != NULL) {\n        err = sl_request_write_receipt(",
     "    if (false) {\n        err = sl_request_write_receipt("),
    ("    if (savepoint) {\n        int rc = sl_conn_own_once(conn, group->savepoint);",
     "    if (slot->session != NULL) (void)!sl_request_write_receipt(group, slot, &cause);\n"
     "    if (savepoint) {\n        int rc = sl_conn_own_once(conn, group->savepoint);"),
]}
RECEIPT_NOT_WRITTEN = {"actors/request.c": [
    ("    err = sl_receipts_insert(", "    if (slot->session != NULL) goto done;\n    err = sl_receipts_insert("),
]}
AUTOCOMMIT_CHECK_OFF = {
    "actors/request.c": [
        ("    if (sqlite3_get_autocommit(sl_conn_db(conn)) != 0) return SL_RAN_DESTROYED;\n", ""),
        ("        if (sqlite3_get_autocommit(db) == 0) return SL_RAN_OK;\n", "        return SL_RAN_OK;\n"),
        ("    if (err == SLUICE_OK && sqlite3_get_autocommit(db) == 0) {\n        err = sl_request_check_keys(",
         "    if (err == SLUICE_OK) {\n        err = sl_request_check_keys("),
    ],
    "actors/group.c": [
        ("    if (rc == SQLITE_OK) {\n        self->in_transaction = false;\n        self->number++;",
         "    if (rc == SQLITE_OK || sqlite3_get_autocommit(db) != 0) {\n        self->in_transaction = false;\n"
         "        self->number++;"),
    ],
}
NORMAL_INSTEAD_OF_FULL = {"actors/conn.c": [
    ('full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"', 'full ? "PRAGMA synchronous=NORMAL" : ""'),
]}
NOTHING_UNDONE = {"actors/request.c": [
    ("    if (!must_undo && !savepoint) return SL_RAN_FAILED;\n",
     "    if (sqlite3_get_autocommit(sl_conn_db(conn)) == 0) return SL_RAN_FAILED;\n"),
]}
FAILED_SYNC_IS_A_NO = {"actors/group.c": [
    ("    if (err == SLUICE_NO_SPACE || err == SLUICE_LOCKED || err == SLUICE_CONSTRAINT) {\n"
     "        sl_group_rollback(",
     "    if (err == SLUICE_IO) cause->code = err = SLUICE_FAILED;\n"
     "    if (err != SLUICE_UNKNOWN) {\n        sl_group_rollback("),
]}
NO_SPACE_TAKEN_AT_ITS_WORD = {"actors/group.c": [
    ("        if (err != SLUICE_NO_SPACE || sl_log_tail_clear(db)) return err;", "        return err;"),
]}
RETRY_IS_A_NO = {"client/client.c": [
    ("    if (!outgoing.again || !request->unknown || sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN) return err;\n",
     "    if (err != SLUICE_OK || request != NULL) return err;\n"),
]}
UNCHECKED_MEMORY = {"messages/msg.c": [
    ("    if (msg == NULL) return NULL;\n    memset(", "    memset("),
]}


def compile_command(path):
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
        for entry in json.load(file):
            if entry["file"] == os.path.join(SOURCE, path):
                return entry["command"].split()
    raise Skip(f"{path} is not among the build's compile commands")


def execute(*command, cwd=None, **settings):
    env = {name: value for name, value in os.environ.items() if name not in ("SLUICE_LONG", "SLUICE_SCALE")} | settings
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=PATIENCE)
    return done.returncode, done.stdout


def plant(directory, path, edits):
    """Compiles a copy of `path` with the edits and returns the object."""
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        text = file.read()
    for old, new in edits:
        holds(text.count(old) == 1, f"{path}: the place for the bug is there {text.count(old)} times, not once:\n{old}")
        text = text.replace(old, new)
    copy = os.path.join(directory, os.path.basename(path))
    with open(copy, "w", encoding="utf-8") as file:
        file.write(text)
    command = [word for word in compile_command(path) if word != "-Werror"]
    command[command.index("-c") + 1] = copy
    command[command.index("-o") + 1] = copy + ".o"
    for flag in ("-MF", "-MT"):
        if flag in command:
            command[command.index(flag) + 1] = copy + ".d"
    command.append("-I" + os.path.dirname(os.path.join(SOURCE, path)))
    code, out = execute(*command, cwd=directory)
    holds(code == 0, f"{path} with the bug does not compile:\n{out}")
    return copy + ".o"


def link(directory, name, objects):
    compiler = compile_command("actors/group.c")[0]
    flags = execute("pkg-config", "--libs", *LIBRARIES)[1].split()
    wraps = ["-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup"] if name == "test_nomem" else []
    binary = os.path.join(directory, name)
    code, out = execute(
        compiler, "-o", binary, *wraps, *objects,
        os.path.join(BUILD, "tests/CMakeFiles", name + ".dir", "fault", name + ".c.o"),
        os.path.join(BUILD, "lib/libsluice_test_support.a"), os.path.join(BUILD, "lib/libsluice.a"), *flags,
        "-lpthread")
    holds(code == 0, f"{name} does not link:\n{out}")
    return binary


def attempt(directory, name, bug, **settings):
    objects = [plant(directory, path, edits) for path, edits in bug.items()]
    return execute(link(directory, name, objects), cwd=directory, **settings)


def goes_red(directory, name, bug, *complaints, **settings):
    """The test fails, and says one of these."""
    code, out = attempt(directory, name, bug, **settings)
    holds(code != 0, f"{name} did not notice:\n{out}")
    holds(any(re.search(complaint, out) for complaint in complaints),
          f"{name} failed, but not for the reason {complaints}:\n{out}")


@test
def without_a_bug_the_linked_tests_are_green(directory):
    for name in ("test_power_loss", "test_nomem"):
        code, out = attempt(directory, name, {"actors/group.c": [], "actors/request.c": [], "actors/conn.c": [],
                                              "client/client.c": []}, SLUICE_SCALE="10")
        holds(code == 0, f"{name}:\n{out}")


@test
def acknowledgement_before_commit_is_found(directory):
    goes_red(directory, "test_power_loss", ACK_BEFORE_COMMIT, "acknowledged and lost", "the tables are gone")


@test
def receipt_outside_the_savepoint_is_found(directory):
    goes_red(directory, "test_power_loss", RECEIPT_OUTSIDE_THE_SAVEPOINT, "a receipt without its rows")


@test
def request_without_a_receipt_is_found(directory):
    goes_red(directory, "test_power_loss", RECEIPT_NOT_WRITTEN, "rows without their receipt")


@test
def autocommit_check_that_is_off_is_found(directory):
    # Whatever ran last is in the file and the rest is not: which of it is seen first differs.
    goes_red(directory, "test_power_loss", AUTOCOMMIT_CHECK_OFF, r"request \d+ \(shape -?\d\): ")


@test
def normal_instead_of_full_is_found(directory):
    goes_red(directory, "test_power_loss", NORMAL_INSTEAD_OF_FULL, "acknowledged and lost", "the tables are gone")


@test
def failed_batch_that_is_not_undone_is_found(directory):
    goes_red(directory, "test_power_loss", NOTHING_UNDONE, "there, though refused or never sent")


@test
def failed_sync_taken_for_a_no_is_found(directory):
    goes_red(directory, "test_fault_loops", FAILED_SYNC_IS_A_NO, r"request \d+ \(failed\) is there",
             SLUICE_KIND="4")


@test
def no_space_taken_at_its_word_is_found(directory):
    goes_red(directory, "test_fault_loops", NO_SPACE_TAKEN_AT_ITS_WORD, r"request \d+ \(no_space\) is there",
             SLUICE_KIND="3")


@test
def retry_that_turns_unknown_into_no_is_found(directory):
    goes_red(directory, "test_nomem", RETRY_IS_A_NO, r"request \d+ \(nomem\) is there")


@test
def allocation_that_is_not_checked_is_found(directory):
    goes_red(directory, "test_nomem", UNCHECKED_MEMORY, "it crashed")


if __name__ == "__main__":
    run()
