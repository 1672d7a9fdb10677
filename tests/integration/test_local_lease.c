/* SPDX-License-Identifier: MIT */
/* Local leases: reads on the client's own thread have a message's freshness, answers, deadline and hygiene, give way to
 * the reader gate, and end with the store. */
#include "support/support.h"
#include "support/store_kit.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "reader.h"

#define RUNAWAY "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
#define SLACK_MS (50 + 1000 / support_scaled(10))

static store_kit kit;

static sluice_client *client_new(bool lease) {
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = kit.runtime;
    options.local_lease = lease;
    options.timeout_ms = 60000;
    sluice_client *client = NULL;
    assert_ok(sluice_client_open("inproc://app", &options, &client, &kit.cause), kit.cause);
    return client;
}

static void open_store(unsigned n_leases) {
    kit_new(&kit);
    kit.options.n_leases = n_leases;
    kit.options.synchronous = SLUICE_SYNC_NORMAL; /* nothing here is about the disk */
    kit_open(&kit);
    assert_int_equal(kit_exec(&kit, "CREATE TABLE t(id INTEGER PRIMARY KEY, n, v)"), SLUICE_OK);
}

static void close_store(void) { kit_free(&kit); }

static int64_t first_integer(sluice_result **result) {
    assert_true(sluice_result_next(*result));
    int64_t value = sluice_result_int64(*result, 0);
    sluice_result_destroy(result);
    return value;
}

static void assert_all_quiet(void) {
    sl_reader_watch watch;
    unsigned n = sl_readers_count(kit.store);
    for (unsigned i = 0; i < n; i++) {
        assert_true(sl_reader_look(kit.store, i, &watch));
        assert_int_equal(watch.snapshot_ns, 0);
    }
}

static void a_leased_read_that_starts_after_an_acknowledgement_sees_the_write(void **unused) {
    (void)unused;
    open_store(8);
    sluice_client *writer = client_new(false), *readers[] = {client_new(true), client_new(true), client_new(false)};
    assert_int_equal(kit_exec(&kit, "INSERT INTO t(id, n) VALUES(0, 0), (1, 0), (2, 0)"), SLUICE_OK);
    unsigned trials = support_scaled(10000), seed = 5;
    int64_t now[3] = {0};
    for (unsigned i = 1; i <= trials; i++) {
        unsigned id = (unsigned)rand_r(&seed) % 3, other = (unsigned)rand_r(&seed) % 3;
        sluice_result *written = NULL, *result = NULL;
        sluice_value values[] = {sluice_integer(i), sluice_integer(id)};
        assert_ok(sluice_exec(writer, "UPDATE t SET n = ?1 WHERE id = ?2", values, 2, &written, &kit.cause), kit.cause);
        now[id] = i;
        sluice_value key = sluice_integer(other);
        sluice_client *reader = readers[(unsigned)rand_r(&seed) % 3];
        assert_ok(sluice_query(reader, "SELECT n FROM t WHERE id = ?", &key, 1, &result, &kit.cause), kit.cause);
        assert_true(sluice_result_commit_number(result) >= sluice_result_commit_number(written));
        assert_int_equal(first_integer(&result), now[other]);
        sluice_result_destroy(&written);
    }
    sluice_store_stats stats = kit_stats(&kit);
    assert_int_equal(stats.reads, trials);
    assert_true(stats.reads_leased > trials / 2 && stats.reads_leased < trials);
    for (unsigned i = 0; i < 3; i++) sluice_client_close(&readers[i]);
    sluice_client_close(&writer);
    assert_all_quiet();
    close_store();
}

