/* SPDX-License-Identifier: MIT */
/* The client in process, against actors that answer by script: ownership of what moves, ends, pipelining, shutdown. */
#include "support/support.h"

#include "support/demo.pb-c.h"

#include "internal.h"
#include "port.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 20000 };

/* An actor that does what the SQL of the first statement says. */
typedef struct script {
    sluice_msg *held[64]; /* "hold": answered by "release" */
    unsigned n_held;
    atomic_uint n_received;
} script;

static Sluice__V1__Statement *statement_of(const sluice_msg *msg) {
    if (sluice_msg_is(msg, &sluice__v1__write_request__descriptor))
        return ((Sluice__V1__WriteRequest *)sluice_msg_body(msg))->statements[0];
    return ((Sluice__V1__QueryRequest *)sluice_msg_body(msg))->statements[0];
}

static bool says(const sluice_msg *msg, const char *text) {
    const ProtobufCBinaryData *sql = &statement_of(msg)->sql;
    return sql->len == strlen(text) && memcmp(sql->data, text, sql->len) == 0;
}

/* Answers OK, with the number of statements as changes. */
static void answer(sluice_actor *self, sluice_msg **msg) {
    sluice_msg *reply = NULL;
    bool write = sluice_msg_is(*msg, &sluice__v1__write_request__descriptor);
    size_t n = write ? ((Sluice__V1__WriteRequest *)sluice_msg_body(*msg))->n_statements : 1;
    if (sluice_msg_new(write ? &sluice__v1__write_reply__descriptor : &sluice__v1__query_reply__descriptor, &reply) !=
        SLUICE_OK)
        return;
    Sluice__V1__StatementResult *result = sluice_msg_alloc(reply, sizeof *result);
    Sluice__V1__StatementResult **results = sluice_msg_alloc(reply, sizeof *results);
    sluice__v1__statement_result__init(result);
    result->changes = n;
    results[0] = result;
    if (write) {
        Sluice__V1__WriteReply *body = sluice_msg_body(reply);
        body->n_results = 1, body->results = results;
    } else {
        Sluice__V1__QueryReply *body = sluice_msg_body(reply);
        body->n_results = 1, body->results = results;
    }
    sluice_reply(self, *msg, &reply);
}

static sluice_err script_receive(sluice_actor *self, sluice_msg **msg) {
    script *state = sluice_actor_state(self);
    atomic_fetch_add(&state->n_received, 1);
    if (sluice_msg_is(*msg, &demo__v1__hello__descriptor)) {
        sluice_msg *reply = NULL;
        sluice_err err = sluice_msg_new(&demo__v1__greeting__descriptor, &reply);
        if (err != SLUICE_OK) return err;
        Demo__V1__Greeting *greeting = sluice_msg_body(reply);
        greeting->number = ((Demo__V1__Hello *)sluice_msg_body(*msg))->number + 1;
        if (sluice_msg_is_ask(*msg)) sluice_reply(self, *msg, &reply);
        sluice_msg_destroy(&reply);
        return SLUICE_OK;
    }
    if (!sluice_msg_is(*msg, &sluice__v1__write_request__descriptor) &&
        !sluice_msg_is(*msg, &sluice__v1__query_request__descriptor))
        return SLUICE_OK;
    if (says(*msg, "hold") && state->n_held < 64) {
        state->held[state->n_held++] = *msg;
        *msg = NULL;
        return SLUICE_OK;
    }
    if (says(*msg, "release")) {
        while (state->n_held != 0) {
            answer(self, &state->held[--state->n_held]);
            sluice_msg_destroy(&state->held[state->n_held]);
        }
    }
    if (says(*msg, "fail")) {
        sluice_cause cause;
        sluice_cause_set(&cause, SLUICE_CONSTRAINT, "as told");
        cause.statement = 3;
        cause.sqlite_code = 2067;
        sluice_reply_error(self, *msg, &cause);
        return SLUICE_OK;
    }
    if (says(*msg, "odd")) {
        sluice_msg *reply = NULL;
        sluice_err err = sluice_msg_new(&sluice__v1__pong__descriptor, &reply);
        if (err == SLUICE_OK) sluice_reply(self, *msg, &reply);
        return err;
    }
    answer(self, msg);
    return SLUICE_OK;
}

