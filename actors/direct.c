/* SPDX-License-Identifier: MIT */
/* Stock SQLite, one connection per client: what Sluice is measured against, and the scan that checks both.
 *
 * Not an actor and never part of a store: each connection belongs to the bench thread that opened it.
 * Invariants
 *  1. Nothing here is tuned against the baseline: WAL, prepared statements, busy_timeout 5000, autocheckpoint and all
 *     the rest at SQLite's defaults, one autocommit transaction per write (unless begin and commit are used) and per
 *     read.
 *  2. A connection is opened here only while no store of this process has the same file open (POSIX locks).
 *  3. Every step is followed by a reset on every path, so no read transaction outlives its call.
 */
#include "direct.h"

#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BUSY_TIMEOUT_MS 5000
#define FILL_READ "INSERT OR REPLACE INTO bench_read(id, body) VALUES(?1, ?2)"
#define FILL_UPDATE "INSERT OR IGNORE INTO bench_update(id, n, body) VALUES(?1, 0, ?2)"
#define COUNT_UPDATES "SELECT coalesce(sum(n), 0) FROM bench_update"

struct sl_direct {
    sqlite3 *db;
    sqlite3_stmt *insert;
    sqlite3_stmt *select;
    sqlite3_stmt *update; /* made at its first use: its table is not in every file */
    sqlite3_stmt *begin, *commit, *rollback;
};

void sl_direct_body(int64_t id, char out[SL_DIRECT_BODY_SIZE + 1]) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t state = (uint64_t)id, word = 0;
    for (unsigned i = 0; i < SL_DIRECT_BODY_SIZE; i++) {
        if (i % 10 == 0) { /* SplitMix64: ten letters of six bits from each word */
            state += 0x9e3779b97f4a7c15u;
            word = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
            word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
            word ^= word >> 31;
        }
        out[i] = alphabet[word & 63u];
        word >>= 6;
    }
    out[SL_DIRECT_BODY_SIZE] = '\0';
}

static sluice_err code_of(int rc) {
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return SLUICE_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return SLUICE_LOCKED;
    case SQLITE_NOTADB: return SLUICE_NOT_A_DATABASE;
    case SQLITE_CORRUPT: return SLUICE_CORRUPT;
    case SQLITE_FULL: return SLUICE_NO_SPACE;
    case SQLITE_IOERR: return SLUICE_IO;
    case SQLITE_NOMEM: return SLUICE_NOMEM;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY: return SLUICE_SYSTEM;
    default: return SLUICE_FAILED;
    }
}

static sluice_err fail(sqlite3 *db, int rc, const char *what, sluice_cause *cause) {
    sluice_err err = sluice_cause_set(cause, code_of(rc), "%s: %s", what, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
    if (cause) cause->sqlite_code = rc;
    return err;
}

static sluice_err run(sqlite3 *db, const char *sql, sluice_cause *cause) {
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? SLUICE_OK : fail(db, rc, sql, cause);
}

/* Opens in WAL mode with the busy time-out set. Gives: *out, to be closed with sqlite3_close. */
static sluice_err open_file(const char *path, sqlite3 **out, sluice_cause *cause) {
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    sluice_err err = rc == SQLITE_OK ? SLUICE_OK : fail(db, rc, path, cause);
    if (!err) sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
    if (!err) err = run(db, "PRAGMA journal_mode=WAL", cause);
    if (err) {
        sqlite3_close(db);
        return err;
    }
    *out = db;
    return SLUICE_OK;
}

static sluice_err prepare_one(sqlite3 *db, const char *sql, sqlite3_stmt **out, sluice_cause *cause) {
    int rc = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    return rc == SQLITE_OK ? SLUICE_OK : fail(db, rc, sql, cause);
}

static sluice_err fill_table(sqlite3 *db, const char *sql, int64_t n_rows, sluice_cause *cause) {
    sqlite3_stmt *stmt = NULL;
    sluice_err err = prepare_one(db, sql, &stmt, cause);
    for (int64_t id = 1; !err && id <= n_rows; id++) {
        char body[SL_DIRECT_BODY_SIZE + 1];
        sl_direct_body(id, body);
        sqlite3_bind_int64(stmt, 1, id);
        sqlite3_bind_text(stmt, 2, body, (int)SL_DIRECT_BODY_SIZE, SQLITE_STATIC);
        int rc = sqlite3_step(stmt);
        if (rc != SQLITE_DONE) err = fail(db, rc, sql, cause);
        sqlite3_reset(stmt);
    }
    sqlite3_finalize(stmt);
    return err;
}

static sluice_err read_number(sqlite3 *db, const char *sql, int64_t *out, sluice_cause *cause) {
    sqlite3_stmt *stmt = NULL;
    sluice_err err = prepare_one(db, sql, &stmt, cause);
    if (!err) {
        int rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW)
            *out = sqlite3_column_int64(stmt, 0);
        else
            err = fail(db, rc, sql, cause);
    }
    sqlite3_finalize(stmt);
    return err;
}

