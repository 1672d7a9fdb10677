/* SPDX-License-Identifier: MIT */
/* How a client's messages travel: in process through a port, or to another process through a link.
 *
 * One small function table with two implementations (inproc.c, remote.c). The client above it (inflight.c) holds the
 * flights, deadlines and retries, the same for both. Threads: one at a time.
 */
#ifndef SL_CLIENT_TRANSPORT_H
#define SL_CLIENT_TRANSPORT_H

#include "codec.h"

#include <sluice/client.h>

typedef struct sl_transport sl_transport;

/* What sl_transport_ops.recv came back with. */
typedef enum sl_arrival {
    SL_ARRIVAL_NONE,       /* nothing by then */
    SL_ARRIVAL_MESSAGE,    /* *out is given */
    SL_ARRIVAL_BAD,        /* something that could not be decoded; *correlation and cause say what is known */
    SL_ARRIVAL_CONNECTION, /* the connection came or went: look at state */
    SL_ARRIVAL_CLOSED,     /* nothing will come any more */
} sl_arrival;

typedef struct sl_transport_state {
    bool connected;
    uint64_t connections; /* ever made */
    const char *problem;  /* why the latest attempt failed, static; may be NULL */
} sl_transport_state;

typedef struct sl_transport_ops {
    /* The message moves away and comes back as its own reply (true), or it is packed and stays with the caller, who may
     * send it again (false). */
    bool moves;
    /* Sends without waiting. `to` is a registered name. Takes: msg on success, if the messages move.
     * Errors: OVERLOADED, UNREACHABLE (not connected: nothing was sent), NO_ACTOR, CLOSED, TOO_BIG, NOMEM. */
    sluice_err (*send)(sl_transport *self, sluice_msg **msg, const char *to, int64_t now_ns);
    /* Lets what was gathered go. */
    void (*flush)(sl_transport *self);
    /* Takes the next thing that arrived, waiting until until_ns (0: not at all). */
    sl_arrival (*recv)(sl_transport *self, int64_t until_ns, sluice_msg **out, uint64_t *correlation,
                       sluice_cause *cause);
    sl_transport_state (*state)(sl_transport *self);
    /* Tells whether an actor of that name exists, as far as it can be known here. */
    bool (*reachable)(sl_transport *self, const char *name);
    sluice_err (*register_type)(sl_transport *self, const ProtobufCMessageDescriptor *type);
    /* Runs a read on this thread, if there is a way to: then true, with *err, cause and reply as its end. */
    bool (*read_here)(sl_transport *self, sluice_msg *request, int64_t now_ns, sluice_msg *reply,
                      sluice_err *err, sluice_cause *cause);
    /* Edge-triggered descriptors; -1: none. */
    void (*fds)(const sl_transport *self, int out[2]);
    void (*close)(sl_transport *self, int linger_ms);
} sl_transport_ops;

struct sl_transport {
    const sl_transport_ops *ops;
};

/* Gives: *out. options are complete (options_init ran). */
/* writer: name of the writer actor, which must live; readers: of the pool, under which local leases are offered. */
sluice_err sl_transport_open_inproc(const sluice_client_options *options, const char *writer, const char *readers,
                                    sl_transport **out, sluice_cause *cause);
sluice_err sl_transport_open_remote(const char *url, const sluice_client_options *options, sl_transport **out,
                                    sluice_cause *cause);

#endif
