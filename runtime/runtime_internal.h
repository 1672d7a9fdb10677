/* SPDX-License-Identifier: MIT */
/* What the files of runtime/ share: the runtime, its actor table, its dispatchers.
 *
 * Who may touch what
 *   slot         any thread, by atomics; its `actor` only the dispatcher that the actor lives on
 *   actor        only its dispatcher, from start to end; before start and after end the thread that makes or frees it
 *   dispatcher   only its own thread, but for `n_actors` and the counters (atomics)
 *   runtime      `lock` guards the list of actors, of dispatchers and of exchanges; the rest is atomic or constant
 */
#ifndef SL_RUNTIME_INTERNAL_H
#define SL_RUNTIME_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "actor_internal.h"
#include "codec.h"
#include "exchange.h"
#include "lanes.h"
#include "names.h"
#include "port.h"
#include "require.h"
#include "spin.h"
#include "timers.h"

typedef struct sl_dispatcher sl_dispatcher;
typedef struct sl_waiter sl_waiter;
typedef struct sl_lend_entry sl_lend_entry;

/* ---- actor table ---- */

#define SL_SLOTS_PER_CHUNK 1024u
#define SL_CHUNKS 4096u

/* One place for an actor or a port. Never freed while the runtime lives, so any thread may look at it by pid. */
typedef struct sl_slot {
    _Atomic uint32_t generation; /* odd while somebody lives here; a pid carries the generation it was made with */
    _Atomic uint32_t exchange;   /* where its messages go */
    _Atomic uint64_t load;       /* waiting: messages in the upper 24 bits, bytes in the lower 40 */
    _Atomic uint32_t held;       /* what the actor says it has taken out of its mailbox and not answered yet */
    _Atomic uint32_t max_messages;
    _Atomic uint32_t max_bytes;
    _Atomic uint32_t share;      /* percent of these two for one sender; 0: no such bound */
    _Atomic uint64_t sent;       /* as load, of what its tenants sent to receivers with such a bound */
    sluice_actor *actor; /* NULL for a port */
    uint32_t next_free;
} sl_slot;

#define SL_LOAD_MESSAGE ((uint64_t)1 << 40)
#define SL_LOAD_BYTES(load) ((load) & (SL_LOAD_MESSAGE - 1))
#define SL_LOAD_MESSAGES(load) ((uint32_t)((load) >> 40))

/* Takes a free slot for somebody who gets messages at `exchange`. 0: table full or no memory. Threads: any. */
sluice_pid sl_slot_take(sluice_runtime *runtime, uint32_t exchange, uint32_t max_messages, uint32_t max_bytes,
                        uint32_t share);
/* Ends a pid: nobody finds the slot by it any more. Threads: the owner of the pid. */
void sl_slot_release(sluice_runtime *runtime, sluice_pid pid);
/* The slot of a living pid, else NULL. Threads: any; the answer may be old a moment later. */
sl_slot *sl_slot_find(const sluice_runtime *runtime, sluice_pid pid);
/* The slot of a pid, living or not; NULL if there never was one. For accounting. */
sl_slot *sl_slot_of(const sluice_runtime *runtime, sluice_pid pid);

/* Charges a message to its receiver's mailbox, or refuses: OVERLOADED. Control messages and replies are not charged.
 * Where the receiver bounds each sender's share, the sender's slot is charged too; peers of a gateway are its affair.
 * The charge is given back by sl_slot_discharge, exactly once, wherever the message ends up. Threads: any. */
sluice_err sl_slot_charge(const sluice_runtime *runtime, sl_slot *slot, sluice_msg *msg);
void sl_slot_discharge(sluice_runtime *runtime, sluice_msg *msg);

/* ---- runtime's own messages (SL_MSG_SYSTEM) ---- */

enum sl_system {
    SL_SYSTEM_START = 1, /* argument: sl_waiter or 0 */
    SL_SYSTEM_STOP,      /* argument: sl_waiter or 0; deadline_ns: 1 if asked for from outside (final) */
    SL_SYSTEM_RESTART,
    SL_SYSTEM_DOWN,      /* from: who ended; argument: why */
    SL_SYSTEM_MONITOR,   /* from: who wants to know */
    SL_SYSTEM_DEMONITOR,
    SL_SYSTEM_CHILD,     /* to a supervisor: from: child; argument: why; correlation: enum sl_child_event */
    SL_SYSTEM_CALL,      /* argument: sl_call */
    SL_SYSTEM_QUIT,      /* to a dispatcher */
    SL_SYSTEM_CLOSED,    /* to a port: the runtime is going down */
};
enum sl_child_event { SL_CHILD_FAILED = 1, SL_CHILD_ENDED, SL_CHILD_ENDED_FOR_GOOD };

/* Makes a system message. NULL: out of memory. */
sluice_msg *sl_system_new(enum sl_system system, uint64_t argument);

