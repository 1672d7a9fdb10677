/* SPDX-License-Identifier: MIT */
/* One test body over three transports: a real store, reached in process, by ipc and by tcp, must feel the same. */
#include "support/support.h"

#include "support/demo.pb-c.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 20000 };

typedef struct house {
    char *directory, *path;
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_gateway *gateway;
    char urls[3][256]; /* inproc, ipc, tcp */
} house;

static house home;

static sluice_client *client_open(const char *url, bool receipts) {
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = home.runtime;
    options.timeout_ms = PATIENCE_MS;
    options.receipts_default = false;
    options.receipts = receipts;
    sluice_client *client = NULL;
    sluice_cause cause;
    assert_ok(sluice_client_open(url, &options, &client, &cause), cause);
    return client;
}

/* ---- the host's own actor ---- */

static sluice_err greet(sluice_actor *self, sluice_msg **msg) {
    if (!sluice_msg_is(*msg, &demo__v1__hello__descriptor)) return SLUICE_OK;
    const Demo__V1__Hello *hello = sluice_msg_body(*msg);
    sluice_msg *reply = NULL;
    sluice_err err = sluice_msg_new(&demo__v1__greeting__descriptor, &reply);
    if (err != SLUICE_OK) return err;
    Demo__V1__Greeting *greeting = sluice_msg_body(reply);
    char text[64];
    snprintf(text, sizeof text, "hello, %s", hello->name);
    greeting->text = sluice_msg_strdup(reply, text);
    greeting->number = hello->number + 1;
    sluice_reply(self, *msg, &reply);
    return SLUICE_OK;
}

static const sluice_behaviour greeter = {.kind = "greeter", .receive = greet};

static int setup(void **state) {
    (void)state;
    sluice_cause cause;
    home.directory = support_directory_new();
    home.path = support_path(home.directory, "conformance.db");
    assert_ok(sluice_runtime_new(NULL, &home.runtime, &cause), cause);
    assert_int_equal(sluice_runtime_register_type(home.runtime, &demo__v1__hello__descriptor), SLUICE_OK);
    assert_int_equal(sluice_runtime_register_type(home.runtime, &demo__v1__greeting__descriptor), SLUICE_OK);
    sluice_spec spec = {.behaviour = &greeter, .name = "greeter"};
    sluice_pid pid;
    assert_ok(sluice_spawn(home.runtime, &spec, &pid, &cause), cause);
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = home.path;
    assert_ok(sluice_store_open(home.runtime, &options, &home.store, &cause), cause);
    sluice_gateway_options gateway;
    sluice_gateway_options_init(&gateway);
    gateway.store = home.store;
    gateway.allow_plain = true;
    assert_ok(sluice_gateway_open(home.runtime, &gateway, &home.gateway, &cause), cause);
    char name[32] = "/tmp/sluice-test-XXXXXX"; /* a socket's path must be short */
    if (mkdtemp(name) == NULL) fail_msg("mkdtemp failed");
    snprintf(home.urls[0], sizeof home.urls[0], "inproc://app");
    snprintf(home.urls[1], sizeof home.urls[1], "ipc://%s/s", name);
    assert_ok(sluice_gateway_listen(home.gateway, home.urls[1], &cause), cause);
    assert_ok(sluice_gateway_listen(home.gateway, "tcp://127.0.0.1:*", &cause), cause);
    snprintf(home.urls[2], sizeof home.urls[2], "%s", sluice_gateway_endpoint(home.gateway, 1));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sluice_gateway_close(&home.gateway);
    sluice_store_close(&home.store);
    sluice_runtime_destroy(&home.runtime);
    char *directory = home.urls[1] + 6, *end = strrchr(directory, '/');
    *end = '\0';
    char *socket_directory = strdup(directory);
    support_directory_remove(&socket_directory);
    support_directory_remove(&home.directory);
    free(home.path);
    return 0;
}

/* ---- the body ---- */

static void fresh_table(sluice_client *client, const char *columns) {
    char sql[128];
    sluice_cause cause;
    assert_ok(sluice_exec(client, "DROP TABLE IF EXISTS t", NULL, 0, NULL, &cause), cause);
    snprintf(sql, sizeof sql, "CREATE TABLE t(%s)", columns);
    assert_ok(sluice_exec(client, sql, NULL, 0, NULL, &cause), cause);
}

static int64_t count(sluice_client *client) {
    sluice_result *result = NULL;
    sluice_cause cause;
    assert_ok(sluice_query(client, "SELECT count(*) FROM t", NULL, 0, &result, &cause), cause);
    assert_true(sluice_result_next(result));
    int64_t n = sluice_result_int64(result, 0);
    sluice_result_destroy(&result);
    return n;
}

