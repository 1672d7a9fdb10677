/* SPDX-License-Identifier: MIT */
/* The life of an actor: made, started, failed, restarted, ended; and the system messages that drive it.
 *
 * Owning thread: the actor's dispatcher, but for prepare, discard, start and call, which run on the thread that asks.
 * States: see sl_actor_state in runtime_internal.h; `move` checks every change against the table below.
 *
 * Messages accepted (SL_MSG_SYSTEM): START, STOP, RESTART, DOWN, MONITOR, DEMONITOR, CHILD, CALL.
 * Messages sent: DOWN to those who monitor, CHILD to the supervisor.
 *
 * Invariants
 *  1. stop runs exactly once for each init that succeeded.
 *  2. Who monitors an actor hears DOWN exactly once for each monitor, whether the actor ended before or after.
 *  3. A waiter is signalled on every path, also when its message is never delivered.
 *  4. An ended actor's memory goes when neither the run queue nor the dirty list holds it.
 */
#include <string.h>

#include "runtime_internal.h"

enum { DEFAULT_MESSAGES = 1024, DEFAULT_BYTES = 64 * 1024 * 1024, DEFAULT_BATCH = 256 };

static void move(sluice_actor *actor, sl_actor_state to) {
    static const bool allowed[4][4] = {
        [SL_ACTOR_NEW] = {[SL_ACTOR_RUNNING] = true, [SL_ACTOR_ENDED] = true},
        [SL_ACTOR_RUNNING] = {[SL_ACTOR_FAILED] = true, [SL_ACTOR_ENDED] = true},
        [SL_ACTOR_FAILED] = {[SL_ACTOR_RUNNING] = true, [SL_ACTOR_FAILED] = true, [SL_ACTOR_ENDED] = true},
    };
    SL_REQUIRE(allowed[actor->phase][to]);
    actor->phase = to;
}

/* ---- made ---- */

/* The shared dispatcher with the fewest actors. */
static sl_dispatcher *least_loaded(sluice_runtime *runtime) {
    sl_dispatcher *best = runtime->shared[0];
    for (unsigned i = 1; i < runtime->n_shared; i++)
        if (runtime->shared[i]->n_actors < best->n_actors) best = runtime->shared[i];
    return best;
}

/* Chooses a dispatcher and counts the actor in, so that a pinned one cannot end meanwhile. */
static sluice_err place(sluice_runtime *runtime, const sluice_spec *spec, sl_dispatcher *parent, sl_dispatcher **out,
                        sluice_cause *cause) {
    sl_dispatcher *home = NULL;
    if (spec->placement == SLUICE_PLACE_PINNED) {
        sluice_err err = sl_dispatcher_open(runtime, true, &home, cause);
        if (err != SLUICE_OK) return err;
        *out = home; /* open counted its one actor in */
        return SLUICE_OK;
    }
    pthread_mutex_lock(&runtime->lock);
    if (spec->placement == SLUICE_PLACE_NEAR) {
        sl_slot *slot = sl_slot_find(runtime, spec->near);
        uint32_t exchange = slot != NULL ? atomic_load(&slot->exchange) : 0;
        for (home = runtime->dispatchers; home != NULL && home->exchange_id != exchange;) home = home->next;
    } else if (spec->placement == SLUICE_PLACE_INHERIT && parent != NULL) {
        home = parent;
    } else {
        home = least_loaded(runtime);
    }
    bool there = home != NULL && !home->finished;
    if (there) home->n_actors++;
    pthread_mutex_unlock(&runtime->lock);
    if (!there) return sluice_cause_set(cause, SLUICE_NO_ACTOR, "no actor to be placed near to");
    *out = home;
    return SLUICE_OK;
}

static void list_add(sluice_actor *actor) {
    sluice_runtime *runtime = actor->runtime;
    pthread_mutex_lock(&runtime->lock);
    actor->older = runtime->youngest;
    if (actor->older != NULL) actor->older->younger = actor;
    runtime->youngest = actor;
    pthread_mutex_unlock(&runtime->lock);
    runtime->n_actors++;
    runtime->spawned++;
}

