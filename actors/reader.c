/* SPDX-License-Identifier: MIT */
/* A reader: one query_only connection that answers QueryRequests, each on one fresh snapshot.
 *
 * Owning thread: its own (pinned). Its watch is shared, under the watch's lock, with the writer's thread.
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
 *  6. A snapshot is opened, and its end made known, under the watch's lock, together with a look at the gate: so who
 *     closes the gate knows whether one is open, and is told of its end if so.
 *  7. Whoever looks for a reader sees what it holds, and that it is in a long snapshot: nobody who could go elsewhere
 *     queues behind a long query.
 *  8. The request's memory (SQL text, parameters) outlives its run: the reply is built in another message, and the
 *     request becomes the spare for the next reply.
 *
 * Stop order: queue answered, timers end with the actor, watch forgets the connection, connection closes.
 */
#include "reader.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor_internal.h"
#include "port.h"
#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"

#define BATCH 32u                /* requests that share a snapshot */
#define LONG_NS 3000000          /* a snapshot that has lasted so long takes no further request */
#define LONG_WEIGHT 1024u        /* requests that a reader in such a snapshot seems to hold beside its own */
#define GATE_SAFETY_MS 1000u     /* a gate that nobody opened opens by itself */
#define RETRY_AFTER_MS 20u       /* with OVERLOADED */
#define BUSY_TRIES 200u          /* a snapshot can meet a half-written wal-index header for microseconds */

/* Seen from other threads. */
typedef struct watch {
    pthread_mutex_t lock;
    sl_conn *conn; /* NULL before init and after stop */
    sl_reader_watch now;
    uint64_t gate_round; /* the gate is closed; 0: it is open */
    sluice_pid closer;   /* is to be told GateClosed when the snapshot ends; 0: nobody */
    bool waits;          /* the reader is to be told GateOpen */
} watch;

typedef struct readers_part {
    unsigned n;
    watch watches[];
} readers_part;

typedef struct start {
    sluice_store *store;
    unsigned index;
} start;

typedef struct reader {
    sluice_store *store;
    sluice_actor *self;
    watch *watch;
    sl_conn *conn;
    sqlite3_stmt *begin, *end;
    sluice_msg *head, **tail; /* waiting requests */
    uint32_t n_waiting;
    size_t waiting_bytes;
    sluice_msg *spare; /* becomes the next reply */
    bool gated;
    uint64_t round;
    sluice_timer gate_timer, again_timer;
} reader;

/* ---- the watch ---- */

/* False: the gate is closed; *round is its number, and GateOpen will come. */
static bool watch_begin(reader *r, uint64_t commit_number, uint64_t *round) {
    pthread_mutex_lock(&r->watch->lock);
    *round = r->watch->gate_round;
    if (*round == 0)
        r->watch->now = (sl_reader_watch){.snapshot_ns = sl_now_ns(), .commit_number = commit_number};
    else
        r->watch->waits = true;
    pthread_mutex_unlock(&r->watch->lock);
    return *round == 0;
}

/* True if someone waits for the snapshot to end. */
static bool watch_asker(reader *r, sluice_pid asker) {
    pthread_mutex_lock(&r->watch->lock);
    r->watch->now.asker = asker;
    bool wanted = r->watch->gate_round != 0;
    pthread_mutex_unlock(&r->watch->lock);
    return wanted;
}

/* After this no stop aimed at the snapshot that ended can reach the next one. Gives whom to tell GateClosed, or 0. */
static sluice_pid watch_end(reader *r, uint64_t *round) {
    pthread_mutex_lock(&r->watch->lock);
    r->watch->now = (sl_reader_watch){0};
    sl_conn_stop_clear(r->conn);
    sluice_pid closer = r->watch->closer;
    r->watch->closer = 0;
    *round = r->watch->gate_round;
    pthread_mutex_unlock(&r->watch->lock);
    return closer;
}

bool sl_reader_look(sluice_store *store, unsigned index, sl_reader_watch *out) {
    readers_part *part = store->readers_part;
    if (part == NULL || index >= part->n) return false;
    pthread_mutex_lock(&part->watches[index].lock);
    *out = part->watches[index].now;
    pthread_mutex_unlock(&part->watches[index].lock);
    return true;
}

bool sl_reader_gate_close(sluice_store *store, unsigned index, uint64_t round, sluice_pid writer) {
    readers_part *part = store->readers_part;
    if (part == NULL || index >= part->n) return true;
    watch *w = &part->watches[index];
    pthread_mutex_lock(&w->lock);
    bool quiet = w->now.snapshot_ns == 0;
    w->gate_round = round;
    w->closer = quiet ? 0 : writer;
    pthread_mutex_unlock(&w->lock);
    return quiet;
}