static void every_answer_equals_the_one_that_comes_by_message(void **unused) {
    (void)unused;
    static const char *const texts[] = {
        "SELECT 1, 2.5, 'text', x'00ff', NULL, '', x''",
        "SELECT * FROM t ORDER BY id",
        "SELECT * FROM t WHERE 0",
        "SELECT count(*), sum(n) FROM t",
        "SELEC 1",
        "SELECT nothing FROM nowhere",
        "",
        "SELECT 1; SELECT 2",
        "SELECT ?",
        "INSERT INTO t(n) VALUES(1)",
        "DELETE FROM t RETURNING id",
        "CREATE TABLE u(a)",
        "BEGIN",
        "PRAGMA journal_mode=DELETE",
        "SELECT zeroblob(2000000000)",
        "SELECT abs(-9223372036854775807 - 1)",
        "SELECT CASE WHEN id < 2 THEN id ELSE abs(-9223372036854775807 - 1) END FROM t",
        "SELECT n + 1 FROM t WHERE id = 1",
    };
    open_store(2);
    assert_int_equal(kit_exec(&kit, "INSERT INTO t(n, v) VALUES(7, 'seven'), (8, x'08'), (9.5, NULL)"), SLUICE_OK);
    sluice_client *leased = client_new(true), *other = client_new(false);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        sluice_result *a = NULL, *b = NULL;
        sluice_cause cause_a, cause_b;
        sluice_err err_a = sluice_query(leased, texts[i], NULL, 0, &a, &cause_a);
        sluice_err err_b = sluice_query(other, texts[i], NULL, 0, &b, &cause_b);
        if (err_a != err_b) fail_msg("%s: %s, %s", texts[i], sluice_err_name(err_a), sluice_err_name(err_b));
        assert_int_equal(cause_a.code, cause_b.code);
        assert_int_equal(cause_a.sqlite_code, cause_b.sqlite_code);
        assert_int_equal(cause_a.statement, cause_b.statement);
        assert_string_equal(cause_a.text, cause_b.text);
        assert_all_quiet();
        if (err_a != SLUICE_OK) continue;
        assert_int_equal(sluice_result_columns(a), sluice_result_columns(b));
        assert_int_equal(sluice_result_rows(a), sluice_result_rows(b));
        for (size_t c = 0; c < sluice_result_columns(a); c++)
            assert_string_equal(sluice_result_column_name(a, c), sluice_result_column_name(b, c));
        while (sluice_result_next(a)) {
            assert_true(sluice_result_next(b));
            for (size_t c = 0; c < sluice_result_columns(a); c++) {
                assert_int_equal(sluice_result_type(a, c), sluice_result_type(b, c));
                assert_int_equal(sluice_result_int64(a, c), sluice_result_int64(b, c));
                assert_true(sluice_result_double(a, c) == sluice_result_double(b, c));
                const char *text_a = sluice_result_text(a, c, NULL), *text_b = sluice_result_text(b, c, NULL);
                if (text_a != NULL) assert_string_equal(text_a, text_b);
            }
        }
        sluice_result_destroy(&a);
        sluice_result_destroy(&b);
    }
    assert_true(kit_stats(&kit).reads_leased > 0);
    sluice_client_close(&leased);
    sluice_client_close(&other);
    close_store();
}

static void a_leased_result_is_a_copy_that_outlives_everything(void **unused) {
    (void)unused;
    open_store(1);
    sluice_client *leased = client_new(true);
    assert_int_equal(kit_exec(&kit, "INSERT INTO t(n) VALUES('kept')"), SLUICE_OK);
    sluice_result *result = NULL;
    assert_ok(sluice_query(leased, "SELECT n FROM t", NULL, 0, &result, &kit.cause), kit.cause);
    assert_int_equal(kit_exec(&kit, "DELETE FROM t"), SLUICE_OK);
    sluice_client_close(&leased);
    close_store();
    assert_true(sluice_result_next(result));
    assert_string_equal(sluice_result_text(result, 0, NULL), "kept");
    sluice_result_destroy(&result);
}

static void texts_of_a_utf16_database_come_as_utf8(void **unused) {
    (void)unused;
    kit_new(&kit);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(kit.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA encoding='UTF-16le'; CREATE TABLE t(v); "
                                      "INSERT INTO t VALUES('gr\xC3\xBC\xC3\x9F'), (''), ('x')", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    kit_open(&kit);
    for (int lease = 0; lease < 2; lease++) {
        sluice_client *client = client_new(lease != 0);
        sluice_result *result = NULL;
        assert_ok(sluice_query(client, "SELECT v FROM t ORDER BY rowid", NULL, 0, &result, &kit.cause), kit.cause);
        static const char *const wanted[] = {"gr\xC3\xBC\xC3\x9F", "", "x"};
        for (int i = 0; i < 3; i++) {
            assert_true(sluice_result_next(result));
            assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_TEXT);
            assert_string_equal(sluice_result_text(result, 0, NULL), wanted[i]);
        }
        sluice_result_destroy(&result);
        sluice_client_close(&client);
    }
    close_store();
}

