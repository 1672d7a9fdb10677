/* SPDX-License-Identifier: MIT */
/* A VFS with faults; see fault_vfs.h. Everything not named here goes through to the VFS below. */
#include "support/fault_vfs.h"

#include <sched.h>
#include <sqlite3.h>
#include <stddef.h>
#include <string.h>

fault_vfs fault;

typedef struct fault_file {
    sqlite3_file base;
    bool wal;
    sqlite3_file *below; /* behind this struct */
} fault_file;

static sqlite3_vfs vfs;
static sqlite3_io_methods methods;

static sqlite3_file *below(sqlite3_file *file) { return ((fault_file *)file)->below; }

static int on_close(sqlite3_file *file) { return below(file)->pMethods->xClose(below(file)); }
static int on_read(sqlite3_file *file, void *data, int n, sqlite3_int64 at) {
    return below(file)->pMethods->xRead(below(file), data, n, at);
}
static int on_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at) {
    if (((fault_file *)file)->wal && atomic_load(&fault.wal_full)) return SQLITE_FULL;
    if (!((fault_file *)file)->wal && atomic_load(&fault.database_full)) return SQLITE_FULL;
    if (((fault_file *)file)->wal && atomic_load(&fault.fail_wal_write)) return SQLITE_IOERR_WRITE;
    return below(file)->pMethods->xWrite(below(file), data, n, at);
}
static int on_truncate(sqlite3_file *file, sqlite3_int64 size) {
    return below(file)->pMethods->xTruncate(below(file), size);
}
static int on_sync(sqlite3_file *file, int flags) {
    if (!((fault_file *)file)->wal) return below(file)->pMethods->xSync(below(file), flags);
    atomic_fetch_add(&fault.held, 1);
    while (atomic_load(&fault.hold_wal_sync)) sched_yield();
    atomic_fetch_sub(&fault.held, 1);
    int rc = below(file)->pMethods->xSync(below(file), flags);
    if (atomic_load(&fault.fail_wal_syncs) > 0) {
        atomic_fetch_sub(&fault.fail_wal_syncs, 1);
        rc = SQLITE_IOERR_FSYNC;
    }
    atomic_fetch_add(&fault.wal_syncs, 1);
    return rc;
}
static int on_size(sqlite3_file *file, sqlite3_int64 *size) {
    return below(file)->pMethods->xFileSize(below(file), size);
}
static int on_lock(sqlite3_file *file, int lock) { return below(file)->pMethods->xLock(below(file), lock); }
static int on_unlock(sqlite3_file *file, int lock) { return below(file)->pMethods->xUnlock(below(file), lock); }
static int on_check(sqlite3_file *file, int *out) {
    return below(file)->pMethods->xCheckReservedLock(below(file), out);
}
static int on_control(sqlite3_file *file, int op, void *arg) {
    return below(file)->pMethods->xFileControl(below(file), op, arg);
}
static int on_sector(sqlite3_file *file) { return below(file)->pMethods->xSectorSize(below(file)); }
static int on_device(sqlite3_file *file) { return below(file)->pMethods->xDeviceCharacteristics(below(file)); }
static int on_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out) {
    return below(file)->pMethods->xShmMap(below(file), page, size, extend, out);
}
static int on_shm_lock(sqlite3_file *file, int offset, int n, int flags) {
    return below(file)->pMethods->xShmLock(below(file), offset, n, flags);
}
/* What the one below does too. Calling it would show ThreadSanitizer an unlock without the lock, for SQLite leaves its
 * mutex by a tail call and the sanitizer looks at the caller to know whose call it is. */
static void on_shm_barrier(sqlite3_file *file) {
    (void)file;
    __sync_synchronize();
}
static int on_shm_unmap(sqlite3_file *file, int remove) {
    return below(file)->pMethods->xShmUnmap(below(file), remove);
}

static int on_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *out_flags) {
    fault_file *f = (fault_file *)file;
    sqlite3_vfs *base = self->pAppData;
    f->base.pMethods = NULL;
    f->wal = (flags & SQLITE_OPEN_WAL) != 0;
    f->below = (sqlite3_file *)(f + 1);
    f->below->pMethods = NULL;
    int rc = base->xOpen(base, name, f->below, flags, out_flags);
    if (f->below->pMethods != NULL) f->base.pMethods = &methods;
    return rc;
}

void fault_vfs_register(const char *base_name) {
    memset(&fault, 0, sizeof fault);
    if (vfs.zName != NULL) return;
    sqlite3_vfs *base = sqlite3_vfs_find(base_name);
    methods = (sqlite3_io_methods){
        .iVersion = 2, .xClose = on_close, .xRead = on_read, .xWrite = on_write, .xTruncate = on_truncate,
        .xSync = on_sync, .xFileSize = on_size, .xLock = on_lock, .xUnlock = on_unlock,
        .xCheckReservedLock = on_check, .xFileControl = on_control, .xSectorSize = on_sector,
        .xDeviceCharacteristics = on_device, .xShmMap = on_shm_map, .xShmLock = on_shm_lock,
        .xShmBarrier = on_shm_barrier, .xShmUnmap = on_shm_unmap,
    };
    vfs = *base;
    vfs.zName = FAULT_VFS_NAME;
    vfs.pNext = NULL;
    vfs.pAppData = base;
    vfs.szOsFile = (int)sizeof(fault_file) + base->szOsFile;
    vfs.xOpen = on_open;
    sqlite3_vfs_register(&vfs, 0);
}
