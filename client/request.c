/* SPDX-License-Identifier: MIT */
/* Requests: a WriteRequest or QueryRequest grown statement by statement in its message's own arena. */
#include "internal.h"

#include <string.h>

/* What a parameter and a statement cost beside their bytes, for the size limit. */
enum { VALUE_OVERHEAD = 12, STATEMENT_OVERHEAD = 16 };

typedef struct statements_view {
    Sluice__V1__Statement ***at;
    size_t *n;
} statements_view;

static statements_view statements_of(const sluice_request *request) {
    if (request->kind == SLUICE_WRITE) {
        Sluice__V1__WriteRequest *body = (Sluice__V1__WriteRequest *)request->msg->body;
        return (statements_view){&body->statements, &body->n_statements};
    }
    Sluice__V1__QueryRequest *body = (Sluice__V1__QueryRequest *)request->msg->body;
    return (statements_view){&body->statements, &body->n_statements};
}

static Sluice__V1__Statement *latest(const sluice_request *request) {
    statements_view view = statements_of(request);
    return *view.n != 0 ? (*view.at)[*view.n - 1] : NULL;
}

static const ProtobufCMessageDescriptor *type_of(sluice_request_kind kind) {
    return kind == SLUICE_WRITE ? &sluice__v1__write_request__descriptor : &sluice__v1__query_request__descriptor;
}

sluice_err sluice_request_new(sluice_client *client, sluice_request_kind kind, sluice_request **out) {
    *out = NULL;
    if (kind != SLUICE_WRITE && kind != SLUICE_READ) return SLUICE_INVALID;
    sluice_request *request = sl_pool_take_request(client->pool);
    if (request == NULL) return SLUICE_NOMEM;
    request->pool = sl_pool_hold(client->pool);
    request->kind = kind;
    request->max_bytes = client->max_message_bytes;
    request->msg = sl_pool_take(client->pool, type_of(kind));
    if (request->msg == NULL) {
        sluice_request_destroy(&request);
        return SLUICE_NOMEM;
    }
    *out = request;
    return SLUICE_OK;
}

void sluice_request_destroy(sluice_request **request) {
    if (request == NULL || *request == NULL) return;
    sl_pool *pool = (*request)->pool;
    /* Nobody can ask for this id again. */
    if ((*request)->unknown && (*request)->session == pool->session)
        sl_sequences_settle(&pool->sequences, (*request)->sequence);
    sl_pool_give(pool, &(*request)->msg);
    sl_pool_give_request(pool, request);
    sl_pool_drop(&pool);
}

/* ---- building ---- */

static sluice_err grow_statements(sluice_request *request, statements_view view) {
    if (*view.n < request->room) return SLUICE_OK;
    size_t room = request->room != 0 ? request->room * 2 : 4;
    Sluice__V1__Statement **at =
        sl_arena_grow(&request->msg->arena, *view.at, request->room * sizeof *at, room * sizeof *at);
    if (at == NULL) return SLUICE_NOMEM;
    *view.at = at;
    request->room = room;
    return SLUICE_OK;
}

/* One block for the pointers and the values, whatever their number. */
static sluice_err pack_params(sl_arena *arena, const sluice_value *params, size_t n, Sluice__V1__Statement *out) {
    if (n == 0) return SLUICE_OK;
    if (n > SIZE_MAX / (sizeof(Sluice__V1__Value) + sizeof(Sluice__V1__Value *))) return SLUICE_TOO_BIG;
    Sluice__V1__Value **pointers = sl_arena_alloc(arena, n * sizeof *pointers);
    Sluice__V1__Value *values = sl_arena_alloc(arena, n * sizeof *values);
    if (pointers == NULL || values == NULL) return SLUICE_NOMEM;
    for (size_t i = 0; i < n; i++) {
        sluice__v1__value__init(&values[i]);
        sluice_err err = sl_value_pack(arena, &params[i], &values[i]);
        if (err != SLUICE_OK) return err;
        pointers[i] = &values[i];
    }
    out->params = pointers;
    out->n_params = n;
    return SLUICE_OK;
}

