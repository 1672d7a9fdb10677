/* SPDX-License-Identifier: MIT */
/* CURVE keys: making pairs, checking them, naming them by a fingerprint. Threads: any. */
#ifndef SL_KEYS_H
#define SL_KEYS_H

#include <sluice/base.h>

#define SL_KEY_TEXT_SIZE 41 /* 40 Z85 characters and a zero byte */
#define SL_KEY_SIZE 32      /* bytes */
#define SL_USER_SIZE 16     /* bytes of a fingerprint */
#define SL_FINGERPRINT_TEXT_SIZE 33 /* 32 hexadecimal digits and a zero byte */

/* Makes a new key pair in Z85 text. Errors: UNSUPPORTED (libzmq was built without CURVE).
 * Source: rfc.zeromq.org/spec/32 (Z85), zmq_curve_keypair(3). */
SLUICE_NODISCARD sluice_err sl_keypair(char public_key[SL_KEY_TEXT_SIZE], char secret_key[SL_KEY_TEXT_SIZE],
                                       sluice_cause *cause);
/* Tells whether text is one key: 40 characters of Z85 that stand for 32 bytes. */
bool sl_key_is_valid(const char *text);
/* Tells whether public_key belongs to secret_key. Both are valid. */
bool sl_key_is_pair(const char *public_key, const char *secret_key);
/* Writes 32 bytes as Z85 text. */
void sl_key_text(const uint8_t bytes[SL_KEY_SIZE], char out[SL_KEY_TEXT_SIZE]);
/* The fingerprint of a valid public key: the first half of the SHA-256 of its 32 bytes. Nobody can make another key
 * with the same one, so it names the key's owner wherever the whole key would be too long. */
void sl_key_fingerprint(const char *public_key, uint8_t out[SL_USER_SIZE]);
void sl_fingerprint_text(const uint8_t fingerprint[SL_USER_SIZE], char out[SL_FINGERPRINT_TEXT_SIZE]);

#endif
