/* SPDX-License-Identifier: MIT */
/* The gateway in its good hours: what is asked reaches its actor, the answer its asker, and closing answers everybody.
 * The bad hours are in test_bad_inputs.c. */
#include "support/door.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "gateway_internal.h"
#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "support/demo.pb-c.h"

static void ask_hello(void *dealer, const char *to, const char *name, uint64_t correlation, int64_t deadline_ms,
                      Sluice__V1__Kind kind) {
    Demo__V1__Hello hello = DEMO__V1__HELLO__INIT;
    hello.name = (char *)(uintptr_t)name;
    hello.number = correlation;
    Sluice__V1__Envelope envelope = stranger_envelope("demo.v1.Hello", to, correlation);
    envelope.deadline_ms = deadline_ms;
    envelope.kind = kind;
    stranger_ask(dealer, &envelope, &hello.base);
}

#define ASK SLUICE__V1__KIND__KIND_ASK
#define TELL SLUICE__V1__KIND__KIND_TELL

static void expect_type(void *dealer, uint64_t correlation, const char *type) {
    stranger_answer answer = stranger_receive(dealer);
    if (answer.error != NULL) fail_msg("error: %s", answer.error->text);
    assert_string_equal(answer.envelope->type, type);
    assert_int_equal(answer.envelope->correlation, correlation);
    stranger_answer_free(&answer);
}

static void ask_reaches_an_actor_and_the_answer_its_asker(void **state) {
    door *self = *state;
    void *tcp = stranger_dealer(self->zmq, self->tcp), *ipc = stranger_dealer(self->zmq, self->ipc);
    for (uint64_t i = 1; i <= 20; i++) {
        door_greet(tcp, i);
        door_greet(ipc, UINT64_MAX - i);
    }
    door_await(door_stats(self).replies == 40); /* counted when it has left, so perhaps after it arrived */
    sluice_gateway_stats stats = door_stats(self);
    assert_int_equal(stats.requests, 40);
    assert_int_equal(stats.connections, 2);
    assert_int_equal(stats.rejected, 0);
    stranger_close(tcp);
    stranger_close(ipc);
    door_await(door_stats(self).connections_open == 0);
    stats = door_stats(self);
    assert_int_equal(stats.dropped_handshake + stats.dropped_oversize + stats.dropped_silent, 0);
}

static void many_asks_in_flight_come_back_each_with_its_own_number(void **state) {
    door *self = *state;
    enum { N = 2000 };
    static bool seen[N];
    memset(seen, 0, sizeof seen);
    void *dealer = stranger_dealer(self->zmq, self->ipc);
    int none = 0;
    zmq_setsockopt(dealer, ZMQ_SNDHWM, &none, sizeof none);
    unsigned sent = 0, received = 0;
    while (received < N) {
        while (sent < N && sent - received < 200) ask_hello(dealer, "echo", "Ada", sent++, 5000, ASK);
        stranger_answer answer = stranger_receive(dealer);
        assert_null(answer.error);
        assert_true(answer.envelope->correlation < N && !seen[answer.envelope->correlation]);
        seen[answer.envelope->correlation] = true;
        received++;
        stranger_answer_free(&answer);
    }
    stranger_close(dealer);
}

static void tell_is_delivered_and_not_answered(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp);
    ask_hello(dealer, "echo", "Ada", 1, 5000, TELL);
    door_await_received(self, 1);
    door_greet(dealer, 2); /* its answer is the first thing to come */
    stranger_close(dealer);
}

static void ping_tells_versions_and_limit(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp);
    Sluice__V1__Ping ping = SLUICE__V1__PING__INIT;
    uint8_t payload[65] = "hello";
    ping.payload.data = payload;
    ping.payload.len = 64;
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.Ping", "gateway", 5);
    stranger_ask(dealer, &envelope, &ping.base);
    stranger_answer answer = stranger_receive(dealer);
    Sluice__V1__Pong *pong = sluice__v1__pong__unpack(NULL, answer.body_size, answer.body);
    assert_non_null(pong);
    assert_int_equal(pong->version_min, 1);
    assert_int_equal(pong->version_max, 1);
    assert_int_equal(pong->max_message_bytes, DOOR_LIMIT);
    assert_int_equal(pong->payload.len, 64);
    assert_memory_equal(pong->payload.data, payload, 64);
    sluice__v1__pong__free_unpacked(pong, NULL);
    stranger_answer_free(&answer);
    ping.payload.len = 65;
    stranger_ask(dealer, &envelope, &ping.base);
    stranger_expect_error(dealer, 5, SLUICE_TOO_BIG, NULL);
    stranger_close(dealer);
}

