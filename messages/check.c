/* SPDX-License-Identifier: MIT */
/* The pre-scan: walks packed bytes by their descriptor before anything is allocated.
 *
 * protobuf-c 1.4.1 has no limit on depth or memory, cuts strings at a NUL, takes any bytes for UTF-8 and merges a
 * submessage that comes twice at quadratic cost. This walk refuses all of that, and everything protobuf-c would refuse,
 * with a cause that names the byte. It also adds up what protobuf-c is going to allocate, so that the message can be
 * made with one block of the right size, or refused.
 *
 * Source: protobuf.dev/programming-guides/encoding; protobuf-c 1.4.1, protobuf_c_message_unpack.
 */
#include "check.h"

#include "table.h"

#include <string.h>

#define MAX_DEPTH 64u /* of this walk, whatever the limits say: it recurses */
#define MAX_FIELD_NUMBER ((1u << 29) - 1u)
#define MAX_LENGTH ((uint64_t)INT32_MAX)

/* protobuf-c notes each field in a ScannedMember of 32 bytes: the first 16 on its stack, then in allocations for 32,
 * 64, 128 ... of them. Its size is private; the tests notice if it grows. */
#define SCANNED_SIZE ((size_t)32)
#define SCANNED_ON_STACK ((size_t)16)
/* A bitmap of required fields is allocated for types with more fields than this. */
#define BITMAP_ON_STACK_FIELDS 128u

#define N_SEEN_FIELDS 256u

typedef struct wire_scan {
    const uint8_t *start; /* of the body, for offsets */
    const sl_limits *limits;
    sluice_cause *cause;
    uint64_t n_fields;
    uint64_t n_unknown;
    size_t need;  /* but for the lists */
    size_t lists; /* elements of packed lists: at most 8 bytes for each byte that came, so they need no budget */
} wire_scan;

typedef struct wire_view {
    const uint8_t *at, *end;
} wire_view;

static size_t left(const wire_view *view) { return (size_t)(view->end - view->at); }

static size_t rounded(size_t size) {
    return size != 0 ? (size + (SL_ARENA_ALIGN - 1)) & ~(size_t)(SL_ARENA_ALIGN - 1) : SL_ARENA_ALIGN;
}

static sluice_err malformed(const wire_scan *scan, const uint8_t *at, const char *what) {
    return sluice_cause_set(scan->cause, SLUICE_INVALID, "byte %zu: %s", (size_t)(at - scan->start), what);
}

static sluice_err malformed_field(const wire_scan *scan, const uint8_t *at, const ProtobufCFieldDescriptor *field,
                                  const char *what) {
    return sluice_cause_set(scan->cause, SLUICE_INVALID, "byte %zu: field %s %s", (size_t)(at - scan->start),
                            field->name, what);
}

/* Takes one varint of at most max_size bytes and 64 bits; false: unterminated or too long. */
static bool take_varint(wire_view *view, size_t max_size, uint64_t *out) {
    uint64_t value = 0;
    for (size_t i = 0; i < max_size && view->at + i < view->end; i++) {
        uint8_t byte = view->at[i];
        if (i == 9 && byte > 1) return false;
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80) {
            view->at += i + 1;
            *out = value;
            return true;
        }
    }
    return false;
}

/* Counts the varints that fill the view; false: malformed. */
static bool count_varints(wire_view view, size_t *out) {
    size_t n = 0, run = 0;
    for (const uint8_t *at = view.at; at < view.end; at++) {
        if (*at >= 0x80) {
            if (++run == 10) return false;
        } else {
            if (run == 9 && *at > 1) return false;
            run = 0;
            n++;
        }
    }
    *out = n;
    return run == 0;
}

/* Wire type of one element of a field. */
static unsigned wire_type_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return PROTOBUF_C_WIRE_TYPE_64BIT;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    default:
        return PROTOBUF_C_WIRE_TYPE_VARINT;
    }
}

