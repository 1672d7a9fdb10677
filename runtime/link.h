/* SPDX-License-Identifier: MIT */
/* A link: the client's end of a connection to a gateway, a DEALER with all its safety options set.
 *
 * It packs and unpacks frames; it knows nothing of requests, retries or SQL. ZeroMQ reconnects underneath; the link
 * tells through its monitor when the connection came up or was lost, so that the client can send again what was in
 * flight. Threads: one at a time.
 */
#ifndef SL_LINK_H
#define SL_LINK_H

#include "codec.h"

typedef struct sl_link sl_link;

typedef struct sl_link_options {
    void *zmq_context;        /* borrowed; NULL: the link makes and ends its own */
    const char *url;          /* ipc:// or tcp:// */
    size_t max_message_bytes; /* of a body sent; a frame from the peer over 5/4 of it + 64 KiB ends the connection */
    int send_hwm, recv_hwm;   /* messages */
    const char *server_key;   /* CURVE, 40 letters each; NULL, all three: none (borrowed) */
    const char *public_key, *secret_key;
} sl_link_options;

/* Starts connecting; does not wait. Gives: *out. Errors: INVALID (URL), NOMEM, SYSTEM. */
SLUICE_NODISCARD sluice_err sl_link_open(const sl_link_options *options, sl_link **out, sluice_cause *cause);
/* Closes; messages not yet handed to the network are sent for at most linger_ms. NULL-safe. */
void sl_link_close(sl_link **link, int linger_ms);

/* Packs and sends without blocking. Borrows: msg (kept by the caller for a resend).
 * Errors: OVERLOADED (pipe full), UNREACHABLE (no connection), TOO_BIG, NOMEM. */
SLUICE_NODISCARD sluice_err sl_link_send(sl_link *link, const sluice_msg *msg, const char *to, int64_t now_ns);
/* Receives and decodes without blocking. Gives: *out. Errors: TIMEOUT (nothing there), else what was wrong with a
 * message from the peer (it is skipped; *correlation_out tells which ask it answered, 0 if unknown). */
SLUICE_NODISCARD sluice_err sl_link_recv(sl_link *link, const sl_registry *registry, int64_t now_ns, sluice_msg **out,
                                         uint64_t *correlation_out, sluice_cause *cause);
/* What sl_link_wait saw; more than one bit may be set. */
enum {
    SL_LINK_MESSAGES = 1u << 0,   /* call sl_link_recv until TIMEOUT */
    SL_LINK_CONNECTION = 1u << 1, /* call sl_link_poll_state */
};
/* Waits until something may be received or the connection may have changed; call it only after sl_link_recv has said
 * TIMEOUT, since the descriptors below are edge-triggered. deadline_ns as in sl_port_recv. Returns the bits above; 0 at
 * the deadline (and, rarely, before it: the caller looks at its clock). */
unsigned sl_link_wait(sl_link *link, int64_t deadline_ns);

typedef struct sl_link_state {
    bool connected;
    uint64_t connections; /* ever made: a change means a reconnect, so what was in flight may be lost */
    const char *problem;  /* why the latest attempt failed, static; NULL: none, or not known */
} sl_link_state;
/* Drains the monitor and tells. What is sent after this call goes by the connection it tells of, or a later one. */
sl_link_state sl_link_poll_state(sl_link *link);
/* Edge-triggered descriptors of socket and monitor, to be watched together. */
void sl_link_fds(const sl_link *link, int out[2]);

#endif