static void status_names_every_counter(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp);
    door_greet(dealer, 1);
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.StatusRequest", "", 2);
    stranger_ask(dealer, &envelope, NULL);
    stranger_answer answer = stranger_receive(dealer);
    assert_string_equal(answer.envelope->type, "sluice.v1.StatusReply");
    Sluice__V1__StatusReply *status = sluice__v1__status_reply__unpack(NULL, answer.body_size, answer.body);
    assert_non_null(status);
    assert_int_equal(status->n_gateway, sizeof(sluice_gateway_stats) / sizeof(uint64_t));
    assert_int_equal(status->n_store, 0);
    bool found = false;
    for (size_t i = 0; i < status->n_gateway; i++)
        if (strcmp(status->gateway[i]->name, "requests") == 0) found = status->gateway[i]->value == 1;
    assert_true(found);
    sluice__v1__status_reply__free_unpacked(status, NULL);
    stranger_answer_free(&answer);
    stranger_close(dealer);
}

static void store_requests_go_to_the_stores_actors_and_nowhere_else(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->ipc);
    door_ask_write(dealer, "app/writer", "INSERT", 1);
    expect_type(dealer, 1, "sluice.v1.WriteReply");
    door_ask_query(dealer, "app/readers", "SELECT", 2);
    expect_type(dealer, 2, "sluice.v1.QueryReply");
    door_ask_write(dealer, "app/readers", "INSERT", 3);
    stranger_expect_error(dealer, 3, SLUICE_FORBIDDEN, NULL);
    door_ask_query(dealer, "app/writer", "SELECT", 4);
    stranger_expect_error(dealer, 4, SLUICE_FORBIDDEN, NULL);
    door_ask_write(dealer, "echo", "INSERT", 5);
    stranger_expect_error(dealer, 5, SLUICE_FORBIDDEN, NULL);
    ask_hello(dealer, "app/writer", "Ada", 6, 5000, ASK);
    stranger_expect_error(dealer, 6, SLUICE_FORBIDDEN, NULL);
    ask_hello(dealer, "app/checkpointer", "Ada", 7, 5000, ASK);
    stranger_expect_error(dealer, 7, SLUICE_FORBIDDEN, NULL);
    ask_hello(dealer, "gateway", "Ada", 8, 5000, ASK);
    stranger_expect_error(dealer, 8, SLUICE_FORBIDDEN, NULL);
    door_await(door_stats(self).rejected == 6);
    assert_int_equal(door_stats(self).requests, 2);
    stranger_close(dealer);
}

static void what_the_stores_actors_say_to_each_other_is_not_for_clients(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->ipc);
    static const char *const types[] = {"sluice.v1.CheckpointRequest", "sluice.v1.GateClose", "sluice.v1.GateOpen",
                                        "sluice.v1.WriteReply", "sluice.v1.CheckpointReply"};
    static const char *const names[] = {"app/writer", "app/readers", "app/checkpointer", "echo"};
    uint64_t correlation = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            Sluice__V1__Envelope envelope = stranger_envelope(types[i], names[k], ++correlation);
            stranger_ask(dealer, &envelope, NULL);
            stranger_expect_error(dealer, correlation, SLUICE_FORBIDDEN, NULL);
        }
    }
    assert_int_equal(atomic_load(&self->received), 0);
    stranger_close(dealer);
}