static size_t bytes_of(const sluice_value *values, size_t n) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += VALUE_OVERHEAD;
        if (values[i].type == SLUICE_TYPE_TEXT || values[i].type == SLUICE_TYPE_BLOB) {
            if (values[i].size > SIZE_MAX / 2 - bytes) return SIZE_MAX / 2;
            bytes += values[i].size;
        }
    }
    return bytes;
}

static bool values_are_valid(const sluice_value *values, size_t n) {
    if (n != 0 && values == NULL) return false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned)values[i].type > SLUICE_TYPE_BLOB) return false;
        bool has_data = values[i].type == SLUICE_TYPE_TEXT || values[i].type == SLUICE_TYPE_BLOB;
        if (has_data && values[i].size != 0 && values[i].data == NULL) return false;
    }
    return true;
}

static bool fits(const sluice_request *request, size_t more) {
    return more <= request->max_bytes && request->bytes <= request->max_bytes - more;
}

sluice_err sl_request_finish(sluice_request *request) {
    if (request->rows == NULL) return SLUICE_OK;
    Sluice__V1__Table *table = sl_table_builder_finish(request->rows, request->n_rows);
    if (table == NULL) return SLUICE_NOMEM;
    latest(request)->rows = table;
    request->rows = NULL;
    return SLUICE_OK;
}

/* Adds a statement with its parameters; what it is remains to be said. text_size: of that. */
static sluice_err add(sluice_request *request, size_t text_size, const sluice_value *params, size_t n_params,
                      Sluice__V1__Statement **out) {
    if (!values_are_valid(params, n_params)) return SLUICE_INVALID;
    size_t bytes = bytes_of(params, n_params);
    if (text_size > SIZE_MAX / 4 || !fits(request, bytes + text_size + STATEMENT_OVERHEAD)) return SLUICE_TOO_BIG;
    sluice_err err = grow_statements(request, statements_of(request));
    if (err != SLUICE_OK) return err;
    Sluice__V1__Statement *statement = sl_arena_alloc(&request->msg->arena, sizeof *statement);
    if (statement == NULL) return SLUICE_NOMEM;
    sluice__v1__statement__init(statement);
    err = pack_params(&request->msg->arena, params, n_params, statement);
    *out = statement;
    return err;
}

static void append(sluice_request *request, Sluice__V1__Statement *statement, size_t text_size,
                   const sluice_value *params, size_t n_params) {
    statements_view view = statements_of(request);
    (*view.at)[(*view.n)++] = statement;
    request->bytes += bytes_of(params, n_params) + text_size + STATEMENT_OVERHEAD;
}

sluice_err sl_request_add_statement(sluice_request *request, const void *sql, size_t sql_size,
                                    const sluice_value *params, size_t n_params) {
    Sluice__V1__Statement *statement = NULL;
    if (sql == NULL && sql_size != 0) return SLUICE_INVALID;
    sluice_err err = add(request, sql_size, params, n_params, &statement);
    if (err != SLUICE_OK) return err;
    statement->what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement->sql.len = sql_size;
    statement->sql.data = sl_arena_memdup(&request->msg->arena, sql, sql_size);
    if (statement->sql.data == NULL) return SLUICE_NOMEM;
    append(request, statement, sql_size, params, n_params);
    return SLUICE_OK;
}

sluice_err sl_request_add_call(sluice_request *request, const char *name, const sluice_value *params,
                               size_t n_params) {
    Sluice__V1__Statement *statement = NULL;
    if (name == NULL || name[0] == '\0' || !sl_utf8_valid(name, strlen(name))) return SLUICE_INVALID;
    size_t size = strlen(name);
    sluice_err err = add(request, size, params, n_params, &statement);
    if (err != SLUICE_OK) return err;
    statement->what_case = SLUICE__V1__STATEMENT__WHAT_PROCEDURE;
    statement->procedure = sl_arena_memdup(&request->msg->arena, name, size + 1);
    if (statement->procedure == NULL) return SLUICE_NOMEM;
    append(request, statement, size, params, n_params);
    return SLUICE_OK;
}

sluice_err sluice_request_add_n(sluice_request *request, const char *sql, size_t sql_size, const sluice_value *params,
                                size_t n_params) {
    if (request->frozen) return SLUICE_INVALID;
    sluice_err err = sl_request_finish(request);
    if (err != SLUICE_OK) return err;
    return sl_request_add_statement(request, sql, sql_size, params, n_params);
}

