/* SPDX-License-Identifier: MIT */
/* Bad inputs 18, 21 to 23 and 28 to 58: SQL that clients must not send, or that nobody can serve, by a client over TCP
 * against a store. Each gets its stated answer, has no effect, and a second client that writes and reads meanwhile loses
 * nothing. A plain loopback peer is an admin: what admins may (37, DDL) is not refused here.
 */
#include "support/door.h"
#include "support/wire.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"

#define SQL_LIMIT 65536
#define RESULT_LIMIT (1u << 20)

typedef struct fixture {
    char *directory;
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_gateway *gateway;
    const char *url;
    sluice_client *client;
    void *zmq;
    sluice_cause cause;
    /* The neighbour: another client that writes rows while the test misbehaves. */
    pthread_t neighbour;
    atomic_bool stop;
    atomic_uint acknowledged, refused;
    char neighbours_text[256];
} fixture;

static void *be_a_neighbour(void *context) {
    fixture *self = context;
    sluice_client *client = NULL;
    sluice_cause cause = {0};
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = 20000;
    sluice_err err = sluice_client_open(self->url, &options, &client, &cause);
    while (err == SLUICE_OK && !atomic_load(&self->stop)) {
        err = sluice_exec(client, "INSERT INTO neighbour(at) VALUES(1)", NULL, 0, NULL, &cause);
        if (err == SLUICE_OK) atomic_fetch_add(&self->acknowledged, 1);
    }
    if (err != SLUICE_OK) {
        snprintf(self->neighbours_text, sizeof self->neighbours_text, "%s: %.200s", sluice_err_name(err), cause.text);
        atomic_fetch_add(&self->refused, 1);
    }
    sluice_client_close(&client);
    return NULL;
}

static void run(fixture *self, const char *sql) {
    assert_ok(sluice_exec(self->client, sql, NULL, 0, NULL, &self->cause), self->cause);
}

static int64_t integer(fixture *self, const char *sql) {
    sluice_result *result = NULL;
    assert_ok(sluice_query(self->client, sql, NULL, 0, &result, &self->cause), self->cause);
    assert_true(sluice_result_next(result));
    int64_t value = sluice_result_int64(result, 0);
    sluice_result_destroy(&result);
    return value;
}

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    self->directory = support_directory_new();
    char *path = support_path(self->directory, "test.db");
    assert_ok(sluice_runtime_new(NULL, &self->runtime, &self->cause), self->cause);
    sluice_store_options store;
    sluice_store_options_init(&store);
    store.path = path;
    store.max_sql_bytes = SQL_LIMIT;
    store.max_result_bytes = RESULT_LIMIT;
    assert_ok(sluice_store_open(self->runtime, &store, &self->store, &self->cause), self->cause);
    free(path);
    sluice_gateway_options gateway;
    sluice_gateway_options_init(&gateway);
    gateway.store = self->store;
    gateway.allow_plain = true;
    assert_ok(sluice_gateway_open(self->runtime, &gateway, &self->gateway, &self->cause), self->cause);
    assert_ok(sluice_gateway_listen(self->gateway, "tcp://127.0.0.1:*", &self->cause), self->cause);
    self->url = sluice_gateway_endpoint(self->gateway, 0);
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = 20000;
    assert_ok(sluice_client_open(self->url, &options, &self->client, &self->cause), self->cause);
    self->zmq = zmq_ctx_new();
    run(self, "CREATE TABLE neighbour(at)");
    run(self, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT UNIQUE, n INTEGER CHECK(n < 1000))");
    run(self, "INSERT INTO t(id, a, n) VALUES(1, 'one', 1), (2, 'two', 2)");
    assert_int_equal(pthread_create(&self->neighbour, NULL, be_a_neighbour, self), 0);
    door_await(atomic_load(&self->acknowledged) > 0 || atomic_load(&self->refused) > 0);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    atomic_store(&self->stop, true);
    pthread_join(self->neighbour, NULL);
    if (atomic_load(&self->refused) != 0) fail_msg("the neighbour was harmed: %s", self->neighbours_text);
    assert_true(atomic_load(&self->acknowledged) > 0);
    assert_int_equal(integer(self, "SELECT count(*) FROM neighbour"), atomic_load(&self->acknowledged));
    assert_int_equal(integer(self, "SELECT count(*) FROM t WHERE id < 3 AND a IN ('one','two')"), 2);
    sluice_client_close(&self->client);
    sluice_gateway_close(&self->gateway);
    sluice_store_close(&self->store);
    sluice_runtime_destroy(&self->runtime);
    stranger_close_all();
    zmq_ctx_term(self->zmq);
    support_directory_remove(&self->directory);
    free(self);
    return 0;
}

