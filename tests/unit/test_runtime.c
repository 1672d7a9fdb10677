/* SPDX-License-Identifier: MIT */
/* The runtime's promises about actors from outside: delivery, order, bounds, deadlines, names, start and end. */
#include "support/actors_kit.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "actor_internal.h"
#include "require.h"

static void runtime_starts_and_stops_a_thousand_times(void **unused) {
    (void)unused;
    for (unsigned i = 0; i < support_scaled(1000); i++) {
        sluice_runtime *runtime = NULL;
        sluice_cause cause;
        assert_ok(sluice_runtime_new(NULL, &runtime, &cause), cause);
        sluice_runtime_destroy(&runtime);
        sluice_runtime_destroy(&runtime);
    }
    sluice_runtime_destroy(NULL);
    sluice_store_close(NULL);
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
        sluice_pid pid = actors_spawn_echo(self, &echo, (sluice_placement)placement, NULL);
        sl_port *port = NULL;
        assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
        for (uint64_t i = 0; i < 100; i++) {
            sluice_msg *msg = actors_hello(i), *reply = NULL;
            assert_int_equal(actors_ask(port, pid, &msg, 5000, &reply), SLUICE_OK);
            assert_int_equal(actors_number(reply), i + 1);
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
    sluice_pid pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    sluice_msg *msg = actors_hello(TAKE), *reply = NULL;
    assert_int_equal(actors_ask(port, pid, &msg, 5000, &reply), SLUICE_OK);
    sluice_msg_destroy(&reply);
    sl_port_close(&port);
}

static void init_that_fails_fails_the_spawn_with_its_cause(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.fail_init_with = SLUICE_IO};
    sluice_spec spec = {.behaviour = &actors_echo, .arg = &echo, .placement = SLUICE_PLACE_PINNED, .name = "x"};
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
    sluice_pid pid = actors_spawn_echo(self, &a, SLUICE_PLACE_SHARED, "one");
    sluice_spec spec = {.behaviour = &actors_echo, .arg = &b, .name = "one"};
    sluice_pid other;
    assert_int_equal(sluice_spawn(self->runtime, &spec, &other, &self->cause), SLUICE_EXISTS);
    assert_int_equal(sluice_whereis(self->runtime, "one"), pid);
    sluice_stop(self->runtime, pid);
    assert_int_equal(sluice_whereis(self->runtime, "one"), 0);
    actors_spawn_echo(self, &b, SLUICE_PLACE_SHARED, "one");
    spec.name = "";
    assert_int_equal(sluice_spawn(self->runtime, &spec, &other, &self->cause), SLUICE_INVALID);
    spec.name = "a-name-of-sixty-four-bytes-is-one-byte-longer-than-a-name-may-be.";
    assert_int_equal(sluice_spawn(self->runtime, &spec, &other, &self->cause), SLUICE_INVALID);
}

static void a_pool_name_finds_the_least_loaded_member(void **state) {
    fixture *self = *state;
    static echo_actor busy = {.hold = true}, idle = {0};
    sluice_spec spec = {.behaviour = &actors_echo, .arg = &busy, .name = "pool", .pool = true,
                        .placement = SLUICE_PLACE_PINNED};
    sluice_pid a, b;
    assert_ok(sluice_spawn(self->runtime, &spec, &a, &self->cause), self->cause);
    spec.arg = &idle;
    assert_ok(sluice_spawn(self->runtime, &spec, &b, &self->cause), self->cause);
    for (int i = 0; i < 3; i++) {
        sluice_msg *msg = actors_hello(1);
        assert_int_equal(sluice_post(self->runtime, a, &msg), SLUICE_OK);
    }
    for (int i = 0; i < 4; i++) assert_int_equal(sluice_whereis(self->runtime, "pool"), b);
    busy.hold = false;
}

static void a_full_mailbox_refuses_at_once_and_counts(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.hold = true};
    sluice_spec spec = {.behaviour = &actors_echo, .arg = &echo, .placement = SLUICE_PLACE_PINNED,
                        .mailbox_messages = 10};
    sluice_pid pid;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    int taken = 0;
    sluice_err err = SLUICE_OK;
    for (int i = 0; i < 100; i++) {
        sluice_msg *msg = actors_hello(1);
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
        sluice_msg *msg = actors_hello(i);
        while (sluice_post(args[0], (sluice_pid)(uintptr_t)args[1], &msg) == SLUICE_OVERLOADED) sched_yield();
    }
    return NULL;
}

