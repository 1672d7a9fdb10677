/* SPDX-License-Identifier: MIT */
/* Online backup and restore: the copy is a state between two groups, whole or not there at all, whatever goes on. */
#include "support/support.h"
#include "support/store_kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 120000
#define ROWS 1000
#define MAX_WRITES 1000000
#define MAX_BACKUPS 128
#define REPLACE "INSERT OR REPLACE INTO w SELECT n % 1000, zeroblob(3000), n FROM c"

static store_kit kit;
static char *target;

static void open_store(void) {
    kit_new(&kit);
    kit.options.synchronous = SLUICE_SYNC_NORMAL; /* nothing here is about the disk */
    kit_open(&kit);
    target = support_path(kit.directory, "copy of it%.db");
    /* c counts the writes, w has a row for each of the last ROWS, and both change in one request. */
    assert_int_equal(kit_exec(&kit, "CREATE TABLE c(n INTEGER)"), SLUICE_OK);
    assert_int_equal(kit_exec(&kit, "CREATE TABLE w(n INTEGER PRIMARY KEY, v, at INTEGER)"), SLUICE_OK);
    assert_int_equal(kit_exec(&kit, "INSERT INTO c VALUES(0)"), SLUICE_OK);
}

static void close_store(void) {
    free(target);
    kit_free(&kit);
}

static void fill(unsigned megabytes) {
    assert_int_equal(kit_exec(&kit, "CREATE TABLE big(v)"), SLUICE_OK);
    for (unsigned i = 0; i < megabytes; i++)
        assert_int_equal(kit_exec(&kit, "INSERT INTO big VALUES(randomblob(1000000))"), SLUICE_OK);
}

static sluice_client *client_new(void) {
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = kit.runtime;
    options.timeout_ms = PATIENCE_MS;
    sluice_client *client = NULL;
    sluice_cause cause;
    return sluice_client_open("inproc://app", &options, &client, &cause) == SLUICE_OK ? client : NULL;
}

/* What stock SQLite finds in a file. */
static int64_t look(const char *path, const char *sql) {
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

static void assert_sound(const char *path) {
    assert_int_equal(look(path, "SELECT count(*) = 1 AND min(integrity_check) = 'ok' FROM pragma_integrity_check"), 1);
}

/* Files of the directory whose name holds `text`. */
static unsigned count_files(const char *text) {
    DIR *dir = opendir(kit.directory);
    assert_non_null(dir);
    unsigned n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) n += strstr(entry->d_name, text) != NULL;
    closedir(dir);
    return n;
}

/* ---- under load ---- */

typedef struct load {
    pthread_t thread;
    atomic_bool stop;
    _Atomic uint64_t acknowledged;
    uint64_t *commits; /* of the groups that carried them, MAX_WRITES at most */
    sluice_err err;
    sluice_cause cause;
} load;

/* Pipelines writes; each adds one to c and a row of that number to w. */
static void *write_on(void *context) {
    load *self = context;
    sluice_client *client = client_new();
    if (client == NULL) self->err = SLUICE_NOMEM;
    while (self->err == SLUICE_OK && (!atomic_load(&self->stop) || sluice_client_inflight(client) != 0)) {
        while (!atomic_load(&self->stop) && sluice_client_inflight(client) < 16) {
            sluice_request *request = NULL;
            self->err = sluice_request_new(client, SLUICE_WRITE, &request);
            if (!self->err) self->err = sluice_request_add(request, "UPDATE c SET n = n + 1", NULL, 0);
            if (!self->err)
                self->err = sluice_request_add(request, REPLACE, NULL, 0);
            if (!self->err) self->err = sluice_submit(client, &request, NULL, NULL, &self->cause);
            sluice_request_destroy(&request);
            if (self->err != SLUICE_OK) break;
        }
        sluice_completion done;
        if (!sluice_poll(client, 1000, &done)) continue;
        if (done.err != SLUICE_OK) self->err = done.err, self->cause = done.cause;
        else self->commits[atomic_fetch_add(&self->acknowledged, 1)] = sluice_result_commit_number(done.result);
        if (atomic_load(&self->acknowledged) == MAX_WRITES - 16) atomic_store(&self->stop, true);
        sluice_result_destroy(&done.result);
    }
    sluice_client_close(&client);
    return NULL;
}

