/* SPDX-License-Identifier: MIT */
/* SipHash-2-4 with 128 bits of output. Threads: any. */
#ifndef SL_DIGEST_H
#define SL_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012; the 128-bit variant of the reference code. */
void sl_siphash128(const uint8_t key[16], const void *data, size_t size, uint8_t out[16]);

#endif
