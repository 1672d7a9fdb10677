/* SPDX-License-Identifier: MIT */
/* Raw protobuf bytes, right and wrong ones alike, and decoding them: for tests of what comes by wire. */
#ifndef SUPPORT_WIRE_H
#define SUPPORT_WIRE_H

#include "codec.h"
#include "support/support.h"

/* A growing buffer; freed by wire_bytes_fini. */
typedef struct wire_bytes {
    uint8_t *at;
    size_t size, room;
} wire_bytes;

void wire_bytes_fini(wire_bytes *bytes);
void wire_put(wire_bytes *bytes, const void *data, size_t size);
void wire_put_byte(wire_bytes *bytes, unsigned byte);
void wire_put_varint(wire_bytes *bytes, uint64_t value);
void wire_put_tag(wire_bytes *bytes, uint32_t field, unsigned wire_type);
/* A length-prefixed field. */
void wire_put_field(wire_bytes *bytes, uint32_t field, const void *data, size_t size);
void wire_put_message(wire_bytes *bytes, const ProtobufCMessage *message);

/* A process's end of the wire: registry and limits, and what the last decode said. */
typedef struct wire_peer {
    sl_registry *registry;
    sl_limits limits;
    sluice_msg *msg; /* of the last decode that was OK */
    sl_address address;
    uint64_t correlation;
    int kind;
    sluice_cause cause;
} wire_peer;

/* Knows the types of sluice.v1, demo.v1 and kinds.v1; takes bodies up to 16 MiB. */
void wire_peer_init(wire_peer *peer);
void wire_peer_fini(wire_peer *peer);
/* Decodes copies of exactly the frames' sizes, so that a read past their end is seen; at time 1000 s. */
sluice_err wire_decode(wire_peer *peer, const wire_bytes *envelope, const wire_bytes *body);
#define WIRE_NOW_NS (INT64_C(1000) * 1000000000)
/* As decode, with the plain envelope of an ask with correlation 7 to "app/writer". */
sluice_err wire_decode_body(wire_peer *peer, const char *type, const wire_bytes *body);

#endif
