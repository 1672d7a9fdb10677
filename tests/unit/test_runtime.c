/* SPDX-License-Identifier: MIT */
/* The runtime's promises about actors: delivery, order, bounds, asks, deadlines, timers, monitors, names, start, stop. */
#include "support/support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "support/demo.pb-c.h"
#include "port.h"
#include "actor_internal.h"
#include "require.h"

/* ---- a fixture: one runtime, whose quiet end every test asserts ---- */

typedef struct fixture {
    sluice_runtime *runtime;
    sluice_cause cause;
} fixture;

static int setup(void **state) {
    fixture *self = calloc(1, sizeof *self);
    sluice_runtime_options options;
    sluice_runtime_options_init(&options);
    options.n_shared = 2;
    assert_ok(sluice_runtime_new(&options, &self->runtime, &self->cause), self->cause);
    *state = self;
    return 0;
}

static int teardown(void **state) {
    fixture *self = *state;
    sluice_runtime_destroy(&self->runtime);
    assert_null(self->runtime);
    free(self);
    return 0;
}

static sluice_msg *hello(uint64_t number) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&demo__v1__hello__descriptor, &msg), SLUICE_OK);
    ((Demo__V1__Hello *)sluice_msg_body(msg))->number = number;
    return msg;
}

static uint64_t number_of(const sluice_msg *msg) { return ((Demo__V1__Hello *)sluice_msg_body(msg))->number; }

static sluice_err ask_port(sl_port *port, sluice_pid to, sluice_msg **msg, unsigned timeout_ms, sluice_msg **reply) {
    (*msg)->flags = SL_MSG_ASK;
    (*msg)->correlation = 7;
    (*msg)->deadline_ns = sl_now_ns() + (int64_t)timeout_ms * 1000000;
    int64_t deadline = (*msg)->deadline_ns;
    sluice_err err = sl_port_send(port, to, msg);
    return err != SLUICE_OK ? err : sl_port_recv(port, deadline, reply);
}

/* ---- an actor that echoes, and can be told to do other things ---- */

typedef struct echo_actor {
    atomic_int received, drained, stopped, inits, downs;
    _Atomic sluice_err why;
    sluice_err fail_init_with;
    atomic_bool hold; /* receive blocks while set */
    uint64_t last;
    bool out_of_order;
} echo_actor;

enum { FAIL = 1000000, STOP_SELF, SILENT, TAKE };

static sluice_err echo_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    echo_actor *state = arg;
    sluice_actor_set_state(self, state);
    state->inits++;
    if (state->fail_init_with != SLUICE_OK) return sluice_cause_set(cause, state->fail_init_with, "as told");
    return SLUICE_OK;
}

static sluice_err echo_receive(sluice_actor *self, sluice_msg **msg) {
    echo_actor *state = sluice_actor_state(self);
    uint64_t number = number_of(*msg);
    state->received++;
    if (number < state->last && number < FAIL) state->out_of_order = true;
    if (number < FAIL) state->last = number;
    while (state->hold) sched_yield();
    if (number == FAIL) return SLUICE_FAILED;
    if (number == STOP_SELF) sluice_actor_stop(self, sluice_actor_pid(self));
    if (number == SILENT || !sluice_msg_is_ask(*msg)) return SLUICE_OK;
    if (number == TAKE) {
        sluice_msg *taken = *msg;
        *msg = NULL;
        sluice_msg *reply = hello(number);
        sluice_reply(self, taken, &reply);
        sluice_msg_destroy(&taken);
        return SLUICE_OK;
    }
    sluice_msg *reply = hello(number + 1);
    sluice_reply(self, *msg, &reply);
    return SLUICE_OK;
}

static sluice_err echo_drained(sluice_actor *self) {
    ((echo_actor *)sluice_actor_state(self))->drained++;
    return SLUICE_OK;
}

static void echo_stop(sluice_actor *self, sluice_err why) {
    echo_actor *state = sluice_actor_state(self);
    state->why = why;
    state->stopped++;
}

