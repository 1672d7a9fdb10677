/* SPDX-License-Identifier: MIT */
/* One connection: settings, statement cache, running statements, deadlines, errors. */
#include "support/support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "conn.h"
#include "port.h"

static char *directory, *path;
static sl_conn *conn;
static sluice_cause cause;
static _Atomic uint64_t hits, misses;
static sl_arena arena;
static _Alignas(16) char arena_first[4096];

static sl_conn_options options(sl_conn_role role) {
    return (sl_conn_options){
        .path = path, .role = role, .create = true, .statement_cache = 3, .max_sql_bytes = 1000,
        .max_value_bytes = 1u << 20, .hits = &hits, .misses = &misses,
    };
}

static int setup(void **state) {
    (void)state;
    directory = support_directory_new();
    path = support_path(directory, "c.db");
    sl_conn_options o = options(SL_CONN_WRITER);
    assert_ok(sl_conn_open(&o, &conn, &cause), cause);
    assert_ok(sl_conn_own_exec(conn, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", &cause), cause);
    atomic_store(&hits, 0), atomic_store(&misses, 0);
    sl_arena_init(&arena, arena_first, sizeof arena_first, SIZE_MAX);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sl_arena_fini(&arena);
    assert_int_equal(sl_conn_busy(conn, false), 0);
    sl_conn_close(&conn);
    free(path);
    support_directory_remove(&directory);
    return 0;
}

static sluice_err prepare(sl_conn *on, const char *sql, const sl_statement **out) {
    return sl_conn_prepare(on, sql, strlen(sql), SL_RIGHT_ALL, out, &cause);
}

static sluice_err run(sl_conn *on, const char *sql, sl_run *out, int64_t deadline_ns) {
    const sl_statement *statement = NULL;
    Sluice__V1__Statement in = SLUICE__V1__STATEMENT__INIT;
    *out = (sl_run){.arena = &arena, .max_bytes = 100000, .deadline_ns = deadline_ns};
    sluice_err err = prepare(on, sql, &statement);
    return err == SLUICE_OK ? sl_conn_run(on, statement, &in, out, &cause) : err;
}

static int64_t setting(sl_conn *on, const char *sql) {
    sqlite3_stmt *stmt = NULL;
    assert_ok(sl_conn_own_prepare(on, sql, &stmt, &cause), cause);
    assert_int_equal(sl_conn_own_step(on, stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    return value;
}

static void connection_has_every_setting_of_its_role(void **state) {
    (void)state;
    static const sl_conn_role roles[] = {SL_CONN_READER, SL_CONN_CHECKPOINTER};
    for (size_t i = 0; i < 3; i++) {
        sl_conn *other = NULL;
        if (i < 2) {
            sl_conn_options o = options(roles[i]);
            assert_ok(sl_conn_open(&o, &other, &cause), cause);
        }
        sl_conn *on = i < 2 ? other : conn;
        assert_int_equal(setting(on, "PRAGMA synchronous"), 2);
        assert_int_equal(setting(on, "PRAGMA foreign_keys"), 1);
        assert_int_equal(setting(on, "PRAGMA wal_autocheckpoint"), 0);
        assert_int_equal(setting(on, "PRAGMA trusted_schema"), 0);
        assert_int_equal(setting(on, "PRAGMA cell_size_check"), 1);
        assert_int_equal(setting(on, "PRAGMA temp_store"), 2);
        assert_int_equal(setting(on, "PRAGMA busy_timeout"), 0);
        assert_int_equal(setting(on, "PRAGMA query_only"), i == 0);
        int value = -1;
        sqlite3_db_config(sl_conn_db(on), SQLITE_DBCONFIG_DEFENSIVE, -1, &value);
        assert_int_equal(value, 1);
        sqlite3_db_config(sl_conn_db(on), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, -1, &value);
        assert_int_equal(value, i != 1);
        assert_int_equal(sqlite3_limit(sl_conn_db(on), SQLITE_LIMIT_ATTACHED, -1), 0);
        sl_conn_close(&other);
    }
}

static void cache_keeps_the_latest_statements_and_evicts_the_oldest(void **state) {
    (void)state;
    static const char *const sql[] = {"SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4"};
    const sl_statement *statement, *first;
    for (int i = 0; i < 3; i++) assert_ok(prepare(conn, sql[i], &statement), cause);
    assert_ok(prepare(conn, sql[0], &first), cause); /* now 1 is older than 0 */
    assert_int_equal(atomic_load(&misses), 3);
    assert_int_equal(atomic_load(&hits), 1);
    assert_ok(prepare(conn, sql[3], &statement), cause); /* evicts 1 */
    assert_ok(prepare(conn, sql[0], &statement), cause);
    assert_ptr_equal(statement, first);
    assert_int_equal(atomic_load(&hits), 2);
    assert_ok(prepare(conn, sql[1], &statement), cause);
    assert_int_equal(atomic_load(&misses), 5);
}

static void statement_is_reset_and_forgets_its_bindings_on_every_path(void **state) {
    (void)state;
    sl_run out;
    assert_ok(run(conn, "INSERT INTO t VALUES(1, 'x')", &out, 0), cause);
    assert_int_equal(out.changes, 1);
    assert_int_equal(out.last_rowid, 1);
    assert_int_equal(run(conn, "INSERT INTO t VALUES(1, 'x')", &out, 0), SLUICE_CONSTRAINT);
    assert_int_equal(cause.sqlite_code, SQLITE_CONSTRAINT_PRIMARYKEY);
    assert_int_equal(sl_conn_busy(conn, false), 0);
    assert_ok(run(conn, "SELECT * FROM t", &out, 0), cause);
    assert_int_equal(out.rows->rows, 1);
    assert_int_equal(sl_conn_busy(conn, false), 0);
    assert_ok(run(conn, "UPDATE t SET b='y'", &out, 0), cause);
    assert_int_equal(out.changes, 1);
    assert_int_equal(out.last_rowid, 0);
    assert_ok(run(conn, "CREATE TABLE u(a)", &out, 0), cause);
    assert_int_equal(out.changes, 0); /* not the changes of the statement before */
    const sl_statement *statement;
    Sluice__V1__Statement in = SLUICE__V1__STATEMENT__INIT;
    Sluice__V1__Value value = SLUICE__V1__VALUE__INIT, *values[] = {&value};
    char text[] = "gone soon";
    value.kind_case = SLUICE__V1__VALUE__KIND_TEXT;
    value.text.data = (uint8_t *)text;
    value.text.len = strlen(text);
    in.params = values;
    in.n_params = 1;
    assert_ok(prepare(conn, "SELECT ?", &statement), cause);
    out = (sl_run){.arena = &arena, .max_bytes = 1000};
    assert_ok(sl_conn_run(conn, statement, &in, &out, &cause), cause);
    assert_int_equal(sl_conn_own_step(conn, statement->stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_type(statement->stmt, 0), SQLITE_NULL);
    sqlite3_reset(statement->stmt);
}

static void empty_result_still_names_its_columns(void **state) {
    (void)state;
    sl_run out;
    assert_ok(run(conn, "SELECT a AS first, b FROM t", &out, 0), cause);
    assert_int_equal(out.rows->rows, 0);
    assert_int_equal(out.rows->n_columns, 2);
    assert_memory_equal(out.rows->columns[0]->name.data, "first", 5);
}

static void text_that_is_not_utf8_travels_as_the_blob_it_is(void **state) {
    (void)state;
    sl_run out;
    assert_ok(run(conn, "SELECT CAST(x'ff41' AS TEXT), 'fine'", &out, 0), cause);
    assert_int_equal(out.rows->columns[0]->type, SLUICE__V1__VALUE_TYPE__VALUE_BLOB);
    assert_int_equal(out.rows->columns[1]->type, SLUICE__V1__VALUE_TYPE__VALUE_TEXT);
}

static void runaway_statement_ends_at_its_deadline_and_the_connection_goes_on(void **state) {
    (void)state;
    sl_run out;
    int64_t before = sl_now_ns();
    assert_int_equal(run(conn, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT max(x) FROM c",
                         &out, before + 30000000),
                     SLUICE_INTERRUPTED);
    assert_true(sl_now_ns() - before < (int64_t)2000000000);
    assert_int_equal(sl_conn_busy(conn, false), 0);
    assert_ok(run(conn, "SELECT 1", &out, 0), cause);
}

static void *stop_soon(void *unused) {
    (void)unused;
    sl_conn_stop(conn, SLUICE_SNAPSHOT_EXPIRED);
    return NULL;
}

static void stop_from_another_thread_gives_its_own_error(void **state) {
    (void)state;
    pthread_t thread;
    sl_run out;
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, NULL), 0);
    assert_int_equal(run(conn, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT max(x) FROM c",
                         &out, sl_now_ns() + (int64_t)20000000000),
                     SLUICE_SNAPSHOT_EXPIRED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    sl_conn_stop_clear(conn);
    assert_ok(run(conn, "SELECT 1", &out, 0), cause);
}

static void reader_refuses_what_writes(void **state) {
    (void)state;
    static const char *const writes[] = {"INSERT INTO t VALUES(1,2)", "CREATE TABLE x(a)", "DROP TABLE t", "ANALYZE",
                                         "REINDEX", "INSERT INTO t VALUES(3,4) RETURNING a"};
    sl_conn *reader = NULL;
    sl_conn_options o = options(SL_CONN_READER);
    assert_ok(sl_conn_open(&o, &reader, &cause), cause);
    const sl_statement *statement;
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++)
        assert_int_equal(prepare(reader, writes[i], &statement), SLUICE_READ_ONLY);
    assert_ok(prepare(reader, "SELECT * FROM t", &statement), cause);
    sl_conn_close(&reader);
}

static void rights_are_checked_on_a_cache_hit_too(void **state) {
    (void)state;
    static const struct {
        const char *sql;
        unsigned needs;
    } all[] = {
        {"SELECT * FROM t", SL_RIGHT_READ}, {"INSERT INTO t(b) VALUES(1)", SL_RIGHT_WRITE},
        {"CREATE TABLE x(a)", SL_RIGHT_DDL}, {"DROP TABLE IF EXISTS nobody", SL_RIGHT_DDL},
    };
    const sl_statement *statement;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        for (int pass = 0; pass < 2; pass++) { /* the first compiles, the second finds it */
            sluice_err err = sl_conn_prepare(conn, all[i].sql, strlen(all[i].sql), SL_RIGHT_ALL & ~all[i].needs,
                                             &statement, &cause);
            if (err != SLUICE_FORBIDDEN) fail_msg("%s: %s: %s", all[i].sql, sluice_err_name(err), cause.text);
            assert_ok(prepare(conn, all[i].sql, &statement), cause);
        }
    }
}

static void values_and_results_over_the_limit_are_too_big(void **state) {
    (void)state;
    static const char *const all[] = {"SELECT printf('%900000000d', 1)", "SELECT format('%2000000s', 'x')",
                                      "SELECT zeroblob(900000000)", "SELECT replace(hex(zeroblob(500000)), '0', '00')",
                                      "SELECT randomblob(900000000)", "SELECT hex(zeroblob(60000))"};
    sl_run out;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        sluice_err err = run(conn, all[i], &out, 0);
        if (err != SLUICE_TOO_BIG) fail_msg("%s: %s %s", all[i], sluice_err_name(err), cause.text);
    }
}

static void printf_is_what_it_was_below_the_limit(void **state) {
    (void)state;
    static const char *const same[] = {"printf('%d %s %.2f %q %%', 7, 'x', 1.5, 'it''s')", "format('')",
                                       "printf(NULL, 1)", "printf('%5d|%-5d|%05d', 1, 2, 3)", "printf(12)",
                                       "printf('%d%d%d%d%d%d%d%d%d', 1,2,3,4,5,6,7,8,9)"};
    static const char *const expected[] = {"7 x 1.50 it''s %", NULL /* as SQLite */, NULL,
                                           "    1|2    |00003", "12", "123456789"};
    sl_run out;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "SELECT %s", same[i]);
        for (int pass = 0; pass < 2; pass++) {
            assert_ok(run(conn, sql, &out, 0), cause);
            const Sluice__V1__Column *column = out.rows->columns[0];
            if (expected[i] == NULL)
                assert_int_equal(column->type, SLUICE__V1__VALUE_TYPE__VALUE_NULL);
            else
                assert_string_equal((const char *)column->data.data, expected[i]);
        }
    }
    assert_ok(run(conn, "CREATE INDEX t_f ON t(printf('%03d', a))", &out, 0), cause); /* deterministic, as it was */
}

