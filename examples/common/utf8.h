/* SPDX-License-Identifier: MIT */
/* Paths are bytes; those that are not UTF-8 are stored as blobs. Threads: any. */
#ifndef EXAMPLE_UTF8_H
#define EXAMPLE_UTF8_H

#include <stdbool.h>

bool utf8_valid(const char *text);

#endif
