/* SPDX-License-Identifier: MIT */
/* The files after a power loss, and a VFS that serves them from memory; see crash_vfs.h. */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/crash_log.h"

#define SECTOR 512u

/* ---- bytes ---- */

static void bytes_resize(crash_bytes *bytes, size_t size) {
    if (size > bytes->room) {
        size_t room = size + size / 2;
        bytes->data = realloc(bytes->data, room);
        if (bytes->data == NULL) abort();
        bytes->room = room;
    }
    if (size > bytes->size) memset(bytes->data + bytes->size, 0, size - bytes->size);
    bytes->size = size;
}

static void bytes_write(crash_bytes *bytes, size_t offset, const void *data, size_t size) {
    if (offset + size > bytes->size) bytes_resize(bytes, offset + size);
    memcpy(bytes->data + offset, data, size);
    bytes->exists = true;
}

void crash_image_copy(crash_image *to, const crash_image *from) {
    for (int i = 0; i < CRASH_FILES; i++) {
        crash_bytes *target = &to->files[i];
        const crash_bytes *source = &from->files[i];
        target->size = 0;
        bytes_resize(target, source->size);
        if (source->size != 0) memcpy(target->data, source->data, source->size);
        target->exists = source->exists;
    }
}

void crash_image_fini(crash_image *image) {
    for (int i = 0; i < CRASH_FILES; i++) free(image->files[i].data);
    memset(image, 0, sizeof *image);
}

bool crash_image_save(const crash_image *image, const char *path) {
    static const char *const ends[CRASH_FILES] = {"", "-wal", "-journal"};
    bool ok = true;
    for (int i = 0; i < CRASH_FILES; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
        if (!image->files[i].exists) continue;
        int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        const crash_bytes *bytes = &image->files[i];
        if (fd < 0 || (bytes->size != 0 && write(fd, bytes->data, bytes->size) != (ssize_t)bytes->size)) ok = false;
        if (fd >= 0) close(fd);
    }
    return ok;
}

/* ---- the disk ---- */

typedef struct pending {
    const crash_op **ops; /* not covered by a sync, in order */
    size_t *at;           /* their positions */
    size_t n, room;
} pending;

struct crash_disk {
    crash_image certain;
    pending uncovered[CRASH_FILES];
    size_t position;
};

static void apply(crash_bytes *bytes, const crash_op *op) {
    if (op->kind == CRASH_OP_WRITE) bytes_write(bytes, op->offset, op->data, op->size);
    if (op->kind == CRASH_OP_TRUNCATE) bytes_resize(bytes, op->offset);
    if (op->kind == CRASH_OP_DELETE) {
        bytes_resize(bytes, 0);
        bytes->exists = false;
    }
}

/* Makes the entries before position `end` certain. */
static void cover(crash_disk *disk, crash_file file, size_t end) {
    pending *list = &disk->uncovered[file];
    size_t n = 0;
    while (n < list->n && list->at[n] < end) apply(&disk->certain.files[file], list->ops[n++]);
    if (n == 0) return;
    memmove(list->ops, list->ops + n, (list->n - n) * sizeof *list->ops);
    memmove(list->at, list->at + n, (list->n - n) * sizeof *list->at);
    list->n -= n;
}

static void add(pending *list, const crash_op *op, size_t at) {
    if (list->n == list->room) {
        list->room = list->room != 0 ? list->room * 2 : 64;
        list->ops = realloc(list->ops, list->room * sizeof *list->ops);
        list->at = realloc(list->at, list->room * sizeof *list->at);
        if (list->ops == NULL || list->at == NULL) abort();
    }
    list->ops[list->n] = op;
    list->at[list->n++] = at;
}

/* The directory was synced: files deleted before position `end` are gone. */
static void cover_deletions(crash_disk *disk, size_t end) {
    for (int file = 0; file < CRASH_FILES; file++) {
        const pending *list = &disk->uncovered[file];
        for (size_t i = list->n; i-- > 0;)
            if (list->at[i] < end && list->ops[i]->kind == CRASH_OP_DELETE) {
                cover(disk, (crash_file)file, list->at[i] + 1);
                break;
            }
    }
}

