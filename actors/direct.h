/* SPDX-License-Identifier: MIT */
/* The honest baseline of `sluice bench`: stock SQLite, every client on a connection of its own.
 *
 * Also the bench's workload, stated once for both sides: the tables, the statements and the text of each row; and the
 * scan of the file after a run, by stock SQLite, when nothing of Sluice has the file open.
 * Threads: a connection belongs to one thread at a time; several connections may be used at once.
 */
#ifndef SL_DIRECT_H
#define SL_DIRECT_H

#include <sluice/base.h>

/* bench_write has no unique key on purpose: a row that was applied twice is there twice, and is found. */
#define SL_DIRECT_SCHEMA                                                                                               \
    "CREATE TABLE IF NOT EXISTS bench_write(id INTEGER NOT NULL, body TEXT NOT NULL);"                                 \
    "CREATE TABLE IF NOT EXISTS bench_read(id INTEGER PRIMARY KEY, body TEXT NOT NULL)"
/* n counts the updates of a row, so that a lost or doubled one shows in the sum. */
#define SL_DIRECT_UPDATE_SCHEMA                                                                                        \
    "CREATE TABLE IF NOT EXISTS bench_update(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, body TEXT NOT NULL)"
#define SL_DIRECT_INSERT "INSERT INTO bench_write(id, body) VALUES(?1, ?2)"
#define SL_DIRECT_SELECT "SELECT id, body FROM bench_read WHERE id = ?1"
#define SL_DIRECT_UPDATE "UPDATE bench_update SET body = ?2, n = n + 1 WHERE id = ?1"

#define SL_DIRECT_BODY_SIZE 100u
#define SL_DIRECT_READ_ROWS 10000 /* bench_read holds the ids 1..READ_ROWS */
#define SL_DIRECT_UPDATE_ROWS 100000 /* bench_update as well; 13 MB, more than a connection's cache */

/* Writes the text that belongs to an id: SL_DIRECT_BODY_SIZE bytes of printable ASCII and a zero byte. */
void sl_direct_body(int64_t id, char out[SL_DIRECT_BODY_SIZE + 1]);

/* Makes the tables (and the file, in WAL mode) and fills bench_read. Sets *last_rowid to the last one in bench_write,
 * so that a later scan sees only what came after. Errors: SYSTEM, LOCKED, NOT_A_DATABASE, FAILED. */
SLUICE_NODISCARD sluice_err sl_direct_prepare(const char *path, int64_t *last_rowid, sluice_cause *cause);

/* Makes and fills bench_update, and sets *n_updates to the sum of n. Errors: as prepare. */
SLUICE_NODISCARD sluice_err sl_direct_prepare_updates(const char *path, int64_t *n_updates, sluice_cause *cause);
/* Sets *n_updates to the sum of n. Errors: as prepare. */
SLUICE_NODISCARD sluice_err sl_direct_count_updates(const char *path, int64_t *n_updates, sluice_cause *cause);

typedef struct sl_direct sl_direct;

/* Opens a connection as an application would: WAL, synchronous as asked, busy_timeout 5000, everything else at SQLite's
 * defaults, statements prepared. Gives: *out. Errors: as prepare, NOMEM. */
SLUICE_NODISCARD sluice_err sl_direct_open(const char *path, bool synchronous_full, sl_direct **out,
                                           sluice_cause *cause);
/* NULL-safe, nulls the pointer. */
void sl_direct_close(sl_direct **direct);

/* Brackets several writes into one transaction (BEGIN IMMEDIATE). After an error nothing of it is left and no
 * transaction is open. Errors: as insert. */
SLUICE_NODISCARD sluice_err sl_direct_begin(sl_direct *self, sluice_cause *cause);
SLUICE_NODISCARD sluice_err sl_direct_commit(sl_direct *self, sluice_cause *cause);
/* Inserts one row, in the open transaction or in one of its own. Errors: LOCKED (SQLITE_BUSY after the busy time-out),
 * NO_SPACE, IO, FAILED; sqlite_code is set. */
SLUICE_NODISCARD sluice_err sl_direct_insert(sl_direct *self, int64_t id, const char *body, size_t size,
                                             sluice_cause *cause);
/* Gives row `id` of bench_update another text; else as insert. Needs prepare_updates. */
SLUICE_NODISCARD sluice_err sl_direct_update(sl_direct *self, int64_t id, const char *body, size_t size,
                                             sluice_cause *cause);
/* Size of the log beside the file in bytes; 0: there is none. */
uint64_t sl_direct_wal_size(const char *path);
/* Reads bench_read by id and compares every row found with sl_direct_body. Sets *n_rows to the number of right ones.
 * Errors: as insert. */
SLUICE_NODISCARD sluice_err sl_direct_lookup(sl_direct *self, int64_t id, unsigned *n_rows, sluice_cause *cause);

/* Sees one row of the scan: body_right tells whether the text is the id's. */
typedef void (*sl_direct_row_fn)(void *context, int64_t id, bool body_right);
/* Walks bench_write from after_rowid on. Errors: as prepare. */
SLUICE_NODISCARD sluice_err sl_direct_scan(const char *path, int64_t after_rowid, sl_direct_row_fn fn, void *context,
                                           sluice_cause *cause);
/* Runs PRAGMA integrity_check. Errors: CORRUPT (text says what it found), as prepare. */
SLUICE_NODISCARD sluice_err sl_direct_integrity(const char *path, sluice_cause *cause);

#endif