static void all_statements_of_a_leased_request_see_one_snapshot(void **unused) {
    (void)unused;
    open_store(1);
    sluice_client *leased = client_new(true), *writer = client_new(false);
    assert_int_equal(kit_exec(&kit, "INSERT INTO t(id, n) VALUES(1, 0)"), SLUICE_OK);
    sluice_request *request = NULL;
    assert_int_equal(sluice_request_new(leased, SLUICE_READ, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "SELECT n FROM t", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "SELECT count(*) FROM t a, t b, t c", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "SELECT n FROM t", NULL, 0), SLUICE_OK);
    for (unsigned i = 0; i < support_scaled(500); i++) {
        sluice_request *write = NULL;
        assert_int_equal(sluice_request_new(writer, SLUICE_WRITE, &write), SLUICE_OK);
        assert_int_equal(sluice_request_add(write, "UPDATE t SET n = n + 1", NULL, 0), SLUICE_OK);
        assert_ok(sluice_submit(writer, &write, NULL, NULL, &kit.cause), kit.cause); /* runs beside the read */
        sluice_result *result = NULL;
        assert_ok(sluice_call(leased, request, &result, &kit.cause), kit.cause);
        assert_true(sluice_result_next(result));
        int64_t before = sluice_result_int64(result, 0);
        sluice_result_select(result, 2);
        assert_true(sluice_result_next(result));
        assert_int_equal(sluice_result_int64(result, 0), before);
        sluice_result_destroy(&result);
        sluice_completion done;
        while (!sluice_poll(writer, 1000, &done)) continue;
        assert_int_equal(done.err, SLUICE_OK);
        sluice_result_destroy(&done.result);
    }
    sluice_request_destroy(&request);
    sluice_client_close(&leased);
    sluice_client_close(&writer);
    close_store();
}

static void a_runaway_leased_query_ends_at_its_deadline_and_the_next_read_runs(void **unused) {
    (void)unused;
    open_store(1);
    sluice_client *leased = client_new(true);
    for (int i = 0; i < 3; i++) {
        sluice_result *result = NULL;
        sluice_client_set_timeout(leased, 100);
        int64_t start_ns = sl_now_ns();
        assert_int_equal(sluice_query(leased, RUNAWAY, NULL, 0, &result, &kit.cause), SLUICE_INTERRUPTED);
        int64_t took_ms = (sl_now_ns() - start_ns) / 1000000;
        assert_true(took_ms >= 99 && took_ms <= 100 + (int64_t)SLACK_MS);
        assert_null(result);
        assert_all_quiet();
        sluice_client_set_timeout(leased, 20000);
        assert_ok(sluice_query(leased, "SELECT 42", NULL, 0, &result, &kit.cause), kit.cause);
        assert_int_equal(first_integer(&result), 42);
    }
    assert_int_equal(kit_stats(&kit).reads_leased, 3);
    assert_int_equal(kit_stats(&kit).reads_interrupted, 3);
    sluice_client_close(&leased);
    close_store();
}

/* ---- a client on another thread that is in a call ---- */

typedef struct caller {
    sluice_client *client;
    pthread_t thread;
    const char *sql;
    sluice_err err;
    sluice_cause cause;
} caller;

static void *run_call(void *context) {
    caller *self = context;
    self->err = sluice_query(self->client, self->sql, NULL, 0, NULL, &self->cause);
    return NULL;
}

static void call_begin(caller *self, const char *sql) {
    *self = (caller){.client = client_new(true), .sql = sql};
    unsigned at = sl_readers_count(kit.store) - 1; /* the seat it opened */
    assert_int_equal(pthread_create(&self->thread, NULL, run_call, self), 0);
    sl_reader_watch watch = {0};
    while (watch.statement_size == 0) assert_true(sl_reader_look(kit.store, at, &watch));
    assert_string_equal(watch.statement, sql);
}

static sluice_err call_end(caller *self) {
    pthread_join(self->thread, NULL);
    return self->err;
}

