/* SPDX-License-Identifier: MIT */
/* Actors as their own callbacks see them: state, tell, ask, reply, timers, monitors, children, watched sockets.
 *
 * Owning thread: the actor's dispatcher. The life of an actor (start, failure, end) is in lifecycle.c; delivery and
 * turns are in dispatcher.c.
 *
 * Invariants
 *  1. An ask has exactly one record until exactly one of reply, error, deadline removes it; its timer goes with it.
 *  2. Correlations made here have the top bit set; those without it belong to actors that correlate by themselves
 *     (sl_actor_send), whose replies arrive in receive.
 *  3. A message is charged to its receiver before it is queued, so a full mailbox is seen by the sender at once.
 */
#include <string.h>

#include "runtime_internal.h"

void sluice_actor_set_state(sluice_actor *self, void *state) { self->state = state; }
void *sluice_actor_state(const sluice_actor *self) { return self->state; }
sluice_pid sluice_actor_pid(const sluice_actor *self) { return self->pid; }
sluice_runtime *sluice_actor_runtime(const sluice_actor *self) { return self->runtime; }
int64_t sluice_actor_now_ns(const sluice_actor *self) { return self->home->now_ns; }

/* ---- send ---- */

static sluice_err send_to(sluice_actor *self, sluice_pid to, sluice_msg **msg) {
    sl_dispatcher *home = self->home;
    sl_slot *slot = sl_slot_find(self->runtime, to);
    if (slot == NULL) return SLUICE_NO_ACTOR;
    sluice_err err = sl_slot_charge(self->runtime, slot, *msg);
    if (err != SLUICE_OK) {
        atomic_fetch_add_explicit(&home->counters.overloads, 1, memory_order_relaxed);
        return err;
    }
    (*msg)->to = to;
    sluice_msg *taken = *msg;
    *msg = NULL;
    sl_dispatcher_route(home, slot, taken);
    return SLUICE_OK;
}

sluice_err sluice_tell(sluice_actor *self, sluice_pid to, sluice_msg **msg) {
    (*msg)->from = self->pid;
    (*msg)->flags = 0;
    return send_to(self, to, msg);
}

sluice_err sl_actor_tell_control(sluice_actor *self, sluice_pid to, sluice_msg **msg) {
    (*msg)->from = self->pid;
    (*msg)->flags = SL_MSG_CONTROL;
    return send_to(self, to, msg);
}

sluice_err sl_actor_send(sluice_actor *self, sluice_msg **msg, bool keep_from) {
    if (!keep_from) (*msg)->from = self->pid;
    return send_to(self, (*msg)->to, msg);
}

/* ---- ask ---- */

static sl_ask *ask_find(sluice_actor *self, uint64_t correlation) {
    if (self->asks == NULL) return NULL;
    for (uint64_t i = correlation;; i++) {
        sl_ask *ask = &self->asks[i & (self->asks_capacity - 1)];
        if (ask->correlation == correlation || ask->correlation == 0) return ask;
    }
}

static sluice_err asks_grow(sluice_actor *self) {
    uint32_t old_capacity = self->asks_capacity;
    sl_ask *old = self->asks;
    uint32_t capacity = old_capacity == 0 ? 8 : old_capacity * 2;
    sl_ask *asks = calloc(capacity, sizeof *asks);
    if (asks == NULL) return SLUICE_NOMEM;
    self->asks = asks;
    self->asks_capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++)
        if (old[i].correlation != 0) *ask_find(self, old[i].correlation) = old[i];
    free(old);
    return SLUICE_OK;
}

/* Empties a place of the open-addressed table and closes the gap. */
static void ask_remove(sluice_actor *self, sl_ask *ask) {
    uint32_t mask = self->asks_capacity - 1;
    uint32_t hole = (uint32_t)(ask - self->asks);
    for (uint32_t i = (hole + 1) & mask; self->asks[i].correlation != 0; i = (i + 1) & mask) {
        uint32_t ideal = (uint32_t)self->asks[i].correlation & mask;
        if (((i - ideal) & mask) < ((i - hole) & mask)) continue; /* it may not move in front of its ideal place */
        self->asks[hole] = self->asks[i];
        hole = i;
    }
    self->asks[hole] = (sl_ask){0};
    self->n_asks--;
}

