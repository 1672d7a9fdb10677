/* SPDX-License-Identifier: MIT */
/* Dispatchers: one thread, one exchange, a run queue, a timer heap and a set of watched sockets.
 *
 * Owning thread: its own; created by sl_dispatcher_open.
 *
 * One round
 *   1. take one batch from the exchange (blocking only if nothing is runnable), look at watched sockets
 *   2. fire due timers
 *   3. give each runnable actor a turn: at most its batch of messages, control lane first
 *   4. if the exchange had nothing more and nobody is runnable: call drained for those that received since; if several
 *      actors live here, at the latest after DRAIN_ROUNDS, for the others may never be idle
 *   5. send what was queued for other threads: after drained, before blocking, and every FLUSH_ROUNDS rounds
 *
 * So an actor whose mailbox is fed by many senders (the writer) sees everybody who is waiting before drained ends its
 * batch, and never waits for more to come.
 *
 * Invariants
 *  1. `queued` says whether an actor is in the run queue, `dirty` whether it is in the dirty list; each at most once.
 *  2. Nothing blocks while anything is runnable, dirty or unsent.
 *  3. A message taken from a mailbox has been discharged before its receiver sees it.
 *  4. A callback may wake, end or add actors; the loops below hold no pointer across it but the actor in its turn, whose
 *     memory stays until the turn is over.
 *
 * Stop order: QUIT, then rounds go on until nothing is runnable; what arrives later is undeliverable; the exchange
 * closes last. A pinned dispatcher ends with its last actor.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "runtime_internal.h"

enum { FLUSH_ROUNDS = 16, DRAIN_ROUNDS = 16, WATCH_ROUNDS = 4, TURNS_PER_ROUND = 64 };

static _Thread_local sl_dispatcher *current;

sl_dispatcher *sl_dispatcher_current(void) { return current; }

int64_t sl_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- queues ---- */

void sl_dispatcher_wake(sl_dispatcher *dispatcher, sluice_actor *actor) {
    if (actor->queued) return;
    actor->queued = true;
    actor->run_next = NULL;
    if (dispatcher->run_tail != NULL)
        dispatcher->run_tail->run_next = actor;
    else
        dispatcher->run_head = actor;
    dispatcher->run_tail = actor;
}

static sluice_actor *run_pop(sl_dispatcher *dispatcher) {
    sluice_actor *actor = dispatcher->run_head;
    dispatcher->run_head = actor->run_next;
    if (dispatcher->run_head == NULL) dispatcher->run_tail = NULL;
    actor->queued = false;
    return actor;
}

static void dirty_push(sl_dispatcher *dispatcher, sluice_actor *actor) {
    if (actor->dirty) return;
    actor->dirty = true;
    actor->dirty_next = NULL;
    if (dispatcher->dirty_tail != NULL)
        dispatcher->dirty_tail->dirty_next = actor;
    else
        dispatcher->dirty_head = actor;
    dispatcher->dirty_tail = actor;
}

static void queue_push(sl_queue *queue, sluice_msg *msg) {
    msg->next = NULL;
    if (queue->tail != NULL)
        queue->tail->next = msg;
    else
        queue->head = msg;
    queue->tail = msg;
}

/* The next message the actor may handle: control first; while it does not run, only the runtime's own. */
static sluice_msg *mailbox_pop(sluice_actor *actor) {
    bool runs = actor->phase == SL_ACTOR_RUNNING;
    sluice_msg *before = NULL;
    for (sluice_msg *msg = actor->control.head; msg != NULL; before = msg, msg = msg->next) {
        if (!runs && !(msg->flags & SL_MSG_SYSTEM)) continue;
        if (before != NULL)
            before->next = msg->next;
        else
            actor->control.head = msg->next;
        if (actor->control.tail == msg) actor->control.tail = before;
        return msg;
    }
    if (!runs) return NULL;
    if (actor->lanes != NULL) return sl_lanes_pop(actor->lanes);
    sluice_msg *msg = actor->data.head;
    if (msg == NULL) return NULL;
    actor->data.head = msg->next;
    if (actor->data.head == NULL) actor->data.tail = NULL;
    return msg;
}

/* ---- delivery ---- */

