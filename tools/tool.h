/* SPDX-License-Identifier: MIT */
/* What sluiced and sluice share: exit codes, error lines, whole writes. Threads: any. */
#ifndef SL_TOOL_H
#define SL_TOOL_H

#include <sluice/base.h>

enum {
    SL_EXIT_OK = 0,
    SL_EXIT_ERROR = 1,         /* the statement, or the run, failed */
    SL_EXIT_USAGE = 2,         /* the command line makes no sense; nothing was tried */
    SL_EXIT_NO_CONNECTION = 3, /* nobody answered in time; nothing was applied */
    SL_EXIT_UNKNOWN = 4        /* a write whose answer was lost */
};

/* Prints "PROGRAM: what: why (hint)" as one line on stderr; hint may be NULL. Line breaks in the parts become spaces.
 */
void sl_tool_error(const char *what, const char *why, const char *hint);
/* The exit code for how a request ended; `write`: it could have changed the file. */
int sl_tool_exit_code(sluice_err err, bool write);

/* Reads a whole number of min..max in plain decimal. Returns false if text is anything else. */
bool sl_tool_number(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* Writes, or reads, exactly size bytes. Returns false on an error or an early end (errno set, 0 for the end). */
bool sl_tool_write(int fd, const void *data, size_t size);
bool sl_tool_read(int fd, void *data, size_t size);

#endif