/* Sends the text as a write, and as a read too if both, and expects the error. */
static void expect(fixture *self, const char *sql, sluice_err err, bool both) {
    for (int i = 0; i < (both ? 2 : 1); i++) {
        sluice_err got = i == 0 ? sluice_exec(self->client, sql, NULL, 0, NULL, &self->cause)
                                : sluice_query(self->client, sql, NULL, 0, &(sluice_result *){NULL}, &self->cause);
        if (got != err)
            fail_msg("%.100s as a %s: %s (%s), not %s", sql, i == 0 ? "write" : "read", sluice_err_name(got),
                     self->cause.text, sluice_err_name(err));
        assert_true(strlen(self->cause.text) > 10);
    }
}

static void expect_forbidden(fixture *self, const char *sql) { expect(self, sql, SLUICE_FORBIDDEN, true); }

static void bad_input_28_begin_is_forbidden(void **state) {
    static const char *const texts[] = {"BEGIN", "begin immediate", " BEGIN EXCLUSIVE TRANSACTION;", "/*x*/ BEGIN"};
    for (size_t i = 0; i < 4; i++) expect_forbidden(*state, texts[i]);
}

static void bad_input_29_commit_is_forbidden(void **state) {
    expect_forbidden(*state, "COMMIT");
    expect_forbidden(*state, "END TRANSACTION");
}

static void bad_input_30_rollback_is_forbidden(void **state) { expect_forbidden(*state, "ROLLBACK"); }

static void bad_input_31_savepoint_and_release_are_forbidden(void **state) {
    expect_forbidden(*state, "SAVEPOINT s");
    expect_forbidden(*state, "RELEASE s");
    expect_forbidden(*state, "ROLLBACK TO s");
}

static void bad_input_32_pragma_is_forbidden(void **state) {
    static const char *const texts[] = {"PRAGMA synchronous=OFF", "PRAGMA journal_mode=DELETE", "PRAGMA wal_checkpoint",
                                        "pragma query_only=0", "PRAGMA user_version", "EXPLAIN PRAGMA synchronous=OFF"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) expect_forbidden(*state, texts[i]);
}

static void bad_input_33_pragma_functions_are_forbidden(void **state) {
    expect_forbidden(*state, "SELECT * FROM pragma_user_version");
    expect_forbidden(*state, "SELECT * FROM pragma_journal_mode('DELETE')");
}

static void bad_input_34_attach_and_detach_are_forbidden(void **state) {
    expect_forbidden(*state, "ATTACH ':memory:' AS other");
    expect_forbidden(*state, "ATTACH '/etc/passwd' AS other");
    expect_forbidden(*state, "DETACH main");
}

static void bad_input_35_vacuum_is_forbidden(void **state) { expect_forbidden(*state, "VACUUM"); }

static void bad_input_36_vacuum_into_is_forbidden(void **state) {
    fixture *self = *state;
    char *path = support_path(self->directory, "copy.db"), sql[600];
    snprintf(sql, sizeof sql, "VACUUM INTO '%s'", path);
    expect_forbidden(self, sql);
    assert_int_not_equal(access(path, F_OK), 0);
    free(path);
}

static void bad_input_38_temp_objects_are_forbidden(void **state) {
    static const char *const texts[] = {"CREATE TEMP TABLE x(a)", "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
                                        "CREATE TEMP VIEW x AS SELECT 1", "CREATE TABLE temp.x(a)",
                                        "CREATE TEMP TABLE x AS SELECT 1"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) expect(*state, texts[i], SLUICE_FORBIDDEN, false);
}

static void bad_input_39_load_extension_is_forbidden(void **state) {
    expect_forbidden(*state, "SELECT load_extension('/tmp/x.so')");
    expect(*state, "INSERT INTO t(a) SELECT load_extension('x')", SLUICE_FORBIDDEN, false);
}