/* Somebody outside who waits for one event on a dispatcher. */
struct sl_waiter {
    pthread_mutex_t lock;
    pthread_cond_t event;
    bool done;
    sluice_err err;
    sluice_cause cause;
    sl_waiter *next;
};
void sl_waiter_init(sl_waiter *waiter);
void sl_waiter_signal(sl_waiter *waiter, sluice_err err, const sluice_cause *cause);
/* Blocks until signalled; then the waiter is finished and its storage may go. */
sluice_err sl_waiter_wait(sl_waiter *waiter, sluice_cause *cause);

/* ---- actors ---- */

/* Allowed moves (checked):
 *
 *   NEW --START--> RUNNING --error--> ENDED (no supervisor)
 *    |                |  \--error--> FAILED --RESTART--> RUNNING
 *    |                |                 \--STOP--> ENDED
 *    +-init fails--> ENDED <--stop----+
 */
typedef enum sl_actor_state { SL_ACTOR_NEW, SL_ACTOR_RUNNING, SL_ACTOR_FAILED, SL_ACTOR_ENDED } sl_actor_state;

typedef struct sl_queue {
    sluice_msg *head, *tail;
} sl_queue;

typedef struct sl_ask {
    uint64_t correlation; /* 0: free */
    sluice_reply_fn fn;
    void *context;
    sl_timer *timer;
} sl_ask;

typedef struct sl_pids {
    sluice_pid *items;
    uint32_t n, capacity;
} sl_pids;
sluice_err sl_pids_add(sl_pids *pids, sluice_pid pid);
bool sl_pids_remove(sl_pids *pids, sluice_pid pid);
void sl_pids_fini(sl_pids *pids);

struct sluice_actor {
    sl_dispatcher *home;
    sluice_pid pid;
    sluice_runtime *runtime;
    const sluice_behaviour *behaviour;
    void *arg, *state;
    sl_actor_state phase;
    bool queued;       /* in the run queue */
    bool dirty;        /* received since the latest drained */
    bool stop_wanted;  /* stop after the message at hand */
    bool stop_final;   /* asked for from outside: a supervisor does not restart it */
    sluice_err stop_why;
    bool permanent;    /* restarted by its supervisor also after it stopped itself */
    bool has_name;
    uint32_t batch, since_drained;
    sl_queue control, data;
    sl_lanes *lanes; /* in place of data, if the mailbox is fair */
    sluice_actor *run_next, *dirty_next;
    sl_ask *asks; /* open addressing, power of two; NULL: none yet */
    uint32_t n_asks, asks_capacity;
    sl_timer *timers; /* all of them, doubly linked */
    sl_pids watchers;  /* who monitors self */
    sl_pids watching;  /* whom self monitors */
    sluice_pid supervisor;
    sl_waiter *stop_waiters;
    void (*on_child)(sluice_actor *self, sluice_pid child, enum sl_child_event event, sluice_err why);
    bool (*on_stop)(sluice_actor *self); /* true: the actor ends itself later by sl_actor_finish */
    uint32_t n_watched; /* sockets and descriptors */
    sluice_actor *older, *younger; /* by start, under runtime->lock */
    char name[64];
};

/* Makes an actor that does not run yet and takes its name. Gives: *out, to be started by sl_actor_start.
 * Errors: INVALID, EXISTS, NOMEM, CLOSED, SYSTEM. */
sluice_err sl_actor_prepare(sluice_runtime *runtime, const sluice_spec *spec, sl_dispatcher *parent,
                            sluice_actor **out, sluice_cause *cause);
/* Frees an actor that was prepared and never started. */
void sl_actor_discard(sluice_actor **actor);
/* Sends START from outside and waits. The actor must not be touched afterwards. */
sluice_err sl_actor_start(sluice_actor *actor, sluice_cause *cause);

/* Runs fn on an actor's dispatcher, as a callback of the actor, and waits. Errors: what fn returned, NO_ACTOR.
 * Threads: any but a dispatcher's. */
typedef sluice_err (*sl_call_fn)(sluice_actor *self, void *context, sluice_cause *cause);
sluice_err sl_actor_call(sluice_runtime *runtime, sluice_pid pid, sl_call_fn fn, void *context, sluice_cause *cause);

/* The two ends of an ask, for dispatcher.c. on_reply: false if the ask has ended before. */
bool sl_actor_on_reply(sluice_actor *self, sluice_msg **msg);
void sl_actor_on_ask_deadline(sluice_actor *self, uint64_t correlation);
/* Correlations made by sluice_ask have this bit; those of actors that correlate by themselves have not. */
#define SL_OWN_CORRELATION ((uint64_t)1 << 63)

/* For actors with an on_stop: the end. Threads: self's dispatcher. */
void sl_actor_finish(sluice_actor *self, sluice_err why);

/* ---- dispatchers ---- */

typedef struct sl_counters {
    _Atomic uint64_t messages, batches, failures, restarts, dead_letters, expired, overloads;
} sl_counters;

typedef struct sl_watch {
    void *socket; /* or NULL */
    int fd;
    sluice_actor *actor; /* NULL: removed, to be swept */
    sl_socket_fn socket_fn;
    sl_fd_fn fd_fn;
    void *context;
} sl_watch;

