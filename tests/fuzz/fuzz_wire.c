/* SPDX-License-Identifier: MIT */
/* Fuzz target: two frames from a stranger, as a gateway decodes them.
 *
 * Input: 1 byte length of the envelope frame, the envelope, the body. What decodes is packed again, which must give a
 * message that decodes to the same bytes; tables in it are checked and, if they hold, walked to the end.
 */
#include <stdlib.h>
#include <string.h>
#include "codec.h"
#include "table.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

static void walk_table(const Sluice__V1__Table *table) {
    sluice_cause cause;
    if (table == NULL || sl_table_check(table, &cause) != SLUICE_OK) return;
    sl_table_cursor_column *columns = calloc(table->n_columns + 1, sizeof *columns);
    require(columns != NULL);
    sl_table_cursor cursor;
    sl_table_cursor_init(&cursor, table, columns);
    volatile uint8_t sum = 0;
    uint64_t rows = 0;
    while (rows < 100000 && sl_table_cursor_next(&cursor)) {
        rows++;
        for (size_t i = 0; i < table->n_columns; i++) {
            const sluice_value *value = &columns[i].value;
            const uint8_t *bytes = value->data;
            if (value->type != SLUICE_TYPE_TEXT && value->type != SLUICE_TYPE_BLOB) continue;
            for (size_t j = 0; j < value->size; j++) sum = (uint8_t)(sum + bytes[j]);
            if (value->type == SLUICE_TYPE_TEXT) require(bytes[value->size] == 0);
        }
    }
    if (rows < 100000) require(rows == table->rows);
    free(columns);
}

static void look_inside(const sluice_msg *msg) {
    if (sluice_msg_is(msg, (const struct ProtobufCMessageDescriptor *)&sluice__v1__write_request__descriptor)) {
        const Sluice__V1__WriteRequest *write = sluice_msg_body(msg);
        for (size_t i = 0; i < write->n_statements; i++) walk_table(write->statements[i]->rows);
    } else if (sluice_msg_is(msg, (const struct ProtobufCMessageDescriptor *)&sluice__v1__query_reply__descriptor)) {
        const Sluice__V1__QueryReply *reply = sluice_msg_body(msg);
        for (size_t i = 0; i < reply->n_results; i++) walk_table(reply->results[i]->rows);
    }
}

/* Packs msg, decodes it, packs that: the two packings must be equal. */
static void pack_again(const sl_registry *registry, const sluice_msg *msg, const char *to, const sl_limits *limits,
                       int64_t now_ns) {
    uint8_t envelope[SL_WIRE_ENVELOPE_MAX];
    size_t envelope_size = sl_wire_pack_envelope(msg, to, 0, now_ns, envelope);
    size_t body_size = sl_wire_body_size(msg);
    uint8_t *body = malloc(body_size + 1), *second_body = malloc(body_size + 1);
    require(body != NULL && second_body != NULL);
    sl_wire_pack_body(msg, body);
    sluice_msg *second = NULL;
    sl_address address;
    sluice_cause cause;
    uint64_t correlation;
    int kind;
    sluice_err err = sl_wire_decode(registry, envelope, envelope_size, body, body_size, limits, now_ns, &second,
                                    &address, &correlation, &kind, &cause);
    require(err == SLUICE_OK || err == SLUICE_EXPIRED || err == SLUICE_TOO_BIG);
    if (err == SLUICE_OK) {
        require(second->type == msg->type && second->correlation == msg->correlation);
        require(sl_wire_body_size(second) == body_size);
        sl_wire_pack_body(second, second_body);
        require(body_size == 0 || memcmp(body, second_body, body_size) == 0);
    }
    sluice_msg_destroy(&second);
    free(body);
    free(second_body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static sl_registry *registry;
    if (registry == NULL) require((registry = sl_registry_new()) != NULL);
    if (size == 0 || (size_t)data[0] + 1 > size) return 0;
    const uint8_t *envelope = data + 1, *body = data + 1 + data[0];
    size_t body_size = size - 1 - data[0];
    sl_limits limits;
    sl_limits_init(&limits, 1 << 20);
    const int64_t now_ns = 1000000000;
    sluice_msg *msg = NULL;
    sl_address address;
    sluice_cause cause;
    uint64_t correlation;
    int kind;
    sluice_err err = sl_wire_decode(registry, envelope, data[0], body, body_size, &limits, now_ns, &msg, &address,
                                    &correlation, &kind, &cause);
    require((err == SLUICE_OK) == (msg != NULL));
    if (err == SLUICE_OK) {
        look_inside(msg);
        if (strlen(address.to) <= SL_WIRE_NAME_MAX) pack_again(registry, msg, address.to, &limits, now_ns);
    }
    sluice_msg_destroy(&msg);
    return 0;
}
