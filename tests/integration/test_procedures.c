/* SPDX-License-Identifier: MIT */
/* Procedures, by inproc, ipc and tcp: what they may do, what their failure undoes, and that they may run twice. */
#include "support/house.h"
#include "support/store_kit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static house home;
static atomic_uint runs;

/* ---- the procedures ---- */

/* transfer(from, to, amount): gives both balances back. */
static sluice_err transfer(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    (void)context;
    atomic_fetch_add(&runs, 1);
    if (n_params != 3) return sluice_tx_fail(tx, SLUICE_INVALID, "transfer takes from, to and amount");
    sluice_rows *rows = NULL;
    sluice_err err = sluice_tx_query(tx, "SELECT balance FROM account WHERE id=?", &params[0], 1, &rows);
    if (err != SLUICE_OK) return err;
    if (!sluice_rows_next(rows)) return sluice_tx_fail(tx, SLUICE_INVALID, "no account %lld",
                                                       (long long)params[0].integer);
    int64_t balance = sluice_rows_int64(rows, 0);
    sluice_value change[] = {params[2], params[0]};
    err = sluice_tx_exec(tx, "UPDATE account SET balance=balance-? WHERE id=?", change, 2, NULL);
    if (err != SLUICE_OK) return err;
    if (balance < params[2].integer) /* late on purpose: the update above must be undone */
        return sluice_tx_fail(tx, SLUICE_FAILED, "account %lld has %lld", (long long)params[0].integer,
                              (long long)balance);
    uint64_t changes = 0;
    change[1] = params[1];
    err = sluice_tx_exec(tx, "UPDATE account SET balance=balance+? WHERE id=?", change, 2, &changes);
    if (err != SLUICE_OK) return err;
    if (changes != 1) return sluice_tx_fail(tx, SLUICE_INVALID, "no account %lld", (long long)params[1].integer);
    err = sluice_tx_query(tx, "SELECT id, balance, owner FROM account ORDER BY id", NULL, 0, &rows);
    static const char *const names[] = {"id", "balance", "owner"};
    if (err == SLUICE_OK) err = sluice_tx_columns(tx, names, 3);
    while (err == SLUICE_OK && sluice_rows_next(rows)) {
        const sluice_value row[] = {sluice_integer(sluice_rows_int64(rows, 0)),
                                    sluice_integer(sluice_rows_int64(rows, 1)),
                                    sluice_text(sluice_rows_text(rows, 2, NULL))};
        err = sluice_tx_row(tx, row, 3);
    }
    return err;
}

/* sql(text ...): runs each text and returns the first error. */
static sluice_err run_sql(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    (void)context;
    for (size_t i = 0; i < n_params; i++) {
        sluice_err err = sluice_tx_exec(tx, params[i].data, NULL, 0, NULL);
        if (err != SLUICE_OK) return err;
    }
    return SLUICE_OK;
}

/* The same, but errors are swallowed. */
static sluice_err run_sql_carelessly(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    (void)context;
    for (size_t i = 0; i < n_params; i++)
        if (sluice_tx_exec(tx, params[i].data, NULL, 0, NULL) != SLUICE_OK) continue;
    return SLUICE_OK;
}

/* fail(code): says so, or (a second parameter) just returns it. */
static sluice_err fail_with(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    (void)context;
    sluice_err code = (sluice_err)params[0].integer;
    return n_params > 1 ? code : sluice_tx_fail(tx, code, "because I say so");
}

static sluice_err echo(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    const sluice_value tag = sluice_text(context);
    if (n_params > 5) return sluice_tx_fail(tx, SLUICE_INVALID, "too many");
    if (sluice_tx_row(tx, params, n_params) != SLUICE_INVALID) return SLUICE_OK; /* no columns yet: seen as no rows */
    sluice_err err = sluice_tx_columns(tx, names, n_params);
    if (err == SLUICE_OK && sluice_tx_columns(tx, names, n_params) != SLUICE_INVALID) return SLUICE_FAILED;
    if (err == SLUICE_OK && sluice_tx_row(tx, &tag, n_params + 1) != SLUICE_INVALID) return SLUICE_FAILED;
    return err == SLUICE_OK ? sluice_tx_row(tx, params, n_params) : err;
}

