/* SPDX-License-Identifier: MIT */
/* Building requests; the ids of a client; flights. None of it needs a server. */
#include "support/support.h"

#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* A client of a server that does not exist. */
static int client_setup(void **state) {
    sluice_client *client = NULL;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.max_message_bytes = 65536;
    options.timeout_ms = 30;
    if (sluice_client_open("ipc://no-such-socket", &options, &client, NULL) != SLUICE_OK) return -1;
    *state = client;
    return 0;
}

static int client_teardown(void **state) {
    sluice_client *client = *state;
    sluice_client_close(&client);
    return client == NULL ? 0 : -1;
}

static Sluice__V1__WriteRequest *write_of(const sluice_request *request) {
    return (Sluice__V1__WriteRequest *)request->msg->body;
}

static sluice_request *request_of(sluice_client *client, sluice_request_kind kind) {
    sluice_request *request = NULL;
    assert_int_equal(sluice_request_new(client, kind, &request), SLUICE_OK);
    return request;
}

static void request_holds_statements_with_all_types_of_values(void **state) {
    sluice_request *request = request_of(*state, SLUICE_WRITE);
    const sluice_value params[] = {sluice_null(), sluice_integer(-1), sluice_real(0.5), sluice_text("t\303\251xt"),
                                   sluice_blob("\0\377", 2), sluice_text("")};
    assert_int_equal(sluice_request_add(request, "INSERT INTO t VALUES(?,?,?,?,?,?)", params, 6), SLUICE_OK);
    assert_int_equal(sluice_request_expect(request, 1), SLUICE_OK);
    assert_int_equal(sluice_request_add_n(request, "a\0b", 3, NULL, 0), SLUICE_OK);
    for (int i = 0; i < 100; i++) assert_int_equal(sluice_request_add(request, "UPDATE t SET x=1", NULL, 0), SLUICE_OK);

    const Sluice__V1__WriteRequest *body = write_of(request);
    assert_int_equal(body->n_statements, 102);
    const Sluice__V1__Statement *first = body->statements[0];
    assert_int_equal(first->guard_case, SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES);
    assert_int_equal(first->expect_changes, 1);
    assert_int_equal(first->n_params, 6);
    for (size_t i = 0; i < 6; i++) {
        sluice_value value = sl_value_view(first->params[i]);
        assert_int_equal(value.type, params[i].type);
        assert_int_equal(value.size, params[i].size);
        assert_true(value.integer == params[i].integer && value.real == params[i].real);
        if (value.size != 0) assert_memory_equal(value.data, params[i].data, value.size);
    }
    assert_int_equal(body->statements[1]->sql.len, 3);
    assert_memory_equal(body->statements[1]->sql.data, "a\0b", 3);
    assert_int_equal(body->statements[1]->guard_case, SLUICE__V1__STATEMENT__GUARD__NOT_SET);
    sluice_request_destroy(&request);
    assert_null(request);
}

static void request_gathers_rows_in_columns(void **state) {
    sluice_request *request = request_of(*state, SLUICE_WRITE);
    sluice_value row[2];
    row[0] = sluice_integer(1), row[1] = sluice_text("x");
    assert_int_equal(sluice_request_row(request, row, 2), SLUICE_INVALID); /* no statement yet */
    assert_int_equal(sluice_request_add(request, "INSERT INTO t VALUES(?,?)", NULL, 0), SLUICE_OK);
    assert_int_equal(sluice_request_row(request, row, 0), SLUICE_INVALID);
    for (int i = 0; i < 1000; i++) {
        row[0] = sluice_integer(i);
        assert_int_equal(sluice_request_row(request, row, 2), SLUICE_OK);
    }
    assert_int_equal(sluice_request_row(request, row, 1), SLUICE_INVALID); /* another width */
    assert_int_equal(sluice_request_add(request, "INSERT INTO u VALUES(?)", row, 1), SLUICE_OK);
    assert_int_equal(sluice_request_row(request, row, 1), SLUICE_INVALID); /* has params already */
    const Sluice__V1__Table *table = write_of(request)->statements[0]->rows;
    assert_non_null(table);
    assert_int_equal(table->rows, 1000);
    assert_int_equal(table->n_columns, 2);
    sluice_cause cause;
    assert_ok(sl_table_check(table, &cause), cause);
    assert_null(write_of(request)->statements[1]->rows);
    sluice_request_destroy(&request);
}

