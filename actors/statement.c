/* SPDX-License-Identifier: MIT */
/* Clients' SQL: compiled once and kept by text, bound, run to its end, reset.
 *
 * Owning thread: the connection's.
 *
 *        prepare                      run                          run ends, on any path
 *   text ------> cached, not busy ----------> busy (bound, stepped) ---------------> cached, not busy, bindings gone
 *
 * Invariants
 *  1. The cache evicts the least recently used entry; the newest one is never evicted, so what prepare gave is valid
 *     until the next prepare.
 *  2. After run no statement is busy, and no binding points into a message (a stale pointer, and a read transaction
 *     held open: the trap of the naive cached statement).
 *  3. The needs of a statement are those found when it was compiled; whoever asks must have the rights, hit or miss.
 */
#include "conn_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CACHED_SQL_MAX 65536u /* longer texts are compiled each time: they are generated, not repeated */

/* ---- the clock ---- */

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Pages that the connection has written to the log, all its life. A transaction larger than the page cache writes long
 * before its COMMIT. */
static int64_t pages_written(sl_conn *conn) {
    int now = 0, high = 0;
    return sqlite3_db_status(conn->db, SQLITE_DBSTATUS_CACHE_WRITE, &now, &high, 0) == SQLITE_OK ? now : 0;
}

/* Has the request that runs written more than the log may hold? */
static bool is_too_large(sl_conn *conn) {
    if (conn->max_pages == 0 || conn->too_large) return conn->too_large;
    conn->too_large = (uint32_t)(pages_written(conn) - conn->pages_before) > (uint64_t)conn->max_pages;
    return conn->too_large;
}

int sl_progress(void *context) {
    sl_conn *conn = context;
    if (conn->own > 0) return 0;
    if (atomic_load_explicit(&conn->stop, memory_order_acquire) != 0) return 1;
    if (is_too_large(conn)) return 1;
    if (conn->deadline_ns == 0 && conn->alarm_ns == 0) return 0;
    int64_t now = now_ns();
    if (conn->alarm_ns != 0 && now >= conn->alarm_ns) {
        conn->alarm_ns = 0;
        conn->alarm(conn->alarm_context);
    }
    if (conn->deadline_ns == 0 || now < conn->deadline_ns) return 0;
    conn->deadline_hit = true;
    return 1;
}

/* ---- cache ---- */

static uint64_t hash_text(const char *text, size_t size) {
    uint64_t hash = 0x9e3779b97f4a7c15u ^ size;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
        text += 8;
        size -= 8;
    }
    uint64_t word = 0;
    memcpy(&word, text, size);
    hash = (hash ^ word) * 0xc4ceb9fe1a85ec53u;
    return hash ^ (hash >> 29);
}

sluice_err sl_cache_init(sl_conn *conn, uint32_t entries) {
    conn->cache_size = entries != 0 ? entries : 1;
    conn->n_buckets = 16;
    while (conn->n_buckets < conn->cache_size) conn->n_buckets *= 2;
    conn->buckets = calloc(conn->n_buckets, sizeof *conn->buckets);
    return conn->buckets != NULL ? SLUICE_OK : SLUICE_NOMEM;
}

static void free_cached(sl_cached *entry) {
    if (entry == NULL) return;
    sqlite3_finalize(entry->statement.stmt);
    free(entry->sql);
    free(entry);
}

static void unlink_use(sl_conn *conn, sl_cached *entry) {
    *(entry->newer != NULL ? &entry->newer->older : &conn->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &conn->oldest) = entry->newer;
    entry->newer = entry->older = NULL;
}

static void link_newest(sl_conn *conn, sl_cached *entry) {
    entry->newer = NULL;
    entry->older = conn->newest;
    *(conn->newest != NULL ? &conn->newest->newer : &conn->oldest) = entry;
    conn->newest = entry;
}

