/* SPDX-License-Identifier: MIT */
/* The clients of the workload; see workload.h. The judgement is in workload_judge.c. */
#include "support/workload.h"
#include "support/random_message.h"
#include "support/workload_tables.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { NOTES = 20000, NOTES_LONG = 400000, REGISTERS_AT_A_TIME = 4, OPS_PER_REGISTER = 60 };

typedef struct worker {
    workload *shared;
    work_client *me;
    unsigned index;
    sluice_client *client;
    support_random random;
    bool receipts;
    int64_t seen[REGISTERS_AT_A_TIME]; /* value last met, for swaps */
    uint32_t seen_key[REGISTERS_AT_A_TIME];
} worker;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- notes ---- */

workload *workload_new(void) {
    unsigned room = support_long() ? NOTES_LONG : NOTES;
    size_t size = sizeof(workload) + (size_t)room * WORK_CLIENTS * sizeof(work_note);
    workload *self = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(self, MAP_FAILED);
    self->size = size;
    self->room = room;
    for (unsigned i = 0; i < WORK_CLIENTS; i++)
        self->clients[i].notes = (work_note *)(self + 1) + (size_t)room * i;
    return self;
}

void workload_destroy(workload **self) {
    if (*self != NULL) munmap(*self, (*self)->size);
    *self = NULL;
}

void workload_create_tables(const char *path) {
    sqlite3 *db = NULL;
    char sql[256];
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, WORK_TABLES, NULL, NULL, NULL), SQLITE_OK);
    for (int i = 0; i < WORK_ACCOUNTS; i++) {
        sqlite3_snprintf(sizeof sql, sql, "INSERT INTO account VALUES(%d, %d)", i, WORK_BALANCE);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    }
    sqlite3_close(db);
}

bool workload_await(workload *self, uint64_t n, unsigned timeout_ms) {
    uint64_t until = atomic_load(&self->ended) + n;
    int64_t end = now_ns() + (int64_t)timeout_ms * 1000000;
    while (atomic_load(&self->ended) < until && now_ns() < end)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return atomic_load(&self->ended) >= until;
}

static work_note *note_call(worker *self, work_kind kind) {
    unsigned n = atomic_load(&self->me->n);
    work_note *note = &self->me->notes[n];
    atomic_store(&self->me->n, n + 1);
    note->kind = kind;
    note->call_ns = now_ns();
    return note;
}

/* The call's arguments are in the note: from here on it may be under way. */
static void note_begun(work_note *note) { atomic_store(&note->state, 1); }

static void note_end(worker *self, work_note *note, sluice_err err) {
    note->return_ns = now_ns();
    note->err = err;
    atomic_store(&note->state, 2);
    atomic_fetch_add(&self->shared->ended, 1);
}

/* ---- calls ---- */

static uint64_t below(worker *self, uint64_t n) { return support_random_below(&self->random, n); }

static uint32_t some_timeout_ms(worker *self) {
    uint64_t dice = below(self, 10);
    return dice == 0 ? 30 : dice < 7 ? 500 : 3000;
}

/* Calls, and often asks again about an unknown end. Destroys the request. */
static sluice_err call(worker *self, sluice_request **request, sluice_result **result) {
    sluice_client_set_timeout(self->client, some_timeout_ms(self));
    sluice_err err = sluice_call(self->client, *request, result, NULL);
    bool insist = self->receipts && below(self, 10) < 8;
    for (int i = 0; i < 4 && insist && sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN; i++) {
        sluice_client_set_timeout(self->client, 1000);
        err = sluice_call_again(self->client, *request, result, NULL);
    }
    sluice_request_destroy(request);
    return err;
}

static sluice_request *request_new(worker *self, sluice_request_kind kind) {
    sluice_request *request = NULL;
    if (sluice_request_new(self->client, kind, &request) != SLUICE_OK) abort();
    return request;
}

static void add(sluice_request *request, const char *sql, const sluice_value *values, size_t n) {
    if (sluice_request_add(request, sql, values, n) != SLUICE_OK) abort();
}

static void expect_one(sluice_request *request) {
    if (sluice_request_expect(request, 1) != SLUICE_OK) abort();
}

static int64_t first_integer(sluice_result *result, size_t column) {
    if (column == 0 && !sluice_result_next(result)) return INT64_MIN;
    return sluice_result_int64(result, column);
}

/* A value nobody else writes. */
static int64_t own_value(const worker *self) {
    return (int64_t)(self->index + 1) << 32 | (atomic_load(&self->me->n) + 1);
}

