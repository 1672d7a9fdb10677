/* SPDX-License-Identifier: MIT */
/* The stale-read trap, with plain SQLite as a naive program uses it, and with Sluice beside it. */
#include "support/support.h"
#include "support/ask.h"

#include <stdlib.h>
#include <sqlite3.h>

static void plain_exec(sqlite3 *db, const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

static int64_t plain_count(sqlite3_stmt *stmt, bool reset) {
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(stmt, 0);
    if (reset) sqlite3_reset(stmt);
    return n;
}

/* Given a connection that keeps its statements and forgets to reset one of them, when another connection commits, then
 * the first does not see the row, through no matter which statement, and a checkpoint cannot finish. */
static void a_cached_statement_that_is_not_reset_reads_stale_rows_and_blocks_a_checkpoint(void **unused) {
    (void)unused;
    char *directory = support_directory_new(), *path = support_path(directory, "plain.db");
    sqlite3 *writer = NULL, *reader = NULL;
    sqlite3_stmt *leaked = NULL, *other = NULL;
    assert_int_equal(sqlite3_open(path, &writer), SQLITE_OK);
    plain_exec(writer, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF;"
                       "CREATE TABLE t(n); INSERT INTO t VALUES(1)");
    assert_int_equal(sqlite3_open(path, &reader), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(reader, "SELECT count(*) FROM t", -1, &leaked, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(reader, "SELECT count(*) FROM t", -1, &other, NULL), SQLITE_OK);
    assert_int_equal(plain_count(leaked, false), 1); /* one row is expected, so nobody steps again: the mistake */

    plain_exec(writer, "INSERT INTO t VALUES(2)");

    assert_int_equal(plain_count(other, true), 1); /* stale, though the commit was long ago */
    int log = 0, copied = 0;
    assert_int_equal(sqlite3_wal_checkpoint_v2(writer, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &copied), SQLITE_OK);
    assert_true(copied < log);
    assert_int_equal(sqlite3_wal_checkpoint_v2(writer, NULL, SQLITE_CHECKPOINT_TRUNCATE, &log, &copied), SQLITE_BUSY);
    sqlite3_reset(leaked);
    assert_int_equal(plain_count(other, true), 2);
    assert_int_equal(sqlite3_wal_checkpoint_v2(writer, NULL, SQLITE_CHECKPOINT_TRUNCATE, &log, &copied), SQLITE_OK);
    sqlite3_finalize(leaked);
    sqlite3_finalize(other);
    assert_int_equal(sqlite3_close(reader), SQLITE_OK);
    assert_int_equal(sqlite3_close(writer), SQLITE_OK);
    support_directory_remove(&directory);
    free(path);
}

typedef struct restarts {
    sluice_store *store;
    uint64_t wanted;
} restarts;

static bool restarted(void *context) {
    restarts *r = context;
    sluice_store_stats stats;
    sluice_store_stats_read(r->store, &stats);
    return stats.wal_restarts >= r->wanted;
}

/* The same statements by Sluice's readers, which keep them compiled too: each read is fresh, and checkpoints complete
 * between the reads. */
static void sluices_readers_keep_statements_and_see_every_commit_and_block_nothing(void **unused) {
    (void)unused;
    sluice_cause cause;
    char *directory = support_directory_new(), *path = support_path(directory, "a.db");
    sluice_runtime *runtime = NULL;
    sluice_store *store = NULL;
    sl_port *port = NULL;
    assert_ok(sluice_runtime_new(NULL, &runtime, &cause), cause);
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = path;
    options.synchronous = SLUICE_SYNC_NORMAL;
    options.wal_soft_cap_bytes = 256 * 1024;
    assert_ok(sluice_store_open(runtime, &options, &store, &cause), cause);
    assert_ok(sl_port_open(runtime, &port, &cause), cause);
    assert_ok(support_write(port, "CREATE TABLE t(n, v)", 0, NULL, &cause), cause);
    unsigned rounds = support_scaled(400);
    for (int64_t i = 1; i <= rounds; i++) {
        int64_t seen = 0;
        assert_ok(support_write(port, "INSERT INTO t VALUES(?1, zeroblob(4000))", 1, &i, &cause), cause);
        assert_ok(support_read(port, "SELECT count(*) FROM t", 0, NULL, &seen, &cause), cause);
        assert_int_equal(seen, i);
    }
    sluice_store_stats stats;
    sluice_store_stats_read(store, &stats);
    assert_true(stats.statement_hits > rounds); /* the cache was used */
    support_await(restarted, &(restarts){store, 1}, 10000);
    sluice_store_stats_read(store, &stats);
    print_message("%u rounds: %d restarts of the log, file %d bytes\n", rounds, (int)stats.wal_restarts,
                  (int)stats.wal_file_bytes);
    assert_true(stats.wal_file_bytes <= 2 * options.wal_soft_cap_bytes);
    sl_port_close(&port);
    sluice_store_close(&store);
    sluice_runtime_destroy(&runtime);
    support_directory_remove(&directory);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cached_statement_that_is_not_reset_reads_stale_rows_and_blocks_a_checkpoint),
        cmocka_unit_test(sluices_readers_keep_statements_and_see_every_commit_and_block_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
