/* SPDX-License-Identifier: MIT */
/* An endpoint: the gateway's listening end, a ROUTER with all its safety options set.
 *
 * It binds, receives whole messages, follows every connection through the socket monitor, and sends replies to peers.
 * It does not decode. What it guards against is listed above each function; the reasons are in endpoint.c.
 * Threads: one at a time (the gateway actor's dispatcher), but for sl_peer_hold and sl_peer_drop (any).
 */
#ifndef SL_ENDPOINT_H
#define SL_ENDPOINT_H

#include "codec.h"
#include "keys.h"

typedef struct sl_endpoint sl_endpoint;

typedef struct sl_endpoint_options {
    void *zmq_context;        /* borrowed */
    size_t max_message_bytes; /* of one frame; larger ones end their connection */
    int handshake_ms;         /* a connection that has not greeted by then is dropped */
    int send_hwm, recv_hwm;   /* messages per peer; replies over it are refused, never queued without bound */
    size_t max_unsent_bytes;  /* of replies one peer has not taken; more are refused */
    const char *secret_key;   /* of the server, 40 letters: all connections are CURVE; NULL: none is (borrowed) */
    const char *zap_domain;   /* with secret_key: whom the ZAP handler knows it by, not "" */
} sl_endpoint_options;

/* Opens one endpoint. All its connections are of one kind: with CURVE each client's key has passed the context's ZAP
 * handler (zap.h), which must be bound before the first bind; without, peers on ipc are of our own user id.
 * Gives: *out. Errors: NOMEM, INVALID (secret key), UNSUPPORTED (libzmq does not enforce the domain), SYSTEM. */
SLUICE_NODISCARD sluice_err sl_endpoint_open(const sl_endpoint_options *options, sl_endpoint **out,
                                             sluice_cause *cause);
/* Stops listening, removes ipc socket files it made, closes; replies not yet handed to the network are sent for at most
 * linger_ms, in the background. NULL-safe, nulls the pointer. */
void sl_endpoint_close(sl_endpoint **endpoint, int linger_ms);
/* Binds one more address, "tcp://ADDRESS:PORT" (port 0 or *: any free one) or "ipc://PATH". resolved: the address
 * clients can use, at least 256 bytes. The caller has checked what the address may be, and that no one else owns what
 * stands behind an ipc path; a path where somebody answers is refused all the same, a dead socket file is replaced.
 * Errors: INVALID (URL, path over 100 bytes), EXISTS (in use), SYSTEM. */
SLUICE_NODISCARD sluice_err sl_endpoint_bind(sl_endpoint *endpoint, const char *url, char *resolved, size_t size,
                                             sluice_cause *cause);
/* Removes the ipc socket files it made, so that no new client finds them. TCP ports, and all connections, stay until
 * close: ZeroMQ ends a listener's connections with the listener. May run twice. */
void sl_endpoint_hide(sl_endpoint *endpoint);

#define SL_ENDPOINT_PATH_MAX 100u
#define SL_PEER_ID_MAX 255u

/* One connection's other end. Reference counted, since requests in flight remember whom to answer. */
typedef struct sl_peer sl_peer;

/* Gives one more reference, and returns peer. Threads: any. */
sl_peer *sl_peer_hold(sl_peer *peer);
/* Takes a reference; the last one frees. NULL-safe, nulls the pointer. Threads: any. */
void sl_peer_drop(sl_peer **peer);
/* Bytes of replies that ZeroMQ still holds for the peer; small ones are not counted (send_hwm bounds them). */
size_t sl_peer_unsent(const sl_peer *peer);
/* A number that belongs to the endpoint's caller: requests of this peer being worked on. Starts at 0. */
uint32_t *sl_peer_in_flight(sl_peer *peer);
/* The endpoint it came by. Valid as long as that is open. */
sl_endpoint *sl_peer_endpoint(const sl_peer *peer);

