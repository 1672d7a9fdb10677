/* SPDX-License-Identifier: MIT */
/* control-stock: the catalog's writes by a process with a connection of its own, on a stock-SQLite file.
 *
 * The control group of the show: the same slices, the same parser, the same SQL, one transaction per package, as many
 * processes; WAL, synchronous=FULL, autocheckpoint as SQLite sets it, BEGIN IMMEDIATE, and a busy_timeout. This is what
 * a careful program does without Sluice. When SQLITE_BUSY comes in spite of the time-out it is counted, and the write
 * is tried again; the time of a write runs from its first attempt.
 *
 * Usage: control-stock --db FILE [--worker NAME] [--rounds N] [--log FILE] [--busy-timeout MS] [--dpkg DIR]
 */
#include "catalog/dpkg.h"
#include "catalog/schema.h"
#include "common/acklog.h"
#include "common/clock.h"
#include "common/tally.h"
#include "common/utf8.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FENCE, FORGET, PACKAGE, DEPENDENCY, FILE_ROW, LEDGER, CLAIM, FINISH, SWEEP, RELEASE, ROUNDS, N_STATEMENTS };

static const char *const statement_sql[N_STATEMENTS] = {
    [FENCE] = CATALOG_SQL_FENCE,     [FORGET] = CATALOG_SQL_FORGET,         [PACKAGE] = CATALOG_SQL_PACKAGE,
    [FILE_ROW] = CATALOG_SQL_FILE,   [DEPENDENCY] = CATALOG_SQL_DEPENDENCY, [LEDGER] = CATALOG_SQL_LEDGER,
    [CLAIM] = CATALOG_SQL_CLAIM,     [FINISH] = CATALOG_SQL_FINISH,         [SWEEP] = CATALOG_SQL_SWEEP,
    [RELEASE] = CATALOG_SQL_RELEASE, [ROUNDS] = CATALOG_SQL_ROUNDS};

typedef struct control {
    const char *db_path, *name, *dpkg, *log_path;
    int busy_timeout_ms;
    int64_t last_round;
    char id[128];
    int log;
    int64_t sequence, slice, round;
    uint64_t next_report_us;
    sqlite3 *db;
    sqlite3_stmt *statements[N_STATEMENTS];
    catalog_status *status;
    bool lost_slice, broken;
    tally tally;
} control;

static atomic_bool stopping; /* lock-free, so a signal handler may set it */

static void on_signal(int number)
{
    (void)number;
    stopping = true;
}

/* Counts SQLITE_BUSY; anything else that is not OK is the end. True if the same may be tried again. */
static bool busy(control *self, int code, const char *what)
{
    if ((code & 0xff) == SQLITE_BUSY) {
        self->tally.busy++;
        return true;
    }
    fprintf(stderr, "%s: %s: %s\n", self->name, what, sqlite3_errmsg(self->db));
    self->tally.failed++;
    self->broken = true;
    return false;
}

static void bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

/* Runs a bound statement that gives no rows. */
static int run(control *self, int which)
{
    int code = sqlite3_step(self->statements[which]);
    int reset = sqlite3_reset(self->statements[which]);
    return code == SQLITE_DONE ? SQLITE_OK : reset;
}

static int simple(control *self, const char *sql)
{
    return sqlite3_exec(self->db, sql, NULL, NULL, NULL);
}

/* ---- one package ---- */

static int write_package_row(control *self, const catalog_package *package)
{
    sqlite3_stmt *row = self->statements[PACKAGE];
    bind_text(row, 1, package->name);
    bind_text(row, 2, package->version);
    bind_text(row, 3, package->architecture);
    bind_text(row, 4, package->status);
    bind_text(row, 5, package->section);
    bind_text(row, 6, package->summary);
    sqlite3_bind_int64(row, 7, self->slice);
    sqlite3_bind_int64(row, 8, self->round);
    sqlite3_bind_int64(row, 9, (int64_t)package->n_dependencies);
    sqlite3_bind_int64(row, 10, (int64_t)package->n_files);
    return run(self, PACKAGE);
}

static int write_rows(control *self, const catalog_package *package)
{
    int code = write_package_row(self, package);
    for (size_t i = 0; i < package->n_dependencies && code == SQLITE_OK; i++) {
        const catalog_dependency *dependency = &package->dependencies[i];
        sqlite3_stmt *row = self->statements[DEPENDENCY];
        bind_text(row, 1, package->name);
        bind_text(row, 2, dependency->kind);
        sqlite3_bind_int(row, 3, dependency->position);
        sqlite3_bind_int(row, 4, dependency->alternative);
        bind_text(row, 5, dependency->target);
        bind_text(row, 6, dependency->architecture);
        bind_text(row, 7, dependency->relation);
        bind_text(row, 8, dependency->version);
        code = run(self, DEPENDENCY);
    }
    for (size_t i = 0; i < package->n_files && code == SQLITE_OK; i++) {
        sqlite3_stmt *row = self->statements[FILE_ROW];
        const char *path = package->files[i];
        if (utf8_valid(path))
            bind_text(row, 1, path);
        else
            sqlite3_bind_blob(row, 1, path, (int)strlen(path), SQLITE_STATIC);
        bind_text(row, 2, package->name);
        code = run(self, FILE_ROW);
    }
    return code;
}

