/* SPDX-License-Identifier: MIT */
/* Interactive transactions: begin, any reads and writes that depend on each other, commit.
 *
 * While one is open it holds the writer: no other write of the store runs, they wait their turn, first come, first
 * served; reads by others go on and see nothing of it. So it is for the rare case in which what to write depends on what
 * the client read and cannot be put into a batch with guards, or into a procedure. It ends by itself when the client asks
 * nothing of it for idle_ms, or after total_ms in all; a client that closes, dies or is cut off loses it so. The store
 * sets the limits (sluice_store_options), a client may ask for less.
 *
 * Nothing of it is in the file until sluice_transaction_commit returned OK; then it is durable, as one group with a
 * commit number. After UNKNOWN, commit again on the same transaction: with receipts (the default over ipc and tcp) the
 * answer is the one that was lost, or that it was not committed. The client does so by itself until its deadline.
 *
 * Threads: as the client that began it.
 */
#ifndef SLUICE_TRANSACTION_H
#define SLUICE_TRANSACTION_H

#include <sluice/client.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sluice_transaction sluice_transaction;

typedef struct sluice_transaction_options {
    uint32_t idle_ms;  /* 0: the store's limit, which is never passed; default 0 */
    uint32_t total_ms; /* likewise */
} sluice_transaction_options;

SLUICE_API void sluice_transaction_options_init(sluice_transaction_options *options);

/* Waits for the writer and begins, within the client's timeout. A client has one transaction at a time; between its calls
 * the client may be used otherwise, but its own writes then wait for the end of its transaction. options may be NULL.
 * Gives: *out. Errors: INVALID (one is open), EXPIRED (not its turn by the deadline), OVERLOADED, TIMEOUT, UNREACHABLE,
 * NO_SPACE, FATAL, NOMEM; nothing has begun then. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_transaction_begin(sluice_client *client,
                                                                const sluice_transaction_options *options,
                                                                sluice_transaction **out, sluice_cause *cause);

/* Runs one statement in it; reads see what it wrote. A statement that fails is undone by itself and the transaction goes
 * on; it is over if the code is TRANSACTION_EXPIRED: a limit passed, a statement rolled it back (INSERT OR ROLLBACK,
 * RAISE(ROLLBACK), a write ended at its deadline), or the answer was lost. Borrows: params. Gives: *out on OK (may be
 * NULL); its commit number is 0. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_transaction_exec(sluice_transaction *transaction, const char *sql,
                                                               const sluice_value *params, size_t n_params,
                                                               sluice_result **out, sluice_cause *cause);
/* The same, for reads. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_transaction_query(sluice_transaction *transaction, const char *sql,
                                                                const sluice_value *params, size_t n_params,
                                                                sluice_result **out, sluice_cause *cause);
/* Runs a WRITE request in it: statements, rows, guards, procedures; all of it or nothing. Borrows: request, which may be
 * called again. Errors: as exec; INVALID (a READ, another client's, one whose outcome is UNKNOWN). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_transaction_call(sluice_transaction *transaction, sluice_request *request,
                                                               sluice_result **out, sluice_cause *cause);

/* Makes it durable. Gives: *out on OK (may be NULL), which has its commit number and no statements.
 * OK, and it is done. UNKNOWN: call commit again to find out. An error that is retryable and had no effect (EXPIRED,
 * OVERLOADED, UNREACHABLE): it may still be open; call commit again, or roll back. Any other: it is over, rolled back. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_transaction_commit(sluice_transaction *transaction, sluice_result **out,
                                                                 sluice_cause *cause);
/* Undoes it and waits until others may write. It is over whatever is returned (if the message is lost: at its limit).
 * Errors: INVALID after a commit that ended OK or UNKNOWN. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_transaction_rollback(sluice_transaction *transaction,
                                                                   sluice_cause *cause);
/* Rolls back what is open, without waiting. NULL-safe, nulls the pointer; may come after the client was closed. */
SLUICE_API void sluice_transaction_destroy(sluice_transaction **transaction);

/* Is it over, as far as is known here: committed, rolled back, or lost? */
SLUICE_API bool sluice_transaction_is_over(const sluice_transaction *transaction);
/* The limits that the store has granted. */
SLUICE_API void sluice_transaction_limits(const sluice_transaction *transaction, uint32_t *idle_ms, uint32_t *total_ms);

#ifdef __cplusplus
}
#endif
#endif