static void a_backup_under_full_load_is_a_state_between_two_groups(void **unused) {
    (void)unused;
    open_store();
    fill(8);
    load loads[2] = {{.stop = false}, {.stop = false}};
    int64_t counts[MAX_BACKUPS];
    uint64_t commits[MAX_BACKUPS];
    unsigned n_backups = support_scaled(10) + 2;
    assert_true(n_backups <= MAX_BACKUPS);
    for (unsigned i = 0; i < 2; i++) {
        loads[i].commits = calloc(MAX_WRITES, sizeof *loads[i].commits);
        assert_int_equal(pthread_create(&loads[i].thread, NULL, write_on, &loads[i]), 0);
    }
    for (unsigned i = 0; i < n_backups; i++) {
        uint64_t before = atomic_load(&loads[0].acknowledged) + atomic_load(&loads[1].acknowledged);
        sluice_backup_done done;
        assert_ok(sluice_store_backup(kit.store, target, PATIENCE_MS, &done, &kit.cause), kit.cause);
        uint64_t after = atomic_load(&loads[0].acknowledged) + atomic_load(&loads[1].acknowledged);
        assert_sound(target);
        int64_t n = look(target, "SELECT n FROM c");
        assert_int_equal(look(target, "SELECT coalesce(max(at), 0) FROM w"), n);
        assert_int_equal(look(target, "SELECT count(*) FROM w, c WHERE at > c.n - 1000 AND at <= c.n AND at % 1000 = w.n"),
                         n < ROWS ? n : ROWS);
        assert_int_equal(look(target, "SELECT count(*) FROM big"), 8);
        assert_true((uint64_t)n >= before && (uint64_t)n <= after + 32); /* those in flight */
        assert_int_equal(done.restarts, 0);
        assert_int_equal(look(target, "PRAGMA page_count"), done.pages);
        assert_int_equal(done.bytes, done.pages * 4096);
        counts[i] = n;
        commits[i] = done.commit_number;
        print_message("%u pages at write %u, commit %u\n", (unsigned)done.pages, (unsigned)n,
                      (unsigned)done.commit_number);
    }
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&loads[i].stop, true);
        pthread_join(loads[i].thread, NULL);
        assert_ok(loads[i].err, loads[i].cause);
    }
    /* Exactly the writes of the groups up to the one it names. */
    for (unsigned k = 0; k < n_backups; k++) {
        int64_t n = 0;
        for (unsigned i = 0; i < 2; i++)
            for (uint64_t at = 0; at < loads[i].acknowledged; at++) n += loads[i].commits[at] <= commits[k];
        assert_int_equal(counts[k], n);
    }
    for (unsigned i = 0; i < 2; i++) free(loads[i].commits);
    assert_int_equal(count_files(".part-"), 0);
    sluice_store_stats stats = kit_stats(&kit);
    assert_int_equal(stats.backups, n_backups);
    assert_int_equal(stats.backups_failed, 0);
    assert_int_equal(stats.backup_pages_left, 0);
    close_store();
}

static void a_quiet_store_is_copied_whole_with_its_permissions(void **unused) {
    (void)unused;
    open_store();
    fill(1);
    assert_int_equal(chmod(kit.path, 0640), 0);
    sluice_backup_done done;
    for (int i = 0; i < 2; i++) { /* the second replaces the first */
        assert_ok(sluice_store_backup(kit.store, target, PATIENCE_MS, &done, &kit.cause), kit.cause);
        struct stat st;
        assert_int_equal(stat(target, &st), 0);
        assert_int_equal(st.st_mode & 0777u, 0640);
        assert_int_equal(st.st_size, done.bytes);
        assert_int_equal(look(target, "SELECT count(*) FROM big"), 1);
        assert_int_equal(done.commit_number, kit_stats(&kit).commit_number);
    }
    close_store();
}