static void request_refuses_what_cannot_be_sent(void **state) {
    sluice_client *client = *state;
    sluice_request *request = NULL;
    sluice_cause cause;
    assert_int_equal(sluice_request_new(client, (sluice_request_kind)7, &request), SLUICE_INVALID);
    request = request_of(client, SLUICE_READ);
    assert_int_equal(sluice_request_expect(request, 1), SLUICE_INVALID); /* WRITE only */
    assert_int_equal(sluice_request_add(request, NULL, NULL, 0), SLUICE_INVALID);
    assert_int_equal(sluice_request_add(request, "SELECT ?", NULL, 1), SLUICE_INVALID);
    sluice_value odd = {.type = (sluice_type)9};
    assert_int_equal(sluice_request_add(request, "SELECT ?", &odd, 1), SLUICE_INVALID);
    assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_INVALID); /* no statement */
    assert_int_equal(sluice_submit(client, &request, NULL, NULL, &cause), SLUICE_INVALID);
    assert_non_null(request);
    char *big = calloc(1, 65537);
    memset(big, 'x', 65536);
    assert_int_equal(sluice_request_add(request, big, NULL, 0), SLUICE_TOO_BIG);
    sluice_value blob = sluice_blob(big, 65536);
    assert_int_equal(sluice_request_add(request, "SELECT ?", &blob, 1), SLUICE_TOO_BIG);
    assert_int_equal(sluice_exec(client, "SELECT ?", &blob, 1, NULL, &cause), SLUICE_TOO_BIG);
    free(big);
    assert_int_equal(sluice_request_add(request, "SELECT 1", NULL, 0), SLUICE_OK); /* and still of use */

    sluice_client *other = NULL;
    assert_int_equal(sluice_client_open("ipc://no-such-socket", NULL, &other, NULL), SLUICE_OK);
    assert_int_equal(sluice_call(other, request, NULL, &cause), SLUICE_INVALID);
    sluice_client_close(&other);
    sluice_request_destroy(&request);
}

static void request_copies_deeply(void **state) {
    sluice_request *request = request_of(*state, SLUICE_WRITE);
    const sluice_value params[] = {sluice_text("text"), sluice_blob("blob", 4), sluice_integer(3), sluice_null()};
    assert_int_equal(sluice_request_add(request, "one", params, 4), SLUICE_OK);
    assert_int_equal(sluice_request_expect(request, 5), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "two", NULL, 0), SLUICE_OK);
    for (int i = 0; i < 10; i++) assert_int_equal(sluice_request_row(request, params, 4), SLUICE_OK);
    assert_int_equal(sl_request_finish(request), SLUICE_OK);
    uint8_t before[16], after[16];
    assert_int_equal(sl_wire_digest(request->msg->body, before), SLUICE_OK);
    sluice_msg *copy = sl_request_copy(request);
    assert_non_null(copy);
    sluice_request_destroy(&request); /* and its memory is used again */
    sluice_request *next = request_of(*state, SLUICE_WRITE);
    assert_int_equal(sluice_request_add(next, "xxxxxxxxxxxxxxxx", params, 4), SLUICE_OK);
    assert_int_equal(sl_wire_digest(copy->body, after), SLUICE_OK);
    assert_memory_equal(before, after, sizeof before);
    sluice_request_destroy(&next);
    sluice_msg_destroy(&copy);
}

