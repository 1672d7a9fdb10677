/* SPDX-License-Identifier: MIT */
/* Running one write request inside the group's transaction, so that its result equals what it would have been alone.
 *
 * Owning thread: the writer's.
 *
 *   begin --[savepoint]--> statement 1 .. n --> deferred keys --> receipt --[release]--> OK
 *               |               | error             | violated       | error
 *               |               v                   v                v
 *               +--yes--> rolled back to it: FAILED         +--no--> nothing changed: FAILED
 *                         (transaction gone: DESTROYED)              something did:   DESTROYED
 *
 * Savepoints. A request that executes one statement once needs none: SQLite undoes a failed statement by itself. The
 * exceptions (OR FAIL, which keeps the rows before the bad one; a deferred key; a guard or a size limit that fails when
 * the statement has succeeded; a receipt that cannot be written) are seen afterwards: sqlite3_total_changes has moved,
 * and then the group is run again without the culprit. Requests of several executions, and calls of procedures, always
 * get one, because that a guard or a constraint fails in them is everyday business. After trouble of the first kind the
 * next requests get one too (caution), so that trouble that comes in series does not run groups again and again.
 *
 * Invariants
 *  1. After OK or FAILED the transaction is open and no deferred key is violated.
 *  2. After FAILED it holds nothing of the request.
 *  3. last_insert_rowid is 0 when a request begins. What else a neighbour leaves visible: changes() and
 *     total_changes() before the request's own first change.
 */
#include "group_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "codec.h"
#include "port.h"

#define REQUEST_MAX_NS ((int64_t)30 * 1000000000) /* no request holds the writer longer, whatever its deadline */
#define CAUTION 256u
#define PACKED_OUTCOME_MAX 40u

/* ---- slots ---- */

void sl_slot_fail(sl_slot *slot, const sluice_cause *cause) {
    slot->err = cause->code;
    if (slot->cause == NULL) slot->cause = malloc(sizeof *slot->cause);
    if (slot->cause != NULL) *slot->cause = *cause;
}

void sl_slot_reset(sl_slot *slot) {
    sluice_msg_destroy(&slot->reply);
    free(slot->many);
    slot->many = NULL;
    slot->n_outcomes = 0;
    free(slot->cause);
    slot->cause = NULL;
    slot->err = SLUICE_OK;
}

sluice_msg *sl_reply_new(const sluice_msg *request) {
    sluice_msg *reply = sl_msg_alloc(SIZE_MAX);
    if (reply == NULL) return NULL;
    reply->from = request->to;
    reply->to = request->from;
    reply->correlation = request->correlation;
    reply->flags = SL_MSG_REPLY;
    reply->identity = request->identity;
    reply->trace = request->trace;
    return reply;
}

sluice_err sl_slot_results(sl_slot *slot, sl_arena *arena, Sluice__V1__WriteReply *out) {
    const sl_outcome *outcomes = sl_slot_outcomes(slot);
    Sluice__V1__StatementResult **list = sl_arena_alloc(arena, slot->n_outcomes * sizeof(void *));
    Sluice__V1__StatementResult *results = sl_arena_alloc(arena, slot->n_outcomes * sizeof *results);
    if (list == NULL || results == NULL) return SLUICE_NOMEM;
    for (size_t i = 0; i < slot->n_outcomes; i++) {
        sluice__v1__statement_result__init(&results[i]);
        results[i].changes = outcomes[i].changes;
        results[i].last_rowid = outcomes[i].last_rowid;
        results[i].rows = outcomes[i].rows;
        list[i] = &results[i];
    }
    out->results = list;
    out->n_results = slot->n_outcomes;
    return SLUICE_OK;
}

/* ---- statements ---- */

static sluice_err check_guard(const Sluice__V1__Statement *in, uint64_t changes, sluice_cause *cause) {
    if (in->guard_case != SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES || in->expect_changes == changes)
        return SLUICE_OK;
    return sluice_cause_set(cause, SLUICE_GUARD_FAILED, "the statement changed %llu rows, %llu were expected",
                            (unsigned long long)changes, (unsigned long long)in->expect_changes);
}

