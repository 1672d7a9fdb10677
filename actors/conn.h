/* SPDX-License-Identifier: MIT */
/* A connection: one SQLite handle with every setting of the product, a statement cache and a default-deny authorizer.
 *
 * Client statements go through sl_conn_prepare and sl_conn_run; the product's own SQL (BEGIN, receipts, PRAGMA) through
 * the sl_conn_own_ functions, which the authorizer lets pass. A statement never stays busy after run has returned.
 * Threads: one at a time, but sl_conn_stop (any). Errors: every function fills `cause` (may be NULL) with the sluice
 * code, SQLite's extended code and a sentence for people.
 */
#ifndef SL_CONN_H
#define SL_CONN_H

#include <stdatomic.h>
#include <sqlite3.h>
#include <sluice/message.h>
#include <sluice/store.h>
#include "table.h"
#include "sluice/v1/write.pb-c.h"

typedef struct sl_conn sl_conn;

typedef enum sl_conn_role {
    SL_CONN_WRITER = 0,
    SL_CONN_READER,       /* query_only */
    SL_CONN_CHECKPOINTER, /* the only role whose close may checkpoint */
} sl_conn_role;

/* What a client's statement may do. A statement's needs are found once, when it is compiled. */
enum {
    SL_RIGHT_READ = SLUICE_RIGHT_READ,
    SL_RIGHT_WRITE = SLUICE_RIGHT_WRITE,
    SL_RIGHT_DDL = SLUICE_RIGHT_ADMIN,
    SL_RIGHT_ALL = SLUICE_RIGHT_ALL,
};

typedef struct sl_conn_options {
    const char *path; /* absolute */
    sl_conn_role role;
    bool create; /* WRITER only */
    sluice_synchronous synchronous;
    sluice_file_mode file_mode;
    const char *vfs;          /* NULL: by file_mode ("unix-excl", or the default one) */
    uint32_t statement_cache; /* entries, at least 1 */
    uint32_t max_sql_bytes;
    uint32_t max_value_bytes; /* longest text, blob or row */
    uint64_t max_log_bytes;   /* WRITER: a run that would write more is TOO_BIG; 0: no bound */
    _Atomic uint64_t *hits;   /* counters of the statement cache, kept; may be NULL */
    _Atomic uint64_t *misses;
} sl_conn_options;

/* Opens the file with all settings of DESIGN section 7. The WRITER also switches to WAL (recovering the log); the
 * others require WAL and read the schema once, so that a checkpoint on them is not a silent no-op. Gives: *out.
 * Errors: SYSTEM, LOCKED, NOT_A_DATABASE, CORRUPT, NO_SPACE, NOMEM. */
SLUICE_NODISCARD sluice_err sl_conn_open(const sl_conn_options *options, sl_conn **out, sluice_cause *cause);
/* Finalises everything and closes. NULL-safe, nulls the pointer. */
void sl_conn_close(sl_conn **conn);
sqlite3 *sl_conn_db(const sl_conn *conn);

/* ---- client statements ---- */

/* A compiled statement, owned by the connection's cache. Valid until the next prepare. */
typedef struct sl_statement {
    sqlite3_stmt *stmt;
    int n_params;
    int n_columns; /* when it was compiled; a schema change may alter it at the first step */
    bool readonly;
    unsigned needs; /* SL_RIGHT_ mask */
} sl_statement;

/* Compiles, or finds in the cache, the one statement in `sql`.
 * Errors: TOO_BIG (text), INVALID (empty, several statements, NUL byte, not UTF-8), SYNTAX (with the position),
 * FORBIDDEN (names what to use instead), READ_ONLY (a writing statement on a
 * READER), LOCKED. */
SLUICE_NODISCARD sluice_err sl_conn_prepare(sl_conn *conn, const void *sql, size_t size, unsigned rights,
                                            const sl_statement **out, sluice_cause *cause);

/* How far one run may go, and what it gave. */
typedef struct sl_run {
    sl_arena *arena;    /* the result table is built here; may be NULL if the statement has no columns */
    size_t max_bytes;   /* most bytes of result values; each run lowers it by what it gave */
    int64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    /* out: */
    uint64_t changes;
    int64_t last_rowid;      /* 0: nothing was inserted */
    Sluice__V1__Table *rows; /* NULL if the statement has no columns */
    /* sl_conn_run's own; zero before the request's first statement: */
    int64_t pages_before; /* that the connection had written */
    bool begun;
} sl_run;

/* Binds params, or each row of rows in turn, steps to the end, resets, clears the bindings. On an error the statement
 * is reset too; what it had done is not undone here.
 * Errors: INVALID (number or kind of parameters), TOO_BIG (a value, the result, what it writes), CONSTRAINT,
 * NO_SPACE, NOMEM, IO, CORRUPT, READ_ONLY,
 * INTERRUPTED (deadline while it ran, or sl_conn_stop: then the code given there), FORBIDDEN (found at step time). */
SLUICE_NODISCARD sluice_err sl_conn_run(sl_conn *conn, const sl_statement *statement, const Sluice__V1__Statement *in,
                                        sl_run *run, sluice_cause *cause);

/* Ends what runs on the connection now, with `why` as its error. It has no effect on later runs once
 * sl_conn_stop_clear was called. Threads: any. */
void sl_conn_stop(sl_conn *conn, sluice_err why);
/* Threads: the connection's. */
void sl_conn_stop_clear(sl_conn *conn);

/* Calls fn once, from within a statement that runs when at_ns (CLOCK_MONOTONIC) has passed; fn may set the next alarm. It
 * must not use the connection otherwise. at_ns 0: no alarm. Keeps: context. Threads: the connection's. */
typedef void (*sl_conn_alarm_fn)(void *context);
void sl_conn_alarm(sl_conn *conn, int64_t at_ns, sl_conn_alarm_fn fn, void *context);

/* Number of busy statements, which is 0 between requests in every build. With reset: resets them. */
unsigned sl_conn_busy(sl_conn *conn, bool reset);

/* ---- the product's own SQL ---- */

/* Compiles for a long life; finalised by sl_conn_close. Gives nothing to destroy. */
SLUICE_NODISCARD sluice_err sl_conn_own_prepare(sl_conn *conn, const char *sql, sqlite3_stmt **out,
                                                sluice_cause *cause);
/* Steps a statement of own_prepare; returns SQLite's extended code (SQLITE_ROW, SQLITE_DONE, ...). */
int sl_conn_own_step(sl_conn *conn, sqlite3_stmt *stmt);
/* Steps once and resets: for BEGIN, COMMIT and statements without rows. Returns SQLITE_OK or the extended error. */
int sl_conn_own_once(sl_conn *conn, sqlite3_stmt *stmt);
/* Runs SQL text, rows ignored. */
SLUICE_NODISCARD sluice_err sl_conn_own_exec(sl_conn *conn, const char *sql, sluice_cause *cause);

/* ---- errors ---- */

/* The sluice code for an SQLite code (extended or not). */
sluice_err sl_sqlite_err(int sqlite_code);
/* Fills cause from an SQLite code and, where db is not NULL, its error text. context may be NULL. Returns the code. */
sluice_err sl_sqlite_cause(sluice_cause *cause, sqlite3 *db, int sqlite_code, const char *context);

#endif