/* Bytes of one element in the array of a repeated field. */
static size_t element_size(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
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

static sluice_err scan_message(wire_scan *scan, const ProtobufCMessageDescriptor *type, wire_view view, unsigned depth);

static sluice_err scan_packed(wire_scan *scan, const ProtobufCFieldDescriptor *field, wire_view content) {
    size_t n = 0, size = left(&content);
    switch (wire_type_of(field->type)) {
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        if (size % 8 != 0) return malformed_field(scan, content.at, field, "is not a whole number of 8-byte values");
        n = size / 8;
        break;
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        if (size % 4 != 0) return malformed_field(scan, content.at, field, "is not a whole number of 4-byte values");
        n = size / 4;
        break;
    default:
        if (!count_varints(content, &n)) return malformed_field(scan, content.at, field, "holds a malformed varint");
        if (field->type == PROTOBUF_C_TYPE_BOOL && n != size)
            return malformed_field(scan, content.at, field, "holds a bool that is neither 0 nor 1");
    }
    if (field->type == PROTOBUF_C_TYPE_BOOL)
        for (const uint8_t *at = content.at; at < content.end; at++)
            if (*at > 1) return malformed_field(scan, at, field, "holds a bool that is neither 0 nor 1");
    scan->lists += n * element_size(field->type);
    return SLUICE_OK;
}

/* The content of a known, length-prefixed field. */
static sluice_err scan_content(wire_scan *scan, const ProtobufCFieldDescriptor *field, wire_view content,
                               unsigned depth) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        if (memchr(content.at, 0, left(&content)) != NULL)
            return malformed_field(scan, content.at, field, "holds a NUL");
        if (!sl_utf8_valid(content.at, left(&content)))
            return malformed_field(scan, content.at, field, "is not UTF-8");
        scan->need += rounded(left(&content) + 1);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        if (left(&content) != 0) scan->need += rounded(left(&content));
        break;
    case PROTOBUF_C_TYPE_MESSAGE: {
        sluice_err err = scan_message(scan, field->descriptor, content, depth + 1);
        if (err != SLUICE_OK) return err;
        break;
    }
    default:
        return scan_packed(scan, field, content);
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) scan->need += element_size(field->type);
    return SLUICE_OK;
}

/* Takes the value behind a tag and checks it. field NULL: unknown. */
static sluice_err scan_value(wire_scan *scan, const ProtobufCFieldDescriptor *field, unsigned wire_type,
                             wire_view *view, unsigned depth) {
    const uint8_t *start = view->at;
    if (field != NULL && wire_type != wire_type_of(field->type) &&
        !(wire_type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED && field->label == PROTOBUF_C_LABEL_REPEATED))
        return malformed_field(scan, start, field, "has the wrong wire type");
    uint64_t value = 0;
    switch (wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        if (!take_varint(view, 10, &value)) return malformed(scan, start, "unterminated or overlong varint");
        break;
    case PROTOBUF_C_WIRE_TYPE_64BIT:
    case PROTOBUF_C_WIRE_TYPE_32BIT: {
        size_t size = wire_type == PROTOBUF_C_WIRE_TYPE_64BIT ? 8 : 4;
        if (left(view) < size) return malformed(scan, start, "the message ends within a number");
        view->at += size;
        break;
    }
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED: {
        if (!take_varint(view, 10, &value)) return malformed(scan, start, "unterminated or overlong length");
        if (value > MAX_LENGTH || value > left(view)) return malformed(scan, start, "a length goes beyond the message");
        if (view->at - start > 5) return malformed(scan, start, "unterminated or overlong length");
        wire_view content = {view->at, view->at + value};
        view->at = content.end;
        if (field != NULL) return scan_content(scan, field, content, depth);
        break;
    }
    default:
        return malformed(scan, start, "a wire type that proto3 does not have");
    }
    if (field == NULL) {
        scan->need += rounded((size_t)(view->at - start)) + sizeof(ProtobufCMessageUnknownField);
    } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        scan->need += element_size(field->type);
    }
    return SLUICE_OK;
}

/* One more field in this message: the limits, and protobuf-c's notes. */
static sluice_err count_field(wire_scan *scan, bool known, size_t n_here) {
    if (++scan->n_fields > scan->limits->max_fields)
        return sluice_cause_set(scan->cause, SLUICE_TOO_BIG, "more than %u fields", scan->limits->max_fields);
    if (!known && ++scan->n_unknown > scan->limits->max_unknown)
        return sluice_cause_set(scan->cause, SLUICE_TOO_BIG, "more than %u unknown fields", scan->limits->max_unknown);
    /* Notes are allocated when the 17th, 49th, 113th ... field is met: for 32, 64, 128 ... of them. */
    size_t room = n_here - 1 + SCANNED_ON_STACK;
    if (n_here > SCANNED_ON_STACK && (room & (room - 1)) == 0) scan->need += room * SCANNED_SIZE;
    return SLUICE_OK;
}

