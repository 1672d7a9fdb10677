/* SPDX-License-Identifier: MIT */
/* The digest of a message body: SipHash-2-4-128 with a fixed key over the packed bytes. */
#include "digest.h"

#include "codec.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

typedef struct sip {
    uint64_t v0, v1, v2, v3;
} sip;

static inline uint64_t rotate(uint64_t x, unsigned n) { return (x << n) | (x >> (64 - n)); }

static inline uint64_t read_u64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

static inline void write_u64(uint8_t *at, uint64_t value) {
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

static inline void rounds(sip *s, int n) {
    for (int i = 0; i < n; i++) {
        s->v0 += s->v1, s->v1 = rotate(s->v1, 13) ^ s->v0, s->v0 = rotate(s->v0, 32);
        s->v2 += s->v3, s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 += s->v3, s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 += s->v1, s->v1 = rotate(s->v1, 17) ^ s->v2, s->v2 = rotate(s->v2, 32);
    }
}

static inline void absorb(sip *s, uint64_t word) {
    s->v3 ^= word;
    rounds(s, 2);
    s->v0 ^= word;
}

void sl_siphash128(const uint8_t key[16], const void *data, size_t size, uint8_t out[16]) {
    uint64_t k0 = read_u64(key), k1 = read_u64(key + 8);
    sip s = {k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xEE,
             k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};
    const uint8_t *at = data;
    size_t left = size;
    for (; left >= 8; at += 8, left -= 8) absorb(&s, read_u64(at));
    uint64_t last = (uint64_t)size << 56;
    for (size_t i = 0; i < left; i++) last |= (uint64_t)at[i] << (8 * i);
    absorb(&s, last);
    s.v2 ^= 0xEE;
    rounds(&s, 4);
    write_u64(out, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
    s.v1 ^= 0xDD;
    rounds(&s, 4);
    write_u64(out + 8, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}

sluice_err sl_wire_digest(const ProtobufCMessage *body, uint8_t out[16]) {
    static const uint8_t key[16] = "sluice.v1.digest"; /* 16 characters, no room for a zero byte, none is wanted */
    uint8_t small[2048];
    size_t size = protobuf_c_message_get_packed_size(body);
    uint8_t *packed = size <= sizeof small ? small : malloc(size);
    if (packed == NULL) return SLUICE_NOMEM;
    protobuf_c_message_pack(body, packed);
    sl_siphash128(key, packed, size, out);
    if (packed != small) free(packed);
    return SLUICE_OK;
}
