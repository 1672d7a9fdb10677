/* SPDX-License-Identifier: MIT */
/* The codec: two frames to a message, and a message to two frames.
 *
 * Order of decoding: envelope's size and form; version; kind and identity; type; deadline; body's size and form; then
 * one allocation for the message with all that the body needs, and protobuf-c fills it.
 */
#include "codec.h"

#include "check.h"
#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"

#include <assert.h>
#include <string.h>

#define CLIENT_SIZE 16u
#define TRACE_SIZE 25u /* trace id, span id, flags */
#define NS_PER_MS INT64_C(1000000)

static const sl_limits envelope_limits = {
    .max_bytes = SL_WIRE_ENVELOPE_MAX,
    .max_depth = 1,
    .max_fields = 64,
    .max_unknown = 16, /* what later versions may add */
    .memory_factor = 4,
    .memory_floor = 8192,
};

/* ---- decode ---- */

/* An envelope and the memory it lies in: small ones need no allocation. */
typedef struct opened_envelope {
    Sluice__V1__Envelope *envelope;
    sl_arena arena;
    _Alignas(SL_ARENA_ALIGN) char first[1024];
} opened_envelope;

static sluice_err unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t size, sl_arena *arena,
                         ProtobufCMessage **out, sluice_cause *cause) {
    static const uint8_t nothing[1];
    ProtobufCAllocator allocator = sl_arena_allocator(arena);
    *out = protobuf_c_message_unpack(type, &allocator, size, size != 0 ? data : nothing);
    if (*out != NULL) return SLUICE_OK;
    if (arena->refused) return sluice_cause_set(cause, SLUICE_NOMEM, "no memory for a %s", type->name);
    return sluice_cause_set(cause, SLUICE_INVALID, "not a %s: a required field is missing", type->name);
}

static sluice_err open_envelope(opened_envelope *self, const void *data, size_t size, sluice_cause *cause) {
    sl_arena_init(&self->arena, self->first, sizeof self->first, 4 * SL_WIRE_ENVELOPE_MAX);
    self->envelope = NULL;
    if (size == 0) return sluice_cause_set(cause, SLUICE_INVALID, "the envelope is empty");
    sluice_err err = sl_wire_check(&sluice__v1__envelope__descriptor, data, size, &envelope_limits, cause);
    if (err != SLUICE_OK) {
        (void)sluice_cause_wrap(cause, "envelope");
        return err;
    }
    ProtobufCMessage *message = NULL;
    err = unpack(&sluice__v1__envelope__descriptor, data, size, &self->arena, &message, cause);
    self->envelope = (Sluice__V1__Envelope *)message;
    return err;
}

static sluice_err check_envelope(const Sluice__V1__Envelope *envelope, sluice_cause *cause) {
    if (envelope->version < SL_WIRE_VERSION_MIN || envelope->version > SL_WIRE_VERSION)
        return sluice_cause_set(cause, SLUICE_UNSUPPORTED, "wire version %u is not spoken here, %u to %u are",
                                envelope->version, SL_WIRE_VERSION_MIN, SL_WIRE_VERSION);
    if ((int)envelope->kind < SLUICE__V1__KIND__KIND_TELL || (int)envelope->kind > SLUICE__V1__KIND__KIND_ERROR)
        return sluice_cause_set(cause, SLUICE_INVALID, "envelope: no such kind: %d", (int)envelope->kind);
    if (strlen(envelope->to) > SL_WIRE_NAME_MAX)
        return sluice_cause_set(cause, SLUICE_INVALID, "envelope: a receiver's name has at most %u bytes",
                                SL_WIRE_NAME_MAX);
    if (envelope->client.len != 0 && envelope->client.len != CLIENT_SIZE)
        return sluice_cause_set(cause, SLUICE_INVALID, "envelope: a client id has %u bytes, not %zu", CLIENT_SIZE,
                                envelope->client.len);
    if (envelope->sequence != 0 && envelope->client.len == 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "envelope: a sequence without a client id");
    if (envelope->trace.len != 0 && envelope->trace.len != TRACE_SIZE)
        return sluice_cause_set(cause, SLUICE_INVALID, "envelope: a trace context has %u bytes, not %zu", TRACE_SIZE,
                                envelope->trace.len);
    return SLUICE_OK;
}

static bool is_request(const Sluice__V1__Envelope *envelope) {
    return envelope->kind == SLUICE__V1__KIND__KIND_TELL || envelope->kind == SLUICE__V1__KIND__KIND_ASK;
}

static sluice_err read_deadline(const Sluice__V1__Envelope *envelope, int64_t now_ns, int64_t *out,
                                sluice_cause *cause) {
    *out = 0;
    /* An answer that is on its way does not expire; its asker has a deadline of its own. */
    if (!is_request(envelope) || envelope->deadline_case != SLUICE__V1__ENVELOPE__DEADLINE_DEADLINE_MS)
        return SLUICE_OK;
    int64_t ms = envelope->deadline_ms;
    if (ms < 0) return sluice_cause_set(cause, SLUICE_INVALID, "envelope: a negative deadline");
    if (ms == 0) return sluice_cause_set(cause, SLUICE_EXPIRED, "the deadline passed on the way");
    if (ms > SL_WIRE_DEADLINE_MAX_MS) ms = SL_WIRE_DEADLINE_MAX_MS;
    *out = now_ns + ms * NS_PER_MS;
    return SLUICE_OK;
}

