/* SPDX-License-Identifier: MIT */
/* CTest: RUN_SERIAL TIMEOUT=120
 *
 * Deadlines and overload: work whose deadline has passed is never done; queues are bounded by count and by bytes, for
 * all and for each client; a refusal says when to come back and touches no database; a flooding client does not hold up
 * its neighbours.
 */
#include "support/fault_vfs.h"
#include "support/store_kit.h"
#include "actor_internal.h"
#include "turns.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INSERT "INSERT INTO t(body) VALUES(?1)"

static store_kit kit;

static int set_up(void **state) {
    (void)state;
    fault_vfs_register("unix-excl");
    kit_new(&kit);
    kit.vfs = FAULT_VFS_NAME;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    atomic_store(&fault.hold_wal_sync, false);
    kit_free(&kit);
    return 0;
}

static void open_store(void) {
    kit_open(&kit);
    assert_ok(kit_exec(&kit, "CREATE TABLE t(id INTEGER PRIMARY KEY, body)"), kit.cause);
}

static sluice_client *open_client(const char *url, uint32_t max_inflight) {
    sluice_client_options options;
    sluice_cause cause;
    sluice_client *client = NULL;
    sluice_client_options_init(&options);
    options.runtime = kit.runtime;
    options.max_inflight = max_inflight;
    options.timeout_ms = 20000;
    assert_ok(sluice_client_open(url, &options, &client, &cause), cause);
    return client;
}

static sluice_err submit(sluice_client *client, const void *body, size_t size, sluice_cause *cause) {
    sluice_request *request = NULL;
    sluice_value value = sluice_blob(body, size);
    assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, INSERT, &value, 1), SLUICE_OK);
    sluice_err err = sluice_submit(client, &request, NULL, NULL, cause);
    sluice_request_destroy(&request);
    return err;
}

/* Collects everything; returns how many ended OK. Fails if anything ended otherwise. */
static unsigned collect(sluice_client *client) {
    unsigned n = 0;
    sluice_completion done;
    while (sluice_client_inflight(client) > 0 && sluice_poll(client, 60000, &done)) {
        if (done.err != SLUICE_OK) fail_msg("%s", done.cause.text);
        sluice_result_destroy(&done.result);
        n++;
    }
    return n;
}

static bool sync_is_held(void *context) {
    (void)context;
    return atomic_load(&fault.held) > 0;
}

/* Stops the writer in the middle of a COMMIT, so that what comes now has to wait. */
static void hold_the_writer(void) {
    atomic_store(&fault.hold_wal_sync, true);
    sluice_msg *request = kit_request();
    (void)kit_add(request, "INSERT INTO t(body) VALUES('holds')", 0, NULL);
    (void)kit_send(&kit, request, 0);
    sl_port_flush(kit.port);
    support_await(sync_is_held, NULL, 20000);
}

static void let_the_writer_go(void) {
    atomic_store(&fault.hold_wal_sync, false);
    sluice_msg *reply = kit_receive(&kit);
    assert_ok(kit_outcome(&kit, reply), kit.cause);
    sluice_msg_destroy(&reply);
}

/* ---- deadlines ---- */

static bool time_has_come(void *context) { return sl_now_ns() > *(int64_t *)context; }

static void requests_that_expire_while_they_wait_are_never_executed(void **state) {
    (void)state;
    enum { EACH = 40 };
    open_store();
    hold_the_writer();
    int64_t expired_at = 0;
    for (int i = 0; i < 2 * EACH; i++) {
        bool expires = i % 2 == 0;
        sluice_msg *request = kit_request();
        sluice_value value = sluice_text(expires ? "expired" : "in time");
        (void)kit_add(request, INSERT, 1, &value);
        if (expires) expired_at = sl_now_ns() + 20 * 1000000;
        (void)kit_send(&kit, request, expires ? 20 : 60000);
    }
    sl_port_flush(kit.port);
    support_await(time_has_come, &expired_at, 20000);
    sluice_store_stats before = kit_stats(&kit);
    atomic_store(&fault.hold_wal_sync, false);

    unsigned done = 0, expired = 0;
    for (int i = 0; i < 2 * EACH + 1; i++) { /* and the one that held the writer */
        sluice_msg *reply = kit_receive(&kit);
        sluice_err err = kit_outcome(&kit, reply);
        if (err == SLUICE_OK)
            done++;
        else if (err == SLUICE_EXPIRED)
            expired++;
        else
            fail_msg("%s", kit.cause.text);
        sluice_msg_destroy(&reply);
    }
    sluice_store_stats after = kit_stats(&kit);
    assert_int_equal(expired, EACH);
    assert_int_equal(done, EACH + 1);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t WHERE body = 'expired'"), 0);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t WHERE body = 'in time'"), EACH);
    /* Not one statement was looked up for them. */
    assert_int_equal(after.statement_hits + after.statement_misses - before.statement_hits - before.statement_misses,
                     EACH);
}