void sl_dispatcher_deliver(sl_dispatcher *dispatcher, sluice_msg *msg) {
    sl_slot *slot = sl_slot_find(dispatcher->runtime, msg->to);
    /* The exchange is looked at first: another dispatcher's actor may be freed at any moment. */
    if (slot == NULL || atomic_load_explicit(&slot->exchange, memory_order_relaxed) != dispatcher->exchange_id) {
        if (msg->flags & SL_MSG_SYSTEM && msg->system == SL_SYSTEM_QUIT) dispatcher->quit = true;
        sl_slot_discharge(dispatcher->runtime, msg);
        sl_dispatcher_undeliverable(dispatcher, msg, SLUICE_NO_ACTOR);
        return;
    }
    msg->arrived_ns = dispatcher->now_ns;
    sluice_actor *actor = slot->actor;
    if (msg->flags & SL_MSG_CONTROL)
        queue_push(&actor->control, msg);
    else if (actor->lanes != NULL)
        sl_lanes_push(actor->lanes, msg);
    else
        queue_push(&actor->data, msg);
    sl_dispatcher_wake(dispatcher, actor);
}

void sl_dispatcher_route(sl_dispatcher *dispatcher, sl_slot *slot, sluice_msg *msg) {
    uint32_t exchange = atomic_load_explicit(&slot->exchange, memory_order_relaxed);
    if (exchange == dispatcher->exchange_id) {
        sl_dispatcher_deliver(dispatcher, msg);
        return;
    }
    if (sl_exchange_queue(&dispatcher->exchange, exchange, msg) == SLUICE_OK) return;
    sl_slot_discharge(dispatcher->runtime, msg);
    sl_dispatcher_undeliverable(dispatcher, msg, SLUICE_NOMEM);
}

void sl_dispatcher_tell_system(sl_dispatcher *dispatcher, sluice_pid from, sluice_pid to, sluice_msg *msg) {
    msg->from = from;
    msg->to = to;
    msg->charge = 0;
    sl_slot *slot = sl_slot_find(dispatcher->runtime, to);
    if (slot != NULL)
        sl_dispatcher_route(dispatcher, slot, msg);
    else
        sl_dispatcher_undeliverable(dispatcher, msg, SLUICE_NO_ACTOR);
}

void sl_dispatcher_undeliverable(sl_dispatcher *dispatcher, sluice_msg *msg, sluice_err why) {
    if (msg->flags & SL_MSG_SYSTEM && msg->system == SL_SYSTEM_MONITOR) {
        sluice_msg *down = msg; /* the question becomes its answer */
        sluice_pid watcher = msg->from;
        down->system = SL_SYSTEM_DOWN;
        down->argument = SLUICE_NO_ACTOR;
        sl_dispatcher_tell_system(dispatcher, msg->to, watcher, down);
        return;
    }
    sl_slot *asker = msg->flags & SL_MSG_ASK ? sl_slot_find(dispatcher->runtime, msg->from) : NULL;
    if (asker == NULL) {
        sl_runtime_dead_letter(dispatcher->runtime, msg);
        return;
    }
    sluice_cause cause;
    sluice_cause_set(&cause, why, "%s", sluice_err_text(why));
    sl_msg_turn_error(msg, &cause);
    msg->charge = 0;
    sl_dispatcher_route(dispatcher, asker, msg);
}

static void on_unsent(void *context, sluice_msg *msg) {
    sl_dispatcher *dispatcher = context;
    sl_slot_discharge(dispatcher->runtime, msg);
    sl_dispatcher_undeliverable(dispatcher, msg, SLUICE_NO_ACTOR);
}

static void flush(sl_dispatcher *dispatcher) {
    if (dispatcher->exchange.n_dirty == 0) return;
    uint32_t sent = sl_exchange_flush(&dispatcher->exchange, on_unsent, dispatcher);
    atomic_fetch_add_explicit(&dispatcher->counters.batches, sent, memory_order_relaxed);
}

void sl_actor_flush(sluice_actor *self) { flush(self->home); }

static void deliver_list(sl_dispatcher *dispatcher, sluice_msg *list) {
    while (list != NULL) {
        sluice_msg *msg = list;
        list = msg->next;
        sl_dispatcher_deliver(dispatcher, msg);
    }
}

