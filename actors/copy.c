/* SPDX-License-Identifier: MIT */
/* Copies of a database; see copy.h.
 *
 * Owning thread: the writer's while it is written, the checker's after; or that of a restore.
 * Messages: none.
 * Invariants
 *  1. Whoever looks under the path sees the old file or the whole, checked new one, also after a crash.
 *  2. While it is written nothing is synced: a copy that was not sealed is worth nothing anyway.
 * Stop order: connection, file.
 */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conn.h"
#include "port.h"

#define CHECK_STEPS 10000 /* virtual machine steps between two looks at cancel and clock */

static sluice_err system_error(sluice_cause *cause, const char *what, const char *path) {
    int why = errno;
    sluice_err err = why == ENOSPC || why == EDQUOT ? SLUICE_NO_SPACE : why == EIO ? SLUICE_IO : SLUICE_SYSTEM;
    (void)sluice_cause_set(cause, err, "%s %s: %s", what, path, strerror(why));
    if (cause != NULL) cause->sys_errno = why;
    return err;
}

/* ---- new ---- */

static sluice_err check_target(const char *path, sluice_cause *cause) {
    struct stat st;
    size_t size = strlen(path);
    if (size == 0 || path[size - 1] == '/')
        return sluice_cause_set(cause, SLUICE_INVALID, "\"%s\" names no file", path);
    if (lstat(path, &st) != 0) return errno == ENOENT ? SLUICE_OK : system_error(cause, "copy to", path);
    if (S_ISREG(st.st_mode)) return SLUICE_OK;
    return sluice_cause_set(cause, SLUICE_INVALID, "%s is there and is no regular file", path);
}

