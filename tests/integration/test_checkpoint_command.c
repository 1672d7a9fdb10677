/* SPDX-License-Identifier: MIT */
/* Checkpoints on request, and manual mode: what is asked for is done, or given up with a reason, and writes go on. */
#include "support/support.h"
#include "support/store_kit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "reader.h"
#include "sluice/v1/control.pb-c.h"

#define RUNAWAY "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c, t"
#define PATIENCE_MS 60000

static store_kit kit;

static void open_store(void) {
    kit_new(&kit);
    kit.options.synchronous = SLUICE_SYNC_NORMAL; /* nothing here is about the disk */
    kit.options.checkpointing = SLUICE_CHECKPOINT_MANUAL;
    kit_open(&kit);
    assert_int_equal(kit_exec(&kit, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"), SLUICE_OK);
}

static void fill(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(kit_exec(&kit, "INSERT INTO t(v) VALUES(zeroblob(100000))"), SLUICE_OK);
}

static int64_t log_size(void) {
    char *path = support_path(kit.directory, "test.db-wal");
    struct stat st;
    int64_t size = stat(path, &st) == 0 ? st.st_size : -1;
    free(path);
    return size;
}

/* Counted after the acknowledgement has left. */
static bool restarted(void *unused) {
    (void)unused;
    return kit_stats(&kit).wal_restarts == 1 && kit_stats(&kit).wal_bytes < 200000;
}

static void in_manual_mode_the_log_grows_until_a_checkpoint_is_asked_for(void **unused) {
    (void)unused;
    open_store();
    fill(200); /* 20 MB, over twice the soft cap */
    sluice_store_stats stats = kit_stats(&kit);
    assert_int_equal(stats.checkpoints + stats.checkpoints_finishing + stats.gate_closes, 0);
    assert_true(stats.wal_bytes > 20000000);
    sluice_checkpoint_done done;
    assert_ok(sluice_store_checkpoint(kit.store, false, PATIENCE_MS, &done, &kit.cause), kit.cause);
    assert_true(done.frames * 4096 > 20000000);
    assert_true(done.wal_file_bytes > 20000000); /* it is reused, not cut */
    assert_int_equal(log_size(), done.wal_file_bytes);
    assert_int_equal(kit_stats(&kit).checkpoints_complete, 1);
    /* Nothing is left to do, and that is as good. */
    assert_ok(sluice_store_checkpoint(kit.store, false, PATIENCE_MS, &done, &kit.cause), kit.cause);
    assert_int_equal(kit_stats(&kit).checkpoints_complete, 1);
    fill(1);
    support_await(restarted, NULL, 10000);
    assert_int_equal(kit_stats(&kit).checkpoint_commands, 2);
    kit_free(&kit);
}

static void truncate_cuts_the_file_of_the_log_also_when_nothing_is_in_it(void **unused) {
    (void)unused;
    open_store();
    fill(20);
    sluice_checkpoint_done done;
    assert_ok(sluice_store_checkpoint(kit.store, true, PATIENCE_MS, &done, &kit.cause), kit.cause);
    assert_true(done.frames > 0);
    assert_int_equal(done.wal_file_bytes, 0);
    assert_int_equal(log_size(), 0);
    assert_ok(sluice_store_checkpoint(kit.store, true, PATIENCE_MS, &done, &kit.cause), kit.cause);
    assert_int_equal(done.frames, 0);
    fill(20);
    assert_ok(sluice_store_checkpoint(kit.store, false, PATIENCE_MS, &done, &kit.cause), kit.cause);
    assert_true(log_size() > 0);
    assert_ok(sluice_store_checkpoint(kit.store, true, PATIENCE_MS, &done, &kit.cause), kit.cause);
    assert_int_equal(log_size(), 0);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 40);
    assert_int_equal(kit_stats(&kit).checkpoint_commands, 4);
    kit_free(&kit);
}

/* A reader in a long query, below the soft cap: nobody ends it for a checkpoint. */
static void a_long_read_makes_a_checkpoint_give_up_and_writes_go_on(void **unused) {
    (void)unused;
    open_store();
    fill(5);
    sluice_msg *request = NULL, *reply = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__query_request__descriptor, &request), SLUICE_OK);
    kit_add(request, RUNAWAY, 0, NULL);
    request->flags = SL_MSG_ASK;
    request->correlation = 77;
    request->deadline_ns = sl_now_ns() + INT64_C(60000000000);
    assert_int_equal(sl_port_send(kit.port, atomic_load(&kit.store->readers[0]), &request), SLUICE_OK);
    sl_port_flush(kit.port);
    sl_reader_watch watch = {0};
    while (watch.statement_size == 0) assert_true(sl_reader_look(kit.store, 0, &watch));
    fill(5);
    for (int truncate = 0; truncate < 2; truncate++) {
        sluice_checkpoint_done done;
        sluice_err err = sluice_store_checkpoint(kit.store, truncate != 0, PATIENCE_MS, &done, &kit.cause);
        assert_int_equal(err, SLUICE_OVERLOADED);
        assert_int_not_equal(kit.cause.retry_after_ms, 0);
        assert_int_equal(kit_stats(&kit).checkpoint_commands_busy, truncate + 1);
        /* The writer is not left waiting. */
        sluice_client_options options;
        sluice_client_options_init(&options);
        options.runtime = kit.runtime;
        sluice_client *client = NULL;
        assert_ok(sluice_client_open("inproc://app", &options, &client, &kit.cause), kit.cause);
        assert_ok(sluice_exec(client, "INSERT INTO t(v) VALUES(1)", NULL, 0, NULL, &kit.cause), kit.cause);
        sluice_client_close(&client);
    }
    assert_int_equal(sl_readers_expire(kit.store, INT64_MAX), 1);
    reply = kit_receive(&kit);
    assert_int_equal(kit_outcome(&kit, reply), SLUICE_SNAPSHOT_EXPIRED);
    sluice_msg_destroy(&reply);
    assert_ok(sluice_store_checkpoint(kit.store, true, PATIENCE_MS, NULL, &kit.cause), kit.cause);
    kit_free(&kit);
}

