/* SPDX-License-Identifier: MIT */
/* The bench's checker must see what it is there to see: each fault is planted once. */
#include "support/support.h"
#include "../tools/bench_check.c"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define N_CLIENTS 2
#define N_ROWS    5u

typedef struct bed {
    char *directory;
    sl_bench_plan plan;
    sl_bench_report reports[N_CLIENTS];
    uint8_t outcomes[N_CLIENTS][N_ROWS];
    sl_bench_total total;
} bed;

static void run_sql(const bed *self, const char *sql) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(self->plan.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void insert(bed *self, unsigned client, uint64_t n) {
    char body[SL_DIRECT_BODY_SIZE + 1];
    sl_direct *direct = NULL;
    sluice_cause cause = {0};
    sl_direct_body(sl_bench_id(client, n), body);
    assert_ok(sl_direct_open(self->plan.path, true, &direct, &cause), cause);
    assert_ok(sl_direct_insert(direct, sl_bench_id(client, n), body, SL_DIRECT_BODY_SIZE, &cause), cause);
    sl_direct_close(&direct);
}

/* A run in which every row was acknowledged and is in the file, behind a row of an earlier run. */
static int setup(void **state) {
    static bed self;
    memset(&self, 0, sizeof self);
    self.directory = support_directory_new();
    snprintf(self.plan.path, sizeof self.plan.path, "%s/a.db", self.directory);
    self.plan.n_clients = N_CLIENTS;
    sluice_cause cause = {0};
    assert_ok(sl_direct_prepare(self.plan.path, &self.plan.first_rowid, &cause), cause);
    insert(&self, 0, 0);
    assert_ok(sl_direct_prepare(self.plan.path, &self.plan.first_rowid, &cause), cause);
    assert_int_equal(self.plan.first_rowid, 1);
    for (unsigned c = 0; c < N_CLIENTS; c++) {
        self.reports[c].outcomes = self.outcomes[c];
        self.reports[c].counts.n_outcomes = N_ROWS;
        for (unsigned n = 0; n < N_ROWS; n++) {
            self.outcomes[c][n] = SL_OUTCOME_ACKNOWLEDGED;
            insert(&self, c, n);
        }
    }
    *state = &self;
    return 0;
}

static int teardown(void **state) {
    bed *self = *state;
    support_directory_remove(&self->directory);
    return 0;
}

static void assert_verdict(bed *self, uint64_t lost, uint64_t doubled, uint64_t phantoms) {
    sluice_cause cause = {0};
    assert_ok(sl_bench_check(&self->plan, self->reports, &self->total, &cause), cause);
    assert_int_equal(self->total.lost, lost);
    assert_int_equal(self->total.doubled, doubled);
    assert_int_equal(self->total.phantoms, phantoms);
}

static void a_run_without_fault_is_found_clean(void **state) {
    assert_verdict(*state, 0, 0, 0);
    assert_int_equal(((bed *)*state)->total.acknowledged, N_CLIENTS * N_ROWS);
}

static void an_acknowledged_row_that_is_missing_is_lost(void **state) {
    run_sql(*state, "DELETE FROM bench_write WHERE rowid = 4");
    assert_verdict(*state, 1, 0, 0);
}

static void an_acknowledged_row_with_another_text_is_lost(void **state) {
    run_sql(*state, "UPDATE bench_write SET body = substr(body, 1, 99) || '!' WHERE rowid = 4");
    assert_verdict(*state, 1, 0, 0);
}

static void a_row_that_is_there_three_times_is_doubled_twice(void **state) {
    insert(*state, 1, 3);
    insert(*state, 1, 3);
    assert_verdict(*state, 0, 2, 0);
}

static void a_row_that_was_answered_no_is_a_phantom(void **state) {
    bed *self = *state;
    self->outcomes[0][2] = SL_OUTCOME_NO;
    assert_verdict(self, 0, 0, 1);
}

static void a_row_that_nobody_sent_is_a_phantom(void **state) {
    insert(*state, 1, N_ROWS);
    insert(*state, N_CLIENTS, 0);
    assert_verdict(*state, 0, 0, 2);
}

static void an_unknown_row_may_be_there_or_not_but_once(void **state) {
    bed *self = *state;
    self->outcomes[0][1] = SL_OUTCOME_UNKNOWN;
    self->outcomes[0][2] = SL_OUTCOME_UNKNOWN;
    run_sql(self, "DELETE FROM bench_write WHERE rowid = 3"); /* client 0, n 1 */
    insert(self, 0, 2);
    assert_verdict(self, 0, 1, 0);
}

static void wrong_answers_of_reads_count_as_lost_and_doubled(void **state) {
    bed *self = *state;
    self->reports[0].counts.reads_missing = 2;
    self->reports[1].counts.reads_doubled = 3;
    assert_verdict(self, 2, 3, 0);
}

/* Two clients, five updates each, all of row 7. */
static void update_all(bed *self) {
    sluice_cause cause = {0};
    sl_direct *direct = NULL;
    self->plan.work = SL_WORK_UPDATE;
    assert_ok(sl_direct_prepare_updates(self->plan.path, &self->plan.first_updates, &cause), cause);
    assert_ok(sl_direct_open(self->plan.path, true, &direct, &cause), cause);
    assert_ok(sl_direct_begin(direct, &cause), cause);
    for (unsigned n = 0; n < N_CLIENTS * N_ROWS; n++) assert_ok(sl_direct_update(direct, 7, "text", 4, &cause), cause);
    assert_ok(sl_direct_commit(direct, &cause), cause);
    sl_direct_close(&direct);
}

static void updates_that_are_all_there_are_found_clean(void **state) {
    update_all(*state);
    assert_verdict(*state, 0, 0, 0);
    assert_int_equal(((bed *)*state)->total.acknowledged, N_CLIENTS * N_ROWS);
}

static void an_acknowledged_update_that_is_missing_is_lost(void **state) {
    update_all(*state);
    run_sql(*state, "UPDATE bench_update SET n = n - 2 WHERE id = 7");
    assert_verdict(*state, 2, 0, 0);
}

static void an_update_that_nobody_asked_for_is_doubled(void **state) {
    bed *self = *state;
    update_all(self);
    run_sql(self, "UPDATE bench_update SET n = n + 1 WHERE id = 8");
    assert_verdict(self, 0, 1, 0);
}

static void an_unknown_update_may_be_there_or_not(void **state) {
    bed *self = *state;
    update_all(self);
    self->outcomes[0][1] = SL_OUTCOME_UNKNOWN;
    assert_verdict(self, 0, 0, 0);
    run_sql(self, "UPDATE bench_update SET n = n - 1 WHERE id = 7");
    self->total.acknowledged = 0;
    assert_verdict(self, 0, 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_without_fault_is_found_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(an_acknowledged_row_that_is_missing_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(an_acknowledged_row_with_another_text_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_that_is_there_three_times_is_doubled_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_that_was_answered_no_is_a_phantom, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_that_nobody_sent_is_a_phantom, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_row_may_be_there_or_not_but_once, setup, teardown),
        cmocka_unit_test_setup_teardown(updates_that_are_all_there_are_found_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(an_acknowledged_update_that_is_missing_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(an_update_that_nobody_asked_for_is_doubled, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_update_may_be_there_or_not, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_answers_of_reads_count_as_lost_and_doubled, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