sluice_err sluice_ask(sluice_actor *self, sluice_pid to, sluice_msg **msg, uint32_t timeout_ms, sluice_reply_fn fn,
                      void *context) {
    if (timeout_ms == 0 || fn == NULL) return SLUICE_INVALID;
    if ((self->n_asks + 1) * 2 > self->asks_capacity && asks_grow(self) != SLUICE_OK) return SLUICE_NOMEM;
    sl_dispatcher *home = self->home;
    uint64_t correlation = SL_OWN_CORRELATION | ++home->next_correlation;
    int64_t due = sl_now_ns() + (int64_t)timeout_ms * 1000000;
    sl_timer *timer = sl_timer_add(&home->timers, self, due);
    if (timer == NULL) return SLUICE_NOMEM;
    timer->correlation = correlation;
    (*msg)->from = self->pid;
    (*msg)->flags = SL_MSG_ASK;
    (*msg)->correlation = correlation;
    (*msg)->deadline_ns = due;
    sluice_err err = send_to(self, to, msg);
    if (err != SLUICE_OK) {
        sl_timer_remove(&home->timers, timer);
        return err;
    }
    *ask_find(self, correlation) = (sl_ask){.correlation = correlation, .fn = fn, .context = context, .timer = timer};
    self->n_asks++;
    return SLUICE_OK;
}

bool sl_actor_on_reply(sluice_actor *self, sluice_msg **msg) {
    sl_ask *ask = ask_find(self, (*msg)->correlation);
    if (ask == NULL || ask->correlation == 0) return false;
    sl_ask ended = *ask;
    ask_remove(self, ask);
    sl_timer_remove(&self->home->timers, ended.timer);
    if ((*msg)->flags & SL_MSG_ERROR) {
        sluice_cause cause;
        sluice_err err = sl_msg_cause(*msg, &cause);
        sluice_msg *none = NULL;
        ended.fn(self, ended.context, err, &none, &cause);
    } else {
        sluice_cause fine = {.statement = -1};
        ended.fn(self, ended.context, SLUICE_OK, msg, &fine);
    }
    return true;
}

void sl_actor_on_ask_deadline(sluice_actor *self, uint64_t correlation) {
    sl_ask *ask = ask_find(self, correlation);
    SL_REQUIRE(ask != NULL && ask->correlation == correlation);
    sl_ask ended = *ask;
    ask_remove(self, ask);
    sluice_cause cause;
    sluice_cause_set(&cause, SLUICE_TIMEOUT, "no answer came before the deadline");
    sluice_msg *none = NULL;
    ended.fn(self, ended.context, SLUICE_TIMEOUT, &none, &cause);
}

/* ---- reply ---- */

static void answer(sluice_actor *self, sluice_pid to, uint64_t correlation, uint32_t flags, sluice_msg *msg) {
    msg->from = self->pid;
    msg->to = to;
    msg->correlation = correlation;
    msg->flags = flags;
    msg->deadline_ns = 0;
    if (to == 0 || send_to(self, to, &msg) != SLUICE_OK) sl_runtime_dead_letter(self->runtime, msg);
}

void sluice_reply(sluice_actor *self, const sluice_msg *request, sluice_msg **reply) {
    sluice_msg *taken = *reply;
    *reply = NULL;
    sluice_pid to = request->flags & SL_MSG_ASK ? request->from : 0;
    answer(self, to, request->correlation, SL_MSG_REPLY, taken);
}

void sluice_reply_error(sluice_actor *self, const sluice_msg *request, const sluice_cause *cause) {
    if (!(request->flags & SL_MSG_ASK)) return;
    sluice_msg *reply = sl_msg_alloc(SIZE_MAX);
    if (reply == NULL) return; /* the asker hears its deadline */
    sl_msg_turn_error(reply, cause);
    answer(self, request->from, request->correlation, SL_MSG_REPLY | SL_MSG_ERROR, reply);
}

/* ---- timers ---- */

sluice_err sluice_timer_start(sluice_actor *self, uint32_t delay_ms, uint32_t period_ms, sluice_timer_fn fn,
                              void *context, sluice_timer *out) {
    sl_timer *timer = sl_timer_add(&self->home->timers, self, sl_now_ns() + (int64_t)delay_ms * 1000000);
    if (timer == NULL) return SLUICE_NOMEM;
    timer->period_ns = (int64_t)period_ms * 1000000;
    timer->fn = fn;
    timer->context = context;
    if (out != NULL) *out = timer->id;
    return SLUICE_OK;
}

void sluice_timer_cancel(sluice_actor *self, sluice_timer *timer) {
    for (sl_timer *at = self->timers; *timer != 0 && at != NULL; at = at->next) {
        if (at->id != *timer || at->correlation != 0) continue;
        sl_timer_remove(&self->home->timers, at);
        break;
    }
    *timer = 0;
}

/* ---- monitors ---- */

sluice_err sl_pids_add(sl_pids *pids, sluice_pid pid) {
    if (pids->n == pids->capacity) {
        uint32_t capacity = pids->capacity == 0 ? 4 : pids->capacity * 2;
        sluice_pid *items = realloc(pids->items, capacity * sizeof *items);
        if (items == NULL) return SLUICE_NOMEM;
        pids->items = items;
        pids->capacity = capacity;
    }
    pids->items[pids->n++] = pid;
    return SLUICE_OK;
}

bool sl_pids_remove(sl_pids *pids, sluice_pid pid) {
    for (uint32_t i = 0; i < pids->n; i++) {
        if (pids->items[i] != pid) continue;
        pids->items[i] = pids->items[--pids->n];
        return true;
    }
    return false;
}

