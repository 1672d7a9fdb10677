/* SPDX-License-Identifier: MIT */
/* The writer's side of checkpointing: rule W, requests to the checkpointer, the finishing pass behind the reader gate.
 *
 * The writer tells the driver what happened (a commit wrote frames, a message came, a group ended), the driver decides.
 * It lives on the writer's thread and uses the writer's connection only within between_groups. Its timers and messages
 * are the writer actor's.
 *
 * Threads: the writer's.
 */
#ifndef SL_CHECKPOINT_DRIVER_H
#define SL_CHECKPOINT_DRIVER_H

#include <sluice/actor.h>
#include "store_internal.h"

typedef struct sl_checkpoint_driver sl_checkpoint_driver;

/* Called when the driver has lifted a pause, so that the writer can run what waited. */
typedef void (*sl_driver_resume_fn)(void *context);

typedef struct sl_driver_options {
    sluice_store *store;  /* kept */
    sluice_actor *self;   /* the writer, kept */
    sl_conn *conn;        /* the writer's, kept */
    bool truncated;       /* the TRUNCATE at start worked; false: no space, start paused and retry by timer (W5) */
    sl_driver_resume_fn resume;
    void *context;
} sl_driver_options;

/* Gives: *out. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_checkpoint_driver_new(const sl_driver_options *options, sl_checkpoint_driver **out,
                                                     sluice_cause *cause);
void sl_checkpoint_driver_destroy(sl_checkpoint_driver **driver);

/* A commit wrote frames; the log now holds so many (from the WAL hook). No transaction is open. */
void sl_checkpoint_driver_after_commit(sl_checkpoint_driver *driver, uint64_t frames_in_log);
/* Is the message for the driver (GateClosed, CheckpointNow)? Then it is handled; may take it by nulling *msg. */
bool sl_checkpoint_driver_on_message(sl_checkpoint_driver *driver, sluice_msg **msg);
/* Called by the writer when no transaction is open and all acknowledgements of the last group have left. May run one
 * finishing pass on the writer's connection, ask the checkpointer for a pass, close or open the gate. */
void sl_checkpoint_driver_between_groups(sl_checkpoint_driver *driver);
/* Is the reader gate open? A transaction that may last does not begin while it is not; and no gate is closed while a
 * transaction is open. */
bool sl_checkpoint_driver_gate_is_open(const sl_checkpoint_driver *driver);
/* May a transaction begin now? OK; or a reason:
 * CLOSED: paused for a short while (TRUNCATE in flight), the writer keeps its requests and waits for resume;
 * OVERLOADED (hard cap; retry_after_ms set), NO_SPACE (start, W5): the writer answers new requests with it. */
SLUICE_NODISCARD sluice_err sl_checkpoint_driver_admit(sl_checkpoint_driver *driver, sluice_cause *cause);

#endif
