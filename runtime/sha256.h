/* SPDX-License-Identifier: MIT */
/* SHA-256, for the fingerprints of keys. Threads: any. */
#ifndef SL_SHA256_H
#define SL_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SL_SHA256_SIZE 32

/* Source: FIPS 180-4, section 6.2. */
void sl_sha256(const void *data, size_t size, uint8_t out[SL_SHA256_SIZE]);

#endif
