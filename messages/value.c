/* SPDX-License-Identifier: MIT */
/* SQL values: their constructors, UTF-8, and the way to and from a protobuf Value. */
#include <sluice/value.h>

#include "table.h"

#include <string.h>

sluice_value sluice_null(void) { return (sluice_value){.type = SLUICE_TYPE_NULL}; }

sluice_value sluice_integer(int64_t value) { return (sluice_value){.type = SLUICE_TYPE_INTEGER, .integer = value}; }

sluice_value sluice_real(double value) { return (sluice_value){.type = SLUICE_TYPE_REAL, .real = value}; }

sluice_value sluice_text(const char *text) { return sluice_text_n(text, text != NULL ? strlen(text) : 0); }

sluice_value sluice_text_n(const char *text, size_t size) {
    if (text == NULL) return sluice_null();
    return (sluice_value){.type = SLUICE_TYPE_TEXT, .data = text, .size = size};
}

sluice_value sluice_blob(const void *data, size_t size) {
    if (data == NULL && size != 0) return sluice_null();
    /* SQLite takes a NULL pointer for an SQL NULL, so an empty blob points somewhere. */
    return (sluice_value){.type = SLUICE_TYPE_BLOB, .data = data != NULL ? data : "", .size = size};
}

/* ---- UTF-8 ---- */

/* Size of the valid character at `at`, 0 if there is none. Source: Unicode 15, table 3-7. */
static size_t utf8_character(const uint8_t *at, size_t left) {
    uint8_t c = at[0];
    if (c < 0x80) return 1;
    if (c < 0xC2 || c > 0xF4) return 0;
    size_t size = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (left < size) return 0;
    uint8_t low = 0x80, high = 0xBF; /* bounds of the second byte */
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    return size;
}

bool sl_utf8_valid(const void *data, size_t size) {
    const uint8_t *at = data;
    while (size != 0) {
        /* Most text is ASCII: eight bytes at a time as long as no top bit is set. */
        uint64_t word;
        if (size >= sizeof word) {
            memcpy(&word, at, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof word;
                size -= sizeof word;
                continue;
            }
        }
        size_t n = utf8_character(at, size);
        if (n == 0) return false;
        at += n;
        size -= n;
    }
    return true;
}

void sl_utf8_clean(char *data, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t n = utf8_character((uint8_t *)data + i, size - i);
        if (n == 0) {
            data[i] = '?';
            n = 1;
        }
        i += n;
    }
}

/* ---- protobuf ---- */

static sluice_err pack_bytes(sl_arena *arena, const sluice_value *value, ProtobufCBinaryData *out) {
    out->len = value->size;
    out->data = NULL;
    if (value->size == 0) return SLUICE_OK;
    out->data = sl_arena_memdup(arena, value->data, value->size);
    return out->data != NULL ? SLUICE_OK : SLUICE_NOMEM;
}

sluice_err sl_value_pack(sl_arena *arena, const sluice_value *value, Sluice__V1__Value *out) {
    sluice__v1__value__init(out);
    switch (value->type) {
    case SLUICE_TYPE_NULL:
        return SLUICE_OK;
    case SLUICE_TYPE_INTEGER:
        out->kind_case = SLUICE__V1__VALUE__KIND_INTEGER;
        out->integer = value->integer;
        return SLUICE_OK;
    case SLUICE_TYPE_REAL:
        out->kind_case = SLUICE__V1__VALUE__KIND_REAL;
        out->real = value->real;
        return SLUICE_OK;
    case SLUICE_TYPE_TEXT:
        out->kind_case = SLUICE__V1__VALUE__KIND_TEXT;
        return pack_bytes(arena, value, &out->text);
    case SLUICE_TYPE_BLOB:
        out->kind_case = SLUICE__V1__VALUE__KIND_BLOB;
        return pack_bytes(arena, value, &out->blob);
    }
    return SLUICE_INVALID;
}

/* An empty value still points somewhere: see sluice_blob. */
static const void *bytes_of(ProtobufCBinaryData bytes) { return bytes.len != 0 ? (const void *)bytes.data : ""; }

sluice_value sl_value_view(const Sluice__V1__Value *value) {
    switch (value->kind_case) {
    case SLUICE__V1__VALUE__KIND_INTEGER:
        return sluice_integer(value->integer);
    case SLUICE__V1__VALUE__KIND_REAL:
        return sluice_real(value->real);
    case SLUICE__V1__VALUE__KIND_TEXT:
        return sluice_text_n(bytes_of(value->text), value->text.len);
    case SLUICE__V1__VALUE__KIND_BLOB:
        return sluice_blob(bytes_of(value->blob), value->blob.len);
    default:
        return sluice_null();
    }
}

/* ---- as the caller wants it ---- */

static int64_t integer_of(double real) {
    if (real != real) return 0;
    if (real <= -9223372036854775808.0) return INT64_MIN;
    if (real >= 9223372036854775808.0) return INT64_MAX;
    return (int64_t)real;
}

int64_t sl_value_int64(const sluice_value *value) {
    if (value == NULL) return 0;
    if (value->type == SLUICE_TYPE_INTEGER) return value->integer;
    return value->type == SLUICE_TYPE_REAL ? integer_of(value->real) : 0;
}

double sl_value_double(const sluice_value *value) {
    if (value == NULL) return 0.0;
    if (value->type == SLUICE_TYPE_REAL) return value->real;
    return value->type == SLUICE_TYPE_INTEGER ? (double)value->integer : 0.0;
}

const void *sl_value_bytes(const sluice_value *value, sluice_type type, size_t *size) {
    if (value == NULL || value->type != type) {
        if (size != NULL) *size = 0;
        return NULL;
    }
    if (size != NULL) *size = value->size;
    return value->data != NULL ? value->data : ""; /* empty is not NULL */
}