/* One transaction. Gives SQLite's code; on any but OK it is rolled back. */
static int try_package(control *self, const catalog_package *package)
{
    int code = simple(self, "BEGIN IMMEDIATE");
    if (code != SQLITE_OK) return code;
    sqlite3_stmt *fence = self->statements[FENCE];
    bind_text(fence, 1, self->id);
    sqlite3_bind_int(fence, 2, CATALOG_LEASE_SECONDS);
    sqlite3_bind_int64(fence, 3, self->slice);
    sqlite3_bind_int64(fence, 4, self->round);
    code = run(self, FENCE);
    if (code == SQLITE_OK && sqlite3_changes(self->db) != 1) self->lost_slice = true;
    if (code == SQLITE_OK && !self->lost_slice) {
        bind_text(self->statements[FORGET], 1, package->name);
        code = run(self, FORGET);
        if (code == SQLITE_OK) code = write_rows(self, package);
        sqlite3_stmt *note = self->statements[LEDGER];
        bind_text(note, 1, self->id);
        sqlite3_bind_int64(note, 2, self->sequence);
        bind_text(note, 3, package->name);
        sqlite3_bind_int64(note, 4, self->round);
        if (code == SQLITE_OK) code = run(self, LEDGER);
        if (code == SQLITE_OK) code = simple(self, "COMMIT");
    }
    if (!sqlite3_get_autocommit(self->db)) simple(self, "ROLLBACK");
    return code;
}

static void report(control *self)
{
    uint64_t now = clock_us();
    if (now < self->next_report_us) return;
    self->next_report_us = now + 1000000;
    tally_print(stdout, "progress", &self->tally);
}

static void write_package(control *self, const catalog_package *package)
{
    uint64_t begun = clock_us();
    self->sequence++;
    self->tally.requests++;
    while (!self->broken) {
        int code = try_package(self, package);
        if (self->lost_slice) {
            self->tally.refused++;
            return;
        }
        if (code == SQLITE_OK) {
            tally_acknowledge(&self->tally, clock_us() - begun);
            acklog_add(self->log, "%s\t%" PRId64, self->id, self->sequence);
            return;
        }
        if (!busy(self, code, package->name)) return;
        report(self);
    }
}

/* ---- slices, as catalog-worker does it ---- */

static bool index_slice(control *self)
{
    char error[512];
    self->lost_slice = false;
    if (!catalog_status_refresh(self->status, error, sizeof error)) {
        fprintf(stderr, "%s: %s\n", self->name, error);
        self->broken = true;
    }
    size_t n = catalog_status_stanzas(self->status);
    for (size_t i = 0; i < n && !stopping && !self->lost_slice && !self->broken; i++) {
        catalog_package package;
        int found = catalog_status_package(self->status, i, (unsigned)self->slice, CATALOG_SLICES, &package, error,
                                           sizeof error);
        if (found < 0) {
            fprintf(stderr, "%s: %s\n", self->name, error);
            self->broken = true;
        } else if (found > 0) {
            write_package(self, &package);
            catalog_package_fini(&package);
        }
        report(self);
    }
    return !stopping && !self->lost_slice && !self->broken;
}

/* 1: claimed; 0: none is free; -1: not this time. */
static int claim(control *self)
{
    sqlite3_stmt *statement = self->statements[CLAIM];
    bind_text(statement, 1, self->id);
    sqlite3_bind_int(statement, 2, CATALOG_LEASE_SECONDS);
    sqlite3_bind_int64(statement, 3, self->last_round);
    int got = 0, code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        self->slice = sqlite3_column_int64(statement, 0);
        self->round = sqlite3_column_int64(statement, 1);
        got = 1;
        code = sqlite3_step(statement); /* RETURNING is done when it is stepped to its end */
    }
    int reset = sqlite3_reset(statement);
    if (code == SQLITE_DONE) return got;
    busy(self, reset, "claim");
    return -1;
}

static int try_finish(control *self)
{
    int code = simple(self, "BEGIN IMMEDIATE");
    if (code != SQLITE_OK) return code;
    bind_text(self->statements[FINISH], 1, self->id);
    sqlite3_bind_int64(self->statements[FINISH], 2, self->slice);
    sqlite3_bind_int64(self->statements[FINISH], 3, self->round);
    code = run(self, FINISH);
    if (code == SQLITE_OK && sqlite3_changes(self->db) == 1) {
        sqlite3_bind_int64(self->statements[SWEEP], 1, self->slice);
        sqlite3_bind_int64(self->statements[SWEEP], 2, self->round);
        code = run(self, SWEEP);
        if (code == SQLITE_OK) code = simple(self, "COMMIT");
    }
    if (!sqlite3_get_autocommit(self->db)) simple(self, "ROLLBACK");
    return code;
}