/* A bit per field of one message; true if it was set before. */
static bool seen_before(uint64_t *seen, const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field) {
    size_t index = (size_t)(field - type->fields);
    if (index >= N_SEEN_FIELDS) return false;
    uint64_t bit = UINT64_C(1) << (index % 64);
    bool before = (seen[index / 64] & bit) != 0;
    seen[index / 64] |= bit;
    return before;
}

static sluice_err scan_message(wire_scan *scan, const ProtobufCMessageDescriptor *type, wire_view view,
                               unsigned depth) {
    if (depth > scan->limits->max_depth || depth > MAX_DEPTH)
        return sluice_cause_set(scan->cause, SLUICE_TOO_BIG, "messages nested deeper than %u",
                                scan->limits->max_depth < MAX_DEPTH ? scan->limits->max_depth : MAX_DEPTH);
    uint64_t seen[N_SEEN_FIELDS / 64] = {0};
    const ProtobufCFieldDescriptor *field = NULL;
    uint64_t unknown_before = scan->n_unknown;
    scan->need += rounded(type->sizeof_message);
    if (type->n_fields > BITMAP_ON_STACK_FIELDS) scan->need += rounded((type->n_fields + 7) / 8);
    for (size_t n = 1; view.at < view.end; n++) {
        const uint8_t *start = view.at;
        uint64_t tag = 0;
        if (!take_varint(&view, 5, &tag)) return malformed(scan, start, "unterminated or overlong tag");
        uint64_t number = tag >> 3;
        if (number == 0 || number > MAX_FIELD_NUMBER) return malformed(scan, start, "no such field number");
        if (field == NULL || field->id != number)
            field = protobuf_c_message_descriptor_get_field(type, (unsigned)number);
        sluice_err err = count_field(scan, field != NULL, n);
        if (err != SLUICE_OK) return err;
        if (field != NULL) {
            bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED, again = seen_before(seen, type, field);
            if (again && !repeated && field->type == PROTOBUF_C_TYPE_MESSAGE)
                return malformed_field(scan, start, field, "comes twice");
            if (!again && repeated) scan->need += SL_ARENA_ALIGN; /* its array is rounded up as a whole */
        }
        err = scan_value(scan, field, (unsigned)(tag & 7), &view, depth);
        if (err != SLUICE_OK) return err;
    }
    if (scan->n_unknown != unknown_before) scan->need += SL_ARENA_ALIGN; /* and so is the list of unknown fields */
    return SLUICE_OK;
}

sluice_err sl_wire_measure(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size,
                           const sl_limits *limits, size_t *need_out, sluice_cause *cause) {
    *need_out = 0;
    if (size > limits->max_bytes)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "%zu bytes, at most %zu are taken", size, limits->max_bytes);
    wire_scan scan = {.start = data, .limits = limits, .cause = cause};
    static const uint8_t nothing[1];
    if (size == 0) scan.start = data = nothing;
    sluice_err err = scan_message(&scan, type, (wire_view){data, data + size}, 1);
    if (err != SLUICE_OK) return err;
    size_t budget = 0;
    if (__builtin_mul_overflow(size, limits->memory_factor, &budget)) budget = SIZE_MAX;
    if (budget < limits->memory_floor) budget = limits->memory_floor;
    if (scan.need > budget)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "%zu bytes would take %zu of memory, at most %zu are given",
                                size, scan.need, budget);
    *need_out = scan.need + scan.lists;
    return SLUICE_OK;
}

sluice_err sl_wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size,
                         const sl_limits *limits, sluice_cause *cause) {
    size_t need;
    return sl_wire_measure(type, data, size, limits, &need, cause);
}

void sl_limits_init(sl_limits *limits, size_t max_bytes) {
    *limits = (sl_limits){
        .max_bytes = max_bytes,
        .max_depth = 16,
        .max_fields = 1000000,
        .max_unknown = 64,
        .memory_factor = 4,
        .memory_floor = SL_LIMITS_MEMORY_FLOOR,
    };
}
