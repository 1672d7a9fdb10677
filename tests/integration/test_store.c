/* SPDX-License-Identifier: MIT */
/* Opening and closing a store: one owner, right files only, everything still there afterwards. */
#include "support/store_kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sqlite3.h>

static store_kit kit;

static int setup(void **state) {
    (void)state;
    kit_new(&kit);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kit_free(&kit);
    return 0;
}

static void store_keeps_what_it_acknowledged_over_a_reopen(void **state) {
    (void)state;
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)"), kit.cause);
    assert_ok(kit_exec(&kit, "INSERT INTO t(b) VALUES('x'),('y')"), kit.cause);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 2);
    uint64_t number = sl_store_commit_number(kit.store);
    assert_true(number >= 2);
    kit_close(&kit);
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 2);
    assert_int_equal(sl_store_commit_number(kit.store), number); /* a clean close gives unused numbers back */
    assert_ok(kit_exec(&kit, "INSERT INTO t(b) VALUES('z')"), kit.cause);
    assert_int_equal(sl_store_commit_number(kit.store), number + 1);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 3);
}

static void put(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

static void what_is_no_database_is_refused_and_left_as_it_was(void **state) {
    (void)state;
    static const char garbage[5000] = "this is not a database, whatever its name says";
    for (size_t size = 10; size <= sizeof garbage; size += sizeof garbage - 10) {
        put(kit.path, garbage, size);
        assert_int_equal(kit_try_open(&kit), SLUICE_NOT_A_DATABASE);
        assert_null(kit.store);
        assert_non_null(strstr(kit.cause.text, kit.path));
        struct stat st;
        assert_int_equal(stat(kit.path, &st), 0);
        assert_int_equal(st.st_size, size);
        char *side = support_path(kit.directory, "test.db.sluice.d");
        assert_int_not_equal(access(side, F_OK), 0);
        free(side);
    }
}

static void missing_file_directory_and_read_only_file_are_refused(void **state) {
    (void)state;
    kit.options.create = false;
    assert_int_equal(kit_try_open(&kit), SLUICE_SYSTEM);
    kit.options.path = kit.directory;
    assert_int_equal(kit_try_open(&kit), SLUICE_SYSTEM);
    kit.options.path = kit.path;
    put(kit.path, "", 0);
    assert_int_equal(chmod(kit.path, 0444), 0);
    assert_int_equal(kit_try_open(&kit), SLUICE_SYSTEM);
    assert_int_equal(chmod(kit.path, 0644), 0);
    kit_open(&kit);
}

static void options_out_of_range_are_refused_by_name(void **state) {
    (void)state;
    kit.options.n_readers = 65;
    assert_int_equal(kit_try_open(&kit), SLUICE_INVALID);
    assert_non_null(strstr(kit.cause.text, "n_readers"));
    kit.options.n_readers = 1;
    kit.options.name = "a/b";
    assert_int_equal(kit_try_open(&kit), SLUICE_INVALID);
    kit.options.name = NULL;
    kit.options.max_pending = 0;
    assert_int_equal(kit_try_open(&kit), SLUICE_INVALID);
    assert_non_null(strstr(kit.cause.text, "max_pending"));
    kit.options.max_pending = 10;
    kit.options.wal_hard_cap_bytes = 1;
    assert_int_equal(kit_try_open(&kit), SLUICE_INVALID);
}

static void second_owner_is_refused_with_the_pid_of_the_first(void **state) {
    (void)state;
    char pid[32];
    kit_open(&kit);
    sluice_store *second = NULL;
    sluice_store_options options = kit.options;
    options.name = "other";
    assert_int_equal(sluice_store_open(kit.runtime, &options, &second, &kit.cause), SLUICE_LOCKED);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    assert_non_null(strstr(kit.cause.text, pid));
    assert_null(second);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a)"), kit.cause); /* the first is unharmed */
}

static void two_stores_live_in_one_runtime_under_different_names(void **state) {
    (void)state;
    kit_open(&kit);
    char *path = support_path(kit.directory, "second.db");
    sluice_store *second = NULL;
    sluice_store_options options = kit.options;
    options.path = path;
    assert_int_equal(sluice_store_open(kit.runtime, &options, &second, &kit.cause), SLUICE_EXISTS);
    options.name = "second";
    assert_ok(sluice_store_open(kit.runtime, &options, &second, &kit.cause), kit.cause);
    assert_string_equal(sluice_store_name(second), "second");
    assert_string_equal(sluice_store_path(second), path);
    sluice_store_close(&second);
    free(path);
}