/* ---- admission ---- */

static uint64_t statements_used(void) {
    sluice_store_stats stats = kit_stats(&kit);
    return stats.statement_hits + stats.statement_misses;
}

static void flood_is_refused_by_count_and_leaves_room_for_others(void **state) {
    (void)state;
    kit.options.max_pending = 100;
    kit.options.max_pending_share = 30;
    open_store();
    hold_the_writer();
    sluice_client *flood = open_client("inproc://app", 1000), *calm = open_client("inproc://app", 1000);
    sluice_store_stats before = kit_stats(&kit);
    uint64_t statements = statements_used();
    unsigned syncs = atomic_load(&fault.wal_syncs);
    sluice_cause cause;

    for (int i = 0; i < 30; i++) assert_ok(submit(flood, "a", 1, &cause), cause);
    enum { REFUSALS = 20000 };
    unsigned refusals = support_scaled(REFUSALS);
    int64_t began = sl_now_ns();
    for (unsigned i = 0; i < refusals; i++) {
        assert_int_equal(submit(flood, "a", 1, &cause), SLUICE_OVERLOADED);
        assert_true(cause.retry_after_ms > 0);
    }
    int64_t ns = (sl_now_ns() - began) / refusals;
    print_message("a refusal costs %.2f us, request built and freed included\n", (double)ns / 1000);
    for (int i = 0; i < 30; i++) assert_ok(submit(calm, "b", 1, &cause), cause);
    assert_int_equal(submit(calm, "b", 1, &cause), SLUICE_OVERLOADED);

    /* No statement, no group, no sync for any of it. */
    sluice_store_stats after = kit_stats(&kit);
    assert_int_equal(statements_used(), statements);
    assert_int_equal(after.groups, before.groups);
    assert_int_equal(atomic_load(&fault.wal_syncs), syncs);

    let_the_writer_go();
    assert_int_equal(collect(flood), 30);
    assert_int_equal(collect(calm), 30);
    assert_int_equal(statements_used(), statements + 60);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 61);
    /* The queue is empty: there is room again. */
    assert_ok(submit(flood, "a", 1, &cause), cause);
    assert_int_equal(collect(flood), 1);
    sluice_client_close(&flood);
    sluice_client_close(&calm);
}

static void whole_queue_is_bounded_too(void **state) {
    (void)state;
    kit.options.max_pending = 100;
    kit.options.max_pending_share = 30;
    open_store();
    hold_the_writer();
    enum { CLIENTS = 6 };
    sluice_client *clients[CLIENTS];
    sluice_cause cause;
    unsigned admitted = 0;
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = open_client("inproc://app", 1000);
        for (int n = 0; n < 40; n++) {
            sluice_err err = submit(clients[i], "a", 1, &cause);
            assert_true(err == SLUICE_OK || err == SLUICE_OVERLOADED);
            if (err == SLUICE_OK) admitted++;
        }
    }
    assert_int_equal(admitted, 100);
    let_the_writer_go();
    for (int i = 0; i < CLIENTS; i++) {
        (void)collect(clients[i]);
        sluice_client_close(&clients[i]);
    }
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 101);
}