static void evict_oldest(sl_conn *conn) {
    sl_cached *entry = conn->oldest;
    sl_cached **at = &conn->buckets[entry->hash & (conn->n_buckets - 1)];
    while (*at != entry) at = &(*at)->chain;
    *at = entry->chain;
    unlink_use(conn, entry);
    conn->n_cached--;
    free_cached(entry);
}

/* After a change of the schema: what was found when the others were compiled (triggers, say) may be true no more. */
static void forget_others(sl_conn *conn, const sl_cached *kept) {
    while (conn->oldest != NULL && conn->oldest != kept) evict_oldest(conn);
}

void sl_cache_fini(sl_conn *conn) {
    while (conn->oldest != NULL) evict_oldest(conn);
    free_cached(conn->transient);
    conn->transient = NULL;
    free(conn->buckets);
    conn->buckets = NULL;
}

static sl_cached *find_cached(sl_conn *conn, const char *sql, size_t size, uint64_t hash) {
    sl_cached *entry = conn->buckets[hash & (conn->n_buckets - 1)];
    while (entry != NULL && (entry->hash != hash || entry->size != size || memcmp(entry->sql, sql, size) != 0))
        entry = entry->chain;
    return entry;
}

static void count(_Atomic uint64_t *counter) {
    if (counter != NULL) atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- compile ---- */

/* Skips white space, comments and (with semicolons) semicolons. */
static size_t skip_blank(const char *sql, size_t size, size_t at, bool semicolons) {
    while (at < size) {
        char c = sql[at];
        if (isspace((unsigned char)c) || (semicolons && c == ';')) {
            at++;
        } else if (c == '-' && at + 1 < size && sql[at + 1] == '-') {
            while (at < size && sql[at] != '\n') at++;
        } else if (c == '/' && at + 1 < size && sql[at + 1] == '*') {
            at += 2;
            while (at < size && !(sql[at] == '*' && at + 1 < size && sql[at + 1] == '/')) at++;
            at = at + 2 < size ? at + 2 : size;
        } else {
            break;
        }
    }
    return at;
}

static bool word_at(const char *sql, size_t size, size_t at, const char *word) {
    size_t length = strlen(word);
    return size - at >= length && sqlite3_strnicmp(sql + at, word, (int)length) == 0 &&
           (size - at == length || !isalnum((unsigned char)sql[at + length]));
}

static sluice_err check_text(sl_conn *conn, const char *sql, size_t size, sluice_cause *cause) {
    if (size > conn->max_sql_bytes)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "the SQL text has %zu bytes, the limit is %u; pass values as "
                                "parameters or rows", size, conn->max_sql_bytes);
    const char *nul = memchr(sql, 0, size);
    if (nul != NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "the SQL text holds a NUL at byte %zu; pass it in a parameter",
                                (size_t)(nul - sql));
    if (!sl_utf8_valid(sql, size)) return sluice_cause_set(cause, SLUICE_INVALID, "the SQL text is not valid UTF-8");
    size_t first = skip_blank(sql, size, 0, true);
    if (word_at(sql, size, first, "PRAGMA")) return sluice_cause_set(cause, SLUICE_FORBIDDEN, SL_TEXT_NO_PRAGMA);
    if (first == size)
        return sluice_cause_set(cause, SLUICE_INVALID, "the SQL text holds no statement");
    return SLUICE_OK;
}

static sluice_err syntax_error(sl_conn *conn, const char *sql, int rc, sluice_cause *cause) {
    const char *text = sqlite3_errmsg(conn->db);
    if ((rc & 0xff) != SQLITE_ERROR) return sl_sqlite_cause(cause, conn->db, rc, NULL);
    if (strstr(text, "may not be modified") != NULL && strstr(text, "sqlite_") != NULL)
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s; use CREATE, ALTER and DROP instead", text);
    int offset = sqlite3_error_offset(conn->db);
    if (offset < 0) {
        (void)sluice_cause_set(cause, SLUICE_SYNTAX, "%s", text);
    } else {
        unsigned line = 1;
        int line_start = 0;
        for (int i = 0; i < offset; i++)
            if (sql[i] == '\n') line++, line_start = i + 1;
        (void)sluice_cause_set(cause, SLUICE_SYNTAX, "%s (line %u, column %d)", text, line, offset - line_start + 1);
    }
    if (cause != NULL) cause->sqlite_code = rc;
    return SLUICE_SYNTAX;
}

