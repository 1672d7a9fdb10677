/* SPDX-License-Identifier: MIT */
/* Sessions and receipts: what makes a retried write happen exactly once. The rules are at the top of receipts.c.
 *
 * Used by the writer's group only. Functions that say "in the transaction" write rows and are undone with it.
 * Threads: the writer's.
 */
#ifndef SL_RECEIPTS_H
#define SL_RECEIPTS_H

#include "msg.h"
#include "store_internal.h"

typedef struct sl_receipts sl_receipts;
typedef struct sl_session sl_session;

/* Gives: *out, empty. Keeps: store, conn. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_receipts_new(sluice_store *store, sl_conn *conn, sl_receipts **out, sluice_cause *cause);
void sl_receipts_destroy(sl_receipts **receipts);
/* Makes the tables if they are missing, in the transaction. Errors: as a statement. */
SLUICE_NODISCARD sluice_err sl_receipts_create_tables(sl_conn *conn, sluice_cause *cause);
/* Reads sessions and receipts left by the last owner. The tables must be there. Errors: NOMEM, IO, CORRUPT. */
SLUICE_NODISCARD sluice_err sl_receipts_load(sl_receipts *receipts, int64_t now_ns, sluice_cause *cause);

typedef enum sl_verdict {
    SL_VERDICT_RUN = 0,  /* new: run it; the session expects one of keep or refuse for it */
    SL_VERDICT_REPLAY,   /* done before: answer from the receipt `receipt_id` */
    SL_VERDICT_SAME,     /* the same request is in this group, in slot `slot` */
    SL_VERDICT_REFUSED,  /* cause says why; a definite no */
} sl_verdict;

typedef struct sl_receipt_check {
    sl_session *session; /* with RUN */
    int64_t receipt_id;  /* with REPLAY */
    uint32_t slot;       /* with SAME */
} sl_receipt_check;

/* Judges a request that wants a receipt, of `user` (sluice_msg.user). With RUN it is entered as running in `slot` of the
 * group. */
sl_verdict sl_receipts_check(sl_receipts *receipts, const sl_identity *identity, const uint8_t user[16], uint32_t slot,
                             int64_t now_ns, sl_receipt_check *out, sluice_cause *cause);

/* Writes the receipt row, in the transaction. Gives: *receipt_id. Errors: as a statement; TOO_BIG (result). */
SLUICE_NODISCARD sluice_err sl_receipts_insert(sl_receipts *receipts, sl_session *session, uint64_t sequence,
                                               uint64_t commit_number, const uint8_t digest[16], const void *result,
                                               size_t size, int64_t *receipt_id, sluice_cause *cause);
/* Reads a stored answer. Gives *reply a body of type WriteReply (replayed, with its commit number).
 * Errors: ID_REUSED (the digest differs), NOMEM, as a statement. */
SLUICE_NODISCARD sluice_err sl_receipts_read(sl_receipts *receipts, int64_t receipt_id, const uint8_t digest[16],
                                             sluice_msg *reply, sluice_cause *cause);

/* Settles a running request: it was committed with a receipt, or answered with a definite no. */
void sl_receipts_keep(sl_receipts *receipts, sl_session *session, uint64_t sequence, int64_t receipt_id);
void sl_receipts_refuse(sl_receipts *receipts, sl_session *session, uint64_t sequence, uint32_t attempt);

/* Writes the session's row if it has none yet, in the transaction. */
SLUICE_NODISCARD sluice_err sl_receipts_persist(sl_receipts *receipts, sl_session *session, sluice_cause *cause);
/* Is there enough housekeeping (settled receipts, ended sessions) to do in the next transaction? any: is there any? */
bool sl_receipts_due(const sl_receipts *receipts, bool any);
/* Does a bounded amount of it, in the transaction. */
SLUICE_NODISCARD sluice_err sl_receipts_housekeep(sl_receipts *receipts, sluice_cause *cause);
/* The transaction was committed; or rolled back, so that rows written since its begin are to be written again. */
void sl_receipts_committed(sl_receipts *receipts);
void sl_receipts_rolled_back(sl_receipts *receipts);

/* The client says it is done: the session ends. Errors: FORBIDDEN (it is another user's; nothing was done). */
SLUICE_NODISCARD sluice_err sl_receipts_goodbye(sl_receipts *receipts, const uint8_t client[16],
                                                const uint8_t user[16]);
/* Ends sessions that were silent for longer than session_ttl_ms. */
void sl_receipts_expire(sl_receipts *receipts, int64_t now_ns);
size_t sl_receipts_sessions(const sl_receipts *receipts);

#endif
