/* SPDX-License-Identifier: MIT */
/* Procedures: C functions of the service that embeds a store, run inside a write's transaction.
 *
 * A client calls one by name, with parameters, as one statement of a request (sluice_request_call) or alone
 * (sluice_call_procedure). It runs on the writer's thread and holds up every other write while it does, so it should
 * be short and must not wait for anything. If it fails, or anything else of its request does, all of the request is
 * undone, and nothing of its neighbours.
 *
 * A procedure may run more than once before its one commit, since a group may have to be run again without a request
 * that destroyed it. So it must have no effect outside the transaction, and keep nothing: not the tx, not rows, not
 * parameters. It must not call a client, or anything else that waits for a store.
 *
 * Its statements have a client's full rights: tables and rows, also their definition, but no BEGIN, PRAGMA, ATTACH, and
 * not the store's own tables. They end at the request's deadline, and at most 30 s after it began.
 */
#ifndef SLUICE_PROCEDURE_H
#define SLUICE_PROCEDURE_H

#include <sluice/base.h>
#include <sluice/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_store;

/* The transaction a procedure runs in. Valid until it returns. */
typedef struct sluice_tx sluice_tx;
/* The rows of one sluice_tx_query. Valid until they are destroyed or the procedure returns. */
typedef struct sluice_rows sluice_rows;

/* Does its work; OK lets the request go on, anything else undoes it. Borrows: params, and what they point to
 * (text is UTF-8 and NUL-terminated). An error of a function below may be returned as it is; others are made by
 * `return sluice_tx_fail(...)`. */
typedef sluice_err (*sluice_procedure_fn)(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context);

typedef struct sluice_procedure {
    const char *name; /* 1 to 63 bytes of UTF-8 */
    sluice_procedure_fn fn;
    void *context;
} sluice_procedure;

/* Registers a procedure with an open store; those in sluice_store_options are there before its first request.
 * Keeps: context; copies: name. Errors: EXISTS (the name is taken), INVALID, NOMEM. Threads: any. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_store_register_procedure(struct sluice_store *store, const char *name,
                                                                       sluice_procedure_fn fn, void *context);

/* ---- within a procedure ---- */

/* Runs one statement; its rows, if it has any, are thrown away. changes (may be NULL): rows it changed.
 * After an error the statement has had no effect (OR FAIL: what it did before the bad row stays) and the procedure may
 * go on, unless the transaction is gone: then every further call fails, and so does the request. Borrows: params.
 * Errors: as a client's (SYNTAX, INVALID, FORBIDDEN, CONSTRAINT, TOO_BIG, NO_SPACE, NOMEM ...), INTERRUPTED
 * (deadline). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_tx_exec(sluice_tx *tx, const char *sql, const sluice_value *params,
                                                      size_t n_params, uint64_t *changes);
/* As exec, and gives the rows (a SELECT's or RETURNING's), positioned before the first. Gives: *out; NULL on error.
 * They are in memory, all of them: at most max_result_bytes of the store. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_tx_query(sluice_tx *tx, const char *sql, const sluice_value *params,
                                                       size_t n_params, sluice_rows **out);
/* The rowid the latest successful INSERT of this call gave; 0: none. */
SLUICE_API int64_t sluice_tx_last_rowid(const sluice_tx *tx);

/* Says why the procedure fails, and gives the code back, to be returned. Codes for it: FAILED, INVALID, FORBIDDEN,
 * CONSTRAINT, GUARD_FAILED, TOO_BIG, QUOTA, EXISTS; another one becomes FAILED, for it would promise something that
 * only the store can know. */
SLUICE_API sluice_err sluice_tx_fail(sluice_tx *tx, sluice_err code, const char *format, ...) SLUICE_PRINTF(3, 4);
/* Why the latest call failed. Borrowed from tx; of code OK if none has. */
SLUICE_API const sluice_cause *sluice_tx_cause(const sluice_tx *tx);

/* Rows for the caller: first the names of the columns, once, then row by row. Borrows: all.
 * Errors: INVALID (a row before the columns or of another width, columns twice), TOO_BIG (max_result_bytes), NOMEM. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_tx_columns(sluice_tx *tx, const char *const *names, size_t n_columns);
SLUICE_API SLUICE_NODISCARD sluice_err sluice_tx_row(sluice_tx *tx, const sluice_value *row, size_t n_columns);

/* ---- rows ---- */

/* Frees them early. NULL-safe, nulls the pointer. */
SLUICE_API void sluice_rows_destroy(sluice_rows **rows);
SLUICE_API uint64_t sluice_rows_count(const sluice_rows *rows);
SLUICE_API size_t sluice_rows_columns(const sluice_rows *rows);
/* Steps to the next row; false after the last. */
SLUICE_API bool sluice_rows_next(sluice_rows *rows);
/* The current row's values, with the same conversions as sluice_result_int64 and its like (client.h). */
SLUICE_API sluice_type sluice_rows_type(const sluice_rows *rows, size_t column);
SLUICE_API int64_t sluice_rows_int64(const sluice_rows *rows, size_t column);
SLUICE_API double sluice_rows_double(const sluice_rows *rows, size_t column);
SLUICE_API const char *sluice_rows_text(const sluice_rows *rows, size_t column, size_t *size);
SLUICE_API const void *sluice_rows_blob(const sluice_rows *rows, size_t column, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
