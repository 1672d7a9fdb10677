/* SPDX-License-Identifier: MIT */
/* A client against a scripted server; see remote.h. */
#include "support/remote.h"

#include "sluice/v1/query.pb-c.h"

#include "port.h"

sluice_client *remote_client_open(const char *url, uint32_t timeout_ms, void (*adjust)(sluice_client_options *)) {
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = timeout_ms;
    if (adjust != NULL) adjust(&options);
    sluice_client *client = NULL;
    sluice_cause cause;
    assert_ok(sluice_client_open(url, &options, &client, &cause), cause);
    return client;
}

void remote_without_receipts(sluice_client_options *options) {
    options->receipts_default = false;
    options->receipts = false;
}

void remote_two_in_flight(sluice_client_options *options) { options->max_inflight = 2; }

sluice_request *remote_request_new(sluice_client *client, sluice_request_kind kind) {
    sluice_request *request = NULL;
    assert_int_equal(sluice_request_new(client, kind, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, "some SQL", NULL, 0), SLUICE_OK);
    return request;
}

sluice_ticket remote_submit(sluice_client *client, sluice_request_kind kind) {
    sluice_request *request = remote_request_new(client, kind);
    sluice_ticket ticket = 0;
    sluice_cause cause;
    assert_ok(sluice_submit(client, &request, NULL, &ticket, &cause), cause);
    assert_null(request);
    assert_true(ticket != 0);
    return ticket;
}

/* Takes the next request, letting the client do its part meanwhile. Nothing may complete. */
fake_request remote_serve(fake_server *server, sluice_client *client) {
    fake_request request;
    sluice_completion completion;
    for (int64_t end_ns = sl_now_ns() + PATIENCE_MS * INT64_C(1000000);;) {
        assert_false(sluice_poll(client, 0, &completion));
        if (fake_server_recv(server, 2, &request)) return request;
        if (sl_now_ns() > end_ns) fail_msg("no request came");
    }
}

/* Waits for the next completion and checks its code. */
sluice_completion remote_completion_of(sluice_client *client, sluice_err err) {
    sluice_completion completion;
    if (!sluice_poll(client, PATIENCE_MS, &completion)) fail_msg("nothing completed");
    if (completion.err != err)
        fail_msg("%s instead of %s: %s", sluice_err_name(completion.err), sluice_err_name(err), completion.cause.text);
    assert_int_equal(completion.cause.code, err);
    assert_true((completion.result != NULL) == (err == SLUICE_OK));
    return completion;
}

void remote_expect_end(sluice_client *client, sluice_err err) {
    sluice_completion completion = remote_completion_of(client, err);
    sluice_result_destroy(&completion.result);
}

void remote_connect(fake_server *server, sluice_client *client) {
    remote_submit(client, SLUICE_READ);
    fake_request request = remote_serve(server, client);
    Sluice__V1__QueryReply reply = SLUICE__V1__QUERY_REPLY__INIT;
    fake_server_body(server, &request, &reply.base);
    fake_request_fini(&request);
    remote_expect_end(client, SLUICE_OK);
}
