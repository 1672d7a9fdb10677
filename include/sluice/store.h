/* SPDX-License-Identifier: MIT */
/* A store: one SQLite file in WAL mode, owned by a writer, a pool of readers and a checkpointer.
 *
 * The actors are registered as NAME/writer, NAME/readers (a pool) and NAME/checkpointer. While the store is open nobody
 * in this process may open or close the database file but SQLite itself: closing any descriptor of the file drops
 * SQLite's POSIX locks. Source: sqlite.org/howtocorrupt.html, section 2.2.
 */
#ifndef SLUICE_STORE_H
#define SLUICE_STORE_H

#include <sluice/base.h>
#include <sluice/procedure.h>
#include <sluice/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sluice_store sluice_store;

typedef enum sluice_synchronous {
    SLUICE_SYNC_FULL = 0, /* every acknowledged write is on disk */
    SLUICE_SYNC_NORMAL,   /* a power loss may take the latest acknowledged writes; a crash of the process does not */
} sluice_synchronous;

typedef enum sluice_file_mode {
    SLUICE_FILE_EXCLUSIVE = 0, /* no other process can touch the file */
    SLUICE_FILE_SHARED,        /* other processes may read it; only this store writes and checkpoints */
} sluice_file_mode;

typedef enum sluice_checkpointing {
    SLUICE_CHECKPOINT_AUTO = 0, /* as the log grows */
    SLUICE_CHECKPOINT_MANUAL,   /* below the hard cap only when sluice_store_checkpoint asks; at the hard cap as AUTO */
} sluice_checkpointing;

/* Exit codes of the default on_fatal. */
enum {
    SLUICE_EXIT_COMMIT_FAILED = 70,  /* COMMIT failed in a way that leaves the outcome open (fsync) */
    SLUICE_EXIT_FILE_REPLACED = 71,  /* the database or its WAL was renamed, deleted or replaced */
    SLUICE_EXIT_CORRUPT = 72,        /* SQLite reported a damaged file */
    SLUICE_EXIT_CHECKPOINT_RULE = 73 /* a tripwire of the checkpoint rule fired */
};

/* Hears that the store stopped for good. Runs on a store thread. cause->code is FATAL. If it returns, the store answers
 * UNKNOWN or FATAL to everything from then on. */
typedef void (*sluice_fatal_fn)(void *context, const sluice_cause *cause, int exit_code);

/* What one reading connection runs at a moment. */
typedef struct sluice_reading {
    unsigned number;        /* readers first, then leased connections */
    bool leased;            /* lent to clients of this process (local_lease); else a reader's own */
    bool busy;              /* a snapshot is open; what follows is about it */
    uint64_t age_us;        /* since it was opened */
    uint64_t commit_number; /* the snapshot holds at least this group */
    sluice_pid asker;       /* of whom the running request came from; 0: none yet */
    uint64_t request;       /* the asker's number for it */
    size_t statement_size;  /* of the whole text; 0: none yet */
    char statement[129];    /* its beginning, NUL-terminated */
} sluice_reading;

/* Hears of a snapshot that is older than snapshot_warn_ms, once for each. Runs on the thread that reads, in the middle
 * of its statement: it must be quick and must not call the store. */
typedef void (*sluice_old_snapshot_fn)(void *context, const sluice_reading *reading);

typedef struct sluice_store_options {
    const char *path;
    const char *name;                /* default "app" */
    bool create;                     /* make the file if it is missing; default true */
    unsigned n_readers;              /* 1..64; default 2 */
    unsigned n_leases;               /* connections for clients with local_lease, opened as they come; 0..64; default 8 */
    sluice_synchronous synchronous;  /* default FULL */
    sluice_file_mode file_mode;      /* default EXCLUSIVE */
    sluice_checkpointing checkpointing; /* default AUTO; the log is emptied at start and end in either */
    uint64_t wal_soft_cap_bytes;     /* the checkpointer starts here; default 8 MiB */
    uint64_t wal_hard_cap_bytes;     /* snapshots end, then writes are refused; a request
                                        that writes more is TOO_BIG; default 256 MiB */
    uint32_t snapshot_max_age_ms;    /* default 5000 */
    uint32_t statement_cache;        /* statements per connection; default 256 */
    uint32_t max_sql_bytes;          /* default 1 MiB */
    uint32_t max_result_bytes;       /* of one reply; default 64 MiB */
    uint32_t max_pending;            /* requests waiting for the writer, and for each reader; default 16384 */
    uint32_t max_pending_bytes;      /* default 256 MiB */
    uint32_t max_pending_share;      /* percent of both that one client may have waiting for the writer; default 25.
                                        Remote clients are bounded by the gateway's max_inflight as well */
    uint32_t group_max_bytes;        /* parameters and SQL of one group; default 8 MiB */
    uint32_t group_max_ms;           /* one group stops taking requests after so long; default 50 */
    uint32_t session_ttl_ms;         /* a client's receipts live so long after its last request; default 1 h */
    uint32_t max_receipts;           /* unsettled receipts per client; default 4096 */
    uint32_t transaction_idle_ms;    /* an interactive transaction ends after so long without a request; default 1000 */
    uint32_t transaction_total_ms;   /* and after so long in all; clients may ask for less; default 5000 */
    const sluice_procedure *procedures; /* known from the first request on; borrowed while it opens */
    size_t n_procedures;
    uint32_t snapshot_warn_ms;       /* a snapshot so old is counted and told to on_old_snapshot; default 1000 */
    sluice_old_snapshot_fn on_old_snapshot; /* may be NULL */
    void *old_snapshot_context;
    sluice_fatal_fn on_fatal;        /* default: _Exit(exit_code) */
    void *fatal_context;
} sluice_store_options;

