/* SPDX-License-Identifier: MIT */
/* Procedures: C functions of the embedding service, called by name inside the writer's open transaction.
 *
 * Owning thread: the writer's, but for the table of names, which is under a lock.
 *
 *   call --> found --> fn(tx, params) --+--> OK: changes, rows of the caller
 *              |            | exec, query (each compiled, authorized, stepped to its end, reset: sl_conn_run)
 *              v            v
 *        NO_PROCEDURE   an error: the request that called it undoes everything (request.c)
 *
 * Invariants
 *  1. No statement is busy between two calls of fn's: rows are materialised, so nothing fn forgets stays open.
 *  2. Nothing runs once the transaction is gone: a statement outside it would commit alone.
 *  3. What fn returns becomes a definite no that only the writer could give; a code that means something to the
 *     client's retries (SESSION_EXPIRED, CLOSED, OVERLOADED ...) never comes out of fn's own choice.
 *  4. Memory of rows ends with the call at the latest.
 */
#include "procedure.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port.h"

/* ---- the table of names ---- */

typedef struct entry {
    char name[SL_PROCEDURE_NAME_MAX + 1];
    sluice_procedure_fn fn;
    void *context;
} entry;

struct sl_procedures {
    pthread_mutex_t lock;
    entry *entries; /* by name */
    size_t n, room;
};

sl_procedures *sl_procedures_new(void) {
    sl_procedures *self = calloc(1, sizeof *self);
    if (self != NULL) pthread_mutex_init(&self->lock, NULL);
    return self;
}

void sl_procedures_destroy(sl_procedures **procedures) {
    sl_procedures *self = *procedures;
    if (self == NULL) return;
    *procedures = NULL;
    pthread_mutex_destroy(&self->lock);
    free(self->entries);
    free(self);
}

