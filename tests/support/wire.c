/* SPDX-License-Identifier: MIT */
/* Raw protobuf bytes for tests. */
#include "support/wire.h"

#include "sluice/v1/envelope.pb-c.h"
#include "support/demo.pb-c.h"
#include "support/kinds.pb-c.h"

#include <stdlib.h>
#include <string.h>

void wire_bytes_fini(wire_bytes *bytes) {
    free(bytes->at);
    *bytes = (wire_bytes){0};
}

void wire_put(wire_bytes *bytes, const void *data, size_t size) {
    if (bytes->room - bytes->size < size || bytes->at == NULL) {
        bytes->room = (bytes->room + size) * 2 + 64;
        bytes->at = realloc(bytes->at, bytes->room);
        if (bytes->at == NULL) abort();
    }
    if (size != 0) memcpy(bytes->at + bytes->size, data, size);
    bytes->size += size;
}

void wire_put_byte(wire_bytes *bytes, unsigned byte) {
    uint8_t one = (uint8_t)byte;
    wire_put(bytes, &one, 1);
}

void wire_put_varint(wire_bytes *bytes, uint64_t value) {
    for (; value >= 0x80; value >>= 7) wire_put_byte(bytes, (unsigned)(value & 0x7F) | 0x80u);
    wire_put_byte(bytes, (unsigned)value);
}

void wire_put_tag(wire_bytes *bytes, uint32_t field, unsigned wire_type) {
    wire_put_varint(bytes, (uint64_t)field << 3 | wire_type);
}

void wire_put_field(wire_bytes *bytes, uint32_t field, const void *data, size_t size) {
    wire_put_tag(bytes, field, 2);
    wire_put_varint(bytes, size);
    wire_put(bytes, data, size);
}

void wire_put_message(wire_bytes *bytes, const ProtobufCMessage *message) {
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    if (packed == NULL) abort();
    protobuf_c_message_pack(message, packed);
    wire_put(bytes, packed, size);
    free(packed);
}

void wire_peer_init(wire_peer *peer) {
    memset(peer, 0, sizeof *peer);
    peer->registry = sl_registry_new();
    if (peer->registry == NULL) abort();
    const ProtobufCMessageDescriptor *const types[] = {
        &demo__v1__hello__descriptor, &demo__v1__greeting__descriptor, &kinds__v1__all__descriptor,
        &kinds__v1__leaf__descriptor, &kinds__v1__chain__descriptor};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (sl_registry_add(peer->registry, types[i]) != SLUICE_OK) abort();
    sl_limits_init(&peer->limits, (size_t)16 << 20);
}

void wire_peer_fini(wire_peer *peer) {
    sluice_msg_destroy(&peer->msg);
    sl_registry_destroy(&peer->registry);
}

/* A copy of exactly its size. */
static uint8_t *exact(const wire_bytes *bytes) {
    uint8_t *copy = malloc(bytes->size != 0 ? bytes->size : 1);
    if (copy == NULL) abort();
    if (bytes->size != 0) memcpy(copy, bytes->at, bytes->size);
    return copy;
}

sluice_err wire_decode(wire_peer *peer, const wire_bytes *envelope, const wire_bytes *body) {
    sluice_msg_destroy(&peer->msg);
    peer->cause.text[0] = '\0';
    uint8_t *first = exact(envelope), *second = exact(body);
    sluice_err err =
        sl_wire_decode(peer->registry, first, envelope->size, second, body->size, &peer->limits, WIRE_NOW_NS,
                       &peer->msg, &peer->address, &peer->correlation, &peer->kind, &peer->cause);
    free(first);
    free(second);
    return err;
}

sluice_err wire_decode_body(wire_peer *peer, const char *type, const wire_bytes *body) {
    Sluice__V1__Envelope envelope = SLUICE__V1__ENVELOPE__INIT;
    envelope.version = 1;
    envelope.type = (char *)(uintptr_t)type;
    envelope.to = (char *)(uintptr_t) "app/writer";
    envelope.correlation = 7;
    envelope.kind = SLUICE__V1__KIND__KIND_ASK;
    wire_bytes packed = {0};
    wire_put_message(&packed, &envelope.base);
    sluice_err err = wire_decode(peer, &packed, body);
    wire_bytes_fini(&packed);
    return err;
}
