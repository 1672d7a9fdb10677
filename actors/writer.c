/* SPDX-License-Identifier: MIT */
/* The writer: turns what waits in its mailbox into one transaction at a time, and says OK when it is on disk.
 *
 * Owning thread: a pinned dispatcher of its own; it may block (fsync).
 *
 *   receive: WriteRequest --> run in the group's transaction, answer kept
 *   drained: nobody is waiting any more --> COMMIT, all answers leave, checkpoint driver's turn (no transaction open)
 *
 *                   admit: OK                    drained, or bytes, time
 *      IDLE ----------------------> GROUP ----------------------------------> IDLE
 *       ^ |  admit: CLOSED (log being emptied)
 *       | +-----------------------> PAUSED: requests wait in line
 *       +------------ resume -----------+
 *       | +--- TransactionBegin ---> LEASED: requests wait in line but those of the transaction (writer_lease.c)
 *       +------ lease ended ------------+
 *
 * Receives: WriteRequest, TransactionBegin, TransactionEnd, Goodbye, Ping, CheckpointNow, BackupRequest (asks);
 * GateClosed and the answers to the driver's asks. Anything else is answered UNSUPPORTED. Sends: WriteReply,
 * TransactionBegun, GoodbyeReply, Pong, errors; what the driver and the backup send.
 *
 * Invariants
 *  1. The driver uses the connection only between groups, and never while an interactive transaction is open; none begins
 *     while the reader gate is closed.
 *  2. Answers leave (flush) before the driver may start a pass that takes milliseconds.
 *  3. Requests keep their order, also through a pause and an interactive transaction: one line for all. Whoever's
 *     deadline passes in it is told EXPIRED within LOOK_MS.
 *  4. The group is what waits: nothing lingers for more (measured: every form of waiting lost).
 *  5. Senders take turns (a fair mailbox), and a sender with many requests ends its part of a group early for those
 *     who wait for its commit (turns.h). The inbox is looked at every LOOK_EVERY requests and after each commit, so
 *     that who comes in the middle of a flood is seen.
 *
 * Stop order: no more requests (CLOSED), transaction rolled back, group committed and answered, those who wait answered CLOSED, driver, group,
 * connection. Readers and the checkpointer are stopped by the store afterwards.
 */
#include <stdlib.h>
#include <string.h>

#include "actor_internal.h"
#include "backup.h"
#include "checkpoint_driver.h"
#include "group.h"
#include "writer_lease.h"
#include "line.h"
#include "port.h"
#include "sluice/v1/control.pb-c.h"
#include "codec.h"
#include "turns.h"

#define TICK_MS 1000u
#define BATCH (1u << 20)           /* the group ends by bytes and time, not by count */
#define LOOK_EVERY 32u             /* requests */
#define RETRY_AFTER_MS 20u         /* with OVERLOADED */
#define DRAIN_TIMEOUT_NS 40000000000 /* a request may run 30 s */
#define LOOK_MS 5u                   /* while somebody waits in line: how late EXPIRED may come */
#define GATE_RETRY_MS 2u             /* while a transaction waits for the reader gate */

typedef struct writer {
    sluice_store *store;
    sluice_actor *self;
    sl_conn *conn;
    sl_group *group;
    sl_checkpoint_driver *driver;
    sl_backup *backup;
    sl_histogram commits;
    sl_writer_lease *lease;
    sluice_timer tick, wake, look;
    sl_line line; /* paused, or an interactive transaction: who waits */
    uint64_t groups_at_tick;
    uint32_t unseen;      /* requests taken since the inbox was looked at */
    sl_turns turns;
    sluice_msg *farewell; /* the Ping of a closing store, answered after `before_farewell` more messages */
    uint32_t before_farewell;
} writer;

/* What the store keeps of its writer. */
typedef struct writer_part {
    _Atomic bool closing;
} writer_part;

/* ---- answers ---- */

static void send_answer(void *context, sluice_msg **msg) {
    writer *w = context;
    /* Whoever asked may be gone: then nobody wants the answer. */
    if (sl_actor_send(w->self, msg, false) != SLUICE_OK) sluice_msg_destroy(msg);
}

static void flush_answers(void *context) {
    writer *w = context;
    sl_actor_flush(w->self);
}

static void refuse_with(writer *w, sluice_msg **msg, const sluice_cause *cause) {
    if (sluice_msg_is_ask(*msg)) {
        sl_msg_turn_error(*msg, cause);
        send_answer(w, msg);
    } else {
        sluice_msg_destroy(msg);
    }
}

