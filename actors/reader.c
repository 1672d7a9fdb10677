/* SPDX-License-Identifier: MIT */
/* A reader: one query_only connection that answers QueryRequests, each on one fresh snapshot.
 *
 * Owning thread: its own (pinned). Its watch (watch.h) is shared with the writer's thread and whoever looks.
 *
 *                 +--- QueryRequest: queue it
 *                 v
 *   start --> OPEN  --- GateClose: answer GateClosed --> GATED --- GateOpen, or GATE_SAFETY_MS passed --> OPEN
 *              |   \--- drained, but the watch's gate is closed: ^ (no answer is due: no snapshot was open)
 *              |  drained: snapshot, run, end, reply       |  QueryRequest: queue it, OVERLOADED beyond max_pending
 *              v                                           v
 *            stop: what waits is answered CLOSED, connection closed
 *
 * Accepts: QueryRequest (ask), GateClose, GateOpen (control lane).
 * Sends: QueryReply, errors, GateClosed (control lane).
 *
 * Invariants
 *  1. A snapshot is opened after every request it serves has arrived, so whatever was acknowledged before a request was
 *     sent is in it. The commit number is loaded before the snapshot is opened: it is a lower bound.
 *  2. All statements of one request run on one snapshot.
 *  3. No snapshot is open, and no statement busy, when a callback returns. So GateClose is answered at once.
 *  4. Replies leave after their snapshot has ended: who has the reply knows that this read holds the log no longer.
 *  5. A result is whole or TOO_BIG, never cut short.
 *  6. A snapshot is opened between enter and leave of the watch, so who closes the gate knows whether one is open, and
 *     is told of its end if so.
 *  7. Whoever looks for a reader sees what it holds, and that it is in a long snapshot: nobody who could go elsewhere
 *     queues behind a long query.
 *  8. The request's memory (SQL text, parameters) outlives its run: the reply is built in another message, and the
 *     request becomes the spare for the next reply.
 *
 * Stop order: queue answered, timers end with the actor, leases end, watch forgets the connection, connection closes.
 */
#include "reader.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "actor_internal.h"
#include "lease.h"
#include "port.h"
#include "reading.h"
#include "sluice/v1/control.pb-c.h"

#define BATCH 32u                /* requests that share a snapshot */
#define LONG_NS 3000000          /* a snapshot that has lasted so long takes no further request */
#define LONG_WEIGHT 1024u        /* requests that a reader in such a snapshot seems to hold beside its own */
#define GATE_SAFETY_MS 1000u     /* a gate that nobody opened opens by itself */
#define RETRY_AFTER_MS 20u       /* with OVERLOADED */
#define BUSY_TRIES 200u          /* a snapshot can meet a half-written wal-index header for microseconds */

typedef struct readers_part {
    unsigned n;
    sl_leases *leases; /* NULL: none are lent */
    sl_watch *watches; /* of the readers */
} readers_part;

typedef struct start {
    sluice_store *store;
    unsigned index;
} start;

typedef struct reader {
    sluice_store *store;
    sluice_actor *self;
    sl_watch *watch;
    sl_reading reading;
    sluice_msg *head, **tail; /* waiting requests */
    uint32_t n_waiting;
    size_t waiting_bytes;
    sluice_msg *spare; /* becomes the next reply */
    bool gated;
    uint64_t round;
    sluice_timer gate_timer, again_timer;
} reader;

/* ---- the watches ---- */

unsigned sl_readers_count(sluice_store *store) {
    if (atomic_load(&store->n_readers) == 0) return 0; /* readers_part may be in the making */
    const readers_part *part = store->readers_part;
    return part->n + sl_leases_count(part->leases);
}

static sl_watch *watch_at(sluice_store *store, unsigned index) {
    readers_part *part = store->readers_part;
    return index < part->n ? &part->watches[index] : sl_leases_watch(part->leases, index - part->n);
}

bool sl_reader_look(sluice_store *store, unsigned index, sl_reader_watch *out) {
    if (index >= sl_readers_count(store)) return false;
    sl_watch_look(watch_at(store, index), out);
    return true;
}

bool sl_reader_gate_close(sluice_store *store, unsigned index, uint64_t round, sluice_pid writer) {
    return index >= sl_readers_count(store) || sl_watch_gate_close(watch_at(store, index), round, writer);
}