/* What asked the authorizer for nothing is either DDL that finds nothing to do, or not for clients. */
static sluice_err judge_silent(sl_found *found, const char *sql, size_t size, sluice_cause *cause) {
    static const char *const ddl[] = {"CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE"};
    size_t at = skip_blank(sql, size, 0, true);
    for (size_t i = 0; i < sizeof ddl / sizeof ddl[0]; i++) {
        if (!word_at(sql, size, at, ddl[i])) continue;
        found->needs = SL_RIGHT_DDL;
        return SLUICE_OK;
    }
    if (word_at(sql, size, at, "VACUUM"))
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "VACUUM is not for clients, it would hold the writer for "
                                "long; run it while the store is closed");
    return sluice_cause_set(cause, SLUICE_FORBIDDEN, "this kind of statement is not for clients");
}

/* Lets SQLite read the schema again if another connection has changed it: a step notices, a prepare does not. */
static void refresh_schema(sl_conn *conn) {
    sqlite3_stmt *stmt = NULL;
    conn->own++;
    if (sqlite3_prepare_v2(conn->db, "SELECT 1 FROM sqlite_schema LIMIT 1", -1, &stmt, NULL) == SQLITE_OK)
        (void)sqlite3_step(stmt);
    sqlite3_finalize(stmt);
    conn->own--;
}

static int compile_once(sl_conn *conn, const char *sql, size_t size, sl_cached *entry, const char **tail) {
    unsigned flags = size <= CACHED_SQL_MAX ? SQLITE_PREPARE_PERSISTENT : 0;
    memset(&conn->found, 0, sizeof conn->found);
    conn->denied[0] = '\0';
    conn->compiling = true;
    int rc = sqlite3_prepare_v3(conn->db, sql, (int)size, flags, &entry->statement.stmt, tail);
    conn->compiling = false;
    entry->found = conn->found;
    return rc;
}

static sluice_err compile(sl_conn *conn, const char *sql, size_t size, unsigned rights, sl_cached *entry,
                          sluice_cause *cause) {
    const char *tail = NULL;
    sluice_err err = check_text(conn, sql, size, cause);
    if (err != SLUICE_OK) return err;
    conn->rights = rights;
    int rc = compile_once(conn, sql, size, entry, &tail);
    if (rc == SQLITE_ERROR && conn->denied[0] == '\0') { /* perhaps true of an older schema only */
        refresh_schema(conn);
        rc = compile_once(conn, sql, size, entry, &tail);
    }
    if (conn->denied[0] != '\0') return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s", conn->denied);
    if (rc != SQLITE_OK) return syntax_error(conn, sql, rc, cause);
    if (entry->statement.stmt == NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "the SQL text holds no statement before its first semicolon");
    size_t end = skip_blank(sql, size, (size_t)(tail - sql), true);
    if (end < size)
        return sluice_cause_set(cause, SLUICE_INVALID, "one SQL text holds one statement, a second one begins at byte "
                                "%zu; send several as a batch", end);
    if (entry->found.needs == 0) {
        err = judge_silent(&entry->found, sql, size, cause);
        if (err != SLUICE_OK) return err;
    }
    sqlite3_stmt *stmt = entry->statement.stmt;
    entry->statement.n_params = sqlite3_bind_parameter_count(stmt);
    entry->statement.n_columns = sqlite3_column_count(stmt);
    entry->statement.readonly = sqlite3_stmt_readonly(stmt) != 0;
    if (entry->statement.readonly && entry->found.needs != SL_RIGHT_DDL) {
        /* A virtual table may have compiled SQL of its own meanwhile, and the authorizer cannot tell whose it saw. */
        entry->found = (sl_found){.needs = SL_RIGHT_READ, .uses_last_rowid = entry->found.uses_last_rowid};
    }
    entry->statement.needs = entry->found.needs;
    return SLUICE_OK;
}