/* ---- under load ---- */

typedef struct load {
    pthread_t thread;
    sluice_runtime *runtime;
    atomic_bool stop;
    uint64_t writes;
    sluice_err err;
    sluice_cause cause;
} load;

static void *write_on(void *context) {
    load *self = context;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = self->runtime;
    options.timeout_ms = PATIENCE_MS;
    sluice_client *client = NULL;
    self->err = sluice_client_open("inproc://app", &options, &client, &self->cause);
    while (self->err == SLUICE_OK && !atomic_load(&self->stop)) {
        self->err = sluice_exec(client, "INSERT INTO t(v) VALUES(zeroblob(1000))", NULL, 0, NULL, &self->cause);
        if (self->err == SLUICE_OK) self->writes++;
    }
    sluice_client_close(&client);
    return NULL;
}

static void checkpoints_under_load_lose_nothing_and_refuse_nobody(void **unused) {
    (void)unused;
    open_store();
    load loads[2];
    for (unsigned i = 0; i < 2; i++) {
        loads[i] = (load){.runtime = kit.runtime};
        assert_int_equal(pthread_create(&loads[i].thread, NULL, write_on, &loads[i]), 0);
    }
    unsigned done = 0;
    for (unsigned i = 0; i < support_scaled(100); i++) {
        sluice_err err = sluice_store_checkpoint(kit.store, i % 2 == 1, PATIENCE_MS, NULL, &kit.cause);
        if (err != SLUICE_OVERLOADED) assert_ok(err, kit.cause);
        done += err == SLUICE_OK;
    }
    uint64_t writes = 0;
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&loads[i].stop, true);
        pthread_join(loads[i].thread, NULL);
        assert_ok(loads[i].err, loads[i].cause);
        writes += loads[i].writes;
    }
    print_message("%u checkpoints beside %u writes\n", done, (unsigned)writes);
    assert_true(done > 0);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), writes);
    assert_int_equal(kit_stats(&kit).checkpoint_commands, done);
    kit_free(&kit);
}

static void a_checkpoint_that_waits_when_the_store_closes_is_answered(void **unused) {
    (void)unused;
    open_store();
    kit_close(&kit);
    kit_open(&kit);
    sluice_msg *request = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__query_request__descriptor, &request), SLUICE_OK);
    kit_add(request, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c", 0, NULL);
    request->flags = SL_MSG_ASK;
    request->correlation = 1;
    request->deadline_ns = sl_now_ns() + INT64_C(500000000); /* it holds the gate open, and ends by itself */
    assert_int_equal(sl_port_send(kit.port, atomic_load(&kit.store->readers[0]), &request), SLUICE_OK);
    assert_int_equal(sluice_msg_new(&sluice__v1__checkpoint_now__descriptor, &request), SLUICE_OK);
    ((Sluice__V1__CheckpointNow *)request->body)->truncate = true;
    request->flags = SL_MSG_ASK;
    request->correlation = 2;
    request->deadline_ns = sl_now_ns() + INT64_C(60000000000);
    assert_int_equal(sl_port_send(kit.port, atomic_load(&kit.store->writer), &request), SLUICE_OK);
    sl_port_flush(kit.port);
    sluice_store_close(&kit.store);
    for (int i = 0; i < 2; i++) { /* each is answered, whatever the answer */
        sluice_msg *reply = NULL;
        assert_int_equal(sl_port_recv(kit.port, sl_now_ns() + INT64_C(20000000000), &reply), SLUICE_OK);
        assert_true((reply->flags & SL_MSG_REPLY) != 0);
        sluice_msg_destroy(&reply);
    }
    kit_free(&kit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_manual_mode_the_log_grows_until_a_checkpoint_is_asked_for),
        cmocka_unit_test(truncate_cuts_the_file_of_the_log_also_when_nothing_is_in_it),
        cmocka_unit_test(a_long_read_makes_a_checkpoint_give_up_and_writes_go_on),
        cmocka_unit_test(checkpoints_under_load_lose_nothing_and_refuse_nobody),
        cmocka_unit_test(a_checkpoint_that_waits_when_the_store_closes_is_answered),
    };
    return cmocka_run_group_tests_name("checkpoint_command", tests, NULL, NULL);
}
