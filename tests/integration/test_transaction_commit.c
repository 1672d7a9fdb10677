/* SPDX-License-Identifier: MIT */
/* The commit of an interactive transaction: exactly once by its receipt, and what it says when disk or way fail. */
#include "support/fake_server.h"
#include "support/fault_vfs.h"
#include "support/house.h"
#include "support/store_kit.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static store_kit kit;
static _Atomic int fatal_calls;

static void on_fatal(void *context, const sluice_cause *cause, int exit_code) {
    (void)context, (void)cause;
    if (exit_code == SLUICE_EXIT_COMMIT_FAILED) atomic_fetch_add(&fatal_calls, 1);
}

static int setup(void **state) {
    (void)state;
    fault_vfs_register("unix-excl");
    atomic_store(&fatal_calls, 0);
    kit_new(&kit);
    kit.vfs = FAULT_VFS_NAME;
    kit.options.on_fatal = on_fatal;
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(a INTEGER PRIMARY KEY)"), kit.cause);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kit_free(&kit);
    return 0;
}

/* ---- messages ---- */

static sluice_msg *begin_of(uint64_t id) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__transaction_begin__descriptor, &msg), SLUICE_OK);
    ((Sluice__V1__TransactionBegin *)sluice_msg_body(msg))->transaction = id;
    return msg;
}

static sluice_msg *step_of(uint64_t id, const char *sql) {
    sluice_msg *msg = kit_request();
    (void)kit_add(msg, sql, 0, NULL);
    ((Sluice__V1__WriteRequest *)sluice_msg_body(msg))->transaction = id;
    return msg;
}

static sluice_msg *commit_of(uint64_t id, uint64_t sequence, uint32_t attempt) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__transaction_end__descriptor, &msg), SLUICE_OK);
    Sluice__V1__TransactionEnd *body = sluice_msg_body(msg);
    body->transaction = id;
    body->commit = 1;
    body->receipt = sequence != 0;
    memset(msg->identity.client, 7, sizeof msg->identity.client);
    msg->identity.sequence = sequence;
    msg->identity.attempt = attempt;
    return msg;
}

static void begin(uint64_t id) { assert_ok(kit_ask(&kit, begin_of(id), NULL), kit.cause); }

static void step(uint64_t id, const char *sql) { assert_ok(kit_ask(&kit, step_of(id, sql), NULL), kit.cause); }

static int64_t rows(void) { return kit_integer(&kit, "SELECT count(*) FROM t"); }

/* ---- receipts ---- */

static void commit_that_is_asked_again_is_replayed_over_a_restart_too(void **state) {
    (void)state;
    uint64_t number = 0;
    begin(1);
    step(1, "INSERT INTO t VALUES(1)");
    for (uint32_t attempt = 0; attempt < 4; attempt++) {
        sluice_msg *reply = NULL;
        assert_ok(kit_ask(&kit, commit_of(1, 1, attempt), &reply), kit.cause);
        assert_int_equal(kit_reply(reply)->replayed, attempt > 0);
        if (attempt == 0) number = kit_reply(reply)->commit_number;
        assert_int_equal(kit_reply(reply)->commit_number, number);
        assert_int_equal(kit_reply(reply)->n_results, 0);
        sluice_msg_destroy(&reply);
        if (attempt != 1) continue;
        kit_close(&kit);
        kit_open(&kit);
    }
    assert_int_equal(rows(), 1);
}

static void commit_of_what_is_over_is_a_definite_no_that_no_late_copy_can_undo(void **state) {
    (void)state;
    begin(1);
    step(1, "INSERT INTO t VALUES(1)");
    kit_close(&kit); /* rolls it back */
    kit_open(&kit);
    assert_int_equal(kit_ask(&kit, commit_of(1, 1, 2), NULL), SLUICE_TRANSACTION_EXPIRED);
    assert_int_equal(kit_ask(&kit, commit_of(1, 1, 1), NULL), SLUICE_STALE); /* a copy that was on its way for long */
    assert_int_equal(kit_ask(&kit, commit_of(1, 1, 3), NULL), SLUICE_TRANSACTION_EXPIRED);
    assert_int_equal(kit_ask(&kit, commit_of(1, 0, 0), NULL), SLUICE_TRANSACTION_EXPIRED);
    begin(1); /* and if the number were used again, the old sequence would not commit it */
    step(1, "INSERT INTO t VALUES(2)");
    assert_int_equal(kit_ask(&kit, commit_of(1, 1, 3), NULL), SLUICE_STALE);
    assert_ok(kit_ask(&kit, commit_of(1, 2, 0), NULL), kit.cause);
    assert_int_equal(rows(), 1);
}