static void refuse(writer *w, sluice_msg **msg, sluice_err code, const char *text) {
    sluice_cause cause;
    (void)sluice_cause_set(&cause, code, "%s", text);
    if (code == SLUICE_OVERLOADED) cause.retry_after_ms = RETRY_AFTER_MS;
    refuse_with(w, msg, &cause);
}

/* ---- groups ---- */

static bool closing(const writer *w) { return atomic_load(&((writer_part *)w->store->writer_part)->closing); }

static void after_group(writer *w) {
    uint64_t frames;
    if (sl_store_check(w->store, NULL) != SLUICE_OK) return;
    if (sl_group_wrote(w->group, &frames)) sl_checkpoint_driver_after_commit(w->driver, frames);
    sl_checkpoint_driver_between_groups(w->driver);
    sl_backup_between_groups(w->backup);
}

static void commit(writer *w) {
    if (!sl_group_pending(w->group)) return;
    (void)!sl_group_commit(w->group); /* everybody was told; a fatal end is remembered by the store */
    sl_turns_begin(&w->turns);
    w->unseen = LOOK_EVERY;
    after_group(w);
}

/* A group may be pending without one: it then holds refusals only, and the driver may pause or refuse meanwhile. */
static bool in_transaction(const writer *w) { return sqlite3_get_autocommit(sl_conn_db(w->conn)) == 0; }

static void take_request(writer *w, sluice_msg **msg) {
    sluice_cause cause;
    if (!in_transaction(w)) {
        sluice_err err = sl_store_check(w->store, &cause);
        if (err == SLUICE_OK) err = sl_checkpoint_driver_admit(w->driver, &cause);
        if (err != SLUICE_OK) {
            sl_group_refuse(w->group, msg, &cause);
            return;
        }
    }
    sl_turns_take(&w->turns, *msg);
    if (sluice_msg_is(*msg, &sluice__v1__transaction_end__descriptor))
        sl_group_lease_resolve(w->group, msg);
    else
        sl_group_add(w->group, msg);
    if (sl_group_full(w->group)) commit(w);
}

/* Is the log being emptied, so that requests have to wait a moment? */
static bool paused(writer *w) {
    return !in_transaction(w) && sl_store_check(w->store, NULL) == SLUICE_OK &&
           sl_checkpoint_driver_admit(w->driver, NULL) == SLUICE_CLOSED;
}

/* A step of a backup opens a read transaction, and must see whole groups. */
static bool may_copy(void *context) {
    writer *w = context;
    return !in_transaction(w) && !sl_group_pending(w->group) && sl_store_check(w->store, NULL) == SLUICE_OK &&
           sl_checkpoint_driver_admit(w->driver, NULL) != SLUICE_CLOSED;
}

/* ---- the line ---- */

static bool must_wait(writer *w) { return w->line.n != 0 || sl_writer_lease_held(w->lease) || paused(w); }

static bool has_expired(const sluice_msg *msg, const void *context) {
    return msg->deadline_ns != 0 && msg->deadline_ns <= *(const int64_t *)context;
}

/* Those who wait are told when their time is over, and not only when their turn comes. */
static void on_look(sluice_actor *self, void *context) {
    writer *w = context;
    int64_t now_ns = sl_now_ns();
    for (sluice_msg *msg; (msg = sl_line_take(&w->line, has_expired, &now_ns)) != NULL;) {
        sl_count(w->store, expired, 1);
        refuse(w, &msg, SLUICE_EXPIRED, "the deadline passed while the request waited");
    }
    if (w->line.n == 0) sluice_timer_cancel(self, &w->look);
}

static void wait_in_line(writer *w, sluice_msg **msg) {
    if (!sl_line_push(&w->line, msg)) {
        refuse(w, msg, SLUICE_OVERLOADED, "too many requests wait for the writer, or too many of this client's");
    } else if (w->look == 0 && sluice_timer_start(w->self, LOOK_MS, LOOK_MS, on_look, w, &w->look) != SLUICE_OK) {
        w->look = 0; /* they are told in their turn */
    }
}

static void run_line(writer *w);

static void on_wake(sluice_actor *self, void *context) {
    (void)self;
    writer *w = context;
    w->wake = 0;
    run_line(w);
}

/* Runs the line in a later turn. */
static void wake_in(writer *w, uint32_t delay_ms) {
    if (w->line.n == 0 || w->wake != 0) return;
    if (sluice_timer_start(w->self, delay_ms, 0, on_wake, w, &w->wake) != SLUICE_OK) w->wake = 0; /* the tick will do */
}