static void values_come_back_as_they_went(sluice_client *client) {
    sluice_cause cause;
    sluice_result *result = NULL;
    fresh_table(client, "a, b, c, d, e");
    const sluice_value params[] = {sluice_integer(INT64_MIN), sluice_real(-0.125), sluice_text("caf\303\251"),
                                   sluice_blob("\0\1\2", 3), sluice_null()};
    assert_ok(sluice_exec(client, "INSERT INTO t VALUES(?,?,?,?,?)", params, 5, &result, &cause), cause);
    assert_int_equal(sluice_result_changes(result), 1);
    assert_int_equal(sluice_result_last_rowid(result), 1);
    uint64_t commit = sluice_result_commit_number(result);
    assert_true(commit > 0);
    assert_false(sluice_result_replayed(result));
    sluice_result_destroy(&result);

    assert_ok(sluice_query(client, "SELECT a, b, c, d, e, '' AS empty FROM t", NULL, 0, &result, &cause), cause);
    assert_true(sluice_result_commit_number(result) >= commit);
    assert_int_equal(sluice_result_rows(result), 1);
    assert_int_equal(sluice_result_columns(result), 6);
    assert_string_equal(sluice_result_column_name(result, 0), "a");
    assert_string_equal(sluice_result_column_name(result, 5), "empty");
    size_t size = 0;
    assert_true(sluice_result_next(result));
    assert_true(sluice_result_int64(result, 0) == INT64_MIN);
    assert_true(sluice_result_double(result, 1) == -0.125);
    assert_string_equal(sluice_result_text(result, 2, &size), "caf\303\251");
    assert_int_equal(size, 5);
    assert_memory_equal(sluice_result_blob(result, 3, &size), "\0\1\2", 3);
    assert_int_equal(size, 3);
    assert_int_equal(sluice_result_type(result, 4), SLUICE_TYPE_NULL);
    assert_string_equal(sluice_result_text(result, 5, &size), "");
    assert_int_equal(size, 0);
    assert_false(sluice_result_next(result));
    sluice_result_destroy(&result);
}

static void read_sees_every_write_acknowledged_before(sluice_client *client) {
    sluice_cause cause;
    fresh_table(client, "x");
    unsigned n = support_scaled(100);
    for (unsigned i = 0; i < n; i++) {
        sluice_value value = sluice_integer(i);
        assert_ok(sluice_exec(client, "INSERT INTO t VALUES(?)", &value, 1, NULL, &cause), cause);
        assert_int_equal(count(client), i + 1);
    }
}

static void requests_of_many_statements_are_atomic(sluice_client *client) {
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_request *request = NULL;
    fresh_table(client, "x INTEGER PRIMARY KEY, y");
    assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "INSERT INTO t VALUES(1,'a'),(2,'b')", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_expect(request, 2), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "UPDATE t SET y='c' WHERE x=2 RETURNING y", NULL, 0), SLUICE_OK);
    assert_ok(sluice_call(client, request, &result, &cause), cause);
    assert_int_equal(sluice_result_statements(result), 2);
    assert_int_equal(sluice_result_changes(result), 2);
    sluice_result_select(result, 1);
    assert_int_equal(sluice_result_changes(result), 1);
    assert_true(sluice_result_next(result));
    assert_string_equal(sluice_result_text(result, 0, NULL), "c");
    sluice_result_destroy(&result);
    /* once more: the primary key is taken, and nothing of it may stay */
    assert_int_equal(sluice_call(client, request, &result, &cause), SLUICE_CONSTRAINT);
    assert_int_equal(cause.statement, 0);
    sluice_request_destroy(&request);

    assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "INSERT INTO t VALUES(3,'d')", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "UPDATE t SET y='e' WHERE x=99", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_expect(request, 1), SLUICE_OK);
    assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_GUARD_FAILED);
    assert_int_equal(cause.statement, 1);
    sluice_request_destroy(&request);
    assert_int_equal(count(client), 2);

    assert_int_equal(sluice_request_new(client, SLUICE_READ, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "SELECT count(*) FROM t", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "SELECT y FROM t ORDER BY x", NULL, 0), SLUICE_OK);
    assert_ok(sluice_call(client, request, &result, &cause), cause);
    assert_int_equal(sluice_result_statements(result), 2);
    assert_int_equal(sluice_result_rows(result), 1);
    sluice_result_select(result, 1);
    assert_int_equal(sluice_result_rows(result), 2);
    sluice_result_destroy(&result);
    sluice_request_destroy(&request);
}

