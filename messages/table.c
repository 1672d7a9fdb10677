/* SPDX-License-Identifier: MIT */
/* Tables: the builder, the check and the cursor of the columnar sluice.v1.Table.
 *
 * The builder grows each list of each column in the arena, doubling; a list of SL_ARENA_BIG bytes or more has a block
 * of its own there and grows in place. finish hands the lists over without a copy.
 */
#include "table.h"

#include <assert.h>
#include <string.h>

/* ---- build ---- */

/* One growing array. */
typedef struct value_list {
    void *at;
    size_t used, room; /* bytes */
} value_list;

typedef struct open_column {
    value_list types, integers, reals, lengths, data;
    uint64_t rows;
    sluice_type type; /* of every row so far, while types is empty */
    ProtobufCBinaryData name;
} open_column;

struct sl_table_builder {
    sl_arena *arena;
    size_t n_columns;
    size_t bytes;
    open_column columns[];
};

sl_table_builder *sl_table_builder_new(sl_arena *arena, size_t n_columns) {
    if (n_columns > UINT32_MAX) return NULL;
    size_t size = sizeof(sl_table_builder) + n_columns * sizeof(open_column);
    sl_table_builder *builder = sl_arena_alloc(arena, size);
    if (builder == NULL) return NULL;
    memset(builder, 0, size);
    builder->arena = arena;
    builder->n_columns = n_columns;
    return builder;
}

sluice_err sl_table_builder_name(sl_table_builder *builder, size_t index, const char *name, size_t size) {
    assert(index < builder->n_columns);
    ProtobufCBinaryData *out = &builder->columns[index].name;
    out->len = 0;
    out->data = sl_arena_memdup(builder->arena, name, size);
    if (out->data == NULL) return SLUICE_NOMEM;
    out->len = size;
    builder->bytes += size;
    return SLUICE_OK;
}

/* Makes room for `more` bytes and returns where they go, NULL if there is no memory. */
static void *list_extend_slow(sl_arena *arena, value_list *list, size_t more) {
    size_t room = list->room < 64 ? 64 : list->room;
    while (room - list->used < more) {
        if (room > SIZE_MAX / 4) return NULL;
        room *= 2;
    }
    void *at = sl_arena_grow(arena, list->at, list->room, room);
    if (at == NULL) {
        /* Doubling is a convenience; what is needed now may still fit the budget. */
        room = list->used + more;
        at = sl_arena_grow(arena, list->at, list->room, room);
        if (at == NULL) return NULL;
    }
    list->at = at;
    list->room = room;
    return (char *)at + list->used;
}

static inline void *list_extend(sl_arena *arena, value_list *list, size_t more) {
    void *out = list->room - list->used >= more ? (char *)list->at + list->used
                                                : list_extend_slow(arena, list, more);
    if (out != NULL) list->used += more;
    return out;
}

/* The column is no longer uniform, or holds a NULL: list the type of every row so far. */
static sluice_err types_begin(sl_arena *arena, open_column *column) {
    if (column->rows == 0) return SLUICE_OK;
    void *at = list_extend(arena, &column->types, (size_t)column->rows);
    if (at == NULL) return SLUICE_NOMEM;
    memset(at, (int)column->type, (size_t)column->rows);
    return SLUICE_OK;
}

static sluice_err add_type(sl_arena *arena, open_column *column, sluice_type type) {
    bool listed = column->types.used != 0;
    if (!listed && type != SLUICE_TYPE_NULL) {
        if (column->rows == 0) column->type = type;
        if (column->type == type) return SLUICE_OK;
    }
    if (!listed) {
        sluice_err err = types_begin(arena, column);
        if (err != SLUICE_OK) return err;
    }
    uint8_t *at = list_extend(arena, &column->types, 1);
    if (at == NULL) return SLUICE_NOMEM;
    *at = (uint8_t)type;
    return SLUICE_OK;
}

static sluice_err add_bytes(sl_arena *arena, open_column *column, const sluice_value *value) {
    if (value->size > UINT32_MAX) return SLUICE_TOO_BIG;
    size_t terminator = value->type == SLUICE_TYPE_TEXT ? 1 : 0;
    uint32_t *length = list_extend(arena, &column->lengths, sizeof *length);
    if (length == NULL) return SLUICE_NOMEM;
    *length = (uint32_t)value->size;
    if (value->size + terminator == 0) return SLUICE_OK;
    char *data = list_extend(arena, &column->data, value->size + terminator);
    if (data == NULL) return SLUICE_NOMEM;
    if (value->size != 0) memcpy(data, value->data, value->size);
    if (terminator != 0) data[value->size] = '\0';
    return SLUICE_OK;
}

