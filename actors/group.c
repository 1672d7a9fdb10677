/* SPDX-License-Identifier: MIT */
/* Group commit: begin, run requests as they come, COMMIT once, then answer all of them back to back.
 *
 * Owning thread: the writer's.
 *
 *   EMPTY --add--> OPEN (in a transaction) --add--> OPEN --commit--> COMMIT --ok--> answers, EMPTY
 *                   ^  | a request destroyed the                       |--full, busy, constraint--> ROLLBACK,
 *                   |  | transaction                                   |     definite no to all, EMPTY
 *                   |  v                                               +--anything else--> UNKNOWN to all, the store
 *                   +-ROLLBACK, BEGIN, run the others again                  ends (SLUICE_EXIT_COMMIT_FAILED)
 *
 * Invariants
 *  1. No answer leaves before COMMIT returned, errors included: a request may have failed because of what a neighbour
 *     did, and that is true only if the neighbour is committed. (Refusals that ran nothing wait too, to keep order.)
 *  2. A request that destroyed a transaction is final: it is answered with its error and never run again. So running
 *     again ends; after REPLAYS_MAX of them the group commits at once, so that the cost per request stays bounded.
 *  3. What ran in the transaction is exactly the slots that are not final, in order of arrival, and the store's own
 *     rows: receipts, sessions, commit numbers.
 *  4. The commit number is published after COMMIT and before any answer leaves.
 *  5. A COMMIT that failed in any way but FULL, BUSY or CONSTRAINT may or may not be in the log: UNKNOWN, and the end.
 *     Source: wal.c, sqlite3WalFrames: the frames are written, then synced, then the index is updated.
 *  6. A definite no after a COMMIT that found no space is given when recovery cannot find the transaction (log_tail.h).
 */
#include "group_internal.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "codec.h"
#include "log_tail.h"
#include "port.h"
#include "require.h"

#define BUSY_MAX_NS ((int64_t)100 * 1000000)
#define REPLAYS_MAX 4u

static int on_wal(void *context, sqlite3 *db, const char *name, int frames) {
    (void)db, (void)name;
    sl_group *self = context;
    self->frames = (uint64_t)frames;
    self->wrote = true;
    return SQLITE_OK;
}

/* ---- begin and rollback ---- */

/* Runs BEGIN or COMMIT; waits out SQLITE_BUSY for a short while, counting in begin_busy. */
static int patiently(sl_group *self, sqlite3_stmt *stmt) {
    int rc = sl_conn_own_once(self->options.conn, stmt);
    if ((rc & 0xff) != SQLITE_BUSY) return rc;
    int64_t until = sl_now_ns() + BUSY_MAX_NS;
    for (unsigned tries = 0; (rc & 0xff) == SQLITE_BUSY && sl_now_ns() < until; tries++) {
        sl_count(self->options.store, begin_busy, 1);
        if (tries < 16)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        rc = sl_conn_own_once(self->options.conn, stmt);
    }
    return rc;
}

sluice_err sl_group_begin(sl_group *self, sluice_cause *cause) {
    int rc = patiently(self, self->begin);
    if (rc == SQLITE_OK) {
        self->in_transaction = true;
        return SLUICE_OK;
    }
    sluice_err err = sl_sqlite_cause(cause, sl_conn_db(self->options.conn), rc, "beginning a transaction");
    if (err == SLUICE_LOCKED) {
        err = sluice_cause_set(cause, SLUICE_OVERLOADED, "another process holds the write lock");
        cause->retry_after_ms = 100;
        cause->sqlite_code = rc;
    } else if (sluice_err_applied(err) != SLUICE_APPLIED_NO) {
        cause->code = err = SLUICE_FAILED; /* nothing was written */
    }
    return err;
}

void sl_group_rollback(sl_group *self) {
    if (sqlite3_get_autocommit(sl_conn_db(self->options.conn)) == 0)
        (void)sl_conn_own_once(self->options.conn, self->rollback);
    self->in_transaction = false;
    sl_receipts_rolled_back(self->receipts);
    sl_meta_rolled_back(&self->meta);
}

/* ---- preparing the store's own tables ---- */

