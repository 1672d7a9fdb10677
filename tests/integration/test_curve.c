/* SPDX-License-Identifier: MIT */
/* The whole door with keys: who comes in by TCP, what each key may do, whose sessions are whose, and what a reload
 * takes away. What the judge of keys alone does is in test_zap.c. */
#include "support/door.h"
#include "support/keys_kit.h"
#include "support/store_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "sluice/v1/control.pb-c.h"

enum { ADMIN, WRITER, READER, UNLISTED, N_KEYS };
static const char *const names[N_KEYS] = {"admin", "writer", "reader", NULL};
static const char *const levels[N_KEYS] = {NULL, "write", "read", NULL};

typedef struct house {
    store_kit kit;
    char keys[KEYS_PATH_MAX], ipc[KEYS_PATH_MAX], files[N_KEYS][KEYS_PATH_MAX];
    keys_pair server, pairs[N_KEYS];
    sluice_gateway_options options;
    sluice_gateway *gateway;
    const char *tcp;
    void *zmq;
    sluice_cause cause;
} house;

static void open_gateway(house *self) {
    assert_ok(sluice_gateway_open(self->kit.runtime, &self->options, &self->gateway, &self->cause), self->cause);
    assert_ok(sluice_gateway_listen(self->gateway, "tcp://127.0.0.1:*", &self->cause), self->cause);
    assert_ok(sluice_gateway_listen(self->gateway, self->ipc, &self->cause), self->cause);
    self->tcp = sluice_gateway_endpoint(self->gateway, 0);
}

static int set_up(void **state) {
    house *self = calloc(1, sizeof *self);
    kit_new(&self->kit);
    kit_open(&self->kit);
    self->zmq = zmq_ctx_new();
    snprintf(self->keys, sizeof self->keys, "%s/keys", self->kit.directory);
    snprintf(self->ipc, sizeof self->ipc, "ipc://%s/door/s", self->kit.directory);
    assert_int_equal(mkdir(self->keys, 0700), 0);
    self->server = keys_directory_make(self->keys);
    for (int i = 0; i < N_KEYS; i++) {
        self->pairs[i] = keys_pair_new();
        if (names[i] != NULL) keys_list(self->keys, names[i], self->pairs[i].public_key, levels[i]);
        snprintf(self->files[i], sizeof self->files[i], "%s/%d.key_secret", self->kit.directory, i);
        keys_write_secret(self->files[i], &self->pairs[i]);
    }
    sluice_gateway_options_init(&self->options);
    self->options.store = self->kit.store;
    self->options.keys_directory = self->keys;
    self->options.handshake_ms = 300;
    open_gateway(self);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    house *self = *state;
    sluice_gateway_close(&self->gateway);
    kit_free(&self->kit);
    stranger_close_all();
    zmq_ctx_term(self->zmq);
    free(self);
    return 0;
}

static sluice_gateway_stats stats(const house *self) {
    sluice_gateway_stats out;
    sluice_gateway_stats_read(self->gateway, &out);
    return out;
}

/* ---- clients ---- */

static sluice_client *client_with(house *self, const char *url, const char *key_file, const char *server_key,
                                  uint32_t timeout_ms) {
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = timeout_ms;
    options.key_file = key_file;
    options.server_key = server_key;
    sluice_client *client = NULL;
    assert_ok(sluice_client_open(url, &options, &client, &self->cause), self->cause);
    return client;
}

static sluice_client *client_of(house *self, int key) {
    return client_with(self, self->tcp, self->files[key], self->server.public_key, 20000);
}

static sluice_err exec(house *self, sluice_client *client, const char *sql) {
    self->cause.text[0] = '\0';
    return sluice_exec(client, sql, NULL, 0, NULL, &self->cause);
}

static sluice_err query(house *self, sluice_client *client, const char *sql) {
    sluice_result *rows = NULL;
    sluice_err err = sluice_query(client, sql, NULL, 0, &rows, &self->cause);
    sluice_result_destroy(&rows);
    return err;
}

