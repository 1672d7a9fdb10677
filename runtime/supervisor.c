/* SPDX-License-Identifier: MIT */
/* Supervisors: restart failed children one for one, wait longer each time, give up when failures come too thick.
 *
 * Owning thread: a shared dispatcher (the supervisor is an ordinary actor). Children are started from outside by
 * sluice_supervisor_spawn: each is prepared, adopted (so that the supervisor knows it before it can fail), started.
 *
 * One child:      RUNNING --failed--> WAITING --timer--> RUNNING
 *                    |                    \--too many--> (all) ENDING
 *                    +--ended, not to be restarted--> ENDED
 * The supervisor: RUNNING --stop asked, or too many failures--> ENDING: children stop in reverse order, one after the
 *                 other has ended; then it finishes, with OK or with the error that was one too many.
 *
 * Messages accepted: CHILD (runtime's own). Messages sent: RESTART and STOP to children.
 * Invariants
 *  1. Restarts within the last within_ms never exceed max_restarts.
 *  2. A child that was stopped from outside (sluice_stop, runtime's end) is not restarted.
 *  3. The wait before the n-th restart in a row is min * 2^(n-1), at most max, varied by up to jitter percent.
 */
#include <sluice/supervisor.h>

#include <string.h>

#include "runtime_internal.h"

typedef struct supervisor supervisor;

typedef struct child {
    supervisor *owner;
    sluice_pid pid;
    sluice_restart restart;
    bool lives; /* not ended for good */
    uint32_t in_a_row;
    int64_t failed_ns;
    sluice_timer timer;
} child;

struct supervisor {
    sluice_supervisor_options options;
    char name[SL_NAME_MAX + 1];
    child *children;
    size_t n_children, n_adopted;
    int64_t *restarts; /* when the latest max_restarts restarts were, a ring */
    size_t next_restart;
    uint64_t random;
    bool ending;
    sluice_err why;
};

void sluice_supervisor_options_init(sluice_supervisor_options *options) {
    *options = (sluice_supervisor_options){
        .max_restarts = 3, .within_ms = 5000, .backoff_min_ms = 10, .backoff_max_ms = 1000, .jitter_percent = 20};
}

/* xorshift64*: enough to spread restarts. Source: Vigna, "An experimental exploration of Marsaglia's xorshift". */
static uint64_t draw(supervisor *self) {
    self->random ^= self->random >> 12;
    self->random ^= self->random << 25;
    self->random ^= self->random >> 27;
    return self->random * 2685821657736338717u;
}

static uint32_t backoff_ms(supervisor *self, uint32_t in_a_row) {
    uint64_t wait = self->options.backoff_min_ms;
    for (uint32_t i = 1; i < in_a_row && wait < self->options.backoff_max_ms; i++) wait *= 2;
    if (wait > self->options.backoff_max_ms) wait = self->options.backoff_max_ms;
    uint64_t spread = wait * self->options.jitter_percent / 100;
    if (spread > 0) wait = wait - spread + draw(self) % (2 * spread + 1);
    return (uint32_t)wait;
}

/* Stops the youngest child that still lives, or finishes. */
static void end_next(sluice_actor *actor, supervisor *self) {
    for (size_t i = self->n_adopted; i-- > 0;) {
        if (!self->children[i].lives) continue;
        sluice_timer_cancel(actor, &self->children[i].timer);
        sluice_actor_stop(actor, self->children[i].pid);
        return;
    }
    sl_actor_finish(actor, self->why);
}

static bool on_stop(sluice_actor *actor) {
    supervisor *self = sluice_actor_state(actor);
    if (!self->ending) {
        self->ending = true;
        self->why = SLUICE_OK;
        end_next(actor, self);
    }
    return true;
}

static void on_backoff(sluice_actor *actor, void *context) {
    child *failed = context;
    failed->timer = 0;
    sluice_msg *msg = sl_system_new(SL_SYSTEM_RESTART, 0);
    SL_REQUIRE(msg != NULL);
    sl_dispatcher_tell_system(actor->home, actor->pid, failed->pid, msg);
}

static void on_failed(sluice_actor *actor, supervisor *self, child *failed, sluice_err why) {
    int64_t now = sl_now_ns(), within = (int64_t)self->options.within_ms * 1000000;
    bool allowed = self->options.max_restarts > 0;
    if (allowed) {
        int64_t *oldest = &self->restarts[self->next_restart];
        allowed = *oldest == 0 || now - *oldest > within;
        if (allowed) {
            *oldest = now;
            self->next_restart = (self->next_restart + 1) % self->options.max_restarts;
        }
    }
    if (!allowed) {
        self->ending = true;
        self->why = why;
        end_next(actor, self);
        return;
    }
    failed->in_a_row = now - failed->failed_ns > within ? 1 : failed->in_a_row + 1;
    failed->failed_ns = now;
    if (sluice_timer_start(actor, backoff_ms(self, failed->in_a_row), 0, on_backoff, failed, &failed->timer) !=
        SLUICE_OK)
        on_backoff(actor, failed); /* no memory for a wait: restart at once */
}

