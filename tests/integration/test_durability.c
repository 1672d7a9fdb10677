/* SPDX-License-Identifier: MIT */
/* When the disk fails: no acknowledgement before the sync, UNKNOWN and the end after a failed one, NO_SPACE and on. */
#include "support/fault_vfs.h"
#include "support/store_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static store_kit kit;
static _Atomic int fatal_calls, fatal_code;
static sluice_cause fatal_cause;

static void on_fatal(void *context, const sluice_cause *cause, int exit_code) {
    (void)context;
    fatal_cause = *cause;
    atomic_store(&fatal_code, exit_code);
    atomic_fetch_add(&fatal_calls, 1);
}

static int setup(void **state) {
    (void)state;
    fault_vfs_register("unix-excl");
    atomic_store(&fatal_calls, 0);
    kit_new(&kit);
    kit.vfs = FAULT_VFS_NAME;
    kit.options.on_fatal = on_fatal;
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a INTEGER PRIMARY KEY)"), kit.cause);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kit_free(&kit);
    return 0;
}

static sluice_msg *insert(void) {
    sluice_msg *request = kit_request();
    (void)kit_add(request, "INSERT INTO t DEFAULT VALUES", 0, NULL);
    return request;
}

static bool sync_is_held(void *context) {
    (void)context;
    return atomic_load(&fault.held) > 0;
}

static bool fatal_was_called(void *context) {
    (void)context;
    return atomic_load(&fatal_calls) > 0;
}

static void writer_acknowledges_only_after_commit(void **state) {
    (void)state;
    atomic_store(&fault.hold_wal_sync, true);
    kit_send(&kit, insert(), 0);
    sluice_msg *bad = kit_request(), *reply = NULL;
    (void)kit_add(bad, "INSERT INTO t VALUES('x')", 0, NULL);
    kit_send(&kit, bad, 0);
    sl_port_flush(kit.port);
    support_await(sync_is_held, NULL, 10000);
    /* The sync is under way: nobody has heard anything, and nobody sees the row. */
    assert_int_equal(sl_port_recv(kit.port, sl_now_ns() + 50 * 1000000, &reply), SLUICE_TIMEOUT);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 0);
    atomic_store(&fault.hold_wal_sync, false);
    reply = kit_receive(&kit);
    assert_ok(kit_outcome(&kit, reply), kit.cause);
    sluice_msg_destroy(&reply);
    reply = kit_receive(&kit);
    assert_int_not_equal(kit_outcome(&kit, reply), SLUICE_OK);
    sluice_msg_destroy(&reply);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1);
}

static void failed_sync_is_unknown_to_the_group_and_ends_the_store(void **state) {
    (void)state;
    atomic_store(&fault.fail_wal_syncs, 1);
    for (unsigned i = 0; i < 3; i++) kit_send(&kit, insert(), 0);
    for (unsigned i = 0; i < 3; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_int_equal(kit_outcome(&kit, reply), SLUICE_UNKNOWN);
        assert_int_equal(kit.cause.sqlite_code, 1034);
        sluice_msg_destroy(&reply);
    }
    support_await(fatal_was_called, NULL, 10000);
    assert_int_equal(atomic_load(&fatal_code), SLUICE_EXIT_COMMIT_FAILED);
    assert_int_equal(fatal_cause.code, SLUICE_FATAL);
    /* The disk works again, but this store never says OK any more. */
    assert_int_equal(kit_ask(&kit, insert(), NULL), SLUICE_FATAL);
    assert_int_equal(atomic_load(&fatal_calls), 1);
    assert_int_equal(kit_stats(&kit).writes_unknown, 4);
    /* Nor can the file be opened again in this process. */
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit), SLUICE_FATAL);
    assert_non_null(strstr(kit.cause.text, "new process"));
}

static void default_end_is_its_own_exit_code_and_a_new_process_may_open(void **state) {
    (void)state;
    kit_free(&kit); /* no thread may be alive at fork */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fault_vfs_register("unix-excl");
        kit_new(&kit);
        kit.vfs = FAULT_VFS_NAME;
        kit_open(&kit);
        (void)kit_exec(&kit, "CREATE TABLE t(a INTEGER PRIMARY KEY)");
        atomic_store(&fault.fail_wal_syncs, 1);
        (void)kit_exec(&kit, "INSERT INTO t DEFAULT VALUES");
        for (;;) pause(); /* the answer may come before the end does */
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), SLUICE_EXIT_COMMIT_FAILED);
    kit_new(&kit);
}