/* The driver lifted a pause. It may be in the middle of its own work, so the waiting requests run in a later turn. */
static void on_resume(void *context) { wake_in(context, 0); }

/* ---- interactive transactions ---- */

/* Grants the lease, or says why not. False: not yet; *msg is untouched. */
static bool try_begin(writer *w, sluice_msg **msg) {
    sluice_cause cause;
    commit(w);
    /* Readers at a closed gate would wait for as long as the transaction takes. */
    if (!sl_checkpoint_driver_gate_is_open(w->driver)) sl_checkpoint_driver_between_groups(w->driver);
    if (paused(w)) return false;
    if (!sl_checkpoint_driver_gate_is_open(w->driver) && sl_store_check(w->store, NULL) == SLUICE_OK) return false;
    sluice_err err = sl_store_check(w->store, &cause);
    if (err == SLUICE_OK && closing(w)) err = sluice_cause_set(&cause, SLUICE_CLOSED, "the store is closing");
    if (err == SLUICE_OK) err = sl_checkpoint_driver_admit(w->driver, &cause);
    if (err == SLUICE_OK && (*msg)->deadline_ns != 0 && (*msg)->deadline_ns <= sl_now_ns()) {
        sl_count(w->store, expired, 1);
        err = sluice_cause_set(&cause, SLUICE_EXPIRED, "the deadline passed while the request waited");
    }
    if (err == SLUICE_OK)
        sl_writer_lease_grant(w->lease, msg);
    else
        refuse_with(w, msg, &cause);
    return true;
}

/* Runs what waits, in order, as far as it may. */
static void run_line(writer *w) {
    while (w->line.n != 0 && !sl_writer_lease_held(w->lease) && !paused(w)) {
        sluice_msg *msg = sl_line_pop(&w->line);
        if (!sluice_msg_is(msg, &sluice__v1__transaction_begin__descriptor)) {
            take_request(w, &msg);
        } else if (!try_begin(w, &msg)) {
            sl_line_push_front(&w->line, &msg);
            wake_in(w, GATE_RETRY_MS);
            return;
        }
        if (w->line.n == 0) commit(w);
    }
}

/* The transaction's answer has left, so the driver may have its turn; then whoever waited longest. */
static void on_lease_ended(void *context) {
    writer *w = context;
    sl_actor_flush(w->self);
    after_group(w);
    run_line(w);
}

static void on_transaction_begin(writer *w, sluice_msg **msg) {
    const Sluice__V1__TransactionBegin *body = sluice_msg_body(*msg);
    if (body->transaction == 0 || sl_writer_lease_is(w->lease, body->transaction)) {
        refuse(w, msg, SLUICE_INVALID, "a transaction's number is random and not 0");
    } else if (closing(w)) {
        refuse(w, msg, SLUICE_CLOSED, "the store is closing");
    } else if (must_wait(w)) {
        wait_in_line(w, msg);
    } else if (!try_begin(w, msg)) {
        wait_in_line(w, msg);
        wake_in(w, GATE_RETRY_MS);
    }
}

static bool begins(const sluice_msg *msg, const void *context) {
    return sluice_msg_is(msg, &sluice__v1__transaction_begin__descriptor) &&
           ((const Sluice__V1__TransactionBegin *)msg->body)->transaction == *(const uint64_t *)context;
}

/* A rollback, and the transaction does not hold the lease: it is over, or still waits for its turn. */
static void roll_back_nothing(writer *w, uint64_t transaction, sluice_msg **msg) {
    sluice_msg *begin = sl_line_take(&w->line, begins, &transaction);
    if (begin != NULL) refuse(w, &begin, SLUICE_TRANSACTION_EXPIRED, "the client gave it up while it waited");
    if (sluice_msg_is_ask(*msg) && sl_msg_turn(*msg, &sluice__v1__write_reply__descriptor) == SLUICE_OK)
        send_answer(w, msg);
    else
        sluice_msg_destroy(msg);
}

static void on_transaction_end(writer *w, sluice_msg **msg) {
    const Sluice__V1__TransactionEnd *body = sluice_msg_body(*msg);
    if (sl_writer_lease_is(w->lease, body->transaction))
        sl_writer_lease_end(w->lease, msg);
    else if (!body->commit)
        roll_back_nothing(w, body->transaction, msg);
    else if (!body->receipt)
        sl_writer_lease_refuse(w->lease, body->transaction, msg);
    else if (closing(w))
        refuse(w, msg, SLUICE_CLOSED, "the store is closing"); /* nobody may say no who has not seen the receipts */
    else if (must_wait(w))
        wait_in_line(w, msg);
    else
        take_request(w, msg);
}