static void many_rows_go_in_one_request_and_come_back_in_one(sluice_client *client) {
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_request *request = NULL;
    fresh_table(client, "i INTEGER, r REAL, s TEXT");
    unsigned n = support_scaled(20000);
    assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "INSERT INTO t VALUES(?,?,?)", NULL, 0), SLUICE_OK);
    for (unsigned i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "row %u", i);
        const sluice_value row[] = {sluice_integer(i % 100), i % 7 != 0 ? sluice_real(i) : sluice_null(),
                                    sluice_text(text)};
        assert_int_equal(sluice_request_row(request, row, 3), SLUICE_OK);
    }
    assert_ok(sluice_call(client, request, &result, &cause), cause);
    assert_int_equal(sluice_result_changes(result), n);
    sluice_result_destroy(&result);
    sluice_request_destroy(&request);
    assert_ok(sluice_query(client, "SELECT i, r, s FROM t ORDER BY rowid", NULL, 0, &result, &cause), cause);
    assert_int_equal(sluice_result_rows(result), n);
    for (unsigned i = 0; i < n; i++) {
        assert_true(sluice_result_next(result));
        assert_int_equal(sluice_result_int64(result, 0), i % 100);
        assert_int_equal(sluice_result_type(result, 1), i % 7 != 0 ? SLUICE_TYPE_REAL : SLUICE_TYPE_NULL);
        assert_true(atoi(sluice_result_text(result, 2, NULL) + 4) == (int)i);
    }
    sluice_result_destroy(&result);
}

static void small_integers_by_the_million_come_back(sluice_client *client) {
    sluice_cause cause;
    sluice_result *result = NULL;
    int64_t n = support_scaled(500000);
    sluice_value limit = sluice_integer(n);
    const char *sql = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<?) SELECT i%10 FROM c";
    assert_ok(sluice_query(client, sql, &limit, 1, &result, &cause), cause);
    int64_t seen = 0, sum = 0;
    while (sluice_result_next(result)) {
        seen++;
        sum += sluice_result_int64(result, 0);
    }
    assert_int_equal(seen, n);
    assert_true(sum > 4 * n);
    sluice_result_destroy(&result);
}

static void errors_are_typed(sluice_client *client) {
    sluice_cause cause;
    fresh_table(client, "x UNIQUE");
    const struct {
        bool write;
        const char *sql;
        sluice_err err;
    } rows[] = {
        {true, "INSERT INTO t VALUES(1)", SLUICE_OK},
        {true, "INSERT INTO t VALUES(1)", SLUICE_CONSTRAINT},
        {true, "INSERT INTO", SLUICE_SYNTAX},
        {true, "INSERT INTO nowhere VALUES(1)", SLUICE_SYNTAX},
        {true, "BEGIN", SLUICE_FORBIDDEN},
        {true, "INSERT INTO t VALUES(2); INSERT INTO t VALUES(3)", SLUICE_INVALID},
        {true, "", SLUICE_INVALID},
        {true, "INSERT INTO t VALUES(?)", SLUICE_INVALID},
        {false, "SELECT", SLUICE_SYNTAX},
        {false, "DELETE FROM t", SLUICE_READ_ONLY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sluice_result *result = NULL;
        sluice_err err = rows[i].write ? sluice_exec(client, rows[i].sql, NULL, 0, &result, &cause)
                                       : sluice_query(client, rows[i].sql, NULL, 0, &result, &cause);
        if (err != rows[i].err)
            fail_msg("%s: %s instead of %s: %s", rows[i].sql, sluice_err_name(err), sluice_err_name(rows[i].err),
                     cause.text);
        if (err != SLUICE_OK) assert_true(cause.text[0] != '\0');
        sluice_result_destroy(&result);
    }
    assert_int_equal(count(client), 1);
}

static void endless_read_ends_at_its_deadline(sluice_client *client) {
    sluice_cause cause;
    sluice_client_set_timeout(client, 200);
    sluice_err err = sluice_query(
        client, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT count(*) FROM c", NULL, 0, NULL,
        &cause);
    sluice_client_set_timeout(client, PATIENCE_MS);
    if (err != SLUICE_TIMEOUT && err != SLUICE_INTERRUPTED && err != SLUICE_EXPIRED)
        fail_msg("%s: %s", sluice_err_name(err), cause.text);
    fresh_table(client, "x");
    assert_int_equal(count(client), 0); /* the reader is of use again */
}

static void pipelines_complete_each_request_once(sluice_client *client) {
    sluice_cause cause;
    fresh_table(client, "x UNIQUE");
    unsigned n = support_scaled(2000), submitted = 0, done = 0;
    int fd = sluice_client_fd(client);
    assert_true(fd >= 0);
    while (done < n) {
        while (submitted < n && sluice_client_inflight(client) < 64) {
            sluice_request *request = NULL;
            sluice_value value = sluice_integer(submitted);
            assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
            assert_int_equal(sluice_request_add(request, "INSERT INTO t VALUES(?)", &value, 1), SLUICE_OK);
            assert_ok(sluice_submit(client, &request, NULL, NULL, &cause), cause);
            submitted++;
        }
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&entry, 1, PATIENCE_MS), 1);
        sluice_completion completion;
        while (sluice_poll(client, 0, &completion)) {
            if (completion.err != SLUICE_OK) fail_msg("%s", completion.cause.text);
            sluice_result_destroy(&completion.result);
            done++;
        }
    }
    assert_int_equal(count(client), n);
}