static void large_requests_are_refused_by_bytes(void **state) {
    (void)state;
    enum { SIZE = 100000 };
    kit.options.max_pending_bytes = 40 * SIZE;
    kit.options.max_pending_share = 25;
    open_store();
    hold_the_writer();
    char *body = calloc(1, SIZE);
    sluice_client *flood = open_client("inproc://app", 1000), *calm = open_client("inproc://app", 1000);
    sluice_cause cause;
    unsigned admitted = 0;
    while (submit(flood, body, SIZE, &cause) == SLUICE_OK && admitted < 1000) admitted++;
    assert_int_equal(cause.code, SLUICE_OVERLOADED);
    assert_true(cause.retry_after_ms > 0);
    assert_in_range(admitted, 3, 10); /* a quarter of 40, less what a message's blocks are larger */
    assert_ok(submit(calm, body, SIZE, &cause), cause);
    let_the_writer_go();
    assert_int_equal(collect(flood), admitted);
    assert_int_equal(collect(calm), 1);
    sluice_client_close(&flood);
    sluice_client_close(&calm);
    free(body);
}

static void each_connection_of_a_gateway_is_bounded(void **state) {
    (void)state;
    open_store();
    sluice_gateway_options options;
    sluice_gateway *gateway = NULL;
    sluice_cause cause;
    sluice_gateway_options_init(&options);
    options.store = kit.store;
    options.allow_plain = true;
    options.max_inflight = 10;
    assert_ok(sluice_gateway_open(kit.runtime, &options, &gateway, &cause), cause);
    assert_ok(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &cause), cause);
    sluice_client *flood = open_client(sluice_gateway_endpoint(gateway, 0), 1000);
    sluice_client *calm = open_client(sluice_gateway_endpoint(gateway, 0), 1000);
    assert_ok(sluice_client_ping(flood, &cause), cause);
    assert_ok(sluice_client_ping(calm, &cause), cause);
    hold_the_writer();
    uint64_t statements = statements_used();

    for (int i = 0; i < 50; i++) assert_ok(submit(flood, "a", 1, &cause), cause);
    for (int i = 0; i < 5; i++) assert_ok(submit(calm, "b", 1, &cause), cause);
    unsigned refused = 0, done = 0;
    sluice_completion end;
    while (refused < 40 && sluice_poll(flood, 20000, &end)) { /* these come while the writer is held */
        assert_int_equal(end.err, SLUICE_OVERLOADED);
        assert_true(end.cause.retry_after_ms > 0);
        refused++;
    }
    assert_int_equal(refused, 40);
    assert_int_equal(statements_used(), statements);
    let_the_writer_go();
    done = collect(flood);
    assert_int_equal(done, 10);
    assert_int_equal(collect(calm), 5);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 16);
    sluice_client_close(&flood);
    sluice_client_close(&calm);
    sluice_gateway_close(&gateway);
}

/* A reply that a full pipe refused would leave its client waiting until the deadline. */
static void bursts_of_a_remote_client_lose_no_answer(void **state) {
    (void)state;
    enum { BURST = 4000 };
    open_store();
    sluice_gateway_options options;
    sluice_gateway *gateway = NULL;
    sluice_cause cause;
    sluice_gateway_options_init(&options);
    assert_in_range(BURST, 1, options.max_inflight);
    options.store = kit.store;
    options.allow_plain = true;
    assert_ok(sluice_gateway_open(kit.runtime, &options, &gateway, &cause), cause);
    assert_ok(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &cause), cause);
    sluice_client *client = open_client(sluice_gateway_endpoint(gateway, 0), BURST);
    for (unsigned round = 0; round < support_scaled(10); round++) {
        for (int i = 0; i < BURST; i++) assert_ok(submit(client, "a", 1, &cause), cause);
        assert_int_equal(collect(client), BURST);
    }
    sluice_gateway_stats stats;
    sluice_gateway_stats_read(gateway, &stats);
    assert_int_equal(stats.dropped_unroutable, 0);
    sluice_client_close(&client);
    sluice_gateway_close(&gateway);
}

/* ---- fairness ---- */

typedef struct waiting {
    uint32_t n;
} waiting;

static bool so_many_wait(void *context) {
    const waiting *it = context;
    return sl_mailbox_depth(kit.runtime, atomic_load(&kit.store->writer)) >= it->n;
}

