/* SPDX-License-Identifier: MIT */
#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t append(char *line, size_t size, size_t at, const char *text) {
    for (; *text && at + 2 < size; text++) line[at++] = (unsigned char)*text < ' ' ? ' ' : *text;
    return at;
}

void sl_tool_error(const char *what, const char *why, const char *hint) {
    char line[2048];
    size_t at = append(line, sizeof line, 0, program_invocation_short_name);
    at = append(line, sizeof line, at, ": ");
    at = append(line, sizeof line, at, what);
    at = append(line, sizeof line, at, ": ");
    at = append(line, sizeof line, at, why);
    if (hint) {
        at = append(line, sizeof line, at, " (");
        at = append(line, sizeof line, at, hint);
        at = append(line, sizeof line, at, ")");
    }
    line[at++] = '\n';
    /* One write, so that lines of several processes do not mix. */
    fflush(stdout);
    if (!sl_tool_write(STDERR_FILENO, line, at)) return;
}

int sl_tool_exit_code(sluice_err err, bool write) {
    switch (err) {
    case SLUICE_OK: return SL_EXIT_OK;
    case SLUICE_UNREACHABLE:
    case SLUICE_EXPIRED:
    case SLUICE_CLOSED: return SL_EXIT_NO_CONNECTION;
    case SLUICE_UNKNOWN:
    case SLUICE_TIMEOUT: return write ? SL_EXIT_UNKNOWN : SL_EXIT_NO_CONNECTION;
    default: return write && sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN ? SL_EXIT_UNKNOWN : SL_EXIT_ERROR;
    }
}

bool sl_tool_number(const char *text, uint64_t min, uint64_t max, uint64_t *out) {
    if (*text < '0' || *text > '9') return false;
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end || value < min || value > max) return false;
    *out = value;
    return true;
}

bool sl_tool_write(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

bool sl_tool_read(int fd, void *data, size_t size) {
    char *at = data;
    while (size) {
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = 0;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}
