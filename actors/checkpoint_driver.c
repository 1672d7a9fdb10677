/* SPDX-License-Identifier: MIT */
/* The writer's half of checkpointing; see checkpoint_driver.h for what the writer calls, rule_w.h for what is allowed.
 *
 * Owning thread: the writer's.
 *
 * The log's way, in steady state, with the soft cap S:
 *
 *   0 ---- S/4: bulk pass by the checkpointer ---- S/2, if little is left: close the gate, finishing pass ---> 0
 *          (again every S/4)                       3S/4: the same, however much is left
 *
 *   gate:  OPEN --flag of every reader set--> CLOSING --last GateClosed--> CLOSED --one pass--> OPEN (GateOpen)
 *             \--no snapshot was open--------> CLOSED     |  GATE_WAIT_MS passed: give up, count, try later
 *
 * Bulk passes run while writes go on, but a pass is complete only if no reader holds an older snapshot, and only after
 * a complete pass does the next commit restart the log. So the last, small pass is the writer's own: between two groups
 * nobody commits, behind the gate nobody reads. A reader that does not answer (a long statement) is left alone below
 * the soft cap; at it snapshots over their age are ended; at the hard cap all but the youngest. Writes that outrun all
 * this are held for at most HOLD_MS at 3S/2, and at the hard cap until a pass has been tried; if that did not help they
 * are refused.
 *
 * CheckpointNow asks for a finishing pass at once; where rule W does not allow one (nothing was committed since a pass
 * that could not copy all), and with `truncate`, it is a pause and TRUNCATE. In manual mode nothing else asks for passes
 * below the hard cap.
 *
 * Receives: GateClosed, CheckpointNow, the answers to its asks. Sends: CheckpointDone, CheckpointRequest (ask), GateOpen to those who wait at the gate
 * (control lane).
 *
 * Invariants
 *  1. Every pass, commit and answer goes through the rule; if that says no, the store ends (W7).
 *  2. The gate is never closed without a timer that opens it.
 *  3. The writer's connection is used only while no transaction is open on it.
 *  4. Acknowledgements leave before a pass begins.
 *  5. A restart of the checkpointer is heard in some turn, but takes effect between groups (the rule pauses then).
 *  6. resume() is called last in a step: the writer's groups come back here.
 *
 * Stop order: gate opened, timers end; an ask that is still out is never heard of (the writer ends).
 */
#include "checkpoint_driver.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "actor_internal.h"
#include "port.h"
#include "reader.h"
#include "rule_w.h"
#include "sluice/v1/control.pb-c.h"

#define FRAME_HEADER 24u     /* bytes before each page in the log */
#define LOG_HEADER 32u
#define LOG_SEQUENCE_AT 12   /* offset of the log's checkpoint sequence number, which a restart of the log changes */
#define GATE_WAIT_MS 10u     /* for all readers to say GateClosed */
#define GATE_WAIT_SOFT_MS 25u /* the same at the soft cap */
#define HOLD_MS 20u          /* longest wait of writes for a pass or a gate, below the hard cap */
#define BACKOFF_MIN_MS 5u    /* after a gate that did not close, or a pass that was not complete */
#define BACKOFF_MAX_MS 500u
#define HARD_RETRY_MS 20u    /* while writes are refused */
#define HARD_AGE_MS 50u      /* snapshots younger than this are spared even at the hard cap */
#define EMPTY_RETRY_MS 50u   /* while paused */
#define MAX_COMMANDS 16u
#define COMMAND_TRIES 8u     /* with their pauses about a second */
#define RESTART_PATIENCE_NS 5000000000 /* a checkpointer that stays away so long is not coming back */
#define ASK_TIMEOUT_MS INT32_MAX        /* a pass may take long; its end is heard or the checkpointer is down */

typedef enum gate { GATE_OPEN = 0, GATE_CLOSING, GATE_CLOSED } gate;

struct sl_checkpoint_driver {
    sluice_store *store;
    sluice_actor *self;
    sqlite3 *db;
    sl_driver_resume_fn resume;
    void *context;

    sl_rule_w rule;
    uint64_t frame_size, soft_frames, hard_frames;
    uint64_t copied;      /* frames of this log known to be in the database file */
    uint64_t asked_at;    /* frames in the log when the latest bulk pass was asked for */
    bool complete;        /* the whole log is copied: the next commit restarts it */
    uint32_t sequence;    /* of the log when it was complete */

