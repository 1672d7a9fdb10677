/* SPDX-License-Identifier: MIT */
/* What endpoint.c (socket, bind, receive, send) and endpoint_watch.c (connections) share. Threads: as endpoint.h. */
#ifndef SL_ENDPOINT_INTERNAL_H
#define SL_ENDPOINT_INTERNAL_H

#include "endpoint.h"

#include <stdatomic.h>
#include <sys/types.h>

struct sl_peer {
    atomic_uint references;
    atomic_size_t unsent; /* bytes; taken away by ZeroMQ's I/O thread when it has done with them */
    uint32_t in_flight;
    bool barred;
    sl_endpoint *endpoint;
    sl_standing standing;
    int fd;           /* its connection's place in the table, -1: the connection is gone or was never known */
    uint8_t id_size;
    uint8_t id[SL_PEER_ID_MAX];
};

/* A connection, found by the descriptor number ZeroMQ knows it by. */
typedef struct sl_connection {
    bool open;
    bool tcp;
    bool owns_handle; /* handle is our own duplicate */
    bool cut;         /* we shut it down; its end is counted already, or need not be */
    bool suspect;     /* holds more undelivered bytes than one message can have */
    int handle;       /* descriptor to ask and to shut down; -1: none */
    int next_fresh;   /* list of connections whose handle is still to be made, -1 ends it */
    int64_t accepted_ns, heard_ns; /* heard: its latest message */
    uint64_t handshakes_before; /* handshakes done when it was accepted */
    int64_t cut_at_ns; /* 0: none */
    uint64_t delivered; /* wire bytes of the messages the gateway received from it */
    uint64_t suspect_delivered, suspect_received, suspect_drains; /* when the suspicion began */
    sl_peer *peer; /* one reference; NULL until its first message */
} sl_connection;

typedef struct sl_bound {
    char address[256]; /* as ZeroMQ knows it */
    char path[SL_ENDPOINT_PATH_MAX + 1]; /* of an ipc socket, "" for tcp */
    dev_t device; /* of the socket file, so that only our own is removed */
    ino_t inode;
} sl_bound;

struct sl_endpoint {
    void *socket, *monitor;
    sl_endpoint_options options;
    sl_connection *connections; /* indexed by descriptor */
    int n_connections;          /* size of the table */
    int fresh;                  /* first of the fresh ones, -1: none */
    bool curve;
    bool handshake_failed;      /* the latest monitor event was a failed handshake */
    uint64_t refusals_open;     /* connections whose key was refused and that have not ended yet */
    uint64_t handshakes;        /* done ever */
    uint64_t received;          /* messages ever */
    uint64_t drains;            /* times the socket was found empty */
    sl_endpoint_counters counters;
    sl_bound *bound;
    size_t n_bound;
};

sl_peer *sl_peer_new(sl_endpoint *endpoint, const void *id, size_t size);

/* The connection with descriptor fd, NULL if none is known. Valid until the next monitor event. */
sl_connection *sl_connection_find(sl_endpoint *endpoint, int fd);
/* Ends a connection now. */
void sl_connection_cut(sl_connection *connection);
/* Forgets all connections; handles are closed. */
void sl_connections_fini(sl_endpoint *endpoint);

#endif