static void a_place_that_is_no_place_is_refused_and_nothing_is_left(void **unused) {
    (void)unused;
    open_store();
    char *wal = support_path(kit.directory, "test.db-wal"), *side = support_path(kit.directory, "test.db.sluice.d");
    char *missing = support_path(kit.directory, "missing/x.db"), *slash = support_path(kit.directory, "");
    char *roundabout = support_path(kit.directory, "test.db.sluice.d/../test.db");
    const struct {
        const char *path;
        sluice_err err;
    } cases[] = {
        {"copy.db", SLUICE_INVALID}, {"", SLUICE_INVALID},        {kit.path, SLUICE_INVALID},
        {wal, SLUICE_INVALID},       {side, SLUICE_INVALID},      {kit.directory, SLUICE_INVALID},
        {slash, SLUICE_INVALID},     {"/dev/null", SLUICE_INVALID}, {missing, SLUICE_SYSTEM},
        {roundabout, SLUICE_INVALID}, {"/proc/x.db", SLUICE_SYSTEM},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sluice_err err = sluice_store_backup(kit.store, cases[i].path, PATIENCE_MS, NULL, &kit.cause);
        if (err != cases[i].err) fail_msg("%s: %s: %s", cases[i].path, sluice_err_name(err), kit.cause.text);
    }
    assert_int_equal(count_files(".part-"), 0);
    assert_int_equal(kit_exec(&kit, "INSERT INTO w VALUES(1, 1, 1)"), SLUICE_OK);
    assert_ok(sluice_store_backup(kit.store, target, PATIENCE_MS, NULL, &kit.cause), kit.cause);
    free(wal), free(side), free(missing), free(slash), free(roundabout);
    close_store();
}

/* ---- a backup that cannot end well ---- */

typedef struct job {
    pthread_t thread;
    uint32_t timeout_ms;
    sluice_err err;
    sluice_cause cause;
    atomic_bool over;
} job;

static void *run_backup(void *context) {
    job *self = context;
    self->err = sluice_store_backup(kit.store, target, self->timeout_ms, NULL, &self->cause);
    atomic_store(&self->over, true);
    return NULL;
}

static bool is_under_way(void *context) {
    job *self = context;
    return kit_stats(&kit).backup_pages_left != 0 || atomic_load(&self->over);
}

static void closing_the_store_ends_a_backup_and_removes_what_there_was_of_it(void **unused) {
    (void)unused;
    open_store();
    fill(50);
    job first = {.timeout_ms = PATIENCE_MS};
    assert_int_equal(pthread_create(&first.thread, NULL, run_backup, &first), 0);
    support_await(is_under_way, &first, 60000);
    sluice_err second = sluice_store_backup(kit.store, target, PATIENCE_MS, NULL, &kit.cause);
    if (!atomic_load(&first.over)) assert_int_equal(second, SLUICE_OVERLOADED);
    sluice_store_close(&kit.store);
    pthread_join(first.thread, NULL);
    if (first.err != SLUICE_OK) {
        assert_int_equal(first.err, SLUICE_CLOSED);
        assert_int_equal(access(target, F_OK), -1);
    }
    assert_int_equal(count_files(".part-"), 0);
    close_store();
}

static void a_backup_over_its_deadline_is_given_up(void **unused) {
    (void)unused;
    open_store();
    fill(30);
    sluice_err err = sluice_store_backup(kit.store, target, 1, NULL, &kit.cause);
    assert_true(err == SLUICE_TIMEOUT || err == SLUICE_EXPIRED);
    /* The next one has its turn, and nothing is left of the first. */
    do err = sluice_store_backup(kit.store, target, PATIENCE_MS, NULL, &kit.cause);
    while (err == SLUICE_OVERLOADED);
    assert_ok(err, kit.cause);
    assert_int_equal(count_files(".part-"), 0);
    assert_int_equal(kit_stats(&kit).backups, 1); /* the other ended before it began, or on its way */
    close_store();
}