static void own_actors_are_reached_by_name(sluice_client *client) {
    sluice_cause cause;
    assert_int_equal(sluice_client_register_type(client, &demo__v1__greeting__descriptor), SLUICE_OK);
    sluice_msg *msg = NULL, *reply = NULL;
    assert_int_equal(sluice_msg_new(&demo__v1__hello__descriptor, &msg), SLUICE_OK);
    Demo__V1__Hello *hello = sluice_msg_body(msg);
    hello->name = sluice_msg_strdup(msg, "you");
    hello->number = 41;
    assert_ok(sluice_client_ask(client, "greeter", &msg, &reply, &cause), cause);
    assert_null(msg);
    const Demo__V1__Greeting *greeting = sluice_msg_body(reply);
    assert_string_equal(greeting->text, "hello, you");
    assert_int_equal(greeting->number, 42);
    sluice_msg_destroy(&reply);
    assert_int_equal(sluice_msg_new(&demo__v1__hello__descriptor, &msg), SLUICE_OK);
    assert_int_equal(sluice_client_ask(client, "nobody-of-that-name", &msg, &reply, &cause), SLUICE_NO_ACTOR);
    sluice_msg_destroy(&msg);
}

typedef struct worker {
    const char *url;
    bool receipts;
    unsigned n, n_ok;
    int number;
} worker;

static void *work(void *context) {
    worker *self = context;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = home.runtime;
    options.timeout_ms = PATIENCE_MS;
    options.receipts_default = false;
    options.receipts = self->receipts;
    sluice_client *client = NULL;
    if (sluice_client_open(self->url, &options, &client, NULL) != SLUICE_OK) return NULL;
    for (unsigned i = 0; i < self->n; i++) {
        const sluice_value params[] = {sluice_integer(self->number), sluice_integer(i)};
        sluice_result *result = NULL;
        if (sluice_exec(client, "INSERT INTO t VALUES(?,?)", params, 2, NULL, NULL) != SLUICE_OK) break;
        if (sluice_query(client, "SELECT max(b) FROM t WHERE a=?", params, 1, &result, NULL) != SLUICE_OK) break;
        if (sluice_result_next(result) && sluice_result_int64(result, 0) == i) self->n_ok++;
        sluice_result_destroy(&result);
    }
    sluice_client_close(&client);
    return NULL;
}

static void clients_in_many_threads_do_not_meet(sluice_client *client, const char *url, bool receipts) {
    fresh_table(client, "a, b, UNIQUE(a, b)");
    enum { WORKERS = 4 };
    worker workers[WORKERS];
    pthread_t threads[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (worker){.url = url, .receipts = receipts, .n = support_scaled(100), .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    unsigned total = 0;
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].n_ok, workers[i].n);
        total += workers[i].n;
    }
    assert_int_equal(count(client), total);
}

static void run_body(const char *url, bool receipts) {
    sluice_client *client = client_open(url, receipts);
    sluice_cause cause;
    assert_ok(sluice_client_ping(client, &cause), cause);
    values_come_back_as_they_went(client);
    read_sees_every_write_acknowledged_before(client);
    requests_of_many_statements_are_atomic(client);
    many_rows_go_in_one_request_and_come_back_in_one(client);
    small_integers_by_the_million_come_back(client);
    errors_are_typed(client);
    endless_read_ends_at_its_deadline(client);
    own_actors_are_reached_by_name(client);
    clients_in_many_threads_do_not_meet(client, url, receipts);
    pipelines_complete_each_request_once(client);
    assert_int_equal(sluice_client_inflight(client), 0);
    sluice_client_close(&client);
}

static void store_answers_alike_in_process(void **state) { (void)state, run_body(home.urls[0], false); }
static void store_answers_alike_in_process_with_receipts(void **state) { (void)state, run_body(home.urls[0], true); }
static void store_answers_alike_over_ipc(void **state) { (void)state, run_body(home.urls[1], true); }
static void store_answers_alike_over_tcp(void **state) { (void)state, run_body(home.urls[2], true); }
static void store_answers_alike_over_tcp_without_receipts(void **state) { (void)state, run_body(home.urls[2], false); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store_answers_alike_in_process),
        cmocka_unit_test(store_answers_alike_in_process_with_receipts),
        cmocka_unit_test(store_answers_alike_over_ipc),
        cmocka_unit_test(store_answers_alike_over_tcp),
        cmocka_unit_test(store_answers_alike_over_tcp_without_receipts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