/* ---- messages ---- */

static void on_write_request(writer *w, sluice_msg **msg) {
    sluice_cause cause;
    uint64_t transaction = ((const Sluice__V1__WriteRequest *)sluice_msg_body(*msg))->transaction;
    if (transaction != 0) {
        if (sl_writer_lease_is(w->lease, transaction))
            sl_writer_lease_step(w->lease, msg);
        else
            sl_writer_lease_refuse(w->lease, transaction, msg);
        return;
    }
    if (sl_group_pending(w->group) && sl_turns_over(&w->turns, *msg)) commit(w);
    if (++w->unseen > LOOK_EVERY) {
        w->unseen = 0;
        (void)sl_actor_poll_inbox(w->self);
    }
    if (closing(w)) {
        (void)sluice_cause_set(&cause, SLUICE_CLOSED, "the store is closing");
        sl_group_refuse(w->group, msg, &cause);
    } else if (must_wait(w)) {
        wait_in_line(w, msg);
    } else {
        take_request(w, msg);
    }
}

static void on_goodbye(writer *w, sluice_msg **msg) {
    const Sluice__V1__Goodbye *body = sluice_msg_body(*msg);
    if (body->client.len != 16) {
        refuse(w, msg, SLUICE_INVALID, "a client id has 16 bytes");
        return;
    }
    if (sl_receipts_goodbye(sl_group_receipts(w->group), body->client.data, (*msg)->user) != SLUICE_OK) {
        refuse(w, msg, SLUICE_FORBIDDEN, "the session is another user's");
        return;
    }
    if (!sluice_msg_is_ask(*msg)) return;
    if (sl_msg_turn(*msg, &sluice__v1__goodbye_reply__descriptor) == SLUICE_OK)
        send_answer(w, msg);
}

/* Answers a Ping: takes it. */
static void pong(writer *w, sluice_msg **msg) {
    if (sl_msg_turn(*msg, &sluice__v1__pong__descriptor) != SLUICE_OK) return;
    Sluice__V1__Pong *body = sluice_msg_body(*msg);
    body->version_min = SL_WIRE_VERSION_MIN;
    body->version_max = SL_WIRE_VERSION;
    send_answer(w, msg);
}

static void say_farewell(writer *w) {
    pong(w, &w->farewell);
    sluice_msg_destroy(&w->farewell);
}

/* The store's own question when it closes must not overtake, in its turn, what others sent before. */
static void on_ping(writer *w, sluice_msg **msg) {
    if (!sluice_msg_is_ask(*msg)) return;
    uint32_t depth = closing(w) ? sl_mailbox_depth(w->store->runtime, sluice_actor_pid(w->self)) : 0;
    if (depth == 0 || w->farewell != NULL) {
        pong(w, msg);
        return;
    }
    w->farewell = *msg;
    w->before_farewell = depth + 1;
    *msg = NULL;
}

static sluice_err writer_receive(sluice_actor *self, sluice_msg **msg) {
    writer *w = sluice_actor_state(self);
    if (w->farewell != NULL && --w->before_farewell == 0) say_farewell(w);
    if (sl_writer_lease_held(w->lease)) {
        if (closing(w))
            sl_writer_lease_break(w->lease, "the store is closing; the transaction was rolled back");
        else
            sl_writer_lease_check(w->lease);
    }
    if (sluice_msg_is(*msg, &sluice__v1__write_request__descriptor))
        on_write_request(w, msg);
    else if (sluice_msg_is(*msg, &sluice__v1__transaction_begin__descriptor))
        on_transaction_begin(w, msg);
    else if (sluice_msg_is(*msg, &sluice__v1__transaction_end__descriptor))
        on_transaction_end(w, msg);
    else if (sl_checkpoint_driver_on_message(w->driver, msg) || sl_backup_on_message(w->backup, msg))
        return SLUICE_OK;
    else if (sluice_msg_is(*msg, &sluice__v1__goodbye__descriptor))
        on_goodbye(w, msg);
    else if (sluice_msg_is(*msg, &sluice__v1__ping__descriptor))
        on_ping(w, msg);
    else
        refuse(w, msg, SLUICE_UNSUPPORTED,
               "the writer takes WriteRequest, TransactionBegin, TransactionEnd, Goodbye and Ping");
    return SLUICE_OK;
}

