/* SPDX-License-Identifier: MIT */
/* Opening a connection with every setting of the product, the product's own SQL, and what SQLite's codes mean here.
 *
 * Owning thread: whoever opened it (writer, reader, checkpointer); SQLite's own mutexes are off (NOMUTEX).
 *
 * Invariants
 *  1. wal_autocheckpoint is 0 before anything is written, and nobody sets a wal_hook before that (rule W1).
 *  2. mmap_size is 0 (rule W1): a checkpoint under a mapping would need remapping in every reader.
 *  3. NO_CKPT_ON_CLOSE on every role but the checkpointer, which closes last.
 *  4. No statement of the connection is busy between two calls of this module's functions.
 */
#include "conn_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors ---- */

sluice_err sl_sqlite_err(int sqlite_code) {
    if (sqlite_code == SQLITE_IOERR_NOMEM) return SLUICE_NOMEM;
    switch (sqlite_code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return SLUICE_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return SLUICE_LOCKED;
    case SQLITE_NOMEM: return SLUICE_NOMEM;
    case SQLITE_READONLY: return SLUICE_READ_ONLY;
    case SQLITE_INTERRUPT: return SLUICE_INTERRUPTED;
    case SQLITE_IOERR: return SLUICE_IO;
    case SQLITE_CORRUPT: return SLUICE_CORRUPT;
    case SQLITE_FULL: return SLUICE_NO_SPACE;
    case SQLITE_PERM:
    case SQLITE_CANTOPEN: return SLUICE_SYSTEM;
    case SQLITE_TOOBIG: return SLUICE_TOO_BIG;
    case SQLITE_CONSTRAINT: return SLUICE_CONSTRAINT;
    case SQLITE_AUTH: return SLUICE_FORBIDDEN;
    case SQLITE_RANGE: return SLUICE_INVALID;
    case SQLITE_NOTADB: return SLUICE_NOT_A_DATABASE;
    default: return SLUICE_FAILED;
    }
}

sluice_err sl_sqlite_cause(sluice_cause *cause, sqlite3 *db, int sqlite_code, const char *context) {
    sluice_err err = sl_sqlite_err(sqlite_code);
    const char *text = db != NULL && sqlite3_extended_errcode(db) == sqlite_code ? sqlite3_errmsg(db)
                                                                                 : sqlite3_errstr(sqlite_code);
    if (context != NULL)
        (void)sluice_cause_set(cause, err, "%s: %s", context, text);
    else
        (void)sluice_cause_set(cause, err, "%s", text);
    if (cause != NULL) {
        cause->sqlite_code = sqlite_code;
        if (db != NULL && (err == SLUICE_IO || err == SLUICE_SYSTEM || err == SLUICE_NO_SPACE))
            cause->sys_errno = sqlite3_system_errno(db);
    }
    return err;
}

/* ---- own SQL ---- */