static void bad_input_40_fts3_tokenizer_is_forbidden(void **state) {
    expect_forbidden(*state, "SELECT fts3_tokenizer('simple')");
    expect_forbidden(*state, "SELECT fts3_tokenizer('simple', x'0000000000000000')");
}

static void bad_input_41_sluices_own_tables_are_forbidden(void **state) {
    fixture *self = *state;
    sluice_result *names = NULL;
    unsigned n = 0;
    assert_ok(sluice_query(self->client, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'sluice%'",
                           NULL, 0, &names, &self->cause), self->cause);
    while (sluice_result_next(names)) {
        char sql[300];
        const char *name = sluice_result_text(names, 0, NULL);
        snprintf(sql, sizeof sql, "SELECT * FROM %s", name);
        expect_forbidden(self, sql);
        snprintf(sql, sizeof sql, "DELETE FROM \"%s\"", name);
        expect(self, sql, SLUICE_FORBIDDEN, false);
        snprintf(sql, sizeof sql, "DROP TABLE %s", name);
        expect(self, sql, SLUICE_FORBIDDEN, false);
        snprintf(sql, sizeof sql, "WITH x AS (SELECT * FROM main.[%s]) SELECT count(*) FROM x", name);
        expect_forbidden(self, sql);
        n++;
    }
    sluice_result_destroy(&names);
    assert_true(n > 0);
    expect(self, "CREATE TABLE sluice_mine(a)", SLUICE_FORBIDDEN, false);
    expect(self, "ALTER TABLE t RENAME TO Sluice_mine", SLUICE_FORBIDDEN, false);
}

static void bad_input_42_writing_the_schema_table_is_forbidden(void **state) {
    fixture *self = *state;
    static const char *const texts[] = {"DELETE FROM sqlite_schema", "UPDATE sqlite_master SET sql = 'x'",
                                        "INSERT INTO sqlite_schema VALUES('table','x','x',2,'CREATE TABLE x(a)')"};
    for (size_t i = 0; i < 3; i++) expect(self, texts[i], SLUICE_FORBIDDEN, false);
    assert_true(integer(self, "SELECT count(*) FROM sqlite_schema") >= 2);
}

static void bad_input_43_two_statements_in_one_text_are_rejected(void **state) {
    fixture *self = *state;
    expect(self, "SELECT 1; SELECT 2", SLUICE_INVALID, true);
    expect(self, "INSERT INTO t(a) VALUES('x'); DROP TABLE t", SLUICE_INVALID, false);
    expect(self, "SELECT 1;;SELECT 2", SLUICE_INVALID, true);
    assert_int_equal(integer(self, "SELECT count(*) FROM t; -- a comment is no second one"), 2);
}

static void bad_input_44_empty_text_is_rejected(void **state) {
    static const char *const texts[] = {"", ";", "  \n\t", "-- nothing", "/* nothing */", ";;;"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) expect(*state, texts[i], SLUICE_INVALID, true);
}

static void expect_bytes(fixture *self, const char *sql, size_t size, sluice_err err) {
    for (int kind = SLUICE_WRITE; kind <= SLUICE_READ; kind++) {
        sluice_request *request = NULL;
        assert_int_equal(sluice_request_new(self->client, (sluice_request_kind)kind, &request), SLUICE_OK);
        assert_int_equal(sluice_request_add_n(request, sql, size, NULL, 0), SLUICE_OK);
        sluice_err got = sluice_call(self->client, request, NULL, &self->cause);
        if (got != err) fail_msg("%s (%s)", sluice_err_name(got), self->cause.text);
        sluice_request_destroy(&request);
    }
}

static void bad_input_45_embedded_nul_is_rejected(void **state) {
    fixture *self = *state;
    static const struct {
        const char *sql;
        size_t size;
    } texts[] = {{"SELECT 1\0, 2", 12}, {"\0", 1}, {"SELECT 1\0", 9}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_bytes(self, texts[i].sql, texts[i].size, SLUICE_INVALID);
        assert_non_null(strstr(self->cause.text, "NUL")); /* not taken for a second statement, or for none */
    }
}

