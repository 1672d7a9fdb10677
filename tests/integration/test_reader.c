/* SPDX-License-Identifier: MIT */
/* Readers: fresh, one snapshot per request, quiet after each, bounded in time and size, and the gate. */
#include "support/support.h"
#include "support/ask.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "actor_internal.h"
#include "reader.h"
#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"

#define RUNAWAY "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
/* Sanitized builds on a busy machine are slower than the clock. */
#define SLACK_MS (50 + 1000 / support_scaled(10))

typedef struct fixture {
    char *directory, *path;
    sluice_runtime *runtime;
    sluice_store *store;
    sl_port *port;
    sluice_pid reader, writer;
} fixture;

static fixture f;

static void open_store(unsigned n_readers, void (*change)(sluice_store_options *)) {
    sluice_cause cause;
    memset(&f, 0, sizeof f);
    f.directory = support_directory_new();
    f.path = support_path(f.directory, "a.db");
    assert_ok(sluice_runtime_new(NULL, &f.runtime, &cause), cause);
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = f.path;
    options.n_readers = n_readers;
    options.synchronous = SLUICE_SYNC_NORMAL; /* nothing here is about the disk */
    if (change != NULL) change(&options);
    assert_ok(sluice_store_open(f.runtime, &options, &f.store, &cause), cause);
    assert_ok(sl_port_open(f.runtime, &f.port, &cause), cause);
    f.reader = sluice_whereis(f.runtime, "app/readers");
    f.writer = sluice_whereis(f.runtime, "app/writer");
    assert_ok(support_write(f.port, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, v BLOB)", 0, NULL, &cause),
              cause);
}

static void close_store(void) {
    sluice_runtime_stats stats;
    sl_port_close(&f.port);
    sluice_store_close(&f.store);
    sluice_runtime_stats_read(f.runtime, &stats);
    assert_int_equal(stats.actors, 0);
    assert_int_equal(stats.failures, 0);
    sluice_runtime_destroy(&f.runtime);
    support_directory_remove(&f.directory);
    free(f.path);
}

static sluice_store_stats stats_of(void) {
    sluice_store_stats stats;
    sluice_store_stats_read(f.store, &stats);
    return stats;
}

static sluice_err read_error(const char *sql, uint32_t timeout_ms) {
    sluice_cause cause;
    sluice_msg *request = support_query_new();
    assert_true(support_add(request, sql, 0, NULL));
    return support_ask_quiet(f.port, f.reader, &request, timeout_ms, NULL, &cause);
}