static const sluice_behaviour echo_behaviour = {
    .kind = "echo", .init = echo_init, .receive = echo_receive, .drained = echo_drained, .stop = echo_stop};

static sluice_pid spawn_echo(fixture *self, echo_actor *state, sluice_placement placement, const char *name) {
    sluice_spec spec = {.behaviour = &echo_behaviour, .arg = state, .placement = placement, .name = name};
    sluice_pid pid = 0;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    assert_true(pid != 0);
    return pid;
}

/* ---- tests ---- */

static void runtime_starts_and_stops_a_thousand_times(void **unused) {
    (void)unused;
    for (unsigned i = 0; i < support_scaled(1000); i++) {
        sluice_runtime *runtime = NULL;
        sluice_cause cause;
        assert_ok(sluice_runtime_new(NULL, &runtime, &cause), cause);
        sluice_runtime_destroy(&runtime);
        sluice_runtime_destroy(&runtime);
    }
}

static void runtime_refuses_options_out_of_range(void **unused) {
    (void)unused;
    sluice_runtime *runtime = NULL;
    sluice_cause cause;
    sluice_runtime_options options;
    sluice_runtime_options_init(&options);
    options.n_shared = 0;
    assert_int_equal(sluice_runtime_new(&options, &runtime, &cause), SLUICE_INVALID);
    assert_null(runtime);
    assert_non_null(strstr(cause.text, "n_shared"));
}

static void actor_answers_an_ask(void **state) {
    fixture *self = *state;
    for (int placement = SLUICE_PLACE_SHARED; placement <= SLUICE_PLACE_PINNED; placement++) {
        echo_actor echo = {0};
        sluice_pid pid = spawn_echo(self, &echo, (sluice_placement)placement, NULL);
        sl_port *port = NULL;
        assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
        for (uint64_t i = 0; i < 100; i++) {
            sluice_msg *msg = hello(i), *reply = NULL;
            assert_int_equal(ask_port(port, pid, &msg, 5000, &reply), SLUICE_OK);
            assert_int_equal(number_of(reply), i + 1);
            assert_int_equal(reply->correlation, 7);
            assert_int_equal(sluice_msg_from(reply), pid);
            sluice_msg_destroy(&reply);
        }
        sl_port_close(&port);
        sluice_stop(self->runtime, pid);
        assert_int_equal(echo.stopped, 1);
        assert_int_equal(echo.received, 100);
        assert_true(echo.drained >= 1);
    }
}

static void actor_may_take_its_message(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid pid = spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    sluice_msg *msg = hello(TAKE), *reply = NULL;
    assert_int_equal(ask_port(port, pid, &msg, 5000, &reply), SLUICE_OK);
    sluice_msg_destroy(&reply);
    sl_port_close(&port);
}

static void init_that_fails_fails_the_spawn_with_its_cause(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.fail_init_with = SLUICE_IO};
    sluice_spec spec = {.behaviour = &echo_behaviour, .arg = &echo, .placement = SLUICE_PLACE_PINNED, .name = "x"};
    sluice_pid pid = 1;
    assert_int_equal(sluice_spawn(self->runtime, &spec, &pid, &self->cause), SLUICE_IO);
    assert_int_equal(pid, 0);
    assert_string_equal(self->cause.text, "as told");
    assert_int_equal(echo.stopped, 0); /* it never lived */
    assert_int_equal(sluice_whereis(self->runtime, "x"), 0);
}

