/* SPDX-License-Identifier: MIT */
/* The gateway: the one front door for clients in other processes (ipc) and on other machines (tcp).
 *
 * It bounds and decodes what arrives, answers what is wrong with a typed error, and forwards the rest to the named
 * actor: NAME/writer, NAME/readers, or any actor the host registered, with any type the host registered.
 *
 * Who may do what: a client on ipc runs as our own user and has all rights. A client on TCP proves that it holds the
 * secret key of a public key that is listed, or is not let in:
 *     DIR/server.key_secret   the server's pair, mode 0600
 *     DIR/clients/NAME.key    a client's public key; a line `rights = "read"`, "write" (reads too) or "admin" (all) under
 *                             metadata says what it may do; without one it is admin
 * (`sluice keygen` makes such files.) Messages to actors of the host's own need the write right; what is beyond, they
 * can ask (sluice_msg_rights). A client's session (its ids and receipts) is its key's alone. One ZeroMQ context has one
 * gateway with keys.
 */
#ifndef SLUICE_GATEWAY_H
#define SLUICE_GATEWAY_H

#include <sluice/base.h>
#include <sluice/runtime.h>
#include <sluice/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sluice_gateway sluice_gateway;

typedef struct sluice_gateway_options {
    const char *name;             /* registered name; default "gateway" */
    sluice_store *store;          /* kept; answers StatusRequest with its counters; NULL: none */
    const char *keys_directory;   /* TCP by CURVE for the keys listed there, see below; read while opening; NULL: none */
    bool allow_plain;             /* TCP without CURVE, loopback addresses only; not with keys; default false */
    uint32_t max_message_bytes;   /* one request on the wire; default 16 MiB */
    uint32_t max_inflight;        /* requests of one peer being worked on; default 4096 */
    uint32_t max_inflight_total;  /* of all peers; default 65536 */
    uint32_t max_unsent_bytes;    /* replies one peer has not taken; from half of it on its requests are refused, at the
                                     whole of it replies are dropped; default 128 MiB */
    uint32_t handshake_ms;        /* a peer that has not greeted by then is dropped; default 3000 */
} sluice_gateway_options;

SLUICE_API void sluice_gateway_options_init(sluice_gateway_options *options);

/* Starts a gateway that listens nowhere yet. Keeps: runtime, store. Gives: *out. Errors: EXISTS (name), NOMEM, SYSTEM.
 * Threads: any but a dispatcher's. With keys also: INVALID and FORBIDDEN (a file in keys_directory is wrong, or open to
 * other users), EXISTS (the context has a gateway with keys), UNSUPPORTED (libzmq cannot do it safely). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_gateway_open(sluice_runtime *runtime,
                                                           const sluice_gateway_options *options, sluice_gateway **out,
                                                           sluice_cause *cause);
/* Listens on "ipc://PATH" (directory made 0700 if missing) or "tcp://ADDRESS:PORT" (port * or 0: any free one).
 * When it returns, clients can connect. Errors: INVALID (URL, path over 100 bytes), FORBIDDEN (plain TCP not allowed or
 * not loopback), EXISTS (address in use), SYSTEM. Threads: any but a dispatcher's. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_gateway_listen(sluice_gateway *gateway, const char *url,
                                                             sluice_cause *cause);
/* Reads the clients' keys again. Those that are gone are cut off at once, new rights count from the next request on.
 * The server's own key stays. A file that is wrong is left out, so lets nobody in, and is the error returned; the others
 * count all the same. Other errors (directory cannot be read, NOMEM, CLOSED; INVALID: opened without keys) change nothing.
 * Threads: any but a dispatcher's. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_gateway_reload_keys(sluice_gateway *gateway, sluice_cause *cause);
/* The i-th endpoint as clients can use it, ports resolved; NULL past the last. Valid until close. */
SLUICE_API const char *sluice_gateway_endpoint(const sluice_gateway *gateway, size_t i);
/* Answers new requests CLOSED, waits up to two seconds for the answers to what is in flight, answers the rest CLOSED if
 * it only reads, else UNKNOWN, and stops listening. Blocks. NULL-safe, nulls the pointer. */
SLUICE_API void sluice_gateway_close(sluice_gateway **gateway);

/* X(name, meaning): counters of the door; a drop is always counted with its reason. */
#define SLUICE_GATEWAY_STATS_MAP(X)                                                                                    \
    X(connections, "connections accepted")                                                                             \
    X(connections_open, "connections open now")                                                                        \
    X(requests, "requests forwarded")                                                                                  \
    X(replies, "replies sent")                                                                                         \
    X(rejected, "requests answered with an error by the gateway itself")                                               \
    X(dropped_handshake, "connections that did not greet in time or not in our language")                              \
    X(refused_key, "connections refused because their key is not listed, or nobody answered for it")                   \
    X(refused_plain, "connections refused because they came without a key where one is due")                           \
    X(refused_server_key, "connections refused because they expected another server's key")                            \
    X(dropped_oversize, "connections closed for a frame over the limit, or a message that never ended")                \
    X(dropped_silent, "connections closed because heartbeats were not answered")                                       \
    X(dropped_unroutable, "replies whose peer had gone, or did not take them")                                         \
    X(dropped_late, "replies to requests that were given up before")                                                   \
    X(expired, "requests given up because no reply came by their deadline")                                            \
    X(accept_failed, "connections the system refused, for want of descriptors")                                        \
    X(barred, "peers barred for breaking the framing")                                                                 \
    X(cut_keys, "connections cut because their key was barred")

typedef struct sluice_gateway_stats {
#define SLUICE_GATEWAY_STATS_FIELD(name, meaning) uint64_t name;
    SLUICE_GATEWAY_STATS_MAP(SLUICE_GATEWAY_STATS_FIELD)
#undef SLUICE_GATEWAY_STATS_FIELD
} sluice_gateway_stats;

SLUICE_API void sluice_gateway_stats_read(const sluice_gateway *gateway, sluice_gateway_stats *out);

#ifdef __cplusplus
}
#endif
#endif
