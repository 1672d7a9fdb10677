/* SPDX-License-Identifier: MIT */
/* Checkpoints under load: the log stays small whatever readers do, and what the caps say happens. */
#include "support/support.h"
#include "support/ask.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "store_internal.h"
#include "sluice/v1/control.pb-c.h"

#define RUNAWAY "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c, t"
#define SOFT_CAP (4 * 1024u * 1024)

typedef struct fixture {
    char *directory, *path, *log_path;
    sluice_runtime *runtime;
    sluice_store *store;
    sl_port *port;
} fixture;

static fixture f;

/* A store that ends by itself says why. */
static void on_unexpected_fatal(void *context, const sluice_cause *cause, int exit_code) {
    (void)context;
    fprintf(stderr, "the store ended (%d): %s\n", exit_code, cause->text);
    abort();
}

static void open_store(void (*change)(sluice_store_options *)) {
    sluice_cause cause;
    memset(&f, 0, sizeof f);
    f.directory = support_directory_new();
    f.path = support_path(f.directory, "a.db");
    f.log_path = support_path(f.directory, "a.db-wal");
    assert_ok(sluice_runtime_new(NULL, &f.runtime, &cause), cause);
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = f.path;
    options.n_readers = 2;
    options.synchronous = SLUICE_SYNC_NORMAL;
    options.wal_soft_cap_bytes = SOFT_CAP;
    options.on_fatal = on_unexpected_fatal;
    if (change != NULL) change(&options);
    assert_ok(sluice_store_open(f.runtime, &options, &f.store, &cause), cause);
    assert_ok(sl_port_open(f.runtime, &f.port, &cause), cause);
    assert_ok(support_write(f.port, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, v BLOB)", 0, NULL, &cause),
              cause);
}

static void close_store(void) {
    sl_port_close(&f.port);
    sluice_store_close(&f.store);
    struct stat st;
    if (stat(f.log_path, &st) == 0) assert_int_equal(st.st_size, 0); /* the last TRUNCATE */
    sluice_runtime_destroy(&f.runtime);
    support_directory_remove(&f.directory);
    free(f.path);
    free(f.log_path);
}

static sluice_store_stats stats_of(void) {
    sluice_store_stats stats;
    sluice_store_stats_read(f.store, &stats);
    return stats;
}

static void print_stats(const char *what) {
    sluice_store_stats s = stats_of();
    print_message("%s: bulk %d, finishing %d, complete %d, busy %d, restarts %d, gates %d (timeouts %d, "
                  "longest %d us), log file %d KiB\n", what, (int)s.checkpoints, (int)s.checkpoints_finishing,
                  (int)s.checkpoints_complete, (int)s.checkpoints_busy, (int)s.wal_restarts, (int)s.gate_closes,
                  (int)s.gate_timeouts, (int)s.gate_max_us, (int)(s.wal_file_bytes / 1024));
}

/* n writes of about one page each, 16 under way, as UPDATEs of rows all over the table. */
static sluice_err write_many(sl_port *port, unsigned n, unsigned *seed) {
    sluice_cause cause;
    sluice_pid writer = sluice_whereis(sl_port_runtime(port), "app/writer");
    unsigned sent = 0, answered = 0;
    sluice_err worst = SLUICE_OK;
    while (answered < n) {
        while (sent < n && sent - answered < 16) {
            int64_t params[] = {rand_r(seed) % 500, rand_r(seed)};
            sluice_msg *request = support_write_new(), *none = NULL;
            if (request == NULL ||
                !support_add(request, "INSERT INTO t VALUES(?1, ?2, zeroblob(3000)) "
                                      "ON CONFLICT(id) DO UPDATE SET n = excluded.n", 2, params))
                return SLUICE_NOMEM;
            sluice_err err = support_send_quiet(port, writer, &request, 20000, NULL);
            sluice_msg_destroy(&none);
            if (err != SLUICE_OK) return err;
            sent++;
        }
        sluice_msg *reply = NULL;
        sluice_err err = support_wait_quiet(port, 30000, &reply, NULL, &cause);
        sluice_msg_destroy(&reply);
        if (err == SLUICE_TIMEOUT || err == SLUICE_CLOSED) return err;
        if (err != SLUICE_OK) worst = err;
        answered++;
    }
    return worst;
}

typedef struct busy_reader {
    pthread_t thread;
    unsigned index;
    atomic_bool *stop;
    unsigned reads, failed;
} busy_reader;