static sluice_err writer_drained(sluice_actor *self) {
    writer *w = sluice_actor_state(self);
    commit(w);
    run_line(w);
    if (w->farewell != NULL) say_farewell(w);
    return SLUICE_OK;
}

static void on_tick(sluice_actor *self, void *context) {
    (void)self;
    writer *w = context;
    sluice_cause cause;
    sl_gauge(w->store, commit_p50_us, sl_histogram_percentile(&w->commits, 500));
    sl_gauge(w->store, commit_p99_us, sl_histogram_percentile(&w->commits, 990));
    sl_histogram_roll(&w->commits);
    if (sl_store_check(w->store, NULL) != SLUICE_OK) return;
    if (sl_ownership_check(w->store->ownership, &cause) != SLUICE_OK) {
        sl_store_fatal(w->store, SLUICE_EXIT_FILE_REPLACED, &cause);
        return;
    }
    sl_writer_lease_check(w->lease);
    run_line(w);
    sl_receipts_expire(sl_group_receipts(w->group), sl_now_ns());
    uint64_t groups = atomic_load_explicit(&w->store->counters.groups, memory_order_relaxed);
    bool idle = groups == w->groups_at_tick;
    bool free = !sl_writer_lease_held(w->lease) && !sl_group_pending(w->group);
    if (free && sl_checkpoint_driver_admit(w->driver, NULL) == SLUICE_OK) {
        sl_group_housekeep(w->group, idle);
        after_group(w);
    }
    w->groups_at_tick = atomic_load_explicit(&w->store->counters.groups, memory_order_relaxed);
}

/* ---- start ---- */

/* Empties the log while this is the only connection (rule W5). *truncated false: no space, or in shared mode a reader
 * of another process is in the way. */
static sluice_err empty_log(writer *w, bool *truncated, sluice_cause *cause) {
    int log = -1, copied = -1;
    int rc = sqlite3_wal_checkpoint_v2(sl_conn_db(w->conn), "main", SQLITE_CHECKPOINT_TRUNCATE, &log, &copied);
    *truncated = rc == SQLITE_OK;
    if (rc == SQLITE_OK || (rc & 0xff) == SQLITE_FULL || (rc & 0xff) == SQLITE_BUSY) return SLUICE_OK;
    return sl_sqlite_cause(cause, sl_conn_db(w->conn), rc, "emptying the log");
}

static sluice_err open_file(writer *w, bool *truncated, sluice_cause *cause) {
    sl_conn_options options = sl_store_conn_options(w->store, SL_CONN_WRITER);
    sluice_err err = sl_conn_open(&options, &w->conn, cause);
    if (err == SLUICE_OK) err = sl_ownership_pin(w->store->ownership, cause);
    if (err == SLUICE_OK) err = empty_log(w, truncated, cause);
    if (err != SLUICE_OK) return err;
    sl_group_options group = {
        .store = w->store, .conn = w->conn, .answer = send_answer, .flush = flush_answers, .context = w,
        .commits = &w->commits,
    };
    err = sl_group_new(&group, &w->group, cause);
    if (err != SLUICE_OK) return err;
    err = sl_group_prepare(w->group, cause);
    if (err == SLUICE_NO_SPACE || err == SLUICE_OVERLOADED) return SLUICE_OK; /* tried again with the first request */
    return err == SLUICE_OK && *truncated ? empty_log(w, truncated, cause) : err;
}

static void destroy_writer(writer *w) {
    sl_backup_destroy(&w->backup);
    if (w->driver != NULL) sl_checkpoint_driver_destroy(&w->driver);
    sluice_msg_destroy(&w->farewell);
    sl_writer_lease_destroy(&w->lease);
    sl_group_destroy(&w->group);
    sl_conn_close(&w->conn);
    free(w);
}