static void a_read_that_starts_after_an_acknowledgement_sees_the_write(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(2, NULL);
    assert_ok(support_write(f.port, "INSERT INTO t(id, n) VALUES(1, 0), (2, 0), (3, 0)", 0, NULL, &cause), cause);
    unsigned trials = support_scaled(10000);
    int64_t now[4] = {0};
    unsigned seed = 7;
    uint64_t last_commit = 0;
    for (unsigned i = 1; i <= trials; i++) {
        int64_t id = 1 + rand_r(&seed) % 3, got = -1;
        int64_t params[] = {i, id};
        now[id] = i;
        assert_ok(support_write(f.port, "UPDATE t SET n = ?1 WHERE id = ?2", 2, params, &cause), cause);
        sluice_msg *request = support_query_new(), *reply = NULL;
        int64_t other = 1 + rand_r(&seed) % 3;
        assert_true(support_add(request, "SELECT n FROM t WHERE id = ?", 1, &id));
        assert_true(support_add(request, "SELECT n FROM t WHERE id = ?", 1, &other));
        /* Any reader: whereis chooses the one with the shortest queue, so both are used. */
        sluice_pid to = atomic_load(&f.store->readers[rand_r(&seed) % 2]);
        assert_ok(support_ask_quiet(f.port, to, &request, 10000, &reply, &cause), cause);
        got = support_result(reply, 0);
        assert_int_equal(got, now[id]);
        assert_int_equal(support_result(reply, 1), now[other]);
        uint64_t commit = ((Sluice__V1__QueryReply *)sluice_msg_body(reply))->commit_number;
        assert_true(commit > last_commit); /* each write is a group of its own here */
        last_commit = commit;
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(stats_of().reads, trials);
    close_store();
}

/* The trap this product exists for, with plain SQLite, and that Sluice does not fall into it, see test_stale_read.c. */

static void all_statements_of_a_request_see_one_snapshot(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(1, NULL);
    assert_ok(support_write(f.port, "INSERT INTO t(id, n) VALUES(1, 0)", 0, NULL, &cause), cause);
    for (unsigned i = 0; i < support_scaled(500); i++) {
        sluice_msg *write = support_write_new(), *read = support_query_new(), *reply = NULL;
        assert_true(support_add(write, "UPDATE t SET n = n + 1", 0, NULL));
        assert_true(support_add(read, "SELECT n FROM t", 0, NULL));
        assert_true(support_add(read, "SELECT count(*) FROM (SELECT a.id FROM t a, t b, t c)", 0, NULL));
        assert_true(support_add(read, "SELECT n FROM t", 0, NULL));
        uint64_t w, r;
        assert_int_equal(support_send_quiet(f.port, f.writer, &write, 10000, &w), SLUICE_OK);
        assert_int_equal(support_send_quiet(f.port, f.reader, &read, 10000, &r), SLUICE_OK);
        for (int answers = 0; answers < 2; answers++) {
            uint64_t which;
            assert_ok(support_wait_quiet(f.port, 10000, &reply, &which, &cause), cause);
            if (which == r) assert_int_equal(support_result(reply, 0), support_result(reply, 2));
            sluice_msg_destroy(&reply);
        }
    }
    close_store();
}

static void every_refusal_is_typed_and_leaves_the_reader_quiet(void **unused) {
    (void)unused;
    static const struct {
        const char *sql;
        sluice_err err;
    } cases[] = {
        {"SELEC 1", SLUICE_SYNTAX},
        {"SELECT nothing FROM nowhere", SLUICE_SYNTAX},
        {"", SLUICE_INVALID},
        {"SELECT 1; SELECT 2", SLUICE_INVALID},
        {"SELECT ?", SLUICE_INVALID}, /* parameters missing */
        {"INSERT INTO t(n) VALUES(1)", SLUICE_READ_ONLY},
        {"DELETE FROM t RETURNING id", SLUICE_READ_ONLY},
        {"CREATE TABLE u(a)", SLUICE_READ_ONLY},
        {"BEGIN", SLUICE_FORBIDDEN},
        {"COMMIT", SLUICE_FORBIDDEN},
        {"ATTACH 'x.db' AS x", SLUICE_FORBIDDEN},
        {"PRAGMA journal_mode=DELETE", SLUICE_FORBIDDEN},
        {"PRAGMA wal_checkpoint", SLUICE_FORBIDDEN},
        {"SELECT zeroblob(2000000000)", SLUICE_TOO_BIG},
        {"SELECT abs(-9223372036854775807 - 1)", SLUICE_FAILED}, /* fails while it runs */
        {"SELECT CASE WHEN n < 2 THEN n ELSE abs(-9223372036854775807 - 1) END FROM t", SLUICE_FAILED}, /* in row 3 */
    };
    sluice_cause cause;
    open_store(1, NULL);
    assert_ok(support_write(f.port, "INSERT INTO t(n) VALUES(0), (1), (2), (3)", 0, NULL, &cause), cause);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sluice_err err = read_error(cases[i].sql, 5000);
        if (err != cases[i].err) fail_msg("%s: %s", cases[i].sql, sluice_err_name(err));
        /* As the second of two statements too; the reader itself aborts if a statement is left busy. */
        sluice_msg *request = support_query_new();
        assert_true(support_add(request, "SELECT n FROM t", 0, NULL) && support_add(request, cases[i].sql, 0, NULL));
        assert_int_equal(support_ask_quiet(f.port, f.reader, &request, 5000, NULL, &cause), cases[i].err);
        assert_int_equal(cause.statement, 1);
        int64_t n = 0;
        assert_ok(support_read(f.port, "SELECT count(*) FROM t", 0, NULL, &n, &cause), cause);
        assert_int_equal(n, 4);
    }
    sluice_msg *empty = support_query_new();
    assert_int_equal(support_ask_quiet(f.port, f.reader, &empty, 5000, NULL, &cause), SLUICE_INVALID);
    sluice_msg *foreign = support_write_new();
    assert_true(support_add(foreign, "SELECT 1", 0, NULL));
    assert_int_equal(support_ask_quiet(f.port, f.reader, &foreign, 5000, NULL, &cause), SLUICE_UNSUPPORTED);
    sl_reader_watch watch;
    assert_true(sl_reader_look(f.store, 0, &watch));
    assert_int_equal(watch.snapshot_ns, 0);
    close_store();
}