static void a_large_transaction_that_is_rolled_back_does_not_reach_the_copy(void **unused) {
    (void)unused;
    open_store();
    fill(20);
    job first = {.timeout_ms = PATIENCE_MS};
    assert_int_equal(pthread_create(&first.thread, NULL, run_backup, &first), 0);
    support_await(is_under_way, &first, 60000);
    for (int i = 0; i < 3; i++) { /* larger than the page cache, so pages of it reach the log before the end */
        sluice_msg *request = kit_request();
        kit_add(request, "INSERT INTO w SELECT 1000000 + value, zeroblob(100000), 0 FROM (WITH RECURSIVE s(value) AS "
                "(SELECT 1 UNION ALL SELECT value + 1 FROM s LIMIT 300) SELECT value FROM s)", 0, NULL);
        kit_add(request, "INSERT INTO c VALUES('x', 'too many')", 0, NULL);
        assert_int_not_equal(kit_ask(&kit, request, NULL), SLUICE_OK);
    }
    pthread_join(first.thread, NULL);
    assert_ok(first.err, first.cause);
    assert_sound(target);
    assert_int_equal(look(target, "SELECT count(*) FROM w"), 0);
    assert_int_equal(look(target, "SELECT count(*) FROM big"), 20);
    close_store();
}

/* ---- restore ---- */

static void copy_file(const char *from, const char *to) {
    char buffer[65536];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;) assert_int_equal(write(out, buffer, (size_t)n), n);
    close(in);
    close(out);
}

static void a_restore_needs_a_closed_store_and_brings_the_copy_back(void **unused) {
    (void)unused;
    open_store();
    assert_int_equal(kit_exec(&kit, "INSERT INTO w VALUES(1, 'kept', 1)"), SLUICE_OK);
    assert_ok(sluice_store_backup(kit.store, target, PATIENCE_MS, NULL, &kit.cause), kit.cause);
    assert_int_equal(kit_exec(&kit, "INSERT INTO w VALUES(2, 'lost', 2)"), SLUICE_OK);
    assert_int_equal(sluice_restore(target, kit.path, NULL, &kit.cause), SLUICE_LOCKED);
    kit_close(&kit);
    uint64_t pages = 0;
    assert_ok(sluice_restore(target, kit.path, &pages, &kit.cause), kit.cause);
    assert_int_equal(look(kit.path, "PRAGMA page_count"), pages);
    kit_open(&kit);
    assert_int_equal(kit_integer(&kit, "SELECT sum(n) FROM w"), 1);
    assert_int_equal(kit_exec(&kit, "INSERT INTO w VALUES(2, 'anew', 2)"), SLUICE_OK);
    close_store();
}