static sluice_err make_file(sl_copy *copy, unsigned mode, sluice_cause *cause) {
    if (asprintf(&copy->temp, "%s.part-XXXXXX", copy->path) < 0) {
        copy->temp = NULL;
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    int fd = mkostemp(copy->temp, O_CLOEXEC);
    if (fd < 0) {
        sluice_err err = system_error(cause, "copy to", copy->path);
        free(copy->temp);
        copy->temp = NULL;
        return err;
    }
    bool ok = fchmod(fd, mode) == 0;
    sluice_err err = ok ? SLUICE_OK : system_error(cause, "copy to", copy->temp);
    close(fd);
    return err;
}

sluice_err sl_copy_new(const char *path, unsigned mode, sl_copy *out, sluice_cause *cause) {
    *out = (sl_copy){0};
    sluice_err err = check_target(path, cause);
    if (err != SLUICE_OK) return err;
    out->path = strdup(path);
    if (out->path == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    err = make_file(out, mode, cause);
    if (err == SLUICE_OK) {
        int rc = sqlite3_open_v2(out->temp, &out->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        if (rc == SQLITE_OK) rc = sqlite3_extended_result_codes(out->db, 1);
        if (rc == SQLITE_OK) /* invariant 2 */
            rc = sqlite3_exec(out->db, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE",
                              NULL, NULL, NULL);
        if (rc != SQLITE_OK) err = sl_sqlite_cause(cause, out->db, rc, out->temp);
    }
    if (err != SLUICE_OK) sl_copy_fini(out);
    return err;
}

/* ---- seal ---- */

static sluice_err sync_file(const char *path, int flags, sluice_cause *cause) {
    int fd = open(path, flags | O_RDONLY | O_CLOEXEC);
    if (fd < 0) return system_error(cause, "sync of", path);
    sluice_err err = fsync(fd) == 0 ? SLUICE_OK : system_error(cause, "sync of", path);
    close(fd);
    return err;
}

sluice_err sl_sync_directory(const char *path, sluice_cause *cause) {
    char *copy = strdup(path);
    if (copy == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_err err = sync_file(dirname(copy), O_DIRECTORY, cause);
    free(copy);
    return err;
}

sluice_err sl_open_still(const char *path, sqlite3 **out, sluice_cause *cause) {
    static const char hex[] = "0123456789ABCDEF";
    *out = NULL;
    char *uri = malloc(strlen(path) * 3 + sizeof "file:?immutable=1");
    if (uri == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    char *at = stpcpy(uri, "file:");
    for (const unsigned char *from = (const unsigned char *)path; *from != '\0'; from++) {
        if (*from == '%' || *from == '?' || *from == '#' || *from <= ' ' || *from >= 127) {
            *at++ = '%';
            *at++ = hex[*from >> 4];
            *at++ = hex[*from & 15u];
        } else {
            *at++ = (char)*from;
        }
    }
    strcpy(at, "?immutable=1");
    int rc = sqlite3_open_v2(uri, out, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    free(uri);
    if (rc == SQLITE_OK) rc = sqlite3_extended_result_codes(*out, 1);
    if (rc == SQLITE_OK) return SLUICE_OK;
    sluice_err err = sl_sqlite_cause(cause, *out, rc, path);
    sqlite3_close(*out);
    *out = NULL;
    return err;
}

typedef struct limits {
    const _Atomic bool *cancel;
    int64_t deadline_ns;
} limits;

static bool is_cancelled(const limits *l) { return l->cancel != NULL && atomic_load(l->cancel); }

static int look(void *context) {
    const limits *l = context;
    return is_cancelled(l) || (l->deadline_ns != 0 && sl_now_ns() >= l->deadline_ns);
}

/* Runs a PRAGMA that gives one value. */
static sluice_err pragma(sqlite3 *db, const char *sql, sqlite3_stmt **out, sluice_cause *cause) {
    int rc = sqlite3_prepare_v2(db, sql, -1, out, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(*out);
    return rc == SQLITE_ROW ? SLUICE_OK : sl_sqlite_cause(cause, db, rc == SQLITE_DONE ? SQLITE_ERROR : rc, sql);
}

static sluice_err check(const char *path, uint64_t pages, limits *l, sluice_cause *cause) {
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    sluice_err err = sl_open_still(path, &db, cause);
    if (err != SLUICE_OK) return err;
    sqlite3_progress_handler(db, CHECK_STEPS, look, l);
    err = pragma(db, "PRAGMA page_count", &stmt, cause);
    if (err == SLUICE_OK && (uint64_t)sqlite3_column_int64(stmt, 0) != pages)
        err = sluice_cause_set(cause, SLUICE_CORRUPT, "the copy has %lld pages, not %llu",
                               (long long)sqlite3_column_int64(stmt, 0), (unsigned long long)pages);
    sqlite3_finalize(stmt);
    stmt = NULL;
    if (err == SLUICE_OK) err = pragma(db, "PRAGMA integrity_check(1)", &stmt, cause);
    if (err == SLUICE_OK && strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") != 0)
        err = sluice_cause_set(cause, SLUICE_CORRUPT, "integrity_check: %s",
                               (const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    if (err != SLUICE_INTERRUPTED) return err;
    return is_cancelled(l) ? sluice_cause_set(cause, SLUICE_CLOSED, "the store is closing")
                           : sluice_cause_set(cause, SLUICE_EXPIRED, "the deadline passed while the copy was checked");
}

sluice_err sl_copy_seal(sl_copy *copy, uint64_t pages, const _Atomic bool *cancel, int64_t deadline_ns,
                        sluice_cause *cause) {
    limits l = {cancel, deadline_ns};
    int rc = sqlite3_close(copy->db);
    if (rc != SQLITE_OK) return sl_sqlite_cause(cause, copy->db, rc, "closing the copy");
    copy->db = NULL;
    sluice_err err = sync_file(copy->temp, 0, cause);
    return err == SLUICE_OK ? check(copy->temp, pages, &l, cause) : err;
}

/* ---- place ---- */

sluice_err sl_copy_place(sl_copy *copy, sluice_cause *cause) {
    if (rename(copy->temp, copy->path) != 0) return system_error(cause, "renaming the copy to", copy->path);
    free(copy->temp);
    copy->temp = NULL;
    return sl_sync_directory(copy->path, cause);
}

void sl_copy_fini(sl_copy *copy) {
    sqlite3_close(copy->db);
    if (copy->temp != NULL) unlink(copy->temp);
    free(copy->temp);
    free(copy->path);
    *copy = (sl_copy){0};
}