static void a_result_over_the_limit_is_too_big_and_never_cut(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(1, NULL);
    const char *many = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000) "
                       "SELECT n, zeroblob(100) FROM c";
    for (uint64_t limit = 1000; limit <= 1000000; limit *= 10) {
        sluice_msg *request = support_query_new(), *reply = NULL;
        assert_true(support_add(request, many, 0, NULL) && support_add(request, many, 0, NULL));
        ((Sluice__V1__QueryRequest *)sluice_msg_body(request))->max_bytes = limit;
        sluice_err err = support_ask_quiet(f.port, f.reader, &request, 5000, &reply, &cause);
        if (limit < 2 * 108000) {
            assert_int_equal(err, SLUICE_TOO_BIG);
        } else {
            assert_int_equal(err, SLUICE_OK);
            const Sluice__V1__QueryReply *body = sluice_msg_body(reply);
            assert_int_equal(body->n_results, 2);
            assert_int_equal(body->results[0]->rows->rows, 1000);
            assert_int_equal(body->results[1]->rows->rows, 1000);
        }
        sluice_msg_destroy(&reply);
    }
    close_store();
}

static void a_runaway_query_ends_at_its_deadline_and_the_reader_serves_on(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(1, NULL);
    static const char *const runaways[] = {
        RUNAWAY,
        ("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 100000) "
         "SELECT count(*) FROM c a, c b, c d WHERE a.n + b.n = d.n"),
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c ORDER BY -n LIMIT 5",
    };
    for (size_t i = 0; i < sizeof runaways / sizeof runaways[0]; i++) {
        int64_t start_ns = sl_now_ns();
        assert_int_equal(read_error(runaways[i], 100), SLUICE_INTERRUPTED);
        int64_t took_ms = (sl_now_ns() - start_ns) / 1000000;
        print_message("ended after %d ms\n", (int)took_ms);
        assert_true(took_ms >= 90 && took_ms <= 100 + (int64_t)SLACK_MS);
        int64_t n = 0;
        assert_ok(support_read(f.port, "SELECT 41 + 1", 0, NULL, &n, &cause), cause);
        assert_int_equal(n, 42);
    }
    assert_int_equal(stats_of().reads_interrupted, 3);
    close_store();
}

static void a_snapshot_that_is_expired_ends_with_its_own_error(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(1, NULL);
    sluice_msg *request = support_query_new(), *reply = NULL;
    assert_true(support_add(request, RUNAWAY, 0, NULL));
    assert_int_equal(support_send_quiet(f.port, f.reader, &request, 60000, NULL), SLUICE_OK);
    sl_port_flush(f.port);
    sl_reader_watch watch = {0};
    while (watch.asker == 0) assert_true(sl_reader_look(f.store, 0, &watch));
    assert_true(watch.asker == sl_port_pid(f.port));
    assert_int_equal(sl_readers_expire(f.store, watch.snapshot_ns), 0); /* not older than itself */
    assert_int_equal(sl_readers_expire(f.store, watch.snapshot_ns + 1), 1);
    assert_int_equal(support_wait_quiet(f.port, 10000, &reply, NULL, &cause), SLUICE_SNAPSHOT_EXPIRED);
    assert_int_equal(read_error("SELECT 1", 5000), SLUICE_OK);
    assert_int_equal(stats_of().snapshots_expired, 1);
    close_store();
}