crash_disk *crash_disk_new(const crash_image *start) {
    crash_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL) abort();
    if (start != NULL) crash_image_copy(&disk->certain, start);
    return disk;
}

void crash_disk_destroy(crash_disk **disk_at) {
    crash_disk *disk = *disk_at;
    if (disk == NULL) return;
    *disk_at = NULL;
    crash_image_fini(&disk->certain);
    for (int i = 0; i < CRASH_FILES; i++) {
        free(disk->uncovered[i].ops);
        free(disk->uncovered[i].at);
    }
    free(disk);
}

void crash_disk_advance(crash_disk *disk, size_t position) {
    for (; disk->position < position; disk->position++) {
        const crash_op *op = crash_vfs_op(disk->position);
        if (op->kind == CRASH_OP_SYNC) {
            cover(disk, op->file, op->offset);
            if (op->directory) cover_deletions(disk, op->offset);
        } else if (op->kind == CRASH_OP_CREATE) {
            cover(disk, op->file, disk->position);
            disk->certain.files[op->file].exists = true;
        } else {
            add(&disk->uncovered[op->file], op, disk->position);
        }
    }
}

/* ---- images ---- */

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

/* How many of the file's n uncovered entries a sector has seen. */
static size_t seen(crash_style style, uint64_t seed, crash_file file, uint64_t sector, size_t n) {
    uint64_t of_file = mix(seed * 31 + (uint64_t)file), of_sector = mix(of_file ^ mix(sector + 1));
    switch (style) {
    case CRASH_EVERYTHING: return n;
    case CRASH_IN_ORDER: { /* up to one write; of that one, some sectors */
        size_t last = of_file % (n + 1);
        return last < n && of_sector % 2 != 0 ? last + 1 : last;
    }
    case CRASH_TORN:
        /* Most of the disks' states are extremes: a mix of none and all, in a proportion of the image's own. */
        if (of_sector % 4 == 0) return (of_sector >> 8) % (n + 1);
        return (of_sector >> 8) % 100 < (of_file >> 8) % 101 ? n : 0;
    default: return 0;
    }
}

void crash_disk_image(const crash_disk *disk, crash_style style, uint64_t seed, crash_image *out) {
    crash_image_copy(out, &disk->certain);
    for (int file = 0; file < CRASH_FILES; file++) {
        const pending *list = &disk->uncovered[file];
        crash_bytes *bytes = &out->files[file];
        for (size_t i = 0; i < list->n; i++) {
            const crash_op *op = list->ops[i];
            if (op->kind != CRASH_OP_WRITE) {
                if (i < seen(style, seed, (crash_file)file, UINT64_MAX - 1, list->n)) apply(bytes, op);
                continue;
            }
            for (size_t at = 0, n; at < op->size; at += n) {
                size_t offset = op->offset + at;
                n = SECTOR - offset % SECTOR < op->size - at ? SECTOR - offset % SECTOR : op->size - at;
                if (i < seen(style, seed, (crash_file)file, offset / SECTOR, list->n))
                    bytes_write(bytes, offset, op->data + at, n);
            }
        }
    }
}

/* ---- an image as a file system ---- */

typedef struct image_handle {
    sqlite3_file base;
    crash_bytes *bytes;
} image_handle;

static crash_image *served;
static sqlite3_vfs image_vfs;

void crash_image_serve(crash_image *image) { served = image; }

static crash_bytes *bytes_of(sqlite3_file *file) { return ((image_handle *)file)->bytes; }

