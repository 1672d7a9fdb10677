/* SPDX-License-Identifier: MIT */
/* The WAL-reset regression: a commit is forced into the window between a checkpoint's look at the log and its copying.
 *
 * First with three plain connections on one thread, thousands of trials: checkpoints at any time lose rows on an SQLite
 * without the fix (the control), checkpoints when rule_w.c allows them lose none. Then with the store's real actors
 * behind a VFS that holds the checkpointer in the window until the writer has acknowledged one more write.
 * The window: sqlite3WalCheckpoint() calls xUnfetch of the database file after it has read the log's header.
 */
#include "support/support.h"
#include "support/ask.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "rule_w.h"
#include "store_internal.h"

enum { N_ROWS = 400, STEPS = 12 };

static bool sqlite_is_fixed(void) {
    int v = sqlite3_libversion_number();
    return v >= 3051003 || (v >= 3050007 && v < 3051000) || (v >= 3044006 && v < 3045000);
}

/* ---- plain connections ---- */

typedef struct trial {
    bool by_rule;
    sqlite3 *writer, *checkpointer, *reader;
    sl_rule_w rule;
    unsigned seed;
    int value[N_ROWS]; /* what was committed; the rows are 0..n_rows-1 */
    int n_rows;
    bool armed;
    unsigned forced;
    bool reading;
} trial;

static trial *in_window; /* whose checkpointer runs */
static int (*plain_unfetch)(sqlite3_file *, sqlite3_int64, void *);
static sqlite3_io_methods window_methods;

static int on_wal_hook(void *context, sqlite3 *db, const char *schema, int frames) {
    (void)db, (void)schema;
    trial *t = context;
    if (t->by_rule && !sl_rule_w_commit(&t->rule, (uint64_t)frames)) fail_msg("tripwire: %s", t->rule.broken);
    return SQLITE_OK;
}

