/* SPDX-License-Identifier: MIT */
/* A group: the requests that share one transaction, their isolation from each other, and their answers after COMMIT.
 *
 * It knows no actor: what arrives is handed in, answers leave by a callback. See group.c for the rules.
 * Threads: the writer's.
 */
#ifndef SL_GROUP_H
#define SL_GROUP_H

#include "msg.h"
#include "receipts.h"
#include "store_internal.h"
#include "histogram.h"

typedef struct sl_group sl_group;

typedef struct sl_group_options {
    sluice_store *store; /* kept */
    sl_conn *conn;       /* kept; the WRITER's */
    /* Sends an answer (a REPLY with `to` set). Takes: msg. */
    void (*answer)(void *context, sluice_msg **msg);
    /* Lets answers leave at once. */
    void (*flush)(void *context);
    void *context; /* kept */
    sl_histogram *commits; /* kept; microseconds of each COMMIT */
} sl_group_options;

/* Gives: *out, empty. Errors: NOMEM, as a statement. */
SLUICE_NODISCARD sluice_err sl_group_new(const sl_group_options *options, sl_group **out, sluice_cause *cause);
/* Rolls back what is open and answers what is in it CLOSED. */
void sl_group_destroy(sl_group **group);

/* Makes the store's tables ready and reads sessions and the commit number. Done again by add until it succeeded.
 * Errors: NO_SPACE, IO, CORRUPT, LOCKED, NOMEM. */
SLUICE_NODISCARD sluice_err sl_group_prepare(sl_group *group, sluice_cause *cause);

/* Runs a WriteRequest in the open transaction (begins one) and keeps its answer until commit. Takes: request. */
void sl_group_add(sl_group *group, sluice_msg **request);
/* Answers a request with an error without running it, in its turn. Takes: request. */
void sl_group_refuse(sl_group *group, sluice_msg **request, const sluice_cause *cause);

/* Are there requests to commit or answer? */
bool sl_group_pending(const sl_group *group);
/* Is it time to commit, by bytes, time or trouble? */
bool sl_group_full(const sl_group *group);
/* Commits and answers everything, in order of arrival. Returns OK, or the error that all of the group got; after
 * UNKNOWN the store has ended. */
SLUICE_NODISCARD sluice_err sl_group_commit(sl_group *group);
/* Housekeeping in a transaction of its own; to be called while nothing is pending. idle: even if it is little. */
void sl_group_housekeep(sl_group *group, bool idle);
/* Ends well: gives unused commit numbers back. Nothing may be added after it. */
void sl_group_finish(sl_group *group);

/* ---- an interactive transaction instead of a group (group_lease.c) ----
 * From a begin that succeeded until it is over, nothing of the above may be called but goodbye's sl_group_receipts. */

/* Begins one; nothing may be pending. Errors: as prepare; FATAL; OVERLOADED (another process holds the write lock). */
SLUICE_NODISCARD sluice_err sl_group_lease_begin(sl_group *group, sluice_cause *cause);
/* Runs a WriteRequest in it and answers at once. A request that fails is undone; true: the transaction goes on. False:
 * it is over and rolled back, and the answer said so. Takes: request. */
bool sl_group_lease_step(sl_group *group, sluice_msg **request);
/* Commits it for a TransactionEnd, and answers: durably (*committed), or with an error. False: it is over, one way or
 * the other (a store that had to end has ended). True: nothing was tried, and it goes on. Takes: request. */
bool sl_group_lease_commit(sl_group *group, sluice_msg **request, bool *committed);
/* Ends it without effect. */
void sl_group_lease_rollback(sl_group *group);
/* Answers a TransactionEnd with a receipt whose transaction is over (here no one may be open): from the receipt, or that
 * it was not committed. Like add, it takes its turn in the group. Takes: request. */
void sl_group_lease_resolve(sl_group *group, sluice_msg **request);

/* True once after commits that wrote frames; *frames is then the length of the log. */
bool sl_group_wrote(sl_group *group, uint64_t *frames);
sl_receipts *sl_group_receipts(sl_group *group);

#endif
