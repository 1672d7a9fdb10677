/* SPDX-License-Identifier: MIT */
/* Helpers for tests; see support.h. */
#include "support/support.h"

#include <dirent.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool support_long(void) {
    const char *text = getenv("SLUICE_LONG");
    return text != NULL && text[0] == '1';
}

unsigned support_scaled(unsigned n) {
    const char *text = getenv("SLUICE_SCALE");
    unsigned scale = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 1;
    if (support_long()) n *= 10;
    n /= scale != 0 ? scale : 1;
    return n != 0 ? n : 1;
}

char *support_directory_new(void) {
    char template[] = "sluice-test-XXXXXX";
    if (mkdtemp(template) == NULL) fail_msg("mkdtemp failed");
    return realpath(template, NULL);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

void support_directory_remove(char **directory) {
    if (*directory == NULL) return;
    nftw(*directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*directory);
    *directory = NULL;
}

char *support_path(const char *directory, const char *file) {
    char *path = NULL;
    if (asprintf(&path, "%s/%s", directory, file) < 0) fail_msg("out of memory");
    return path;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void support_await(bool (*done)(void *context), void *context, unsigned timeout_ms) {
    int64_t end = now_ms() + (int64_t)timeout_ms;
    while (!done(context)) {
        if (now_ms() > end) fail_msg("waited %u ms in vain", timeout_ms);
        sched_yield();
    }
}
