/* SPDX-License-Identifier: MIT */
/* CURVE keys by libzmq, and their fingerprints.
 *
 * Not an actor: plain functions for any thread.
 */
#include "keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "sha256.h"

sluice_err sl_keypair(char public_key[SL_KEY_TEXT_SIZE], char secret_key[SL_KEY_TEXT_SIZE], sluice_cause *cause) {
    if (zmq_curve_keypair(public_key, secret_key) == 0) return SLUICE_OK;
    int why = errno;
    sluice_err err = sluice_cause_set(cause, SLUICE_UNSUPPORTED, "no CURVE key: %s", zmq_strerror(why));
    if (cause) cause->sys_errno = why;
    return err;
}

bool sl_key_is_valid(const char *text) {
    static const char letters[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    uint8_t bytes[SL_KEY_SIZE];
    if (strlen(text) != SL_KEY_TEXT_SIZE - 1 || strspn(text, letters) != SL_KEY_TEXT_SIZE - 1) return false;
    bool valid = zmq_z85_decode(bytes, text) != NULL; /* five letters can say more than four bytes hold */
    explicit_bzero(bytes, sizeof bytes);
    return valid;
}

bool sl_key_is_pair(const char *public_key, const char *secret_key) {
    char derived[SL_KEY_TEXT_SIZE];
    return zmq_curve_public(derived, secret_key) == 0 && strcmp(derived, public_key) == 0;
}

void sl_key_text(const uint8_t bytes[SL_KEY_SIZE], char out[SL_KEY_TEXT_SIZE]) {
    (void)zmq_z85_encode(out, bytes, SL_KEY_SIZE); /* fails only for sizes that are no multiple of four */
}

void sl_key_fingerprint(const char *public_key, uint8_t out[SL_USER_SIZE]) {
    uint8_t bytes[SL_KEY_SIZE] = {0}, whole[SL_SHA256_SIZE];
    (void)zmq_z85_decode(bytes, public_key);
    sl_sha256(bytes, sizeof bytes, whole);
    memcpy(out, whole, SL_USER_SIZE);
}

void sl_fingerprint_text(const uint8_t fingerprint[SL_USER_SIZE], char out[SL_FINGERPRINT_TEXT_SIZE]) {
    for (size_t i = 0; i < SL_USER_SIZE; i++) snprintf(out + 2 * i, 3, "%02x", fingerprint[i]);
}