static void parameters_must_match_in_number(void **state) {
    (void)state;
    sl_run out;
    assert_int_equal(run(conn, "SELECT ?, ?2", &out, 0), SLUICE_INVALID);
    assert_non_null(strstr(cause.text, "2 parameters, 0 values"));
    const sl_statement *statement;
    Sluice__V1__Statement in = SLUICE__V1__STATEMENT__INIT;
    Sluice__V1__Value value = SLUICE__V1__VALUE__INIT, *values[] = {&value};
    in.params = values;
    in.n_params = 1;
    assert_ok(prepare(conn, "SELECT 1", &statement), cause);
    out = (sl_run){.arena = &arena, .max_bytes = 1000};
    assert_int_equal(sl_conn_run(conn, statement, &in, &out, &cause), SLUICE_INVALID);
    value.kind_case = SLUICE__V1__VALUE__KIND_TEXT;
    value.text.data = (uint8_t *)(uintptr_t)"\xff";
    value.text.len = 1;
    assert_ok(prepare(conn, "SELECT ?", &statement), cause);
    assert_int_equal(sl_conn_run(conn, statement, &in, &out, &cause), SLUICE_INVALID);
    assert_non_null(strstr(cause.text, "UTF-8"));
}

/* Another connection changes the schema; some errors of prepare come from the schema as it was read last. */
static void errors_are_judged_by_the_schema_as_it_is_now(void **state) {
    (void)state;
    sl_conn *reader = NULL;
    sl_conn_options o = options(SL_CONN_READER);
    sl_run out;
    assert_ok(sl_conn_open(&o, &reader, &cause), cause);
    assert_ok(run(reader, "SELECT a, b FROM t", &out, 0), cause);
    assert_int_equal(run(reader, "INSERT INTO t VALUES(1,2,3)", &out, 0), SLUICE_SYNTAX);
    assert_non_null(strstr(cause.text, "2 columns"));
    assert_ok(run(conn, "DROP TABLE t", &out, 0), cause);
    assert_ok(run(conn, "CREATE TABLE t(a, b, c)", &out, 0), cause);
    assert_int_equal(run(reader, "INSERT INTO t VALUES(1,2,3)", &out, 0), SLUICE_READ_ONLY);
    assert_ok(run(conn, "CREATE TABLE fresh(x)", &out, 0), cause);
    assert_ok(run(reader, "SELECT x FROM fresh", &out, 0), cause);
    assert_int_equal(run(reader, "SELECT nothing FROM fresh", &out, 0), SLUICE_SYNTAX);
    assert_int_equal(sl_conn_busy(reader, false), 0);
    sl_conn_close(&reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(connection_has_every_setting_of_its_role),
        TEST(cache_keeps_the_latest_statements_and_evicts_the_oldest),
        TEST(statement_is_reset_and_forgets_its_bindings_on_every_path),
        TEST(empty_result_still_names_its_columns),
        TEST(text_that_is_not_utf8_travels_as_the_blob_it_is),
        TEST(runaway_statement_ends_at_its_deadline_and_the_connection_goes_on),
        TEST(stop_from_another_thread_gives_its_own_error),
        TEST(reader_refuses_what_writes),
        TEST(rights_are_checked_on_a_cache_hit_too),
        TEST(values_and_results_over_the_limit_are_too_big),
        TEST(printf_is_what_it_was_below_the_limit),
        TEST(parameters_must_match_in_number),
        TEST(errors_are_judged_by_the_schema_as_it_is_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