static void order_between_a_pair_is_kept(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    sluice_pid pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
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
    sluice_pid pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    sluice_msg *first = actors_hello(1), *msg = actors_hello(2), *reply = NULL;
    assert_int_equal(sluice_post(self->runtime, pid, &first), SLUICE_OK);
    while (echo.received == 0) sched_yield();
    assert_int_equal(actors_ask(port, pid, &msg, 20, &reply), SLUICE_TIMEOUT);
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
    sluice_pid pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    for (uint64_t i = 0; i < 3; i++) {
        sluice_msg *msg = actors_hello(i == 0 ? FAIL : i);
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
    sluice_pid pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_SHARED, NULL);
    sluice_stop(self->runtime, pid);
    sluice_stop(self->runtime, pid); /* twice is fine */
    sluice_msg *msg = actors_hello(1);
    assert_int_equal(sluice_post(self->runtime, pid, &msg), SLUICE_NO_ACTOR);
    assert_int_equal(sluice_post(self->runtime, 0, &msg), SLUICE_NO_ACTOR);
    assert_int_equal(sluice_post(self->runtime, UINT64_MAX, &msg), SLUICE_NO_ACTOR);
    sluice_msg_destroy(&msg);
}

/* ---- the end ---- */

static void destroy_answers_what_waits_and_a_port_outlives_the_runtime(void **state) {
    fixture *self = *state;
    static echo_actor echo = {.hold = true};
    sluice_pid pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    sl_port *port = NULL;
    assert_ok(sl_port_open(self->runtime, &port, &self->cause), self->cause);
    for (uint64_t i = 0; i < 10; i++) {
        sluice_msg *msg = actors_hello(i);
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
    sluice_pid pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL);
    actors_tell(self, pid, FAIL);
    while (echo.received == 0) sched_yield();
    for (int i = 0; i < 5; i++) actors_tell(self, pid, 1);
    echo.hold = false;
    sluice_runtime_destroy(&self->runtime);
    assert_int_equal(dead, 5);
}

static void *storm(void *arg) {
    fixture *self = arg;
    for (unsigned i = 0; i < support_scaled(500); i++) {
        echo_actor echo = {0};
        sluice_spec spec = {.behaviour = &actors_echo, .arg = &echo,
                            .placement = i % 4 == 0 ? SLUICE_PLACE_PINNED : SLUICE_PLACE_SHARED};
        sluice_pid pid = 0;
        sluice_cause cause;
        if (sluice_spawn(self->runtime, &spec, &pid, &cause) != SLUICE_OK) abort();
        sluice_msg *msg = actors_hello(1);
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
        sluice_msg *msg = actors_hello(i), *reply = NULL;
        if (actors_ask(port, job->pid, &msg, 20000, &reply) != SLUICE_OK || actors_number(reply) != i + 1) job->wrong++;
        sluice_msg_destroy(&msg);
        sluice_msg_destroy(&reply);
    }
    sl_port_close(&port);
    return NULL;
}

static void many_ports_ask_one_actor(void **state) {
    fixture *self = *state;
    static echo_actor echo = {0};
    asking job = {.self = self, .pid = actors_spawn_echo(self, &echo, SLUICE_PLACE_PINNED, NULL), .n = support_scaled(2000)};
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) pthread_create(&threads[i], NULL, ask_many, &job);
    for (int i = 0; i < 16; i++) pthread_join(threads[i], NULL);
    assert_int_equal(job.wrong, 0);
    assert_int_equal(echo.received, 16 * job.n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runtime_starts_and_stops_a_thousand_times),
        cmocka_unit_test(runtime_refuses_options_out_of_range),
        actors_test(actor_answers_an_ask),
        actors_test(actor_may_take_its_message),
        actors_test(init_that_fails_fails_the_spawn_with_its_cause),
        actors_test(a_name_is_taken_once_and_free_after_the_end),
        actors_test(a_pool_name_finds_the_least_loaded_member),
        actors_test(a_full_mailbox_refuses_at_once_and_counts),
        actors_test(order_between_a_pair_is_kept),
        actors_test(expired_work_is_never_delivered),
        actors_test(the_failing_message_is_answered_and_the_rest_too),
        actors_test(an_ask_to_nobody_fails_at_once),
        actors_test(destroy_answers_what_waits_and_a_port_outlives_the_runtime),
        actors_test(what_nobody_takes_is_a_dead_letter),
        actors_test(spawn_and_stop_storms_leave_nothing_behind),
        actors_test(many_ports_ask_one_actor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