static sluice_err admit(const sl_conn *conn, const sl_statement *statement, unsigned rights, sluice_cause *cause) {
    unsigned missing = statement->needs & ~rights;
    if (missing != 0)
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s", missing & SL_RIGHT_DDL ? "changing the schema needs the "
                                "admin right" : missing & SL_RIGHT_WRITE ? "writing needs the write right"
                                                                         : "reading needs the read right");
    if (conn->role == SL_CONN_READER && (!statement->readonly || (statement->needs & SL_RIGHT_DDL) != 0))
        return sluice_cause_set(cause, SLUICE_READ_ONLY, "the statement writes; send it as a write");
    return SLUICE_OK;
}

sluice_err sl_conn_prepare(sl_conn *conn, const void *sql, size_t size, unsigned rights, const sl_statement **out,
                           sluice_cause *cause) {
    *out = NULL;
    if (sql == NULL) sql = "";
    uint64_t hash = hash_text(sql, size);
    sl_cached *entry = size <= CACHED_SQL_MAX ? find_cached(conn, sql, size, hash) : NULL;
    sluice_err err = SLUICE_OK;
    if (entry != NULL) {
        count(conn->hits);
        if (entry != conn->newest) {
            unlink_use(conn, entry);
            link_newest(conn, entry);
        }
        err = admit(conn, &entry->statement, rights, cause);
        if (err == SLUICE_OK) *out = &entry->statement;
        return err;
    }
    count(conn->misses);
    free_cached(conn->transient);
    conn->transient = NULL;
    entry = calloc(1, sizeof *entry);
    if (entry == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    err = compile(conn, sql, size, rights, entry, cause);
    if (err == SLUICE_OK) err = admit(conn, &entry->statement, rights, cause);
    if (err != SLUICE_OK) goto fail;
    if (size > CACHED_SQL_MAX) {
        conn->transient = entry;
    } else {
        entry->sql = malloc(size != 0 ? size : 1);
        if (entry->sql == NULL) {
            err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
            goto fail;
        }
        memcpy(entry->sql, sql, size);
        entry->size = size;
        entry->hash = hash;
        if (conn->n_cached == conn->cache_size) evict_oldest(conn);
        sl_cached **bucket = &conn->buckets[hash & (conn->n_buckets - 1)];
        entry->chain = *bucket;
        *bucket = entry;
        link_newest(conn, entry);
        conn->n_cached++;
    }
    *out = &entry->statement;
    return SLUICE_OK;
fail:
    free_cached(entry);
    return err;
}

/* ---- bind ---- */

static sluice_err bind_value(sl_conn *conn, sqlite3_stmt *stmt, int at, const sluice_value *value,
                             sluice_cause *cause) {
    int rc = SQLITE_OK;
    switch (value->type) {
    case SLUICE_TYPE_NULL: rc = sqlite3_bind_null(stmt, at); break;
    case SLUICE_TYPE_INTEGER: rc = sqlite3_bind_int64(stmt, at, value->integer); break;
    case SLUICE_TYPE_REAL: rc = sqlite3_bind_double(stmt, at, value->real); break;
    case SLUICE_TYPE_TEXT:
        rc = sqlite3_bind_text64(stmt, at, value->data != NULL ? value->data : "", value->size, SQLITE_STATIC,
                                 SQLITE_UTF8);
        break;
    case SLUICE_TYPE_BLOB:
        rc = value->size != 0 ? sqlite3_bind_blob64(stmt, at, value->data, value->size, SQLITE_STATIC)
                              : sqlite3_bind_zeroblob(stmt, at, 0);
        break;
    }
    if (rc == SQLITE_OK) return SLUICE_OK;
    if (rc == SQLITE_TOOBIG)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "parameter %d has %zu bytes, over the limit for one value", at,
                                value->size);
    return sl_sqlite_cause(cause, conn->db, rc, "binding parameters");
}

