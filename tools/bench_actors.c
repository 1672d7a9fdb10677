/* SPDX-License-Identifier: MIT */
/* `sluice bench pingpong|ring|count`: what a message costs between actors on one dispatcher.
 *
 *   pingpong  pairs of actors send the same messages to and fro
 *   ring      messages go round a ring of actors
 *   count     senders make new messages for one counter; the last of every `pipeline` comes back as credit for more
 *
 * All actors share one dispatcher, so `run` needs no lock: the dispatcher alone writes it while messages flow, and main
 * reads it after the runtime has ended. Only `stopping` and the eventfd are for both.
 * When the time is up each message that is delivered is taken out of play and counted; a run in which not exactly those
 * come back that were sent in has lost or doubled some.
 */
#include "bench.h"
#include "sluice/v1/control.pb-c.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE   1024u /* messages per clock reading */
#define DRAIN_MS 10000 /* for the messages under way at the end */

typedef struct run run;

typedef struct player {
    run *run;
    sluice_pid peer; /* whom it sends to */
    uint64_t sent;   /* count: by a sender */
} player;

struct run {
    const sl_bench_plan *plan;
    atomic_bool stopping;
    int all_back_fd;        /* eventfd, written once when the last message came back */
    uint64_t delivered;     /* while it counted */
    uint64_t received;      /* count: by the counter, ever */
    uint64_t returned;      /* taken out of play */
    uint64_t expected_back; /* to be taken out */
    uint64_t refused;       /* sends that failed */
    sluice_cause first_error;
    int64_t sampled_ns;
    sl_latency times;
};

static void note_delivery(run *self) {
    if (++self->delivered % SAMPLE) return;
    int64_t now = sl_bench_now_ns();
    if (self->sampled_ns) sl_latency_add(&self->times, (uint64_t)(now - self->sampled_ns) / SAMPLE);
    self->sampled_ns = now;
}

static void take_out(run *self) {
    if (++self->returned != self->expected_back) return;
    uint64_t one = 1;
    /* An eventfd of counter 0 takes one more without blocking. */
    if (write(self->all_back_fd, &one, sizeof one) != (ssize_t)sizeof one) abort();
}

static void note_refusal(run *self, sluice_err err) {
    if (self->refused++ == 0) (void)sluice_cause_set(&self->first_error, err, "send: %s", sluice_err_text(err));
}

/* ---- pingpong and ring: the message goes on ---- */

static sluice_err pass_on(sluice_actor *self, sluice_msg **msg) {
    player *state = sluice_actor_state(self);
    run *shared = state->run;
    if (atomic_load_explicit(&shared->stopping, memory_order_relaxed)) {
        take_out(shared);
        return SLUICE_OK;
    }
    note_delivery(shared);
    sluice_err err = sluice_tell(self, state->peer, msg);
    if (err) note_refusal(shared, err);
    return SLUICE_OK;
}

static const sluice_behaviour passer = {.kind = "bench passer", .receive = pass_on};

/* ---- count ---- */

/* Sends `pipeline` new messages, the last one marked by a payload. */
static sluice_err send_window(sluice_actor *self, player *state) {
    unsigned n = state->run->plan->pipeline;
    for (unsigned i = 0; i < n; i++) {
        sluice_msg *msg = NULL;
        sluice_err err = sluice_msg_new(&sluice__v1__ping__descriptor, &msg);
        if (!err && i == n - 1) {
            Sluice__V1__Ping *body = sluice_msg_body(msg);
            body->payload.data = sluice_msg_memdup(msg, "c", 1);
            body->payload.len = 1;
            if (!body->payload.data) err = SLUICE_NOMEM;
        }
        if (!err) err = sluice_tell(self, state->peer, &msg);
        sluice_msg_destroy(&msg);
        if (err)
            note_refusal(state->run, err);
        else
            state->sent++;
    }
    return SLUICE_OK;
}

static sluice_err send_more(sluice_actor *self, sluice_msg **msg) {
    (void)msg; /* the credit itself ends here */
    player *state = sluice_actor_state(self);
    if (atomic_load_explicit(&state->run->stopping, memory_order_relaxed)) {
        take_out(state->run);
        return SLUICE_OK;
    }
    return send_window(self, state);
}

static sluice_err count_one(sluice_actor *self, sluice_msg **msg) {
    player *state = sluice_actor_state(self);
    run *shared = state->run;
    const Sluice__V1__Ping *body = sluice_msg_body(*msg);
    shared->received++;
    if (!atomic_load_explicit(&shared->stopping, memory_order_relaxed)) note_delivery(shared);
    if (body->payload.len == 0) return SLUICE_OK;
    sluice_err err = sluice_tell(self, sluice_msg_from(*msg), msg);
    if (err) note_refusal(shared, err);
    return SLUICE_OK;
}

static const sluice_behaviour sender = {.kind = "bench sender", .receive = send_more};
static const sluice_behaviour counter = {.kind = "bench counter", .receive = count_one};

/* ---- the stage ---- */

typedef struct stage {
    run run;
    sluice_runtime *runtime;
    player *players;
    sluice_pid *pids;
    unsigned n_players;
} stage;

static unsigned players_needed(const sl_bench_plan *plan) {
    if (plan->work == SL_WORK_PINGPONG) return plan->n_clients * 2;
    if (plan->work == SL_WORK_RING) return plan->n_clients;
    return plan->n_clients + 1; /* the counter is the last */
}