SLUICE_API void sluice_store_options_init(sluice_store_options *options);

/* Opens the file and starts its actors. Blocks until the WAL is recovered and emptied and readers serve. Borrows:
 * options during the call; keeps: runtime. Gives: *out.
 * Errors: INVALID (bad option), LOCKED (text names the owner's pid), NOT_A_DATABASE, CORRUPT, SYSTEM (missing file,
 * directory, no permission, read-only file), NO_SPACE, EXISTS (store name), FATAL (it fail-stopped in this process).
 * Threads: any but a dispatcher's. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_store_open(sluice_runtime *runtime, const sluice_store_options *options,
                                                         sluice_store **out, sluice_cause *cause);
/* Finishes the running group, answers what waits with CLOSED, checkpoints, closes the file. Blocks until done.
 * NULL-safe, nulls the pointer. Threads: any but a dispatcher's. */
SLUICE_API void sluice_store_close(sluice_store **store);

/* The store's name, e.g. "app". */
SLUICE_API const char *sluice_store_name(const sluice_store *store);
/* Absolute path of the database file with links resolved. */
SLUICE_API const char *sluice_store_path(const sluice_store *store);

/* X(name, unit and meaning): one table drives the struct, `sluice status` and the StatusReply message. */
#define SLUICE_STORE_STATS_MAP(X)                                                                                      \
    X(writes, "write requests that ended OK")                                                                          \
    X(writes_failed, "write requests that ended with a definite no")                                                   \
    X(writes_unknown, "write requests answered UNKNOWN")                                                               \
    X(writes_replayed, "answers given again from a receipt")                                                           \
    X(groups, "transactions committed")                                                                                \
    X(group_replays, "groups run again without the request that had destroyed them")                                   \
    X(group_last, "requests in the latest group")                                                                      \
    X(group_max, "requests in the largest group")                                                                      \
    X(commit_number, "number of the latest committed group")                                                           \
    X(commit_p50_us, "COMMIT, median of the last second or so, microseconds")                                          \
    X(commit_p99_us, "COMMIT, 99th percentile of the last second or so, microseconds")                                 \
    X(commit_max_us, "COMMIT, slowest since the start, microseconds")                                                  \
    X(begin_busy, "BEGIN IMMEDIATE had to be tried again")                                                             \
    X(expired, "writes dropped because their deadline had passed")                                                     \
    X(reads, "read requests that ended OK")                                                                            \
    X(reads_failed, "read requests that failed")                                                                       \
    X(reads_interrupted, "reads ended at their deadline")                                                              \
    X(reads_leased, "of these, run by clients on their own threads (local leases)")                                    \
    X(leases_refused, "reads of such clients that went by message, for no connection was free")                        \
    X(read_batches, "read transactions that served several requests or one")                                           \
    X(statement_hits, "statements found in a cache")                                                                   \
    X(statement_misses, "statements prepared")                                                                         \
    X(wal_bytes, "size of the log in use, bytes")                                                                      \
    X(wal_file_bytes, "size of the WAL file, bytes")                                                                   \
    X(checkpoints, "passes by the checkpointer")                                                                       \
    X(checkpoints_finishing, "finishing passes by the writer")                                                         \
    X(checkpoints_complete, "finishing passes after which the log was all copied")                                     \
    X(checkpoints_busy, "passes that could not copy everything")                                                       \
    X(checkpoint_errors, "passes that failed (no space, input or output error)")                                       \
    X(checkpoint_commands, "checkpoints that were asked for and done")                                                 \
    X(checkpoint_commands_busy, "checkpoints that were asked for and given up, for readers stood in the way")          \
    X(backups, "copies made, checked and put in place")                                                                \
    X(backups_failed, "copies given up")                                                                               \
    X(backup_pages, "pages of the latest backup's source")                                                             \
    X(backup_pages_left, "of these not copied yet; 0 when none is under way")                                          \
    X(wal_restarts, "times the log began again at its start")                                                          \
    X(gate_closes, "times the reader gate was closed")                                                                 \
    X(gate_max_us, "longest time the gate stayed closed, microseconds")                                                \
    X(gate_timeouts, "times the gate was opened because somebody did not answer in time")                              \
    X(wal_full, "times writes began to be refused because the log was at its hard cap")                                \
    X(snapshots_old, "snapshots that grew older than the age to warn at")                                              \
    X(snapshots_expired, "snapshots ended to let the WAL shrink")                                                      \
    X(transactions, "interactive transactions committed")                                                              \
    X(transactions_rolled_back, "interactive transactions that ended without effect")                                  \
    X(transactions_expired, "those of them that ended at a limit")

