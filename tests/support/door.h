/* SPDX-License-Identifier: MIT */
/* A gateway with a few actors behind it, for tests that stand before the door.
 *
 *   "echo"         Hello -> Greeting with the same text and number; Hello "fail" -> CONSTRAINT; Hello "die" -> fails
 *   "holder"       keeps every ask until told (a tell of Hello "release"), then answers all
 *   "app/writer"   WriteRequest -> WriteReply; a statement "hold" is kept; Goodbye -> GoodbyeReply
 *   "app/readers"  QueryRequest -> QueryReply; a statement "hold" is kept
 *
 * Threads: the test's own; what actors count is atomic.
 */
#ifndef DOOR_H
#define DOOR_H

#include <stdatomic.h>

#include "support/stranger.h"

#define DOOR_LIMIT 65536u /* max_message_bytes */

typedef struct door {
    sluice_runtime *runtime;
    sluice_gateway *gateway;
    void *zmq; /* the strangers' context */
    char *directory;
    const char *tcp, *ipc;
    atomic_uint received;       /* by echo, holder, writer and readers, together */
    sluice_pid holder, echo;
    sluice_cause cause;
} door;

/* Options of a door's gateway: allow_plain, limit DOOR_LIMIT, handshake_ms 300. */
sluice_gateway_options door_options(void);
/* Opens runtime, actors, gateway (options NULL: door_options) and listens on tcp and ipc. */
door *door_open(const sluice_gateway_options *options);
void door_close(door **door);
/* Makes a door the test's state, for cmocka_unit_test_setup_teardown. */
int door_set_up(void **state);
int door_tear_down(void **state);

sluice_gateway_stats door_stats(const door *self);
/* Waits until an actor has received n messages in all. */
void door_await_received(door *self, unsigned n);
/* Asks "echo" as this dealer and checks the greeting: a good client is served. */
void door_greet(void *dealer, uint64_t correlation);
/* A WriteRequest or QueryRequest of one statement. */
void door_ask_write(void *dealer, const char *to, const char *sql, uint64_t correlation);
void door_ask_query(void *dealer, const char *to, const char *sql, uint64_t correlation);
/* Waits until condition holds; evaluated again and again, for at most 5 s. */
#define door_await(condition)                                                                                          \
    do {                                                                                                               \
        bool held_ = false;                                                                                            \
        for (int i_ = 0; i_ < 5000 && !held_; i_++) {                                                                  \
            held_ = (condition);                                                                                       \
            if (!held_) door_pause_1ms();                                                                              \
        }                                                                                                              \
        if (!held_) fail_msg("waited in vain for %s", #condition);                                                     \
    } while (0)
void door_pause_1ms(void);

#endif