    gate gate;
    uint64_t round;
    unsigned n_gated;     /* connections the gate was closed for */
    bool awaited[SL_MAX_READERS + SL_MAX_LEASES]; /* those whose snapshot was open then and has not ended yet */
    int64_t closed_ns;
    sluice_timer gate_timer, retry_timer;
    uint32_t backoff_ms;
    int64_t not_before_ns; /* no new gate before */

    bool refusing;         /* at the hard cap */
    bool tried_hard;       /* a gate at the hard cap did not help */
    bool kept_by_reader;   /* a commit did not restart a log that was complete: a reader we cannot gate is at its tip */
    bool resume_due;       /* the writer is to be told, at the end of the step */
    bool held;             /* the writer was told to wait, see holding() */
    bool hold_spent;       /* it waited long enough for this log */
    sluice_timer hold_timer;
    bool restart_heard;    /* the checkpointer ended */
    int64_t restart_ns;    /* since when it is away; 0: it is not */
    sluice_msg *commands[MAX_COMMANDS]; /* CheckpointNow, not answered yet */
    unsigned n_commands, command_tries;
    uint64_t frames_before; /* in the log when a TRUNCATE for them was begun */
    int empty_error;       /* SQLite's answer to the latest TRUNCATE that failed */
};

static void on_retry(sluice_actor *self, void *context);
static void on_gate_timeout(sluice_actor *self, void *context);
static void step(sl_checkpoint_driver *d);
static void go_on(sl_checkpoint_driver *d);

/* ---- small parts ---- */

static void trip(sl_checkpoint_driver *d) {
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_FATAL, "checkpoint rule: %s",
                           d->rule.broken != NULL ? d->rule.broken : "the checkpointer is gone");
    sl_store_fatal(d->store, SLUICE_EXIT_CHECKPOINT_RULE, &cause);
}

/* Invariant 1. */
static bool kept(sl_checkpoint_driver *d, bool allowed) {
    if (!allowed) trip(d);
    return allowed;
}

static bool in_transaction(const sl_checkpoint_driver *d) { return !sqlite3_get_autocommit(d->db); }

static void retry_in(sl_checkpoint_driver *d, uint32_t delay_ms) {
    if (d->retry_timer == 0) /* without memory for a timer the next group tries again */
        (void)!sluice_timer_start(d->self, delay_ms, 0, on_retry, d, &d->retry_timer);
}

static void back_off(sl_checkpoint_driver *d) {
    d->backoff_ms = d->backoff_ms == 0 ? BACKOFF_MIN_MS : d->backoff_ms * 2;
    if (d->backoff_ms > BACKOFF_MAX_MS) d->backoff_ms = BACKOFF_MAX_MS;
    if (d->rule.frames >= d->hard_frames) d->backoff_ms = HARD_RETRY_MS;
    d->not_before_ns = sl_now_ns() + (int64_t)d->backoff_ms * 1000000;
    retry_in(d, d->backoff_ms);
}

static void damaged(sl_checkpoint_driver *d, int sqlite_code) {
    sluice_cause cause;
    (void)sl_sqlite_cause(&cause, NULL, sqlite_code, "checkpoint");
    sl_store_fatal(d->store, SLUICE_EXIT_CORRUPT, &cause);
}

/* Counts a pass that failed. False: the store has ended. */
static bool survive(sl_checkpoint_driver *d, int sqlite_code) {
    if (sqlite_code == SQLITE_OK) return true;
    if ((sqlite_code & 0xff) == SQLITE_BUSY) {
        sl_count(d->store, checkpoints_busy, 1);
        return true;
    }
    sl_count(d->store, checkpoint_errors, 1);
    if ((sqlite_code & 0xff) != SQLITE_CORRUPT && (sqlite_code & 0xff) != SQLITE_NOTADB) return true;
    damaged(d, sqlite_code);
    return false;
}

static sqlite3_file *log_file(sl_checkpoint_driver *d) {
    sqlite3_file *file = NULL;
    int rc = sqlite3_file_control(d->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);
    return rc == SQLITE_OK && file != NULL && file->pMethods != NULL ? file : NULL;
}

