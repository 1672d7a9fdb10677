/* SPDX-License-Identifier: MIT */
/* Keys for tests; see keys_kit.h. */
#include "support/keys_kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

keys_pair keys_pair_new(void) {
    keys_pair pair;
    sluice_cause cause;
    assert_ok(sl_keypair(pair.public_key, pair.secret_key, &cause), cause);
    return pair;
}

void keys_write(const char *path, mode_t mode, const char *text) {
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) fail_msg("cannot make %s", path);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

void keys_write_secret(const char *path, const keys_pair *pair) {
    char text[512];
    snprintf(text, sizeof text, "metadata\ncurve\n    public-key = \"%s\"\n    secret-key = \"%s\"\n", pair->public_key,
             pair->secret_key);
    keys_write(path, 0600, text);
}

keys_pair keys_directory_make(const char *directory) {
    char path[KEYS_PATH_MAX];
    snprintf(path, sizeof path, "%s/clients", directory);
    assert_int_equal(mkdir(path, 0700), 0);
    keys_pair server = keys_pair_new();
    snprintf(path, sizeof path, "%s/server.key_secret", directory);
    keys_write_secret(path, &server);
    return server;
}

void keys_list(const char *directory, const char *name, const char *public_key, const char *rights) {
    char path[KEYS_PATH_MAX], line[64] = "", text[512];
    snprintf(path, sizeof path, "%s/clients/%s.key", directory, name);
    if (rights != NULL) snprintf(line, sizeof line, "    rights = \"%s\"\n", rights);
    snprintf(text, sizeof text, "metadata\n%scurve\n    public-key = \"%s\"\n", line, public_key);
    keys_write(path, 0644, text);
}

void keys_unlist(const char *directory, const char *name) {
    char path[KEYS_PATH_MAX];
    snprintf(path, sizeof path, "%s/clients/%s.key", directory, name);
    assert_int_equal(unlink(path), 0);
}
