/* SPDX-License-Identifier: MIT */
/* Ownership of a database file: who may be its one Sluice owner, and whether it still is the same file.
 *
 * The owner holds an OFD lock on FILE.sluice.d/lock (directory 0700) and has its pid written in it. The database file
 * itself is never opened here: closing any descriptor of it would drop SQLite's POSIX locks; stat is enough.
 * Threads: one at a time, but sl_ownership_check (any).
 */
#ifndef SL_OWNERSHIP_H
#define SL_OWNERSHIP_H

#include <sluice/base.h>

typedef struct sl_ownership sl_ownership;

/* Resolves the path (links too), refuses what cannot be a database to write to, makes FILE.sluice.d and takes the lock.
 * Gives: *out. Errors: SYSTEM (missing and !create, directory, not a regular file, no permission, read-only),
 * LOCKED (text names the owner's pid), FATAL (condemned in this process), INVALID (path), NOMEM. Whether the bytes are
 * a database's is SQLite's to find out. */
SLUICE_NODISCARD sluice_err sl_ownership_take(const char *path, bool create, sl_ownership **out, sluice_cause *cause);
/* Gives the lock back. The side directory stays. NULL-safe, nulls the pointer. */
void sl_ownership_release(sl_ownership **ownership);

/* Marks the file as one that this process must not open again: release then keeps the lock until the process ends, and
 * take in this process fails with FATAL. (Another process may have it as soon as this one is gone.) */
void sl_ownership_condemn(sl_ownership *ownership);

/* The database file, absolute, links resolved. */
const char *sl_ownership_path(const sl_ownership *ownership);
/* The side directory "FILE.sluice.d". */
const char *sl_ownership_directory(const sl_ownership *ownership);

/* Remembers which files the database and its WAL are now; to be called when SQLite has opened both.
 * Errors: SYSTEM. */
SLUICE_NODISCARD sluice_err sl_ownership_pin(sl_ownership *ownership, sluice_cause *cause);
/* Checks that neither was renamed, deleted or replaced since. Errors: FATAL (text says which). Threads: any. */
SLUICE_NODISCARD sluice_err sl_ownership_check(const sl_ownership *ownership, sluice_cause *cause);
/* Size of the WAL file in bytes, 0 if it is not there. Threads: any. */
uint64_t sl_ownership_wal_size(const sl_ownership *ownership);

#endif
