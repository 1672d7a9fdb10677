/* SPDX-License-Identifier: MIT */
/* The entries of the log between the recording VFS and the images. Threads: none may record while images are made. */
#ifndef CRASH_LOG_H
#define CRASH_LOG_H

#include "support/crash_vfs.h"

typedef enum crash_op_kind {
    CRASH_OP_WRITE = 0,
    CRASH_OP_TRUNCATE, /* offset: the new size */
    CRASH_OP_SYNC,     /* offset: position in the log; entries of the file before it are certain from here on */
    CRASH_OP_CREATE,
    CRASH_OP_DELETE,
} crash_op_kind;

typedef struct crash_op {
    crash_op_kind kind;
    crash_file file;
    size_t offset, size;
    uint8_t *data;
    bool directory; /* SYNC: of the directory too, so deletions before `offset` are certain */
} crash_op;

const crash_op *crash_vfs_op(size_t at);
/* Which file SQLite means; -1: none of the three. */
int crash_file_of_flags(int flags);
int crash_file_of_name(const char *name);
void crash_image_register(void);

#endif
