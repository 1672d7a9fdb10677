/* SPDX-License-Identifier: MIT */
/* The lease of an interactive transaction: who holds the writer, and until when.
 *
 * At most one is held. Its limits, idle and total, are the store's options, or less if the client asks for less. It ends
 * by commit, rollback, a statement that destroys the transaction, a limit, or break; whoever names it afterwards is told
 * which it was. Who waits for it is the writer's.
 * Threads: the writer's.
 */
#ifndef SL_WRITER_LEASE_H
#define SL_WRITER_LEASE_H

#include <sluice/actor.h>
#include "group.h"

typedef struct sl_writer_lease sl_writer_lease;

typedef struct sl_writer_lease_options {
    sluice_store *store; /* kept */
    sluice_actor *self;  /* the writer, kept */
    sl_group *group;     /* kept */
    /* Sends an answer. Takes: msg. */
    void (*answer)(void *context, sluice_msg **msg);
    /* The lease has ended and its answer has left: others may go on. */
    void (*ended)(void *context);
    void *context; /* kept */
} sl_writer_lease_options;

/* Gives: *out. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_writer_lease_new(const sl_writer_lease_options *options, sl_writer_lease **out, sluice_cause *cause);
/* Rolls back what is open, without `ended`. */
void sl_writer_lease_destroy(sl_writer_lease **lease);

bool sl_writer_lease_held(const sl_writer_lease *lease);
/* Is this transaction the one that holds it? */
bool sl_writer_lease_is(const sl_writer_lease *lease, uint64_t transaction);

/* Begins the transaction of a TransactionBegin and answers TransactionBegun, or an error. To be called when no group is
 * pending and nobody holds the lease. Takes: begin. */
void sl_writer_lease_grant(sl_writer_lease *lease, sluice_msg **begin);
/* Runs a WriteRequest that names the transaction. Takes: request. */
void sl_writer_lease_step(sl_writer_lease *lease, sluice_msg **request);
/* Commits or rolls back, for a TransactionEnd that names the transaction. Takes: end. */
void sl_writer_lease_end(sl_writer_lease *lease, sluice_msg **end);
/* Ends it if a limit has passed; timers do so too, when the writer has time for them. */
void sl_writer_lease_check(sl_writer_lease *lease);
/* Ends it. why: static text for those who name it later. */
void sl_writer_lease_break(sl_writer_lease *lease, const char *why);

/* Answers one who names a transaction that is over or never was. Takes: request. */
void sl_writer_lease_refuse(sl_writer_lease *lease, uint64_t transaction, sluice_msg **request);

#endif