bool sl_reader_gate_open(sluice_store *store, unsigned index) {
    readers_part *part = store->readers_part;
    if (part == NULL || index >= part->n) return false;
    watch *w = &part->watches[index];
    pthread_mutex_lock(&w->lock);
    bool waits = w->waits;
    w->gate_round = 0;
    w->closer = 0;
    w->waits = false;
    pthread_mutex_unlock(&w->lock);
    return waits;
}

unsigned sl_readers_expire(sluice_store *store, int64_t before_ns) {
    readers_part *part = store->readers_part;
    unsigned told = 0;
    for (unsigned i = 0; part != NULL && i < part->n; i++) {
        watch *w = &part->watches[i];
        pthread_mutex_lock(&w->lock);
        if (w->conn != NULL && w->now.snapshot_ns != 0 && w->now.snapshot_ns < before_ns) {
            sl_conn_stop(w->conn, SLUICE_SNAPSHOT_EXPIRED);
            told++;
        }
        pthread_mutex_unlock(&w->lock);
    }
    return told;
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

/* ---- hygiene ---- */

/* Invariant 3, in every build: a statement left busy would hold an old snapshot, so that later reads are stale and no
 * checkpoint completes. It can only be a mistake of ours, and is named. */
static void require_quiet(reader *r) {
    sqlite3 *db = sl_conn_db(r->conn);
    for (sqlite3_stmt *stmt = sqlite3_next_stmt(db, NULL); stmt != NULL; stmt = sqlite3_next_stmt(db, stmt)) {
        if (!sqlite3_stmt_busy(stmt)) continue;
        fprintf(stderr, "sluice: a reader left a statement busy: %s\n", sqlite3_sql(stmt));
        abort();
    }
}

/* ---- one request ---- */

static sluice_err run_statements(reader *r, const Sluice__V1__QueryRequest *query, int64_t deadline_ns,
                                 sluice_msg *reply, sluice_cause *cause) {
    Sluice__V1__QueryReply *body = sluice_msg_body(reply);
    size_t n = query->n_statements;
    body->results = sluice_msg_alloc(reply, n * sizeof *body->results);
    Sluice__V1__StatementResult *results = sluice_msg_alloc(reply, n * sizeof *results);
    if (body->results == NULL || results == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sl_run run = {.arena = &reply->arena, .max_bytes = r->store->options.max_result_bytes, .deadline_ns = deadline_ns};
    if (query->max_bytes != 0 && query->max_bytes < run.max_bytes) run.max_bytes = (size_t)query->max_bytes;
    for (size_t i = 0; i < n; i++) {
        const Sluice__V1__Statement *in = query->statements[i];
        sluice_err err = SLUICE_OK;
        const sl_statement *statement = NULL;
        if (in->guard_case != SLUICE__V1__STATEMENT__GUARD__NOT_SET)
            err = sluice_cause_set(cause, SLUICE_INVALID, "a read has no number of changes to expect");
        if (in->what_case == SLUICE__V1__STATEMENT__WHAT_PROCEDURE)
            err = sluice_cause_set(cause, SLUICE_READ_ONLY, "a procedure is called by a write");
        if (err == SLUICE_OK)
            err = sl_conn_prepare(r->conn, in->sql.data, in->sql.len, SL_RIGHT_ALL, &statement, cause);
        run.rows = NULL;
        if (err == SLUICE_OK) err = sl_conn_run(r->conn, statement, in, &run, cause);
        if (err != SLUICE_OK) {
            cause->statement = i < INT32_MAX ? (int32_t)i : INT32_MAX;
            return err;
        }
        sluice__v1__statement_result__init(&results[i]);
        results[i].rows = run.rows;
        body->results[i] = &results[i];
        body->n_results = i + 1;
    }
    return SLUICE_OK;
}

/* Fills the spare with the reply to `request`. On an error the spare is still there. */
static sluice_err build_reply(reader *r, const sluice_msg *request, uint64_t commit_number, sluice_cause *cause) {
    if (request->deadline_ns != 0 && request->deadline_ns <= sl_now_ns())
        return sluice_cause_set(cause, SLUICE_EXPIRED, "%s", sluice_err_text(SLUICE_EXPIRED));
    const Sluice__V1__QueryRequest *query = sluice_msg_body(request);
    if (query->n_statements == 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "the request holds no statement");
    if (r->spare == NULL) r->spare = sl_msg_alloc(SIZE_MAX);
    if (r->spare == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    /* A spare that was a request from outside had the budget of what was decoded into it. */
    r->spare->arena.budget = SIZE_MAX;
    sluice_err err = sl_msg_set_body(r->spare, &sluice__v1__query_reply__descriptor);
    if (err != SLUICE_OK) return sluice_cause_set(cause, err, "out of memory");
    ((Sluice__V1__QueryReply *)sluice_msg_body(r->spare))->commit_number = commit_number;
    return run_statements(r, query, request->deadline_ns, r->spare, cause);
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

/* Opens the gate from the inside. */
static void gate_ignore(reader *r) {
    pthread_mutex_lock(&r->watch->lock);
    r->watch->gate_round = 0;
    r->watch->waits = false;
    pthread_mutex_unlock(&r->watch->lock);
}

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

/* Cannot fail but by a mistake of ours: nothing was written, and nothing is busy. */
static void snapshot_end(reader *r) {
    require_quiet(r);
    if (!sqlite3_get_autocommit(sl_conn_db(r->conn))) (void)sl_conn_own_once(r->conn, r->end);
    if (!sqlite3_get_autocommit(sl_conn_db(r->conn))) {
        fprintf(stderr, "sluice: a reader's snapshot did not end: %s\n", sqlite3_errmsg(sl_conn_db(r->conn)));
        abort();
    }
    uint64_t round;
    sluice_pid closer = watch_end(r, &round); /* invariant 6: it has ended */
    if (closer != 0) tell_gate_closed(r, closer, round);
}

/* *gated: the gate is closed, nothing was opened. */
static sluice_err snapshot_begin(reader *r, uint64_t *commit_number, bool *gated, sluice_cause *cause) {
    uint64_t round;
    *commit_number = sl_store_commit_number(r->store); /* invariant 1: before the snapshot */
    *gated = !watch_begin(r, *commit_number, &round);
    if (*gated && gate_shut(r, round)) return SLUICE_OK;
    if (*gated) { /* no memory for a timer */
        *gated = false;
        gate_ignore(r);
    }
    int rc = sl_conn_own_once(r->conn, r->begin);
    if (rc == SQLITE_OK) return SLUICE_OK;
    sluice_err err = sl_sqlite_cause(cause, sl_conn_db(r->conn), rc, "opening a snapshot");
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
    sl_conn_alarm(r->conn, started_ns + LONG_NS, on_long, r);
    while (out->n < BATCH && r->head != NULL) {
        sluice_msg *request = r->head;
        sluice_cause why;
        memset(&why, 0, sizeof why);
        if (watch_asker(r, request->from) && out->n > 0) break;
        err = build_reply(r, request, commit_number, &why);
        if (err == SLUICE_LOCKED && out->n == 0) { /* the snapshot could not be opened; nothing was read */
            *busy = true;
            break;
        }
        settle(r, queue_pop(r), err, &why, out);
        if (err == SLUICE_SNAPSHOT_EXPIRED || sl_now_ns() - started_ns > LONG_NS) break;
    }
    if (out->n > 0) sl_count(r->store, read_batches, 1);
    sl_conn_alarm(r->conn, 0, NULL, NULL);
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
    gate_ignore(r);
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
    pthread_mutex_lock(&r->watch->lock);
    r->watch->conn = NULL;
    r->watch->now = (sl_reader_watch){0};
    r->watch->waits = false;
    pthread_mutex_unlock(&r->watch->lock);
    sluice_msg_destroy(&r->spare);
    sl_conn_close(&r->conn);
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
    sl_conn_options options = sl_store_conn_options(r->store, SL_CONN_READER);
    sluice_err err = sl_conn_open(&options, &r->conn, cause);
    if (err == SLUICE_OK) err = sl_conn_own_prepare(r->conn, "BEGIN", &r->begin, cause);
    if (err == SLUICE_OK) err = sl_conn_own_prepare(r->conn, "COMMIT", &r->end, cause);
    if (err != SLUICE_OK) {
        sl_conn_close(&r->conn);
        free(r);
        return err;
    }
    pthread_mutex_lock(&r->watch->lock);
    r->watch->conn = r->conn;
    pthread_mutex_unlock(&r->watch->lock);
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
    readers_part *part = calloc(1, sizeof *part + n * sizeof part->watches[0]);
    if (part == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    part->n = n;
    for (unsigned i = 0; i < n; i++) pthread_mutex_init(&part->watches[i].lock, NULL);
    store->readers_part = part;
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
        sluice_err err = sluice_spawn(store->runtime, &spec, &pid, cause);
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
    for (unsigned i = 0; i < n; i++) {
        sluice_stop(store->runtime, atomic_load(&store->readers[i]));
        atomic_store(&store->readers[i], 0);
    }
    atomic_store(&store->n_readers, 0);
    store->readers_part = NULL;
    for (unsigned i = 0; i < part->n; i++) pthread_mutex_destroy(&part->watches[i].lock);
    free(part);
}