static void errors_of_actors_come_back_typed(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp);
    char text[256];
    ask_hello(dealer, "echo", "fail", 1, 5000, ASK);
    stranger_expect_error(dealer, 1, SLUICE_CONSTRAINT, text);
    assert_string_equal(text, "no greeting for fail");
    ask_hello(dealer, "nobody", "Ada", 2, 5000, ASK);
    stranger_expect_error(dealer, 2, SLUICE_NO_ACTOR, text);
    assert_non_null(strstr(text, "nobody"));
    ask_hello(dealer, "echo", "die", 3, 5000, ASK);
    stranger_expect_error(dealer, 3, SLUICE_ACTOR_DOWN, NULL);
    door_await(sluice_whereis(self->runtime, "echo") == 0);
    ask_hello(dealer, "echo", "Ada", 4, 5000, ASK);
    stranger_expect_error(dealer, 4, SLUICE_NO_ACTOR, NULL);
    stranger_close(dealer);
}

static void too_many_in_flight_are_refused_and_others_served(void **unused) {
    (void)unused;
    sluice_gateway_options options = door_options();
    options.max_inflight = 10;
    options.max_inflight_total = 15;
    door *self = door_open(&options);
    void *greedy = stranger_dealer(self->zmq, self->tcp), *modest = stranger_dealer(self->zmq, self->tcp);
    for (uint64_t i = 0; i < 10; i++) ask_hello(greedy, "holder", "Ada", i, 5000, ASK);
    door_await_received(self, 10);
    ask_hello(greedy, "holder", "Ada", 10, 5000, ASK);
    stranger_answer answer = stranger_receive(greedy);
    assert_non_null(answer.error);
    assert_int_equal(answer.error->code, SLUICE_OVERLOADED);
    assert_int_equal(answer.envelope->correlation, 10);
    assert_true(answer.error->retry_after_ms > 0);
    stranger_answer_free(&answer);
    door_greet(modest, 1);
    for (uint64_t i = 0; i < 5; i++) ask_hello(modest, "holder", "Ada", i, 5000, ASK);
    ask_hello(modest, "holder", "Ada", 5, 5000, ASK);
    stranger_expect_error(modest, 5, SLUICE_OVERLOADED, NULL);
    ask_hello(modest, "holder", "release", 0, 5000, TELL);
    for (int i = 0; i < 10; i++) stranger_answer_free((answer = stranger_receive(greedy), &answer));
    for (int i = 0; i < 5; i++) stranger_answer_free((answer = stranger_receive(modest), &answer));
    door_greet(greedy, 99);
    stranger_close(greedy);
    stranger_close(modest);
    door_close(&self);
}

static sem_t work_allowed;

/* Works on one message at a time, and only when the test lets it: it may block, for it is pinned. */
static sluice_err slow_receive(sluice_actor *self, sluice_msg **msg) {
    while (sem_wait(&work_allowed) != 0) {}
    sluice_msg *reply = NULL;
    sluice_err err = sluice_msg_new(&demo__v1__greeting__descriptor, &reply);
    if (err == SLUICE_OK) sluice_reply(self, *msg, &reply);
    return err;
}

static void a_full_receiver_is_overloaded_with_a_time_to_come_back(void **state) {
    door *self = *state;
    static const sluice_behaviour slow = {.kind = "slow", .receive = slow_receive};
    sluice_spec spec = {.behaviour = &slow, .name = "slow", .placement = SLUICE_PLACE_PINNED, .mailbox_messages = 3};
    sluice_pid pid = 0;
    assert_int_equal(sem_init(&work_allowed, 0, 0), 0);
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    void *dealer = stranger_dealer(self->zmq, self->ipc);
    enum { N = 20 };
    for (unsigned i = 0; i < N; i++) ask_hello(dealer, "slow", "Ada", i, 60000, ASK);
    unsigned overloaded = 0, served = 0;
    /* At most three wait and one is being worked on. */
    for (; overloaded < N - 4; overloaded++) {
        stranger_answer answer = stranger_receive(dealer);
        assert_non_null(answer.error);
        assert_int_equal(answer.error->code, SLUICE_OVERLOADED);
        assert_true(answer.error->retry_after_ms > 0);
        stranger_answer_free(&answer);
    }
    for (unsigned i = 0; i < N; i++) sem_post(&work_allowed);
    for (unsigned i = overloaded; i < N; i++) {
        stranger_answer answer = stranger_receive(dealer);
        if (answer.error == NULL) served++;
        stranger_answer_free(&answer);
    }
    assert_true(served >= 3);
    stranger_close(dealer);
    sluice_stop(self->runtime, pid);
    sem_destroy(&work_allowed);
}

