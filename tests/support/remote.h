/* SPDX-License-Identifier: MIT */
/* What the tests of the remote client share: opening one against a scripted server, and driving both on one thread.
 * Everything fails the test that calls it if it cannot do its part.
 */
#ifndef SUPPORT_REMOTE_H
#define SUPPORT_REMOTE_H

#include "support/support.h"
#include "support/fake_server.h"

enum { PATIENCE_MS = 20000, LONG_MS = 60000 };

/* Opens a client; adjust (NULL: none) may change its options. */
sluice_client *remote_client_open(const char *url, uint32_t timeout_ms, void (*adjust)(sluice_client_options *));
/* Two adjustments. */
void remote_without_receipts(sluice_client_options *options);
void remote_two_in_flight(sluice_client_options *options);

/* Makes a request of one statement; submits one. */
sluice_request *remote_request_new(sluice_client *client, sluice_request_kind kind);
sluice_ticket remote_submit(sluice_client *client, sluice_request_kind kind);

/* Takes the next request, letting the client do its part meanwhile. Nothing may complete. */
fake_request remote_serve(fake_server *server, sluice_client *client);

/* Brings the connection up by one read, so that what follows depends on no time of connecting. */
void remote_connect(fake_server *server, sluice_client *client);

/* Waits for the next completion and checks its code. The caller destroys its result. */
sluice_completion remote_completion_of(sluice_client *client, sluice_err err);
/* The same, and the result is destroyed. */
void remote_expect_end(sluice_client *client, sluice_err err);

#endif