static void commit_under_a_used_id_is_refused_and_the_transaction_goes_on(void **state) {
    (void)state;
    begin(1);
    step(1, "INSERT INTO t VALUES(1)");
    assert_ok(kit_ask(&kit, commit_of(1, 1, 0), NULL), kit.cause);
    begin(2);
    step(2, "INSERT INTO t VALUES(2)");
    assert_int_equal(kit_ask(&kit, commit_of(2, 1, 0), NULL), SLUICE_ID_REUSED);
    step(2, "INSERT INTO t VALUES(3)");
    assert_int_equal(rows(), 1);
    assert_ok(kit_ask(&kit, commit_of(2, 2, 0), NULL), kit.cause);
    assert_int_equal(rows(), 3);
}

static void commit_asked_again_waits_its_turn_while_another_transaction_is_open(void **state) {
    (void)state;
    begin(1);
    step(1, "INSERT INTO t VALUES(1)");
    assert_ok(kit_ask(&kit, commit_of(1, 1, 0), NULL), kit.cause);
    begin(2);
    step(2, "INSERT INTO t VALUES(2)");
    uint64_t again = kit_send(&kit, commit_of(1, 1, 1), 0);
    step(2, "INSERT INTO t VALUES(3)"); /* answered first, and not disturbed */
    uint64_t second = kit_send(&kit, commit_of(2, 2, 0), 0);
    sluice_msg *reply = kit_receive(&kit);
    assert_true(reply->correlation == second);
    assert_ok(kit_outcome(&kit, reply), kit.cause);
    sluice_msg_destroy(&reply);
    reply = kit_receive(&kit);
    assert_true(reply->correlation == again);
    assert_ok(kit_outcome(&kit, reply), kit.cause);
    assert_int_equal(kit_reply(reply)->replayed, 1);
    sluice_msg_destroy(&reply);
    assert_int_equal(rows(), 3);
}

static void steps_take_no_receipt_and_strangers_have_no_transaction(void **state) {
    (void)state;
    begin(1);
    sluice_msg *request = step_of(1, "INSERT INTO t VALUES(1)");
    kit_identify(request, 1, 1, 0, 0);
    assert_int_equal(kit_ask(&kit, request, NULL), SLUICE_INVALID);
    assert_int_equal(kit_ask(&kit, step_of(2, "INSERT INTO t VALUES(2)"), NULL), SLUICE_TRANSACTION_EXPIRED);
    assert_int_equal(kit_ask(&kit, begin_of(1), NULL), SLUICE_INVALID); /* twice */
    assert_int_equal(kit_ask(&kit, begin_of(0), NULL), SLUICE_INVALID);
    assert_int_equal(kit_ask(&kit, commit_of(2, 0, 0), NULL), SLUICE_TRANSACTION_EXPIRED);
    assert_ok(kit_ask(&kit, commit_of(1, 0, 0), NULL), kit.cause);
    assert_int_equal(rows(), 0);
}

static void begin_that_is_given_up_while_it_waits_is_never_granted(void **state) {
    (void)state;
    begin(1);
    uint64_t waits = kit_send(&kit, begin_of(2), 0);
    sluice_msg *rollback = commit_of(2, 0, 0), *reply;
    ((Sluice__V1__TransactionEnd *)sluice_msg_body(rollback))->commit = 0;
    uint64_t given_up = kit_send(&kit, rollback, 0);
    reply = kit_receive(&kit);
    assert_true(reply->correlation == waits);
    assert_int_equal(kit_outcome(&kit, reply), SLUICE_TRANSACTION_EXPIRED);
    sluice_msg_destroy(&reply);
    reply = kit_receive(&kit);
    assert_true(reply->correlation == given_up);
    assert_ok(kit_outcome(&kit, reply), kit.cause);
    sluice_msg_destroy(&reply);
    assert_ok(kit_ask(&kit, commit_of(1, 0, 0), NULL), kit.cause);
    assert_ok(kit_exec(&kit, "INSERT INTO t VALUES(1)"), kit.cause);
}