/* flood(bytes): gives more and more. */
static sluice_err flood(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    (void)n_params, (void)context;
    static const char *const names[] = {"filling"};
    size_t size = (size_t)params[0].integer;
    char *filling = calloc(1, size);
    const sluice_value row = sluice_blob(filling, size);
    sluice_err err = sluice_tx_columns(tx, names, 1);
    for (unsigned i = 0; i < 1000 && err == SLUICE_OK; i++) err = sluice_tx_row(tx, &row, 1);
    free(filling);
    return err;
}

typedef struct elsewhere {
    sluice_tx *tx;
    sluice_err err;
} elsewhere;

static void *exec_elsewhere(void *context) {
    elsewhere *self = context;
    self->err = sluice_tx_exec(self->tx, "INSERT INTO log VALUES('elsewhere')", NULL, 0, NULL);
    return NULL;
}

static sluice_err lend_tx(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    (void)params, (void)n_params, (void)context;
    elsewhere other = {.tx = tx};
    pthread_t thread;
    if (pthread_create(&thread, NULL, exec_elsewhere, &other) != 0) return SLUICE_FAILED;
    pthread_join(thread, NULL);
    return other.err;
}

static const sluice_procedure at_open[] = {
    {"transfer", transfer, NULL},
    {"sql", run_sql, NULL},
    {"careless", run_sql_carelessly, NULL},
};

static int setup(void **state) {
    (void)state;
    house_init(&home);
    home.options.procedures = at_open;
    home.options.n_procedures = sizeof at_open / sizeof at_open[0];
    home.options.max_result_bytes = 1u << 20;
    home.options.group_max_ms = 60000;
    house_open(&home);
    assert_int_equal(sluice_store_register_procedure(home.store, "fail", fail_with, NULL), SLUICE_OK);
    assert_int_equal(sluice_store_register_procedure(home.store, "echo", echo, "tag"), SLUICE_OK);
    assert_int_equal(sluice_store_register_procedure(home.store, "flood", flood, NULL), SLUICE_OK);
    assert_int_equal(sluice_store_register_procedure(home.store, "lend", lend_tx, NULL), SLUICE_OK);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    house_fini(&home);
    return 0;
}

/* ---- the body, for each transport ---- */

static void fresh(sluice_client *client) {
    house_exec(client, "DROP TABLE IF EXISTS account");
    house_exec(client, "DROP TABLE IF EXISTS log");
    house_exec(client, "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, owner TEXT)");
    house_exec(client, "CREATE TABLE log(line TEXT UNIQUE)");
    house_exec(client, "INSERT INTO account VALUES(1,100,'Ada'),(2,50,'Grace')");
    atomic_store(&runs, 0);
}

static int64_t balance(sluice_client *client, int id) {
    char sql[64];
    snprintf(sql, sizeof sql, "SELECT balance FROM account WHERE id=%d", id);
    return house_integer(client, sql);
}

static sluice_err call_transfer(sluice_client *client, int64_t from, int64_t to, int64_t amount, sluice_result **out,
                                sluice_cause *cause) {
    const sluice_value params[] = {sluice_integer(from), sluice_integer(to), sluice_integer(amount)};
    return sluice_call_procedure(client, "transfer", params, 3, out, cause);
}

static void procedure_changes_and_gives_rows(sluice_client *client) {
    sluice_result *result = NULL;
    sluice_cause cause;
    fresh(client);
    assert_ok(call_transfer(client, 1, 2, 30, &result, &cause), cause);
    assert_int_equal(sluice_result_statements(result), 1);
    assert_int_equal(sluice_result_changes(result), 2);
    assert_true(sluice_result_commit_number(result) > 0);
    assert_int_equal(sluice_result_columns(result), 3);
    assert_string_equal(sluice_result_column_name(result, 1), "balance");
    assert_int_equal(sluice_result_rows(result), 2);
    assert_true(sluice_result_next(result));
    assert_int_equal(sluice_result_int64(result, 1), 70);
    assert_true(sluice_result_next(result));
    assert_int_equal(sluice_result_int64(result, 1), 80);
    assert_string_equal(sluice_result_text(result, 2, NULL), "Grace");
    sluice_result_destroy(&result);
    assert_int_equal(balance(client, 1), 70);
    assert_int_equal(balance(client, 2), 80);
}

