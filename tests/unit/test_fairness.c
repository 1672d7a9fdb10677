/* SPDX-License-Identifier: MIT */
/* Taking turns: lanes keep each sender's order and serve the senders one message each; a group's turns end when one
 * sender has had many and another waits; a sender's share of a mailbox leaves room for others. */
#include "support/support.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"
#include "port.h"
#include "support/random_message.h"
#include "runtime_internal.h"
#include "turns.h"
#include "support/demo.pb-c.h"

/* ---- lanes ---- */

static sluice_msg *message(sluice_pid from, uint64_t source, uint64_t number) {
    sluice_msg *msg = sl_msg_alloc(SIZE_MAX);
    assert_non_null(msg);
    msg->from = from;
    msg->source = source;
    msg->correlation = number;
    return msg;
}

static void expect(sl_lanes *lanes, sluice_pid from, uint64_t source, uint64_t number, bool followed) {
    sluice_msg *msg = sl_lanes_pop(lanes);
    assert_non_null(msg);
    assert_int_equal(msg->from, from);
    assert_int_equal(msg->source, source);
    assert_int_equal(msg->correlation, number);
    assert_int_equal(msg->followed, followed);
    sluice_msg_destroy(&msg);
}

static void senders_take_turns_and_keep_their_own_order(void **state) {
    (void)state;
    sl_lanes *lanes = sl_lanes_new();
    for (uint64_t i = 1; i <= 4; i++) sl_lanes_push(lanes, message(1, 0, i));
    sl_lanes_push(lanes, message(2, 0, 1));
    sl_lanes_push(lanes, message(9, 5, 1)); /* two peers of one gateway */
    sl_lanes_push(lanes, message(9, 6, 1));
    sl_lanes_push(lanes, message(9, 6, 2));
    expect(lanes, 1, 0, 1, true);
    expect(lanes, 2, 0, 1, false);
    expect(lanes, 9, 5, 1, false);
    expect(lanes, 9, 6, 1, true);
    expect(lanes, 1, 0, 2, true);
    sl_lanes_push(lanes, message(2, 0, 2)); /* comes in the middle of the flood: after at most one of each */
    expect(lanes, 9, 6, 2, false);
    expect(lanes, 1, 0, 3, true);
    expect(lanes, 2, 0, 2, false);
    expect(lanes, 1, 0, 4, false);
    assert_null(sl_lanes_pop(lanes));
    sl_lanes_destroy(&lanes);
    assert_null(lanes);
}

/* Many senders, so that the table grows, in random order: every message comes out once, each sender's in order, and no
 * sender is passed twice while another waits. */
static void lanes_lose_nothing_with_many_senders(void **state) {
    (void)state;
    enum { SENDERS = 3000, STEPS = 60000 };
    sl_lanes *lanes = sl_lanes_new();
    support_random random = {.state = 7};
    uint64_t *pushed = calloc(SENDERS, sizeof *pushed), *popped = calloc(SENDERS, sizeof *popped);
    uint64_t waiting = 0;
    for (unsigned step = 0; step < STEPS || waiting > 0; step++) {
        bool push = step < STEPS && support_random_below(&random, 100) < 60;
        if (push) {
            uint64_t sender = support_random_below(&random, SENDERS);
            sl_lanes_push(lanes, message(sender / 3 + 1, sender % 3, ++pushed[sender]));
            waiting++;
            continue;
        }
        sluice_msg *msg = sl_lanes_pop(lanes);
        if (waiting == 0) {
            assert_null(msg);
            continue;
        }
        assert_non_null(msg);
        uint64_t sender = (msg->from - 1) * 3 + msg->source;
        assert_int_equal(msg->correlation, ++popped[sender]);
        assert_int_equal(msg->followed, popped[sender] < pushed[sender]);
        waiting--;
        sluice_msg_destroy(&msg);
    }
    assert_memory_equal(pushed, popped, SENDERS * sizeof *pushed);
    free(pushed);
    free(popped);
    sl_lanes_destroy(&lanes);
}

/* ---- turns ---- */

static bool over(sl_turns *turns, sluice_pid from, bool followed) {
    sluice_msg *msg = message(from, 0, 0);
    msg->followed = followed;
    bool ends = sl_turns_over(turns, msg);
    if (!ends) sl_turns_take(turns, msg);
    sluice_msg_destroy(&msg);
    return ends;
}

static void one_sender_alone_never_ends_a_group(void **state) {
    (void)state;
    sl_turns *turns = calloc(1, sizeof *turns);
    sl_turns_begin(turns);
    for (int i = 0; i < 10000; i++) assert_false(over(turns, 1, i % 7 != 0));
    free(turns);
}

static void a_sender_with_much_ends_its_part_for_one_who_waits(void **state) {
    (void)state;
    sl_turns *turns = calloc(1, sizeof *turns);
    sl_turns_begin(turns);
    assert_false(over(turns, 2, false));
    for (unsigned i = 0; i < SL_TURNS_MAX; i++) assert_false(over(turns, 1, true));
    assert_true(over(turns, 1, true));
    assert_false(over(turns, 3, false)); /* others still get theirs */
    sl_turns_begin(turns);
    for (unsigned i = 0; i < 10 * SL_TURNS_MAX; i++) assert_false(over(turns, 1, true));
    assert_false(over(turns, 2, false)); /* comes late into a large group */
    assert_true(over(turns, 1, true));
    free(turns);
}