/* The first entry whose name is not before the one given. */
static size_t place_of(const sl_procedures *self, const char *name) {
    size_t low = 0, high = self->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(self->entries[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static sluice_err insert(sl_procedures *self, const char *name, sluice_procedure_fn fn, void *context) {
    size_t at = place_of(self, name);
    if (at < self->n && strcmp(self->entries[at].name, name) == 0) return SLUICE_EXISTS;
    if (self->n == self->room) {
        size_t room = self->room != 0 ? self->room * 2 : 8;
        entry *grown = realloc(self->entries, room * sizeof *grown);
        if (grown == NULL) return SLUICE_NOMEM;
        self->entries = grown;
        self->room = room;
    }
    memmove(self->entries + at + 1, self->entries + at, (self->n - at) * sizeof *self->entries);
    self->n++;
    self->entries[at] = (entry){.fn = fn, .context = context};
    memcpy(self->entries[at].name, name, strlen(name) + 1);
    return SLUICE_OK;
}

sluice_err sl_procedures_add(sl_procedures *self, const char *name, sluice_procedure_fn fn, void *context) {
    if (name == NULL || fn == NULL || name[0] == '\0' || strlen(name) > SL_PROCEDURE_NAME_MAX ||
        !sl_utf8_valid(name, strlen(name)))
        return SLUICE_INVALID;
    pthread_mutex_lock(&self->lock);
    sluice_err err = insert(self, name, fn, context);
    pthread_mutex_unlock(&self->lock);
    return err;
}

static bool find(sl_procedures *self, const char *name, entry *out) {
    pthread_mutex_lock(&self->lock);
    size_t at = place_of(self, name);
    bool found = at < self->n && strcmp(self->entries[at].name, name) == 0;
    if (found) *out = self->entries[at];
    pthread_mutex_unlock(&self->lock);
    return found;
}

/* ---- rows ---- */

struct sluice_rows {
    sluice_tx *tx;
    sluice_rows *next, *previous; /* of the call */
    sl_arena arena;
    const Sluice__V1__Table *table; /* NULL: the statement had no columns */
    sl_table_cursor cursor;
    sl_table_cursor_column *columns;
    bool on_row;
};

struct sluice_tx {
    sl_conn *conn;
    sl_run *run; /* of the statement that is the call: arena, max_bytes and deadline */
    size_t query_max_bytes;
    pthread_t thread;
    uint64_t changes;
    int64_t last_rowid;
    sluice_rows *rows;
    sl_table_builder *builder; /* of the caller's rows */
    size_t n_columns;
    uint64_t n_rows;
    sluice_cause cause;
    bool said; /* cause comes from sluice_tx_fail */
};

void sluice_rows_destroy(sluice_rows **rows_at) {
    if (rows_at == NULL || *rows_at == NULL) return;
    sluice_rows *rows = *rows_at;
    *rows_at = NULL;
    *(rows->previous != NULL ? &rows->previous->next : &rows->tx->rows) = rows->next;
    if (rows->next != NULL) rows->next->previous = rows->previous;
    sl_arena_fini(&rows->arena);
    free(rows);
}

static sluice_rows *rows_new(sluice_tx *tx) {
    sluice_rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL) return NULL;
    sl_arena_init(&rows->arena, NULL, 0, SIZE_MAX);
    rows->tx = tx;
    rows->next = tx->rows;
    if (rows->next != NULL) rows->next->previous = rows;
    tx->rows = rows;
    return rows;
}

uint64_t sluice_rows_count(const sluice_rows *rows) { return rows->table != NULL ? rows->table->rows : 0; }

size_t sluice_rows_columns(const sluice_rows *rows) { return rows->table != NULL ? rows->table->n_columns : 0; }

bool sluice_rows_next(sluice_rows *rows) {
    rows->on_row = rows->table != NULL && sl_table_cursor_next(&rows->cursor);
    return rows->on_row;
}

static const sluice_value *value_at(const sluice_rows *rows, size_t column) {
    return rows->on_row && column < rows->table->n_columns ? &rows->columns[column].value : NULL;
}

sluice_type sluice_rows_type(const sluice_rows *rows, size_t column) {
    const sluice_value *value = value_at(rows, column);
    return value != NULL ? value->type : SLUICE_TYPE_NULL;
}

int64_t sluice_rows_int64(const sluice_rows *rows, size_t column) { return sl_value_int64(value_at(rows, column)); }

double sluice_rows_double(const sluice_rows *rows, size_t column) { return sl_value_double(value_at(rows, column)); }

const char *sluice_rows_text(const sluice_rows *rows, size_t column, size_t *size) {
    return sl_value_bytes(value_at(rows, column), SLUICE_TYPE_TEXT, size);
}

const void *sluice_rows_blob(const sluice_rows *rows, size_t column, size_t *size) {
    return sl_value_bytes(value_at(rows, column), SLUICE_TYPE_BLOB, size);
}

/* ---- statements of a procedure ---- */

static sluice_err may_run(sluice_tx *tx) {
    if (!pthread_equal(tx->thread, pthread_self()))
        return sluice_cause_set(&tx->cause, SLUICE_INVALID, "a procedure's tx belongs to the thread that called it");
    if (sqlite3_get_autocommit(sl_conn_db(tx->conn)) != 0) /* invariant 2 */
        return sluice_cause_set(&tx->cause, SLUICE_FAILED, "a statement of the procedure ended the transaction");
    if (tx->run->deadline_ns != 0 && sl_now_ns() >= tx->run->deadline_ns)
        return sluice_cause_set(&tx->cause, SLUICE_INTERRUPTED, "the procedure reached its deadline");
    return SLUICE_OK;
}

/* A Value that points where the caller's does: it is bound and unbound before this call returns. */
static sluice_err view_params(sl_arena *arena, const sluice_value *params, size_t n, Sluice__V1__Statement *out) {
    if (n == 0) return SLUICE_OK;
    if (params == NULL || n > 32766) return SLUICE_INVALID;
    Sluice__V1__Value **pointers = sl_arena_alloc(arena, n * sizeof *pointers);
    Sluice__V1__Value *values = sl_arena_alloc(arena, n * sizeof *values);
    if (pointers == NULL || values == NULL) return SLUICE_NOMEM;
    for (size_t i = 0; i < n; i++) {
        sluice_value value = params[i];
        bool bytes = value.type == SLUICE_TYPE_TEXT || value.type == SLUICE_TYPE_BLOB;
        ProtobufCBinaryData data = {value.size, (uint8_t *)(uintptr_t)value.data};
        if (bytes && value.size != 0 && value.data == NULL) return SLUICE_INVALID;
        if (bytes) value.size = 0;
        sluice_err err = sl_value_pack(arena, &value, &values[i]);
        if (err != SLUICE_OK) return err;
        if (value.type == SLUICE_TYPE_TEXT) values[i].text = data;
        if (value.type == SLUICE_TYPE_BLOB) values[i].blob = data;
        pointers[i] = &values[i];
    }
    out->params = pointers;
    out->n_params = n;
    return SLUICE_OK;
}

/* Runs it and builds its rows in `arena`. */
static sluice_err run_sql(sluice_tx *tx, const char *sql, const sluice_value *params, size_t n_params, sl_run *run) {
    const sl_statement *statement = NULL;
    Sluice__V1__Statement in = SLUICE__V1__STATEMENT__INIT;
    sluice_err err = may_run(tx);
    if (err != SLUICE_OK) return err;
    if (sql == NULL) return sluice_cause_set(&tx->cause, SLUICE_INVALID, "no SQL text");
    err = view_params(run->arena, params, n_params, &in);
    if (err != SLUICE_OK) return sluice_cause_set(&tx->cause, err, "parameters: %s", sluice_err_text(err));
    run->max_bytes = tx->query_max_bytes;
    run->deadline_ns = tx->run->deadline_ns;
    run->begun = tx->run->begun; /* what it writes counts with the rest of the request */
    run->pages_before = tx->run->pages_before;
    err = sl_conn_prepare(tx->conn, sql, strlen(sql), SL_RIGHT_ALL, &statement, &tx->cause);
    if (err == SLUICE_OK) err = sl_conn_run(tx->conn, statement, &in, run, &tx->cause);
    tx->run->begun = run->begun;
    tx->run->pages_before = run->pages_before;
    if (err != SLUICE_OK) return err;
    tx->changes += run->changes;
    if (run->last_rowid != 0) tx->last_rowid = run->last_rowid;
    return SLUICE_OK;
}

static void forget_cause(sluice_tx *tx) {
    tx->said = false;
    tx->cause.code = SLUICE_OK;
}

sluice_err sluice_tx_exec(sluice_tx *tx, const char *sql, const sluice_value *params, size_t n_params,
                          uint64_t *changes) {
    sl_arena arena;
    _Alignas(16) char first[1024];
    sl_run run = {.arena = &arena};
    forget_cause(tx);
    sl_arena_init(&arena, first, sizeof first, SIZE_MAX);
    sluice_err err = run_sql(tx, sql, params, n_params, &run);
    sl_arena_fini(&arena);
    if (changes != NULL) *changes = err == SLUICE_OK ? run.changes : 0;
    return err;
}

sluice_err sluice_tx_query(sluice_tx *tx, const char *sql, const sluice_value *params, size_t n_params,
                           sluice_rows **out) {
    *out = NULL;
    forget_cause(tx);
    sluice_rows *rows = rows_new(tx);
    if (rows == NULL) return sluice_cause_set(&tx->cause, SLUICE_NOMEM, "out of memory");
    sl_run run = {.arena = &rows->arena};
    sluice_err err = run_sql(tx, sql, params, n_params, &run);
    if (err == SLUICE_OK && run.rows != NULL) {
        rows->columns = sl_arena_alloc(&rows->arena, run.rows->n_columns * sizeof *rows->columns);
        if (rows->columns == NULL) err = sluice_cause_set(&tx->cause, SLUICE_NOMEM, "out of memory");
    }
    if (err != SLUICE_OK) {
        sluice_rows_destroy(&rows);
        return err;
    }
    rows->table = run.rows;
    if (rows->table != NULL) sl_table_cursor_init(&rows->cursor, rows->table, rows->columns);
    *out = rows;
    return SLUICE_OK;
}

int64_t sluice_tx_last_rowid(const sluice_tx *tx) { return tx->last_rowid; }

/* ---- what it says to its caller ---- */

static bool may_be_said(sluice_err code) {
    switch (code) {
    case SLUICE_FAILED:
    case SLUICE_INVALID:
    case SLUICE_FORBIDDEN:
    case SLUICE_CONSTRAINT:
    case SLUICE_GUARD_FAILED:
    case SLUICE_TOO_BIG:
    case SLUICE_QUOTA:
    case SLUICE_EXISTS: return true;
    default: return false;
    }
}

sluice_err sluice_tx_fail(sluice_tx *tx, sluice_err code, const char *format, ...) {
    char text[SLUICE_CAUSE_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sl_utf8_clean(text, strlen(text));
    tx->said = true;
    return sluice_cause_set(&tx->cause, may_be_said(code) ? code : SLUICE_FAILED, "%s", text);
}

const sluice_cause *sluice_tx_cause(const sluice_tx *tx) { return &tx->cause; }

sluice_err sluice_tx_columns(sluice_tx *tx, const char *const *names, size_t n_columns) {
    forget_cause(tx);
    if (tx->builder != NULL || n_columns == 0 || names == NULL)
        return sluice_cause_set(&tx->cause, SLUICE_INVALID, "columns are named once, before the first row");
    tx->builder = sl_table_builder_new(tx->run->arena, n_columns);
    if (tx->builder == NULL) return sluice_cause_set(&tx->cause, SLUICE_NOMEM, "out of memory");
    tx->n_columns = n_columns;
    for (size_t i = 0; i < n_columns; i++)
        if (sl_table_builder_name(tx->builder, i, names[i], strlen(names[i])) != SLUICE_OK)
            return sluice_cause_set(&tx->cause, SLUICE_NOMEM, "out of memory");
    return SLUICE_OK;
}

sluice_err sluice_tx_row(sluice_tx *tx, const sluice_value *row, size_t n_columns) {
    forget_cause(tx);
    if (tx->builder == NULL || n_columns != tx->n_columns || row == NULL)
        return sluice_cause_set(&tx->cause, SLUICE_INVALID, "a row has as many values as there are named columns");
    for (size_t i = 0; i < n_columns; i++) {
        bool text = row[i].type == SLUICE_TYPE_TEXT, bytes = text || row[i].type == SLUICE_TYPE_BLOB;
        if ((unsigned)row[i].type > SLUICE_TYPE_BLOB || (bytes && row[i].size != 0 && row[i].data == NULL) ||
            (text && !sl_utf8_valid(row[i].data, row[i].size)))
            return sluice_cause_set(&tx->cause, SLUICE_INVALID, "value %zu of the row is not valid", i + 1);
    }
    for (size_t i = 0; i < n_columns; i++) {
        sluice_err err = sl_table_builder_add(tx->builder, i, &row[i]);
        if (err == SLUICE_OK) continue;
        tx->builder = NULL; /* the columns differ in length now */
        return sluice_cause_set(&tx->cause, err, "the row does not fit into memory");
    }
    tx->n_rows++;
    if (sl_table_builder_bytes(tx->builder) <= tx->run->max_bytes) return SLUICE_OK;
    return sluice_cause_set(&tx->cause, SLUICE_TOO_BIG, "the result is over %zu bytes", tx->run->max_bytes);
}

/* ---- the call ---- */

/* Texts get a NUL behind them, since whoever writes a procedure will pass one to a function that needs it. */
static sluice_err copy_params(sl_arena *arena, const Sluice__V1__Statement *in, const sluice_value **out,
                              sluice_cause *cause) {
    sluice_value *values = sl_arena_alloc(arena, in->n_params * sizeof *values);
    *out = values;
    if (values == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    for (size_t i = 0; i < in->n_params; i++) {
        values[i] = sl_value_view(in->params[i]);
        if (values[i].type == SLUICE_TYPE_TEXT && !sl_utf8_valid(values[i].data, values[i].size))
            return sluice_cause_set(cause, SLUICE_INVALID, "parameter %zu is text but not valid UTF-8; pass a blob",
                                    i + 1);
        if (values[i].type != SLUICE_TYPE_TEXT) continue;
        char *text = sl_arena_alloc(arena, values[i].size + 1);
        if (text == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
        if (values[i].size != 0) memcpy(text, values[i].data, values[i].size);
        text[values[i].size] = '\0';
        values[i].data = text;
    }
    return SLUICE_OK;
}

/* The end of fn: what it returned, as the request may say it (invariant 3). */
static sluice_err conclude(sluice_tx *tx, sluice_err returned, sluice_cause *cause) {
    if (returned == SLUICE_OK) {
        if (sqlite3_get_autocommit(sl_conn_db(tx->conn)) == 0) return SLUICE_OK;
        return sluice_cause_set(cause, SLUICE_FAILED, "a statement of the procedure ended the transaction");
    }
    if (tx->cause.code == returned) {
        *cause = tx->cause;
        return returned;
    }
    sluice_err code = may_be_said(returned) ? returned : SLUICE_FAILED;
    return sluice_cause_set(cause, code, "%s", tx->said ? tx->cause.text : sluice_err_text(code));
}

static sluice_err finish_rows(sluice_tx *tx, sl_run *run, sluice_cause *cause) {
    run->changes = tx->changes;
    run->last_rowid = tx->last_rowid;
    if (tx->n_columns == 0) return SLUICE_OK;
    if (tx->builder == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "the procedure's rows are incomplete");
    size_t bytes = sl_table_builder_bytes(tx->builder);
    if (bytes > run->max_bytes)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "the result is over %zu bytes", run->max_bytes);
    run->max_bytes -= bytes;
    run->rows = sl_table_builder_finish(tx->builder, tx->n_rows);
    return run->rows != NULL ? SLUICE_OK : sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
}

sluice_err sl_procedure_run(sl_procedures *procedures, sl_conn *conn, size_t query_max_bytes,
                            const Sluice__V1__Statement *in, sl_run *run, sluice_cause *cause) {
    entry found;
    const sluice_value *params = NULL;
    run->changes = 0;
    run->last_rowid = 0;
    run->rows = NULL;
    if (!find(procedures, in->procedure, &found))
        return sluice_cause_set(cause, SLUICE_NO_PROCEDURE, "no procedure \"%.63s\" is registered", in->procedure);
    if (in->rows != NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "a procedure takes parameters, not rows of them");
    sluice_err err = copy_params(run->arena, in, &params, cause);
    if (err != SLUICE_OK) return err;
    sluice_tx tx = {.conn = conn, .run = run, .query_max_bytes = query_max_bytes, .thread = pthread_self()};
    tx.cause.statement = -1;
    err = conclude(&tx, found.fn(&tx, params, in->n_params, found.context), cause);
    while (tx.rows != NULL) { /* invariant 4 */
        sluice_rows *rows = tx.rows;
        sluice_rows_destroy(&rows);
    }
    if (err == SLUICE_OK) err = finish_rows(&tx, run, cause);
    if (err != SLUICE_OK) (void)sluice_cause_wrap(cause, found.name);
    return err;
}
