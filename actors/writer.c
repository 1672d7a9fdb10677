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
 *       | +-----------------------> PAUSED: requests wait in order
 *       +------------ resume -----------+
 *
 * Receives: WriteRequest, Goodbye, Ping (asks); GateClosed and the answers to the driver's asks. Anything else is
 * answered UNSUPPORTED. Sends: WriteReply, GoodbyeReply, Pong, errors; what the driver sends.
 *
 * Invariants
 *  1. The driver uses the connection only between groups.
 *  2. Answers leave (flush) before the driver may start a pass that takes milliseconds.
 *  3. Requests keep their order, also through a pause.
 *  4. The group is what waits: nothing lingers for more (measured: every form of waiting lost).
 *  5. Senders take turns (a fair mailbox), and a sender with many requests ends its part of a group early for those
 *     who wait for its commit (turns.h). The inbox is looked at every LOOK_EVERY requests and after each commit, so
 *     that who comes in the middle of a flood is seen.
 *
 * Stop order: no more requests (CLOSED), group committed and answered, those who wait answered CLOSED, driver, group,
 * connection. Readers and the checkpointer are stopped by the store afterwards.
 */
#include <stdlib.h>
#include <string.h>

#include "actor_internal.h"
#include "checkpoint_driver.h"
#include "group.h"
#include "port.h"
#include "sluice/v1/control.pb-c.h"
#include "codec.h"
#include "turns.h"

#define TICK_MS 1000u
#define BATCH (1u << 20)           /* the group ends by bytes and time, not by count */
#define LOOK_EVERY 32u             /* requests */
#define RETRY_AFTER_MS 20u         /* with OVERLOADED */
#define DRAIN_TIMEOUT_NS 40000000000 /* a request may run 30 s */