typedef struct sluice_store_stats {
#define SLUICE_STORE_STATS_FIELD(name, meaning) uint64_t name;
    SLUICE_STORE_STATS_MAP(SLUICE_STORE_STATS_FIELD)
#undef SLUICE_STORE_STATS_FIELD
} sluice_store_stats;

/* Reads the counters; no message is sent, no lock taken. Threads: any. */
SLUICE_API void sluice_store_stats_read(const sluice_store *store, sluice_store_stats *out);

/* Shows what each reading connection runs now: fills at most `room` and returns how many there are. No connection waits
 * for it. Threads: any. */
SLUICE_API size_t sluice_store_readings(sluice_store *store, sluice_reading *out, size_t room);

/* ---- for operators ---- */

typedef struct sluice_checkpoint_done {
    uint64_t frames;         /* in the log before; all are in the database file now */
    uint64_t wal_file_bytes; /* now */
} sluice_checkpoint_done;

/* Has the log copied into the database file now, and with `truncate` its file cut to nothing, for which writes wait
 * (milliseconds, or as long as copying takes). Blocks. out may be NULL. Errors: OVERLOADED (a reader stood in the way
 * for about a second; retry_after_ms set), NO_SPACE, IO, CLOSED, TIMEOUT. Threads: any but a dispatcher's. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_store_checkpoint(sluice_store *store, bool truncate, uint32_t timeout_ms,
                                                               sluice_checkpoint_done *out, sluice_cause *cause);

typedef struct sluice_backup_done {
    uint64_t pages, bytes;
    uint64_t commit_number; /* the copy is the state after this group */
    uint64_t restarts;      /* times it had to begin anew, which large transactions that are rolled back cause */
} sluice_backup_done;

/* Copies the store into the file `path` while reads and writes go on: some pages between groups, by the connection that
 * writes, so that the copy is the state between two groups. It is checked (integrity_check, number of pages) on a thread
 * of its own, made durable, and only then put in its place by a rename; a file that is there is replaced. The copy gets
 * the database's permission bits. Blocks. out may be NULL. Errors: INVALID (not an absolute path, one of the store's own
 * files, no regular file), OVERLOADED (another backup is under way), SYSTEM (directory), NO_SPACE, IO, CORRUPT, CLOSED,
 * EXPIRED, TIMEOUT. Threads: any but a dispatcher's. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_store_backup(sluice_store *store, const char *path, uint32_t timeout_ms,
                                                           sluice_backup_done *out, sluice_cause *cause);

/* Puts a copy of the database `from` in the place of the database `to`, of which no store may be open: takes its
 * ownership lock meanwhile. `from` is checked first, and is not to be open in this process; what `to` was before is gone
 * afterwards, but for the log of a file too damaged to be read, which is kept as TO-wal.before-restore. A crash leaves
 * the old or the new file, whole. Blocks. pages may be NULL. Errors: LOCKED (a store or another program has `to` open),
 * NOT_A_DATABASE, CORRUPT (`from`), INVALID (both are one file), SYSTEM, NO_SPACE, IO, NOMEM. Threads: any. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_restore(const char *from, const char *to, uint64_t *pages,
                                                      sluice_cause *cause);

#ifdef __cplusplus
}
#endif
#endif