static sluice_err writer_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    writer *w = calloc(1, sizeof *w);
    if (w == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    w->store = arg;
    w->self = self;
    sl_line_init(&w->line, w->store->options.max_pending, w->store->options.max_pending_bytes,
                 w->store->options.max_pending_share);
    bool truncated = false;
    sluice_err err = open_file(w, &truncated, cause);
    if (err != SLUICE_OK) goto fail;
    uint64_t frames;
    (void)sl_group_wrote(w->group, &frames); /* before the driver's time; the log was emptied since, or will be */
    sl_writer_lease_options lease = {
        .store = w->store, .self = self, .group = w->group, .answer = send_answer, .ended = on_lease_ended, .context = w,
    };
    err = sl_writer_lease_new(&lease, &w->lease, cause);
    if (err != SLUICE_OK) goto fail;
    sl_driver_options driver = {
        .store = w->store, .self = self, .conn = w->conn, .truncated = truncated, .resume = on_resume, .context = w,
    };
    err = sl_checkpoint_driver_new(&driver, &w->driver, cause);
    sl_backup_options backup = {
        .store = w->store, .self = self, .conn = w->conn, .may_step = may_copy, .context = w,
    };
    if (err == SLUICE_OK) err = sl_backup_new(&backup, &w->backup, cause);
    if (err == SLUICE_OK && sluice_timer_start(self, TICK_MS, TICK_MS, on_tick, w, &w->tick) != SLUICE_OK)
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    if (err != SLUICE_OK) goto fail;
    sluice_actor_set_state(self, w);
    return SLUICE_OK;
fail:
    destroy_writer(w);
    return err;
}

/* ---- stop ---- */

static void writer_stop(sluice_actor *self, sluice_err why) {
    (void)why;
    writer *w = sluice_actor_state(self);
    sluice_store *store = w->store;
    sl_writer_lease_destroy(&w->lease);
    if (sl_group_pending(w->group)) (void)!sl_group_commit(w->group);
    for (sluice_msg *msg; (msg = sl_line_pop(&w->line)) != NULL;)
        refuse(w, &msg, SLUICE_CLOSED, "the store is closing");
    if (sl_checkpoint_driver_admit(w->driver, NULL) == SLUICE_OK) sl_group_finish(w->group);
    bool asked = closing(w);
    destroy_writer(w);
    if (!asked) atomic_store(&store->orphaned, true);
}

static const sluice_behaviour writer_behaviour = {
    .kind = "writer",
    .init = writer_init,
    .receive = writer_receive,
    .drained = writer_drained,
    .stop = writer_stop,
};

sluice_err sl_writer_start(sluice_store *store, sluice_cause *cause) {
    store->writer_part = calloc(1, sizeof(writer_part));
    if (store->writer_part == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_spec spec = {
        .behaviour = &writer_behaviour,
        .arg = store,
        .name = store->writer_name,
        .placement = SLUICE_PLACE_PINNED,
        .mailbox_messages = store->options.max_pending,
        .mailbox_bytes = store->options.max_pending_bytes,
        .batch = BATCH,
        .mailbox_share = store->options.max_pending_share,
        .fair = true,
    };
    sluice_pid pid = 0;
    sluice_err err = sluice_spawn(store->runtime, &spec, &pid, cause);
    if (err == SLUICE_OK) atomic_store(&store->writer, pid);
    return err;
}

/* Waits until everything that was sent to the writer before has been answered (CLOSED, now). */
static void drain(sluice_store *store, sluice_pid pid) {
    sl_port *port = NULL;
    sluice_msg *ping = NULL, *pong = NULL;
    int64_t until = sl_now_ns() + DRAIN_TIMEOUT_NS;
    if (sl_port_open(store->runtime, &port, NULL) != SLUICE_OK) return;
    for (;;) {
        if (sluice_msg_new(&sluice__v1__ping__descriptor, &ping) != SLUICE_OK) break;
        ping->flags = SL_MSG_ASK;
        ping->correlation = 1;
        sluice_err err = sl_port_send(port, pid, &ping);
        sluice_msg_destroy(&ping);
        if (err == SLUICE_OK) err = sl_port_recv(port, until, &pong);
        bool overloaded = err == SLUICE_OVERLOADED ||
                          (err == SLUICE_OK && (pong->flags & SL_MSG_ERROR) != 0 &&
                           sl_msg_cause(pong, NULL) == SLUICE_OVERLOADED);
        sluice_msg_destroy(&pong);
        if (!overloaded || sl_now_ns() >= until) break;
    }
    sl_port_close(&port);
}

void sl_writer_stop(sluice_store *store) {
    writer_part *part = store->writer_part;
    sluice_pid pid = atomic_exchange(&store->writer, 0);
    if (part == NULL) return;
    if (pid != 0 && !atomic_load(&store->orphaned)) {
        atomic_store(&part->closing, true);
        drain(store, pid);
        sluice_stop(store->runtime, pid);
    }
    store->writer_part = NULL;
    free(part);
}