static uint32_t log_sequence(sl_checkpoint_driver *d) {
    sqlite3_file *file = log_file(d);
    unsigned char b[4] = {0};
    if (file == NULL || file->pMethods->xRead(file, b, 4, LOG_SEQUENCE_AT) != SQLITE_OK) return 0;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void gauge_log(sl_checkpoint_driver *d) {
    sqlite3_file *file = log_file(d);
    sqlite3_int64 size = 0;
    if (file != NULL && file->pMethods->xFileSize(file, &size) == SQLITE_OK) sl_gauge(d->store, wal_file_bytes, size);
    sl_gauge(d->store, wal_bytes, d->rule.frames != 0 ? d->rule.frames * d->frame_size + LOG_HEADER : 0);
}

static void log_restarted(sl_checkpoint_driver *d) {
    d->copied = d->asked_at = 0;
    d->complete = d->kept_by_reader = d->tried_hard = d->hold_spent = false;
    sluice_timer_cancel(d->self, &d->hold_timer);
}

/* ---- commands ---- */

static bool wants_truncate(const sluice_msg *command) {
    return ((const Sluice__V1__CheckpointNow *)command->body)->truncate;
}

static void answer_command(sl_checkpoint_driver *d, sluice_msg *command, sluice_err err, const char *text,
                           uint64_t frames) {
    if (err != SLUICE_OK) {
        sluice_cause cause;
        (void)sluice_cause_set(&cause, err, "%s", text);
        if (err == SLUICE_OVERLOADED) cause.retry_after_ms = BACKOFF_MAX_MS;
        sl_msg_turn_error(command, &cause);
    } else if (sl_msg_turn(command, &sluice__v1__checkpoint_done__descriptor) == SLUICE_OK) {
        Sluice__V1__CheckpointDone *done = sluice_msg_body(command);
        done->frames = frames;
        done->wal_file_bytes = atomic_load_explicit(&d->store->counters.wal_file_bytes, memory_order_relaxed);
    }
    if (command->body == NULL || sl_actor_send(d->self, &command, false) != SLUICE_OK) sluice_msg_destroy(&command);
}

/* The log is all copied, and cut if `truncated`: answers those who wanted no more. */
static void commands_done(sl_checkpoint_driver *d, bool truncated, uint64_t frames) {
    unsigned n_left = 0;
    for (unsigned i = 0; i < d->n_commands; i++) {
        if (!truncated && wants_truncate(d->commands[i])) {
            d->commands[n_left++] = d->commands[i];
            continue;
        }
        sl_count(d->store, checkpoint_commands, 1);
        answer_command(d, d->commands[i], SLUICE_OK, NULL, frames);
    }
    d->n_commands = n_left;
    d->command_tries = 0;
}

static void commands_end(sl_checkpoint_driver *d, sluice_err err, const char *text) {
    if (err != SLUICE_CLOSED) sl_count(d->store, checkpoint_commands_busy, d->n_commands);
    for (unsigned i = 0; i < d->n_commands; i++) answer_command(d, d->commands[i], err, text, 0);
    d->n_commands = d->command_tries = 0;
}

/* One attempt for them was in vain. */
static void commands_tried(sl_checkpoint_driver *d, int sqlite_code) {
    if (d->n_commands == 0) return;
    if (sqlite_code != SQLITE_OK && (sqlite_code & 0xff) != SQLITE_BUSY)
        commands_end(d, sl_sqlite_err(sqlite_code), sqlite3_errstr(sqlite_code));
    else if (++d->command_tries >= COMMAND_TRIES)
        commands_end(d, SLUICE_OVERLOADED, "readers stand in the way of a complete checkpoint");
}

static void on_checkpoint_now(sl_checkpoint_driver *d, sluice_msg **msg) {
    sluice_msg *command = *msg;
    if (!sluice_msg_is_ask(command)) return;
    *msg = NULL;
    if (d->n_commands == MAX_COMMANDS) {
        answer_command(d, command, SLUICE_OVERLOADED, "too many checkpoints are asked for", 0);
        return;
    }
    d->commands[d->n_commands++] = command;
    d->not_before_ns = 0;
}

/* No transaction is open. False: the rule said no, the store has ended. */
static bool step_commands(sl_checkpoint_driver *d) {
    bool cut = false;
    if (d->rule.frames == 0 || d->complete) commands_done(d, false, d->rule.frames);
    for (unsigned i = 0; i < d->n_commands; i++) cut = cut || wants_truncate(d->commands[i]);
    bool forbidden = d->rule.state == SL_RULE_W_IDLE && !sl_rule_w_may(&d->rule, SL_RULE_W_OWN_BEGIN);
    cut = cut || (d->n_commands != 0 && forbidden);
    if (!cut || d->gate != GATE_OPEN || d->retry_timer != 0 || !sl_rule_w_may(&d->rule, SL_RULE_W_PAUSE)) return true;
    d->empty_error = SQLITE_BUSY; /* gate first */
    d->frames_before = d->rule.frames;
    return kept(d, sl_rule_w_pause(&d->rule));
}

/* ---- the gate ---- */

static void tell_gate_open(sl_checkpoint_driver *d, sluice_pid pid) {
    sluice_msg *msg = NULL; /* without memory: the reader's safety timer */
    if (pid == 0 || sluice_msg_new(&sluice__v1__gate_open__descriptor, &msg) != SLUICE_OK) return;
    ((Sluice__V1__GateOpen *)sluice_msg_body(msg))->round = d->round;
    (void)!sl_actor_tell_control(d->self, pid, &msg);
    sluice_msg_destroy(&msg);
}

static void gate_open(sl_checkpoint_driver *d) {
    if (d->gate == GATE_OPEN) return;
    for (unsigned i = 0; i < d->n_gated; i++)
        if (sl_reader_gate_open(d->store, i) && i < SL_MAX_READERS)
            tell_gate_open(d, atomic_load(&d->store->readers[i]));
    sluice_timer_cancel(d->self, &d->gate_timer);
    sl_gauge_max(d->store, gate_max_us, (sl_now_ns() - d->closed_ns) / 1000);
    d->gate = GATE_OPEN;
}

/* Ends snapshots as the caps demand; their readers then answer the gate. */
static void end_snapshots(sl_checkpoint_driver *d) {
    if (d->rule.frames < d->soft_frames) return;
    int64_t age_ms = d->store->options.snapshot_max_age_ms;
    if (d->rule.frames >= d->hard_frames && age_ms > HARD_AGE_MS) age_ms = HARD_AGE_MS;
    (void)sl_readers_expire(d->store, sl_now_ns() - age_ms * 1000000);
}

static void gate_close(sl_checkpoint_driver *d) {
    d->round++;
    d->closed_ns = sl_now_ns();
    /* Invariant 2. */
    uint32_t wait_ms = d->rule.frames < d->soft_frames ? GATE_WAIT_MS : GATE_WAIT_SOFT_MS;
    if (sluice_timer_start(d->self, wait_ms, 0, on_gate_timeout, d, &d->gate_timer) != SLUICE_OK) {
        back_off(d);
        return;
    }
    sl_count(d->store, gate_closes, 1);
    end_snapshots(d);
    d->gate = GATE_CLOSED;
    d->n_gated = sl_readers_count(d->store);
    for (unsigned i = 0; i < d->n_gated; i++) {
        d->awaited[i] = !sl_reader_gate_close(d->store, i, d->round, sluice_actor_pid(d->self));
        if (d->awaited[i]) d->gate = GATE_CLOSING;
    }
}

static void on_gate_timeout(sluice_actor *self, void *context) {
    (void)self;
    sl_checkpoint_driver *d = context;
    d->gate_timer = 0;
    if (d->gate == GATE_CLOSED) { /* the writer has been in one long group; the pass is due now, if it may be */
        go_on(d);
        if (d->gate == GATE_OPEN) return;
    }
    sl_count(d->store, gate_timeouts, 1);
    if (d->rule.frames >= d->hard_frames) d->tried_hard = true;
    gate_open(d);
    back_off(d);
    commands_tried(d, SQLITE_BUSY);
    /* Writes wait no longer than one gate for a TRUNCATE that need not be. */
    if (d->rule.state == SL_RULE_W_PAUSED && !d->rule.must_empty && kept(d, sl_rule_w_resume(&d->rule)))
        d->resume_due = true;
    go_on(d);
}

static void on_gate_closed(sl_checkpoint_driver *d, const sluice_msg *msg) {
    const Sluice__V1__GateClosed *closed = sluice_msg_body(msg);
    if (d->gate != GATE_CLOSING || closed->round != d->round) return; /* of a round that was given up */
    /* Who says so is one of them; a client's thread has no name. So all are looked at. */
    d->gate = GATE_CLOSED;
    for (unsigned i = 0; i < d->n_gated; i++) {
        d->awaited[i] = d->awaited[i] && !sl_reader_quiet(d->store, i);
        if (d->awaited[i]) d->gate = GATE_CLOSING;
    }
}

/* ---- the caps ---- */

static bool at_hard_cap(const sl_checkpoint_driver *d) { return d->rule.frames >= d->hard_frames && !d->complete; }

/* Must writes wait for what is under way? At the hard cap until the pass that is tried ends in a complete log or in
 * refusal; before it for at most HOLD_MS in one life of the log, so that a slow disk or a busy reader stalls nobody. */
static bool holding(const sl_checkpoint_driver *d) {
    if (at_hard_cap(d)) return !d->refusing;
    return d->rule.frames >= d->soft_frames + d->soft_frames / 2 && !d->hold_spent &&
           (d->gate == GATE_CLOSING || d->rule.state == SL_RULE_W_ASKED);
}

static void on_hold_over(sluice_actor *self, void *context) {
    (void)self;
    sl_checkpoint_driver *d = context;
    d->hold_timer = 0;
    d->hold_spent = true;
    go_on(d);
}

static void update_refusal(sl_checkpoint_driver *d) {
    bool full = at_hard_cap(d);
    if (full && (d->tried_hard || d->kept_by_reader) && !d->refusing) {
        d->refusing = true;
        sl_count(d->store, wal_full, 1);
    }
    if (full || !d->refusing) return;
    d->refusing = d->tried_hard = false;
    d->resume_due = true;
}

/* ---- passes ---- */

static void finishing_pass(sl_checkpoint_driver *d) {
    if (!kept(d, sl_rule_w_own_begin(&d->rule))) return;
    sl_actor_flush(d->self); /* invariant 4 */
    int log = -1, copied = -1;
    int rc = sqlite3_wal_checkpoint_v2(d->db, "main", SQLITE_CHECKPOINT_PASSIVE, &log, &copied);
    if (rc != SQLITE_OK) rc = sqlite3_extended_errcode(d->db);
    sl_rule_w_pass pass = {rc == SQLITE_OK, log, copied};
    if (!kept(d, sl_rule_w_own_end(&d->rule, &pass)) || !survive(d, rc)) return;
    sl_count(d->store, checkpoints_finishing, 1);
    gate_open(d);
    if (rc == SQLITE_OK && log >= 0 && log == copied) {
        sl_count(d->store, checkpoints_complete, 1);
        d->complete = true;
        d->copied = (uint64_t)copied;
        d->sequence = log_sequence(d);
        d->backoff_ms = 0;
        gauge_log(d);
        commands_done(d, false, (uint64_t)log);
    } else {
        if (rc == SQLITE_OK) sl_count(d->store, checkpoints_busy, 1);
        if (copied > 0) d->copied = (uint64_t)copied;
        if (d->rule.frames >= d->hard_frames) d->tried_hard = true;
        back_off(d);
        commands_tried(d, rc);
    }
    gauge_log(d);
    update_refusal(d);
}

static void on_answer(sluice_actor *self, void *context, sluice_err err, sluice_msg **reply, const sluice_cause *cause);

static bool ask(sl_checkpoint_driver *d, bool truncate) {
    sluice_pid pid = atomic_load(&d->store->checkpointer);
    sluice_msg *msg = NULL;
    if (pid == 0 || sluice_msg_new(&sluice__v1__checkpoint_request__descriptor, &msg) != SLUICE_OK) return false;
    Sluice__V1__CheckpointRequest *body = sluice_msg_body(msg);
    body->epoch = d->rule.epoch;
    body->frames_logged = d->rule.frames;
    body->mode = truncate ? SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_TRUNCATE
                          : SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_PASSIVE;
    sluice_err err = sluice_ask(d->self, pid, &msg, ASK_TIMEOUT_MS, on_answer, d);
    sluice_msg_destroy(&msg);
    if (err == SLUICE_NO_ACTOR) {
        d->restart_heard = true;
        retry_in(d, EMPTY_RETRY_MS);
    }
    /* Only what left is outstanding. */
    return err == SLUICE_OK && kept(d, truncate ? sl_rule_w_ask_empty(&d->rule) : sl_rule_w_ask(&d->rule));
}

static void on_bulk_answer(sl_checkpoint_driver *d, const Sluice__V1__CheckpointReply *reply, int rc) {
    sl_rule_w_pass pass = {rc == SQLITE_OK, reply->frames_logged, reply->frames_copied};
    if (!kept(d, sl_rule_w_answer(&d->rule, reply->epoch, &pass)) || !survive(d, rc)) return;
    if (pass.ok && pass.copied > 0 && (uint64_t)pass.copied <= d->rule.frames) d->copied = (uint64_t)pass.copied;
    if (pass.ok && pass.copied < pass.log) sl_count(d->store, checkpoints_busy, 1);
    if (!pass.ok) back_off(d);
}

static void on_empty_answer(sl_checkpoint_driver *d, const Sluice__V1__CheckpointReply *reply, int rc) {
    sl_rule_w_pass pass = {rc == SQLITE_OK, reply->frames_logged, reply->frames_copied};
    if (!kept(d, sl_rule_w_answer_empty(&d->rule, reply->epoch, &pass)) || !survive(d, rc)) return;
    d->empty_error = rc;
    gate_open(d);
    gauge_log(d);
    if (rc == SQLITE_OK && pass.log == 0) {
        log_restarted(d);
        d->restart_ns = 0;
        d->refusing = false;
        d->backoff_ms = 0;
        commands_done(d, true, d->frames_before);
    } else if (d->rule.must_empty) {
        retry_in(d, EMPTY_RETRY_MS);
        return;
    } else {
        back_off(d);
        commands_tried(d, rc);
    }
    if (kept(d, sl_rule_w_resume(&d->rule))) d->resume_due = true;
}

static void on_answer(sluice_actor *self, void *context, sluice_err err, sluice_msg **reply,
                      const sluice_cause *cause) {
    (void)self, (void)cause;
    sl_checkpoint_driver *d = context;
    if (d->rule.state == SL_RULE_W_BROKEN) return;
    if (err != SLUICE_OK || !sluice_msg_is(*reply, &sluice__v1__checkpoint_reply__descriptor)) {
        d->restart_heard = true; /* invariant 5 */
    } else {
        const Sluice__V1__CheckpointReply *body = sluice_msg_body(*reply);
        if (d->rule.state == SL_RULE_W_EMPTYING)
            on_empty_answer(d, body, body->sqlite_code);
        else
            on_bulk_answer(d, body, body->sqlite_code);
    }
    go_on(d);
}

/* ---- what to do next ---- */

/* In manual mode, but for the hard cap. */
static bool left_to_host(const sl_checkpoint_driver *d) {
    return d->store->options.checkpointing == SLUICE_CHECKPOINT_MANUAL && d->rule.frames < d->hard_frames;
}

/* The writer stands still during its own pass, so it waits until the log is worth a restart and the bulk is copied, but
 * not for ever: busy readers keep bulk passes from copying all. */
static bool wants_finish(const sl_checkpoint_driver *d) {
    if (d->complete || d->rule.frames == 0) return false;
    if (d->n_commands != 0) return true;
    if (d->rule.frames < d->soft_frames / 2 || left_to_host(d)) return false;
    return d->rule.frames >= d->soft_frames / 4 * 3 || d->rule.frames - d->copied <= d->soft_frames / 8;
}

/* Not when the finishing pass is due soon: it would have to wait for the answer. */
static bool wants_bulk(const sl_checkpoint_driver *d) {
    return !d->complete && d->n_commands == 0 && !left_to_host(d) && d->rule.frames >= d->asked_at + d->soft_frames / 4 + 1 &&
           d->rule.frames > d->copied + d->soft_frames / 8 &&
           (d->rule.frames < d->soft_frames / 8 * 5 || d->rule.frames >= d->soft_frames);
}

/* W5 and W6: paused until the log was emptied. */
static void step_paused(sl_checkpoint_driver *d) {
    if (d->rule.state != SL_RULE_W_PAUSED || d->retry_timer != 0) return;
    if (d->restart_ns != 0 && sl_now_ns() - d->restart_ns > RESTART_PATIENCE_NS) {
        trip(d);
        return;
    }
    /* A reader at the very tip keeps a TRUNCATE from its end: gate first; a gate that does not close is no reason to
     * wait, for then the answer is BUSY and the next round follows. */
    if (d->gate == GATE_OPEN && (d->empty_error & 0xff) == SQLITE_BUSY) gate_close(d);
    if (d->gate == GATE_CLOSING) return;
    if (!ask(d, true) && d->rule.state == SL_RULE_W_PAUSED) { /* it is not back yet, or there is no memory */
        gate_open(d);
        retry_in(d, EMPTY_RETRY_MS);
    }
}

static void step(sl_checkpoint_driver *d) {
    if (d->rule.state == SL_RULE_W_BROKEN) return;
    if (d->restart_heard && !in_transaction(d)) {
        d->restart_heard = false;
        gate_open(d);
        if (d->restart_ns == 0) d->restart_ns = sl_now_ns();
        if (!kept(d, sl_rule_w_restart(&d->rule))) return;
        retry_in(d, EMPTY_RETRY_MS);
    }
    /* At the hard cap with a reader at the tip that the gate does not reach: passes are complete, but no commit
     * restarts the log. TRUNCATE tells when that reader has gone, without a commit to try it. */
    if (d->refusing && d->kept_by_reader && !in_transaction(d) && d->retry_timer == 0 &&
        sl_rule_w_may(&d->rule, SL_RULE_W_PAUSE)) {
        d->empty_error = SQLITE_BUSY;
        if (!kept(d, sl_rule_w_pause(&d->rule))) return;
    }
    if (d->n_commands != 0 && !in_transaction(d) && !step_commands(d)) return;
    if (d->rule.state == SL_RULE_W_PAUSED || d->rule.state == SL_RULE_W_EMPTYING) {
        step_paused(d);
        return;
    }
    /* Not while a transaction is open: it may be an interactive one, and readers would wait for nothing. */
    if (d->gate == GATE_OPEN && wants_finish(d) && !in_transaction(d) &&
        sl_rule_w_may(&d->rule, SL_RULE_W_OWN_BEGIN)) {
        int64_t wait_ns = d->not_before_ns - sl_now_ns();
        if (wait_ns > 0 && !(at_hard_cap(d) && !d->refusing))
            retry_in(d, (uint32_t)(wait_ns / 1000000) + 1);
        else
            gate_close(d);
    } else if (d->gate == GATE_OPEN && wants_bulk(d) && sl_rule_w_may(&d->rule, SL_RULE_W_ASK)) {
        if (ask(d, false)) d->asked_at = d->rule.frames;
    }
    /* Mostly no snapshot was open, and the gate is closed at once. */
    if (d->gate == GATE_CLOSED && sl_rule_w_may(&d->rule, SL_RULE_W_OWN_BEGIN) && !in_transaction(d))
        finishing_pass(d);
    update_refusal(d);
}

/* A step, and then the writer is told to go on if it may: its groups lead to further steps. */
static void go_on(sl_checkpoint_driver *d) {
    step(d);
    if (d->held && !holding(d)) {
        d->held = false;
        d->resume_due = true;
    }
    if (!d->resume_due || d->rule.state == SL_RULE_W_BROKEN) return;
    d->resume_due = false;
    d->resume(d->context);
}

static void on_retry(sluice_actor *self, void *context) {
    (void)self;
    sl_checkpoint_driver *d = context;
    d->retry_timer = 0;
    go_on(d);
}

/* ---- for the writer ---- */

void sl_checkpoint_driver_after_commit(sl_checkpoint_driver *d, uint64_t frames_in_log) {
    uint64_t before = d->rule.frames;
    if (!kept(d, sl_rule_w_commit(&d->rule, frames_in_log))) return;
    if (frames_in_log <= before || (d->complete && log_sequence(d) != d->sequence)) {
        sl_count(d->store, wal_restarts, 1);
        log_restarted(d);
    } else if (d->complete) {
        d->complete = false;
        d->kept_by_reader = true;
        sl_count(d->store, checkpoints_busy, 1);
        back_off(d);
    }
    sl_gauge(d->store, wal_bytes, frames_in_log * d->frame_size + LOG_HEADER);
    uint64_t file_bytes = atomic_load_explicit(&d->store->counters.wal_file_bytes, memory_order_relaxed);
    if (frames_in_log * d->frame_size + LOG_HEADER > file_bytes)
        sl_gauge(d->store, wal_file_bytes, frames_in_log * d->frame_size + LOG_HEADER);
}

bool sl_checkpoint_driver_on_message(sl_checkpoint_driver *d, sluice_msg **msg) {
    if (sluice_msg_is(*msg, &sluice__v1__gate_closed__descriptor))
        on_gate_closed(d, *msg);
    else if (sluice_msg_is(*msg, &sluice__v1__checkpoint_now__descriptor))
        on_checkpoint_now(d, msg);
    else
        return false;
    go_on(d); /* no group may be under way, whose end would do it */
    return true;
}

bool sl_checkpoint_driver_gate_is_open(const sl_checkpoint_driver *d) { return d->gate == GATE_OPEN; }

void sl_checkpoint_driver_between_groups(sl_checkpoint_driver *d) { go_on(d); }

sluice_err sl_checkpoint_driver_admit(sl_checkpoint_driver *d, sluice_cause *cause) {
    if (d->rule.state == SL_RULE_W_BROKEN) return sluice_cause_set(cause, SLUICE_FATAL, "checkpoint rule");
    if (d->refusing) {
        sluice_err err = sluice_cause_set(cause, SLUICE_OVERLOADED, "the log is at its hard cap of %" PRIu64 " bytes",
                                          d->store->options.wal_hard_cap_bytes);
        if (cause != NULL) cause->retry_after_ms = 2 * HARD_RETRY_MS;
        return err;
    }
    if (d->restart_heard) return sluice_cause_set(cause, SLUICE_CLOSED, "paused: the checkpointer restarts");
    if (holding(d) &&
        (at_hard_cap(d) || d->hold_timer != 0 ||
         sluice_timer_start(d->self, HOLD_MS, 0, on_hold_over, d, &d->hold_timer) == SLUICE_OK)) {
        d->held = true;
        return sluice_cause_set(cause, SLUICE_CLOSED, "paused until the log is shorter");
    }
    if (d->rule.state == SL_RULE_W_IDLE || d->rule.state == SL_RULE_W_ASKED) return SLUICE_OK;
    if ((d->empty_error & 0xff) == SQLITE_FULL)
        return sluice_cause_set(cause, SLUICE_NO_SPACE, "no space to empty the log; writes resume when there is");
    return sluice_cause_set(cause, SLUICE_CLOSED, "paused until the log is emptied");
}

sluice_err sl_checkpoint_driver_new(const sl_driver_options *options, sl_checkpoint_driver **out, sluice_cause *cause) {
    *out = NULL;
    sl_checkpoint_driver *d = calloc(1, sizeof *d);
    if (d == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    d->store = options->store;
    d->self = options->self;
    d->db = sl_conn_db(options->conn);
    d->resume = options->resume;
    d->context = options->context;
    d->empty_error = options->truncated ? SQLITE_OK : SQLITE_FULL;
    sl_rule_w_init(&d->rule, options->truncated);

    sqlite3_stmt *stmt = NULL;
    sluice_err err = sl_conn_own_prepare(options->conn, "PRAGMA page_size", &stmt, cause);
    if (err != SLUICE_OK) goto fail;
    int rc = sl_conn_own_step(options->conn, stmt);
    int64_t page_size = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_reset(stmt);
    if (page_size <= 0) {
        err = sl_sqlite_cause(cause, d->db, rc, "reading the page size");
        if (err == SLUICE_OK) err = sluice_cause_set(cause, SLUICE_SYSTEM, "the page size is unknown");
        goto fail;
    }
    d->frame_size = (uint64_t)page_size + FRAME_HEADER;
    d->soft_frames = d->store->options.wal_soft_cap_bytes / d->frame_size;
    if (d->soft_frames < 8) d->soft_frames = 8;
    d->hard_frames = d->store->options.wal_hard_cap_bytes / d->frame_size;
    if (d->hard_frames < d->soft_frames) d->hard_frames = d->soft_frames;
    if (!options->truncated) retry_in(d, EMPTY_RETRY_MS);
    gauge_log(d);
    *out = d;
    return SLUICE_OK;
fail:
    sl_checkpoint_driver_destroy(&d);
    return err;
}

void sl_checkpoint_driver_destroy(sl_checkpoint_driver **driver) {
    sl_checkpoint_driver *d = *driver;
    if (d == NULL) return;
    *driver = NULL;
    commands_end(d, SLUICE_CLOSED, "the store is closing");
    gate_open(d);
    sluice_timer_cancel(d->self, &d->gate_timer);
    sluice_timer_cancel(d->self, &d->retry_timer);
    sluice_timer_cancel(d->self, &d->hold_timer);
    free(d);
}
