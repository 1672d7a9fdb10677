/* SPDX-License-Identifier: MIT */
/* Actors: state plus a behaviour, one message at a time, never two threads at once.
 *
 * Lifecycle rules
 *  1. init runs first, on the actor's own dispatcher; if it fails the actor never lived and stop is not called.
 *  2. receive handles one message and runs to completion. An error it returns is a failure: the actor's stop runs, its
 *     asker gets ACTOR_DOWN, those who monitor it get down(), and its supervisor may restart it (supervisor.h).
 *  3. drained runs after receive when the mailbox has run empty or the turn's batch is used up.
 *  4. stop runs last, once, on every path but a failed init. After it nothing of the actor runs.
 *  5. A pinned actor may block in its callbacks; one on a shared dispatcher must not.
 *
 * Threads: every function here that takes `self` may be called only from that actor's callbacks.
 */
#ifndef SLUICE_ACTOR_H
#define SLUICE_ACTOR_H

#include <sluice/base.h>
#include <sluice/message.h>
#include <sluice/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sluice_actor sluice_actor;

struct sluice_behaviour {
    const char *kind; /* for logs and counters, static */
    /* Builds the state from spec.arg; calls sluice_actor_set_state. NULL: the state is arg itself. */
    sluice_err (*init)(sluice_actor *self, void *arg, sluice_cause *cause);
    /* Handles one message. May take it by nulling *msg; what is left is destroyed by the runtime. Required. */
    sluice_err (*receive)(sluice_actor *self, sluice_msg **msg);
    sluice_err (*drained)(sluice_actor *self);
    /* An actor that self monitors ended; why is OK for a normal stop. */
    void (*down)(sluice_actor *self, sluice_pid who, sluice_err why);
    /* Frees the state. why is OK for a normal stop, else what receive or drained returned. */
    void (*stop)(sluice_actor *self, sluice_err why);
};

SLUICE_API void sluice_actor_set_state(sluice_actor *self, void *state);
SLUICE_API void *sluice_actor_state(const sluice_actor *self);
SLUICE_API sluice_pid sluice_actor_pid(const sluice_actor *self);
SLUICE_API sluice_runtime *sluice_actor_runtime(const sluice_actor *self);
/* Monotonic nanoseconds, read once per turn. */
SLUICE_API int64_t sluice_actor_now_ns(const sluice_actor *self);

/* Sends without waiting for an answer. Order between a pair of actors is kept. Takes: msg (on success).
 * Errors: NO_ACTOR, OVERLOADED (its mailbox is full; nothing was queued), CLOSED. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_tell(sluice_actor *self, sluice_pid to, sluice_msg **msg);

/* Hears the end of an ask, exactly once: err OK with *reply (may be taken by nulling it), or an error with reply NULL
 * and cause set. Runs as a callback of self. Not called if self ends first. */
typedef void (*sluice_reply_fn)(sluice_actor *self, void *context, sluice_err err, sluice_msg **reply,
                                const sluice_cause *cause);
/* Sends and waits for one of: a reply, a typed error, the deadline (TIMEOUT). Takes: msg (on success). Keeps: context.
 * timeout_ms 1..2^31. Errors: as tell, then fn is not called. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_ask(sluice_actor *self, sluice_pid to, sluice_msg **msg,
                                                  uint32_t timeout_ms, sluice_reply_fn fn, void *context);

/* Answers an ask. Takes: reply, always (an answer to nobody is a dead letter). Borrows: request. */
SLUICE_API void sluice_reply(sluice_actor *self, const sluice_msg *request, sluice_msg **reply);
/* Answers an ask with a typed error. Borrows: request, cause. */
SLUICE_API void sluice_reply_error(sluice_actor *self, const sluice_msg *request, const sluice_cause *cause);

typedef uint64_t sluice_timer; /* 0 is none */
typedef void (*sluice_timer_fn)(sluice_actor *self, void *context);
/* Calls fn once after delay_ms, or every period_ms from then on if period_ms is not 0. Keeps: context. Gives: *out.
 * Timers end with the actor. Errors: NOMEM. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_timer_start(sluice_actor *self, uint32_t delay_ms, uint32_t period_ms,
                                                          sluice_timer_fn fn, void *context, sluice_timer *out);
/* Ends a timer. Takes 0 and timers that already fired; zeroes *timer. */
SLUICE_API void sluice_timer_cancel(sluice_actor *self, sluice_timer *timer);

/* Asks for down() when `who` ends or fails; at once (in a later turn) if it already did. Errors: NOMEM. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_monitor(sluice_actor *self, sluice_pid who);
SLUICE_API void sluice_demonitor(sluice_actor *self, sluice_pid who);

/* Starts a child. Returns at once; a child whose init fails is seen through a monitor. Placement INHERIT is self's
 * dispatcher. Gives: *out. Errors: EXISTS (name), NOMEM, CLOSED. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_actor_spawn(sluice_actor *self, const sluice_spec *spec, sluice_pid *out);
/* Asks an actor (also self) to stop after the message it is handling. */
SLUICE_API void sluice_actor_stop(sluice_actor *self, sluice_pid pid);

#ifdef __cplusplus
}
#endif
#endif