static int image_close(sqlite3_file *file) {
    (void)file;
    return SQLITE_OK;
}
static int image_read(sqlite3_file *file, void *data, int n, sqlite3_int64 at) {
    const crash_bytes *bytes = bytes_of(file);
    size_t offset = (size_t)at, size = (size_t)n;
    size_t there = offset >= bytes->size ? 0 : bytes->size - offset < size ? bytes->size - offset : size;
    if (there != 0) memcpy(data, bytes->data + offset, there);
    if (there == size) return SQLITE_OK;
    memset((char *)data + there, 0, size - there);
    return SQLITE_IOERR_SHORT_READ;
}
static int image_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at) {
    bytes_write(bytes_of(file), (size_t)at, data, (size_t)n);
    return SQLITE_OK;
}
static int image_truncate(sqlite3_file *file, sqlite3_int64 size) {
    bytes_resize(bytes_of(file), (size_t)size);
    return SQLITE_OK;
}
static int image_sync(sqlite3_file *file, int flags) {
    (void)file, (void)flags;
    return SQLITE_OK;
}
static int image_size(sqlite3_file *file, sqlite3_int64 *size) {
    *size = (sqlite3_int64)bytes_of(file)->size;
    return SQLITE_OK;
}
static int image_lock(sqlite3_file *file, int lock) {
    (void)file, (void)lock;
    return SQLITE_OK;
}
static int image_check(sqlite3_file *file, int *out) {
    (void)file;
    *out = 0;
    return SQLITE_OK;
}
static int image_control(sqlite3_file *file, int op, void *arg) {
    (void)file, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}
static int image_sector(sqlite3_file *file) {
    (void)file;
    return (int)SECTOR;
}
static int image_device(sqlite3_file *file) {
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods image_methods = {
    .iVersion = 1, .xClose = image_close, .xRead = image_read, .xWrite = image_write, .xTruncate = image_truncate,
    .xSync = image_sync, .xFileSize = image_size, .xLock = image_lock, .xUnlock = image_lock,
    .xCheckReservedLock = image_check, .xFileControl = image_control, .xSectorSize = image_sector,
    .xDeviceCharacteristics = image_device,
};

static int image_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *out_flags) {
    (void)self, (void)name;
    int which = crash_file_of_flags(flags);
    file->pMethods = NULL;
    if (which < 0 || served == NULL) return SQLITE_CANTOPEN;
    crash_bytes *bytes = &served->files[which];
    if (!bytes->exists && (flags & SQLITE_OPEN_CREATE) == 0) return SQLITE_CANTOPEN;
    bytes->exists = true;
    ((image_handle *)file)->bytes = bytes;
    file->pMethods = &image_methods;
    if (out_flags != NULL) *out_flags = flags;
    return SQLITE_OK;
}

static int image_delete(sqlite3_vfs *self, const char *name, int sync_directory) {
    (void)self, (void)sync_directory;
    int which = crash_file_of_name(name);
    if (which < 0 || !served->files[which].exists) return SQLITE_IOERR_DELETE_NOENT;
    bytes_resize(&served->files[which], 0);
    served->files[which].exists = false;
    return SQLITE_OK;
}

static int image_access(sqlite3_vfs *self, const char *name, int flags, int *out) {
    (void)self, (void)flags;
    int which = crash_file_of_name(name);
    *out = which >= 0 && served->files[which].exists;
    return SQLITE_OK;
}

static int image_full_name(sqlite3_vfs *self, const char *name, int n, char *out) {
    (void)self;
    snprintf(out, (size_t)n, "%s", name);
    return SQLITE_OK;
}

void crash_image_register(void) {
    image_vfs = *sqlite3_vfs_find(NULL);
    image_vfs.zName = IMAGE_VFS_NAME;
    image_vfs.pNext = NULL;
    image_vfs.szOsFile = (int)sizeof(image_handle);
    image_vfs.xOpen = image_open;
    image_vfs.xDelete = image_delete;
    image_vfs.xAccess = image_access;
    image_vfs.xFullPathname = image_full_name;
    sqlite3_vfs_register(&image_vfs, 0);
}
