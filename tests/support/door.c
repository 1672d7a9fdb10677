/* SPDX-License-Identifier: MIT */
/* A gateway with a few actors behind it; see door.h. */
#include "support/door.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "support/demo.pb-c.h"

/* ---- the actors ---- */

#define HELD_MAX 4096

typedef struct keeper {
    door *door;
    sluice_msg *held[HELD_MAX];
    unsigned n_held;
} keeper;

static sluice_err keeper_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    keeper *state = calloc(1, sizeof *state);
    if (state == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    state->door = arg;
    sluice_actor_set_state(self, state);
    return SLUICE_OK;
}

static void keeper_stop(sluice_actor *self, sluice_err why) {
    (void)why;
    keeper *state = sluice_actor_state(self);
    for (unsigned i = 0; i < state->n_held; i++) sluice_msg_destroy(&state->held[i]);
    free(state);
}

static void hold(keeper *state, sluice_msg **msg) {
    if (state->n_held == HELD_MAX) return;
    state->held[state->n_held++] = *msg;
    *msg = NULL;
}

static sluice_err greet(sluice_actor *self, const sluice_msg *request) {
    const Demo__V1__Hello *hello = sluice_msg_body(request);
    sluice_msg *reply = NULL;
    sluice_err err = sluice_msg_new(&demo__v1__greeting__descriptor, &reply);
    if (err != SLUICE_OK) return err;
    Demo__V1__Greeting *greeting = sluice_msg_body(reply);
    greeting->text = sluice_msg_strdup(reply, hello->name);
    greeting->number = hello->number;
    sluice_reply(self, request, &reply);
    return SLUICE_OK;
}

static sluice_err echo_receive(sluice_actor *self, sluice_msg **msg) {
    keeper *state = sluice_actor_state(self);
    atomic_fetch_add(&state->door->received, 1);
    if (!sluice_msg_is(*msg, &demo__v1__hello__descriptor)) return SLUICE_OK;
    const Demo__V1__Hello *hello = sluice_msg_body(*msg);
    if (strcmp(hello->name, "die") == 0) return SLUICE_FAILED;
    if (strcmp(hello->name, "fail") == 0) {
        sluice_cause cause;
        sluice_cause_set(&cause, SLUICE_CONSTRAINT, "no greeting for %s", hello->name);
        sluice_reply_error(self, *msg, &cause);
        return SLUICE_OK;
    }
    return sluice_msg_is_ask(*msg) ? greet(self, *msg) : SLUICE_OK;
}

static sluice_err holder_receive(sluice_actor *self, sluice_msg **msg) {
    keeper *state = sluice_actor_state(self);
    atomic_fetch_add(&state->door->received, 1);
    if (sluice_msg_is_ask(*msg)) {
        hold(state, msg);
        return SLUICE_OK;
    }
    sluice_err err = SLUICE_OK;
    for (unsigned i = 0; i < state->n_held; i++) {
        if (err == SLUICE_OK) err = greet(self, state->held[i]);
        sluice_msg_destroy(&state->held[i]);
    }
    state->n_held = 0;
    return err;
}

static bool wants_hold(Sluice__V1__Statement *const *statements, size_t n) {
    return n > 0 && statements[0]->what_case == SLUICE__V1__STATEMENT__WHAT_SQL && statements[0]->sql.len == 4 && memcmp(statements[0]->sql.data, "hold", 4) == 0;
}

static sluice_err store_receive(sluice_actor *self, sluice_msg **msg) {
    keeper *state = sluice_actor_state(self);
    atomic_fetch_add(&state->door->received, 1);
    const ProtobufCMessageDescriptor *answer = &sluice__v1__goodbye_reply__descriptor;
    bool keep = false;
    if (sluice_msg_is(*msg, &sluice__v1__write_request__descriptor)) {
        const Sluice__V1__WriteRequest *request = sluice_msg_body(*msg);
        keep = wants_hold(request->statements, request->n_statements);
        answer = &sluice__v1__write_reply__descriptor;
    } else if (sluice_msg_is(*msg, &sluice__v1__query_request__descriptor)) {
        const Sluice__V1__QueryRequest *request = sluice_msg_body(*msg);
        keep = wants_hold(request->statements, request->n_statements);
        answer = &sluice__v1__query_reply__descriptor;
    }
    if (keep) {
        hold(state, msg);
        return SLUICE_OK;
    }
    sluice_msg *reply = NULL;
    sluice_err err = sluice_msg_new(answer, &reply);
    if (err == SLUICE_OK) sluice_reply(self, *msg, &reply);
    return err;
}

static const sluice_behaviour echo = {
    .kind = "echo", .init = keeper_init, .receive = echo_receive, .stop = keeper_stop};
static const sluice_behaviour holder = {
    .kind = "holder", .init = keeper_init, .receive = holder_receive, .stop = keeper_stop};
static const sluice_behaviour store = {
    .kind = "store", .init = keeper_init, .receive = store_receive, .stop = keeper_stop};

/* ---- the door ---- */