sluice_err sl_conn_own_prepare(sl_conn *conn, const char *sql, sqlite3_stmt **out, sluice_cause *cause) {
    *out = NULL;
    sqlite3_stmt **grown = realloc(conn->own_statements, (conn->n_own_statements + 1) * sizeof(sqlite3_stmt *));
    if (grown == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    conn->own_statements = grown;
    conn->own++;
    int rc = sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    conn->own--;
    if (rc != SQLITE_OK) return sl_sqlite_cause(cause, conn->db, rc, sql);
    grown[conn->n_own_statements++] = *out;
    return SLUICE_OK;
}

int sl_conn_own_step(sl_conn *conn, sqlite3_stmt *stmt) {
    conn->own++;
    int rc = sqlite3_step(stmt);
    conn->own--;
    return rc;
}

int sl_conn_own_once(sl_conn *conn, sqlite3_stmt *stmt) {
    int rc = sl_conn_own_step(conn, stmt);
    sqlite3_reset(stmt); /* repeats the error of the step */
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

sluice_err sl_conn_own_exec(sl_conn *conn, const char *sql, sluice_cause *cause) {
    conn->own++;
    int rc = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
    conn->own--;
    if (rc == SQLITE_OK) return SLUICE_OK;
    rc = sqlite3_extended_errcode(conn->db);
    return sl_sqlite_cause(cause, conn->db, rc, sql);
}

/* ---- open ---- */

#define WAL_FRAME_HEADER 24           /* bytes before each page in the log */
#define CACHE_BYTES (8192 * 1024) /* of pages, which may be neighbours' */

static sluice_err configure_handle(sl_conn *conn, const sl_conn_options *options, sluice_cause *cause) {
    static const struct {
        int what, value;
    } limits[] = {
        {SQLITE_LIMIT_ATTACHED, 0},         {SQLITE_LIMIT_COLUMN, 2000},       {SQLITE_LIMIT_EXPR_DEPTH, 500},
        {SQLITE_LIMIT_COMPOUND_SELECT, 500}, {SQLITE_LIMIT_TRIGGER_DEPTH, 100}, {SQLITE_LIMIT_VDBE_OP, 5000000},
        {SQLITE_LIMIT_WORKER_THREADS, 0},   {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 10000},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        sqlite3_limit(conn->db, limits[i].what, limits[i].value);
    sqlite3_limit(conn->db, SQLITE_LIMIT_LENGTH, (int)options->max_value_bytes);
    sqlite3_limit(conn->db, SQLITE_LIMIT_SQL_LENGTH, (int)options->max_sql_bytes);

    const struct {
        int what, value;
    } switches[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},
        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
        {SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0},
        {SQLITE_DBCONFIG_ENABLE_FKEY, 1},
        {SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, options->role == SL_CONN_CHECKPOINTER ? 0 : 1}, /* invariant 3 */
    };
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        int rc = sqlite3_db_config(conn->db, switches[i].what, switches[i].value, (int *)NULL);
        if (rc != SQLITE_OK) return sl_sqlite_cause(cause, conn->db, rc, "setting up the connection");
    }
    int rc = sqlite3_wal_autocheckpoint(conn->db, 0); /* invariant 1 */
    if (rc != SQLITE_OK) return sl_sqlite_cause(cause, conn->db, rc, "switching autocheckpoint off");
    return SLUICE_OK;
}

/* Runs a PRAGMA that answers with one text and compares it. */
static sluice_err expect_pragma(sl_conn *conn, const char *sql, const char *expected, sluice_cause *cause) {
    sqlite3_stmt *stmt = NULL;
    conn->own++;
    int rc = sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    sluice_err err = SLUICE_OK;
    if (rc != SQLITE_ROW)
        err = sl_sqlite_cause(cause, conn->db, rc == SQLITE_DONE ? SQLITE_ERROR : rc, sql);
    else if (sqlite3_column_text(stmt, 0) == NULL ||
             strcmp((const char *)sqlite3_column_text(stmt, 0), expected) != 0)
        err = sluice_cause_set(cause, SLUICE_SYSTEM, "%s gave \"%s\", not \"%s\"", sql,
                               (const char *)sqlite3_column_text(stmt, 0), expected);
    sqlite3_finalize(stmt);
    conn->own--;
    return err;
}

/* What one statement may write; and a log that was larger all the same is cut when it begins anew. */
static sluice_err bound_log(sl_conn *conn, uint64_t max_bytes, sluice_cause *cause) {
    char sql[64];
    uint64_t limit = max_bytes < INT64_MAX / 2 ? max_bytes : INT64_MAX / 2;
    snprintf(sql, sizeof sql, "PRAGMA journal_size_limit=%" PRIu64, limit);
    sluice_err err = sl_conn_own_exec(conn, sql, cause);
    if (err != SLUICE_OK) return err;
    sqlite3_stmt *stmt = NULL;
    conn->own++;
    int rc = sqlite3_prepare_v2(conn->db, "PRAGMA page_size", -1, &stmt, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        conn->max_pages = (int64_t)(limit + CACHE_BYTES) / (sqlite3_column_int64(stmt, 0) + WAL_FRAME_HEADER) + 1;
    else
        err = sl_sqlite_cause(cause, conn->db, rc, "reading the page size");
    sqlite3_finalize(stmt);
    conn->own--;
    return err;
}

static sluice_err configure_file(sl_conn *conn, const sl_conn_options *options, sluice_cause *cause) {
    sluice_err err = sl_conn_own_exec(
        conn, "PRAGMA mmap_size=0; PRAGMA cell_size_check=1; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192", cause);
    if (err != SLUICE_OK) return err;
    err = expect_pragma(conn, options->role == SL_CONN_WRITER ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode",
                        "wal", cause);
    if (err != SLUICE_OK) return err;
    bool full = options->synchronous == SLUICE_SYNC_FULL;
    err = sl_conn_own_exec(conn, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", cause);
    if (err != SLUICE_OK) return err;
    /* The first read also loads the schema: a checkpoint on a connection that never read is a silent no-op. */
    err = sl_conn_own_exec(conn, "SELECT count(*) FROM sqlite_schema", cause);
    if (err != SLUICE_OK) return err;
    conn->utf8 = expect_pragma(conn, "PRAGMA encoding", "UTF-8", NULL) == SLUICE_OK;
    if (options->role == SL_CONN_READER) err = sl_conn_own_exec(conn, "PRAGMA query_only=1", cause);
    return err == SLUICE_OK && options->max_log_bytes != 0 ? bound_log(conn, options->max_log_bytes, cause) : err;
}

#define OPEN_BUSY_MS 2000   /* while opening: a foreign process may be recovering or closing the file */
#define SHARED_BUSY_MS 1000 /* reading in shared mode: a foreign reader may hold a recovery lock for a moment */
#define PROGRESS_STEPS 1000 /* virtual machine steps between two looks at the clock: some 20 us */
#define WRITER_STEPS 200    /* the same for the writer: each step may write a large value */

sluice_err sl_conn_open(const sl_conn_options *options, sl_conn **out, sluice_cause *cause) {
    *out = NULL;
    sl_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_err err = SLUICE_OK;
    conn->role = options->role;
    conn->max_sql_bytes = options->max_sql_bytes;
    conn->hits = options->hits;
    conn->misses = options->misses;
    err = sl_cache_init(conn, options->statement_cache);
    if (err != SLUICE_OK) {
        (void)sluice_cause_set(cause, err, "out of memory");
        goto fail;
    }
    const char *vfs = options->vfs != NULL ? options->vfs
                      : options->file_mode == SLUICE_FILE_EXCLUSIVE ? "unix-excl" : NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    if (options->create && options->role == SL_CONN_WRITER) flags |= SQLITE_OPEN_CREATE;
    int rc = sqlite3_open_v2(options->path, &conn->db, flags, vfs);
    if (rc != SQLITE_OK) {
        err = sl_sqlite_cause(cause, conn->db, rc, options->path);
        goto fail;
    }
    sqlite3_busy_timeout(conn->db, OPEN_BUSY_MS);
    err = configure_handle(conn, options, cause);
    if (err == SLUICE_OK) err = sl_functions_install(conn, (int)options->max_value_bytes, cause);
    if (err == SLUICE_OK) err = configure_file(conn, options, cause);
    if (err != SLUICE_OK) {
        (void)sluice_cause_wrap(cause, options->path);
        goto fail;
    }
    bool waits = options->file_mode == SLUICE_FILE_SHARED && options->role == SL_CONN_READER;
    sqlite3_busy_timeout(conn->db, waits ? SHARED_BUSY_MS : 0);
    sl_authorizer_install(conn);
    sqlite3_progress_handler(conn->db, conn->role == SL_CONN_WRITER ? WRITER_STEPS : PROGRESS_STEPS, sl_progress, conn);
    *out = conn;
    return SLUICE_OK;
fail:
    sl_conn_close(&conn);
    return err;
}

void sl_conn_close(sl_conn **conn_at) {
    sl_conn *conn = *conn_at;
    if (conn == NULL) return;
    *conn_at = NULL;
    sl_cache_fini(conn);
    for (size_t i = 0; i < conn->n_own_statements; i++) sqlite3_finalize(conn->own_statements[i]);
    free(conn->own_statements);
    free(conn->cursor_columns);
    conn->own++; /* closing may checkpoint */
    sqlite3_close_v2(conn->db);
    free(conn);
}

sqlite3 *sl_conn_db(const sl_conn *conn) { return conn->db; }

unsigned sl_conn_busy(sl_conn *conn, bool reset) {
    unsigned busy = 0;
    for (sqlite3_stmt *stmt = sqlite3_next_stmt(conn->db, NULL); stmt != NULL;
         stmt = sqlite3_next_stmt(conn->db, stmt)) {
        if (!sqlite3_stmt_busy(stmt)) continue;
        busy++;
        if (reset) sqlite3_reset(stmt);
    }
    return busy;
}

void sl_conn_stop(sl_conn *conn, sluice_err why) { atomic_store_explicit(&conn->stop, (int)why, memory_order_release); }

void sl_conn_alarm(sl_conn *conn, int64_t at_ns, sl_conn_alarm_fn fn, void *context) {
    conn->alarm_ns = at_ns;
    conn->alarm = fn;
    conn->alarm_context = context;
}

void sl_conn_stop_clear(sl_conn *conn) { atomic_store_explicit(&conn->stop, 0, memory_order_release); }