static void failing_procedure_undoes_its_whole_request(sluice_client *client) {
    sluice_cause cause;
    sluice_request *request = NULL;
    fresh(client);
    assert_int_equal(call_transfer(client, 1, 2, 500, NULL, &cause), SLUICE_FAILED);
    assert_string_equal(cause.text, "transfer: account 1 has 100");
    assert_int_equal(cause.statement, 0);
    const sluice_value too_much[] = {sluice_integer(2), sluice_integer(1), sluice_integer(51)};
    assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "INSERT INTO log VALUES('before')", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_call(request, "transfer", too_much, 3), SLUICE_OK);
    assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_FAILED);
    assert_int_equal(cause.statement, 1);
    sluice_request_destroy(&request);
    assert_int_equal(balance(client, 1), 100);
    assert_int_equal(balance(client, 2), 50);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM log"), 0);
}

static void procedure_is_one_statement_of_a_batch_with_guards(sluice_client *client) {
    sluice_cause cause;
    sluice_request *request = NULL;
    sluice_result *result = NULL;
    fresh(client);
    const sluice_value params[] = {sluice_integer(1), sluice_integer(2), sluice_integer(10)};
    for (uint64_t expected = 2; expected <= 3; expected++) {
        assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
        assert_int_equal(sluice_request_add(request, "INSERT INTO account VALUES(3,0,'Lin')", NULL, 0), SLUICE_OK);
        assert_int_equal(sluice_request_call(request, "transfer", params, 3), SLUICE_OK);
        assert_int_equal(sluice_request_row(request, params, 3), SLUICE_INVALID);
        assert_int_equal(sluice_request_expect(request, expected), SLUICE_OK);
        assert_int_equal(sluice_request_add(request, "DELETE FROM account WHERE id=3 RETURNING owner", NULL, 0),
                         SLUICE_OK);
        sluice_err err = sluice_call(client, request, &result, &cause);
        assert_int_equal(err, expected == 2 ? SLUICE_OK : SLUICE_GUARD_FAILED);
        if (err == SLUICE_OK) {
            assert_int_equal(sluice_result_statements(result), 3);
            sluice_result_select(result, 1);
            assert_int_equal(sluice_result_rows(result), 3); /* it saw the statement before it */
            sluice_result_select(result, 2);
            assert_true(sluice_result_next(result));
            assert_string_equal(sluice_result_text(result, 0, NULL), "Lin");
        } else {
            assert_int_equal(cause.statement, 1);
        }
        sluice_result_destroy(&result);
        sluice_request_destroy(&request);
    }
    assert_int_equal(balance(client, 1), 90);
}

static void unknown_procedure_is_a_typed_error(sluice_client *client) {
    sluice_cause cause;
    sluice_request *request = NULL;
    assert_int_equal(sluice_call_procedure(client, "nobody", NULL, 0, NULL, &cause), SLUICE_NO_PROCEDURE);
    assert_non_null(strstr(cause.text, "nobody"));
    assert_int_equal(sluice_call_procedure(client, "", NULL, 0, NULL, &cause), SLUICE_INVALID);
    assert_int_equal(sluice_request_new(client, SLUICE_READ, &request), SLUICE_OK);
    assert_int_equal(sluice_request_call(request, "transfer", NULL, 0), SLUICE_INVALID); /* of a read */
    sluice_request_destroy(&request);
}

static sluice_err run_texts(sluice_client *client, const char *procedure, const char *a, const char *b,
                            sluice_cause *cause) {
    const sluice_value texts[] = {sluice_text(a), sluice_text(b)};
    return sluice_call_procedure(client, procedure, texts, b != NULL ? 2 : 1, NULL, cause);
}

static void procedure_has_a_clients_rights_and_no_more(sluice_client *client) {
    static const char *const forbidden[] = {
        "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE sluice", "PRAGMA synchronous=OFF",
        "ATTACH ':memory:' AS other", "VACUUM", "SELECT * FROM sluice_receipt", "DELETE FROM sluice_session",
        "CREATE TEMP TABLE x(y)",
    };
    sluice_cause cause;
    fresh(client);
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        sluice_err err = run_texts(client, "sql", "INSERT INTO log VALUES('x')", forbidden[i], &cause);
        if (err != SLUICE_FORBIDDEN) fail_msg("%s: %s: %s", forbidden[i], sluice_err_name(err), cause.text);
    }
    assert_int_equal(run_texts(client, "sql", "INSERT INTO", NULL, &cause), SLUICE_SYNTAX);
    assert_int_equal(run_texts(client, "sql", "INSERT INTO log VALUES('a')", "INSERT INTO log VALUES('a')", &cause),
                     SLUICE_CONSTRAINT);
    assert_int_equal(cause.sqlite_code & 0xff, 19);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM log"), 0);
    assert_ok(run_texts(client, "sql", "CREATE TABLE fresh(x)", "INSERT INTO fresh VALUES(1)", &cause), cause);
    assert_ok(run_texts(client, "sql", "DROP TABLE fresh", NULL, &cause), cause);
}