void sl_pids_fini(sl_pids *pids) {
    free(pids->items);
    *pids = (sl_pids){0};
}

sluice_err sluice_monitor(sluice_actor *self, sluice_pid who) {
    sluice_msg *msg = sl_system_new(SL_SYSTEM_MONITOR, 0);
    if (msg == NULL) return SLUICE_NOMEM;
    if (sl_pids_add(&self->watching, who) != SLUICE_OK) {
        sluice_msg_destroy(&msg);
        return SLUICE_NOMEM;
    }
    sl_dispatcher_tell_system(self->home, self->pid, who, msg);
    return SLUICE_OK;
}

void sluice_demonitor(sluice_actor *self, sluice_pid who) {
    if (!sl_pids_remove(&self->watching, who)) return;
    /* A DOWN that is under way is dropped on arrival, for `who` is no longer in the list. */
    sluice_msg *msg = sl_system_new(SL_SYSTEM_DEMONITOR, 0);
    if (msg != NULL) sl_dispatcher_tell_system(self->home, self->pid, who, msg);
}

/* ---- children ---- */

sluice_err sluice_actor_spawn(sluice_actor *self, const sluice_spec *spec, sluice_pid *out) {
    sluice_actor *child = NULL;
    sluice_err err = sl_actor_prepare(self->runtime, spec, self->home, &child, NULL);
    if (err != SLUICE_OK) return err;
    sluice_msg *start = sl_system_new(SL_SYSTEM_START, 0);
    if (start == NULL) {
        sl_actor_discard(&child);
        return SLUICE_NOMEM;
    }
    *out = child->pid;
    sl_dispatcher_tell_system(self->home, self->pid, *out, start);
    return SLUICE_OK;
}

void sluice_actor_stop(sluice_actor *self, sluice_pid pid) {
    if (pid == self->pid) {
        self->stop_wanted = true;
        sl_dispatcher_wake(self->home, self);
        return;
    }
    sluice_msg *msg = sl_system_new(SL_SYSTEM_STOP, 0);
    SL_REQUIRE(msg != NULL);
    sl_dispatcher_tell_system(self->home, self->pid, pid, msg);
}

/* ---- watched sockets and descriptors ---- */

static sluice_err watch(sluice_actor *self, sl_watch watched) {
    sl_dispatcher *home = self->home;
    if (home->n_watches == home->watches_capacity) {
        size_t capacity = home->watches_capacity == 0 ? 8 : home->watches_capacity * 2;
        sl_watch *watches = realloc(home->watches, capacity * sizeof *watches);
        if (watches == NULL) return SLUICE_NOMEM;
        home->watches = watches;
        home->watches_capacity = capacity;
    }
    home->watches[home->n_watches++] = watched;
    home->watches_changed = true;
    self->n_watched++;
    return SLUICE_OK;
}

static void unwatch(sluice_actor *self, void *socket, int fd) {
    sl_dispatcher *home = self->home;
    for (size_t i = 0; i < home->n_watches; i++) {
        sl_watch *at = &home->watches[i];
        if (at->actor != self || at->socket != socket || at->fd != fd) continue;
        at->actor = NULL;
        home->watches_changed = true;
        self->n_watched--;
        return;
    }
}

sluice_err sl_actor_watch_socket(sluice_actor *self, void *socket, sl_socket_fn fn, void *context) {
    return watch(self, (sl_watch){.socket = socket, .fd = -1, .actor = self, .socket_fn = fn, .context = context});
}
void sl_actor_unwatch_socket(sluice_actor *self, void *socket) { unwatch(self, socket, -1); }
sluice_err sl_actor_watch_fd(sluice_actor *self, int fd, sl_fd_fn fn, void *context) {
    return watch(self, (sl_watch){.fd = fd, .actor = self, .fd_fn = fn, .context = context});
}
void sl_actor_unwatch_fd(sluice_actor *self, int fd) { unwatch(self, NULL, fd); }

void sl_actor_clear(sluice_actor *actor) {
    sl_dispatcher *home = actor->home;
    while (actor->timers != NULL) sl_timer_remove(&home->timers, actor->timers);
    free(actor->asks);
    actor->asks = NULL;
    actor->n_asks = actor->asks_capacity = 0;
    for (size_t i = 0; actor->n_watched > 0 && i < home->n_watches; i++) {
        if (home->watches[i].actor != actor) continue;
        home->watches[i].actor = NULL;
        home->watches_changed = true;
        actor->n_watched--;
    }
    while (actor->watching.n > 0) sluice_demonitor(actor, actor->watching.items[actor->watching.n - 1]);
    sl_pids_fini(&actor->watching);
}

void *sl_runtime_zmq_context(sluice_runtime *runtime) { return runtime->zmq_context; }
struct sl_registry *sl_runtime_registry(sluice_runtime *runtime) { return runtime->registry; }