sluice_err sl_direct_prepare(const char *path, int64_t *last_rowid, sluice_cause *cause) {
    sqlite3 *db = NULL;
    sluice_err err = open_file(path, &db, cause);
    if (!err) err = run(db, "BEGIN IMMEDIATE", cause);
    if (!err) err = run(db, SL_DIRECT_SCHEMA, cause);
    if (!err) err = fill_table(db, FILL_READ, SL_DIRECT_READ_ROWS, cause);
    if (!err) err = read_number(db, "SELECT coalesce(max(rowid), 0) FROM bench_write", last_rowid, cause);
    if (!err) err = run(db, "COMMIT", cause);
    sqlite3_close(db); /* rolls back what is open; the last connection checkpoints */
    return err;
}

sluice_err sl_direct_prepare_updates(const char *path, int64_t *n_updates, sluice_cause *cause) {
    sqlite3 *db = NULL;
    sluice_err err = open_file(path, &db, cause);
    if (!err) err = run(db, "BEGIN IMMEDIATE", cause);
    if (!err) err = run(db, SL_DIRECT_UPDATE_SCHEMA, cause);
    if (!err) err = fill_table(db, FILL_UPDATE, SL_DIRECT_UPDATE_ROWS, cause);
    if (!err) err = read_number(db, COUNT_UPDATES, n_updates, cause);
    if (!err) err = run(db, "COMMIT", cause);
    sqlite3_close(db);
    return err;
}

sluice_err sl_direct_count_updates(const char *path, int64_t *n_updates, sluice_cause *cause) {
    sqlite3 *db = NULL;
    sluice_err err = open_file(path, &db, cause);
    if (!err) err = read_number(db, COUNT_UPDATES, n_updates, cause);
    sqlite3_close(db);
    return err;
}

uint64_t sl_direct_wal_size(const char *path) {
    char wal[PATH_MAX + 8];
    struct stat st;
    int n = snprintf(wal, sizeof wal, "%s-wal", path);
    return n > 0 && n < (int)sizeof wal && stat(wal, &st) == 0 ? (uint64_t)st.st_size : 0;
}

