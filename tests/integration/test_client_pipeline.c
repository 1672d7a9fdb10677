/* SPDX-License-Identifier: MIT */
/* The remote client against a scripted server: pipelining, the descriptor, pings, own messages, threads.
 *
 * Client and server are driven on one thread wherever the call need not block, so each test is in full control of the
 * order of things.
 */
#include "support/remote.h"
#include "support/demo.pb-c.h"

#include "internal.h"
#include "port.h"

#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- pipelining and the descriptor ---- */

static void wait_takes_its_own_and_leaves_the_others(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    sluice_ticket tickets[3];
    fake_request requests[3];
    sluice_cause cause;
    for (int i = 0; i < 3; i++) {
        tickets[i] = remote_submit(client, SLUICE_WRITE);
        requests[i] = remote_serve(server, client);
    }
    for (int i = 2; i >= 0; i--) { /* answered backwards */
        fake_server_write_reply(server, &requests[i], (uint64_t)i + 10, false);
        fake_request_fini(&requests[i]);
    }
    sluice_result *result = NULL;
    assert_ok(sluice_wait(client, tickets[0], &result, &cause), cause);
    assert_int_equal(sluice_result_changes(result), 10);
    sluice_result_destroy(&result);
    assert_int_equal(sluice_client_inflight(client), 2);
    sluice_completion completion = remote_completion_of(client, SLUICE_OK);
    assert_int_equal(completion.ticket, tickets[2]);
    sluice_result_destroy(&completion.result);
    assert_ok(sluice_wait(client, tickets[1], NULL, &cause), cause);
    assert_int_equal(sluice_wait(client, tickets[1], NULL, &cause), SLUICE_INVALID);
    assert_int_equal(sluice_wait(client, 0, NULL, &cause), SLUICE_INVALID);
    assert_int_equal(sluice_wait(client, 12345, NULL, &cause), SLUICE_INVALID);
    assert_int_equal(sluice_client_inflight(client), 0);
    assert_false(sluice_poll(client, 60000, &completion)); /* nothing in flight: says so at once */
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void more_than_max_inflight_is_overloaded_at_once(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, remote_two_in_flight);
    remote_submit(client, SLUICE_WRITE);
    fake_request request = remote_serve(server, client);
    remote_submit(client, SLUICE_WRITE);
    sluice_request *third = remote_request_new(client, SLUICE_WRITE);
    sluice_cause cause;
    assert_int_equal(sluice_submit(client, &third, NULL, NULL, &cause), SLUICE_OVERLOADED);
    assert_non_null(third);
    assert_true(cause.retry_after_ms > 0);
    assert_int_equal(sluice_exec(client, "x", NULL, 0, NULL, &cause), SLUICE_OVERLOADED);
    fake_server_write_reply(server, &request, 1, false);
    fake_request_fini(&request);
    remote_expect_end(client, SLUICE_OK);
    assert_ok(sluice_submit(client, &third, NULL, NULL, &cause), cause);
    request = remote_serve(server, client);
    assert_int_equal(request.msg->identity.sequence, 2); /* the refused one used up no id that matters */
    fake_request_fini(&request);
    fake_server_close(&server);
    sluice_client_close(&client);
}

static bool is_readable(int fd, int timeout_ms) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    return poll(&entry, 1, timeout_ms) == 1;
}

/* Waits until poll(0) has nothing to do and the descriptor agrees. */
static void await_quiet(sluice_client *client, int fd) {
    sluice_completion completion;
    int64_t end_ns = sl_now_ns() + PATIENCE_MS * INT64_C(1000000);
    while (is_readable(fd, 0)) {
        assert_false(sluice_poll(client, 0, &completion));
        if (sl_now_ns() > end_ns) fail_msg("the descriptor stays readable with nothing to do");
    }
}

