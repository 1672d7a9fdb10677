/* SPDX-License-Identifier: MIT */
/* What the product's own actors may do beyond <sluice/actor.h>. Threads: as there. */
#ifndef SL_ACTOR_INTERNAL_H
#define SL_ACTOR_INTERNAL_H

#include <sluice/actor.h>
#include "msg.h"

/* Sends a message as it stands: to, flags, correlation, deadline, identity are the caller's. Used to forward requests
 * and to return turned ones (sl_msg_turn). Sets `from` to self unless keep_from. Takes: msg (on success).
 * Errors: as tell. */
SLUICE_NODISCARD sluice_err sl_actor_send(sluice_actor *self, sluice_msg **msg, bool keep_from);

/* As sluice_tell by the control lane: never refused for fullness, overtakes data. Takes: msg (on success). */
SLUICE_NODISCARD sluice_err sl_actor_tell_control(sluice_actor *self, sluice_pid to, sluice_msg **msg);

/* As sluice_post by the control lane. Takes: msg (on success). Errors: NO_ACTOR, CLOSED. Threads: any. */
SLUICE_NODISCARD sluice_err sl_post_control(sluice_runtime *runtime, sluice_pid to, sluice_msg **msg);

/* Called when `socket` (a ZeroMQ socket owned by self) may have something to receive: receive until EAGAIN, or until
 * a fair share is done (it is called again). */
typedef void (*sl_socket_fn)(sluice_actor *self, void *socket, void *context);
/* Adds a socket to the dispatcher's poll set. Keeps: socket, context. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_actor_watch_socket(sluice_actor *self, void *socket, sl_socket_fn fn, void *context);
/* Removes it; after return fn is not called again. To be called before the socket is closed. */
void sl_actor_unwatch_socket(sluice_actor *self, void *socket);
/* As above for a file descriptor (readable). */
typedef void (*sl_fd_fn)(sluice_actor *self, int fd, void *context);
SLUICE_NODISCARD sluice_err sl_actor_watch_fd(sluice_actor *self, int fd, sl_fd_fn fn, void *context);
void sl_actor_unwatch_fd(sluice_actor *self, int fd);

/* Takes what has arrived for this dispatcher since the turn began into the mailboxes, so that an actor can see who
 * waits before it ends a batch. Returns self's waiting messages. */
uint32_t sl_actor_poll_inbox(sluice_actor *self);

/* Lets what this turn has sent so far leave at once, before a long piece of work. */
void sl_actor_flush(sluice_actor *self);

/* The runtime's ZeroMQ context and type registry. */
void *sl_runtime_zmq_context(sluice_runtime *runtime);
struct sl_registry *sl_runtime_registry(sluice_runtime *runtime);

/* Says how many requests self has taken out of its mailbox and not answered yet, weighted as self likes. Until it says
 * otherwise sluice_whereis counts them as if they waited. */
void sl_actor_set_held(sluice_actor *self, uint32_t n);
/* Waiting messages and what the actor holds, by anyone; 0 if it is gone. Threads: any. */
uint32_t sl_actor_load(sluice_runtime *runtime, sluice_pid pid);
/* Waiting messages of an actor, by anyone; 0 if it is gone. Threads: any. */
uint32_t sl_mailbox_depth(sluice_runtime *runtime, sluice_pid pid);

#endif
