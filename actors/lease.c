/* SPDX-License-Identifier: MIT */
/* Local leases: reading connections that clients of this process use on their own threads.
 *
 * Owning thread: a seat (a connection and its watch) belongs to the client's thread that is in its call; the pool's
 * list of seats only grows, under its lock.
 *
 *   client                                    seat (see watch.h)
 *   join: one more seat is opened, if there are fewer than clients and than options.n_leases
 *   read: the first seat from its home on that can be entered --> snapshot, run, end, leave
 *         none: NONE, and the client sends a message
 *   leave
 *
 * Sends: GateClosed to the writer (control lane), from the client's thread, when a call has ended that the gate waited
 * for.
 *
 * Invariants
 *  1. The commit number is loaded before the snapshot is opened, which is after the call began: whatever was
 *     acknowledged before the call is in it.
 *  2. When read returns no snapshot is open and no statement busy, and the result is a copy.
 *  3. The store is touched only between enter and leave, so once every seat has been stopped and left it may go, while
 *     clients still hold the pool.
 *
 * Stop order: seats stopped (calls end with CLOSED), connections closed, offer withdrawn, hold dropped; the last client
 * that drops its hold frees the memory.
 */
#include "lease.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "actor_internal.h"
#include "lend.h"
#include "port.h"
#include "reading.h"
#include "sluice/v1/control.pb-c.h"

#define BUSY_TRIES 200u /* a snapshot can meet a half-written wal-index header for microseconds */

typedef struct seat {
    sl_watch watch;
    sl_reading reading;
    /* Written by who is in the call. */
    _Atomic uint64_t reads, failed, interrupted, expired, hits, misses;
} seat;

struct sl_leases {
    sl_lender base; /* first */
    sluice_store *store;
    unsigned n_max;
    _Atomic unsigned n_open;
    _Atomic uint64_t refused; /* reads that found no free seat */
    pthread_mutex_t lock;     /* guards opening seats, the number of clients, and `ended` */
    unsigned n_clients, next_home;
    bool ended;
    seat *seats; /* n_max */
};

static sl_leases *leases_of(sl_lender *lender) { return (sl_leases *)lender; }

#define COUNT(counter) atomic_fetch_add_explicit(&(counter), 1, memory_order_relaxed)

/* ---- clients come and go ---- */

static sluice_err open_seat(sl_leases *self, sluice_cause *cause) {
    unsigned n = atomic_load_explicit(&self->n_open, memory_order_relaxed);
    seat *s = &self->seats[n];
    sluice_err err = sl_reading_open(&s->reading, self->store, &s->watch, &s->hits, &s->misses, cause);
    if (err != SLUICE_OK) return err;
    sl_watch_attach(&s->watch, s->reading.conn);
    atomic_store_explicit(&self->n_open, n + 1, memory_order_release);
    return SLUICE_OK;
}

static sluice_err join(sl_lender *lender, unsigned *home, sluice_cause *cause) {
    sl_leases *self = leases_of(lender);
    sluice_err err = SLUICE_OK;
    pthread_mutex_lock(&self->lock);
    self->n_clients++;
    if (!self->ended && self->n_open < self->n_max && self->n_open < self->n_clients) err = open_seat(self, cause);
    *home = self->next_home++;
    pthread_mutex_unlock(&self->lock);
    return err;
}

static void leave(sl_lender *lender) {
    sl_leases *self = leases_of(lender);
    pthread_mutex_lock(&self->lock);
    self->n_clients--;
    pthread_mutex_unlock(&self->lock);
}

/* ---- reads ---- */

/* A seat that was entered, or NULL; *closed: there will never be one. */
static seat *enter(sl_leases *self, unsigned home, int64_t now_ns, uint64_t *commit_number) {
    unsigned n = atomic_load_explicit(&self->n_open, memory_order_acquire);
    for (unsigned i = 0; i < n; i++) {
        seat *s = &self->seats[(home + i) % n];
        if (!sl_watch_enter(&s->watch, now_ns, 0)) continue;
        *commit_number = sl_store_commit_number(self->store); /* invariants 1 and 3 */
        atomic_store_explicit(&s->watch.commit_number, *commit_number, memory_order_release);
        return s;
    }
    return NULL;
}

static void tell_gate_closed(sluice_runtime *runtime, sluice_pid closer, uint64_t round) {
    sluice_msg *closed = NULL; /* without memory: the writer's timer gives the round up */
    if (sluice_msg_new(&sluice__v1__gate_closed__descriptor, &closed) != SLUICE_OK) return;
    ((Sluice__V1__GateClosed *)sluice_msg_body(closed))->round = round;
    (void)!sl_post_control(runtime, closer, &closed);
    sluice_msg_destroy(&closed);
}

static sluice_err run(seat *s, const sluice_msg *request, sluice_msg *reply, sluice_cause *cause) {
    const Sluice__V1__QueryRequest *query = (const Sluice__V1__QueryRequest *)request->body;
    bool one = query->n_statements == 1;
    if (!one) {
        int rc = sl_reading_begin(&s->reading);
        if (rc != SQLITE_OK) {
            sluice_err err = sl_sqlite_cause(cause, sl_conn_db(s->reading.conn), rc, "opening a snapshot");
            sl_reading_end(&s->reading);
            return err;
        }
    }
    sluice_err err = sl_reading_run(&s->reading, request, reply, cause);
    if (one && err == SLUICE_OK)
        sl_reading_check(&s->reading);
    else
        sl_reading_end(&s->reading);
    return err;
}