/* What a crash leaves: a database and a log with commits that the file lacks. */
static void a_log_left_by_a_crash_is_not_played_into_the_restored_file(void **unused) {
    (void)unused;
    open_store();
    kit_close(&kit);
    kit.options.checkpointing = SLUICE_CHECKPOINT_MANUAL;
    kit_open(&kit);
    assert_int_equal(kit_exec(&kit, "INSERT INTO w VALUES(1, 'kept', 1)"), SLUICE_OK);
    assert_ok(sluice_store_backup(kit.store, target, PATIENCE_MS, NULL, &kit.cause), kit.cause);
    assert_int_equal(kit_exec(&kit, "INSERT INTO w VALUES(2, zeroblob(100000), 2)"), SLUICE_OK);
    char *crashed = support_path(kit.directory, "crashed.db"), *log = support_path(kit.directory, "crashed.db-wal");
    char *own_log = support_path(kit.directory, "test.db-wal");
    copy_file(own_log, log); /* another process would do that; here nothing of the database file is closed */
    kit_close(&kit);
    copy_file(kit.path, crashed);
    for (int damaged = 0; damaged < 2; damaged++) {
        if (damaged) {
            int fd = open(crashed, O_WRONLY | O_TRUNC);
            for (int i = 0; i < 1000; i++) assert_int_equal(write(fd, "this was a database", 19), 19);
            close(fd);
            fd = open(log, O_WRONLY | O_CREAT, 0600);
            assert_int_equal(write(fd, "and this its log", 16), 16);
            close(fd);
        }
        assert_ok(sluice_restore(target, crashed, NULL, &kit.cause), kit.cause);
        assert_int_equal(access(log, F_OK), -1);
        assert_int_equal(count_files("before-restore"), damaged);
        assert_sound(crashed);
        assert_int_equal(look(crashed, "SELECT sum(n) FROM w"), 1);
    }
    free(crashed), free(log), free(own_log);
    close_store();
}

static void a_copy_that_is_none_is_refused_and_the_database_left_alone(void **unused) {
    (void)unused;
    open_store();
    fill(1);
    assert_int_equal(kit_exec(&kit, "INSERT INTO w VALUES(1, 'kept', 1)"), SLUICE_OK);
    assert_ok(sluice_store_backup(kit.store, target, PATIENCE_MS, NULL, &kit.cause), kit.cause);
    kit_close(&kit);
    char *letter = support_path(kit.directory, "letter"), *missing = support_path(kit.directory, "missing");
    int fd = open(letter, O_WRONLY | O_CREAT, 0600);
    for (int i = 0; i < 1000; i++) assert_int_equal(write(fd, "Dear reader, ", 13), 13);
    close(fd);
    assert_int_equal(sluice_restore(letter, kit.path, NULL, &kit.cause), SLUICE_NOT_A_DATABASE);
    assert_int_equal(sluice_restore(missing, kit.path, NULL, &kit.cause), SLUICE_SYSTEM);
    assert_int_equal(sluice_restore(kit.path, kit.path, NULL, &kit.cause), SLUICE_INVALID);
    assert_int_equal(sluice_restore(kit.directory, kit.path, NULL, &kit.cause), SLUICE_SYSTEM);
    fd = open(target, O_WRONLY); /* a page of the copy is overwritten */
    char noise[4096];
    memset(noise, 0xa5, sizeof noise);
    assert_int_equal(pwrite(fd, noise, sizeof noise, 4096), sizeof noise);
    close(fd);
    assert_int_equal(sluice_restore(target, kit.path, NULL, &kit.cause), SLUICE_CORRUPT);
    assert_int_equal(count_files(".part-"), 0);
    assert_int_equal(look(kit.path, "SELECT count(*) FROM big"), 1);
    assert_int_equal(look(kit.path, "SELECT sum(n) FROM w"), 1);
    free(letter), free(missing);
    close_store();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_under_full_load_is_a_state_between_two_groups),
        cmocka_unit_test(a_quiet_store_is_copied_whole_with_its_permissions),
        cmocka_unit_test(a_place_that_is_no_place_is_refused_and_nothing_is_left),
        cmocka_unit_test(closing_the_store_ends_a_backup_and_removes_what_there_was_of_it),
        cmocka_unit_test(a_backup_over_its_deadline_is_given_up),
        cmocka_unit_test(a_large_transaction_that_is_rolled_back_does_not_reach_the_copy),
        cmocka_unit_test(a_restore_needs_a_closed_store_and_brings_the_copy_back),
        cmocka_unit_test(a_log_left_by_a_crash_is_not_played_into_the_restored_file),
        cmocka_unit_test(a_copy_that_is_none_is_refused_and_the_database_left_alone),
    };
    return cmocka_run_group_tests_name("backup", tests, NULL, NULL);
}