uint32_t sl_actor_poll_inbox(sluice_actor *self) {
    sluice_msg *list;
    while ((list = sl_exchange_receive(&self->home->exchange, 0)) != NULL) deliver_list(self->home, list);
    return sl_mailbox_depth(self->runtime, self->pid);
}

/* ---- a turn ---- */

/* Hands one message to the actor. Returns what its behaviour returned. */
static sluice_err handle(sl_dispatcher *dispatcher, sluice_actor *actor, sluice_msg *msg) {
    sl_slot_discharge(dispatcher->runtime, msg);
    if (msg->flags & SL_MSG_ASK && msg->deadline_ns != 0 && msg->deadline_ns <= dispatcher->now_ns) {
        atomic_fetch_add_explicit(&dispatcher->counters.expired, 1, memory_order_relaxed);
        sl_dispatcher_undeliverable(dispatcher, msg, SLUICE_EXPIRED);
        return SLUICE_OK;
    }
    atomic_fetch_add_explicit(&dispatcher->counters.messages, 1, memory_order_relaxed);
    if (msg->flags & SL_MSG_REPLY && msg->correlation & SL_OWN_CORRELATION) {
        if (sl_actor_on_reply(actor, &msg))
            sluice_msg_destroy(&msg);
        else
            sl_runtime_dead_letter(dispatcher->runtime, msg); /* too late: its asker heard the deadline */
        return SLUICE_OK;
    }
    sluice_err err = actor->behaviour->receive(actor, &msg);
    if (err != SLUICE_OK && msg != NULL && msg->flags & SL_MSG_ASK) {
        sl_dispatcher_undeliverable(dispatcher, msg, SLUICE_ACTOR_DOWN);
        return err;
    }
    sluice_msg_destroy(&msg);
    return err;
}

/* Calls drained if there was anything since. False: the actor has failed and may be gone. */
static bool drain(sl_dispatcher *dispatcher, sluice_actor *actor) {
    actor->since_drained = 0;
    if (actor->phase != SL_ACTOR_RUNNING || actor->behaviour->drained == NULL) return true;
    sluice_err err = actor->behaviour->drained(actor);
    if (err == SLUICE_OK) return true;
    sl_dispatcher_fail(dispatcher, actor, err);
    return false;
}

static void run_turn(sl_dispatcher *dispatcher, sluice_actor *actor) {
    for (;;) {
        if (actor->stop_wanted && actor->phase != SL_ACTOR_NEW) {
            if (actor->permanent && actor->phase == SL_ACTOR_RUNNING) {
                actor->stop_wanted = false;
                sl_dispatcher_fail(dispatcher, actor, SLUICE_OK);
                return;
            }
            sl_dispatcher_end(dispatcher, actor, actor->stop_why);
            return;
        }
        sluice_msg *msg = mailbox_pop(actor);
        if (msg == NULL) break;
        if (msg->flags & SL_MSG_SYSTEM) {
            if (!sl_dispatcher_system(dispatcher, actor, msg)) return;
            continue;
        }
        sluice_err err = handle(dispatcher, actor, msg);
        if (err != SLUICE_OK) {
            sl_dispatcher_fail(dispatcher, actor, err);
            return;
        }
        if (++actor->since_drained < actor->batch) continue;
        if (!drain(dispatcher, actor)) return;
        sl_dispatcher_wake(dispatcher, actor); /* the others first */
        return;
    }
    if (actor->since_drained > 0 && actor->behaviour->drained != NULL)
        dirty_push(dispatcher, actor);
    else
        actor->since_drained = 0;
}

static void bury(sluice_actor *actor) {
    if (!actor->queued && !actor->dirty) free(actor);
}

static void run_turns(sl_dispatcher *dispatcher) {
    for (int i = 0; i < TURNS_PER_ROUND && dispatcher->run_head != NULL; i++) {
        sluice_actor *actor = run_pop(dispatcher);
        if (actor->phase == SL_ACTOR_ENDED)
            bury(actor);
        else
            run_turn(dispatcher, actor);
    }
}

static void drain_dirty(sl_dispatcher *dispatcher) {
    while (dispatcher->dirty_head != NULL) {
        sluice_actor *actor = dispatcher->dirty_head;
        dispatcher->dirty_head = actor->dirty_next;
        if (dispatcher->dirty_head == NULL) dispatcher->dirty_tail = NULL;
        actor->dirty = false;
        if (actor->phase == SL_ACTOR_ENDED)
            bury(actor);
        else if (actor->since_drained > 0)
            drain(dispatcher, actor);
    }
}