sluice_gateway_options door_options(void) {
    sluice_gateway_options options;
    sluice_gateway_options_init(&options);
    options.allow_plain = true;
    options.max_message_bytes = DOOR_LIMIT;
    options.handshake_ms = 300;
    return options;
}

static sluice_pid start(door *self, const sluice_behaviour *behaviour, const char *name, uint32_t mailbox) {
    sluice_pid pid = 0;
    sluice_spec spec = {.behaviour = behaviour, .arg = self, .name = name, .mailbox_messages = mailbox};
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    return pid;
}

door *door_open(const sluice_gateway_options *options) {
    door *self = calloc(1, sizeof *self);
    assert_non_null(self);
    self->zmq = zmq_ctx_new();
    zmq_ctx_set(self->zmq, ZMQ_MAX_SOCKETS, 4096);
    self->directory = support_directory_new();
    assert_ok(sluice_runtime_new(NULL, &self->runtime, &self->cause), self->cause);
    assert_int_equal(sluice_runtime_register_type(self->runtime, &demo__v1__hello__descriptor), SLUICE_OK);
    assert_int_equal(sluice_runtime_register_type(self->runtime, &demo__v1__greeting__descriptor), SLUICE_OK);
    self->echo = start(self, &echo, "echo", 0);
    self->holder = start(self, &holder, "holder", 0);
    start(self, &store, "app/writer", 0);
    start(self, &store, "app/readers", 0);
    sluice_gateway_options defaults = door_options();
    assert_ok(sluice_gateway_open(self->runtime, options != NULL ? options : &defaults, &self->gateway, &self->cause),
              self->cause);
    char url[400];
    snprintf(url, sizeof url, "ipc://%s/s", self->directory);
    assert_ok(sluice_gateway_listen(self->gateway, "tcp://127.0.0.1:*", &self->cause), self->cause);
    assert_ok(sluice_gateway_listen(self->gateway, url, &self->cause), self->cause);
    self->tcp = sluice_gateway_endpoint(self->gateway, 0);
    self->ipc = sluice_gateway_endpoint(self->gateway, 1);
    assert_non_null(self->ipc);
    return self;
}

void door_close(door **self) {
    door *old = *self;
    *self = NULL;
    if (old == NULL) return;
    sluice_gateway_close(&old->gateway);
    sluice_runtime_destroy(&old->runtime);
    stranger_close_all();
    zmq_ctx_term(old->zmq);
    support_directory_remove(&old->directory);
    free(old);
}

int door_set_up(void **state) {
    *state = door_open(NULL);
    return 0;
}

int door_tear_down(void **state) {
    door *self = *state;
    door_close(&self);
    return 0;
}

sluice_gateway_stats door_stats(const door *self) {
    sluice_gateway_stats stats;
    sluice_gateway_stats_read(self->gateway, &stats);
    return stats;
}

void door_pause_1ms(void) {
    struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
}

void door_await_received(door *self, unsigned n) { door_await(atomic_load(&self->received) >= n); }

void door_greet(void *dealer, uint64_t correlation) {
    Demo__V1__Hello hello = DEMO__V1__HELLO__INIT;
    hello.name = (char *)(uintptr_t) "Ada";
    hello.number = correlation;
    Sluice__V1__Envelope envelope = stranger_envelope("demo.v1.Hello", "echo", correlation);
    stranger_ask(dealer, &envelope, &hello.base);
    stranger_answer answer = stranger_receive(dealer);
    assert_string_equal(answer.envelope->type, "demo.v1.Greeting");
    assert_int_equal(answer.envelope->correlation, correlation);
    assert_int_equal(answer.envelope->kind, SLUICE__V1__KIND__KIND_REPLY);
    Demo__V1__Greeting *greeting = demo__v1__greeting__unpack(NULL, answer.body_size, answer.body);
    assert_non_null(greeting);
    assert_string_equal(greeting->text, "Ada");
    assert_int_equal(greeting->number, correlation);
    demo__v1__greeting__free_unpacked(greeting, NULL);
    stranger_answer_free(&answer);
}

static Sluice__V1__Statement statement_of(const char *sql) {
    Sluice__V1__Statement statement = SLUICE__V1__STATEMENT__INIT;
    statement.what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement.sql.data = (uint8_t *)(uintptr_t)sql;
    statement.sql.len = strlen(sql);
    return statement;
}

void door_ask_write(void *dealer, const char *to, const char *sql, uint64_t correlation) {
    Sluice__V1__Statement statement = statement_of(sql), *list = &statement;
    Sluice__V1__WriteRequest request = SLUICE__V1__WRITE_REQUEST__INIT;
    request.n_statements = 1;
    request.statements = &list;
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.WriteRequest", to, correlation);
    stranger_ask(dealer, &envelope, &request.base);
}

void door_ask_query(void *dealer, const char *to, const char *sql, uint64_t correlation) {
    Sluice__V1__Statement statement = statement_of(sql), *list = &statement;
    Sluice__V1__QueryRequest request = SLUICE__V1__QUERY_REQUEST__INIT;
    request.n_statements = 1;
    request.statements = &list;
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.QueryRequest", to, correlation);
    stranger_ask(dealer, &envelope, &request.base);
}
