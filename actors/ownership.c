/* SPDX-License-Identifier: MIT */
/* The side directory, the lock in it, and the identity of the files; see ownership.h.
 *
 * Owning thread: whoever opens and closes the store; check and wal_size only stat.
 *
 * Invariants
 *  1. The database file is never opened here (its POSIX locks belong to SQLite).
 *  2. The lock is taken on the file that is at the path: after locking, descriptor and path name the same inode, or the
 *     attempt is repeated. So removing the lock file after a failed first open is safe.
 *  3. The lock is an OFD lock: it belongs to the descriptor, ends with the process, and excludes a second store of the
 *     same process too.
 *  4. check asks for no time stamp. Since Linux 6.13 a stat that reports them makes the file's next write give it new
 *     ones, and that makes the next fdatasync of the log a third to a half slower; check runs after every COMMIT.
 *     Source: Documentation/filesystems/multigrain-ts.rst.
 */
#include "ownership.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

typedef struct file_identity {
    dev_t device;
    ino_t inode;
} file_identity;

struct sl_ownership {
    char *path, *wal_path, *directory, *lock_path;
    int lock_fd;
    bool made_directory; /* by this take: undone if the store never opened */
    bool pinned, condemned;
    file_identity database, wal;
};

static sluice_err system_error(sluice_cause *cause, int sys_errno, const char *what, const char *path) {
    (void)sluice_cause_set(cause, SLUICE_SYSTEM, "%s %s: %s", what, path, strerror(sys_errno));
    if (cause != NULL) cause->sys_errno = sys_errno;
    return SLUICE_SYSTEM;
}

static char *join(const char *a, const char *b) {
    char *text = NULL;
    return asprintf(&text, "%s%s", a, b) >= 0 ? text : NULL;
}

/* ---- path ---- */

/* Resolves the directory of a file that does not exist yet. */
static char *resolve_new(const char *path) {
    char *resolved = NULL;
    char *copy_a = strdup(path), *copy_b = strdup(path);
    char *directory = copy_a != NULL && copy_b != NULL ? realpath(dirname(copy_a), NULL) : NULL;
    if (directory != NULL) {
        const char *base = basename(copy_b);
        if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || strcmp(base, "/") == 0)
            errno = EISDIR;
        else if (asprintf(&resolved, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, base) < 0)
            resolved = NULL;
    }
    int saved = errno;
    free(directory);
    free(copy_a);
    free(copy_b);
    errno = saved;
    return resolved;
}

static sluice_err resolve(const char *path, bool create, char **out, sluice_cause *cause) {
    if (path == NULL || path[0] == '\0') return sluice_cause_set(cause, SLUICE_INVALID, "no database file was named");
    *out = realpath(path, NULL);
    if (*out == NULL) {
        struct stat st;
        if (errno != ENOENT || lstat(path, &st) == 0)
            return system_error(cause, errno != 0 ? errno : ENOENT, "database file", path);
        if (!create) return system_error(cause, ENOENT, "database file", path);
        if (path[strlen(path) - 1] == '/') return system_error(cause, EISDIR, "database file", path);
        *out = resolve_new(path);
        return *out != NULL ? SLUICE_OK : system_error(cause, errno, "directory of database file", path);
    }
    struct stat st;
    if (stat(*out, &st) != 0) return system_error(cause, errno, "database file", *out);
    if (S_ISDIR(st.st_mode)) return system_error(cause, EISDIR, "database file", *out);
    if (!S_ISREG(st.st_mode))
        return sluice_cause_set(cause, SLUICE_SYSTEM, "database file %s is not a regular file", *out);
    /* Under each name the log would be another file, and SQLite's index of it one and the same. */
    if (st.st_nlink > 1)
        return sluice_cause_set(cause, SLUICE_SYSTEM, "database file %s has %lu names (hard links); a database may have "
                                "one, or its log is missed under the others: copy it, or remove the others", *out,
                                (unsigned long)st.st_nlink);
    /* root may write to any file; a file without any write permission is meant to stay as it is all the same. */
    if ((st.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)) == 0 || access(*out, R_OK | W_OK) != 0)
        return system_error(cause, EACCES, "database file is read-only:", *out);
    return SLUICE_OK;
}

/* ---- lock ---- */

static sluice_err make_directory(sl_ownership *self, sluice_cause *cause) {
    if (mkdir(self->directory, 0700) == 0) {
        self->made_directory = true;
        return SLUICE_OK;
    }
    struct stat st;
    if (errno != EEXIST) return system_error(cause, errno, "side directory", self->directory);
    if (lstat(self->directory, &st) != 0) return system_error(cause, errno, "side directory", self->directory);
    if (!S_ISDIR(st.st_mode)) return system_error(cause, ENOTDIR, "side directory", self->directory);
    if (st.st_uid != geteuid())
        return sluice_cause_set(cause, SLUICE_SYSTEM, "side directory %s belongs to user %u", self->directory,
                                (unsigned)st.st_uid);
    if ((st.st_mode & 0777) != 0700 && chmod(self->directory, 0700) != 0)
        return system_error(cause, errno, "side directory", self->directory);
    return SLUICE_OK;
}

static sluice_err refused(int fd, const char *path, sluice_cause *cause) {
    char text[48] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    if (pid == getpid() && strstr(text, "fatal") != NULL)
        return sluice_cause_set(cause, SLUICE_FATAL, "%s: its store stopped for good in this process; open it in a new "
                                "process", path);
    if (pid > 0)
        return sluice_cause_set(cause, SLUICE_LOCKED, "%s is owned by process %ld", path, pid);
    return sluice_cause_set(cause, SLUICE_LOCKED, "%s is owned by another process", path);
}

