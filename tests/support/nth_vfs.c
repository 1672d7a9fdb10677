/* SPDX-License-Identifier: MIT */
/* The counting VFS of nth_fault.h. Its syncs do not reach the disk: here it is the process that dies, not the machine.
 */
#include "support/nth_fault.h"

#include <sqlite3.h>
#include <stddef.h>

#include "support/nth_vfs.h"

typedef struct nth_handle {
    sqlite3_file base;
    sqlite3_file *below;
} nth_handle;

static sqlite3_vfs vfs;
static sqlite3_io_methods methods;

static sqlite3_file *below(sqlite3_file *file) { return ((nth_handle *)file)->below; }
static bool strikes(void) { return nth_fault_strikes(NTH_EIO); }

static int on_close(sqlite3_file *file) { return below(file)->pMethods->xClose(below(file)); }
static int on_read(sqlite3_file *file, void *data, int n, sqlite3_int64 at) {
    return strikes() ? SQLITE_IOERR_READ : below(file)->pMethods->xRead(below(file), data, n, at);
}
static int on_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at) {
    if (strikes()) return SQLITE_IOERR_WRITE;
    if (nth_fault_strikes(NTH_FULL)) return SQLITE_FULL;
    if (nth_fault_strikes(NTH_SHORT)) {
        (void)below(file)->pMethods->xWrite(below(file), data, n / 2, at);
        return SQLITE_FULL;
    }
    if (nth_fault_strikes(NTH_LATE)) {
        (void)below(file)->pMethods->xWrite(below(file), data, n, at);
        return SQLITE_FULL;
    }
    return below(file)->pMethods->xWrite(below(file), data, n, at);
}
static int on_truncate(sqlite3_file *file, sqlite3_int64 size) {
    return strikes() ? SQLITE_IOERR_TRUNCATE : below(file)->pMethods->xTruncate(below(file), size);
}
static int on_sync(sqlite3_file *file, int flags) {
    (void)file, (void)flags;
    return strikes() || nth_fault_strikes(NTH_SYNC) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}
static int on_size(sqlite3_file *file, sqlite3_int64 *size) {
    return strikes() ? SQLITE_IOERR_FSTAT : below(file)->pMethods->xFileSize(below(file), size);
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
    if (strikes()) {
        *out = NULL;
        return SQLITE_IOERR_SHMMAP;
    }
    return below(file)->pMethods->xShmMap(below(file), page, size, extend, out);
}
static int on_shm_lock(sqlite3_file *file, int offset, int n, int flags) {
    return below(file)->pMethods->xShmLock(below(file), offset, n, flags);
}
static void on_shm_barrier(sqlite3_file *file) { below(file)->pMethods->xShmBarrier(below(file)); }
static int on_shm_unmap(sqlite3_file *file, int remove) {
    return below(file)->pMethods->xShmUnmap(below(file), remove);
}

static int on_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *out_flags) {
    nth_handle *handle = (nth_handle *)file;
    sqlite3_vfs *base = self->pAppData;
    handle->base.pMethods = NULL;
    handle->below = (sqlite3_file *)(handle + 1);
    handle->below->pMethods = NULL;
    if (strikes()) return SQLITE_CANTOPEN;
    int rc = base->xOpen(base, name, handle->below, flags, out_flags);
    if (handle->below->pMethods != NULL) handle->base.pMethods = &methods;
    return rc;
}

static int on_delete(sqlite3_vfs *self, const char *name, int sync_directory) {
    (void)sync_directory;
    sqlite3_vfs *base = self->pAppData;
    return strikes() ? SQLITE_IOERR_DELETE : base->xDelete(base, name, 0);
}

static int on_access(sqlite3_vfs *self, const char *name, int flags, int *out) {
    sqlite3_vfs *base = self->pAppData;
    return strikes() ? SQLITE_IOERR_ACCESS : base->xAccess(base, name, flags, out);
}

void nth_vfs_register(void) {
    sqlite3_vfs *base = sqlite3_vfs_find("unix-excl");
    methods = (sqlite3_io_methods){
        .iVersion = 2, .xClose = on_close, .xRead = on_read, .xWrite = on_write, .xTruncate = on_truncate,
        .xSync = on_sync, .xFileSize = on_size, .xLock = on_lock, .xUnlock = on_unlock,
        .xCheckReservedLock = on_check, .xFileControl = on_control, .xSectorSize = on_sector,
        .xDeviceCharacteristics = on_device, .xShmMap = on_shm_map, .xShmLock = on_shm_lock,
        .xShmBarrier = on_shm_barrier, .xShmUnmap = on_shm_unmap,
    };
    vfs = *base;
    vfs.zName = NTH_VFS_NAME;
    vfs.pNext = NULL;
    vfs.pAppData = base;
    vfs.szOsFile = (int)sizeof(nth_handle) + base->szOsFile;
    vfs.xOpen = on_open;
    vfs.xDelete = on_delete;
    vfs.xAccess = on_access;
    sqlite3_vfs_register(&vfs, 0);
}