static void script_stop(sluice_actor *self, sluice_err why) {
    (void)why;
    script *state = sluice_actor_state(self);
    while (state->n_held != 0) sluice_msg_destroy(&state->held[--state->n_held]);
}

static const sluice_behaviour script_behaviour = {.kind = "script", .receive = script_receive, .stop = script_stop};

typedef struct fixture {
    sluice_runtime *runtime;
    script writer, reader;
    sluice_client *client;
} fixture;

static int setup(void **state) {
    fixture *self = calloc(1, sizeof *self);
    sluice_cause cause;
    assert_ok(sluice_runtime_new(NULL, &self->runtime, &cause), cause);
    sluice_spec spec = {.behaviour = &script_behaviour, .arg = &self->writer, .name = "app/writer",
                        .placement = SLUICE_PLACE_PINNED};
    sluice_pid pid;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &cause), cause);
    spec.arg = &self->reader;
    spec.name = "app/readers";
    spec.pool = true;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &cause), cause);
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = self->runtime;
    options.timeout_ms = PATIENCE_MS;
    assert_ok(sluice_client_open("inproc://app", &options, &self->client, &cause), cause);
    *state = self;
    return 0;
}

static int teardown(void **state) {
    fixture *self = *state;
    sluice_client_close(&self->client);
    sluice_runtime_destroy(&self->runtime);
    free(self);
    return 0;
}

static sluice_request *request_new(sluice_client *client, sluice_request_kind kind, const char *sql) {
    sluice_request *request = NULL;
    assert_int_equal(sluice_request_new(client, kind, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, sql, NULL, 0), SLUICE_OK);
    return request;
}

static sluice_ticket submit(sluice_client *client, sluice_request_kind kind, const char *sql) {
    sluice_request *request = request_new(client, kind, sql);
    sluice_ticket ticket = 0;
    sluice_cause cause;
    assert_ok(sluice_submit(client, &request, NULL, &ticket, &cause), cause);
    return ticket;
}

static void inproc_needs_a_runtime_with_that_store(void **state) {
    fixture *self = *state;
    sluice_client *client = NULL;
    sluice_cause cause;
    sluice_client_options options;
    sluice_client_options_init(&options);
    assert_int_equal(sluice_client_open("inproc://app", &options, &client, &cause), SLUICE_INVALID);
    options.runtime = self->runtime;
    assert_int_equal(sluice_client_open("inproc://other", &options, &client, &cause), SLUICE_NO_ACTOR);
    assert_int_equal(sluice_client_ping(self->client, &cause), SLUICE_OK);
}

static void simple_calls_use_the_same_objects_again(void **state) {
    fixture *self = *state;
    sluice_cause cause;
    const sluice_value params[] = {sluice_integer(1), sluice_text("two"), sluice_blob("three", 5)};
    unsigned n = support_scaled(2000);
    for (unsigned i = 0; i < n; i++) {
        sluice_result *result = NULL;
        assert_ok(i % 2 != 0 ? sluice_exec(self->client, "write", params, 3, &result, &cause)
                             : sluice_query(self->client, "read", params, 3, &result, &cause),
                  cause);
        assert_int_equal(sluice_result_changes(result), 1);
        sluice_result_destroy(&result);
    }
    assert_ok(sluice_exec(self->client, "write", NULL, 0, NULL, NULL), cause);
    assert_int_equal(atomic_load(&self->writer.n_received), n / 2 + 1);
    assert_int_equal(atomic_load(&self->reader.n_received), n - n / 2);
    assert_int_equal(self->client->flights.n, 16); /* the first room was enough */
}

static void typed_errors_arrive_whole(void **state) {
    fixture *self = *state;
    sluice_cause cause;
    sluice_result *result = NULL;
    assert_int_equal(sluice_exec(self->client, "fail", NULL, 0, &result, &cause), SLUICE_CONSTRAINT);
    assert_null(result);
    assert_string_equal(cause.text, "as told");
    assert_int_equal(cause.statement, 3);
    assert_int_equal(cause.sqlite_code, 2067);
    assert_int_equal(sluice_query(self->client, "fail", NULL, 0, &result, NULL), SLUICE_CONSTRAINT);
    assert_int_equal(sluice_exec(self->client, "odd", NULL, 0, &result, &cause), SLUICE_UNKNOWN);
    assert_int_equal(sluice_query(self->client, "odd", NULL, 0, &result, &cause), SLUICE_IO);
}