static void a_name_is_taken_once_and_free_after_the_end(void **state) {
    fixture *self = *state;
    static echo_actor a = {0}, b = {0};
    sluice_pid pid = spawn_echo(self, &a, SLUICE_PLACE_SHARED, "one");
    sluice_spec spec = {.behaviour = &echo_behaviour, .arg = &b, .name = "one"};
    sluice_pid other;
    assert_int_equal(sluice_spawn(self->runtime, &spec, &other, &self->cause), SLUICE_EXISTS);
    assert_int_equal(sluice_whereis(self->runtime, "one"), pid);
    sluice_stop(self->runtime, pid);
    assert_int_equal(sluice_whereis(self->runtime, "one"), 0);
    spawn_echo(self, &b, SLUICE_PLACE_SHARED, "one");
    spec.name = "";
    assert_int_equal(sluice_spawn(self->runtime, &spec, &other, &self->cause), SLUICE_INVALID);
    spec.name = "a-name-of-sixty-four-bytes-is-one-byte-longer-than-a-name-may-be.";
    assert_int_equal(sluice_spawn(self->runtime, &spec, &other, &self->cause), SLUICE_INVALID);
}

static void a_pool_name_finds_the_least_loaded_member(void **state) {
    fixture *self = *state;
    static echo_actor busy = {.hold = true}, idle = {0};
    sluice_spec spec = {.behaviour = &echo_behaviour, .arg = &busy, .name = "pool", .pool = true,
                        .placement = SLUICE_PLACE_PINNED};
    sluice_pid a, b;
    assert_ok(sluice_spawn(self->runtime, &spec, &a, &self->cause), self->cause);
    spec.arg = &idle;
    assert_ok(sluice_spawn(self->runtime, &spec, &b, &self->cause), self->cause);
    for (int i = 0; i < 3; i++) {
        sluice_msg *msg = hello(1);
        assert_int_equal(sluice_post(self->runtime, a, &msg), SLUICE_OK);
    }
    for (int i = 0; i < 4; i++) assert_int_equal(sluice_whereis(self->runtime, "pool"), b);
    busy.hold = false;
}

static void a_full_mailbox_refuses_at_once_and_counts(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.hold = true};
    sluice_spec spec = {.behaviour = &echo_behaviour, .arg = &echo, .placement = SLUICE_PLACE_PINNED,
                        .mailbox_messages = 10};
    sluice_pid pid;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    int taken = 0;
    sluice_err err = SLUICE_OK;
    for (int i = 0; i < 100; i++) {
        sluice_msg *msg = hello(1);
        err = sluice_post(self->runtime, pid, &msg);
        if (err == SLUICE_OK) {
            taken++;
        } else {
            assert_int_equal(err, SLUICE_OVERLOADED);
            assert_non_null(msg); /* still the caller's */
            sluice_msg_destroy(&msg);
        }
    }
    assert_int_equal(err, SLUICE_OVERLOADED);
    assert_in_range(taken, 10, 11); /* one may already be in receive */
    echo.hold = false;
    sluice_stop(self->runtime, pid);
    sluice_runtime_stats stats;
    sluice_runtime_stats_read(self->runtime, &stats);
    assert_int_equal(stats.overloads, 100 - taken);
}

static bool received_all(void *context) {
    echo_actor *state = context;
    return state->received == 2000;
}

static void *poster(void *arg) {
    void **args = arg;
    for (uint64_t i = 0; i < 2000; i++) {
        sluice_msg *msg = hello(i);
        while (sluice_post(args[0], (sluice_pid)(uintptr_t)args[1], &msg) == SLUICE_OVERLOADED) sched_yield();
    }
    return NULL;
}

static void order_between_a_pair_is_kept(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid pid = spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
    void *args[] = {self->runtime, (void *)(uintptr_t)pid};
    pthread_t thread;
    pthread_create(&thread, NULL, poster, args);
    pthread_join(thread, NULL);
    support_await(received_all, &echo, 20000);
    assert_false(echo.out_of_order);
}

