/* SPDX-License-Identifier: MIT */
/* Tables: building a columnar sluice.v1.Table row by row, checking one that came by wire, and walking it.
 *
 * Shape: each column stores its values by type (see table.proto). The builder appends values in row order; the cursor
 * walks rows forward in O(columns) per row. Threads: one at a time.
 */
#ifndef SL_TABLE_H
#define SL_TABLE_H

#include "arena.h"
#include "sluice/v1/table.pb-c.h"
#include <sluice/value.h>

/* ---- build ---- */

typedef struct sl_table_builder sl_table_builder;

/* Starts a table of n_columns (may be 0) in `arena`, which it keeps. NULL: out of memory. The builder needs no destroy:
 * it lives in the arena too. */
sl_table_builder *sl_table_builder_new(sl_arena *arena, size_t n_columns);
/* Names a column (bytes copied). Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_table_builder_name(sl_table_builder *builder, size_t column, const char *name,
                                                  size_t size);
/* Appends one value to a column; all columns must have had the same number when finish is called. Data is copied.
 * Errors: NOMEM (over the arena's budget too), TOO_BIG (a value of 4 GiB or more), INVALID (no such type). After an
 * error the builder is of no use any more. */
SLUICE_NODISCARD sluice_err sl_table_builder_add(sl_table_builder *builder, size_t column, const sluice_value *value);
/* Bytes of values so far, for size limits. */
size_t sl_table_builder_bytes(const sl_table_builder *builder);
/* Closes the table of `rows` rows, which is how many values each column was given. Gives: the table, in the arena.
 * NULL: out of memory. A table without columns has no rows, whatever `rows` says. */
Sluice__V1__Table *sl_table_builder_finish(sl_table_builder *builder, uint64_t rows);

/* ---- check ---- */

/* Checks that every column holds exactly `rows` values of known types, its lengths fill its data exactly (terminators
 * included), and each text is followed by a zero byte and is valid UTF-8. Each row costs at least one byte in each
 * column and a table without columns has no rows, so `rows` is never more than the bytes that came. Linear.
 * To be called before a cursor walks a table that came by wire. Errors: INVALID. */
SLUICE_NODISCARD sluice_err sl_table_check(const Sluice__V1__Table *table, sluice_cause *cause);

/* Valid UTF-8 (no overlong forms, no surrogates)? An embedded NUL is valid. */
bool sl_utf8_valid(const void *data, size_t size);
/* Puts a '?' over every byte that is not part of a valid character, in place. */
void sl_utf8_clean(char *data, size_t size);

/* ---- walk ---- */

typedef struct sl_table_cursor_column {
    const Sluice__V1__Column *column;
    size_t integer, real, length, data; /* next of each list */
    sluice_value value;                 /* of the current row; data points into the table */
} sl_table_cursor_column;

typedef struct sl_table_cursor {
    const Sluice__V1__Table *table;
    uint64_t row; /* rows stepped to so far; 0: before the first */
    size_t n_columns;
    sl_table_cursor_column *columns; /* caller's storage of n_columns entries */
} sl_table_cursor;

/* Starts before the first row. Keeps: table, columns (room for table->n_columns). */
void sl_table_cursor_init(sl_table_cursor *cursor, const Sluice__V1__Table *table, sl_table_cursor_column *columns);
/* Steps; false after the last row. The values of the row are then in cursor->columns[i].value. */
bool sl_table_cursor_next(sl_table_cursor *cursor);

/* ---- single values ---- */

/* Fills a protobuf Value from a sluice_value, copying data into arena. Errors: NOMEM, INVALID (no such type). */
SLUICE_NODISCARD sluice_err sl_value_pack(sl_arena *arena, const sluice_value *value, Sluice__V1__Value *out);
/* The other way; data is borrowed from the Value. */
sluice_value sl_value_view(const Sluice__V1__Value *value);

/* A value as the caller of an accessor wants it; NULL is taken for an SQL NULL. Integers and reals become each other, as
 * in SQLite: a real is cut towards zero, and what does not fit becomes the nearest that does. Else 0, 0.0. */
int64_t sl_value_int64(const sluice_value *value);
double sl_value_double(const sluice_value *value);
/* The bytes of a text or blob, never NULL; NULL if the value is not of that type. size may be NULL. */
const void *sl_value_bytes(const sluice_value *value, sluice_type type, size_t *size);

#endif
