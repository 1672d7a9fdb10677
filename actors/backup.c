/* SPDX-License-Identifier: MIT */
/* Online backup: copying by the writer, checking by an actor of its own.
 *
 * Owning thread: the writer's; the checker's own (pinned), which lives for one check.
 *
 *   writer:   IDLE --BackupRequest--> COPYING: STEP_PAGES between two groups, and by a timer when there are none
 *              ^                         |  \--error, deadline, close--> the asker is told, the file removed --> IDLE
 *              |                         \--last page: the copy is the state after the latest group
 *              +-----------------------------\ handed to the checker, with the request
 *   checker:  fsync, page count, integrity_check, rename, fsync of the directory, BackupReply --> ends
 *
 * Receives: BackupRequest (ask). Sends: BackupReply, errors.
 *
 * Invariants
 *  1. One backup at a time, check included.
 *  2. A step opens and ends its own read transaction, so between two steps nothing is held but memory.
 *  3. The checker touches the copy, the store's counters and two atomics of the store; the store outlives it.
 *
 * Stop order: backup object, copy; the checker after the writer (sl_backup_stop).
 */
#include "backup.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "actor_internal.h"
#include "copy.h"
#include "port.h"
#include "sluice/v1/control.pb-c.h"

#define STEP_PAGES 128
#define MAX_RESTARTS 10u /* SQLite begins anew when a large transaction is rolled back */
#define RETRY_MS 5u      /* a step that was not allowed */
#define RETRY_AFTER_MS 1000u

/* What the checker needs. */
typedef struct finish {
    sluice_store *store;
    sl_copy copy;
    Sluice__V1__BackupReply result;
} finish;

struct sl_backup {
    sl_backup_options with;
    sluice_msg *request; /* NULL: idle */
    sqlite3_backup *job;
    sl_copy copy;
    int copied, restarts; /* pages, at the latest look; times it began anew */
    bool stepped;         /* since the timer was last heard */
    sluice_timer timer;
};

/* ---- the checker ---- */

static sluice_err checker_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    (void)cause;
    sluice_actor_set_state(self, arg);
    return SLUICE_OK;
}

static void tell(sluice_actor *self, sluice_msg **request, const sluice_cause *cause,
                 const Sluice__V1__BackupReply *result) {
    if (cause != NULL) {
        sl_msg_turn_error(*request, cause);
    } else if (sl_msg_turn(*request, &sluice__v1__backup_reply__descriptor) == SLUICE_OK) {
        Sluice__V1__BackupReply *reply = sluice_msg_body(*request);
        reply->pages = result->pages;
        reply->bytes = result->bytes;
        reply->commit_number = result->commit_number;
        reply->restarts = result->restarts;
    }
    if ((*request)->body == NULL || sl_actor_send(self, request, false) != SLUICE_OK) sluice_msg_destroy(request);
}

static sluice_err checker_receive(sluice_actor *self, sluice_msg **msg) {
    finish *f = sluice_actor_state(self);
    sluice_cause cause;
    if (!sluice_msg_is(*msg, &sluice__v1__backup_request__descriptor)) return SLUICE_OK;
    sluice_err err = sl_copy_seal(&f->copy, f->result.pages, &f->store->backup_cancel, (*msg)->deadline_ns, &cause);
    if (err == SLUICE_OK) err = sl_copy_place(&f->copy, &cause);
    if (err == SLUICE_OK) {
        sl_count(f->store, backups, 1);
        tell(self, msg, NULL, &f->result);
    } else {
        sl_count(f->store, backups_failed, 1);
        tell(self, msg, &cause, NULL);
    }
    sluice_actor_stop(self, sluice_actor_pid(self));
    return SLUICE_OK;
}

static void checker_stop(sluice_actor *self, sluice_err why) {
    (void)why;
    finish *f = sluice_actor_state(self);
    sl_copy_fini(&f->copy);
    atomic_store(&f->store->backup_checker, 0);
    free(f);
}

static const sluice_behaviour checker_behaviour = {
    .kind = "backup-checker", .init = checker_init, .receive = checker_receive, .stop = checker_stop};

void sl_backup_stop(sluice_store *store) {
    atomic_store(&store->backup_cancel, true);
    sluice_pid pid = atomic_load(&store->backup_checker);
    if (pid != 0) sluice_stop(store->runtime, pid);
}

/* ---- ends ---- */