static void expired_work_is_never_delivered(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.hold = true};
    sluice_pid pid = spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    sluice_msg *first = hello(1), *msg = hello(2), *reply = NULL;
    assert_int_equal(sluice_post(self->runtime, pid, &first), SLUICE_OK);
    while (echo.received == 0) sched_yield();
    assert_int_equal(ask_port(port, pid, &msg, 20, &reply), SLUICE_TIMEOUT);
    echo.hold = false;
    /* The actor now comes to a request whose deadline has passed: it is answered, not delivered. */
    assert_int_equal(sl_port_recv(port, sl_now_ns() + 5000000000, &reply), SLUICE_OK);
    sluice_cause cause;
    assert_int_equal(sl_msg_cause(reply, &cause), SLUICE_EXPIRED);
    assert_int_equal(echo.received, 1);
    sluice_msg_destroy(&reply);
    sl_port_close(&port);
}

static void the_failing_message_is_answered_and_the_rest_too(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.hold = true};
    sluice_pid pid = spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    for (uint64_t i = 0; i < 3; i++) {
        sluice_msg *msg = hello(i == 0 ? FAIL : i);
        msg->flags = SL_MSG_ASK;
        msg->correlation = i;
        assert_int_equal(sl_port_send(port, pid, &msg), SLUICE_OK);
    }
    sl_port_flush(port);
    echo.hold = false;
    for (int i = 0; i < 3; i++) {
        sluice_msg *reply = NULL;
        sluice_cause cause;
        assert_int_equal(sl_port_recv(port, sl_now_ns() + 5000000000, &reply), SLUICE_OK);
        assert_true((reply->flags & SL_MSG_ERROR) != 0);
        sluice_err err = sl_msg_cause(reply, &cause);
        /* What had not arrived when the actor failed finds nobody. */
        assert_true(err == SLUICE_ACTOR_DOWN || (i > 0 && err == SLUICE_NO_ACTOR));
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(echo.why, SLUICE_FAILED);
    sl_port_close(&port);
}

static void an_ask_to_nobody_fails_at_once(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid pid = spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
    sluice_stop(self->runtime, pid);
    sluice_stop(self->runtime, pid); /* twice is fine */
    sluice_msg *msg = hello(1);
    assert_int_equal(sluice_post(self->runtime, pid, &msg), SLUICE_NO_ACTOR);
    assert_int_equal(sluice_post(self->runtime, 0, &msg), SLUICE_NO_ACTOR);
    assert_int_equal(sluice_post(self->runtime, UINT64_MAX, &msg), SLUICE_NO_ACTOR);
    sluice_msg_destroy(&msg);
}

/* ---- an actor that drives others ---- */

typedef struct driver_actor {
    sluice_pid target;
    atomic_int replies, errors, timeouts, downs, ticks;
    _Atomic sluice_err last_err, down_why;
    unsigned n, timeout_ms;
    uint64_t number;
    sluice_timer timer;
} driver_actor;

static void driver_reply(sluice_actor *self, void *context, sluice_err err, sluice_msg **reply, const sluice_cause *cause) {
    driver_actor *state = context;
    SL_REQUIRE(state == sluice_actor_state(self));
    state->last_err = err;
    if (err == SLUICE_OK) {
        SL_REQUIRE(*reply != NULL);
        state->replies++;
    } else if (err == SLUICE_TIMEOUT) {
        state->timeouts++;
    } else {
        SL_REQUIRE(cause->code == err);
        state->errors++;
    }
}

static void driver_tick(sluice_actor *self, void *context) {
    driver_actor *state = context;
    if (++state->ticks == 3) sluice_timer_cancel(self, &state->timer);
}

static sluice_err driver_receive(sluice_actor *self, sluice_msg **msg) {
    driver_actor *state = sluice_actor_state(self);
    switch (number_of(*msg)) {
    case 0:
        for (unsigned i = 0; i < state->n; i++) {
            sluice_msg *ask = hello(state->number);
            sluice_err err = sluice_ask(self, state->target, &ask, state->timeout_ms, driver_reply, state);
            if (err != SLUICE_OK) {
                state->last_err = err;
                state->errors++;
                sluice_msg_destroy(&ask);
            }
        }
        return SLUICE_OK;
    case 1: return sluice_monitor(self, state->target);
    case 2: return sluice_timer_start(self, 1, 1, driver_tick, state, &state->timer);
    default: return SLUICE_OK;
    }
}

