/* SPDX-License-Identifier: MIT */
/* Results: a reply message, looked at through accessors in the manner of sqlite3_column_*.
 *
 * The result object lives in its reply's arena, so a result costs no allocation of its own. A reply that came by wire
 * is checked once, here; after that the cursor trusts it.
 */
#include "internal.h"

#include <string.h>

struct sluice_result {
    sluice_msg *msg;
    sl_pool *pool;
    uint64_t commit_number;
    bool replayed;
    bool on_row;
    size_t n_statements;
    Sluice__V1__StatementResult **statements;
    size_t selected;
    const Sluice__V1__Table *table; /* of the selected statement; NULL: no columns */
    sl_table_cursor cursor;
    sl_table_cursor_column *columns;
    size_t columns_room;
    char **names; /* NUL-terminated copies, made when asked for; n_columns of the selected */
};

static sluice_err view_body(sluice_result *result, sl_flight_kind kind, sluice_cause *cause) {
    const sluice_msg *msg = result->msg;
    if (kind != SL_FLIGHT_READ && msg->type == &sluice__v1__write_reply__descriptor) {
        const Sluice__V1__WriteReply *body = (const Sluice__V1__WriteReply *)msg->body;
        result->commit_number = body->commit_number;
        result->replayed = body->replayed;
        result->n_statements = body->n_results;
        result->statements = body->results;
        return SLUICE_OK;
    }
    if (kind == SL_FLIGHT_READ && msg->type == &sluice__v1__query_reply__descriptor) {
        const Sluice__V1__QueryReply *body = (const Sluice__V1__QueryReply *)msg->body;
        result->commit_number = body->commit_number;
        result->n_statements = body->n_results;
        result->statements = body->results;
        return SLUICE_OK;
    }
    return sluice_cause_set(cause, SLUICE_INVALID, "the server answered with a %.80s",
                            msg->type != NULL ? msg->type->name : "message of no type");
}

static sluice_err check_tables(const sluice_result *result, sluice_cause *cause) {
    for (size_t i = 0; i < result->n_statements; i++) {
        const Sluice__V1__Table *table = result->statements[i]->rows;
        if (table == NULL) continue;
        if (table->n_columns == 0 && table->rows != 0)
            return sluice_cause_set(cause, SLUICE_INVALID, "the server's reply has rows without columns");
        sluice_err err = sl_table_check(table, cause);
        if (err != SLUICE_OK) {
            sluice_cause_wrap(cause, "the server's reply");
            return err;
        }
    }
    return SLUICE_OK;
}

/* Room for the cursor over the widest table, so that selecting never fails. */
static sluice_err make_room(sluice_result *result) {
    for (size_t i = 0; i < result->n_statements; i++) {
        const Sluice__V1__Table *table = result->statements[i]->rows;
        if (table != NULL && table->n_columns > result->columns_room) result->columns_room = table->n_columns;
    }
    if (result->columns_room == 0) return SLUICE_OK;
    result->columns = sl_arena_alloc(&result->msg->arena, result->columns_room * sizeof *result->columns);
    return result->columns != NULL ? SLUICE_OK : SLUICE_NOMEM;
}

sluice_err sl_result_new(sl_pool *pool, sl_flight_kind kind, bool check, sluice_msg **reply, sluice_result **out,
                         sluice_cause *cause) {
    *out = NULL;
    sl_arena *arena = &(*reply)->arena;
    arena->budget = SIZE_MAX; /* what follows is ours, not the peer's */
    sluice_result *result = sl_arena_alloc(arena, sizeof *result);
    sluice_err err = SLUICE_NOMEM;
    if (result == NULL) goto fail;
    memset(result, 0, sizeof *result);
    result->msg = *reply;
    err = view_body(result, kind, cause);
    if (err == SLUICE_OK && check) err = check_tables(result, cause);
    if (err != SLUICE_OK) goto fail;
    err = make_room(result);
    if (err != SLUICE_OK) goto fail;
    result->pool = sl_pool_hold(pool);
    *reply = NULL;
    sluice_result_select(result, 0);
    *out = result;
    return SLUICE_OK;
fail:
    if (err == SLUICE_NOMEM) sluice_cause_set(cause, err, "out of memory for a result");
    sl_pool_give(pool, reply);
    return err;
}

