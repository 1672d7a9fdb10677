/* SPDX-License-Identifier: MIT */
/* A keyring: the public keys that may come in, and what each of them may do.
 *
 *     DIR/server.key_secret     the server's own pair
 *     DIR/clients/NAME.key      one client's public key; metadata/rights = read, write or admin (as without it)
 *
 * It never changes once loaded: a reload makes another one. Threads: any.
 */
#ifndef SL_KEYRING_H
#define SL_KEYRING_H

#include "keys.h"
#include "msg.h"

#define SL_KEYRING_MAX 65536u /* keys */

typedef struct sl_keyring sl_keyring;

typedef struct sl_key {
    char public_key[SL_KEY_TEXT_SIZE];
    uint8_t user[SL_USER_SIZE]; /* its fingerprint */
    unsigned rights;            /* SLUICE_RIGHT_ mask */
    char name[64];              /* of the file, without .key, perhaps cut */
} sl_key;

/* Reads DIR/clients. A file that is no key file, says rights we do not know, or is open to other writers is left out
 * and counted in *n_refused, with the first one's reason in cause. A key that is there twice has the rights that both
 * give. Gives: *out. Errors: SYSTEM (cannot be read), FORBIDDEN (a directory that others can write), NOMEM, QUOTA. */
SLUICE_NODISCARD sluice_err sl_keyring_load(const char *directory, sl_keyring **out, unsigned *n_refused,
                                            sluice_cause *cause);
/* NULL-safe, nulls the pointer. */
void sl_keyring_destroy(sl_keyring **keyring);
/* The entry of a key as 40 letters; NULL: it is not listed. Valid as long as the keyring. */
const sl_key *sl_keyring_find(const sl_keyring *keyring, const char *public_key);
size_t sl_keyring_size(const sl_keyring *keyring);

/* Reads DIR/server.key_secret. Errors: as sl_cert_load; INVALID (no secret key in it). */
SLUICE_NODISCARD sluice_err sl_server_secret_load(const char *directory, char secret_key[SL_KEY_TEXT_SIZE],
                                                  sluice_cause *cause);

#endif
