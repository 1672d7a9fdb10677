/* SPDX-License-Identifier: MIT */
/* An exchange: one thread's single ZeroMQ socket for messages to and from the runtime's other threads.
 *
 * It is a ROUTER bound to an inproc address of its own. To send to another exchange it connects to that one's address
 * under an alias of its own, once; so a thread costs one socket and one descriptor, however many it talks to. What is
 * queued for one exchange in a turn leaves as one ZeroMQ message that holds an array of message pointers. A batch that
 * ZeroMQ throws away (its receiver closed) frees its messages itself, so nothing leaks on any path.
 *
 * Threads: one at a time, but for the functions that say otherwise.
 */
#ifndef SL_EXCHANGE_H
#define SL_EXCHANGE_H

#include "msg.h"
#include <sluice/runtime.h>

typedef struct sl_batch sl_batch;

/* One way out. */
typedef struct sl_outlet {
    uint32_t generation; /* of the peer when it was connected; 0: never */
    bool dirty;
    sl_batch *pending;
} sl_outlet;

typedef struct sl_exchange {
    sluice_runtime *runtime;
    void *socket;
    uint32_t id, generation;
    sl_outlet *outlets; /* by exchange id */
    uint32_t n_outlets;
    uint32_t *dirty; /* ids with something pending */
    uint32_t n_dirty, dirty_capacity;
    int receive_timeout_ms; /* as set on the socket */
} sl_exchange;

/* Gives an open exchange in the caller's storage. Errors: NOMEM, SYSTEM. */
sluice_err sl_exchange_open(sluice_runtime *runtime, sl_exchange *out, sluice_cause *cause);
/* From now on nothing more is sent here, but for what another thread is sending at this moment; what has come can still be
 * received, and answered. May run twice. */
void sl_exchange_hide(sl_exchange *exchange);
/* Frees what is pending or waiting in it. May run twice. */
void sl_exchange_close(sl_exchange *exchange);

/* Queues a message for another exchange. Takes: msg (on success). Errors: NOMEM. */
sluice_err sl_exchange_queue(sl_exchange *exchange, uint32_t to, sluice_msg *msg);
/* Sends all that is pending. Messages for an exchange that has closed go to `undeliverable`. Returns batches sent. */
typedef void (*sl_undeliverable_fn)(void *context, sluice_msg *msg);
uint32_t sl_exchange_flush(sl_exchange *exchange, sl_undeliverable_fn undeliverable, void *context);

/* Receives one batch as a list linked by `next`, in order. timeout_ms 0: does not wait; -1: for ever. NULL: nothing. */
sluice_msg *sl_exchange_receive(sl_exchange *exchange, int timeout_ms);

/* ZeroMQ's edge-triggered descriptor of the socket; -1 if it cannot be told. */
int sl_exchange_fd(const sl_exchange *exchange);

#endif