static void procedure_that_swallows_an_error_commits_only_what_succeeded(sluice_client *client) {
    sluice_cause cause;
    fresh(client);
    house_exec(client, "INSERT INTO log VALUES('taken')");
    assert_ok(run_texts(client, "careless", "INSERT INTO log VALUES('new'),('taken')", "INSERT INTO log VALUES('own')",
                        &cause), cause);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM log"), 2);
    /* what ends the transaction cannot be swallowed, and nothing runs behind it */
    assert_int_equal(run_texts(client, "careless", "INSERT OR ROLLBACK INTO log VALUES('taken')",
                               "INSERT INTO log VALUES('alone')", &cause), SLUICE_FAILED);
    assert_non_null(strstr(cause.text, "ended the transaction"));
    assert_int_equal(house_integer(client, "SELECT count(*) FROM log"), 2);
}

static void procedure_ends_at_the_deadline_of_its_request(sluice_client *client) {
    sluice_cause cause;
    fresh(client);
    sluice_client_set_timeout(client, 200);
    sluice_err err = run_texts(client, "careless",
                               "INSERT INTO log WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) "
                               "SELECT i FROM c WHERE i<0", "INSERT INTO log VALUES('late')", &cause);
    sluice_client_set_timeout(client, HOUSE_PATIENCE_MS);
    assert_int_not_equal(err, SLUICE_OK);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM log"), 0);
    house_exec(client, "INSERT INTO log VALUES('alive')");
}

static void codes_that_speak_to_retries_are_not_a_procedures_to_say(sluice_client *client) {
    const struct {
        sluice_err said, heard;
    } rows[] = {
        {SLUICE_FAILED, SLUICE_FAILED},           {SLUICE_INVALID, SLUICE_INVALID},
        {SLUICE_GUARD_FAILED, SLUICE_GUARD_FAILED}, {SLUICE_EXISTS, SLUICE_EXISTS},
        {SLUICE_SESSION_EXPIRED, SLUICE_FAILED},  {SLUICE_CLOSED, SLUICE_FAILED},
        {SLUICE_UNKNOWN, SLUICE_FAILED},          {SLUICE_FATAL, SLUICE_FAILED},
        {SLUICE_OVERLOADED, SLUICE_FAILED},       {(sluice_err)4711, SLUICE_FAILED},
    };
    sluice_cause cause;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const sluice_value params[] = {sluice_integer((int64_t)rows[i].said), sluice_null()};
        assert_int_equal(sluice_call_procedure(client, "fail", params, 1, NULL, &cause), rows[i].heard);
        assert_string_equal(cause.text, "fail: because I say so");
        assert_int_equal(sluice_call_procedure(client, "fail", params, 2, NULL, &cause), rows[i].heard);
    }
    const sluice_value ok = sluice_integer(SLUICE_OK); /* sluice_tx_fail(OK) is a failure all the same */
    assert_int_equal(sluice_call_procedure(client, "fail", &ok, 1, NULL, &cause), SLUICE_FAILED);
}

static void every_type_goes_in_and_comes_back(sluice_client *client) {
    sluice_cause cause;
    sluice_result *result = NULL;
    const sluice_value params[] = {sluice_integer(INT64_MIN), sluice_real(0.5), sluice_text_n("a\0b", 3),
                                   sluice_blob("\0\xFF", 2), sluice_null()};
    assert_ok(sluice_call_procedure(client, "echo", params, 5, &result, &cause), cause);
    size_t size = 0;
    assert_true(sluice_result_next(result));
    assert_true(sluice_result_int64(result, 0) == INT64_MIN);
    assert_true(sluice_result_double(result, 1) == 0.5);
    assert_memory_equal(sluice_result_text(result, 2, &size), "a\0b", 3);
    assert_int_equal(size, 3);
    assert_memory_equal(sluice_result_blob(result, 3, &size), "\0\xFF", 2);
    assert_int_equal(sluice_result_type(result, 4), SLUICE_TYPE_NULL);
    sluice_result_destroy(&result);
    const sluice_value bad = sluice_text("\xFF");
    assert_int_equal(sluice_call_procedure(client, "echo", &bad, 1, NULL, &cause), SLUICE_INVALID);
}

