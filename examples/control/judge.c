/* SPDX-License-Identifier: MIT */
/* judge: looks for every acknowledged write in the file it was promised to be in, with stock SQLite.
 *
 * It is run after the owner of the file has ended, on Sluice's file and on the control group's alike, and shares no
 * code with either. It reads logs of acknowledgements, kept by the clients outside the database:
 *
 *   catalog   lines "worker TAB sequence"; each must be in the ledger once
 *   orders    lines "key TAB id TAB sku TAB quantity"; each must be an order with that id, sku and quantity, and have
 *             one movement of stock; and for every sku, what is left and what was ordered must add up to what was there
 *
 * Both also run PRAGMA integrity_check.
 *
 * Usage: judge --db FILE catalog|orders LOG...
 * Prints "judged acknowledged=N found=N lost=N doubled=N wrong=N integrity=ok".
 * Exit code: 0 all is well, 1 not, 2 usage.
 */
#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FIELDS 4

typedef struct judge {
    sqlite3 *db;
    uint64_t acknowledged, found, lost, doubled, wrong;
} judge;

/* Ends the program: without the file there is no judgement. */
static void need(judge *self, int code, const char *what)
{
    if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
    fprintf(stderr, "judge: %s: %s\n", what, sqlite3_errmsg(self->db));
    exit(1);
}

static sqlite3_stmt *prepare(judge *self, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    need(self, sqlite3_prepare_v2(self->db, sql, -1, &statement, NULL), sql);
    return statement;
}

/* Counts one acknowledged write, which is in the file n times. */
static void count(judge *self, int64_t n, const char *line)
{
    self->acknowledged++;
    if (n >= 1) self->found++;
    if (n == 0) self->lost++;
    if (n > 1) self->doubled++;
    if (n != 1 && self->lost + self->doubled <= 10)
        fprintf(stderr, "judge: %" PRId64 " times in the file: %s\n", n, line);
}

/* Calls each(fields) for the lines of a log. A line without all its fields ends the program. */
static void each_line(judge *self, const char *path, int n_fields, sqlite3_stmt *statement,
                      void (*each)(judge *, sqlite3_stmt *, char **))
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    if (file == NULL) {
        fprintf(stderr, "judge: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    for (ssize_t size; (size = getline(&line, &room, file)) > 0;) {
        char *fields[MAX_FIELDS + 1] = {NULL}, *rest = NULL;
        int n = 0;
        if (line[size - 1] == '\n') line[size - 1] = '\0';
        for (char *field = strtok_r(line, "\t", &rest); field != NULL && n <= MAX_FIELDS;
             field = strtok_r(NULL, "\t", &rest))
            fields[n++] = field;
        if (n != n_fields) {
            fprintf(stderr, "judge: %s: a line with %d fields instead of %d\n", path, n, n_fields);
            exit(1);
        }
        each(self, statement, fields);
    }
    free(line);
    fclose(file);
}

/* ---- catalog ---- */

static void judge_ledger_line(judge *self, sqlite3_stmt *statement, char **fields)
{
    sqlite3_bind_text(statement, 1, fields[0], -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, strtoll(fields[1], NULL, 10));
    need(self, sqlite3_step(statement), "ledger");
    count(self, sqlite3_column_int64(statement, 0), fields[0]);
    need(self, sqlite3_reset(statement), "ledger");
}

/* Writes that are in the ledger twice, acknowledged or not. */
static void judge_ledger(judge *self)
{
    sqlite3_stmt *statement =
        prepare(self, "SELECT count(*) FROM (SELECT 1 FROM ledger GROUP BY worker, sequence HAVING count(*) > 1)");
    need(self, sqlite3_step(statement), "ledger");
    uint64_t doubled = (uint64_t)sqlite3_column_int64(statement, 0);
    if (doubled > self->doubled) self->doubled = doubled;
    sqlite3_finalize(statement);
    statement = prepare(self, "SELECT count(*) FROM package p WHERE n_files <> "
                              "(SELECT count(*) FROM file WHERE package = p.name) OR n_dependencies <> "
                              "(SELECT count(*) FROM dependency WHERE package = p.name)");
    need(self, sqlite3_step(statement), "package");
    self->wrong += (uint64_t)sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
}