/* Reads without a pause, 4 under way. */
static void *read_on(void *arg) {
    busy_reader *r = arg;
    sluice_cause cause;
    sl_port *port = NULL;
    if (sl_port_open(f.runtime, &port, &cause) != SLUICE_OK) return NULL;
    sluice_pid to = atomic_load(&f.store->readers[r->index]);
    unsigned under_way = 0;
    while (!atomic_load(r->stop) || under_way > 0) {
        while (under_way < 4 && !atomic_load(r->stop)) {
            sluice_msg *request = support_query_new();
            if (request == NULL || !support_add(request, "SELECT sum(n) FROM t", 0, NULL)) break;
            if (support_send_quiet(port, to, &request, 20000, NULL) != SLUICE_OK) break;
            under_way++;
        }
        if (under_way == 0) continue;
        sluice_msg *reply = NULL;
        sluice_err err = support_wait_quiet(port, 30000, &reply, NULL, &cause);
        sluice_msg_destroy(&reply);
        r->reads += err == SLUICE_OK;
        r->failed += err != SLUICE_OK;
        under_way--;
    }
    sl_port_close(&port);
    return NULL;
}

static void sync_fully(sluice_store_options *options) { options->synchronous = SLUICE_SYNC_FULL; }

static void the_log_stays_below_twice_the_soft_cap_under_two_busy_readers(void **unused) {
    (void)unused;
    open_store(sync_fully);
    atomic_bool stop = false;
    busy_reader readers[2] = {{.index = 0, .stop = &stop}, {.index = 1, .stop = &stop}};
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
    unsigned seed = 3;
    sluice_err err = write_many(f.port, support_scaled(12000), &seed);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) pthread_join(readers[i].thread, NULL);
    assert_int_equal(err, SLUICE_OK);
    print_stats("two busy readers");
    print_message("%u reads beside the writes\n", readers[0].reads + readers[1].reads);
    assert_int_equal(readers[0].failed + readers[1].failed, 0);
    assert_true(readers[0].reads > 0 && readers[1].reads > 0);
    sluice_store_stats s = stats_of();
    assert_true(s.wal_restarts > 0);
    assert_true(s.checkpoints_complete * 10 >= s.checkpoints_finishing * 9);
    struct stat st;
    assert_int_equal(stat(f.log_path, &st), 0);
    assert_true((uint64_t)st.st_size <= 2 * SOFT_CAP);
    assert_int_equal((uint64_t)st.st_size, s.wal_file_bytes);
    close_store();
}

static void age_quickly(sluice_store_options *options) { options->snapshot_max_age_ms = 300; }

static void a_reader_that_never_ends_loses_its_snapshot_at_the_soft_cap_and_not_before(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(age_quickly);
    unsigned seed = 5;
    assert_int_equal(write_many(f.port, 20, &seed), SLUICE_OK);
    sl_port *other = NULL;
    assert_ok(sl_port_open(f.runtime, &other, &cause), cause);
    sluice_msg *request = support_query_new(), *reply = NULL;
    assert_true(support_add(request, RUNAWAY, 0, NULL));
    assert_int_equal(support_send_quiet(other, atomic_load(&f.store->readers[0]), &request, 120000, NULL), SLUICE_OK);
    sl_port_flush(other);
    /* Below the cap nobody minds, however old it is. */
    assert_int_equal(support_wait_quiet(other, 600, &reply, NULL, &cause), SLUICE_TIMEOUT);
    assert_int_equal(write_many(f.port, 20, &seed), SLUICE_OK);
    assert_int_equal(support_wait_quiet(other, 100, &reply, NULL, &cause), SLUICE_TIMEOUT);
    /* Writes go on and the cap is reached; then the snapshot goes and the log restarts. */
    sluice_err err = SLUICE_TIMEOUT;
    for (unsigned i = 0; i < 200 && err == SLUICE_TIMEOUT; i++) {
        assert_int_equal(write_many(f.port, 50, &seed), SLUICE_OK);
        err = support_wait_quiet(other, 1, &reply, NULL, &cause);
    }
    assert_int_equal(err, SLUICE_SNAPSHOT_EXPIRED);
    assert_int_equal(write_many(f.port, 2500, &seed), SLUICE_OK);
    print_stats("a reader that never ends");
    assert_true(stats_of().wal_restarts > 0);
    assert_true(stats_of().snapshots_expired == 1);
    sl_port_close(&other);
    close_store();
}