static void rows_over_the_limit_are_too_big_and_undone(sluice_client *client) {
    sluice_cause cause;
    const sluice_value size = sluice_integer(100000);
    assert_int_equal(sluice_call_procedure(client, "flood", &size, 1, NULL, &cause), SLUICE_TOO_BIG);
}

static void tx_is_of_no_use_to_another_thread(sluice_client *client) {
    sluice_cause cause;
    fresh(client);
    assert_int_equal(sluice_call_procedure(client, "lend", NULL, 0, NULL, &cause), SLUICE_INVALID);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM log"), 0);
}

/* A neighbour destroys the group: the procedure runs again, its effect is there once, and it is answered once. */
static void procedure_may_run_again_and_counts_once(sluice_client *client) {
    enum { N = 20 };
    sluice_cause cause;
    fresh(client);
    house_exec(client, "INSERT INTO log VALUES('taken')");
    uint64_t replays = house_stats(&home).group_replays;
    for (unsigned round = 0; round < 50 && house_stats(&home).group_replays == replays; round++) {
        house_exec(client, "UPDATE account SET balance=1000");
        atomic_store(&runs, 0);
        for (unsigned i = 0; i < N; i++) {
            const sluice_value params[] = {sluice_integer(1), sluice_integer(2), sluice_integer(1)};
            sluice_request *request = NULL;
            assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
            if (i % 5 == 4)
                assert_int_equal(sluice_request_add(request, "INSERT OR ROLLBACK INTO log VALUES('taken')", NULL, 0),
                                 SLUICE_OK);
            else
                assert_int_equal(sluice_request_call(request, "transfer", params, 3), SLUICE_OK);
            assert_ok(sluice_submit(client, &request, NULL, NULL, &cause), cause);
        }
        unsigned ok = 0, failed = 0;
        sluice_completion completion;
        while (sluice_client_inflight(client) != 0) {
            if (!sluice_poll(client, HOUSE_PATIENCE_MS, &completion)) fail_msg("no completion");
            if (completion.err == SLUICE_OK) ok++;
            else if (completion.err == SLUICE_CONSTRAINT) failed++;
            sluice_result_destroy(&completion.result);
        }
        assert_int_equal(ok, N - N / 5);
        assert_int_equal(failed, N / 5);
        assert_int_equal(balance(client, 2), 1000 + N - N / 5);
        assert_int_equal(balance(client, 1), 1000 - N + N / 5);
    }
    assert_true(house_stats(&home).group_replays > replays);
    assert_true(atomic_load(&runs) > N - N / 5);
}

#define BODY(name)                                                                                                     \
    static void name##_everywhere(void **state) {                                                                      \
        (void)state;                                                                                                   \
        for (unsigned i = 0; i < 2 * HOUSE_TRANSPORTS; i++) {                                                          \
            sluice_client *client = house_client(&home, home.urls[i / 2], i % 2 != 0);                                 \
            name(client);                                                                                              \
            sluice_client_close(&client);                                                                              \
        }                                                                                                              \
    }
BODY(procedure_changes_and_gives_rows)
BODY(failing_procedure_undoes_its_whole_request)
BODY(procedure_is_one_statement_of_a_batch_with_guards)
BODY(unknown_procedure_is_a_typed_error)
BODY(procedure_has_a_clients_rights_and_no_more)
BODY(procedure_that_swallows_an_error_commits_only_what_succeeded)
BODY(procedure_ends_at_the_deadline_of_its_request)
BODY(codes_that_speak_to_retries_are_not_a_procedures_to_say)
BODY(every_type_goes_in_and_comes_back)
BODY(rows_over_the_limit_are_too_big_and_undone)
BODY(tx_is_of_no_use_to_another_thread)
BODY(procedure_may_run_again_and_counts_once)

