/* SPDX-License-Identifier: MIT */
/* The counting VFS, over "unix-excl". Threads: before any connection is open. */
#ifndef NTH_VFS_H
#define NTH_VFS_H

void nth_vfs_register(void);

#endif
