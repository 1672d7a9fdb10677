/* SPDX-License-Identifier: MIT */
/* A disk that loses its power: a VFS that writes down what reaches the files, and the files as they may be afterwards.
 *
 * Recording: every write, truncate, sync, creation and deletion of the database, its WAL and its rollback journal that
 * goes through CRASH_VFS_NAME becomes one entry of a log. The position in the log is the clock of a test: whoever got
 * an acknowledgement notes the position, and no image of that position or a later one may lack what was acknowledged.
 *
 * The model of the disk. A sync that returned covers every write to that file that had ended when it began. What is
 * not covered may be on the disk or not, each sector of 512 bytes by itself, but a sector holds what was in it at one
 * moment (after the first i of the uncovered writes): the kernel never writes back an older state over a newer.
 * An uncovered truncation or deletion may have happened or not. A deletion becomes certain when the directory is
 * synced, which SQLite does with the first sync of a new log or journal, or when a namesake is created, for a
 * directory's changes keep their order. Bytes of a sector that no write touched stay as they were
 * (SQLITE_IOCAP_POWERSAFE_OVERWRITE, SQLite's own assumption about disks).
 * Source: sqlite.org/atomiccommit.html, section 2, and sqlite.org/psow.html.
 *
 * Images are served from memory by IMAGE_VFS_NAME, one at a time, to a connection in locking_mode=EXCLUSIVE.
 *
 * Threads: recording and the position: any. Everything else: one.
 */
#ifndef CRASH_VFS_H
#define CRASH_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRASH_VFS_NAME "crash"
#define IMAGE_VFS_NAME "image"

/* ---- recording ---- */

/* Registers CRASH_VFS_NAME over the VFS `base` ("unix-excl"), and IMAGE_VFS_NAME. May be called again. */
void crash_vfs_register(const char *base);
/* Empties the log; recording begins at position 0. No file may be open. */
void crash_vfs_begin(void);
/* Entries in the log. Threads: any. */
size_t crash_vfs_position(void);
/* Says in one line what the entry before `position` is. */
void crash_vfs_describe(size_t position, char text[96]);

/* ---- images ---- */

typedef enum crash_file { CRASH_DB = 0, CRASH_WAL, CRASH_JOURNAL, CRASH_FILES } crash_file;

typedef struct crash_bytes {
    uint8_t *data;
    size_t size, room;
    bool exists;
} crash_bytes;

typedef struct crash_image {
    crash_bytes files[CRASH_FILES];
} crash_image;

/* Makes `to` (zeroed, or an image) equal to `from`. */
void crash_image_copy(crash_image *to, const crash_image *from);
/* Writes the files that exist to path, path-wal, path-journal, and removes the others. False: could not. */
bool crash_image_save(const crash_image *image, const char *path);
void crash_image_fini(crash_image *image);

/* The disk at one position of the log: what is certain, and what is not covered by a sync. */
typedef struct crash_disk crash_disk;

/* At position 0, with the files of `start` (NULL: none), all of it certain. */
crash_disk *crash_disk_new(const crash_image *start);
void crash_disk_destroy(crash_disk **disk);
/* Goes on to a position not before the present one. */
void crash_disk_advance(crash_disk *disk, size_t position);

typedef enum crash_style {
    CRASH_NOTHING = 0, /* nothing uncovered reached the disk */
    CRASH_EVERYTHING,  /* all of it did */
    CRASH_IN_ORDER,    /* each file up to some write, which is torn */
    CRASH_TORN,        /* each sector by itself */
    CRASH_STYLES
} crash_style;

/* What the power loss left; the same seed gives the same image. */
void crash_disk_image(const crash_disk *disk, crash_style style, uint64_t seed, crash_image *out);

/* Serves an image (kept, and changed by recovery) to IMAGE_VFS_NAME under any file name; NULL: none. */
void crash_image_serve(crash_image *image);

#endif
