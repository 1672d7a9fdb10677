/* SPDX-License-Identifier: MIT */
/* The runtime: a set of dispatchers (threads) on which actors live.
 *
 * Lifecycle rules
 *  1. When sluice_runtime_new returns, the shared dispatchers run. When sluice_runtime_destroy returns, every thread
 *     the runtime made has ended and every message is freed.
 *  2. Destroy stops actors in the reverse order of their start. Work that waits in mailboxes is answered CLOSED.
 *  3. Destroy first closes stores, gateways and clients yourself: they borrow the runtime. (A store or gateway that is
 *     still open is stopped as any actor is; its handle must not be used afterwards but for its close function.)
 *  4. Several runtimes may live in one process. No signal handler, atexit, environment read, global state or stdout.
 */
#ifndef SLUICE_RUNTIME_H
#define SLUICE_RUNTIME_H

#include <sluice/base.h>
#include <sluice/message.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sluice_runtime sluice_runtime;
typedef struct sluice_behaviour sluice_behaviour;

typedef struct sluice_runtime_options {
    unsigned n_shared;     /* shared dispatchers, 1..64; default 1 */
    void *zmq_context;     /* borrowed ZeroMQ context of the host; NULL: the runtime makes and ends its own */
    unsigned n_io_threads; /* ZeroMQ I/O threads of an own context; default 1 */
    unsigned spin_us;      /* a thread looks for its next message so long before it blocks, where that pays: not with
                              one CPU, not while several ports wait, and ever less often as it finds nothing or the
                              CPU is wanted by others; default 200; 0: never */
} sluice_runtime_options;

/* Fills in the defaults. */
SLUICE_API void sluice_runtime_options_init(sluice_runtime_options *options);

/* Starts a runtime. Blocks until its shared dispatchers run. options may be NULL (defaults). Gives: *out.
 * Errors: INVALID, NOMEM, SYSTEM (no thread, no socket). Threads: any. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_runtime_new(const sluice_runtime_options *options, sluice_runtime **out,
                                                          sluice_cause *cause);
/* Stops all actors and threads. Blocks until they have ended. NULL-safe, nulls the pointer.
 * Threads: any thread that is not one of the runtime's dispatchers. */
SLUICE_API void sluice_runtime_destroy(sluice_runtime **runtime);

/* Registers a protobuf type, so that messages of it can arrive from other processes. Keeps: type.
 * Errors: EXISTS (another descriptor under that name), NOMEM. Threads: any. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_runtime_register_type(sluice_runtime *runtime,
                                                                    const struct ProtobufCMessageDescriptor *type);

/* Where a new actor lives. */
typedef enum sluice_placement {
    SLUICE_PLACE_INHERIT = 0, /* on its parent's dispatcher; without a parent: as SHARED */
    SLUICE_PLACE_SHARED,      /* on the shared dispatcher with the fewest actors */
    SLUICE_PLACE_PINNED,      /* on a dispatcher of its own, so it may block */
    SLUICE_PLACE_NEAR,        /* on the dispatcher of the actor `near` */
} sluice_placement;

/* What to start. Zero-initialise, then set behaviour. Borrows everything but behaviour (keeps) and arg (the actor's). */
typedef struct sluice_spec {
    const sluice_behaviour *behaviour;
    void *arg;                 /* handed to init */
    const char *name;          /* registered name, at most 63 bytes; NULL: none */
    bool pool;                 /* the name is a pool's: several actors may join it */
    sluice_placement placement;
    sluice_pid near;           /* with SLUICE_PLACE_NEAR */
    uint32_t mailbox_messages; /* most messages waiting; 0: 1024 */
    uint32_t mailbox_bytes;    /* most bytes waiting; 0: 64 MiB */
    uint32_t mailbox_share;    /* percent of these two that one sender may take, at least one message; 0: all */
    bool fair;                 /* senders take turns, one message each, in place of the order of arrival */
    uint32_t batch;            /* messages per turn before others run; 0: 256 */
} sluice_spec;

/* Starts an actor from outside. Blocks until its init has returned. Gives: *out.
 * Errors: what init returned; EXISTS (name), CLOSED, NOMEM, SYSTEM. Threads: any but a dispatcher's. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_spawn(sluice_runtime *runtime, const sluice_spec *spec, sluice_pid *out,
                                                    sluice_cause *cause);
/* Stops an actor and waits until its stop has returned. An actor that already ended is fine.
 * Messages it had not received: asks are answered ACTOR_DOWN, tells become dead letters.
 * Threads: any but a dispatcher's. */
SLUICE_API void sluice_stop(sluice_runtime *runtime, sluice_pid pid);

/* Sends a message from outside; nobody can answer it. Takes: msg (on success).
 * Errors: NO_ACTOR, OVERLOADED (its mailbox is full), CLOSED. Threads: any. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_post(sluice_runtime *runtime, sluice_pid to, sluice_msg **msg);

/* The actor under a name, or of a pool the member with the least to do: waiting messages, and what it has
 * taken and not answered where it says so; 0 if none. Threads: any. */
SLUICE_API sluice_pid sluice_whereis(sluice_runtime *runtime, const char *name);

typedef struct sluice_runtime_stats {
    uint64_t actors;       /* alive now */
    uint64_t spawned;      /* ever */
    uint64_t failures;     /* behaviours that returned an error */
    uint64_t restarts;     /* by supervisors */
    uint64_t dead_letters; /* messages nobody took */
    uint64_t expired;      /* asks dropped at delivery because their deadline had passed */
    uint64_t overloads;    /* sends refused because a mailbox was full */
    uint64_t messages;     /* delivered to behaviours */
    uint64_t batches;      /* ZeroMQ messages between dispatchers */
} sluice_runtime_stats;

/* Reads the counters. Not one instant: each is exact, together they may be a few messages apart. Threads: any. */
SLUICE_API void sluice_runtime_stats_read(const sluice_runtime *runtime, sluice_runtime_stats *out);

/* Sees each dead letter: borrows msg during the call. Runs on the dispatcher that found it; must not block. */
typedef void (*sluice_dead_letter_fn)(void *context, const sluice_msg *msg, sluice_pid to);
/* Watches dead letters (NULL: stop). Keeps: context. Threads: any, before the traffic of interest. */
SLUICE_API void sluice_runtime_watch_dead_letters(sluice_runtime *runtime, sluice_dead_letter_fn fn, void *context);

#ifdef __cplusplus
}
#endif
#endif