static void an_expired_snapshot_ends_the_leased_call_and_no_later_one(void **unused) {
    (void)unused;
    open_store(1);
    caller other;
    call_begin(&other, RUNAWAY);
    assert_int_equal(sl_readers_expire(kit.store, INT64_MAX), 1);
    assert_int_equal(call_end(&other), SLUICE_SNAPSHOT_EXPIRED);
    assert_ok(sluice_query(other.client, "SELECT 1", NULL, 0, NULL, &kit.cause), kit.cause);
    assert_int_equal(kit_stats(&kit).snapshots_expired, 1);
    sluice_client_close(&other.client);
    close_store();
}

static void without_a_free_connection_a_read_goes_by_message(void **unused) {
    (void)unused;
    open_store(1);
    caller other;
    call_begin(&other, RUNAWAY);
    sluice_client *second = client_new(true);
    sluice_result *result = NULL;
    assert_ok(sluice_query(second, "SELECT 5", NULL, 0, &result, &kit.cause), kit.cause);
    assert_int_equal(first_integer(&result), 5);
    sluice_store_stats stats = kit_stats(&kit);
    assert_int_equal(stats.reads_leased, 0);
    assert_int_equal(stats.leases_refused, 1);
    assert_int_equal(stats.reads, 1);
    assert_int_equal(sl_readers_expire(kit.store, INT64_MAX), 1);
    assert_int_equal(call_end(&other), SLUICE_SNAPSHOT_EXPIRED);
    sluice_client_close(&second);
    sluice_client_close(&other.client);
    close_store();
}

static void a_store_that_lends_nothing_answers_by_message(void **unused) {
    (void)unused;
    open_store(0);
    sluice_client *client = client_new(true);
    assert_ok(sluice_query(client, "SELECT 1", NULL, 0, NULL, &kit.cause), kit.cause);
    assert_int_equal(kit_stats(&kit).reads_leased, 0);
    assert_int_equal(kit_stats(&kit).reads, 1);
    sluice_client_close(&client);
    close_store();
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.local_lease = true;
    assert_int_equal(sluice_client_open("ipc://nowhere", &options, &client, &kit.cause), SLUICE_INVALID);
}

static void closing_the_store_ends_leased_calls_and_later_reads_say_so(void **unused) {
    (void)unused;
    open_store(2);
    caller other;
    call_begin(&other, RUNAWAY);
    kit_close(&kit);
    assert_int_equal(call_end(&other), SLUICE_CLOSED);
    assert_int_equal(sluice_query(other.client, "SELECT 1", NULL, 0, NULL, &kit.cause), SLUICE_NO_ACTOR);
    /* Opened again it is found, by message: this client's lender was the old store's. */
    kit_open(&kit);
    assert_ok(sluice_query(other.client, "SELECT 1", NULL, 0, NULL, &kit.cause), kit.cause);
    sluice_client_close(&other.client);
    close_store();
}

static void the_runtimes_end_ends_leased_calls(void **unused) {
    (void)unused;
    open_store(2);
    caller other;
    call_begin(&other, RUNAWAY);
    sl_port_close(&kit.port);
    sluice_runtime_destroy(&kit.runtime);
    assert_int_equal(call_end(&other), SLUICE_CLOSED);
    sluice_err err = sluice_query(other.client, "SELECT 1", NULL, 0, NULL, &kit.cause);
    assert_true(err == SLUICE_CLOSED || err == SLUICE_NO_ACTOR);
    sluice_store_close(&kit.store);
    sluice_client_close(&other.client);
    close_store();
}

/* ---- the gate ---- */

typedef struct load {
    sluice_client *client;
    pthread_t thread;
    atomic_bool *stop;
    uint64_t reads;
    sluice_err err;
    sluice_cause cause;
} load;

/* Each read has its own snapshot; the row's two halves are written together. */
static void *read_on(void *context) {
    load *self = context;
    int64_t last = 0;
    while (self->err == SLUICE_OK && !atomic_load(self->stop)) {
        sluice_result *result = NULL;
        self->err = sluice_query(self->client, "SELECT n, v FROM t WHERE id = 1", NULL, 0, &result, &self->cause);
        if (self->err != SLUICE_OK) break;
        int64_t n = sluice_result_next(result) ? sluice_result_int64(result, 0) : -1;
        if (n < last || sluice_result_int64(result, 1) != n) self->err = SLUICE_CORRUPT;
        last = n;
        self->reads++;
        sluice_result_destroy(&result);
    }
    return NULL;
}

