/* SPDX-License-Identifier: MIT */
/* Fuzz target: the pre-scan must foretell protobuf-c. What it accepts is unpacked in the memory it named, without a
 * byte more, packs to bytes that it accepts again, and has one digest. What it refuses says why.
 *
 * Input: 1 byte that chooses the type, then the packed message.
 */
#include "check.h"
#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
    &sluice__v1__table__descriptor,        &sluice__v1__write_request__descriptor,
    &sluice__v1__write_reply__descriptor,  &sluice__v1__query_request__descriptor,
    &sluice__v1__query_reply__descriptor,  &sluice__v1__status_reply__descriptor,
    &sluice__v1__error__descriptor,        &sluice__v1__envelope__descriptor,
    &sluice__v1__checkpoint_reply__descriptor,
};

static void require(bool holds) {
    if (!holds) abort();
}

/* Reads every byte of every value. */
static void walk(const Sluice__V1__Table *table) {
    sluice_cause cause;
    if (sl_table_check(table, &cause) != SLUICE_OK) {
        require(cause.code == SLUICE_INVALID && cause.text[0] != '\0');
        return;
    }
    sl_table_cursor_column *columns = calloc(table->n_columns + 1, sizeof *columns);
    require(columns != NULL);
    sl_table_cursor cursor;
    sl_table_cursor_init(&cursor, table, columns);
    uint64_t rows = 0;
    for (; sl_table_cursor_next(&cursor); rows++)
        for (size_t i = 0; i < table->n_columns; i++) {
            const sluice_value *value = &columns[i].value;
            if (value->type != SLUICE_TYPE_TEXT && value->type != SLUICE_TYPE_BLOB) continue;
            const char *bytes = value->data;
            size_t zeros = 0;
            for (size_t k = 0; k < value->size; k++) zeros += bytes[k] == 0;
            require(zeros <= value->size);
            if (value->type == SLUICE_TYPE_TEXT) require(bytes[value->size] == 0);
        }
    require(rows == table->rows);
    for (size_t i = 0; i < table->n_columns; i++) require(columns[i].data == table->columns[i]->data.len);
    free(columns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    const ProtobufCMessageDescriptor *type = types[data[0] % (sizeof types / sizeof types[0])];
    data++, size--;
    sl_limits limits;
    sl_limits_init(&limits, (size_t)1 << 20);
    sluice_cause cause = {.code = SLUICE_OK};
    size_t need = 0;
    sluice_err err = sl_wire_measure(type, data, size, &limits, &need, &cause);
    if (err != SLUICE_OK) {
        require((err == SLUICE_INVALID || err == SLUICE_TOO_BIG) && cause.code == err && cause.text[0] != '\0');
        return 0;
    }
    char *block = malloc(need);
    require(block != NULL);
    sl_arena arena;
    sl_arena_init(&arena, block, need, 0);
    ProtobufCAllocator allocator = sl_arena_allocator(&arena);
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, size, data);
    require(message != NULL && !arena.refused);
    if (type == &sluice__v1__table__descriptor) walk((const Sluice__V1__Table *)message);
    size_t packed_size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(packed_size + 1);
    require(packed != NULL);
    require(protobuf_c_message_pack(message, packed) == packed_size);
    err = sl_wire_measure(type, packed, packed_size, &limits, &need, &cause);
    require(err == SLUICE_OK || err == SLUICE_TOO_BIG); /* overlong forms became short ones, or defaults were written */
    uint8_t one[16], other[16];
    require(sl_wire_digest(message, one) == SLUICE_OK && sl_wire_digest(message, other) == SLUICE_OK);
    require(memcmp(one, other, sizeof one) == 0);
    free(packed);
    free(block);
    return 0;
}
