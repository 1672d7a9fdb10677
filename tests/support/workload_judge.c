/* SPDX-License-Identifier: MIT */
/* The judgement of what the workload's clients heard; see workload.h. */
#include "support/linear.h"
#include "support/workload.h"
#include "support/workload_tables.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 20000000u
#define COMPLAINTS_MAX 20u /* printed */

typedef enum outcome { OUTCOME_OK, OUTCOME_NO, OUTCOME_UNKNOWN } outcome;

typedef struct judgement {
    workload *work;
    sqlite3 *db;
    work_verdict verdict;
    bool show;
} judgement;

#define COMPLAIN(self, ...)                                                                                            \
    do {                                                                                                               \
        if ((self)->verdict.violations++ < COMPLAINTS_MAX && (self)->show) {                                           \
            printf("violation: " __VA_ARGS__);                                                                         \
            printf("\n");                                                                                              \
        }                                                                                                              \
    } while (0)

static outcome outcome_of(const work_note *note) {
    if (atomic_load(&note->state) != 2) return OUTCOME_UNKNOWN;
    if (note->err == SLUICE_OK) return OUTCOME_OK;
    return sluice_err_applied(note->err) == SLUICE_APPLIED_UNKNOWN ? OUTCOME_UNKNOWN : OUTCOME_NO;
}

static bool is_read(work_kind kind) { return kind == WORK_READ || kind == WORK_TOTAL || kind == WORK_SEE; }

static sqlite3_stmt *prepare(judgement *self, const char *sql) {
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(self->db, sql, -1, &stmt, NULL) != SQLITE_OK) fail_msg("%s", sqlite3_errmsg(self->db));
    return stmt;
}

static int64_t integer(judgement *self, const char *sql) {
    sqlite3_stmt *stmt = prepare(self, sql);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

/* ---- registers ---- */

typedef struct keyed {
    uint32_t key;
    linear_op op;
} keyed;

static int by_key(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->op.call_ns < y->op.call_ns ? -1 : x->op.call_ns > y->op.call_ns;
}

/* Adds a register's operation, if it may have had an effect or an answer. */
static size_t collect_op(const work_note *note, unsigned client, keyed *out) {
    outcome end = outcome_of(note);
    bool refused = note->kind == WORK_SWAP && end == OUTCOME_NO && note->err == SLUICE_GUARD_FAILED;
    if (note->kind > WORK_SWAP || (end == OUTCOME_NO && !refused)) return 0;
    if (note->kind == WORK_READ && end != OUTCOME_OK) return 0;
    static const linear_kind kinds[] = {LINEAR_READ, LINEAR_WRITE, LINEAR_SWAP};
    *out = (keyed){note->key, {.kind = kinds[note->kind], .unknown = end == OUTCOME_UNKNOWN, .refused = refused,
                               .value = note->value, .expected = note->expected, .call_ns = note->call_ns,
                               .return_ns = note->return_ns, .who = client}};
    return 1;
}

static int64_t register_in_file(sqlite3_stmt *stmt, uint32_t key) {
    sqlite3_bind_int64(stmt, 1, key);
    int64_t value = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_reset(stmt);
    return value;
}

static void judge_register(judgement *self, uint32_t key, const linear_op *ops, size_t n) {
    linear_verdict verdict = linear_check(ops, n, 0, STEPS_MAX);
    self->verdict.registers++;
    if (verdict == LINEAR_YES) return;
    COMPLAIN(self, "the history of register %u %s", key,
             verdict == LINEAR_NO ? "is not linearizable" : "is too tangled to be decided");
    if (self->show && self->verdict.violations < 4) linear_print(ops, n);
}

static void judge_registers(judgement *self) {
    size_t n = 0, room = 1;
    for (unsigned c = 0; c < WORK_CLIENTS; c++) room += atomic_load(&self->work->clients[c].n);
    keyed *all = malloc(room * sizeof *all);
    linear_op *ops = malloc((room + 1) * sizeof *ops);
    assert_true(all != NULL && ops != NULL);
    for (unsigned c = 0; c < WORK_CLIENTS; c++)
        for (unsigned i = 0; i < atomic_load(&self->work->clients[c].n); i++)
            if (atomic_load(&self->work->clients[c].notes[i].state) != 0)
                n += collect_op(&self->work->clients[c].notes[i], c, &all[n]);
    qsort(all, n, sizeof *all, by_key);
    sqlite3_stmt *stmt = prepare(self, "SELECT v FROM register WHERE k = ?1");
    for (size_t i = 0, next; i < n; i = next) {
        size_t n_ops = 0;
        for (next = i; next < n && all[next].key == all[i].key; next++) ops[n_ops++] = all[next].op;
        /* The file has the last word. */
        ops[n_ops++] = (linear_op){.kind = LINEAR_READ, .value = register_in_file(stmt, all[i].key),
                                   .call_ns = INT64_MAX - 1, .return_ns = INT64_MAX, .who = WORK_CLIENTS};
        judge_register(self, all[i].key, ops, n_ops);
    }
    sqlite3_finalize(stmt);
    free(all);
    free(ops);
}

/* ---- bank ---- */

/* How often each of a client's numbers is in a table. */
static unsigned char *count_rows(judgement *self, unsigned client, const char *sql) {
    unsigned n = atomic_load(&self->work->clients[client].n);
    unsigned char *counts = calloc(n + 1, 1);
    assert_non_null(counts);
    sqlite3_stmt *stmt = prepare(self, sql);
    sqlite3_bind_int64(stmt, 1, client);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        int64_t at = sqlite3_column_int64(stmt, 0);
        if (at < 0 || at >= n)
            COMPLAIN(self, "client %u never asked for its number %" PRId64, client, at);
        else if (counts[at] < 255)
            counts[at]++;
    }
    sqlite3_finalize(stmt);
    return counts;
}