static sluice_err make_reply(sl_slot *slot, sl_run *run, sluice_cause *cause) {
    if (slot->reply == NULL) slot->reply = sl_reply_new(slot->request);
    if (slot->reply == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    run->arena = &slot->reply->arena;
    return SLUICE_OK;
}

static sluice_err run_procedure(sl_group *group, sl_slot *slot, const Sluice__V1__Statement *in, sl_run *run,
                                bool *must_undo, sluice_cause *cause) {
    sluice_store *store = group->options.store;
    sluice_err err = make_reply(slot, run, cause);
    if (err == SLUICE_OK)
        err = sl_procedure_run(store->procedures, group->options.conn, store->options.max_result_bytes, in, run, cause);
    if (err != SLUICE_OK) *must_undo = true;
    return err == SLUICE_OK ? check_guard(in, run->changes, cause) : err;
}

static sluice_err run_statement(sl_group *group, sl_slot *slot, const Sluice__V1__Statement *in, sl_run *run,
                                bool *must_undo, sluice_cause *cause) {
    const sl_statement *statement = NULL;
    if (in->what_case == SLUICE__V1__STATEMENT__WHAT_PROCEDURE)
        return run_procedure(group, slot, in, run, must_undo, cause);
    sl_conn *conn = group->options.conn;
    sluice_err err = sl_conn_prepare(conn, in->sql.data, in->sql.len, slot->request->rights, &statement, cause);
    if (err != SLUICE_OK) return err;
    if (statement->n_columns > 0 && (err = make_reply(slot, run, cause)) != SLUICE_OK) return err;
    err = sl_conn_run(conn, statement, in, run, cause);
    /* A failed change of the schema is undone by SQLite too, but total_changes would not show it if it were not. */
    if (err != SLUICE_OK && (statement->needs & SL_RIGHT_DDL) != 0) *must_undo = true;
    return err == SLUICE_OK ? check_guard(in, run->changes, cause) : err;
}

static sluice_err run_statements(sl_group *group, sl_slot *slot, const Sluice__V1__WriteRequest *body,
                                 bool *must_undo, sluice_cause *cause) {
    int64_t limit = group->now_ns + REQUEST_MAX_NS, deadline = slot->request->deadline_ns;
    sl_run fresh = {.begun = false}, *run = group->leased ? &group->lease_run : &fresh;
    run->arena = NULL; /* the reply's, when there is one */
    run->max_bytes = group->options.store->options.max_result_bytes;
    run->deadline_ns = deadline != 0 && deadline < limit ? deadline : limit;
    if (body->n_statements > SL_OUTCOMES_INLINE) {
        slot->many = calloc(body->n_statements, sizeof *slot->many);
        if (slot->many == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    sl_outcome *outcomes = sl_slot_outcomes(slot);
    for (size_t i = 0; i < body->n_statements; i++) {
        sluice_err err = run_statement(group, slot, body->statements[i], run, must_undo, cause);
        if (err != SLUICE_OK) {
            cause->statement = (int32_t)i;
            return err;
        }
        outcomes[i] = (sl_outcome){.changes = run->changes, .last_rowid = run->last_rowid, .rows = run->rows};
        slot->n_outcomes = i + 1;
    }
    return SLUICE_OK;
}

/* A deferred key that is violated at the end of the request is the request's own: before it none was. */
sluice_err sl_request_check_keys(const sl_group *group, sluice_cause *cause) {
    int current = 0, high = 0;
    int rc = sqlite3_db_status(sl_conn_db(group->options.conn), SQLITE_DBSTATUS_DEFERRED_FKS, &current, &high, 0);
    if (rc == SQLITE_OK && current == 0) return SLUICE_OK;
    (void)sluice_cause_set(cause, SLUICE_CONSTRAINT, "FOREIGN KEY constraint failed (deferred)");
    cause->sqlite_code = SQLITE_CONSTRAINT_FOREIGNKEY;
    return SLUICE_CONSTRAINT;
}

sluice_err sl_request_write_receipt(sl_group *group, sl_slot *slot, sluice_cause *cause) {
    sl_arena arena;
    _Alignas(16) char first[512];
    sl_arena_init(&arena, first, sizeof first, SIZE_MAX);
    Sluice__V1__WriteReply reply = SLUICE__V1__WRITE_REPLY__INIT;
    sluice_err err = sl_slot_results(slot, &arena, &reply);
    if (err != SLUICE_OK) {
        (void)sluice_cause_set(cause, err, "out of memory");
        goto done;
    }
    /* Two numbers, three tags and two lengths: without rows a result has an upper bound, which saves measuring it. */
    size_t size = slot->reply != NULL ? sluice__v1__write_reply__get_packed_size(&reply)
                                      : slot->n_outcomes * PACKED_OUTCOME_MAX;
    if (size > group->scratch_size) {
        uint8_t *grown = realloc(group->scratch, size * 2);
        if (grown == NULL) {
            err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
            goto done;
        }
        group->scratch = grown;
        group->scratch_size = size * 2;
    }
    size = sluice__v1__write_reply__pack(&reply, group->scratch);
    err = sl_receipts_insert(group->receipts, slot->session, slot->request->identity.sequence, group->number + 1,
                             slot->digest, group->scratch, size, &slot->receipt_id, cause);
done:
    sl_arena_fini(&arena);
    return err;
}

/* ---- the request ---- */

static bool many_executions(const Sluice__V1__WriteRequest *body) {
    const Sluice__V1__Statement *first = body->statements[0];
    return body->n_statements > 1 || first->what_case == SLUICE__V1__STATEMENT__WHAT_PROCEDURE ||
           (first->rows != NULL && first->rows->rows > 1);
}

/* What a definite no may be called: the request was undone, so that nothing is in doubt. */
static void make_definite(sluice_cause *cause) {
    if (sluice_err_applied(cause->code) != SLUICE_APPLIED_NO) cause->code = SLUICE_FAILED;
}

static sl_ran undo(sl_group *group, bool savepoint, bool must_undo) {
    sl_conn *conn = group->options.conn;
    if (sqlite3_get_autocommit(sl_conn_db(conn)) != 0) return SL_RAN_DESTROYED;
    if (!must_undo && !savepoint) return SL_RAN_FAILED;
    if (savepoint && sl_conn_own_once(conn, group->rollback_to) == SQLITE_OK &&
        sl_conn_own_once(conn, group->release) == SQLITE_OK)
        return SL_RAN_FAILED;
    if (!savepoint) group->caution = CAUTION;
    return SL_RAN_DESTROYED;
}

sl_ran sl_request_run(sl_group *group, sl_slot *slot) {
    const Sluice__V1__WriteRequest *body = sluice_msg_body(slot->request);
    sl_conn *conn = group->options.conn;
    sqlite3 *db = sl_conn_db(conn);
    sluice_cause cause = {.statement = -1};
    sl_slot_reset(slot);
    if (body->n_statements == 0 || body->transaction != 0) {
        if (body->transaction != 0)
            (void)sluice_cause_set(&cause, SLUICE_TRANSACTION_EXPIRED, "%s", SL_TEXT_NO_TRANSACTION);
        else
            (void)sluice_cause_set(&cause, SLUICE_INVALID, "the request holds no statement");
        sl_slot_fail(slot, &cause);
        return SL_RAN_FAILED;
    }
    bool savepoint = many_executions(body) || group->caution > 0, must_undo = false;
    if (group->caution > 0) group->caution--;
    if (savepoint) {
        int rc = sl_conn_own_once(conn, group->savepoint);
        if (rc != SQLITE_OK) {
            (void)sl_sqlite_cause(&cause, db, rc, "opening a savepoint");
            make_definite(&cause);
            sl_slot_fail(slot, &cause);
            return sqlite3_get_autocommit(db) != 0 ? SL_RAN_DESTROYED : SL_RAN_FAILED;
        }
    }
    sqlite3_set_last_insert_rowid(db, 0);
    sqlite3_int64 before = sqlite3_total_changes64(db);
    sluice_err err = run_statements(group, slot, body, &must_undo, &cause);
    if (err == SLUICE_OK && sqlite3_get_autocommit(db) == 0) {
        err = sl_request_check_keys(group, &cause);
        if (err != SLUICE_OK) must_undo = true;
    }
    if (err == SLUICE_OK && slot->session != NULL) {
        err = sl_request_write_receipt(group, slot, &cause);
        if (err != SLUICE_OK) must_undo = true;
    }
    if (err == SLUICE_OK && savepoint) {
        int rc = sl_conn_own_once(conn, group->release);
        if (rc != SQLITE_OK) err = sl_sqlite_cause(&cause, db, rc, "closing a savepoint");
    }
    if (err == SLUICE_OK) {
        if (sqlite3_get_autocommit(db) == 0) return SL_RAN_OK;
        err = sluice_cause_set(&cause, SLUICE_FAILED, "the statement ended the transaction");
    }
    if (sqlite3_total_changes64(db) != before) must_undo = true;
    sl_ran ran = undo(group, savepoint, must_undo);
    make_definite(&cause);
    sl_slot_reset(slot);
    sl_slot_fail(slot, &cause);
    return ran;
}

/* The outcome must not depend on what the client sends next, so each step has a savepoint of its own. */
sl_ran sl_request_step(sl_group *group, sl_slot *slot) {
    const Sluice__V1__WriteRequest *body = sluice_msg_body(slot->request);
    sqlite3 *db = sl_conn_db(group->options.conn);
    sluice_cause cause = {.statement = -1};
    bool must_undo = true;
    group->now_ns = sl_now_ns();
    int rc = sl_conn_own_once(group->options.conn, group->savepoint);
    sluice_err err = rc == SQLITE_OK ? run_statements(group, slot, body, &must_undo, &cause)
                                     : sl_sqlite_cause(&cause, db, rc, "opening a savepoint");
    if (err == SLUICE_OK && sqlite3_get_autocommit(db) == 0) {
        rc = sl_conn_own_once(group->options.conn, group->release);
        if (rc == SQLITE_OK) return SL_RAN_OK;
        err = sl_sqlite_cause(&cause, db, rc, "closing a savepoint");
    } else if (err == SLUICE_OK) {
        err = sluice_cause_set(&cause, SLUICE_FAILED, "the statement ended the transaction");
    }
    sl_ran ran = rc == SQLITE_OK ? undo(group, true, true) : SL_RAN_DESTROYED;
    make_definite(&cause);
    sl_slot_reset(slot);
    sl_slot_fail(slot, &cause);
    return ran;
}