static void request_that_is_called_stays_the_callers(void **state) {
    fixture *self = *state;
    sluice_cause cause;
    sluice_request *request = request_new(self->client, SLUICE_WRITE, "write");
    for (int i = 0; i < 3; i++) {
        sluice_result *result = NULL;
        assert_ok(sluice_call(self->client, request, &result, &cause), cause);
        assert_int_equal(sluice_result_changes(result), 1);
        sluice_result_destroy(&result);
    }
    assert_int_equal(atomic_load(&self->writer.n_received), 3);
    assert_int_equal(sluice_call_again(self->client, request, NULL, &cause), SLUICE_INVALID); /* no receipts here */
    sluice_request_destroy(&request);
}

static void silence_ends_at_the_deadline_and_the_late_answer_is_dropped(void **state) {
    fixture *self = *state;
    sluice_cause cause;
    sluice_client_set_timeout(self->client, 60);
    int64_t from = sl_now_ns();
    assert_int_equal(sluice_exec(self->client, "hold", NULL, 0, NULL, &cause), SLUICE_UNKNOWN);
    assert_int_equal(sluice_query(self->client, "hold", NULL, 0, NULL, &cause), SLUICE_TIMEOUT);
    int64_t took_ms = (sl_now_ns() - from) / 1000000;
    assert_true(took_ms >= 120 && took_ms < 3000);
    sluice_client_set_timeout(self->client, PATIENCE_MS);
    assert_ok(sluice_exec(self->client, "release", NULL, 0, NULL, &cause), cause);
    assert_ok(sluice_exec(self->client, "write", NULL, 0, NULL, &cause), cause);
    assert_int_equal(self->client->n_late, 1);
}

static void pipelined_requests_each_complete_once(void **state) {
    fixture *self = *state;
    unsigned n = support_scaled(5000), submitted = 0, done = 0;
    uint8_t *seen = calloc(n, 1);
    sluice_cause cause;
    while (done < n) {
        while (submitted < n && sluice_client_inflight(self->client) < 32) {
            sluice_request *request =
                request_new(self->client, submitted % 3 != 0 ? SLUICE_WRITE : SLUICE_READ, "work");
            assert_ok(sluice_submit(self->client, &request, &seen[submitted], NULL, &cause), cause);
            submitted++;
        }
        sluice_completion completion;
        assert_true(sluice_poll(self->client, PATIENCE_MS, &completion));
        assert_int_equal(completion.err, SLUICE_OK);
        assert_int_equal((*(uint8_t *)completion.context)++, 0);
        sluice_result_destroy(&completion.result);
        done++;
    }
    for (unsigned i = 0; i < n; i++) assert_int_equal(seen[i], 1);
    assert_int_equal(sluice_client_inflight(self->client), 0);
    free(seen);
}

static bool received(void *context) { return atomic_load(&((script *)context)->n_received) == 3; }

static void submitted_requests_leave_without_a_poll(void **state) {
    fixture *self = *state;
    sluice_ticket held = submit(self->client, SLUICE_WRITE, "hold");
    submit(self->client, SLUICE_WRITE, "write");
    submit(self->client, SLUICE_WRITE, "release");
    support_await(received, &self->writer, PATIENCE_MS);
    sluice_cause cause;
    assert_ok(sluice_wait(self->client, held, NULL, &cause), cause);
    assert_int_equal(sluice_client_inflight(self->client), 2);
}

static bool is_readable(int fd, int timeout_ms) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    return poll(&entry, 1, timeout_ms) == 1;
}

static void descriptor_is_level_triggered(void **state) {
    fixture *self = *state;
    int fd = sluice_client_fd(self->client);
    sluice_completion completion;
    unsigned n = support_scaled(300);
    for (unsigned round = 0; round < n; round++) {
        for (int i = 0; i < 3; i++) submit(self->client, SLUICE_WRITE, "write");
        for (int i = 0; i < 3;) {
            assert_true(is_readable(fd, PATIENCE_MS));
            if (!sluice_poll(self->client, 0, &completion)) continue;
            assert_int_equal(completion.err, SLUICE_OK);
            sluice_result_destroy(&completion.result);
            i++;
        }
        assert_false(sluice_poll(self->client, 0, &completion));
        assert_false(is_readable(fd, 0));
    }
    submit(self->client, SLUICE_WRITE, "hold");
    sluice_result *result = NULL;
    assert_int_equal(sluice_exec(self->client, "release", NULL, 0, &result, NULL), SLUICE_OK);
    sluice_result_destroy(&result);
    assert_true(is_readable(fd, PATIENCE_MS)); /* a call in between took the answer in; it still shows */
    assert_true(sluice_poll(self->client, 0, &completion));
    sluice_result_destroy(&completion.result);
}