static void bad_input_46_bad_utf8_is_rejected(void **state) {
    expect_bytes(*state, "SELECT '\xff'", 10, SLUICE_INVALID);
    expect_bytes(*state, "SELECT '\xc0\xaf'", 11, SLUICE_INVALID);
    expect_bytes(*state, "SELECT '\xed\xa0\x80'", 12, SLUICE_INVALID);
    expect_bytes(*state, "SELECT '\xe2\x82", 10, SLUICE_INVALID);
}

static void bad_input_47_sql_text_over_the_limit_is_too_big(void **state) {
    fixture *self = *state;
    char *sql = malloc(SQL_LIMIT + 100);
    assert_non_null(sql);
    memset(sql, ' ', SQL_LIMIT + 100);
    memcpy(sql, "SELECT 1", 8);
    expect_bytes(self, sql, SQL_LIMIT + 1, SLUICE_TOO_BIG);
    free(sql);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A read that would take for ever ends at its deadline, and leaves all readers usable. */
static void expect_runaway_read_ends(fixture *self, const char *sql) {
    for (int i = 0; i < 3; i++) {
        sluice_client_set_timeout(self->client, 300);
        int64_t begin = now_ms();
        sluice_result *result = NULL;
        sluice_err err = sluice_query(self->client, sql, NULL, 0, &result, &self->cause);
        int64_t took = now_ms() - begin;
        sluice_client_set_timeout(self->client, 20000);
        if (err != SLUICE_INTERRUPTED && err != SLUICE_EXPIRED && err != SLUICE_TIMEOUT)
            fail_msg("%s: %s", sluice_err_name(err), self->cause.text);
        assert_true(took < 3000);
        for (int k = 0; k < 4; k++) assert_int_equal(integer(self, "SELECT count(*) FROM t"), 2);
    }
}

static void bad_input_48_endless_recursion_on_a_reader_ends_at_its_deadline(void **state) {
    expect_runaway_read_ends(*state, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
                                     "SELECT count(*) FROM c");
}

static void bad_input_49_endless_recursion_in_an_insert_is_ended(void **state) {
    fixture *self = *state;
    sluice_client_set_timeout(self->client, 500);
    sluice_err err = sluice_exec(self->client, "INSERT INTO t(n) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL "
                                 "SELECT x + 1 FROM c) SELECT 5 FROM c WHERE x < 0", NULL, 0, NULL, &self->cause);
    sluice_client_set_timeout(self->client, 20000);
    assert_int_not_equal(err, SLUICE_OK);
    assert_int_equal(integer(self, "SELECT count(*) FROM t"), 2);
    run(self, "UPDATE t SET n = 7 WHERE id = 1");
}

static void bad_input_50_huge_values_are_too_big(void **state) {
    fixture *self = *state;
    static const char *const texts[] = {"SELECT zeroblob(900000000)", "SELECT length(randomblob(900000000))",
                                        "SELECT replace(hex(zeroblob(1000000)),'0','0000000000000000')",
                                        "SELECT group_concat(zeroblob(500000)) FROM t, t AS u, t AS v, t AS w, t AS x"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) expect(self, texts[i], SLUICE_TOO_BIG, true);
    expect(self, "INSERT INTO t(a) VALUES(zeroblob(900000000))", SLUICE_TOO_BIG, false);
    /* SQLite's own printf gives NULL instead of an error when its text grows over the limit; the memory is bounded. */
    size_t before = stranger_resident();
    sluice_result *result = NULL;
    sluice_err err = sluice_query(self->client, "SELECT printf('%900000000d', 1)", NULL, 0, &result, &self->cause);
    assert_true(err == SLUICE_TOO_BIG || err == SLUICE_OK);
    if (err == SLUICE_OK) {
        assert_true(sluice_result_next(result));
        assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_NULL);
    }
    sluice_result_destroy(&result);
    assert_true(stranger_resident() <= before + (256u << 20));
    assert_int_equal(integer(self, "SELECT count(*) FROM t"), 2);
}