static void full_disk_is_a_definite_no_and_writes_resume_when_there_is_space(void **state) {
    (void)state;
    assert_ok(kit_ask(&kit, insert(), NULL), kit.cause);
    atomic_store(&fault.wal_full, true);
    for (unsigned i = 0; i < 3; i++) kit_send(&kit, insert(), 0);
    for (unsigned i = 0; i < 3; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_int_equal(kit_outcome(&kit, reply), SLUICE_NO_SPACE);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1); /* reads go on */
    atomic_store(&fault.wal_full, false);
    assert_ok(kit_ask(&kit, insert(), NULL), kit.cause);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 2);
    assert_int_equal(atomic_load(&fatal_calls), 0);
    assert_int_equal(kit_stats(&kit).writes_failed, 3);
    kit_close(&kit);
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 2);
}

static void store_on_a_full_disk_serves_reads_and_refuses_writes(void **state) {
    (void)state;
    assert_ok(kit_ask(&kit, insert(), NULL), kit.cause);
    kit_close(&kit);
    atomic_store(&fault.wal_full, true);
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1);
    assert_int_equal(kit_ask(&kit, insert(), NULL), SLUICE_NO_SPACE);
    atomic_store(&fault.wal_full, false);
    assert_ok(kit_ask(&kit, insert(), NULL), kit.cause);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 2);
}

static bool write_works(void *context) {
    (void)context;
    sluice_err err = kit_ask(&kit, insert(), NULL);
    if (err != SLUICE_OK) assert_int_equal(err, SLUICE_NO_SPACE);
    return err == SLUICE_OK;
}

static void log_that_cannot_be_emptied_at_start_pauses_the_writer_until_there_is_space(void **state) {
    (void)state;
    kit_free(&kit); /* no thread may be alive at fork */
    kit_new(&kit);
    sluice_runtime_destroy(&kit.runtime);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* leaves a log behind, as a crash does */
        assert_ok(sluice_runtime_new(NULL, &kit.runtime, &kit.cause), kit.cause);
        kit_open(&kit);
        sluice_err err = kit_exec(&kit, "CREATE TABLE t(a INTEGER PRIMARY KEY)");
        if (err == SLUICE_OK) err = kit_ask(&kit, insert(), NULL);
        _exit(err == SLUICE_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_ok(sluice_runtime_new(NULL, &kit.runtime, &kit.cause), kit.cause);
    kit.vfs = FAULT_VFS_NAME;
    atomic_store(&fault.database_full, true);
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1);
    assert_int_equal(kit_ask(&kit, insert(), NULL), SLUICE_NO_SPACE);
    atomic_store(&fault.database_full, false);
    support_await(write_works, NULL, 10000);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 2);
}

static void renamed_database_is_noticed_before_the_next_acknowledgement(void **state) {
    (void)state;
    char *elsewhere = support_path(kit.directory, "elsewhere.db");
    assert_ok(kit_ask(&kit, insert(), NULL), kit.cause);
    assert_int_equal(rename(kit.path, elsewhere), 0);
    sluice_err err = kit_ask(&kit, insert(), NULL);
    assert_true(err == SLUICE_UNKNOWN || err == SLUICE_FATAL); /* by the commit, or by the tick before it */
    support_await(fatal_was_called, NULL, 10000);
    assert_int_equal(atomic_load(&fatal_code), SLUICE_EXIT_FILE_REPLACED);
    free(elsewhere);
}

static void deleted_log_is_noticed_while_the_store_is_idle(void **state) {
    (void)state;
    char *wal = support_path(kit.directory, "test.db-wal");
    assert_int_equal(unlink(wal), 0);
    support_await(fatal_was_called, NULL, 10000);
    assert_int_equal(atomic_load(&fatal_code), SLUICE_EXIT_FILE_REPLACED);
    assert_non_null(strstr(fatal_cause.text, "-wal"));
    free(wal);
}

static void failed_write_to_the_log_is_never_reported_as_done(void **state) {
    (void)state;
    atomic_store(&fault.fail_wal_write, true);
    sluice_err err = kit_ask(&kit, insert(), NULL);
    assert_int_equal(err, SLUICE_UNKNOWN);
    support_await(fatal_was_called, NULL, 10000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(writer_acknowledges_only_after_commit),
        TEST(failed_sync_is_unknown_to_the_group_and_ends_the_store),
        TEST(default_end_is_its_own_exit_code_and_a_new_process_may_open),
        TEST(full_disk_is_a_definite_no_and_writes_resume_when_there_is_space),
        TEST(store_on_a_full_disk_serves_reads_and_refuses_writes),
        TEST(log_that_cannot_be_emptied_at_start_pauses_the_writer_until_there_is_space),
        TEST(renamed_database_is_noticed_before_the_next_acknowledgement),
        TEST(deleted_log_is_noticed_while_the_store_is_idle),
        TEST(failed_write_to_the_log_is_never_reported_as_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