static void on_child(sluice_actor *actor, sluice_pid pid, enum sl_child_event event, sluice_err why) {
    supervisor *self = sluice_actor_state(actor);
    child *found = NULL;
    for (size_t i = 0; i < self->n_adopted; i++)
        if (self->children[i].pid == pid) found = &self->children[i];
    if (found == NULL) return;
    if (event == SL_CHILD_FAILED && found->restart != SLUICE_TEMPORARY && !self->ending) {
        on_failed(actor, self, found, why);
        return;
    }
    if (event == SL_CHILD_FAILED) {
        if (!self->ending) sluice_actor_stop(actor, pid); /* it ends, and says so */
        return;
    }
    found->lives = false;
    sluice_timer_cancel(actor, &found->timer);
    if (self->ending) end_next(actor, self);
}

static void supervisor_free(supervisor *self) {
    if (self == NULL) return;
    free(self->children);
    free(self->restarts);
    free(self);
}

static sluice_err on_init(sluice_actor *actor, void *arg, sluice_cause *cause) {
    (void)cause;
    sluice_actor_set_state(actor, arg);
    actor->on_child = on_child;
    actor->on_stop = on_stop;
    return SLUICE_OK;
}

static sluice_err on_receive(sluice_actor *actor, sluice_msg **msg) {
    (void)actor, (void)msg; /* nobody has anything to say to a supervisor; an asker hears the deadline */
    return SLUICE_OK;
}

static void on_end(sluice_actor *actor, sluice_err why) {
    (void)why;
    supervisor_free(sluice_actor_state(actor));
}

static const sluice_behaviour supervisor_behaviour = {
    .kind = "supervisor", .init = on_init, .receive = on_receive, .stop = on_end};

typedef struct adoption {
    sluice_pid pid;
    sluice_restart restart;
} adoption;

static sluice_err adopt(sluice_actor *actor, void *context, sluice_cause *cause) {
    (void)cause;
    supervisor *self = sluice_actor_state(actor);
    const adoption *wanted = context;
    self->children[self->n_adopted++] =
        (child){.owner = self, .pid = wanted->pid, .restart = wanted->restart, .lives = true};
    return SLUICE_OK;
}

/* The child of the latest adoption never lived (its init failed), and will not be heard of. */
static sluice_err disown(sluice_actor *actor, void *context, sluice_cause *cause) {
    (void)cause, (void)context;
    supervisor *self = sluice_actor_state(actor);
    self->children[self->n_adopted - 1].lives = false;
    if (self->ending) end_next(actor, self); /* it may be the one that is waited for */
    return SLUICE_OK;
}

static supervisor *supervisor_new(const sluice_supervisor_options *options, size_t n_children) {
    supervisor *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    self->options = *options;
    self->children = calloc(n_children + 1, sizeof *self->children);
    self->restarts = calloc(options->max_restarts + 1, sizeof *self->restarts);
    self->n_children = n_children;
    self->random = options->seed != 0 ? options->seed : (uint64_t)sl_now_ns() | 1;
    if (self->children != NULL && self->restarts != NULL) return self;
    supervisor_free(self);
    return NULL;
}

static sluice_err start_child(sluice_runtime *runtime, sluice_pid supervisor_pid, const sluice_child *wanted,
                              sluice_pid *out, sluice_cause *cause) {
    sluice_actor *actor = NULL;
    sluice_err err = sl_actor_prepare(runtime, &wanted->spec, NULL, &actor, cause);
    if (err != SLUICE_OK) return err;
    *out = actor->pid;
    actor->supervisor = supervisor_pid;
    actor->permanent = wanted->restart == SLUICE_PERMANENT;
    adoption request = {.pid = actor->pid, .restart = wanted->restart};
    err = sl_actor_call(runtime, supervisor_pid, adopt, &request, cause);
    if (err != SLUICE_OK) {
        sl_actor_discard(&actor);
        return err;
    }
    err = sl_actor_start(actor, cause);
    if (err != SLUICE_OK) (void)!sl_actor_call(runtime, supervisor_pid, disown, NULL, NULL);
    return err;
}

sluice_err sluice_supervisor_spawn(sluice_runtime *runtime, const sluice_supervisor_options *options,
                                   const sluice_child *children, size_t n_children, sluice_pid *out,
                                   sluice_pid *children_out, sluice_cause *cause) {
    *out = 0;
    sluice_supervisor_options defaults;
    sluice_supervisor_options_init(&defaults);
    if (options == NULL) options = &defaults;
    if (options->jitter_percent > 100 || options->backoff_min_ms > options->backoff_max_ms)
        return sluice_cause_set(cause, SLUICE_INVALID, "jitter over 100 percent, or back-off minimum over maximum");
    supervisor *self = supervisor_new(options, n_children);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_spec spec = {.behaviour = &supervisor_behaviour, .arg = self, .name = options->name};
    sluice_pid pid;
    sluice_err err = sluice_spawn(runtime, &spec, &pid, cause);
    if (err != SLUICE_OK) {
        supervisor_free(self);
        return err;
    }
    for (size_t i = 0; i < n_children; i++) {
        sluice_pid child_pid = 0;
        err = start_child(runtime, pid, &children[i], &child_pid, cause);
        if (err != SLUICE_OK) {
            sluice_stop(runtime, pid); /* stops those that run, in reverse order */
            return err;
        }
        if (children_out != NULL) children_out[i] = child_pid;
    }
    *out = pid;
    return SLUICE_OK;
}