static void requests_past_their_deadline_are_forgotten(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp);
    for (uint64_t i = 0; i < 20; i++) ask_hello(dealer, "holder", "Ada", i, 50, ASK);
    door_await(door_stats(self).expired + door_stats(self).rejected == 20);
    uint64_t expired = door_stats(self).expired;
    assert_true(expired > 0);
    /* Later requests take their places in the table; the late answers to the old ones must not become theirs. */
    for (uint64_t i = 100; i < 120; i++) ask_hello(dealer, "holder", "Ada", i, 5000, ASK);
    ask_hello(dealer, "holder", "release", 0, 5000, TELL);
    for (uint64_t i = 100; i < 120; i++) {
        stranger_answer answer = stranger_receive(dealer);
        assert_null(answer.error);
        Demo__V1__Greeting *greeting = demo__v1__greeting__unpack(NULL, answer.body_size, answer.body);
        assert_non_null(greeting);
        assert_int_equal(greeting->number, answer.envelope->correlation);
        assert_true(greeting->number >= 100);
        demo__v1__greeting__free_unpacked(greeting, NULL);
        stranger_answer_free(&answer);
    }
    door_await(door_stats(self).dropped_late == expired);
    stranger_close(dealer);
}

static void an_answer_whose_asker_left_is_counted(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp), *other = stranger_dealer(self->zmq, self->tcp);
    ask_hello(dealer, "holder", "Ada", 1, 5000, ASK);
    door_await_received(self, 1);
    stranger_close(dealer);
    door_await(door_stats(self).connections_open <= 1 && door_stats(self).connections >= 1);
    door_greet(other, 1);
    ask_hello(other, "holder", "release", 0, 5000, TELL);
    door_await(door_stats(self).dropped_unroutable == 1);
    stranger_close(other);
}

static void listening_is_refused_where_it_is_not_safe(void **state) {
    door *self = *state;
    sluice_gateway_options options = door_options();
    sluice_gateway *gateway = NULL;
    sluice_cause cause;
    options.name = "second";
    options.allow_plain = false;
    assert_ok(sluice_gateway_open(self->runtime, &options, &gateway, &cause), cause);
    assert_int_equal(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &cause), SLUICE_FORBIDDEN);
    assert_non_null(strstr(cause.text, "keys"));
    assert_null(sluice_gateway_endpoint(gateway, 0));
    sluice_gateway_close(&gateway);

    static const struct {
        const char *url;
        sluice_err err;
    } cases[] = {{"tcp://0.0.0.0:*", SLUICE_FORBIDDEN},     {"tcp://*:5555", SLUICE_FORBIDDEN},
                 {"tcp://10.0.0.1:5555", SLUICE_FORBIDDEN}, {"tcp://127.0.0.1.evil.org:1", SLUICE_FORBIDDEN},
                 {"tcp://[::]:5555", SLUICE_FORBIDDEN},     {"tcp://eth0:5555", SLUICE_FORBIDDEN},
                 {"tcp://127.0.0.1:70000", SLUICE_INVALID}, {"tcp://127.0.0.1:http", SLUICE_INVALID},
                 {"tcp://127.0.0.1", SLUICE_INVALID},       {"tcp://", SLUICE_INVALID},
                 {"http://127.0.0.1:1", SLUICE_INVALID},    {"", SLUICE_INVALID},
                 {"ipc://", SLUICE_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cause.text[0] = '\0';
        if (sluice_gateway_listen(self->gateway, cases[i].url, &cause) != cases[i].err)
            fail_msg("%s: %s %s", cases[i].url, sluice_err_name(cause.code), cause.text);
        assert_true(strlen(cause.text) > 0);
    }
    assert_int_equal(sluice_gateway_listen(self->gateway, self->tcp, &cause), SLUICE_EXISTS);
    assert_int_equal(sluice_gateway_listen(self->gateway, self->ipc, &cause), SLUICE_EXISTS);
    assert_ok(sluice_gateway_listen(self->gateway, "tcp://localhost:0", &cause), cause);
    assert_ok(sluice_gateway_listen(self->gateway, "tcp://127.9.9.9:*", &cause), cause);
    assert_null(sluice_gateway_endpoint(self->gateway, 4));
    void *dealer = stranger_dealer(self->zmq, sluice_gateway_endpoint(self->gateway, 3));
    door_greet(dealer, 1);
    stranger_close(dealer);
}