/* ---- timers ---- */

static void fire_timers(sl_dispatcher *dispatcher) {
    sl_timer *timer;
    while ((timer = sl_timer_first(&dispatcher->timers)) != NULL && timer->due_ns <= dispatcher->now_ns) {
        sluice_actor *actor = timer->actor;
        if (timer->correlation != 0) {
            uint64_t correlation = timer->correlation;
            sl_timer_remove(&dispatcher->timers, timer);
            sl_actor_on_ask_deadline(actor, correlation);
            continue;
        }
        sluice_timer_fn fn = timer->fn;
        void *context = timer->context;
        if (timer->period_ns > 0) {
            int64_t due = timer->due_ns + timer->period_ns;
            sl_timer_move(&dispatcher->timers, timer, due > dispatcher->now_ns ? due : dispatcher->now_ns + 1);
        } else {
            sl_timer_remove(&dispatcher->timers, timer);
        }
        fn(actor, context);
    }
}

/* Milliseconds until the next timer, rounded up; -1: none. */
static int wait_ms(const sl_dispatcher *dispatcher) {
    const sl_timer *timer = sl_timer_first(&dispatcher->timers);
    if (timer == NULL) return -1;
    int64_t left = timer->due_ns - sl_now_ns();
    if (left <= 0) return 0;
    left = (left + 999999) / 1000000;
    return left > 60000 ? 60000 : (int)left;
}

/* ---- the world outside ---- */

static void sweep_watches(sl_dispatcher *dispatcher) {
    size_t n = 0;
    for (size_t i = 0; i < dispatcher->n_watches; i++)
        if (dispatcher->watches[i].actor != NULL) dispatcher->watches[n++] = dispatcher->watches[i];
    dispatcher->n_watches = n;
    zmq_pollitem_t *items = realloc(dispatcher->poll_items, (n + 1) * sizeof *items);
    SL_REQUIRE(items != NULL);
    items[0] = (zmq_pollitem_t){.socket = dispatcher->exchange.socket, .events = ZMQ_POLLIN};
    for (size_t i = 0; i < n; i++)
        items[i + 1] = (zmq_pollitem_t){
            .socket = dispatcher->watches[i].socket, .fd = dispatcher->watches[i].fd, .events = ZMQ_POLLIN};
    dispatcher->poll_items = items;
    dispatcher->watches_changed = false;
}

static void poll_watches(sl_dispatcher *dispatcher, int timeout_ms) {
    if (dispatcher->watches_changed) sweep_watches(dispatcher);
    size_t n = dispatcher->n_watches;
    if (zmq_poll(dispatcher->poll_items, (int)n + 1, timeout_ms) <= 0) return;
    dispatcher->now_ns = sl_now_ns();
    for (size_t i = 0; i < n; i++) {
        if (dispatcher->poll_items[i + 1].revents == 0) continue;
        sl_watch watch = dispatcher->watches[i]; /* the callback may change the array */
        if (watch.actor == NULL) continue;
        if (watch.socket != NULL)
            watch.socket_fn(watch.actor, watch.socket, watch.context);
        else
            watch.fd_fn(watch.actor, watch.fd, watch.context);
    }
}

/* Step 1 of a round. Returns whether anything came in by the exchange. */
static bool take(sl_dispatcher *dispatcher, bool idle, unsigned round) {
    int timeout_ms = idle ? wait_ms(dispatcher) : 0;
    sluice_msg *list = NULL;
    if (dispatcher->n_watches > 0 || dispatcher->watches_changed) {
        if (idle || round % WATCH_ROUNDS == 0) poll_watches(dispatcher, timeout_ms);
        list = sl_exchange_receive(&dispatcher->exchange, 0);
    } else {
        if (idle && timeout_ms != 0) list = sl_spin_receive(&dispatcher->spin, &dispatcher->exchange);
        if (list == NULL) list = sl_exchange_receive(&dispatcher->exchange, timeout_ms);
    }
    dispatcher->now_ns = sl_now_ns();
    deliver_list(dispatcher, list);
    return list != NULL;
}