sluice_err sluice_request_add(sluice_request *request, const char *sql, const sluice_value *params, size_t n_params) {
    if (sql == NULL) return SLUICE_INVALID;
    return sluice_request_add_n(request, sql, strlen(sql), params, n_params);
}

sluice_err sluice_request_call(sluice_request *request, const char *name, const sluice_value *params,
                               size_t n_params) {
    if (request->frozen || request->kind != SLUICE_WRITE) return SLUICE_INVALID;
    sluice_err err = sl_request_finish(request);
    return err == SLUICE_OK ? sl_request_add_call(request, name, params, n_params) : err;
}

sluice_err sluice_request_expect(sluice_request *request, uint64_t n_changes) {
    Sluice__V1__Statement *statement = latest(request);
    if (request->frozen || request->kind != SLUICE_WRITE || statement == NULL) return SLUICE_INVALID;
    statement->guard_case = SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES;
    statement->expect_changes = n_changes;
    return SLUICE_OK;
}

static sluice_err start_rows(sluice_request *request, size_t n_columns) {
    Sluice__V1__Statement *statement = latest(request);
    if (statement == NULL || statement->n_params != 0 || n_columns == 0) return SLUICE_INVALID;
    if (statement->what_case == SLUICE__V1__STATEMENT__WHAT_PROCEDURE) return SLUICE_INVALID;
    request->rows = sl_table_builder_new(&request->msg->arena, n_columns);
    if (request->rows == NULL) return SLUICE_NOMEM;
    request->n_columns = n_columns;
    request->n_rows = 0;
    return SLUICE_OK;
}

sluice_err sluice_request_row(sluice_request *request, const sluice_value *row, size_t n_columns) {
    if (request->frozen || request->kind != SLUICE_WRITE || !values_are_valid(row, n_columns)) return SLUICE_INVALID;
    if (request->broken) return SLUICE_NOMEM;
    size_t bytes = bytes_of(row, n_columns);
    if (!fits(request, bytes)) return SLUICE_TOO_BIG;
    if (request->rows == NULL) {
        sluice_err err = start_rows(request, n_columns);
        if (err != SLUICE_OK) return err;
    }
    if (n_columns != request->n_columns) return SLUICE_INVALID;
    for (size_t i = 0; i < n_columns; i++) {
        sluice_err err = sl_table_builder_add(request->rows, i, &row[i]);
        if (err != SLUICE_OK) {
            request->broken = true; /* the columns differ in length now: this request can never be sent */
            return err;
        }
    }
    request->n_rows++;
    request->bytes += bytes;
    return SLUICE_OK;
}

/* ---- copying ---- */

static bool copy_bytes(sl_arena *arena, const ProtobufCBinaryData *from, ProtobufCBinaryData *to) {
    to->len = from->len;
    to->data = sl_arena_memdup(arena, from->data, from->len);
    return to->data != NULL;
}

static bool copy_params(sl_arena *arena, const Sluice__V1__Statement *from, Sluice__V1__Statement *to) {
    Sluice__V1__Value **pointers = sl_arena_alloc(arena, from->n_params * sizeof *pointers);
    Sluice__V1__Value *values = sl_arena_alloc(arena, from->n_params * sizeof *values);
    if (pointers == NULL || values == NULL) return false;
    for (size_t i = 0; i < from->n_params; i++) {
        values[i] = *from->params[i];
        pointers[i] = &values[i];
        bool copied = true;
        if (values[i].kind_case == SLUICE__V1__VALUE__KIND_TEXT)
            copied = copy_bytes(arena, &from->params[i]->text, &values[i].text);
        else if (values[i].kind_case == SLUICE__V1__VALUE__KIND_BLOB)
            copied = copy_bytes(arena, &from->params[i]->blob, &values[i].blob);
        if (!copied) return false;
    }
    to->params = pointers;
    return true;
}