static void bad_input_51_cross_join_of_many_tables_ends_at_its_deadline(void **state) {
    /* SQLite joins at most 64 tables; 60 of two rows are 2^60 rows. */
    char sql[2000] = "SELECT count(*) FROM t";
    for (int i = 0; i < 59; i++) snprintf(sql + strlen(sql), 20, ", t AS t%d", i);
    expect_runaway_read_ends(*state, sql);
    char *more = malloc(20000);
    strcpy(more, "SELECT count(*) FROM t");
    for (int i = 0; i < 499; i++) snprintf(more + strlen(more), 20, ", t AS t%d", i);
    sluice_result *result = NULL;
    fixture *self = *state;
    assert_int_not_equal(sluice_query(self->client, more, NULL, 0, &result, &self->cause), SLUICE_OK);
    free(more);
}

static void bad_input_52_result_over_the_limit_is_too_big_and_never_cut(void **state) {
    fixture *self = *state;
    expect(self, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000) "
                 "SELECT x, 'some text to make it long' FROM c", SLUICE_TOO_BIG, true);
    sluice_result *result = NULL;
    assert_ok(sluice_query(self->client, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE "
                           "x < 10000) SELECT x FROM c", NULL, 0, &result, &self->cause), self->cause);
    assert_int_equal(sluice_result_rows(result), 10000);
    sluice_result_destroy(&result);
}

static void bad_input_53_wrong_parameters_are_rejected(void **state) {
    fixture *self = *state;
    sluice_value values[] = {sluice_integer(1), sluice_integer(2), sluice_text("x")};
    for (size_t n = 0; n <= 3; n++) {
        sluice_result *result = NULL;
        sluice_err err = sluice_query(self->client, "SELECT ?1 + ?2", values, n, &result, &self->cause);
        assert_int_equal(err, n == 2 ? SLUICE_OK : SLUICE_INVALID);
        sluice_result_destroy(&result);
    }
    expect(self, "INSERT INTO t(a) VALUES(:name)", SLUICE_INVALID, false);
    expect(self, "SELECT @a", SLUICE_INVALID, true);
    sluice_value bad[] = {sluice_text_n("\xff\xfe", 2)};
    assert_int_not_equal(sluice_exec(self->client, "INSERT INTO t(a) VALUES(?)", bad, 1, NULL, &self->cause), SLUICE_OK);
    assert_int_equal(integer(self, "SELECT count(*) FROM t"), 2);
}

static void bad_input_54_insert_or_rollback_harms_only_itself(void **state) {
    fixture *self = *state;
    for (int i = 0; i < 20; i++)
        expect(self, "INSERT OR ROLLBACK INTO t(id, a) VALUES(1, 'x')", SLUICE_CONSTRAINT, false);
}

static void bad_input_55_raise_rollback_harms_only_itself(void **state) {
    fixture *self = *state;
    run(self, "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.a = 'no' BEGIN SELECT RAISE(ROLLBACK, 'this is not wanted'); END");
    for (int i = 0; i < 20; i++) expect(self, "INSERT INTO t(a) VALUES('no')", SLUICE_CONSTRAINT, false);
    run(self, "INSERT INTO t(a) VALUES('yes')");
}

static void bad_input_56_deferred_foreign_key_harms_only_its_culprit(void **state) {
    fixture *self = *state;
    run(self, "CREATE TABLE child(id INTEGER REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED)");
    for (int i = 0; i < 20; i++) expect(self, "INSERT INTO child VALUES(99)", SLUICE_CONSTRAINT, false);
    run(self, "INSERT INTO child VALUES(1)");
    assert_int_equal(integer(self, "SELECT count(*) FROM child"), 1);
}

static void bad_input_57_returning_a_million_rows_is_too_big_and_undone(void **state) {
    fixture *self = *state;
    run(self, "CREATE TABLE many(x)");
    expect(self, "INSERT INTO many WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000) "
                 "SELECT x FROM c RETURNING x, 'a text'", SLUICE_TOO_BIG, false);
    assert_int_equal(integer(self, "SELECT count(*) FROM many"), 0);
}