static sluice_err bind_params(sl_conn *conn, const sl_statement *statement, const Sluice__V1__Statement *in,
                              sluice_cause *cause) {
    if (in->n_params != (size_t)statement->n_params)
        return sluice_cause_set(cause, SLUICE_INVALID, "the statement has %d parameters, %zu values were given",
                                statement->n_params, in->n_params);
    for (size_t i = 0; i < in->n_params; i++) {
        sluice_value value = sl_value_view(in->params[i]);
        if (value.type == SLUICE_TYPE_TEXT && !sl_utf8_valid(value.data, value.size))
            return sluice_cause_set(cause, SLUICE_INVALID, "parameter %zu is text but not valid UTF-8; pass a blob",
                                    i + 1);
        sluice_err err = bind_value(conn, statement->stmt, (int)i + 1, &value, cause);
        if (err != SLUICE_OK) return err;
    }
    return SLUICE_OK;
}

static sluice_err start_rows(sl_conn *conn, const sl_statement *statement, const Sluice__V1__Table *table,
                             sl_table_cursor *cursor, sluice_cause *cause) {
    if (table->n_columns != (size_t)statement->n_params)
        return sluice_cause_set(cause, SLUICE_INVALID, "the statement has %d parameters, the rows have %zu columns",
                                statement->n_params, table->n_columns);
    sluice_err err = sl_table_check(table, cause);
    if (err != SLUICE_OK) return err;
    if (table->n_columns > conn->n_cursor_columns) {
        sl_table_cursor_column *grown = realloc(conn->cursor_columns, table->n_columns * sizeof *grown);
        if (grown == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
        conn->cursor_columns = grown;
        conn->n_cursor_columns = table->n_columns;
    }
    sl_table_cursor_init(cursor, table, conn->cursor_columns);
    return SLUICE_OK;
}

/* ---- run ---- */

typedef struct gathering {
    sl_table_builder *builder;
    int n_columns;
    uint64_t rows;
} gathering;

static sluice_err start_table(sqlite3_stmt *stmt, sl_run *run, gathering *out, sluice_cause *cause) {
    out->n_columns = sqlite3_column_count(stmt);
    out->builder = sl_table_builder_new(run->arena, (size_t)out->n_columns);
    if (out->builder == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    for (int i = 0; i < out->n_columns; i++) {
        const char *name = sqlite3_column_name(stmt, i);
        if (name == NULL || sl_table_builder_name(out->builder, (size_t)i, name, strlen(name)) != SLUICE_OK)
            return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    return SLUICE_OK;
}

static sluice_err gather_row(const sl_conn *conn, sqlite3_stmt *stmt, sl_run *run, gathering *into,
                             sluice_cause *cause) {
    for (int i = 0; i < into->n_columns; i++) {
        sluice_value value = {.type = SLUICE_TYPE_NULL};
        switch (sqlite3_column_type(stmt, i)) {
        case SQLITE_INTEGER:
            value.type = SLUICE_TYPE_INTEGER;
            value.integer = sqlite3_column_int64(stmt, i);
            break;
        case SQLITE_FLOAT:
            value.type = SLUICE_TYPE_REAL;
            value.real = sqlite3_column_double(stmt, i);
            break;
        case SQLITE_TEXT:
            /* column_text copies each text to put a zero byte behind it, which nobody here needs; column_blob gives the
             * bytes as they lie there, which in a UTF-8 database are what is wanted. */
            value.data = conn->utf8 ? sqlite3_column_blob(stmt, i) : (const void *)sqlite3_column_text(stmt, i);
            value.size = (size_t)sqlite3_column_bytes(stmt, i);
            if (value.data == NULL && value.size == 0) value.data = "";
            if (value.data == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
            /* SQLite stores any bytes as text; what is not UTF-8 travels as the blob it is. */
            value.type = sl_utf8_valid(value.data, value.size) ? SLUICE_TYPE_TEXT : SLUICE_TYPE_BLOB;
            break;
        case SQLITE_BLOB:
            value.type = SLUICE_TYPE_BLOB;
            value.data = sqlite3_column_blob(stmt, i);
            value.size = (size_t)sqlite3_column_bytes(stmt, i);
            break;
        default: break;
        }
        sluice_err err = sl_table_builder_add(into->builder, (size_t)i, &value);
        if (err != SLUICE_OK) return sluice_cause_set(cause, err, "the result does not fit into memory");
    }
    into->rows++;
    if (sl_table_builder_bytes(into->builder) > run->max_bytes)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "the result is over %zu bytes; ask for fewer rows (LIMIT)",
                                run->max_bytes);
    return SLUICE_OK;
}

static sluice_err step_error(sl_conn *conn, int rc, sluice_cause *cause) {
    if (rc == SQLITE_INTERRUPT && conn->too_large) {
        sluice_err err = sluice_cause_set(cause, SLUICE_TOO_BIG, "the request writes more than the log may hold "
                                          "(wal_hard_cap_bytes); do it in parts");
        if (cause != NULL) cause->sqlite_code = rc;
        return err;
    }
    if (rc == SQLITE_INTERRUPT) {
        int stop = atomic_load_explicit(&conn->stop, memory_order_acquire);
        if (stop != 0 && !conn->deadline_hit) {
            (void)sluice_cause_set(cause, (sluice_err)stop, "%s", sluice_err_text((sluice_err)stop));
            if (cause != NULL) cause->sqlite_code = rc;
            return (sluice_err)stop;
        }
        (void)sluice_cause_set(cause, SLUICE_INTERRUPTED, "the statement was ended at its deadline");
        if (cause != NULL) cause->sqlite_code = rc;
        return SLUICE_INTERRUPTED;
    }
    sluice_err err = sl_sqlite_cause(cause, conn->db, rc, NULL);
    if (conn->denied[0] != '\0') {
        err = sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s", conn->denied);
        if (cause != NULL) cause->sqlite_code = rc;
    }
    return err;
}

/* Steps from the start to the end and resets. */
static sluice_err step_through(sl_conn *conn, const sl_cached *entry, sl_run *run, gathering *into,
                               sluice_cause *cause) {
    sqlite3_stmt *stmt = entry->statement.stmt;
    sluice_err err = SLUICE_OK;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (into->builder == NULL) err = start_table(stmt, run, into, cause);
        if (err == SLUICE_OK) err = gather_row(conn, stmt, run, into, cause);
        if (err != SLUICE_OK) break;
    }
    if (err == SLUICE_OK && rc != SQLITE_DONE) err = step_error(conn, rc, cause);
    sqlite3_reset(stmt);
    if (err == SLUICE_OK && entry->found.counts_changes) run->changes += (uint64_t)sqlite3_changes64(conn->db);
    return err;
}

static sluice_err run_bound(sl_conn *conn, const sl_cached *entry, const Sluice__V1__Statement *in, sl_run *run,
                            gathering *into, sluice_cause *cause) {
    sluice_err err = SLUICE_OK;
    if (in->rows == NULL) {
        err = bind_params(conn, &entry->statement, in, cause);
        return err == SLUICE_OK ? step_through(conn, entry, run, into, cause) : err;
    }
    if (in->n_params != 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "a statement has either parameters or rows of them, not both");
    sl_table_cursor cursor;
    err = start_rows(conn, &entry->statement, in->rows, &cursor, cause);
    while (err == SLUICE_OK && sl_table_cursor_next(&cursor)) {
        for (size_t i = 0; err == SLUICE_OK && i < cursor.n_columns; i++)
            err = bind_value(conn, entry->statement.stmt, (int)i + 1, &cursor.columns[i].value, cause);
        if (err == SLUICE_OK) err = step_through(conn, entry, run, into, cause);
    }
    return err;
}

/* How many objects of the schema bear the store's prefix. The authorizer is not told of the name that ALTER TABLE
 * gives, and a client's table under it would be out of every client's reach. -1: it could not be found out. */
static int64_t count_own_names(sl_conn *conn) {
    sqlite3_stmt *stmt = NULL;
    int64_t n = -1;
    conn->own++;
    static const char sql[] = "SELECT count(*) FROM sqlite_schema WHERE lower(substr(name, 1, 7)) = 'sluice_'";
    int rc = sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) n = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    conn->own--;
    return n;
}

static sluice_err run_altering(sl_conn *conn, const sl_cached *entry, const Sluice__V1__Statement *in, sl_run *run,
                               gathering *into, sluice_cause *cause) {
    int64_t before = count_own_names(conn);
    sluice_err err = run_bound(conn, entry, in, run, into, cause);
    if (err != SLUICE_OK || (before >= 0 && count_own_names(conn) == before)) return err;
    return sluice_cause_set(cause, SLUICE_FORBIDDEN, "names that begin with sluice_ belong to the store; use another");
}

sluice_err sl_conn_run(sl_conn *conn, const sl_statement *statement, const Sluice__V1__Statement *in, sl_run *run,
                       sluice_cause *cause) {
    const sl_cached *entry = (const sl_cached *)statement;
    gathering into = {0};
    run->changes = 0;
    run->last_rowid = 0;
    run->rows = NULL;
    conn->rights = SL_RIGHT_ALL; /* prepare compared needs and rights; virtual tables may run SQL of their own */
    conn->denied[0] = '\0';
    conn->deadline_ns = run->deadline_ns;
    conn->deadline_hit = conn->too_large = false;
    if (conn->max_pages != 0 && !run->begun) run->pages_before = pages_written(conn);
    run->begun = true;
    conn->pages_before = run->pages_before;

    /* A statement that does not look at the last rowid is run with it at 0, which shows whether it inserted. */
    bool resets_rowid = entry->found.inserts && !entry->found.uses_last_rowid;
    int64_t rowid_before = entry->found.inserts ? sqlite3_last_insert_rowid(conn->db) : 0;
    if (resets_rowid) sqlite3_set_last_insert_rowid(conn->db, 0);

    sluice_err err = entry->found.altering ? run_altering(conn, entry, in, run, &into, cause)
                                           : run_bound(conn, entry, in, run, &into, cause);
    sqlite3_clear_bindings(entry->statement.stmt);
    conn->deadline_ns = 0;

    if (entry->found.inserts) {
        run->last_rowid = run->changes > 0 ? sqlite3_last_insert_rowid(conn->db) : 0;
        if (resets_rowid && sqlite3_last_insert_rowid(conn->db) == 0)
            sqlite3_set_last_insert_rowid(conn->db, rowid_before);
    }
    if ((entry->found.needs & SL_RIGHT_DDL) != 0) forget_others(conn, entry);
    if (err != SLUICE_OK) return err;
    if (into.builder == NULL && sqlite3_column_count(entry->statement.stmt) > 0)
        err = start_table(entry->statement.stmt, run, &into, cause); /* no row: an empty table with its names */
    if (err == SLUICE_OK && into.builder != NULL) {
        size_t bytes = sl_table_builder_bytes(into.builder);
        run->max_bytes = bytes < run->max_bytes ? run->max_bytes - bytes : 0;
        run->rows = sl_table_builder_finish(into.builder, into.rows);
        if (run->rows == NULL) err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    return err;
}