static void descriptor_is_readable_until_all_is_collected(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    int fd = sluice_client_fd(client);
    assert_true(fd >= 0);
    assert_int_equal(sluice_client_fd(client), fd);
    fake_request requests[3];
    for (int i = 0; i < 3; i++) {
        remote_submit(client, SLUICE_WRITE);
        requests[i] = remote_serve(server, client);
    }
    await_quiet(client, fd);
    assert_false(is_readable(fd, 50)); /* idle while all are in flight */
    for (int i = 0; i < 3; i++) fake_server_write_reply(server, &requests[i], 1, false);
    sluice_completion completion;
    for (int i = 0; i < 3; i++) {
        assert_true(is_readable(fd, PATIENCE_MS));
        assert_true(is_readable(fd, 0)); /* level: asking does not change it */
        while (!sluice_poll(client, 0, &completion)) assert_true(is_readable(fd, PATIENCE_MS));
        assert_int_equal(completion.err, SLUICE_OK);
        sluice_result_destroy(&completion.result);
        fake_request_fini(&requests[i]);
    }
    await_quiet(client, fd);
    assert_false(is_readable(fd, 50));
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void descriptor_is_readable_at_a_deadline(void **state) {
    (void)state;
    sluice_client *client = remote_client_open("ipc://nobody-listens-here", 150, NULL);
    int fd = sluice_client_fd(client);
    int64_t from = sl_now_ns();
    remote_submit(client, SLUICE_WRITE);
    await_quiet(client, fd);
    sluice_completion completion;
    bool found = false;
    while (!found && is_readable(fd, PATIENCE_MS)) found = sluice_poll(client, 0, &completion);
    assert_true(found);
    assert_int_equal(completion.err, SLUICE_UNREACHABLE);
    int64_t took_ms = (sl_now_ns() - from) / 1000000;
    assert_true(took_ms >= 149 && took_ms < 2000);
    await_quiet(client, fd);
    assert_false(is_readable(fd, 200)); /* the timer does not ring when nothing is in flight */
    sluice_client_close(&client);
}

static void descriptor_drives_a_whole_exchange(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    int fd = sluice_client_fd(client);
    unsigned n = support_scaled(500), done = 0;
    for (unsigned submitted = 0; done < n;) {
        while (submitted < n && sluice_client_inflight(client) < 8) {
            remote_submit(client, SLUICE_WRITE);
            submitted++;
        }
        fake_request request;
        while (fake_server_recv(server, 0, &request)) {
            fake_server_write_reply(server, &request, 1, false);
            fake_request_fini(&request);
        }
        sluice_completion completion;
        if (!is_readable(fd, 1)) continue;
        while (sluice_poll(client, 0, &completion)) {
            assert_int_equal(completion.err, SLUICE_OK);
            sluice_result_destroy(&completion.result);
            done++;
        }
    }
    fake_server_close(&server);
    sluice_client_close(&client);
}

/* ---- pings, goodbyes, the host's own messages ---- */

typedef struct serving {
    fake_server *server;
    unsigned n;            /* requests to serve */
    uint32_t version;      /* in pongs */
    uint64_t goodbye_upto; /* ack_upto of the goodbye */
    unsigned n_goodbyes, n_tells;
} serving;

/* Answers whatever comes, beside blocking calls. */
static void *serve_all(void *context) {
    serving *self = context;
    for (unsigned i = 0; i < self->n; i++) {
        fake_request request;
        if (!fake_server_recv(self->server, PATIENCE_MS, &request)) break;
        if (sluice_msg_is(request.msg, &sluice__v1__ping__descriptor)) {
            Sluice__V1__Pong pong = SLUICE__V1__PONG__INIT;
            pong.version_min = pong.version_max = self->version;
            fake_server_body(self->server, &request, &pong.base);
        } else if (sluice_msg_is(request.msg, &sluice__v1__goodbye__descriptor)) {
            self->n_goodbyes++;
            self->goodbye_upto = request.msg->identity.ack_upto;
            Sluice__V1__GoodbyeReply reply = SLUICE__V1__GOODBYE_REPLY__INIT;
            fake_server_body(self->server, &request, &reply.base);
        } else if (sluice_msg_is(request.msg, &sluice__v1__query_request__descriptor)) {
            Sluice__V1__QueryReply reply = SLUICE__V1__QUERY_REPLY__INIT;
            fake_server_body(self->server, &request, &reply.base);
        } else {
            fake_server_write_reply(self->server, &request, 1, false);
        }
        fake_request_fini(&request);
    }
    return NULL;
}

static void client_pings_works_and_says_goodbye(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), PATIENCE_MS, NULL);
    serving script = {.server = server, .n = 5, .version = SL_WIRE_VERSION};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve_all, &script), 0);
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_err ping = sluice_client_ping(client, &cause);
    sluice_err first = sluice_exec(client, "INSERT", NULL, 0, &result, &cause);
    sluice_err second = sluice_exec(client, "INSERT", NULL, 0, NULL, &cause);
    sluice_err query = sluice_query(client, "SELECT", NULL, 0, NULL, &cause);
    sluice_client_close(&client);
    pthread_join(thread, NULL);
    assert_int_equal(ping, SLUICE_OK);
    assert_int_equal(first, SLUICE_OK);
    assert_int_equal(second, SLUICE_OK);
    assert_int_equal(query, SLUICE_OK);
    assert_int_equal(sluice_result_changes(result), 1); /* outlives the client */
    assert_int_equal(sluice_result_commit_number(result), 7);
    sluice_result_destroy(&result);
    assert_int_equal(script.n_goodbyes, 1);
    assert_int_equal(script.goodbye_upto, 2);
    fake_server_close(&server);
}