bool sl_reader_quiet(sluice_store *store, unsigned index) {
    return index >= sl_readers_count(store) || sl_watch_quiet(watch_at(store, index));
}

bool sl_reader_gate_open(sluice_store *store, unsigned index) {
    return index < sl_readers_count(store) && sl_watch_gate_open(watch_at(store, index));
}

size_t sluice_store_readings(sluice_store *store, sluice_reading *out, size_t room) {
    unsigned n = sl_readers_count(store);
    for (unsigned i = 0; i < n && i < room; i++) sl_watch_show(watch_at(store, i), &out[i]);
    return n;
}

unsigned sl_readers_expire(sluice_store *store, int64_t before_ns) {
    unsigned told = 0, n = sl_readers_count(store);
    for (unsigned i = 0; i < n; i++)
        if (sl_watch_expire(watch_at(store, i), before_ns, SLUICE_SNAPSHOT_EXPIRED)) told++;
    return told;
}

void sl_readers_add_stats(const sluice_store *store, sluice_store_stats *stats) {
    const readers_part *part = store->readers_part;
    if (part != NULL) sl_leases_add_stats(part->leases, stats);
}

/* ---- answers ---- */

static void answer_error(reader *r, sluice_msg **request, const sluice_cause *cause) {
    if (cause->code == SLUICE_INTERRUPTED) sl_count(r->store, reads_interrupted, 1);
    if (cause->code == SLUICE_SNAPSHOT_EXPIRED) sl_count(r->store, snapshots_expired, 1);
    sl_count(r->store, reads_failed, 1);
    sl_msg_turn_error(*request, cause);
    if (sl_actor_send(r->self, request, false) != SLUICE_OK) sluice_msg_destroy(request); /* the asker is gone */
}

static void refuse(reader *r, sluice_msg **request, sluice_err err, uint32_t retry_after_ms, const char *text) {
    sluice_cause cause;
    (void)sluice_cause_set(&cause, err, "%s", text);
    cause.retry_after_ms = retry_after_ms;
    answer_error(r, request, &cause);
}

/* ---- the queue ---- */

static void queue_push(reader *r, sluice_msg *msg) {
    msg->next = NULL;
    *r->tail = msg;
    r->tail = &msg->next;
    r->n_waiting++;
    r->waiting_bytes += msg->charge = sl_msg_size(msg);
    sl_actor_set_held(r->self, r->n_waiting);
}

static sluice_msg *queue_pop(reader *r) {
    sluice_msg *msg = r->head;
    if (msg == NULL) return NULL;
    r->head = msg->next;
    if (r->head == NULL) r->tail = &r->head;
    msg->next = NULL;
    r->n_waiting--;
    r->waiting_bytes -= msg->charge;
    msg->charge = 0;
    return msg;
}

/* ---- one request ---- */