/* Acknowledged: exactly once; refused: never; unknown: at most once. */
static void judge_rows(judgement *self, work_kind kind, const char *what, const char *sql) {
    for (unsigned c = 0; c < WORK_CLIENTS; c++) {
        const work_client *client = &self->work->clients[c];
        unsigned char *counts = count_rows(self, c, sql);
        for (unsigned i = 0; i < atomic_load(&client->n); i++) {
            const work_note *note = &client->notes[i];
            bool asked = note->kind == kind && atomic_load(&note->state) != 0;
            outcome end = asked ? outcome_of(note) : OUTCOME_NO;
            if (counts[i] > 1) COMPLAIN(self, "%s %u of client %u is there %u times", what, i, c, counts[i]);
            if (end == OUTCOME_OK && counts[i] == 0)
                COMPLAIN(self, "%s %u of client %u was acknowledged and is lost", what, i, c);
            if (end == OUTCOME_NO && counts[i] > 0)
                COMPLAIN(self, "%s %u of client %u is there, though it was answered %s", what, i, c,
                         sluice_err_name(note->err));
        }
        free(counts);
    }
}

static void judge_bank(judgement *self) {
    judge_rows(self, WORK_TRANSFER, "transfer", "SELECT n FROM transfer WHERE client = ?1");
    int64_t total = integer(self, "SELECT sum(balance) FROM account");
    if (total != WORK_ACCOUNTS * WORK_BALANCE) COMPLAIN(self, "the bank's total is %" PRId64, total);
    if (integer(self, "SELECT min(balance) FROM account") < 0) COMPLAIN(self, "a balance is negative");
    int64_t wrong = integer(self, "SELECT count(*) FROM account WHERE balance <> 100"
                                  " + coalesce((SELECT sum(amount) FROM transfer WHERE target = account.id), 0)"
                                  " - coalesce((SELECT sum(amount) FROM transfer WHERE source = account.id), 0)");
    if (wrong != 0) COMPLAIN(self, "%" PRId64 " balances do not follow from the transfers", wrong);
}

/* ---- what was read on the way ---- */