static void list_remove(sluice_actor *actor) {
    sluice_runtime *runtime = actor->runtime;
    pthread_mutex_lock(&runtime->lock);
    if (actor->younger != NULL)
        actor->younger->older = actor->older;
    else
        runtime->youngest = actor->older;
    if (actor->older != NULL) actor->older->younger = actor->younger;
    pthread_mutex_unlock(&runtime->lock);
    runtime->n_actors--;
}

sluice_err sl_actor_prepare(sluice_runtime *runtime, const sluice_spec *spec, sl_dispatcher *parent,
                            sluice_actor **out, sluice_cause *cause) {
    *out = NULL;
    if (spec->behaviour == NULL || spec->behaviour->receive == NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "a behaviour needs a receive function");
    if (spec->mailbox_share > 100)
        return sluice_cause_set(cause, SLUICE_INVALID, "mailbox_share is a percentage, from 0 to 100");
    if (atomic_load(&runtime->closing)) return sluice_cause_set(cause, SLUICE_CLOSED, "the runtime is going down");
    sluice_actor *actor = calloc(1, sizeof *actor);
    if (actor == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    actor->runtime = runtime;
    actor->behaviour = spec->behaviour;
    actor->arg = spec->arg;
    actor->batch = spec->batch != 0 ? spec->batch : DEFAULT_BATCH;
    sluice_err err = place(runtime, spec, parent, &actor->home, cause);
    if (err != SLUICE_OK) {
        free(actor);
        return err;
    }
    list_add(actor);
    actor->pid = sl_slot_take(runtime, actor->home->exchange_id,
                              spec->mailbox_messages != 0 ? spec->mailbox_messages : DEFAULT_MESSAGES,
                              spec->mailbox_bytes != 0 ? spec->mailbox_bytes : DEFAULT_BYTES, spec->mailbox_share);
    if (spec->fair) actor->lanes = sl_lanes_new();
    if (actor->pid == 0 || (spec->fair && actor->lanes == NULL)) {
        err = sluice_cause_set(cause, SLUICE_NOMEM, "the actor table is full, or there is no memory for lanes");
        goto fail;
    }
    sl_slot_of(runtime, actor->pid)->actor = actor;
    if (spec->name != NULL) {
        err = sl_names_add(runtime->names, spec->name, spec->pool, actor->pid);
        if (err != SLUICE_OK) {
            sluice_cause_set(cause, err, "actor name '%.64s': %s", spec->name, sluice_err_text(err));
            goto fail;
        }
        actor->has_name = true;
        memcpy(actor->name, spec->name, strlen(spec->name) + 1);
    }
    *out = actor;
    return SLUICE_OK;
fail:
    sl_actor_discard(&actor);
    return err;
}

/* Lets go of the dispatcher; a pinned one without actors ends. */
static void leave(sluice_runtime *runtime, sl_dispatcher *home) {
    pthread_mutex_lock(&runtime->lock);
    bool last = --home->n_actors == 0 && home->pinned;
    if (last) home->finished = true;
    pthread_mutex_unlock(&runtime->lock);
    if (!last) return;
    if (sl_dispatcher_current() == home) {
        home->quit = true;
        return;
    }
    /* Never started: wake the thread so that it sees the end. */
    sluice_msg *quit = sl_system_new(SL_SYSTEM_QUIT, 0);
    SL_REQUIRE(quit != NULL);
    pthread_mutex_lock(&runtime->outside_lock);
    SL_REQUIRE(sl_exchange_queue(&runtime->outside, home->exchange_id, quit) == SLUICE_OK);
    sl_exchange_flush(&runtime->outside, (sl_undeliverable_fn)sl_runtime_dead_letter, runtime);
    pthread_mutex_unlock(&runtime->outside_lock);
}

void sl_actor_discard(sluice_actor **actor) {
    sluice_actor *taken = *actor;
    if (taken == NULL) return;
    *actor = NULL;
    sluice_runtime *runtime = taken->runtime;
    if (taken->has_name) sl_names_remove(runtime->names, taken->name, taken->pid);
    if (taken->pid != 0) sl_slot_release(runtime, taken->pid);
    list_remove(taken);
    sl_dispatcher *home = taken->home;
    sl_lanes_destroy(&taken->lanes);
    free(taken);
    leave(runtime, home);
}

sluice_err sl_actor_start(sluice_actor *actor, sluice_cause *cause) {
    sluice_runtime *runtime = actor->runtime;
    sl_waiter waiter;
    sluice_msg *msg = sl_system_new(SL_SYSTEM_START, (uintptr_t)&waiter);
    if (msg == NULL) {
        sl_actor_discard(&actor);
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    sl_waiter_init(&waiter);
    sluice_err err = sl_runtime_send(runtime, actor->pid, &msg);
    if (err != SLUICE_OK) {
        sl_waiter_signal(&waiter, err, NULL);
        sluice_msg_destroy(&msg);
    }
    return sl_waiter_wait(&waiter, cause);
}

typedef struct remote_call {
    sl_waiter waiter;
    sl_call_fn fn;
    void *context;
} remote_call;

sluice_err sl_actor_call(sluice_runtime *runtime, sluice_pid pid, sl_call_fn fn, void *context, sluice_cause *cause) {
    SL_REQUIRE(sl_dispatcher_current() == NULL);
    remote_call call = {.fn = fn, .context = context};
    sl_waiter_init(&call.waiter);
    sluice_msg *msg = sl_system_new(SL_SYSTEM_CALL, (uintptr_t)&call);
    sluice_err err = msg != NULL ? sl_runtime_send(runtime, pid, &msg) : SLUICE_NOMEM;
    if (err != SLUICE_OK) {
        sluice_cause why;
        sluice_cause_set(&why, err, "%s", sluice_err_text(err));
        sl_waiter_signal(&call.waiter, err, &why);
        sluice_msg_destroy(&msg);
    }
    return sl_waiter_wait(&call.waiter, cause);
}

/* ---- ended ---- */

static void tell_down(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_err why) {
    for (uint32_t i = 0; i < actor->watchers.n; i++) {
        sluice_msg *down = sl_system_new(SL_SYSTEM_DOWN, why);
        SL_REQUIRE(down != NULL);
        sl_dispatcher_tell_system(dispatcher, actor->pid, actor->watchers.items[i], down);
    }
    sl_pids_fini(&actor->watchers);
}

static void tell_supervisor(sl_dispatcher *dispatcher, sluice_actor *actor, enum sl_child_event event, sluice_err why) {
    if (actor->supervisor == 0) return;
    sluice_msg *msg = sl_system_new(SL_SYSTEM_CHILD, why);
    SL_REQUIRE(msg != NULL);
    msg->correlation = event;
    sl_dispatcher_tell_system(dispatcher, actor->pid, actor->supervisor, msg);
}

static void turn_away(sl_dispatcher *dispatcher, sluice_msg *msg, sluice_err why) {
    sl_slot_discharge(dispatcher->runtime, msg);
    sl_dispatcher_undeliverable(dispatcher, msg, why);
}

static void empty(sl_dispatcher *dispatcher, sl_queue *queue, sluice_err why) {
    while (queue->head != NULL) {
        sluice_msg *msg = queue->head;
        queue->head = msg->next;
        turn_away(dispatcher, msg, why);
    }
    queue->tail = NULL;
}

static void empty_lanes(sl_dispatcher *dispatcher, sl_lanes **lanes, sluice_err why) {
    sluice_msg *msg;
    while (*lanes != NULL && (msg = sl_lanes_pop(*lanes)) != NULL) turn_away(dispatcher, msg, why);
    sl_lanes_destroy(lanes);
}

void sl_dispatcher_end(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_err why) {
    sluice_runtime *runtime = dispatcher->runtime;
    if (actor->phase == SL_ACTOR_RUNNING && actor->behaviour->stop != NULL) actor->behaviour->stop(actor, why);
    move(actor, SL_ACTOR_ENDED);
    sl_actor_clear(actor);
    if (actor->has_name) sl_names_remove(runtime->names, actor->name, actor->pid);
    sl_slot_release(runtime, actor->pid);
    sluice_err answer = atomic_load(&runtime->closing) ? SLUICE_CLOSED : SLUICE_ACTOR_DOWN;
    empty(dispatcher, &actor->control, answer);
    empty(dispatcher, &actor->data, answer);
    empty_lanes(dispatcher, &actor->lanes, answer);
    tell_down(dispatcher, actor, why);
    tell_supervisor(dispatcher, actor, actor->stop_final ? SL_CHILD_ENDED_FOR_GOOD : SL_CHILD_ENDED, why);
    list_remove(actor);
    leave(runtime, dispatcher); /* before the waiters hear it: they join what has ended */
    while (actor->stop_waiters != NULL) {
        sl_waiter *waiter = actor->stop_waiters;
        actor->stop_waiters = waiter->next;
        sl_waiter_signal(waiter, SLUICE_OK, NULL);
    }
    if (!actor->queued && !actor->dirty) free(actor);
}

void sl_dispatcher_fail(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_err why) {
    atomic_fetch_add_explicit(&dispatcher->counters.failures, 1, memory_order_relaxed);
    if (actor->supervisor == 0 || actor->stop_wanted || atomic_load(&dispatcher->runtime->closing)) {
        sl_dispatcher_end(dispatcher, actor, why);
        return;
    }
    if (actor->phase == SL_ACTOR_RUNNING && actor->behaviour->stop != NULL) actor->behaviour->stop(actor, why);
    move(actor, SL_ACTOR_FAILED);
    actor->since_drained = 0;
    sl_actor_clear(actor);
    tell_down(dispatcher, actor, why);
    tell_supervisor(dispatcher, actor, SL_CHILD_FAILED, why);
}

void sl_actor_finish(sluice_actor *self, sluice_err why) {
    self->on_stop = NULL;
    self->stop_wanted = true;
    self->stop_why = why;
    sl_dispatcher_wake(self->home, self);
}

/* ---- system messages ---- */

static sluice_err run_init(sluice_actor *actor, sluice_cause *cause) {
    sluice_cause_set(cause, SLUICE_OK, "%s", "");
    actor->state = actor->arg;
    sluice_err err = actor->behaviour->init != NULL ? actor->behaviour->init(actor, actor->arg, cause) : SLUICE_OK;
    if (err != SLUICE_OK && cause->code == SLUICE_OK) sluice_cause_set(cause, err, "%s", sluice_err_text(err));
    return err;
}

static bool on_start(sl_dispatcher *dispatcher, sluice_actor *actor, sl_waiter *waiter) {
    SL_REQUIRE(actor->phase == SL_ACTOR_NEW);
    sluice_cause cause;
    sluice_err err = run_init(actor, &cause);
    if (err == SLUICE_OK) {
        move(actor, SL_ACTOR_RUNNING);
    } else {
        sl_actor_clear(actor);
        actor->supervisor = 0; /* the one who starts children sees the error itself */
        sl_dispatcher_end(dispatcher, actor, err);
    }
    if (waiter != NULL) sl_waiter_signal(waiter, err, &cause);
    return err == SLUICE_OK;
}

static void on_restart(sl_dispatcher *dispatcher, sluice_actor *actor) {
    if (actor->phase != SL_ACTOR_FAILED) return;
    sluice_cause cause;
    sluice_err err = run_init(actor, &cause);
    if (err != SLUICE_OK) {
        sl_dispatcher_fail(dispatcher, actor, err);
        return;
    }
    atomic_fetch_add_explicit(&dispatcher->counters.restarts, 1, memory_order_relaxed);
    move(actor, SL_ACTOR_RUNNING);
}

static bool on_stop(sl_dispatcher *dispatcher, sluice_actor *actor, const sluice_msg *msg) {
    sl_waiter *waiter = (sl_waiter *)(uintptr_t)msg->argument;
    if (waiter != NULL) {
        waiter->next = actor->stop_waiters;
        actor->stop_waiters = waiter;
    }
    if (msg->deadline_ns != 0) actor->stop_final = true;
    if (actor->phase == SL_ACTOR_RUNNING && actor->on_stop != NULL && actor->on_stop(actor)) return true;
    sl_dispatcher_end(dispatcher, actor, SLUICE_OK);
    return false;
}

static void on_call(sluice_actor *actor, remote_call *call) {
    sluice_cause cause;
    sluice_cause_set(&cause, SLUICE_NO_ACTOR, "the actor does not run");
    sluice_err err = actor->phase == SL_ACTOR_RUNNING ? call->fn(actor, call->context, &cause) : SLUICE_NO_ACTOR;
    sl_waiter_signal(&call->waiter, err, &cause);
}

bool sl_dispatcher_system(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_msg *msg) {
    bool lives = true;
    switch ((enum sl_system)msg->system) {
    case SL_SYSTEM_START: lives = on_start(dispatcher, actor, (sl_waiter *)(uintptr_t)msg->argument); break;
    case SL_SYSTEM_STOP: lives = on_stop(dispatcher, actor, msg); break;
    case SL_SYSTEM_RESTART: on_restart(dispatcher, actor); break;
    case SL_SYSTEM_DOWN:
        if (sl_pids_remove(&actor->watching, msg->from) && actor->phase == SL_ACTOR_RUNNING &&
            actor->behaviour->down != NULL)
            actor->behaviour->down(actor, msg->from, (sluice_err)msg->argument);
        break;
    case SL_SYSTEM_MONITOR: SL_REQUIRE(sl_pids_add(&actor->watchers, msg->from) == SLUICE_OK); break;
    case SL_SYSTEM_DEMONITOR: sl_pids_remove(&actor->watchers, msg->from); break;
    case SL_SYSTEM_CHILD:
        if (actor->on_child != NULL)
            actor->on_child(actor, msg->from, (enum sl_child_event)msg->correlation, (sluice_err)msg->argument);
        break;
    case SL_SYSTEM_CALL: on_call(actor, (remote_call *)(uintptr_t)msg->argument); break;
    case SL_SYSTEM_QUIT:
    case SL_SYSTEM_CLOSED: break;
    }
    sluice_msg_destroy(&msg);
    return lives;
}

sluice_msg *sl_system_new(enum sl_system system, uint64_t argument) {
    sluice_msg *msg = sl_msg_alloc(SIZE_MAX);
    if (msg == NULL) return NULL;
    msg->flags = SL_MSG_CONTROL | SL_MSG_SYSTEM;
    msg->system = system;
    msg->argument = argument;
    return msg;
}

/* Invariant 3: who waits for a message that will never be handled hears so. */
static void release_waiter(const sluice_msg *msg) {
    sluice_cause cause;
    sluice_cause_set(&cause, SLUICE_CLOSED, "the runtime is going down");
    if (msg->argument == 0) return;
    if (msg->system == SL_SYSTEM_START) sl_waiter_signal((sl_waiter *)(uintptr_t)msg->argument, SLUICE_CLOSED, &cause);
    if (msg->system == SL_SYSTEM_STOP) sl_waiter_signal((sl_waiter *)(uintptr_t)msg->argument, SLUICE_OK, NULL);
    if (msg->system == SL_SYSTEM_CALL) {
        sluice_cause_set(&cause, SLUICE_NO_ACTOR, "the actor has ended");
        sl_waiter_signal(&((remote_call *)(uintptr_t)msg->argument)->waiter, SLUICE_NO_ACTOR, &cause);
    }
}

void sl_runtime_dead_letter(sluice_runtime *runtime, sluice_msg *msg) {
    if (msg->flags & SL_MSG_SYSTEM) {
        release_waiter(msg);
    } else {
        sluice_dead_letter_fn fn = atomic_load(&runtime->dead_letter_fn);
        if (fn != NULL) fn(atomic_load(&runtime->dead_letter_context), msg, msg->to);
        atomic_fetch_add_explicit(&runtime->counters.dead_letters, 1, memory_order_relaxed);
    }
    sluice_msg_destroy(&msg);
}
