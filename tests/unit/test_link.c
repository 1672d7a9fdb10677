/* SPDX-License-Identifier: MIT */
/* The link alone, against a ROUTER driven by hand: connection states, both ways, and garbage. */
#include "support/support.h"

#include "support/fake_server.h"

#include "link.h"
#include "port.h"

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/envelope.pb-c.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { PATIENCE_MS = 10000 };

static sl_link *link_open(const char *url) {
    sl_link_options options = {.url = url, .max_message_bytes = 65536, .send_hwm = 4, .recv_hwm = 100};
    sl_link *link = NULL;
    sluice_cause cause;
    assert_ok(sl_link_open(&options, &link, &cause), cause);
    return link;
}

/* Waits until the link was connected `connections` times and is (or is not) connected. */
static void await_state(sl_link *link, bool connected, uint64_t connections) {
    int64_t end_ns = sl_now_ns() + PATIENCE_MS * INT64_C(1000000);
    for (;;) {
        sl_link_state state = sl_link_poll_state(link);
        if (state.connected == connected && state.connections >= connections) return;
        if (sl_now_ns() > end_ns) fail_msg("no such state: connected %d, connections %d", (int)connected,
                                           (int)connections);
        sl_link_wait(link, end_ns);
    }
}

static sluice_msg *ping_new(uint64_t correlation, size_t payload) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__ping__descriptor, &msg), SLUICE_OK);
    Sluice__V1__Ping *ping = sluice_msg_body(msg);
    ping->payload.len = payload;
    ping->payload.data = sluice_msg_alloc(msg, payload);
    memset(ping->payload.data, 'p', payload);
    msg->flags = SL_MSG_ASK;
    msg->correlation = correlation;
    return msg;
}

static sluice_err receive(sl_link *link, const sl_registry *registry, sluice_msg **out, uint64_t *correlation,
                          sluice_cause *cause) {
    int64_t end_ns = sl_now_ns() + PATIENCE_MS * INT64_C(1000000);
    for (;;) {
        sluice_err err = sl_link_recv(link, registry, sl_now_ns(), out, correlation, cause);
        if (err != SLUICE_TIMEOUT || sl_now_ns() > end_ns) return err;
        if ((sl_link_wait(link, end_ns) & SL_LINK_CONNECTION) != 0) (void)sl_link_poll_state(link);
    }
}

static void link_sends_nothing_before_it_is_connected(void **state) {
    (void)state;
    sl_link *link = link_open("ipc://nobody-listens-here");
    sluice_msg *msg = ping_new(1, 4);
    assert_int_equal(sl_link_send(link, msg, "gateway", sl_now_ns()), SLUICE_UNREACHABLE);
    assert_false(sl_link_poll_state(link).connected);
    assert_int_equal(sl_link_wait(link, 0), 0);
    int64_t from = sl_now_ns();
    assert_int_equal(sl_link_wait(link, from + 20000000), 0);
    assert_true(sl_now_ns() >= from + 20000000);
    sluice_msg_destroy(&msg);
    sl_link_close(&link, 0);
    assert_null(link);
    sl_link_close(&link, 0);
}

static void link_carries_messages_both_ways(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sl_registry *registry = sl_registry_new();
    sl_link *link = link_open(fake_server_url(server));
    await_state(link, true, 1);
    sluice_msg *msg = ping_new(77, 4), *reply = NULL;
    msg->deadline_ns = sl_now_ns() + 3000 * INT64_C(1000000);
    sluice_cause cause;
    assert_ok(sl_link_send(link, msg, "gateway", sl_now_ns()), cause);
    fake_request request;
    assert_true(fake_server_recv(server, PATIENCE_MS, &request));
    assert_string_equal(request.to, "gateway");
    assert_int_equal(request.msg->correlation, 77);
    assert_true(sluice_msg_is(request.msg, &sluice__v1__ping__descriptor));
    int64_t left_ns = request.msg->deadline_ns - sl_now_ns();
    assert_true(left_ns > 0 && left_ns <= 3000 * INT64_C(1000000));
    Sluice__V1__Pong pong = SLUICE__V1__PONG__INIT;
    pong.version_max = 3;
    fake_server_body(server, &request, &pong.base);
    uint64_t correlation = 0;
    assert_ok(receive(link, registry, &reply, &correlation, &cause), cause);
    assert_int_equal(reply->correlation, 77);
    assert_int_equal(((Sluice__V1__Pong *)reply->body)->version_max, 3);
    fake_request_fini(&request);
    sluice_msg_destroy(&reply);
    sluice_msg_destroy(&msg);
    sl_link_close(&link, 0);
    sl_registry_destroy(&registry);
    fake_server_close(&server);
}

