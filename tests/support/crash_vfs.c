/* SPDX-License-Identifier: MIT */
/* A VFS that writes down what reaches the files; see crash_vfs.h. Locks and shared memory are the business of the VFS
 * below. */
#include "support/crash_vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/crash_log.h"

typedef struct crash_handle {
    sqlite3_file base;
    int which; /* crash_file, or -1: not recorded */
    _Atomic bool fresh; /* made by this open and not synced yet */
    sqlite3_file *below;
} crash_handle;

static sqlite3_vfs vfs;
static sqlite3_io_methods methods;

static struct {
    pthread_mutex_t lock;
    crash_op *ops;
    size_t room;
    _Atomic size_t n;
} journal = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the log ---- */

/* With the lock held. */
static void note(crash_op op, const void *data) {
    size_t n = atomic_load(&journal.n);
    if (n == journal.room) {
        journal.room = journal.room != 0 ? journal.room * 2 : 4096;
        journal.ops = realloc(journal.ops, journal.room * sizeof *journal.ops);
        if (journal.ops == NULL) abort();
    }
    if (op.kind == CRASH_OP_WRITE) {
        op.data = malloc(op.size);
        if (op.data == NULL) abort();
        memcpy(op.data, data, op.size);
    }
    journal.ops[n] = op;
    atomic_store(&journal.n, n + 1);
}

static void note_locked(crash_op op) {
    pthread_mutex_lock(&journal.lock);
    note(op, NULL);
    pthread_mutex_unlock(&journal.lock);
}

void crash_vfs_begin(void) {
    pthread_mutex_lock(&journal.lock);
    for (size_t i = 0; i < atomic_load(&journal.n); i++) free(journal.ops[i].data);
    atomic_store(&journal.n, 0);
    pthread_mutex_unlock(&journal.lock);
}

size_t crash_vfs_position(void) { return atomic_load(&journal.n); }
const crash_op *crash_vfs_op(size_t at) { return &journal.ops[at]; }

void crash_vfs_describe(size_t position, char text[96]) {
    static const char *const files[] = {"database", "log", "journal"};
    static const char *const kinds[] = {"write", "truncate", "sync", "create", "delete"};
    if (position == 0 || position > atomic_load(&journal.n)) {
        snprintf(text, 96, "the start");
        return;
    }
    const crash_op *op = &journal.ops[position - 1];
    if (op->kind == CRASH_OP_WRITE || op->kind == CRASH_OP_TRUNCATE)
        snprintf(text, 96, "%s of %s, %zu bytes at %zu", kinds[op->kind], files[op->file], op->size, op->offset);
    else
        snprintf(text, 96, "%s of %s", kinds[op->kind], files[op->file]);
}

/* ---- files ---- */

static crash_handle *handle_of(sqlite3_file *file) { return (crash_handle *)file; }
static sqlite3_file *below(sqlite3_file *file) { return handle_of(file)->below; }

static int on_close(sqlite3_file *file) { return below(file)->pMethods->xClose(below(file)); }
static int on_read(sqlite3_file *file, void *data, int n, sqlite3_int64 at) {
    return below(file)->pMethods->xRead(below(file), data, n, at);
}

static int on_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at) {
    int which = handle_of(file)->which;
    if (which < 0) return below(file)->pMethods->xWrite(below(file), data, n, at);
    /* The lock is held until the write has ended, so that a sync covers exactly what the log says it covers. */
    pthread_mutex_lock(&journal.lock);
    note((crash_op){.kind = CRASH_OP_WRITE, .file = (crash_file)which, .offset = (size_t)at, .size = (size_t)n}, data);
    int rc = below(file)->pMethods->xWrite(below(file), data, n, at);
    pthread_mutex_unlock(&journal.lock);
    return rc;
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size) {
    int which = handle_of(file)->which;
    if (which < 0) return below(file)->pMethods->xTruncate(below(file), size);
    pthread_mutex_lock(&journal.lock);
    note((crash_op){.kind = CRASH_OP_TRUNCATE, .file = (crash_file)which, .offset = (size_t)size}, NULL);
    int rc = below(file)->pMethods->xTruncate(below(file), size);
    pthread_mutex_unlock(&journal.lock);
    return rc;
}