/* A thousand requests of one client wait when another's comes: it is in the first group, with few of the thousand. */
static void expect_a_place_in_the_first_group(const char *url) {
    enum { FLOOD = 1000 };
    sluice_client *flood = open_client(url, FLOOD), *calm = open_client(url, 1);
    sluice_cause cause;
    sluice_completion done;
    assert_ok(sluice_client_ping(flood, &cause), cause);
    assert_ok(sluice_client_ping(calm, &cause), cause);
    hold_the_writer();
    for (int i = 0; i < FLOOD; i++) assert_ok(submit(flood, "a", 1, &cause), cause);
    while (sluice_poll(flood, 0, &done)) fail_msg("an answer came though the writer is held");
    support_await(so_many_wait, &(waiting){FLOOD}, 20000);
    assert_ok(submit(calm, "b", 1, &cause), cause);
    while (sluice_poll(calm, 0, &done)) fail_msg("an answer came though the writer is held");
    support_await(so_many_wait, &(waiting){FLOOD + 1}, 20000);
    let_the_writer_go();

    assert_true(sluice_poll(calm, 20000, &done));
    assert_int_equal(done.err, SLUICE_OK);
    uint64_t calm_group = sluice_result_commit_number(done.result);
    sluice_result_destroy(&done.result);
    unsigned not_later = 0;
    for (int i = 0; i < FLOOD; i++) {
        assert_true(sluice_poll(flood, 20000, &done));
        assert_int_equal(done.err, SLUICE_OK);
        if (sluice_result_commit_number(done.result) <= calm_group) not_later++;
        sluice_result_destroy(&done.result);
    }
    assert_int_equal(not_later, SL_TURNS_MAX);
    sluice_client_close(&flood);
    sluice_client_close(&calm);
}

static void calm_client_is_in_the_first_group_beside_a_flood(void **state) {
    (void)state;
    open_store();
    expect_a_place_in_the_first_group("inproc://app");
}

static void calm_remote_client_is_in_the_first_group_beside_a_flood(void **state) {
    (void)state;
    open_store();
    sluice_gateway_options options;
    sluice_gateway *gateway = NULL;
    sluice_cause cause;
    sluice_gateway_options_init(&options);
    options.allow_plain = true;
    assert_ok(sluice_gateway_open(kit.runtime, &options, &gateway, &cause), cause);
    assert_ok(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &cause), cause);
    expect_a_place_in_the_first_group(sluice_gateway_endpoint(gateway, 0));
    sluice_gateway_close(&gateway);
}

typedef struct flooder {
    pthread_t thread;
    const char *url;
    atomic_bool *stop, *flowing;
    unsigned pipeline;
    atomic_uint_fast64_t ended, failed;
} flooder;