static void driver_down(sluice_actor *self, sluice_pid who, sluice_err why) {
    driver_actor *state = sluice_actor_state(self);
    SL_REQUIRE(who == state->target);
    state->down_why = why;
    state->downs++;
}

static const sluice_behaviour driver_behaviour = {
    .kind = "driver", .receive = driver_receive, .down = driver_down};

static sluice_pid spawn_driver(fixture *self, driver_actor *state, sluice_placement placement, sluice_pid near) {
    sluice_spec spec = {.behaviour = &driver_behaviour, .arg = state, .placement = placement, .near = near};
    sluice_pid pid = 0;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    return pid;
}

static void tell(fixture *self, sluice_pid pid, uint64_t number) {
    sluice_msg *msg = hello(number);
    assert_int_equal(sluice_post(self->runtime, pid, &msg), SLUICE_OK);
}

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
        sluice_pid target = spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
        driver_actor driver = {.target = target, .n = 500, .timeout_ms = 10000, .number = 5};
        sluice_pid pid = spawn_driver(self, &driver, near ? SLUICE_PLACE_NEAR : SLUICE_PLACE_PINNED, target);
        tell(self, pid, 0);
        support_await(all_settled, &driver, 10000);
        assert_int_equal(driver.replies, 500);
        sluice_stop(self->runtime, pid);
        sluice_stop(self->runtime, target);
    }
}

static void an_ask_that_is_not_answered_times_out(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid target = spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
    static driver_actor driver;
    driver = (driver_actor){.target = target, .n = 10, .timeout_ms = 30, .number = SILENT};
    sluice_pid pid = spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    tell(self, pid, 0);
    support_await(all_settled, &driver, 10000);
    assert_int_equal(driver.timeouts, 10);
}

static void an_asker_hears_that_the_actor_failed(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid target = spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    static driver_actor driver;
    driver = (driver_actor){.target = target, .n = 1, .timeout_ms = 10000, .number = FAIL};
    sluice_pid pid = spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    tell(self, pid, 0);
    support_await(all_settled, &driver, 10000);
    assert_int_equal(driver.last_err, SLUICE_ACTOR_DOWN);
}