sluice_err sl_group_prepare(sl_group *self, sluice_cause *cause) {
    if (self->ready) return SLUICE_OK;
    sl_conn *conn = self->options.conn;
    uint64_t number = 0;
    sluice_err err = sl_group_begin(self, cause);
    if (err != SLUICE_OK) return err;
    err = sl_receipts_create_tables(conn, cause);
    if (err == SLUICE_OK) err = sl_meta_load(&self->meta, conn, &number, cause);
    if (err == SLUICE_OK) {
        int rc = patiently(self, self->commit);
        if (rc != SQLITE_OK) err = sl_sqlite_cause(cause, sl_conn_db(conn), rc, "preparing the store's tables");
    }
    if (err != SLUICE_OK) {
        sl_group_rollback(self);
        return err;
    }
    self->in_transaction = false;
    sl_meta_committed(&self->meta);
    err = sl_receipts_load(self->receipts, sl_now_ns(), cause);
    if (err != SLUICE_OK) { /* half a load is of no use: begin afresh the next time */
        sl_receipts *fresh = NULL;
        if (sl_receipts_new(self->options.store, conn, &fresh, NULL) != SLUICE_OK) return err;
        sl_receipts_destroy(&self->receipts);
        self->receipts = fresh;
        return err;
    }
    self->number = number;
    atomic_store_explicit(&self->options.store->counters.commit_number, number, memory_order_release);
    self->ready = true;
    return SLUICE_OK;
}

/* ---- running, and running again ---- */

/* Ends every slot that is not final with one error. */
static void fail_all(sl_group *self, const sluice_cause *cause) {
    for (uint32_t i = 0; i < self->n_slots; i++) {
        sl_slot *slot = &self->slots[i];
        if (slot->final) continue;
        sl_slot_reset(slot);
        sl_slot_fail(slot, cause);
        slot->final = true;
    }
}

/* A damaged file is noticed by a request; what it means for the store is said at the end of the group. */
void sl_group_note_damage(sl_group *self, const sl_slot *slot) {
    int code = slot->cause != NULL ? slot->cause->sqlite_code : 0;
    if ((code & 0xff) == SQLITE_CORRUPT && code != SQLITE_CORRUPT_VTAB) self->damaged = self->must_commit = true;
}

static bool run_slot(sl_group *self, sl_slot *slot) {
    sl_ran ran = sl_request_run(self, slot);
    if (ran != SL_RAN_OK) sl_group_note_damage(self, slot);
    return ran != SL_RAN_DESTROYED;
}

/* The transaction is lost because of a final slot: runs the others again. */
static void run_again(sl_group *self) {
    sluice_cause cause;
    bool again = true;
    while (again) {
        again = false;
        sl_group_rollback(self);
        self->now_ns = sl_now_ns();
        self->replays++;
        sl_count(self->options.store, group_replays, 1);
        if (sl_group_begin(self, &cause) != SLUICE_OK) {
            fail_all(self, &cause);
            return;
        }
        for (uint32_t i = 0; i < self->n_slots && !again; i++) {
            sl_slot *slot = &self->slots[i];
            if (slot->final) continue;
            if (!run_slot(self, slot)) slot->final = again = true;
        }
    }
    if (self->replays >= REPLAYS_MAX) self->must_commit = true;
}

sl_slot *sl_group_new_slot(sl_group *self, sluice_msg **request) {
    if (self->n_slots == self->room) {
        uint32_t room = self->room != 0 ? self->room * 2 : 64;
        sl_slot *grown = realloc(self->slots, room * sizeof *grown);
        if (grown == NULL) return NULL;
        self->slots = grown;
        self->room = room;
    }
    if (self->n_slots == 0) self->began_ns = self->now_ns = sl_now_ns();
    sl_slot *slot = &self->slots[self->n_slots++];
    memset(slot, 0, sizeof *slot);
    slot->request = *request;
    *request = NULL;
    self->bytes += sl_msg_size(slot->request);
    return slot;
}

static void send(sl_group *self, sluice_msg **msg, bool wanted) {
    if (wanted)
        self->options.answer(self->options.context, msg);
    else
        sluice_msg_destroy(msg);
}

void sl_group_answer_error(sl_group *self, sluice_msg **request, const sluice_cause *cause) {
    bool wanted = sluice_msg_is_ask(*request);
    if (wanted) sl_msg_turn_error(*request, cause);
    send(self, request, wanted);
}