/* ---- faults ---- */

static void failed_sync_of_its_commit_is_unknown_and_ends_the_store(void **state) {
    (void)state;
    begin(1);
    step(1, "INSERT INTO t VALUES(1)");
    uint64_t waits = kit_send(&kit, step_of(0, "INSERT INTO t VALUES(2)"), 0);
    atomic_store(&fault.fail_wal_syncs, 1);
    kit_send(&kit, commit_of(1, 1, 0), 0);
    sluice_msg *reply = kit_receive(&kit);
    assert_true(reply->correlation != waits);
    assert_int_equal(kit_outcome(&kit, reply), SLUICE_UNKNOWN);
    sluice_msg_destroy(&reply);
    reply = kit_receive(&kit); /* who waited is not served by a store that has ended */
    assert_int_equal(kit_outcome(&kit, reply), SLUICE_FATAL);
    sluice_msg_destroy(&reply);
    assert_int_equal(atomic_load(&fatal_calls), 1);
    assert_int_equal(kit_ask(&kit, begin_of(3), NULL), SLUICE_FATAL);
    assert_int_equal(kit_ask(&kit, commit_of(1, 1, 1), NULL), SLUICE_FATAL); /* no definite no without a look */
}

static void full_disk_at_its_commit_is_a_definite_no_and_others_go_on(void **state) {
    (void)state;
    begin(1);
    step(1, "INSERT INTO t VALUES(1)");
    atomic_store(&fault.wal_full, true);
    assert_int_equal(kit_ask(&kit, commit_of(1, 1, 0), NULL), SLUICE_NO_SPACE);
    atomic_store(&fault.wal_full, false);
    assert_int_equal(kit_ask(&kit, commit_of(1, 1, 1), NULL), SLUICE_TRANSACTION_EXPIRED);
    assert_ok(kit_exec(&kit, "INSERT INTO t VALUES(2)"), kit.cause);
    assert_int_equal(kit_integer(&kit, "SELECT sum(a) FROM t"), 2);
}

/* ---- the client, when the answer is lost ---- */

typedef struct script {
    char url[64];
    uint64_t sequence;
    uint32_t attempts[8];
    unsigned n_commits, answer_from; /* commits before that are not answered: the connection is cut */
    sluice_err error;                /* OK: a replayed reply */
} script;

static void *serve(void *context) {
    script *self = context;
    fake_server *server = fake_server_open(self->url);
    bool done = false;
    fake_request request;
    while (!done && fake_server_recv(server, 20000, &request)) {
        if (sluice_msg_is(request.msg, &sluice__v1__transaction_begin__descriptor)) {
            Sluice__V1__TransactionBegun begun = SLUICE__V1__TRANSACTION_BEGUN__INIT;
            begun.transaction = ((Sluice__V1__TransactionBegin *)sluice_msg_body(request.msg))->transaction;
            begun.idle_ms = begun.total_ms = 60000;
            fake_server_body(server, &request, &begun.base);
        } else if (sluice_msg_is(request.msg, &sluice__v1__transaction_end__descriptor)) {
            self->sequence = request.msg->identity.sequence;
            self->attempts[self->n_commits] = request.msg->identity.attempt;
            done = self->n_commits++ == self->answer_from;
            if (!done) {
                fake_server_close(&server);
                server = fake_server_open(self->url);
            } else if (self->error != SLUICE_OK) {
                fake_server_error(server, &request, self->error, "text");
            } else {
                Sluice__V1__WriteReply reply = SLUICE__V1__WRITE_REPLY__INIT;
                reply.commit_number = 5;
                reply.replayed = self->n_commits > 1;
                fake_server_body(server, &request, &reply.base);
            }
        } else if (sluice_msg_is(request.msg, &sluice__v1__write_request__descriptor)) {
            fake_server_write_reply(server, &request, 1, false);
        }
        fake_request_fini(&request);
    }
    usleep(100000); /* the answer is on its way */
    fake_server_close(&server);
    return NULL;
}