struct sl_dispatcher {
    sluice_runtime *runtime;
    sl_dispatcher *next; /* in runtime->dispatchers */
    pthread_t thread;
    bool pinned;
    bool quit;
    uint32_t exchange_id; /* exchange.id, for others to read */
    _Atomic bool finished; /* its thread is about to return */
    _Atomic uint32_t n_actors;
    int64_t now_ns;
    sl_exchange exchange;
    sl_spin spin;
    sl_timer_heap timers;
    sluice_actor *run_head, *run_tail;
    sluice_actor *dirty_head, *dirty_tail;
    sl_watch *watches;
    size_t n_watches, watches_capacity;
    struct zmq_pollitem_t *poll_items; /* watches_capacity + 1 */
    bool watches_changed;
    uint64_t next_correlation;
    sl_counters counters;
};

/* Starts a dispatcher's thread. Blocks until its exchange is open. Gives: *out. */
sluice_err sl_dispatcher_open(sluice_runtime *runtime, bool pinned, sl_dispatcher **out, sluice_cause *cause);
/* Joins the threads of pinned dispatchers that have ended and frees them; all: also those about to end, when nobody can
 * start actors any more. Threads: any but a dispatcher's; a dispatcher may call it with all false. */
void sl_dispatchers_reap(sluice_runtime *runtime, bool all);

/* Puts a message into its receiver's mailbox, or finds that it cannot be delivered. Takes: msg, always. */
void sl_dispatcher_deliver(sl_dispatcher *dispatcher, sluice_msg *msg);
/* Routes a message whose charge has been taken: local mailbox or exchange. Takes: msg, always. */
void sl_dispatcher_route(sl_dispatcher *dispatcher, sl_slot *slot, sluice_msg *msg);
/* A message nobody can take: an asker hears `why`, a monitor hears DOWN, the rest is a dead letter. Takes: msg. */
void sl_dispatcher_undeliverable(sl_dispatcher *dispatcher, sluice_msg *msg, sluice_err why);
/* Makes an actor run in this round. */
void sl_dispatcher_wake(sl_dispatcher *dispatcher, sluice_actor *actor);
/* Ends an actor for good: stop, answers, DOWN, slot, memory. */
void sl_dispatcher_end(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_err why);
/* A behaviour failed. */
void sl_dispatcher_fail(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_err why);
/* Handles one message of the control lane for the actor. Takes: msg. The actor may be gone afterwards: false. */
bool sl_dispatcher_system(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_msg *msg);
/* Ends everything an actor waits for: asks, timers, watches, monitors. */
void sl_actor_clear(sluice_actor *actor);
/* Sends a system message to a pid from a dispatcher. */
void sl_dispatcher_tell_system(sl_dispatcher *dispatcher, sluice_pid from, sluice_pid to, sluice_msg *msg);

/* ---- runtime ---- */

struct sluice_runtime {
    void *zmq_context;
    bool owns_context;
    sl_registry *registry;
    sl_names *names;
    uint32_t spin_us;
    _Atomic uint32_t n_waiting; /* ports in a call that waits */
    _Atomic bool closing;
    _Atomic int references; /* the runtime itself, and each open port */
    _Atomic uint64_t live_batches;
    _Atomic uint64_t n_actors, spawned;
    sl_counters counters; /* of threads that are no dispatcher, and of dispatchers that have ended */

    pthread_mutex_t lock;
    sluice_actor *youngest;
    struct sl_port *ports;
    sl_lend_entry *lenders; /* lend.c */
    sl_dispatcher *dispatchers;
    sl_dispatcher **shared;
    unsigned n_shared;
    uint32_t *exchange_generations; /* by exchange id; odd: open */
    uint32_t n_exchanges;

    pthread_mutex_t slots_lock;
    _Atomic(sl_slot *) chunks[SL_CHUNKS];
    uint32_t n_slots, free_slot;

    pthread_mutex_t outside_lock; /* guards outside: the exchange of threads that have none */
    sl_exchange outside;

    _Atomic(sluice_dead_letter_fn) dead_letter_fn;
    _Atomic(void *) dead_letter_context;
};

/* Drops what is still offered; the last step of the runtime's end. */
void sl_lend_free(sluice_runtime *runtime);
/* Tells every open port that nothing will come any more. */
void sl_ports_tell_closed(sluice_runtime *runtime);
/* Drops a reference; the last one frees the memory and ends an own ZeroMQ context. */
void sl_runtime_drop(sluice_runtime *runtime);
/* Sends from a thread that is no dispatcher and has no port. Takes: msg (on success). */
sluice_err sl_runtime_send(sluice_runtime *runtime, sluice_pid to, sluice_msg **msg);
/* Counts and shows a dead letter and frees it. Takes: msg. Threads: any. */
void sl_runtime_dead_letter(sluice_runtime *runtime, sluice_msg *msg);

/* The dispatcher whose thread is calling, NULL outside. Used only to catch calls that would wait for themselves. */
sl_dispatcher *sl_dispatcher_current(void);

#endif