/* Judges a request that wants a receipt. True: it is to be run. */
bool sl_group_admit_receipt(sl_group *self, sl_slot *slot, int64_t now_ns) {
    static const uint8_t nobody[16];
    const sl_identity *identity = &slot->request->identity;
    uint32_t place = (uint32_t)(slot - self->slots);
    sl_receipt_check check;
    sluice_cause cause = {.statement = -1};
    if (identity->sequence == 0 || identity->sequence > INT64_MAX || memcmp(identity->client, nobody, 16) == 0) {
        (void)sluice_cause_set(&cause, SLUICE_INVALID, "a receipt needs a client id and a sequence from 1");
        goto refuse;
    }
    if (sl_wire_digest(slot->request->body, slot->digest) != SLUICE_OK) {
        (void)sluice_cause_set(&cause, SLUICE_NOMEM, "out of memory");
        goto refuse;
    }
    switch (sl_receipts_check(self->receipts, identity, slot->request->user, place, now_ns, &check, &cause)) {
    case SL_VERDICT_RUN: slot->session = check.session; return true;
    case SL_VERDICT_SAME:
        if (memcmp(self->slots[check.slot].digest, slot->digest, sizeof slot->digest) != 0) {
            (void)sluice_cause_set(&cause, SLUICE_ID_REUSED, "the request id is in use with another body");
            goto refuse;
        }
        if (self->slots[check.slot].request->identity.attempt < identity->attempt)
            self->slots[check.slot].request->identity.attempt = identity->attempt;
        slot->same_as = check.slot + 1;
        slot->final = self->has_same = true;
        return false;
    case SL_VERDICT_REPLAY:
        slot->reply = sl_reply_new(slot->request);
        if (slot->reply == NULL)
            (void)sluice_cause_set(&cause, SLUICE_UNKNOWN, "out of memory for the stored answer");
        else if (sl_receipts_read(self->receipts, check.receipt_id, slot->digest, slot->reply, &cause) == SLUICE_OK) {
            slot->final = slot->stored = true;
            return false;
        }
        if (cause.code != SLUICE_ID_REUSED) cause.code = SLUICE_UNKNOWN; /* it was done: never a definite no */
        goto refuse;
    case SL_VERDICT_REFUSED: break;
    }
refuse:
    sluice_msg_destroy(&slot->reply);
    sl_slot_fail(slot, &cause);
    slot->final = true;
    return false;
}

void sl_group_refuse(sl_group *self, sluice_msg **request, const sluice_cause *cause) {
    SL_REQUIRE(!self->leased);
    sl_slot *slot = sl_group_new_slot(self, request);
    if (slot == NULL) {
        sl_group_answer_error(self, request, cause);
        return;
    }
    sl_slot_fail(slot, cause);
    slot->final = true;
}

void sl_group_add(sl_group *self, sluice_msg **request) {
    SL_REQUIRE(!self->leased);
    sluice_cause cause = {.statement = -1};
    int64_t now_ns = self->now_ns = sl_now_ns();
    if ((*request)->deadline_ns != 0 && now_ns >= (*request)->deadline_ns) {
        (void)sluice_cause_set(&cause, SLUICE_EXPIRED, "the deadline passed while the request waited");
        sl_count(self->options.store, expired, 1);
        sl_group_refuse(self, request, &cause);
        return;
    }
    if (sl_store_check(self->options.store, &cause) != SLUICE_OK || sl_group_prepare(self, &cause) != SLUICE_OK) {
        sl_group_refuse(self, request, &cause);
        return;
    }
    sl_slot *slot = sl_group_new_slot(self, request);
    if (slot == NULL) {
        (void)sluice_cause_set(&cause, SLUICE_NOMEM, "out of memory");
        sl_group_answer_error(self, request, &cause);
        return;
    }
    const Sluice__V1__WriteRequest *body = sluice_msg_body(slot->request);
    if (body->receipt && !sl_group_admit_receipt(self, slot, now_ns)) return;
    if (!self->in_transaction && sl_group_begin(self, &cause) != SLUICE_OK) {
        sl_slot_fail(slot, &cause);
        slot->final = true;
        return;
    }
    if (!run_slot(self, slot)) {
        slot->final = true;
        run_again(self);
    }
}

