/* SPDX-License-Identifier: MIT */
/* Exactly once: receipts, replays, sessions, over restarts of the store too. The rules are numbered in receipts.c. */
#include "support/fault_vfs.h"
#include "support/store_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>
#include "sluice/v1/control.pb-c.h"

static store_kit kit;

static int setup(void **state) {
    (void)state;
    fault_vfs_register("unix-excl");
    kit_new(&kit);
    kit.vfs = FAULT_VFS_NAME;
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE)"), kit.cause);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kit_free(&kit);
    return 0;
}

static sluice_msg *insert(int64_t b) {
    sluice_msg *request = kit_request();
    sluice_value value = sluice_integer(b);
    (void)kit_add(request, "INSERT INTO t(b) VALUES(?) RETURNING a, b", 1, &value);
    return request;
}

static sluice_err try_insert(int64_t b, uint8_t client, uint64_t sequence, uint32_t attempt, uint64_t ack_upto) {
    sluice_msg *request = insert(b);
    kit_identify(request, client, sequence, attempt, ack_upto);
    return kit_ask(&kit, request, NULL);
}

static int64_t rows(void) { return kit_integer(&kit, "SELECT count(*) FROM t"); }

static void goodbye(uint8_t client) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__goodbye__descriptor, &msg), SLUICE_OK);
    Sluice__V1__Goodbye *body = sluice_msg_body(msg);
    body->client.len = 16;
    body->client.data = sluice_msg_alloc(msg, 16);
    memset(body->client.data, client, 16);
    assert_int_equal(kit_ask(&kit, msg, NULL), SLUICE_OK);
}

static void replay_returns_the_first_answer_flagged(void **state) {
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        sluice_msg *request = insert(7), *reply = NULL;
        kit_identify(request, 1, 1, round, 0);
        assert_ok(kit_ask(&kit, request, &reply), kit.cause);
        const Sluice__V1__WriteReply *body = kit_reply(reply);
        static uint64_t number;
        if (round == 0) number = body->commit_number;
        assert_int_equal(body->replayed, round > 0);
        assert_int_equal(body->commit_number, number);
        assert_int_equal(body->n_results, 1);
        assert_int_equal(body->results[0]->changes, 1);
        assert_int_equal(body->results[0]->last_rowid, 1);
        assert_int_equal(body->results[0]->rows->columns[1]->integers[0], 7);
        sluice_msg_destroy(&reply);
        if (round == 1) { /* and over a restart */
            kit_close(&kit);
            kit_open(&kit);
        }
    }
    assert_int_equal(rows(), 1);
    assert_int_equal(kit_stats(&kit).writes_replayed, 1);
}

static void id_with_another_body_is_refused(void **state) {
    (void)state;
    assert_ok(try_insert(1, 1, 1, 0, 0), kit.cause);
    assert_int_equal(try_insert(2, 1, 1, 1, 0), SLUICE_ID_REUSED);
    assert_int_equal(rows(), 1);
}

static void settled_sequence_is_stale_and_its_receipt_goes(void **state) {
    (void)state;
    for (uint64_t i = 1; i <= 5; i++) assert_ok(try_insert((int64_t)i, 1, i, 0, 0), kit.cause);
    assert_ok(try_insert(6, 1, 6, 0, 3), kit.cause);
    assert_int_equal(try_insert(3, 1, 3, 1, 0), SLUICE_STALE); /* ack_upto never goes back */
    assert_ok(try_insert(4, 1, 4, 1, 0), kit.cause);           /* not settled: replayed */
    assert_int_equal(rows(), 6);
    kit_close(&kit); /* housekeeping is done at the latest here */
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_open(kit.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*), min(sequence) FROM sluice_receipt", -1, &stmt, NULL), 0);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(stmt, 0), 3);
    assert_int_equal(sqlite3_column_int(stmt, 1), 4);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    kit_open(&kit);
    assert_int_equal(try_insert(3, 1, 3, 2, 0), SLUICE_STALE);
    assert_ok(try_insert(5, 1, 5, 1, 0), kit.cause);
    assert_int_equal(rows(), 6);
}