static void wrong_options_and_taken_names_are_refused(void **state) {
    door *self = *state;
    sluice_gateway *gateway = NULL;
    sluice_cause cause;
    sluice_gateway_options options = door_options();
    assert_int_equal(sluice_gateway_open(self->runtime, &options, &gateway, &cause), SLUICE_EXISTS);
    assert_null(gateway);
    options.name = "";
    assert_int_equal(sluice_gateway_open(self->runtime, &options, &gateway, &cause), SLUICE_INVALID);
    options = door_options();
    options.max_message_bytes = 10;
    assert_int_equal(sluice_gateway_open(self->runtime, &options, &gateway, &cause), SLUICE_INVALID);
    options = door_options();
    options.handshake_ms = 0;
    assert_int_equal(sluice_gateway_open(self->runtime, &options, &gateway, &cause), SLUICE_INVALID);
    options = door_options();
    options.max_inflight_total = 0;
    assert_int_equal(sluice_gateway_open(self->runtime, &options, &gateway, &cause), SLUICE_INVALID);
    sluice_gateway_close(&gateway);
    sluice_gateway_close(NULL);
}

static void closing_waits_a_little_and_answers_the_rest(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp);
    door_ask_write(dealer, "app/writer", "hold", 1);
    door_ask_query(dealer, "app/readers", "hold", 2);
    door_await_received(self, 2);
    sluice_gateway_close(&self->gateway);
    /* Neither actor answered: the write may have happened, the read had no effect. */
    bool write_answered = false, read_answered = false;
    for (int i = 0; i < 2; i++) {
        stranger_answer answer = stranger_receive(dealer);
        assert_non_null(answer.error);
        if (answer.envelope->correlation == 1) {
            assert_int_equal(answer.error->code, SLUICE_UNKNOWN);
            write_answered = true;
        } else {
            assert_int_equal(answer.error->code, SLUICE_CLOSED);
            read_answered = true;
        }
        stranger_answer_free(&answer);
    }
    assert_true(write_answered && read_answered);
    char path[400];
    snprintf(path, sizeof path, "%s/s", self->directory);
    assert_int_equal(access(path, F_OK), -1);
    stranger_close(dealer);
}

typedef struct last_ask {
    char url[64]; /* a copy: the gateway's own ends with it */
    sluice_err err;
    sluice_cause cause;
} last_ask;

/* Runs beside the test; asserts nothing. */
static void *ask_for_the_last_time(void *context) {
    last_ask *ask = context;
    sluice_client *client = NULL;
    sluice_msg *hello = NULL, *greeting = NULL;
    ask->err = sluice_client_open(ask->url, NULL, &client, &ask->cause);
    if (ask->err == SLUICE_OK) ask->err = sluice_client_register_type(client, &demo__v1__greeting__descriptor);
    if (ask->err == SLUICE_OK) ask->err = sluice_msg_new(&demo__v1__hello__descriptor, &hello);
    if (ask->err == SLUICE_OK) {
        ((Demo__V1__Hello *)sluice_msg_body(hello))->name = sluice_msg_strdup(hello, "Ada");
        ask->err = sluice_client_ask(client, "echo", &hello, &greeting, &ask->cause);
    }
    sluice_msg_destroy(&hello);
    sluice_msg_destroy(&greeting);
    sluice_client_close(&client);
    return NULL;
}