/* What a client's choice of a reader goes by. */
static void await_load(sluice_pid reader, uint32_t least) {
    int64_t until = sl_now_ns() + INT64_C(20000000000);
    while (sl_actor_load(f.runtime, reader) < least) {
        assert_true(sl_now_ns() < until);
        sched_yield();
    }
}

static void a_reader_in_a_long_query_does_not_look_idle(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(2, NULL);
    sluice_pid first = atomic_load(&f.store->readers[0]), second = atomic_load(&f.store->readers[1]);
    sluice_msg *request = support_query_new(), *reply = NULL;
    assert_true(support_add(request, RUNAWAY, 0, NULL));
    assert_int_equal(support_send_quiet(f.port, first, &request, 60000, NULL), SLUICE_OK);
    sl_port_flush(f.port);
    await_load(first, 1000); /* it has noticed that this one is long */
    assert_int_equal(sl_mailbox_depth(f.runtime, first), 0);
    for (int i = 0; i < 100; i++) assert_true(sluice_whereis(f.runtime, "app/readers") == second);
    /* All go to the other one, so none waits for the long one. */
    for (int i = 0; i < 50; i++) {
        request = support_query_new();
        assert_true(support_add(request, "SELECT 1", 0, NULL));
        sluice_pid to = sluice_whereis(f.runtime, "app/readers");
        assert_true(to == second);
        assert_ok(support_ask_quiet(f.port, to, &request, 20000, NULL, &cause), cause);
    }
    assert_int_equal(sl_readers_expire(f.store, INT64_MAX), 1);
    assert_int_equal(support_wait_quiet(f.port, 20000, &reply, NULL, &cause), SLUICE_SNAPSHOT_EXPIRED);
    /* At rest both look the same again. */
    request = support_query_new();
    assert_true(support_add(request, "SELECT 1", 0, NULL));
    assert_ok(support_ask_quiet(f.port, first, &request, 20000, NULL, &cause), cause);
    assert_int_equal(sl_actor_load(f.runtime, first), 0);
    assert_int_equal(sl_actor_load(f.runtime, second), 0);
    close_store();
}

static struct {
    atomic_uint heard;
    sluice_reading reading;
} warned;

static void on_old_snapshot(void *context, const sluice_reading *reading) {
    assert_ptr_equal(context, &warned);
    warned.reading = *reading;
    atomic_fetch_add(&warned.heard, 1);
}

static void warn_early(sluice_store_options *options) {
    options->snapshot_warn_ms = 50;
    options->on_old_snapshot = on_old_snapshot;
    options->old_snapshot_context = &warned;
}

