/* SPDX-License-Identifier: MIT */
/* For tests of the runtime: a fixture, an actor that answers and can be told to misbehave, one that drives others.
 *
 * The number in a Hello says what the echo does: a number below FAIL is answered with the next one.
 */
#ifndef ACTORS_KIT_H
#define ACTORS_KIT_H

#include "support/support.h"

#include <stdatomic.h>
#include "port.h"
#include "support/demo.pb-c.h"

/* One runtime with two shared dispatchers; the teardown destroys it, so that every test ends quiet. */
typedef struct fixture {
    sluice_runtime *runtime;
    sluice_cause cause;
} fixture;
int actors_setup(void **state);
int actors_teardown(void **state);
#define actors_test(name) cmocka_unit_test_setup_teardown(name, actors_setup, actors_teardown)

/* A Hello, and its number. */
sluice_msg *actors_hello(uint64_t number);
uint64_t actors_number(const sluice_msg *msg);
/* Asks by a port and waits. Takes: msg (on success). Gives: *reply. */
sluice_err actors_ask(sl_port *port, sluice_pid to, sluice_msg **msg, unsigned timeout_ms, sluice_msg **reply);
/* Posts a Hello. */
void actors_tell(fixture *self, sluice_pid pid, uint64_t number);

typedef struct echo_actor {
    atomic_int received, drained, stopped, inits, downs;
    _Atomic sluice_err why;
    sluice_err fail_init_with;
    atomic_bool hold; /* receive blocks while set */
    uint64_t last;
    bool out_of_order;
} echo_actor;

enum {
    FAIL = 1000000, /* receive returns FAILED */
    STOP_SELF,      /* it stops after this message */
    SILENT,         /* it does not answer */
    TAKE,           /* it takes the message and answers from it */
};

extern const sluice_behaviour actors_echo;
sluice_pid actors_spawn_echo(fixture *self, echo_actor *state, sluice_placement placement, const char *name);

/* Told 0 it asks its target n times, 1 it monitors it, 2 it starts a timer that it cancels at the third tick. */
typedef struct driver_actor {
    sluice_pid target;
    atomic_int replies, errors, timeouts, downs, ticks;
    _Atomic sluice_err last_err, down_why;
    unsigned n, timeout_ms;
    uint64_t number;
    sluice_timer timer;
} driver_actor;

extern const sluice_behaviour actors_driver;
sluice_pid actors_spawn_driver(fixture *self, driver_actor *state, sluice_placement placement, sluice_pid near);

#endif