static void same_sequence_twice_in_flight_runs_once_and_answers_both(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        sluice_msg *request = insert(5);
        kit_identify(request, 1, 1, i, 0);
        kit_send(&kit, request, 0);
    }
    sluice_msg *other = insert(6);
    kit_identify(other, 1, 1, 0, 0);
    kit_send(&kit, other, 0);
    for (unsigned i = 0; i < 3; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_ok(kit_outcome(&kit, reply), kit.cause);
        assert_int_equal(kit_reply(reply)->replayed, i > 0);
        assert_int_equal(kit_reply(reply)->results[0]->rows->columns[1]->integers[0], 5);
        sluice_msg_destroy(&reply);
    }
    sluice_msg *reply = kit_receive(&kit);
    assert_int_equal(kit_outcome(&kit, reply), SLUICE_ID_REUSED);
    sluice_msg_destroy(&reply);
    assert_int_equal(rows(), 1);
}

static void failed_twin_in_flight_does_not_run_after_its_no(void **state) {
    (void)state;
    assert_ok(kit_exec(&kit, "INSERT INTO t(b) VALUES(5)"), kit.cause);
    sluice_msg *request = insert(5); /* taken */
    kit_identify(request, 1, 1, 0, 0);
    kit_send(&kit, request, 0);
    sluice_msg *free_it = kit_request();
    (void)kit_add(free_it, "DELETE FROM t WHERE b=5", 0, NULL);
    kit_send(&kit, free_it, 0);
    request = insert(5); /* would work now, but its twin was told no */
    kit_identify(request, 1, 1, 0, 0);
    kit_send(&kit, request, 0);
    sluice_err expected[] = {SLUICE_CONSTRAINT, SLUICE_OK, SLUICE_CONSTRAINT};
    for (unsigned i = 0; i < 3; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_int_equal(kit_outcome(&kit, reply), expected[i]);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(rows(), 0);
    assert_int_equal(try_insert(5, 1, 1, 0, 0), SLUICE_STALE); /* a late copy */
    assert_ok(try_insert(5, 1, 1, 1, 0), kit.cause);           /* a new attempt */
    assert_int_equal(rows(), 1);
}

static void goodbye_ends_the_session_for_good(void **state) {
    (void)state;
    assert_ok(try_insert(1, 1, 1, 0, 0), kit.cause);
    goodbye(1);
    assert_int_equal(try_insert(1, 1, 1, 1, 0), SLUICE_SESSION_EXPIRED);
    kit_close(&kit);
    kit_open(&kit);
    assert_int_equal(try_insert(1, 1, 1, 2, 0), SLUICE_SESSION_EXPIRED);
    assert_int_equal(try_insert(2, 1, 2, 0, 1), SLUICE_SESSION_EXPIRED);
    assert_ok(try_insert(2, 2, 1, 0, 0), kit.cause); /* another client is not affected */
    assert_int_equal(rows(), 2);
}

static void unknown_session_with_settled_answers_is_refused(void **state) {
    (void)state;
    assert_int_equal(try_insert(1, 9, 5, 0, 4), SLUICE_SESSION_EXPIRED);
    assert_int_equal(rows(), 0);
    assert_ok(try_insert(1, 9, 5, 3, 0), kit.cause); /* first sends may be lost: any attempt begins a session */
}

/* The end of a session is written in a group of its own when nothing else is going on. */
static bool housekeeping_was_done(void *context) { return kit_stats(&kit).groups > *(uint64_t *)context; }

static void silent_session_expires_and_is_never_run_again(void **state) {
    (void)state;
    kit_close(&kit);
    kit.options.session_ttl_ms = 1;
    kit_open(&kit);
    assert_ok(try_insert(1, 1, 1, 0, 0), kit.cause);
    uint64_t groups = kit_stats(&kit).groups;
    support_await(housekeeping_was_done, &groups, 20000);
    assert_int_equal(try_insert(1, 1, 1, 1, 0), SLUICE_SESSION_EXPIRED);
    assert_int_equal(rows(), 1);
    kit_close(&kit);
    kit_open(&kit);
    assert_int_equal(try_insert(1, 1, 1, 2, 0), SLUICE_SESSION_EXPIRED);
}

static void too_many_unsettled_answers_are_over_the_quota(void **state) {
    (void)state;
    kit_close(&kit);
    kit.options.max_receipts = 10;
    kit_open(&kit);
    for (uint64_t i = 1; i <= 10; i++) assert_ok(try_insert((int64_t)i, 1, i, 0, 0), kit.cause);
    assert_int_equal(try_insert(11, 1, 11, 0, 0), SLUICE_QUOTA);
    assert_ok(try_insert(11, 1, 11, 0, 4), kit.cause);
    assert_int_equal(rows(), 11);
}

static void receipt_without_an_id_is_invalid(void **state) {
    (void)state;
    assert_int_equal(try_insert(1, 1, 0, 0, 0), SLUICE_INVALID);
    assert_int_equal(try_insert(1, 0, 1, 0, 0), SLUICE_INVALID);
    assert_int_equal(try_insert(1, 1, UINT64_MAX, 0, 0), SLUICE_INVALID);
    assert_int_equal(rows(), 0);
}

static void request_with_a_receipt_survives_a_group_that_was_run_again(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        sluice_msg *request = insert(100 + i);
        kit_identify(request, 1, i + 1, 0, 0);
        kit_send(&kit, request, 0);
        sluice_msg *bomb = kit_request();
        (void)kit_add(bomb, "INSERT OR ROLLBACK INTO t(b) VALUES(100)", 0, NULL);
        kit_identify(bomb, 2, i + 1, 0, 0);
        kit_send(&kit, bomb, 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_int_equal(kit_outcome(&kit, reply), i % 2 == 0 ? SLUICE_OK : SLUICE_CONSTRAINT);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(kit_stats(&kit).group_replays, 4);
    assert_int_equal(rows(), 4);
    kit_close(&kit);
    kit_open(&kit);
    for (unsigned i = 0; i < 4; i++) assert_ok(try_insert(100 + i, 1, i + 1, 1, 0), kit.cause);
    assert_int_equal(rows(), 4);
    assert_int_equal(kit_stats(&kit).writes_replayed, 4);
}

static void full_disk_is_a_no_that_a_new_attempt_overcomes(void **state) {
    (void)state;
    assert_ok(try_insert(1, 1, 1, 0, 0), kit.cause);
    atomic_store(&fault.wal_full, true);
    assert_int_equal(try_insert(2, 1, 2, 0, 0), SLUICE_NO_SPACE);
    assert_int_equal(try_insert(3, 2, 1, 0, 0), SLUICE_NO_SPACE); /* a session that begins on a full disk */
    atomic_store(&fault.wal_full, false);
    assert_int_equal(try_insert(2, 1, 2, 0, 0), SLUICE_STALE);
    assert_ok(try_insert(2, 1, 2, 1, 0), kit.cause);
    assert_ok(try_insert(3, 2, 1, 1, 0), kit.cause);
    kit_close(&kit);
    kit_open(&kit);
    assert_ok(try_insert(2, 1, 2, 2, 0), kit.cause);
    assert_ok(try_insert(3, 2, 1, 2, 0), kit.cause);
    assert_int_equal(rows(), 3);
}

/* Many clients, several requests each in flight, settled as they go: rows are exactly the answered ones. */
static void many_sessions_settle_and_keep_their_tables_small(void **state) {
    (void)state;
    enum { CLIENTS = 8 };
    unsigned rounds = support_scaled(400);
    for (unsigned round = 0; round < rounds; round++) {
        for (uint8_t client = 1; client <= CLIENTS; client++) {
            sluice_msg *request = insert(round * CLIENTS + client);
            kit_identify(request, client, round + 1, 0, round);
            kit_send(&kit, request, 0);
        }
        for (unsigned client = 0; client < CLIENTS; client++) {
            sluice_msg *reply = kit_receive(&kit);
            assert_ok(kit_outcome(&kit, reply), kit.cause);
            sluice_msg_destroy(&reply);
        }
    }
    assert_int_equal(rows(), rounds * CLIENTS);
    kit_close(&kit);
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_open(kit.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM sluice_receipt", -1, &stmt, NULL), 0);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(stmt, 0), CLIENTS);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(replay_returns_the_first_answer_flagged),
        TEST(id_with_another_body_is_refused),
        TEST(settled_sequence_is_stale_and_its_receipt_goes),
        TEST(same_sequence_twice_in_flight_runs_once_and_answers_both),
        TEST(failed_twin_in_flight_does_not_run_after_its_no),
        TEST(goodbye_ends_the_session_for_good),
        TEST(unknown_session_with_settled_answers_is_refused),
        TEST(silent_session_expires_and_is_never_run_again),
        TEST(too_many_unsettled_answers_are_over_the_quota),
        TEST(receipt_without_an_id_is_invalid),
        TEST(request_with_a_receipt_survives_a_group_that_was_run_again),
        TEST(full_disk_is_a_no_that_a_new_attempt_overcomes),
        TEST(many_sessions_settle_and_keep_their_tables_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