static void the_monitor_shows_what_runs_and_warns_of_an_old_snapshot_once(void **unused) {
    (void)unused;
    sluice_cause cause;
    atomic_store(&warned.heard, 0);
    open_store(2, warn_early);
    sluice_reading seen[3];
    assert_int_equal(sluice_store_readings(f.store, seen, 3), 2);
    for (unsigned i = 0; i < 2; i++) assert_true(seen[i].number == i && !seen[i].busy && !seen[i].leased);
    /* A text that is cut must be cut between characters. */
    const char *text = RUNAWAY " /* \xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"
                       "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9 */";
    assert_true(strlen(text) > 129);
    sluice_msg *request = support_query_new(), *reply = NULL;
    uint64_t correlation;
    assert_true(support_add(request, text, 0, NULL));
    assert_int_equal(support_send_quiet(f.port, atomic_load(&f.store->readers[1]), &request, 60000, &correlation), 0);
    sl_port_flush(f.port);
    int64_t until = sl_now_ns() + INT64_C(20000000000);
    while (atomic_load(&warned.heard) == 0) {
        assert_true(sl_now_ns() < until);
        sched_yield();
    }
    assert_int_equal(sluice_store_readings(f.store, seen, 1), 2); /* room for one */
    assert_false(seen[0].busy);
    assert_int_equal(sluice_store_readings(f.store, seen, 3), 2);
    for (int i = 0; i < 2; i++) {
        const sluice_reading *r = i == 0 ? &seen[1] : &warned.reading;
        assert_true(r->busy && r->number == 1 && r->age_us >= 50000);
        assert_true(r->asker == sl_port_pid(f.port) && r->request == correlation);
        assert_int_equal(r->commit_number, stats_of().commit_number);
        assert_int_equal(r->statement_size, strlen(text));
        assert_true(strlen(r->statement) == 128 || strlen(r->statement) == 127);
        assert_memory_equal(r->statement, text, strlen(r->statement));
        assert_int_not_equal((unsigned char)r->statement[strlen(r->statement) - 1], 0xC3);
    }
    assert_int_equal(sl_readers_expire(f.store, INT64_MAX), 1);
    assert_int_equal(support_wait_quiet(f.port, 20000, &reply, NULL, &cause), SLUICE_SNAPSHOT_EXPIRED);
    assert_int_equal(atomic_load(&warned.heard), 1);
    assert_int_equal(stats_of().snapshots_old, 1);
    assert_int_equal(sluice_store_readings(f.store, seen, 3), 2);
    assert_false(seen[1].busy);
    close_store();
}

static void a_long_request_is_the_last_of_its_snapshot(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(1, NULL);
    uint64_t before = stats_of().read_batches;
    /* Told to wait at the gate, so that all three are there when it opens. */
    sluice_msg *close = NULL, *open = NULL, *reply = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__gate_close__descriptor, &close), SLUICE_OK);
    assert_int_equal(sluice_msg_new(&sluice__v1__gate_open__descriptor, &open), SLUICE_OK);
    close->flags = open->flags = SL_MSG_CONTROL;
    assert_int_equal(sl_port_send(f.port, f.reader, &close), SLUICE_OK);
    assert_ok(support_wait_quiet(f.port, 10000, &reply, NULL, &cause), cause);
    assert_true(sluice_msg_is(reply, &sluice__v1__gate_closed__descriptor));
    sluice_msg_destroy(&reply);
    static const char *const sqls[] = {
        "SELECT 1", "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 300000) SELECT max(n) FROM c",
        "SELECT 3", "SELECT 4"};
    for (size_t i = 0; i < 4; i++) {
        sluice_msg *request = support_query_new();
        assert_true(support_add(request, sqls[i], 0, NULL));
        assert_int_equal(support_send_quiet(f.port, f.reader, &request, 10000, NULL), SLUICE_OK);
    }
    sl_port_flush(f.port);
    assert_int_equal(support_wait_quiet(f.port, 50, &reply, NULL, &cause), SLUICE_TIMEOUT); /* gated */
    assert_int_equal(sl_port_send(f.port, f.reader, &open), SLUICE_OK);
    for (int i = 0; i < 4; i++) {
        assert_ok(support_wait_quiet(f.port, 10000, &reply, NULL, &cause), cause);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(stats_of().read_batches - before, 2);
    close_store();
}

static void bound_the_queue(sluice_store_options *options) { options->max_pending = 4; }

