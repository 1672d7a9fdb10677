/* SPDX-License-Identifier: MIT */
/* Restore: puts a copy of a database in the place of another, of which no store is open.
 *
 * Owning thread: the caller's. Messages: none.
 *
 *   lock TO --> copy FROM beside TO, fsync, check --> empty and remove TO's old log --> rename --> unlock
 *
 * Invariants
 *  1. TO's ownership lock is held from before the first look at TO until after the rename.
 *  2. When the new file is in place no log of the old one is there: SQLite would play it into the new file.
 *  3. Until the rename TO is the old database with all its commits, unless it was too damaged to be opened.
 * Stop order: connections, copy, lock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conn.h"
#include "copy.h"
#include "ownership.h"
#include "store_internal.h"

/* ---- the source ---- */

/* A database that was closed in order is read without locks and without making a file beside it, so that it may lie on a
 * read-only disk; with a log beside it, by SQLite's usual ways. */
static sluice_err open_source(const char *from, sqlite3 **out, sluice_cause *cause) {
    struct stat st;
    char *log = NULL;
    *out = NULL;
    if (stat(from, &st) != 0) {
        (void)sluice_cause_set(cause, SLUICE_SYSTEM, "%s: %s", from, strerror(errno));
        return SLUICE_SYSTEM;
    }
    if (asprintf(&log, "%s-wal", from) < 0) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    bool has_log = stat(log, &st) == 0 && st.st_size > 0;
    free(log);
    if (!has_log) return sl_open_still(from, out, cause);
    int rc = sqlite3_open_v2(from, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_extended_result_codes(*out, 1);
    /* Nothing of the source is changed by reading it. */
    if (rc == SQLITE_OK) rc = sqlite3_db_config(*out, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    return rc == SQLITE_OK ? SLUICE_OK : sl_sqlite_cause(cause, *out, rc, from);
}

static sluice_err copy_pages(const char *from, sl_copy *copy, uint64_t *pages, sluice_cause *cause) {
    sqlite3 *source = NULL;
    sluice_err err = open_source(from, &source, cause);
    sqlite3_backup *job = NULL;
    if (err == SLUICE_OK) {
        job = sqlite3_backup_init(copy->db, "main", source, "main");
        if (job == NULL) err = sl_sqlite_cause(cause, copy->db, sqlite3_extended_errcode(copy->db), "copying");
    }
    if (err == SLUICE_OK) {
        int rc = sqlite3_backup_step(job, -1);
        *pages = (uint64_t)sqlite3_backup_pagecount(job);
        if (rc != SQLITE_DONE) err = sl_sqlite_cause(cause, NULL, rc == SQLITE_OK ? SQLITE_ERROR : rc, from);
        if (rc == SQLITE_DONE && *pages == 0)
            err = sluice_cause_set(cause, SLUICE_NOT_A_DATABASE, "%s is empty", from);
    }
    (void)sqlite3_backup_finish(job);
    sqlite3_close(source);
    return err;
}

/* ---- the old file ---- */

static sluice_err set_aside(const char *path, const char *end, sluice_cause *cause) {
    char *old = NULL, *kept = NULL;
    struct stat st;
    if (asprintf(&old, "%s%s", path, end) < 0) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_err err = SLUICE_OK;
    if (asprintf(&kept, "%s.before-restore", old) < 0) {
        kept = NULL;
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    } else if (stat(old, &st) == 0) {
        int rc = st.st_size == 0 ? unlink(old) : rename(old, kept);
        if (rc != 0) err = sluice_cause_set(cause, SLUICE_SYSTEM, "moving %s away: %s", old, strerror(errno));
    }
    free(old);
    free(kept);
    return err;
}

/* Copies the old log into the old file, where that can be read, so that a crash from here on finds it complete. LOCKED: another program has the file open. */
static sluice_err retire_log(const char *to, sluice_cause *cause) {
    struct stat st;
    if (stat(to, &st) == 0 && st.st_size > 0) {
        sqlite3 *db = NULL;
        int rc = sqlite3_open_v2(to, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, "unix-excl");
        /* Closing must not tidy away the log of a file that cannot be read. */
        if (rc == SQLITE_OK) rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
        if (rc == SQLITE_OK) rc = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
        if (rc == SQLITE_OK) rc = sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        sqlite3_close(db);
        rc &= 0xff;
        if (rc == SQLITE_BUSY) return sluice_cause_set(cause, SLUICE_LOCKED, "%s is open in another program", to);
        if (rc != SQLITE_OK && rc != SQLITE_CORRUPT && rc != SQLITE_NOTADB)
            return sl_sqlite_cause(cause, NULL, rc, to);
    }
    sluice_err err = set_aside(to, "-wal", cause);
    if (err == SLUICE_OK) err = set_aside(to, "-journal", cause);
    if (err != SLUICE_OK) return err;
    char *index = NULL;
    if (asprintf(&index, "%s-shm", to) < 0) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    (void)unlink(index); /* rebuilt by whoever needs it */
    free(index);
    return sl_sync_directory(to, cause); /* invariant 2: before the rename */
}

/* ---- restore ---- */

static sluice_err check_pair(const char *from, const char *to, unsigned *mode, sluice_cause *cause) {
    struct stat a, b;
    if (stat(from, &a) != 0)
        return sluice_cause_set(cause, SLUICE_SYSTEM, "%s: %s", from, strerror(errno));
    if (!S_ISREG(a.st_mode)) return sluice_cause_set(cause, SLUICE_SYSTEM, "%s is not a regular file", from);
    *mode = a.st_mode & 0777u;
    if (stat(to, &b) != 0) return SLUICE_OK;
    *mode = b.st_mode & 0777u;
    if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return sluice_cause_set(cause, SLUICE_INVALID, "%s and %s are one file", from, to);
    return SLUICE_OK;
}

sluice_err sluice_restore(const char *from, const char *to, uint64_t *pages, sluice_cause *cause) {
    sl_ownership *ownership = NULL;
    sl_copy copy = {0};
    uint64_t n = 0;
    unsigned mode = 0600;
    sluice_err err = sl_ownership_take(to, true, &ownership, cause);
    if (err != SLUICE_OK) return err;
    to = sl_ownership_path(ownership); /* links resolved */
    err = check_pair(from, to, &mode, cause);
    if (err == SLUICE_OK) err = sl_copy_new(to, mode, &copy, cause);
    if (err == SLUICE_OK) err = copy_pages(from, &copy, &n, cause);
    if (err == SLUICE_OK) err = sl_copy_seal(&copy, n, NULL, 0, cause);
    if (err == SLUICE_OK) err = retire_log(to, cause);
    if (err == SLUICE_OK) err = sl_copy_place(&copy, cause);
    if (err == SLUICE_OK && pages != NULL) *pages = n;
    sl_copy_fini(&copy);
    sl_ownership_release(&ownership);
    return err;
}