/* What the endpoint's caller found out about a peer, and when. Starts as zeros. */
typedef struct sl_standing {
    uint64_t round;  /* of the caller's own counting; 0: nothing was found out yet */
    const void *who; /* in that round */
} sl_standing;
sl_standing *sl_peer_standing(sl_peer *peer);

/* True once the peer was barred, or does not speak our protocol: what it sent is to be dropped unread. */
bool sl_peer_barred(const sl_peer *peer);

/* One message as received: frames after the routing id. Valid until sl_incoming_fini. */
typedef struct sl_incoming {
    sl_peer *peer;     /* a reference of the incoming's own */
    unsigned n_frames; /* as sent; those after the second are freed unread */
    unsigned n_kept;   /* at most 2 */
    const char *key;   /* of the client, 40 letters, as the ZAP handler passed it; NULL: no CURVE, or not to be had */
    const void *data[2];
    size_t size[2];
    struct {
        _Alignas(void *) unsigned char bytes[64];
    } storage[2]; /* zmq_msg_t of the kept frames */
} sl_incoming;

/* Receives without blocking. Errors: TIMEOUT (nothing there), NOMEM (one message was lost). */
SLUICE_NODISCARD sluice_err sl_endpoint_recv(sl_endpoint *endpoint, int64_t now_ns, sl_incoming *out);
void sl_incoming_fini(sl_incoming *incoming);

/* Bars a peer: what it sends from now on is marked barred, and its connection is cut half a second later, so that a
 * last answer can reach it. */
void sl_endpoint_bar(sl_endpoint *endpoint, sl_peer *peer, int64_t now_ns);

/* Cuts the connections of all peers that keep() does not want; what they sent before and what is due to them is
 * dropped. Returns how many. Connections that have sent nothing yet are not asked about. */
typedef bool (*sl_endpoint_keep_fn)(void *context, sl_peer *peer);
unsigned sl_endpoint_review(sl_endpoint *endpoint, sl_endpoint_keep_fn keep, void *context);

/* Sends a message to a peer without blocking. Borrows all.
 * Errors: UNREACHABLE (peer gone), OVERLOADED (it does not take its replies), NOMEM, TOO_BIG. */
SLUICE_NODISCARD sluice_err sl_endpoint_send(sl_endpoint *endpoint, sl_peer *peer, const sluice_msg *msg,
                                             int64_t now_ns);

/* The sockets to watch: messages, and monitor events. */
void *sl_endpoint_socket(const sl_endpoint *endpoint);
void *sl_endpoint_monitor_socket(const sl_endpoint *endpoint);

typedef struct sl_endpoint_counters {
    uint64_t accepted, open;
    uint64_t dropped_handshake; /* ended before our greeting was understood, or in another language */
    uint64_t refused_key;       /* the client's key is not listed, or nobody was there to look */
    uint64_t refused_plain;     /* the client came without a key (another mechanism) */
    uint64_t refused_server_key; /* the client took us for another server, or its handshake was forged */
    uint64_t dropped_oversize;  /* ended for a frame over the limit, another breach of the protocol's framing, or for
                                   sending without ever finishing a message */
    uint64_t dropped_silent;    /* ended because heartbeats were not answered */
    uint64_t accept_failed;     /* the system refused a connection (descriptors) */
} sl_endpoint_counters;
/* Drains monitor events: to be called when the monitor socket is readable. */
void sl_endpoint_poll_monitor(sl_endpoint *endpoint, int64_t now_ns);
/* Enforces what needs a clock: greeting in time, the byte limit on connections that send without ever finishing a
 * message, barred peers. Returns in how many milliseconds it wants to be called again, 0 if there is nothing to do
 * until the next connection. */
uint32_t sl_endpoint_sweep(sl_endpoint *endpoint, int64_t now_ns);
const sl_endpoint_counters *sl_endpoint_counters_of(const sl_endpoint *endpoint);

#endif
