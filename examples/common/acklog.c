/* SPDX-License-Identifier: MIT */
#include "common/acklog.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int acklog_open(const char *path)
{
    return open(path != NULL ? path : "/dev/null", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

void acklog_add(int log, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof line - 1) {
        fprintf(stderr, "log of acknowledgements: line too long\n");
        exit(1);
    }
    line[size++] = '\n';
    if (write(log, line, (size_t)size) != size) {
        fprintf(stderr, "log of acknowledgements: %s\n", strerror(errno));
        exit(1);
    }
}