static void names_are_taken_once_and_must_be_names(void **state) {
    (void)state;
    char longest[65];
    memset(longest, 'x', 64);
    longest[64] = '\0';
    assert_int_equal(sluice_store_register_procedure(home.store, "transfer", transfer, NULL), SLUICE_EXISTS);
    assert_int_equal(sluice_store_register_procedure(home.store, "", transfer, NULL), SLUICE_INVALID);
    assert_int_equal(sluice_store_register_procedure(home.store, NULL, transfer, NULL), SLUICE_INVALID);
    assert_int_equal(sluice_store_register_procedure(home.store, "none", NULL, NULL), SLUICE_INVALID);
    assert_int_equal(sluice_store_register_procedure(home.store, longest, transfer, NULL), SLUICE_INVALID);
    assert_int_equal(sluice_store_register_procedure(home.store, longest + 1, transfer, NULL), SLUICE_OK);
    house other;
    house_init(&other);
    const sluice_procedure twice[] = {{"a", transfer, NULL}, {"a", transfer, NULL}};
    other.options.name = "other";
    other.options.procedures = twice;
    other.options.n_procedures = 2;
    sluice_cause cause;
    assert_int_equal(sluice_store_open(other.runtime, &other.options, &other.store, &cause), SLUICE_EXISTS);
    assert_non_null(strstr(cause.text, "\"a\""));
    house_fini(&other);
}

static sluice_msg *call_of(const char *name) {
    sluice_msg *request = kit_request();
    const sluice_value params[] = {sluice_integer(1), sluice_integer(2), sluice_integer(10)};
    Sluice__V1__Statement *statement = kit_add(request, "", 3, params);
    statement->what_case = SLUICE__V1__STATEMENT__WHAT_PROCEDURE;
    statement->procedure = sluice_msg_strdup(request, name);
    kit_identify(request, 1, 1, 0, 0);
    return request;
}

static void call_with_a_receipt_is_done_once_and_replayed_with_its_rows(void **state) {
    (void)state;
    store_kit kit;
    kit_new(&kit);
    kit.options.procedures = at_open;
    kit.options.n_procedures = sizeof at_open / sizeof at_open[0];
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER, owner TEXT)"), kit.cause);
    assert_ok(kit_exec(&kit, "INSERT INTO account VALUES(1,100,'Ada'),(2,50,'Grace')"), kit.cause);
    for (unsigned round = 0; round < 3; round++) {
        sluice_msg *reply = NULL;
        assert_ok(kit_ask(&kit, call_of("transfer"), &reply), kit.cause);
        assert_int_equal(kit_reply(reply)->replayed, round > 0);
        assert_int_equal(kit_reply(reply)->results[0]->changes, 2);
        assert_int_equal(kit_reply(reply)->results[0]->rows->rows, 2);
        sluice_msg_destroy(&reply);
        if (round != 1) continue;
        kit_close(&kit); /* over a restart too, where nobody has registered it yet */
        kit.options.n_procedures = 0;
        kit_open(&kit);
    }
    assert_int_equal(kit_integer(&kit, "SELECT balance FROM account WHERE id=1"), 90);
    assert_int_equal(kit_ask(&kit, call_of("sql"), NULL), SLUICE_ID_REUSED);
    kit_free(&kit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(procedure_changes_and_gives_rows_everywhere),
        cmocka_unit_test(failing_procedure_undoes_its_whole_request_everywhere),
        cmocka_unit_test(procedure_is_one_statement_of_a_batch_with_guards_everywhere),
        cmocka_unit_test(unknown_procedure_is_a_typed_error_everywhere),
        cmocka_unit_test(procedure_has_a_clients_rights_and_no_more_everywhere),
        cmocka_unit_test(procedure_that_swallows_an_error_commits_only_what_succeeded_everywhere),
        cmocka_unit_test(procedure_ends_at_the_deadline_of_its_request_everywhere),
        cmocka_unit_test(codes_that_speak_to_retries_are_not_a_procedures_to_say_everywhere),
        cmocka_unit_test(every_type_goes_in_and_comes_back_everywhere),
        cmocka_unit_test(rows_over_the_limit_are_too_big_and_undone_everywhere),
        cmocka_unit_test(tx_is_of_no_use_to_another_thread_everywhere),
        cmocka_unit_test(procedure_may_run_again_and_counts_once_everywhere),
        cmocka_unit_test(names_are_taken_once_and_must_be_names),
        cmocka_unit_test(call_with_a_receipt_is_done_once_and_replayed_with_its_rows),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