static const sluice_behaviour *behaviour_of(const stage *self, unsigned i) {
    if (self->run.plan->work != SL_WORK_COUNT) return &passer;
    return i == self->n_players - 1 ? &counter : &sender;
}

static unsigned peer_of(const stage *self, unsigned i) {
    if (self->run.plan->work == SL_WORK_PINGPONG) return i ^ 1u;
    if (self->run.plan->work == SL_WORK_RING) return (i + 1) % self->n_players;
    return self->n_players - 1;
}

static sluice_err set_stage(stage *self, sluice_cause *cause) {
    const sl_bench_plan *plan = self->run.plan;
    self->n_players = players_needed(plan);
    self->players = calloc(self->n_players, sizeof *self->players);
    self->pids = calloc(self->n_players, sizeof *self->pids);
    if (!self->players || !self->pids) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_err err = sluice_runtime_new(NULL, &self->runtime, cause);
    /* A mailbox must hold all that can be under way at once. */
    uint64_t under_way = (uint64_t)plan->pipeline * (plan->work == SL_WORK_COUNT ? plan->n_clients : 1) + 16;
    for (unsigned i = 0; !err && i < self->n_players; i++) {
        self->players[i].run = &self->run;
        sluice_spec spec = {
            .behaviour = behaviour_of(self, i),
            .arg = &self->players[i],
            .placement = SLUICE_PLACE_SHARED,
            .mailbox_messages = under_way > 1024 ? (uint32_t)under_way : 1024,
            .mailbox_bytes = UINT32_MAX,
        };
        err = sluice_spawn(self->runtime, &spec, &self->pids[i], cause);
    }
    /* Before any message is posted, so every actor finds its peer set. */
    for (unsigned i = 0; !err && i < self->n_players; i++) self->players[i].peer = self->pids[peer_of(self, i)];
    return err;
}

static sluice_err post_one(stage *self, unsigned to, sluice_cause *cause) {
    sluice_msg *msg = NULL;
    sluice_err err = sluice_msg_new(&sluice__v1__ping__descriptor, &msg);
    if (!err) err = sluice_post(self->runtime, self->pids[to], &msg);
    sluice_msg_destroy(&msg);
    return err ? sluice_cause_set(cause, err, "post: %s", sluice_err_text(err)) : SLUICE_OK;
}

/* How many messages go in from outside: each comes back once at the end. */
static unsigned messages_in(const sl_bench_plan *plan) {
    if (plan->work == SL_WORK_PINGPONG) return plan->n_clients * plan->pipeline;
    return plan->work == SL_WORK_RING ? plan->pipeline : plan->n_clients;
}

static unsigned receiver_of(const stage *self, unsigned message) {
    const sl_bench_plan *plan = self->run.plan;
    if (plan->work == SL_WORK_PINGPONG) return message / plan->pipeline * 2;
    return plan->work == SL_WORK_RING ? message % self->n_players : message;
}

static sluice_err play(stage *self, sl_bench_total *total, sluice_cause *cause) {
    const sl_bench_plan *plan = self->run.plan;
    unsigned n_messages = messages_in(plan);
    self->run.expected_back = n_messages;
    int64_t begun = sl_bench_now_ns();
    for (unsigned i = 0; i < n_messages; i++) {
        sluice_err err = post_one(self, receiver_of(self, i), cause);
        if (err) return err;
    }
    struct timespec end = {.tv_sec = begun / 1000000000 + plan->seconds, .tv_nsec = begun % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) continue;
    atomic_store(&self->run.stopping, true);
    total->elapsed_s = (double)(sl_bench_now_ns() - begun) / 1e9;
    struct pollfd wait = {.fd = self->run.all_back_fd, .events = POLLIN, .revents = 0};
    while (poll(&wait, 1, DRAIN_MS) < 0 && errno == EINTR) continue;
    return SLUICE_OK;
}

/* Called when the dispatcher has ended. */
static void judge(const stage *self, sl_bench_total *total) {
    const run *shared = &self->run;
    uint64_t expected = shared->expected_back, got = shared->returned;
    if (shared->plan->work == SL_WORK_COUNT) {
        for (unsigned i = 0; i < self->n_players; i++) expected += self->players[i].sent;
        got += shared->received;
    }
    total->lost = expected > got ? expected - got : 0;
    total->doubled = got > expected ? got - expected : 0;
    total->counts.ops = shared->delivered;
    total->counts.errors = shared->refused;
    total->counts.first_error = shared->first_error;
    total->counts.latency = shared->times;
    total->client_ops_min = total->client_ops_max = shared->delivered / self->n_players;
}

sluice_err sl_bench_actors_run(const sl_bench_plan *plan, sl_bench_total *total, sluice_cause *cause) {
    stage *self = calloc(1, sizeof *self);
    if (!self) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    self->run.plan = plan;
    sluice_err err = SLUICE_OK;
    self->run.all_back_fd = eventfd(0, EFD_CLOEXEC);
    if (self->run.all_back_fd < 0) err = sluice_cause_set(cause, SLUICE_SYSTEM, "eventfd: %s", strerror(errno));
    if (!err) err = set_stage(self, cause);
    if (!err) err = play(self, total, cause);
    sluice_runtime_destroy(&self->runtime);
    if (!err) judge(self, total);
    if (self->run.all_back_fd >= 0) close(self->run.all_back_fd);
    free(self->players);
    free(self->pids);
    free(self);
    return err;
}
