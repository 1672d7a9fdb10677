/* SPDX-License-Identifier: MIT */
/* A VFS over another one, with faults that a test switches on and off, and a gate at the log's fsync.
 *
 * Threads: the switches are atomics; SQLite's threads come in by the VFS. One VFS at a time.
 */
#ifndef FAULT_VFS_H
#define FAULT_VFS_H

#include <stdatomic.h>
#include <stdbool.h>

#define FAULT_VFS_NAME "fault"

typedef struct fault_vfs {
    _Atomic int fail_wal_syncs;  /* so many syncs of the log fail with IOERR_FSYNC, then they work again */
    _Atomic bool wal_full;       /* writes to the log fail with SQLITE_FULL */
    _Atomic bool database_full;  /* writes to the database file fail with SQLITE_FULL */
    _Atomic bool fail_wal_write; /* writes to the log fail with IOERR_WRITE */
    _Atomic bool hold_wal_sync;  /* syncs of the log wait here until it is false */
    _Atomic int held;            /* waiting at the gate now */
    _Atomic unsigned wal_syncs;  /* finished */
} fault_vfs;

extern fault_vfs fault;

/* Registers FAULT_VFS_NAME over the VFS `base` ("unix-excl") and clears all switches. May be called again. */
void fault_vfs_register(const char *base);

#endif
