/* SPDX-License-Identifier: MIT */
/* The keyring: reads a directory of key files into a sorted table.
 *
 * Not an actor: plain functions for any thread; a loaded keyring is read only.
 *
 * Invariants
 *  1. What cannot be understood lets nobody in: a file is either whole and clean, or left out and told.
 *  2. A key gets no more than each of its files gives it.
 *  3. Whoever can write one of the directories could list a key, so others must not.
 */
#include "keyring.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "zpl.h"

struct sl_keyring {
    sl_key *keys; /* ascending by public_key, each once */
    size_t n, room;
};

static sluice_err system_error(sluice_cause *cause, const char *path, int code) {
    (void)sluice_cause_set(cause, SLUICE_SYSTEM, "%s: %s", path, strerror(code));
    if (cause != NULL) cause->sys_errno = code;
    return SLUICE_SYSTEM;
}

static sluice_err check_directory(const char *path, sluice_cause *cause) {
    struct stat st;
    uid_t self = geteuid();
    if (stat(path, &st) != 0) return system_error(cause, path, errno);
    if (!S_ISDIR(st.st_mode)) return system_error(cause, path, ENOTDIR);
    if (st.st_uid != self && st.st_uid != 0 && self != 0)
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s belongs to another user", path);
    if ((st.st_mode & 022) != 0)
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s can be written by other users (mode %03o); chmod go-w it",
                                path, (unsigned)st.st_mode & 0777u);
    return SLUICE_OK;
}

/* ---- one file ---- */

static bool rights_of(const char *text, unsigned *out) {
    static const struct {
        const char *text;
        unsigned rights;
    } levels[] = {
        {"read", SLUICE_RIGHT_READ},
        {"write", SLUICE_RIGHT_READ | SLUICE_RIGHT_WRITE},
        {"admin", SLUICE_RIGHT_ALL},
        {"", SLUICE_RIGHT_ALL},
    };
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcmp(text, levels[i].text) != 0) continue;
        *out = levels[i].rights;
        return true;
    }
    return false;
}

static sluice_err read_key(const char *path, const char *name, sl_key *out, sluice_cause *cause) {
    memset(out, 0, sizeof *out);
    sl_cert cert;
    sluice_err err = sl_cert_load(path, &cert, cause);
    if (err != SLUICE_OK) return err;
    if (cert.secret_key[0] != '\0')
        err = sluice_cause_set(cause, SLUICE_INVALID, "%s holds a client's secret key, which the server must not have",
                               path);
    else if (!rights_of(cert.rights, &out->rights))
        err = sluice_cause_set(cause, SLUICE_INVALID, "%s: rights are read, write or admin, not \"%s\"", path,
                               cert.rights);
    memcpy(out->public_key, cert.public_key, sizeof out->public_key);
    sl_key_fingerprint(out->public_key, out->user);
    snprintf(out->name, sizeof out->name, "%.*s", (int)(strlen(name) - strlen(".key")), name);
    sl_cert_wipe(&cert);
    return err;
}

/* ---- the table ---- */

static int by_key(const void *a, const void *b) {
    return strcmp(((const sl_key *)a)->public_key, ((const sl_key *)b)->public_key);
}

static bool add(sl_keyring *self, const sl_key *key) {
    if (self->n == self->room) {
        size_t room = self->room != 0 ? self->room * 2 : 16;
        sl_key *grown = realloc(self->keys, room * sizeof *grown);
        if (grown == NULL) return false;
        self->keys = grown;
        self->room = room;
    }
    self->keys[self->n++] = *key;
    return true;
}

/* Invariant 2. */
static void merge(sl_keyring *self) {
    if (self->n > 1) qsort(self->keys, self->n, sizeof *self->keys, by_key);
    size_t kept = 0;
    for (size_t i = 0; i < self->n; i++) {
        if (kept > 0 && by_key(&self->keys[kept - 1], &self->keys[i]) == 0)
            self->keys[kept - 1].rights &= self->keys[i].rights;
        else
            self->keys[kept++] = self->keys[i];
    }
    self->n = kept;
}

