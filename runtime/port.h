/* SPDX-License-Identifier: MIT */
/* A port: the mailbox of a thread that is not a dispatcher, so that it can ask actors and get replies directly.
 *
 * A port has a pid; actors answer to it as to any actor. Sends are gathered until flush (or recv) and leave as one
 * ZeroMQ message per dispatcher. Its mailbox is bounded by what its owner asks: one reply per ask.
 * Threads: one at a time; hand-over with a barrier.
 */
#ifndef SL_PORT_H
#define SL_PORT_H

#include <sluice/runtime.h>

typedef struct sl_port sl_port;

/* Gives: *out. Errors: CLOSED, NOMEM, SYSTEM (no socket). Threads: any but a dispatcher's. */
SLUICE_NODISCARD sluice_err sl_port_open(sluice_runtime *runtime, sl_port **out, sluice_cause *cause);
/* Frees it with what waits in it. Replies that come later are dead letters. NULL-safe. */
void sl_port_close(sl_port **port);
sluice_pid sl_port_pid(const sl_port *port);
sluice_runtime *sl_port_runtime(const sl_port *port);

/* Queues a message for `to`, with the flags, correlation, deadline and identity already set in it; sets from and to.
 * Takes: msg (on success). Errors: NO_ACTOR, OVERLOADED, CLOSED. */
SLUICE_NODISCARD sluice_err sl_port_send(sl_port *port, sluice_pid to, sluice_msg **msg);
/* Lets what was queued go. */
void sl_port_flush(sl_port *port);
/* Flushes, then takes the next message, waiting until deadline_ns (monotonic; 0: do not wait; INT64_MAX: for ever).
 * Gives: *out. Errors: TIMEOUT, CLOSED (the runtime is going down: nothing will come). */
SLUICE_NODISCARD sluice_err sl_port_recv(sl_port *port, int64_t deadline_ns, sluice_msg **out);
/* ZeroMQ's edge-triggered descriptor: readable means "call recv with 0 until TIMEOUT". */
int sl_port_fd(const sl_port *port);

/* Monotonic nanoseconds (CLOCK_MONOTONIC). */
int64_t sl_now_ns(void);

#endif