static sluice_err commit_against(script *self, bool *replayed) {
    fake_server *free_port = fake_server_open(NULL);
    snprintf(self->url, sizeof self->url, "%s", fake_server_url(free_port));
    fake_server_close(&free_port);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve, self), 0);
    sluice_client *client = NULL;
    sluice_transaction *transaction = NULL;
    sluice_result *result = NULL;
    sluice_cause cause;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = 20000;
    assert_ok(sluice_client_open(self->url, &options, &client, &cause), cause);
    assert_ok(sluice_transaction_begin(client, NULL, &transaction, &cause), cause);
    assert_ok(sluice_transaction_exec(transaction, "INSERT", NULL, 0, NULL, &cause), cause);
    sluice_err err = sluice_transaction_commit(transaction, &result, &cause);
    pthread_join(thread, NULL);
    *replayed = result != NULL && sluice_result_replayed(result);
    if (err == SLUICE_OK) assert_int_equal(sluice_result_commit_number(result), 5);
    sluice_result_destroy(&result);
    sluice_transaction_destroy(&transaction);
    sluice_client_close(&client);
    return err;
}

static void lost_answer_is_asked_for_again_under_the_same_id(void **state) {
    (void)state;
    script scene = {.answer_from = 2};
    bool replayed = false;
    assert_int_equal(commit_against(&scene, &replayed), SLUICE_OK);
    assert_true(replayed);
    assert_int_equal(scene.n_commits, 3);
    assert_int_equal(scene.sequence, 1);
    for (unsigned i = 0; i < 3; i++) assert_int_equal(scene.attempts[i], i);
}

static void lost_answer_of_a_commit_that_was_not_done_ends_in_a_definite_no(void **state) {
    (void)state;
    script scene = {.answer_from = 1, .error = SLUICE_TRANSACTION_EXPIRED};
    bool replayed = false;
    assert_int_equal(commit_against(&scene, &replayed), SLUICE_TRANSACTION_EXPIRED);
}

/* The server is silent until the client gives up with UNKNOWN; then commit is called once more. */
static void *serve_late(void *context) {
    script *self = context;
    fake_server *server = fake_server_open(self->url);
    fake_request request;
    while (self->n_commits < 2 && fake_server_recv(server, 20000, &request)) {
        if (sluice_msg_is(request.msg, &sluice__v1__transaction_begin__descriptor)) {
            Sluice__V1__TransactionBegun begun = SLUICE__V1__TRANSACTION_BEGUN__INIT;
            begun.transaction = ((Sluice__V1__TransactionBegin *)sluice_msg_body(request.msg))->transaction;
            begun.idle_ms = begun.total_ms = 60000;
            fake_server_body(server, &request, &begun.base);
        } else if (sluice_msg_is(request.msg, &sluice__v1__write_request__descriptor)) {
            fake_server_write_reply(server, &request, 1, false);
        } else if (sluice_msg_is(request.msg, &sluice__v1__transaction_end__descriptor)) {
            self->attempts[self->n_commits++] = request.msg->identity.attempt;
            self->sequence = self->sequence * 10 + request.msg->identity.sequence;
            Sluice__V1__WriteReply reply = SLUICE__V1__WRITE_REPLY__INIT;
            reply.commit_number = 5;
            reply.replayed = true;
            if (self->n_commits == 2) fake_server_body(server, &request, &reply.base);
        }
        fake_request_fini(&request);
    }
    usleep(100000);
    fake_server_close(&server);
    return NULL;
}

