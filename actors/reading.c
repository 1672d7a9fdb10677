/* SPDX-License-Identifier: MIT */
/* Runs reads on a query_only connection; see reading.h.
 *
 * Owning thread: the reader's, or the borrowing client's while it is in its call.
 *
 *   QUIET --begin--> OPEN --run--> OPEN --end--> QUIET          several statements, or requests, on one snapshot
 *   QUIET ------------run-------> QUIET                        one statement is a snapshot by itself
 *
 * Messages: takes QueryRequests, fills QueryReplies; sends nothing.
 * Invariants
 *  1. After end, or check, nothing is busy on the connection, on every path.
 *  2. A result is whole or TOO_BIG, never cut short.
 * Stop order: statements, connection.
 */
#include "reading.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sluice_err sl_reading_open(sl_reading *reading, sluice_store *store, sl_watch *watch, _Atomic uint64_t *hits,
                           _Atomic uint64_t *misses, sluice_cause *cause) {
    *reading = (sl_reading){.store = store, .watch = watch};
    sl_conn_options options = sl_store_conn_options(store, SL_CONN_READER);
    options.hits = hits;
    options.misses = misses;
    sluice_err err = sl_conn_open(&options, &reading->conn, cause);
    if (err == SLUICE_OK) err = sl_conn_own_prepare(reading->conn, "BEGIN", &reading->begin, cause);
    if (err == SLUICE_OK) err = sl_conn_own_prepare(reading->conn, "COMMIT", &reading->end, cause);
    if (err != SLUICE_OK) sl_reading_close(reading);
    return err;
}

void sl_reading_close(sl_reading *reading) { sl_conn_close(&reading->conn); }

/* ---- age ---- */

static void on_alarm(void *context) {
    sl_reading *reading = context;
    sluice_store *store = reading->store;
    if (reading->on_long != NULL) {
        sl_conn_alarm_fn on_long = reading->on_long;
        reading->on_long = NULL;
        sl_reading_time(reading, reading->started_ns, 0, NULL, NULL);
        on_long(reading->context);
        return;
    }
    sl_count(store, snapshots_old, 1);
    if (store->options.on_old_snapshot == NULL) return;
    sluice_reading shown;
    sl_watch_show(reading->watch, &shown);
    store->options.on_old_snapshot(store->options.old_snapshot_context, &shown);
}

void sl_reading_time(sl_reading *reading, int64_t started_ns, int64_t long_ns, sl_conn_alarm_fn on_long,
                     void *context) {
    reading->started_ns = started_ns;
    if (on_long != NULL) reading->context = context;
    reading->on_long = on_long;
    int64_t old_ns = started_ns + (int64_t)reading->store->options.snapshot_warn_ms * 1000000;
    sl_conn_alarm(reading->conn, on_long != NULL ? long_ns : old_ns, on_alarm, reading);
}

/* ---- hygiene ---- */

static void require_quiet(sl_reading *reading) {
    sqlite3 *db = sl_conn_db(reading->conn);
    for (sqlite3_stmt *stmt = sqlite3_next_stmt(db, NULL); stmt != NULL; stmt = sqlite3_next_stmt(db, stmt)) {
        if (!sqlite3_stmt_busy(stmt)) continue;
        fprintf(stderr, "sluice: a read left a statement busy: %s\n", sqlite3_sql(stmt));
        abort();
    }
}

void sl_reading_check(sl_reading *reading) {
    /* No busy statement, no read transaction: SQLite itself says so, and walks no list for it. */
    if (sqlite3_txn_state(sl_conn_db(reading->conn), NULL) != SQLITE_TXN_NONE) sl_reading_end(reading);
}

int sl_reading_begin(sl_reading *reading) { return sl_conn_own_once(reading->conn, reading->begin); }

void sl_reading_end(sl_reading *reading) {
    sqlite3 *db = sl_conn_db(reading->conn);
    require_quiet(reading);
    if (!sqlite3_get_autocommit(db)) (void)sl_conn_own_once(reading->conn, reading->end);
    if (!sqlite3_get_autocommit(db) || sqlite3_txn_state(db, NULL) != SQLITE_TXN_NONE) {
        fprintf(stderr, "sluice: a snapshot did not end: %s\n", sqlite3_errmsg(db));
        abort();
    }
}

/* ---- one request ---- */

static sluice_err run_one(sl_reading *reading, const sluice_msg *request, const Sluice__V1__Statement *in, sl_run *run,
                          sluice_cause *cause) {
    const sl_statement *statement = NULL;
    if (in->guard_case != SLUICE__V1__STATEMENT__GUARD__NOT_SET)
        return sluice_cause_set(cause, SLUICE_INVALID, "a read has no number of changes to expect");
    if (in->what_case == SLUICE__V1__STATEMENT__WHAT_PROCEDURE)
        return sluice_cause_set(cause, SLUICE_READ_ONLY, "a procedure is called by a write");
    sluice_err err = sl_conn_prepare(reading->conn, in->sql.data, in->sql.len, request->rights, &statement, cause);
    if (err != SLUICE_OK) return err;
    sl_watch_note(reading->watch, request->from, request->correlation, in->sql.data, in->sql.len);
    return sl_conn_run(reading->conn, statement, in, run, cause);
}

sluice_err sl_reading_run(sl_reading *reading, const sluice_msg *request, sluice_msg *reply, sluice_cause *cause) {
    const Sluice__V1__QueryRequest *query = (const Sluice__V1__QueryRequest *)request->body;
    Sluice__V1__QueryReply *body = (Sluice__V1__QueryReply *)reply->body;
    size_t n = query->n_statements;
    if (n == 0) return sluice_cause_set(cause, SLUICE_INVALID, "the request holds no statement");
    body->results = sluice_msg_alloc(reply, n * sizeof *body->results);
    Sluice__V1__StatementResult *results = sluice_msg_alloc(reply, n * sizeof *results);
    if (body->results == NULL || results == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sl_run run = {.arena = &reply->arena,
                  .max_bytes = reading->store->options.max_result_bytes,
                  .deadline_ns = request->deadline_ns};
    if (query->max_bytes != 0 && query->max_bytes < run.max_bytes) run.max_bytes = (size_t)query->max_bytes;
    for (size_t i = 0; i < n; i++) {
        run.rows = NULL;
        sluice_err err = run_one(reading, request, query->statements[i], &run, cause);
        if (err != SLUICE_OK) {
            if (cause != NULL) cause->statement = i < INT32_MAX ? (int32_t)i : INT32_MAX;
            return err;
        }
        sluice__v1__statement_result__init(&results[i]);
        results[i].rows = run.rows;
        body->results[i] = &results[i];
        body->n_results = i + 1;
    }
    return SLUICE_OK;
}