sluice_err sl_table_builder_add(sl_table_builder *builder, size_t index, const sluice_value *value) {
    assert(index < builder->n_columns);
    open_column *column = &builder->columns[index];
    sl_arena *arena = builder->arena;
    sluice_err err = SLUICE_OK;
    size_t before = column->types.used;
    switch (value->type) {
    case SLUICE_TYPE_NULL:
        break;
    case SLUICE_TYPE_INTEGER: {
        int64_t *at = list_extend(arena, &column->integers, sizeof *at);
        if (at == NULL) return SLUICE_NOMEM;
        *at = value->integer;
        builder->bytes += sizeof *at;
        break;
    }
    case SLUICE_TYPE_REAL: {
        double *at = list_extend(arena, &column->reals, sizeof *at);
        if (at == NULL) return SLUICE_NOMEM;
        *at = value->real;
        builder->bytes += sizeof *at;
        break;
    }
    case SLUICE_TYPE_TEXT:
    case SLUICE_TYPE_BLOB:
        err = add_bytes(arena, column, value);
        if (err != SLUICE_OK) return err;
        builder->bytes += value->size + sizeof(uint32_t) + 1;
        break;
    default:
        return SLUICE_INVALID;
    }
    err = add_type(arena, column, value->type);
    if (err != SLUICE_OK) return err;
    column->rows++;
    builder->bytes += column->types.used - before;
    return SLUICE_OK;
}

size_t sl_table_builder_bytes(const sl_table_builder *builder) { return builder->bytes; }

static void column_finish(const open_column *from, Sluice__V1__Column *out) {
    sluice__v1__column__init(out);
    out->name = from->name;
    out->type = from->types.used == 0 ? (Sluice__V1__ValueType)from->type : SLUICE__V1__VALUE_TYPE__VALUE_NULL;
    out->types = (ProtobufCBinaryData){.len = from->types.used, .data = from->types.at};
    out->n_integers = from->integers.used / sizeof *out->integers;
    out->integers = from->integers.at;
    out->n_reals = from->reals.used / sizeof *out->reals;
    out->reals = from->reals.at;
    out->n_lengths = from->lengths.used / sizeof *out->lengths;
    out->lengths = from->lengths.at;
    out->data = (ProtobufCBinaryData){.len = from->data.used, .data = from->data.at};
}

Sluice__V1__Table *sl_table_builder_finish(sl_table_builder *builder, uint64_t rows) {
    Sluice__V1__Table *table = sl_arena_alloc(builder->arena, sizeof *table);
    if (table == NULL) return NULL;
    sluice__v1__table__init(table);
    size_t n = builder->n_columns;
    if (n == 0) return table;
    Sluice__V1__Column *columns = sl_arena_alloc(builder->arena, n * sizeof *columns);
    table->columns = sl_arena_alloc(builder->arena, n * sizeof *table->columns);
    if (columns == NULL || table->columns == NULL) return NULL;
    for (size_t i = 0; i < n; i++) {
        assert(builder->columns[i].rows == rows);
        column_finish(&builder->columns[i], &columns[i]);
        table->columns[i] = &columns[i];
    }
    table->n_columns = n;
    table->rows = rows;
    return table;
}

/* ---- check ---- */

/* Walks the lengths over the data; row types are known to be valid. */
static sluice_err check_data(const Sluice__V1__Column *column, size_t index, sluice_cause *cause) {
    size_t at = 0, type_at = 0;
    for (size_t i = 0; i < column->n_lengths; i++) {
        uint8_t type = (uint8_t)column->type;
        if (column->types.len != 0) {
            while (column->types.data[type_at] < SLUICE_TYPE_TEXT) type_at++;
            type = column->types.data[type_at++];
        }
        size_t size = column->lengths[i], terminator = type == SLUICE_TYPE_TEXT ? 1 : 0;
        if (size + terminator > column->data.len - at)
            return sluice_cause_set(cause, SLUICE_INVALID, "column %zu: lengths go beyond the data", index);
        if (terminator != 0) {
            if (column->data.data[at + size] != 0)
                return sluice_cause_set(cause, SLUICE_INVALID, "column %zu: text %zu lacks its zero byte", index, i);
            if (!sl_utf8_valid(column->data.data + at, size))
                return sluice_cause_set(cause, SLUICE_INVALID, "column %zu: text %zu is not UTF-8", index, i);
        }
        at += size + terminator;
    }
    if (at != column->data.len)
        return sluice_cause_set(cause, SLUICE_INVALID, "column %zu: %zu bytes of data belong to no row", index,
                                column->data.len - at);
    return SLUICE_OK;
}