static void bad_input_58_a_write_sent_as_a_read_is_read_only(void **state) {
    fixture *self = *state;
    static const char *const texts[] = {"INSERT INTO t(a) VALUES('x')", "UPDATE t SET n = 3", "DELETE FROM t",
                                        "REPLACE INTO t(id, a) VALUES(1, 'x')", "DROP TABLE t", "CREATE TABLE z(a)",
                                        "INSERT INTO t(a) VALUES('x') RETURNING id", "REINDEX", "ANALYZE"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        sluice_result *result = NULL;
        sluice_err err = sluice_query(self->client, texts[i], NULL, 0, &result, &self->cause);
        if (err != SLUICE_READ_ONLY) fail_msg("%s: %s (%s)", texts[i], sluice_err_name(err), self->cause.text);
    }
}

/* ---- what only a stranger can send ---- */

static void bad_input_18_of_two_members_of_a_oneof_the_last_is_bound(void **state) {
    fixture *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->url);
    wire_bytes value = {0}, statement = {0}, body = {0};
    wire_put(&value, "\x08\x02\x1a\x03" "abc\x1a\x04last", 13); /* integer 1, text abc, text last */
    wire_put_field(&statement, 1, "SELECT ?1", 9);
    wire_put_field(&statement, 2, value.at, value.size);
    wire_put_field(&body, 1, statement.at, statement.size);
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.QueryRequest", "app/readers", 5);
    stranger_ask_bytes(dealer, &envelope, body.at, body.size);
    stranger_answer answer = stranger_receive(dealer);
    if (answer.error != NULL) fail_msg("%s", answer.error->text);
    Sluice__V1__QueryReply *reply = sluice__v1__query_reply__unpack(NULL, answer.body_size, answer.body);
    assert_non_null(reply);
    assert_int_equal(reply->results[0]->rows->columns[0]->data.len, 5);
    assert_memory_equal(reply->results[0]->rows->columns[0]->data.data, "last", 5);
    sluice__v1__query_reply__free_unpacked(reply, NULL);
    stranger_answer_free(&answer);
    wire_bytes_fini(&value);
    wire_bytes_fini(&statement);
    wire_bytes_fini(&body);
}

static void write_as(void *dealer, const char *sql, uint64_t sequence, uint64_t ack_upto, uint64_t correlation) {
    Sluice__V1__Statement statement = SLUICE__V1__STATEMENT__INIT, *list = &statement;
    statement.what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement.sql.data = (uint8_t *)(uintptr_t)sql;
    statement.sql.len = strlen(sql);
    Sluice__V1__WriteRequest request = SLUICE__V1__WRITE_REQUEST__INIT;
    request.n_statements = 1;
    request.statements = &list;
    request.receipt = true;
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.WriteRequest", "app/writer", correlation);
    envelope.client.data = (uint8_t *)(uintptr_t) "a stranger's id.";
    envelope.client.len = 16;
    envelope.sequence = sequence;
    envelope.ack_upto = ack_upto;
    stranger_ask(dealer, &envelope, &request.base);
}

static void expect_written(void *dealer, uint64_t correlation, bool replayed) {
    stranger_answer answer = stranger_receive(dealer);
    if (answer.error != NULL) fail_msg("%s", answer.error->text);
    assert_int_equal(answer.envelope->correlation, correlation);
    Sluice__V1__WriteReply *reply = sluice__v1__write_reply__unpack(NULL, answer.body_size, answer.body);
    assert_non_null(reply);
    assert_int_equal(reply->replayed, replayed);
    sluice__v1__write_reply__free_unpacked(reply, NULL);
    stranger_answer_free(&answer);
}

static void bad_input_21_sequence_reused_with_another_body_is_id_reused(void **state) {
    fixture *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->url);
    write_as(dealer, "INSERT INTO t(a) VALUES('first')", 1, 0, 10);
    expect_written(dealer, 10, false);
    write_as(dealer, "INSERT INTO t(a) VALUES('second')", 1, 0, 11);
    stranger_expect_error(dealer, 11, SLUICE_ID_REUSED, NULL);
    write_as(dealer, "INSERT INTO t(a) VALUES('first')", 1, 0, 12);
    expect_written(dealer, 12, true);
    assert_int_equal(integer(self, "SELECT count(*) FROM t"), 3);
}