/* Fills the spare with the reply to `request`. On an error the spare is still there. */
static sluice_err build_reply(reader *r, const sluice_msg *request, uint64_t commit_number, sluice_cause *cause) {
    if (request->deadline_ns != 0 && request->deadline_ns <= sl_now_ns())
        return sluice_cause_set(cause, SLUICE_EXPIRED, "%s", sluice_err_text(SLUICE_EXPIRED));
    if (r->spare == NULL) r->spare = sl_msg_alloc(SIZE_MAX);
    if (r->spare == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    /* A spare that was a request from outside had the budget of what was decoded into it. */
    r->spare->arena.budget = SIZE_MAX;
    sluice_err err = sl_msg_set_body(r->spare, &sluice__v1__query_reply__descriptor);
    if (err != SLUICE_OK) return sluice_cause_set(cause, err, "out of memory");
    ((Sluice__V1__QueryReply *)sluice_msg_body(r->spare))->commit_number = commit_number;
    return sl_reading_run(&r->reading, request, r->spare, cause);
}

/* A reply that waits for the end of its snapshot, or an error in the shape of the turned request. */
typedef struct answers {
    sluice_msg *msgs[BATCH];
    unsigned n;
} answers;

static void settle(reader *r, sluice_msg *request, sluice_err err, const sluice_cause *cause, answers *out) {
    if (err != SLUICE_OK) {
        if (err == SLUICE_INTERRUPTED) sl_count(r->store, reads_interrupted, 1);
        if (err == SLUICE_SNAPSHOT_EXPIRED) sl_count(r->store, snapshots_expired, 1);
        sl_count(r->store, reads_failed, 1);
        sl_msg_turn_error(request, cause);
        out->msgs[out->n++] = request;
        /* A half-built result may be large. */
        sluice_msg_destroy(&r->spare);
        return;
    }
    sl_count(r->store, reads, 1);
    sluice_msg *reply = r->spare;
    reply->to = request->from;
    reply->correlation = request->correlation;
    reply->flags = SL_MSG_REPLY;
    reply->deadline_ns = 0;
    reply->identity = request->identity;
    reply->trace = request->trace;
    out->msgs[out->n++] = reply;
    sl_arena_reset(&request->arena); /* invariant 8: its data was of use until here */
    r->spare = request;
}

/* ---- a snapshot ---- */

static void on_again(sluice_actor *self, void *context);
static void on_gate_safety(sluice_actor *self, void *context);

static void tell_gate_closed(reader *r, sluice_pid closer, uint64_t round) {
    sluice_msg *closed = NULL; /* without memory: the writer's timer gives the round up */
    if (sluice_msg_new(&sluice__v1__gate_closed__descriptor, &closed) != SLUICE_OK) return;
    ((Sluice__V1__GateClosed *)sluice_msg_body(closed))->round = round;
    (void)!sl_actor_tell_control(r->self, closer, &closed);
    sluice_msg_destroy(&closed);
}

/* True if the safety timer runs: only then the gate may be respected. */
static bool gate_shut(reader *r, uint64_t round) {
    sluice_timer_cancel(r->self, &r->gate_timer);
    r->gated = sluice_timer_start(r->self, GATE_SAFETY_MS, 0, on_gate_safety, r, &r->gate_timer) == SLUICE_OK;
    r->round = round;
    return r->gated;
}

static void snapshot_end(reader *r) {
    sl_reading_end(&r->reading);
    uint64_t round;
    sluice_pid closer = sl_watch_leave(r->watch, &round); /* invariant 6: it has ended */
    if (closer != 0) tell_gate_closed(r, closer, round);
}

/* True: the gate is closed, and it will be opened, or opens by itself. */
static bool gate_holds(reader *r) {
    uint64_t round = sl_watch_closed_round(r->watch, true);
    if (round == 0) return false; /* it was opened meanwhile */
    if (gate_shut(r, round)) return true;
    sl_watch_ignore_gate(r->watch); /* no memory for a timer */
    return false;
}

/* One statement is a snapshot by itself. */
static bool is_alone(const reader *r) {
    return r->n_waiting == 1 && ((const Sluice__V1__QueryRequest *)r->head->body)->n_statements == 1;
}

/* *gated: the gate is closed, nothing was opened. */
static sluice_err snapshot_begin(reader *r, uint64_t *commit_number, bool *gated, sluice_cause *cause) {
    *commit_number = sl_store_commit_number(r->store); /* invariant 1: before the snapshot */
    *gated = false;
    while (!sl_watch_enter(r->watch, sl_now_ns(), *commit_number)) {
        *gated = gate_holds(r);
        if (*gated) return SLUICE_OK;
    }
    int rc = is_alone(r) ? SQLITE_OK : sl_reading_begin(&r->reading);
    if (rc == SQLITE_OK) return SLUICE_OK;
    sluice_err err = sl_sqlite_cause(cause, sl_conn_db(r->reading.conn), rc, "opening a snapshot");
    snapshot_end(r);
    return err;
}

/* Runs in the middle of a statement. */
static void on_long(void *context) {
    const reader *r = context;
    sl_actor_set_held(r->self, r->n_waiting + LONG_WEIGHT); /* invariant 7 */
}

/* Serves waiting requests on one snapshot: at most BATCH, and none once it has lasted for LONG_NS or the gate waits for
 * its end, so that snapshots stay young. Gives the answers. An error: no snapshot could be opened. */
static sluice_err serve_snapshot(reader *r, answers *out, bool *busy, sluice_cause *cause) {
    uint64_t commit_number;
    bool gated;
    out->n = 0;
    *busy = false;
    sluice_err err = snapshot_begin(r, &commit_number, &gated, cause);
    if (err != SLUICE_OK || gated) return err;
    int64_t started_ns = sl_now_ns();
    sl_reading_time(&r->reading, started_ns, started_ns + LONG_NS, on_long, r);
    while (out->n < BATCH && r->head != NULL) {
        sluice_msg *request = r->head;
        sluice_cause why;
        memset(&why, 0, sizeof why);
        if (out->n > 0 && sl_watch_wanted(r->watch)) break;
        err = build_reply(r, request, commit_number, &why);
        if (err == SLUICE_LOCKED && out->n == 0) { /* the snapshot could not be opened; nothing was read */
            *busy = true;
            break;
        }
        settle(r, queue_pop(r), err, &why, out);
        if (err == SLUICE_SNAPSHOT_EXPIRED || sl_now_ns() - started_ns > LONG_NS) break;
    }
    if (out->n > 0) sl_count(r->store, read_batches, 1);
    snapshot_end(r);
    sl_actor_set_held(r->self, r->n_waiting);
    return SLUICE_OK;
}

static sluice_err serve(reader *r) {
    answers out;
    sluice_cause cause;
    bool busy = false;
    sluice_err err;
    unsigned tries = 0;
    do {
        err = serve_snapshot(r, &out, &busy, &cause);
        if (busy) sched_yield();
    } while (err == SLUICE_OK && busy && ++tries < BUSY_TRIES);
    if (busy && err == SLUICE_OK) {
        sluice_msg *request = queue_pop(r);
        refuse(r, &request, SLUICE_OVERLOADED, RETRY_AFTER_MS, "the file is being recovered by someone else");
    } else if (err != SLUICE_OK && out.n == 0) {
        sluice_msg *request = queue_pop(r);
        answer_error(r, &request, &cause);
        err = SLUICE_OK; /* no snapshot was opened: the next one may fare better */
    }
    for (unsigned i = 0; i < out.n; i++) /* invariant 4 */
        if (sl_actor_send(r->self, &out.msgs[i], false) != SLUICE_OK) sluice_msg_destroy(&out.msgs[i]);
    if (err != SLUICE_OK) return err;
    if (r->head != NULL && !r->gated && r->again_timer == 0)
        err = sluice_timer_start(r->self, 0, 0, on_again, r, &r->again_timer); /* control messages go first */
    return err;
}

static void on_again(sluice_actor *self, void *context) {
    reader *r = context;
    r->again_timer = 0;
    if (r->gated || r->head == NULL) return;
    if (serve(r) != SLUICE_OK) sluice_actor_stop(self, sluice_actor_pid(self));
}

/* ---- the gate ---- */

static void gate_open(reader *r) {
    r->gated = false;
    sluice_timer_cancel(r->self, &r->gate_timer);
}

static void on_gate_safety(sluice_actor *self, void *context) {
    reader *r = context;
    (void)self;
    r->gate_timer = 0;
    sl_count(r->store, gate_timeouts, 1);
    r->gated = false;
    sl_watch_ignore_gate(r->watch);
    on_again(r->self, r);
}

static void on_gate_close(reader *r, const sluice_msg *msg) {
    const Sluice__V1__GateClose *close = sluice_msg_body(msg);
    if (gate_shut(r, close->round)) tell_gate_closed(r, sluice_msg_from(msg), close->round);
}

/* ---- behaviour ---- */

static void on_query_request(reader *r, sluice_msg **msg) {
    if (!sluice_msg_is_ask(*msg)) return; /* nobody to answer */
    if (r->n_waiting >= r->store->options.max_pending || r->waiting_bytes >= r->store->options.max_pending_bytes) {
        sluice_msg *request = *msg;
        *msg = NULL;
        refuse(r, &request, SLUICE_OVERLOADED, RETRY_AFTER_MS, "too many reads wait for this reader");
        return;
    }
    queue_push(r, *msg);
    *msg = NULL;
}

static sluice_err reader_receive(sluice_actor *self, sluice_msg **msg) {
    reader *r = sluice_actor_state(self);
    if (sluice_msg_is(*msg, &sluice__v1__query_request__descriptor)) {
        on_query_request(r, msg);
    } else if (sluice_msg_is(*msg, &sluice__v1__gate_close__descriptor)) {
        on_gate_close(r, *msg);
    } else if (sluice_msg_is(*msg, &sluice__v1__gate_open__descriptor)) {
        const Sluice__V1__GateOpen *open = sluice_msg_body(*msg);
        if (open->round == r->round) gate_open(r);
    } else if (sluice_msg_is_ask(*msg)) {
        sluice_cause cause;
        (void)sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "a reader takes QueryRequest, not %s",
                               sluice_msg_type_name(*msg));
        sluice_reply_error(self, *msg, &cause);
    }
    return SLUICE_OK;
}

