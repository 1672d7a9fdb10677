/* SPDX-License-Identifier: MIT */
/* Readers: what the rest of the store may ask of the pool. Start and stop are in store_internal.h.
 *
 * A reader in the middle of a statement hears no message; its watch is how others see its snapshot and end it.
 */
#ifndef SL_READER_H
#define SL_READER_H

#include "store_internal.h"

/* What one reader runs now. */
typedef struct sl_reader_watch {
    int64_t snapshot_ns;    /* when its snapshot was opened, CLOCK_MONOTONIC; 0: none is open */
    uint64_t commit_number; /* the snapshot holds at least this group */
    sluice_pid asker;       /* of the request it runs; 0: none */
} sl_reader_watch;

/* Looks at reader `index` below n_readers. False: no such reader. Threads: any. */
bool sl_reader_look(sluice_store *store, unsigned index, sl_reader_watch *out);

/* The gate, as the store's own writer closes it: by a flag that each reader sees before it opens a snapshot, so that a
 * reader at rest need not be woken. (GateClose and GateOpen by message do the same for whoever has only messages.)
 * Closes it for reader `index`. True: no snapshot is open, and none will be. False: one is; when it ends `writer` is
 * told GateClosed with this round, by the control lane. Threads: any, one closer at a time. */
bool sl_reader_gate_close(sluice_store *store, unsigned index, uint64_t round, sluice_pid writer);
/* Opens it. True: the reader waits at the gate and is to be told GateOpen with this round. */
bool sl_reader_gate_open(sluice_store *store, unsigned index);

/* Ends every statement whose snapshot was opened before `before_ns`, with SNAPSHOT_EXPIRED to its asker. A snapshot
 * opened later is never hit. Returns how many were told to end. Threads: any. */
unsigned sl_readers_expire(sluice_store *store, int64_t before_ns);

#endif