static void down_comes_once_whether_before_or_after_the_end(void **state) {
    fixture *self = *state;
    for (int after = 0; after < 2; after++) {
        for (int failing = 0; failing < 2; failing++) {
            echo_actor echo = {0};
            sluice_pid target = spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
            driver_actor driver = {.target = target};
            sluice_pid pid = spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
            if (after) {
                sluice_stop(self->runtime, target);
                tell(self, pid, 1);
            } else {
                tell(self, pid, 1);
                sl_port *port = NULL; /* a round trip through the driver's dispatcher orders monitor before the end */
                assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
                tell(self, pid, 9);
                while (sl_mailbox_depth(self->runtime, pid) > 0) sched_yield();
                sl_port_close(&port);
                if (failing)
                    tell(self, target, FAIL);
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
    sluice_pid pid = spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    tell(self, pid, 2);
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
    sluice_child child = {.spec = {.behaviour = &echo_behaviour, .arg = &echo, .placement = SLUICE_PLACE_PINNED}};
    sluice_supervisor_options options;
    sluice_supervisor_options_init(&options);
    options.backoff_min_ms = 1;
    sluice_pid supervisor, pid;
    assert_ok(sluice_supervisor_spawn(self->runtime, &options, &child, 1, &supervisor, &pid, &self->cause), self->cause);
    tell(self, pid, FAIL);
    tell(self, pid, 1);
    tell(self, pid, FAIL);
    tell(self, pid, 2);
    echo.hold = false;
    support_await(restarted_twice, &echo, 10000);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    sluice_msg *msg = hello(3), *reply = NULL;
    assert_int_equal(ask_port(port, pid, &msg, 5000, &reply), SLUICE_OK); /* same pid */
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
    sluice_child children[] = {{.spec = {.behaviour = &echo_behaviour, .arg = &a}},
                               {.spec = {.behaviour = &echo_behaviour, .arg = &b}}};
    sluice_supervisor_options options;
    sluice_supervisor_options_init(&options);
    options.max_restarts = 2;
    options.within_ms = 60000;
    options.backoff_min_ms = 1;
    sluice_pid supervisor, pids[2];
    assert_ok(sluice_supervisor_spawn(self->runtime, &options, children, 2, &supervisor, pids, &self->cause), self->cause);
    static driver_actor driver;
    driver = (driver_actor){.target = supervisor};
    sluice_pid watcher = spawn_driver(self, &driver, SLUICE_PLACE_SHARED, 0);
    tell(self, watcher, 1);
    for (int i = 0; i < 3; i++) tell(self, pids[0], FAIL);
    support_await(one_down, &driver, 10000);
    assert_int_equal(driver.down_why, SLUICE_FAILED);
    support_await(stopped, &b, 10000); /* the healthy sibling was stopped too */
    assert_int_equal(a.inits, 3);
}

static void a_child_stopped_from_outside_is_not_restarted(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_child child = {.spec = {.behaviour = &echo_behaviour, .arg = &echo}};
    sluice_pid supervisor, pid;
    assert_ok(sluice_supervisor_spawn(self->runtime, NULL, &child, 1, &supervisor, &pid, &self->cause), self->cause);
    sluice_stop(self->runtime, pid);
    sluice_stop(self->runtime, supervisor);
    assert_int_equal(echo.inits, 1);
}

static void a_permanent_child_that_stops_itself_restarts(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_child child = {.spec = {.behaviour = &echo_behaviour, .arg = &echo}, .restart = SLUICE_PERMANENT};
    sluice_supervisor_options options;
    sluice_supervisor_options_init(&options);
    options.backoff_min_ms = 1;
    sluice_pid supervisor, pid;
    assert_ok(sluice_supervisor_spawn(self->runtime, &options, &child, 1, &supervisor, &pid, &self->cause), self->cause);
    tell(self, pid, STOP_SELF);
    tell(self, pid, STOP_SELF);
    support_await(restarted_twice, &echo, 10000);
}

/* ---- the end ---- */

static void destroy_answers_what_waits_and_a_port_outlives_the_runtime(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.hold = true};
    sluice_pid pid = spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    for (uint64_t i = 0; i < 10; i++) {
        sluice_msg *msg = hello(i);
        msg->flags = SL_MSG_ASK;
        assert_int_equal(sl_port_send(port, pid, &msg), SLUICE_OK);
    }
    sl_port_flush(port);
    while (echo.received == 0) sched_yield();
    echo.hold = false;
    sluice_runtime_destroy(&self->runtime);
    int answers = 0;
    sluice_msg *reply = NULL;
    sluice_err err;
    while ((err = sl_port_recv(port, sl_now_ns() + 5000000000, &reply)) == SLUICE_OK) {
        answers++;
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(err, SLUICE_CLOSED);
    assert_int_equal(answers, 10);
    sl_port_close(&port);
}

static atomic_int dead;
static void count_dead(void *context, const sluice_msg *msg, sluice_pid to) {
    (void)context, (void)to;
    SL_REQUIRE(sluice_msg_type_name(msg) != NULL);
    dead++;
}

static void what_nobody_takes_is_a_dead_letter(void **state) {
    fixture *self = *state;
    dead = 0;
    sluice_runtime_watch_dead_letters(self->runtime, count_dead, NULL);
    static echo_actor echo = {.hold = true};
    sluice_pid pid = spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    tell(self, pid, FAIL);
    while (echo.received == 0) sched_yield();
    for (int i = 0; i < 5; i++) tell(self, pid, 1);
    echo.hold = false;
    sluice_runtime_destroy(&self->runtime);
    assert_int_equal(dead, 5);
}

static void *storm(void *arg) {
    fixture *self = arg;
    for (unsigned i = 0; i < support_scaled(500); i++) {
        echo_actor echo = {0};
        sluice_spec spec = {.behaviour = &echo_behaviour, .arg = &echo,
                            .placement = i % 4 == 0 ? SLUICE_PLACE_PINNED : SLUICE_PLACE_SHARED};
        sluice_pid pid = 0;
        sluice_cause cause;
        if (sluice_spawn(self->runtime, &spec, &pid, &cause) != SLUICE_OK) abort();
        sluice_msg *msg = hello(1);
        if (sluice_post(self->runtime, pid, &msg) != SLUICE_OK) abort();
        sluice_stop(self->runtime, pid);
        if (echo.stopped != 1 || echo.inits != 1) abort();
    }
    return NULL;
}

static void spawn_and_stop_storms_leave_nothing_behind(void **state) {
    fixture *self = *state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, storm, self);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    sluice_runtime_stats stats;
    sluice_runtime_stats_read(self->runtime, &stats);
    assert_int_equal(stats.actors, 0);
    assert_int_equal(stats.spawned, 4 * support_scaled(500));
}

typedef struct asking {
    fixture *self;
    sluice_pid pid;
    unsigned n;
    atomic_int wrong;
} asking;

static void *ask_many(void *arg) {
    asking *job = arg;
    sl_port *port = NULL;
    sluice_cause cause;
    if (sl_port_open(job->self->runtime, &port, &cause) != SLUICE_OK) abort();
    for (uint64_t i = 0; i < job->n; i++) {
        sluice_msg *msg = hello(i), *reply = NULL;
        if (ask_port(port, job->pid, &msg, 20000, &reply) != SLUICE_OK || number_of(reply) != i + 1) job->wrong++;
        sluice_msg_destroy(&msg);
        sluice_msg_destroy(&reply);
    }
    sl_port_close(&port);
    return NULL;
}

static void many_ports_ask_one_actor(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    asking job = {.self = self, .pid = spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL), .n = support_scaled(2000)};
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) pthread_create(&threads[i], NULL, ask_many, &job);
    for (int i = 0; i < 16; i++) pthread_join(threads[i], NULL);
    assert_int_equal(job.wrong, 0);
    assert_int_equal(echo.received, 16 * job.n);
}