void sluice_result_destroy(sluice_result **result) {
    if (result == NULL || *result == NULL) return;
    sluice_msg *msg = (*result)->msg;
    sl_pool *pool = (*result)->pool;
    *result = NULL;
    sl_pool_give(pool, &msg); /* and the result with it */
    sl_pool_drop(&pool);
}

/* ---- statements ---- */

size_t sluice_result_statements(const sluice_result *result) { return result->n_statements; }

void sluice_result_select(sluice_result *result, size_t statement) {
    result->selected = statement;
    result->on_row = false;
    result->names = NULL;
    result->table = statement < result->n_statements ? result->statements[statement]->rows : NULL;
    if (result->table != NULL) sl_table_cursor_init(&result->cursor, result->table, result->columns);
}

static const Sluice__V1__StatementResult *selected(const sluice_result *result) {
    return result->selected < result->n_statements ? result->statements[result->selected] : NULL;
}

uint64_t sluice_result_changes(const sluice_result *result) {
    const Sluice__V1__StatementResult *statement = selected(result);
    return statement != NULL ? statement->changes : 0;
}

int64_t sluice_result_last_rowid(const sluice_result *result) {
    const Sluice__V1__StatementResult *statement = selected(result);
    return statement != NULL ? statement->last_rowid : 0;
}

uint64_t sluice_result_commit_number(const sluice_result *result) { return result->commit_number; }

bool sluice_result_replayed(const sluice_result *result) { return result->replayed; }

/* ---- rows ---- */

uint64_t sluice_result_rows(const sluice_result *result) { return result->table != NULL ? result->table->rows : 0; }

size_t sluice_result_columns(const sluice_result *result) {
    return result->table != NULL ? result->table->n_columns : 0;
}

const char *sluice_result_column_name(const sluice_result *result, size_t column) {
    if (result->table == NULL || column >= result->table->n_columns) return NULL;
    sluice_result *self = (sluice_result *)(uintptr_t)result; /* a cache: what can be seen does not change */
    sl_arena *arena = &self->msg->arena;
    if (self->names == NULL) {
        self->names = sl_arena_alloc(arena, result->table->n_columns * sizeof *self->names);
        if (self->names == NULL) return NULL;
        memset(self->names, 0, result->table->n_columns * sizeof *self->names);
    }
    if (self->names[column] == NULL) {
        const ProtobufCBinaryData *name = &result->table->columns[column]->name;
        char *copy = sl_arena_alloc(arena, name->len + 1);
        if (copy == NULL) return NULL;
        if (name->len != 0) memcpy(copy, name->data, name->len);
        copy[name->len] = '\0';
        self->names[column] = copy;
    }
    return self->names[column];
}

bool sluice_result_next(sluice_result *result) {
    result->on_row = result->table != NULL && sl_table_cursor_next(&result->cursor);
    return result->on_row;
}

/* NULL where there is no row or no such column. */
static const sluice_value *value_at(const sluice_result *result, size_t column) {
    return result->on_row && column < result->table->n_columns ? &result->columns[column].value : NULL;
}

sluice_type sluice_result_type(const sluice_result *result, size_t column) {
    const sluice_value *value = value_at(result, column);
    return value != NULL ? value->type : SLUICE_TYPE_NULL;
}

int64_t sluice_result_int64(const sluice_result *result, size_t column) {
    return sl_value_int64(value_at(result, column));
}

double sluice_result_double(const sluice_result *result, size_t column) {
    return sl_value_double(value_at(result, column));
}

const char *sluice_result_text(const sluice_result *result, size_t column, size_t *size) {
    return sl_value_bytes(value_at(result, column), SLUICE_TYPE_TEXT, size);
}

const void *sluice_result_blob(const sluice_result *result, size_t column, size_t *size) {
    return sl_value_bytes(value_at(result, column), SLUICE_TYPE_BLOB, size);
}