static void requests_that_wait_at_close_are_answered_closed_or_done(void **state) {
    (void)state;
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a INTEGER PRIMARY KEY)"), kit.cause);
    unsigned n = support_scaled(2000), done = 0, closed = 0;
    for (unsigned i = 0; i < n; i++) {
        sluice_msg *request = kit_request();
        (void)kit_add(request, "INSERT INTO t DEFAULT VALUES", 0, NULL);
        kit_send(&kit, request, 0);
    }
    sl_port_flush(kit.port);
    kit_close(&kit);
    for (unsigned i = 0; i < n; i++) {
        sluice_msg *reply = kit_receive(&kit);
        sluice_err err = kit_outcome(&kit, reply);
        if (err == SLUICE_OK) done++;
        if (err == SLUICE_CLOSED) closed++;
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(done + closed, n);
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), done);
}

static void store_may_be_closed_after_its_runtime(void **state) {
    (void)state;
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a)"), kit.cause);
    sl_port_close(&kit.port);
    sluice_runtime_destroy(&kit.runtime);
    kit_close(&kit);
    assert_ok(sluice_runtime_new(NULL, &kit.runtime, &kit.cause), kit.cause);
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM sqlite_schema WHERE name='t'"), 1);
}

static int64_t foreign_integer(sqlite3 *db, const char *sql) {
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

static void shared_file_may_be_read_by_another_process(void **state) {
    (void)state;
    kit.options.file_mode = SLUICE_FILE_SHARED;
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a)"), kit.cause);
    int ready[2], done[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    char byte = 0;
    /* sqlite3, the shell, is not needed: this program is called again as the other process. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char from[16], to[16];
        snprintf(from, sizeof from, "%d", ready[0]);
        snprintf(to, sizeof to, "%d", done[1]);
        execl("/proc/self/exe", "test_store", "read", kit.path, from, to, (char *)NULL);
        _exit(127);
    }
    for (int i = 1; i <= 3; i++) {
        assert_ok(kit_exec(&kit, "INSERT INTO t VALUES(1)"), kit.cause);
        assert_int_equal(write(ready[1], &byte, 1), 1);
        assert_int_equal(read(done[0], &byte, 1), 1);
        assert_int_equal(byte, i); /* what was acknowledged is seen */
    }
    close(ready[1]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ready[0]), close(done[0]), close(done[1]);
}

/* The other process of the test above: counts rows whenever it is asked to. */
static int read_for_parent(char **argv) {
    int from = atoi(argv[3]), to = atoi(argv[4]);
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(argv[2], &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) return 1;
    char byte;
    /* The parent's end of `ready` is open here too: three questions, then the end. */
    for (int i = 0; i < 3 && read(from, &byte, 1) == 1; i++) {
        byte = (char)foreign_integer(db, "SELECT count(*) FROM t");
        if (write(to, &byte, 1) != 1) return 1;
    }
    return sqlite3_close(db);
}

static void store_opens_and_closes_many_times(void **state) {
    (void)state;
    unsigned n = support_scaled(30);
    for (unsigned i = 0; i < n; i++) {
        kit_open(&kit);
        if (i == 0) assert_ok(kit_exec(&kit, "CREATE TABLE t(a)"), kit.cause);
        assert_ok(kit_exec(&kit, "INSERT INTO t VALUES(1)"), kit.cause);
        kit_close(&kit);
    }
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), n);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv) {
    if (argc == 5) return read_for_parent(argv);
    const struct CMUnitTest tests[] = {
        TEST(store_keeps_what_it_acknowledged_over_a_reopen),
        TEST(what_is_no_database_is_refused_and_left_as_it_was),
        TEST(missing_file_directory_and_read_only_file_are_refused),
        TEST(options_out_of_range_are_refused_by_name),
        TEST(second_owner_is_refused_with_the_pid_of_the_first),
        TEST(two_stores_live_in_one_runtime_under_different_names),
        TEST(requests_that_wait_at_close_are_answered_closed_or_done),
        TEST(store_may_be_closed_after_its_runtime),
        TEST(shared_file_may_be_read_by_another_process),
        TEST(store_opens_and_closes_many_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