static void bad_input_22_sequence_below_ack_upto_is_stale(void **state) {
    fixture *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->url);
    for (uint64_t i = 1; i <= 5; i++) {
        char sql[100];
        snprintf(sql, sizeof sql, "INSERT INTO t(a) VALUES('%d')", (int)i);
        write_as(dealer, sql, i, i == 5 ? 4 : 0, i);
        expect_written(dealer, i, false);
    }
    write_as(dealer, "INSERT INTO t(a) VALUES('2')", 2, 4, 20);
    stranger_expect_error(dealer, 20, SLUICE_STALE, NULL);
    write_as(dealer, "INSERT INTO t(a) VALUES('other')", 4, 0, 21);
    stranger_expect_error(dealer, 21, SLUICE_STALE, NULL);
    assert_int_equal(integer(self, "SELECT count(*) FROM t"), 7);
}

static void bad_input_23_the_same_sequence_in_flight_twice_runs_once(void **state) {
    fixture *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->url), *again = stranger_dealer(self->zmq, self->url);
    unsigned replayed = 0;
    for (uint64_t i = 1; i <= 20; i++) {
        char sql[100];
        snprintf(sql, sizeof sql, "INSERT INTO t(a) VALUES('twice %d')", (int)i);
        write_as(dealer, sql, i, 0, i);
        write_as(again, sql, i, 0, i);
        for (int k = 0; k < 2; k++) {
            stranger_answer answer = stranger_receive(k == 0 ? dealer : again);
            if (answer.error != NULL) fail_msg("%s", answer.error->text);
            Sluice__V1__WriteReply *reply = sluice__v1__write_reply__unpack(NULL, answer.body_size, answer.body);
            replayed += reply->replayed ? 1 : 0;
            sluice__v1__write_reply__free_unpacked(reply, NULL);
            stranger_answer_free(&answer);
        }
    }
    assert_int_equal(replayed, 20);
    assert_int_equal(integer(self, "SELECT count(*) FROM t"), 22);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(bad_input_18_of_two_members_of_a_oneof_the_last_is_bound),
        TEST(bad_input_21_sequence_reused_with_another_body_is_id_reused),
        TEST(bad_input_22_sequence_below_ack_upto_is_stale),
        TEST(bad_input_23_the_same_sequence_in_flight_twice_runs_once),
        TEST(bad_input_28_begin_is_forbidden),
        TEST(bad_input_29_commit_is_forbidden),
        TEST(bad_input_30_rollback_is_forbidden),
        TEST(bad_input_31_savepoint_and_release_are_forbidden),
        TEST(bad_input_32_pragma_is_forbidden),
        TEST(bad_input_33_pragma_functions_are_forbidden),
        TEST(bad_input_34_attach_and_detach_are_forbidden),
        TEST(bad_input_35_vacuum_is_forbidden),
        TEST(bad_input_36_vacuum_into_is_forbidden),
        TEST(bad_input_38_temp_objects_are_forbidden),
        TEST(bad_input_39_load_extension_is_forbidden),
        TEST(bad_input_40_fts3_tokenizer_is_forbidden),
        TEST(bad_input_41_sluices_own_tables_are_forbidden),
        TEST(bad_input_42_writing_the_schema_table_is_forbidden),
        TEST(bad_input_43_two_statements_in_one_text_are_rejected),
        TEST(bad_input_44_empty_text_is_rejected),
        TEST(bad_input_45_embedded_nul_is_rejected),
        TEST(bad_input_46_bad_utf8_is_rejected),
        TEST(bad_input_47_sql_text_over_the_limit_is_too_big),
        TEST(bad_input_48_endless_recursion_on_a_reader_ends_at_its_deadline),
        TEST(bad_input_49_endless_recursion_in_an_insert_is_ended),
        TEST(bad_input_50_huge_values_are_too_big),
        TEST(bad_input_51_cross_join_of_many_tables_ends_at_its_deadline),
        TEST(bad_input_52_result_over_the_limit_is_too_big_and_never_cut),
        TEST(bad_input_53_wrong_parameters_are_rejected),
        TEST(bad_input_54_insert_or_rollback_harms_only_itself),
        TEST(bad_input_55_raise_rollback_harms_only_itself),
        TEST(bad_input_56_deferred_foreign_key_harms_only_its_culprit),
        TEST(bad_input_57_returning_a_million_rows_is_too_big_and_undone),
        TEST(bad_input_58_a_write_sent_as_a_read_is_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
