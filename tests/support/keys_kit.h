/* SPDX-License-Identifier: MIT */
/* Keys for tests: a directory as sluiced wants it, and key files of any content. Everything asserts. Threads: the
 * test's. */
#ifndef KEYS_KIT_H
#define KEYS_KIT_H

#include "support/support.h"

#include <sys/types.h>

#include "keys.h"

#define KEYS_PATH_MAX 512

typedef struct keys_pair {
    char public_key[SL_KEY_TEXT_SIZE], secret_key[SL_KEY_TEXT_SIZE];
} keys_pair;

keys_pair keys_pair_new(void);
/* Makes DIRECTORY/clients and DIRECTORY/server.key_secret. Returns the server's pair. */
keys_pair keys_directory_make(const char *directory);
/* Lists a public key as DIRECTORY/clients/NAME.key; rights NULL: no line. */
void keys_list(const char *directory, const char *name, const char *public_key, const char *rights);
void keys_unlist(const char *directory, const char *name);
/* Writes a pair as a .key_secret file, mode 0600. */
void keys_write_secret(const char *path, const keys_pair *pair);
/* Writes any file. */
void keys_write(const char *path, mode_t mode, const char *text);

#endif