sluice_err sl_direct_open(const char *path, bool synchronous_full, sl_direct **out, sluice_cause *cause) {
    *out = NULL;
    sl_direct *self = calloc(1, sizeof *self);
    if (!self) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_err err = open_file(path, &self->db, cause);
    if (!err) err = run(self->db, synchronous_full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", cause);
    if (!err) err = prepare_one(self->db, SL_DIRECT_INSERT, &self->insert, cause);
    if (!err) err = prepare_one(self->db, SL_DIRECT_SELECT, &self->select, cause);
    if (!err) err = prepare_one(self->db, "BEGIN IMMEDIATE", &self->begin, cause);
    if (!err) err = prepare_one(self->db, "COMMIT", &self->commit, cause);
    if (!err) err = prepare_one(self->db, "ROLLBACK", &self->rollback, cause);
    if (err) {
        sl_direct_close(&self);
        return err;
    }
    *out = self;
    return SLUICE_OK;
}

void sl_direct_close(sl_direct **direct) {
    sl_direct *self = *direct;
    if (!self) return;
    *direct = NULL;
    sqlite3_finalize(self->insert);
    sqlite3_finalize(self->select);
    sqlite3_finalize(self->update);
    sqlite3_finalize(self->begin);
    sqlite3_finalize(self->commit);
    sqlite3_finalize(self->rollback);
    sqlite3_close(self->db);
    free(self);
}

/* Steps a statement that gives no rows, and resets it. After an error no transaction is open. */
static sluice_err step_once(sl_direct *self, sqlite3_stmt *stmt, sluice_cause *cause) {
    int rc = sqlite3_step(stmt);
    sluice_err err = rc == SQLITE_DONE ? SLUICE_OK : fail(self->db, rc, sqlite3_sql(stmt), cause);
    sqlite3_reset(stmt);
    if (err && !sqlite3_get_autocommit(self->db)) {
        (void)sqlite3_step(self->rollback);
        sqlite3_reset(self->rollback);
    }
    return err;
}

sluice_err sl_direct_begin(sl_direct *self, sluice_cause *cause) { return step_once(self, self->begin, cause); }

sluice_err sl_direct_commit(sl_direct *self, sluice_cause *cause) { return step_once(self, self->commit, cause); }

static sluice_err write_row(sl_direct *self, sqlite3_stmt *stmt, int64_t id, const char *body, size_t size,
                            sluice_cause *cause) {
    sqlite3_bind_int64(stmt, 1, id);
    sqlite3_bind_text(stmt, 2, body, (int)size, SQLITE_STATIC);
    return step_once(self, stmt, cause);
}

sluice_err sl_direct_insert(sl_direct *self, int64_t id, const char *body, size_t size, sluice_cause *cause) {
    return write_row(self, self->insert, id, body, size, cause);
}

sluice_err sl_direct_update(sl_direct *self, int64_t id, const char *body, size_t size, sluice_cause *cause) {
    if (!self->update) {
        sluice_err err = prepare_one(self->db, SL_DIRECT_UPDATE, &self->update, cause);
        if (err) return err;
    }
    return write_row(self, self->update, id, body, size, cause);
}

/* True if the row the statement stands on, (id, body), is as sl_direct_body made it. */
static bool row_is_right(sqlite3_stmt *stmt) {
    char body[SL_DIRECT_BODY_SIZE + 1];
    sl_direct_body(sqlite3_column_int64(stmt, 0), body);
    const void *found = sqlite3_column_text(stmt, 1);
    return found && sqlite3_column_bytes(stmt, 1) == (int)SL_DIRECT_BODY_SIZE &&
           memcmp(found, body, SL_DIRECT_BODY_SIZE) == 0;
}

sluice_err sl_direct_lookup(sl_direct *self, int64_t id, unsigned *n_rows, sluice_cause *cause) {
    *n_rows = 0;
    sqlite3_bind_int64(self->select, 1, id);
    int rc;
    while ((rc = sqlite3_step(self->select)) == SQLITE_ROW) {
        if (sqlite3_column_int64(self->select, 0) == id && row_is_right(self->select)) ++*n_rows;
    }
    sluice_err err = rc == SQLITE_DONE ? SLUICE_OK : fail(self->db, rc, "select", cause);
    sqlite3_reset(self->select);
    return err;
}

sluice_err sl_direct_scan(const char *path, int64_t after_rowid, sl_direct_row_fn fn, void *context,
                          sluice_cause *cause) {
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    sluice_err err = open_file(path, &db, cause);
    if (!err) err = prepare_one(db, "SELECT id, body FROM bench_write WHERE rowid > ?1", &stmt, cause);
    if (!err) {
        sqlite3_bind_int64(stmt, 1, after_rowid);
        int rc;
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) fn(context, sqlite3_column_int64(stmt, 0), row_is_right(stmt));
        if (rc != SQLITE_DONE) err = fail(db, rc, "scan of bench_write", cause);
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return err;
}

sluice_err sl_direct_integrity(const char *path, sluice_cause *cause) {
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    sluice_err err = open_file(path, &db, cause);
    if (!err) err = prepare_one(db, "PRAGMA integrity_check(1)", &stmt, cause);
    if (!err) {
        int rc = sqlite3_step(stmt);
        const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
        if (!text)
            err = fail(db, rc, "integrity_check", cause);
        else if (strcmp(text, "ok") != 0)
            err = sluice_cause_set(cause, SLUICE_CORRUPT, "integrity_check: %s", text);
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return err;
}