#define runtime_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runtime_starts_and_stops_a_thousand_times),
        cmocka_unit_test(runtime_refuses_options_out_of_range),
        runtime_test(actor_answers_an_ask),
        runtime_test(actor_may_take_its_message),
        runtime_test(init_that_fails_fails_the_spawn_with_its_cause),
        runtime_test(a_name_is_taken_once_and_free_after_the_end),
        runtime_test(a_pool_name_finds_the_least_loaded_member),
        runtime_test(a_full_mailbox_refuses_at_once_and_counts),
        runtime_test(order_between_a_pair_is_kept),
        runtime_test(expired_work_is_never_delivered),
        runtime_test(the_failing_message_is_answered_and_the_rest_too),
        runtime_test(an_ask_to_nobody_fails_at_once),
        runtime_test(every_ask_between_actors_ends_once),
        runtime_test(an_ask_that_is_not_answered_times_out),
        runtime_test(an_asker_hears_that_the_actor_failed),
        runtime_test(down_comes_once_whether_before_or_after_the_end),
        runtime_test(periodic_timers_tick_until_cancelled),
        runtime_test(a_failed_child_restarts_in_place_with_its_mailbox),
        runtime_test(too_many_failures_escalate),
        runtime_test(a_child_stopped_from_outside_is_not_restarted),
        runtime_test(a_permanent_child_that_stops_itself_restarts),
        runtime_test(destroy_answers_what_waits_and_a_port_outlives_the_runtime),
        runtime_test(what_nobody_takes_is_a_dead_letter),
        runtime_test(spawn_and_stop_storms_leave_nothing_behind),
        runtime_test(many_ports_ask_one_actor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