/* Is it time for step 4? Alone on its dispatcher, an actor's own batch is the bound. */
static bool drains(const sl_dispatcher *dispatcher, bool came, unsigned rounds_dirty) {
    if (dispatcher->dirty_head == NULL) return false;
    return (!came && dispatcher->run_head == NULL) ||
           (rounds_dirty >= DRAIN_ROUNDS && atomic_load_explicit(&dispatcher->n_actors, memory_order_relaxed) > 1);
}

static void *dispatcher_main(void *arg) {
    sl_dispatcher *dispatcher = arg;
    unsigned rounds_dirty = 0;
    current = dispatcher;
    for (unsigned round = 0;; round++) {
        bool idle = dispatcher->run_head == NULL && dispatcher->dirty_head == NULL;
        if (idle || round % FLUSH_ROUNDS == 0) flush(dispatcher);
        idle = idle && dispatcher->run_head == NULL; /* flush may have brought answers back */
        if (idle && dispatcher->quit) break;
        bool came = take(dispatcher, idle, round);
        fire_timers(dispatcher);
        run_turns(dispatcher);
        rounds_dirty = dispatcher->dirty_head != NULL ? rounds_dirty + 1 : 0;
        if (drains(dispatcher, came, rounds_dirty)) {
            rounds_dirty = 0;
            drain_dirty(dispatcher);
            flush(dispatcher);
        }
    }
    /* Whoever still sends here finds nobody; what is already here is answered. */
    sl_exchange_hide(&dispatcher->exchange);
    sluice_msg *list;
    while ((list = sl_exchange_receive(&dispatcher->exchange, 0)) != NULL) deliver_list(dispatcher, list);
    flush(dispatcher);
    sl_exchange_close(&dispatcher->exchange);
    return NULL;
}

/* ---- open and reap ---- */

sluice_err sl_dispatcher_open(sluice_runtime *runtime, bool pinned, sl_dispatcher **out, sluice_cause *cause) {
    sl_dispatchers_reap(runtime, false);
    sl_dispatcher *dispatcher = calloc(1, sizeof *dispatcher);
    if (dispatcher == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    dispatcher->runtime = runtime;
    dispatcher->pinned = pinned;
    dispatcher->n_actors = pinned ? 1 : 0;
    dispatcher->now_ns = sl_now_ns();
    sluice_err err = sl_exchange_open(runtime, &dispatcher->exchange, cause);
    if (err != SLUICE_OK) {
        free(dispatcher);
        return err;
    }
    dispatcher->exchange_id = dispatcher->exchange.id;
    int failed = pthread_create(&dispatcher->thread, NULL, dispatcher_main, dispatcher);
    if (failed != 0) {
        sl_exchange_close(&dispatcher->exchange);
        free(dispatcher);
        sluice_cause_set(cause, SLUICE_SYSTEM, "no thread: %s", strerror(failed));
        if (cause != NULL) cause->sys_errno = failed;
        return SLUICE_SYSTEM;
    }
    pthread_mutex_lock(&runtime->lock);
    dispatcher->next = runtime->dispatchers;
    runtime->dispatchers = dispatcher;
    pthread_mutex_unlock(&runtime->lock);
    *out = dispatcher;
    return SLUICE_OK;
}

static void keep_counters(sluice_runtime *runtime, const sl_counters *ended) {
    runtime->counters.messages += ended->messages;
    runtime->counters.batches += ended->batches;
    runtime->counters.failures += ended->failures;
    runtime->counters.restarts += ended->restarts;
    runtime->counters.expired += ended->expired;
    runtime->counters.overloads += ended->overloads;
}

void sl_dispatchers_reap(sluice_runtime *runtime, bool all) {
    for (;;) {
        pthread_mutex_lock(&runtime->lock);
        sl_dispatcher **at = &runtime->dispatchers;
        while (*at != NULL && !all && !(*at)->finished) at = &(*at)->next;
        sl_dispatcher *ended = *at;
        if (ended != NULL) *at = ended->next;
        pthread_mutex_unlock(&runtime->lock);
        if (ended == NULL) return;
        SL_REQUIRE(ended != current); /* a dispatcher cannot join itself */
        pthread_join(ended->thread, NULL);
        keep_counters(runtime, &ended->counters);
        sl_timer_heap_fini(&ended->timers);
        free(ended->watches);
        free(ended->poll_items);
        free(ended);
    }
}