static void drop_job(sl_backup *self) {
    (void)sqlite3_backup_finish(self->job);
    self->job = NULL;
    sluice_timer_cancel(self->with.self, &self->timer);
    sl_gauge(self->with.store, backup_pages_left, 0);
}

static void fail(sl_backup *self, const sluice_cause *cause) {
    sluice_msg *request = self->request;
    self->request = NULL;
    drop_job(self);
    sl_copy_fini(&self->copy);
    sl_count(self->with.store, backups_failed, 1);
    tell(self->with.self, &request, cause, NULL);
}

/* All pages are there, and the next group has not begun. */
static void hand_over(sl_backup *self) {
    sluice_store *store = self->with.store;
    sluice_cause cause;
    finish *f = calloc(1, sizeof *f);
    if (f == NULL) {
        (void)sluice_cause_set(&cause, SLUICE_NOMEM, "out of memory");
        fail(self, &cause);
        return;
    }
    f->store = store;
    f->result.pages = (uint64_t)sqlite3_backup_pagecount(self->job);
    f->result.commit_number = sl_store_commit_number(store);
    f->result.restarts = (uint64_t)self->restarts;
    drop_job(self);
    struct stat st;
    f->result.bytes = stat(self->copy.temp, &st) == 0 ? (uint64_t)st.st_size : 0;
    f->copy = self->copy;
    sluice_spec spec = {.behaviour = &checker_behaviour, .arg = f, .placement = SLUICE_PLACE_PINNED};
    sluice_pid pid = 0;
    sluice_err err = sluice_actor_spawn(self->with.self, &spec, &pid);
    if (err != SLUICE_OK) {
        free(f); /* the copy is still ours */
        (void)sluice_cause_set(&cause, err, "the copy cannot be checked: %s", sluice_err_text(err));
        fail(self, &cause);
        return;
    }
    self->copy = (sl_copy){0};
    atomic_store(&store->backup_checker, pid);
    sluice_msg *request = self->request;
    self->request = NULL;
    request->to = pid;
    if (sl_actor_send(self->with.self, &request, true) == SLUICE_OK) return;
    (void)sluice_cause_set(&cause, SLUICE_CLOSED, "the runtime is going down");
    tell(self->with.self, &request, &cause, NULL);
}

/* ---- steps ---- */

static void on_timer(sluice_actor *actor, void *context);

static bool arm(sl_backup *self, uint32_t delay_ms) {
    sluice_timer_cancel(self->with.self, &self->timer);
    return sluice_timer_start(self->with.self, delay_ms, 0, on_timer, self, &self->timer) == SLUICE_OK;
}

static void step(sl_backup *self) {
    sluice_cause cause;
    if (self->request->deadline_ns != 0 && self->request->deadline_ns <= sl_now_ns()) {
        (void)sluice_cause_set(&cause, SLUICE_EXPIRED, "the deadline passed while pages were copied");
        fail(self, &cause);
        return;
    }
    self->stepped = true;
    int rc = sqlite3_backup_step(self->job, STEP_PAGES);
    int left = sqlite3_backup_remaining(self->job), total = sqlite3_backup_pagecount(self->job);
    sl_gauge(self->with.store, backup_pages, total);
    sl_gauge(self->with.store, backup_pages_left, left);
    if (rc == SQLITE_DONE) {
        hand_over(self);
        return;
    }
    if (rc != SQLITE_OK && rc != SQLITE_BUSY && rc != SQLITE_LOCKED) {
        (void)sl_sqlite_cause(&cause, NULL, rc, "copying pages");
        fail(self, &cause);
        return;
    }
    if (total - left < self->copied) self->restarts++;
    self->copied = total - left;
    if ((unsigned)self->restarts <= MAX_RESTARTS) return;
    (void)sluice_cause_set(&cause, SLUICE_OVERLOADED, "large transactions that were rolled back made it begin anew %d "
                           "times", self->restarts);
    cause.retry_after_ms = RETRY_AFTER_MS;
    fail(self, &cause);
}

void sl_backup_between_groups(sl_backup *self) {
    if (self->request != NULL && self->with.may_step(self->with.context)) step(self);
}

/* Goes on when there are no groups, and when a step was not allowed. */
static void on_timer(sluice_actor *actor, void *context) {
    (void)actor;
    sl_backup *self = context;
    self->timer = 0;
    if (!self->stepped) sl_backup_between_groups(self);
    if (self->request == NULL) return;
    bool idle = self->stepped;
    self->stepped = false;
    if (arm(self, idle ? 0 : RETRY_MS)) return;
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_NOMEM, "out of memory");
    fail(self, &cause);
}