static void leases_give_way_to_the_gate_so_the_log_is_reused(void **unused) {
    (void)unused;
    open_store(2);
    assert_int_equal(kit_exec(&kit, "INSERT INTO t(id, n, v) VALUES(1, 0, 0)"), SLUICE_OK);
    atomic_bool stop = false;
    load loads[2];
    for (unsigned i = 0; i < 2; i++) {
        loads[i] = (load){.client = client_new(true), .stop = &stop};
        assert_int_equal(pthread_create(&loads[i].thread, NULL, read_on, &loads[i]), 0);
    }
    sluice_client *writer = client_new(false);
    sluice_value values[2] = {sluice_integer(0)};
    sluice_request *request = NULL;
    unsigned n = support_scaled(8000);
    for (unsigned i = 1; i <= n; i++) {
        values[0] = sluice_integer(i);
        assert_int_equal(sluice_request_new(writer, SLUICE_WRITE, &request), SLUICE_OK);
        assert_int_equal(sluice_request_add(request, "UPDATE t SET n = ?1, v = ?1 WHERE id = 1", values, 1), SLUICE_OK);
        assert_int_equal(sluice_request_add(request, "INSERT INTO t(n, v) VALUES(?1, zeroblob(16000))", values, 1),
                         SLUICE_OK);
        assert_ok(sluice_call(writer, request, NULL, &kit.cause), kit.cause);
        sluice_request_destroy(&request);
    }
    atomic_store(&stop, true);
    uint64_t reads = 0;
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(loads[i].thread, NULL);
        assert_ok(loads[i].err, loads[i].cause);
        reads += loads[i].reads;
        sluice_client_close(&loads[i].client);
    }
    sluice_store_stats stats = kit_stats(&kit);
    print_message("reads %llu, of these leased %llu, gates %llu, timeouts %llu, complete %llu, WAL %llu bytes\n",
                  (unsigned long long)reads, (unsigned long long)stats.reads_leased,
                  (unsigned long long)stats.gate_closes, (unsigned long long)stats.gate_timeouts,
                  (unsigned long long)stats.checkpoints_complete, (unsigned long long)stats.wal_file_bytes);
    assert_true(stats.reads_leased > reads / 2);
    assert_true(stats.checkpoints_complete > n / 2000);
    assert_int_equal(stats.snapshots_expired, 0);
    /* 130 MB were written, as fast as memory goes; how short the log stays is a matter of disk and processors, for a
     * thread may lose its processor in the middle of a call, and the gate then waits for it. */
    assert_true(stats.wal_file_bytes <= 12 * kit.options.wal_soft_cap_bytes);
    sluice_client_close(&writer);
    assert_all_quiet();
    close_store();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leased_read_that_starts_after_an_acknowledgement_sees_the_write),
        cmocka_unit_test(every_answer_equals_the_one_that_comes_by_message),
        cmocka_unit_test(a_leased_result_is_a_copy_that_outlives_everything),
        cmocka_unit_test(texts_of_a_utf16_database_come_as_utf8),
        cmocka_unit_test(all_statements_of_a_leased_request_see_one_snapshot),
        cmocka_unit_test(a_runaway_leased_query_ends_at_its_deadline_and_the_next_read_runs),
        cmocka_unit_test(an_expired_snapshot_ends_the_leased_call_and_no_later_one),
        cmocka_unit_test(without_a_free_connection_a_read_goes_by_message),
        cmocka_unit_test(a_store_that_lends_nothing_answers_by_message),
        cmocka_unit_test(closing_the_store_ends_leased_calls_and_later_reads_say_so),
        cmocka_unit_test(the_runtimes_end_ends_leased_calls),
        cmocka_unit_test(leases_give_way_to_the_gate_so_the_log_is_reused),
    };
    return cmocka_run_group_tests_name("local_lease", tests, NULL, NULL);
}