static void count_end(seat *s, sluice_err err) {
    if (err == SLUICE_OK) {
        COUNT(s->reads);
        return;
    }
    COUNT(s->failed);
    if (err == SLUICE_INTERRUPTED) COUNT(s->interrupted);
    if (err == SLUICE_SNAPSHOT_EXPIRED) COUNT(s->expired);
}

static sl_lent read_here(sl_lender *lender, unsigned home, const sluice_msg *request, int64_t now_ns,
                         sluice_msg *reply, sluice_err *err, sluice_cause *cause) {
    sl_leases *self = leases_of(lender);
    uint64_t commit_number, round;
    seat *s = enter(self, home, now_ns, &commit_number);
    if (s == NULL) {
        COUNT(self->refused);
        pthread_mutex_lock(&self->lock);
        bool ended = self->ended;
        pthread_mutex_unlock(&self->lock);
        return ended ? SL_LENT_CLOSED : SL_LENT_NONE;
    }
    sluice_runtime *runtime = self->store->runtime;
    unsigned tries = 0;
    sl_reading_time(&s->reading, now_ns, 0, NULL, NULL);
    *err = run(s, request, reply, cause);
    while (*err == SLUICE_LOCKED && ++tries < BUSY_TRIES && !sl_watch_wanted(&s->watch)) {
        sched_yield();
        *err = run(s, request, reply, cause);
    }
    if (*err != SLUICE_LOCKED) count_end(s, *err);
    ((Sluice__V1__QueryReply *)reply->body)->commit_number = commit_number;
    sluice_pid closer = sl_watch_leave(&s->watch, &round);
    if (closer != 0) tell_gate_closed(runtime, closer, round);
    return *err == SLUICE_LOCKED ? SL_LENT_NONE : SL_LENT_DONE; /* a reader may wait for what is in the way */
}

/* ---- the pool ---- */

static void destroy(sl_lender *lender) {
    sl_leases *self = leases_of(lender);
    for (unsigned i = 0; i < self->n_max; i++) sl_watch_fini(&self->seats[i].watch);
    pthread_mutex_destroy(&self->lock);
    free(self->seats);
    free(self);
}

static const sl_lender_ops lender_ops = {.join = join, .leave = leave, .read = read_here, .destroy = destroy};

sluice_err sl_leases_start(sluice_store *store, sl_leases **out, sluice_cause *cause) {
    *out = NULL;
    unsigned n = store->options.n_leases;
    if (n == 0) return SLUICE_OK;
    sl_leases *self = calloc(1, sizeof *self);
    seat *seats = aligned_alloc(_Alignof(seat), n * sizeof *seats);
    if (self == NULL || seats == NULL) {
        free(self);
        free(seats);
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    memset(seats, 0, n * sizeof *seats);
    for (unsigned i = 0; i < n; i++) sl_watch_init(&seats[i].watch, store->options.n_readers + i, true);
    pthread_mutex_init(&self->lock, NULL);
    self->base.ops = &lender_ops;
    self->store = store;
    self->n_max = n;
    self->seats = seats;
    sl_lender_hold(&self->base);
    sluice_err err = sl_lend_offer(store->runtime, store->readers_name, &self->base);
    if (err != SLUICE_OK) {
        sl_lender *lender = &self->base;
        sl_lender_drop(&lender);
        return sluice_cause_set(cause, err, "offering local leases as %s", store->readers_name);
    }
    *out = self;
    return SLUICE_OK;
}

void sl_leases_end(sl_leases *self) {
    if (self == NULL) return;
    pthread_mutex_lock(&self->lock);
    if (!self->ended) {
        self->ended = true;
        for (unsigned i = 0; i < self->n_open; i++) {
            sl_watch_stop(&self->seats[i].watch);
            sl_watch_attach(&self->seats[i].watch, NULL);
            sl_reading_close(&self->seats[i].reading);
        }
    }
    pthread_mutex_unlock(&self->lock);
}

void sl_leases_destroy(sl_leases **leases, sluice_runtime *runtime, const char *name) {
    sl_leases *self = *leases;
    if (self == NULL) return;
    *leases = NULL;
    if (runtime != NULL) sl_lend_end(runtime, name);
    sl_lender *lender = &self->base;
    sl_lender_drop(&lender);
}

unsigned sl_leases_count(const sl_leases *self) {
    return self != NULL ? atomic_load_explicit(&self->n_open, memory_order_acquire) : 0;
}

sl_watch *sl_leases_watch(sl_leases *self, unsigned index) { return &self->seats[index].watch; }

void sl_leases_add_stats(const sl_leases *self, sluice_store_stats *stats) {
    unsigned n = sl_leases_count(self);
    for (unsigned i = 0; i < n; i++) {
        const seat *s = &self->seats[i];
        uint64_t reads = atomic_load_explicit(&s->reads, memory_order_relaxed);
        stats->reads += reads;
        stats->reads_leased += reads;
        stats->reads_failed += atomic_load_explicit(&s->failed, memory_order_relaxed);
        stats->reads_interrupted += atomic_load_explicit(&s->interrupted, memory_order_relaxed);
        stats->snapshots_expired += atomic_load_explicit(&s->expired, memory_order_relaxed);
        stats->statement_hits += atomic_load_explicit(&s->hits, memory_order_relaxed);
        stats->statement_misses += atomic_load_explicit(&s->misses, memory_order_relaxed);
    }
    if (self != NULL) stats->leases_refused = atomic_load_explicit(&self->refused, memory_order_relaxed);
}