static void a_listed_key_works_and_ipc_works_beside_it(void **state) {
    house *self = *state;
    sluice_client *tcp = client_of(self, ADMIN), *ipc = client_with(self, self->ipc, NULL, NULL, 20000);
    assert_ok(sluice_client_ping(tcp, &self->cause), self->cause);
    assert_ok(exec(self, tcp, "CREATE TABLE t(a)"), self->cause);
    assert_ok(exec(self, ipc, "INSERT INTO t VALUES(1)"), self->cause);
    assert_ok(query(self, tcp, "SELECT * FROM t"), self->cause);
    assert_ok(exec(self, ipc, "CREATE TABLE u(a)"), self->cause); /* same user: admin */
    sluice_client_close(&tcp);
    sluice_client_close(&ipc);
    sluice_gateway_stats now = stats(self);
    assert_int_equal(now.refused_key + now.refused_plain + now.refused_server_key + now.dropped_handshake, 0);
}

/* What a client is told that is not let in: UNREACHABLE at its deadline, and why if it can know. */
static void expect_refused(house *self, const char *key_file, const char *server_key, const char *says) {
    sluice_client *client = client_with(self, self->tcp, key_file, server_key, 700);
    assert_int_equal(sluice_client_ping(client, &self->cause), SLUICE_UNREACHABLE);
    if (strstr(self->cause.text, says) == NULL) fail_msg("not \"%s\" but \"%s\"", says, self->cause.text);
    assert_int_equal(exec(self, client, "CREATE TABLE t(a)"), SLUICE_UNREACHABLE);
    sluice_client_close(&client);
}

static void bad_input_63_a_client_without_a_key_is_refused(void **state) {
    house *self = *state;
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    int fd = stranger_connect(self->tcp);
    assert_true(stranger_write(fd, greeting, sizeof greeting));
    assert_true(stranger_closes(fd, 3000));
    close(fd);
    door_await(stats(self).refused_plain == 1);
    expect_refused(self, NULL, NULL, "keys (CURVE)");
    assert_int_equal(stats(self).requests, 0);
}

static void bad_input_64_a_wrong_server_key_is_refused(void **state) {
    house *self = *state;
    expect_refused(self, self->files[ADMIN], self->pairs[UNLISTED].public_key, "public key");
    door_await(stats(self).refused_server_key >= 1);
    assert_int_equal(stats(self).requests, 0);
}

static void bad_input_65_a_key_that_is_not_listed_is_refused(void **state) {
    house *self = *state;
    expect_refused(self, self->files[UNLISTED], self->server.public_key, "refused this client's key");
    door_await(stats(self).refused_key >= 1);
    assert_int_equal(stats(self).requests, 0);
    assert_int_equal(stats(self).dropped_oversize, 0);
}

/* ---- rights ---- */

static void each_key_may_do_what_its_line_says(void **state) {
    house *self = *state;
    sluice_client *admin = client_of(self, ADMIN), *writer = client_of(self, WRITER), *reader = client_of(self, READER);
    assert_ok(exec(self, admin, "CREATE TABLE t(a)"), self->cause);
    assert_ok(exec(self, writer, "INSERT INTO t VALUES(1) RETURNING a"), self->cause);
    assert_ok(query(self, writer, "SELECT * FROM t"), self->cause);
    assert_ok(query(self, reader, "SELECT * FROM t"), self->cause);
    assert_int_equal(exec(self, reader, "INSERT INTO t VALUES(2)"), SLUICE_FORBIDDEN);
    assert_non_null(strstr(self->cause.text, "write right"));
    assert_int_equal(exec(self, reader, "SELECT 1"), SLUICE_FORBIDDEN); /* as a write */
    assert_int_equal(query(self, reader, "INSERT INTO t VALUES(2)"), SLUICE_FORBIDDEN);
    assert_ok(query(self, reader, "SELECT * FROM t WHERE 1/(SELECT count(*) = 1 FROM t)"), self->cause);
    assert_int_equal(kit_integer(&self->kit, "SELECT count(*) FROM t"), 1);
    sluice_client_close(&admin);
    sluice_client_close(&writer);
    sluice_client_close(&reader);
}

