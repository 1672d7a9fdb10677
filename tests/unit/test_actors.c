/* SPDX-License-Identifier: MIT */
/* What actors do to each other: ask, monitor, wait; and what their supervisor does when they fail. */
#include "support/actors_kit.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "actor_internal.h"
#include "require.h"

static bool all_settled(void *context) {
    driver_actor *state = context;
    return state->replies + state->errors + state->timeouts == (int)state->n;
}
static bool one_down(void *context) { return ((driver_actor *)context)->downs == 1; }
static bool three_ticks(void *context) { return ((driver_actor *)context)->ticks == 3; }

static void every_ask_between_actors_ends_once(void **state) {
    fixture *self = *state;
    for (int near = 0; near < 2; near++) {
        echo_actor echo = {0};
        sluice_pid target = actors_spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
        driver_actor driver = {.target = target, .n = 500, .timeout_ms = 10000, .number = 5};
        sluice_pid pid = actors_spawn_driver(self, &driver, near ? SLUICE_PLACE_NEAR : SLUICE_PLACE_PINNED, target);
        actors_tell(self, pid, 0);
        support_await(all_settled, &driver, 10000);
        assert_int_equal(driver.replies, 500);
        sluice_stop(self->runtime, pid);
        sluice_stop(self->runtime, target);
    }
}

static void an_ask_that_is_not_answered_times_out(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid target = actors_spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
    static driver_actor driver;
    driver = (driver_actor){.target = target, .n = 10, .timeout_ms = 30, .number = SILENT};
    sluice_pid pid = actors_spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    actors_tell(self, pid, 0);
    support_await(all_settled, &driver, 10000);
    assert_int_equal(driver.timeouts, 10);
}

static void an_asker_hears_that_the_actor_failed(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid target = actors_spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    static driver_actor driver;
    driver = (driver_actor){.target = target, .n = 1, .timeout_ms = 10000, .number = FAIL};
    sluice_pid pid = actors_spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    actors_tell(self, pid, 0);
    support_await(all_settled, &driver, 10000);
    assert_int_equal(driver.last_err, SLUICE_ACTOR_DOWN);
}

static void down_comes_once_whether_before_or_after_the_end(void **state) {
    fixture *self = *state;
    for (int after = 0; after < 2; after++) {
        for (int failing = 0; failing < 2; failing++) {
            echo_actor echo = {0};
            sluice_pid target = actors_spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
            driver_actor driver = {.target = target};
            sluice_pid pid = actors_spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
            if (after) {
                sluice_stop(self->runtime, target);
                actors_tell(self, pid, 1);
            } else {
                actors_tell(self, pid, 1);
                sl_port *port = NULL; /* a round trip through the driver's dispatcher orders monitor before the end */
                assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
                actors_tell(self, pid, 9);
                while (sl_mailbox_depth(self->runtime, pid) > 0) sched_yield();
                sl_port_close(&port);
                if (failing)
                    actors_tell(self, target, FAIL);
                else
                    sluice_stop(self->runtime, target);
            }
            support_await(one_down, &driver, 10000);
            if (after) assert_int_equal(driver.down_why, SLUICE_NO_ACTOR);
            sluice_stop(self->runtime, pid);
            assert_int_equal(driver.downs, 1);
            sluice_stop(self->runtime, target);
        }
    }
}

static void periodic_timers_tick_until_cancelled(void **state) {
    fixture *self = *state;
    static driver_actor driver = {0};
    sluice_pid pid = actors_spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    actors_tell(self, pid, 2);
    support_await(three_ticks, &driver, 10000);
    sluice_stop(self->runtime, pid);
    assert_int_equal(driver.ticks, 3);
}

/* ---- supervision ---- */

static bool restarted_twice(void *context) { return ((echo_actor *)context)->inits == 3; }
static bool stopped(void *context) { return ((echo_actor *)context)->stopped >= 1; }