static void message_objects_are_used_again(void **state) {
    sluice_client *client = *state;
    sluice_msg *msg = sl_pool_take(client->pool, &sluice__v1__write_request__descriptor);
    sluice_msg *first = msg;
    msg->correlation = 5, msg->flags = SL_MSG_REPLY, msg->identity.sequence = 9, msg->deadline_ns = 1;
    sl_pool_give(client->pool, &msg);
    assert_null(msg);
    msg = sl_pool_take(client->pool, &sluice__v1__query_request__descriptor);
    assert_ptr_equal(msg, first);
    assert_ptr_equal(msg->type, &sluice__v1__query_request__descriptor);
    assert_true(msg->correlation == 0 && msg->flags == 0 && msg->identity.sequence == 0 && msg->deadline_ns == 0);
    sl_pool_give(client->pool, &msg);
}

static void unreachable_server_ends_calls_at_their_deadline(void **state) {
    sluice_client *client = *state;
    sluice_cause cause;
    sluice_result *result = NULL;
    assert_int_equal(sluice_exec(client, "INSERT", NULL, 0, &result, &cause), SLUICE_UNREACHABLE);
    assert_int_equal(cause.code, SLUICE_UNREACHABLE);
    assert_null(result);
    assert_int_equal(sluice_query(client, "SELECT", NULL, 0, &result, &cause), SLUICE_UNREACHABLE);
    assert_int_equal(sluice_client_ping(client, &cause), SLUICE_UNREACHABLE);
    assert_int_equal(client->pool->sequences.ack_upto, 1); /* a definite no is settled */
}

/* ---- ids ---- */

static void ack_upto_stays_below_each_open_sequence(void **state) {
    (void)state;
    sl_sequences ids;
    sl_sequences_init(&ids);
    uint64_t first, s = 0;
    assert_int_equal(sl_sequences_take(&ids, &first), SLUICE_OK);
    assert_int_equal(first, 1);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(sl_sequences_take(&ids, &s), SLUICE_OK);
        sl_sequences_settle(&ids, s);
        assert_int_equal(ids.ack_upto, 0);
    }
    sl_sequences_settle(&ids, first);
    assert_int_equal(ids.ack_upto, 5001);
    sl_sequences_settle(&ids, first); /* twice, or made up: nothing happens */
    sl_sequences_settle(&ids, 99999);
    sl_sequences_settle(&ids, 0);
    assert_int_equal(ids.ack_upto, 5001);
    for (int i = 0; i < 100000; i++) { /* the ring turns without growing */
        assert_int_equal(sl_sequences_take(&ids, &s), SLUICE_OK);
        sl_sequences_settle(&ids, s);
    }
    assert_int_equal(ids.ack_upto, 105001);
    assert_true(ids.n_bits <= 8192);
    sl_sequences_fini(&ids);
}

static void flights_never_use_a_correlation_twice(void **state) {
    (void)state;
    sl_flights flights;
    sl_flights_init(&flights, 3);
    uint32_t a, b, c, d;
    assert_int_equal(sl_flights_take(&flights, 30, &a), SLUICE_OK);
    assert_int_equal(sl_flights_take(&flights, 10, &b), SLUICE_OK);
    assert_int_equal(sl_flights_take(&flights, 20, &c), SLUICE_OK);
    assert_int_equal(sl_flights_take(&flights, 20, &d), SLUICE_OVERLOADED);
    assert_int_equal(sl_flights_next_due(&flights), 10);
    uint64_t old = flights.at[b].correlation;
    assert_true(old != 0 && old >> 63 == 0);
    assert_int_equal(sl_flights_find(&flights, old), b);
    sl_flights_release(&flights, b);
    assert_int_equal(sl_flights_next_due(&flights), 20);
    assert_int_equal(sl_flights_find(&flights, old), SL_FLIGHT_NONE);
    assert_int_equal(sl_flights_take(&flights, 5, &d), SLUICE_OK);
    assert_int_equal(d, b);
    assert_true(flights.at[d].correlation != old);
    assert_int_equal(sl_flights_find(&flights, old), SL_FLIGHT_NONE);
    assert_int_equal(sl_flights_find(&flights, 0), SL_FLIGHT_NONE);
    assert_int_equal(sl_flights_find(&flights, UINT64_MAX), SL_FLIGHT_NONE);
    sl_flights_fini(&flights);
}