static void bad_input_37_ddl_needs_the_admin_right(void **state) {
    house *self = *state;
    sluice_client *admin = client_of(self, ADMIN), *writer = client_of(self, WRITER);
    assert_ok(exec(self, admin, "CREATE TABLE t(a)"), self->cause);
    static const char *const ddl[] = {"CREATE TABLE u(a)",
                                      "DROP TABLE t",
                                      "CREATE INDEX i ON t(a)",
                                      "CREATE VIEW v AS SELECT 1",
                                      "ALTER TABLE t ADD COLUMN b",
                                      "ANALYZE",
                                      "REINDEX t",
                                      "CREATE TABLE w AS SELECT 1",
                                      "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END",
                                      "CREATE VIRTUAL TABLE f USING fts5(x)",
                                      "CREATE TABLE IF NOT EXISTS t(a)"};
    for (int cached = 0; cached < 2; cached++) { /* compiled for the writer, then found in the cache as the admin's */
        for (size_t i = 0; i < sizeof ddl / sizeof ddl[0]; i++) {
            if (exec(self, writer, ddl[i]) != SLUICE_FORBIDDEN) fail_msg("%s: %s", ddl[i], self->cause.text);
            assert_non_null(strstr(self->cause.text, "admin right"));
        }
        assert_ok(exec(self, admin, "ANALYZE"), self->cause);
        assert_ok(exec(self, admin, "CREATE TABLE IF NOT EXISTS t(a)"), self->cause);
    }
    assert_int_equal(
        kit_integer(&self->kit, "SELECT count(*) FROM sqlite_schema WHERE name IN ('u','i','v','w','g','f')"), 0);
    assert_ok(exec(self, writer, "INSERT INTO t VALUES(1)"), self->cause);
    sluice_client_close(&admin);
    sluice_client_close(&writer);
}

static void what_others_read_is_shown_to_admins_only(void **state) {
    house *self = *state;
    sluice_client *admin = client_of(self, ADMIN), *reader = client_of(self, READER);
    sluice_client *const both[] = {admin, reader};
    for (int i = 0; i < 2; i++) {
        sluice_msg *request = NULL, *reply = NULL;
        assert_int_equal(sluice_msg_new(&sluice__v1__readers_request__descriptor, &request), SLUICE_OK);
        assert_int_equal(sluice_client_ask(both[i], "gateway", &request, &reply, &self->cause),
                         i == 0 ? SLUICE_OK : SLUICE_FORBIDDEN);
        sluice_msg_destroy(&request);
        sluice_msg_destroy(&reply);
    }
    sluice_client_close(&admin);
    sluice_client_close(&reader);
}

/* ---- sessions ---- */

/* A WriteRequest with a receipt, or a Goodbye, under a client id of the stranger's choice. */
static void ask_as(void *dealer, const uint8_t client[16], uint64_t sequence, uint64_t correlation) {
    static const char sql[] = "INSERT INTO t VALUES(1)";
    Sluice__V1__Statement statement = SLUICE__V1__STATEMENT__INIT, *list = &statement;
    statement.what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement.sql.data = (uint8_t *)(uintptr_t)sql;
    statement.sql.len = strlen(sql);
    Sluice__V1__WriteRequest request = SLUICE__V1__WRITE_REQUEST__INIT;
    request.n_statements = 1;
    request.statements = &list;
    request.receipt = 1;
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.WriteRequest", "app/writer", correlation);
    envelope.client.data = (uint8_t *)(uintptr_t)client;
    envelope.client.len = 16;
    envelope.sequence = sequence;
    stranger_ask(dealer, &envelope, &request.base);
}

static void say_goodbye_as(void *dealer, const uint8_t client[16], uint64_t correlation) {
    Sluice__V1__Goodbye request = SLUICE__V1__GOODBYE__INIT;
    request.client.data = (uint8_t *)(uintptr_t)client;
    request.client.len = 16;
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.Goodbye", "app/writer", correlation);
    stranger_ask(dealer, &envelope, &request.base);
}