static void read_rounds(control *self)
{
    if (sqlite3_step(self->statements[ROUNDS]) == SQLITE_ROW)
        self->tally.rounds = (uint64_t)sqlite3_column_int64(self->statements[ROUNDS], 0);
    int code = sqlite3_reset(self->statements[ROUNDS]);
    if (code != SQLITE_OK) busy(self, code, "rounds");
    self->tally.reads++;
}

/* Repeats what met SQLITE_BUSY until it is done. */
static void insist(control *self, const char *sql)
{
    int code;
    while (!self->broken && (code = simple(self, sql)) != SQLITE_OK) busy(self, code, sql);
}

static bool open_file(control *self)
{
    if (sqlite3_open(self->db_path, &self->db) != SQLITE_OK) {
        fprintf(stderr, "%s: %s: %s\n", self->name, self->db_path, sqlite3_errmsg(self->db));
        return false;
    }
    sqlite3_busy_timeout(self->db, self->busy_timeout_ms);
    insist(self, "PRAGMA journal_mode = WAL");
    insist(self, "PRAGMA synchronous = FULL");
    insist(self, "PRAGMA foreign_keys = ON");
    for (size_t i = 0; catalog_schema[i] != NULL; i++) insist(self, catalog_schema[i]);
    insist(self, "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT 64) "
                 "INSERT INTO slice(number) SELECT i FROM n WHERE true ON CONFLICT DO NOTHING");
    for (int i = 0; i < N_STATEMENTS && !self->broken; i++) {
        int code;
        while (!self->broken &&
               (code = sqlite3_prepare_v3(self->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                          &self->statements[i], NULL)) != SQLITE_OK)
            busy(self, code, statement_sql[i]);
    }
    return !self->broken;
}

static void work(control *self)
{
    while (!stopping && !self->broken) {
        int claimed = claim(self);
        if (claimed > 0 && index_slice(self)) {
            int code;
            while (!self->broken && (code = try_finish(self)) != SQLITE_OK) busy(self, code, "finish");
        }
        read_rounds(self);
        if (self->tally.rounds >= (uint64_t)self->last_round) break;
        if (claimed == 0) clock_sleep_ms(100);
        report(self);
    }
    int code;
    bind_text(self->statements[RELEASE], 1, self->id);
    while (!self->broken && (code = run(self, RELEASE)) != SQLITE_OK) busy(self, code, "release");
}

static int usage(void)
{
    fputs("Usage: control-stock --db FILE [--worker NAME] [--rounds N] [--log FILE] [--busy-timeout MS] [--dpkg DIR]\n"
          "Does the catalog's writes straight on a stock-SQLite file, until SIGTERM or N complete rounds.\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static control self = {
        .name = "control", .dpkg = "/var/lib/dpkg", .busy_timeout_ms = 5000, .last_round = INT64_MAX};
    static const struct option options[] = {
        {"db", required_argument, NULL, 'b'},     {"worker", required_argument, NULL, 'w'},
        {"rounds", required_argument, NULL, 'r'}, {"log", required_argument, NULL, 'l'},
        {"dpkg", required_argument, NULL, 'd'},   {"busy-timeout", required_argument, NULL, 't'},
        {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'b': self.db_path = optarg; break;
        case 'w': self.name = optarg; break;
        case 'r': self.last_round = strtoll(optarg, NULL, 10); break;
        case 'l': self.log_path = optarg; break;
        case 'd': self.dpkg = optarg; break;
        case 't': self.busy_timeout_ms = atoi(optarg); break;
        default: return usage();
        }
    }
    if (optind != argc || self.db_path == NULL || self.last_round < 1) return usage();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    snprintf(self.id, sizeof self.id, "%.60s.%ld.%lld", self.name, (long)getpid(), (long long)time(NULL));
    self.log = acklog_open(self.log_path);
    self.status = catalog_status_new(self.dpkg);
    if (self.log < 0 || self.status == NULL) {
        fprintf(stderr, "%s: %s\n", self.log_path != NULL ? self.log_path : self.name, strerror(errno));
        return 1;
    }
    if (open_file(&self)) work(&self);
    for (int i = 0; i < N_STATEMENTS; i++) sqlite3_finalize(self.statements[i]);
    sqlite3_close(self.db);
    tally_print(stdout, "done", &self.tally);
    catalog_status_destroy(&self.status);
    close(self.log);
    return self.broken ? 1 : 0;
}