static sluice_err check_column(const Sluice__V1__Column *column, size_t index, uint64_t rows, sluice_cause *cause) {
    uint64_t count[SLUICE_TYPE_BLOB + 1] = {0};
    if (column->types.len != 0) {
        if (column->types.len != rows)
            return sluice_cause_set(cause, SLUICE_INVALID, "column %zu: %zu types for %llu rows", index,
                                    column->types.len, (unsigned long long)rows);
        for (size_t i = 0; i < column->types.len; i++) {
            uint8_t type = column->types.data[i];
            if (type > SLUICE_TYPE_BLOB)
                return sluice_cause_set(cause, SLUICE_INVALID, "column %zu: row %zu is of no known type", index, i);
            count[type]++;
        }
    } else {
        if ((int)column->type < 0 || (int)column->type > SLUICE_TYPE_BLOB)
            return sluice_cause_set(cause, SLUICE_INVALID, "column %zu is of no known type", index);
        if ((int)column->type == SLUICE_TYPE_NULL && rows != 0)
            return sluice_cause_set(cause, SLUICE_INVALID, "column %zu holds NULLs but lists no types", index);
        count[(int)column->type] = rows;
    }
    if (column->n_integers != count[SLUICE_TYPE_INTEGER] || column->n_reals != count[SLUICE_TYPE_REAL] ||
        column->n_lengths != count[SLUICE_TYPE_TEXT] + count[SLUICE_TYPE_BLOB])
        return sluice_cause_set(cause, SLUICE_INVALID, "column %zu: values and rows differ in number", index);
    return check_data(column, index, cause);
}

sluice_err sl_table_check(const Sluice__V1__Table *table, sluice_cause *cause) {
    if (table->n_columns == 0 && table->rows != 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "a table without columns has no rows");
    for (size_t i = 0; i < table->n_columns; i++) {
        sluice_err err = check_column(table->columns[i], i, table->rows, cause);
        if (err != SLUICE_OK) return err;
    }
    return SLUICE_OK;
}

/* ---- walk ---- */

void sl_table_cursor_init(sl_table_cursor *cursor, const Sluice__V1__Table *table, sl_table_cursor_column *columns) {
    *cursor = (sl_table_cursor){.table = table, .n_columns = table->n_columns, .columns = columns};
    for (size_t i = 0; i < table->n_columns; i++)
        columns[i] = (sl_table_cursor_column){.column = table->columns[i]};
}

static inline void column_next(sl_table_cursor_column *at, uint64_t row) {
    const Sluice__V1__Column *column = at->column;
    sluice_type type = (sluice_type)(column->types.len != 0 ? column->types.data[row] : (uint8_t)column->type);
    at->value.type = type;
    switch (type) {
    case SLUICE_TYPE_INTEGER:
        at->value.integer = column->integers[at->integer++];
        break;
    case SLUICE_TYPE_REAL:
        at->value.real = column->reals[at->real++];
        break;
    case SLUICE_TYPE_TEXT:
    case SLUICE_TYPE_BLOB: {
        size_t size = column->lengths[at->length++];
        /* An empty blob at the very end, or in no data at all, still points somewhere: see sluice_blob. */
        at->value.data = column->data.data != NULL ? (const void *)(column->data.data + at->data) : "";
        at->value.size = size;
        at->data += size + (type == SLUICE_TYPE_TEXT ? 1 : 0);
        break;
    }
    case SLUICE_TYPE_NULL:
        break;
    }
}

bool sl_table_cursor_next(sl_table_cursor *cursor) {
    if (cursor->row == cursor->table->rows) return false;
    for (size_t i = 0; i < cursor->n_columns; i++) column_next(&cursor->columns[i], cursor->row);
    cursor->row++;
    return true;
}
