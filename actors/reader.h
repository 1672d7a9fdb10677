/* SPDX-License-Identifier: MIT */
/* Readers: what the rest of the store may ask of the pool. Start and stop are in store_internal.h.
 *
 * A reader in the middle of a statement hears no message; its watch is how others see its snapshot and end it.
 */
#ifndef SL_READER_H
#define SL_READER_H

#include "store_internal.h"
#include "watch.h"

/* Reading connections: the readers come first, then those that are lent to clients (lease.h). Indices stay. */
unsigned sl_readers_count(sluice_store *store);

/* Looks at one of them. False: no such. Threads: any. */
bool sl_reader_look(sluice_store *store, unsigned index, sl_reader_watch *out);

/* The gate, as the store's own writer closes it: by a flag that each sees before it opens a snapshot, so that a reader
 * at rest need not be woken. (GateClose and GateOpen by message do the same for whoever has only messages.)
 * Closes it for connection `index`. True: no snapshot is open, and none will be. False: one is; when it ends `writer` is
 * told GateClosed with this round, by the control lane. Threads: any, one closer at a time. */
bool sl_reader_gate_close(sluice_store *store, unsigned index, uint64_t round, sluice_pid writer);
/* Behind a closed gate: has the snapshot ended? */
bool sl_reader_quiet(sluice_store *store, unsigned index);
/* Opens it. True: the reader waits at the gate and is to be told GateOpen with this round. */
bool sl_reader_gate_open(sluice_store *store, unsigned index);

/* Ends every statement whose snapshot was opened before `before_ns`, with SNAPSHOT_EXPIRED to its asker. A snapshot
 * opened later is never hit. Returns how many were told to end. Threads: any. */
unsigned sl_readers_expire(sluice_store *store, int64_t before_ns);

/* Adds what is counted apart from the store's counters. */
void sl_readers_add_stats(const sluice_store *store, sluice_store_stats *stats);

#endif