static void expect_done(void *dealer, const char *type) {
    stranger_answer answer = stranger_receive(dealer);
    if (answer.error != NULL) fail_msg("error: %s", answer.error->text);
    assert_string_equal(answer.envelope->type, type);
    stranger_answer_free(&answer);
}

static void *dealer_of(house *self, int key) {
    return stranger_curve_dealer(self->zmq, self->tcp, self->pairs[key].public_key, self->pairs[key].secret_key,
                                 self->server.public_key);
}

static void bad_input_25_another_users_session_is_forbidden(void **state) {
    house *self = *state;
    static const uint8_t session[16] = "ada's session id", own[16] = "a local client's";
    assert_int_equal(kit_exec(&self->kit, "CREATE TABLE t(a)"), SLUICE_OK);
    void *writer = dealer_of(self, WRITER), *admin = dealer_of(self, ADMIN),
         *ipc = stranger_dealer(self->zmq, self->ipc);
    ask_as(writer, session, 1, 1);
    expect_done(writer, "sluice.v1.WriteReply");
    ask_as(ipc, own, 1, 1);
    expect_done(ipc, "sluice.v1.WriteReply");
    for (int reopened = 0; reopened < 2; reopened++) {
        /* Neither a retry, nor a new request, nor a goodbye of somebody else; admin or not. */
        ask_as(admin, session, 1, 2);
        stranger_expect_error(admin, 2, SLUICE_FORBIDDEN, NULL);
        ask_as(admin, session, 9, 3);
        stranger_expect_error(admin, 3, SLUICE_FORBIDDEN, NULL);
        say_goodbye_as(admin, session, 4);
        stranger_expect_error(admin, 4, SLUICE_FORBIDDEN, NULL);
        ask_as(ipc, session, 1, 5);
        stranger_expect_error(ipc, 5, SLUICE_FORBIDDEN, NULL);
        ask_as(admin, own, 1, 6);
        stranger_expect_error(admin, 6, SLUICE_FORBIDDEN, NULL);
        /* The owner's retry is answered as ever. */
        ask_as(writer, session, 1, 7);
        expect_done(writer, "sluice.v1.WriteReply");
        ask_as(ipc, own, 1, 8);
        expect_done(ipc, "sluice.v1.WriteReply");
        assert_int_equal(kit_integer(&self->kit, "SELECT count(*) FROM t"), 2);
        if (reopened) break;
        /* So it is after the store and its door were opened anew. */
        stranger_close_all();
        sluice_gateway_close(&self->gateway);
        kit_close(&self->kit);
        kit_open(&self->kit);
        self->options.store = self->kit.store;
        open_gateway(self);
        writer = dealer_of(self, WRITER);
        admin = dealer_of(self, ADMIN);
        ipc = stranger_dealer(self->zmq, self->ipc);
    }
    say_goodbye_as(writer, session, 9);
    expect_done(writer, "sluice.v1.GoodbyeReply");
    ask_as(admin, session, 2, 10); /* also when it has ended */
    stranger_expect_error(admin, 10, SLUICE_FORBIDDEN, NULL);
}

/* ---- reload ---- */

