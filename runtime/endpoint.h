/* SPDX-License-Identifier: MIT */
/* An endpoint: the gateway's listening end, a ROUTER with all its safety options set.
 *
 * It binds, receives whole messages, keeps count of connections through the socket monitor, and sends replies to peers
 * by routing id. It does not decode. Threads: one at a time (the gateway actor's dispatcher).
 */
#ifndef SL_ENDPOINT_H
#define SL_ENDPOINT_H

#include "codec.h"

typedef struct sl_endpoint sl_endpoint;

typedef struct sl_endpoint_options {
    void *zmq_context;        /* borrowed */
    size_t max_message_bytes; /* of one frame */
    int handshake_ms;
    int send_hwm, recv_hwm;   /* messages per peer; replies over it are refused, never queued without bound */
} sl_endpoint_options;

/* Gives: *out. Errors: NOMEM, SYSTEM. */
SLUICE_NODISCARD sluice_err sl_endpoint_open(const sl_endpoint_options *options, sl_endpoint **out, sluice_cause *cause);
void sl_endpoint_close(sl_endpoint **endpoint, int linger_ms);
/* Binds one more address. resolved: the address clients can use, at least 256 bytes.
 * Errors: INVALID, EXISTS (in use), SYSTEM. The caller has checked what the address may be. */
SLUICE_NODISCARD sluice_err sl_endpoint_bind(sl_endpoint *endpoint, const char *url, char *resolved, size_t size,
                                             sluice_cause *cause);

#define SL_PEER_MAX 255
typedef struct sl_peer {
    uint8_t size; /* of id */
    uint8_t id[SL_PEER_MAX];
} sl_peer;

/* One message as received: frames after the routing id. Frames are valid until sl_incoming_fini. */
typedef struct sl_incoming {
    sl_peer peer;
    unsigned n_frames;     /* as sent; more than 2 are counted but not kept */
    const void *data[2];
    size_t size[2];
    int fd;                /* descriptor it came by, -1 unknown */
    struct { _Alignas(void *) unsigned char bytes[64]; } storage[2]; /* zmq_msg_t of the kept frames */
} sl_incoming;

/* Receives without blocking. Errors: TIMEOUT (nothing there). */
SLUICE_NODISCARD sluice_err sl_endpoint_recv(sl_endpoint *endpoint, sl_incoming *out);
void sl_incoming_fini(sl_incoming *incoming);

/* Sends a message to a peer without blocking. Borrows all.
 * Errors: UNREACHABLE (peer gone), OVERLOADED (its pipe is full), NOMEM, TOO_BIG. */
SLUICE_NODISCARD sluice_err sl_endpoint_send(sl_endpoint *endpoint, const sl_peer *peer, const sluice_msg *msg,
                                             int64_t now_ns);

/* The sockets to watch: messages, and monitor events. */
void *sl_endpoint_socket(const sl_endpoint *endpoint);
void *sl_endpoint_monitor_socket(const sl_endpoint *endpoint);

typedef struct sl_endpoint_counters {
    uint64_t accepted, open, dropped_handshake, dropped_oversize;
} sl_endpoint_counters;
/* Drains monitor events, enforces the byte limit on connections that send without ever finishing a message, and tells. */
void sl_endpoint_poll_monitor(sl_endpoint *endpoint, sl_endpoint_counters *out);

#endif
