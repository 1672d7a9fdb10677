/* SPDX-License-Identifier: MIT */
/* Random messages, by their descriptors. */
#include "support/random_message.h"

#include "support/support.h"

#include <string.h>

uint64_t support_random_next(support_random *random) {
    uint64_t z = random->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t support_random_below(support_random *random, uint64_t n) { return support_random_next(random) % n; }

static void *room(sl_arena *arena, size_t size) {
    void *out = sl_arena_alloc(arena, size);
    if (out == NULL) fail_msg("out of memory");
    memset(out, 0, size != 0 ? size : 1);
    return out;
}

/* Small, large and extreme numbers alike. */
static uint64_t number(support_random *random) {
    uint64_t value = support_random_next(random);
    return value >> (support_random_next(random) % 64);
}

static char *text(support_random *random, sl_arena *arena) {
    static const char *const pieces[] = {"a", "Z", " ", "\n", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "'"};
    size_t n = (size_t)support_random_below(random, 20);
    char *out = room(arena, n * 4 + 1);
    for (size_t i = 0; i < n; i++) strcat(out, pieces[support_random_below(random, 8)]);
    return out;
}

static size_t size_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 8;
    }
}

static void fill(support_random *random, sl_arena *arena, const ProtobufCFieldDescriptor *field, void *out,
                 unsigned depth, unsigned many) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)out = (protobuf_c_boolean)support_random_below(random, 2);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        *(int *)out = (int)support_random_below(random, 3);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        *(float *)out = (float)support_random_below(random, 1000) / 8.0f;
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)out = (double)support_random_below(random, 100000) / 8.0;
        break;
    case PROTOBUF_C_TYPE_STRING:
        *(char **)out = text(random, arena);
        break;
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData *bytes = out;
        bytes->len = (size_t)support_random_below(random, 40);
        bytes->data = bytes->len != 0 ? room(arena, bytes->len) : NULL;
        for (size_t i = 0; i < bytes->len; i++) bytes->data[i] = (uint8_t)support_random_next(random);
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)out = support_random_message(random, arena, field->descriptor, depth - 1, many);
        break;
    default: {
        uint64_t value = number(random);
        memcpy(out, &value, size_of(field->type));
    }
    }
}

ProtobufCMessage *support_random_message(support_random *random, sl_arena *arena,
                                         const ProtobufCMessageDescriptor *type, unsigned depth, unsigned many) {
    ProtobufCMessage *message = room(arena, type->sizeof_message);
    protobuf_c_message_init(type, message);
    char *base = (char *)message;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if (support_random_below(random, 3) == 0) continue;
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && depth == 1) continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t n = (size_t)support_random_below(random, many + 1), size = size_of(field->type);
            char *array = room(arena, n * size);
            for (size_t k = 0; k < n; k++) fill(random, arena, field, array + k * size, depth, many);
            *(size_t *)(void *)(base + field->quantifier_offset) = n;
            *(void **)(void *)(base + field->offset) = array;
            continue;
        }
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            uint32_t *which = (uint32_t *)(void *)(base + field->quantifier_offset);
            if (*which != 0) continue; /* another member was chosen */
            *which = field->id;
        }
        fill(random, arena, field, base + field->offset, depth, many);
    }
    return message;
}