static const ProtobufCMessageDescriptor *find_type(const sl_registry *registry, const Sluice__V1__Envelope *envelope,
                                                   sluice_err *err, sluice_cause *cause) {
    const ProtobufCMessageDescriptor *type = sl_registry_find(registry, envelope->type);
    if (type == NULL) {
        *err = sluice_cause_set(cause, SLUICE_UNSUPPORTED, "no message type is called '%.100s' here", envelope->type);
    } else if ((envelope->kind == SLUICE__V1__KIND__KIND_ERROR) != (type == &sluice__v1__error__descriptor)) {
        *err = sluice_cause_set(cause, SLUICE_INVALID, "envelope: kind ERROR and type sluice.v1.Error go together");
        return NULL;
    }
    return type;
}

/* What protobuf cannot say about a request: it asks for something, and can be told apart if it wants a receipt. */
static sluice_err check_request(const sluice_msg *msg, sluice_cause *cause) {
    size_t n_statements = 1;
    if (msg->type == &sluice__v1__write_request__descriptor) {
        const Sluice__V1__WriteRequest *request = (const Sluice__V1__WriteRequest *)msg->body;
        n_statements = request->n_statements;
        if (request->receipt && msg->identity.sequence == 0)
            return sluice_cause_set(cause, SLUICE_INVALID, "a receipt needs a client id and a sequence from 1");
    } else if (msg->type == &sluice__v1__transaction_end__descriptor) {
        if (((const Sluice__V1__TransactionEnd *)msg->body)->receipt && msg->identity.sequence == 0)
            return sluice_cause_set(cause, SLUICE_INVALID, "a receipt needs a client id and a sequence from 1");
    } else if (msg->type == &sluice__v1__query_request__descriptor) {
        n_statements = ((const Sluice__V1__QueryRequest *)msg->body)->n_statements;
    }
    return n_statements != 0 ? SLUICE_OK : sluice_cause_set(cause, SLUICE_INVALID, "a request without statements");
}

static void read_identity(const Sluice__V1__Envelope *envelope, sl_identity *out) {
    if (envelope->client.len != 0) memcpy(out->client, envelope->client.data, CLIENT_SIZE);
    out->sequence = envelope->sequence;
    out->attempt = envelope->attempt;
    out->ack_upto = envelope->ack_upto;
}

static void read_header(const Sluice__V1__Envelope *envelope, sluice_msg *msg) {
    static const uint32_t flags[] = {
        [SLUICE__V1__KIND__KIND_TELL] = 0,
        [SLUICE__V1__KIND__KIND_ASK] = SL_MSG_ASK,
        [SLUICE__V1__KIND__KIND_REPLY] = SL_MSG_REPLY,
        [SLUICE__V1__KIND__KIND_ERROR] = SL_MSG_REPLY | SL_MSG_ERROR,
    };
    msg->flags = flags[envelope->kind];
    msg->correlation = envelope->correlation;
    if (is_request(envelope)) read_identity(envelope, &msg->identity);
    if (envelope->trace.len == 0) return;
    const uint8_t *trace = envelope->trace.data;
    memcpy(msg->trace.trace_id, trace, sizeof msg->trace.trace_id);
    memcpy(msg->trace.span_id, trace + sizeof msg->trace.trace_id, sizeof msg->trace.span_id);
    msg->trace.flags = trace[TRACE_SIZE - 1];
}

static sluice_err decode_body(const Sluice__V1__Envelope *envelope, const ProtobufCMessageDescriptor *type,
                              const void *body, size_t body_size, const sl_limits *limits, sluice_msg **out,
                              sl_address *address, sluice_cause *cause) {
    size_t need = 0;
    sluice_err err = sl_wire_measure(type, body, body_size, limits, &need, cause);
    if (err != SLUICE_OK) {
        (void)sluice_cause_wrap(cause, type->name);
        return err;
    }
    size_t to_size = strlen(envelope->to) + 1;
    /* The first block holds everything; a mistake in the measure could cost one more block, not more. */
    sluice_msg *msg = sl_msg_alloc_sized(need + to_size + SL_ARENA_ALIGN, limits->memory_floor);
    if (msg == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "no memory for a %s", type->name);
    err = unpack(type, body, body_size, &msg->arena, &msg->body, cause);
    if (err != SLUICE_OK) goto fail;
    msg->type = type;
    read_header(envelope, msg);
    err = check_request(msg, cause);
    if (err != SLUICE_OK) goto fail;
    const char *to = sl_arena_memdup(&msg->arena, envelope->to, to_size);
    if (to == NULL) {
        err = sluice_cause_set(cause, SLUICE_NOMEM, "no memory for a %s", type->name);
        goto fail;
    }
    if (address != NULL) *address = (sl_address){.to = to, .credits = envelope->credits};
    /* From here on the message's owner draws from it, no longer the wire. */
    msg->arena.budget = SIZE_MAX;
    *out = msg;
    return SLUICE_OK;
fail:
    sluice_msg_destroy(&msg);
    return err;
}