static bool commit_rows(trial *t, int from, int to) {
    int n = rand_r(&t->seed);
    if (to > N_ROWS) to = N_ROWS;
    if (sqlite3_exec(t->writer, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) return false;
    for (int i = from; i < to; i++) {
        char sql[160];
        snprintf(sql, sizeof sql, "INSERT INTO t VALUES(%d, %d, zeroblob(1500)) "
                                  "ON CONFLICT(id) DO UPDATE SET n = excluded.n", i, n);
        if (sqlite3_exec(t->writer, sql, NULL, NULL, NULL) != SQLITE_OK) break;
    }
    if (sqlite3_exec(t->writer, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
        sqlite3_exec(t->writer, "ROLLBACK", NULL, NULL, NULL);
        return false;
    }
    for (int i = from; i < to; i++) t->value[i] = n;
    if (to > t->n_rows) t->n_rows = to;
    return true;
}

static int window_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page) {
    trial *t = in_window;
    if (t != NULL && t->armed) {
        t->armed = false;
        t->forced += commit_rows(t, 0, 1 + rand_r(&t->seed) % 3);
    }
    return plain_unfetch(file, offset, page);
}

static sqlite3 *plain_open(const char *path) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF;"
                                      "SELECT * FROM sqlite_schema", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

/* One pass by the checkpointer's connection, half of them with a commit in the window. */
static void pass(trial *t) {
    if (t->by_rule && !sl_rule_w_may(&t->rule, SL_RULE_W_ASK)) return;
    if (t->by_rule) assert_true(sl_rule_w_ask(&t->rule));
    int log = -1, copied = -1;
    t->armed = rand_r(&t->seed) % 2;
    in_window = t;
    int rc = sqlite3_wal_checkpoint_v2(t->checkpointer, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &copied);
    in_window = NULL;
    t->armed = false;
    sl_rule_w_pass result = {rc == SQLITE_OK, log, copied};
    if (t->by_rule && !sl_rule_w_answer(&t->rule, 1, &result)) fail_msg("tripwire: %s", t->rule.broken);
}

static void own_pass(trial *t) {
    if (!t->by_rule || !sl_rule_w_may(&t->rule, SL_RULE_W_OWN_BEGIN)) return;
    assert_true(sl_rule_w_own_begin(&t->rule));
    int log = -1, copied = -1;
    int rc = sqlite3_wal_checkpoint_v2(t->writer, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &copied);
    if (!sl_rule_w_own_end(&t->rule, &(sl_rule_w_pass){rc == SQLITE_OK, log, copied}))
        fail_msg("tripwire: %s", t->rule.broken);
}

/* Rows that are missing or hold an older value. */
static unsigned rows_lost(const char *path, const int *value, int n_rows, bool *damaged) {
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    unsigned lost = 0;
    int at = 0;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    *damaged = sqlite3_prepare_v2(db, "SELECT id, n FROM t WHERE id < 1000 ORDER BY id", -1, &stmt, NULL) != SQLITE_OK;
    while (!*damaged && sqlite3_step(stmt) == SQLITE_ROW) {
        for (; at < sqlite3_column_int(stmt, 0) && at < n_rows; at++) lost++;
        if (at < n_rows && sqlite3_column_int(stmt, 1) != value[at]) lost++;
        at++;
    }
    for (; at < n_rows; at++) lost++;
    sqlite3_finalize(stmt);
    stmt = NULL;
    if (sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW || strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") != 0)
        *damaged = true;
    sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return lost;
}

static bool one_trial(const char *path, bool by_rule, unsigned seed, unsigned *forced) {
    trial t = {.by_rule = by_rule, .seed = seed};
    sl_rule_w_init(&t.rule, true);
    t.writer = plain_open(path);
    sqlite3_wal_hook(t.writer, on_wal_hook, &t);
    assert_int_equal(sqlite3_exec(t.writer, "CREATE TABLE t(id INTEGER PRIMARY KEY, n, v)", NULL, NULL, NULL),
                     SQLITE_OK);
    t.checkpointer = plain_open(path);
    t.reader = plain_open(path);
    sqlite3_file *file = NULL;
    sqlite3_file_control(t.checkpointer, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (file->pMethods != &window_methods) {
        plain_unfetch = file->pMethods->xUnfetch;
        window_methods = *file->pMethods;
        window_methods.xUnfetch = window_unfetch;
        file->pMethods = &window_methods;
    }
    assert_true(commit_rows(&t, 0, 60 + rand_r(&t.seed) % 60));
    for (int i = 0; i < STEPS; i++) {
        switch (rand_r(&t.seed) % 5) {
        case 0: {
            int from = rand_r(&t.seed) % t.n_rows;
            assert_true(commit_rows(&t, from, from + 1 + rand_r(&t.seed) % 20));
            break;
        }
        case 1:
            sqlite3_exec(t.reader, t.reading ? "COMMIT" : "BEGIN; SELECT count(*) FROM t", NULL, NULL, NULL);
            t.reading = !t.reading;
            break;
        case 2: own_pass(&t); break;
        default: pass(&t);
        }
    }
    if (t.reading) sqlite3_exec(t.reader, "COMMIT", NULL, NULL, NULL);
    assert_true(commit_rows(&t, 0, 5));
    assert_int_equal(sqlite3_close(t.reader), SQLITE_OK);
    assert_int_equal(sqlite3_close(t.checkpointer), SQLITE_OK);
    assert_int_equal(sqlite3_close(t.writer), SQLITE_OK);
    bool damaged;
    unsigned lost = rows_lost(path, t.value, t.n_rows, &damaged);
    *forced += t.forced;
    return lost > 0 || damaged;
}

static unsigned trials_lost(bool by_rule, unsigned trials, unsigned *forced) {
    char *directory = support_directory_new();
    unsigned lost = 0;
    for (unsigned i = 0; i < trials; i++) {
        char name[32];
        snprintf(name, sizeof name, "%u.db", i);
        char *path = support_path(directory, name);
        lost += one_trial(path, by_rule, i + 1, forced);
        unlink(path);
        free(path);
    }
    support_directory_remove(&directory);
    return lost;
}

static void checkpoints_at_any_time_lose_rows_on_an_sqlite_without_the_fix(void **unused) {
    (void)unused;
    unsigned forced = 0, trials = support_scaled(300), lost = trials_lost(false, trials, &forced);
    print_message("SQLite %s: %u trials, %u forced commits, %u databases lost rows\n", sqlite3_libversion(), trials,
                  forced, lost);
    if (sqlite_is_fixed()) {
        assert_int_equal(lost, 0);
        skip();
    }
    assert_true(lost > trials / 20);
}

static void checkpoints_by_rule_w_lose_none(void **unused) {
    (void)unused;
    unsigned forced = 0, trials = support_scaled(1000), lost = trials_lost(true, trials, &forced);
    print_message("rule W: %u trials, %u forced commits, %u databases lost rows\n", trials, forced, lost);
    assert_true(forced > trials / 4);
    assert_int_equal(lost, 0);
}

/* ---- the store's actors ---- */

typedef struct window {
    sqlite3_vfs vfs;
    sqlite3_vfs *base;
    sqlite3_io_methods methods;
    int (*unfetch)(sqlite3_file *, sqlite3_int64, void *);
    bool writer_known;
    pthread_t writer; /* opens first */
    sl_port *_Atomic port;
    sluice_pid writer_pid;
    _Atomic unsigned forced, failed;
    _Atomic int64_t n; /* in row 1000, by the writes in the window */
} window;

static window w;

static int held_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page) {
    sl_port *port = atomic_load(&w.port);
    if (port != NULL && !pthread_equal(pthread_self(), w.writer)) {
        sluice_cause cause;
        int64_t params[] = {w.n + 1};
        sluice_msg *request = support_write_new();
        if (request != NULL && support_add(request, "UPDATE t SET n = ?1 WHERE id = 1000", 1, params) &&
            support_ask_quiet(port, w.writer_pid, &request, 20000, NULL, &cause) == SLUICE_OK) {
            w.n++;
            w.forced++;
        } else {
            w.failed++;
        }
    }
    return w.unfetch(file, offset, page);
}

static int window_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *flags_out) {
    (void)vfs;
    int rc = w.base->xOpen(w.base, name, file, flags, flags_out);
    if (rc != SQLITE_OK || !(flags & SQLITE_OPEN_MAIN_DB) || file->pMethods == NULL) return rc;
    if (!w.writer_known) {
        w.writer_known = true;
        w.writer = pthread_self();
        w.methods = *file->pMethods;
        w.unfetch = w.methods.xUnfetch;
        w.methods.xUnfetch = held_unfetch;
    }
    file->pMethods = &w.methods;
    return rc;
}

static void small_caps(sluice_store_options *options) {
    options->synchronous = SLUICE_SYNC_NORMAL;
    options->wal_soft_cap_bytes = 96 * 1024;
    options->n_readers = 2;
}

static void the_stores_own_actors_lose_none_with_a_commit_in_every_window(void **unused) {
    (void)unused;
    memset(&w, 0, sizeof w);
    w.base = sqlite3_vfs_find("unix-excl");
    assert_non_null(w.base);
    w.vfs = *w.base;
    w.vfs.zName = "sluice-window";
    w.vfs.pNext = NULL;
    w.vfs.xOpen = window_open;
    assert_int_equal(sqlite3_vfs_register(&w.vfs, 0), SQLITE_OK);

    sluice_cause cause;
    char *directory = support_directory_new(), *path = support_path(directory, "a.db");
    sluice_runtime *runtime = NULL;
    sluice_store *store = NULL;
    sl_port *port = NULL, *inside = NULL;
    assert_ok(sluice_runtime_new(NULL, &runtime, &cause), cause);
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = path;
    small_caps(&options);
    assert_ok(sl_store_open(runtime, &options, "sluice-window", &store, &cause), cause);
    assert_ok(sl_port_open(runtime, &port, &cause), cause);
    assert_ok(sl_port_open(runtime, &inside, &cause), cause);
    assert_ok(support_write(port, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, v BLOB)", 0, NULL, &cause), cause);
    assert_ok(support_write(port, "INSERT INTO t VALUES(1000, 0, '')", 0, NULL, &cause), cause);
    w.writer_pid = sluice_whereis(runtime, "app/writer");
    atomic_store(&w.port, inside);

    static int value[N_ROWS];
    unsigned seed = 17, wanted = support_scaled(400), rounds = 0;
    for (int i = 0; i < N_ROWS; i++) value[i] = -1;
    while (w.forced < wanted && rounds++ < wanted * 40) {
        int64_t params[] = {rand_r(&seed) % N_ROWS, rand_r(&seed) % 1000000};
        assert_ok(support_write(port, "INSERT INTO t VALUES(?1, ?2, zeroblob(1500)) "
                                      "ON CONFLICT(id) DO UPDATE SET n = excluded.n", 2, params, &cause), cause);
        value[params[0]] = (int)params[1];
        if (rounds % 7 == 0) {
            int64_t seen = -1;
            assert_ok(support_read(port, "SELECT n FROM t WHERE id = ?", 1, params, &seen, &cause), cause);
            assert_int_equal(seen, params[1]);
        }
    }
    sluice_store_stats stats;
    sluice_store_stats_read(store, &stats);
    print_message("%u writes, %u passes with a commit in the window, %d finishing passes, %d restarts of the log\n",
                  rounds, (unsigned)w.forced, (int)stats.checkpoints_finishing, (int)stats.wal_restarts);
    assert_true(w.forced >= wanted);
    assert_int_equal(w.failed, 0);
    assert_true(stats.wal_restarts > wanted / 20);
    atomic_store(&w.port, NULL);
    sl_port_close(&port);
    sluice_store_close(&store);
    sl_port_close(&inside);
    sluice_runtime_destroy(&runtime);
    assert_int_equal(sqlite3_vfs_unregister(&w.vfs), SQLITE_OK);

    /* Rows that were never written are no loss. */
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    unsigned lost = 0;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT n FROM t WHERE id = ?", -1, &stmt, NULL), SQLITE_OK);
    for (int i = 0; i <= 1000; i++) {
        if (i < 1000 && (i >= N_ROWS || value[i] < 0)) continue;
        int64_t expected = i == 1000 ? (int64_t)w.n : value[i];
        sqlite3_bind_int(stmt, 1, i);
        lost += sqlite3_step(stmt) != SQLITE_ROW || sqlite3_column_int64(stmt, 0) != expected;
        sqlite3_reset(stmt);
    }
    sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(lost, 0);
    support_directory_remove(&directory);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoints_at_any_time_lose_rows_on_an_sqlite_without_the_fix),
        cmocka_unit_test(checkpoints_by_rule_w_lose_none),
        cmocka_unit_test(the_stores_own_actors_lose_none_with_a_commit_in_every_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