static bool copy_column(sl_arena *arena, const Sluice__V1__Column *from, Sluice__V1__Column *to) {
    *to = *from;
    if (from->n_integers != 0) {
        to->integers = sl_arena_memdup(arena, from->integers, from->n_integers * sizeof *from->integers);
        if (to->integers == NULL) return false;
    }
    if (from->n_reals != 0) {
        to->reals = sl_arena_memdup(arena, from->reals, from->n_reals * sizeof *from->reals);
        if (to->reals == NULL) return false;
    }
    if (from->n_lengths != 0) {
        to->lengths = sl_arena_memdup(arena, from->lengths, from->n_lengths * sizeof *from->lengths);
        if (to->lengths == NULL) return false;
    }
    return copy_bytes(arena, &from->name, &to->name) && copy_bytes(arena, &from->types, &to->types) &&
           copy_bytes(arena, &from->data, &to->data);
}

static Sluice__V1__Table *copy_table(sl_arena *arena, const Sluice__V1__Table *from) {
    Sluice__V1__Table *to = sl_arena_memdup(arena, from, sizeof *from);
    if (to == NULL) return NULL;
    to->columns = sl_arena_alloc(arena, from->n_columns * sizeof *to->columns);
    Sluice__V1__Column *columns = sl_arena_alloc(arena, from->n_columns * sizeof *columns);
    if (to->columns == NULL || columns == NULL) return NULL;
    for (size_t i = 0; i < from->n_columns; i++) {
        to->columns[i] = &columns[i];
        if (!copy_column(arena, from->columns[i], &columns[i])) return NULL;
    }
    return to;
}

static bool copy_statement(sl_arena *arena, const Sluice__V1__Statement *from, Sluice__V1__Statement *to) {
    *to = *from;
    if (from->what_case == SLUICE__V1__STATEMENT__WHAT_PROCEDURE) {
        to->procedure = sl_arena_memdup(arena, from->procedure, strlen(from->procedure) + 1);
        if (to->procedure == NULL) return false;
    } else if (!copy_bytes(arena, &from->sql, &to->sql)) {
        return false;
    }
    if (from->n_params != 0 && !copy_params(arena, from, to)) return false;
    if (from->rows != NULL) {
        to->rows = copy_table(arena, from->rows);
        if (to->rows == NULL) return false;
    }
    return true;
}

static sluice_msg *copy_end(const sluice_request *request) {
    sluice_msg *msg = sl_pool_take(request->pool, &sluice__v1__transaction_end__descriptor);
    if (msg == NULL) return NULL;
    const Sluice__V1__TransactionEnd *from = (const Sluice__V1__TransactionEnd *)request->msg->body;
    Sluice__V1__TransactionEnd *to = (Sluice__V1__TransactionEnd *)msg->body;
    to->transaction = from->transaction;
    to->commit = from->commit;
    to->receipt = from->receipt;
    return msg;
}

sluice_msg *sl_request_copy(const sluice_request *request) {
    if (request->msg->type == &sluice__v1__transaction_end__descriptor) return copy_end(request);
    sluice_msg *msg = sl_pool_take(request->pool, type_of(request->kind));
    if (msg == NULL) return NULL;
    sluice_request copy = {.kind = request->kind, .msg = msg};
    statements_view from = statements_of(request), to = statements_of(&copy);
    if (request->kind == SLUICE_WRITE) {
        const Sluice__V1__WriteRequest *body = (const Sluice__V1__WriteRequest *)request->msg->body;
        ((Sluice__V1__WriteRequest *)msg->body)->receipt = body->receipt;
        ((Sluice__V1__WriteRequest *)msg->body)->transaction = body->transaction;
    } else {
        const Sluice__V1__QueryRequest *body = (const Sluice__V1__QueryRequest *)request->msg->body;
        ((Sluice__V1__QueryRequest *)msg->body)->max_bytes = body->max_bytes;
    }
    *to.at = sl_arena_alloc(&msg->arena, *from.n * sizeof **to.at);
    Sluice__V1__Statement *statements = sl_arena_alloc(&msg->arena, *from.n * sizeof *statements);
    bool copied = *to.at != NULL && statements != NULL;
    for (size_t i = 0; copied && i < *from.n; i++) {
        (*to.at)[i] = &statements[i];
        copied = copy_statement(&msg->arena, (*from.at)[i], &statements[i]);
    }
    *to.n = *from.n;
    if (!copied) sl_pool_give(request->pool, &msg);
    return msg;
}