static void an_answer_sent_just_before_the_close_is_read(void **state) {
    door *self = *state;
    sluice_gateway_options options = door_options();
    options.name = "brief";
    for (unsigned i = 0; i < support_scaled(40); i++) {
        sluice_gateway *gateway = NULL;
        assert_ok(sluice_gateway_open(self->runtime, &options, &gateway, &self->cause), self->cause);
        assert_ok(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &self->cause), self->cause);
        last_ask ask = {.err = SLUICE_OK};
        snprintf(ask.url, sizeof ask.url, "%s", sluice_gateway_endpoint(gateway, 0));
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, ask_for_the_last_time, &ask), 0);
        for (sluice_gateway_stats stats = {0}; stats.replies == 0;) sluice_gateway_stats_read(gateway, &stats);
        sluice_gateway_close(&gateway);
        pthread_join(thread, NULL);
        assert_ok(ask.err, ask.cause);
    }
}

static void a_gateway_may_share_an_actors_dispatcher(void **state) {
    door *self = *state;
    sluice_gateway_options options = door_options();
    options.name = "near";
    sluice_gateway *gateway = NULL;
    assert_ok(sl_gateway_open_at(self->runtime, &options, SLUICE_PLACE_NEAR, self->echo, &gateway, &self->cause),
              self->cause);
    assert_ok(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &self->cause), self->cause);
    void *dealer = stranger_dealer(self->zmq, sluice_gateway_endpoint(gateway, 0));
    for (uint64_t i = 0; i < 10; i++) door_greet(dealer, i);
    stranger_close(dealer);
    sluice_gateway_close(&gateway);
}

static void a_runtime_that_ends_first_leaves_a_handle_to_close(void **state) {
    door *self = *state;
    void *dealer = stranger_dealer(self->zmq, self->tcp);
    ask_hello(dealer, "holder", "Ada", 1, 5000, ASK);
    door_await_received(self, 1);
    sluice_runtime_destroy(&self->runtime);
    stranger_answer answer = stranger_receive(dealer);
    assert_non_null(answer.error);
    stranger_answer_free(&answer);
    sluice_cause cause;
    assert_int_equal(sluice_gateway_listen(self->gateway, "tcp://127.0.0.1:*", &cause), SLUICE_CLOSED);
    stranger_close(dealer);
}

static void open_and_close_under_load_many_times(void **state) {
    door *self = *state;
    sluice_gateway_options options = door_options();
    options.name = "brief";
    void *others = stranger_dealer(self->zmq, self->tcp);
    for (unsigned i = 0; i < support_scaled(50); i++) {
        sluice_gateway *gateway = NULL;
        assert_ok(sluice_gateway_open(self->runtime, &options, &gateway, &self->cause), self->cause);
        assert_ok(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &self->cause), self->cause);
        void *dealer = stranger_dealer(self->zmq, sluice_gateway_endpoint(gateway, 0));
        door_greet(dealer, i);
        for (uint64_t k = 0; k < 50; k++) ask_hello(dealer, "echo", "Ada", k, 5000, ASK);
        sluice_gateway_close(&gateway);
        stranger_close(dealer);
        door_greet(others, i);
    }
    stranger_close(others);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, door_set_up, door_tear_down)
        TEST(ask_reaches_an_actor_and_the_answer_its_asker),
        TEST(many_asks_in_flight_come_back_each_with_its_own_number),
        TEST(tell_is_delivered_and_not_answered),
        TEST(ping_tells_versions_and_limit),
        TEST(status_names_every_counter),
        TEST(store_requests_go_to_the_stores_actors_and_nowhere_else),
        TEST(what_the_stores_actors_say_to_each_other_is_not_for_clients),
        TEST(errors_of_actors_come_back_typed),
        cmocka_unit_test(too_many_in_flight_are_refused_and_others_served),
        TEST(a_full_receiver_is_overloaded_with_a_time_to_come_back),
        TEST(requests_past_their_deadline_are_forgotten),
        TEST(an_answer_whose_asker_left_is_counted),
        TEST(listening_is_refused_where_it_is_not_safe),
        TEST(wrong_options_and_taken_names_are_refused),
        TEST(closing_waits_a_little_and_answers_the_rest),
        TEST(an_answer_sent_just_before_the_close_is_read),
        TEST(a_gateway_may_share_an_actors_dispatcher),
        TEST(a_runtime_that_ends_first_leaves_a_handle_to_close),
        TEST(open_and_close_under_load_many_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