/* ---- begin ---- */

/* The store's own files are no place for a copy of it. */
static sluice_err check_path(const sl_backup *self, const char *path, sluice_cause *cause) {
    static const char *const ends[] = {"", "-wal", "-shm", "-journal", ".sluice.d"};
    const char *own = self->with.store->options.path;
    if (path[0] != '/') return sluice_cause_set(cause, SLUICE_INVALID, "\"%s\" is not an absolute path", path);
    char *copy = strdup(path), *slash = copy != NULL ? strrchr(copy, '/') : NULL;
    if (copy == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    *slash = '\0';
    char *directory = realpath(copy[0] != '\0' ? copy : "/", NULL);
    sluice_err err = SLUICE_OK;
    if (directory == NULL) err = sluice_cause_set(cause, SLUICE_SYSTEM, "the directory of %s is not there", path);
    size_t n = err == SLUICE_OK ? strlen(directory) : 0, own_size = strlen(own);
    bool same_directory = err == SLUICE_OK && strncmp(own, directory, n) == 0 && own[n] == '/' &&
                          strchr(own + n + 1, '/') == NULL;
    for (size_t i = 0; same_directory && i < sizeof ends / sizeof ends[0]; i++) {
        const char *base = own + n + 1, *name = slash + 1;
        size_t base_size = own_size - n - 1;
        if (strncmp(name, base, base_size) == 0 && strcmp(name + base_size, ends[i]) == 0)
            err = sluice_cause_set(cause, SLUICE_INVALID, "%s is the store's own", path);
    }
    free(directory);
    free(copy);
    return err;
}

static sluice_err begin(sl_backup *self, const sluice_msg *request, sluice_cause *cause) {
    const Sluice__V1__BackupRequest *body = (const Sluice__V1__BackupRequest *)request->body;
    sluice_store *store = self->with.store;
    if (self->request != NULL || atomic_load(&store->backup_checker) != 0) {
        sluice_err err = sluice_cause_set(cause, SLUICE_OVERLOADED, "a backup is under way");
        if (cause != NULL) cause->retry_after_ms = RETRY_AFTER_MS;
        return err;
    }
    if (memchr(body->path.data != NULL ? (const void *)body->path.data : "", 0, body->path.len) != NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "a path holds no zero byte");
    char *path = strndup(body->path.data != NULL ? (const char *)body->path.data : "", body->path.len);
    if (path == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    struct stat st;
    unsigned mode = stat(store->options.path, &st) == 0 ? st.st_mode & 0777u : 0600u;
    sluice_err err = check_path(self, path, cause);
    if (err == SLUICE_OK) err = sl_copy_new(path, mode, &self->copy, cause);
    free(path);
    if (err != SLUICE_OK) return err;
    self->job = sqlite3_backup_init(self->copy.db, "main", sl_conn_db(self->with.conn), "main");
    if (self->job == NULL)
        err = sl_sqlite_cause(cause, self->copy.db, sqlite3_extended_errcode(self->copy.db), "beginning to copy");
    else if (!arm(self, 0))
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    if (err == SLUICE_OK) return SLUICE_OK;
    drop_job(self);
    sl_copy_fini(&self->copy);
    return err;
}

bool sl_backup_on_message(sl_backup *self, sluice_msg **msg) {
    if (!sluice_msg_is(*msg, &sluice__v1__backup_request__descriptor)) return false;
    if (!sluice_msg_is_ask(*msg)) return true; /* nobody to hear how it ended */
    sluice_cause cause;
    sluice_err err = begin(self, *msg, &cause);
    sluice_msg *request = *msg;
    *msg = NULL;
    if (err != SLUICE_OK) {
        tell(self->with.self, &request, &cause, NULL);
        return true;
    }
    self->request = request;
    self->copied = self->restarts = 0;
    self->stepped = false;
    return true;
}

sluice_err sl_backup_new(const sl_backup_options *options, sl_backup **out, sluice_cause *cause) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    (*out)->with = *options;
    return SLUICE_OK;
}

void sl_backup_destroy(sl_backup **backup) {
    sl_backup *self = *backup;
    if (self == NULL) return;
    *backup = NULL;
    if (self->request != NULL) {
        sluice_cause cause;
        (void)sluice_cause_set(&cause, SLUICE_CLOSED, "the store is closing");
        fail(self, &cause);
    }
    free(self);
}