static int on_sync(sqlite3_file *file, int flags) {
    int which = handle_of(file)->which;
    pthread_mutex_lock(&journal.lock);
    size_t covered = atomic_load(&journal.n);
    pthread_mutex_unlock(&journal.lock);
    int rc = below(file)->pMethods->xSync(below(file), flags);
    if (which < 0 || rc != SQLITE_OK) return rc;
    /* SQLite syncs the directory together with a new log or journal (os_unix.c, UNIXFILE_DIRSYNC). */
    bool directory = which != CRASH_DB && atomic_exchange(&handle_of(file)->fresh, false);
    note_locked(
        (crash_op){.kind = CRASH_OP_SYNC, .file = (crash_file)which, .offset = covered, .directory = directory});
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
static void on_shm_barrier(sqlite3_file *file) { below(file)->pMethods->xShmBarrier(below(file)); }
static int on_shm_unmap(sqlite3_file *file, int remove) {
    return below(file)->pMethods->xShmUnmap(below(file), remove);
}

int crash_file_of_flags(int flags) {
    if ((flags & SQLITE_OPEN_MAIN_DB) != 0) return CRASH_DB;
    if ((flags & SQLITE_OPEN_WAL) != 0) return CRASH_WAL;
    if ((flags & SQLITE_OPEN_MAIN_JOURNAL) != 0) return CRASH_JOURNAL;
    return -1;
}

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

int crash_file_of_name(const char *name) {
    if (ends_with(name, "-wal")) return CRASH_WAL;
    if (ends_with(name, "-journal")) return CRASH_JOURNAL;
    return ends_with(name, ".db") ? CRASH_DB : -1;
}

static int on_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *out_flags) {
    crash_handle *handle = handle_of(file);
    sqlite3_vfs *base = self->pAppData;
    handle->base.pMethods = NULL;
    handle->which = crash_file_of_flags(flags);
    handle->below = (sqlite3_file *)(handle + 1);
    handle->below->pMethods = NULL;
    handle->fresh = false;
    bool was_there = name != NULL && access(name, F_OK) == 0;
    int rc = base->xOpen(base, name, handle->below, flags, out_flags);
    if (handle->below->pMethods != NULL) handle->base.pMethods = &methods;
    if (rc == SQLITE_OK && handle->which >= 0 && !was_there) {
        handle->fresh = true;
        note_locked((crash_op){.kind = CRASH_OP_CREATE, .file = (crash_file)handle->which});
    }
    return rc;
}

static int on_delete(sqlite3_vfs *self, const char *name, int sync_directory) {
    sqlite3_vfs *base = self->pAppData;
    int which = crash_file_of_name(name);
    int rc = base->xDelete(base, name, sync_directory);
    if (rc != SQLITE_OK || which < 0) return rc;
    pthread_mutex_lock(&journal.lock);
    note((crash_op){.kind = CRASH_OP_DELETE, .file = (crash_file)which}, NULL);
    if (sync_directory) {
        size_t covered = atomic_load(&journal.n);
        note((crash_op){.kind = CRASH_OP_SYNC, .file = (crash_file)which, .offset = covered, .directory = true}, NULL);
    }
    pthread_mutex_unlock(&journal.lock);
    return rc;
}

void crash_vfs_register(const char *base_name) {
    crash_vfs_begin();
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
    vfs.zName = CRASH_VFS_NAME;
    vfs.pNext = NULL;
    vfs.pAppData = base;
    vfs.szOsFile = (int)sizeof(crash_handle) + base->szOsFile;
    vfs.xOpen = on_open;
    vfs.xDelete = on_delete;
    sqlite3_vfs_register(&vfs, 0);
    crash_image_register();
}