static void unknown_commit_is_resolved_by_committing_again(void **state) {
    (void)state;
    script scene = {.answer_from = 9};
    fake_server *free_port = fake_server_open(NULL);
    snprintf(scene.url, sizeof scene.url, "%s", fake_server_url(free_port));
    fake_server_close(&free_port);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve_late, &scene), 0);
    sluice_client *client = NULL;
    sluice_transaction *transaction = NULL;
    sluice_result *result = NULL;
    sluice_cause cause;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = 20000;
    assert_ok(sluice_client_open(scene.url, &options, &client, &cause), cause);
    assert_ok(sluice_transaction_begin(client, NULL, &transaction, &cause), cause);
    assert_ok(sluice_transaction_exec(transaction, "INSERT", NULL, 0, NULL, &cause), cause);
    sluice_client_set_timeout(client, 200);
    assert_int_equal(sluice_transaction_commit(transaction, &result, &cause), SLUICE_UNKNOWN);
    assert_false(sluice_transaction_is_over(transaction));
    assert_int_equal(sluice_transaction_exec(transaction, "INSERT", NULL, 0, NULL, &cause), SLUICE_INVALID);
    assert_int_equal(sluice_transaction_rollback(transaction, &cause), SLUICE_INVALID);
    sluice_client_set_timeout(client, 20000);
    assert_ok(sluice_transaction_commit(transaction, &result, &cause), cause);
    assert_true(sluice_result_replayed(result));
    assert_true(sluice_transaction_is_over(transaction));
    sluice_result_destroy(&result);
    sluice_transaction_destroy(&transaction);
    sluice_client_close(&client);
    pthread_join(thread, NULL);
    assert_int_equal(scene.sequence, 11); /* twice the first id */
    assert_int_equal(scene.attempts[1], 1);
}

/* ---- a client that is killed ---- */

static pid_t victim;
static int to_victim[2], from_victim[2];

/* In a process of its own, made before this one had any thread: begins, writes, and waits to be killed. */
static void live_until_killed(void) {
    char url[256] = "";
    if (read(to_victim[0], url, sizeof url) <= 0) _exit(0);
    sluice_client *client = NULL;
    sluice_transaction *transaction = NULL;
    if (sluice_client_open(url, NULL, &client, NULL) != SLUICE_OK ||
        sluice_transaction_begin(client, NULL, &transaction, NULL) != SLUICE_OK ||
        sluice_transaction_exec(transaction, "DELETE FROM t", NULL, 0, NULL, NULL) != SLUICE_OK)
        _exit(1);
    if (write(from_victim[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
}

static void killed_client_loses_its_transaction_within_the_idle_limit(void **state) {
    (void)state;
    house home;
    house_init(&home);
    home.options.transaction_idle_ms = 300;
    house_open(&home);
    sluice_client *client = house_client(&home, home.urls[1], true);
    house_exec(client, "CREATE TABLE t(a)");
    house_exec(client, "INSERT INTO t VALUES(1)");
    assert_true(write(to_victim[1], home.urls[1], sizeof home.urls[1]) > 0);
    char byte;
    assert_int_equal(read(from_victim[0], &byte, 1), 1);
    assert_int_equal(kill(victim, SIGKILL), 0);
    int64_t begin_ns = sl_now_ns();
    house_exec(client, "INSERT INTO t VALUES(2)");
    double ms = (double)(sl_now_ns() - begin_ns) / 1e6;
    printf("killed; the next write was served after %.1f ms of at most 300 idle\n", ms);
    assert_true(ms < 300 + 1000);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM t"), 2);
    sluice_client_close(&client);
    house_fini(&home);
    assert_int_equal(waitpid(victim, NULL, 0), victim);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    if (pipe(to_victim) != 0 || pipe(from_victim) != 0 || (victim = fork()) < 0) return 1;
    if (victim == 0) {
        close(to_victim[1]);
        live_until_killed();
    }
    close(to_victim[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_client_loses_its_transaction_within_the_idle_limit),
        TEST(commit_that_is_asked_again_is_replayed_over_a_restart_too),
        TEST(commit_of_what_is_over_is_a_definite_no_that_no_late_copy_can_undo),
        TEST(commit_under_a_used_id_is_refused_and_the_transaction_goes_on),
        TEST(commit_asked_again_waits_its_turn_while_another_transaction_is_open),
        TEST(steps_take_no_receipt_and_strangers_have_no_transaction),
        TEST(begin_that_is_given_up_while_it_waits_is_never_granted),
        TEST(failed_sync_of_its_commit_is_unknown_and_ends_the_store),
        TEST(full_disk_at_its_commit_is_a_definite_no_and_others_go_on),
        cmocka_unit_test(lost_answer_is_asked_for_again_under_the_same_id),
        cmocka_unit_test(lost_answer_of_a_commit_that_was_not_done_ends_in_a_definite_no),
        cmocka_unit_test(unknown_commit_is_resolved_by_committing_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