static void a_failed_child_restarts_in_place_with_its_mailbox(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.hold = true};
    sluice_child child = {.spec = {.behaviour = &actors_echo, .arg = &echo, .placement = SLUICE_PLACE_PINNED}};
    sluice_supervisor_options options;
    sluice_supervisor_options_init(&options);
    options.backoff_min_ms = 1;
    sluice_pid supervisor, pid;
    assert_ok(sluice_supervisor_spawn(self->runtime, &options, &child, 1, &supervisor, &pid, &self->cause), self->cause);
    actors_tell(self, pid, FAIL);
    actors_tell(self, pid, 1);
    actors_tell(self, pid, FAIL);
    actors_tell(self, pid, 2);
    echo.hold = false;
    support_await(restarted_twice, &echo, 10000);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    sluice_msg *msg = actors_hello(3), *reply = NULL;
    assert_int_equal(actors_ask(port, pid, &msg, 5000, &reply), SLUICE_OK); /* same pid */
    sluice_msg_destroy(&reply);
    sl_port_close(&port);
    assert_int_equal(echo.received, 5);
    sluice_runtime_stats stats;
    sluice_runtime_stats_read(self->runtime, &stats);
    assert_int_equal(stats.failures, 2);
    assert_int_equal(stats.restarts, 2);
    sluice_stop(self->runtime, supervisor);
    assert_int_equal(echo.stopped, 3); /* one stop for each init */
}

static void too_many_failures_escalate(void **state) {
    fixture *self = *state;
    static echo_actor a = {0}, b = {0};
    sluice_child children[] = {{.spec = {.behaviour = &actors_echo, .arg = &a}},
                               {.spec = {.behaviour = &actors_echo, .arg = &b}}};
    sluice_supervisor_options options;
    sluice_supervisor_options_init(&options);
    options.max_restarts = 2;
    options.within_ms = 60000;
    options.backoff_min_ms = 1;
    sluice_pid supervisor, pids[2];
    assert_ok(sluice_supervisor_spawn(self->runtime, &options, children, 2, &supervisor, pids, &self->cause), self->cause);
    static driver_actor driver;
    driver = (driver_actor){.target = supervisor};
    sluice_pid watcher = actors_spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    actors_tell(self, watcher, 1);
    for (int i = 0; i < 3; i++) actors_tell(self, pids[0], FAIL);
    support_await(one_down, &driver, 10000);
    assert_int_equal(driver.down_why, SLUICE_FAILED);
    support_await(stopped, &b, 10000); /* the healthy sibling was stopped too */
    assert_int_equal(a.inits, 3);
}

static void a_child_stopped_from_outside_is_not_restarted(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_child child = {.spec = {.behaviour = &actors_echo, .arg = &echo}};
    sluice_pid supervisor, pid;
    assert_ok(sluice_supervisor_spawn(self->runtime, NULL, &child, 1, &supervisor, &pid, &self->cause), self->cause);
    sluice_stop(self->runtime, pid);
    sluice_stop(self->runtime, supervisor);
    assert_int_equal(echo.inits, 1);
}

static void a_permanent_child_that_stops_itself_restarts(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_child child = {.spec = {.behaviour = &actors_echo, .arg = &echo}, .restart = SLUICE_PERMANENT};
    sluice_supervisor_options options;
    sluice_supervisor_options_init(&options);
    options.backoff_min_ms = 1;
    sluice_pid supervisor, pid;
    assert_ok(sluice_supervisor_spawn(self->runtime, &options, &child, 1, &supervisor, &pid, &self->cause), self->cause);
    actors_tell(self, pid, STOP_SELF);
    actors_tell(self, pid, STOP_SELF);
    support_await(restarted_twice, &echo, 10000);
}

static void a_child_whose_init_fails_ends_those_before_it(void **state) {
    fixture *self = *state;
    static echo_actor good = {0}, bad = {.fail_init_with = SLUICE_IO};
    sluice_child children[] = {{.spec = {.behaviour = &actors_echo, .arg = &good}},
                               {.spec = {.behaviour = &actors_echo, .arg = &bad}}};
    sluice_pid supervisor, pids[2];
    assert_int_equal(sluice_supervisor_spawn(self->runtime, NULL, children, 2, &supervisor, pids, &self->cause),
                     SLUICE_IO);
    assert_string_equal(self->cause.text, "as told");
    assert_int_equal(supervisor, 0);
    assert_int_equal(good.stopped, 1);
    assert_int_equal(bad.stopped, 0);
}