static void on_register(worker *self) {
    unsigned ops = atomic_fetch_add(&self->shared->register_ops, 1), at = (unsigned)below(self, REGISTERS_AT_A_TIME);
    uint32_t key = ops / (REGISTERS_AT_A_TIME * OPS_PER_REGISTER) * REGISTERS_AT_A_TIME + at;
    if (self->seen_key[at] != key) self->seen[at] = 0;
    self->seen_key[at] = key;
    uint64_t dice = below(self, 10);
    work_kind kind = dice < 5 ? WORK_READ : dice < 7 && self->seen[at] != 0 ? WORK_SWAP : WORK_WRITE;
    work_note *note = note_call(self, kind);
    sluice_request *request = request_new(self, kind == WORK_READ ? SLUICE_READ : SLUICE_WRITE);
    sluice_result *result = NULL;
    note->key = key;
    note->value = own_value(self);
    note->expected = self->seen[at];
    sluice_value values[] = {sluice_integer(key), sluice_integer(note->value), sluice_integer(note->expected)};
    if (kind == WORK_READ)
        add(request, "SELECT coalesce((SELECT v FROM register WHERE k = ?1), 0)", values, 1);
    else if (kind == WORK_WRITE)
        add(request, "INSERT INTO register VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v", values, 2);
    else
        add(request, "UPDATE register SET v = ?2 WHERE k = ?1 AND v = ?3", values, 3);
    if (kind != WORK_READ) expect_one(request);
    note_begun(note);
    sluice_err err = call(self, &request, &result);
    if (err == SLUICE_OK && kind == WORK_READ) note->value = first_integer(result, 0);
    if (err == SLUICE_OK) self->seen[at] = note->value;
    sluice_result_destroy(&result);
    note_end(self, note, err);
}

static void on_transfer(worker *self) {
    int64_t from = (int64_t)below(self, WORK_ACCOUNTS), n = atomic_load(&self->me->n);
    int64_t to = (from + 1 + (int64_t)below(self, WORK_ACCOUNTS - 1)) % WORK_ACCOUNTS;
    work_note *note = note_call(self, WORK_TRANSFER);
    note->key = (uint32_t)from;
    note->expected = to;
    note->value = 1 + (int64_t)below(self, WORK_BALANCE);
    sluice_value take[] = {sluice_integer(from), sluice_integer(note->value)};
    sluice_value give[] = {sluice_integer(to), sluice_integer(note->value)};
    sluice_value book[] = {sluice_integer(self->index), sluice_integer(n), sluice_integer(from), sluice_integer(to),
                           sluice_integer(note->value)};
    sluice_request *request = request_new(self, SLUICE_WRITE);
    add(request, "UPDATE account SET balance = balance + ?2 WHERE id = ?1", give, 2);
    expect_one(request);
    add(request, "INSERT INTO transfer VALUES(?1, ?2, ?3, ?4, ?5)", book, 5);
    add(request, "UPDATE account SET balance = balance - ?2 WHERE id = ?1 AND balance >= ?2", take, 2);
    expect_one(request); /* last, so that a refusal has something to undo */
    note_begun(note);
    note_end(self, note, call(self, &request, NULL));
}

static void on_total(worker *self) {
    work_note *note = note_call(self, WORK_TOTAL);
    sluice_request *request = request_new(self, SLUICE_READ);
    sluice_result *result = NULL;
    add(request, "SELECT sum(balance), min(balance) FROM account", NULL, 0);
    note_begun(note);
    sluice_err err = call(self, &request, &result);
    if (err == SLUICE_OK) {
        note->value = first_integer(result, 0);
        note->expected = first_integer(result, 1);
    }
    sluice_result_destroy(&result);
    note_end(self, note, err);
}

static void on_see(worker *self, uint32_t n) {
    work_note *note = note_call(self, WORK_SEE);
    sluice_request *request = request_new(self, SLUICE_READ);
    sluice_result *result = NULL;
    sluice_value values[] = {sluice_integer(self->index), sluice_integer(n)};
    add(request, "SELECT count(*) FROM member WHERE client = ?1 AND n = ?2", values, 2);
    note->key = n;
    note_begun(note);
    sluice_err err = call(self, &request, &result);
    if (err == SLUICE_OK) note->value = first_integer(result, 0);
    sluice_result_destroy(&result);
    note_end(self, note, err);
}

static void on_add(worker *self) {
    uint32_t n = atomic_load(&self->me->n);
    work_note *note = note_call(self, WORK_ADD);
    sluice_request *request = request_new(self, SLUICE_WRITE);
    sluice_value values[] = {sluice_integer(self->index), sluice_integer(n)};
    add(request, "INSERT INTO member VALUES(?1, ?2)", values, 2);
    note->key = n;
    note_begun(note);
    sluice_err err = call(self, &request, NULL);
    note_end(self, note, err);
    if (err == SLUICE_OK && atomic_load(&self->me->n) < self->shared->room) on_see(self, n);
}

static void on_id(worker *self) {
    work_note *note = note_call(self, WORK_ID);
    sluice_request *request = request_new(self, SLUICE_WRITE);
    sluice_result *result = NULL;
    add(request, "UPDATE counter SET v = v + 1 RETURNING v", NULL, 0);
    note_begun(note);
    sluice_err err = call(self, &request, &result);
    if (err == SLUICE_OK) {
        note->expected = sluice_result_replayed(result);
        note->value = first_integer(result, 0);
    }
    sluice_result_destroy(&result);
    note_end(self, note, err);
}

void workload_run(workload *shared, unsigned index, sluice_client *client, uint64_t seed, bool receipts) {
    worker self = {
        .shared = shared, .me = &shared->clients[index], .index = index, .client = client, .receipts = receipts,
        .random = {.state = seed ^ (uint64_t)index << 40 ^ atomic_load(&shared->clients[index].n)},
    };
    while (!atomic_load(&shared->stop) && atomic_load(&self.me->n) < shared->room) {
        uint64_t dice = below(&self, 100);
        if (dice < 55)
            on_register(&self);
        else if (dice < 70)
            on_transfer(&self);
        else if (dice < 78)
            on_total(&self);
        else if (dice < 90)
            on_add(&self);
        else
            on_id(&self);
    }
}