bool sl_group_pending(const sl_group *self) { return self->n_slots != 0; }

bool sl_group_full(const sl_group *self) {
    const sluice_store_options *options = &self->options.store->options;
    return self->must_commit || self->bytes >= options->group_max_bytes ||
           (self->n_slots != 0 && self->now_ns - self->began_ns >= (int64_t)options->group_max_ms * 1000000);
}

/* ---- answers ---- */

static sluice_err fill_reply(sl_group *self, sl_slot *slot, sluice_msg *reply) {
    Sluice__V1__WriteReply *body = (Sluice__V1__WriteReply *)reply->body;
    body->commit_number = self->number;
    body->replayed = slot->replayed;
    return sl_slot_results(slot, &reply->arena, body);
}

/* Makes the body of a reply that already holds rows in its arena. */
sluice_err sl_reply_body(sluice_msg *reply) {
    Sluice__V1__WriteReply *body = sl_arena_alloc(&reply->arena, sizeof *body);
    if (body == NULL) return SLUICE_NOMEM;
    sluice__v1__write_reply__init(body);
    reply->type = &sluice__v1__write_reply__descriptor;
    reply->body = &body->base;
    return SLUICE_OK;
}

static void answer_ok(sl_group *self, sl_slot *slot) {
    bool wanted = sluice_msg_is_ask(slot->request);
    sluice_err err = SLUICE_OK;
    sl_count(self->options.store, writes, 1);
    if (slot->stored || slot->replayed) sl_count(self->options.store, writes_replayed, 1);
    if (wanted && slot->reply != NULL) {
        if (!slot->stored) err = sl_reply_body(slot->reply);
        if (err == SLUICE_OK && !slot->stored) err = fill_reply(self, slot, slot->reply);
        if (err == SLUICE_OK) {
            send(self, &slot->reply, true);
            return;
        }
    } else if (wanted) {
        err = sl_msg_turn(slot->request, &sluice__v1__write_reply__descriptor);
        if (err == SLUICE_OK) err = fill_reply(self, slot, slot->request);
        if (err == SLUICE_OK) {
            send(self, &slot->request, true);
            return;
        }
        if ((slot->request->flags & SL_MSG_REPLY) != 0) { /* turned already: back to a request, for turn_error */
            sluice_pid asker = slot->request->to;
            slot->request->to = slot->request->from;
            slot->request->from = asker;
        }
        slot->request->flags = SL_MSG_ASK;
    }
    if (!wanted) return;
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_UNKNOWN, "done, but there is no memory for the answer");
    sl_group_answer_error(self, &slot->request, &cause);
}

static void answer_failed(sl_group *self, sl_slot *slot) {
    sluice_cause bare, *cause = slot->cause;
    if (cause == NULL) {
        (void)sluice_cause_set(&bare, slot->err, "%s", sluice_err_text(slot->err));
        cause = &bare;
    }
    if (sluice_err_applied(slot->err) == SLUICE_APPLIED_NO)
        sl_count(self->options.store, writes_failed, 1);
    else
        sl_count(self->options.store, writes_unknown, 1);
    sl_group_answer_error(self, &slot->request, cause);
}

/* Gives a slot what the slot of the same request got. */
static void copy_outcome(sl_group *self, sl_slot *slot) {
    sl_slot *first = &self->slots[slot->same_as - 1];
    sluice_cause cause = {.statement = -1};
    if (first->err != SLUICE_OK) {
        (void)sluice_cause_set(&cause, first->err, "%s", sluice_err_text(first->err));
        sl_slot_fail(slot, first->cause != NULL ? first->cause : &cause);
        return;
    }
    if (first->session != NULL) { /* the receipt is committed: answer from it */
        slot->reply = sl_reply_new(slot->request);
        if (slot->reply != NULL && sl_receipts_read(self->receipts, first->receipt_id, slot->digest, slot->reply,
                                                    &cause) == SLUICE_OK) {
            slot->stored = true;
            return;
        }
    }
    (void)sluice_cause_set(&cause, SLUICE_UNKNOWN, "done, but the answer could not be copied");
    sl_slot_fail(slot, &cause);
}