typedef struct ball {
    sluice_pid partner;
    atomic_bool end;
} ball;

/* Two of these are never idle. */
static sluice_err throw_back(sluice_actor *self, sluice_msg **msg) {
    ball *it = sluice_actor_state(self);
    return atomic_load(&it->end) ? SLUICE_OK : sluice_tell(self, it->partner, msg);
}

static bool was_drained(void *context) { return atomic_load(&((echo_actor *)context)->drained) > 0; }

static void drained_comes_though_neighbours_are_never_idle(void **state) {
    fixture *self = *state;
    static ball a, b;
    static echo_actor echo;
    a = (ball){0}, b = (ball){0}, echo = (echo_actor){0};
    static const sluice_behaviour player = {.kind = "player", .receive = throw_back};
    sluice_spec spec = {.behaviour = &player, .arg = &a};
    assert_ok(sluice_spawn(self->runtime, &spec, &b.partner, &self->cause), self->cause);
    spec = (sluice_spec){.behaviour = &player, .arg = &b, .placement = SLUICE_PLACE_NEAR, .near = b.partner};
    assert_ok(sluice_spawn(self->runtime, &spec, &a.partner, &self->cause), self->cause);
    spec = (sluice_spec){.behaviour = &actors_echo, .arg = &echo, .placement = SLUICE_PLACE_NEAR, .near = b.partner};
    sluice_pid third;
    assert_ok(sluice_spawn(self->runtime, &spec, &third, &self->cause), self->cause);
    actors_tell(self, a.partner, 1);
    actors_tell(self, third, SILENT);
    support_await(was_drained, &echo, 10000);
    atomic_store(&a.end, true);
    atomic_store(&b.end, true);
}

static _Atomic sluice_pid short_lived;

static sluice_err stop_in_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    (void)arg, (void)cause;
    sluice_actor_stop(self, sluice_actor_pid(self));
    atomic_store(&short_lived, sluice_actor_pid(self));
    return SLUICE_OK;
}

static sluice_err ignore(sluice_actor *self, sluice_msg **msg) {
    (void)self, (void)msg;
    return SLUICE_OK;
}

static sluice_err spawn_short_lived(sluice_actor *self, sluice_msg **msg) {
    (void)msg;
    static const sluice_behaviour behaviour = {.kind = "short lived", .init = stop_in_init, .receive = ignore};
    sluice_spec spec = {.behaviour = &behaviour, .placement = SLUICE_PLACE_PINNED};
    sluice_pid pid;
    return sluice_actor_spawn(self, &spec, &pid);
}

static bool lived(void *context) {
    (void)context;
    return atomic_load(&short_lived) != 0;
}

/* The stop comes from a thread that never spoke to the actor's dispatcher, which ends at that very moment. */
static void stop_returns_though_the_actor_ends_at_the_same_moment(void **state) {
    fixture *self = *state;
    static const sluice_behaviour parent = {.kind = "parent", .receive = spawn_short_lived};
    sluice_spec spec = {.behaviour = &parent};
    sluice_pid pid;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    for (unsigned i = 0; i < support_scaled(2000); i++) {
        atomic_store(&short_lived, 0);
        actors_tell(self, pid, 1);
        support_await(lived, NULL, 10000);
        sluice_stop(self->runtime, atomic_load(&short_lived));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        actors_test(every_ask_between_actors_ends_once),
        actors_test(an_ask_that_is_not_answered_times_out),
        actors_test(an_asker_hears_that_the_actor_failed),
        actors_test(down_comes_once_whether_before_or_after_the_end),
        actors_test(drained_comes_though_neighbours_are_never_idle),
        actors_test(periodic_timers_tick_until_cancelled),
        actors_test(a_failed_child_restarts_in_place_with_its_mailbox),
        actors_test(too_many_failures_escalate),
        actors_test(a_child_stopped_from_outside_is_not_restarted),
        actors_test(stop_returns_though_the_actor_ends_at_the_same_moment),
        actors_test(a_child_whose_init_fails_ends_those_before_it),
        actors_test(a_permanent_child_that_stops_itself_restarts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