static void judge_reads(judgement *self) {
    for (unsigned c = 0; c < WORK_CLIENTS; c++) {
        for (unsigned i = 0; i < atomic_load(&self->work->clients[c].n); i++) {
            const work_note *note = &self->work->clients[c].notes[i];
            if (atomic_load(&note->state) == 0) continue;
            outcome end = outcome_of(note);
            self->verdict.calls++;
            if (end == OUTCOME_OK)
                self->verdict.ok++;
            else if (end == OUTCOME_NO || is_read(note->kind))
                self->verdict.no++;
            else
                self->verdict.unknown++;
            if (end != OUTCOME_OK) continue;
            if (note->kind == WORK_TOTAL && (note->value != WORK_ACCOUNTS * WORK_BALANCE || note->expected < 0))
                COMPLAIN(self, "client %u read a total of %" PRId64 " and a smallest balance of %" PRId64, c,
                         note->value, note->expected);
            if (note->kind == WORK_SEE && note->value != 1)
                COMPLAIN(self, "client %u sees its acknowledged member %u %" PRId64 " times", c, note->key,
                         note->value);
        }
    }
}

/* ---- ids ---- */

static int by_id(const void *a, const void *b) {
    const work_note *x = *(work_note *const *)a, *y = *(work_note *const *)b;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* Sorted by id: no id twice, and none was asked for after a greater one had been given. */
static void judge_ids(judgement *self) {
    size_t n = 0, unknown = 0, room = 1;
    for (unsigned c = 0; c < WORK_CLIENTS; c++) room += atomic_load(&self->work->clients[c].n);
    work_note **ids = malloc(room * sizeof(work_note *));
    assert_non_null(ids);
    for (unsigned c = 0; c < WORK_CLIENTS; c++) {
        for (unsigned i = 0; i < atomic_load(&self->work->clients[c].n); i++) {
            work_note *note = &self->work->clients[c].notes[i];
            if (atomic_load(&note->state) == 0 || note->kind != WORK_ID) continue;
            if (outcome_of(note) == OUTCOME_OK) ids[n++] = note;
            if (outcome_of(note) == OUTCOME_UNKNOWN) unknown++;
            if (outcome_of(note) == OUTCOME_OK && note->expected) self->verdict.replayed_ids++;
        }
    }
    qsort(ids, n, sizeof(work_note *), by_id);
    int64_t first_return = INT64_MAX;
    for (size_t i = n; i-- > 0;) {
        if (i + 1 < n && ids[i]->value == ids[i + 1]->value)
            COMPLAIN(self, "id %" PRId64 " was given twice", ids[i]->value);
        if (ids[i]->call_ns > first_return)
            COMPLAIN(self, "id %" PRId64 " was asked for after a greater one had been given", ids[i]->value);
        if (ids[i]->return_ns < first_return) first_return = ids[i]->return_ns;
    }
    int64_t last = integer(self, "SELECT v FROM counter");
    if (last < (int64_t)n || last > (int64_t)(n + unknown))
        COMPLAIN(self, "the counter is at %" PRId64 " after %zu ids given and %zu unknown", last, n, unknown);
    free(ids);
}

work_verdict workload_judge(workload *work, const char *path, bool show) {
    judgement self = {.work = work, .show = show};
    assert_int_equal(sqlite3_open_v2(path, &self.db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    judge_registers(&self);
    judge_bank(&self);
    judge_rows(&self, WORK_ADD, "member", "SELECT n FROM member WHERE client = ?1");
    judge_reads(&self);
    judge_ids(&self);
    sqlite3_stmt *stmt = prepare(&self, "PRAGMA integrity_check");
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    if (strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") != 0)
        COMPLAIN(&self, "the file is damaged: %s", sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    sqlite3_close(self.db);
    return self.verdict;
}

void workload_print(const work_verdict *verdict, const char *title) {
    print_message("%s: %" PRIu64 " calls: %" PRIu64 " ok, %" PRIu64 " no, %" PRIu64 " unknown; %u registers, %" PRIu64
                  " ids from a receipt; %u violations\n", title, verdict->calls, verdict->ok, verdict->no,
                  verdict->unknown, verdict->registers, verdict->replayed_ids, verdict->violations);
}