static void ping_tells_a_server_of_another_version(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), PATIENCE_MS, NULL);
    serving script = {.server = server, .n = 1, .version = 9};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve_all, &script), 0);
    sluice_cause cause;
    sluice_err err = sluice_client_ping(client, &cause);
    pthread_join(thread, NULL);
    assert_int_equal(err, SLUICE_UNSUPPORTED);
    fake_server_close(&server);
    sluice_client_close(&client);
}

static void closing_with_a_silent_server_takes_half_a_second_at_most(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    for (int i = 0; i < 100; i++) remote_submit(client, SLUICE_WRITE);
    fake_request request = remote_serve(server, client);
    fake_request_fini(&request);
    int64_t from = sl_now_ns();
    sluice_client_close(&client);
    assert_true(sl_now_ns() - from < INT64_C(1500) * 1000000);
    fake_server_close(&server);
}

static void own_message_types_go_to_named_actors(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sluice_client *client = remote_client_open(fake_server_url(server), LONG_MS, NULL);
    sluice_cause cause;
    assert_int_equal(sluice_client_register_type(client, &demo__v1__greeting__descriptor), SLUICE_OK);
    assert_int_equal(sluice_client_register_type(client, &demo__v1__greeting__descriptor), SLUICE_OK);
    remote_connect(server, client);
    sluice_client_set_timeout(client, 300);
    /* The server's registry does not know demo types, so its answers are read here by name only. */
    sluice_msg *msg = NULL, *reply = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__ping__descriptor, &msg), SLUICE_OK);
    assert_ok(sluice_client_tell(client, "greeter", &msg, &cause), cause);
    assert_null(msg);
    fake_request request = remote_serve(server, client);
    assert_string_equal(request.to, "greeter");
    assert_false(sluice_msg_is_ask(request.msg));
    fake_request_fini(&request);
    assert_int_equal(sluice_msg_new(&sluice__v1__ping__descriptor, &msg), SLUICE_OK);
    assert_int_equal(sluice_client_ask(client, "", &msg, &reply, &cause), SLUICE_INVALID);
    assert_non_null(msg);
    assert_int_equal(sluice_client_ask(client, "greeter", &msg, &reply, &cause), SLUICE_TIMEOUT);
    assert_null(reply);
    sluice_msg_destroy(&msg);
    fake_server_close(&server);
    sluice_client_close(&client);
}

/* ---- threads ---- */

typedef struct worker {
    const char *url;
    unsigned n, n_ok;
} worker;

static void *work(void *context) {
    worker *self = context;
    sluice_client *client = NULL;
    if (sluice_client_open(self->url, NULL, &client, NULL) != SLUICE_OK) return NULL;
    for (unsigned i = 0; i < self->n; i++) {
        sluice_result *result = NULL;
        if (sluice_exec(client, "INSERT", NULL, 0, &result, NULL) == SLUICE_OK) self->n_ok++;
        sluice_result_destroy(&result);
    }
    sluice_client_close(&client);
    return NULL;
}

static void clients_of_two_threads_do_not_meet(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    unsigned n = support_scaled(500);
    worker workers[2] = {{.url = fake_server_url(server), .n = n}, {.url = fake_server_url(server), .n = n}};
    serving script = {.server = server, .n = 2 * (n + 1), .version = 1};
    pthread_t threads[3];
    assert_int_equal(pthread_create(&threads[2], NULL, serve_all, &script), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    assert_int_equal(workers[0].n_ok, n);
    assert_int_equal(workers[1].n_ok, n);
    assert_int_equal(script.n_goodbyes, 2);
    fake_server_close(&server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_takes_its_own_and_leaves_the_others),
        cmocka_unit_test(more_than_max_inflight_is_overloaded_at_once),
        cmocka_unit_test(descriptor_is_readable_until_all_is_collected),
        cmocka_unit_test(descriptor_is_readable_at_a_deadline),
        cmocka_unit_test(descriptor_drives_a_whole_exchange),
        cmocka_unit_test(client_pings_works_and_says_goodbye),
        cmocka_unit_test(ping_tells_a_server_of_another_version),
        cmocka_unit_test(closing_with_a_silent_server_takes_half_a_second_at_most),
        cmocka_unit_test(own_message_types_go_to_named_actors),
        cmocka_unit_test(clients_of_two_threads_do_not_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