sluice_err sl_wire_decode(const sl_registry *registry, const void *envelope, size_t envelope_size, const void *body,
                          size_t body_size, const sl_limits *limits, int64_t now_ns, sluice_msg **out,
                          sl_address *address, uint64_t *correlation_out, int *kind_out, sluice_cause *cause) {
    *out = NULL;
    if (address != NULL) *address = (sl_address){.to = ""};
    if (correlation_out != NULL) *correlation_out = 0;
    if (kind_out != NULL) *kind_out = SLUICE__V1__KIND__KIND_TELL;
    opened_envelope opened;
    int64_t deadline_ns = 0;
    sluice_err err = open_envelope(&opened, envelope, envelope_size, cause);
    if (err != SLUICE_OK) goto done;
    const Sluice__V1__Envelope *read = opened.envelope;
    if (correlation_out != NULL) *correlation_out = read->correlation;
    if (kind_out != NULL) *kind_out = (int)read->kind;
    err = check_envelope(read, cause);
    if (err != SLUICE_OK) goto done;
    const ProtobufCMessageDescriptor *type = find_type(registry, read, &err, cause);
    if (type == NULL) goto done;
    err = read_deadline(read, now_ns, &deadline_ns, cause);
    if (err != SLUICE_OK) goto done;
    err = decode_body(read, type, body, body_size, limits, out, address, cause);
    if (err == SLUICE_OK) (*out)->deadline_ns = deadline_ns;
done:
    sl_arena_fini(&opened.arena);
    return err;
}

/* ---- pack ---- */

static Sluice__V1__Kind kind_of(const sluice_msg *msg) {
    if ((msg->flags & SL_MSG_ERROR) != 0) return SLUICE__V1__KIND__KIND_ERROR;
    if ((msg->flags & SL_MSG_REPLY) != 0) return SLUICE__V1__KIND__KIND_REPLY;
    return (msg->flags & SL_MSG_ASK) != 0 ? SLUICE__V1__KIND__KIND_ASK : SLUICE__V1__KIND__KIND_TELL;
}

static bool all_zero(const void *data, size_t size) {
    const uint8_t *at = data;
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) any |= at[i];
    return any == 0;
}

static int64_t ms_left(int64_t deadline_ns, int64_t now_ns) {
    if (deadline_ns <= now_ns) return 0;
    int64_t ms = (deadline_ns - now_ns) / NS_PER_MS;
    return ms != 0 ? ms : 1;
}

size_t sl_wire_pack_envelope(const sluice_msg *msg, const char *to, uint32_t credits, int64_t now_ns, uint8_t *out) {
    assert(strlen(to) <= SL_WIRE_NAME_MAX && strlen(msg->type->name) <= SL_WIRE_TYPE_MAX);
    uint8_t trace[TRACE_SIZE];
    Sluice__V1__Envelope envelope = SLUICE__V1__ENVELOPE__INIT;
    envelope.version = SL_WIRE_VERSION;
    envelope.type = (char *)(uintptr_t)msg->type->name; /* packing only reads it */
    envelope.to = (char *)(uintptr_t)to;
    envelope.correlation = msg->correlation;
    envelope.kind = kind_of(msg);
    envelope.credits = credits;
    if (is_request(&envelope)) {
        const sl_identity *identity = &msg->identity;
        if (identity->sequence != 0 || !all_zero(identity->client, CLIENT_SIZE))
            envelope.client = (ProtobufCBinaryData){CLIENT_SIZE, (uint8_t *)(uintptr_t)identity->client};
        envelope.sequence = identity->sequence;
        envelope.attempt = identity->attempt;
        envelope.ack_upto = identity->ack_upto;
        if (msg->deadline_ns != 0) {
            envelope.deadline_case = SLUICE__V1__ENVELOPE__DEADLINE_DEADLINE_MS;
            envelope.deadline_ms = ms_left(msg->deadline_ns, now_ns);
        }
    }
    if (!all_zero(&msg->trace, sizeof msg->trace)) {
        memcpy(trace, msg->trace.trace_id, sizeof msg->trace.trace_id);
        memcpy(trace + sizeof msg->trace.trace_id, msg->trace.span_id, sizeof msg->trace.span_id);
        trace[TRACE_SIZE - 1] = msg->trace.flags;
        envelope.trace = (ProtobufCBinaryData){TRACE_SIZE, trace};
    }
    return sluice__v1__envelope__pack(&envelope, out);
}

size_t sl_wire_body_size(const sluice_msg *msg) { return protobuf_c_message_get_packed_size(msg->body); }

void sl_wire_pack_body(const sluice_msg *msg, uint8_t *out) { protobuf_c_message_pack(msg->body, out); }
