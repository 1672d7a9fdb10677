/* SPDX-License-Identifier: MIT */
/* The codec: between messages in memory and the two frames [envelope][body] between processes.
 *
 * Decoding is behind budgets, because protobuf-c has neither a recursion limit nor a memory limit: a pre-scan walks the
 * wire by the type's descriptor and refuses what is malformed, too deep or too many-fielded before anything is
 * allocated. It also adds up the memory that unpacking will take. Over the budget (4 times the wire size, or
 * SL_LIMITS_MEMORY_FLOOR if that is more) it is refused, having cost nothing; else the body is unpacked into one
 * allocation of just that size. The elements of packed lists are outside the budget: they take at most 8 times their
 * bytes, and a table of small integers, which is legitimate, takes just that.
 * Threads: a registry may be read by many threads while one adds types. The rest: one at a time per object.
 */
#ifndef SL_CODEC_H
#define SL_CODEC_H

#include "msg.h"

#define SL_WIRE_VERSION 1u
#define SL_WIRE_VERSION_MIN 1u
#define SL_WIRE_ENVELOPE_MAX 4096u /* bytes of an envelope frame */
#define SL_WIRE_NAME_MAX 63u       /* bytes of a receiver's name */
#define SL_WIRE_TYPE_MAX 1024u     /* bytes of a type's full name */
#define SL_WIRE_DEADLINE_MAX_MS ((int64_t)24 * 3600 * 1000) /* longer deadlines are clamped */

typedef struct sl_registry sl_registry;

/* Gives a registry that knows the types of sluice.v1. NULL: out of memory. */
sl_registry *sl_registry_new(void);
void sl_registry_destroy(sl_registry **registry);
/* Keeps: type. Errors: EXISTS (another descriptor of that name), NOMEM, INVALID (not a generated descriptor, or a name
 * over SL_WIRE_TYPE_MAX). Same descriptor twice is OK. */
SLUICE_NODISCARD sluice_err sl_registry_add(sl_registry *registry, const ProtobufCMessageDescriptor *type);
/* NULL: not registered. */
const ProtobufCMessageDescriptor *sl_registry_find(const sl_registry *registry, const char *name);

/* A body may always take so much memory. Small parameters are why: a Value of 2 bytes on the wire takes 120 in memory
 * (struct, pointer, protobuf-c's notes), and as many as SQLite can bind (32766) must be accepted. */
#define SL_LIMITS_MEMORY_FLOOR ((size_t)8 * 1024 * 1024)

typedef struct sl_limits {
    size_t max_bytes;    /* of the body frame */
    unsigned max_depth;  /* nesting of messages; 16 */
    unsigned max_fields; /* tags in one body, elements of packed fields not counted; 1,000,000 */
    unsigned max_unknown; /* unknown fields in one body; 64 */
    size_t memory_factor; /* memory budget, packed lists apart, as a multiple of the body's size; 4 */
    size_t memory_floor;  /* and at least so much; SL_LIMITS_MEMORY_FLOOR */
} sl_limits;

/* Fills in the defaults above with max_bytes. */
void sl_limits_init(sl_limits *limits, size_t max_bytes);

/* Checks bytes against a type without allocating. Stricter than protobuf in one point: a submessage that is not
 * repeated may come only once (no encoder sends it in parts, and protobuf-c merges them at quadratic cost).
 * Errors: INVALID, TOO_BIG (limits). cause says at which byte. */
SLUICE_NODISCARD sluice_err sl_wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size,
                                          const sl_limits *limits, sluice_cause *cause);

/* What an envelope says beyond the message header; `to` lives in the message's arena. */
typedef struct sl_address {
    const char *to;    /* receiver's name, "" in replies */
    uint32_t credits;
} sl_address;

/* Decodes two frames into a new message: body, flags (ASK, REPLY, ERROR by kind), correlation, deadline_ns (from
 * now_ns; none given: 0), identity, trace. The frames are copied from, not kept. Deadlines and identity belong to
 * requests; in replies they are not read. Tables within are not checked: see sl_table_check. Gives: *out.
 * Errors: INVALID (also a WriteRequest or QueryRequest without statements, a receipt without identity); UNSUPPORTED
 * (version, with the range in cause; unknown type); TOO_BIG; NOMEM; EXPIRED (deadline 0).
 * On an error *correlation_out (not NULL) and *kind_out (not NULL) tell whom to answer if the envelope was readable,
 * else 0 and KIND_TELL. */
SLUICE_NODISCARD sluice_err sl_wire_decode(const sl_registry *registry, const void *envelope, size_t envelope_size,
                                           const void *body, size_t body_size, const sl_limits *limits, int64_t now_ns,
                                           sluice_msg **out, sl_address *address, uint64_t *correlation_out,
                                           int *kind_out, sluice_cause *cause);

/* Packs the envelope frame of a message; kind by its flags, deadline relative to now_ns (at least 1 ms if any is left,
 * 0 if it passed). Writes at most SL_WIRE_ENVELOPE_MAX bytes to `out`, returns the number. `to` at most NAME_MAX. */
size_t sl_wire_pack_envelope(const sluice_msg *msg, const char *to, uint32_t credits, int64_t now_ns, uint8_t *out);
/* Size of the packed body, and the packing itself into a buffer of that size. */
size_t sl_wire_body_size(const sluice_msg *msg);
void sl_wire_pack_body(const sluice_msg *msg, uint8_t *out);

/* 16-byte digest of a message body, the same for equal bodies on every machine: SipHash-2-4-128 with a fixed key of the
 * packed bytes. Not a secret; it tells two requests under one id apart. Errors: NOMEM.
 * Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012. */
SLUICE_NODISCARD sluice_err sl_wire_digest(const ProtobufCMessage *body, uint8_t out[16]);

#endif
