/* SPDX-License-Identifier: MIT */
/* Two actors for tests of the runtime; see actors_kit.h. */
#include "support/actors_kit.h"

#include <sched.h>
#include <stdlib.h>
#include "actor_internal.h"
#include "require.h"

int actors_setup(void **state) {
    fixture *self = calloc(1, sizeof *self);
    sluice_runtime_options options;
    sluice_runtime_options_init(&options);
    options.n_shared = 2;
    assert_ok(sluice_runtime_new(&options, &self->runtime, &self->cause), self->cause);
    *state = self;
    return 0;
}

int actors_teardown(void **state) {
    fixture *self = *state;
    sluice_runtime_destroy(&self->runtime);
    assert_null(self->runtime);
    free(self);
    return 0;
}

sluice_msg *actors_hello(uint64_t number) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&demo__v1__hello__descriptor, &msg), SLUICE_OK);
    ((Demo__V1__Hello *)sluice_msg_body(msg))->number = number;
    return msg;
}

uint64_t actors_number(const sluice_msg *msg) { return ((Demo__V1__Hello *)sluice_msg_body(msg))->number; }

sluice_err actors_ask(sl_port *port, sluice_pid to, sluice_msg **msg, unsigned timeout_ms, sluice_msg **reply) {
    (*msg)->flags = SL_MSG_ASK;
    (*msg)->correlation = 7;
    (*msg)->deadline_ns = sl_now_ns() + (int64_t)timeout_ms * 1000000;
    int64_t deadline = (*msg)->deadline_ns;
    sluice_err err = sl_port_send(port, to, msg);
    return err != SLUICE_OK ? err : sl_port_recv(port, deadline, reply);
}

/* ---- an actor that echoes, and can be told to do other things ---- */

static sluice_err echo_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    echo_actor *state = arg;
    sluice_actor_set_state(self, state);
    state->inits++;
    if (state->fail_init_with != SLUICE_OK) return sluice_cause_set(cause, state->fail_init_with, "as told");
    return SLUICE_OK;
}

static sluice_err echo_receive(sluice_actor *self, sluice_msg **msg) {
    echo_actor *state = sluice_actor_state(self);
    uint64_t number = actors_number(*msg);
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
        sluice_msg *reply = actors_hello(number);
        sluice_reply(self, taken, &reply);
        sluice_msg_destroy(&taken);
        return SLUICE_OK;
    }
    sluice_msg *reply = actors_hello(number + 1);
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

const sluice_behaviour actors_echo = {
    .kind = "echo", .init = echo_init, .receive = echo_receive, .drained = echo_drained, .stop = echo_stop};

sluice_pid actors_spawn_echo(fixture *self, echo_actor *state, sluice_placement placement, const char *name) {
    sluice_spec spec = {.behaviour = &actors_echo, .arg = state, .placement = placement, .name = name};
    sluice_pid pid = 0;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    assert_true(pid != 0);
    return pid;
}

/* ---- an actor that drives others ---- */

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
    switch (actors_number(*msg)) {
    case 0:
        for (unsigned i = 0; i < state->n; i++) {
            sluice_msg *ask = actors_hello(state->number);
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

const sluice_behaviour actors_driver = {
    .kind = "driver", .receive = driver_receive, .down = driver_down};

sluice_pid actors_spawn_driver(fixture *self, driver_actor *state, sluice_placement placement, sluice_pid near) {
    sluice_spec spec = {.behaviour = &actors_driver, .arg = state, .placement = placement, .near = near};
    sluice_pid pid = 0;
    assert_ok(sluice_spawn(self->runtime, &spec, &pid, &self->cause), self->cause);
    return pid;
}

void actors_tell(fixture *self, sluice_pid pid, uint64_t number) {
    sluice_msg *msg = actors_hello(number);
    assert_int_equal(sluice_post(self->runtime, pid, &msg), SLUICE_OK);
}