static void own_actors_are_asked_and_told(void **state) {
    fixture *self = *state;
    sluice_msg *msg = NULL, *reply = NULL;
    sluice_cause cause;
    assert_int_equal(sluice_client_register_type(self->client, &demo__v1__greeting__descriptor), SLUICE_OK);
    assert_int_equal(sluice_msg_new(&demo__v1__hello__descriptor, &msg), SLUICE_OK);
    ((Demo__V1__Hello *)sluice_msg_body(msg))->number = 41;
    assert_ok(sluice_client_ask(self->client, "app/writer", &msg, &reply, &cause), cause);
    assert_null(msg);
    assert_true(sluice_msg_is(reply, &demo__v1__greeting__descriptor));
    assert_int_equal(((Demo__V1__Greeting *)sluice_msg_body(reply))->number, 42);
    sluice_msg_destroy(&reply);
    assert_int_equal(sluice_msg_new(&demo__v1__hello__descriptor, &msg), SLUICE_OK);
    assert_int_equal(sluice_client_ask(self->client, "nobody", &msg, &reply, &cause), SLUICE_NO_ACTOR);
    assert_non_null(msg);
    assert_int_equal(sluice_client_tell(self->client, "nobody", &msg, &cause), SLUICE_NO_ACTOR);
    assert_ok(sluice_client_tell(self->client, "app/writer", &msg, &cause), cause);
    assert_null(msg);
    assert_ok(sluice_exec(self->client, "write", NULL, 0, NULL, &cause), cause);
    assert_int_equal(atomic_load(&self->writer.n_received), 3);
}

static void *destroy_runtime(void *context) {
    sluice_runtime_destroy(context);
    return NULL;
}

static void runtime_that_goes_down_ends_what_is_in_flight(void **state) {
    fixture *self = *state;
    sluice_client_set_timeout(self->client, 60000);
    sluice_ticket write = submit(self->client, SLUICE_WRITE, "hold"), read = submit(self->client, SLUICE_READ, "hold");
    submit(self->client, SLUICE_WRITE, "hold");
    submit(self->client, SLUICE_WRITE, "hold"); /* 3 received: the writer has them */
    support_await(received, &self->writer, PATIENCE_MS);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, destroy_runtime, &self->runtime), 0);
    int64_t from = sl_now_ns();
    sluice_cause cause;
    sluice_err write_end = sluice_wait(self->client, write, NULL, &cause);
    sluice_err read_end = sluice_wait(self->client, read, NULL, &cause);
    sluice_err next = sluice_exec(self->client, "write", NULL, 0, NULL, &cause);
    int64_t took_ms = (sl_now_ns() - from) / 1000000;
    sluice_client_close(&self->client);
    pthread_join(thread, NULL);
    assert_int_equal(sluice_err_applied(write_end), SLUICE_APPLIED_UNKNOWN);
    assert_true(read_end == SLUICE_CLOSED || read_end == SLUICE_ACTOR_DOWN);
    assert_int_equal(next, SLUICE_CLOSED);
    assert_true(took_ms < PATIENCE_MS);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(inproc_needs_a_runtime_with_that_store),
        WITH_FIXTURE(simple_calls_use_the_same_objects_again),
        WITH_FIXTURE(typed_errors_arrive_whole),
        WITH_FIXTURE(request_that_is_called_stays_the_callers),
        WITH_FIXTURE(silence_ends_at_the_deadline_and_the_late_answer_is_dropped),
        WITH_FIXTURE(pipelined_requests_each_complete_once),
        WITH_FIXTURE(submitted_requests_leave_without_a_poll),
        WITH_FIXTURE(descriptor_is_level_triggered),
        WITH_FIXTURE(own_actors_are_asked_and_told),
        WITH_FIXTURE(runtime_that_goes_down_ends_what_is_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