static sluice_err reader_drained(sluice_actor *self) {
    reader *r = sluice_actor_state(self);
    return r->gated || r->head == NULL ? SLUICE_OK : serve(r);
}

static void reader_stop(sluice_actor *self, sluice_err why) {
    (void)why;
    reader *r = sluice_actor_state(self);
    for (sluice_msg *request; (request = queue_pop(r)) != NULL;)
        refuse(r, &request, SLUICE_CLOSED, 0, "the store is closing");
    /* Here too, for the runtime may go before the store is closed. */
    sl_leases_end(((readers_part *)r->store->readers_part)->leases);
    sl_watch_attach(r->watch, NULL);
    sluice_msg_destroy(&r->spare);
    sl_reading_close(&r->reading);
    free(r);
}

static sluice_err reader_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    start *from = arg;
    reader *r = calloc(1, sizeof *r);
    if (r == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    r->store = from->store;
    r->self = self;
    r->tail = &r->head;
    r->watch = &((readers_part *)from->store->readers_part)->watches[from->index];
    sluice_err err = sl_reading_open(&r->reading, r->store, r->watch, &r->store->counters.statement_hits,
                                     &r->store->counters.statement_misses, cause);
    if (err != SLUICE_OK) {
        free(r);
        return err;
    }
    sl_watch_attach(r->watch, r->reading.conn);
    sluice_actor_set_state(self, r);
    return SLUICE_OK;
}

