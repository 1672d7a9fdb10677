/* SPDX-License-Identifier: MIT */
/* Lanes: a queue of messages in which senders take turns, one message each, and each sender's own order is kept.
 *
 * The data part of a fair mailbox. A sender is the pid a message is from together with the message's source (a
 * gateway's peers are senders of their own).
 * Threads: the actor's dispatcher.
 */
#ifndef SL_LANES_H
#define SL_LANES_H

#include "msg.h"

typedef struct sl_lanes sl_lanes;

/* NULL: out of memory. */
sl_lanes *sl_lanes_new(void);
/* Frees it; it must be empty. */
void sl_lanes_destroy(sl_lanes **lanes);

/* Queues a message behind those of its sender. Takes: msg. Never fails: without memory for another lane, senders share
 * one until it is empty. */
void sl_lanes_push(sl_lanes *lanes, sluice_msg *msg);
/* The next message, the senders in turn; msg->followed tells whether its sender has more behind it. NULL: empty. */
sluice_msg *sl_lanes_pop(sl_lanes *lanes);

#endif