/* The outcome is certain: tells the session, before the answers leave. */
static void settle_receipts(sl_group *self) {
    for (uint32_t i = 0; i < self->n_slots; i++) {
        sl_slot *slot = &self->slots[i];
        if (slot->session == NULL) continue;
        const sl_identity *identity = &slot->request->identity;
        if (slot->err == SLUICE_OK)
            sl_receipts_keep(self->receipts, slot->session, identity->sequence, slot->receipt_id);
        else
            sl_receipts_refuse(self->receipts, slot->session, identity->sequence, identity->attempt);
    }
    for (uint32_t i = 0; self->has_same && i < self->n_slots; i++)
        if (self->slots[i].same_as != 0) copy_outcome(self, &self->slots[i]);
}

void sl_group_answer_all(sl_group *self) {
    settle_receipts(self);
    for (uint32_t i = 0; i < self->n_slots; i++) {
        sl_slot *slot = &self->slots[i];
        if (slot->err == SLUICE_OK)
            answer_ok(self, slot);
        else
            answer_failed(self, slot);
        sluice_msg_destroy(&slot->request);
        sl_slot_reset(slot);
    }
    sl_gauge(self->options.store, group_last, self->n_slots);
    sl_gauge_max(self->options.store, group_max, self->n_slots);
    self->n_slots = 0;
    self->bytes = 0;
    self->replays = 0;
    self->has_same = self->must_commit = false;
    self->options.flush(self->options.context);
}

/* ---- commit ---- */

/* Rows of the store's own that this transaction should carry. */
static sluice_err write_own_rows(sl_group *self, sluice_cause *cause) {
    sluice_err err = sl_meta_reserve(&self->meta, self->number + 1, cause);
    for (uint32_t i = 0; i < self->n_slots && err == SLUICE_OK; i++)
        if (self->slots[i].session != NULL) err = sl_receipts_persist(self->receipts, self->slots[i].session, cause);
    if (err == SLUICE_OK && sl_receipts_due(self->receipts, false)) err = sl_receipts_housekeep(self->receipts, cause);
    return err;
}

static sluice_err commit_transaction(sl_group *self, sluice_cause *cause) {
    sqlite3 *db = sl_conn_db(self->options.conn);
    sluice_err err = write_own_rows(self, cause);
    if (err != SLUICE_OK) { /* COMMIT was not tried: definite */
        if (sluice_err_applied(err) != SLUICE_APPLIED_NO) cause->code = err = SLUICE_FAILED;
        sl_group_rollback(self);
        return err;
    }
    int64_t before = sl_now_ns();
    int rc = patiently(self, self->commit);
    uint64_t us = (uint64_t)(sl_now_ns() - before) / 1000;
    if (rc == SQLITE_OK) {
        self->in_transaction = false;
        self->number++;
        sl_receipts_committed(self->receipts);
        sl_meta_committed(&self->meta);
        sl_histogram_add(self->options.commits, us);
        sl_gauge_max(self->options.store, commit_max_us, us);
        sl_count(self->options.store, groups, 1);
        return SLUICE_OK;
    }
    err = sl_sqlite_cause(cause, db, rc, "COMMIT");
    if (err == SLUICE_NO_SPACE || err == SLUICE_LOCKED || err == SLUICE_CONSTRAINT) {
        sl_group_rollback(self);
        if (err != SLUICE_NO_SPACE || sl_log_tail_clear(db)) return err; /* invariant 6 */
    }
    cause->code = SLUICE_UNKNOWN; /* invariant 5 */
    return SLUICE_UNKNOWN;
}

/* What was committed may be acknowledged only if the store lives and the files are still ours. */
static sluice_err may_acknowledge(sl_group *self, int *exit_code, sluice_cause *cause) {
    sluice_err err = sl_store_check(self->options.store, cause);
    if (err == SLUICE_OK) {
        *exit_code = SLUICE_EXIT_FILE_REPLACED;
        err = sl_ownership_check(self->options.store->ownership, cause);
    }
    if (err == SLUICE_OK) return SLUICE_OK;
    cause->code = SLUICE_UNKNOWN;
    return SLUICE_UNKNOWN;
}