/* One attempt. TIMEOUT: the lock file was replaced under us, try again. */
static sluice_err try_lock(sl_ownership *self, sluice_cause *cause) {
    int fd = open(self->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return errno == ENOENT ? SLUICE_TIMEOUT : system_error(cause, errno, "lock file", self->lock_path);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat by_fd, by_path;
    sluice_err err = SLUICE_OK;
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        err = errno == EAGAIN || errno == EACCES ? refused(fd, self->path, cause)
                                                 : system_error(cause, errno, "locking", self->lock_path);
    else if (fstat(fd, &by_fd) != 0 || stat(self->lock_path, &by_path) != 0 || by_fd.st_ino != by_path.st_ino ||
             by_fd.st_dev != by_path.st_dev)
        err = SLUICE_TIMEOUT; /* invariant 2 */
    if (err == SLUICE_OK) {
        char text[32];
        int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
        /* A full disk must not keep the store from opening: the pid is for people, the lock is what counts. */
        if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) != n) (void)!ftruncate(fd, 0);
        self->lock_fd = fd;
        return SLUICE_OK;
    }
    close(fd);
    return err;
}

static sluice_err take_lock(sl_ownership *self, sluice_cause *cause) {
    for (int attempt = 0; attempt < 100; attempt++) {
        sluice_err err = make_directory(self, cause);
        if (err == SLUICE_OK) err = try_lock(self, cause);
        if (err != SLUICE_TIMEOUT) return err;
    }
    return sluice_cause_set(cause, SLUICE_LOCKED, "%s: its lock file keeps being replaced", self->path);
}

sluice_err sl_ownership_take(const char *path, bool create, sl_ownership **out, sluice_cause *cause) {
    *out = NULL;
    sl_ownership *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    self->lock_fd = -1;
    sluice_err err = resolve(path, create, &self->path, cause);
    if (err != SLUICE_OK) goto fail;
    self->wal_path = join(self->path, "-wal");
    self->directory = join(self->path, ".sluice.d");
    self->lock_path = self->directory != NULL ? join(self->directory, "/lock") : NULL;
    if (self->wal_path == NULL || self->lock_path == NULL) {
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
        goto fail;
    }
    err = take_lock(self, cause);
    if (err != SLUICE_OK) goto fail;
    *out = self;
    return SLUICE_OK;
fail:
    sl_ownership_release(&self);
    return err;
}

void sl_ownership_release(sl_ownership **ownership) {
    sl_ownership *self = *ownership;
    if (self == NULL) return;
    *ownership = NULL;
    if (self->lock_fd >= 0) {
        if (self->made_directory && !self->pinned) { /* nothing was opened: leave no trace */
            unlink(self->lock_path);
            rmdir(self->directory);
        } else if (self->condemned) {
            self->lock_fd = -1; /* never closed: the lock is the memory of it */
        } else if (ftruncate(self->lock_fd, 0) != 0) {
            /* the pid stays in the file; without the lock it means nothing */
        }
        if (self->lock_fd >= 0) {
            /* A child the host forked has the descriptor too, and with it the lock: closing ours would not end it. */
            struct flock unlock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
            (void)fcntl(self->lock_fd, F_OFD_SETLK, &unlock);
            close(self->lock_fd);
        }
    }
    free(self->path);
    free(self->wal_path);
    free(self->directory);
    free(self->lock_path);
    free(self);
}

void sl_ownership_condemn(sl_ownership *self) {
    char text[48];
    int n = snprintf(text, sizeof text, "%ld fatal\n", (long)getpid());
    self->condemned = pwrite(self->lock_fd, text, (size_t)n, 0) == n;
}

const char *sl_ownership_path(const sl_ownership *ownership) { return ownership->path; }
const char *sl_ownership_directory(const sl_ownership *ownership) { return ownership->directory; }

/* ---- identity ---- */

static int identify(const char *path, file_identity *out) {
    struct statx st;
    if (statx(AT_FDCWD, path, 0, STATX_INO, &st) != 0) return errno; /* invariant 4 */
    *out = (file_identity){.device = makedev(st.stx_dev_major, st.stx_dev_minor), .inode = st.stx_ino};
    return 0;
}

sluice_err sl_ownership_pin(sl_ownership *self, sluice_cause *cause) {
    int rc = identify(self->path, &self->database);
    if (rc != 0) return system_error(cause, rc, "database file", self->path);
    rc = identify(self->wal_path, &self->wal);
    if (rc != 0) return system_error(cause, rc, "log file", self->wal_path);
    self->pinned = true;
    return SLUICE_OK;
}

static sluice_err compare(const char *path, const file_identity *pinned, sluice_cause *cause) {
    file_identity now;
    int rc = identify(path, &now);
    if (rc == ENOENT || rc == ENOTDIR)
        return sluice_cause_set(cause, SLUICE_FATAL, "%s was deleted or renamed while the store was open", path);
    if (rc == 0 && (now.inode != pinned->inode || now.device != pinned->device))
        return sluice_cause_set(cause, SLUICE_FATAL, "%s was replaced by another file while the store was open", path);
    return SLUICE_OK;
}

sluice_err sl_ownership_check(const sl_ownership *self, sluice_cause *cause) {
    sluice_err err = compare(self->path, &self->database, cause);
    return err == SLUICE_OK ? compare(self->wal_path, &self->wal, cause) : err;
}

uint64_t sl_ownership_wal_size(const sl_ownership *self) {
    struct statx st;
    return statx(AT_FDCWD, self->wal_path, 0, STATX_SIZE, &st) == 0 ? st.stx_size : 0; /* invariant 4 */
}