static void the_gate_holds_reads_back_within_bounds_and_opens_by_itself(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(1, bound_the_queue);
    sluice_msg *close = NULL, *reply = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__gate_close__descriptor, &close), SLUICE_OK);
    ((Sluice__V1__GateClose *)sluice_msg_body(close))->round = 77;
    close->flags = SL_MSG_CONTROL;
    assert_int_equal(sl_port_send(f.port, f.reader, &close), SLUICE_OK);
    assert_ok(support_wait_quiet(f.port, 10000, &reply, NULL, &cause), cause);
    assert_int_equal(((Sluice__V1__GateClosed *)sluice_msg_body(reply))->round, 77);
    sluice_msg_destroy(&reply);
    int64_t closed_ns = sl_now_ns();
    uint64_t sent[6];
    unsigned ok = 0, expired = 0, overloaded = 0;
    for (unsigned i = 0; i < 6; i++) {
        sluice_msg *request = support_query_new();
        assert_true(support_add(request, "SELECT 1", 0, NULL));
        sluice_err err = support_send_quiet(f.port, f.reader, &request, i == 0 ? 100 : 10000, &sent[i]);
        overloaded += err == SLUICE_OVERLOADED; /* by the mailbox; else by the reader's own queue, below */
        sl_port_flush(f.port);
    }
    for (unsigned i = overloaded; i < 6; i++) {
        sluice_err err = support_wait_quiet(f.port, 10000, &reply, NULL, &cause);
        if (err == SLUICE_OVERLOADED) assert_true(cause.retry_after_ms > 0);
        ok += err == SLUICE_OK;
        expired += err == SLUICE_EXPIRED;
        overloaded += err == SLUICE_OVERLOADED;
        if (err == SLUICE_OK) assert_true(sl_now_ns() - closed_ns > 900000000); /* only the safety timer opened */
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(expired, 1);
    assert_true(overloaded >= 1);
    assert_int_equal(ok + expired + overloaded, 6);
    assert_int_equal(stats_of().gate_timeouts, 1);
    assert_int_equal(read_error("SELECT 1", 5000), SLUICE_OK);
    close_store();
}

static void reads_that_wait_when_the_store_closes_are_answered(void **unused) {
    (void)unused;
    sluice_cause cause;
    open_store(1, NULL);
    sluice_msg *close = NULL, *reply = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__gate_close__descriptor, &close), SLUICE_OK);
    close->flags = SL_MSG_CONTROL;
    assert_int_equal(sl_port_send(f.port, f.reader, &close), SLUICE_OK);
    for (int i = 0; i < 3; i++) {
        sluice_msg *request = support_query_new();
        assert_true(support_add(request, "SELECT 1", 0, NULL));
        assert_int_equal(support_send_quiet(f.port, f.reader, &request, 60000, NULL), SLUICE_OK);
    }
    assert_ok(support_wait_quiet(f.port, 10000, &reply, NULL, &cause), cause); /* GateClosed */
    sluice_msg_destroy(&reply);
    sluice_store_close(&f.store);
    for (int i = 0; i < 3; i++) {
        sluice_err err = support_wait_quiet(f.port, 10000, &reply, NULL, &cause);
        assert_true(err == SLUICE_CLOSED || err == SLUICE_ACTOR_DOWN);
    }
    close_store();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_that_starts_after_an_acknowledgement_sees_the_write),
        cmocka_unit_test(all_statements_of_a_request_see_one_snapshot),
        cmocka_unit_test(every_refusal_is_typed_and_leaves_the_reader_quiet),
        cmocka_unit_test(a_result_over_the_limit_is_too_big_and_never_cut),
        cmocka_unit_test(a_runaway_query_ends_at_its_deadline_and_the_reader_serves_on),
        cmocka_unit_test(a_snapshot_that_is_expired_ends_with_its_own_error),
        cmocka_unit_test(a_reader_in_a_long_query_does_not_look_idle),
        cmocka_unit_test(the_monitor_shows_what_runs_and_warns_of_an_old_snapshot_once),
        cmocka_unit_test(a_long_request_is_the_last_of_its_snapshot),
        cmocka_unit_test(the_gate_holds_reads_back_within_bounds_and_opens_by_itself),
        cmocka_unit_test(reads_that_wait_when_the_store_closes_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