static bool is_key_file(const char *name) {
    size_t size = strlen(name), end = strlen(".key");
    return name[0] != '.' && size > end && strcmp(name + size - end, ".key") == 0;
}

static sluice_err read_directory(sl_keyring *self, const char *path, DIR *directory, unsigned *n_refused,
                                 sluice_cause *cause) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) return errno == 0 ? SLUICE_OK : system_error(cause, path, errno);
        if (!is_key_file(entry->d_name)) continue;
        if (self->n >= SL_KEYRING_MAX)
            return sluice_cause_set(cause, SLUICE_QUOTA, "%s holds more than %u keys", path, SL_KEYRING_MAX);
        char file[PATH_MAX];
        int n = snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (n < 0 || (size_t)n >= sizeof file) return system_error(cause, path, ENAMETOOLONG);
        sl_key key;
        sluice_cause why;
        sluice_err err = read_key(file, entry->d_name, &key, &why);
        if (err == SLUICE_SYSTEM && (why.sys_errno == EMFILE || why.sys_errno == ENFILE || why.sys_errno == ENOMEM)) {
            if (cause != NULL) *cause = why; /* nothing is wrong with the file */
            return err;
        }
        if (err != SLUICE_OK) {
            if ((*n_refused)++ == 0 && cause != NULL) *cause = why;
        } else if (!add(self, &key)) {
            return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for keys");
        }
    }
}

sluice_err sl_keyring_load(const char *directory, sl_keyring **out, unsigned *n_refused, sluice_cause *cause) {
    *out = NULL;
    *n_refused = 0;
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/clients", directory);
    if (n < 0 || (size_t)n >= sizeof path) return system_error(cause, directory, ENAMETOOLONG);
    sluice_err err = check_directory(directory, cause);
    if (err == SLUICE_OK) err = check_directory(path, cause);
    if (err != SLUICE_OK) return err;
    DIR *clients = opendir(path);
    if (clients == NULL) return system_error(cause, path, errno);
    sl_keyring *self = calloc(1, sizeof *self);
    err = self == NULL ? sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for keys")
                       : read_directory(self, path, clients, n_refused, cause);
    closedir(clients);
    if (err != SLUICE_OK) {
        sl_keyring_destroy(&self);
        return err;
    }
    merge(self);
    *out = self;
    return SLUICE_OK;
}

void sl_keyring_destroy(sl_keyring **keyring) {
    sl_keyring *self = *keyring;
    *keyring = NULL;
    if (self == NULL) return;
    free(self->keys);
    free(self);
}

const sl_key *sl_keyring_find(const sl_keyring *keyring, const char *public_key) {
    sl_key key;
    int n = snprintf(key.public_key, sizeof key.public_key, "%s", public_key);
    if (n != SL_KEY_TEXT_SIZE - 1 || keyring->n == 0) return NULL;
    return bsearch(&key, keyring->keys, keyring->n, sizeof key, by_key);
}

size_t sl_keyring_size(const sl_keyring *keyring) { return keyring->n; }

sluice_err sl_server_secret_load(const char *directory, char secret_key[SL_KEY_TEXT_SIZE], sluice_cause *cause) {
    secret_key[0] = '\0';
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/server.key_secret", directory);
    if (n < 0 || (size_t)n >= sizeof path) return system_error(cause, directory, ENAMETOOLONG);
    sl_cert cert;
    sluice_err err = sl_cert_load(path, &cert, cause);
    if (err == SLUICE_OK && cert.secret_key[0] == '\0')
        err = sluice_cause_set(cause, SLUICE_INVALID, "%s holds no secret key", path);
    if (err == SLUICE_OK) memcpy(secret_key, cert.secret_key, sizeof cert.secret_key);
    sl_cert_wipe(&cert);
    return err;
}