sluice_err sl_group_commit(sl_group *self) {
    SL_REQUIRE(!self->leased);
    sluice_cause cause = {.statement = -1};
    int exit_code = SLUICE_EXIT_COMMIT_FAILED;
    sluice_err err = SLUICE_OK;
    bool damaged = self->damaged;
    if (damaged) {
        exit_code = SLUICE_EXIT_CORRUPT;
        sl_group_rollback(self);
        err = sluice_cause_set(&cause, SLUICE_CORRUPT, "the database file is damaged; nothing more is written to it");
        fail_all(self, &cause);
    } else if (self->in_transaction) {
        err = commit_transaction(self, &cause);
        if (err == SLUICE_OK) err = may_acknowledge(self, &exit_code, &cause);
        if (err == SLUICE_OK)
            atomic_store_explicit(&self->options.store->counters.commit_number, self->number, memory_order_release);
        else
            fail_all(self, &cause);
    }
    sl_group_answer_all(self);
    if (err == SLUICE_UNKNOWN || damaged) {
        self->in_transaction = false; /* whatever is open is never touched again */
        sl_store_fatal(self->options.store, exit_code, &cause);
    }
    return err;
}

void sl_group_housekeep(sl_group *self, bool idle) {
    sluice_cause cause;
    if (!self->ready || self->n_slots != 0 || !sl_receipts_due(self->receipts, idle)) return;
    if (sl_store_check(self->options.store, &cause) != SLUICE_OK || sl_group_begin(self, &cause) != SLUICE_OK) return;
    if (sl_receipts_housekeep(self->receipts, &cause) != SLUICE_OK) {
        sl_group_rollback(self);
        return;
    }
    (void)!sl_group_commit(self);
}

void sl_group_finish(sl_group *self) {
    sluice_cause cause;
    if (!self->ready || sl_store_check(self->options.store, &cause) != SLUICE_OK) return;
    if (sl_group_begin(self, &cause) != SLUICE_OK) return;
    sluice_err err = SLUICE_OK;
    if (sl_receipts_due(self->receipts, true)) err = sl_receipts_housekeep(self->receipts, &cause);
    if (err == SLUICE_OK) err = sl_meta_give_back(&self->meta, self->number, &cause);
    self->ready = false;
    /* If this fails nothing is lost: numbers go on after the block that was reserved. */
    if (err != SLUICE_OK || patiently(self, self->commit) != SQLITE_OK) sl_group_rollback(self);
    self->in_transaction = false;
}

bool sl_group_wrote(sl_group *self, uint64_t *frames) {
    bool wrote = self->wrote;
    self->wrote = false;
    *frames = self->frames;
    return wrote;
}

sl_receipts *sl_group_receipts(sl_group *self) { return self->receipts; }

/* ---- new and destroy ---- */

sluice_err sl_group_new(const sl_group_options *options, sl_group **out, sluice_cause *cause) {
    *out = NULL;
    sl_group *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    self->options = *options;
    const struct {
        sqlite3_stmt **stmt;
        const char *sql;
    } all[] = {
        {&self->begin, "BEGIN IMMEDIATE"},     {&self->commit, "COMMIT"},
        {&self->rollback, "ROLLBACK"},         {&self->savepoint, "SAVEPOINT sluice"},
        {&self->release, "RELEASE sluice"},    {&self->rollback_to, "ROLLBACK TO sluice"},
    };
    sluice_err err = sl_receipts_new(options->store, options->conn, &self->receipts, cause);
    for (size_t i = 0; i < sizeof all / sizeof all[0] && err == SLUICE_OK; i++)
        err = sl_conn_own_prepare(options->conn, all[i].sql, all[i].stmt, cause);
    if (err != SLUICE_OK) {
        sl_group_destroy(&self);
        return err;
    }
    sqlite3_wal_hook(sl_conn_db(options->conn), on_wal, self); /* autocheckpoint, which uses the hook too, is off */
    *out = self;
    return SLUICE_OK;
}

void sl_group_destroy(sl_group **group) {
    sl_group *self = *group;
    if (self == NULL) return;
    *group = NULL;
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_CLOSED, "the store is closing");
    if (self->in_transaction) sl_group_rollback(self);
    if (self->n_slots != 0) {
        fail_all(self, &cause);
        sl_group_answer_all(self);
    }
    sqlite3_wal_hook(sl_conn_db(self->options.conn), NULL, NULL);
    sl_receipts_destroy(&self->receipts);
    free(self->slots);
    free(self->scratch);
    free(self);
}
