/* SPDX-License-Identifier: MIT */
/* The remote client against a scripted server: deadlines, resends, receipts, errors, garbage.
 *
 * Client and server are driven on one thread wherever the call need not block, so each test is in full control of the
 * order of things.
 */
#include "support/remote.h"

#include "internal.h"
#include "port.h"

#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- deadlines ---- */

static void silent_server_ends_a_write_unknown_and_a_read_by_timeout(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    remote_submit(client, SLUICE_WRITE); /* brings the connection up */
    fake_request first = remote_serve(server, client);
    sluice_client_set_timeout(client, 400);
    int64_t from = sl_now_ns();
    sluice_ticket write = remote_submit(client, SLUICE_WRITE), read = remote_submit(client, SLUICE_READ);
    fake_request late = remote_serve(server, client);
    sluice_completion completion = remote_completion_of(client, SLUICE_UNKNOWN);
    assert_int_equal(completion.ticket, write);
    completion = remote_completion_of(client, SLUICE_TIMEOUT);
    assert_int_equal(completion.ticket, read);
    int64_t took_ms = (sl_now_ns() - from) / 1000000;
    assert_true(took_ms >= 400 && took_ms < 5000);

    /* The late answer is nobody's; the first request still gets its own. */
    fake_server_write_reply(server, &late, 1, false);
    fake_server_write_reply(server, &first, 2, false);
    completion = remote_completion_of(client, SLUICE_OK);
    assert_int_equal(sluice_result_changes(completion.result), 2);
    sluice_result_destroy(&completion.result);
    assert_int_equal(client->n_late, 1);
    assert_int_equal(sluice_client_inflight(client), 0);
    fake_request_fini(&late);
    fake_request_fini(&first);
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void requests_end_in_the_order_of_their_deadlines(void **state) {
    (void)state;
    enum { N = 40 };
    sluice_client *client = remote_client_open("ipc://nobody-listens-here", 5, NULL);
    sluice_ticket tickets[N];
    int64_t deadlines_ns[N], last_ns = 0;
    for (uint32_t i = 0; i < N; i++) {
        sluice_client_set_timeout(client, 30 + (i * 7 % N) * 2);
        tickets[i] = remote_submit(client, i % 2 != 0 ? SLUICE_READ : SLUICE_WRITE);
        deadlines_ns[i] = client->flights.at[sl_flights_find(&client->flights, tickets[i])].deadline_ns;
    }
    for (uint32_t done = 0; done < N; done++) {
        sluice_completion completion = remote_completion_of(client, SLUICE_UNREACHABLE);
        uint32_t i = 0;
        while (i < N && tickets[i] != completion.ticket) i++;
        assert_true(i < N);
        assert_true(deadlines_ns[i] >= last_ns && deadlines_ns[i] <= sl_now_ns());
        last_ns = deadlines_ns[i];
    }
    sluice_client_close(&client);
}

/* ---- sending again ---- */

static void reconnect_sends_again_with_the_next_attempt_and_the_same_id(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    char *url = strdup(fake_server_url(server));
    sluice_client *client = remote_client_open(url, LONG_MS, NULL);
    remote_submit(client, SLUICE_WRITE);
    remote_submit(client, SLUICE_READ);
    uint8_t id[16];
    for (uint32_t attempt = 0; attempt < 3; attempt++) {
        fake_request write = remote_serve(server, client), read = remote_serve(server, client);
        assert_true(sluice_msg_is(write.msg, &sluice__v1__write_request__descriptor));
        assert_string_equal(write.to, "app/writer");
        assert_int_equal(write.msg->identity.sequence, 1);
        assert_int_equal(write.msg->identity.attempt, attempt);
        assert_int_equal(write.msg->identity.ack_upto, 0);
        assert_true(((Sluice__V1__WriteRequest *)write.msg->body)->receipt);
        if (attempt == 0) memcpy(id, write.msg->identity.client, sizeof id);
        assert_memory_equal(write.msg->identity.client, id, sizeof id);
        assert_true(sluice_msg_is(read.msg, &sluice__v1__query_request__descriptor));
        assert_string_equal(read.to, "app/readers");
        if (attempt < 2) {
            fake_server_close(&server);
            server = fake_server_open(url);
        } else {
            fake_server_write_reply(server, &write, 1, true);
            Sluice__V1__QueryReply reply = SLUICE__V1__QUERY_REPLY__INIT;
            fake_server_body(server, &read, &reply.base);
        }
        fake_request_fini(&write);
        fake_request_fini(&read);
    }
    sluice_completion completion = remote_completion_of(client, SLUICE_OK);
    assert_true(sluice_result_replayed(completion.result));
    sluice_result_destroy(&completion.result);
    remote_expect_end(client, SLUICE_OK);

    remote_submit(client, SLUICE_WRITE); /* settled: the next one says so */
    fake_request next = remote_serve(server, client);
    assert_int_equal(next.msg->identity.sequence, 2);
    assert_int_equal(next.msg->identity.attempt, 0);
    assert_int_equal(next.msg->identity.ack_upto, 1);
    fake_request_fini(&next);
    fake_server_close(&server);
    sluice_client_close(&client);
    free(url);
}

static void write_without_receipt_is_never_sent_twice(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    char *url = strdup(fake_server_url(server));
    sluice_client *client = remote_client_open(url, 2000, remote_without_receipts);
    remote_submit(client, SLUICE_WRITE);
    fake_request write = remote_serve(server, client);
    assert_int_equal(write.msg->identity.sequence, 0);
    assert_false(((Sluice__V1__WriteRequest *)write.msg->body)->receipt);
    fake_request_fini(&write);
    fake_server_close(&server);
    server = fake_server_open(url);
    remote_submit(client, SLUICE_READ); /* arrives alone over the new connection */
    fake_request read = remote_serve(server, client);
    assert_true(sluice_msg_is(read.msg, &sluice__v1__query_request__descriptor));
    fake_request_fini(&read);
    remote_expect_end(client, SLUICE_UNKNOWN);
    remote_expect_end(client, SLUICE_TIMEOUT);
    assert_false(fake_server_recv(server, 0, &read));
    fake_server_close(&server);
    sluice_client_close(&client);
    free(url);
}

static void ack_upto_follows_what_is_settled(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    fake_request requests[4];
    for (int i = 0; i < 4; i++) {
        remote_submit(client, SLUICE_WRITE);
        requests[i] = remote_serve(server, client);
        assert_int_equal(requests[i].msg->identity.sequence, i + 1);
        assert_int_equal(requests[i].msg->identity.ack_upto, 0);
    }
    const uint64_t acked[] = {0, 0, 2, 3}; /* after answering 2, 4, 1, 3 in this order the run of settled ones is */
    const int order[] = {1, 3, 0, 2};
    for (int i = 0; i < 4; i++) {
        fake_server_write_reply(server, &requests[order[i]], 1, false);
        remote_expect_end(client, SLUICE_OK);
        fake_request_fini(&requests[order[i]]);
        assert_int_equal(client->pool->sequences.ack_upto, i < 3 ? acked[i] : 4);
    }
    remote_submit(client, SLUICE_WRITE);
    fake_request next = remote_serve(server, client);
    assert_int_equal(next.msg->identity.sequence, 5);
    assert_int_equal(next.msg->identity.ack_upto, 4);
    fake_request_fini(&next);
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void server_that_is_stopping_is_asked_again_under_the_same_id(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    const sluice_err codes[] = {SLUICE_CLOSED, SLUICE_NO_ACTOR, SLUICE_ACTOR_DOWN, SLUICE_FATAL};
    remote_submit(client, SLUICE_WRITE);
    for (uint32_t attempt = 0; attempt < 5; attempt++) {
        fake_request request = remote_serve(server, client);
        assert_int_equal(request.msg->identity.sequence, 1);
        assert_int_equal(request.msg->identity.attempt, attempt);
        if (attempt < 4) fake_server_error(server, &request, codes[attempt], "in a moment");
        else fake_server_write_reply(server, &request, 1, false);
        fake_request_fini(&request);
    }
    remote_expect_end(client, SLUICE_OK);
    fake_server_close(&server);
    sluice_client_close(&client);
}

/* One write; each answer in turn (OK: none is given and the connection is cut), the last one again for each further
 * copy; then the end it must have. */
typedef struct doubt_case {
    sluice_err answers[3];
    unsigned n_answers;
    uint32_t timeout_ms;
    sluice_err end;
} doubt_case;

static void run_doubt_case(const doubt_case *row) {
    fake_server *server = fake_server_open(NULL);
    char *url = strdup(fake_server_url(server));
    sluice_client *client = remote_client_open(url, LONG_MS, NULL);
    remote_connect(server, client);
    sluice_client_set_timeout(client, row->timeout_ms);
    remote_submit(client, SLUICE_WRITE);
    for (unsigned i = 0; i < row->n_answers; i++) {
        fake_request request = remote_serve(server, client);
        if (row->answers[i] != SLUICE_OK) {
            fake_server_error(server, &request, row->answers[i], "because");
        } else {
            fake_server_close(&server);
            server = fake_server_open(url);
        }
        fake_request_fini(&request);
    }
    sluice_completion completion;
    while (!sluice_poll(client, 2, &completion)) {
        fake_request request;
        if (!fake_server_recv(server, 0, &request)) continue;
        fake_server_error(server, &request, row->answers[row->n_answers - 1], "because");
        fake_request_fini(&request);
    }
    if (completion.err != row->end)
        fail_msg("%s instead of %s: %s", sluice_err_name(completion.err), sluice_err_name(row->end),
                 completion.cause.text);
    assert_int_equal(client->pool->sequences.ack_upto + 1, client->pool->sequences.next); /* nobody can ask again */
    fake_server_close(&server);
    sluice_client_close(&client);
    free(url);
}

static void no_from_anyone_but_the_writer_leaves_a_doubtful_write_unknown(void **state) {
    (void)state;
    const doubt_case rows[] = {
        /* one copy, answered: that is the end */
        {{SLUICE_CONSTRAINT}, 1, LONG_MS, SLUICE_CONSTRAINT},
        {{SLUICE_OVERLOADED}, 1, LONG_MS, SLUICE_OVERLOADED},
        {{SLUICE_EXPIRED}, 1, LONG_MS, SLUICE_EXPIRED},
        {{SLUICE_FORBIDDEN}, 1, LONG_MS, SLUICE_FORBIDDEN},
        {{SLUICE_SESSION_EXPIRED}, 1, LONG_MS, SLUICE_SESSION_EXPIRED},
        /* each copy was answered "not now" */
        {{SLUICE_CLOSED}, 1, 300, SLUICE_CLOSED},
        {{SLUICE_CLOSED, SLUICE_FORBIDDEN}, 2, LONG_MS, SLUICE_FORBIDDEN},
        /* a copy was lost: only the writer knows */
        {{SLUICE_OK, SLUICE_CONSTRAINT}, 2, LONG_MS, SLUICE_CONSTRAINT},
        {{SLUICE_OK, SLUICE_FORBIDDEN}, 2, LONG_MS, SLUICE_UNKNOWN},
        {{SLUICE_OK, SLUICE_SESSION_EXPIRED}, 2, LONG_MS, SLUICE_UNKNOWN},
        {{SLUICE_OK, SLUICE_CLOSED}, 2, 2000, SLUICE_UNKNOWN},
        {{SLUICE_OK, SLUICE_OVERLOADED, SLUICE_GUARD_FAILED}, 3, LONG_MS, SLUICE_GUARD_FAILED},
        {{SLUICE_FATAL, SLUICE_TOO_BIG}, 2, LONG_MS, SLUICE_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) run_doubt_case(&rows[i]);
}

/* ---- asking again after UNKNOWN ---- */

typedef struct answering {
    fake_server *server;
    sluice_err error; /* OK: a WriteReply, replayed */
    uint64_t sequence, ack_upto;
    uint32_t attempt;
    bool served;
} answering;

/* Runs beside a blocking call; asserts nothing. */
static void *answer_one(void *context) {
    answering *self = context;
    fake_request request;
    self->served = fake_server_recv(self->server, PATIENCE_MS, &request);
    if (!self->served) return NULL;
    self->sequence = request.msg->identity.sequence;
    self->ack_upto = request.msg->identity.ack_upto;
    self->attempt = request.msg->identity.attempt;
    if (self->error == SLUICE_OK) fake_server_write_reply(self->server, &request, 1, true);
    else fake_server_error(self->server, &request, self->error, "no");
    fake_request_fini(&request);
    return NULL;
}

static sluice_err call_answered(sluice_client *client, sluice_request *request, bool again, answering *answer,
                                sluice_result **out) {
    pthread_t thread;
    sluice_cause cause;
    answer->served = false;
    assert_int_equal(pthread_create(&thread, NULL, answer_one, answer), 0);
    sluice_err err =
        again ? sluice_call_again(client, request, out, &cause) : sluice_call(client, request, out, &cause);
    pthread_join(thread, NULL);
    assert_true(answer->served);
    return err;
}

static void call_again_finds_out_what_became_of_an_unknown_write(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    remote_connect(server, client);
    sluice_client_set_timeout(client, 300);
    sluice_request *request = remote_request_new(client, SLUICE_WRITE);
    sluice_cause cause;
    sluice_result *result = NULL;
    answering answer = {.server = server};
    assert_int_equal(sluice_call_again(client, request, NULL, &cause), SLUICE_INVALID); /* nothing to ask about yet */
    sluice_err err = sluice_call(client, request, &result, &cause);
    assert_int_equal(err, SLUICE_UNKNOWN);
    assert_null(result);
    fake_request lost;
    assert_true(fake_server_recv(server, PATIENCE_MS, &lost));
    assert_int_equal(lost.msg->identity.attempt, 0);
    fake_request_fini(&lost);
    assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_INVALID); /* would be a second write */
    assert_int_equal(sluice_request_add(request, "more", NULL, 0), SLUICE_INVALID);

    /* Others go on, but the open id holds ack_upto. */
    sluice_client_set_timeout(client, PATIENCE_MS);
    sluice_request *other = remote_request_new(client, SLUICE_WRITE);
    assert_int_equal(call_answered(client, other, false, &answer, NULL), SLUICE_OK);
    assert_int_equal(answer.sequence, 2);
    assert_int_equal(answer.ack_upto, 0);

    /* Asked again: the same id, the next attempt, and the first answer. */
    assert_int_equal(call_answered(client, request, true, &answer, &result), SLUICE_OK);
    assert_int_equal(answer.sequence, 1);
    assert_int_equal(answer.attempt, 1);
    assert_true(sluice_result_replayed(result));
    sluice_result_destroy(&result);
    assert_int_equal(client->pool->sequences.ack_upto, 2);
    assert_int_equal(sluice_call_again(client, request, NULL, &cause), SLUICE_INVALID); /* it ended OK */

    /* Called once more it is a new write under a new id; after a definite no so is asking again. */
    answer.error = SLUICE_OVERLOADED;
    assert_int_equal(call_answered(client, request, false, &answer, NULL), SLUICE_OVERLOADED);
    assert_int_equal(answer.sequence, 3);
    assert_int_equal(answer.attempt, 0);
    answer.error = SLUICE_OK;
    assert_int_equal(call_answered(client, request, true, &answer, NULL), SLUICE_OK);
    assert_int_equal(answer.sequence, 4);
    assert_int_equal(answer.ack_upto, 3);
    sluice_request_destroy(&other);
    sluice_request_destroy(&request);
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void destroying_an_unknown_request_settles_its_id(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    remote_connect(server, client);
    sluice_client_set_timeout(client, 300);
    sluice_request *request = remote_request_new(client, SLUICE_WRITE);
    sluice_request *late = remote_request_new(client, SLUICE_WRITE);
    sluice_cause cause;
    assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_UNKNOWN);
    assert_int_equal(sluice_call(client, late, NULL, &cause), SLUICE_UNKNOWN);
    assert_int_equal(client->pool->sequences.ack_upto, 0);
    sluice_request_destroy(&request);
    assert_int_equal(client->pool->sequences.ack_upto, 1);
    sluice_client_close(&client);
    sluice_request_destroy(&late); /* after its client */
    fake_server_close(&server);
}

/* ---- sessions ---- */

static void expired_session_is_replaced_by_a_new_one(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    remote_submit(client, SLUICE_WRITE);
    fake_request request = remote_serve(server, client);
    uint8_t old_id[16], new_id[16];
    memcpy(old_id, request.msg->identity.client, sizeof old_id);
    fake_server_write_reply(server, &request, 1, false);
    fake_request_fini(&request);
    remote_expect_end(client, SLUICE_OK);

    /* An hour later: three writes at once, all refused, go again under one new id. */
    fake_request refused[3];
    for (int i = 0; i < 3; i++) {
        remote_submit(client, SLUICE_WRITE);
        refused[i] = remote_serve(server, client);
        assert_memory_equal(refused[i].msg->identity.client, old_id, sizeof old_id);
        assert_int_equal(refused[i].msg->identity.ack_upto, 1);
    }
    for (int i = 0; i < 3; i++) fake_server_error(server, &refused[i], SLUICE_SESSION_EXPIRED, "begin a new one");
    fake_request anew[3];
    for (int i = 0; i < 3; i++) {
        anew[i] = remote_serve(server, client);
        if (i == 0) memcpy(new_id, anew[i].msg->identity.client, sizeof new_id);
        assert_memory_equal(anew[i].msg->identity.client, new_id, sizeof new_id);
        assert_memory_not_equal(new_id, old_id, sizeof old_id);
        assert_int_equal(anew[i].msg->identity.sequence, i + 1);
        assert_int_equal(anew[i].msg->identity.attempt, 0);
        assert_int_equal(anew[i].msg->identity.ack_upto, 0);
    }
    for (int i = 0; i < 3; i++) {
        fake_server_write_reply(server, &anew[i], 1, false);
        fake_request_fini(&anew[i]);
        fake_request_fini(&refused[i]);
    }
    for (int i = 0; i < 3; i++) remote_expect_end(client, SLUICE_OK);
    assert_int_equal(client->pool->sequences.ack_upto, 3);
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void unknown_write_of_an_expired_session_stays_unknown(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    remote_connect(server, client);
    sluice_client_set_timeout(client, 200);
    sluice_request *request = remote_request_new(client, SLUICE_WRITE);
    sluice_request *other = remote_request_new(client, SLUICE_WRITE);
    sluice_cause cause;
    assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_UNKNOWN);
    fake_request lost;
    assert_true(fake_server_recv(server, PATIENCE_MS, &lost));
    sluice_client_set_timeout(client, PATIENCE_MS);
    remote_submit(client, SLUICE_WRITE);
    fake_request expired = remote_serve(server, client);
    fake_server_error(server, &expired, SLUICE_SESSION_EXPIRED, "begin a new one");
    fake_request anew = remote_serve(server, client);
    fake_server_write_reply(server, &anew, 1, false);
    remote_expect_end(client, SLUICE_OK);
    /* Asked again it bears the id it had, and nothing better can be said. */
    answering answer = {.server = server, .error = SLUICE_SESSION_EXPIRED};
    assert_int_equal(call_answered(client, request, true, &answer, NULL), SLUICE_UNKNOWN);
    assert_int_equal(answer.sequence, lost.msg->identity.sequence);
    assert_int_equal(answer.attempt, 1);
    /* And it holds nothing up in the new session. */
    answer.error = SLUICE_OK;
    assert_int_equal(call_answered(client, other, false, &answer, NULL), SLUICE_OK);
    assert_int_equal(answer.ack_upto, 1);
    sluice_request_destroy(&request);
    assert_int_equal(client->pool->sequences.ack_upto, 2);
    sluice_request_destroy(&other);
    fake_request_fini(&anew);
    fake_request_fini(&expired);
    fake_request_fini(&lost);
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void server_is_told_of_settled_writes_once_it_knows_the_session(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    for (int i = 0; i < 3; i++) { /* it may never have heard of these, as far as can be known */
        remote_submit(client, SLUICE_WRITE);
        fake_request request = remote_serve(server, client);
        assert_int_equal(request.msg->identity.ack_upto, 0);
        fake_server_error(server, &request, SLUICE_OVERLOADED, "not now");
        fake_request_fini(&request);
        remote_expect_end(client, SLUICE_OVERLOADED);
    }
    const uint64_t told[] = {0, 4};
    for (int i = 0; i < 2; i++) {
        remote_submit(client, SLUICE_WRITE);
        fake_request request = remote_serve(server, client);
        assert_int_equal(request.msg->identity.ack_upto, told[i]);
        fake_server_write_reply(server, &request, 1, false);
        fake_request_fini(&request);
        remote_expect_end(client, SLUICE_OK);
    }
    fake_server_close(&server);
    sluice_client_close(&client);
}

/* ---- errors and garbage ---- */

static void typed_errors_arrive_with_their_cause(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    remote_submit(client, SLUICE_WRITE);
    fake_request request = remote_serve(server, client);
    fake_server_error(server, &request, SLUICE_OVERLOADED, "too much");
    sluice_completion completion = remote_completion_of(client, SLUICE_OVERLOADED);
    assert_int_equal(completion.cause.retry_after_ms, 20);
    assert_string_equal(completion.cause.text, "too much");
    fake_request_fini(&request);
    for (int code = 1; code < 40; code++) { /* for a read every code is an end, but those that pass are asked again */
        remote_submit(client, SLUICE_READ);
        request = remote_serve(server, client);
        fake_server_error(server, &request, (sluice_err)code, "text");
        if (code == SLUICE_CLOSED || code == SLUICE_NO_ACTOR || code == SLUICE_ACTOR_DOWN || code == SLUICE_UNKNOWN ||
            code == SLUICE_UNREACHABLE || code == SLUICE_FATAL) {
            fake_request_fini(&request);
            request = remote_serve(server, client);
            fake_server_error(server, &request, SLUICE_FAILED, "text");
            remote_expect_end(client, SLUICE_FAILED);
        } else {
            /* A code that is not in the map is an IO error. */
            bool listed = strcmp(sluice_err_name((sluice_err)code), "unlisted") != 0;
            remote_expect_end(client, listed ? (sluice_err)code : SLUICE_IO);
        }
        fake_request_fini(&request);
    }
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void answer_with_garbage(fake_server *server, const fake_request *request, int kind) {
    Sluice__V1__Envelope envelope = SLUICE__V1__ENVELOPE__INIT;
    envelope.version = 1;
    envelope.correlation = request->msg->correlation;
    envelope.kind = SLUICE__V1__KIND__KIND_REPLY;
    char pong[] = "sluice.v1.Pong", reply[] = "sluice.v1.WriteReply", nobody[] = "nobody.knows.This";
    envelope.type = kind == 0 ? pong : kind == 1 ? nobody : reply;
    uint8_t head[256];
    size_t size = sluice__v1__envelope__pack(&envelope, head);
    if (kind == 2) fake_server_raw(server, request, head, size, "\377\377\377\377\377", 5); /* no protobuf */
    else fake_server_raw(server, request, head, size, "", 0);
}

static void garbage_for_an_answer_leaves_a_write_unknown(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    for (int kind = 0; kind < 3; kind++) {
        remote_submit(client, SLUICE_WRITE);
        fake_request request = remote_serve(server, client);
        answer_with_garbage(server, &request, kind);
        fake_request_fini(&request);
        sluice_completion completion = remote_completion_of(client, SLUICE_UNKNOWN);
        assert_true(completion.cause.text[0] != '\0');
        remote_submit(client, SLUICE_READ);
        request = remote_serve(server, client);
        answer_with_garbage(server, &request, kind);
        fake_request_fini(&request);
        remote_expect_end(client, kind == 1 ? SLUICE_UNSUPPORTED : SLUICE_IO);
    }
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void hostile_server_cannot_crash_the_client(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    srand(5);
    unsigned rounds = support_scaled(3000);
    /* A good reply with rows, to be spoilt byte by byte. */
    int64_t integers[] = {1, 2, 3};
    uint32_t lengths[] = {1, 0, 2};
    uint8_t data[] = {'a', 0, 0, 'b', 'c', 0};
    Sluice__V1__Column a = SLUICE__V1__COLUMN__INIT, b = SLUICE__V1__COLUMN__INIT, *columns[] = {&a, &b};
    a.type = SLUICE__V1__VALUE_TYPE__VALUE_INTEGER, a.n_integers = 3, a.integers = integers;
    b.type = SLUICE__V1__VALUE_TYPE__VALUE_TEXT, b.n_lengths = 3, b.lengths = lengths;
    b.data.data = data, b.data.len = sizeof data;
    Sluice__V1__Table table = SLUICE__V1__TABLE__INIT;
    table.rows = 3, table.n_columns = 2, table.columns = columns;
    Sluice__V1__StatementResult result = SLUICE__V1__STATEMENT_RESULT__INIT, *results[] = {&result};
    result.rows = &table;
    Sluice__V1__QueryReply reply = SLUICE__V1__QUERY_REPLY__INIT;
    reply.n_results = 1, reply.results = results;
    uint8_t good[512], head[256];
    size_t size = sluice__v1__query_reply__pack(&reply, good);
    unsigned n_ok = 0;
    for (unsigned i = 0; i < rounds; i++) {
        remote_submit(client, SLUICE_READ);
        fake_request request = remote_serve(server, client);
        Sluice__V1__Envelope envelope = SLUICE__V1__ENVELOPE__INIT;
        envelope.version = 1, envelope.correlation = request.msg->correlation;
        envelope.kind = SLUICE__V1__KIND__KIND_REPLY;
        envelope.type = (char[]){"sluice.v1.QueryReply"};
        size_t head_size = sluice__v1__envelope__pack(&envelope, head);
        uint8_t body[512];
        memcpy(body, good, size);
        for (int flips = rand() % 4; flips > 0; flips--) body[(size_t)rand() % size] = (uint8_t)rand();
        fake_server_raw(server, &request, head, head_size, body, i % 16 == 0 ? (size_t)rand() % size : size);
        fake_request_fini(&request);
        sluice_completion completion;
        assert_true(sluice_poll(client, PATIENCE_MS, &completion));
        if (completion.err != SLUICE_OK) continue;
        n_ok++;
        for (size_t s = 0; s < sluice_result_statements(completion.result); s++) {
            sluice_result_select(completion.result, s);
            for (int row = 0; row < 10 && sluice_result_next(completion.result); row++)
                for (size_t c = 0; c < sluice_result_columns(completion.result); c++) {
                    const char *text = sluice_result_text(completion.result, c, NULL);
                    assert_true(text == NULL || strlen(text) < 512);
                    (void)sluice_result_column_name(completion.result, c);
                }
        }
        sluice_result_destroy(&completion.result);
    }
    assert_true(n_ok > 0 && n_ok < rounds);
    fake_server_close(&server);
    sluice_client_close(&client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silent_server_ends_a_write_unknown_and_a_read_by_timeout),
        cmocka_unit_test(requests_end_in_the_order_of_their_deadlines),
        cmocka_unit_test(reconnect_sends_again_with_the_next_attempt_and_the_same_id),
        cmocka_unit_test(write_without_receipt_is_never_sent_twice),
        cmocka_unit_test(ack_upto_follows_what_is_settled),
        cmocka_unit_test(server_that_is_stopping_is_asked_again_under_the_same_id),
        cmocka_unit_test(no_from_anyone_but_the_writer_leaves_a_doubtful_write_unknown),
        cmocka_unit_test(call_again_finds_out_what_became_of_an_unknown_write),
        cmocka_unit_test(destroying_an_unknown_request_settles_its_id),
        cmocka_unit_test(expired_session_is_replaced_by_a_new_one),
        cmocka_unit_test(unknown_write_of_an_expired_session_stays_unknown),
        cmocka_unit_test(server_is_told_of_settled_writes_once_it_knows_the_session),
        cmocka_unit_test(typed_errors_arrive_with_their_cause),
        cmocka_unit_test(garbage_for_an_answer_leaves_a_write_unknown),
        cmocka_unit_test(hostile_server_cannot_crash_the_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