static void link_tells_each_reconnect(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    char *url = strdup(fake_server_url(server));
    sl_link *link = link_open(url);
    await_state(link, true, 1);
    for (uint64_t n = 2; n < 4; n++) {
        fake_server_close(&server);
        await_state(link, false, n - 1);
        sluice_msg *msg = ping_new(1, 0);
        assert_int_equal(sl_link_send(link, msg, "gateway", sl_now_ns()), SLUICE_UNREACHABLE);
        sluice_msg_destroy(&msg);
        server = fake_server_open(url);
        await_state(link, true, n);
        msg = ping_new(n, 0);
        fake_request request;
        assert_int_equal(sl_link_send(link, msg, "gateway", sl_now_ns()), SLUICE_OK);
        assert_true(fake_server_recv(server, PATIENCE_MS, &request));
        assert_int_equal(request.msg->correlation, n);
        fake_request_fini(&request);
        sluice_msg_destroy(&msg);
    }
    sl_link_close(&link, 0);
    fake_server_close(&server);
    free(url);
}

static void link_refuses_what_is_too_big_and_when_full(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sl_link *link = link_open(fake_server_url(server));
    await_state(link, true, 1);
    sluice_msg *msg = ping_new(1, 70000);
    assert_int_equal(sl_link_send(link, msg, "gateway", sl_now_ns()), SLUICE_TOO_BIG);
    sluice_msg_destroy(&msg);
    /* The server does not read: the pipes fill, and then the link says so. */
    msg = ping_new(1, 60000);
    sluice_err err = SLUICE_OK;
    for (int i = 0; i < 100000 && err == SLUICE_OK; i++) err = sl_link_send(link, msg, "gateway", sl_now_ns());
    assert_int_equal(err, SLUICE_OVERLOADED);
    sluice_msg_destroy(&msg);
    sl_link_close(&link, 0);
    fake_server_close(&server);
}

static void link_reports_garbage_and_goes_on(void **state) {
    (void)state;
    fake_server *server = fake_server_open(NULL);
    sl_registry *registry = sl_registry_new();
    sl_link *link = link_open(fake_server_url(server));
    await_state(link, true, 1);
    sluice_msg *msg = ping_new(5, 0), *reply = NULL;
    assert_int_equal(sl_link_send(link, msg, "gateway", sl_now_ns()), SLUICE_OK);
    fake_request request;
    assert_true(fake_server_recv(server, PATIENCE_MS, &request));

    uint64_t correlation = 0;
    sluice_cause cause;
    fake_server_raw(server, &request, "x", 1, NULL, 0); /* one frame */
    assert_int_equal(receive(link, registry, &reply, &correlation, &cause), SLUICE_INVALID);
    fake_server_raw(server, &request, "\377\377\377", 3, "\377", 1); /* not protobuf */
    assert_int_equal(receive(link, registry, &reply, &correlation, &cause), SLUICE_INVALID);
    Sluice__V1__Envelope envelope = SLUICE__V1__ENVELOPE__INIT;
    envelope.version = 99;
    envelope.correlation = 5;
    envelope.kind = SLUICE__V1__KIND__KIND_REPLY;
    envelope.type = (char[]){"sluice.v1.Pong"};
    uint8_t bytes[256];
    fake_server_raw(server, &request, bytes, sluice__v1__envelope__pack(&envelope, bytes), "", 0);
    assert_int_equal(receive(link, registry, &reply, &correlation, &cause), SLUICE_UNSUPPORTED);
    assert_int_equal(correlation, 5);
    srand(11);
    unsigned rounds = support_scaled(2000);
    for (unsigned i = 0; i < rounds; i++) {
        uint8_t noise[64];
        for (size_t j = 0; j < sizeof noise; j++) noise[j] = (uint8_t)rand();
        fake_server_raw(server, &request, noise, (size_t)rand() % 64, noise, (size_t)rand() % 64);
        assert_int_not_equal(receive(link, registry, &reply, &correlation, &cause), SLUICE_TIMEOUT);
        sluice_msg_destroy(&reply);
    }
    Sluice__V1__Pong pong = SLUICE__V1__PONG__INIT;
    fake_server_body(server, &request, &pong.base);
    assert_ok(receive(link, registry, &reply, &correlation, &cause), cause);
    sluice_msg_destroy(&reply);
    sluice_msg_destroy(&msg);
    fake_request_fini(&request);
    sl_link_close(&link, 0);
    sl_registry_destroy(&registry);
    fake_server_close(&server);
}

static void links_of_one_context_come_and_go(void **state) {
    (void)state;
    void *context = zmq_ctx_new();
    assert_non_null(context);
    for (unsigned i = 0; i < 200; i++) { /* closed sockets linger a moment, and a context has room for 1023 */
        sl_link_options options = {.zmq_context = context, .url = "ipc://nobody-listens-here",
                                   .max_message_bytes = 65536, .send_hwm = 4, .recv_hwm = 100};
        sl_link *link = NULL;
        sluice_cause cause;
        assert_ok(sl_link_open(&options, &link, &cause), cause);
        sl_link_close(&link, 0);
    }
    assert_int_equal(zmq_ctx_term(context), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link_sends_nothing_before_it_is_connected),
        cmocka_unit_test(link_carries_messages_both_ways),
        cmocka_unit_test(link_tells_each_reconnect),
        cmocka_unit_test(link_refuses_what_is_too_big_and_when_full),
        cmocka_unit_test(links_of_one_context_come_and_go),
        cmocka_unit_test(link_reports_garbage_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