static void shared_with_small_caps(sluice_store_options *options) {
    options->file_mode = SLUICE_FILE_SHARED;
    options->wal_hard_cap_bytes = 2 * SOFT_CAP;
}

static void at_the_hard_cap_a_foreign_reader_makes_writes_overloaded_until_it_ends(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(shared_with_small_caps);
    unsigned seed = 9;
    assert_int_equal(write_many(f.port, 20, &seed), SLUICE_OK);
    sqlite3 *foreign = NULL;
    assert_int_equal(sqlite3_open_v2(f.path, &foreign, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    sqlite3_db_config(foreign, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    assert_int_equal(sqlite3_exec(foreign, "BEGIN; SELECT count(*) FROM t", NULL, NULL, NULL), SQLITE_OK);
    sluice_err err = SLUICE_OK;
    for (unsigned i = 0; i < 200 && err == SLUICE_OK; i++) err = write_many(f.port, 20, &seed);
    assert_int_equal(err, SLUICE_OVERLOADED);
    print_stats("refused");
    struct stat st;
    assert_int_equal(stat(f.log_path, &st), 0);
    assert_true((uint64_t)st.st_size < 3 * SOFT_CAP);
    assert_int_equal(stats_of().wal_full, 1);
    /* Reads go on. */
    int64_t n = 0;
    assert_ok(support_read(f.port, "SELECT count(*) FROM t", 0, NULL, &n, &cause), cause);
    assert_int_equal(support_write(f.port, "DELETE FROM t", 0, NULL, &cause), SLUICE_OVERLOADED);
    assert_true(cause.retry_after_ms > 0);

    assert_int_equal(sqlite3_exec(foreign, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    int64_t end_ns = sl_now_ns() + 10000000000;
    do err = support_write(f.port, "UPDATE t SET n = -1 WHERE id = 1", 0, NULL, &cause);
    while (err == SLUICE_OVERLOADED && sl_now_ns() < end_ns);
    assert_int_equal(err, SLUICE_OK);
    assert_int_equal(write_many(f.port, 2500, &seed), SLUICE_OK);
    assert_true(stats_of().wal_restarts > 0);
    assert_int_equal(sqlite3_close(foreign), SQLITE_OK);
    close_store();
}

/* A foreign reader that came after the last commit: passes are complete, yet no commit can restart the log. */
static void a_foreign_reader_at_the_tip_cannot_make_the_log_grow_for_ever(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(shared_with_small_caps);
    unsigned seed = 11;
    sqlite3 *foreign = NULL;
    assert_int_equal(sqlite3_open_v2(f.path, &foreign, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    sqlite3_db_config(foreign, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    sluice_err err = SLUICE_OK;
    for (unsigned i = 0; i < 2000 && err == SLUICE_OK; i++) {
        /* It moves on to the tip, but never lets go: the next snapshot is there before the last one ends. */
        err = write_many(f.port, 4, &seed);
        assert_int_equal(sqlite3_exec(foreign, i == 0 ? "BEGIN; SELECT count(*) FROM t"
                                                      : "COMMIT; BEGIN; SELECT count(*) FROM t", NULL, NULL, NULL),
                         SQLITE_OK);
    }
    struct stat st;
    assert_int_equal(stat(f.log_path, &st), 0);
    assert_true((uint64_t)st.st_size < 3 * SOFT_CAP);
    print_stats(err == SLUICE_OK ? "a reader at the tip, never full" : "a reader at the tip, refused");
    assert_int_equal(sqlite3_exec(foreign, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(foreign), SQLITE_OK);
    int64_t end_ns = sl_now_ns() + 10000000000;
    do err = support_write(f.port, "UPDATE t SET n = -1 WHERE id = 1", 0, NULL, &cause);
    while (err == SLUICE_OVERLOADED && sl_now_ns() < end_ns);
    assert_int_equal(err, SLUICE_OK);
    close_store();
}

static sluice_err ask_for_pass(uint64_t epoch, Sluice__V1__CheckpointMode mode, int64_t *log, sluice_cause *cause) {
    sluice_msg *request = NULL, *reply = NULL;
    if (sluice_msg_new(&sluice__v1__checkpoint_request__descriptor, &request) != SLUICE_OK) return SLUICE_NOMEM;
    ((Sluice__V1__CheckpointRequest *)sluice_msg_body(request))->epoch = epoch;
    ((Sluice__V1__CheckpointRequest *)sluice_msg_body(request))->mode = mode;
    sluice_err err = support_ask_quiet(f.port, atomic_load(&f.store->checkpointer), &request, 10000, &reply, cause);
    if (err == SLUICE_OK) *log = ((Sluice__V1__CheckpointReply *)sluice_msg_body(reply))->frames_logged;
    sluice_msg_destroy(&reply);
    return err;
}

/* Here the test stands in for a writer (the real one is idle, and has committed since its last pass). */
static void the_checkpointer_refuses_what_the_rule_forbids(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(NULL);
    int64_t log = 0;
    assert_ok(ask_for_pass(1, SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_PASSIVE, &log, &cause), cause);
    assert_true(log > 0); /* not a silent no-op */
    assert_int_equal(ask_for_pass(2, SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_PASSIVE, &log, &cause), SLUICE_INVALID);
    assert_ok(ask_for_pass(2, SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_TRUNCATE, &log, &cause), cause);
    assert_int_equal(log, 0);
    assert_int_equal(ask_for_pass(1, SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_PASSIVE, &log, &cause), SLUICE_STALE);
    sluice_msg *wrong = support_query_new();
    assert_int_equal(support_ask_quiet(f.port, atomic_load(&f.store->checkpointer), &wrong, 5000, NULL, &cause),
                     SLUICE_UNSUPPORTED);
    close_store();
}

typedef struct heard {
    _Atomic int exit_code;
} heard;

static void on_fatal(void *context, const sluice_cause *cause, int exit_code) {
    print_message("fatal: %s\n", cause->text);
    atomic_store(&((heard *)context)->exit_code, exit_code);
}

static heard fatal_heard;

static void tell_me(sluice_store_options *options) {
    options->on_fatal = on_fatal;
    options->fatal_context = &fatal_heard;
}

static bool heard_fatal(void *context) { return atomic_load(&((heard *)context)->exit_code) != 0; }

static void without_a_checkpointer_the_store_ends_and_acknowledges_nothing_more(void **unused) {
    (void)unused;
    sluice_cause cause;
    atomic_store(&fatal_heard.exit_code, 0);
    open_store(tell_me);
    unsigned seed = 1;
    assert_int_equal(write_many(f.port, 10, &seed), SLUICE_OK);
    sluice_stop(f.runtime, atomic_load(&f.store->checkpointer));
    sl_port *other = NULL; /* its writes are kept waiting while the writer is paused */
    assert_ok(sl_port_open(f.runtime, &other, &cause), cause);
    for (unsigned i = 0; i < 2000 && !heard_fatal(&fatal_heard); i++) {
        int64_t params[] = {i};
        sluice_msg *request = support_write_new();
        assert_true(support_add(request, "INSERT OR REPLACE INTO t VALUES(?1, 1, zeroblob(3000))", 1, params));
        assert_int_equal(support_send_quiet(other, sluice_whereis(f.runtime, "app/writer"), &request, 60000, NULL), 0);
        sl_port_flush(other);
        sluice_msg *reply = NULL;
        sluice_err err = support_wait_quiet(other, 10000, &reply, NULL, &cause);
        sluice_msg_destroy(&reply);
        if (err != SLUICE_OK) break;
    }
    support_await(heard_fatal, &fatal_heard, 10000);
    assert_int_equal(atomic_load(&fatal_heard.exit_code), SLUICE_EXIT_CHECKPOINT_RULE);
    assert_int_not_equal(support_write(f.port, "DELETE FROM t", 0, NULL, &cause), SLUICE_OK);
    sl_port_close(&other);
    sl_port_close(&f.port);
    sluice_store_close(&f.store);
    sluice_runtime_destroy(&f.runtime);
    support_directory_remove(&f.directory);
    free(f.path);
    free(f.log_path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_stays_below_twice_the_soft_cap_under_two_busy_readers),
        cmocka_unit_test(a_reader_that_never_ends_loses_its_snapshot_at_the_soft_cap_and_not_before),
        cmocka_unit_test(at_the_hard_cap_a_foreign_reader_makes_writes_overloaded_until_it_ends),
        cmocka_unit_test(a_foreign_reader_at_the_tip_cannot_make_the_log_grow_for_ever),
        cmocka_unit_test(the_checkpointer_refuses_what_the_rule_forbids),
        cmocka_unit_test(without_a_checkpointer_the_store_ends_and_acknowledges_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