static void a_key_that_is_barred_is_cut_off_and_new_rights_count_at_once(void **state) {
    house *self = *state;
    sluice_client *admin = client_of(self, ADMIN), *writer = client_of(self, WRITER), *reader = client_of(self, READER);
    sluice_client *newcomer = NULL;
    assert_ok(exec(self, admin, "CREATE TABLE t(a)"), self->cause);
    assert_ok(exec(self, writer, "INSERT INTO t VALUES(1)"), self->cause);
    assert_ok(query(self, reader, "SELECT * FROM t"), self->cause);
    assert_int_equal(stats(self).connections_open, 3);
    keys_unlist(self->keys, "writer");
    keys_list(self->keys, "reader", self->pairs[READER].public_key, "write");
    keys_list(self->keys, "newcomer", self->pairs[UNLISTED].public_key, "read");
    assert_ok(sluice_gateway_reload_keys(self->gateway, &self->cause), self->cause);
    assert_int_equal(stats(self).cut_keys, 1);
    sluice_client_set_timeout(writer, 700);
    assert_int_equal(sluice_client_ping(writer, &self->cause), SLUICE_UNREACHABLE);
    assert_ok(exec(self, reader, "INSERT INTO t VALUES(2)"), self->cause);
    newcomer = client_of(self, UNLISTED);
    assert_ok(query(self, newcomer, "SELECT * FROM t"), self->cause);
    assert_ok(exec(self, admin, "INSERT INTO t VALUES(3)"), self->cause);
    /* Peers that were silent during one reload are known in the next. */
    for (int i = 0; i < 3; i++) assert_ok(sluice_gateway_reload_keys(self->gateway, &self->cause), self->cause);
    keys_list(self->keys, "reader", self->pairs[READER].public_key, "read");
    assert_ok(sluice_gateway_reload_keys(self->gateway, &self->cause), self->cause);
    assert_int_equal(exec(self, reader, "INSERT INTO t VALUES(4)"), SLUICE_FORBIDDEN);
    assert_int_equal(stats(self).cut_keys, 1);
    assert_int_equal(kit_integer(&self->kit, "SELECT count(*) FROM t"), 3);
    sluice_client_close(&admin);
    sluice_client_close(&writer);
    sluice_client_close(&reader);
    sluice_client_close(&newcomer);
}

static void a_wrong_file_at_reload_bars_its_key_alone_and_is_told(void **state) {
    house *self = *state;
    sluice_client *admin = client_of(self, ADMIN), *reader = client_of(self, READER);
    assert_ok(sluice_client_ping(admin, &self->cause), self->cause);
    assert_ok(sluice_client_ping(reader, &self->cause), self->cause);
    keys_list(self->keys, "reader", self->pairs[READER].public_key, "rea");
    assert_int_equal(sluice_gateway_reload_keys(self->gateway, &self->cause), SLUICE_INVALID);
    assert_non_null(strstr(self->cause.text, "reader.key"));
    sluice_client_set_timeout(reader, 700);
    assert_int_equal(sluice_client_ping(reader, &self->cause), SLUICE_UNREACHABLE);
    assert_ok(sluice_client_ping(admin, &self->cause), self->cause);
    /* A directory that cannot be read changes nothing. */
    char away[KEYS_PATH_MAX + 8];
    snprintf(away, sizeof away, "%s.away", self->keys);
    assert_int_equal(rename(self->keys, away), 0);
    assert_int_equal(sluice_gateway_reload_keys(self->gateway, &self->cause), SLUICE_SYSTEM);
    assert_ok(sluice_client_ping(admin, &self->cause), self->cause);
    assert_int_equal(rename(away, self->keys), 0);
    sluice_client_close(&admin);
    sluice_client_close(&reader);
}

/* ---- opening ---- */

static sluice_err reopen(house *self) {
    sluice_gateway_close(&self->gateway);
    sluice_err err = sluice_gateway_open(self->kit.runtime, &self->options, &self->gateway, &self->cause);
    return err;
}