static void senders_who_all_have_more_do_not_stop_each_other(void **state) {
    (void)state;
    sl_turns *turns = calloc(1, sizeof *turns);
    sl_turns_begin(turns);
    for (unsigned i = 0; i < 3000; i++) assert_false(over(turns, 1 + i % 3, true));
    free(turns);
}

/* ---- shares of a mailbox ---- */

static sluice_err hold(sluice_actor *self, sluice_msg **msg) {
    (void)self, (void)msg;
    return SLUICE_OK;
}

/* Blocks until its argument is set, so that what is sent meanwhile waits in the mailbox. */
static sluice_err blocked(sluice_actor *self, sluice_msg **msg) {
    (void)msg;
    atomic_bool *open = sluice_actor_state(self);
    while (!atomic_load(open)) sched_yield();
    return SLUICE_OK;
}

static const sluice_behaviour blocking = {.kind = "blocking", .receive = blocked};
static const sluice_behaviour holding = {.kind = "holding", .receive = hold};

static sluice_err send_one(sl_port *port, sluice_pid to) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&demo__v1__hello__descriptor, &msg), SLUICE_OK);
    sluice_err err = sl_port_send(port, to, &msg);
    sluice_msg_destroy(&msg);
    sl_port_flush(port);
    return err;
}

typedef struct whose {
    sluice_runtime *runtime;
    sluice_pid pid;
} whose;

static bool is_empty(void *context) {
    const whose *it = context;
    return sl_mailbox_depth(it->runtime, it->pid) == 0;
}

static void a_flooding_sender_leaves_room_for_others(void **state) {
    (void)state;
    sluice_runtime *runtime = NULL;
    sl_port *flood = NULL, *calm = NULL;
    sluice_pid pid = 0;
    atomic_bool open = false;
    assert_int_equal(sluice_runtime_new(NULL, &runtime, NULL), SLUICE_OK);
    assert_int_equal(sl_port_open(runtime, &flood, NULL), SLUICE_OK);
    assert_int_equal(sl_port_open(runtime, &calm, NULL), SLUICE_OK);
    sluice_spec spec = {.behaviour = &blocking, .arg = &open, .placement = SLUICE_PLACE_PINNED, .mailbox_messages = 100,
                        .mailbox_share = 20, .fair = true};
    assert_int_equal(sluice_spawn(runtime, &spec, &pid, NULL), SLUICE_OK);
    /* The first message blocks the actor; it is in its hands, no longer in the mailbox. */
    assert_int_equal(send_one(calm, pid), SLUICE_OK);
    whose at = {runtime, pid};
    support_await(is_empty, &at, 5000);

    for (int i = 0; i < 20; i++) assert_int_equal(send_one(flood, pid), SLUICE_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(send_one(flood, pid), SLUICE_OVERLOADED);
    for (int i = 0; i < 20; i++) assert_int_equal(send_one(calm, pid), SLUICE_OK);
    assert_int_equal(send_one(calm, pid), SLUICE_OVERLOADED);

    atomic_store(&open, true); /* what is taken out no longer counts */
    support_await(is_empty, &at, 5000);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 20; i++) assert_int_equal(send_one(flood, pid), SLUICE_OK);
        support_await(is_empty, &at, 5000);
    }
    sl_port_close(&flood);
    sl_port_close(&calm);
    sluice_runtime_destroy(&runtime);
}

/* An actor that ends with a full fair mailbox turns everybody away, and frees each message (the sanitizer looks). */
static void a_fair_mailbox_is_emptied_at_the_end(void **state) {
    (void)state;
    sluice_runtime *runtime = NULL;
    sl_port *port = NULL;
    sluice_pid pid = 0;
    sluice_spec spec = {.behaviour = &holding, .placement = SLUICE_PLACE_PINNED, .fair = true};
    assert_int_equal(sluice_runtime_new(NULL, &runtime, NULL), SLUICE_OK);
    assert_int_equal(sl_port_open(runtime, &port, NULL), SLUICE_OK);
    for (int round = 0; round < 20; round++) {
        assert_int_equal(sluice_spawn(runtime, &spec, &pid, NULL), SLUICE_OK);
        for (int i = 0; i < 50; i++) assert_int_equal(send_one(port, pid), SLUICE_OK);
        sluice_stop(runtime, pid);
    }
    sl_port_close(&port);
    sluice_runtime_destroy(&runtime);
}

static void a_share_is_a_percentage(void **state) {
    (void)state;
    sluice_runtime *runtime = NULL;
    sluice_pid pid = 0;
    sluice_cause cause;
    sluice_spec spec = {.behaviour = &holding, .mailbox_share = 101};
    assert_int_equal(sluice_runtime_new(NULL, &runtime, NULL), SLUICE_OK);
    assert_int_equal(sluice_spawn(runtime, &spec, &pid, &cause), SLUICE_INVALID);
    assert_non_null(strstr(cause.text, "mailbox_share"));
    sluice_runtime_destroy(&runtime);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(senders_take_turns_and_keep_their_own_order),
        cmocka_unit_test(lanes_lose_nothing_with_many_senders),
        cmocka_unit_test(one_sender_alone_never_ends_a_group),
        cmocka_unit_test(a_sender_with_much_ends_its_part_for_one_who_waits),
        cmocka_unit_test(senders_who_all_have_more_do_not_stop_each_other),
        cmocka_unit_test(a_flooding_sender_leaves_room_for_others),
        cmocka_unit_test(a_fair_mailbox_is_emptied_at_the_end),
        cmocka_unit_test(a_share_is_a_percentage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