static const sluice_behaviour reader_behaviour = {
    .kind = "reader",
    .init = reader_init,
    .receive = reader_receive,
    .drained = reader_drained,
    .stop = reader_stop,
};

/* ---- the pool ---- */

sluice_err sl_readers_start(sluice_store *store, sluice_cause *cause) {
    unsigned n = store->options.n_readers;
    readers_part *part = calloc(1, sizeof *part);
    if (part != NULL) part->watches = aligned_alloc(_Alignof(sl_watch), n * sizeof *part->watches);
    if (part == NULL || part->watches == NULL) {
        free(part);
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    part->n = n;
    for (unsigned i = 0; i < n; i++) sl_watch_init(&part->watches[i], i, false);
    store->readers_part = part;
    sluice_err err = sl_leases_start(store, &part->leases, cause);
    if (err != SLUICE_OK) {
        sl_readers_stop(store);
        return err;
    }
    for (unsigned i = 0; i < n; i++) {
        start from = {store, i}; /* init has returned when spawn does */
        sluice_spec spec = {
            .behaviour = &reader_behaviour,
            .arg = &from,
            .name = store->readers_name,
            .pool = true,
            .placement = SLUICE_PLACE_PINNED,
            .mailbox_messages = store->options.max_pending,
            .mailbox_bytes = store->options.max_pending_bytes,
            .batch = BATCH,
        };
        sluice_pid pid;
        err = sluice_spawn(store->runtime, &spec, &pid, cause);
        if (err != SLUICE_OK) {
            sl_readers_stop(store);
            return err;
        }
        atomic_store(&store->readers[i], pid);
        atomic_store(&store->n_readers, i + 1);
    }
    return SLUICE_OK;
}

void sl_readers_stop(sluice_store *store) {
    readers_part *part = store->readers_part;
    if (part == NULL) return;
    unsigned n = atomic_load(&store->n_readers);
    sl_leases_end(part->leases);
    for (unsigned i = 0; i < n; i++) {
        sluice_stop(store->runtime, atomic_load(&store->readers[i]));
        atomic_store(&store->readers[i], 0);
    }
    atomic_store(&store->n_readers, 0);
    store->readers_part = NULL;
    /* A runtime that went first took its list of offers with it. */
    sl_leases_destroy(&part->leases, atomic_load(&store->orphaned) ? NULL : store->runtime, store->readers_name);
    for (unsigned i = 0; i < part->n; i++) sl_watch_fini(&part->watches[i]);
    free(part->watches);
    free(part);
}
