/* SPDX-License-Identifier: MIT */
/* A copy of a database on its way to its place: made beside it under another name, checked, put in place at once.
 *
 *   new --> (SQLite's backup API writes it) --> sealed: closed, fsynced, checked --> placed: renamed, directory fsynced
 *
 * Threads: one at a time, but for `cancel` (any). Errors fill cause.
 */
#ifndef SL_COPY_H
#define SL_COPY_H

#include <stdatomic.h>
#include <sqlite3.h>
#include <sluice/base.h>

typedef struct sl_copy {
    char *path;  /* where it will be */
    char *temp;  /* where it is; NULL: nowhere */
    sqlite3 *db; /* open for writing, between new and seal */
} sl_copy;

/* Makes an empty file beside `path`, with that mode, and opens it. The path's directory must be there.
 * Errors: INVALID (no file name, a directory, not a regular file), SYSTEM, NOMEM. */
SLUICE_NODISCARD sluice_err sl_copy_new(const char *path, unsigned mode, sl_copy *out, sluice_cause *cause);
/* Closes and fsyncs it, and checks that it is a database of so many pages in which SQLite finds no fault. Takes as long
 * as reading it; cancel (may be NULL) or the deadline (0: none) end that early.
 * Errors: CORRUPT (text says what), CLOSED (cancel), EXPIRED, IO, SYSTEM, NO_SPACE. */
SLUICE_NODISCARD sluice_err sl_copy_seal(sl_copy *copy, uint64_t pages, const _Atomic bool *cancel, int64_t deadline_ns,
                                         sluice_cause *cause);
/* Renames it over its path, durably. Errors: SYSTEM, IO. */
SLUICE_NODISCARD sluice_err sl_copy_place(sl_copy *copy, sluice_cause *cause);
/* Frees it and removes what is not in place. May run twice. */
void sl_copy_fini(sl_copy *copy);

/* Opens a database file that nobody writes, without locks and without a log. Gives: *out. */
SLUICE_NODISCARD sluice_err sl_open_still(const char *path, sqlite3 **out, sluice_cause *cause);
/* Makes the names in path's directory durable. */
SLUICE_NODISCARD sluice_err sl_sync_directory(const char *path, sluice_cause *cause);

#endif