/* ---- orders ---- */

static void judge_order_line(judge *self, sqlite3_stmt *statement, char **fields)
{
    sqlite3_bind_text(statement, 1, fields[0], -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, strtoll(fields[1], NULL, 10));
    sqlite3_bind_text(statement, 3, fields[2], -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 4, strtoll(fields[3], NULL, 10));
    need(self, sqlite3_step(statement), "order");
    int64_t orders = sqlite3_column_int64(statement, 0), movements = sqlite3_column_int64(statement, 1);
    count(self, orders == 1 ? movements : orders, fields[0]);
    need(self, sqlite3_reset(statement), "order");
}

static void judge_stock(judge *self)
{
    sqlite3_stmt *statement = prepare(
        self, "SELECT sku, at_first, remaining, (SELECT coalesce(sum(quantity), 0) FROM orders o WHERE o.sku = s.sku), "
              "(SELECT coalesce(sum(quantity), 0) FROM movement m WHERE m.sku = s.sku) FROM stock s");
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        int64_t at_first = sqlite3_column_int64(statement, 1), remaining = sqlite3_column_int64(statement, 2);
        int64_t ordered = sqlite3_column_int64(statement, 3), moved = sqlite3_column_int64(statement, 4);
        if (remaining >= 0 && at_first == remaining + ordered && ordered == moved) continue;
        fprintf(stderr,
                "judge: stock of %s: %" PRId64 " at first, %" PRId64 " left, %" PRId64 " ordered, %" PRId64 " moved\n",
                (const char *)sqlite3_column_text(statement, 0), at_first, remaining, ordered, moved);
        self->wrong++;
    }
    need(self, code, "stock");
    sqlite3_finalize(statement);
}

/* ---- the program ---- */

static bool integrity(judge *self)
{
    sqlite3_stmt *statement = prepare(self, "PRAGMA integrity_check");
    need(self, sqlite3_step(statement), "integrity_check");
    const char *text = (const char *)sqlite3_column_text(statement, 0);
    bool ok = strcmp(text, "ok") == 0;
    if (!ok) fprintf(stderr, "judge: integrity_check: %s\n", text);
    sqlite3_finalize(statement);
    return ok;
}

int main(int argc, char **argv)
{
    judge self = {0};
    bool orders = argc > 3 && strcmp(argv[3], "orders") == 0;
    if (argc < 4 || strcmp(argv[1], "--db") != 0 || (!orders && strcmp(argv[3], "catalog") != 0)) {
        fputs("Usage: judge --db FILE catalog|orders LOG...\n", stderr);
        return 2;
    }
    need(&self, sqlite3_open_v2(argv[2], &self.db, SQLITE_OPEN_READWRITE, NULL), argv[2]);
    sqlite3_stmt *statement = prepare(
        &self, orders ? "SELECT count(*), (SELECT count(*) FROM movement WHERE order_key = ?1) FROM orders "
                        "WHERE key = ?1 AND id = ?2 AND sku = ?3 AND quantity = ?4"
                      : "SELECT count(*) FROM ledger WHERE worker = ?1 AND sequence = ?2");
    for (int i = 4; i < argc; i++)
        each_line(&self, argv[i], orders ? 4 : 2, statement, orders ? judge_order_line : judge_ledger_line);
    sqlite3_finalize(statement);
    if (orders)
        judge_stock(&self);
    else
        judge_ledger(&self);
    bool sound = integrity(&self);
    sqlite3_close(self.db);
    printf("judged acknowledged=%" PRIu64 " found=%" PRIu64 " lost=%" PRIu64 " doubled=%" PRIu64 " wrong=%" PRIu64
           " integrity=%s\n",
           self.acknowledged, self.found, self.lost, self.doubled, self.wrong, sound ? "ok" : "broken");
    return self.lost + self.doubled + self.wrong == 0 && sound ? 0 : 1;
}
