/* SPDX-License-Identifier: MIT */
/* What gateway.c (the actor), gateway_admit.c (what may pass), gateway_pending.c (what is in flight) and
 * gateway_handle.c (the host's handle) share. Threads: the gateway's dispatcher, unless said otherwise. */
#ifndef SL_GATEWAY_INTERNAL_H
#define SL_GATEWAY_INTERNAL_H

#include <sluice/gateway.h>

#include <pthread.h>
#include <stdatomic.h>

#include "actor_internal.h"
#include "codec.h"
#include "endpoint.h"
#include "zap.h"

/* ---- what is in flight (gateway_pending.c) ---- */

/* A request that was handed on and whose answer is due to a peer. */
typedef struct sl_pending_entry {
    sl_peer *peer;        /* a reference; NULL: the slot is free */
    uint64_t correlation; /* the peer's own */
    int64_t deadline_ns;
    uint32_t generation;  /* tells this use of the slot from earlier ones */
    uint32_t next_free;
    bool query;           /* only reads: had no effect if nobody answered */
} sl_pending_entry;

typedef struct sl_pending {
    sl_pending_entry *entries;
    uint32_t capacity, limit, n_used, first_free;
} sl_pending;

void sl_pending_init(sl_pending *self, uint32_t limit);
void sl_pending_fini(sl_pending *self);
/* Remembers a request. Gives: *key, to be the correlation of the forwarded request (its top bit is clear, as the runtime
 * asks for). Errors: OVERLOADED (limit), NOMEM. */
SLUICE_NODISCARD sluice_err sl_pending_add(sl_pending *self, sl_peer *peer, uint64_t correlation, int64_t deadline_ns,
                                           bool query, uint64_t *key);
/* Finds and forgets. Gives: *out with the peer's reference. False: unknown, or given up before. */
bool sl_pending_take(sl_pending *self, uint64_t key, sl_pending_entry *out);
/* The peer's own number of a request in flight; 0: it is not. */
uint64_t sl_pending_original(const sl_pending *self, uint64_t key);
/* Takes any entry whose deadline is before now_ns, beginning at *position (0 at first). False: none is left. */
bool sl_pending_take_expired(sl_pending *self, int64_t now_ns, uint32_t *position, sl_pending_entry *out);

/* ---- what may pass (gateway_admit.c) ---- */

/* Decides whether a request of this type may go to `to` with the rights in its header, and whether it is complete.
 * Borrows all. Errors: FORBIDDEN (with what to use instead), INVALID. */
SLUICE_NODISCARD sluice_err sl_gateway_admit(const sluice_msg *msg, const char *to, sluice_cause *cause);
/* Decides whether a gateway may listen there. Threads: any. Errors: INVALID, FORBIDDEN. */
SLUICE_NODISCARD sluice_err sl_gateway_admit_address(const char *url, bool allow_plain, bool has_keys,
                                                     sluice_cause *cause);

/* ---- the gateway ---- */

typedef enum sl_gateway_verb { SL_GATEWAY_LISTEN, SL_GATEWAY_RELOAD, SL_GATEWAY_DRAIN } sl_gateway_verb;

/* What a foreign thread asks of the actor. Lives on that thread's stack; it waits until `done`. */
typedef struct sl_gateway_command {
    struct sl_gateway_command *next;
    sl_gateway_verb verb;
    const char *url;    /* LISTEN */
    sl_keyring *keyring; /* RELOAD: taken by the actor if it succeeds */
    sluice_err err;
    sluice_cause cause;
    char resolved[256]; /* LISTEN: where clients find it */
    bool done;
} sl_gateway_command;

typedef struct sl_gateway_counters {
#define SL_GATEWAY_COUNTER(name, meaning) atomic_uint_fast64_t name;
    SLUICE_GATEWAY_STATS_MAP(SL_GATEWAY_COUNTER)
#undef SL_GATEWAY_COUNTER
} sl_gateway_counters;

struct sluice_gateway {
    /* set before the actor starts */
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_gateway_options options;
    char name[SL_WIRE_NAME_MAX + 1];
    char secret_key[SL_KEY_TEXT_SIZE]; /* wiped once the endpoint has it */
    sluice_pid pid;

    /* any thread */
    sl_gateway_counters counters; /* written by the actor alone */

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    sl_gateway_command *commands; /* not yet seen by the actor, in order */
    bool ended;                   /* the actor is gone: it touches nothing of this any more */
    char **endpoints;
    size_t n_endpoints;

    /* the actor's own */
    sl_endpoint *plain; /* ipc, and TCP that was allowed without keys */
    sl_endpoint *curve; /* TCP with keys; NULL: there are none */
    sl_zap *zap;
    sl_keyring *keyring;
    uint64_t round;     /* of keyrings, from 1 */
    sl_pending pending;
    sl_limits limits;
    sluice_timer sweep, expiry, drain;
    bool closing;
    bool settled;        /* closing: clients had, or are having, their time to read the last answers */
    int64_t answered_ns; /* when the latest answer left */
    sl_gateway_command *draining; /* waits for the last answers */
};

/* ---- keys (gateway_keys.c) ---- */

/* Reads keys_directory into the handle, before the actor starts. Threads: the host's. */
SLUICE_NODISCARD sluice_err sl_gateway_keys_load(sluice_gateway *self, sluice_cause *cause);
/* Gives what load read back, if the actor never started. */
void sl_gateway_keys_drop(sluice_gateway *self);
/* Opens the ZAP handler, then the CURVE endpoint. options: as for the plain one. */
SLUICE_NODISCARD sluice_err sl_gateway_keys_open(sluice_gateway *self, sluice_actor *actor,
                                                 const sl_endpoint_options *options, sluice_cause *cause);
void sl_gateway_keys_close(sluice_gateway *self, sluice_actor *actor, int linger_ms);
/* Finds out whose message it is. False: a key that is not listed, or no more; else the message's rights and user are to
 * be these. */
bool sl_gateway_recognise(const sluice_gateway *self, const sl_incoming *incoming, unsigned *rights,
                          uint8_t user[SL_USER_SIZE]);
/* Takes the keyring; cuts who is not in it. Returns how many. */
unsigned sl_gateway_keys_use(sluice_gateway *self, sl_keyring **keyring);

/* The actor's behaviour; its arg is the handle. */
extern const sluice_behaviour sl_gateway_behaviour;

/* sluice_gateway_open with a choice of place: PINNED has a dispatcher of its own, NEAR shares that of the actor `near`
 * (the writer's, say: two hops fewer for services that only write). */
SLUICE_NODISCARD sluice_err sl_gateway_open_at(sluice_runtime *runtime, const sluice_gateway_options *options,
                                               sluice_placement placement, sluice_pid near, sluice_gateway **out,
                                               sluice_cause *cause);

#endif