typedef struct writer {
    sluice_store *store;
    sluice_actor *self;
    sl_conn *conn;
    sl_group *group;
    sl_checkpoint_driver *driver;
    sl_histogram commits;
    sluice_timer tick, wake;
    sluice_msg *waiting, **waiting_end; /* paused: in order of arrival */
    uint32_t n_waiting;
    size_t waiting_size;
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

static void refuse(writer *w, sluice_msg **msg, sluice_err code, const char *text) {
    sluice_cause cause;
    (void)sluice_cause_set(&cause, code, "%s", text);
    if (code == SLUICE_OVERLOADED) cause.retry_after_ms = RETRY_AFTER_MS;
    if (sluice_msg_is_ask(*msg)) {
        sl_msg_turn_error(*msg, &cause);
        send_answer(w, msg);
    } else {
        sluice_msg_destroy(msg);
    }
}

/* ---- groups ---- */

static bool closing(const writer *w) { return atomic_load(&((writer_part *)w->store->writer_part)->closing); }

static void after_group(writer *w) {
    uint64_t frames;
    if (sl_store_check(w->store, NULL) != SLUICE_OK) return;
    if (sl_group_wrote(w->group, &frames)) sl_checkpoint_driver_after_commit(w->driver, frames);
    sl_checkpoint_driver_between_groups(w->driver);
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
    sl_group_add(w->group, msg);
    if (sl_group_full(w->group)) commit(w);
}

/* Is the log being emptied, so that requests have to wait a moment? */
static bool paused(writer *w) {
    return !in_transaction(w) && sl_store_check(w->store, NULL) == SLUICE_OK &&
           sl_checkpoint_driver_admit(w->driver, NULL) == SLUICE_CLOSED;
}

static void wait_in_line(writer *w, sluice_msg **msg) {
    const sluice_store_options *options = &w->store->options;
    size_t size = sl_msg_size(*msg);
    if (w->n_waiting >= options->max_pending ||
        (w->n_waiting > 0 && w->waiting_size + size > options->max_pending_bytes)) {
        refuse(w, msg, SLUICE_OVERLOADED, "the log is being emptied and too many requests wait");
        return;
    }
    (*msg)->next = NULL;
    *w->waiting_end = *msg;
    w->waiting_end = &(*msg)->next;
    w->n_waiting++;
    w->waiting_size += size;
    *msg = NULL;
}

static sluice_msg *first_in_line(writer *w) {
    sluice_msg *msg = w->waiting;
    w->waiting = msg->next;
    if (w->waiting == NULL) w->waiting_end = &w->waiting;
    msg->next = NULL;
    w->n_waiting--;
    w->waiting_size -= sl_msg_size(msg);
    return msg;
}

static void run_waiting(writer *w) {
    while (w->waiting != NULL && !paused(w)) {
        sluice_msg *msg = first_in_line(w);
        take_request(w, &msg);
        if (w->waiting == NULL) commit(w);
    }
}

static void on_wake(sluice_actor *self, void *context) {
    (void)self;
    writer *w = context;
    w->wake = 0;
    run_waiting(w);
}

/* The driver lifted a pause. It may be in the middle of its own work, so the waiting requests run in a later turn. */
static void on_resume(void *context) {
    writer *w = context;
    if (w->waiting == NULL || w->wake != 0) return;
    if (sluice_timer_start(w->self, 0, 0, on_wake, w, &w->wake) != SLUICE_OK) w->wake = 0; /* the tick will do */
}

/* ---- messages ---- */

static void on_write_request(writer *w, sluice_msg **msg) {
    sluice_cause cause;
    if (sl_group_pending(w->group) && sl_turns_over(&w->turns, *msg)) commit(w);
    if (++w->unseen > LOOK_EVERY) {
        w->unseen = 0;
        (void)sl_actor_poll_inbox(w->self);
    }
    if (closing(w)) {
        (void)sluice_cause_set(&cause, SLUICE_CLOSED, "the store is closing");
        sl_group_refuse(w->group, msg, &cause);
    } else if (w->waiting != NULL || paused(w)) {
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
    if (sluice_msg_is(*msg, &sluice__v1__write_request__descriptor))
        on_write_request(w, msg);
    else if (sl_checkpoint_driver_on_message(w->driver, msg))
        return SLUICE_OK;
    else if (sluice_msg_is(*msg, &sluice__v1__goodbye__descriptor))
        on_goodbye(w, msg);
    else if (sluice_msg_is(*msg, &sluice__v1__ping__descriptor))
        on_ping(w, msg);
    else
        refuse(w, msg, SLUICE_UNSUPPORTED, "the writer takes WriteRequest, Goodbye and Ping");
    return SLUICE_OK;
}

static sluice_err writer_drained(sluice_actor *self) {
    writer *w = sluice_actor_state(self);
    commit(w);
    run_waiting(w);
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
    run_waiting(w);
    sl_receipts_expire(sl_group_receipts(w->group), sl_now_ns());
    uint64_t groups = atomic_load_explicit(&w->store->counters.groups, memory_order_relaxed);
    bool idle = groups == w->groups_at_tick;
    if (!sl_group_pending(w->group) && sl_checkpoint_driver_admit(w->driver, NULL) == SLUICE_OK) {
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
    if (w->driver != NULL) sl_checkpoint_driver_destroy(&w->driver);
    sluice_msg_destroy(&w->farewell);
    sl_group_destroy(&w->group);
    sl_conn_close(&w->conn);
    free(w);
}

static sluice_err writer_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    writer *w = calloc(1, sizeof *w);
    if (w == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    w->store = arg;
    w->self = self;
    w->waiting_end = &w->waiting;
    bool truncated = false;
    sluice_err err = open_file(w, &truncated, cause);
    if (err != SLUICE_OK) goto fail;
    uint64_t frames;
    (void)sl_group_wrote(w->group, &frames); /* before the driver's time; the log was emptied since, or will be */
    sl_driver_options driver = {
        .store = w->store, .self = self, .conn = w->conn, .truncated = truncated, .resume = on_resume, .context = w,
    };
    err = sl_checkpoint_driver_new(&driver, &w->driver, cause);
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
    if (sl_group_pending(w->group)) (void)!sl_group_commit(w->group);
    while (w->waiting != NULL) {
        sluice_msg *msg = first_in_line(w);
        refuse(w, &msg, SLUICE_CLOSED, "the store is closing");
    }
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