static void a_gateway_does_not_open_with_keys_that_are_not_safe(void **state) {
    house *self = *state;
    char path[KEYS_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/server.key_secret", self->keys);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(reopen(self), SLUICE_FORBIDDEN);
    assert_null(self->gateway);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(reopen(self), SLUICE_SYSTEM);
    keys_write_secret(path, &self->server);
    keys_list(self->keys, "odd", self->pairs[UNLISTED].public_key, "everything");
    assert_int_equal(reopen(self), SLUICE_INVALID);
    assert_non_null(strstr(self->cause.text, "odd.key"));
    keys_unlist(self->keys, "odd");
    self->options.allow_plain = true;
    assert_int_equal(reopen(self), SLUICE_INVALID);
    self->options.allow_plain = false;
    assert_ok(reopen(self), self->cause);
    /* A second one in the context has no judge to bind. */
    sluice_gateway *second = NULL;
    sluice_gateway_options options = self->options;
    options.name = "second";
    assert_int_equal(sluice_gateway_open(self->kit.runtime, &options, &second, &self->cause), SLUICE_EXISTS);
    assert_null(second);
    options.keys_directory = NULL;
    assert_ok(sluice_gateway_open(self->kit.runtime, &options, &second, &self->cause), self->cause);
    assert_int_equal(sluice_gateway_listen(second, "tcp://127.0.0.1:*", &self->cause), SLUICE_FORBIDDEN);
    assert_int_equal(sluice_gateway_reload_keys(second, &self->cause), SLUICE_INVALID);
    sluice_gateway_close(&second);
}

static void runtimes_on_one_borrowed_context_have_one_gateway_with_keys(void **state) {
    house *self = *state;
    sluice_runtime_options options;
    sluice_runtime_options_init(&options);
    options.zmq_context = self->zmq;
    sluice_runtime *runtimes[2] = {NULL, NULL};
    sluice_gateway *gateways[2] = {NULL, NULL};
    sluice_gateway_options with_keys = self->options;
    with_keys.store = NULL;
    for (int i = 0; i < 2; i++) {
        assert_ok(sluice_runtime_new(&options, &runtimes[i], &self->cause), self->cause);
        assert_int_equal(sluice_gateway_open(runtimes[i], &with_keys, &gateways[i], &self->cause),
                         i == 0 ? SLUICE_OK : SLUICE_EXISTS);
    }
    sluice_gateway_close(&gateways[0]);
    for (int i = 0; i < 2; i++) sluice_runtime_destroy(&runtimes[i]);
}

static void a_client_is_told_what_is_wrong_with_its_keys(void **state) {
    house *self = *state;
    sluice_client *client = NULL;
    sluice_client_options options;
    const char *key = self->files[ADMIN], *server = self->server.public_key;
    const struct {
        const char *url, *key, *server;
        sluice_err err;
    } cases[] = {
        {self->tcp, key, NULL, SLUICE_INVALID},       {self->tcp, NULL, server, SLUICE_INVALID},
        {self->ipc, key, server, SLUICE_INVALID},     {"inproc://app", key, server, SLUICE_INVALID},
        {self->tcp, "missing", server, SLUICE_SYSTEM}, {self->tcp, key, "missing", SLUICE_SYSTEM},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sluice_client_options_init(&options);
        options.runtime = self->kit.runtime;
        options.key_file = cases[i].key;
        options.server_key = cases[i].server;
        if (sluice_client_open(cases[i].url, &options, &client, &self->cause) != cases[i].err)
            fail_msg("case %zu: %s", i, self->cause.text);
        assert_null(client);
    }
    assert_int_equal(chmod(self->files[ADMIN], 0644), 0);
    options.key_file = key;
    options.server_key = server;
    assert_int_equal(sluice_client_open(self->tcp, &options, &client, &self->cause), SLUICE_FORBIDDEN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_listed_key_works_and_ipc_works_beside_it),
        TEST(bad_input_63_a_client_without_a_key_is_refused),
        TEST(bad_input_64_a_wrong_server_key_is_refused),
        TEST(bad_input_65_a_key_that_is_not_listed_is_refused),
        TEST(each_key_may_do_what_its_line_says),
        TEST(bad_input_37_ddl_needs_the_admin_right),
        TEST(what_others_read_is_shown_to_admins_only),
        TEST(bad_input_25_another_users_session_is_forbidden),
        TEST(a_key_that_is_barred_is_cut_off_and_new_rights_count_at_once),
        TEST(a_wrong_file_at_reload_bars_its_key_alone_and_is_told),
        TEST(a_gateway_does_not_open_with_keys_that_are_not_safe),
        TEST(runtimes_on_one_borrowed_context_have_one_gateway_with_keys),
        TEST(a_client_is_told_what_is_wrong_with_its_keys),
    };
    return cmocka_run_group_tests_name("curve", tests, NULL, NULL);
}
