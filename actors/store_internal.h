/* SPDX-License-Identifier: MIT */
/* The store's inside, shared by its writer, readers and checkpointer.
 *
 * Threads: everything constant after open may be read by any; counters are atomics; the rest says so.
 * Start order (rule W5): lock, writer (opens alone, recovers, TRUNCATE), readers, checkpointer.
 * Stop order: writer (finishes the group, answers CLOSED), readers, checkpointer (TRUNCATE), lock.
 */
#ifndef SL_STORE_INTERNAL_H
#define SL_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sluice/store.h>
#include "conn.h"
#include "ownership.h"
#include "procedure.h"

/* SLUICE_STORE_STATS_MAP as atomics. */
typedef struct sl_store_counters {
#define SL_STORE_COUNTER(name, meaning) _Atomic uint64_t name;
    SLUICE_STORE_STATS_MAP(SL_STORE_COUNTER)
#undef SL_STORE_COUNTER
} sl_store_counters;

#define SL_MAX_READERS 64
#define SL_MAX_LEASES 64

struct sluice_store {
    /* constant after open */
    sluice_runtime *runtime;
    sluice_store_options options; /* path and name point to the copies below */
    sl_ownership *ownership;
    sl_procedures *procedures; /* has its own lock */
    char *name;
    char *vfs; /* NULL: by file_mode; tests put a shim here */
    char writer_name[64], readers_name[64], checkpointer_name[64];

    /* Published as the actors start, 0 before. */
    _Atomic sluice_pid writer, checkpointer;
    _Atomic sluice_pid readers[SL_MAX_READERS];
    _Atomic unsigned n_readers; /* started so far */

    sl_store_counters counters;

    /* What the parts keep for themselves; each is made by its _start and freed by its _stop. */
    void *writer_part, *readers_part, *checkpointer_part;

    _Atomic sluice_pid backup_checker; /* checks a copy; 0: none does */
    _Atomic bool backup_cancel;

    _Atomic bool orphaned; /* the runtime stopped the writer by itself, so it may be gone before close */
    _Atomic bool fatal; /* set once, after fatal_cause was filled */
    pthread_mutex_t fatal_lock;
    sluice_cause fatal_cause;
    int fatal_exit_code;
};

#define sl_count(store, name, n) \
    atomic_fetch_add_explicit(&(store)->counters.name, (uint64_t)(n), memory_order_relaxed)
#define sl_gauge(store, name, value) \
    atomic_store_explicit(&(store)->counters.name, (uint64_t)(value), memory_order_relaxed)
#define sl_gauge_max(store, name, value) sl_counter_max(&(store)->counters.name, (uint64_t)(value))
void sl_counter_max(_Atomic uint64_t *counter, uint64_t value);

/* Options for a connection of this store in a role; everything filled in. */
sl_conn_options sl_store_conn_options(sluice_store *store, sl_conn_role role);

/* As sluice_store_open with every connection through the VFS named (NULL: the usual one). For tests of faults. */
SLUICE_NODISCARD sluice_err sl_store_open(sluice_runtime *runtime, const sluice_store_options *options, const char *vfs,
                                          sluice_store **out, sluice_cause *cause);

/* Stops the store for good: from when this is called no write is acknowledged. The first call fills the store's fatal
 * cause and calls on_fatal (default: _Exit(exit_code)); later calls do nothing. Threads: any of the store's. */
void sl_store_fatal(sluice_store *store, int exit_code, const sluice_cause *why);
/* OK, or FATAL with the cause. One relaxed load in the good case. Threads: any. */
SLUICE_NODISCARD sluice_err sl_store_check(sluice_store *store, sluice_cause *cause);

/* The latest group whose acknowledgements may have left. A reader that loads it before it opens its snapshot knows
 * that the snapshot holds that group. Threads: any. */
uint64_t sl_store_commit_number(sluice_store *store);

/* Start and stop of the three parts, in writer.c, reader.c, checkpointer.c. Each start blocks until its actors serve
 * and fills in the pids above; each stop blocks until they ended and may be called when start failed or never ran. */
SLUICE_NODISCARD sluice_err sl_writer_start(sluice_store *store, sluice_cause *cause);
void sl_writer_stop(sluice_store *store);
SLUICE_NODISCARD sluice_err sl_readers_start(sluice_store *store, sluice_cause *cause);
void sl_readers_stop(sluice_store *store);
SLUICE_NODISCARD sluice_err sl_checkpointer_start(sluice_store *store, sluice_cause *cause);
void sl_checkpointer_stop(sluice_store *store);

#endif