static void *flood_main(void *arg) {
    flooder *self = arg;
    sluice_client_options options;
    sluice_client *client = NULL;
    sluice_completion done;
    sluice_client_options_init(&options);
    options.runtime = kit.runtime;
    options.max_inflight = self->pipeline;
    options.timeout_ms = 20000;
    if (sluice_client_open(self->url, &options, &client, NULL) != SLUICE_OK) return NULL;
    sluice_value value = sluice_text("some eighty bytes of text are what the flood is made of, again and again");
    while (!atomic_load(self->stop)) {
        while (sluice_client_inflight(client) < self->pipeline) {
            sluice_request *request = NULL;
            if (sluice_request_new(client, SLUICE_WRITE, &request) != SLUICE_OK ||
                sluice_request_add(request, INSERT, &value, 1) != SLUICE_OK ||
                sluice_submit(client, &request, NULL, NULL, NULL) != SLUICE_OK) {
                sluice_request_destroy(&request);
                break;
            }
        }
        for (uint32_t wait_ms = 1000; sluice_poll(client, wait_ms, &done); wait_ms = 0) {
            atomic_fetch_add(done.err == SLUICE_OK ? &self->ended : &self->failed, 1);
            sluice_result_destroy(&done.result);
            atomic_store(self->flowing, true);
        }
    }
    while (sluice_client_inflight(client) > 0 && sluice_poll(client, 60000, &done)) sluice_result_destroy(&done.result);
    sluice_client_close(&client);
    return NULL;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

typedef struct times {
    int64_t p50, p99, max;
} times;

static times measure_calm(sluice_client *client, unsigned n) {
    int64_t *taken = calloc(n, sizeof *taken);
    sluice_value value = sluice_text("calm");
    for (unsigned i = 0; i < n; i++) {
        sluice_cause cause;
        int64_t began = sl_now_ns();
        assert_ok(sluice_exec(client, INSERT, &value, 1, NULL, &cause), cause);
        taken[i] = (sl_now_ns() - began) / 1000;
    }
    qsort(taken, n, sizeof *taken, by_value);
    times result = {taken[n / 2], taken[n * 99 / 100], taken[n - 1]};
    free(taken);
    return result;
}

static bool is_flowing(void *context) { return atomic_load((atomic_bool *)context); }

enum { ROUNDS = 5, CALLS = 400 };

/* Interleaved rounds: alone, flooded, alone ... Shows the ratios of the p99s, of which the aim is 2. Times of a machine
 * that does other things too prove nothing, so what is asserted is only that it goes on; that turns are kept is tested
 * above, by groups. */
static void flood_and_measure(const char *url, unsigned pipeline) {
    sluice_client *calm = open_client(url, 16);
    double ratios[ROUNDS];
    unsigned rounds = support_long() ? ROUNDS : 3;
    (void)measure_calm(calm, 50);
    for (unsigned round = 0; round < rounds; round++) {
        unsigned calls = support_scaled(CALLS);
        times alone = measure_calm(calm, calls);
        atomic_bool stop = false, flowing = false;
        flooder flood = {.url = url, .stop = &stop, .flowing = &flowing, .pipeline = pipeline};
        assert_int_equal(pthread_create(&flood.thread, NULL, flood_main, &flood), 0);
        support_await(is_flowing, &flowing, 20000);
        uint64_t before = atomic_load(&flood.ended);
        int64_t began = sl_now_ns();
        times flooded = measure_calm(calm, calls);
        double seconds = (double)(sl_now_ns() - began) / 1e9;
        uint64_t ended = atomic_load(&flood.ended) - before;
        atomic_store(&stop, true);
        pthread_join(flood.thread, NULL);
        assert_true(flooded.p99 < 5000000);
        ratios[round] = (double)flooded.p99 / (double)alone.p99;
        print_message("%.6s: alone p50 %lld p99 %lld us; beside a flood of %.0f/s p50 %lld p99 %lld max %lld us: "
                      "p99 x %.2f\n", url, (long long)alone.p50, (long long)alone.p99, (double)ended / seconds,
                      (long long)flooded.p50, (long long)flooded.p99, (long long)flooded.max, ratios[round]);
    }
    sluice_client_close(&calm);
    for (unsigned i = 0; i < rounds; i++)
        for (unsigned k = i + 1; k < rounds; k++)
            if (ratios[k] < ratios[i]) {
                double swap = ratios[i];
                ratios[i] = ratios[k];
                ratios[k] = swap;
            }
    print_message("%.6s: median ratio of p99 %.2f\n", url, ratios[rounds / 2]);
}

static void flooding_client_in_the_process_does_not_hold_up_another(void **state) {
    (void)state;
    open_store();
    flood_and_measure("inproc://app", 1024);
}

static void flooding_remote_client_does_not_hold_up_another(void **state) {
    (void)state;
    open_store();
    sluice_gateway_options options;
    sluice_gateway *gateway = NULL;
    sluice_cause cause;
    sluice_gateway_options_init(&options);
    options.store = kit.store;
    options.allow_plain = true;
    assert_ok(sluice_gateway_open(kit.runtime, &options, &gateway, &cause), cause);
    assert_ok(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &cause), cause);
    flood_and_measure(sluice_gateway_endpoint(gateway, 0), 1024);
    sluice_gateway_close(&gateway);
}

#define overload_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        overload_test(requests_that_expire_while_they_wait_are_never_executed),
        overload_test(flood_is_refused_by_count_and_leaves_room_for_others),
        overload_test(whole_queue_is_bounded_too),
        overload_test(large_requests_are_refused_by_bytes),
        overload_test(each_connection_of_a_gateway_is_bounded),
        overload_test(bursts_of_a_remote_client_lose_no_answer),
        overload_test(calm_client_is_in_the_first_group_beside_a_flood),
        overload_test(calm_remote_client_is_in_the_first_group_beside_a_flood),
        overload_test(flooding_client_in_the_process_does_not_hold_up_another),
        overload_test(flooding_remote_client_does_not_hold_up_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