static void flights_come_due_in_order(void **state) {
    (void)state;
    enum { N = 500 };
    sl_flights flights;
    sl_flights_init(&flights, N);
    uint32_t index[N];
    srand(7);
    for (int i = 0; i < N; i++) assert_int_equal(sl_flights_take(&flights, 1 + rand() % 1000, &index[i]), SLUICE_OK);
    for (int i = 0; i < N; i += 3) sl_flights_release(&flights, index[i]);
    for (int i = 1; i < N; i += 3) sl_flights_set_due(&flights, index[i], 1 + rand() % 1000);
    for (int i = 2; i < N; i += 6) sl_flights_make_ready(&flights, index[i]);
    uint32_t n = flights.active.n, seen = 0;
    assert_int_equal(flights.n_heap, n);
    for (int64_t last = 0; flights.n_heap != 0; seen++) {
        uint32_t top = flights.heap[0];
        assert_true(flights.at[top].due_ns >= last);
        last = flights.at[top].due_ns;
        sl_flights_release(&flights, top);
    }
    assert_int_equal(seen, n);
    assert_int_equal(flights.active.n, 0);
    while (flights.ready.n != 0) sl_flights_release(&flights, flights.ready.first);
    assert_int_equal(flights.ready.first, SL_FLIGHT_NONE);
    sl_flights_fini(&flights);
}

static void client_refuses_bad_options_and_addresses(void **state) {
    (void)state;
    sluice_client *client = NULL;
    sluice_cause cause;
    const char *const bad[] = {"",         "app",           "http://x",    "ipc://",          "tcp://",
                               "tcp://h",  "tcp://h:0",     "tcp://h:x",   "tcp://h:70000",   "tcp://:5",
                               "tcp://*:5", "tcp://::1:555", "inproc://x",  "tcp://h:5 ",      "inproc://"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(sluice_client_open(bad[i], NULL, &client, &cause), SLUICE_INVALID);
        assert_true(cause.text[0] != '\0');
        assert_null(client);
    }
    assert_int_equal(sluice_client_open(NULL, NULL, &client, &cause), SLUICE_INVALID);
    char path[128] = "ipc:///";
    memset(path + 7, 'p', 100);
    assert_int_equal(sluice_client_open(path, NULL, &client, &cause), SLUICE_INVALID);
    assert_non_null(strstr(cause.text, "at most 100"));
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = 0;
    assert_int_equal(sluice_client_open("tcp://h:5", &options, &client, &cause), SLUICE_INVALID);
    sluice_client_options_init(&options);
    options.max_inflight = 0;
    assert_int_equal(sluice_client_open("tcp://h:5", &options, &client, &cause), SLUICE_INVALID);
    sluice_client_options_init(&options);
    options.store = "a-name-that-is-much-too-long-for-an-actor-to-be-registered-under-it";
    assert_int_equal(sluice_client_open("tcp://h:5", &options, &client, &cause), SLUICE_INVALID);
    sluice_client_close(&client);
    sluice_client_close(NULL);
}

#define WITH_CLIENT(test) cmocka_unit_test_setup_teardown(test, client_setup, client_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_CLIENT(request_holds_statements_with_all_types_of_values),
        WITH_CLIENT(request_gathers_rows_in_columns),
        WITH_CLIENT(request_refuses_what_cannot_be_sent),
        WITH_CLIENT(request_copies_deeply),
        WITH_CLIENT(message_objects_are_used_again),
        WITH_CLIENT(unreachable_server_ends_calls_at_their_deadline),
        cmocka_unit_test(ack_upto_stays_below_each_open_sequence),
        cmocka_unit_test(flights_never_use_a_correlation_twice),
        cmocka_unit_test(flights_come_due_in_order),
        cmocka_unit_test(client_refuses_bad_options_and_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
